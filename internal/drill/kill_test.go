package drill_test

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	driller "rekey/internal/drill"
	"rekey/internal/drill/drilltest"
	"rekey/internal/drill/killer"
)

var (
	killSeeds    = flag.String("kill-seeds", "", "seeds of kills to play, as 17 or 1:1000")
	killDir      = flag.String("kill-dir", "", "directory for installations and results.jsonl; a run that was stopped goes on there")
	killParallel = flag.Int("kill-parallel", 1, "installations at once")
	killKeep     = flag.Bool("kill-keep", false, "keep installations in which everything went well")
	killSplit    = flag.Bool("kill-split", false, "Temporal, serve and worker as processes of their own; a seed picks worker, Temporal or both")
	killEach     = flag.Int("kill-each", 20, "incidents of one installation in a row")
)

// TestSeededKills kills rekey at moments that a number decides, in incidents that follow
// each other in one data directory, and has the lab's log say whether anything was lost
// or done twice. Without flags it plays a few seeds. A thousand, unattended, going on
// where it was stopped:
//
//	go test ./internal/drill -run TestSeededKills -v -timeout 0 -args -kill-seeds 1:1000 -kill-dir /tmp/kills -kill-parallel 2
func TestSeededKills(t *testing.T) {
	if testing.Short() {
		t.Skip("skipped: plays whole incidents, minutes long")
	}
	drilltest.AsRekey(t)
	seeds, dir := *killSeeds, *killDir
	if seeds == "" {
		seeds = "1:3"
	}
	if dir == "" {
		dir = t.TempDir()
	} else {
		require.NoError(t, os.MkdirAll(dir, 0o700))
	}
	from, to, err := killer.Seeds(seeds)
	require.NoError(t, err)
	o := killer.Options{From: from, To: to, Dir: dir, Parallel: *killParallel, Each: *killEach, Keep: *killKeep, Say: t.Logf}
	if *killSplit {
		o.Split = &driller.Split{TemporalServer: filepath.Join(dir, "temporal-server")}
		out, err := exec.CommandContext(t.Context(), "go", "build", "-o", o.Split.TemporalServer, "go.temporal.io/server/cmd/server").CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	s, err := killer.Play(t.Context(), o)
	require.NoError(t, err)
	t.Log("\n" + s.String())
	require.True(t, s.Good(), "\n%s", s)
}

// TestSeededKillsNotice: with the settling of lost creates switched off, a kill right
// after a create must be noticed as a key that nobody knows of. A harness that finds
// nothing proves nothing.
func TestSeededKillsNotice(t *testing.T) {
	if testing.Short() {
		t.Skip("skipped: plays a whole incident")
	}
	drilltest.AsRekey(t)
	seed := uint64(1)
	for {
		p := killer.Of(seed, "engine")
		if p.Shape == killer.Pair && p.Verb == "Issue" && p.Edge == "after-call-before-record" {
			break
		}
		seed++
	}
	s, err := killer.Play(t.Context(), killer.Options{From: seed, To: seed, Dir: t.TempDir(), Off: "issue-reconcile", Say: t.Logf})
	require.NoError(t, err)
	require.False(t, s.Good(), "\n%s", s)
	require.Equal(t, 1, s.Results[killer.Failed], "\n%s", s)
	require.Contains(t, s.String(), "2 replacements of cut-1 live")
}
