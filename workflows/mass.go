package workflows

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"rekey/activities"
	"rekey/internal/canon"
	"rekey/internal/event"
	"rekey/internal/page"
	"rekey/internal/plan"
	"rekey/internal/view"
	"rekey/playbooks"
)

// The mass of an incident is its items that are rows of pages (docs/design/0017). What
// the incident knows of them is counts; their waves know the pages.

// addMass takes rows into scope that the estate has reached, and has them read.
func (r *incident) addMass(ctx workflow.Context, part MassPart) error {
	if r.st.Mass == nil {
		r.st.Mass = &Mass{}
	}
	m := r.st.Mass
	part.Version = r.st.ScopeVersion + 1
	m.Parts = append(m.Parts, part)
	now := r.clk.Now(ctx)
	in := ScopeInput{
		Incident: r.in.ID, List: part.List, Settings: r.in.Settings, Now: now, Until: now.Add(r.pb.Scope.Timeout.Std()),
		Facts: page.Facts{
			Incident: r.in.ID, Life: r.life(), Kinds: r.pageKinds(), Since: now.Add(-r.pb.Scope.Lookback.Std()),
			Scope: slices.Contains(r.pb.Scope.Sources, playbooks.SourceProvider), Rates: r.pb.Rates,
		},
	}
	if !in.Facts.Scope {
		r.unseen(activities.Unseen{Source: "uses", Why: fmt.Sprintf("the playbook does not ask providers: of %d keys only the estate is known", part.N)})
	}
	for _, s := range r.st.Items {
		in.Facts.Compromised = append(in.Facts.Compromised, s.Key.ID)
	}
	for in.Part = len(m.Parts); ; in.Part++ {
		err := r.child(ctx, ScopeID(r.in.ID, in.Part), fmt.Sprintf("reads and claims %d keys", part.N), TypeScope, in)
		if err == nil {
			m.Parts[len(m.Parts)-1].Scope = in.Part
			return nil
		}
		if !temporal.IsWorkflowExecutionAlreadyStartedError(err) {
			return err
		}
	}
}

// takeScopes receives what was read of the mass.
func (r *incident) takeScopes(ctx workflow.Context) {
	ch := workflow.GetSignalChannel(ctx, SignalScope)
	for {
		var s ScopeSignal
		if !take(ctx, ch, &s) {
			return
		}
		r.takeScope(ctx, s)
	}
}

func (r *incident) takeScope(ctx workflow.Context, s ScopeSignal) {
	if r.st.Mass == nil {
		return
	}
	i := slices.IndexFunc(r.st.Mass.Parts, func(p MassPart) bool { return p.Scope == s.Part })
	if i < 0 || r.st.Mass.Parts[i].Read != "" {
		return // a repeat
	}
	p := &r.st.Mass.Parts[i]
	p.Read, p.N = s.Result.List, s.Result.N
	for _, u := range s.Result.Unseen {
		r.unseen(u)
	}
	for _, d := range s.Result.Dark {
		if !slices.Contains(r.st.Dark, d) {
			r.st.Dark = append(r.st.Dark, d)
		}
	}
	for _, f := range s.Result.Findings {
		r.finding(ctx, f.From, f.Finding)
	}
	for _, c := range s.Result.Conflicts {
		if r.addItem(c) {
			r.conflict(ctx, c.Key, c.Conflict)
		}
	}
	if n := s.Result.MoreConflicts; n > 0 {
		r.human(ctx, view.Human{What: fmt.Sprintf("%d further keys belong to other incidents and are not moved here: see `rekey incident list`, then resolve", n)})
	}
	r.chapters.pin(s.Result.Chapters)
	r.chapters.keep(ctx, ScopeID(r.in.ID, p.Scope), "")
	record(ctx, r.clk.Now(ctx), event.Event{Type: event.EventScope, Evidence: []string{p.Read}, Attrs: map[string]string{
		"version": itoa(r.st.ScopeVersion), "items": itoa(r.size()), "reachable": itoa(max(r.st.Reachable, r.size())), "rows": itoa(p.N), "unread": itoa(s.Result.Unread),
		"unseen": itoa(len(r.st.Unseen)), "dark": itoa(len(r.st.Dark)),
	}})
	r.st.Replan, r.changed, r.stir = true, true, true
}

