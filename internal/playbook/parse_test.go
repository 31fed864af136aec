package playbook_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"rekey/internal/playbook"
)

// A mistake is one edit of testdata/valid.yaml. The sign ¦ in `to` stands where the
// problem must point, and is taken out before parsing; so no row's position is a
// copy of what the validator printed.
type mistake struct {
	from, to string
	want     string // "[warning: ]path: message (fix)  [RKnnn]"
}

var mistakes = map[string]mistake{
	"not YAML":              {"match:\n", "¦match: [\n", `did not find expected ',' or ']'  [RK001]`},
	"key in capitals":       {"start: auto", "¦Start: auto", `unknown key "Start" (did you mean "start"?)  [RK003]`},
	"nested unknown key":    {"lookback: 90d", "¦lookbak: 90d", `scope: unknown key "lookbak" (did you mean "lookback"?)  [RK003]`},
	"key twice":             {"start: auto", "start: auto\n¦start: ask", `start: the key is given twice, first in line 10 (keep one)  [RK004]`},
	"strategy twice":        {"ladder:", "  ¦revoke-now: {steps: [Probe]}\nladder:", `strategies.revoke-now: the key is given twice, first in line 24 (keep one)  [RK004]`},
	"number as text":        {"k: 3", `k: ¦"3"`, `verify.k: "3" is not a whole number  [RK005]`},
	"text as number":        {"version: 1.0.0", "version: ¦1.0", `version: expected a text, got 1.0 (write "1.0")  [RK005]`},
	"list as text":          {"sources: [provider, estate]", "sources: ¦provider", `scope.sources: expected a list (write it as [a, b])  [RK005]`},
	"mapping as list":       {"watch: {for: 90d}", "watch: ¦[90d]", `watch: expected a mapping of keys to values  [RK005]`},
	"key without value":     {"title: A key of the test provider", "¦title:", `title: the key has no value (give one, or leave the key out)  [RK005]`},
	"truth as text":         {"policy: true", "policy: ¦yes", `approvals.revoke-now.policy: "yes" is neither true nor false  [RK005]`},
	"rule without when":     {"{id: held, strategy: hold, when: item.held}", "¦{id: held, strategy: hold}", `decide[0]: key "when" is missing (add it)  [RK006]`},
	"alias":                 {"kinds: [key]", "kinds: ¦&k [key]", `match.kinds: anchors, aliases and tags are not part of the format (write the value out)  [RK007]`},
	"merge key":             {"start: auto", "watch: {for: 90d, ¦<<: {for: 1d}}\nstart: auto", `watch: anchors, aliases and merge keys are not part of the format (write the values out)  [RK007]`},
	"other version":         {"apiVersion: rekey/v1", "apiVersion: ¦rekey/v2", `apiVersion: unknown version "rekey/v2" (write rekey/v1)  [RK008]`},
	"other kind":            {"kind: Playbook", "kind: ¦Drill", `kind: unknown kind "Drill" (write Playbook)  [RK008]`},
	"name with capitals":    {"name: sample", "name: ¦Sample", `name: "Sample" is not a name (lower case letters, digits and dashes, beginning with a letter)  [RK009]`},
	"rule name with spaces": {"id: held", "id: ¦is held", `decide[0].id: "is held" is not a name (lower case letters, digits and dashes, beginning with a letter)  [RK009]`},
	"not semver":            {"version: 1.0.0", "version: ¦v1", `version: "v1" is not a semantic version (write it like 1.0.0)  [RK010]`},
	"condition cut off":     {"when: scope.dependents_seen_30d > 0", "when: scope.dependents_seen_30d >¦", `decide[3]: mismatched input '<EOF>' expecting`},
	"unknown fact":          {"when: scope.attacker_reads_store == true", "when: ¦scope.attackr_reads_store == true", `decide[1]: unknown fact "scope.attackr_reads_store" (did you mean "scope.attacker_reads_store"?)  [RK012]`},
	"no clock":              {"when: item.held", "when: item.held || ¦now > 3", `decide[0]: unknown fact "now" (docs/playbook-facts.md lists the facts)  [RK012]`},
	"whole variable":        {"when: item.held", "when: ¦item == item.held", `decide[0]: unknown fact "item" (docs/playbook-facts.md lists the facts)  [RK012]`},
	"in double quotes":      {"when: item.held", `when: "item.owner == \"a\" || ¦item.hld"`, `decide[0]: unknown fact "item.hld" (did you mean "item.held"?)  [RK012]`},
	"in single quotes":      {"when: item.held", `when: 'item.owner == "it''s" || ¦item.hld'`, `decide[0]: unknown fact "item.hld" (did you mean "item.held"?)  [RK012]`},
	"in a block":            {"contain_on_report:\n  when: report.possession", "contain_on_report:\n  when: |\n    report.possession ||\n      ¦report.sorce == \"aws\"", `contain_on_report: unknown fact "report.sorce" (did you mean "report.source"?)  [RK012]`},
	"in a folded block":     {"contain_on_report:\n  when: report.possession", "contain_on_report:\n  when: >-\n    report.possession ||\n    ¦report.sorce == \"aws\"", `contain_on_report: unknown fact "report.sorce" (did you mean "report.source"?)  [RK012]`},
	"over two lines":        {"contain_on_report:\n  when: report.possession", "contain_on_report:\n  when: report.possession ||\n    ¦report.sorce == \"aws\"", `contain_on_report: unknown fact "report.sorce" (did you mean "report.source"?)  [RK012]`},
	"behind wide letters":   {"when: item.held", `when: item.owner == "Zoë 東京" || ¦item.hld`, `decide[0]: unknown fact "item.hld" (did you mean "item.held"?)  [RK012]`},
	"different types":       {"when: item.held", `when: item.held ¦== 1`, `decide[0]: found no matching overload for '_==_' applied to '(bool, int)'  [RK013]`},
	"not a truth value":     {"when: scope.malicious_use_24h > 0", `when: ¦scope.malicious_use_24h`, `decide[2]: the condition gives int, not true or false (compare it with a value)  [RK013]`},
	"no such function":      {"when: item.held", `when: exec¦("x")`, `decide[0]: undeclared reference to 'exec'  [RK013]`},
	"has() on a fact":       {"when: item.held", `when: has(¦item.held)`, `decide[0]: has() is not needed (a condition that reads an unknown fact is false by itself)  [RK013]`},
	"loops in loops":        {"when: item.held", `when: "¦` + loops(5) + `"`, `decide[0]: the condition may cost more than 10000 (shorten it)  [RK014]`},
	"match reads scope":     {`when: report.confidence != "sample"`, `when: ¦scope.items > 0`, `match: "scope.items" is not known yet when this is asked (use another fact)  [RK015]`},
	"slip in a value":       {"when: item.held", `when: item.owner_kind == ¦"custommer"`, `warning: decide[0]: item.owner_kind is never "custommer" (did you mean "customer"?)  [RK016]`},
	"slip in a list":        {"when: item.held", `when: 'item.exposure in ["public", ¦"privat"]'`, `warning: decide[0]: item.exposure is never "privat" (did you mean "private"?)  [RK016]`},
	"slip before the fact":  {"when: item.held", `when: '¦"hosts" != report.subject'`, `warning: decide[0]: report.subject is never "hosts" (did you mean "host"?)  [RK016]`},
	"unknown start":         {"start: auto", "start: ¦automatic", `start: unknown start "automatic" (one of auto, ask, record)  [RK020]`},
	"unknown level":         {"level: medium", "level: ¦meduim", `severity[1].level: unknown level "meduim" (did you mean "medium"?)  [RK020]`},
	"unknown source":        {"[provider, estate]", "[provider, ¦estates]", `scope.sources[1]: unknown source "estates" (did you mean "estate"?)  [RK020]`},
	"unknown gate":          {"gate: warn-before-cut", "gate: ¦warn", `notices[0].gate: unknown gate "warn" (one of warn-before-cut)  [RK020]`},
	"harden scope":          {"scope: used-90d", "scope: ¦used", `harden.scope: unknown scope "used" (write it like used-90d)  [RK020]`},
	"bad duration":          {"cutoff: 72h", "cutoff: ¦72", `strategies.reissue-first.cutoff: "72" is not a duration: write it like 30s, 15m, 72h or 90d  [RK021]`},
	"negative duration":     {"lookback: 90d", "lookback: ¦-90d", `scope.lookback: "-90d" is not a duration: write it like 30s, 15m, 72h or 90d  [RK021]`},
	"zero duration":         {"timeout: 10m", "timeout: ¦0s", `scope.timeout: the time is zero (write 30s, 15m, 72h or 90d)  [RK021]`},
	"bad rate":              {"10/s", "¦10 per s", `rates.testprov.write: "10 per s": a rate is a whole number per s, m or h, like 10/s  [RK022]`},
	"k of zero":             {"k: 3", "k: ¦0", `verify.k: 0 is out of range (1 to 100)  [RK023]`},
	"rule id twice":         {"id: live", "id: ¦abuse", `decide[3].id: a second rule "abuse" (give it a name of its own)  [RK024]`},
	"step twice":            {"[Disable, EndSessions, Probe, WaitQuiet, Revoke]", "[Disable, EndSessions, Probe, WaitQuiet, Revoke, ¦Revoke, Probe]", `strategies.disable-and-watch.steps[5]: "Revoke" is in the list already (keep one)  [RK024]`},
	"unknown strategy":      {"strategy: barrier", "strategy: ¦barier", `decide[1].strategy: unknown strategy "barier" (did you mean "barrier"?)  [RK025]`},
	"unknown step":          {"steps: [Disable, EndSessions, Probe, WaitQuiet, Revoke]", "steps: [Disable, ¦EndSesions, Probe, WaitQuiet, Revoke]", `strategies.disable-and-watch.steps[1]: unknown step "EndSesions" (did you mean "EndSessions"?)  [RK026]`},
	"unknown rung":          {"approved: [principal]", "approved: [¦princpal]", `ladder.approved[0]: unknown rung "princpal" (did you mean "principal"?)  [RK027]`},
	"rung in both":          {"approved: [principal]", "approved: [principal, ¦key]", `ladder.approved[1]: "key" is under automatic as well (keep one)  [RK027]`},
	"unknown role":          {"roles: [approver]", "roles: [¦aprover]", `approvals.disable-and-watch.roles[0]: unknown role "aprover" (did you mean "approver"?)  [RK028]`},
	"bad network":           {"allow_from: [198.18.0.0/15]", "allow_from: [¦198.18.0.0]", `harden.allow_from[0]: "198.18.0.0" is not a network (write it like 198.18.0.0/15)  [RK029]`},
	"host bits":             {"allow_from: [198.18.0.0/15]", "allow_from: [¦198.18.0.1/15]", `harden.allow_from[0]: "198.18.0.1/15" has host bits (write 198.18.0.0/15)  [RK029]`},
	"no last rule":          {`{id: default, strategy: disable-and-watch, when: "true"}`, `¦{id: default, strategy: disable-and-watch, when: item.reported}`, `decide[4]: the last entry must be true for everything (add one with when: "true")  [RK030]`},
	"no last severity":      {`{level: medium, when: "true"}`, `¦{level: medium, when: item.reported}`, `severity[1]: the last entry must be true for everything (add one with when: "true")  [RK031]`},
	"rule never reached":    {`{id: live, strategy: reissue-first, when: scope.dependents_seen_30d > 0}`, `{id: live, strategy: reissue-first, when: true}`, `decide[4]: never reached: entry 3 is always true (move it up, or remove it)  [RK032]`},
	"approval falls back":   {"  barrier: {roles: [commander], quorum: 2, expires: 1h, on_expiry: escalate, escalate_to: [admin]}\n", "", `warning: decide[1]: nobody is named to approve barrier: the votes of approvals.irreversible apply (add approvals.barrier)  [RK033]`},
	"no approval of rung":   {"  rung: {roles: [security], quorum: 2, expires: 30m, on_expiry: escalate, escalate_to: [admin]}\n", "", `ladder.approved: nobody is named to approve these rungs (add approvals.rung)  [RK033]`},
	"no approval restore":   {"  restore: {roles: [security], quorum: 2, expires: 15m, on_expiry: escalate, escalate_to: [admin]}\n", "", `warning: decide[4]: it waits for complaints, and nobody is named to approve a Restore (add approvals.restore)  [RK033]`},
	"approval of nothing":   {"  rung: {", "  ¦rungs: {", `approvals.rungs: nothing is approved under "rungs" (did you mean "rung"?)  [RK034]`},
	"quorum zero":           {"{roles: [approver], quorum: 1,", "¦{roles: [approver], quorum: 0,", `approvals.disable-and-watch: the quorum must be 1 or more (add quorum: 2)  [RK035]`},
	"nobody may vote":       {"{roles: [approver], quorum: 1,", "¦{quorum: 1,", `approvals.disable-and-watch: nobody may vote (add roles)  [RK035]`},
	"votes for ever":        {"{roles: [approver], quorum: 1, expires: 1h,", "¦{roles: [approver], quorum: 1,", `approvals.disable-and-watch: the votes never expire (add expires: 30m)  [RK036]`},
	"expiry goes ahead":     {"{roles: [approver], quorum: 1, expires: 1h, on_expiry: escalate,", "¦{roles: [approver], quorum: 1, expires: 1h, on_expiry: proceed,", `approvals.disable-and-watch: an expired approval must escalate: it never goes ahead and is never dropped (add on_expiry: escalate)  [RK037]`},
	"escalates to nobody":   {"on_expiry: escalate, escalate_to: [commander]}", "on_expiry: escalate}", `approvals.disable-and-watch: nobody is named to escalate to (add escalate_to: [admin])  [RK037]`},
	"rung by policy":        {"rung: {roles: [security], quorum: 2, expires: 30m, on_expiry: escalate, escalate_to: [admin]}", "rung: {policy: ¦true}", `approvals.rung.policy: rung is never approved by policy (name roles and a quorum)  [RK038]`},
	"policy with votes":     {"revoke-now: {policy: true}", "revoke-now: {policy: ¦true, quorum: 1}", `approvals.revoke-now.policy: policy: true together with votes (keep one of them)  [RK038]`},
	"long break-glass":      {"{roles: [commander], window: 15m,", "¦{roles: [commander], window: 2h,", `approvals.break_glass: break-glass lasts at most 15m (add window: 15m)  [RK039]`},
	"unknown provider":      {"provider: testprov", "provider: ¦testprv", `match.provider: unknown provider "testprv" (did you mean "testprov"?)  [RK040]`},
	"unknown kind":          {"kinds: [key]", "kinds: [¦token]", `match.kinds[0]: testprov has no kind "token" (one of key)  [RK041]`},
	"short span":            {"span: 30s", "span: ¦29s", `verify.span: 29s is less than twice the propagation of 15s (write 30s or more)  [RK042]`},
	"unknown store":         {"target: vault", "target: ¦valt", `reissue.stores[0].target: testprov has no store "valt" (did you mean "vault"?)  [RK044]`},
	"rate of another":       {"rates: {testprov.write: 10/s}", "rates: {¦other.write: 10/s}", `rates.other.write: "other.write" is not a limit of testprov (write it like testprov.write)  [RK045]`},
	"revoke blindly":        {"sources: [provider, estate]", "sources: ¦[estate]", `scope.sources: barrier destroys a key of which nothing was read from its provider first (add provider)  [RK050]`},
	"disable unproven":      {"[Disable, EndSessions, Probe, WaitQuiet, Revoke]", "[¦Disable, EndSessions, WaitQuiet, Revoke, ProbeNew]", `strategies.disable-and-watch.steps[0]: Disable is not followed by Probe: an answer of 200 proves nothing (put Probe behind it)  [RK051]`},
	"revoke unproven":       {"[Disable, EndSessions, Probe, Issue, Distribute, ProbeNew, Revoke]", "[¦Revoke, Issue, Distribute, ProbeNew]", `strategies.revoke-now.steps[0]: Revoke is not followed by Probe: an answer of 200 proves nothing (put Probe behind it)  [RK051]`},
	"no gate":               {"  irreversible: {roles: [commander], quorum: 2, expires: 1h, on_expiry: escalate, escalate_to: [admin]}\n", "", `strategies.reissue-first.steps[7]: Revoke cannot be undone and has no gate (add approvals.irreversible with a quorum)  [RK052]`},
	"no cut-off":            {"{cutoff: 72h, steps", "¦{steps", `strategies.reissue-first: WaitCutover has no end: the thief stays for as long as one dependent sleeps (add cutoff: 72h)  [RK053]`},
	"no quiet time":         {"{quiet: 24h, steps", "¦{steps", `strategies.disable-and-watch: WaitQuiet has no time (add quiet: 24h)  [RK054]`},
	"watch without watching": {"[Disable, EndSessions, Probe, WaitQuiet, Revoke]", "[Disable, EndSessions, Probe, ¦Revoke]",
		`strategies.disable-and-watch.steps[3]: Revoke without WaitQuiet before it: a complaint would come too late (put WaitQuiet before Revoke)  [RK055]`},
	"cut before cut-over": {"[Issue, Distribute, Notice, WaitCutover, Disable, EndSessions, Probe, Revoke]", "[¦Disable, Issue, Distribute, Notice, WaitCutover, EndSessions, Probe, Revoke]",
		`strategies.reissue-first.steps[0]: Disable without WaitCutover before it: dependents would break before they have the new key (put WaitCutover before Disable)  [RK055]`},
	"placeholder": {"{{item.owner}}/key", "{{item.team}}/key", `reissue.stores[0].name: nothing binds {{item.team}} (one of item.owner, item.provider, item.account, item.kind, item.principal)  [RK056]`},
	"everybody":   {"allow_from: [198.18.0.0/15]", "allow_from: [¦0.0.0.0/0]", `harden.allow_from[0]: "0.0.0.0/0" is everybody: the list limits nothing (write your own egress ranges, or leave the list out)  [RK057]`},
	"nobody":      {"allow_from: [198.18.0.0/15]", "allow_from: [¦203.0.113.0/24]", `warning: harden.allow_from[0]: "203.0.113.0/24" is a range for documentation: a Deny outside it locks everybody out (write your own egress ranges, or leave the list out)  [RK057]`},
	"principal by itself": {"automatic: [key, sessions]", "automatic: [key, sessions, ¦parent-deny]",
		`ladder.automatic[2]: parent-deny stops more than the key and is never climbed by policy (move it to ladder.approved)  [RK058]`},
	"viewer votes": {"roles: [approver]", "roles: [¦viewer]", `approvals.disable-and-watch.roles[0]: "viewer" may look or report, not vote (name a role that may decide)  [RK059]`},
	"idle strategy": {"  - {id: abuse, strategy: revoke-now, when: scope.malicious_use_24h > 0}\n", "",
		`warning: strategies.revoke-now: no rule uses this strategy (remove it, or add the rule)  [RK060]`},
}

