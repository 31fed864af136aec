package archive_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/converter"
	"google.golang.org/protobuf/types/known/timestamppb"

	"rekey/internal/archive"
	"rekey/internal/blob"
	"rekey/internal/codec/keyring"
	"rekey/internal/derive"
	"rekey/workflows"
)

const (
	incident = "inc-7f3a9c2e41d0"
	id       = "incident/" + incident
)

// temporal is a cluster that forgets.
type temporal struct {
	runs   map[string][]derive.Run // by workflow, oldest first
	forgot map[string]bool         // run ids
	down   error
	reads  int
}

func (c *temporal) Run(_ context.Context, workflow, run string) (derive.Run, error) {
	c.reads++
	if c.down != nil {
		return derive.Run{}, c.down
	}
	all := c.runs[workflow]
	for i := len(all) - 1; i >= 0; i-- {
		if r := all[i]; !c.forgot[r.ID] && (run == "" || run == r.ID) {
			return r, nil
		}
	}
	return derive.Run{}, serviceerror.NewNotFound("no such run")
}

func (c *temporal) Ended(ctx context.Context, workflow, run string) error {
	r, err := c.Run(ctx, workflow, run)
	if err != nil {
		return err
	}
	if _, ok := r.Ended(); !ok {
		<-ctx.Done()
		return ctx.Err()
	}
	return nil
}

// run makes a history: begun at minute n, going on from before, open or not.
func run(workflow, runID, before string, n int, open bool) derive.Run {
	at := time.Date(2026, 11, 22, 3, n, 0, 0, time.UTC)
	h := &historypb.History{Events: []*historypb.HistoryEvent{{
		EventId: 1, EventTime: timestamppb.New(at), EventType: enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED,
		Attributes: &historypb.HistoryEvent_WorkflowExecutionStartedEventAttributes{WorkflowExecutionStartedEventAttributes: &historypb.WorkflowExecutionStartedEventAttributes{
			WorkflowType: &commonpb.WorkflowType{Name: "Wave"}, OriginalExecutionRunId: runID, ContinuedExecutionRunId: before,
		}},
	}}}
	if !open {
		h.Events = append(h.Events, &historypb.HistoryEvent{
			EventId: 2, EventTime: timestamppb.New(at.Add(time.Second)), EventType: enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED,
			Attributes: &historypb.HistoryEvent_WorkflowExecutionCompletedEventAttributes{WorkflowExecutionCompletedEventAttributes: &historypb.WorkflowExecutionCompletedEventAttributes{}},
		})
	}
	return derive.Run{Workflow: workflow, ID: runID, Type: "Wave", History: h}
}

func newArchive(t *testing.T, c *temporal) (*archive.Archive, *blob.Dir, string) {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.Chmod(dir, 0o700))
	keys, err := keyring.Open(keyring.Options{Dir: filepath.Join(dir, "keys"), Create: true, Now: time.Now})
	require.NoError(t, err)
	blobs, err := blob.OpenDir(filepath.Join(dir, "blobs"), keys)
	require.NoError(t, err)
	return archive.New(blobs, c), blobs, filepath.Join(dir, "blobs", "chapters")
}

// three is an incident of three runs, the last of which is open, and a wave.
func three() *temporal {
	return &temporal{forgot: map[string]bool{}, runs: map[string][]derive.Run{
		id:             {run(id, "r1", "", 0, false), run(id, "r2", "r1", 10, false), run(id, "r3", "r2", 20, true)},
		id + "/wave/1": {run(id+"/wave/1", "w1", "", 5, false)},
	}}
}

func ids(runs []derive.Run) []string {
	var out []string
	for _, r := range runs {
		out = append(out, r.ID)
	}
	return out
}

