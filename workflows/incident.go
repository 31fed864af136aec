// Package workflows encodes the life of an incident as Temporal workflows: the
// incident itself, one child per wave, the watch on dead keys, and the registers
// that keep one incident per key.
//
// Workflow code is deterministic. It reads no clock but [clock], no randomness, no
// files and no network; rules are evaluated in the plan activity and their result
// is pinned. Every decision that is not a call, signal or update by itself is
// written into the history by [record].
package workflows

import (
	"errors"
	"slices"
	"time"

	"go.temporal.io/sdk/workflow"

	"rekey/activities/notify"
	"rekey/internal/canon"
	"rekey/internal/event"
	"rekey/playbooks"
)

// incident is one response. Its main coroutine reacts to what signals and updates
// have changed; handlers never block.
type incident struct {
	in   IncidentInput
	set  *Settings
	pb   *playbooks.Playbook
	st   *IncidentState
	clk  *clock
	call *caller

	changed    bool
	stir       bool // something may be worth telling
	ending     bool // … and nothing will come after it
	told       *notify.Card
	containing bool
	pushing    map[int]bool
	attrs      attributes
	chapters   archiver
	taken      taken
}

// Incident is the workflow of one incident. It begins with a [SignalReport], and
// ends when every item is in a proven end state, nothing is open, and the bundle
// is sealed. A later report opens its next run.
func Incident(ctx workflow.Context, in IncidentInput) error {
	r, err := newIncident(ctx, in)
	if err != nil {
		return err
	}
	if err := r.handlers(ctx); err != nil {
		return err
	}
	workflow.Go(ctx, r.takeReports)
	workflow.Go(ctx, r.takeBatches)
	workflow.Go(ctx, r.takeEvents)
	workflow.Go(ctx, r.takeNotices)
	if in.Settings.Large > 0 {
		workflow.Go(ctx, r.takeScopes)
	}
	r.follow(ctx)
	for n := range r.st.Waves {
		r.pump(ctx, r.st.Waves[n].Wave.N)
	}
	if before := r.before(ctx); before != "" {
		r.chapters.keep(ctx, IncidentID(in.ID), before)
	}
	r.pushNotices(ctx)
	for {
		// Before the turn: what arrives while it waits for an activity is for the
		// next one.
		r.changed = false
		over, err := r.turn(ctx)
		if err != nil {
			return err
		}
		if over {
			return r.drain(ctx)
		}
		r.show(ctx)
		if _, err := r.clk.Wait(ctx, r.nextDue(), r.waitingFor(), func() bool { return r.changed || r.mayContinue(ctx) }); err != nil {
			return err
		}
		if r.mayContinue(ctx) {
			return r.again(ctx)
		}
	}
}

func newIncident(ctx workflow.Context, in IncidentInput) (*incident, error) {
	st := in.State
	if st == nil {
		st = newState(1)
		if in.Reopened != nil {
			st.NextWave = in.Reopened.Waves + 1
			st.Taken = slices.Clone(in.Reopened.Taken)
		}
	}
	if len(st.Taken) == 0 {
		st.adoptReports()
	}
	if st.Told == nil {
		st.Told = newTold(&in.Settings, in.Reopened)
	}
	clk, err := newClock(ctx, in.Settings.Virtual, st.Now, st.ClockSeq)
	if err != nil {
		return nil, err
	}
	r := &incident{in: in, set: &in.Settings, pb: &in.Settings.Playbook, st: st, clk: clk, pushing: map[int]bool{}, taken: newTaken(st)}
	r.chapters = archiver{incident: in.ID, clk: clk, chapters: &st.Chapters}
	r.call = &caller{
		incident: in.ID, prefix: "scope" + r.life(), passes: st.Passes, clk: clk,
		off: func(rule string) bool { return slices.Contains(in.Settings.Off, rule) }, rates: r.pb.RatesOf,
	}
	return r, nil
}

// before is the run that this one follows, "" for the first.
func (r *incident) before(ctx workflow.Context) string {
	if run := workflow.GetInfo(ctx).ContinuedExecutionRunID; run != "" {
		return run
	}
	if r.in.Reopened != nil {
		return r.in.Reopened.Run
	}
	return ""
}

// life tells the lives of a reopened incident apart in the names of journals: an
// outcome of the life before would otherwise stand for a call of this one.
func (r *incident) life() string {
	const enough = 8
	if r.in.Reopened == nil {
		return ""
	}
	run := r.in.Reopened.Run
	return "." + run[:min(len(run), enough)]
}

// turn does what can be done now and tells whether the incident is over.
func (r *incident) turn(ctx workflow.Context) (bool, error) {
	if len(r.st.Reports) == 0 {
		return false, nil
	}
	if err := r.triage(ctx); err != nil {
		return false, err
	}
	r.rereadDue(ctx)
	if r.st.Scoping {
		if err := r.scope(ctx); err != nil {
			return false, err
		}
		r.st.ScopedAt = r.clk.Now(ctx)
	}
	r.expire(ctx)
	if r.st.Replan {
		if err := r.replan(ctx); err != nil {
			return false, err
		}
	}
	if err := r.movePulled(ctx); err != nil {
		return false, err
	}
	if err := r.act(ctx); err != nil {
		return false, err
	}
	if err := r.watchDead(ctx); err != nil {
		return false, err
	}
	return r.settleUp(ctx)
}

// mayContinue tells whether the run should end now and can: the server asks for
// it, and nothing is half done.
func (r *incident) mayContinue(ctx workflow.Context) bool {
	return workflow.GetInfo(ctx).GetContinueAsNewSuggested() && r.quiet()
}

func (r *incident) quiet() bool {
	return r.clk.busy == 0 && !r.containing && !r.st.Scoping && !r.st.Replan && r.st.Triaged == len(r.st.Reports)
}

