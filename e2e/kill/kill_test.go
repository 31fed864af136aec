// Package kill plays one incident after another in which the whole of rekey is killed
// -9, at every edge of every verb that changes something. It is apart from the other
// tests of whole processes because a package has ten minutes.
package kill

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"rekey/internal/drill/drilltest"
	"rekey/worker/embedded"
)

func TestMain(m *testing.M) { drilltest.Main(m, embedded.Engine()) }

// killPlaybook disables, replaces and destroys by policy, with votes for Revoke.
const killPlaybook = `apiVersion: rekey/v1
kind: Playbook
name: kill-matrix
title: One rule, for the kill matrix
version: 1.0.0
match: {provider: awsiam, kinds: [user-access-key]}
start: auto
severity: [{level: high, when: "true"}]
scope: {depth: 1, sources: [provider, estate], lookback: 90d, timeout: 10m}
decide: [{id: now, strategy: revoke-now, when: "true"}]
strategies:
  revoke-now: {steps: [Disable, EndSessions, Probe, Issue, Distribute, ProbeNew, Revoke]}
ladder: {automatic: [key, sessions]}
approvals:
  revoke-now: {policy: true}
  irreversible: {roles: [commander, security], quorum: 2, expires: 1h, on_expiry: escalate, escalate_to: [admin]}
  rung: {roles: [commander, security], quorum: 2, expires: 30m, on_expiry: escalate, escalate_to: [admin]}
  restore: {roles: [commander, security], quorum: 2, expires: 15m, on_expiry: escalate, escalate_to: [admin]}
reissue: {stores: [{target: awssm, name: "{{item.owner}}/aws"}]}
verify: {k: 2, span: 30s, vantage: 1, sweep: true}
watch: {for: 1h}
`

const killScenario = `apiVersion: rekey/v1
kind: Drill
name: kill-matrix
seed: %d
clock: {t0: 2026-03-01T00:00:00Z, horizon: 45m}
estate:
  providers: {awsiam/lab: {limits: {iam: 50/s}, propagation: 4s, quotas: {keys_per_user: 2}}}
  keys:
    - {id: AK-1, user: app, policy: ReadOnlyAccess, issued: T0-30d, last_legit_use: T0-1h, owner: team}
  copies: [{key: AK-1, where: host/A, registered: true}]
  dependents: [{id: app, keys: [AK-1], owner: team, outage_budget: 30m, cutover: hot, proof: last-used}]
trigger: {at: T0, report: {provider: awsiam, kind: user-access-key, key: AK-1, source: outsider, confidence: confirmed, secret: true, playbook: %s}}
people:
  - {actor: oncall-1, roles: [commander], on: approval, after: 1m, do: approve}
  - {actor: oncall-2, roles: [security], on: approval, after: 1m, do: approve}
faults:
  - {what: worker-kill, at: {verb: %s, nth: 1, edge: %s}}
attacker: {knows: [AK-1], every: 60s}
expect:
  - {id: dead, expr: 'final.items.all(i, i.end_state == "revoked-verified")'}
  - {id: adopted, expr: 'final.items.all(i, i.adoption.state == "adopted")'}
  - {id: one-key, expr: 'lab.keys.filter(k, k.user == "app" && k.state == "active").size() == 1'}
`

// TestKillAnywhere kills -9 the whole of rekey at every edge of every mutating
// verb, the provider in another process. Every run must end the same, with the
// effects counted in the provider's own log.
func TestKillAnywhere(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("skipped: fifteen incidents, minutes long")
	}
	seed := 0
	for _, verb := range []string{"Disable", "EndSessions", "Issue", "Distribute", "Revoke"} {
		for _, edge := range []string{"before-call", "after-call-before-record", "after-record"} {
			seed++
			t.Run(verb+"/"+edge, func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				pb, sc := filepath.Join(dir, "kill-matrix.yaml"), filepath.Join(dir, "drill.yaml")
				require.NoError(t, os.WriteFile(pb, []byte(killPlaybook), 0o600))
				require.NoError(t, os.WriteFile(sc, fmt.Appendf(nil, killScenario, seed, pb, verb, edge), 0o600))
				res := drilltest.Run(t, sc, 0)
				require.Equal(t, "passed", res.Result)
				require.Equal(t, 1, res.Kills, "the kill must strike")
				require.Zero(t, res.Effects.Duplicate)
				require.Zero(t, res.Effects.Orphans)
			})
		}
	}
}
