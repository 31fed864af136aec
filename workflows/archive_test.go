package workflows_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"rekey/workflows"
)

// A wave is archived when it has ended, and the bundle is told by which hash.
func TestAnEndedWaveIsArchivedAndPinned(t *testing.T) {
	w := newWorld(t)
	w.reported(0, "r1", "AKIA-1")
	w.approving("irreversible")
	require.Equal(t, "all-clear", w.run().State)
	wave := workflows.WaveID(incidentID, 1)
	require.Contains(t, w.archived, workflows.ArchiveInput{Incident: incidentID, Workflow: wave})
	require.NotEmpty(t, w.seals)
	pinned := w.seals[len(w.seals)-1].Chapters
	require.Equal(t, []workflows.Chapter{{Workflow: wave, Run: "run of " + wave, Hash: "sha256:" + wave}}, pinned)
}

// Who goes on from a run archives it: a reopened incident its last life.
func TestAReopenedIncidentArchivesItsLastLife(t *testing.T) {
	w := newWorld(t)
	w.in.Reopened = &workflows.Reopened{Run: "11111111-aaaa", Digest: "sha256:x", Waves: 1}
	w.reported(0, "r1", "AKIA-1")
	w.approving("irreversible")
	require.Equal(t, "all-clear", w.run().State)
	require.Contains(t, w.archived, workflows.ArchiveInput{Incident: incidentID, Workflow: workflows.IncidentID(incidentID), Run: "11111111-aaaa"})
}
