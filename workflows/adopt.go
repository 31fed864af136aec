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

// cutoverPolls are the waits between two looks at who uses the new key. They grow:
// a wait of three days costs some eighty looks, not thousands.
var cutoverPolls = []time.Duration{time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 15 * time.Minute, 30 * time.Minute, time.Hour}

// hourlyLooks is after how many looks an adoption that nobody hurries is looked at
// once a day, so that a wave's history stays small.
const hourlyLooks = 80

// newKeyLag bounds how long a new key may need before it works: vendors say
// seconds, users have seen fifteen.
const newKeyLag = 5 * time.Minute

// issue makes the replacement. Where the principal has no free slot the dead key
// gives its own: Revoke comes earlier, with its own votes.
func (it *item) issue(ctx workflow.Context) error {
	w := it.w
	if it.newKey != "" {
		return nil
	}
	if it.aboveSessions() {
		// Under a Deny the new key of the same principal would be refused too.
		return it.replaceByHand(ctx, view.Human{
			What: fmt.Sprintf("%s was killed at rung %s, which refuses any new key of its principal: make a key on a new principal, or lift the Deny by a vote after Revoke; then resolve --as adopted", it.v.Short, it.v.Death.Rung),
		})
	}
	if !w.hasVerb(it, activities.Issue) {
		return it.replaceByHand(ctx, view.Human{What: "make the replacement of " + it.v.Short + " by hand, then resolve", Steps: w.kind(it.ref.Key).Verbs[activities.Issue].Steps})
	}
	handle := "new/" + it.v.Short + w.in.Life
	req := activities.Request{Ref: it.ref, Handle: handle, Now: w.clk.Now(ctx)}
	for {
		a, err := it.must(ctx, activities.Issue, req)
		if err != nil {
			return err
		}
		if a.Issue != nil && a.Outcome.Reached() {
			it.newKey, it.handle = a.Issue.New.ID, a.Issue.Handle
			it.v.Adoption.State, it.v.Adoption.NewKeyID = "issued", it.newKey
			it.publish(ctx)
			return nil
		}
		if it.leaves() || a.Detail != activities.SlotNeeded {
			return nil // ended, cut first, or a person took it over
		}
		if it.v.Death.State != "dead" {
			_, ok, err := w.human(ctx, it, view.Human{
				What: "no free slot for the replacement of " + it.v.Short + ": free one at its principal, then resolve",
			}, time.Time{})
			if err != nil || !ok {
				return err // ended, or the cut-off fired: the old key dies all the same
			}
			continue
		}
		before := it.revoked
		if err := it.revoke(ctx); err != nil || it.leaves() {
			return err
		}
		if before || !it.revoked {
			// The slot is taken by something else: never delete what we did not make.
			_, ok, err := w.human(ctx, it, view.Human{
				What: "another key holds the last slot of the principal of " + it.v.Short + ": free it, then resolve",
			}, time.Time{})
			if err != nil || !ok {
				return err
			}
		}
	}
}

// replaceByHand has a person make the replacement. What they say of its adoption
// counts.
func (it *item) replaceByHand(ctx workflow.Context, h view.Human) error {
	cmd, ok, err := it.w.human(ctx, it, h, time.Time{})
	if err != nil || !ok {
		return err
	}
	it.attest(ctx, cmd)
	return nil
}

// attest takes a person's word about the replacement.
func (it *item) attest(ctx workflow.Context, cmd WaveCommand) {
	switch cmd.As {
	case "adopted":
		it.adopted(ctx, "attested by "+cmd.Actor)
	case "waived":
		it.v.Adoption.State = "waived"
		record(ctx, it.w.clk.Now(ctx), event.Event{Type: event.EventAdopted, Actor: cmd.Actor, FP: it.v.FP, Result: "waived", Attrs: map[string]string{"why": cmd.Text}})
		it.publish(ctx)
	}
}

