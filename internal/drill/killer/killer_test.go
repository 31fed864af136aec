package killer

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"rekey/internal/drill"
	"rekey/internal/event"
	"rekey/internal/lab/control"
	"rekey/internal/view"
)

// TestASeedMeansTheSameForEver: a failure of last year must be played again today. When
// this fails, seeds got another meaning: say so where results are kept.
func TestASeedMeansTheSameForEver(t *testing.T) {
	require.Equal(t, Plan{1, Stubborn, "Distribute", control.BeforeCall, 1, "engine"}, Of(1, "engine"))
	require.Equal(t, Plan{2, Pair, "EndSessions", control.AfterRecord, 2, "engine"}, Of(2, "engine"))
	require.Equal(t, "seed 3: stubborn, kill engine after-call-before-record of Disable call 3", Of(3, "engine", "temporal", "both").String())
}

// TestSeedsReachEverything: some thousand seeds strike every call at every edge.
func TestSeedsReachEverything(t *testing.T) {
	seen := map[Plan]int{}
	for seed := range uint64(5000) {
		p := Of(seed, "engine", "temporal", "both")
		p.Seed = 0
		seen[p]++
	}
	want := 0
	for _, s := range shapes() {
		for _, n := range s.calls {
			want += n * len(edges) * 3
		}
	}
	require.Len(t, seen, want)
}

func TestSeeds(t *testing.T) {
	for text, want := range map[string][2]uint64{"17": {17, 17}, "1:1000": {1, 1000}, "18446744073709551615": {1<<64 - 1, 1<<64 - 1}} {
		from, to, err := Seeds(text)
		require.NoError(t, err)
		require.Equal(t, want, [2]uint64{from, to})
	}
	for _, text := range []string{"", "x", "1:", "5:1", "-1", "1:2:3"} {
		_, _, err := Seeds(text)
		require.Error(t, err, text)
	}
}

// TestWorldsLoad: every shape makes a scenario that the lab takes.
func TestWorldsLoad(t *testing.T) {
	var plans []Plan
	for seed := range uint64(20) {
		plans = append(plans, Of(seed, "engine"))
	}
	d, _, err := load(t.TempDir(), plans)
	require.NoError(t, err)
	n := 0
	for i, p := range plans {
		n += len(keys(p, i+1))
	}
	require.Len(t, d.Estate.Keys, n)
	require.NoError(t, d.Unsupported(map[string]bool{"lab": true}))
}

// TestResultsGoOn: what is in the file is not played again; half a line is no result.
func TestResultsGoOn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "results.jsonl")
	r, err := openResults(path)
	require.NoError(t, err)
	require.NoError(t, r.add(Outcome{Plan: Of(1, "engine"), Result: Passed, WallMs: 10}))
	require.NoError(t, r.add(Outcome{Plan: Of(2, "engine"), Result: Failed, Wrong: []string{"CUT-1 is no item: it was lost"}, WallMs: 30}))
	require.NoError(t, r.addClosing("/d", "secret 1 of 4 is in engine.log"))
	require.NoError(t, r.close())
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0o600)
	require.NoError(t, err)
	_, err = f.WriteString(`{"seed":3,"result":"pas`)
	require.NoError(t, err)
	require.NoError(t, f.Close())

	r, err = openResults(path)
	require.NoError(t, err)
	require.Equal(t, []bool{true, true, false}, []bool{r.has(1), r.has(2), r.has(3)})
	require.NoError(t, r.add(Outcome{Plan: Of(3, "engine"), Result: Missed}))
	require.NoError(t, r.close())
	r, err = openResults(path)
	require.NoError(t, err)
	s := r.summary(1, 4)
	require.NoError(t, r.close())
	require.Equal(t, map[string]int{Passed: 1, Failed: 1, Missed: 1}, s.Results)
	require.False(t, s.Good())
	require.Contains(t, s.String(), "3 of 4 seeds played: 1 failed, 1 missed, 1 passed,")
	require.Contains(t, s.String(), "CUT-1 is no item: it was lost")
	require.Contains(t, s.String(), "-kill-seeds 2\n")
	require.Contains(t, s.String(), "a secret was found in /d")
	require.True(t, r.summary(1, 1).Results[Passed] == 1 && !r.summary(1, 1).Good(), "a secret in the clear is no success")
}

