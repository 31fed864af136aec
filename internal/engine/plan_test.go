package engine

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/activities"
	"rekey/internal/plan"
	"rekey/playbooks"
	"rekey/workflows"
)

// scoped is an owned key whose logs were read and show no use.
func scoped(fp string) workflows.Scoped {
	yes := true
	return workflows.Scoped{
		Key:     activities.Key{FP: fp, Provider: "awsiam", Account: "prod", Kind: "user-access-key", ID: "id-" + fp, Principal: "ci"},
		Basis:   "report",
		Owner:   "billing",
		Reading: &activities.InspectResult{Exists: &yes, Roles: []string{"deploy"}},
	}
}

func input(t *testing.T, items ...workflows.Scoped) workflows.PlanInput {
	t.Helper()
	return workflows.PlanInput{Incident: "inc-1", Version: 1, Playbook: shipped(t), Digest: "sha256:aa", Items: items, Report: reported(), Now: now, Kinds: kinds()}
}

func build(t *testing.T, in workflows.PlanInput) workflows.PlanResult {
	t.Helper()
	out, err := BuildPlan(in)
	require.NoError(t, err)
	return out
}

func callsOf(it plan.Item) []string {
	var out []string
	for _, c := range it.Calls {
		out = append(out, c.Verb)
	}
	return out
}

func use(label string, ago time.Duration, count int64) activities.Use {
	return activities.Use{Label: label, Last: now.Add(-ago), Count: count}
}

