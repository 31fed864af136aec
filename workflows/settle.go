package workflows

import (
	"fmt"
	"slices"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"rekey/activities"
	"rekey/internal/canon"
	"rekey/internal/event"
	"rekey/internal/view"
)

// openItems are the items without a proven end state, by fingerprint.
func (r *incident) openItems() []string {
	var out []string
	for _, s := range r.st.Items {
		if r.peek(s.Key.FP).EndState == "" {
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
			if !r.falseAlarm() {
				n++
			}
		case endRevoked, endExpired:
			if v.Adoption.State != "not-wanted" && v.Adoption.State != "adopted" && v.Adoption.State != "waived" {
				n++
			}
		}
	}
	if ends := r.massEnds(); !r.falseAlarm() {
		n += ends[endAccepted] + ends[endCustomer]
	}
	for _, h := range r.st.Humans {
		if h.State == "open" {
			n++
		}
	}
	for _, run := range r.st.Notices {
		if run.State == waveRunning {
			n++
		}
	}
	return n
}

// falseAlarm tells whether people said that nothing of this was real: then no item
// was killed, and an accepted risk is none (design section 3).
func (r *incident) falseAlarm() bool {
	//workflowcheck:ignore
	for end, n := range r.massEnds() { // any
		if n > 0 && end != endNever && end != endAccepted {
			return false
		}
	}
	return r.st.FalseAlarm && !slices.ContainsFunc(r.st.Items, func(s Scoped) bool {
		end := r.peek(s.Key.FP).EndState
		return end != endNever && end != endAccepted
	})
}

// settleUp does the balance: it closes as contained when every item is in an end
// state, as all-clear when nothing is open besides, and tells whether the incident
// is over.
func (r *incident) settleUp(ctx workflow.Context) (bool, error) {
	if !r.st.Forgotten && r.hasSecrets() && !r.clk.Now(ctx).Before(r.secretsDue()) {
		if err := r.forget(ctx, "72 h have passed"); err != nil {
			return false, err
		}
	}
	if r.unsettled() {
		if r.openCount() > 0 {
			r.st.Contained = time.Time{} // a later finding takes it back
		}
		if r.st.Contained.IsZero() {
			r.setState(ctx)
		}
		return false, nil
	}
	if r.st.Contained.IsZero() {
		r.st.Contained = r.clk.Now(ctx)
		if err := r.wrapUp(ctx, r.dangling() == 0 && r.wavesEnded()); err != nil {
			return false, err
		}
	}
	if r.unsettled() {
		return false, nil // something came while the bundle was sealed
	}
	switch {
	case r.dangling() == 0 && r.wavesEnded():
		if err := r.finish(ctx, stateAllClear); err != nil {
			return false, err
		}
	case r.st.Closing && r.closable():
		if err := r.finish(ctx, stateContained); err != nil {
			return false, err
		}
	default:
		return false, nil
	}
	return true, nil
}

// unsettled tells whether an item is not in an end state, or evidence may bring
// another one.
func (r *incident) unsettled() bool {
	return r.st.Scoping || !r.st.RereadAt.IsZero() || r.st.Replan || r.st.Triaged < len(r.st.Reports) || r.st.ScopeVersion == 0 || r.openCount() > 0
}

// closable tells whether a person may close what is contained: only accepted
// risks and what customers must do are open, each with an owner.
func (r *incident) closable() bool {
	open := slices.ContainsFunc(r.st.Humans, func(h view.Human) bool { return h.State == "open" })
	return r.openCount() == 0 && r.wavesEnded() && !open
}

func (r *incident) wavesEnded() bool {
	return !slices.ContainsFunc(r.st.Waves, func(w WaveRun) bool { return w.State != waveOver })
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
	if err := r.watch(ctx); err != nil {
		return err
	}
	return r.seal(ctx, false)
}

// finish closes the incident for good and seals its bundle.
func (r *incident) finish(ctx workflow.Context, state string) error {
	r.st.Closed = r.clk.Now(ctx)
	r.st.State = state
	record(ctx, r.st.Closed, event.Event{Type: event.EventClosed, Result: state, Attrs: r.balance()})
	r.upsert(ctx)
	if err := r.watch(ctx); err != nil {
		return err
	}
	return r.seal(ctx, true)
}

