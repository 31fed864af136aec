package workflows_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"rekey/activities"
	"rekey/internal/blob"
	"rekey/internal/engine"
	"rekey/internal/page"
	"rekey/internal/page/pagestore"
	"rekey/internal/plan"
	"rekey/playbooks"
	"rekey/workflows"
)

// memory is a blob store that is gone with the test.
type memory struct {
	mu sync.Mutex
	m  map[string][]byte
}

func (b *memory) Get(_ context.Context, hash string) ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	v, ok := b.m[hash]
	if !ok {
		return nil, &blob.NotFoundError{Hash: hash}
	}
	return v, nil
}

func (b *memory) Put(_ context.Context, v []byte) (string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.m[blob.Hash(v)] = slices.Clone(v)
	return blob.Hash(v), nil
}

func (b *memory) Has(_ context.Context, hash string) (bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, ok := b.m[hash]
	return ok, nil
}

// massWorld is what a story about a large incident has besides: the estate's rows, and
// the real engine over pages.
type massWorld struct {
	w      *world
	blobs  *memory
	engine *engine.Engine
	pages  *pagestore.Store
	ids    []string
	// strategy decides a row; wave is how many rows a wave has.
	strategy func(page.Row) playbooks.StrategyName
	wave     int
	owner    string
	lose     map[string]int // passes by verb that are lost with their worker
	passes   []page.Pass
}

// large makes the keys a story's estate reaches from the reported one.
func large(n int, change ...func(*massWorld)) option {
	return func(w *world) {
		b := &memory{m: map[string][]byte{}}
		m := &massWorld{
			w: w, blobs: b, engine: engine.New(engine.Options{Blobs: b}), pages: pagestore.New(b), wave: n, lose: map[string]int{},
			strategy: func(page.Row) playbooks.StrategyName { return playbooks.RevokeNow },
		}
		for i := range n {
			m.ids = append(m.ids, fmt.Sprintf("MASS-%05d", i))
		}
		w.mass = m
		w.set.Large = 3
		w.set.Playbook.Scope.Sources = []playbooks.Source{playbooks.SourceProvider, playbooks.SourceEstate}
		for _, c := range change {
			c(m)
		}
	}
}

func (m *massWorld) register() {
	env := m.w.env
	env.RegisterWorkflowWithOptions(workflows.Scope, workflow.RegisterOptions{Name: workflows.TypeScope})
	for name, f := range map[string]any{
		workflows.ActivityPin: m.engine.Pin, workflows.ActivityList: m.engine.List, workflows.ActivitySort: m.engine.Sort,
		workflows.ActivityUnfold: m.engine.Unfold, workflows.ActivityFind: m.engine.Find,
		workflows.ActivityClaimPages: m.claim, workflows.ActivityPlanPages: m.plan,
	} {
		env.RegisterActivityWithOptions(f, activity.RegisterOptions{Name: name})
	}
	for _, v := range activities.Verbs() {
		env.RegisterActivityWithOptions(m.pass(v), activity.RegisterOptions{Name: page.Name("awsiam", v)})
	}
}

// list writes rows as a list.
func (m *massWorld) list(rows []page.Row) page.List {
	slices.SortFunc(rows, func(a, b page.Row) int { return map[bool]int{true: -1, false: 1}[a.FP < b.FP] })
	wr := m.pages.Writer()
	for _, r := range rows {
		require.NoError(m.w.t, wr.Add(context.Background(), r))
	}
	l, err := wr.Close(context.Background())
	require.NoError(m.w.t, err)
	return l
}

// rows reads lists.
func (m *massWorld) rows(lists ...string) []page.Row {
	var out []page.Row
	hashes, err := m.pages.Hashes(context.Background(), lists...)
	require.NoError(m.w.t, err)
	require.NoError(m.w.t, m.pages.Each(context.Background(), hashes, func(rows []page.Row) error {
		out = append(out, rows...)
		return nil
	}))
	return out
}

// expand gives the rows once.
func (m *massWorld) expand(in workflows.ExpandInput) *workflows.MassPart {
	if len(in.Known) > 0 || in.Large == 0 {
		return nil
	}
	var rows []page.Row
	for _, id := range m.ids {
		if slices.ContainsFunc(in.Items, func(s workflows.Scoped) bool { return s.Key.ID == id }) {
			continue
		}
		var r page.Row
		r.SetKey(key(id))
		r.Basis, r.Why, r.Depth, r.Owner = "estate", "reached", 1, m.owner
		rows = append(rows, r)
	}
	l := m.list(rows)
	return &workflows.MassPart{List: l.Hash, N: l.Items}
}

func (m *massWorld) claim(_ context.Context, in workflows.ClaimPagesInput) (workflows.ClaimPagesResult, error) {
	out := workflows.ClaimPagesResult{}
	var ours []page.Row
	for _, r := range m.rows(in.List) {
		if owner := m.w.claims[r.FP]; owner != "" && owner != in.Incident {
			out.Conflicts = append(out.Conflicts, workflows.Scoped{Key: r.Key(), Basis: r.Basis, Why: r.Why, Conflict: owner})
			continue
		}
		ours = append(ours, r)
	}
	l := m.list(ours)
	out.List, out.N = l.Hash, l.Items
	return out, nil
}

