package workflows

import (
	"fmt"

	"go.temporal.io/sdk/workflow"

	"rekey/activities"
	"rekey/internal/event"
	"rekey/internal/page"
)

// mostFound bounds the findings that a scope gives back: each becomes an item or a step
// for a person.
const mostFound = 200

// massScope reads the rows of one part of an incident's mass.
type massScope struct {
	in  ScopeInput
	clk *clock
	p   *pager
	res ScopeResult
	// more counts findings that had no room.
	more int
}

// Scope is the workflow that reads what providers say of the rows of a list, claims
// them, and tells the incident. It is started by the incident and outlives any run of
// it. What cannot be read until ScopeInput.Until is unseen, and the rows go on without.
func Scope(ctx workflow.Context, in ScopeInput) error {
	clk, err := newClock(ctx, in.Settings.Virtual, in.Now, in.ClockSeq)
	if err != nil {
		return err
	}
	w := &massScope{in: in, clk: clk}
	w.p = newPager(in.Incident, fmt.Sprintf("scope/%d%s", in.Part, in.Facts.Life), clk)
	w.p.back, w.p.stuck = w.came, func(workflow.Context, string) {}
	if err := workflow.SetQueryHandler(ctx, QueryPages, func() ([]page.Group, error) { return w.p.groups(), nil }); err != nil {
		return err
	}
	chapters := archiver{incident: in.Incident, clk: clk, chapters: &w.in.Chapters}
	if before := workflow.GetInfo(ctx).ContinuedExecutionRunID; before != "" {
		chapters.keep(ctx, ScopeID(in.Incident, in.Part), before)
	}
	list := in.List
	if in.Facts.Scope {
		var again bool
		if list, again, err = w.read(ctx); err != nil {
			return err
		}
		if again {
			return w.again(ctx, &chapters)
		}
	}
	claimed, err := engineCall[ClaimPagesResult](ctx, clk, sortLimit, ActivityClaimPages, "one incident per key", ClaimPagesInput{Incident: in.Incident, List: list})
	if err != nil {
		return err
	}
	if err := chapters.done(ctx); err != nil {
		return err
	}
	w.res.List, w.res.N, w.res.Conflicts, w.res.MoreConflicts = claimed.List, claimed.N, claimed.Conflicts, claimed.More
	w.res.Chapters = w.in.Chapters
	if w.more > 0 {
		w.res.Unseen = append(w.res.Unseen, activities.Unseen{Source: "findings", Why: fmt.Sprintf("%d further objects that keys of this scope made are in the pages of its readings only", w.more)})
	}
	record(ctx, clk.Now(ctx), event.Event{Type: event.EventPreserved, Evidence: []string{claimed.List}, Attrs: map[string]string{
		"custody": "rekey blob store", "purpose": "before any destructive verb", "items": itoa(claimed.N), "unread": itoa(w.res.Unread),
	}})
	for failed := 1; ; failed++ {
		done := clk.working()
		err := workflow.SignalExternalWorkflow(ctx, IncidentID(in.Incident), "", SignalScope, ScopeSignal{Part: in.Part, Result: w.res}).Get(ctx, nil)
		done()
		if err == nil {
			return nil
		}
		if err := workflow.Sleep(ctx, backoff(failed)); err != nil {
			return err
		}
	}
}

// read passes Inspect over the rows; again is true when the run must end.
func (w *massScope) read(ctx workflow.Context) (list string, again bool, err error) {
	if w.in.State == nil {
		if w.p.facts, err = engineCall[string](ctx, w.clk, engine, ActivityPin, "what all rows share", w.in.Facts); err != nil {
			return "", false, err
		}
		if err := w.p.begin(ctx, w.in.List); err != nil {
			return "", false, err
		}
	} else {
		w.p.carry(w.in.State)
		w.res = *w.in.Found
	}
	late := func() bool { return !w.clk.Now(ctx).Before(w.in.Until) }
	workflow.Go(ctx, func(ctx workflow.Context) {
		if _, err := w.clk.Wait(ctx, w.in.Until, "the scope goes on with what it has", nil); err == nil {
			w.p.news = true
		}
	})
	workflow.SetCurrentDetails(ctx, fmt.Sprintf("reading what the providers say of %d keys", w.p.tally().Items))
	done, err := w.p.run(ctx, late)
	if err != nil || !done {
		return "", !done, err
	}
	for _, g := range w.p.idle {
		w.res.Unread += g.N
	}
	if w.res.Unread > 0 {
		w.unseen(activities.Unseen{Source: "provider", Why: fmt.Sprintf("%d keys were not read in time: what is known of them is what the estate says", w.res.Unread)})
	}
	packed, err := w.p.pack(ctx)
	return packed.Hash, false, err
}

// came takes what a pass has found.
func (w *massScope) came(_ workflow.Context, r page.PassResult) {
	for _, f := range r.Findings {
		if len(w.res.Findings) < mostFound {
			w.res.Findings = append(w.res.Findings, f)
		} else {
			w.more++
		}
	}
	w.more += r.More
	for _, u := range r.Unseen {
		w.unseen(u)
	}
	for _, d := range r.Dark {
		if len(w.res.Dark) < mostFound {
			w.res.Dark = append(w.res.Dark, d)
		}
	}
}

func (w *massScope) unseen(u activities.Unseen) {
	for _, old := range w.res.Unseen {
		if old == u {
			return
		}
	}
	if len(w.res.Unseen) < mostFound {
		w.res.Unseen = append(w.res.Unseen, u)
	}
}

func (w *massScope) again(ctx workflow.Context, chapters *archiver) error {
	if err := chapters.done(ctx); err != nil {
		return err
	}
	w.clk.drain(ctx)
	next := w.in
	st := w.p.state()
	next.State, next.Found, next.Now, next.ClockSeq = &st, &w.res, w.clk.Now(ctx), w.clk.seq
	return workflow.NewContinueAsNewError(ctx, TypeScope, next)
}