// distribute puts the replacement into every store of the plan.
func (it *item) distribute(ctx workflow.Context) error {
	w := it.w
	if it.newKey == "" || !it.placed.IsZero() {
		return nil
	}
	if it.handle == "" {
		return it.replaceByHand(ctx, view.Human{
			What: fmt.Sprintf("the sealed secret of the new key %s was destroyed before it could be handed over: destroy that key, make another by hand, then resolve", it.newKey),
		})
	}
	if len(it.plan.Stores) == 0 || !w.hasVerb(it, activities.Distribute) {
		_, ok, err := w.human(ctx, it, view.Human{What: fmt.Sprintf("hand the new key %s over: no store is named for it (read it once through rekey's sealed store), then resolve", it.newKey)}, time.Time{})
		if ok {
			it.distributed(ctx)
		}
		return err
	}
	it.v.Adoption.Receipts = 0
	for _, s := range it.plan.Stores {
		a, err := it.must(ctx, activities.Distribute, activities.Request{Ref: it.ref, Handle: it.handle, NewKeyID: it.newKey, Target: s.Target, Name: s.Name})
		if err != nil || it.leaves() {
			return err
		}
		if a.Outcome.Reached() {
			it.v.Adoption.Receipts++
		}
	}
	it.distributed(ctx)
	return nil
}

// distributed notes that the replacement is where its dependents read it.
func (it *item) distributed(ctx workflow.Context) {
	it.placed = it.w.clk.Now(ctx)
	it.v.Adoption.State = "distributed"
	it.publish(ctx)
}

// probeNew proves that the replacement works.
func (it *item) probeNew(ctx workflow.Context) error {
	w := it.w
	if it.newKey == "" || it.handle == "" || !it.provable() {
		return nil
	}
	for began := w.clk.Now(ctx); ; {
		a, err := w.call.once(ctx, activities.Probe, activities.Request{Ref: it.ref, Mode: activities.ProbeAuth, Handle: it.handle, NewKeyID: it.newKey, Vantage: it.vantages(activities.ProbeAuth)[0]})
		if err != nil || it.accepted != nil {
			return err
		}
		if a.Probe != nil && a.Probe.Saw == activities.ProbeAlive {
			return nil
		}
		if it.handle == "" {
			return nil // destroyed meanwhile: the use by dependents is the proof
		}
		if w.clk.Now(ctx).Sub(began) >= newKeyLag {
			_, _, err := w.human(ctx, it, view.Human{What: fmt.Sprintf("the new key %s does not work after %s: look at it before the old one is destroyed, then resolve", it.newKey, newKeyLag)}, time.Time{})
			if err != nil || it.leaves() {
				return err
			}
			began = w.clk.Now(ctx)
		}
		if err := w.clk.Sleep(ctx, 5*time.Second, "new key of "+it.v.Short+" is not usable yet"); err != nil {
			return err
		}
	}
}

// notice is the warn-before-cut gate. Where channels reach somebody, see
// [item.warned]; elsewhere a person sends the text and resolves the step, or the
// cut-off of the strategy overrides it, on record.
func (it *item) notice(ctx workflow.Context) error {
	w := it.w
	gated := false
	for _, n := range w.pb.Notices {
		gated = gated || n.Gate == playbooks.GateWarnBeforeCut
	}
	if !gated || it.turned || it.turning() {
		return nil // nothing to wait for, or too late to warn
	}
	if len(w.noticer.of(it, true)) > 0 {
		return it.warned(ctx)
	}
	until := it.cutoff(ctx)
	text := it.noticeText(until)
	record(ctx, w.clk.Now(ctx), event.Event{Type: event.EventNotice, FP: it.v.FP, Attrs: map[string]string{"gate": playbooks.GateWarnBeforeCut, "cutoff": canon.Time(until)}})
	cmd, ok, err := w.human(ctx, it, view.Human{What: "send the notice to the owner of " + it.v.Short + " before it is cut, then resolve", Text: text}, until)
	if err != nil || it.accepted != nil {
		return err
	}
	how := it.opened()
	if ok {
		how = "notice sent, says " + cmd.Actor
	}
	record(ctx, w.clk.Now(ctx), event.Event{Type: event.EventGate, FP: it.v.FP, Result: how, Attrs: map[string]string{"gate": playbooks.GateWarnBeforeCut}})
	return nil
}

