package slack_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	slackgo "github.com/slack-go/slack"
	"github.com/stretchr/testify/require"

	"rekey/activities"
	"rekey/activities/activitytest/emulatetest"
	"rekey/activities/notify"
	"rekey/activities/notify/slack"
	"rekey/internal/httpx"
	"rekey/internal/secret"
)

// open opens the channel as the worker does.
func open(t *testing.T, base, team, token string) *slack.Client {
	t.Helper()
	a := activities.Account{
		Name: "slack", AllowPrivate: true, Settings: map[string]string{"base_url": base, "team": team},
		Credential: func(name string) (secret.Value, error) {
			require.Equal(t, "bot_token", name)
			return secret.New([]byte(token + "\n")), nil
		},
	}
	c, err := slack.Channel().Open(a, activities.Deps{HTTP: httpx.ForAccount, Agent: "rekey-test"})
	require.NoError(t, err)
	return c.(*slack.Client)
}

// A lossy proxy passes requests on and drops the answers of those that match, after
// the server did the work.
type lossy struct {
	*httptest.Server
	mu   sync.Mutex
	drop map[string]int // path suffix -> how often
	urls []string
	auth []string
}

func newLossy(t *testing.T, to string) *lossy {
	t.Helper()
	u, err := url.Parse(to)
	require.NoError(t, err)
	p := &lossy{drop: map[string]int{}}
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: u.Scheme, Host: u.Host})
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		p.urls, p.auth = append(p.urls, r.URL.String()), append(p.auth, r.Header.Get("Authorization"))
		dropped := false
		for suffix, n := range p.drop {
			if n > 0 && strings.HasSuffix(r.URL.Path, suffix) {
				p.drop[suffix], dropped = n-1, true
			}
		}
		p.mu.Unlock()
		if dropped {
			proxy.ServeHTTP(httptest.NewRecorder(), r)
			panic(http.ErrAbortHandler)
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *lossy) next(suffix string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drop[suffix] = 1
}

// messages reads a channel or a thread with slack-go alone.
func messages(t *testing.T, s *emulatetest.Server, channel, thread string) []slackgo.Message {
	t.Helper()
	form := url.Values{"channel": {channel}, "limit": {"200"}, "include_all_metadata": {"1"}}
	method := "conversations.history"
	if thread != "" {
		method = "conversations.replies"
		form.Set("ts", thread)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.Slack+method, strings.NewReader(form.Encode()))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Authorization", "Bearer "+s.SlackToken)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	var out slackgo.GetConversationHistoryResponse
	require.NoError(t, json.Unmarshal(body, &out))
	require.True(t, out.Ok, string(body))
	return out.Messages
}

