package plan_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"reflect"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"rekey/activities"
	"rekey/internal/plan"
	"rekey/playbooks"
)

func item(fp string) plan.Item {
	return plan.Item{
		Key:        activities.Key{FP: fp, Provider: "awsiam", Account: "prod", Kind: "user-access-key", ID: "id-" + fp},
		Calls:      []plan.Call{{Verb: "Disable", Support: "native", Vendor: []string{"iam:UpdateAccessKey"}, Target: "id-" + fp}},
		Rungs:      []plan.Rung{{Name: "key", Approved: true, Calls: []plan.Call{{Verb: "Revoke", Support: "native"}}, Price: "gone"}},
		Dependents: []plan.Dependent{{ID: "billing", BudgetMs: 1000, Cutover: "hot", Proof: "probe"}},
		Stores:     []plan.Store{{Target: "awssm", Name: "billing/aws"}},
		Adopt:      true, Owner: "billing",
	}
}

func wave(fps ...string) plan.Wave {
	w := plan.Wave{N: 1, Strategy: playbooks.RevokeNow, Gates: []string{"irreversible", "warn-before-cut"}, Batch: 1, Playbook: "sha256:aa"}
	for _, fp := range fps {
		w.Items = append(w.Items, item(fp))
	}
	return w
}

func sealed(t *testing.T, w plan.Wave) string {
	t.Helper()
	require.NoError(t, w.Seal())
	require.Regexp(t, `^sha256:[0-9a-f]{64}$`, w.Hash)
	return w.Hash
}

// A wave's hash covers what will be done and nothing that may differ between two
// looks at the same incident (contracts section 0).
func TestWaveHashCoversWhatPeopleApprove(t *testing.T) {
	for name, row := range map[string]struct {
		change func(*plan.Wave)
		same   bool
	}{
		"the items in another order":   {func(w *plan.Wave) { slices.Reverse(w.Items) }, true},
		"the gates in another order":   {func(w *plan.Wave) { slices.Reverse(w.Gates) }, true},
		"another number":               {func(w *plan.Wave) { w.N = 7 }, true},
		"a hash from before":           {func(w *plan.Wave) { w.Hash = "sha256:old" }, true},
		"the handle of a secret":       {func(w *plan.Wave) { w.Items[0].Secret = "handle" }, true},
		"another verb":                 {func(w *plan.Wave) { w.Items[0].Calls[0].Verb = "Revoke" }, false},
		"another target":               {func(w *plan.Wave) { w.Items[0].Calls[0].Target = "else" }, false},
		"another vendor call":          {func(w *plan.Wave) { w.Items[0].Calls[0].Vendor = []string{"iam:DeleteUser"} }, false},
		"a call more":                  {func(w *plan.Wave) { w.Items[1].Calls = append(w.Items[1].Calls, plan.Call{Verb: "Revoke"}) }, false},
		"another call on a rung":       {func(w *plan.Wave) { w.Items[0].Rungs[0].Calls[0].Verb = "Deny" }, false},
		"a rung that needs no vote":    {func(w *plan.Wave) { w.Items[0].Rungs[0].Approved = false }, false},
		"another store":                {func(w *plan.Wave) { w.Items[0].Stores[0].Name = "thief/aws" }, false},
		"another network to bind":      {func(w *plan.Wave) { w.Items[0].Harden = []string{"0.0.0.0/0"} }, false},
		"a role more to end":           {func(w *plan.Wave) { w.Items[0].Roles = []string{"admin"} }, false},
		"a replacement nobody needs":   {func(w *plan.Wave) { w.Items[0].Adopt = false }, false},
		"an item less":                 {func(w *plan.Wave) { w.Items = w.Items[:1] }, false},
		"another strategy":             {func(w *plan.Wave) { w.Strategy = playbooks.ReissueFirst }, false},
		"a gate less":                  {func(w *plan.Wave) { w.Gates = w.Gates[:1] }, false},
		"another batch size":           {func(w *plan.Wave) { w.Batch = 2 }, false},
		"another playbook":             {func(w *plan.Wave) { w.Playbook = "sha256:bb" }, false},
		"the dependent's shorter span": {func(w *plan.Wave) { w.Items[0].Dependents[0].BudgetMs = 1 }, false},
	} {
		t.Run(name, func(t *testing.T) {
			base, w := sealed(t, wave("a", "b")), wave("a", "b")
			row.change(&w)
			if row.same {
				require.Equal(t, base, sealed(t, w))
			} else {
				require.NotEqual(t, base, sealed(t, w))
			}
		})
	}
}

func TestWaveSealLeavesTheGatesAsTheyStand(t *testing.T) {
	w := wave("b", "a")
	w.Gates = []string{"warn-before-cut", "irreversible"}
	require.NoError(t, w.Seal())
	require.Equal(t, []string{"warn-before-cut", "irreversible"}, w.Gates)
	require.Equal(t, "a", w.Items[0].Key.FP, "items are sorted by fingerprint")
}

// root is RFC 6962 section 2.1 written out, apart from the library that the plan
// uses.
func root(leaves []string) [32]byte {
	switch len(leaves) {
	case 0:
		return sha256.Sum256(nil)
	case 1:
		return sha256.Sum256(append([]byte{0}, leaves[0]...))
	}
	k := 1
	for k*2 < len(leaves) {
		k *= 2
	}
	l, r := root(leaves[:k]), root(leaves[k:])
	return sha256.Sum256(append(append([]byte{1}, l[:]...), r[:]...))
}