func TestBuildPlanDecidesEveryStrategy(t *testing.T) {
	dep := []plan.Dependent{{ID: "invoices", Owner: "billing", BudgetMs: 1000}}
	yes := true
	killAndReplace := []string{"Disable", "EndSessions", "Probe", "Issue", "Distribute", "ProbeNew", "Revoke"}
	kill := []string{"Disable", "EndSessions", "Probe", "Revoke"}
	for name, row := range map[string]struct {
		change   func(*workflows.Scoped, *workflows.PlanInput)
		rule     string
		strategy playbooks.StrategyName
		calls    []string // nil: it is in no wave
		adopt    bool
		severity string
	}{
		"held":          {func(_ *workflows.Scoped, in *workflows.PlanInput) { in.Held = []string{"a"} }, "held", playbooks.Hold, nil, false, "medium"},
		"a customer's":  {func(s *workflows.Scoped, _ *workflows.PlanInput) { s.Customers = []string{"c1"} }, "not-ours", playbooks.NotifyOnly, nil, false, "medium"},
		"dirty store":   {func(s *workflows.Scoped, _ *workflows.PlanInput) { s.StoreDirty = &yes }, "dirty-store", playbooks.Barrier, nil, false, "medium"},
		"attacker-made": {func(s *workflows.Scoped, _ *workflows.PlanInput) { s.CreatedByCompromised, s.Dependents = true, dep }, "attacker-made", playbooks.RevokeNow, kill, false, "medium"},
		"unattributed":  {func(s *workflows.Scoped, _ *workflows.PlanInput) { s.Unattributed = true }, "unattributed", playbooks.DisableAndWatch, kill, false, "medium"},
		"abuse before live": {func(s *workflows.Scoped, _ *workflows.PlanInput) {
			s.Dependents = dep
			s.Reading.Uses = []activities.Use{{Malicious: true, Last: now.Add(-time.Hour), Count: 2}}
		}, "abuse", playbooks.RevokeNow, killAndReplace, true, "critical"},
		"abuse declared":   {func(_ *workflows.Scoped, in *workflows.PlanInput) { in.Malicious = map[string]int64{"a": 1} }, "abuse", playbooks.RevokeNow, killAndReplace, true, "critical"},
		"abuse of another": {func(_ *workflows.Scoped, in *workflows.PlanInput) { in.Malicious = map[string]int64{"b": 1} }, "idle", playbooks.RevokeNow, killAndReplace, true, "medium"},
		"old abuse": {func(s *workflows.Scoped, _ *workflows.PlanInput) {
			s.Reading.Uses = []activities.Use{{Malicious: true, Last: now.Add(-24 * time.Hour), Count: 2}}
		}, "idle", playbooks.RevokeNow, killAndReplace, true, "medium"},
		"idle":            {func(*workflows.Scoped, *workflows.PlanInput) {}, "idle", playbooks.RevokeNow, killAndReplace, true, "medium"},
		"idle, of nobody": {func(s *workflows.Scoped, _ *workflows.PlanInput) { s.Owner = "" }, "idle", playbooks.RevokeNow, kill, false, "medium"},
		"live":            {func(s *workflows.Scoped, _ *workflows.PlanInput) { s.Dependents = dep }, "live", playbooks.ReissueFirst, []string{"Issue", "Distribute", "Disable", "EndSessions", "Probe", "Revoke"}, true, "medium"},
		"live, no owner to fill the store's name": {func(s *workflows.Scoped, _ *workflows.PlanInput) { s.Owner, s.Dependents = "", dep }, "live", playbooks.ReissueFirst, []string{"Issue", "Disable", "EndSessions", "Probe", "Revoke"}, true, "medium"},
		"seen in use": {func(s *workflows.Scoped, _ *workflows.PlanInput) {
			s.Reading.Uses = []activities.Use{use("known", 48*time.Hour, 3)}
		}, "live", playbooks.ReissueFirst, []string{"Issue", "Distribute", "Disable", "EndSessions", "Probe", "Revoke"}, true, "medium"},
		"a use nobody explains": {func(s *workflows.Scoped, _ *workflows.PlanInput) {
			s.Reading.Uses = []activities.Use{use("new", time.Hour, 3)}
		}, "default", playbooks.DisableAndWatch, kill, true, "medium"},
		"a day without a log": {func(s *workflows.Scoped, _ *workflows.PlanInput) {
			s.Reading.Dark = []activities.Window{{From: now.Add(-48 * time.Hour), To: now.Add(-24 * time.Hour)}}
		}, "default", playbooks.DisableAndWatch, kill, true, "medium"},
		"never read": {func(s *workflows.Scoped, _ *workflows.PlanInput) { s.Reading = nil }, "default", playbooks.DisableAndWatch, kill, true, "medium"},
		"sessions die with it": {func(_ *workflows.Scoped, in *workflows.PlanInput) {
			k := in.Kinds["awsiam/user-access-key"]
			k.SessionsOutlive = false
			in.Kinds["awsiam/user-access-key"] = k
		}, "idle", playbooks.RevokeNow, slices.Delete(slices.Clone(killAndReplace), 1, 2), true, "medium"},
		"an administrator's":     {func(s *workflows.Scoped, _ *workflows.PlanInput) { s.Reading.Admin = &yes }, "idle", playbooks.RevokeNow, killAndReplace, true, "critical"},
		"published to the world": {func(s *workflows.Scoped, _ *workflows.PlanInput) { s.Exposure = "public" }, "idle", playbooks.RevokeNow, killAndReplace, true, "high"},
	} {
		t.Run(name, func(t *testing.T) {
			s := scoped("a")
			in := input(t)
			row.change(&s, &in)
			in.Items = []workflows.Scoped{s}
			out := build(t, in)
			d, ok := out.Plan.Decision("a")
			require.True(t, ok)
			require.Equal(t, row.rule, d.Rule)
			require.Equal(t, row.strategy, d.Strategy)
			require.Equal(t, row.severity, out.Severity)
			if row.calls == nil {
				require.Empty(t, out.Plan.Waves, "nothing moves")
				require.Zero(t, out.Plan.Calls)
				return
			}
			require.Len(t, out.Plan.Waves, 1)
			w := out.Plan.Waves[0]
			require.Equal(t, row.strategy, w.Strategy)
			require.Equal(t, "sha256:aa", w.Playbook)
			require.Equal(t, row.calls, callsOf(w.Items[0]))
			require.Equal(t, len(row.calls), out.Plan.Calls)
			require.Equal(t, row.adopt, w.Items[0].Adopt)
			if !row.adopt || s.Owner == "" {
				require.Empty(t, w.Items[0].Stores)
			} else {
				require.Equal(t, []plan.Store{{Target: "awssm", Name: "billing/aws"}}, w.Items[0].Stores)
			}
			want := []string{"irreversible"}
			if row.strategy == playbooks.ReissueFirst {
				want = append(want, "warn-before-cut")
			}
			require.Equal(t, want, w.Gates)
		})
	}
}

func TestBuildPlanSaysWhatItReadAndWhatItCouldNot(t *testing.T) {
	s := scoped("a")
	s.Dependents = []plan.Dependent{{ID: "invoices"}}
	out := build(t, input(t, s))
	d, _ := out.Plan.Decision("a")
	require.Equal(t, "1", d.Facts["scope.dependents_seen_30d"])
	require.Contains(t, d.Skipped, "dirty-store", "where the new secret would go is not known")
	require.NotContains(t, d.Skipped, "idle", "it was false, not unknown")
	s = scoped("a")
	s.Reading = nil
	out = build(t, input(t, s))
	d, _ = out.Plan.Decision("a")
	require.Contains(t, d.Skipped, "live")
	require.Contains(t, d.Skipped, "abuse")
}

