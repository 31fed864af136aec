package workflows_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"rekey/workflows"
)

// TestReplay replays every recorded history (testdata/histories/README.md). One
// that does not replay means that a running incident would break on deploy: guard
// the change with workflow.GetVersion. A file bad-*.json must fail: it proves that
// the replayer would notice.
func TestReplay(t *testing.T) {
	files, err := filepath.Glob("testdata/histories/*/*.json")
	require.NoError(t, err)
	good, bad := 0, 0
	for _, f := range files {
		t.Run(f, func(t *testing.T) {
			r := worker.NewWorkflowReplayer()
			for name, w := range map[string]any{
				workflows.TypeIncident: workflows.Incident, workflows.TypeWave: workflows.Wave, workflows.TypeWatch: workflows.Watch, workflows.TypeRegister: workflows.Register,
			} {
				r.RegisterWorkflowWithOptions(w, workflow.RegisterOptions{Name: name})
			}
			err := r.ReplayWorkflowHistoryFromJSONFile(quiet{}, f)
			if strings.HasPrefix(filepath.Base(f), "bad-") {
				bad++
				require.ErrorContains(t, err, "TMPRL1100", "non-determinism, not merely a broken file")
				return
			}
			good++
			require.NoError(t, err)
		})
	}
	require.Positive(t, good, "record one: testdata/histories/README.md")
	require.Positive(t, bad, "a history that must fail is missing")
}