// pageKinds is what passes must know of the kinds of credential.
func (r *incident) pageKinds() map[string]page.Kind {
	out := map[string]page.Kind{}
	//workflowcheck:ignore
	for name, k := range r.set.Kinds { // into a map
		kind := page.Kind{Propagation: time.Duration(k.PropagationMs) * time.Millisecond, SessionsOutlive: k.SessionsOutlive, Places: k.Vantages}
		for _, v := range activities.Verbs() {
			switch k.Verbs[v].Support {
			case activities.ByAPI:
				kind.API = append(kind.API, v)
			case activities.ByHuman:
				kind.Human = append(kind.Human, v)
			}
		}
		out[name] = kind
	}
	return out
}

// massFacts is what all rows of a wave share.
func (r *incident) massFacts(ctx workflow.Context, w plan.Wave) *page.Facts {
	f := &page.Facts{
		Incident: r.in.ID, Prefix: "wave/" + itoa(w.N) + r.life(), Life: r.life(), Opened: r.st.Opened, Strategy: w.Strategy, Kinds: r.pageKinds(),
		Steps: map[playbooks.StrategyName][]playbooks.Step{}, K: r.pb.Verify.K, Span: r.pb.Verify.Span.Std(), Vantages: r.pb.Verify.Vantage,
		Quiet: r.pb.Strategy(w.Strategy).Quiet.Std(), Rates: r.pb.Rates,
		Trust: slices.Contains(r.set.Off, OffProbeOld), NoReconcile: slices.Contains(r.set.Off, OffReconcile),
	}
	for _, name := range []playbooks.StrategyName{w.Strategy, playbooks.RevokeNow} {
		f.Steps[name] = r.pb.Strategy(name).Steps
	}
	if c := r.pb.Strategy(w.Strategy).Cutoff.Std(); w.Strategy == playbooks.ReissueFirst && c > 0 {
		f.Cutoff = r.clk.Now(ctx).Add(c)
	}
	for _, n := range r.pb.Notices {
		f.Gated = f.Gated || n.Gate == playbooks.GateWarnBeforeCut
	}
	return f
}

// size is how many items the incident has.
func (r *incident) size() int { return len(r.st.Items) + r.rows() }

// rows is how many of them are rows.
func (r *incident) rows() int {
	n := 0
	if m := r.st.Mass; m != nil {
		for _, p := range m.Parts {
			n += p.N
		}
		n -= m.Pulled
	}
	return n
}

// massEnds counts the rows by end state.
func (r *incident) massEnds() map[string]int {
	out := map[string]int{}
	m := r.st.Mass
	if m == nil {
		return out
	}
	for _, w := range m.Waves {
		//workflowcheck:ignore
		for end, n := range w.Tally.Ended { // sums
			out[end] += n
		}
	}
	for _, l := range m.Left {
		if l.End != "" {
			out[l.End] += l.Items
		}
	}
	return out
}

// openCount is how many items are not in a proven end state.
func (r *incident) openCount() int {
	n := len(r.openItems()) + r.rows()
	//workflowcheck:ignore
	for _, ended := range r.massEnds() { // a sum
		n -= ended
	}
	return n
}

