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
	"fmt"
	"slices"
	"time"

	"go.temporal.io/sdk/workflow"

	"rekey/activities"
	"rekey/internal/canon"
	"rekey/internal/event"
	"rekey/internal/view"
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

	changed bool
	sent    map[int][]WaveCommand // commands not yet delivered, by wave
	pushing map[int]bool
	attrs   attributes
	closing bool
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
	workflow.Go(ctx, r.takeEvents)
	for n := range r.st.Waves {
		r.pump(ctx, r.st.Waves[n].Wave.N)
	}
	for {
		over, err := r.turn(ctx)
		if err != nil {
			return err
		}
		if over {
			return r.drain(ctx)
		}
		if workflow.GetInfo(ctx).GetContinueAsNewSuggested() && r.quiet() {
			return r.again(ctx)
		}
		r.changed = false
		r.show(ctx)
		if _, err := r.clk.Wait(ctx, r.nextDue(), r.waitingFor(), func() bool { return r.changed }); err != nil {
			return err
		}
	}
}

func newIncident(ctx workflow.Context, in IncidentInput) (*incident, error) {
	st := in.State
	from := time.Time{}
	if st == nil {
		st = &IncidentState{Phase: phasePreserve, State: stateOpen, NextWave: 1, Disabled: map[string]bool{}}
		if in.Reopened != nil {
			st.NextWave = in.Reopened.Waves + 1
		}
	} else {
		from = st.Now
	}
	clk, err := newClock(ctx, in.Settings.Virtual, from)
	if err != nil {
		return nil, err
	}
	r := &incident{
		in: in, set: &in.Settings, pb: &in.Settings.Playbook, st: st, clk: clk,
		sent: map[int][]WaveCommand{}, pushing: map[int]bool{},
	}
	r.call = &caller{incident: in.ID, prefix: "scope", clk: clk, off: func(rule string) bool { return slices.Contains(in.Settings.Off, rule) }}
	return r, nil
}

// turn does what can be done now and tells whether the incident is over.
func (r *incident) turn(ctx workflow.Context) (bool, error) {
	if len(r.st.Reports) == 0 {
		return false, nil
	}
	if err := r.triage(ctx); err != nil {
		return false, err
	}
	if r.st.Scoping {
		if err := r.scope(ctx); err != nil {
			return false, err
		}
	}
	r.expire(ctx)
	if err := r.act(ctx); err != nil {
		return false, err
	}
	return r.settleUp(ctx)
}

// triage looks at new reports: the first decides about contain on report, each
// asks for a new scope version.
func (r *incident) triage(ctx workflow.Context) error {
	for r.st.Triaged < len(r.st.Reports) {
		rep := r.st.Reports[r.st.Triaged]
		first := r.st.Triaged == 0
		r.st.Triaged++
		r.st.Scoping = true
		if first {
			r.st.Opened = rep.Received
			typ := event.EventOpened
			attrs := map[string]string{"playbook": r.pb.Name, "digest": r.set.Digest}
			if r.in.Reopened != nil {
				typ = event.EventReopened
				attrs["reopened_from"] = r.in.Reopened.Digest
				attrs["reopened_run"] = r.in.Reopened.Run
			}
			record(ctx, r.clk.Now(ctx), event.Event{Type: typ, Actor: rep.Actor, Attrs: attrs})
			if err := r.admit(ctx, rep); err != nil {
				return err
			}
		}
		if rep.Severity != "" {
			r.raise(ctx, rep.Severity)
		}
	}
	return nil
}

// admit judges the first report and, where every condition of design section 3
// holds, disables the reported key before its scope is known.
func (r *incident) admit(ctx workflow.Context, rep Report) error {
	res, err := engineCall[AdmitResult](ctx, r.clk, engine, ActivityAdmit, "may the key be disabled at once?", AdmitInput{
		Incident: r.in.ID, Report: rep, Playbook: *r.pb, Now: r.clk.Now(ctx),
	})
	if err != nil {
		return err
	}
	r.raise(ctx, res.Severity)
	r.st.Contain = &res.Contain
	attrs := map[string]string{}
	for _, c := range res.Contain.Conditions {
		attrs[c.ID] = fmt.Sprintf("%t: %s", c.Held, c.Why)
	}
	result := "proposed"
	if res.Contain.Allowed {
		result = "allowed"
	}
	record(ctx, r.clk.Now(ctx), event.Event{Type: event.EventContain, Actor: "policy:contain_on_report", FP: rep.Key.FP, Result: result, Attrs: attrs})
	if !res.Contain.Allowed {
		return nil
	}
	key := rep.Key
	if key.Principal == "" {
		key.Principal = res.Principal
	}
	a, err := r.call.until(ctx, activities.Disable, activities.Request{Ref: activities.Ref{Key: key, Secret: rep.Secret}}, nil, nil)
	if err != nil {
		return err
	}
	r.st.Contain.Outcome = string(a.Outcome)
	if a.Outcome.Reached() || a.Outcome == activities.DoneAsync {
		r.st.Disabled[key.FP] = true
	}
	return nil
}

