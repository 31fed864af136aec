package workflows

import (
	"fmt"
	"net/url"
	"slices"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"rekey/internal/canon"
	"rekey/internal/view"
)

// Search attributes (contracts section 7). They are never encrypted: no key,
// person or customer text in them.
var (
	AttrProvider = temporal.NewSearchAttributeKeyKeywordList("RekeyProvider")
	AttrSeverity = temporal.NewSearchAttributeKeyKeyword("RekeySeverity")
	AttrPhase    = temporal.NewSearchAttributeKeyKeyword("RekeyPhase")
	AttrOpen     = temporal.NewSearchAttributeKeyInt64("RekeyOpenItems")
	AttrCustomer = temporal.NewSearchAttributeKeyKeyword("RekeyCustomerImpact")
	AttrIncident = temporal.NewSearchAttributeKeyKeyword("RekeyIncident")
)

// attributes are what was upserted last.
type attributes struct {
	severity, phase, impact string
	open                    int
	providers               []string
}

// upsert writes the search attributes that have changed.
func (r *incident) upsert(ctx workflow.Context) {
	now := attributes{severity: r.st.Severity, phase: r.st.Phase, impact: "none", open: r.openCount()}
	for _, s := range r.st.Items {
		if !slices.Contains(now.providers, s.Key.Provider) {
			now.providers = append(now.providers, s.Key.Provider)
		}
		if len(s.Customers) > 0 {
			now.impact = "possible"
		}
	}
	var up []temporal.SearchAttributeUpdate
	if now.severity != r.attrs.severity && now.severity != "" {
		up = append(up, AttrSeverity.ValueSet(now.severity))
	}
	if now.phase != r.attrs.phase {
		up = append(up, AttrPhase.ValueSet(now.phase))
	}
	if now.open != r.attrs.open {
		up = append(up, AttrOpen.ValueSet(int64(now.open)))
	}
	if now.impact != r.attrs.impact {
		up = append(up, AttrCustomer.ValueSet(now.impact))
	}
	if !slices.Equal(now.providers, r.attrs.providers) {
		up = append(up, AttrProvider.ValueSet(now.providers))
	}
	if len(up) == 0 {
		return
	}
	if err := workflow.UpsertTypedSearchAttributes(ctx, up...); err != nil {
		workflow.GetLogger(ctx).Warn("search attributes were not written", "err", err)
		return
	}
	r.attrs = now
}

// show keeps the status that the Temporal UI shows: what a person needs at 3 a.m.
func (r *incident) show(ctx workflow.Context) {
	r.upsert(ctx)
	r.stir = true
	dead := 0
	for _, s := range r.st.Items {
		if r.viewOf(s.Key.FP).Death.State == "dead" {
			dead++
		}
	}
	s := fmt.Sprintf("**%s**, severity %s, phase %s. %d of %d items in an end state, %d proven dead.\n", r.st.State, r.st.Severity, r.st.Phase, r.size()-r.openCount(), r.size(), dead+r.massDead())
	for _, a := range r.st.Approvals {
		if a.State == "open" {
			s += fmt.Sprintf("\n- **vote %s** (%d of %d): %s. Hash `%s`, expires %s", a.ID, len(a.Votes), a.Needed, a.What, a.WaveHash, canon.Time(a.Expires))
		}
	}
	for _, h := range r.st.Humans {
		if h.State == "open" {
			s += fmt.Sprintf("\n- **%s** for %s by %s: %s", h.ID, h.Owner, h.Due, h.What)
		}
	}
	if r.st.Bundle != nil {
		s += fmt.Sprintf("\n\nBundle `%s`", r.st.Bundle.Digest)
	}
	workflow.SetCurrentDetails(ctx, s)
}

// items are all items as they stand.
func (r *incident) items() []view.Item {
	out := make([]view.Item, 0, len(r.st.Items))
	for _, s := range r.st.Items {
		out = append(out, r.peek(s.Key.FP))
	}
	return out
}

// ui is the incident's page in the Temporal UI, whatever its run; "" without one.
func (r *incident) ui() string {
	if r.set.UI == "" {
		return ""
	}
	return r.set.UI + "/namespaces/" + url.PathEscape(r.set.Namespace) + "/workflows/" + url.PathEscape(IncidentID(r.in.ID))
}

