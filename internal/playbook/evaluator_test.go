package playbook_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"rekey/internal/playbook"
	"rekey/playbooks"
)

// facts makes facts from values; nil is unknown, what is left out as well.
func facts(values map[string]any) playbooks.Facts {
	var f playbooks.Facts
	for name, v := range values {
		switch v := v.(type) {
		case int:
			f.Set(name, playbooks.IntFact(int64(v)))
		case bool:
			f.Set(name, playbooks.BoolFact(v))
		case string:
			f.Set(name, playbooks.StrFact(v))
		case nil:
			f.Set(name, playbooks.UnknownFact())
		default:
			panic("facts are int, bool, string or nil")
		}
	}
	return f
}

// quiet is an item about which everything is known and nothing is wrong: a team's
// key that nobody uses.
func quiet(change map[string]any) playbooks.Facts {
	v := map[string]any{
		"report.confidence": "confirmed", "report.source": "github", "report.source_kind": "webhook", "report.possession": false,
		"report.provider": "awsiam", "report.kind": "user-access-key", "report.subject": "key",
		"item.provider": "awsiam", "item.account": "prod", "item.kind": "user-access-key", "item.held": false, "item.owner": "platform",
		"item.owner_kind": "team", "item.admin": false, "item.exposure": "private", "item.reported": true, "item.unattributed": false,
		"item.created_by_compromised": false, "item.age_days": 100, "item.never_used": false,
		"scope.malicious_use_24h": 0, "scope.malicious_use": 0, "scope.unknown_use_24h": 0, "scope.dependents_seen_30d": 0,
		"scope.dark_days_30d": 0, "scope.attacker_reads_store": false, "scope.items": 1, "scope.customers": 0,
	}
	for name, x := range change {
		v[name] = x
	}
	return facts(v)
}

func evaluator(t testing.TB) *playbook.Evaluator {
	t.Helper()
	e, err := playbook.NewEvaluator(shipped(t).Playbook)
	require.NoError(t, err)
	return e
}

func TestDecideAWSAccessKey(t *testing.T) {
	type row struct {
		facts    map[string]any
		rule     string
		strategy playbooks.StrategyName
		read     []string // name=value of the chosen rule
		skipped  []string // rule: why
	}
	tests := map[string]row{
		"a court's hold wins over abuse": {map[string]any{"item.held": true, "scope.malicious_use_24h": 9}, "held", playbooks.Hold, []string{"item.held=true"}, nil},
		"a customer's key is told, not cut": {map[string]any{"item.owner_kind": "customer", "scope.malicious_use_24h": 9}, "not-ours", playbooks.NotifyOnly,
			[]string{`item.owner_kind="customer"`}, nil},
		"the attacker reads the store": {map[string]any{"scope.attacker_reads_store": true, "scope.malicious_use_24h": 9}, "dirty-store", playbooks.Barrier,
			[]string{"scope.attacker_reads_store=true"}, nil},
		"the attacker made the key": {map[string]any{"item.created_by_compromised": true, "item.unattributed": true}, "attacker-made", playbooks.RevokeNow,
			[]string{"item.created_by_compromised=true"}, nil},
		"abused today": {map[string]any{"scope.malicious_use_24h": 1, "scope.dependents_seen_30d": 4}, "abuse", playbooks.RevokeNow,
			[]string{"scope.malicious_use_24h=1"}, nil},
		"abused long ago, still used": {map[string]any{"scope.malicious_use": 7, "scope.dependents_seen_30d": 4}, "live", playbooks.ReissueFirst,
			[]string{"scope.dependents_seen_30d=4"}, nil},
		"nobody claims it":         {map[string]any{"item.unattributed": true}, "unattributed", playbooks.DisableAndWatch, []string{"item.unattributed=true"}, nil},
		"nobody claims it, abused": {map[string]any{"item.unattributed": true, "scope.malicious_use_24h": 2}, "abuse", playbooks.RevokeNow, []string{"scope.malicious_use_24h=2"}, nil},
		"nobody uses it": {nil, "idle", playbooks.RevokeNow,
			[]string{"scope.dependents_seen_30d=0", "scope.dark_days_30d=0"}, nil},
		"somebody uses it": {map[string]any{"scope.dependents_seen_30d": 1}, "live", playbooks.ReissueFirst, []string{"scope.dependents_seen_30d=1"}, nil},
		"no use seen, but a day is dark": {map[string]any{"scope.dark_days_30d": 1}, "default", playbooks.DisableAndWatch,
			nil, nil},
		"logs cannot be read": {
			map[string]any{"scope.malicious_use_24h": nil, "scope.dependents_seen_30d": nil, "scope.dark_days_30d": 30}, "default", playbooks.DisableAndWatch, nil,
			[]string{"abuse: unknown: scope.malicious_use_24h", "live: unknown: scope.dependents_seen_30d"}},
		"one side of && settles it": {
			map[string]any{"scope.dependents_seen_30d": nil}, "default", playbooks.DisableAndWatch, nil,
			[]string{"idle: unknown: scope.dependents_seen_30d", "live: unknown: scope.dependents_seen_30d"}},
		"unknown store is no barrier": {map[string]any{"scope.attacker_reads_store": nil, "scope.malicious_use_24h": 3}, "abuse", playbooks.RevokeNow,
			[]string{"scope.malicious_use_24h=3"}, []string{"dirty-store: unknown: scope.attacker_reads_store"}},
	}
	e := evaluator(t)
	hit := map[string]bool{}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			d := e.Decide(quiet(tt.facts))
			require.Equal(t, tt.rule, d.RuleID)
			require.Equal(t, tt.strategy, d.Strategy)
			var read, skipped []string
			for _, r := range d.Read {
				require.True(t, r.Known)
				read = append(read, r.Name+"="+r.Value)
			}
			for _, s := range d.Skipped {
				skipped = append(skipped, s.RuleID+": "+s.Why)
			}
			require.Equal(t, tt.read, read)
			require.Equal(t, tt.skipped, skipped)
			require.Equal(t, d, e.Decide(quiet(tt.facts)), "the same facts give the same decision")
		})
		hit[tt.rule] = true
	}
	for _, r := range e.Playbook().Decide {
		require.True(t, hit[r.ID], "no row reaches rule %s", r.ID)
	}
}

