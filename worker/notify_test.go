package worker

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/activities"
	"rekey/activities/notify"
	"rekey/internal/secret"
	"rekey/internal/secret/redact"
	"rekey/workflows"
)

// chat is a channel that keeps what it was asked and answers as it is told.
type chat struct {
	err    error
	lines  []notify.AppendRequest
	cards  []notify.Card
	closed int
	left   time.Duration
}

func (c *chat) Open(_ context.Context, r notify.OpenRequest) (notify.Place, error) {
	c.cards = append(c.cards, r.Card)
	return notify.Place{Channel: "slack", Where: "C1", ID: "1"}, c.err
}

func (c *chat) Append(ctx context.Context, r notify.AppendRequest) (string, error) {
	if end, ok := ctx.Deadline(); ok {
		c.left = time.Until(end)
	}
	c.lines = append(c.lines, r)
	return "post-1", c.err
}

func (c *chat) Update(_ context.Context, r notify.UpdateRequest) error {
	c.cards = append(c.cards, r.Card)
	return c.err
}

func (c *chat) Close(_ context.Context, r notify.UpdateRequest) error {
	c.closed++
	c.cards = append(c.cards, r.Card)
	return c.err
}

func newTestTeller(t *testing.T, open func(string) (any, error)) *teller {
	t.Helper()
	r, err := redact.New(redact.Options{Patterns: redact.Generic()})
	require.NoError(t, err)
	return &teller{redact: r, now: time.Now, opened: map[string]any{}, open: open}
}

func TestTellerCallsTheChannel(t *testing.T) {
	c := &chat{}
	opened := 0
	tell := newTestTeller(t, func(string) (any, error) { opened++; return c, nil })
	do := func(call workflows.RecordCall) workflows.RecordAnswer {
		call.Channel = "slack"
		a, err := tell.Record(context.Background(), call)
		require.NoError(t, err, "what a channel answers is no error: the loop is in the workflow")
		return a
	}
	place := notify.Place{Channel: "slack", Where: "C1", ID: "1"}
	require.Equal(t, &place, do(workflows.RecordCall{Op: workflows.RecordOpen, Open: &notify.OpenRequest{}}).Place)
	require.Equal(t, "post-1", do(workflows.RecordCall{Op: workflows.RecordAppend, Append: &notify.AppendRequest{Marker: "inc-1/1", Recheck: true}}).Receipt)
	require.Empty(t, do(workflows.RecordCall{Op: workflows.RecordUpdate, Update: &notify.UpdateRequest{Place: place}}))
	require.Empty(t, do(workflows.RecordCall{Op: workflows.RecordClose, Update: &notify.UpdateRequest{Place: place}}))
	require.Equal(t, 1, opened, "a channel is opened once")
	require.Len(t, c.lines, 1)
	require.True(t, c.lines[0].Recheck)
	require.Equal(t, "inc-1/1", c.lines[0].Marker)
	require.Equal(t, 1, c.closed)
	require.Positive(t, c.left)
	require.LessOrEqual(t, c.left, time.Minute-workflows.TellMargin, "it gives up before Temporal does")
	require.Equal(t, activities.ClassInvalid, do(workflows.RecordCall{Op: "dance"}).Class)
	require.Equal(t, activities.ClassInvalid, do(workflows.RecordCall{Op: workflows.RecordAppend}).Class)
}

func TestTellerClassesWhatGoesWrong(t *testing.T) {
	for name, tt := range map[string]struct {
		open func(string) (any, error)
		err  error
		want workflows.RecordAnswer
	}{
		"throttled": {
			err:  &activities.Fault{Class: activities.ClassThrottled, Op: "chat.postMessage", Detail: "rate limited", After: 3 * time.Second, Status: 429, RequestID: "r1"},
			want: workflows.RecordAnswer{Class: activities.ClassThrottled, Detail: "chat.postMessage: rate limited", AfterMs: 3000, Status: 429, RequestID: "r1"},
		},
		"denied": {
			err:  &activities.Fault{Class: activities.ClassDenied, Op: "chat.postMessage", Detail: "not in the channel", Permission: "chat:write"},
			want: workflows.RecordAnswer{Class: activities.ClassDenied, Detail: "chat.postMessage: not in the channel", Permission: "chat:write"},
		},
		"an error nobody classed may have happened, and its text stays out": {
			err:  errors.New("Post https://user:hunter2@chat.example: EOF"),
			want: workflows.RecordAnswer{Class: activities.ClassUnclear, Detail: "slack:append: unclassified error"},
		},
		"not configured here": {
			open: func(string) (any, error) { return nil, errors.New("channels.slack is not configured") },
			want: workflows.RecordAnswer{Class: activities.ClassDenied, Detail: "channels.slack is not configured"},
		},
		"not a place": {
			open: func(string) (any, error) { return struct{}{}, nil },
			want: workflows.RecordAnswer{Class: activities.ClassInvalid, Detail: `channel "slack" cannot follow an incident`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if tt.open == nil {
				tt.open = func(string) (any, error) { return &chat{err: tt.err}, nil }
			}
			a, err := newTestTeller(t, tt.open).Record(context.Background(), workflows.RecordCall{Channel: "slack", Op: workflows.RecordAppend, Append: &notify.AppendRequest{}})
			require.NoError(t, err)
			require.Equal(t, tt.want, a)
		})
	}
}

// A secret that a person typed into a note, or that stands in a name, stays in the
// house.
func TestTellerRedactsEveryText(t *testing.T) {
	c := &chat{}
	tell := newTestTeller(t, func(string) (any, error) { return c, nil })
	const leaked = "a-value-that-was-just-seen"
	_, err := tell.redact.Add("seen", secret.New([]byte(leaked)))
	require.NoError(t, err)
	say := "see " + leaked
	full := notify.Card{
		Title: say, Key: say, Reporter: say, Breaks: []notify.Break{{Dependent: say, Owner: say}},
		Asks: []notify.Ask{{What: say, Breaks: []notify.Break{{Dependent: say}}}}, Tasks: []notify.Task{{What: say, Owner: say}}, Items: []notify.Item{{Key: say, Waits: say}},
	}
	for _, call := range []workflows.RecordCall{
		{Op: workflows.RecordOpen, Open: &notify.OpenRequest{Card: full}},
		{Op: workflows.RecordUpdate, Update: &notify.UpdateRequest{Card: full}},
		{Op: workflows.RecordClose, Update: &notify.UpdateRequest{Card: full}},
		{Op: workflows.RecordAppend, Append: &notify.AppendRequest{Line: notify.Line{Text: say}}},
	} {
		call.Channel = "slack"
		_, err := tell.Record(context.Background(), call)
		require.NoError(t, err)
	}
	require.Len(t, c.cards, 3)
	for _, card := range c.cards {
		require.NotContains(t, toText(t, card), leaked)
		require.Contains(t, toText(t, card), "[redacted:")
	}
	require.NotContains(t, c.lines[0].Line.Text, leaked)
	require.Contains(t, full.Asks[0].What, leaked, "the workflow's own card is left as it is")
}

func toText(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	require.NoError(t, err)
	return string(b)
}
