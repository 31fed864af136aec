package engine

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/activities"
	"rekey/internal/canon"
	"rekey/internal/page"
	"rekey/internal/plan"
	"rekey/playbooks"
	"rekey/workflows"
)

// read is a row with what a provider said of it.
func read(t testing.TB, s workflows.Scoped) page.Row {
	t.Helper()
	r := rowOf(s)
	if s.Reading != nil {
		b, err := canon.JSON(s.Reading)
		require.NoError(t, err)
		r.Reading, r.Roles = b, s.Reading.Roles
	}
	return r
}

// various gives items that rules decide in different ways; of n some dozens hold, the
// rest moves.
func various(n int) []workflows.Scoped {
	yes := true
	out := make([]workflows.Scoped, 0, n)
	for i := range n {
		s := scoped(fmt.Sprintf("fp1_%08x%056x", i, i))
		s.Basis, s.Key.ID, s.Key.Principal = "estate", fmt.Sprintf("AKIAX%015d", i), fmt.Sprintf("svc-%d", i)
		s.Dependents = []plan.Dependent{{ID: fmt.Sprintf("app-%d", i%70), Owner: "team", BudgetMs: int64(1000 + i%7), Cutover: "dual", Proof: "probe"}}
		switch i % 10 {
		case 0:
			s.Dependents = nil
		case 1:
			s.Reading = nil
			s.Dependents = nil
		case 2:
			s.Dependents, s.Owner = nil, ""
		case 3:
			s.Customers = []string{fmt.Sprintf("c%d", i%3)}
		case 4:
			s.StoreDirty = &yes
		case 5:
			s.Reading.Uses = []activities.Use{{Malicious: true, Last: now.Add(-time.Hour), Count: 2}}
		case 6:
			s.Unattributed = true
		}
		out = append(out, s)
	}
	return out
}

// massOf puts items into a list.
func massOf(t testing.TB, e *Engine, items []workflows.Scoped) string {
	t.Helper()
	w := e.pages().Writer()
	for _, s := range items {
		require.NoError(t, w.Add(t.Context(), read(t, s)))
	}
	l, err := w.Close(t.Context())
	require.NoError(t, err)
	return l.Hash
}

func pagesInput(t testing.TB, lists ...string) workflows.PlanPagesInput {
	t.Helper()
	return workflows.PlanPagesInput{Incident: "inc-1", Playbook: shipped(t), Digest: "sha256:aa", Lists: lists, Report: reported(), Now: now, Kinds: kinds()}
}

func planned(t testing.TB, e *Engine, in workflows.PlanPagesInput) workflows.PlanPagesResult {
	t.Helper()
	out, err := e.PlanPages(t.Context(), in)
	require.NoError(t, err)
	return out
}

func rowsOf(t testing.TB, e *Engine, lists ...string) []page.Row {
	t.Helper()
	st, err := e.pages().Stream(t.Context(), lists...)
	require.NoError(t, err)
	defer st.Close()
	var out []page.Row
	for {
		r, ok, err := st.Next()
		require.NoError(t, err)
		if !ok {
			return out
		}
		out = append(out, r)
	}
}

