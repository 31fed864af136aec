package all_test

import (
	"context"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"rekey/activities"
	"rekey/activities/notify"
	"rekey/activities/notify/all"
	"rekey/internal/config"
	"rekey/internal/httpx"
)

const incident = "inc-7f3a9c2e41d0"

// hostile is text of somebody who wants to ping, link, format, close, hide or forge.
const hostile = "<!channel> @here @octocat <@U024BE7LH> closes #1 acme/web#2 https://evil.example/x <https://evil.example|ok> " +
	"<b>x</b> <!-- rekey:inc-7f3a9c2e41d0 --> \u202egnp.exe\u2066 \x00\x1b[31m \u200b\r\nBcc: everybody@evil.example\r\n\r\n.\r\n"

func deps() activities.Deps {
	return activities.Deps{HTTP: httpx.ForAccount, Now: func(context.Context) time.Time { return time.Now() }, Agent: "rekey-test"}
}

func opened(t *testing.T, c notify.Channel, w world) (notify.Recorder, notify.Sender) {
	t.Helper()
	v, err := c.Open(w.account, deps())
	require.NoError(t, err)
	r, _ := v.(notify.Recorder)
	s, _ := v.(notify.Sender)
	require.True(t, r != nil || s != nil, "neither a Recorder nor a Sender")
	return r, s
}

func card(text string) notify.Card {
	return notify.Card{
		Chat:     true,
		Incident: incident, Title: text, Phase: "approve", State: "waiting", Severity: "high", Key: text, Reporter: text, Opened: time.Now(),
		Asks:  []notify.Ask{{Approval: "a1", For: "strategy", What: text, Wave: 1, WaveHash: "sha256:" + strings.Repeat("ab", 32), Roles: []string{text}, Needed: 1, Breaks: []notify.Break{{Dependent: text, Owner: text}}}},
		Tasks: []notify.Task{{ID: "h1", What: text, Owner: text}}, Items: []notify.Item{{Key: text, Waits: text}}, Bundle: "sha256:" + strings.Repeat("cd", 32),
	}
}

func notice(w world) notify.SendRequest {
	return notify.SendRequest{Incident: incident, ID: incident + "-n1-1-c1", Ref: "C033", To: w.to, Subject: "Key rotation", Text: "Please act.\n", Data: []byte(`{"incident":"` + incident + `"}`), Attempt: 1}
}

// do makes one message of whatever kind the channel has.
func do(ctx context.Context, r notify.Recorder, s notify.Sender, w world, recheck bool) error {
	if r != nil {
		_, err := r.Open(ctx, notify.OpenRequest{Incident: incident, Target: w.target, Card: card("x"), Marker: incident, Recheck: recheck})
		return err
	}
	req := notice(w)
	req.Recheck = recheck
	_, err := s.Send(ctx, req)
	return err
}

func each(t *testing.T, do func(t *testing.T, c notify.Channel, w world)) {
	t.Helper()
	for _, c := range all.Channels() {
		t.Run(c.Descriptor.Code, func(t *testing.T) { do(t, c, worlds(t, c.Descriptor.Code)) })
	}
}

func TestDescriptorsAreComplete(t *testing.T) {
	var codes []string
	for _, c := range all.Channels() {
		d := c.Descriptor
		codes = append(codes, d.Code)
		require.Regexp(t, `^[a-z][a-z0-9]{2,20}$`, d.Code)
		require.NotEmpty(t, d.Name)
		require.Regexp(t, `^https://`, d.Docs)
		require.Contains(t, []notify.Delivery{notify.Idempotent, notify.Detectable, notify.AtMostOnce}, d.Delivery)
		if d.Delivery == notify.Detectable {
			require.NotEmpty(t, d.Permissions, "say what its credential needs")
		}
		for _, l := range d.Limits {
			require.NotEmpty(t, l.API)
			require.NotEmpty(t, l.Rate)
			require.NotEmpty(t, l.Per)
			require.Positive(t, l.Value)
		}
		found, ok := all.Lookup(d.Code)
		require.True(t, ok)
		require.Equal(t, d, found.Descriptor)
		account, configured := (&config.Config{}).Channel(d.Code)
		require.Equal(t, d.Code, account.Name, "rekey.yaml has no channels."+d.Code)
		require.False(t, configured)
	}
	require.True(t, slices.IsSorted(codes))
	require.Len(t, slices.Compact(slices.Clone(codes)), len(codes), "a code is used twice")
	_, ok := all.Lookup("fax")
	require.False(t, ok)
}

func TestOneMessageIsOne(t *testing.T) {
	each(t, func(t *testing.T, c notify.Channel, w world) {
		r, s := opened(t, c, w)
		require.NoError(t, do(t.Context(), r, s, w, false))
		require.Len(t, w.arrived(), 1)
	})
}

