package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	driller "rekey/internal/drill"
	"rekey/internal/lab/control"
	"rekey/internal/view"
)

// largeItems is how many keys the large incident of this file has: more than a small one
// holds, and more than two pages.
const largeItems = 1_100

const largePlaybook = `apiVersion: rekey/v1
kind: Playbook
name: campaign
title: Many keys at once
version: 1.0.0
match: {provider: awsiam, kinds: [user-access-key]}
start: auto
severity:
  - {level: medium, when: "true"}
scope: {depth: 1, sources: [provider, estate], lookback: 24h, timeout: 10m}
decide:
  - {id: all, strategy: revoke-now, when: "true"}
strategies:
  revoke-now: {steps: [Disable, EndSessions, Probe, Revoke]}
ladder: {automatic: [key, sessions]}
approvals:
  revoke-now: {policy: true}
  irreversible: {roles: [commander, security], quorum: 2, expires: 1h, on_expiry: escalate, escalate_to: [admin]}
verify: {k: 2, span: 3s, vantage: 1, sweep: false}
watch: {for: 1h}
`

// TestLargeIncidentIsKilledAnywhere answers more than a thousand keys that lay at one
// place, with kill -9 of everything but the provider in each part of it. What was done,
// the lab's own log says: each key destroyed, none of them twice, nobody else's touched.
func TestLargeIncidentIsKilledAnywhere(t *testing.T) {
	t.Parallel()
	r := newRig(t, "")
	l := startLab(t, r, fmt.Sprintf(`apiVersion: rekey/v1
kind: Drill
name: large
seed: 4
clock: {mode: real}
estate:
  providers: {awsiam/lab: {propagation: 1s}}
  keys:
    - {id: origin, user: origin, policy: ReadOnlyAccess}
    - {id: bystander, user: bystander, policy: ReadOnlyAccess}
  generate: [{kind: key, count: %d, id: "KEY-{n}", user: "user-{n}"}]
trigger: {at: T0, report: {provider: awsiam, kind: user-access-key, key: origin, source: cli, confidence: confirmed}}
expect: [{id: bystander, expr: 'lab.keys.exists(k, k.alias == "bystander" && k.state == "active")'}]
`, largeItems-1))
	token, err := os.ReadFile(filepath.Join(l.dir, "lab", control.TokenFile))
	require.NoError(t, err)
	r.env = append(r.env, control.EnvURL+"="+l.addrs.Control, control.EnvToken+"="+strings.TrimSpace(string(token)), "REKEY_LAB_PROPAGATION=1s", "REKEY_LAB_QUIET=1")

	var estate strings.Builder
	estate.WriteString("keys:\n")
	theirs := func(alias string) bool { return alias == "origin" || strings.HasPrefix(alias, "KEY-") }
	for alias, id := range l.info.Aliases {
		if theirs(alias) {
			fmt.Fprintf(&estate, "  - {id: %s, provider: awsiam, account: lab, kind: user-access-key}\n", id)
		}
	}
	estate.WriteString("copies:\n")
	for alias, id := range l.info.Aliases {
		if theirs(alias) {
			fmt.Fprintf(&estate, "  - {key: %s, where: host/ci, registered: true}\n", id)
		}
	}
	voters, people := newVoters(t, r, voter{name: "ann", roles: []string{"commander"}}, voter{name: "bob", roles: []string{"security"}})
	r.configure(people + fmt.Sprintf("temporal: {namespace: %s}\nestate: {files: [%s]}\nplaybooks: {files: [%s]}\nproviders: {awsiam: {lab: %s}}\n",
		driller.Namespace, r.write("estate.yaml", estate.String()), r.write("playbook.yaml", largePlaybook), strings.Replace(l.account, "{account_id", "{rate: {cloudtrail: 100000/s}, account_id", 1)))
	r.up()
	o := r.rekey("", "report", "awsiam", l.info.Aliases["origin"], "--account", "lab", "--reason", "all keys of the CI host", "--json")
	require.Zero(t, o.code, o.errOut)
	id := decode[struct {
		Incident string `json:"incident"`
	}](t, o.out).Incident

	again := func(when string) {
		t.Logf("kill -9 %s", when)
		r.kill()
		r.up()
	}
	r.until(id, "rows in scope", func(v view.Incident) bool { return v.Totals.Items == largeItems })
	again("while the scope is read")
	r.until(id, "the first calls", func(v view.Incident) bool { return v.Totals.ByOutcome["done"] > 2 })
	again("while keys are disabled")
	vote := func(v view.Incident) view.Incident {
		for _, a := range v.Approvals {
			if a.State != "open" || len(a.Votes) > 0 {
				continue
			}
			for _, who := range []string{"ann", "bob"} {
				o := r.rekey("", "incident", "approve", id, "--wave", a.WaveHash, "--approval", a.ID, "--identity", voters[who].identity, "--json")
				require.Zero(t, o.code, o.out+o.errOut)
			}
		}
		return v
	}
	r.until(id, "every question answered", func(v view.Incident) bool {
		vote(v)
		granted := 0
		for _, a := range v.Approvals {
			if a.State == "granted" {
				granted++
			}
		}
		return granted == 2 // of the reported key, and of the wave over pages
	})
	again("while keys are destroyed")
	v := r.until(id, "a sealed end", func(v view.Incident) bool { return v.Bundle != nil && v.Totals.Open == 0 })
	require.Equal(t, map[string]int{"revoked-verified": largeItems}, v.Totals.ByEndState)

	world, err := l.control.Oracle(t.Context())
	require.NoError(t, err)
	deleted := 0
	for _, k := range world.Keys {
		if theirs(k.Alias) {
			require.Equal(t, "deleted", k.State, k.Alias)
			deleted++
		} else {
			require.Equal(t, "active", k.State, "nobody else's key is touched: %s", k.Alias)
		}
	}
	require.Equal(t, largeItems, deleted)
	ledger, err := l.control.Ledger(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, largeItems, ledger.Verbs["Revoke"].Effects)
	require.EqualValues(t, largeItems, ledger.Verbs["Disable"].Effects)
	require.Empty(t, ledger.Repeated, "no key twice")
	rows := 0
	for cursor := ""; ; {
		args := []string{"incident", "items", id, "--json"}
		if cursor != "" {
			args = append(args, "--after", cursor)
		}
		o := r.rekey("", args...)
		require.Zero(t, o.code, o.errOut)
		page := decode[struct {
			Items []view.Item `json:"items"`
			Next  string      `json:"next"`
		}](t, o.out)
		for _, it := range page.Items {
			require.Equal(t, "revoked-verified", it.EndState)
		}
		rows += len(page.Items)
		if cursor = page.Next; cursor == "" {
			break
		}
	}
	require.Equal(t, largeItems, rows, "every item can be listed")
	bundle := v.Bundle.Path
	o = r.rekey("", "audit", "verify", bundle, "--json")
	require.Zero(t, o.code, o.out+o.errOut)
	keep(t, bundle)
}