// A row is decided, planned and hashed as the same item would be.
func TestPlanPagesDecidesAsPlanDoes(t *testing.T) {
	e := New(Options{Blobs: newBlobs()})
	items := various(1300)
	in := pagesInput(t, massOf(t, e, items))
	in.Held = []string{items[7].Key.FP, items[17].Key.FP}
	out := planned(t, e, in)
	small := input(t, items...)
	small.Held = in.Held
	want := build(t, small)

	by := map[playbooks.StrategyName][]plan.Item{}
	for _, w := range want.Plan.Waves {
		by[w.Strategy] = append(by[w.Strategy], w.Items...)
	}
	require.Len(t, out.Waves, 3)
	calls := 0
	for i, w := range out.Waves {
		require.Equal(t, moving[i], w.Strategy, "what may be in use by a thief goes first")
		full := plan.Wave{Strategy: w.Strategy, Items: by[w.Strategy], Gates: gates(&in.Playbook, w.Strategy), Batch: page.Size, Playbook: in.Digest}
		require.NoError(t, full.Seal())
		require.Equal(t, full.Hash, w.Hash, "the hash is over the items and calls, whatever holds them")
		require.Equal(t, len(by[w.Strategy]), w.Count)
		require.Equal(t, full.Gates, w.Gates)
		require.Empty(t, w.Items)
		require.Equal(t, full.Items[:3], w.First, "people see exact calls")
		calls += w.Calls
		l, err := e.pages().List(t.Context(), w.List)
		require.NoError(t, err)
		require.Equal(t, w.Count, l.Items)
		for k, r := range rowsOf(t, e, w.List) {
			it := by[w.Strategy][k]
			d, _ := want.Plan.Decision(r.FP)
			require.Equal(t, it.Key, r.Key())
			require.Equal(t, it.Adopt, r.Adopt)
			require.Len(t, r.Stores, len(it.Stores))
			for n, st := range it.Stores {
				require.Equal(t, page.Store{Name: st.Name, Target: st.Target}, r.Stores[n])
			}
			require.Equal(t, it.Dependents, r.PlanDependents())
			require.Equal(t, it.Roles, r.Roles)
			require.Equal(t, it.Owner, r.Owner)
			require.Equal(t, string(d.Strategy), r.Strategy)
			require.Equal(t, d.Rule, r.Rule)
			require.Equal(t, fmt.Sprint(d.Facts), fmt.Sprint(r.Facts))
			require.Equal(t, fmt.Sprint(d.Skipped), fmt.Sprint(r.Skipped))
			require.Empty(t, r.Reading, "pages are small after the plan")
		}
	}
	require.Equal(t, []string{"Disable", "EndSessions", "Probe", "Issue", "Distribute", "ProbeNew", "Revoke"}, out.Waves[0].Verbs)
	require.Equal(t, want.Plan.Calls, calls)
	require.Equal(t, calls, out.Calls)
	require.Equal(t, want.Severity, out.Severity)
	rules := map[string]int{}
	for _, d := range want.Plan.Decisions {
		rules[d.Rule]++
	}
	require.Equal(t, rules, out.Rules)
	left := map[playbooks.StrategyName]int{}
	for _, l := range out.Left {
		left[l.Strategy] = l.Items
		for _, r := range rowsOf(t, e, l.List) {
			d, _ := want.Plan.Decision(r.FP)
			require.Equal(t, l.Strategy, d.Strategy)
		}
	}
	require.Equal(t, map[playbooks.StrategyName]int{playbooks.Hold: 2, playbooks.NotifyOnly: 130, playbooks.Barrier: 130}, left)
	require.Equal(t, 1300, out.ScopeItems)
	require.Equal(t, 3, out.ScopeCustomers)
}

func TestPlanPagesIsTheSameForTheSameInput(t *testing.T) {
	e := New(Options{Blobs: newBlobs()})
	items := various(900)
	half := massOf(t, e, items[:400])
	in := pagesInput(t, massOf(t, e, items[400:]), half)
	out := planned(t, e, in)
	in.Lists = []string{half, in.Lists[0]}
	in.Now = now.Add(time.Second)
	require.Equal(t, out, planned(t, e, in), "neither the order of lists nor the clock")
	one := planned(t, e, pagesInput(t, massOf(t, e, items)))
	require.Equal(t, one, out, "nor how the rows came")
	in.Lists = append(in.Lists, half)
	_, err := e.PlanPages(t.Context(), in)
	require.ErrorContains(t, err, "two lists")
}

func TestPlanPagesSurvivesAFullDisk(t *testing.T) {
	b := newBlobs()
	e := New(Options{Blobs: b})
	in := pagesInput(t, massOf(t, e, various(700)))
	want := planned(t, e, in)
	for left := range 5 {
		b.left = left
		_, err := e.PlanPages(t.Context(), in)
		require.ErrorContains(t, err, "disk full")
	}
	b.left = -1
	require.Equal(t, want, planned(t, e, in))
}

