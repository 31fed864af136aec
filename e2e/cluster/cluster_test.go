package cluster

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	// items of one incident.
	items = 200
	// propagation of the lab.
	propagation = "1s"
	// limit bounds one incident; nothing is asserted about how long it takes.
	limit = 9 * time.Minute
)

// scenario has a key with a user, a dependent and a store of its own for each item of
// so many incidents, which are played one after another, each with keys of its own.
func scenario(incidents int) string {
	var keys, dependents strings.Builder
	for n := range incidents * items {
		fmt.Fprintf(&keys, "    - {id: k%d, user: svc-%d, policy: ReadOnlyAccess, issued: T0-60d, owner: team-%d}\n", n, n, n)
		fmt.Fprintf(&dependents, "    - {id: app-%d, keys: [k%d], owner: team-%d, outage_budget: 30m, cutover: dual, proof: last-used, every: 5s}\n", n, n, n)
	}
	return `apiVersion: rekey/v1
kind: Drill
name: cluster
seed: 11
clock: {mode: real}
estate:
  providers: {awsiam/lab: {propagation: ` + propagation + `}}
  keys:
` + keys.String() + "  dependents:\n" + dependents.String() + `trigger: {at: T0, report: {provider: awsiam, kind: user-access-key, key: k0, source: cli, confidence: confirmed}}
expect: [{id: there, expr: 'lab.keys.size() > 0'}]
`
}

// estate says that the keys of one incident were kept at one place: who had one of
// them had all.
func estate(incidents int, aliases map[string]string) string {
	var keys, copies, dependents strings.Builder
	for n := range incidents * items {
		id := aliases[fmt.Sprintf("k%d", n)]
		fmt.Fprintf(&keys, "  - {id: %s, provider: awsiam, account: lab, kind: user-access-key, owner: team-%d}\n", id, n)
		fmt.Fprintf(&copies, "  - {key: %s, where: host/vault-%d, registered: true}\n", id, n/items)
		fmt.Fprintf(&dependents, "  - {id: app-%d, keys: [%s], owner: team-%d, outage_budget: 30m, cutover: dual, proof: last-used}\n", n, id, n)
	}
	return "keys:\n" + keys.String() + "copies:\n" + copies.String() + "dependents:\n" + dependents.String()
}

// cutAndReplace kills by policy, replaces, and asks for one vote before it destroys.
const cutAndReplace = `apiVersion: rekey/v1
kind: Playbook
name: cut-and-replace
title: Cut at once and replace
version: 1.0.0
match: {provider: awsiam, kinds: [user-access-key], when: "true"}
start: auto
severity: [{level: high, when: "true"}]
scope: {depth: 2, sources: [provider, estate], lookback: 90d, timeout: 2m}
decide: [{id: always, strategy: revoke-now, when: "true"}]
strategies:
  revoke-now: {steps: [Disable, EndSessions, Probe, Issue, Distribute, ProbeNew, Revoke]}
ladder: {automatic: [key, sessions], approved: [principal]}
approvals:
  revoke-now:   {policy: true}
  irreversible: {roles: [commander, security], quorum: 2, expires: 1h, on_expiry: escalate, escalate_to: [admin]}
  rung:         {roles: [commander, security], quorum: 2, expires: 30m, on_expiry: escalate, escalate_to: [admin]}
reissue: {stores: [{target: awssm, name: "{{item.owner}}/aws"}]}
verify: {k: 2, span: 3s, vantage: 1, sweep: false}
watch: {for: 1d}
`

func decode[T any](t *testing.T, text string) T {
	t.Helper()
	var v T
	require.NoError(t, json.Unmarshal([]byte(text), &v), text)
	return v
}