// planMass has the rows planned that no wave has taken yet; nil where there are none.
// The same rows, holds and waves give the plan that there is.
func (r *incident) planMass(ctx workflow.Context) (*PlanPagesResult, error) {
	m := r.st.Mass
	if m == nil {
		return nil, nil
	}
	in := PlanPagesInput{
		Incident: r.in.ID, Playbook: *r.pb, Digest: r.set.Digest, Items: r.slim(), Report: r.st.Reports[0], Now: r.clk.Now(ctx), Kinds: r.set.Kinds, Out: m.Out,
	}
	for _, p := range m.Parts {
		if p.Read != "" {
			in.Lists = append(in.Lists, p.Read)
		}
	}
	if len(in.Lists) == 0 {
		return nil, nil
	}
	for _, w := range r.st.Waves {
		if w.Wave.List != "" {
			in.Started = append(in.Started, w.Wave.List)
		}
	}
	for _, name := range r.heldFPs() {
		switch {
		case name == allItems:
			in.AllHeld = true
		case !isName(name) && r.item(name) == nil:
			in.Held = append(in.Held, name)
		}
	}
	what := fmt.Sprintf("%v %v %v %v %v", in.Lists, in.Started, in.Held, in.AllHeld, in.Out)
	if m.Plan != nil && m.PlannedFor == what {
		return m.Plan, nil
	}
	res, err := engineCall[PlanPagesResult](ctx, r.clk, sortLimit, ActivityPlanPages, fmt.Sprintf("plan of %d rows", r.rows()), in)
	if err != nil {
		return nil, err
	}
	m.Plan, m.PlannedFor = &res, what
	r.leaveRows(ctx, res.Left)
	return &res, nil
}

// slim are the items without their readings: facts over the whole scope need who is
// concerned, not what was read.
func (r *incident) slim() []Scoped {
	out := slices.Clone(r.st.Items)
	for i := range out {
		out[i].Reading = nil
	}
	return out
}

// leaveRows opens a step for rows whose strategy calls no provider: one for all.
func (r *incident) leaveRows(ctx workflow.Context, left []MassLeft) {
	m := r.st.Mass
	before := m.Left
	m.Left = left
	for i := range m.Left {
		l := &m.Left[i]
		if j := slices.IndexFunc(before, func(o MassLeft) bool { return o.Strategy == l.Strategy && o.Items == l.Items }); j >= 0 {
			list := l.List
			*l = before[j]
			l.List = list
			before = slices.Delete(before, j, j+1)
			continue
		}
		switch l.Strategy {
		case playbooks.Hold:
			continue
		case playbooks.NotifyOnly:
			l.Task = r.human(ctx, view.Human{What: fmt.Sprintf("%d items are not ours: tell their owners, then resolve this step --as customer-action-open", l.Items)}).ID
		default:
			l.Task = r.human(ctx, view.Human{What: fmt.Sprintf("%d items are under %s, which this build leaves to people: do it, then resolve this step --as accepted-risk or never-existed-proven", l.Items, l.Strategy)}).ID
		}
	}
	for _, l := range before {
		r.lapseTask(ctx, l.Task)
	}
}

// startMass is what [incident.start] does besides for a wave over pages.
func (r *incident) startMass(ctx workflow.Context, in *WaveInput, w plan.Wave) {
	in.Facts, in.Orders = r.massFacts(ctx, w), nil
	for _, name := range r.heldFPs() {
		switch {
		case r.named(name, w.N):
			in.Orders = append(in.Orders, page.Order{Kind: page.OrderHold, All: true})
		case !isName(name) && r.item(name) == nil:
			in.Orders = append(in.Orders, page.Order{Kind: page.OrderHold, FPs: []string{name}})
		}
	}
	if r.st.Forgotten {
		r.st.Forgotten, r.st.SecretSince = false, in.Now // replacements will be sealed
	}
}

// massRoom tells whether another wave over pages may run.
func (r *incident) massRoom() bool {
	n := 0
	for _, w := range r.st.Waves {
		if w.Wave.List != "" && w.State == waveRunning {
			n++
		}
	}
	return n < massWaves
}

func (r *incident) massWave(n int) *MassWave {
	if r.st.Mass == nil {
		return nil
	}
	for i := range r.st.Mass.Waves {
		if r.st.Mass.Waves[i].N == n {
			return &r.st.Mass.Waves[i]
		}
	}
	return nil
}

// Names that stand for many items.
const (
	allItems   = "all"
	waveItems  = "wave/"
	leftItems  = "left/"
	whyPullNew = "reported by itself"
)

// isName tells whether a name stands for many items.
func isName(name string) bool {
	return name == allItems || strings.HasPrefix(name, waveItems) || strings.HasPrefix(name, leftItems)
}

// named tells whether a name stands for all rows of a wave.
func (r *incident) named(name string, wave int) bool {
	return name == allItems || name == waveItems+itoa(wave)
}

