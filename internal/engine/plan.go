package engine

import (
	"context"
	"fmt"
	"slices"
	"sort"

	"rekey/activities"
	"rekey/internal/plan"
	"rekey/playbooks"
	"rekey/workflows"
)

// Plan decides every item by the playbook's rules and lays out the waves with the
// exact calls. The same items, estate and playbook give the same hashes.
func (e *Engine) Plan(_ context.Context, in workflows.PlanInput) (workflows.PlanResult, error) {
	res, err := BuildPlan(in)
	if err != nil {
		return res, err
	}
	res.Plan.Customers, err = e.customersDigest(in)
	return res, err
}

// BuildPlan is Plan without an engine: it reads nothing but its input.
func BuildPlan(in workflows.PlanInput) (workflows.PlanResult, error) {
	pb := &in.Playbook
	p, err := newPlanner(pb, in.Report, in.Kinds, in.Now)
	if err != nil {
		return workflows.PlanResult{}, err
	}
	started := map[string]bool{}
	for _, w := range in.Started {
		for _, it := range w.Items {
			started[it.Key.FP] = true
		}
	}
	held := map[string]bool{}
	for _, fp := range in.Held {
		held[fp] = true
	}
	items := append([]workflows.Scoped{}, in.Items...)
	sort.Slice(items, func(i, j int) bool { return items[i].Key.FP < items[j].Key.FP })
	var c census
	for _, s := range items {
		c.add(s.Customers)
	}
	p.all = c.whole()
	if in.Paged != nil {
		p.all = whole{in.Paged.ScopeItems, in.Paged.ScopeCustomers}
		p.saw(in.Paged.Severity)
	}

	out := workflows.PlanResult{Plan: plan.Plan{Version: in.Version, Waves: append([]plan.Wave{}, in.Started...), Decisions: []plan.Decision{}, Breaks: []plan.Break{}}}
	by := map[playbooks.StrategyName][]plan.Item{}
	for _, s := range items {
		d := p.judge(s, held[s.Key.FP], in.Malicious[s.Key.FP])
		out.Plan.Decisions = append(out.Plan.Decisions, d.decision(s.Key.FP))
		if started[s.Key.FP] || !moves(d.strategy) {
			continue
		}
		by[d.strategy] = append(by[d.strategy], planItem(pb, s, d.strategy, in.Kinds))
	}
	out.Severity = p.severity()
	for _, name := range moving {
		for list := by[name]; len(list) > 0; {
			n := min(workflows.WaveItems, len(list))
			out.Plan.Waves = append(out.Plan.Waves, plan.Wave{
				N: len(out.Plan.Waves) + 1, Strategy: name, Items: list[:n], Gates: gates(pb, name), Batch: 1, Playbook: in.Digest,
			})
			list = list[n:]
		}
	}
	if in.Paged != nil {
		for _, w := range in.Paged.Waves {
			w.N = len(out.Plan.Waves) + 1
			out.Plan.Waves = append(out.Plan.Waves, w)
		}
	}
	price(&out.Plan, pb, in.Kinds)
	if in.Paged != nil {
		// Waves that run beside each other share the budgets of their accounts.
		out.Plan.ETAMs = max(out.Plan.ETAMs, in.Paged.ETAMs)
		out.Plan.Breaks = append(out.Plan.Breaks, in.Paged.Breaks...)
	}
	return out, out.Plan.Seal()
}

// moving are the strategies that this build carries out by itself, in the order of
// their waves: what is being used by a thief goes first.
var moving = []playbooks.StrategyName{playbooks.RevokeNow, playbooks.DisableAndWatch, playbooks.ReissueFirst}

// moves tells whether this build carries a strategy out by itself.
func moves(n playbooks.StrategyName) bool { return slices.Contains(moving, n) }

func gates(pb *playbooks.Playbook, name playbooks.StrategyName) []string {
	out := []string{"irreversible"}
	for _, n := range pb.Notices {
		if name == playbooks.ReissueFirst && n.Gate != "" {
			out = append(out, n.Gate)
		}
	}
	return out
}

// planItem lays out one item's calls, rungs and stores.
func planItem(pb *playbooks.Playbook, s workflows.Scoped, name playbooks.StrategyName, kinds map[string]workflows.KindFacts) plan.Item {
	k := kinds[s.Key.Provider+"/"+s.Key.Kind]
	it := plan.Item{
		Key: s.Key, Dependents: s.Dependents, Owner: s.Owner, Customers: s.Customers, Harden: pb.Harden.AllowFrom,
		Adopt: s.Owner != "" || len(s.Dependents) > 0,
	}
	if s.Unattributed || s.CreatedByCompromised {
		it.Adopt = false // nobody of ours made it, so nobody of ours needs it
	}
	if s.Reading != nil {
		it.Roles = s.Reading.Roles
	}
	if it.Adopt {
		for _, st := range pb.Reissue.Stores {
			if name, ok := bind(st.Name, s); ok {
				it.Stores = append(it.Stores, plan.Store{Target: st.Target, Name: name})
			}
		}
	}
	for _, step := range pb.Strategy(name).Steps {
		verb := activities.Verb(step.Verb())
		if verb == "" {
			continue
		}
		if !it.Adopt && (step == playbooks.StepIssue || step == playbooks.StepDistribute || step == playbooks.StepProbeNew) {
			continue
		}
		if verb == activities.EndSessions && !k.SessionsOutlive {
			continue
		}
		it.Calls = append(it.Calls, call(k, verb, string(step), s, it.Stores)...)
	}
	for _, r := range append(append([]playbooks.Rung{}, pb.Ladder.Automatic...), pb.Ladder.Approved...) {
		_, automatic := pb.Ladder.Allows(r)
		if rung, ok := rung(k, r, s, automatic); ok {
			it.Rungs = append(it.Rungs, rung)
		}
	}
	return it
}