// What Temporal has forgotten is still there, whole and in its order: the middle of
// a chain, its beginning, and workflows that nobody names any more.
func TestForgottenRunsComeFromTheirChapters(t *testing.T) {
	c := three()
	a, _, _ := newArchive(t, c)
	for _, k := range [][2]string{{id, "r1"}, {id, "r2"}, {id + "/wave/1", ""}} {
		_, err := a.Keep(t.Context(), incident, k[0], k[1])
		require.NoError(t, err)
	}
	want, gone, err := a.Runs(t.Context(), incident, []string{id, id + "/wave/1"}, nil)
	require.NoError(t, err)
	require.Empty(t, gone)
	require.Equal(t, []string{"r1", "r2", "r3", "w1"}, ids(want))
	for _, lost := range [][]string{{"r2"}, {"r1"}, {"r1", "r2", "w1"}, {"r1", "r2", "r3", "w1"}} {
		c.forgot = map[string]bool{}
		for _, l := range lost {
			c.forgot[l] = true
		}
		got, gone, err := a.Runs(t.Context(), incident, []string{id}, nil)
		require.NoError(t, err)
		require.Empty(t, gone)
		expected := []string{"r1", "r2", "r3", "w1"}
		if c.forgot["r3"] { // it was open, so it could not be kept
			expected = []string{"r1", "r2", "w1"}
		}
		require.Equal(t, expected, ids(got), "without %v", lost)
		for _, r := range got {
			for _, w := range want {
				if w.ID == r.ID {
					require.Equal(t, w.History.String(), r.History.String(), "the same history, event for event")
				}
			}
		}
	}
}

// recordRun is a run of the record in Slack; its life follows the run before.
func recordRun(t *testing.T, runID, before string, n int, open bool) derive.Run {
	t.Helper()
	r := run(id+"/record/slack", runID, "", n, open)
	r.Type = workflows.TypeRecord
	in, err := converter.GetDefaultDataConverter().ToPayloads(workflows.RecordInput{Incident: incident, Channel: "slack", Before: before})
	require.NoError(t, err)
	started := r.History.GetEvents()[0].GetWorkflowExecutionStartedEventAttributes()
	started.WorkflowType.Name, started.Input = workflows.TypeRecord, in
	return r
}

// What a channel was told in an earlier life of the incident is in the bundle too:
// the record of the later life names the run, also where the index is lost.
func TestARecordLeadsToTheOneOfBefore(t *testing.T) {
	record := id + "/record/slack"
	c := &temporal{forgot: map[string]bool{}, runs: map[string][]derive.Run{
		id: {run(id, "r1", "", 0, true)}, record: {recordRun(t, "s1", "", 1, false), recordRun(t, "s2", "s1", 30, true)},
	}}
	a, _, index := newArchive(t, c)
	pin, err := a.Keep(t.Context(), incident, record, "s1")
	require.NoError(t, err)
	for _, forgot := range []bool{false, true} {
		c.forgot["s1"] = forgot
		got, gone, err := a.Runs(t.Context(), incident, []string{id, record}, nil)
		require.NoError(t, err)
		require.Empty(t, gone)
		require.Equal(t, []string{"r1", "s1", "s2"}, ids(got))
	}
	require.NoError(t, os.RemoveAll(index))
	_, gone, err := a.Runs(t.Context(), incident, []string{id, record}, nil)
	require.NoError(t, err)
	require.Equal(t, []string{record + " run s1"}, gone, "told, not passed over")
	got, gone, err := a.Runs(t.Context(), incident, []string{id, record}, []workflows.Chapter{pin})
	require.NoError(t, err)
	require.Empty(t, gone)
	require.Equal(t, []string{"r1", "s1", "s2"}, ids(got), "the pin is enough")
}

// A run that is neither in Temporal nor here is told, not passed over.
func TestWhatIsNowhereIsNamed(t *testing.T) {
	c := three()
	a, _, _ := newArchive(t, c)
	c.forgot["r2"] = true
	got, gone, err := a.Runs(t.Context(), incident, []string{id}, nil)
	require.NoError(t, err)
	require.Equal(t, []string{"r3"}, ids(got))
	require.Equal(t, []string{id + " run r2"}, gone)
}

// A hash in a history is enough where the index is lost.
func TestAPinnedChapterNeedsNoIndex(t *testing.T) {
	c := three()
	a, _, index := newArchive(t, c)
	ch, err := a.Keep(t.Context(), incident, id, "r1")
	require.NoError(t, err)
	require.NoError(t, os.RemoveAll(index))
	c.forgot["r1"] = true
	got, gone, err := a.Runs(t.Context(), incident, []string{id}, []workflows.Chapter{ch})
	require.NoError(t, err)
	require.Empty(t, gone)
	require.Equal(t, []string{"r1", "r2", "r3"}, ids(got))
}

