package workflows

import (
	"slices"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"rekey/internal/canon"
	"rekey/internal/event"
	"rekey/internal/view"
)

// openItems are the items without a proven end state, by fingerprint.
func (r *incident) openItems() []string {
	var out []string
	for _, s := range r.st.Items {
		if r.viewOf(s.Key.FP).EndState == "" {
			out = append(out, s.Key.FP)
		}
	}
	return out
}

// dangling are what keeps a contained incident from all-clear.
func (r *incident) dangling() int {
	n := 0
	for _, s := range r.st.Items {
		v := r.viewOf(s.Key.FP)
		switch v.EndState {
		case endAccepted, endCustomer:
			if !r.st.FalseAlarm {
				n++
			}
		case endRevoked, endExpired:
			if v.Adoption.State != "not-wanted" && v.Adoption.State != "adopted" && v.Adoption.State != "waived" {
				n++
			}
		}
	}
	for _, h := range r.st.Humans {
		if h.State == "open" {
			n++
		}
	}
	return n
}

// settleUp does the balance: it closes as contained when every item is in an end
// state, as all-clear when nothing is open besides, and tells whether the incident
// is over.
func (r *incident) settleUp(ctx workflow.Context) (bool, error) {
	now := r.clk.Now(ctx)
	if !r.st.Forgotten && r.hasSecrets() && !now.Before(r.st.Opened.Add(secretLife)) {
		if err := r.forget(ctx, "72 h have passed"); err != nil {
			return false, err
		}
	}
	if r.st.Scoping || r.st.Triaged < len(r.st.Reports) || r.st.ScopeVersion == 0 || len(r.openItems()) > 0 {
		r.setState(ctx)
		return false, nil
	}
	if r.st.Contained.IsZero() {
		r.st.Contained = now
		if err := r.wrapUp(ctx, r.dangling() == 0 && r.wavesEnded()); err != nil {
			return false, err
		}
	}
	if r.dangling() > 0 || !r.wavesEnded() {
		r.setState(ctx)
		return false, nil
	}
	if r.st.Closed.IsZero() {
		if err := r.allClear(ctx); err != nil {
			return false, err
		}
	}
	return true, nil
}

func (r *incident) wavesEnded() bool {
	return !slices.ContainsFunc(r.st.Waves, func(w WaveRun) bool { return w.State != "ended" })
}

// wrapUp is the way from the last proven end to the first sealed bundle.
func (r *incident) wrapUp(ctx workflow.Context, clear bool) error {
	r.enter(ctx, phaseClose)
	if err := r.forget(ctx, "every item is in an end state"); err != nil {
		return err
	}
	if clear {
		return nil // all-clear seals
	}
	r.st.State = stateContained
	record(ctx, r.clk.Now(ctx), event.Event{Type: event.EventClosed, Result: stateContained, Attrs: r.balance()})
	r.upsert(ctx)
	if err := r.startWatch(ctx); err != nil {
		return err
	}
	return r.seal(ctx, false)
}

// allClear closes the incident for good.
func (r *incident) allClear(ctx workflow.Context) error {
	r.st.Closed = r.clk.Now(ctx)
	r.st.State = stateAllClear
	record(ctx, r.st.Closed, event.Event{Type: event.EventClosed, Result: stateAllClear, Attrs: r.balance()})
	r.upsert(ctx)
	if err := r.startWatch(ctx); err != nil {
		return err
	}
	return r.seal(ctx, true)
}

// balance is the zero balance in numbers: items in scope = items in an end state.
func (r *incident) balance() map[string]string {
	out := map[string]string{"items": itoa(len(r.st.Items)), "open": itoa(len(r.openItems()))}
	for _, end := range []string{endRevoked, endExpired, endNever, endAccepted, endCustomer} {
		n := 0
		for _, s := range r.st.Items {
			if r.viewOf(s.Key.FP).EndState == end {
				n++
			}
		}
		if n > 0 {
			out[end] = itoa(n)
		}
	}
	return out
}

