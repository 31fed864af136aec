package killer

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"rekey/internal/lab/scenario"
)

// playbook cuts, replaces and destroys by policy, with votes for what cannot be undone
// and for the rung above sessions.
const playbook = `apiVersion: rekey/v1
kind: Playbook
name: seeded-kills
title: One rule for each shape
version: 1.0.0
match: {provider: awsiam, kinds: [user-access-key]}
start: auto
severity: [{level: high, when: "true"}]
scope: {depth: 1, sources: [provider, estate], lookback: 90d, timeout: 10m}
decide:
  - {id: replace, strategy: reissue-first, when: item.owner.startsWith("replace-")}
  - {id: cut, strategy: revoke-now, when: "true"}
strategies:
  revoke-now: {steps: [Disable, EndSessions, Probe, Issue, Distribute, ProbeNew, Revoke]}
  reissue-first: {cutoff: 6h, steps: [Issue, Distribute, WaitCutover, Disable, EndSessions, Probe, Revoke]}
ladder: {automatic: [key, sessions], approved: [principal]}
approvals:
  revoke-now: {policy: true}
  reissue-first: {policy: true}
  irreversible: {roles: [commander, security], quorum: 2, expires: 1h, on_expiry: escalate, escalate_to: [admin]}
  rung: {roles: [commander, security], quorum: 2, expires: 30m, on_expiry: escalate, escalate_to: [admin]}
  restore: {roles: [commander, security], quorum: 2, expires: 15m, on_expiry: escalate, escalate_to: [admin]}
reissue: {stores: [{target: awssm, name: "{{item.owner}}/aws"}]}
verify: {k: 2, span: 30s, vantage: 1, sweep: true}
watch: {for: 10m}
`

// Keys of incident n of a world.
func cutKey(n int) string      { return fmt.Sprintf("CUT-%d", n) }
func replaceKey(n int) string  { return fmt.Sprintf("REPLACE-%d", n) }
func stubbornKey(n int) string { return fmt.Sprintf("STUBBORN-%d", n) }

// text is the scenario of a world for the plans given, one incident after another.
func text(plans []Plan) string {
	var keys, copies, dependents, faults, knows []string
	for i, p := range plans {
		n := i + 1
		place := fmt.Sprintf("host/H-%d", n)
		add := func(id, user, owner string) {
			keys = append(keys, fmt.Sprintf("    - {id: %s, user: %s, policy: ReadOnlyAccess, issued: T0-30d, owner: %q}", id, user, owner))
			copies = append(copies, fmt.Sprintf("    - {key: %s, where: %s, registered: true}", id, place))
		}
		serve := func(id, key, owner, cutover string) {
			dependents = append(dependents, fmt.Sprintf("    - {id: %s, keys: [%s], owner: %s, outage_budget: 30m, cutover: %s, proof: last-used, every: 2m}", id, key, owner, cutover))
		}
		add(cutKey(n), fmt.Sprintf("cut-%d", n), fmt.Sprintf("cut-%d", n))
		serve(fmt.Sprintf("app-cut-%d", n), cutKey(n), fmt.Sprintf("cut-%d", n), "hot")
		add(replaceKey(n), fmt.Sprintf("replace-%d", n), fmt.Sprintf("replace-%d", n))
		serve(fmt.Sprintf("app-replace-%d", n), replaceKey(n), fmt.Sprintf("replace-%d", n), "dual")
		knows = append(knows, cutKey(n))
		if p.Shape == Stubborn {
			add(stubbornKey(n), fmt.Sprintf("stubborn-%d", n), "")
			faults = append(faults, fmt.Sprintf("  - {what: alive-after-200, key: %s, until_rung: principal}", stubbornKey(n)))
			knows = append(knows, stubbornKey(n))
		}
	}
	indent := func(s string) string {
		return "  " + strings.ReplaceAll(strings.TrimRight(s, "\n"), "\n", "\n  ") + "\n"
	}
	out := `apiVersion: rekey/v1
kind: Drill
name: seeded-kills
seed: 1
clock: {t0: 2026-03-01T00:00:00Z, horizon: 8760h}
estate:
  providers: {awsiam/lab: {propagation: 4s, quotas: {keys_per_user: 2}}}
  keys:
` + strings.Join(keys, "\n") + "\n  copies:\n" + strings.Join(copies, "\n") + "\n  dependents:\n" + strings.Join(dependents, "\n") + `
trigger: {at: T0, report: ` + reportText(plans[0], 1) + `}
playbook: |
` + indent(playbook) + `people:
  - {actor: oncall-1, roles: [commander], on: approval, after: 1m, do: approve}
  - {actor: oncall-2, roles: [security], on: approval, after: 1m, do: approve}
`
	if len(faults) > 0 {
		out += "faults:\n" + strings.Join(faults, "\n") + "\n"
	}
	return out + "attacker: {knows: [" + strings.Join(knows, ", ") + "], every: 10m}\nexpect: [{id: judged-per-incident, expr: \"true\"}]\n"
}

// report is the report that opens incident n. A stubborn key is reported with its
// secret: only who can try it sees that it lives.
func report(p Plan, n int) scenario.Report {
	key := cutKey(n)
	if p.Shape == Stubborn {
		key = stubbornKey(n)
	}
	return scenario.Report{Provider: "awsiam", Kind: "user-access-key", Key: key, Source: "outsider", Confidence: "confirmed", Secret: true}
}

func reportText(p Plan, n int) string {
	r := report(p, n)
	return fmt.Sprintf("{provider: %s, kind: %s, key: %s, source: %s, confidence: %s, secret: true}", r.Provider, r.Kind, r.Key, r.Source, r.Confidence)
}

// users are the principals of incident n.
func users(p Plan, n int) []string {
	out := []string{fmt.Sprintf("cut-%d", n), fmt.Sprintf("replace-%d", n)}
	if p.Shape == Stubborn {
		out = append(out, fmt.Sprintf("stubborn-%d", n))
	}
	return out
}

// keys are the scenario's names of the keys of incident n.
func keys(p Plan, n int) []string {
	out := []string{cutKey(n), replaceKey(n)}
	if p.Shape == Stubborn {
		out = append(out, stubbornKey(n))
	}
	return out
}

// load makes the scenario of a world and keeps it beside the world's files.
func load(dir string, plans []Plan) (*scenario.Drill, []byte, error) {
	source := []byte(text(plans))
	d, err := scenario.Load("seeded-kills.yaml", source)
	if err != nil {
		return nil, nil, err
	}
	return d, source, os.WriteFile(filepath.Join(dir, "seeded-kills.yaml"), source, 0o600)
}
