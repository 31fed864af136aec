package workflows_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	"rekey/activities"
	"rekey/activities/notify"
	"rekey/internal/event"
	"rekey/internal/statement"
	"rekey/playbooks"
	"rekey/workflows"
)

// A place is a channel's other end: it keeps what was posted, looks for a marker
// only when told to, and fails as a story says.
type place struct {
	w  *world
	mu sync.Mutex
	// posts are the lines as people see them; cards the card as it stood.
	posts  []notify.Line
	marks  map[string]bool
	opened []notify.OpenRequest
	cards  []notify.Card
	closed []notify.Card
	calls  []workflows.RecordCall
	at     []time.Time
	// fails says what becomes of a call instead: nil is success.
	fails func(workflows.RecordCall, time.Time) *trouble
}

// trouble is how a call fails. applied: it took effect all the same; dead: the
// worker dies instead of answering.
type trouble struct {
	class   activities.Class
	after   time.Duration
	applied bool
	dead    bool
}

func (p *place) do(_ context.Context, c workflows.RecordCall) (workflows.RecordAnswer, error) {
	now := p.w.env.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls, p.at = append(p.calls, c), append(p.at, now)
	var bad *trouble
	if p.fails != nil {
		bad = p.fails(c, now)
	}
	if bad == nil || bad.applied {
		p.apply(c)
	}
	switch {
	case bad == nil:
		a := workflows.RecordAnswer{Receipt: fmt.Sprintf("post%d", len(p.posts))}
		if c.Open != nil {
			a.Place = &notify.Place{Channel: c.Channel, Where: c.Open.Target, ID: "1", URL: "https://chat.example/1"}
		}
		return a, nil
	case bad.dead:
		return workflows.RecordAnswer{}, temporal.NewTimeoutError(enums.TIMEOUT_TYPE_START_TO_CLOSE, nil)
	}
	return workflows.RecordAnswer{Class: bad.class, Detail: "scripted", AfterMs: bad.after.Milliseconds()}, nil
}

func (p *place) apply(c workflows.RecordCall) {
	switch c.Op {
	case workflows.RecordOpen:
		if !c.Open.Recheck || len(p.opened) == 0 {
			p.opened = append(p.opened, *c.Open)
		}
		p.cards = append(p.cards, c.Open.Card)
	case workflows.RecordAppend:
		if !c.Append.Recheck || !p.marks[c.Append.Marker] {
			p.posts = append(p.posts, c.Append.Line)
		}
		p.marks[c.Append.Marker] = true
	case workflows.RecordUpdate:
		p.cards = append(p.cards, c.Update.Card)
	case workflows.RecordClose:
		p.cards = append(p.cards, c.Update.Card)
		p.closed = append(p.closed, c.Update.Card)
	}
}

// texts gives the posts of some kinds; without kinds all.
func (p *place) texts(kinds ...string) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := []string{}
	for _, l := range p.posts {
		if len(kinds) == 0 {
			out = append(out, l.Kind+": "+l.Text)
			continue
		}
		for _, k := range kinds {
			if l.Kind == k {
				out = append(out, l.Text)
			}
		}
	}
	return out
}

// inOrder holds every story to its promise: each line once, in order, none left out.
func (p *place) inOrder(t *testing.T, first int64) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	require.NotEmpty(t, p.posts)
	for i, l := range p.posts {
		require.Equal(t, first+int64(i), l.N, "line %d: %s", i, l.Text)
	}
	require.Len(t, p.opened, 1, "one place")
}

// tried counts the calls.
func (p *place) tried() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.calls)
}

func (p *place) lastCard() notify.Card {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cards[len(p.cards)-1]
}

// inChat has the incident followed in Slack, by a fake place.
func inChat(p *place) option {
	return func(w *world) {
		p.w, p.marks = w, map[string]bool{}
		w.set.Channels = []string{"slack"} // with e-mail there would be notices too
		w.set.Playbook.Record = playbooks.Record{Slack: &playbooks.RecordSlack{Channel: "#incidents"}}
		w.set.Playbook.Watch = playbooks.Watch{}
		w.place = p
	}
}

// during fails every call within a span of the story.
func during(from, to time.Duration, bad trouble) func(workflows.RecordCall, time.Time) *trouble {
	return func(_ workflows.RecordCall, now time.Time) *trouble {
		if d := now.Sub(t0); d >= from && d < to {
			return &bad
		}
		return nil
	}
}

// flow is the log of what reached the provider, with times, by key: the order in
// which calls of one instant come in is not the workflow's.
func flow(w *world) map[string][]string {
	out := map[string][]string{}
	for _, c := range w.provider.all() {
		id := c.pass.Items[0].Key.ID
		out[id] = append(out[id], fmt.Sprintf("%s %s", c.at.Sub(t0), c.what))
	}
	return out
}

