package metrics_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"rekey/internal/metrics"
)

// The table of docs/operations.md is what is served, and nothing else.
func TestTheDocumentationListsEveryMetric(t *testing.T) {
	b, err := os.ReadFile("../../docs/operations.md")
	require.NoError(t, err)
	rows := 0
	for line := range strings.Lines(string(b)) {
		if strings.HasPrefix(line, "| `rekey_") {
			rows++
		}
	}
	require.Equal(t, len(metrics.Families()), rows, "a row that is no metric, or a metric without a row")
	for _, f := range metrics.Families() {
		labels := "-"
		if len(f.Labels) > 0 {
			labels = "`" + strings.Join(f.Labels, "`, `") + "`"
		}
		row := fmt.Sprintf("| `%s` | %s | %s | %s | %s |\n", f.Name, f.Type, labels, f.From, f.Help)
		require.Contains(t, string(b), row, "write this row:\n%s", row)
	}
}