// loops is a condition that walks a list of ten, n deep.
func loops(n int) string {
	list := "[1,2,3,4,5,6,7,8,9,10]"
	s := "item.held"
	for i := range n {
		s = list + ".all(x" + string(rune('a'+i)) + ", " + s + ")"
	}
	return s
}

func TestMistakes(t *testing.T) {
	base := valid(t)
	for name, m := range mistakes {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, 1, strings.Count(base, m.from), "the edit must hit once: %s", m.from)
			marked := strings.Replace(base, m.from, m.to, 1)
			src := strings.Replace(marked, "¦", "", 1)
			_, problems := playbook.Parse("playbook.yaml", []byte(src), playbook.WithProviders(testProviders()))

			var found *playbook.Problem
			var wanted string
			for i, p := range problems {
				wanted = p.String()[strings.Index(p.String(), ": ")+2:]
				if strings.HasPrefix(wanted, m.want) {
					found = &problems[i]
					break
				}
			}
			require.NotNil(t, found, "want %q in:\n%s", m.want, problems)
			require.Equal(t, strings.HasPrefix(m.want, "warning: "), found.Warning)
			before, _, ok := strings.Cut(marked, "¦")
			if !ok { // the thing is missing; the problem points at what is left
				return
			}
			line := strings.Count(before, "\n") + 1
			col := utf8.RuneCountInString(before[strings.LastIndex(before, "\n")+1:]) + 1
			require.Equal(t, [2]int{line, col}, [2]int{found.Line, found.Col}, "%s", found)
		})
	}
}