// forget destroys the sealed secrets of the incident.
func (r *incident) forget(ctx workflow.Context, why string) error {
	if r.st.Forgotten || !r.hasSecrets() {
		return nil
	}
	if _, err := engineCall[struct{}](ctx, r.clk, engine, ActivityForget, "destroy the sealed secrets", ForgetInput{Incident: r.in.ID}); err != nil {
		return err
	}
	r.st.Forgotten = true
	for _, w := range r.st.Waves {
		if w.State == "running" {
			r.command(ctx, w.Wave.N, WaveCommand{Kind: cmdForget, FPs: itemFPs(w.Wave)})
		}
	}
	record(ctx, r.clk.Now(ctx), event.Event{Type: event.EventSecretGone, Result: why})
	return nil
}

// startWatch starts the watch on the dead keys, once.
func (r *incident) startWatch(ctx workflow.Context) error {
	window := r.pb.Watch.For.Std()
	if !r.st.WatchUntil.IsZero() || window <= 0 {
		return nil
	}
	defer r.clk.working()()
	now := r.clk.Now(ctx)
	in := WatchInput{Incident: r.in.ID, Settings: r.in.Settings, Since: now, Until: now.Add(window), Now: now}
	for _, s := range r.st.Items {
		if v := r.viewOf(s.Key.FP); v.EndState == endRevoked || v.EndState == endExpired {
			in.Keys = append(in.Keys, s.Key)
		}
	}
	for _, w := range r.st.Waves {
		in.Workflows = append(in.Workflows, WaveID(r.in.ID, w.Wave.N))
	}
	if len(in.Keys) == 0 {
		return nil
	}
	child := workflow.ExecuteChildWorkflow(workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{
		WorkflowID:            WatchID(r.in.ID),
		ParentClosePolicy:     enums.PARENT_CLOSE_POLICY_ABANDON,
		StaticSummary:         "use of a dead key raises an alarm",
		TypedSearchAttributes: temporal.NewSearchAttributes(AttrIncident.ValueSet(r.in.ID)),
	}), TypeWatch, in)
	var exec workflow.Execution
	if err := child.GetChildWorkflowExecution().Get(ctx, &exec); err != nil && !temporal.IsWorkflowExecutionAlreadyStartedError(err) {
		return err
	}
	r.st.WatchUntil = in.Until
	return nil
}

// seal writes the bundle of what happened so far.
func (r *incident) seal(ctx workflow.Context, final bool) error {
	r.enter(ctx, phaseSeal)
	ids := []string{IncidentID(r.in.ID)}
	for _, w := range r.st.Waves {
		ids = append(ids, WaveID(r.in.ID, w.Wave.N))
	}
	if !r.st.WatchUntil.IsZero() {
		ids = append(ids, WatchID(r.in.ID))
	}
	now := r.clk.Now(ctx)
	res, err := engineCall[SealResult](ctx, r.clk, seal, ActivitySeal, "seal the bundle", SealInput{
		Incident: r.in.ID, View: r.view(workflow.GetInfo(ctx)), Final: final, Workflows: ids, Plans: r.st.Plans, Evidence: r.st.Evidence, Now: now,
	})
	if err != nil {
		return err
	}
	r.st.Sealed = now
	r.st.Bundle = &view.Bundle{Path: res.Path, Digest: res.Digest, Final: final}
	record(ctx, r.clk.Now(ctx), event.Event{Type: event.EventSealed, Result: res.Digest, Attrs: map[string]string{"events": itoa(int(res.Events)), "at": canon.Time(now)}})
	if !r.st.WatchUntil.IsZero() {
		r.enter(ctx, phaseWatch)
	}
	return nil
}

// setState tells open from waiting.
func (r *incident) setState(ctx workflow.Context) {
	if !r.st.Contained.IsZero() {
		return
	}
	state := stateOpen
	for _, a := range r.st.Approvals {
		if a.State == "open" {
			state = stateWaiting
		}
	}
	for _, h := range r.st.Humans {
		if h.State == "open" {
			state = stateWaiting
		}
	}
	if state != r.st.State {
		r.st.State = state
		r.upsert(ctx)
	}
}
