package workflows

import (
	"fmt"
	"time"

	"go.temporal.io/sdk/workflow"

	"rekey/activities"
	"rekey/internal/canon"
	"rekey/internal/event"
	"rekey/internal/view"
	"rekey/playbooks"
)

// verdict is what a series of probes says.
type verdict string

const (
	provenDead  verdict = "dead"
	stillAlive  verdict = "alive"
	notProven   verdict = "unclear"
	interrupted verdict = "interrupted" // the item was ended by people
)

// lookAgain bounds how long unclear probes are repeated before a person is asked.
const lookAgain = 15 * time.Minute

// prove probes until the key is proven dead, or seen alive beyond the propagation
// of the last kill. It counts (design section 6): k refusals in a row, each round
// with its positive control, over at least the span, from as many vantage points
// as the playbook wants and the account has. An answer that is not clear counts
// neither way.
func (it *item) prove(ctx workflow.Context, mode string) (verdict, error) {
	w := it.w
	if w.off(OffProbeOld) {
		it.v.Death.State, it.v.Death.Grade = "dead", "A"
		return provenDead, nil
	}
	k := w.kind(it.ref.Key)
	prop := time.Duration(k.PropagationMs) * time.Millisecond
	need, span := max(w.pb.Verify.K, 1), max(w.pb.Verify.Span.Std(), 2*prop)
	pause := span
	if need > 1 {
		pause = span / time.Duration(need-1)
	}
	pause = max(pause, time.Second)
	vantages := it.vantages(mode)

	it.v.Death.State, it.v.Death.Refusals, it.v.Death.FirstRefused = "proving", 0, ""
	it.v.Death.Vantages = vantages
	it.publish(ctx)
	var first time.Time
	clear := w.clk.Now(ctx)
	for {
		if it.accepted != nil {
			return interrupted, nil
		}
		saw, at, err := it.round(ctx, mode, vantages)
		if err != nil {
			return notProven, err
		}
		now := w.clk.Now(ctx)
		switch saw {
		case activities.ProbeAlive:
			clear = now
			it.v.Death.LastAlive = canon.Time(at)
			it.v.Death.Refusals, it.v.Death.FirstRefused, first = 0, "", time.Time{}
			it.publish(ctx)
			if now.Sub(it.killed) >= 2*prop {
				it.v.Death.State = "alive"
				return stillAlive, nil
			}
		case activities.ProbeRefused:
			clear = now
			it.v.Death.Refusals++
			if first.IsZero() {
				first = at
				it.v.Death.FirstRefused = canon.Time(at)
			}
			it.publish(ctx)
			if it.v.Death.Refusals >= need && at.Sub(first) >= span {
				it.v.Death.State = "dead"
				it.v.Death.Grade = "A"
				if mode == activities.ProbeState {
					it.v.Death.Grade = "B"
				}
				it.publish(ctx)
				return provenDead, nil
			}
		default:
			if now.Sub(clear) >= lookAgain {
				it.v.Death.State = "unclear"
				return notProven, nil
			}
		}
		if err := w.clk.Sleep(ctx, pause, "next probe of "+it.v.Short); err != nil {
			return notProven, err
		}
	}
}

// round probes once from every vantage point. One that is let in makes the round
// alive; all must be refused, each with its control, to make it refused.
func (it *item) round(ctx workflow.Context, mode string, vantages []string) (string, time.Time, error) {
	refused, at := 0, it.w.clk.Now(ctx)
	for _, v := range vantages {
		a, err := it.w.call.once(ctx, activities.Probe, activities.Request{Ref: it.ref, Mode: mode, Vantage: v, Now: at})
		if err != nil {
			return activities.ProbeUnclear, at, err
		}
		if a.Failed() || a.Probe == nil {
			continue
		}
		switch {
		case a.Probe.Saw == activities.ProbeAlive, a.Probe.Saw == activities.ProbeMismatch:
			return activities.ProbeAlive, a.At, nil
		case a.Probe.Saw == activities.ProbeRefused && a.Probe.Control:
			refused++
			at = a.At
		}
	}
	if refused == len(vantages) {
		return activities.ProbeRefused, at, nil
	}
	return activities.ProbeUnclear, at, nil
}

// probeMode is how the old key is asked: by itself where its secret is sealed, by
// the provider's state otherwise.
func (it *item) probeMode() string {
	if it.ref.Secret != "" {
		return activities.ProbeAuth
	}
	return activities.ProbeState
}

// vantages are the places to ask from. The provider's state is the same from
// everywhere.
func (it *item) vantages(mode string) []string {
	k := it.w.kind(it.ref.Key)
	all := k.Vantages[it.ref.Key.Account]
	if mode == activities.ProbeState || len(all) == 0 {
		return []string{""}
	}
	return all[:min(len(all), max(it.w.pb.Verify.Vantage, 1))]
}

// resure is how often a Disable whose own answer was unclear is made again when
// the key turns out to be alive, before the ladder is climbed: the ladder is for
// keys that outlive their Disable.
const resure = 2