// Every code is in the table, every code of a file's mistakes has a row above, and
// nothing else is ever given out.
func TestCodesAreComplete(t *testing.T) {
	rows := map[playbook.Code]bool{}
	for _, m := range mistakes {
		if i := strings.LastIndex(m.want, "[RK"); i >= 0 {
			rows[playbook.Code(strings.Trim(m.want[i:], "[]"))] = true
		}
	}
	// Rows elsewhere: whole files (RK002), syntax of a condition (its text is CEL's,
	// RK011), a provider without verbs (RK043), ceilings (RK061, RK062).
	for _, c := range []playbook.Code{"RK002", "RK011", "RK043", "RK061", "RK062"} {
		require.False(t, rows[c], "%s has a row now: take it off this list", c)
		rows[c] = true
	}
	seen := map[playbook.Code]bool{}
	last := playbook.Code("")
	for _, c := range playbook.CodeTable() {
		require.Greater(t, c.Code, last, "the table is in order")
		last = c.Code
		seen[c.Code] = true
		require.NotEmpty(t, c.Meaning)
		require.NotEmpty(t, c.Mend)
		require.True(t, rows[c.Code], "%s has no test", c.Code)
	}
	for c := range rows {
		require.True(t, seen[c], "%s is not in the table", c)
	}
	require.GreaterOrEqual(t, len(seen), 25)
}