func TestPlanPagesLeavesOutWhatMovesAlready(t *testing.T) {
	e := New(Options{Blobs: newBlobs()})
	items := various(600)
	in := pagesInput(t, massOf(t, e, items))
	first := planned(t, e, in)
	in.Started = []string{first.Waves[0].List}
	in.Out = []string{rowsOf(t, e, first.Waves[1].List)[0].FP}
	out := planned(t, e, in)
	require.Len(t, out.Waves, 2)
	require.Equal(t, first.Waves[1].Count-1, out.Waves[0].Count)
	require.NotEqual(t, first.Waves[1].Hash, out.Waves[0].Hash)
	require.Equal(t, first.Waves[2], out.Waves[1], "a wave that nothing touches stays, and its votes with it")
	require.Equal(t, 600, out.ScopeItems, "they are in scope all the same")
	require.Equal(t, first.Calls-first.Waves[0].Calls-len(planItem(&in.Playbook, items[6], first.Waves[1].Strategy, in.Kinds).Calls), out.Calls)

	in = pagesInput(t, in.Lists[0])
	in.AllHeld = true
	out = planned(t, e, in)
	require.Empty(t, out.Waves)
	require.Zero(t, out.ETAMs)
	require.Equal(t, []workflows.MassLeft{{Strategy: playbooks.Hold, Items: 600, List: out.Left[0].List}}, out.Left)
}

// Items of the incident count in facts over the whole scope, and are not counted twice
// when they were rows before.
func TestPlanPagesCountsTheWholeScope(t *testing.T) {
	e := New(Options{Blobs: newBlobs()})
	items := various(40)
	in := pagesInput(t, massOf(t, e, items[:30]))
	in.Items, in.Out = items[29:], []string{items[29].Key.FP}
	in.Playbook.Decide = append([]playbooks.Rule{{ID: "large", Strategy: playbooks.DisableAndWatch, When: "scope.items == 40 && scope.customers == 3"}}, in.Playbook.Decide...)
	out := planned(t, e, in)
	require.Equal(t, map[string]int{"large": 29}, out.Rules)
	small := input(t, items[29:]...)
	small.Playbook, small.Paged = in.Playbook, &out
	for _, d := range build(t, small).Plan.Decisions {
		require.Equal(t, "large", d.Rule, "rules over items see the rows too")
	}
}

func TestPlanPagesCutsWaves(t *testing.T) {
	e := New(Options{Blobs: newBlobs()})
	w := e.pages().Writer()
	const n = workflows.WaveRows + 700
	for i := range n {
		require.NoError(t, w.Add(t.Context(), page.Row{FP: fmt.Sprintf("fp1_%064x", i), Provider: "awsiam", Account: "prod", Kind: "user-access-key", Basis: "estate"}))
	}
	l, err := w.Close(t.Context())
	require.NoError(t, err)
	out := planned(t, e, pagesInput(t, l.Hash))
	require.Len(t, out.Waves, 2)
	require.Equal(t, []int{workflows.WaveRows, 700}, []int{out.Waves[0].Count, out.Waves[1].Count})
	last, err := e.pages().List(t.Context(), out.Waves[1].List)
	require.NoError(t, err)
	require.Equal(t, fmt.Sprintf("fp1_%064x", workflows.WaveRows), last.Pages[0].First, "in the order of fingerprints")
}