// takeReports receives evidence. Reports are cheap: many become one new scope
// version.
func (r *incident) takeReports(ctx workflow.Context) {
	ch := workflow.GetSignalChannel(ctx, SignalReport)
	for {
		var rep Report
		if !ch.Receive(ctx, &rep) {
			return
		}
		r.addReport(ctx, rep)
	}
}

func (r *incident) addReport(ctx workflow.Context, rep Report) {
	for _, old := range r.st.Reports {
		if old.ID == rep.ID {
			return // sent twice
		}
	}
	if r.clk.virtual && r.clk.now.IsZero() {
		r.clk.now = rep.Received
	}
	if err := r.checkTrigger(rep); err != nil {
		r.refuse(ctx, rep.Statement.Statement, view.CodeForged, err.Error())
		if len(r.st.Reports) > 0 {
			return
		}
		// Nothing else is known: the report stands, but proposes only.
		rep.Ceiling = "propose"
	}
	r.st.Reports = append(r.st.Reports, rep)
	r.changed = true
	record(ctx, r.clk.Now(ctx), event.Event{
		Type: event.EventTrigger, Actor: rep.Actor, Auth: rep.Statement.Statement.Method, FP: rep.Key.FP,
		SourceTime: canon.Time(rep.Claimed),
		Attrs:      map[string]string{"report": rep.ID, "source": rep.Source, "source_kind": rep.SourceKind, "confidence": rep.Confidence},
	})
}

// again continues as new with everything that is known.
func (r *incident) again(ctx workflow.Context) error {
	if err := workflow.Await(ctx, func() bool { return workflow.AllHandlersFinished(ctx) }); err != nil {
		return err
	}
	r.drainSignals(ctx)
	r.st.Now = r.clk.Now(ctx)
	next := r.in
	next.State = r.st
	return workflow.NewContinueAsNewError(ctx, TypeIncident, next)
}

// quiet tells whether nothing is half done: only then may a run end.
func (r *incident) quiet() bool {
	return r.clk.busy == 0 && !r.st.Scoping && r.st.Triaged == len(r.st.Reports)
}

// drainSignals takes what arrived while the run was ending: a new run does not see
// it again.
func (r *incident) drainSignals(ctx workflow.Context) {
	reports := workflow.GetSignalChannel(ctx, SignalReport)
	for {
		var rep Report
		if !reports.ReceiveAsync(&rep) {
			break
		}
		r.addReport(ctx, rep)
	}
	events := workflow.GetSignalChannel(ctx, SignalWave)
	for {
		var e WaveEvent
		if !events.ReceiveAsync(&e) {
			return
		}
		r.takeEvent(ctx, e)
	}
}

// drain ends the incident, unless a report arrived at the last moment: then the
// next run takes it.
func (r *incident) drain(ctx workflow.Context) error {
	r.show(ctx)
	if err := workflow.Await(ctx, func() bool { return workflow.AllHandlersFinished(ctx) }); err != nil {
		return err
	}
	before := len(r.st.Reports)
	r.drainSignals(ctx)
	if len(r.st.Reports) > before {
		late := r.st.Reports[before:]
		next := IncidentInput{ID: r.in.ID, Settings: r.in.Settings, Reopened: &Reopened{Run: workflow.GetInfo(ctx).WorkflowExecution.RunID, Waves: r.st.NextWave - 1}}
		next.State = &IncidentState{Phase: phasePreserve, State: stateOpen, NextWave: r.st.NextWave, Disabled: map[string]bool{}, Reports: late, Now: r.clk.Now(ctx)}
		if r.st.Bundle != nil {
			next.Reopened.Digest = r.st.Bundle.Digest
		}
		return workflow.NewContinueAsNewError(ctx, TypeIncident, next)
	}
	return nil
}

// raise sets a severity that is not lower than the one there is.
func (r *incident) raise(ctx workflow.Context, level string) {
	rank := func(l string) int {
		i := slices.Index(playbooks.Levels(), playbooks.Level(l))
		if i < 0 {
			return len(playbooks.Levels())
		}
		return i
	}
	if rank(level) < rank(r.st.Severity) {
		r.st.Severity = level
		r.upsert(ctx)
	}
}

// enter sets the phase.
func (r *incident) enter(ctx workflow.Context, phase string) {
	if r.st.Phase == phase {
		return
	}
	r.st.Phase = phase
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
	if !r.st.Forgotten && r.hasSecrets() {
		soon(r.st.Opened.Add(secretLife))
	}
	return due
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
		for _, it := range w.Wave.Items {
			if it.Adopt {
				return true
			}
		}
	}
	return false
}

var errNoItem = errors.New("no such item in scope")
