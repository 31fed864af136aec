package scenario_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/internal/lab/scenario"
)

const good = `apiVersion: rekey/v1
kind: Drill
name: small
seed: 1
clock: {t0: 2019-08-20T00:00:00Z, horizon: 96h}
estate:
  providers: {awsiam/lab: {limits: {iam: 15/s}, propagation: 4s}}
  keys:
    - {id: AK-OLD, user: admin, policy: AdministratorAccess, issued: T0-718d, last_legit_use: T0-687d}
    - {id: AK-CI, user: ci, policy: ReadOnlyAccess}
  copies: [{key: AK-OLD, where: ami/AMI-7, registered: false, relaunch: T0+6h}]
  dependents: [{id: nightly, keys: [AK-CI], owner: platform, cutover: dual}]
  generate: [{kind: key, count: 20, user: "svc-{n}", state: unrelated}]
  uses: [{key: AK-OLD, at: T0-60d, asn: 64500, calls: [CreateSnapshot], label: malicious}]
trigger: {at: T0, report: {provider: awsiam, key: AK-OLD, source: outsider}}
people: [{actor: oncall-1, roles: [commander], on: approval, do: approve}]
faults:
  - {what: worker-kill, at: {verb: Revoke, nth: 1, edge: after-record}}
  - {what: approver-silent, actor: oncall-1}
attacker: {knows: [AK-OLD], every: 60s, reacts: [{on: first-change, do: CreateAccessKey}]}
expect: [{id: dead, expr: "true"}]
controls: {trust: {off: probe-old, must_violate: [G1]}}
`

