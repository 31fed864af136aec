package engine

import (
	"context"
	"fmt"

	"rekey/internal/page"
	"rekey/internal/page/pagestore"
	"rekey/internal/plan"
	"rekey/playbooks"
	"rekey/workflows"
)

// PlanPages decides the rows of lists by the playbook's rules and lays out waves over
// them, with the exact calls in their hashes. It reads and writes page by page, and
// calls nobody. The same rows, holds, estate and playbook give the same hashes.
func (e *Engine) PlanPages(ctx context.Context, in workflows.PlanPagesInput) (workflows.PlanPagesResult, error) {
	p, err := newPlanner(&in.Playbook, in.Report, in.Kinds, in.Now)
	if err != nil {
		return workflows.PlanPagesResult{}, err
	}
	if p.all, err = e.whole(ctx, in); err != nil {
		return workflows.PlanPagesResult{}, err
	}
	b := &massPlan{
		p: p, in: &in, pages: e.pages(), waves: map[playbooks.StrategyName]*massWave{}, left: map[playbooks.StrategyName]*pagestore.Writer{},
		held: set(in.Held), load: newLoad(), rates: e.Rates,
		out: workflows.PlanPagesResult{Waves: []plan.Wave{}, Rules: map[string]int{}, ScopeItems: p.all.items, ScopeCustomers: p.all.customers},
	}
	if err := e.unplanned(ctx, in, func(r page.Row) error { return b.add(ctx, r) }); err != nil {
		return workflows.PlanPagesResult{}, err
	}
	return b.close(ctx)
}

// whole counts the scope: the rows, and the items that are no rows.
func (e *Engine) whole(ctx context.Context, in workflows.PlanPagesInput) (whole, error) {
	items := map[string]bool{}
	var c census
	for _, s := range in.Items {
		items[s.Key.FP] = true
		c.add(s.Customers)
	}
	pages, err := e.pages().Hashes(ctx, in.Lists...)
	if err != nil {
		return whole{}, err
	}
	err = e.pages().Each(ctx, pages, func(rows []page.Row) error {
		for i := range rows {
			if !items[rows[i].FP] {
				c.add(rows[i].Customers)
			}
		}
		return nil
	})
	return c.whole(), err
}

// unplanned gives the rows that no wave has taken and that are no items, in the order of
// fingerprints.
func (e *Engine) unplanned(ctx context.Context, in workflows.PlanPagesInput, f func(page.Row) error) error {
	rows, err := e.pages().Stream(ctx, in.Lists...)
	if err != nil {
		return err
	}
	defer rows.Close()
	started, err := e.pages().Stream(ctx, in.Started...)
	if err != nil {
		return err
	}
	defer started.Close()
	out := set(in.Out)
	s, more, err := started.Next()
	for last := ""; err == nil; {
		r, ok, rowErr := rows.Next()
		if rowErr != nil || !ok {
			return rowErr
		}
		if r.FP == last {
			return fmt.Errorf("plan: %s stands in two lists of the scope", r.Key().Short())
		}
		last = r.FP
		for more && s.FP < r.FP && err == nil {
			s, more, err = started.Next()
		}
		if err != nil || (more && s.FP == r.FP) || out[r.FP] {
			continue
		}
		if err := f(r); err != nil {
			return err
		}
	}
	return err
}

func set(names []string) map[string]bool {
	out := make(map[string]bool, len(names))
	for _, n := range names {
		out[n] = true
	}
	return out
}

// A massPlan is a plan over rows that is being laid out.
type massPlan struct {
	p      *planner
	in     *workflows.PlanPagesInput
	pages  *pagestore.Store
	waves  map[playbooks.StrategyName]*massWave
	done   map[playbooks.StrategyName][]plan.Wave
	left   map[playbooks.StrategyName]*pagestore.Writer
	held   map[string]bool
	load   *load
	breaks breaks
	rates  map[string]float64
	out    workflows.PlanPagesResult
}

// add decides a row and puts it into a wave, or with those that no wave moves.
func (b *massPlan) add(ctx context.Context, r page.Row) error {
	s := scopedOf(&r)
	var err error
	if s.Reading, err = r.Read(); err != nil {
		return err
	}
	j := b.p.judge(s, b.in.AllHeld || b.held[r.FP], 0)
	b.out.Rules[j.rule]++
	r.Strategy, r.Rule, r.Facts, r.Skipped = string(j.strategy), j.rule, j.facts, j.skipped
	// The reading stays in the list that the plan is made of; without it pages are small.
	r.Reading = nil
	if !moves(j.strategy) {
		if b.left[j.strategy] == nil {
			b.left[j.strategy] = b.pages.Writer()
		}
		return b.left[j.strategy].Add(ctx, r)
	}
	w, err := b.wave(ctx, j.strategy)
	if err != nil {
		return err
	}
	it := itemOf(b.p.pb, &r, s, j.strategy, b.p.kinds)
	r.Adopt, r.Stores = it.Adopt, nil
	for _, st := range it.Stores {
		r.Stores = append(r.Stores, page.Store{Name: st.Name, Target: st.Target})
	}
	k := b.p.kinds[r.Provider+"/"+r.Kind]
	waits, outage := rowTimes(b.p.pb, it, k, j.strategy)
	b.breaks.add(it, j.strategy, outage)
	return w.add(ctx, r, it, k, b.p.pb, waits)
}

