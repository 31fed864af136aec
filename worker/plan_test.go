package worker

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"rekey/internal/cli"
	"rekey/internal/lab/labtest"
)

const snapshotDrill = `apiVersion: rekey/v1
kind: Drill
name: snapshot
seed: 1
clock: {mode: real}
estate:
  providers: {awsiam/lab: {propagation: 0s}}
  keys:
    - {id: OUT, user: backup, policy: ReadOnlyAccess}
    - {id: THERE, user: web, policy: ReadOnlyAccess}
    - {id: LATER, user: mail, policy: ReadOnlyAccess}
    - {id: GONE, user: old, policy: ReadOnlyAccess}
trigger: {at: T0, report: {provider: awsiam, kind: user-access-key, key: OUT, source: outsider, confidence: confirmed}}
expect: [{id: any, expr: 'lab.keys.size() > 0'}]
`

func TestThePlanOfAKeyThatWasInASnapshot(t *testing.T) {
	l := labtest.Start(t, labtest.Scenario(t, snapshotDrill))
	dir := t.TempDir()
	id := func(name string) string { return l.Secret(t, name).KeyID }
	text := "keys:\n"
	for _, name := range []string{"OUT", "THERE", "LATER"} {
		text += fmt.Sprintf("  - {id: %s, provider: awsiam, account: lab, kind: user-access-key, owner: web}\n", id(name))
	}
	text += fmt.Sprintf("  - {id: %s, provider: awsiam, account: lab, kind: user-access-key, owner: web, retired: 2020-01-01}\n", id("GONE"))
	text += fmt.Sprintf("copies:\n  - {key: %s, where: db/main, registered: true, from: 2017-01-01}\n  - {key: %s, where: db/main, registered: true, from: 2019-01-01}\n  - {key: %s, where: db/main, from: 2016-01-01}\n", id("THERE"), id("LATER"), id("GONE"))
	text += "snapshots:\n  - {id: S1, of: db/main, at: 2018-01-01}\nplaces:\n  - {where: db/main, known_from: 2018-06-01}\n"
	require.NoError(t, os.WriteFile(filepath.Join(dir, "estate.yaml"), []byte(text), 0o600))
	c := settings(t, dir, "estate: {files: [./estate.yaml]}\nproviders:\n  awsiam:\n"+account(t, dir, "lab", l.BaseURL, l.Account, l.Engine))

	plan := func(copies ...string) cli.PlanResult {
		t.Helper()
		res, err := Plan(t.Context(), cli.PlanOptions{Common: c, Provider: "awsiam", Kind: "user-access-key", Account: "lab", KeyID: id("OUT"), Copies: copies}, cli.IOStreams{Err: t.Output()})
		require.NoError(t, err)
		return res
	}
	of := func(res cli.PlanResult) []string {
		var out []string
		for _, k := range res.Items {
			for _, name := range []string{"OUT", "THERE", "LATER", "GONE"} {
				if id(name) == k.ID {
					out = append(out, name)
				}
			}
		}
		slices.Sort(out)
		return out
	}
	said := func(res cli.PlanResult) string {
		text := ""
		for _, u := range res.Unseen {
			if u.Source == "estate" {
				text += u.Why + "\n"
			}
		}
		return text
	}
	alone := plan()
	require.Equal(t, []string{"OUT"}, of(alone))
	require.Empty(t, said(alone))

	named := plan("snapshot/S1")
	require.Equal(t, []string{"LATER", "OUT", "THERE"}, of(named), "THERE was in it; LATER lies beside THERE since")
	require.Equal(t, "1 keys that this leads to are retired, as the estate files say: no provider was asked about them\n", said(named), "once, however many rounds it took")
	require.Contains(t, named.Dark, cli.PlanDark{From: "2017-01-01T00:00:00.000Z", To: "2018-06-01T00:00:00.000Z", Source: "estate db/main"})

	unknown := plan("snapshot/S2")
	require.Equal(t, []string{"OUT"}, of(unknown))
	require.Contains(t, said(unknown), "what snapshot/S2 held is unknown")
}