// tellMass passes a command on to the waves over pages that it is about: names of many,
// and fingerprints that no item has.
func (r *incident) tellMass(ctx workflow.Context, names []string, cmd WaveCommand) {
	if r.st.Mass == nil {
		return
	}
	var fps []string
	for _, name := range names {
		if !isName(name) && r.item(name) == nil {
			fps = append(fps, name)
		}
	}
	for _, w := range r.st.Waves {
		if w.Wave.List == "" || w.State != waveRunning {
			continue
		}
		c := cmd
		c.All = slices.ContainsFunc(names, func(name string) bool { return r.named(name, w.Wave.N) })
		if c.All {
			c.FPs = nil
		} else {
			c.FPs = fps
		}
		if c.All || len(fps) > 0 {
			r.command(ctx, w.Wave.N, c)
		}
	}
}

// massLists are the lists that rows are in: the ends of waves, the plans of those that
// run, and what no wave has taken.
func (r *incident) massLists() PagesState {
	m := r.st.Mass
	st := PagesState{Items: r.size()}
	if m == nil {
		return st
	}
	for _, p := range m.Parts {
		st.Scopes = append(st.Scopes, ScopeID(r.in.ID, p.Scope))
	}
	for _, w := range m.Waves {
		if w.List != "" {
			st.Lists = append(st.Lists, PagesList{List: w.List, Wave: w.N})
			continue
		}
		st.Waves = append(st.Waves, WaveID(r.in.ID, w.N))
	}
	if m.Plan == nil {
		for _, p := range m.Parts {
			st.Lists = append(st.Lists, PagesList{List: or(p.Read, p.List), Open: "waits for the plan"})
		}
		return st
	}
	for _, w := range m.Plan.Waves {
		if r.wave(w.Hash) == nil {
			st.Lists = append(st.Lists, PagesList{List: w.List, Strategy: string(w.Strategy), Open: "waits for its wave"})
		}
	}
	for _, l := range m.Left {
		st.Lists = append(st.Lists, PagesList{List: l.List, Strategy: string(l.Strategy), End: l.End, Open: "a person decides"})
	}
	for _, p := range m.Parts {
		if p.Read == "" {
			st.Lists = append(st.Lists, PagesList{List: p.List, Open: "being read"})
		}
	}
	return st
}

// isMany tells whether a name stands for many items of this incident.
func (r *incident) isMany(name string) bool {
	if name == allItems {
		return true
	}
	for _, w := range r.st.Mass.Waves {
		if r.named(name, w.N) {
			return true
		}
	}
	return slices.ContainsFunc(r.st.Mass.Left, func(l MassLeft) bool { return name == leftItems+string(l.Strategy) })
}

// leftOf names the rows that a step stands for, "" when it stands for none.
func (r *incident) leftOf(task string) string {
	if r.st.Mass == nil || task == "" {
		return ""
	}
	for _, l := range r.st.Mass.Left {
		if l.Task == task {
			return leftItems + string(l.Strategy)
		}
	}
	return ""
}

// acceptRows ends rows as people decided: those of a wave by the wave, those that no
// wave moves here.
func (r *incident) acceptRows(ctx workflow.Context, name string, a Approval) {
	r.tellMass(ctx, []string{name}, WaveCommand{Kind: cmdAccept, As: a.As, Actor: a.By, Text: a.Text, Until: a.Until})
	if r.st.Mass == nil {
		return
	}
	for i := range r.st.Mass.Left {
		l := &r.st.Mass.Left[i]
		if l.End != "" || (name != allItems && name != leftItems+string(l.Strategy)) {
			continue
		}
		l.End, l.Actor, l.Why, l.Until = a.As, a.By, a.Text, a.Until
		r.lapseTask(ctx, l.Task)
		record(ctx, r.clk.Now(ctx), event.Event{Type: event.EventItem, Actor: a.By, Result: a.As, Approval: a.ID, Evidence: []string{l.List}, Attrs: map[string]string{
			"items": itoa(l.Items), "strategy": string(l.Strategy), "why": a.Text, "until": canon.Time(a.Until),
		}})
	}
}
