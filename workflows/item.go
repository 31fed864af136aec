package workflows

import (
	"fmt"
	"slices"
	"time"

	"go.temporal.io/sdk/workflow"

	"rekey/activities"
	"rekey/internal/canon"
	"rekey/internal/event"
	"rekey/internal/plan"
	"rekey/internal/view"
	"rekey/playbooks"
)

// item is one key on its way to a proven end.
type item struct {
	w    *wave
	plan plan.Item
	ref  activities.Ref
	v    view.Item

	held     bool
	promoted bool // abuse was seen: cut now
	turned   bool // … and it goes the way of revoke-now
	cutNow   bool // the cut-off fired, or a person says that it is now
	override bool // … a person
	precut   bool // it is at a step that the cut-off bounds
	armed    bool // the cut-off is being waited for
	gated    bool // what opened the gate is on record
	restore  *WaveCommand
	restored bool
	accepted *WaveCommand

	disabled bool
	sure     bool // the provider's word is that it is disabled or gone
	revoked  bool
	killed   time.Time // of the last kill call
	rung     int       // the highest rung that was pulled, -1: none
	rounds   map[string]int
	issuing  *effect // one Issue, however often a person has to help
	newKey   string
	handle   string
	placed   time.Time // when the replacement was distributed
	cut      time.Time // the cut-off, once it is fixed
	attested bool      // a person says that all dependents moved
	// arrived: its owners and customers can be told now. atGate: its cut waits for
	// that; notBefore: and for the hours that their contracts give.
	arrived, atGate bool
	notBefore       time.Time
}

func newItem(w *wave, p plan.Item) *item {
	key := p.Key
	it := &item{
		w: w, plan: p, rung: -1, rounds: map[string]int{},
		held: slices.Contains(w.in.Held, key.FP), turned: w.in.Wave.Strategy == playbooks.RevokeNow,
		ref: activities.Ref{Incident: w.in.Incident, Key: key, Secret: w.in.Secrets[key.FP]},
		v: view.Item{
			FP: key.FP, Short: key.Short(), Provider: key.Provider, Account: key.Account, Kind: key.Kind, KeyID: key.ID,
			Owner: p.Owner, Strategy: string(w.in.Wave.Strategy), Wave: w.in.Wave.N,
			Death:    view.Death{State: "alive", Needed: w.pb.Verify.K},
			Adoption: view.Adoption{State: "not-wanted", Dependents: len(p.Dependents)},
			Outcomes: []view.Outcome{},
		},
	}
	if p.Adopt {
		it.v.Adoption.State = "waiting"
	}
	if w.in.Disabled[key.FP] {
		it.disabled, it.sure = true, true
		it.killed = w.in.Now
		it.v.Death.State = "disabled"
	}
	if old, ok := w.in.Resume[key.FP]; ok {
		it.v.Adoption, it.v.Outcomes = old.Adoption, old.Outcomes
		it.newKey, it.placed = old.Adoption.NewKeyID, w.in.Now
	}
	return it
}

// run goes through the strategy's steps and ends the item.
func (it *item) run(ctx workflow.Context) {
	steps := it.w.steps(it.plan, it.w.in.Wave.Strategy)
	for n := 0; n < len(steps) && it.accepted == nil; n++ {
		if it.turning() {
			// Abuse: cut first and replace afterwards. What is done already is not done
			// again.
			it.turned = true
			it.v.Strategy = string(playbooks.RevokeNow)
			steps, n = it.w.steps(it.plan, playbooks.RevokeNow), -1
			continue
		}
		it.precut = !it.turned && !it.disabled && beforeCut(it.w.in.Wave.Strategy, steps[n])
		if it.precut {
			it.armCutoff(ctx)
		}
		if it.cutting() {
			it.gate(ctx)
			continue // the cut-off fired: what is not done by now is not waited for
		}
		it.v.Step = string(steps[n])
		it.publish(ctx)
		if err := it.unheld(ctx); err != nil {
			return
		}
		if it.turning() {
			n-- // it was promoted while it was held
			continue
		}
		if err := it.step(ctx, steps[n]); err != nil {
			return // cancelled: the wave is being taken down from outside
		}
		if it.turning() {
			n = -1
		}
	}
	it.turned, it.precut = true, false
	if it.accepted == nil {
		if err := it.finish(ctx); err != nil {
			return
		}
	}
	if it.accepted != nil && it.v.EndState == "" {
		it.v.Approver, it.v.Why, it.v.Until = it.accepted.Actor, it.accepted.Text, canon.Time(it.accepted.Until)
		it.end(ctx, it.accepted.As)
	}
	it.v.Open, it.v.Step = view.Open{}, ""
	it.publish(ctx)
}