// balance is the zero balance in numbers: items in scope = items in an end state.
func (r *incident) balance() map[string]string {
	out := map[string]string{"items": itoa(r.size()), "open": itoa(r.openCount())}
	rows := r.massEnds()
	for _, end := range []string{endRevoked, endExpired, endNever, endAccepted, endCustomer} {
		n := rows[end]
		for _, s := range r.st.Items {
			if r.peek(s.Key.FP).EndState == end {
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
	r.st.Forgotten, r.st.SecretSince = true, time.Time{}
	for i := range r.st.Items {
		r.st.Items[i].Secret = "" // the handle leads nowhere any more
	}
	for i := range r.st.Reports {
		r.st.Reports[i].Secret = ""
	}
	for _, w := range r.st.Waves {
		if w.State == waveRunning {
			r.command(ctx, w.Wave.N, WaveCommand{Kind: cmdForget, FPs: itemFPs(w.Wave), All: w.Wave.List != ""})
		}
	}
	record(ctx, r.clk.Now(ctx), event.Event{Type: event.EventSecretGone, Result: why})
	return nil
}

// watchDead has a key watched from its own end on: what uses it then raises an
// alarm while other items are still on their way.
func (r *incident) watchDead(ctx workflow.Context) error {
	n := 0
	for _, s := range r.st.Items {
		if v := r.peek(s.Key.FP); v.EndState == endRevoked || v.EndState == endExpired {
			n++
		}
	}
	if n <= r.st.Watched {
		return nil
	}
	r.st.Watched = n
	return r.watch(ctx)
}

// watch has the dead keys watched. Where an earlier life of the incident, or an
// earlier end, has started the watch, it is told of the keys that came since.
func (r *incident) watch(ctx workflow.Context) error {
	window := r.pb.Watch.For.Std()
	if window <= 0 {
		return nil
	}
	defer r.clk.working()()
	now := r.clk.Now(ctx)
	in := WatchInput{Incident: r.in.ID, Settings: r.in.Settings, Since: now, Until: now.Add(window), Now: now, Dead: map[string]time.Time{}, Chapters: r.st.Chapters}
	for _, s := range r.st.Items {
		if v := r.viewOf(s.Key.FP); v.EndState == endRevoked || v.EndState == endExpired {
			in.Keys = append(in.Keys, s.Key)
			in.Dead[s.Key.FP] = now
			// From the first refusal on, no use may succeed.
			if dead := parseTime(v.Death.FirstRefused); !dead.IsZero() {
				in.Dead[s.Key.FP] = dead
			}
		}
	}
	for _, w := range r.st.Waves {
		in.Workflows = append(in.Workflows, WaveID(r.in.ID, w.Wave.N))
	}
	in.Workflows = append(in.Workflows, r.noticesIDs()...)
	if n := r.rows(); n > 0 {
		r.unseen(activities.Unseen{Source: "watch", Why: fmt.Sprintf("the use of %d dead keys that are rows of pages is not watched for afterwards: only the items that are shown one by one are", n)})
	}
	if len(in.Keys) == 0 {
		return nil
	}
	in.Workflows = append(in.Workflows, r.recordIDs()...)
	for n := 1; ; n++ {
		if r.st.WatchUntil.IsZero() {
			err := r.child(ctx, WatchID(r.in.ID), "use of a dead key raises an alarm", TypeWatch, in)
			if err == nil {
				r.st.WatchUntil = in.Until
				return nil
			}
			if !temporal.IsWorkflowExecutionAlreadyStartedError(err) {
				return err
			}
		}
		more := WatchMore{Keys: in.Keys, Dead: in.Dead, Workflows: in.Workflows, Until: in.Until}
		if err := workflow.SignalExternalWorkflow(ctx, WatchID(r.in.ID), "", SignalMore, more).Get(ctx, nil); err == nil {
			r.st.WatchUntil = in.Until
			return nil
		} else if temporal.IsCanceledError(err) {
			return err
		}
		// It has ended in between: start a new one.
		r.st.WatchUntil = time.Time{}
		if err := workflow.Sleep(ctx, backoff(n)); err != nil {
			return err
		}
	}
}

// seal writes the bundle of what happened so far.
func (r *incident) seal(ctx workflow.Context, final bool) error {
	r.enter(ctx, phaseSeal)
	ids := []string{IncidentID(r.in.ID)}
	for _, w := range r.st.Waves {
		ids = append(ids, WaveID(r.in.ID, w.Wave.N))
	}
	ids = append(ids, r.noticesIDs()...)
	if !r.st.WatchUntil.IsZero() {
		ids = append(ids, WatchID(r.in.ID))
	}
	ids = append(ids, r.recordIDs()...)
	var lists []string
	if m := r.st.Mass; m != nil {
		for _, p := range m.Parts {
			ids = append(ids, ScopeID(r.in.ID, p.Scope))
		}
		for _, l := range r.massLists().Lists {
			lists = append(lists, l.List)
		}
	}
	if err := r.chapters.settle(ctx); err != nil {
		return err
	}
	now := r.clk.Now(ctx)
	res, err := engineCall[SealResult](ctx, r.clk, seal, ActivitySeal, "seal the bundle", SealInput{
		Incident: r.in.ID, View: r.view(workflow.GetInfo(ctx)), Final: final, Workflows: ids, Plans: r.st.Plans, Evidence: r.st.Evidence, Now: now,
		Chapters: r.st.Chapters, Lists: lists,
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