func TestMistakesAreNamedWithPlaceAndRemedy(t *testing.T) {
	_, err := scenario.Load("d.yaml", []byte(good))
	require.NoError(t, err)
	for name, tt := range map[string]struct{ old, new, want string }{
		"unknown key at the top":        {"seed: 1", "sed: 1", `d.yaml:4:1: unknown key "sed" (did you mean "seed"?)`},
		"unknown key deep inside":       {"relaunch: T0+6h", "relaunched: T0+6h", `d.yaml:11:63: estate.copies[0]: unknown key "relaunched" (did you mean "relaunch"?)`},
		"key given twice":               {"seed: 1", "seed: 1\nseed: 2", `d.yaml:5:1: key "seed" is given twice`},
		"wrong kind":                    {"kind: Drill", "kind: Playbook", `d.yaml:2:7: kind: is "Playbook"`},
		"wrong version":                 {"rekey/v1", "rekey/v2", `d.yaml:1:13: apiVersion: is "rekey/v2"; this build reads rekey/v1`},
		"not a number":                  {"seed: 1", "seed: one", `d.yaml:4:7: seed: wants a whole number, not "one"`},
		"no value":                      {"seed: 1", "seed:", `seed: has no value`},
		"bad time":                      {"T0-718d", "T0 - 718d", `d.yaml:9:70: estate.keys[0].issued: "T0 - 718d" is not a time`},
		"bad duration":                  {"horizon: 96h", "horizon: 4 days", `clock.horizon: "4 days" is not a duration`},
		"used before issued":            {"T0-687d", "T0-800d", `estate.keys[0].last_legit_use: is before the key was issued`},
		"relative t0":                   {"2019-08-20T00:00:00Z", "T0", `clock.t0: write an absolute time`},
		"a list where one is wanted":    {"name: small", "name: [small]", `d.yaml:3:7: name: wants a single value, not a list`},
		"one where a list is wanted":    {"keys: [AK-CI]", "keys: AK-CI", `estate.dependents[0].keys: wants a list, not a single value`},
		"not true or false":             {"registered: false", "registered: maybe", `wants true or false, not "maybe"`},
		"key id twice":                  {"id: AK-CI", "id: AK-OLD", `estate.keys[1].id: "AK-OLD" is used twice`},
		"copy of nothing":               {"{key: AK-OLD, where", "{key: AK-OLT, where", `d.yaml:11:18: estate.copies[0].key: no key "AK-OLT" (did you mean "AK-OLD"?)`},
		"dependent on nothing":          {"keys: [AK-CI]", "keys: [AK-XX]", `estate.dependents[0].keys[0]: no key "AK-XX"`},
		"unknown policy":                {"AdministratorAccess", "Administrator", `unknown word "Administrator" (did you mean "AdministratorAccess"?)`},
		"unknown cutover":               {"cutover: dual", "cutover: duel", `unknown word "duel" (did you mean "dual"?)`},
		"generate without n":            {`svc-{n}`, `svc`, `estate.generate[0].user: "svc": an IAM user name with {n} in it`},
		"generate what exists":          {`[{kind: key, count: 20, user: "svc-{n}"`, `[{kind: key, count: 20, id: "AK-{n}", user: "svc-{n}"`, `makes key "AK-7", which exists`},
		"generate nothing":              {"count: 20", "count: 0", `estate.generate[0].count: must be 1 to 1000000, is 0`},
		"no such placeholder":           {`svc-{n}`, `svc-{n}-{m}`, `estate.generate[0].user: "svc-{n}-{m}": write {n}, {i}, {n/3}`},
		"every key of one user":         {`svc-{n}`, `svc-{n/3}`, `"svc-{n/3}": an IAM user name with {n} in it`},
		"made twice":                    {`state: unrelated}]`, `state: unrelated}, {kind: key, count: 2, from: 20, user: "svc-{n}"}]`, `makes key "key-svc-20", which is made by estate.generate[0]`},
		"a key with a period":           {`state: unrelated}]`, `every: 5m}]`, `belong to kind: dependent`},
		"a dependent with a user":       {`state: unrelated}]`, `state: unrelated}, {kind: dependent, count: 2, id: "d-{n}", user: "u-{n}", owner: o, keys: ["key-svc-{n}"]}]`, `belong to kind: key`},
		"dependents on nothing":         {`state: unrelated}]`, `state: unrelated}, {kind: dependent, count: 21, id: "d-{n}", owner: o, keys: ["key-svc-{n}"]}]`, `estate.generate[1].keys[0]: no key "key-svc-21" (did you mean "key-svc-1"?)`},
		"dependents of one name":        {`state: unrelated}]`, `state: unrelated}, {kind: dependent, count: 2, id: "d", owner: o, keys: [AK-CI]}]`, `without {n} every dependent would have the same id`},
		"half a past":                   {"cutover: dual", "cutover: dual, past: {times: 3}", `estate.dependents[0].past: needs every and times`},
		"half a span":                   {`state: unrelated}]`, `state: unrelated}, {kind: dependent, count: 2, id: "d-{n}", owner: o, keys: [AK-CI], moves: {from: T0}}]`, `moves: needs from and to`},
		"a limit without a rate":        {"iam: 15/s", "iam: {retry_after: 30s}", `estate.providers.awsiam/lab.limits.iam.rate: is missing`},
		"a limit that is no refusal":    {"iam: 15/s", "iam.write: {rate: 1/s, status: 200}", `200 is not an error status`},
		"limited writes of one action":  {"iam: 15/s", "iam:ListUsers.write: 15/s", `write iam, iam.write or iam:ListUsers`},
		"a job without a time":          {"- {what: approver", "- {what: planted-persistence, key: AK-OLD, do: PutRule}\n  - {what: approver", `where and due belong to do: PutRule`},
		"first without resolve":         {"do: approve}", "do: approve, first: {call: CreateUser}}", `people[0]: as and first belong to do: resolve`},
		"bad rate":                      {"15/s", "15 per second", `is not a rate: write 15/s`},
		"limit of no api":               {"iam: 15/s", "iamm: 15/s", `unknown word "iamm" (did you mean "iam"?)`},
		"another provider":              {"awsiam/lab:", "github/lab:", `the lab plays awsiam/<account>`},
		"report of nothing":             {"report: {provider: awsiam, key: AK-OLD", "report: {provider: awsiam, key: AK", `trigger.report.key: no key "AK"`},
		"unknown fault":                 {"what: worker-kill", "what: worker-kil", `faults[0].what: unknown fault "worker-kil" (did you mean "worker-kill"?)`},
		"kill without edge":             {", edge: after-record", "", `faults[0].at: worker-kill strikes at {verb, nth, edge}`},
		"kill at no edge":               {"after-record", "after-recording", `unknown word "after-recording" (did you mean "after-record"?)`},
		"unknown verb":                  {"verb: Revoke", "verb: Delete", `faults[0].at.verb: unknown word "Delete"`},
		"time and verb":                 {"verb: Revoke", "verb: Revoke, phase: act", `is either a time, a verb with nth, or a phase`},
		"a field the fault lacks":       {"silent, actor", "silent, status: 503, actor", `faults[1].status: approver-silent does not take it`},
		"a field the fault needs":       {", actor: oncall-1}\natt", "}\natt", `faults[1].actor: is missing: approver-silent needs it`},
		"fault on nobody":               {"silent, actor: oncall-1", "silent, actor: oncall-9", `faults[1].actor: no person "oncall-9" (did you mean "oncall-1"?)`},
		"attacker knows nothing":        {"knows: [AK-OLD]", "knows: []", `attacker.knows: is missing`},
		"attacker does what it cannot":  {"do: CreateAccessKey", "do: CreateAccessKeys", `did you mean "CreateAccessKey"?`},
		"expectation twice":             {`[{id: dead, expr: "true"}]`, `[{id: dead, expr: "true"}, {id: dead, expr: "true"}]`, `expect[1].id: "dead" is used twice`},
		"expects nothing":               {`expect: [{id: dead, expr: "true"}]`, "", `expect: is missing`},
		"control violates nothing":      {"[G1]", "[G11]", `controls.trust.must_violate[0]: no invariant or expectation "G11" (did you mean "G1"?)`},
		"control without a rule":        {"off: probe-old, ", "", `controls.trust.off: is missing`},
		"negative period":               {"every: 60s", "every: -60s", `attacker.every: cannot be negative`},
		"use without calls":             {", calls: [CreateSnapshot]", "", `estate.uses[0].calls: is missing`},
		"anchors":                       {"seed: 1", "seed: &s 1", `anchors and aliases are not allowed`},
		"two documents":                 {"controls: {trust: {off: probe-old, must_violate: [G1]}}", "---\nkind: Drill", `a second document`},
		"not YAML":                      {"seed: 1", "seed: {", `d.yaml:`},
		"a registered copy relaunching": {"registered: false", "registered: true", `only an unregistered copy comes back`},
	} {
		t.Run(name, func(t *testing.T) {
			text := good
			if name == "generate what exists" {
				text = strings.ReplaceAll(good, "AK-CI", "AK-7")
			}
			require.Contains(t, text, tt.old)
			_, err := scenario.Load("d.yaml", []byte(strings.Replace(text, tt.old, tt.new, 1)))
			require.ErrorContains(t, err, tt.want)
			var p scenario.Problem
			require.ErrorAs(t, err, &p)
			require.Positive(t, p.Line)
			require.Positive(t, p.Column)
		})
	}
	_, err = scenario.Load("d.yaml", nil)
	require.ErrorContains(t, err, "the file is empty")
}