// end sets the end state. What it says is settled: nothing sets it again.
func (it *item) end(ctx workflow.Context, state string) {
	it.v.EndState = state
	e := event.Event{
		Type: event.EventItem, FP: it.v.FP, Result: state,
		Attrs: map[string]string{"grade": it.v.Death.Grade, "rung": it.v.Death.Rung, "adoption": it.v.Adoption.State, "new_key_id": it.v.Adoption.NewKeyID},
	}
	if it.v.Approver != "" {
		e.Actor, e.Attrs["why"], e.Attrs["until"] = it.v.Approver, it.v.Why, it.v.Until
	}
	record(ctx, it.w.clk.Now(ctx), e)
	it.publish(ctx)
}

// turning tells whether abuse was seen and the item does not go the way of
// revoke-now yet.
func (it *item) turning() bool { return it.promoted && !it.turned }

// cutting tells whether the cut-off fired before the steps that it bounds were
// done.
func (it *item) cutting() bool { return it.cutNow && it.precut && !it.turning() }

// leaves tells whether what the item waits for is not needed any more.
func (it *item) leaves() bool { return it.accepted != nil || it.turning() || it.cutting() }

// step does one step of the strategy.
func (it *item) step(ctx workflow.Context, s playbooks.Step) error {
	switch s {
	case playbooks.StepDisable:
		return it.disable(ctx)
	case playbooks.StepEndSessions:
		return it.endSessions(ctx)
	case playbooks.StepProbe:
		return it.kill(ctx)
	case playbooks.StepIssue:
		return it.issue(ctx)
	case playbooks.StepDistribute:
		return it.distribute(ctx)
	case playbooks.StepProbeNew:
		return it.probeNew(ctx)
	case playbooks.StepRevoke:
		return it.revoke(ctx)
	case playbooks.StepNotice:
		return it.notice(ctx)
	case playbooks.StepWaitCutover:
		return it.waitCutover(ctx)
	case playbooks.StepWaitQuiet:
		return it.waitQuiet(ctx)
	}
	_, _, err := it.w.human(ctx, it, view.Human{What: fmt.Sprintf("step %s is not done by this build: do it and resolve", s)}, time.Time{})
	return err
}

// disable makes the key useless, reversibly. Where the provider has no Disable,
// Revoke takes its place behind its own gate (contracts section 6).
func (it *item) disable(ctx workflow.Context) error {
	if it.disabled || it.revoked {
		return nil
	}
	info, ok := it.w.kind(it.ref.Key).Verbs[activities.Disable]
	if !ok {
		if r, has := it.w.kind(it.ref.Key).Verbs[activities.Revoke]; has && r.Support == activities.ByAPI {
			return it.revoke(ctx)
		}
		return it.byHand(ctx, activities.Disable, "")
	}
	if info.Support == activities.ByHuman {
		return it.byHand(ctx, activities.Disable, info.Steps)
	}
	a, err := it.must(ctx, activities.Disable, activities.Request{Ref: it.ref})
	if err != nil || it.leaves() {
		return err
	}
	it.killed = it.w.clk.Now(ctx)
	if a.Outcome == activities.AlreadyGone {
		it.revoked = true // somebody destroyed it: still to be proven
	}
	it.disabled, it.sure = true, a.Outcome.Reached()
	if it.v.Death.State == "alive" {
		it.v.Death.State = "disabled"
	}
	it.publish(ctx)
	return nil
}

