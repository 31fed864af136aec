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

func fingers(t testing.TB) *secret.Fingerprinter {
	t.Helper()
	f, err := secret.NewFingerprinter(bytes.Repeat([]byte{7}, secret.KeySize))
	require.NoError(t, err)
	return f
}

// now is when the tests ask.
var now = time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)

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
		"a mistake, with its line":      {"keys:\n  - " + key + "\n  - {id: B,\n     provider: p}\n", "estate.yaml:3: keys[1]: id, provider"},
		"an unknown list":               {"secrets: []\n", `unknown key "secrets"`},
		"a key without account":         {"keys: [{id: A, provider: p, kind: k}]", "keys[0]: id, provider, account and kind are needed"},
		"a key named twice":             {"keys: [" + key + ", " + key + "]", "key A is named twice"},
		"a copy without a place":        {"copies: [{key: A}]", "copies[0]: key and where are needed"},
		"a zone that is none":           {"copies: [{key: A, where: w, zone: grey}]", "copies[0]: zone is clean or dirty"},
		"a dependent without keys":      {"dependents: [{id: x}]", "dependents[0]: id and keys are needed"},
		"a cutover that is none":        {"dependents: [{id: x, keys: [A], cutover: soon}]", "cutover is dual, hot or restart"},
		"a proof that is none":          {"dependents: [{id: x, keys: [A], proof: trust}]", "proof is last-used, probe or attest"},
		"a list that is a text":         {"keys: none", "line 1: !!str `none` does not belong here"},
		"retired before it was issued":  {"keys: [{id: A, provider: p, account: a, kind: k, issued: 2026-01-02, retired: 2026-01-01}]", "keys[0]: retired is not after issued"},
		"a place that is opened":        {"keys: [{id: A, provider: p, account: a, kind: k, opens: ['']}]", "opens names a place without a name"},
		"a public key that is none":     {"keys: [{id: A, provider: p, account: a, kind: k, spki: abc}]", "64 hex digits"},
		"gone before it came":           {"copies: [{key: A, where: w, from: 2026-01-02, until: 2026-01-02}]", "until is not after from"},
		"a place without times":         {"places: [{where: w}]", "known_from, known_until or both"},
		"a place that ends early":       {"places: [{where: w, known_from: 2026-01-02, known_until: 2026-01-01}]", "known_until is not after known_from"},
		"a snapshot without time":       {"snapshots: [{id: S, of: w}]", "snapshots[0]: id, of and at are needed"},
		"a snapshot named as a place":   {"snapshots: [{id: snapshot/S, of: w, at: 2026-01-01}]", "id is the name alone"},
		"a snapshot of a snapshot":      {"snapshots: [{id: S, of: snapshot/R, at: 2026-01-01}]", "not another snapshot"},
		"a snapshot of a time":          {"snapshots: [{id: S, of: 'w@2026-01-01', at: 2026-01-01}]", "name the place w, and the time as at"},
		"a snapshot named twice":        {"snapshots: [{id: S, of: w, at: 2026-01-01}, {id: S, of: w, at: 2026-01-02}]", "snapshots[1]: snapshot S is named twice"},
		"a placement without endpoint":  {"placements: [{spki: abc}]", "placements[0]: spki and endpoint are needed"},
		"a placement of no public key":  {"placements: [{spki: abc, endpoint: w}]", "64 hex digits"},
		"a placement that ends early":   {"placements: [{spki: abc, endpoint: w, from: 2026-01-02, until: 2026-01-01}]", "until is not after from"},
		"a second document":             {"keys: []\n---\nkeys: [" + key + "]\n", "second document"},
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
	require.ErrorContains(t, err, "b.yaml:1: keys[0]: key A is named twice")

	e := load(t, world)
	require.Equal(t, 4, e.Live("awsiam", "prod", now))
	require.Equal(t, 1, e.Live("awsiam", "dev", now))
	require.Zero(t, e.Live("other", "prod", now))
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
			e.Describe(&got, now)
			row.want.Key, row.want.Reading = got.Key, row.reading
			require.Equal(t, row.want, got)
			e.Describe(&got, now)
			require.Equal(t, row.want, got, "said twice it is the same")
		})
	}
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