func TestAllMistakesAtOnceInFileOrder(t *testing.T) {
	_, err := scenario.Load("d.yaml", []byte(strings.NewReplacer("name: small", "name: Small One", "must_violate: [G1]", "must_violate: []").Replace(good)))
	require.Error(t, err)
	lines := strings.Split(err.Error(), "\n")
	require.Len(t, lines, 2)
	require.Contains(t, lines[0], ":3:7: name:")
	require.Contains(t, lines[1], "controls.trust.must_violate")
}

func TestUnsupportedNamesWhatIsMissing(t *testing.T) {
	load := func(faults string) *scenario.Drill {
		d, err := scenario.Load("d.yaml", []byte(strings.Replace(good, "faults:\n", "faults:\n"+faults, 1)))
		require.NoError(t, err)
		return d
	}
	d := load("  - {what: mail-down, at: T0+1h, for: 2h}\n  - {what: throttle, at: {phase: verify}}\n")
	require.ErrorContains(t, d.Unsupported(map[string]bool{"lab": true, "people": true, "driver": true}), "faults[0] mail-down: needs channel email")
	require.ErrorContains(t, d.Unsupported(map[string]bool{"lab": true, "people": true, "channel email": true}), "faults[1] throttle: needs driver")
	require.NoError(t, d.Unsupported(map[string]bool{"lab": true, "people": true, "channel email": true, "driver": true}))
}

// TestCatalogueCoversTheDomain: every fault domain.md section 3 lists has its word, and every word
// says who acts on it.
func TestCatalogueCoversTheDomain(t *testing.T) {
	words := map[string]bool{}
	parts := []string{scenario.PartLab, scenario.PartEngine, scenario.PartPeople, scenario.PartDriver, scenario.PartChannelEmail, scenario.PartBatchAPI}
	for _, w := range scenario.Catalogue() {
		require.False(t, words[w.What], w.What)
		words[w.What] = true
		require.Contains(t, parts, w.Part)
		require.NotEmpty(t, w.Doc)
	}
	for _, w := range strings.Fields(`throttle burst-503 latency alive-after-200 not-found partial-batch wrong-account-credential list-missing pagination-cut propagation clock-skew
		worker-kill replay-new-version signal-twice signal-reordered store-down mail-down approver-silent approver-is-requester plan-changed hold-without-expiry close-early
		hidden-copy stale-cache residual-session planted-persistence attacker-mints undocumented-dependent bounce court-order scope-change second-trigger log-gap look-alike-notice`) {
		require.True(t, words[w], "no word for %s", w)
	}
}