func (it *item) noticeText(cutoff time.Time) string {
	s := fmt.Sprintf("A key that you use has leaked and is being replaced.\n\nKey: %s (%s, account %s)\n", it.ref.Key.ID, it.ref.Key.Provider, it.ref.Key.Account)
	if it.newKey != "" {
		s += fmt.Sprintf("Replacement: %s, already in the store where you read it.\n", it.newKey)
	}
	for _, st := range it.plan.Stores {
		s += fmt.Sprintf("Store: %s %s\n", st.Target, st.Name)
	}
	s += fmt.Sprintf("\nWhat you must do: switch to the replacement before %s. After that the old key is refused.\n", canon.Time(cutoff))
	return s + "Incident: " + it.w.in.Incident + "\n"
}

// cutoff is when the old key dies whoever still uses it. It is fixed the first
// time it is asked for.
func (it *item) cutoff(ctx workflow.Context) time.Time {
	if it.cut.IsZero() {
		it.cut = it.w.clk.Now(ctx).Add(it.w.pb.Strategy(it.w.in.Wave.Strategy).Cutoff.Std())
	}
	return it.cut
}

// waitCutover waits until every dependent is seen on the new key, or for the
// cut-off, or until abuse promotes the item.
func (it *item) waitCutover(ctx workflow.Context) error {
	until := it.cutoff(ctx)
	it.wait(ctx, "dependents move to the new key", it.owner(), until)
	defer it.going(ctx)
	over, err := it.watchCutover(ctx, until)
	if err != nil || it.accepted != nil {
		return err
	}
	if !over {
		it.gate(ctx)
		return nil
	}
	return it.contracts(ctx)
}

// opened says what lets the old key be cut without a proof.
func (it *item) opened() string {
	switch {
	case it.turning():
		return "promoted to revoke-now"
	case it.override:
		return "cut-off override"
	}
	return "cut-off reached"
}

// gate puts on record, once, why the old key is cut without a proof of cut-over.
func (it *item) gate(ctx workflow.Context) {
	if it.gated {
		return
	}
	it.gated = true
	record(ctx, it.w.clk.Now(ctx), event.Event{Type: event.EventGate, FP: it.v.FP, Result: it.opened(), Attrs: map[string]string{
		"gate": "cut-over", "cut_over": itoa(it.v.Adoption.CutOver), "dependents": itoa(it.v.Adoption.Dependents),
	}})
}

// beforeCut tells whether a step is one that the cut-off bounds: what is not done
// by then, a replacement included, does not keep the old key alive (contracts
// section 6).
func beforeCut(name playbooks.StrategyName, s playbooks.Step) bool {
	if name != playbooks.ReissueFirst {
		return false
	}
	switch s {
	case playbooks.StepIssue, playbooks.StepDistribute, playbooks.StepProbeNew, playbooks.StepNotice, playbooks.StepWaitCutover:
		return true
	}
	return false
}

// armCutoff lets the cut-off fire whatever the item waits for then.
func (it *item) armCutoff(ctx workflow.Context) {
	if it.armed {
		return
	}
	it.armed = true
	until := it.cutoff(ctx)
	workflow.Go(ctx, func(ctx workflow.Context) {
		over, err := it.w.clk.Wait(ctx, until, "cut-off of "+it.v.Short, func() bool { return !it.precut })
		if err == nil && !over {
			it.cutNow = true
		}
	})
}