// endSessions kills what was derived from the key and outlives it. Where the
// provider cannot, the next rung of the ladder stands for it (contracts section 6).
func (it *item) endSessions(ctx workflow.Context) error {
	info, ok := it.w.kind(it.ref.Key).Verbs[activities.EndSessions]
	switch {
	case !ok:
		return it.denySessions(ctx)
	case info.Support != activities.ByAPI:
		return it.byHand(ctx, activities.EndSessions, info.Steps)
	}
	_, err := it.must(ctx, activities.EndSessions, activities.Request{Ref: it.ref, Before: it.w.clk.Now(ctx), Roles: it.plan.Roles})
	it.killed = it.w.clk.Now(ctx)
	return err
}

// revoke destroys the key, behind the votes for irreversible verbs. It does
// nothing when the key was destroyed before.
func (it *item) revoke(ctx workflow.Context) error {
	if it.revoked {
		return nil
	}
	info, ok := it.w.kind(it.ref.Key).Verbs[activities.Revoke]
	if !ok {
		return nil
	}
	if yes, err := it.voted(ctx); err != nil || !yes {
		return err
	}
	if err := it.unheld(ctx); err != nil || it.leaves() {
		return err
	}
	if info.Support == activities.ByHuman {
		return it.byHand(ctx, activities.Revoke, info.Steps)
	}
	a, err := it.must(ctx, activities.Revoke, activities.Request{Ref: it.ref})
	if err != nil || it.leaves() {
		return err
	}
	it.disabled, it.killed = true, it.w.clk.Now(ctx)
	// An unclear one is not done: it is asked again before the item ends.
	it.revoked = a.Outcome != activities.Unclear
	it.sure = it.sure || a.Outcome.Reached()
	if it.v.Death.State == "alive" {
		it.v.Death.State = "disabled"
	}
	it.publish(ctx)
	return nil
}

// voted waits for the votes for Revoke. Voted down, a person decides: accept the
// risk, or have it voted on again.
func (it *item) voted(ctx workflow.Context) (bool, error) {
	for {
		name := playbooks.ApproveIrreversible
		yes, err := it.w.ask(ctx, it, Ask{For: name, What: "Revoke (irreversible)", Round: it.rounds[name]})
		if err != nil || yes || it.leaves() {
			return yes && !it.leaves(), err
		}
		_, ok, err := it.w.human(ctx, it, view.Human{
			What:  "Revoke was voted down: resolve --as accepted-risk for " + it.v.Short + ", or resolve this step to have it voted on again",
			Owner: it.owner(),
		}, time.Time{})
		if err != nil || !ok {
			return false, err
		}
		it.rounds[name]++
	}
}

// must makes a mutating call until the provider's word is that the state is
// reached, or until a person took it over. What it gives back is never proof. A
// hold stops it between two calls.
func (it *item) must(ctx workflow.Context, v activities.Verb, req activities.Request) (activities.Attempt, error) {
	var late *view.Human
	defer func() {
		if late != nil {
			it.w.lapse(*late)
			it.going(ctx)
		}
	}()
	for {
		if err := it.unheld(ctx); err != nil || it.leaves() {
			return activities.Attempt{}, err
		}
		e := it.w.call.effect(v, req.Key)
		if v == activities.Issue {
			// A second effect would not know what the first one's lost calls have made.
			if it.issuing == nil {
				it.issuing = e
			}
			e = it.issuing
		}
		a, err := it.w.call.repeat(ctx, v, e, req, func(a activities.Attempt) {
			if late == nil {
				h := it.w.page(ctx, it, view.Human{What: fmt.Sprintf("%s of %s keeps failing and is repeated: %s", v, it.v.Short, a.Detail)}, it.w.clk.Now(ctx).Add(humanDue))
				late = &h
			}
		}, func() bool { return it.leaves() || it.held })
		if err != nil {
			return a, err
		}
		it.saw(a)
		switch {
		case a.Outcome.Reached(), a.Outcome == activities.DoneAsync, a.Outcome == activities.Assumed, it.leaves():
			return a, nil
		case it.held && a.Failed():
			continue // not done, and it must not be done now
		case a.Outcome == activities.Unclear && v != activities.Issue && v != activities.Distribute:
			// The probe tells what the provider could not.
			return a, nil
		case v == activities.Issue && a.Detail == activities.SlotNeeded:
			return a, nil
		}
		what := fmt.Sprintf("%s of %s needs a person: %s", v, it.v.Short, a.Detail)
		if a.Permission != "" {
			what = fmt.Sprintf("%s of %s was denied: grant %s to rekey's role, then resolve", v, it.v.Short, a.Permission)
		}
		cmd, ok, err := it.w.human(ctx, it, view.Human{What: what, Steps: it.w.kind(it.ref.Key).Verbs[v].Steps}, time.Time{})
		if err != nil || !ok {
			return a, err
		}
		if cmd.As == "by-hand" {
			a.Outcome = activities.Assumed
			return a, nil
		}
	}
}