// The line of contracts section 2, letter by letter.
func TestContractLine(t *testing.T) {
	p := playbook.Problem{File: "playbook.yaml", Line: 31, Col: 17, Code: "RK012", Path: "decide[2]",
		Message: `unknown fact "scope.attackr_reads_store"`, Fix: `did you mean "scope.attacker_reads_store"?`}
	require.Equal(t, `playbook.yaml:31:17: decide[2]: unknown fact "scope.attackr_reads_store" (did you mean "scope.attacker_reads_store"?)  [RK012]`, p.String())
}

func TestConditionSyntaxCode(t *testing.T) {
	src := strings.Replace(valid(t), "when: item.held", "when: item.held &&", 1)
	pb, problems := playbook.Parse("playbook.yaml", []byte(src))
	require.Nil(t, pb)
	require.Len(t, problems, 1, problems.String())
	require.Equal(t, playbook.Code("RK011"), problems[0].Code)
	require.NotContains(t, problems[0].Message, "\n")
}

func TestWholeFiles(t *testing.T) {
	for name, tt := range map[string]struct{ src, want string }{
		"empty":         {"", "f:1:1: the file is empty (rekey playbook show aws-access-key prints a complete one)  [RK002]"},
		"only comments": {"# nothing\n", "f:1:1: the file is empty (rekey playbook show aws-access-key prints a complete one)  [RK002]"},
		"a list":        {"- a\n", "f:1:1: a playbook is a mapping of keys to values (rekey playbook show aws-access-key prints one)  [RK002]"},
		"two documents": {"a: b\n---\nc: d\n", "f:2:1: a second document in the file (one playbook per file)  [RK002]"},
		"too large":     {strings.Repeat("#", 1<<20+1), "f:1:1: the file is larger than 1 MiB  [RK002]"},
		"not UTF-8":     {"a: \xff\n", "f:1:1: the file is not UTF-8 (save it as UTF-8)  [RK001]"},
	} {
		t.Run(name, func(t *testing.T) {
			pb, problems := playbook.Parse("f", []byte(tt.src))
			require.Nil(t, pb)
			require.Equal(t, tt.want, problems.String())
			require.ErrorContains(t, problems.Err(), tt.want)
		})
	}
}

