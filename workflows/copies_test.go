package workflows_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/activities"
	"rekey/internal/view"
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

func TestTheEstateIsAskedAboutPlacesThatReportsName(t *testing.T) {
	w := newWorld(t)
	w.reach["AKIA-1"] = []string{"AKIA-2"}
	w.lacks = workflows.ExpandResult{
		Unseen: []activities.Unseen{{Source: "estate", Why: "what snapshot/S2 held is unknown"}},
		Dark:   []activities.Window{{From: t0.Add(-time.Hour), To: t0, Source: "estate db/main"}},
	}
	w.reported(0, "r1", "AKIA-1", func(r *workflows.Report) { r.Copies = []string{"snapshot/S1", "snapshot/S2"} })
	w.reported(time.Minute, "r2", "AKIA-1", func(r *workflows.Report) { r.Copies = []string{"snapshot/S1", "host/H1"} })
	w.until(time.Hour)
	v := w.run()
	require.NotEmpty(t, w.expanded)
	last := w.expanded[len(w.expanded)-1]
	require.Equal(t, map[string][]string{fp("AKIA-1"): {"snapshot/S1", "snapshot/S2", "host/H1"}}, last.Reported)
	require.Equal(t, w.set.Playbook.Scope.Depth+1, w.expanded[0].Depth)
	require.Equal(t, w.set.Playbook.Scope.Depth, w.expanded[1].Depth, "one was taken")
	n := 0
	for _, u := range v.Scope.Unseen {
		if u.Source == "estate" {
			n++
		}
	}
	require.Equal(t, 1, n, "said once, however often it was asked")
	require.Equal(t, []view.Dark{{From: "2026-11-21T02:00:00.000Z", To: "2026-11-21T03:00:00.000Z", Source: "estate db/main"}}, v.Scope.Dark)
}
