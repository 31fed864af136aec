package workflows_test

import (
	"compress/gzip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"rekey/workflows"
)

// TestReplay replays every recorded history (testdata/histories/README.md). One
// that does not replay means that a running incident would break on deploy: guard
// the change with workflow.GetVersion. A file bad-* must fail: it proves that
// the replayer would notice.
func TestReplay(t *testing.T) {
	files, err := filepath.Glob("testdata/histories/*/*.json.gz")
	require.NoError(t, err)
	good, bad := 0, 0
	for _, f := range files {
		t.Run(f, func(t *testing.T) {
			r := worker.NewWorkflowReplayer()
			for name, w := range map[string]any{
				workflows.TypeIncident: workflows.Incident, workflows.TypeWave: workflows.Wave, workflows.TypeWatch: workflows.Watch, workflows.TypeRegister: workflows.Register, workflows.TypeRecord: workflows.Record,
				workflows.TypeAccount: workflows.Account,
			} {
				r.RegisterWorkflowWithOptions(w, workflow.RegisterOptions{Name: name})
			}
			packed, err := os.Open(f)
			require.NoError(t, err)
			defer func() { require.NoError(t, packed.Close()) }()
			plain, err := gzip.NewReader(packed)
			require.NoError(t, err)
			h, err := client.HistoryFromJSON(plain, client.HistoryJSONOptions{})
			require.NoError(t, err)
			err = r.ReplayWorkflowHistory(quiet{}, h)
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