// watchCutover looks at who uses the new key until all dependents do.
func (it *item) watchCutover(ctx workflow.Context, until time.Time) (bool, error) {
	w := it.w
	for n := 0; ; n++ {
		if it.v.Adoption.State == "adopted" || it.v.Adoption.State == "waived" {
			return true, nil
		}
		over, err := it.cutover(ctx)
		if err != nil || over {
			return over, err
		}
		at := w.clk.Now(ctx).Add(cutoverPolls[min(n, len(cutoverPolls)-1)])
		if !until.IsZero() && at.After(until) {
			at = until
		}
		stop, err := w.clk.Wait(ctx, at, "cut-over of "+it.v.Short, func() bool { return it.leaves() || it.attested })
		if err != nil {
			return false, err
		}
		if it.attested {
			it.adopted(ctx, "attested")
			return true, nil
		}
		if stop || (!until.IsZero() && !w.clk.Now(ctx).Before(until)) {
			return false, nil
		}
	}
}

// cutover reads the uses of the new key since it was distributed and counts the
// dependents among them. Uses carry no names: one dependent is proven by any use
// that is not ours, n dependents by n different callers.
func (it *item) cutover(ctx workflow.Context) (bool, error) {
	w := it.w
	want := len(it.plan.Dependents)
	if it.newKey == "" {
		return false, nil // made by hand, or not yet: only a person knows
	}
	if want == 0 {
		it.adopted(ctx, "no dependents")
		return true, nil
	}
	if !w.hasVerb(it, activities.Inspect) {
		return false, nil
	}
	ref := it.ref
	ref.Key.ID, ref.Secret = it.newKey, ""
	a, err := w.call.once(ctx, activities.Inspect, activities.Request{Ref: ref, Since: it.placed, Now: w.clk.Now(ctx)})
	if err != nil || a.Inspect == nil {
		return false, err
	}
	callers := map[string]bool{}
	for _, u := range a.Inspect.Uses {
		if u.Last.After(it.placed) && u.Count > u.Refused {
			callers[u.Source+" "+u.Agent] = true
		}
	}
	seen := min(len(callers), want)
	if seen != it.v.Adoption.CutOver {
		it.v.Adoption.CutOver = seen
		it.publish(ctx)
	}
	if seen < want {
		return false, nil
	}
	it.adopted(ctx, "last-used")
	return true, nil
}

func (it *item) adopted(ctx workflow.Context, proof string) {
	if it.v.Adoption.State == "adopted" {
		return
	}
	it.v.Adoption.State = "adopted"
	record(ctx, it.w.clk.Now(ctx), event.Event{Type: event.EventAdopted, FP: it.v.FP, Result: proof, Attrs: map[string]string{"new_key_id": it.newKey, "dependents": itoa(len(it.plan.Dependents))}})
	it.publish(ctx)
}

// adopt goes on after the old key's end until the replacement is proven adopted,
// or a person says so or waives it. The incident is contained meanwhile.
func (it *item) adopt(ctx workflow.Context) error {
	settled := func() bool { return it.v.Adoption.State == "adopted" || it.v.Adoption.State == "waived" }
	if settled() {
		return nil
	}
	w := it.w
	if over, err := it.cutover(ctx); err != nil || over {
		return err
	}
	h := w.page(ctx, it, view.Human{
		What: "dependents of " + it.v.Short + " are not all seen on the replacement: resolve --as adopted or waived when they are",
	}, w.clk.Now(ctx).Add(24*time.Hour))
	for n := 0; ; n++ {
		pause := cutoverPolls[min(n, len(cutoverPolls)-1)]
		if n >= hourlyLooks {
			pause = 24 * time.Hour
		}
		_, err := w.clk.Wait(ctx, w.clk.Now(ctx).Add(pause), "adoption of "+it.v.Short, func() bool { _, ok := w.resolved[h.ID]; return ok || it.attested })
		if err != nil {
			return err
		}
		if cmd, ok := w.resolved[h.ID]; ok {
			if it.attest(ctx, cmd); !settled() {
				it.adopted(ctx, "attested by "+cmd.Actor)
			}
			return nil
		}
		if it.attested {
			it.adopted(ctx, "attested")
			w.lapse(h)
			return nil
		}
		over, err := it.cutover(ctx)
		if err != nil {
			return err
		}
		if over {
			w.lapse(h)
			return nil
		}
	}
}