// Nothing known at all: no rule becomes true by ignorance, and everything that was
// passed over is told.
func TestDecideWithoutFacts(t *testing.T) {
	d := evaluator(t).Decide(playbooks.Facts{})
	require.Equal(t, "default", d.RuleID)
	require.Equal(t, playbooks.DisableAndWatch, d.Strategy)
	require.Len(t, d.Skipped, 8, "every rule but the last")
}

// The semantics that docs/playbook-facts.md promises, condition by condition.
func TestUnknownFacts(t *testing.T) {
	const u = "scope.malicious_use_24h"
	for when, want := range map[string]struct {
		facts map[string]any
		rule  string
		why   string
	}{
		u + " > 0":                              {map[string]any{u: nil}, "default", "unknown: " + u},
		"!(" + u + " > 0)":                      {map[string]any{u: nil}, "default", "unknown: " + u},
		u + " == 0":                             {map[string]any{}, "default", "unknown: " + u},
		"item.admin || " + u + " > 0":           {map[string]any{"item.admin": true}, "rule", ""},
		u + " > 0 || item.admin":                {map[string]any{"item.admin": true}, "rule", ""},
		"item.held || " + u + " > 1":            {map[string]any{"item.held": false}, "default", "unknown: " + u},
		"item.admin && " + u + " > 0":           {map[string]any{"item.admin": false}, "default", ""},
		u + " > 0 ? true : true":                {map[string]any{}, "default", "unknown: " + u},
		"item.owner in [\"a\", \"b\"]":          {map[string]any{"item.owner": "b"}, "rule", ""},
		"item.owner == \"\"":                    {map[string]any{"item.owner": ""}, "rule", ""},
		"[1,2].exists(x, x == scope.items)":     {map[string]any{"scope.items": 2}, "rule", ""},
		"[1,2].exists(x, x == scope.customers)": {map[string]any{}, "default", "unknown: scope.customers"},
		"scope.items == 3":                      {map[string]any{"scope.items": "three"}, "default", "unknown: scope.items"},
		"10 / scope.items > 1":                  {map[string]any{"scope.items": 0}, "default", "could not be evaluated: division by zero"},
	} {
		t.Run(when, func(t *testing.T) {
			src := strings.Replace(valid(t), "{id: held, strategy: hold, when: item.held}", "{id: rule, strategy: hold, when: '"+when+"'}", 1)
			e, err := playbook.NewEvaluator(mustParse(t, src))
			require.NoError(t, err)
			d := e.Decide(facts(want.facts))
			require.Equal(t, want.rule, d.RuleID)
			why := ""
			for _, s := range d.Skipped {
				if s.RuleID == "rule" {
					why = s.Why
				}
			}
			require.Equal(t, want.why, why)
		})
	}
}