func TestPlanHashIsTheMerkleRootOfTheWaves(t *testing.T) {
	for n := range 9 {
		var p plan.Plan
		var leaves []string
		for i := range n {
			w := wave(string(rune('a' + i)))
			leaves = append(leaves, sealed(t, w))
			p.Waves = append(p.Waves, w)
		}
		require.NoError(t, p.Seal())
		want := root(leaves)
		require.Equal(t, "sha256:"+hex.EncodeToString(want[:]), p.Hash, "%d waves", n)
	}
}

func TestPlanHash(t *testing.T) {
	seal := func(change func(*plan.Plan)) string {
		p := plan.Plan{Version: 1, Waves: []plan.Wave{wave("a", "b"), wave("c")}}
		change(&p)
		require.NoError(t, p.Seal())
		return p.Hash
	}
	base := seal(func(*plan.Plan) {})
	require.Equal(t, base, seal(func(p *plan.Plan) { p.Version, p.ETAMs, p.Calls = 9, 5, 4 }), "neither version nor estimate")
	require.Equal(t, base, seal(func(p *plan.Plan) { slices.Reverse(p.Waves[0].Items) }))
	require.NotEqual(t, base, seal(func(p *plan.Plan) { slices.Reverse(p.Waves) }), "the order of waves is approved")
	require.NotEqual(t, base, seal(func(p *plan.Plan) { p.Waves = p.Waves[:1] }))
	require.NotEqual(t, base, seal(func(p *plan.Plan) { p.Waves[1].Items[0].Calls[0].Verb = "Revoke" }))
}

func TestLookups(t *testing.T) {
	p := plan.Plan{
		Waves:     []plan.Wave{wave("a"), wave("b")},
		Decisions: []plan.Decision{{FP: "a", Rule: "idle"}, {FP: "c", Rule: "live"}},
	}
	require.NoError(t, p.Seal())
	w, ok := p.Wave(p.Waves[1].Hash)
	require.True(t, ok)
	require.Equal(t, "b", w.Items[0].Key.FP)
	_, ok = p.Wave("sha256:none")
	require.False(t, ok)

	for fp, rule := range map[string]string{"a": "idle", "c": "live", "b": "", "d": "", "": ""} {
		d, ok := p.Decision(fp)
		require.Equal(t, rule != "", ok, fp)
		require.Equal(t, rule, d.Rule, fp)
	}
	r, ok := w.Items[0].Rung("key")
	require.True(t, ok)
	require.Equal(t, "Revoke", r.Calls[0].Verb)
	_, ok = w.Items[0].Rung("principal")
	require.False(t, ok)
}

func TestDescribe(t *testing.T) {
	w := wave("a", "b")
	require.Equal(t, "revoke-now of 2 item(s): Disable", w.Describe())
	w.N = 9
	require.NotContains(t, w.Describe(), "9", "its number is settled later")
	require.Equal(t, "revoke-now of 0 item(s): ", wave().Describe())
}

// A wave over pages has the hash that it would have with its items in memory.
func TestSealerGivesTheHashOfTheWave(t *testing.T) {
	for name, change := range map[string]func(*plan.Wave){
		"as it is":                  func(*plan.Wave) {},
		"one item":                  func(w *plan.Wave) { w.Items = w.Items[:1] },
		"no gates":                  func(w *plan.Wave) { w.Gates = nil },
		"gates that are not sorted": func(w *plan.Wave) { slices.Reverse(w.Gates) },
		"pages":                     func(w *plan.Wave) { w.Batch = 500 },
		"every field":               func(w *plan.Wave) { fill(reflect.ValueOf(&w.Items[1]).Elem()); w.Items[1].Key.FP = "b" },
		"bare items":                func(w *plan.Wave) { w.Items[0] = plan.Item{Key: activities.Key{FP: "a"}}; w.Items[1].Calls = nil },
		"what HTML would escape":    func(w *plan.Wave) { w.Items[0].Owner, w.Items[1].Rungs[0].Price = "a<b>&c\u2028", "\u00e9\u0001\"" },
	} {
		t.Run(name, func(t *testing.T) {
			w := wave("a", "b", "c")
			change(&w)
			s, err := plan.NewSealer(plan.Wave{Strategy: w.Strategy, Gates: w.Gates, Batch: w.Batch, Playbook: w.Playbook})
			require.NoError(t, err)
			for _, it := range w.Items {
				require.NoError(t, s.Add(it))
			}
			require.Equal(t, sealed(t, w), s.Sum())
		})
	}
	s, err := plan.NewSealer(wave())
	require.NoError(t, err)
	require.NoError(t, s.Add(item("b")))
	require.ErrorContains(t, s.Add(item("a")), "order")
	require.ErrorContains(t, s.Add(item("b")), "order", "none twice")
}

// fill sets every field of a value, so that one that is added and forgotten elsewhere is
// found.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i))
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range 2 {
			fill(v.Index(i))
		}
	case reflect.String:
		v.SetString("x" + v.Type().Name())
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(7)
	default:
		panic("fill: " + v.Kind().String())
	}
}

func BenchmarkSealer(b *testing.B) {
	s, err := plan.NewSealer(wave())
	require.NoError(b, err)
	n := 0
	for b.Loop() {
		n++
		require.NoError(b, s.Add(item(fmt.Sprintf("fp1_%064d", n))))
	}
}
