package estate_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/activities"
	"rekey/internal/estate"
	"rekey/internal/plan"
	"rekey/internal/secret"
	"rekey/workflows"
)

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

func fingers(t *testing.T) *secret.Fingerprinter {
	t.Helper()
	f, err := secret.NewFingerprinter(bytes.Repeat([]byte{7}, secret.KeySize))
	require.NoError(t, err)
	return f
}

const world = `
keys:
  - {id: A, provider: awsiam, account: prod, kind: user-access-key, owner: billing}
  - {id: B, provider: awsiam, account: prod, kind: user-access-key, parent: A}
  - {id: C, provider: awsiam, account: dev, kind: user-access-key, owner: web, parent: B}
  - {id: D, provider: awsiam, account: prod, kind: user-access-key, owner: web}
  - {id: E, provider: awsiam, account: prod, kind: user-access-key, owner: web}
copies:
  - {key: A, where: vault/shared, registered: true, store: awssm, zone: dirty}
  - {key: C, where: vault/shared, registered: true, store: awssm, zone: clean}
  - {key: B, where: vault/shared, registered: true}
  - {key: A, where: laptop}
  - {key: D, where: laptop, registered: true}
dependents:
  - {id: invoices, keys: [A, B], owner: billing, outage_budget: 5m, cutover: hot, proof: probe}
`

func load(t *testing.T, text string, customers ...string) *estate.Estate {
	t.Helper()
	e, err := estate.Load([]string{write(t, "estate.yaml", text)}, customers, fingers(t))
	require.NoError(t, err)
	return e
}

func TestLoadIsStrict(t *testing.T) {
	key := "{id: A, provider: awsiam, account: prod, kind: k}"
	for name, row := range map[string]struct{ text, want string }{
		"an unknown key, with its line": {"keys:\n  - {id: A, provider: p, account: a, kind: k, ovner: x}\n", `line 2: unknown key "ovner"`},
		"an unknown list":               {"secrets: []\n", `unknown key "secrets"`},
		"a key without account":         {"keys: [{id: A, provider: p, kind: k}]", "keys[0]: id, provider, account and kind are needed"},
		"a key named twice":             {"keys: [" + key + ", " + key + "]", "key A is named twice"},
		"a copy without a place":        {"copies: [{key: A}]", "copies[0]: key and where are needed"},
		"a zone that is none":           {"copies: [{key: A, where: w, zone: grey}]", "copies[0]: zone is clean or dirty"},
		"a dependent without keys":      {"dependents: [{id: x}]", "dependents[0]: id and keys are needed"},
		"a cutover that is none":        {"dependents: [{id: x, keys: [A], cutover: soon}]", "cutover is dual, hot or restart"},
		"a proof that is none":          {"dependents: [{id: x, keys: [A], proof: trust}]", "proof is last-used, probe or attest"},
		"a list that is a text":         {"keys: none", "line 1: !!str `none` does not belong here"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := estate.Load([]string{write(t, "estate.yaml", row.text)}, nil, fingers(t))
			require.ErrorContains(t, err, row.want)
			require.ErrorContains(t, err, "estate.yaml")
			require.NotContains(t, err.Error(), "estate.Key", "the names of our types stay out")
		})
	}
	_, err := estate.Load([]string{filepath.Join(t.TempDir(), "none.yaml")}, nil, fingers(t))
	require.ErrorContains(t, err, "mend estate.files")
	_, err = estate.Load(nil, []string{filepath.Join(t.TempDir(), "none.json")}, fingers(t))
	require.ErrorContains(t, err, "mend customers.files")
	_, err = estate.Load(nil, []string{write(t, "c.json", `[{"ref":"c1","keyz":["A"]}]`)}, fingers(t))
	require.ErrorContains(t, err, `unknown key "keyz"`)
	_, err = estate.Load([]string{write(t, "empty.yaml", "")}, nil, fingers(t))
	require.NoError(t, err, "an empty file says nothing")
}

func TestKeysAcrossFiles(t *testing.T) {
	first, second := write(t, "a.yaml", world), write(t, "b.yaml", "keys: [{id: A, provider: p, account: a, kind: k}]")
	_, err := estate.Load([]string{first, second}, nil, fingers(t))
	require.ErrorContains(t, err, "b.yaml: key A is named twice")

	e := load(t, world)
	require.Equal(t, 4, e.Live("awsiam", "prod"))
	require.Equal(t, 1, e.Live("awsiam", "dev"))
	require.Zero(t, e.Live("other", "prod"))
	_, ok := e.Key("Z")
	require.False(t, ok)
}

