package workflows_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"

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

// The notices of a wave are archived when they have ended, and so is each of their
// runs by the one that goes on.
func TestNoticesAreArchivedAndPinned(t *testing.T) {
	w := newWorld(t, withMail(nil))
	w.reported(0, "r1", "AKIA-1")
	w.used("AKIA-1", "billing")
	w.approving("strategy", "irreversible")
	w.resolving()
	w.moves(5*time.Hour, "AKIA-1", "10.0.0.1")
	require.Equal(t, "all-clear", w.run().State)
	id := workflows.NoticesID(incidentID, 1)
	require.Contains(t, w.archived, workflows.ArchiveInput{Incident: incidentID, Workflow: id})
	chapter := workflows.Chapter{Workflow: id, Run: "run of " + id, Hash: "sha256:" + id}
	require.Contains(t, w.seals[len(w.seals)-1].Chapters, chapter)

	w.begin()
	w.env.SetStartWorkflowOptions(client.StartWorkflowOptions{ID: id, TaskQueue: workflows.TaskQueue})
	w.env.SetContinuedExecutionRunID("run-1")
	var told []workflows.NoticeEvent
	w.env.OnSignalExternalWorkflow(mock.Anything, mock.Anything, "", workflows.SignalNotice, mock.Anything).Return(
		func(_, _, _, _ string, arg any) error {
			told = append(told, arg.(workflows.NoticeEvent))
			return nil
		})
	w.env.ExecuteWorkflow(workflows.TypeNotices, workflows.NoticesInput{Incident: incidentID, Wave: 1, Now: t0, State: &workflows.NoticesState{Now: t0, Last: true}})
	require.NoError(t, w.env.GetWorkflowError())
	require.Contains(t, w.archived, workflows.ArchiveInput{Incident: incidentID, Workflow: id, Run: "run-1"})
	require.Len(t, told, 1, "that it has ended")
	require.Equal(t, []workflows.Chapter{chapter}, told[0].Chapters, "the incident pins it")
}