// wave gives the wave of a strategy that has room.
func (b *massPlan) wave(ctx context.Context, name playbooks.StrategyName) (*massWave, error) {
	w := b.waves[name]
	if w != nil && w.wave.Count == workflows.WaveRows {
		if err := b.end(ctx, name); err != nil {
			return nil, err
		}
		w = nil
	}
	if w == nil {
		var err error
		if w, err = newMassWave(b.pages, plan.Wave{Strategy: name, Gates: gates(b.p.pb, name), Batch: page.Size, Playbook: b.in.Digest}); err != nil {
			return nil, err
		}
		b.waves[name] = w
	}
	return w, nil
}

// end seals the open wave of a strategy.
func (b *massPlan) end(ctx context.Context, name playbooks.StrategyName) error {
	w := b.waves[name]
	if w == nil {
		return nil
	}
	delete(b.waves, name)
	sealed, err := w.close(ctx, b.p.pb, b.rates)
	if err != nil {
		return err
	}
	b.load.join(w.load)
	if b.done == nil {
		b.done = map[playbooks.StrategyName][]plan.Wave{}
	}
	b.done[name] = append(b.done[name], sealed)
	return nil
}

func (b *massPlan) close(ctx context.Context) (workflows.PlanPagesResult, error) {
	for _, name := range moving {
		if err := b.end(ctx, name); err != nil {
			return workflows.PlanPagesResult{}, err
		}
		b.out.Waves = append(b.out.Waves, b.done[name]...)
	}
	for _, w := range b.out.Waves {
		b.out.Calls += w.Calls
	}
	for _, name := range playbooks.StrategyNames() {
		w := b.left[name]
		if w == nil {
			continue
		}
		l, err := w.Close(ctx)
		if err != nil {
			return workflows.PlanPagesResult{}, err
		}
		b.out.Left = append(b.out.Left, workflows.MassLeft{Strategy: name, Items: l.Items, List: l.Hash})
	}
	if len(b.out.Waves) > 0 {
		b.out.ETAMs = b.load.eta(b.rates)
	}
	b.out.Severity = b.p.severity()
	b.out.Breaks = b.breaks.worst(func(at place) int64 { return b.load.turns(b.rates, at.provider, at.account) })
	return b.out, nil
}

// shownRows is how many rows of a wave a plan shows with all their calls.
const shownRows = 3

// A massWave is a wave over rows that is being laid out.
type massWave struct {
	wave  plan.Wave
	seal  *plan.Sealer
	rows  *pagestore.Writer
	load  *load
	verbs map[string]bool
}

func newMassWave(pages *pagestore.Store, w plan.Wave) (*massWave, error) {
	seal, err := plan.NewSealer(w)
	return &massWave{wave: w, seal: seal, rows: pages.Writer(), load: newLoad(), verbs: map[string]bool{}}, err
}

func (w *massWave) add(ctx context.Context, r page.Row, it plan.Item, k workflows.KindFacts, pb *playbooks.Playbook, waits int64) error {
	if err := w.seal.Add(it); err != nil {
		return err
	}
	if w.wave.Count < shownRows {
		w.wave.First = append(w.wave.First, it)
	}
	w.wave.Count++
	w.wave.Calls += len(it.Calls)
	for _, c := range it.Calls {
		w.verbs[c.Verb] = true
	}
	w.load.add(it, k, pb, waits)
	return w.rows.Add(ctx, r)
}

func (w *massWave) close(ctx context.Context, pb *playbooks.Playbook, rates map[string]float64) (plan.Wave, error) {
	l, err := w.rows.Close(ctx)
	if err != nil {
		return plan.Wave{}, err
	}
	w.wave.List, w.wave.Hash, w.wave.ETAMs = l.Hash, w.seal.Sum(), w.load.eta(rates)
	for _, step := range pb.Strategy(w.wave.Strategy).Steps {
		if w.verbs[string(step)] {
			w.wave.Verbs = append(w.wave.Verbs, string(step))
		}
	}
	return w.wave, nil
}
