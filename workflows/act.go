package workflows

import (
	"fmt"
	"slices"
	"sort"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"rekey/activities"
	"rekey/internal/event"
	"rekey/internal/plan"
	"rekey/internal/view"
	"rekey/playbooks"
)

// replan makes the next version of the plan. Waves that run stay as they are;
// waves that only wait are planned anew, and the approval of one whose hash did
// not change stays good. An item that a wave moves already, and that the new facts
// put under revoke-now, is promoted there.
func (r *incident) replan(ctx workflow.Context) error {
	if r.st.PlanVersion == 0 {
		r.enter(ctx, phasePlan)
	}
	in := PlanInput{
		Incident: r.in.ID, Version: r.st.PlanVersion + 1, Playbook: *r.pb, Digest: r.set.Digest,
		Report: r.st.Reports[0], Held: r.heldFPs(ctx), Now: r.clk.Now(ctx), Kinds: r.set.Kinds,
	}
	for _, s := range r.st.Items {
		if s.Conflict == "" {
			in.Items = append(in.Items, s)
		}
	}
	for _, w := range r.st.Waves {
		in.Started = append(in.Started, w.Wave)
	}
	res, err := engineCall[PlanResult](ctx, r.clk, engine, ActivityPlan, fmt.Sprintf("plan version %d", in.Version), in)
	if err != nil {
		return err
	}
	old := r.st.Plan
	p := res.Plan
	r.raise(ctx, res.Severity)
	if old != nil && old.Hash == p.Hash {
		return nil
	}
	r.st.PlanVersion = p.Version
	r.st.Plan = &p
	r.st.Plans = append(r.st.Plans, p)
	r.number()
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
	r.voidStale(ctx)
	r.promote(ctx)
	r.leaveToPeople(ctx)
	return nil
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
	}
}

// promote brings the cut forward for items in a running wave that the new facts
// put under revoke-now.
func (r *incident) promote(ctx workflow.Context) {
	for i := range r.st.Waves {
		w := &r.st.Waves[i]
		if w.State != "running" || w.Wave.Strategy == playbooks.RevokeNow {
			continue
		}
		var fps []string
		for _, it := range w.Wave.Items {
			if d, ok := r.st.Plan.Decision(it.Key.FP); ok && d.Strategy == playbooks.RevokeNow {
				fps = append(fps, it.Key.FP)
				record(ctx, r.clk.Now(ctx), event.Event{Type: event.EventDecision, Actor: "policy:" + d.Rule, FP: it.Key.FP, Rule: d.Rule, Facts: d.Facts, Result: "promoted"})
			}
		}
		if len(fps) > 0 {
			r.command(ctx, w.Wave.N, WaveCommand{Kind: cmdPromote, FPs: fps})
		}
	}
}