// again continues as new with everything that is known. Commands that were not
// delivered go on from the state; the wave drops one that it got twice.
func (r *incident) again(ctx workflow.Context) error {
	if err := workflow.Await(ctx, func() bool { return workflow.AllHandlersFinished(ctx) }); err != nil {
		return err
	}
	r.drainSignals(ctx)
	r.st.Now, r.st.ClockSeq, r.st.Passes = r.clk.Now(ctx), r.clk.seq, r.call.passes
	next := r.in
	next.State = r.st
	return workflow.NewContinueAsNewError(ctx, TypeIncident, next)
}

// drainSignals takes what arrived while the run was ending: a new run does not see
// it again.
func (r *incident) drainSignals(ctx workflow.Context) {
	r.drainReports(ctx)
	events := workflow.GetSignalChannel(ctx, SignalWave)
	for {
		var e WaveEvent
		if !events.ReceiveAsync(&e) {
			break
		}
		r.takeEvent(ctx, e)
	}
	records := workflow.GetSignalChannel(ctx, SignalRecord)
	for {
		var s RecordState
		if !records.ReceiveAsync(&s) {
			break
		}
		r.takeRecord(s)
	}
	notices := workflow.GetSignalChannel(ctx, SignalNotice)
	for {
		var e NoticeEvent
		if !notices.ReceiveAsync(&e) {
			break
		}
		r.takeNotice(ctx, e)
	}
	if r.set.Large > 0 {
		scopes := workflow.GetSignalChannel(ctx, SignalScope)
		for {
			var s ScopeSignal
			if !scopes.ReceiveAsync(&s) {
				break
			}
			r.takeScope(ctx, s)
		}
	}
	r.clk.drain(ctx)
}

// drain ends the incident, unless a report arrived at the last moment: then the
// next run takes it, as a reopening.
func (r *incident) drain(ctx workflow.Context) error {
	r.show(ctx)
	if err := r.chapters.done(ctx); err != nil {
		return err
	}
	if err := workflow.Await(ctx, func() bool { return workflow.AllHandlersFinished(ctx) }); err != nil {
		return err
	}
	if err := r.farewell(ctx); err != nil {
		return err
	}
	r.drainSignals(ctx)
	if r.st.Triaged == len(r.st.Reports) {
		return nil
	}
	late := r.st.Reports[r.st.Triaged:]
	next := IncidentInput{ID: r.in.ID, Settings: r.in.Settings, Reopened: &Reopened{Run: workflow.GetInfo(ctx).WorkflowExecution.RunID, Waves: r.st.NextWave - 1, Records: r.recordsView()}}
	next.State = newState(r.st.NextWave)
	next.State.Chapters, next.State.Taken, next.State.News = r.st.Chapters, r.st.Taken, len(late)
	next.State.Reports, next.State.Now, next.State.ClockSeq, next.State.Nonces = late, r.clk.Now(ctx), r.clk.seq, r.st.Nonces
	for _, rep := range late {
		if rep.Secret != "" && next.State.SecretSince.IsZero() {
			next.State.SecretSince = rep.Received
		}
	}
	if r.st.Bundle != nil {
		next.Reopened.Digest = r.st.Bundle.Digest
	}
	return workflow.NewContinueAsNewError(ctx, TypeIncident, next)
}

// enter sets the phase.
func (r *incident) enter(ctx workflow.Context, phase string) {
	if r.st.Phase == phase {
		return
	}
	r.st.Phase = phase
	r.stir = true
	record(ctx, r.clk.Now(ctx), event.Event{Type: event.EventPhase, Phase: phase})
	r.upsert(ctx)
}

// nextDue is when something expires next.
func (r *incident) nextDue() time.Time {
	var due time.Time
	soon := func(t time.Time) {
		if !t.IsZero() && (due.IsZero() || t.Before(due)) {
			due = t
		}
	}
	for _, a := range r.st.Approvals {
		if a.State == "open" {
			soon(a.Expires)
		}
	}
	for _, h := range r.st.Holds {
		if h.State == "open" {
			soon(h.Until)
		}
	}
	for _, v := range r.st.Views {
		if v.EndState == endAccepted && !r.st.Lapsed[v.FP] {
			soon(parseTime(v.Until))
		}
	}
	if !r.st.Forgotten && r.hasSecrets() {
		soon(r.secretsDue())
	}
	soon(r.st.RereadAt)
	return due
}

// secretsDue is when the sealed secrets of the incident are destroyed at the
// latest. A replacement's secret is no older than the incident.
func (r *incident) secretsDue() time.Time {
	since := r.st.SecretSince
	if since.IsZero() {
		since = r.st.Opened
	}
	return since.Add(secretLife)
}

// parseTime reads a time of a view; "" and what is none give the zero time.
func parseTime(s string) time.Time {
	t, err := time.Parse(canon.TimeLayout, s)
	if err != nil {
		return time.Time{}
	}
	return t
}

func (r *incident) waitingFor() string {
	for _, a := range r.st.Approvals {
		if a.State == "open" {
			return "votes: " + a.What
		}
	}
	for _, h := range r.st.Humans {
		if h.State == "open" {
			return "a person: " + h.What
		}
	}
	return "waves and evidence"
}

func (r *incident) hasSecrets() bool {
	for _, rep := range r.st.Reports {
		if rep.Secret != "" {
			return true
		}
	}
	for _, w := range r.st.Waves {
		if w.Wave.List != "" {
			return true // its rows may be replaced
		}
		for _, it := range w.Wave.Items {
			if it.Adopt {
				return true
			}
		}
	}
	return false
}

var errNoItem = errors.New("no such item in scope")