func call(k workflows.KindFacts, v activities.Verb, step string, s workflows.Scoped, stores []plan.Store) []plan.Call {
	info, ok := k.Verbs[v]
	support := string(info.Support)
	if !ok {
		support = "none"
	}
	c := plan.Call{Verb: step, Support: support, Vendor: info.Calls, Target: s.Key.ID}
	if v != activities.Distribute {
		return []plan.Call{c}
	}
	var out []plan.Call
	for _, st := range stores {
		c.Target = st.Target + ":" + st.Name
		out = append(out, c)
	}
	return out
}

// rung lays out a rung; ok is false for one that cannot exist here.
func rung(k workflows.KindFacts, r playbooks.Rung, s workflows.Scoped, automatic bool) (plan.Rung, bool) {
	out := plan.Rung{Name: string(r), Approved: automatic && !r.NeedsVote()}
	verb := k.RungVerbs[string(r)]
	switch r {
	case playbooks.RungKey:
		verb, out.Price = activities.Revoke, "the key is gone for good"
	case playbooks.RungSessions:
		out.Price = "every session made from the key ends"
	case playbooks.RungPrincipal:
		out.Price = "everything of principal " + s.Key.Principal + " stops, new keys included"
	case playbooks.RungNetworkBind:
		out.Price = "principal " + s.Key.Principal + " works from the named networks only"
	case playbooks.RungParentDeny:
		out.Price = "denied from above, by a person of the organisation"
		out.Calls = []plan.Call{{Verb: "Deny", Support: string(activities.ByHuman), Target: s.Key.Account}}
		return out, true
	}
	info, ok := k.Verbs[verb]
	if verb == "" || !ok {
		return out, false
	}
	out.Calls = []plan.Call{{Verb: string(verb), Support: string(info.Support), Vendor: info.Calls, Target: s.Key.Principal}}
	return out, true
}

// bind fills the placeholders of a store's name. A name that cannot be filled
// gives no store, and a person hands the new key over.
func bind(name string, s workflows.Scoped) (string, bool) {
	out, err := playbooks.Bind(name, func(p string) (string, bool) {
		switch p {
		case "item.owner":
			return s.Owner, s.Owner != ""
		case "item.account":
			return s.Key.Account, true
		case "item.provider":
			return s.Key.Provider, true
		case "item.kind":
			return s.Key.Kind, true
		case "item.principal":
			return s.Key.Principal, s.Key.Principal != ""
		case "item.key_id":
			return s.Key.ID, s.Key.ID != ""
		}
		return "", false
	})
	return out, err == nil
}

// callMs is what one provider call takes, for the estimate: the order of what
// vendors' control planes answer in.
const callMs = 200

// rowTimes is how long an item takes by itself, from its first call to its proven end,
// and for how long whoever uses it is interrupted; in ms.
func rowTimes(pb *playbooks.Playbook, it plan.Item, k workflows.KindFacts, name playbooks.StrategyName) (eta, outage int64) {
	proof := max(pb.Verify.Span.Std().Milliseconds(), 2*k.PropagationMs)
	eta = int64(len(it.Calls))*callMs + k.PropagationMs + proof
	switch name {
	case playbooks.ReissueFirst:
		return eta, 0
	case playbooks.DisableAndWatch:
		eta += pb.Strategy(name).Quiet.Std().Milliseconds()
	}
	return eta, eta
}

// price counts the calls, estimates the time and says who is interrupted.
func price(p *plan.Plan, pb *playbooks.Playbook, kinds map[string]workflows.KindFacts) {
	p.Calls, p.ETAMs = 0, 0
	for _, w := range p.Waves {
		if w.List != "" {
			p.Calls += w.Calls
			p.ETAMs = max(p.ETAMs, w.ETAMs)
		}
		for _, it := range w.Items {
			p.Calls += len(it.Calls)
			k := kinds[it.Key.Provider+"/"+it.Key.Kind]
			eta, outage := rowTimes(pb, it, k, w.Strategy)
			if pb.Verify.Sweep {
				eta += 2 * k.PropagationMs
				if outage > 0 {
					outage += 2 * k.PropagationMs
				}
			}
			p.ETAMs = max(p.ETAMs, eta)
			for _, d := range it.Dependents {
				b := plan.Break{Dependent: d.ID, Owner: d.Owner, OutageMs: outage, BudgetMs: d.BudgetMs, Why: fmt.Sprintf("%s of %s", w.Strategy, it.Key.Short())}
				p.Breaks = append(p.Breaks, b)
			}
		}
	}
}