func TestBuildPlanCutsWavesOfTen(t *testing.T) {
	var items []workflows.Scoped
	for i := range 23 {
		items = append(items, scoped(fmt.Sprintf("k%02d", i)))
	}
	live, watch := scoped("live"), scoped("watch")
	live.Dependents, watch.Unattributed = []plan.Dependent{{ID: "x"}}, true
	in := input(t, append(items, live, watch)...)
	out := build(t, in)
	var shape []string
	seen := map[string]bool{}
	for _, w := range out.Plan.Waves {
		shape = append(shape, fmt.Sprintf("%d %s %d", w.N, w.Strategy, len(w.Items)))
		for _, it := range w.Items {
			require.False(t, seen[it.Key.FP])
			seen[it.Key.FP] = true
		}
	}
	require.Equal(t, []string{"1 revoke-now 10", "2 revoke-now 10", "3 revoke-now 3", "4 disable-and-watch 1", "5 reissue-first 1"}, shape)
	require.Len(t, seen, 25)

	slices.Reverse(in.Items)
	in.Now, in.Version = now.Add(time.Minute), 2
	require.Equal(t, out.Plan.Hash, build(t, in).Plan.Hash, "neither order, clock nor version")
	require.Equal(t, "watch", in.Items[0].Key.FP, "the input is left as it is")
}

func TestBuildPlanLeavesStartedWavesAsTheyAre(t *testing.T) {
	a, b := scoped("a"), scoped("b")
	a.Dependents = []plan.Dependent{{ID: "invoices"}}
	first := build(t, input(t, a))
	in := input(t, a, b)
	in.Started, in.Malicious = first.Plan.Waves, map[string]int64{"a": 3}
	out := build(t, in)
	require.Len(t, out.Plan.Waves, 2)
	require.Equal(t, first.Plan.Waves[0], out.Plan.Waves[0])
	require.Equal(t, 2, out.Plan.Waves[1].N)
	require.Len(t, out.Plan.Waves[1].Items, 1)
	require.Equal(t, "b", out.Plan.Waves[1].Items[0].Key.FP)
	d, _ := out.Plan.Decision("a")
	require.Equal(t, "abuse", d.Rule, "it is decided again, so that abuse can promote it")
	require.Equal(t, "critical", out.Severity)
}

func TestBuildPlanRungs(t *testing.T) {
	in := input(t, scoped("a"))
	in.Playbook.Ladder.Automatic = []playbooks.Rung{"key", "sessions", "principal"}
	in.Playbook.Ladder.Approved = []playbooks.Rung{"parent-deny", "network-bind"}
	it := build(t, in).Plan.Waves[0].Items[0]
	for name, want := range map[string]struct {
		approved bool
		call     plan.Call
	}{
		"key":          {true, plan.Call{Verb: "Revoke", Support: "api", Vendor: []string{"iam:Revoke"}, Target: "ci"}},
		"sessions":     {true, plan.Call{Verb: "EndSessions", Support: "api", Vendor: []string{"iam:EndSessions"}, Target: "ci"}},
		"principal":    {false, plan.Call{Verb: "Deny", Support: "api", Vendor: []string{"iam:Deny"}, Target: "ci"}},
		"parent-deny":  {false, plan.Call{Verb: "Deny", Support: "human", Target: "prod"}},
		"network-bind": {false, plan.Call{Verb: "Bind", Support: "api", Vendor: []string{"iam:Bind"}, Target: "ci"}},
	} {
		r, ok := it.Rung(name)
		require.True(t, ok, name)
		require.Equal(t, want.approved, r.Approved, "%s: a rung over the principal is never climbed by policy", name)
		require.Equal(t, []plan.Call{want.call}, r.Calls)
		require.NotEmpty(t, r.Price)
	}
	in.Kinds = map[string]workflows.KindFacts{}
	it = build(t, in).Plan.Waves[0].Items[0]
	require.Len(t, it.Rungs, 1, "only what a person does exists without verbs")
	require.Equal(t, "parent-deny", it.Rungs[0].Name)
	require.Equal(t, "none", it.Calls[0].Support)
}

func TestBuildPlanPrice(t *testing.T) {
	dep := []plan.Dependent{{ID: "invoices", Owner: "billing", BudgetMs: 1000}}
	live, idle, watch := scoped("a"), scoped("b"), scoped("c")
	live.Dependents, watch.Dependents, watch.Unattributed = dep, dep, true
	out := build(t, input(t, live, idle))
	require.Equal(t, 13, out.Plan.Calls)
	require.EqualValues(t, 7*200+15_000+30_000+30_000, out.Plan.ETAMs, "the slowest: calls, propagation, proof, sweep")
	require.Equal(t, []plan.Break{{Dependent: "invoices", Owner: "billing", BudgetMs: 1000, Why: "reissue-first of a"}}, out.Plan.Breaks)
	out = build(t, input(t, watch))
	eta := int64(4*200+15_000+30_000+30_000) + (24 * time.Hour).Milliseconds()
	require.Equal(t, eta, out.Plan.ETAMs)
	require.Equal(t, eta, out.Plan.Breaks[0].OutageMs)
}

func TestPlanOfNothing(t *testing.T) {
	out, err := (&Engine{}).Plan(context.Background(), input(t))
	require.NoError(t, err)
	require.Empty(t, out.Severity)
	require.NotNil(t, out.Plan.Waves)
	require.NotEmpty(t, out.Plan.Hash)
}