// byHand has a person do what the provider has no API for. The probe proves it.
func (it *item) byHand(ctx workflow.Context, v activities.Verb, steps string) error {
	_, ok, err := it.w.human(ctx, it, view.Human{What: fmt.Sprintf("%s %s by hand: %s has no API for it", v, it.v.Short, it.ref.Key.Provider), Steps: steps}, time.Time{})
	if ok {
		it.killed = it.w.clk.Now(ctx)
		it.disabled = it.disabled || v != activities.EndSessions
		it.revoked = it.revoked || v == activities.Revoke
	}
	return err
}

// waitQuiet waits for a complaint after Disable. A Restore that people voted for
// enables the key once, until a time that the provider itself enforces.
func (it *item) waitQuiet(ctx workflow.Context) error {
	quiet := it.w.pb.Strategy(it.w.in.Wave.Strategy).Quiet.Std()
	for {
		until := it.w.clk.Now(ctx).Add(quiet)
		it.wait(ctx, "quiet time: nobody may miss the key", it.owner(), until)
		_, err := it.w.clk.Wait(ctx, until, "quiet time of "+it.v.Short, func() bool {
			return it.leaves() || (it.restore != nil && !it.restored)
		})
		it.going(ctx)
		if err != nil || it.leaves() || it.restore == nil || it.restored {
			return err
		}
		if err := it.doRestore(ctx, *it.restore); err != nil {
			return err
		}
	}
}

func (it *item) doRestore(ctx workflow.Context, cmd WaveCommand) error {
	it.restored = true
	if !cmd.Until.After(it.w.clk.Now(ctx)) {
		return nil // its time was over before it could begin
	}
	a, err := it.must(ctx, activities.Restore, activities.Request{Ref: it.ref, Until: cmd.Until})
	if err != nil || it.leaves() || !a.Outcome.Reached() && a.Outcome != activities.Unclear {
		return err
	}
	it.v.Death.State, it.disabled, it.sure = "alive", false, false
	it.wait(ctx, "restored by "+cmd.Actor+" until the time given", it.owner(), cmd.Until)
	if _, err := it.w.clk.Wait(ctx, cmd.Until, "end of restore", it.leaves); err != nil {
		return err
	}
	it.going(ctx)
	if it.turning() {
		return nil // revoke-now disables it
	}
	if err := it.disable(ctx); err != nil {
		return err
	}
	return it.kill(ctx)
}