// kill proves the key dead, climbing the ladder while it is alive, and looks for
// what it left behind. Where nothing can be asked there is no proof, and the item
// ends by decision only (see [item.finish]).
func (it *item) kill(ctx workflow.Context) error {
	w := it.w
	if !it.provable() {
		it.v.Death.State = "human"
		it.publish(ctx)
		return nil
	}
	prop := time.Duration(w.kind(it.ref.Key).PropagationMs) * time.Millisecond
	if !w.off(OffProbeOld) && it.v.Death.State != "dead" {
		// What a watcher makes inside the propagation is there after it.
		if err := w.clk.Sleep(ctx, prop, "propagation of the kill"); err != nil {
			return err
		}
		if _, err := it.sweep(ctx); err != nil {
			return err
		}
	}
	for again := 0; ; {
		v, err := it.prove(ctx, it.deathMode())
		if err != nil || v == interrupted {
			return err
		}
		switch v {
		case provenDead:
			if it.v.Death.Rung == "" {
				it.v.Death.Rung = string(playbooks.RungKey)
			}
			record(ctx, w.clk.Now(ctx), event.Event{Type: event.EventProbe, FP: it.v.FP, Result: "dead", Attrs: map[string]string{
				"grade": it.v.Death.Grade, "refusals": itoa(it.v.Death.Refusals), "rung": it.v.Death.Rung, "first_refused": it.v.Death.FirstRefused,
			}})
			return it.settle(ctx)
		case stillAlive:
			record(ctx, w.clk.Now(ctx), event.Event{Type: event.EventProbe, FP: it.v.FP, Result: "alive", Attrs: map[string]string{"last_alive": it.v.Death.LastAlive, "rung": it.v.Death.Rung}})
			it.publish(ctx)
			if !it.sure && !it.revoked && again < resure {
				again++
				it.disabled = false
				if err := it.disable(ctx); err != nil || it.leaves() {
					return err
				}
				continue
			}
			if err := it.climb(ctx); err != nil || it.accepted != nil {
				return err
			}
		case notProven:
			it.publish(ctx)
			_, _, err := w.human(ctx, it, view.Human{
				What: fmt.Sprintf("probes of %s give no clear answer: mend the path to %s, then resolve", it.v.Short, it.ref.Key.Provider),
			}, w.clk.Now(ctx).Add(lookAgain))
			if err != nil || it.accepted != nil {
				return err
			}
		}
	}
}

// settle sweeps until two readings, further apart than twice the propagation, are
// equal.
func (it *item) settle(ctx workflow.Context) error {
	w := it.w
	if !w.pb.Verify.Sweep || !w.hasVerb(it, activities.Sweep) {
		return nil
	}
	gap := 2*time.Duration(w.kind(it.ref.Key).PropagationMs)*time.Millisecond + settleSpan
	last := ""
	for round := 0; ; round++ {
		digest, err := it.sweep(ctx)
		if err != nil {
			return err
		}
		if digest != "" && digest == last {
			return nil
		}
		if digest == "" && round >= 2 {
			return nil // nothing could be read: it is in unseen, and the scope says so
		}
		last = digest
		if ok, err := w.clk.Wait(ctx, w.clk.Now(ctx).Add(gap), "second sweep around "+it.v.Short, func() bool { return it.accepted != nil }); err != nil || ok {
			return err
		}
	}
}

// sweep reads the residue once and reports it.
func (it *item) sweep(ctx workflow.Context) (string, error) {
	w := it.w
	if !w.pb.Verify.Sweep || !w.hasVerb(it, activities.Sweep) {
		return "", nil
	}
	req := activities.Request{Ref: it.ref, Since: w.in.Opened, Now: w.clk.Now(ctx), Compromised: w.in.Compromised}
	for _, other := range w.items {
		if other.newKey != "" {
			req.Ours = append(req.Ours, other.newKey)
		}
	}
	// What cannot be read in time is said to be unseen: a sweep holds no kill up.
	limit := req.Now.Add(w.pb.Scope.Timeout.Std())
	a, err := w.call.until(ctx, activities.Sweep, req, nil, func() bool { return it.accepted != nil || !w.clk.Now(ctx).Before(limit) })
	if err != nil {
		return "", err
	}
	if a.Sweep == nil {
		w.emit(WaveEvent{Kind: waveFindings, FP: it.v.FP, Unseen: []activities.Unseen{{Source: "sweep", Why: a.Detail, Permission: a.Permission}}})
		return "", nil
	}
	if len(a.Sweep.Findings) > 0 || len(a.Sweep.Unseen) > 0 {
		w.emit(WaveEvent{Kind: waveFindings, FP: it.v.FP, Findings: a.Sweep.Findings, Unseen: a.Sweep.Unseen})
	}
	return a.Sweep.Digest, nil
}

func (w *wave) hasVerb(it *item, v activities.Verb) bool {
	info, ok := w.kind(it.ref.Key).Verbs[v]
	return ok && info.Support == activities.ByAPI
}

// confirm reads once more after the last kill: a proof that an earlier rung gave
// must hold now.
func (it *item) confirm(ctx workflow.Context) (bool, error) {
	if it.w.off(OffProbeOld) {
		return true, nil
	}
	mode := it.deathMode()
	saw, _, err := it.round(ctx, mode, it.vantages(mode))
	return saw != activities.ProbeAlive, err
}

// deathMode is how the death of the rung that killed the key shows: under ended
// sessions and a Deny authentication alone still answers, and a harmless action is
// refused.
func (it *item) deathMode() string {
	if it.rung > 0 && it.ref.Secret != "" && it.w.kind(it.ref.Key).ProbeAction {
		return activities.ProbeAction
	}
	return it.probeMode()
}