// a well-ended incident of a pair, as the lab and rekey tell of it.
func ended() (Plan, *drill.Played, control.Oracle, func(string) string) {
	ids := map[string]string{"CUT-1": "AKIA-c", "REPLACE-1": "AKIA-r"}
	call := func(verb, action, key, target, token string) control.Call {
		return control.Call{Verb: verb, Action: action, Key: key, Target: target, Result: "ok", Effect: true, Agent: "rekey/1 rekey-incident/inc-1 rekey-token/" + token + " "}
	}
	o := control.Oracle{
		Keys: []control.Key{
			{ID: "AKIA-c", User: "cut-1", State: "deleted", MintedBy: "scenario"}, {ID: "AKIA-r", User: "replace-1", State: "deleted", MintedBy: "scenario"},
			{ID: "AKIA-c2", User: "cut-1", State: "active", Alive: true, MintedBy: "engine"}, {ID: "AKIA-r2", User: "replace-1", State: "active", Alive: true, MintedBy: "engine"},
			{ID: "AKIA-x", User: "cut-2", State: "active", Alive: true, MintedBy: "engine"}, // of another incident
		},
		Calls: []control.Call{
			call("Disable", "iam:UpdateAccessKey", "AKIA-c", "cut-1", "a1"), call("Revoke", "iam:DeleteAccessKey", "AKIA-c", "cut-1", "a2"),
			call("Issue", "iam:CreateAccessKey", "AKIA-c2", "cut-1", "a3"), call("Distribute", "secretsmanager:PutSecretValue", "", "cut-1/aws", "a4"),
			call("Revoke", "iam:DeleteAccessKey", "AKIA-r", "replace-1", "a5"),
		},
		Stores:     []control.Store{{Name: "cut-1/aws", KeyID: "AKIA-c2"}, {Name: "replace-1/aws", KeyID: "AKIA-r2"}},
		Dependents: []control.Dependent{{ID: "app-cut-1", OnKey: "AKIA-c2"}, {ID: "app-replace-1", OnKey: "AKIA-r2"}},
	}
	p := &drill.Played{ID: "inc-1", Final: view.Incident{ID: "inc-1", State: "all-clear", Items: []view.Item{
		{FP: "f1", KeyID: "AKIA-c", EndState: "revoked-verified", Adoption: view.Adoption{NewKeyID: "AKIA-c2", State: "adopted"}},
		{FP: "f2", KeyID: "AKIA-r", EndState: "revoked-verified", Adoption: view.Adoption{NewKeyID: "AKIA-r2", State: "adopted"}},
	}}}
	return Plan{Seed: 1, Shape: Pair}, p, o, func(name string) string { return ids[name] }
}

// judged is what the verdict says besides the invariants, which have tests of their own.
func judged(p Plan, played *drill.Played, o control.Oracle, ids func(string) string) []string {
	v := &verdict{plan: p, played: played, o: own(o, users(p, 1))}
	v.allClear()
	v.ends(keys(p, 1), ids)
	v.effects()
	v.replacements(users(p, 1)[:2])
	return v.wrong
}

func TestVerdict(t *testing.T) {
	p, played, o, ids := ended()
	require.Empty(t, judged(p, played, o, ids))
	for want, spoil := range map[string]func(*drill.Played, *control.Oracle){
		"with 1 items open":                             func(p *drill.Played, _ *control.Oracle) { p.Final.State, p.Final.Totals.Open = "open", 1 },
		"CUT-1 is no item: it was lost":                 func(p *drill.Played, _ *control.Oracle) { p.Final.Items = p.Final.Items[1:] },
		`REPLACE-1 ended as "accepted-risk"`:            func(p *drill.Played, _ *control.Oracle) { p.Final.Items[1].EndState = "accepted-risk" },
		"CUT-1 is inactive at the provider":             func(_ *drill.Played, o *control.Oracle) { o.Keys[0].State = "inactive" },
		"CUT-1 is deleted at the provider (alive: true": func(_ *drill.Played, o *control.Oracle) { o.Keys[0].Alive = true },
		"Revoke took effect 2 times on AKIA-c":          func(_ *drill.Played, o *control.Oracle) { o.Calls[0].Verb = "Revoke" },
		"took effect 2 times under one token":           func(_ *drill.Played, o *control.Oracle) { o.Calls = append(o.Calls, o.Calls[3]) },
		"carries no token":                              func(_ *drill.Played, o *control.Oracle) { o.Calls[3].Agent = "rekey/1" },
		"2 replacements of cut-1 live": func(_ *drill.Played, o *control.Oracle) {
			o.Keys = append(o.Keys, control.Key{ID: "AKIA-c3", User: "cut-1", State: "active", Alive: true, MintedBy: "engine"})
		},
		"AKIA-c3 was made for cut-1, is deleted, and no record": func(_ *drill.Played, o *control.Oracle) {
			o.Keys = append(o.Keys, control.Key{ID: "AKIA-c3", User: "cut-1", State: "deleted", MintedBy: "engine"})
		},
		"0 replacements of replace-1 live":                        func(_ *drill.Played, o *control.Oracle) { o.Keys[3].Alive = false },
		"the store of cut-1 does not hold its replacement":        func(_ *drill.Played, o *control.Oracle) { o.Stores[0].KeyID = "AKIA-c" },
		"the dependent of replace-1 does not use its replacement": func(_ *drill.Played, o *control.Oracle) { o.Dependents[1].OnKey = "AKIA-r" },
		"3 items in scope, want 2": func(p *drill.Played, _ *control.Oracle) {
			p.Final.Items = append(p.Final.Items, view.Item{KeyID: "AKIA-z"})
		},
	} {
		t.Run(want, func(t *testing.T) {
			p, played, o, ids := ended()
			spoil(played, &o)
			require.Contains(t, lines(judged(p, played, o, ids)), want)
		})
	}
	t.Run("an extra key that is dead and on record", func(t *testing.T) {
		p, played, o, ids := ended()
		o.Keys = append(o.Keys, control.Key{ID: "AKIA-c3", User: "cut-1", State: "deleted", MintedBy: "engine"})
		played.Events = []event.Event{{Type: event.EventReconciled, Attrs: map[string]string{"killed": "AKIA-c3"}}}
		require.Empty(t, judged(p, played, o, ids))
	})
	t.Run("a call that changed nothing", func(t *testing.T) {
		p, played, o, ids := ended()
		again := o.Calls[0]
		again.Effect = false
		o.Calls = append(o.Calls, again)
		require.Empty(t, judged(p, played, o, ids))
	})
}