// What a channel declares of a lost answer is what it does.
func TestALostAnswer(t *testing.T) {
	each(t, func(t *testing.T, c notify.Channel, w world) {
		r, s := opened(t, c, w)
		w.lose()
		err := do(t.Context(), r, s, w, false)
		require.Equal(t, activities.ClassUnclear, activities.AsFault("", err).Class, "it may have arrived: %v", err)
		require.Len(t, w.arrived(), 1)
		switch c.Descriptor.Delivery {
		case notify.Detectable:
			require.NotNil(t, r, "a look-up is a recorder's")
			require.NoError(t, do(t.Context(), r, s, w, true))
			require.Len(t, w.arrived(), 1, "it was looked up, not sent again")
			place, err := r.Open(t.Context(), notify.OpenRequest{Incident: incident, Target: w.target, Card: card("x"), Marker: incident, Recheck: true})
			require.NoError(t, err)
			line := notify.AppendRequest{Incident: incident, Place: place, Marker: incident + "/1", Line: notify.Line{N: 1, At: time.Now(), Kind: notify.KindAsk, Text: "x"}}
			w.lose()
			_, err = r.Append(t.Context(), line)
			require.Equal(t, activities.ClassUnclear, activities.AsFault("", err).Class)
			line.Recheck = true
			id, err := r.Append(t.Context(), line)
			require.NoError(t, err)
			require.NotEmpty(t, id)
			require.Len(t, w.arrived(), 2)
			line.Marker = incident + "/2" // really looked up: another line is another message
			other, err := r.Append(t.Context(), line)
			require.NoError(t, err)
			require.NotEqual(t, id, other)
			require.Len(t, w.arrived(), 3)
		case notify.Idempotent:
			require.NoError(t, do(t.Context(), r, s, w, true))
			got := w.arrived()
			require.Len(t, slices.Compact(got), 1, "the same message again is the same")
		case notify.AtMostOnce:
			require.Nil(t, r, "an incident is followed only where a message can be found again")
		}
	})
}

// A failure is a Fault, in our words: nothing of the vendor's text, no secret, no
// address of the network.
func TestFailuresAreFaultsInOurWords(t *testing.T) {
	vendor := "VENDOR-TEXT " + ownSecret + " \x1b[31m"
	each(t, func(t *testing.T, c notify.Channel, w world) {
		check := func(err error) {
			require.Error(t, err)
			var f *activities.Fault
			require.ErrorAs(t, err, &f)
			require.Contains(t, []activities.Class{activities.ClassTransient, activities.ClassThrottled, activities.ClassUnclear, activities.ClassDenied, activities.ClassInvalid}, f.Class)
			require.NotEmpty(t, f.Op)
			require.NotEmpty(t, f.Detail)
			for _, bad := range []string{"VENDOR-TEXT", ownSecret, "\x1b", "127.0.0.1"} {
				require.NotContains(t, err.Error(), bad)
			}
		}
		r, s := opened(t, c, w)
		w.rage(vendor)
		check(do(t.Context(), r, s, w, false))
		check(do(t.Context(), r, s, w, true))
		require.Empty(t, w.arrived())
		if v, ok := any(r).(notify.Checker); ok && r != nil {
			for _, p := range v.Check(t.Context(), w.target) {
				require.NotEmpty(t, p.Do)
				require.NotContains(t, p.What+p.Do, "VENDOR-TEXT")
				require.NotContains(t, p.What+p.Do, ownSecret)
			}
		}

		broken := w.account
		broken.Credential = nil
		if v, err := c.Open(broken, deps()); err == nil && r != nil {
			check(do(t.Context(), v.(notify.Recorder), nil, w, false))
		}
	})
}

func TestAContextThatEndedSendsNothing(t *testing.T) {
	each(t, func(t *testing.T, c notify.Channel, w world) {
		r, s := opened(t, c, w)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.Error(t, do(ctx, r, s, w, false))
		require.Empty(t, w.arrived())
	})
}

// Hostile text, short and very long: it is taken by the vendor's limits, and what
// arrives holds no control and no bidi character, and nothing live.
func TestHostileTextIsSentAsText(t *testing.T) {
	each(t, func(t *testing.T, c notify.Channel, w world) {
		r, s := opened(t, c, w)
		if r == nil {
			req := notice(w)
			req.Subject = hostile
			if _, err := s.Send(t.Context(), req); err == nil {
				for _, m := range w.arrived() {
					require.NotRegexp(t, regexp.MustCompile(`(?m)^Bcc:`), m)
				}
			}
			return
		}
		for _, text := range []string{hostile, strings.Repeat(hostile, 100_000/len(hostile)+1)} {
			place, err := r.Open(t.Context(), notify.OpenRequest{Incident: incident, Target: w.target, Card: card(text), Marker: incident, Labels: []string{text}})
			require.NoError(t, err)
			_, err = r.Append(t.Context(), notify.AppendRequest{Incident: incident, Place: place, Marker: incident + "/1", Line: notify.Line{N: 1, Kind: notify.KindAsk, Text: text}})
			require.NoError(t, err)
			require.NoError(t, r.Update(t.Context(), notify.UpdateRequest{Incident: incident, Place: place, Card: card(text)}))
			require.NoError(t, r.Close(t.Context(), notify.UpdateRequest{Incident: incident, Place: place, Card: card(text)}))
		}
		got := w.arrived()
		require.Len(t, got, 4)
		for _, m := range got {
			require.True(t, utf8.ValidString(m))
			require.LessOrEqual(t, len(m), 150_000)
			for _, bad := range []string{"\\u202e", "%E2%80%AE", "\u202e", "\\u0000", "\\u001b", "%00", "%1B", "\u200b"} {
				require.NotContains(t, m, bad)
			}
			require.False(t, strings.ContainsFunc(m, func(c rune) bool { return unicode.Is(unicode.Cf, c) }))
		}
	})
}