// leaveToPeople opens a step for every item whose strategy calls no provider in
// this build.
func (r *incident) leaveToPeople(ctx workflow.Context) {
	for _, d := range r.st.Plan.Decisions {
		s := r.item(d.FP)
		if s == nil || r.inWave(d.FP) {
			continue
		}
		v := r.viewOf(d.FP)
		v.Strategy, v.Rule, v.Wave = string(d.Strategy), d.Rule, 0
		what := ""
		switch d.Strategy {
		case playbooks.RevokeNow, playbooks.ReissueFirst, playbooks.DisableAndWatch:
			continue
		case playbooks.Hold:
			v.Open = view.Open{Why: "on hold", Owner: r.holder(d.FP)}
			continue
		case playbooks.Barrier:
			what = "needs a barrier: the attacker can read where the new secret would go. Isolate, kill all, and reissue to a clean store by hand"
		case playbooks.NotifyOnly:
			what = "is not ours: tell its owner, and resolve --as customer-action-open"
		default:
			what = "is under " + string(d.Strategy) + ", which this build leaves to people"
		}
		if v.Open.Why == "" && v.EndState == "" {
			v.Death.State = "human"
			r.human(ctx, view.Human{FP: d.FP, What: s.Key.Short() + " " + what, Owner: s.Owner})
			v.Open = view.Open{Why: what, Owner: r.st.Humans[len(r.st.Humans)-1].Owner, Due: r.st.Humans[len(r.st.Humans)-1].Due}
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
		if r.wave(w.Hash) != nil || r.allHeld(ctx, w) {
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
	if r.approvalFor("start", r.st.Plan.Hash, "") == nil {
		r.open(ctx, playbooks.Approval{Roles: []playbooks.Role{playbooks.RoleResponder, playbooks.RoleCommander, playbooks.RoleSecurity}, Quorum: 1},
			Approval{For: "start", WaveHash: r.st.Plan.Hash, What: "begin to act: the playbook asks first"})
	}
	return false
}

// start starts a wave as a child that outlives any run of the incident.
func (r *incident) start(ctx workflow.Context, w plan.Wave, voted bool) error {
	defer r.clk.working()()
	r.enter(ctx, phaseAct)
	in := WaveInput{
		Incident: r.in.ID, Wave: w, Settings: r.in.Settings, Secrets: map[string]string{}, Opened: r.st.Opened, Now: r.clk.Now(ctx),
		Disabled: map[string]bool{}, Voted: voted,
	}
	for _, s := range r.st.Items {
		in.Compromised = append(in.Compromised, s.Key.ID)
		if s.Secret != "" && !r.st.Forgotten {
			in.Secrets[s.Key.FP] = s.Secret
		}
	}
	for _, it := range w.Items {
		if r.st.Disabled[it.Key.FP] {
			in.Disabled[it.Key.FP] = true
		}
	}
	ctx = workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{
		WorkflowID:            WaveID(r.in.ID, w.N),
		ParentClosePolicy:     enums.PARENT_CLOSE_POLICY_ABANDON,
		StaticSummary:         summary(w.Describe()),
		TypedSearchAttributes: temporal.NewSearchAttributes(AttrIncident.ValueSet(r.in.ID)),
	})
	child := workflow.ExecuteChildWorkflow(ctx, TypeWave, in)
	var exec workflow.Execution
	if err := child.GetChildWorkflowExecution().Get(ctx, &exec); err != nil {
		if !temporal.IsWorkflowExecutionAlreadyStartedError(err) {
			return fmt.Errorf("wave %d: %w", w.N, err)
		}
	}
	r.st.Waves = append(r.st.Waves, WaveRun{Wave: w, State: "running", Voted: voted})
	r.st.NextWave = max(r.st.NextWave, w.N+1)
	for _, it := range w.Items {
		v := r.viewOf(it.Key.FP)
		v.Strategy, v.Wave, v.Owner = string(w.Strategy), w.N, it.Owner
		if d, ok := r.st.Plan.Decision(it.Key.FP); ok {
			v.Rule = d.Rule
		}
		if held := r.heldFPs(ctx); slices.Contains(held, it.Key.FP) {
			r.command(ctx, w.N, WaveCommand{Kind: cmdHold, FPs: []string{it.Key.FP}})
		}
	}
	if !voted {
		rule := ""
		if len(w.Items) > 0 {
			if d, ok := r.st.Plan.Decision(w.Items[0].Key.FP); ok {
				rule = d.Rule
			}
		}
		record(ctx, r.clk.Now(ctx), event.Event{Type: event.EventApprovalGiven, Actor: "policy:" + rule, WaveHash: w.Hash, PlanHash: r.st.Plan.Hash, Rule: rule, Result: string(w.Strategy)})
	}
	r.upsert(ctx)
	return nil
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
	for _, w := range r.st.Waves {
		for _, it := range w.Wave.Items {
			if it.Key.FP == fp {
				return true
			}
		}
	}
	return false
}

func itemFPs(w plan.Wave) []string {
	out := make([]string, 0, len(w.Items))
	for _, it := range w.Items {
		out = append(out, it.Key.FP)
	}
	return out
}

// viewOf gives the view of an item, made when it is first asked for.
func (r *incident) viewOf(fp string) *view.Item {
	i, ok := r.findView(fp)
	if !ok {
		r.st.Views = slices.Insert(r.st.Views, i, r.freshView(fp))
	}
	return &r.st.Views[i]
}

// peek is viewOf for queries, which must change nothing.
func (r *incident) peek(fp string) view.Item {
	if i, ok := r.findView(fp); ok {
		return r.st.Views[i]
	}
	return r.freshView(fp)
}

func (r *incident) findView(fp string) (int, bool) {
	i := sort.Search(len(r.st.Views), func(i int) bool { return r.st.Views[i].FP >= fp })
	return i, i < len(r.st.Views) && r.st.Views[i].FP == fp
}

func (r *incident) freshView(fp string) view.Item {
	v := view.Item{FP: fp, Short: activities.Key{FP: fp}.Short(), Death: view.Death{State: "alive", Needed: r.pb.Verify.K}, Adoption: view.Adoption{State: "not-wanted"}, Outcomes: []view.Outcome{}}
	if s := r.item(fp); s != nil {
		v.Provider, v.Account, v.Kind, v.KeyID, v.Owner = s.Key.Provider, s.Key.Account, s.Key.Kind, s.Key.ID, s.Owner
		if r.st.Disabled[fp] {
			v.Death.State = "disabled"
		}
	}
	return v
}

// command sends a wave a command, in order and until the server has taken it.
func (r *incident) command(ctx workflow.Context, n int, cmd WaveCommand) {
	w := r.waveN(n)
	if w == nil {
		return
	}
	w.NextCmd++
	cmd.Seq = w.NextCmd
	r.sent[n] = append(r.sent[n], cmd)
	r.pump(ctx, n)
}

// pump delivers the commands of one wave, one after another.
func (r *incident) pump(ctx workflow.Context, n int) {
	if r.pushing[n] || len(r.sent[n]) == 0 {
		return
	}
	r.pushing[n] = true
	workflow.Go(ctx, func(ctx workflow.Context) {
		defer r.clk.working()()
		for len(r.sent[n]) > 0 {
			err := workflow.SignalExternalWorkflow(ctx, WaveID(r.in.ID, n), "", SignalCommand, r.sent[n][0]).Get(ctx, nil)
			if err != nil {
				if w := r.waveN(n); w != nil && w.State == "ended" {
					r.sent[n] = nil // it has nobody left to tell
					break
				}
				if workflow.Sleep(ctx, backoffFirst) != nil {
					break
				}
				continue
			}
			r.sent[n] = r.sent[n][1:]
		}
		r.pushing[n] = false
	})
}
