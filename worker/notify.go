package worker

import (
	"context"
	"fmt"
	"sync"
	"time"

	"go.temporal.io/sdk/activity"

	"rekey/activities"
	"rekey/activities/notify"
	channels "rekey/activities/notify/all"
	"rekey/internal/httpx"
	"rekey/internal/secret/redact"
	"rekey/workflows"
)

// A teller makes the calls to the channels of rekey.yaml: what a workflow has
// decided to tell goes out here, and every answer comes back with a class. It keeps
// nothing but the open clients.
type teller struct {
	// open gives a channel's client: a notify.Recorder, a notify.Sender or both.
	open   func(code string) (any, error)
	redact *redact.Redactor
	now    func() time.Time

	mu     sync.Mutex
	opened map[string]any
}

// newTeller makes the teller of this worker. A channel is opened at its first use:
// one that is configured badly is then behind, and nothing else is.
func (r *Runtime) newTeller() *teller {
	return &teller{redact: r.Redact, now: time.Now, opened: map[string]any{}, open: func(code string) (any, error) {
		a, ok := r.Config.Channel(code)
		if !ok {
			return nil, fmt.Errorf("channels.%s is not configured on this worker: add it to rekey.yaml and restart", code)
		}
		c, ok := channels.Lookup(code)
		if !ok {
			return nil, fmt.Errorf("no channel %q in this build", code)
		}
		return c.Open(a, activities.Deps{Secrets: r.Sealed, HTTP: httpx.ForAccount, Now: r.Now, Agent: "rekey/1"})
	}}
}

// activities are those of channels, by name.
func (t *teller) activities() map[string]any {
	return map[string]any{workflows.ActivityRecord: t.Record}
}

// channel gives a client, opened once. One that cannot be opened is tried again at
// the next call.
func (t *teller) channel(code string) (any, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if c, ok := t.opened[code]; ok {
		return c, nil
	}
	c, err := t.open(code)
	if err != nil {
		return nil, err
	}
	t.opened[code] = c
	return c, nil
}

// Record makes one call to a place that follows an incident. It gives no error for
// what a vendor answers: the loop that repeats the call is in the workflow. Every
// text passes the redactor: notes and reasons are people's, and a secret in one of
// them stays in the house.
func (t *teller) Record(ctx context.Context, in workflows.RecordCall) (workflows.RecordAnswer, error) {
	c, err := t.channel(in.Channel)
	if err != nil {
		return workflows.RecordAnswer{Class: activities.ClassDenied, Detail: t.redact.String(err.Error())}, nil
	}
	rec, ok := c.(notify.Recorder)
	if !ok {
		return workflows.RecordAnswer{Class: activities.ClassInvalid, Detail: fmt.Sprintf("channel %q cannot follow an incident", in.Channel)}, nil
	}
	ctx, cancel := t.limit(ctx)
	defer cancel()
	var out workflows.RecordAnswer
	switch {
	case in.Op == workflows.RecordOpen && in.Open != nil:
		req := *in.Open
		req.Card = t.clean(req.Card)
		var p notify.Place
		if p, err = rec.Open(ctx, req); err == nil {
			out.Place = &p
		}
	case in.Op == workflows.RecordAppend && in.Append != nil:
		req := *in.Append
		req.Line.Text = t.redact.String(req.Line.Text)
		out.Receipt, err = rec.Append(ctx, req)
	case in.Op == workflows.RecordUpdate && in.Update != nil:
		req := *in.Update
		req.Card = t.clean(req.Card)
		err = rec.Update(ctx, req)
	case in.Op == workflows.RecordClose && in.Update != nil:
		req := *in.Update
		req.Card = t.clean(req.Card)
		err = rec.Close(ctx, req)
	default:
		return workflows.RecordAnswer{Class: activities.ClassInvalid, Detail: "the workflow is of another build: it asks for " + in.Op}, nil
	}
	if err != nil {
		f := activities.AsFault(in.Channel+":"+in.Op, err)
		return workflows.RecordAnswer{
			Class: f.Class, Detail: t.redact.String(f.Op + ": " + f.Detail), Permission: f.Permission, AfterMs: f.After.Milliseconds(), RequestID: f.RequestID, Status: f.Status,
		}, nil
	}
	return out, nil
}

// limit ends a call before Temporal gives it up: its answer is then known to be
// lost, and nothing of it runs any more when the next attempt begins.
func (t *teller) limit(ctx context.Context) (context.Context, context.CancelFunc) {
	end := t.now().Add(time.Minute - workflows.TellMargin)
	if activity.IsActivity(ctx) {
		if d := activity.GetInfo(ctx).Deadline; !d.IsZero() {
			end = d.Add(-workflows.TellMargin)
		}
	}
	return context.WithDeadline(ctx, end)
}

// clean redacts a card. The originals are shared with nobody, its lists are.
func (t *teller) clean(c notify.Card) notify.Card {
	s := t.redact.String
	c.Title, c.Key, c.Reporter = s(c.Title), s(c.Key), s(c.Reporter)
	c.Breaks = t.breaks(c.Breaks)
	asks := make([]notify.Ask, len(c.Asks))
	for i, a := range c.Asks {
		a.What, a.Breaks = s(a.What), t.breaks(a.Breaks)
		asks[i] = a
	}
	tasks := make([]notify.Task, len(c.Tasks))
	for i, k := range c.Tasks {
		k.What, k.Owner = s(k.What), s(k.Owner)
		tasks[i] = k
	}
	items := make([]notify.Item, len(c.Items))
	for i, it := range c.Items {
		it.Key, it.Waits = s(it.Key), s(it.Waits)
		items[i] = it
	}
	c.Asks, c.Tasks, c.Items = asks, tasks, items
	return c
}

func (t *teller) breaks(in []notify.Break) []notify.Break {
	out := make([]notify.Break, len(in))
	for i, b := range in {
		b.Dependent, b.Owner = t.redact.String(b.Dependent), t.redact.String(b.Owner)
		out[i] = b
	}
	return out
}