func TestSeverity(t *testing.T) {
	e := evaluator(t)
	for name, tt := range map[string]struct {
		facts map[string]any
		level playbooks.Level
		index int
	}{
		"administrator":       {map[string]any{"item.admin": true}, playbooks.Critical, 0},
		"abuse":               {map[string]any{"scope.malicious_use_24h": 1}, playbooks.Critical, 1},
		"public":              {map[string]any{"item.exposure": "public"}, playbooks.High, 2},
		"public, rest unread": {map[string]any{"item.exposure": "public", "item.admin": nil, "scope.malicious_use_24h": nil}, playbooks.High, 2},
		"anything else":       {nil, playbooks.Medium, 3},
	} {
		t.Run(name, func(t *testing.T) {
			level, index := e.Severity(quiet(tt.facts))
			require.Equal(t, tt.level, level)
			require.Equal(t, tt.index, index)
		})
	}
}

func TestContain(t *testing.T) {
	e := evaluator(t)
	for name, tt := range map[string]struct {
		facts   map[string]any
		allowed bool
	}{
		"checked secret":       {map[string]any{"report.possession": true, "report.source_kind": nil}, true},
		"the provider's alert": {map[string]any{"report.source_kind": "provider"}, true},
		"a scanner's word":     {map[string]any{"report.source_kind": "scanner"}, false},
		"possession not known": {map[string]any{"report.possession": nil}, false},
	} {
		t.Run(name, func(t *testing.T) {
			v := e.Contain(quiet(tt.facts))
			require.Equal(t, tt.allowed, v.Allowed, v.Why)
			require.Len(t, v.Read, 2)
		})
	}
	off, err := playbook.NewEvaluator(mustParse(t, strings.Replace(valid(t), "contain_on_report:\n  when: report.possession\n", "", 1)))
	require.NoError(t, err)
	require.False(t, off.Contain(quiet(map[string]any{"report.possession": true})).Allowed, "off unless given")
}

func TestSelect(t *testing.T) {
	aws := evaluator(t)
	other, err := playbook.NewEvaluator(mustParse(t, valid(t)))
	require.NoError(t, err)
	all := []*playbook.Evaluator{other, aws}
	for name, tt := range map[string]struct {
		facts map[string]any
		want  *playbook.Evaluator
	}{
		"by provider and kind":   {nil, aws},
		"the other provider":     {map[string]any{"report.provider": "testprov", "report.kind": "key"}, other},
		"our kind at another":    {map[string]any{"report.provider": "testprov"}, nil},
		"kind nobody takes":      {map[string]any{"report.kind": "password"}, nil},
		"a vendor's test":        {map[string]any{"report.confidence": "sample"}, nil},
		"confidence not known":   {map[string]any{"report.confidence": nil}, nil},
		"provider not known yet": {map[string]any{"report.provider": nil}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := playbook.Select(all, quiet(tt.facts))
			require.NoError(t, err)
			require.Same(t, tt.want, got)
		})
	}
}

// A playbook whose match breaks is told, and does not hide the ones behind it.
func TestSelectGoesOnBehindAFault(t *testing.T) {
	src := strings.NewReplacer(`report.confidence != "sample"`, `1 / size(report.source) > 0`, "provider: testprov", "provider: awsiam", "kinds: [key]", "kinds: [user-access-key]").Replace(valid(t))
	pb, problems := playbook.Parse("f", []byte(src))
	require.NotNil(t, pb, problems.String())
	broken, err := playbook.NewEvaluator(pb)
	require.NoError(t, err)
	aws := evaluator(t)
	got, err := playbook.Select([]*playbook.Evaluator{broken, aws}, quiet(map[string]any{"report.source": ""}))
	require.ErrorContains(t, err, "playbook sample: match: could not be evaluated: division by zero")
	require.Same(t, aws, got)
}

// A playbook of another build may have rules this one cannot compile.
func TestEvaluatorRefusesForeignRules(t *testing.T) {
	pb := mustParse(t, valid(t))
	pb.Decide[1].When = "item.colour == \"red\""
	_, err := playbook.NewEvaluator(pb)
	require.EqualError(t, err, `playbook sample: decide[1]: unknown fact "item.colour"`)
}

func BenchmarkDecide(b *testing.B) {
	e := evaluator(b)
	f := quiet(map[string]any{"scope.dark_days_30d": 1})
	b.ReportAllocs()
	for b.Loop() {
		if e.Decide(f).RuleID != "default" {
			b.Fatal("wrong rule")
		}
	}
}

func BenchmarkNewEvaluator(b *testing.B) {
	pb := shipped(b).Playbook
	b.ReportAllocs()
	for b.Loop() {
		if _, err := playbook.NewEvaluator(pb); err != nil {
			b.Fatal(err)
		}
	}
}
