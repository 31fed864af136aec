package workflows

import (
	"fmt"
	"slices"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"rekey/internal/event"
	"rekey/internal/page"
	"rekey/internal/plan"
	"rekey/internal/view"
	"rekey/playbooks"
)

// replan makes the next version of the plan. Waves that run stay as they are;
// waves that only wait are planned anew, and the approval of one whose hash did
// not change stays good. An item that a wave moves already, and that the new facts
// put under revoke-now, is promoted there.
func (r *incident) replan(ctx workflow.Context) error {
	r.st.Replan = false
	if r.st.PlanVersion == 0 {
		r.enter(ctx, phasePlan)
	}
	r.takeStandingHolds(ctx)
	if err := r.takeRowHolds(ctx); err != nil {
		return err
	}
	in := PlanInput{
		Incident: r.in.ID, Version: r.st.PlanVersion + 1, Playbook: *r.pb, Digest: r.set.Digest,
		Report: r.st.Reports[0], Held: r.heldFPs(), Now: r.clk.Now(ctx), Kinds: r.set.Kinds,
	}
	stays := map[string]bool{}
	for _, w := range r.st.Waves {
		if len(w.Redone) > 0 {
			continue // some of its items are planned again: the rest goes on without it
		}
		in.Started = append(in.Started, w.Wave)
		for _, fp := range itemFPs(w.Wave) {
			stays[fp] = true
		}
	}
	for _, s := range r.st.Items {
		fp := s.Key.FP
		if n := r.st.Again[fp]; n > 0 {
			// A key that was proven dead and is reported to work is abuse: nobody of
			// ours has it any more.
			if in.Malicious == nil {
				in.Malicious = map[string]int64{}
			}
			in.Malicious[fp] = int64(n)
		}
		if s.Conflict == "" && (stays[fp] || (r.peek(fp).EndState == "" && !r.inWave(fp))) {
			in.Items = append(in.Items, s)
		}
	}
	paged, err := r.planMass(ctx)
	if err != nil {
		return err
	}
	in.Paged = paged
	res, err := engineCall[PlanResult](ctx, r.clk, engine, ActivityPlan, fmt.Sprintf("plan version %d", in.Version), in)
	if err != nil {
		return err
	}
	old := r.st.Plan
	p := res.Plan
	r.raise(ctx, res.Severity)
	if err := r.tellRoundsApart(&p); err != nil {
		return err
	}
	if old == nil || old.Hash != p.Hash || !sameDecisions(*old, p) {
		r.st.PlanVersion = p.Version
		r.st.Plan = &p
		r.st.Plans = append(r.st.Plans, p)
		r.number()
		r.recordPlan(ctx, old)
	}
	r.voidStale(ctx)
	r.promote(ctx)
	r.leaveToPeople(ctx)
	return nil
}

// tellRoundsApart marks the waves of items that were reported again after their
// end: the same calls for the same items are another wave, with votes of its own.
func (r *incident) tellRoundsApart(p *plan.Plan) error {
	marked := false
	for i := range p.Waves {
		w := &p.Waves[i]
		round := 0
		for _, it := range w.Items {
			if !r.inWave(it.Key.FP) {
				round = max(round, r.st.Again[it.Key.FP])
			}
		}
		if round > 0 {
			w.Gates = append(w.Gates, fmt.Sprintf("reported-again-%d", round))
			marked = true
		}
	}
	if !marked {
		return nil
	}
	return p.Seal()
}

func (r *incident) recordPlan(ctx workflow.Context, old *plan.Plan) {
	p := r.st.Plan
	record(ctx, r.clk.Now(ctx), event.Event{Type: event.EventPlan, PlanHash: p.Hash, Attrs: map[string]string{
		"version": itoa(p.Version), "waves": itoa(len(p.Waves)), "calls": itoa(p.Calls),
	}})
	for _, d := range p.Decisions {
		if old != nil {
			if was, ok := old.Decision(d.FP); ok && was.Rule == d.Rule {
				continue
			}
		}
		record(ctx, r.clk.Now(ctx), event.Event{
			Type: event.EventDecision, Actor: "policy:" + d.Rule, FP: d.FP, PlanHash: p.Hash, Rule: d.Rule, Facts: d.Facts, Result: string(d.Strategy), Attrs: d.Skipped,
		})
	}
}