func TestDescribe(t *testing.T) {
	e := load(t, world, write(t, "c.json", `[{"ref":"c1","name":"n","keys":["A"]},{"ref":"c2","name":"m","keys":["A","D"]}]`))
	yes, no := true, false
	owned := &activities.InspectResult{Owner: "tagged"}
	dep := []plan.Dependent{{ID: "invoices", Owner: "billing", BudgetMs: 300_000, Cutover: "hot", Proof: "probe"}}
	for name, row := range map[string]struct {
		id      string
		reading *activities.InspectResult
		want    workflows.Scoped
	}{
		"an owned key, used, with a dirty store": {"A", owned, workflows.Scoped{Owner: "billing", OwnerKind: "team", Dependents: dep, Customers: []string{"c1", "c2"}, Copies: []string{"vault/shared", "laptop"}, StoreDirty: &yes}},
		"known and nobody's, kept in no store":   {"B", owned, workflows.Scoped{OwnerKind: "none", Dependents: dep, Copies: []string{"vault/shared"}}},
		"kept in a clean store":                  {"C", nil, workflows.Scoped{Owner: "web", OwnerKind: "team", Copies: []string{"vault/shared"}, StoreDirty: &no}},
		"unknown here, tagged at the provider":   {"Z", owned, workflows.Scoped{Owner: "tagged", OwnerKind: "team"}},
		"unknown to all":                         {"Z", nil, workflows.Scoped{}},
	} {
		t.Run(name, func(t *testing.T) {
			got := workflows.Scoped{Key: activities.Key{ID: row.id}, Reading: row.reading, Copies: []string{"stale"}}
			e.Describe(&got)
			row.want.Key, row.want.Reading = got.Key, row.reading
			require.Equal(t, row.want, got)
			e.Describe(&got)
			require.Equal(t, row.want, got, "said twice it is the same")
		})
	}
}

func TestReach(t *testing.T) {
	e := load(t, world)
	for name, row := range map[string]struct {
		id   string
		want map[string]string
	}{
		"what is kept beside it, and its children, once each": {"A", map[string]string{"B": "kept at vault/shared", "C": "kept at vault/shared"}},
		"a child only by its parent":                          {"B", map[string]string{"A": "kept at", "C": "kept at"}},
		"a registered copy leads on":                          {"D", map[string]string{"A": "kept at laptop"}},
		"nothing":                                             {"E", map[string]string{}},
		"an unknown key":                                      {"Z", map[string]string{}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := e.Reach(workflows.Scoped{Key: activities.Key{ID: row.id}, Depth: 2})
			require.NoError(t, err)
			seen := map[string]bool{}
			for _, s := range got {
				require.Contains(t, s.Why, row.want[s.Key.ID])
				require.False(t, seen[s.Key.ID], "once each")
				seen[s.Key.ID] = true
				require.Contains(t, row.want, s.Key.ID)
				require.Equal(t, 3, s.Depth)
				require.Equal(t, "estate", s.Basis)
				k, _ := e.Key(s.Key.ID)
				fp, err := fingers(t).Public(k.Provider, k.Account, k.Kind, k.ID)
				require.NoError(t, err)
				require.Equal(t, activities.Key{FP: fp, Provider: k.Provider, Account: k.Account, Kind: k.Kind, ID: k.ID}, s.Key)
			}
			require.Len(t, seen, len(row.want))
		})
	}
	children := load(t, "keys:\n  - {id: A, provider: p, account: a, kind: k}\n  - {id: B, provider: p, account: a, kind: k, parent: A}\n")
	got, err := children.Reach(workflows.Scoped{Key: activities.Key{FP: "fp1_0123456789abcdef", ID: "A"}})
	require.NoError(t, err)
	require.Len(t, got, 1)
	require.Equal(t, "made from 0123456789ab", got[0].Why)
}

func TestHolds(t *testing.T) {
	none, err := estate.Holds("")
	require.NoError(t, err)
	require.Empty(t, none)
	got, err := estate.Holds(write(t, "holds.yaml", "holds:\n  - {key: A, by: ann, why: audit, until: 2026-01-02T03:04:05Z}\n  - {key: B, by: bob, why: court}\n"))
	require.NoError(t, err)
	require.Equal(t, []workflows.StandingHold{
		{KeyID: "A", By: "ann", Why: "audit", Until: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)},
		{KeyID: "B", By: "bob", Why: "court"},
	}, got)
	for name, row := range map[string]struct{ text, want string }{
		"nobody who holds": {"holds: [{key: A, why: x}]", "holds[0]: key, by and why are needed"},
		"no reason":        {"holds: [{key: A, by: ann}]", "holds[0]"},
		"a misspelt key":   {"holds: [{key: A, by: ann, why: x, untill: 2026-01-02T03:04:05Z}]", "untill"},
		"a misspelt list":  {"hold: [{key: A, by: ann, why: x}]", "hold"},
	} {
		_, err := estate.Holds(write(t, "holds.yaml", row.text))
		require.ErrorContains(t, err, row.want, name)
	}
	_, err = estate.Holds(filepath.Join(t.TempDir(), "none.yaml"))
	require.ErrorIs(t, err, os.ErrNotExist, "what it holds must not move")
}

func TestAge(t *testing.T) {
	now := time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)
	require.EqualValues(t, 1, estate.Age(now.Add(-47*time.Hour), now))
	require.Zero(t, estate.Age(now.Add(time.Hour), now))
	require.Zero(t, estate.Age(time.Time{}, now))
}
