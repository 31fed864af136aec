package text_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/activities/notify"
	"rekey/activities/notify/text"
)

var at = time.Date(2026, 11, 22, 3, 12, 9, 0, time.FixedZone("CET", 3600))

func TestWhenAndSpan(t *testing.T) {
	require.Equal(t, "2026-11-22 02:12 UTC", text.When(at))
	require.Equal(t, "unknown", text.When(time.Time{}))
	for d, want := range map[time.Duration]string{
		0: "0 s", 45 * time.Second: "45 s", 90 * time.Second: "1 min 30 s", 30 * time.Minute: "30 min",
		125 * time.Minute: "2 h 5 min", 76 * time.Hour: "3 d 4 h", 72 * time.Hour: "3 d",
	} {
		require.Equal(t, want, text.Span(d))
	}
}

func TestStatusClaimsNoMoreThanTheEngine(t *testing.T) {
	ask, task := []notify.Ask{{}}, []notify.Task{{}}
	tests := map[string]struct {
		card notify.Card
		want string
	}{
		"open":      {notify.Card{State: "open"}, "Not contained. Nothing waits for people now."},
		"waiting":   {notify.Card{State: "waiting", Asks: ask, MoreAsks: 2, Tasks: task}, "Not contained. Waits for people: 3 open questions, 1 step for people."},
		"contained": {notify.Card{State: "contained", Contained: at, Tasks: task}, "Contained since 2026-11-22 02:12 UTC, NOT all clear: 1 step for people."},
		"reopened":  {notify.Card{State: "open", Contained: at}, "Was contained at 2026-11-22 02:12 UTC, open again. Nothing waits for people now."},
		"all clear": {notify.Card{State: "all-clear", Contained: at, Closed: at}, "All clear since 2026-11-22 02:12 UTC: nothing is open."},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) { require.Equal(t, tt.want, text.Status(tt.card)) })
	}
}

func TestBreaksShowTheWorstFirst(t *testing.T) {
	got := text.Breaks([]notify.Break{
		{Dependent: "fine", Owner: "web", Outage: time.Minute, Budget: time.Hour},
		{Dependent: "none", Owner: "web"},
		{Dependent: "over", Outage: time.Hour, Budget: time.Minute},
		{Dependent: "blind", Owner: "ops", Outage: time.Minute},
	}, 3)
	require.Equal(t, []string{
		"over (owner unknown): down 1 h, OVER its budget of 1 min",
		"blind (owner ops): down 1 min, budget unknown",
		"fine (owner web): down 1 min of its budget of 1 h",
		"and 1 more",
	}, got)
}

func TestPriceOfABlindScopeIsNotNobody(t *testing.T) {
	seen := notify.Scope{Version: 1, Items: 1}
	require.Equal(t, []string{"nobody is known to break"}, text.Price(notify.Ask{}, seen, 3))
	seen.Dark, seen.Unseen = 1, 2
	require.Equal(t, []string{"nobody is KNOWN to break; not everything was seen: 2 sources unseen, 1 dark window"}, text.Price(notify.Ask{}, seen, 3))
	require.Contains(t, text.Price(notify.Ask{}, notify.Scope{}, 3)[0], "not known yet")
	require.Contains(t, text.Scope(seen), "NOT complete")
	require.Equal(t, "not known yet", text.Scope(notify.Scope{}))
}

func TestNeedsAndVotes(t *testing.T) {
	a := notify.Ask{
		For: "irreversible", Wave: 2, Strategy: "revoke-now", Items: 1, Calls: 3, Needed: 2, Outside: 5, Roles: []string{"commander", "security"}, Expires: at,
		Votes: []notify.Vote{{Actor: "oncall-1", Role: "commander", Vote: "approve", Auth: "cli-key"}, {Actor: "oncall-2", Vote: "deny", Auth: "slack"}},
	}
	require.Equal(t, "1 of 2 votes given, by commander or security, 2 of them outside Slack, until 2026-11-22 02:12 UTC", text.Needs(a))
	require.Equal(t, "wave 2, IRREVERSIBLE, revoke-now, 1 item, 3 calls", text.Subject(a))
	require.Equal(t, "oncall-1 (commander): approve, cli-key", text.Vote(a.Votes[0]))
}

func TestCardSentences(t *testing.T) {
	c := notify.Card{Scope: notify.Scope{Version: 1, Items: 3}, Dead: []notify.Count{{Name: "A", N: 1}, {Name: "C", N: 1}}}
	require.Equal(t, "2 of 3 items (1 grade A: the old key was refused, 1 grade C: attested by a person)", text.Dead(c))
	require.Equal(t, "call the vendor (owner: nobody yet, due 2026-11-22 02:12 UTC)", text.Task(notify.Task{What: "call\nthe vendor", Due: at}, 200))
	require.Equal(t, "revoke-now, step Probe, old key proving, new key issued, waits for a vote",
		text.Item(notify.Item{Strategy: "revoke-now", Step: "Probe", Death: "proving", Adoption: "issued", Waits: "a vote"}))
	require.Equal(t, "revoke-now, ended: revoked-verified, old key dead (grade A)",
		text.Item(notify.Item{Strategy: "revoke-now", Step: "done", End: "revoked-verified", Death: "dead", Grade: "A"}))
	require.Less(t, len(text.Task(notify.Task{What: strings.Repeat("x", 9999)}, 200)), 260)
}