// busyStory is an incident in which something happens all the time.
func busyStory(t *testing.T, opts ...option) *world {
	w := newWorld(t, append([]option{func(w *world) {
		w.set.Playbook.Watch = playbooks.Watch{}
		w.reach["AKIA-1"] = []string{"AKIA-2", "AKIA-3"}
	}}, opts...)...)
	w.used("AKIA-2", "billing")
	w.reported(0, "r1", "AKIA-1", withSecret)
	w.at(time.Minute, func() { w.vote("alice", statement.Approve, "strategy") })
	w.at(2*time.Minute, func() { w.vote("rita", statement.Approve, "strategy") })
	w.at(3*time.Minute, func() { w.vote("bob", statement.Approve, "strategy") })
	w.at(40*time.Minute, func() {
		w.update(w.say(statement.Note, "alice", func(s *statement.Statement) { s.Text = "billing\nwas told" }))
	})
	w.at(50*time.Minute, func() { w.hold("bob", "AKIA-2", 10*time.Minute) })
	w.at(55*time.Minute, func() {
		w.update(w.say(statement.Release, "bob", func(s *statement.Statement) { s.Items, s.Text = []string{"AKIA-2"}, "done" }))
	})
	w.moves(5*time.Hour, "AKIA-2", "10.0.0.1")
	w.approving("irreversible")
	w.resolving()
	return w
}

// A channel that is down, slow, refuses or loses its answers changes nothing of
// what is done and when; it catches up afterwards, once and in order.
func TestAChannelNeverDelaysContainment(t *testing.T) {
	without := busyStory(t)
	end := without.run()
	require.Equal(t, "all-clear", end.State)
	want := flow(without)
	require.NotEmpty(t, want)
	require.Empty(t, end.Records)
	lost := 0
	for name, tt := range map[string]struct {
		fails  func(workflows.RecordCall, time.Time) *trouble
		behind bool // it is said while it lasts
		silent bool // nothing was posted meanwhile
	}{
		"up":                 {},
		"down for an hour":   {fails: during(0, time.Hour, trouble{class: activities.ClassTransient}), behind: true, silent: true},
		"denied for an hour": {fails: during(0, time.Hour, trouble{class: activities.ClassDenied}), behind: true, silent: true},
		"throttled":          {fails: during(0, time.Hour, trouble{class: activities.ClassThrottled, after: 10 * time.Minute}), behind: true, silent: true},
		"every answer lost, nothing done": {
			fails: during(0, time.Hour, trouble{class: activities.ClassUnclear}), behind: true, silent: true,
		},
		"every first answer lost, all done": {fails: func(c workflows.RecordCall, _ time.Time) *trouble {
			if c.Attempt == 1 {
				return &trouble{class: activities.ClassUnclear, applied: true}
			}
			return nil
		}},
		"the worker dies under every third call, before or after": {fails: func(workflows.RecordCall, time.Time) *trouble {
			lost++
			if lost%3 == 0 {
				return &trouble{dead: true, applied: lost%2 == 0}
			}
			return nil
		}},
	} {
		t.Run(name, func(t *testing.T) {
			p := &place{fails: tt.fails}
			w := busyStory(t, inChat(p))
			w.at(45*time.Minute, func() {
				rec := w.show().Records
				require.Len(t, rec, 1)
				require.Equal(t, "slack", rec[0].Channel)
				if tt.behind {
					require.Equal(t, "behind", rec[0].State)
					require.Positive(t, rec[0].Behind)
					require.NotEmpty(t, rec[0].Why)
				} else {
					require.Equal(t, "following", rec[0].State)
					require.Equal(t, "https://chat.example/1", rec[0].URL)
				}
				require.Equal(t, tt.silent, len(p.texts()) == 0)
			})
			w.at(4*time.Hour, func() {
				rec := w.show().Records[0]
				require.Equal(t, "following", rec.State, "it has caught up")
				require.Zero(t, rec.Behind)
				require.Len(t, p.texts(), int(rec.Lines))
			})
			w.env.SetDetachedChildWait(true)
			v := w.run()
			require.Equal(t, "all-clear", v.State)
			require.Equal(t, want, flow(w), "the same calls in the same order at the same times")
			p.inOrder(t, 1)
			require.Len(t, p.texts(), int(v.Records[0].Lines))
			require.NotEmpty(t, p.closed)
			require.Equal(t, "all-clear", p.lastCard().State)
			require.Equal(t, v.Bundle.Digest, p.lastCard().Bundle)
			require.Contains(t, w.seals[len(w.seals)-1].Workflows, workflows.RecordID(incidentID, "slack"), "the bundle has what was told when")
			if tt.behind {
				require.Equal(t, 1, w.count(event.EventRecordBehind, ""))
				require.Equal(t, 1, w.count(event.EventRecordCaught, ""))
			}
		})
	}
}

func (p *place) register(w *world) {
	w.env.RegisterActivityWithOptions(p.do, activity.RegisterOptions{Name: workflows.ActivityRecord})
}