func TestEmulate(t *testing.T) {
	s := emulatetest.Start(t)
	p := newLossy(t, s.Slack)
	c := open(t, p.URL+"/api/", emulatetest.Team, s.SlackToken)
	ctx := context.Background()
	card := waiting()
	req := notify.OpenRequest{Incident: incident, Target: "#" + emulatetest.Channel, Card: card, Marker: incident}

	// The card is posted, its answer is lost: it is found and not posted again.
	p.next("chat.postMessage")
	_, err := c.Open(ctx, req)
	require.Equal(t, activities.ClassUnclear, activities.AsFault("", err).Class)
	req.Recheck = true
	place, err := c.Open(ctx, req)
	require.NoError(t, err)
	require.Equal(t, "slack", place.Channel)
	require.Equal(t, "https://acme.slack.com/archives/"+place.Where+"/p"+strings.Replace(place.ID, ".", "", 1), place.URL)
	again, err := open(t, s.Slack, emulatetest.Team, s.SlackToken).Open(ctx, req) // another process
	require.NoError(t, err)
	require.Equal(t, place, again)
	got := messages(t, s, place.Where, "")
	require.Len(t, got, 1)
	require.Equal(t, "rekey", got[0].Metadata.EventType)
	require.Equal(t, map[string]any{"marker": incident}, got[0].Metadata.EventPayload)
	require.Equal(t, slack.Fallback(card), got[0].Text)

	// The same marker in a message of somebody else is not ours.
	mallory := open(t, s.Slack, emulatetest.Team, s.OtherSlack)
	forged := req
	forged.Marker, forged.Recheck = "inc-ffffffffffff", false
	theirs, err := mallory.Open(ctx, forged)
	require.NoError(t, err)
	forged.Recheck = true
	ours, err := c.Open(ctx, forged)
	require.NoError(t, err)
	require.NotEqual(t, theirs.ID, ours.ID)

	// Lines, one with its answer lost.
	line := notify.AppendRequest{Incident: incident, Place: place, Marker: incident + "/1", Line: notify.Line{N: 1, At: at, Kind: notify.KindAsk, Text: hostile, Urgent: true}}
	p.next("chat.postMessage")
	_, err = c.Append(ctx, line)
	require.Equal(t, activities.ClassUnclear, activities.AsFault("", err).Class)
	line.Recheck = true
	ts, err := c.Append(ctx, line)
	require.NoError(t, err)
	second := notify.AppendRequest{Incident: incident, Place: place, Marker: incident + "/2", Recheck: true, Line: notify.Line{N: 2, At: at, Kind: notify.KindDead, Text: "AK-OLD"}}
	ts2, err := c.Append(ctx, second)
	require.NoError(t, err)
	thread := messages(t, s, place.Where, place.ID)
	require.Len(t, thread, 3)
	require.Equal(t, []string{place.ID, ts, ts2}, []string{thread[0].Timestamp, thread[1].Timestamp, thread[2].Timestamp})

	// Changed in place, twice; the buttons go when the question is answered.
	done := contained()
	for range 2 {
		require.NoError(t, c.Update(ctx, notify.UpdateRequest{Incident: incident, Place: place, Card: done}))
	}
	require.NoError(t, c.Close(ctx, notify.UpdateRequest{Incident: incident, Place: place, Card: done, Marker: incident}))
	thread = messages(t, s, place.Where, place.ID)
	require.Len(t, thread, 3)
	require.Equal(t, slack.Fallback(done), thread[0].Text)
	for _, b := range thread[0].Blocks.BlockSet {
		require.NotEqual(t, slackgo.MBTAction, b.BlockType())
	}

	// What cannot work says what to do.
	_, err = c.Open(ctx, notify.OpenRequest{Incident: incident, Target: "#nowhere", Marker: "x", Card: card})
	require.ErrorContains(t, err, "no channel #nowhere that the app can see")
	_, err = open(t, s.Slack, "T0OTHER", s.SlackToken).Open(ctx, req)
	require.ErrorContains(t, err, "another workspace")
	wrong := place
	wrong.ID = "1.000001"
	require.ErrorContains(t, c.Update(ctx, notify.UpdateRequest{Incident: incident, Place: wrong, Card: card}), "deleted in Slack")

	// The token is in the header and nowhere else.
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.urls {
		require.NotContains(t, p.urls[i], s.SlackToken)
		require.Equal(t, "Bearer "+s.SlackToken, p.auth[i])
	}
}

func TestEmulatePrivateChannel(t *testing.T) {
	s := emulatetest.Start(t)
	c := open(t, s.Slack, emulatetest.Team, s.SlackToken)
	place, err := c.Open(t.Context(), notify.OpenRequest{Incident: incident, Target: emulatetest.PrivateChannel, Card: contained(), Marker: incident})
	require.NoError(t, err)
	require.Len(t, messages(t, s, place.Where, ""), 1)
	again, err := c.Open(t.Context(), notify.OpenRequest{Incident: incident, Target: place.Where, Card: contained(), Marker: incident, Recheck: true})
	require.NoError(t, err, "the id is as good as the name")
	require.Equal(t, place, again)
	for _, problem := range c.Check(t.Context(), "#"+emulatetest.Channel, emulatetest.PrivateChannel, "#nowhere") {
		require.Contains(t, []string{notify.ProblemTarget, notify.ProblemCredential}, problem.Code, "%+v", problem)
	}
}

var at = time.Date(2026, 11, 22, 3, 12, 9, 0, time.UTC)