// sameDecisions compares what the hash does not cover: decisions about items that
// move already, or that no provider call is planned for.
func sameDecisions(a, b plan.Plan) bool {
	return slices.EqualFunc(a.Decisions, b.Decisions, func(x, y plan.Decision) bool {
		return x.FP == y.FP && x.Rule == y.Rule && x.Strategy == y.Strategy
	})
}

// number gives waves that have not started the next free numbers.
func (r *incident) number() {
	n := r.st.NextWave
	for i := range r.st.Plan.Waves {
		w := &r.st.Plan.Waves[i]
		if r.wave(w.Hash) != nil {
			continue
		}
		w.N = n
		n++
		if a := r.approvalFor("strategy", w.Hash, ""); a != nil {
			a.Wave = w.N
		}
	}
}

// promote brings the cut forward for items in a running wave that the new facts
// put under revoke-now.
func (r *incident) promote(ctx workflow.Context) {
	for i := range r.st.Waves {
		w := &r.st.Waves[i]
		if w.State != waveRunning || w.Wave.Strategy == playbooks.RevokeNow {
			continue
		}
		var fps []string
		for _, it := range w.Wave.Items {
			fp := it.Key.FP
			d, ok := r.st.Plan.Decision(fp)
			if !ok || d.Strategy != playbooks.RevokeNow || !w.has(fp) || slices.Contains(w.Promoted, fp) || r.peek(fp).EndState != "" {
				continue
			}
			fps = append(fps, fp)
			record(ctx, r.clk.Now(ctx), event.Event{Type: event.EventDecision, Actor: "policy:" + d.Rule, FP: fp, Rule: d.Rule, Facts: d.Facts, Result: "promoted"})
		}
		if len(fps) > 0 {
			w.Promoted = append(w.Promoted, fps...)
			r.command(ctx, w.Wave.N, WaveCommand{Kind: cmdPromote, FPs: fps})
		}
	}
}

// whyHeld is what an item waits for while a hold names it.
const whyHeld = "on hold"

// leaveToPeople opens a step for every item whose strategy calls no provider in
// this build, and takes it back when the strategy has changed.
func (r *incident) leaveToPeople(ctx workflow.Context) {
	for _, d := range r.st.Plan.Decisions {
		s := r.item(d.FP)
		if s == nil || r.inWave(d.FP) {
			continue
		}
		v := r.viewOf(d.FP)
		if v.Strategy != string(d.Strategy) {
			r.lapse(ctx, d.FP)
		}
		v.Strategy, v.Rule, v.Wave = string(d.Strategy), d.Rule, 0
		if v.Open.Why == whyHeld {
			v.Open = view.Open{}
		}
		what := ""
		switch d.Strategy {
		case playbooks.RevokeNow, playbooks.ReissueFirst, playbooks.DisableAndWatch:
			continue
		case playbooks.Hold:
			v.Open = view.Open{Why: whyHeld, Owner: r.holder(d.FP)}
			continue
		case playbooks.Barrier:
			what = "needs a barrier: the attacker can read where the new secret would go. Isolate, kill all, and reissue to a clean store by hand"
		case playbooks.NotifyOnly:
			what = "is not ours: tell its owner, and resolve --as customer-action-open"
		default:
			what = "is under " + string(d.Strategy) + ", which this build leaves to people"
		}
		if r.st.Left[d.FP] == "" && v.EndState == "" {
			v.Death.State = "human"
			h := r.human(ctx, view.Human{FP: d.FP, What: s.Key.Short() + " " + what, Owner: s.Owner})
			r.leave(d.FP, h.ID)
			v.Open = view.Open{Why: what, Owner: h.Owner, Due: h.Due}
		}
	}
}

// leave notes the step that stands for an item while no wave moves it.
func (r *incident) leave(fp, task string) {
	if r.st.Left == nil {
		r.st.Left = map[string]string{}
	}
	r.st.Left[fp] = task
}