// view is the incident as contracts section 4 shows it.
func (r *incident) view(info *workflow.Info) view.Incident {
	st := r.st
	run := info.WorkflowExecution
	v := view.Incident{
		Schema: view.SchemaIncident, ID: r.in.ID, WorkflowID: run.ID, RunID: run.RunID,
		Phase: st.Phase, State: st.State, Severity: st.Severity,
		Playbook:  view.Playbook{Name: r.pb.Name, Version: r.pb.Version, Digest: r.set.Digest},
		Reports:   []view.Report{},
		Approvals: []view.Approval{}, Holds: []view.Hold{}, Obligations: []view.Obligation{}, NeedsHuman: append([]view.Human{}, st.Humans...),
		Refusals: st.Refusals, Contain: st.Contain, Notes: st.Notes, Bundle: st.Bundle, Records: r.recordsView(),
		Times: view.Times{
			Reported: canon.Time(st.Opened), Aware: canon.Time(st.Opened), Contained: canon.Time(st.Contained), Closed: canon.Time(st.Closed),
			Sealed: canon.Time(st.Sealed), WatchUntil: canon.Time(st.WatchUntil),
		},
	}
	if r.in.Reopened != nil {
		v.ReopenedFrom = r.in.Reopened.Digest + " run " + r.in.Reopened.Run
	}
	if r.set.UI != "" {
		v.Links = map[string]string{"temporal": r.ui() + "/" + run.RunID + "/history"}
	}
	for _, rep := range st.Reports {
		vr := view.Report{ID: rep.ID, Source: rep.Source, Actor: rep.Actor, Received: canon.Time(rep.Received), Claimed: canon.Time(rep.Claimed), Confidence: rep.Confidence, Reason: rep.Reason, Copies: rep.Copies}
		for _, e := range rep.Evidence {
			vr.Evidence = append(vr.Evidence, e.Hash)
		}
		v.Reports = append(v.Reports, vr)
	}
	v.ReportsTotal = len(v.Reports) + st.repeats()
	for _, c := range st.Repeats {
		v.Repeats = append(v.Repeats, view.Repeat{
			Source: c.Source, Actor: c.Actor, N: c.N, First: canon.Time(c.First), Last: canon.Time(c.Last), Unread: c.Unread, Chain: c.Chain,
		})
	}
	v.Notices, v.NoticesSent = r.noticesView()
	v.Scope = r.scopeView()
	v.Plan = r.planView()
	for _, a := range st.Approvals {
		v.Approvals = append(v.Approvals, view.Approval{
			ID: a.ID, For: a.For, Strategy: a.Strategy, WaveHash: a.WaveHash, Wave: a.Wave, State: a.State, Needed: a.Needed, Outside: a.outside(), Roles: a.Roles,
			Votes: append([]view.Vote{}, a.Votes...), Asked: canon.Time(a.Asked), Expires: canon.Time(a.Expires), Items: a.Items, What: a.What, Level: a.Level,
		})
	}
	for _, h := range st.Holds {
		v.Holds = append(v.Holds, view.Hold{ID: h.ID, Items: h.Items, By: h.By, Why: h.Why, Until: canon.Time(h.Until), State: h.State})
	}
	all := r.items()
	v.Totals = totals(all)
	r.massTotals(&v)
	v.Items = all
	v.Truncated = r.rows() > 0
	if len(all) > view.ShownItems {
		v.Items, v.Truncated = all[:view.ShownItems], true
	}
	return v
}

func totals(items []view.Item) view.Totals {
	t := view.Totals{Items: len(items), ByEndState: map[string]int{}, ByOutcome: map[string]int{}}
	for _, it := range items {
		if it.EndState == "" {
			t.Open++
		} else {
			t.ByEndState[it.EndState]++
		}
		for _, o := range it.Outcomes {
			t.ByOutcome[o.Outcome]++
		}
	}
	return t
}

func (r *incident) scopeView() view.Scope {
	st := r.st
	out := view.Scope{Version: st.ScopeVersion, Items: r.size(), Observed: r.size(), Reachable: max(st.Reachable, r.size()), Basis: []string{}, Unseen: []view.Unseen{}, Dark: []view.Dark{}}
	for _, s := range st.Items {
		if !slices.Contains(out.Basis, s.Basis) {
			out.Basis = append(out.Basis, s.Basis)
		}
	}
	slices.Sort(out.Basis)
	for _, u := range st.Unseen {
		out.Unseen = append(out.Unseen, view.Unseen{Source: u.Source, Why: u.Why, Permission: u.Permission})
	}
	for _, d := range st.Dark {
		out.Dark = append(out.Dark, view.Dark{From: canon.Time(d.From), To: canon.Time(d.To), Source: d.Source})
	}
	return out
}

func (r *incident) planView() *view.Plan {
	p := r.st.Plan
	if p == nil {
		return nil
	}
	out := &view.Plan{Hash: p.Hash, Version: p.Version, Waves: []view.Wave{}, Calls: p.Calls, ETAMs: p.ETAMs, Breaks: []view.Break{}}
	for _, w := range p.Waves {
		state := "planned"
		if run := r.wave(w.Hash); run != nil {
			state = run.State
		} else if a := r.approvalFor("strategy", w.Hash, ""); a != nil {
			state = "approval " + a.State
		}
		out.Waves = append(out.Waves, view.Wave{N: w.N, Hash: w.Hash, Strategy: string(w.Strategy), Items: w.Size(), State: state})
	}
	for _, run := range r.st.Waves { // of rows that were pulled: they are in no plan of their own
		if _, ok := p.Wave(run.Wave.Hash); !ok && run.From > 0 {
			out.Waves = append(out.Waves, view.Wave{N: run.Wave.N, Hash: run.Wave.Hash, Strategy: string(run.Wave.Strategy), Items: run.Wave.Size(), State: run.State})
		}
	}
	for _, b := range p.Breaks {
		out.Breaks = append(out.Breaks, view.Break{Dependent: b.Dependent, OutageMs: b.OutageMs, BudgetMs: b.BudgetMs, Owner: b.Owner})
	}
	return out
}