func TestTimes(t *testing.T) {
	t0 := time.Date(2019, 8, 20, 0, 0, 0, 0, time.UTC)
	for text, want := range map[string]string{"T0": "2019-08-20T00:00:00Z", "T0-718d": "2017-09-01T00:00:00Z", "T0+6h": "2019-08-20T06:00:00Z",
		"T0+1d12h": "2019-08-21T12:00:00Z", "2019-08-19T23:00:00+02:00": "2019-08-19T21:00:00Z"} {
		w, err := scenario.ParseWhen(text)
		require.NoError(t, err, text)
		require.Equal(t, want, w.Resolve(t0).Format(time.RFC3339), text)
	}
	for _, text := range []string{"", "T1", "T0+", "T0-", "T0--5d", "T0+-5d", "now", "2019-08-20", "T0+5", "T0+1d-2h"} {
		_, err := scenario.ParseWhen(text)
		require.Error(t, err, text)
	}
}

// FuzzLoad: any text loads or gives problems with a place; nothing panics, and what loads can be used.
func FuzzLoad(f *testing.F) {
	f.Add(good)
	if data, err := os.ReadFile("../../../drills/imperva-2018.yaml"); err == nil {
		f.Add(string(data))
	}
	f.Add("a: &x [*x]")
	f.Add("estate: {keys: [{id: 1}]}\n")
	f.Fuzz(func(t *testing.T, text string) {
		d, err := scenario.Load("d.yaml", []byte(text))
		if err != nil {
			var p scenario.Problem
			if len(text) <= 1<<20 {
				require.ErrorAs(t, err, &p)
			}
			return
		}
		require.NotNil(t, d)
		_ = d.Unsupported(nil)
	})
}

// TestPatterns: what stands for the number of a generated object.
func TestPatterns(t *testing.T) {
	text := strings.Replace(good, `generate: [{kind: key, count: 20, user: "svc-{n}", state: unrelated}]`, `generate:
    - {kind: key, count: 180, id: "K{n:03}", user: "org-{n}", owner: "C{n/3:03}", where: directory}
    - {kind: key, count: 120, from: 181, id: "K{n:03}", user: "org-{n}", owner: "C{i/2+60:03}"}
    - {kind: dependent, count: 210, except: [40, 80], id: "I{n}", keys: ["K{n:03}", AK-CI], owner: o, moves: {from: T0, to: T0+209m}}`, 1)
	d, err := scenario.Load("d.yaml", []byte(text))
	require.NoError(t, err)
	keys := map[string]scenario.Key{}
	owners := map[string]int{}
	for _, k := range d.GeneratedKeys(1) {
		keys[k.ID] = k
		owners[k.Owner]++
	}
	require.Len(t, keys, 300)
	require.Len(t, owners, 120)
	require.Equal(t, []string{"org-19", "C007"}, []string{keys["K019"].User, keys["K019"].Owner})
	require.Equal(t, "C042", keys["K124"].Owner)
	require.Equal(t, "C042", keys["K126"].Owner)
	require.Equal(t, []string{"C061", "C061", "C062", "C099", "C099", "C120"},
		[]string{keys["K181"].Owner, keys["K182"].Owner, keys["K183"].Owner, keys["K257"].Owner, keys["K258"].Owner, keys["K300"].Owner})
	require.Equal(t, []int{3, 2}, []int{owners["C060"], owners["C061"]})
	require.Len(t, d.AllCopies(1), 181)
	deps := d.AllDependents(1, d.Clock.T0.Time)
	require.Len(t, deps, 1+210-2)
	require.Equal(t, []string{"K001", "AK-CI"}, deps[1].Keys)
	require.Equal(t, d.Clock.T0.Time, deps[1].Moves.Resolve(d.Clock.T0.Time))
	require.Equal(t, d.Clock.T0.Add(209*time.Minute), deps[len(deps)-1].Moves.Resolve(d.Clock.T0.Time))
	require.Equal(t, "I41", deps[40].ID)
	require.Equal(t, d.Clock.T0.Add(40*time.Minute), deps[40].Moves.Resolve(d.Clock.T0.Time), "who is left out keeps their time")
}