// lapse takes the step back that stands for an item.
func (r *incident) lapse(ctx workflow.Context, fp string) {
	task := r.st.Left[fp]
	if task == "" {
		return
	}
	delete(r.st.Left, fp)
	r.lapseTask(ctx, task)
	if v := r.viewOf(fp); v.Death.State == "human" {
		v.Death.State, v.Open = "alive", view.Open{}
	}
}

func (r *incident) lapseTask(ctx workflow.Context, task string) {
	for i := range r.st.Humans {
		if h := &r.st.Humans[i]; h.ID == task && h.State == "open" {
			h.State = "lapsed"
			record(ctx, r.clk.Now(ctx), event.Event{Type: event.EventHumanDone, FP: h.FP, Result: h.State, Attrs: map[string]string{"task": h.ID}})
		}
	}
}

// act asks for the votes that planned waves need, and starts those that have them.
func (r *incident) act(ctx workflow.Context) error {
	if r.st.Plan == nil {
		return nil
	}
	if !r.mayStart(ctx) {
		return nil
	}
	for i := range r.st.Plan.Waves {
		w := r.st.Plan.Waves[i]
		if r.wave(w.Hash) != nil || r.allHeld(itemFPs(w)) {
			continue
		}
		if w.List != "" && (!r.massRoom() || slices.ContainsFunc(r.heldFPs(), func(name string) bool { return r.named(name, w.N) })) {
			continue
		}
		need := r.pb.ApprovalFor(w.Strategy)
		if need.Policy {
			if err := r.start(ctx, w, false); err != nil {
				return err
			}
			continue
		}
		a := r.approvalFor("strategy", w.Hash, "")
		switch {
		case a == nil:
			r.enter(ctx, phaseApprove)
			r.open(ctx, need, Approval{For: "strategy", Wave: w.N, WaveHash: w.Hash, Strategy: string(w.Strategy), What: w.Describe(), Items: itemFPs(w)})
		case a.State == "granted":
			if err := r.start(ctx, w, true); err != nil {
				return err
			}
		}
	}
	return nil
}

// mayStart asks first where the playbook says `start: ask`, and never starts where
// it says `record`.
func (r *incident) mayStart(ctx workflow.Context) bool {
	switch r.pb.Start {
	case playbooks.StartAuto:
		return true
	case playbooks.StartRecord:
		return false
	}
	if r.st.Started || len(r.st.Plan.Waves) == 0 {
		return r.st.Started
	}
	if r.approvalFor(approveStart, r.st.Plan.Hash, "") == nil {
		r.open(ctx, playbooks.Approval{Roles: []playbooks.Role{playbooks.RoleResponder, playbooks.RoleCommander, playbooks.RoleSecurity}, Quorum: 1},
			Approval{For: approveStart, WaveHash: r.st.Plan.Hash, What: "begin to act: the playbook asks first"})
	}
	return false
}

// start starts a wave as a child that outlives any run of the incident.
func (r *incident) start(ctx workflow.Context, w plan.Wave, voted bool) error {
	return r.launch(ctx, w, WaveRun{Voted: voted}, func(*WaveInput) {})
}