// A file at the bound of its size must not keep the validator busy for seconds.
func TestTooManyEntries(t *testing.T) {
	pb, problems := playbook.Parse("f", []byte("decide:\n"+strings.Repeat("- {id: x, strategy: hold, when: item.held}\n", 501)))
	require.Nil(t, pb)
	require.Contains(t, problems.String(), "f:2:1: decide: more than 500 entries  [RK002]")
	_, problems = playbook.Parse("f", []byte("decide:\n"+strings.Repeat("- {when: item.x}\n", 500)))
	require.Len(t, problems, 200, "more than a person reads is not told")
}

func TestProviderThatCanDoLittle(t *testing.T) {
	src := strings.NewReplacer("provider: testprov", "provider: bareprov", "testprov.write", "bareprov.write",
		`  stores: [{target: vault, name: "{{item.owner}}/key"}]`, "  narrow: {}").Replace(valid(t))
	pb, problems := playbook.Parse("f", []byte(src), playbook.WithProviders(testProviders()))
	require.NotNil(t, pb, "warnings only: contracts section 6 says what happens: %s", problems)
	require.Contains(t, problems.String(), "bareprov cannot do Disable: contracts section 6 says what happens instead (remove it if that is not wanted)  [RK043]")
	require.Contains(t, problems.String(), "f:15:3: warning: contain_on_report: bareprov has no reversible Disable")
	for _, p := range problems {
		require.True(t, p.Warning, p.String())
	}
}