// N calls under a limit of R take N/R, whatever else they wait for.
func TestPlanPagesETA(t *testing.T) {
	var items []workflows.Scoped
	for i := range 600 {
		s := scoped(fmt.Sprintf("fp1_%08x%056x", i, i))
		s.Basis, s.Owner = "estate", ""
		items = append(items, s)
	}
	info := kinds()
	k := info["awsiam/user-access-key"]
	for v, vi := range k.Verbs {
		vi.API = "iam"
		if v == activities.Probe {
			vi.API = "sts"
		}
		k.Verbs[v] = vi
	}
	fixed := int64(4*callMs + 15_000 + 30_000)
	for name, row := range map[string]struct {
		rates map[string]float64
		turns int64
	}{
		"no limit: 32 at once": {nil, 600 * (3 + 4) * callMs / callsAtOnce},
		"one limit":            {map[string]float64{"awsiam/prod/iam": 10}, 600 * 3 * 1000 / 10},
		"the tighter of two":   {map[string]float64{"awsiam/prod/iam": 10, "awsiam/prod/sts": 5}, 600 * 4 * 1000 * 5 / (5 * 4)},
		"of another account":   {map[string]float64{"awsiam/test/iam": 1}, 600 * (3 + 4) * callMs / callsAtOnce},
	} {
		t.Run(name, func(t *testing.T) {
			e := New(Options{Blobs: newBlobs(), Rates: row.rates})
			in := pagesInput(t, massOf(t, e, items))
			in.Kinds = info
			out := planned(t, e, in)
			require.Len(t, out.Waves, 1)
			require.Equal(t, row.turns+fixed, out.ETAMs)
			require.Equal(t, out.ETAMs, out.Waves[0].ETAMs)
		})
	}
	t.Run("waves share the budget of their account", func(t *testing.T) {
		e := New(Options{Blobs: newBlobs(), Rates: map[string]float64{"awsiam/prod/iam": 10}})
		both := slices.Clone(items)
		for i := range both[:300] {
			both[i].Unattributed = true
		}
		in := pagesInput(t, massOf(t, e, both))
		in.Kinds = info
		out := planned(t, e, in)
		require.Len(t, out.Waves, 2)
		quiet := (24 * time.Hour).Milliseconds()
		require.Equal(t, 600*3*1000/10+fixed+quiet, out.ETAMs)
		require.Equal(t, 300*3*1000/10+fixed, out.Waves[0].ETAMs)
		require.Equal(t, 300*3*1000/10+fixed+quiet, out.Waves[1].ETAMs)
	})
}

func TestPlanPagesNamesTheWorstBreaks(t *testing.T) {
	e := New(Options{Blobs: newBlobs(), Rates: map[string]float64{"awsiam/prod/": 1}})
	var items []workflows.Scoped
	for i := range 900 {
		s := scoped(fmt.Sprintf("fp1_%08x%056x", i, i))
		s.Basis, s.Reading.Uses = "estate", []activities.Use{{Malicious: true, Last: now.Add(-time.Hour), Count: 1}}
		s.Dependents = []plan.Dependent{{ID: fmt.Sprintf("app-%03d", i%600), BudgetMs: int64(i)}, {ID: "everybody", BudgetMs: 5000}}
		if i%2 == 1 { // reissued first: nobody is interrupted
			s.Reading.Uses = nil
		}
		items = append(items, s)
	}
	out := planned(t, e, pagesInput(t, massOf(t, e, items)))
	require.Len(t, out.Breaks, mostBreaks)
	seen := map[string]bool{}
	for i, b := range out.Breaks {
		require.False(t, seen[b.Dependent], "each dependent once")
		seen[b.Dependent] = true
		if i > 0 {
			require.LessOrEqual(t, worse(out.Breaks[i-1], b), 0)
		}
		require.Equal(t, fmt.Sprintf("app-%03d", 2*i), b.Dependent, "the longest outage first, then the smallest budget")
		require.Equal(t, "revoke-now", b.Why[:10])
		require.Greater(t, b.OutageMs, int64(900*1000), "it waits for the turns of the others")
	}
}

