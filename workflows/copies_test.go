package workflows_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/workflows"
)

func TestCopiesThatWereReportedStayInScope(t *testing.T) {
	w := newWorld(t)
	w.estate["AKIA-1"] = workflows.Scoped{Copies: []string{"host/H1"}}
	w.reported(0, "r1", "AKIA-1", func(r *workflows.Report) { r.Copies = []string{"slack/T0123/C0456"} })
	w.reported(time.Minute, "r2", "AKIA-1", func(r *workflows.Report) { r.Copies = []string{"slack/T0123/C0456", "slack/T0123/C0789"} })
	w.until(time.Hour)
	v := w.run()
	require.Equal(t, []string{"slack/T0123/C0456"}, v.Reports[0].Copies)

	require.NotEmpty(t, w.plans)
	last := w.plans[len(w.plans)-1]
	i := slices.IndexFunc(last.Items, func(s workflows.Scoped) bool { return s.Key.ID == "AKIA-1" })
	require.Equal(t, []string{"host/H1", "slack/T0123/C0456", "slack/T0123/C0789"}, last.Items[i].Copies, "the estate's and every report's, each once")
}
