package drill_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"rekey/internal/drill/drilltest"
	"rekey/worker/embedded"
)

func TestMain(m *testing.M) { drilltest.Main(m, embedded.Engine()) }

// TestImperva plays the drill that rekey ships with, and both of its negative
// controls: a drill that cannot fail proves nothing.
func TestImperva(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("skipped: plays whole incidents, minutes long")
	}
	t.Run("passes", func(t *testing.T) {
		t.Parallel()
		res := drilltest.Run(t, "imperva-2018", 0)
		require.Equal(t, "passed", res.Result)
		require.Equal(t, 2, res.Kills)
		require.Zero(t, res.Effects.Duplicate)
		require.Zero(t, res.Effects.Orphans)
		require.Zero(t, res.Effects.AttackerSuccessesAfterVerified)
	})
	for _, control := range []string{"trust-http-200", "no-reconcile"} {
		t.Run(control, func(t *testing.T) {
			t.Parallel()
			res := drilltest.Run(t, "imperva-2018", 1, "--control", control)
			require.NotNil(t, res.Control)
			require.True(t, res.Control.Caught, "violated %v, must violate %v: %+v", res.Control.Violated, res.Control.MustViolate, res.Invariants)
		})
	}
}