func TestBuildPlanSealsPagedWavesIntoThePlan(t *testing.T) {
	e := New(Options{Blobs: newBlobs()})
	paged := planned(t, e, pagesInput(t, massOf(t, e, various(800))))
	items := various(830)[800:]
	in := input(t, items...)
	alone := build(t, in)
	in.Paged = &paged
	out := build(t, in)
	n := len(alone.Plan.Waves)
	require.Equal(t, alone.Plan.Waves, out.Plan.Waves[:n])
	require.Len(t, out.Plan.Waves, n+3)
	for i, w := range out.Plan.Waves {
		require.Equal(t, i+1, w.N)
	}
	for i, w := range paged.Waves {
		got := out.Plan.Waves[n+i]
		got.N = w.N
		require.Equal(t, w, got)
	}
	require.Equal(t, alone.Plan.Calls+paged.Calls, out.Plan.Calls)
	require.Equal(t, max(alone.Plan.ETAMs, paged.ETAMs), out.Plan.ETAMs)
	require.Len(t, out.Plan.Breaks, len(alone.Plan.Breaks)+len(paged.Breaks))
	require.Equal(t, "critical", out.Severity)
	require.Zero(t, in.Paged.Waves[0].N, "the input is left as it is")

	again := slices.Clone(paged.Waves)
	again[2].Hash = "sha256:other"
	in.Paged = &workflows.PlanPagesResult{Waves: again}
	require.NotEqual(t, out.Plan.Hash, build(t, in).Plan.Hash, "the root is over the paged waves too")

	in.Paged, in.Started, in.Items = nil, out.Plan.Waves[n:], nil
	started := build(t, in)
	require.Equal(t, paged.Calls, started.Plan.Calls, "a paged wave that runs counts as it did")
	low := input(t)
	low.Paged = &workflows.PlanPagesResult{Severity: "high"}
	require.Equal(t, "high", build(t, low).Severity)
}

func TestUnfoldPlansRowsAsItems(t *testing.T) {
	e := New(Options{Blobs: newBlobs()})
	items := various(100)
	in := pagesInput(t, massOf(t, e, items))
	out := planned(t, e, in)
	rows := rowsOf(t, e, out.Waves[0].List)[:4]
	u := workflows.UnfoldInput{Incident: "inc-1", Rows: rows, Strategy: out.Waves[0].Strategy, Playbook: in.Playbook, Digest: in.Digest, Kinds: in.Kinds, From: 3}
	w, err := e.Unfold(context.Background(), u)
	require.NoError(t, err)
	for _, small := range build(t, input(t, items...)).Plan.Waves {
		if small.Strategy == w.Strategy && small.N == 1 {
			require.Equal(t, small.Items[:4], w.Items)
		}
	}
	require.Contains(t, w.Gates, "irreversible")
	require.Equal(t, 1, w.Batch)
	u.From = 4
	other, err := e.Unfold(context.Background(), u)
	require.NoError(t, err)
	require.NotEqual(t, w.Hash, other.Hash, "the same items out of another wave are another wave")
}

func TestFindTakesTheFirstListThatHasTheRow(t *testing.T) {
	e := New(Options{Blobs: newBlobs()})
	items := various(1200)
	later := various(1200)[1100:]
	for i := range later {
		later[i].Owner = "moved"
	}
	newer, list := massOf(t, e, later), massOf(t, e, items)
	names := []string{items[3].Key.FP, items[700].Key.ID, items[1150].Key.FP, "fp1_none", "nobody"}
	out, err := e.Find(t.Context(), workflows.FindInput{Names: names, Lists: []string{newer, list}})
	require.NoError(t, err)
	require.Len(t, out.Rows, 3)
	require.Equal(t, items[3].Key, func() activities.Key { r := out.Rows[names[0]]; return r.Key() }())
	require.Equal(t, items[700].Key.FP, out.Rows[names[1]].FP)
	require.Equal(t, "moved", out.Rows[names[2]].Owner, "of the first list that has it")
	require.Equal(t, map[string]string{names[0]: list, names[1]: list, names[2]: newer}, out.In)
	short := items[5].Key.Short()
	out, err = e.Find(t.Context(), workflows.FindInput{Names: []string{short}, Lists: []string{list}})
	require.NoError(t, err)
	require.Equal(t, short, func() string { r := out.Rows[short]; return r.Key().Short() }())
}

func BenchmarkPlanPages(b *testing.B) {
	for _, n := range []int{10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			e := New(Options{Blobs: newBlobs()})
			in := pagesInput(b, massOf(b, e, various(n)))
			b.ReportAllocs()
			for b.Loop() {
				planned(b, e, in)
			}
		})
	}
}