func TestNameIsTheFolder(t *testing.T) {
	_, problems := playbook.Parse("f", []byte(valid(t)), playbook.InFolder("other"))
	require.Equal(t, `f:3:7: name: the folder is "other" (write "other")  [RK009]`, problems.String())
}

// Many mistakes at once are all told, in the order of the file.
func TestAllMistakesAreTold(t *testing.T) {
	src := strings.NewReplacer("start: auto", "start: now", "k: 3", "k: 0", "id: live", "id: held").Replace(valid(t))
	_, problems := playbook.Parse("f", []byte(src))
	require.Len(t, problems, 3, problems.String())
	require.True(t, problems[0].Line < problems[1].Line && problems[1].Line < problems[2].Line)
}

func FuzzParse(f *testing.F) {
	l := shipped(f)
	f.Add(string(l.Source))
	for _, m := range mistakes {
		f.Add(strings.ReplaceAll(m.to, "¦", ""))
	}
	f.Add("contain_on_report: {when: \"a\\u00e9\\\n  b\"}\n")
	f.Add("decide:\n- when: |2\n\n   x.\n- when: >\n   a\n\n   b c.d\n- {when: 'a''\n\n  b'}\n")
	f.Fuzz(func(t *testing.T, src string) {
		pb, problems := playbook.Parse("f", []byte(src), playbook.WithProviders(testProviders()))
		require.Equal(t, pb == nil, problems.Failed(), "a playbook, or the reason why not")
		// YAML also breaks lines at a lone CR, NEL, LS and PS.
		lines := strings.Count(strings.NewReplacer("\r", "\n", "\u0085", "\n", "\u2028", "\n", "\u2029", "\n").Replace(src), "\n") + 1
		for _, p := range problems {
			require.True(t, p.Line >= 1 && p.Line <= lines+1 && p.Col >= 1, p.String())
			require.NotEmpty(t, p.Code)
			require.NotEmpty(t, p.Message)
		}
		if pb != nil {
			_, err := playbook.NewEvaluator(pb)
			require.NoError(t, err)
			playbook.Mermaid(pb)
		}
	})
}