// A chapter whose blob was changed is an error and never other content.
func TestADamagedChapterIsNotUsed(t *testing.T) {
	c := three()
	a, _, index := newArchive(t, c)
	_, err := a.Keep(t.Context(), incident, id, "r1")
	require.NoError(t, err)
	files, err := filepath.Glob(filepath.Join(filepath.Dir(index), "sha256", "*", "*"))
	require.NoError(t, err)
	require.Len(t, files, 1)
	b, err := os.ReadFile(files[0])
	require.NoError(t, err)
	b[len(b)-1] ^= 1
	require.NoError(t, os.WriteFile(files[0], b, 0o600))
	c.forgot["r1"] = true
	_, _, err = a.Runs(t.Context(), incident, []string{id}, nil)
	require.ErrorContains(t, err, "damaged")

	require.NoError(t, os.Remove(files[0]))
	_, gone, err := a.Runs(t.Context(), incident, []string{id}, nil)
	require.NoError(t, err)
	require.Equal(t, []string{id + " run r1"}, gone)
	require.False(t, a.Kept(t.Context(), incident, id, "r1"), "an entry without its blob is none")
}

// An index entry that is broken or of another incident's run hides nothing else.
func TestABrokenIndexEntryHidesNoOther(t *testing.T) {
	c := three()
	a, _, index := newArchive(t, c)
	for _, r := range []string{"r1", "r2"} {
		_, err := a.Keep(t.Context(), incident, id, r)
		require.NoError(t, err)
	}
	files, err := filepath.Glob(filepath.Join(index, incident, "*.json"))
	require.NoError(t, err)
	require.Len(t, files, 2)
	require.NoError(t, os.WriteFile(files[0], []byte("{"), 0o600))
	list, err := a.List(t.Context(), incident)
	require.NoError(t, err)
	require.Len(t, list, 1)
}

func TestKeepingTwiceIsKeepingOnce(t *testing.T) {
	c := three()
	a, _, index := newArchive(t, c)
	first, err := a.Keep(t.Context(), incident, id, "r1")
	require.NoError(t, err)
	require.True(t, a.Kept(t.Context(), incident, id, "r1"))
	c.forgot["r1"] = true
	c.reads = 0
	again, err := a.Keep(t.Context(), incident, id, "r1")
	require.NoError(t, err)
	require.Equal(t, first, again)
	require.Zero(t, c.reads, "Temporal is not asked again")
	files, err := filepath.Glob(filepath.Join(index, incident, "*"))
	require.NoError(t, err)
	require.Len(t, files, 1)
}

func TestAnOpenRunIsNoChapter(t *testing.T) {
	a, _, _ := newArchive(t, three())
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := a.Keep(ctx, incident, id, "r3")
	var open *archive.StillOpenError
	require.ErrorAs(t, err, &open)
	_, err = a.KeepRun(t.Context(), incident, run(id, "r9", "", 1, true))
	require.ErrorAs(t, err, &open)
}

// An id that is none leads nowhere in the file system.
func TestOnlyIncidentsHaveChapters(t *testing.T) {
	a, _, index := newArchive(t, three())
	for _, bad := range []string{"", "..", "../../etc", "inc-7f3a9c2e41d0/.."} {
		_, err := a.KeepRun(t.Context(), bad, run(id, "r1", "", 0, false))
		require.Error(t, err, bad)
		_, err = a.List(t.Context(), bad)
		require.Error(t, err, bad)
	}
	require.NoDirExists(t, index)
}

// Unreachable is not forgotten.
func TestADownClusterIsAnErrorAndNotAGap(t *testing.T) {
	c := three()
	a, _, _ := newArchive(t, c)
	_, err := a.Keep(t.Context(), incident, id, "r1")
	require.NoError(t, err)
	c.down = errors.New("unavailable")
	_, _, err = a.Runs(t.Context(), incident, []string{id}, nil)
	require.ErrorContains(t, err, "unavailable")
}