// launch is start for a run of which something is known already; more adds to its input.
func (r *incident) launch(ctx workflow.Context, w plan.Wave, run WaveRun, more func(*WaveInput)) error {
	voted := run.Voted
	defer r.clk.working()()
	r.enter(ctx, phaseAct)
	in := WaveInput{
		Incident: r.in.ID, Settings: r.in.Settings, Secrets: map[string]string{}, Opened: r.st.Opened, Now: r.clk.Now(ctx),
		Disabled: map[string]bool{}, Voted: voted, Life: r.life(),
	}
	for _, s := range r.st.Items {
		in.Compromised = append(in.Compromised, s.Key.ID)
		if s.Secret != "" && !r.st.Forgotten {
			in.Secrets[s.Key.FP] = s.Secret
		}
	}
	held := r.heldFPs()
	for _, it := range w.Items {
		fp := it.Key.FP
		if r.st.Disabled[fp] {
			in.Disabled[fp] = true
		}
		if it.Adopt && r.st.Forgotten {
			r.st.Forgotten, r.st.SecretSince = false, in.Now // a replacement will be sealed
		}
		if slices.Contains(held, fp) {
			in.Held = append(in.Held, fp) // it must not move from the first step on
		}
		if v := r.peek(fp); r.st.Again[fp] > 0 && v.Adoption.NewKeyID != "" {
			if in.Resume == nil {
				in.Resume = map[string]view.Item{}
			}
			in.Resume[fp] = v
		}
	}
	r.exposure(&in)
	rule := ""
	for _, it := range w.Items {
		r.lapse(ctx, it.Key.FP)
		v := r.viewOf(it.Key.FP)
		v.Strategy, v.Wave, v.Owner, v.Open = string(w.Strategy), w.N, it.Owner, view.Open{}
		if d, ok := r.st.Plan.Decision(it.Key.FP); ok {
			v.Rule = d.Rule
			rule = d.Rule
		}
	}
	// In the books before the first event of it can come.
	run.Wave, run.State = w, waveRunning
	r.st.Waves = append(r.st.Waves, run)
	begun := &r.st.Waves[len(r.st.Waves)-1]
	more(&in)
	for {
		in.Wave = begun.Wave
		if w.List != "" {
			r.startMass(ctx, &in, begun.Wave)
		}
		err := r.child(ctx, WaveID(r.in.ID, begun.Wave.N), w.Describe(), TypeWave, in)
		if err == nil {
			break
		}
		if !temporal.IsWorkflowExecutionAlreadyStartedError(err) {
			return fmt.Errorf("wave %d: %w", begun.Wave.N, err)
		}
		// A wave of an earlier life that nobody knows of runs under this number. It
		// is not ours: its items and its approval are others.
		begun.Wave.N++
	}
	n := begun.Wave.N
	if w.List != "" {
		r.st.Mass.Waves = append(r.st.Mass.Waves, MassWave{N: n, Items: w.Count, Tally: page.Tally{Items: w.Count}, Started: r.clk.Now(ctx)})
	}
	for i := range r.st.Plan.Waves {
		if pw := &r.st.Plan.Waves[i]; pw.Hash == w.Hash {
			pw.N = n
		}
	}
	r.st.NextWave = max(r.st.NextWave, n+1)
	r.number()
	for _, it := range w.Items {
		r.viewOf(it.Key.FP).Wave = n
	}
	if !voted {
		record(ctx, r.clk.Now(ctx), event.Event{Type: event.EventApprovalGiven, Actor: "policy:" + rule, WaveHash: w.Hash, PlanHash: r.st.Plan.Hash, Rule: rule, Result: string(w.Strategy)})
	}
	r.upsert(ctx)
	return nil
}

// child starts a workflow that outlives any run of the incident.
func (r *incident) child(ctx workflow.Context, id, what, typ string, in any) error {
	_, err := r.spawn(ctx, id, what, typ, in)
	return err
}

// spawn is child, and says which run it started.
func (r *incident) spawn(ctx workflow.Context, id, what, typ string, in any) (workflow.Execution, error) {
	child := workflow.ExecuteChildWorkflow(workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{
		WorkflowID:            id,
		ParentClosePolicy:     enums.PARENT_CLOSE_POLICY_ABANDON,
		StaticSummary:         summary(what),
		TypedSearchAttributes: temporal.NewSearchAttributes(AttrIncident.ValueSet(r.in.ID)),
	}), typ, in)
	var exec workflow.Execution
	err := child.GetChildWorkflowExecution().Get(ctx, &exec)
	return exec, err
}

func (r *incident) wave(hash string) *WaveRun {
	for i := range r.st.Waves {
		if r.st.Waves[i].Wave.Hash == hash {
			return &r.st.Waves[i]
		}
	}
	return nil
}

func (r *incident) waveN(n int) *WaveRun {
	for i := range r.st.Waves {
		if r.st.Waves[i].Wave.N == n {
			return &r.st.Waves[i]
		}
	}
	return nil
}

func (r *incident) inWave(fp string) bool {
	return slices.ContainsFunc(r.st.Waves, func(w WaveRun) bool { return w.has(fp) })
}

func itemFPs(w plan.Wave) []string {
	out := make([]string, 0, len(w.Items))
	for _, it := range w.Items {
		out = append(out, it.Key.FP)
	}
	return out
}