func (m *massWorld) plan(_ context.Context, in workflows.PlanPagesInput) (workflows.PlanPagesResult, error) {
	out := workflows.PlanPagesResult{}
	started := map[string]bool{}
	for _, r := range m.rows(in.Started...) {
		started[r.FP] = true
	}
	by := map[playbooks.StrategyName][]page.Row{}
	for _, r := range m.rows(in.Lists...) {
		if started[r.FP] || slices.Contains(in.Out, r.FP) || slices.Contains(in.Held, r.FP) {
			continue
		}
		s := m.strategy(r)
		r.Reading, r.Next, r.Rule, r.Adopt = nil, page.Next{}, "test", r.Owner != ""
		if r.Adopt {
			r.Stores = []page.Store{{Target: "awssm", Name: r.Owner + "/aws"}}
			r.Dependents = []page.Dependent{{ID: "app-" + r.ID}}
		}
		by[s] = append(by[s], r)
	}
	for _, s := range playbooks.StrategyNames() {
		rows := by[s]
		if len(rows) == 0 {
			continue
		}
		if !s.Moves() {
			l := m.list(rows)
			out.Left = append(out.Left, workflows.MassLeft{Strategy: s, Items: l.Items, List: l.Hash})
			continue
		}
		for len(rows) > 0 {
			n := min(m.wave, len(rows))
			l := m.list(rows[:n])
			out.Waves = append(out.Waves, plan.Wave{Strategy: s, List: l.Hash, Count: l.Items, Hash: "sha256:wave-of-" + l.Hash[7:], Batch: page.Size, Playbook: in.Digest, Verbs: []string{"Disable"}})
			out.Calls += n
			rows = rows[n:]
		}
	}
	return out, nil
}

// pass is the runner in short: every row that is due, one after another.
func (m *massWorld) pass(v activities.Verb) func(context.Context, page.Pass) (page.PassResult, error) {
	return func(ctx context.Context, in page.Pass) (page.PassResult, error) {
		now := m.w.env.Now().UTC()
		m.w.mu.Lock()
		m.passes = append(m.passes, in)
		lost := m.lose[string(v)] > 0
		if lost {
			m.lose[string(v)]--
		}
		m.w.mu.Unlock()
		var f page.Facts
		require.NoError(m.w.t, m.facts(in.Facts, &f))
		var rows []page.Row
		for _, h := range in.Pages {
			got, err := m.pages.Rows(ctx, h)
			require.NoError(m.w.t, err)
			rows = append(rows, got...)
		}
		out := page.PassResult{Outcomes: map[string]int{}}
		one := m.w.provider.activity(v)
		for i := range rows {
			r := &rows[i]
			require.Equal(m.w.t, v, r.Next.Verb, "a pass is over rows that wait for its verb")
			require.NotContains(m.w.t, []string{page.GateHeld, page.GateHuman, page.GatePull, page.GateNotice}, r.Next.Gate)
			res, err := one(ctx, activities.Pass{Incident: in.Incident, ID: r.Journal(in.Incident + "/" + in.ID), Verb: v, Attempt: r.Tries + 1, Items: []activities.Request{f.Request(r, now)}})
			if err != nil {
				return out, err
			}
			a := res.Items[0]
			if a.Inspect != nil && f.Scope {
				for _, fd := range a.Inspect.Findings {
					out.Findings = append(out.Findings, page.Found{From: r.Key(), Finding: fd})
				}
			}
			f.Advance(r, a, in.Incident+"/"+in.ID, now) // the name of its journal
			out.Outcomes[string(a.Outcome)]++
		}
		if lost {
			return page.PassResult{}, temporal.NewTimeoutError(timeoutHeartbeat, nil)
		}
		for _, g := range page.Sort(rows) {
			ref, err := m.pages.Put(ctx, g)
			require.NoError(m.w.t, err)
			out.Groups = append(out.Groups, page.Group{Ref: ref, Provider: g[0].Provider, Account: g[0].Account, Next: g[0].Next, Tally: page.Count(g)})
		}
		return out, nil
	}
}

func (m *massWorld) facts(hash string, to *page.Facts) error {
	b, err := m.blobs.Get(context.Background(), hash)
	if err != nil {
		return err
	}
	return unmarshal(b, to)
}

// ends counts the rows of all lists by end state, as the last bundle has them.
func (m *massWorld) ends(t *testing.T) map[string]int {
	t.Helper()
	require.NotEmpty(t, m.w.seals)
	out := map[string]int{}
	seen := map[string]bool{}
	for _, r := range m.rows(m.w.seals[len(m.w.seals)-1].Lists...) {
		require.False(t, seen[r.FP], "%s is in two lists", r.ID)
		seen[r.FP] = true
		out[r.End]++
	}
	return out
}