// finish proves the end once more after the last kill and sets the end state.
func (it *item) finish(ctx workflow.Context) error {
	for {
		if it.v.Death.State != "dead" {
			if err := it.kill(ctx); err != nil || it.accepted != nil {
				return err
			}
		}
		if !it.provable() {
			_, _, err := it.w.human(ctx, it, view.Human{What: "nothing can prove " + it.v.Short + " dead: only an accepted risk ends it"}, time.Time{})
			if err != nil || it.accepted != nil {
				return err
			}
			continue
		}
		// The proof must hold after the last kill, not only before it.
		dead, err := it.confirm(ctx)
		if err != nil || it.accepted != nil {
			return err
		}
		if !dead {
			it.v.Death.State = "alive"
			continue
		}
		if it.revoked {
			break
		}
		if info, ok := it.w.kind(it.ref.Key).Verbs[activities.Revoke]; ok && info.Support == activities.ByAPI {
			if err := it.revoke(ctx); err != nil || it.accepted != nil {
				return err
			}
			continue
		}
		_, ok, err := it.w.human(ctx, it, view.Human{What: it.v.Short + " is proven dead but not destroyed: destroy it by hand and resolve, or accept the risk"}, time.Time{})
		if err != nil || it.accepted != nil {
			return err
		}
		it.revoked = ok
		it.killed = it.w.clk.Now(ctx)
	}
	it.end(ctx, endRevoked)
	if !it.plan.Adopt {
		return nil
	}
	if err := it.adopt(ctx); err != nil {
		return err
	}
	return it.harden(ctx)
}

// provable tells whether the provider can be asked whether the key works.
func (it *item) provable() bool {
	_, ok := it.w.kind(it.ref.Key).Verbs[activities.Probe]
	return ok || it.w.off(OffProbeOld)
}

// unheld waits while a hold names the item.
func (it *item) unheld(ctx workflow.Context) error {
	if !it.held {
		return nil
	}
	it.wait(ctx, "on hold", it.owner(), time.Time{})
	_, err := it.w.clk.Wait(ctx, time.Time{}, "hold on "+it.v.Short, func() bool { return !it.held || it.accepted != nil })
	it.going(ctx)
	return err
}

func (it *item) command(cmd WaveCommand) {
	switch cmd.Kind {
	case cmdHold:
		it.held = true
	case cmdRelease:
		it.held = false
	case cmdAttest:
		it.attested = true
	case cmdPromote:
		it.promoted = true
	case cmdRestore:
		if !it.restored {
			it.restore = &cmd
		}
	case cmdOverride:
		it.cutNow, it.override = true, true
	case cmdForget:
		// The sealed secrets are destroyed: from now on the provider's state answers
		// for the old key, and the use by dependents for the new one.
		it.ref.Secret, it.handle = "", ""
	case cmdAccept:
		if it.v.EndState == "" {
			it.accepted = &cmd
		}
	}
}

func (it *item) owner() string {
	if it.plan.Owner != "" {
		return it.plan.Owner
	}
	return string(playbooks.RoleCommander)
}

// saw keeps the outcome of a call for the view.
func (it *item) saw(a activities.Attempt) {
	it.v.Outcomes = append(it.v.Outcomes, view.Outcome{
		Verb: string(a.Verb), Outcome: string(a.Outcome), Attempt: a.N, At: canon.Time(a.At), RequestID: a.RequestID, Detail: a.Detail,
	})
	const most = 40
	if n := len(it.v.Outcomes); n > most {
		it.v.Outcomes = it.v.Outcomes[n-most:]
	}
}

func (it *item) wait(ctx workflow.Context, why, owner string, due time.Time) {
	it.v.Open = view.Open{Why: why, Owner: owner, Due: canon.Time(due)}
	it.publish(ctx)
}

func (it *item) going(ctx workflow.Context) {
	if it.v.Open == (view.Open{}) {
		return
	}
	it.v.Open = view.Open{}
	it.publish(ctx)
}

// publish tells the incident how the item stands.
func (it *item) publish(ctx workflow.Context) {
	v := it.v
	v.Outcomes = append([]view.Outcome{}, it.v.Outcomes...)
	v.Death.Vantages = append([]string{}, it.v.Death.Vantages...)
	it.w.emit(WaveEvent{Kind: waveItem, Item: &v})
	if it.w.noticer != nil {
		it.w.noticer.news++
	}
	it.w.show(ctx)
}
