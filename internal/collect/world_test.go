package collect

import (
	"archive/zip"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
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
	"rekey/internal/blob/blobtest"
	"rekey/internal/derive"
	"rekey/workflows"
)

const (
	grace = 7 * 24 * time.Hour
	inc   = "inc-0123456789ab"
)

// temporal is what Temporal has.
type temporal struct {
	t         testing.TB
	namespace string
	runs      map[place]derive.Run
	open      map[place]bool
	unlisted  map[place]bool // visibility is behind
	forgot    map[place]bool // deleted after it was listed
	fail      error          // of reading any run
	listFail  error
}

func newTemporal(t testing.TB) *temporal {
	return &temporal{t: t, namespace: "ns-1", runs: map[place]derive.Run{}, open: map[place]bool{}, unlisted: map[place]bool{}, forgot: map[place]bool{}}
}

func (w *temporal) Each(_ context.Context, f func(Execution) error) error {
	for at, r := range w.runs {
		if w.unlisted[at] {
			continue
		}
		if err := f(Execution{at.workflow, at.run, r.Type, w.open[at]}); err != nil {
			return err
		}
	}
	return w.listFail
}

func (w *temporal) Run(_ context.Context, workflow, run string) (derive.Run, error) {
	if w.fail != nil {
		return derive.Run{}, w.fail
	}
	r, ok := w.runs[place{workflow, run}]
	if !ok || w.forgot[place{workflow, run}] {
		return derive.Run{}, serviceerror.NewNotFound("no such run")
	}
	return r, nil
}

func (w *temporal) Namespace(context.Context) (string, error) { return w.namespace, nil }

// add makes a run whose payloads name hashes, each somewhere else in the history.
func (w *temporal) add(workflow, run string, open bool, children []place, hashes ...string) place {
	w.t.Helper()
	payload := func(v any) *commonpb.Payloads {
		p, err := converter.GetDefaultDataConverter().ToPayloads(v)
		require.NoError(w.t, err)
		return p
	}
	h := &historypb.History{}
	event := func(e *historypb.HistoryEvent, kind enumspb.EventType) {
		e.EventId, e.EventType, e.EventTime = int64(len(h.Events)+1), kind, timestamppb.New(time.Unix(1_800_000_000+int64(len(h.Events)), 0))
		h.Events = append(h.Events, e)
	}
	event(&historypb.HistoryEvent{Attributes: &historypb.HistoryEvent_WorkflowExecutionStartedEventAttributes{WorkflowExecutionStartedEventAttributes: &historypb.WorkflowExecutionStartedEventAttributes{
		WorkflowType: &commonpb.WorkflowType{Name: workflows.TypeIncident}, OriginalExecutionRunId: run,
	}}}, enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED)
	for i, hash := range hashes {
		in := payload(map[string]any{"plan": "sha256:short", "nested": []string{hash}})
		switch i % 4 {
		case 0:
			event(&historypb.HistoryEvent{Attributes: &historypb.HistoryEvent_ActivityTaskScheduledEventAttributes{ActivityTaskScheduledEventAttributes: &historypb.ActivityTaskScheduledEventAttributes{Input: in}}}, enumspb.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED)
		case 1:
			event(&historypb.HistoryEvent{Attributes: &historypb.HistoryEvent_ActivityTaskCompletedEventAttributes{ActivityTaskCompletedEventAttributes: &historypb.ActivityTaskCompletedEventAttributes{Result: in}}}, enumspb.EVENT_TYPE_ACTIVITY_TASK_COMPLETED)
		case 2:
			event(&historypb.HistoryEvent{Attributes: &historypb.HistoryEvent_WorkflowExecutionSignaledEventAttributes{WorkflowExecutionSignaledEventAttributes: &historypb.WorkflowExecutionSignaledEventAttributes{SignalName: "report", Input: in}}}, enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED)
		default:
			event(&historypb.HistoryEvent{Attributes: &historypb.HistoryEvent_MarkerRecordedEventAttributes{MarkerRecordedEventAttributes: &historypb.MarkerRecordedEventAttributes{MarkerName: "SideEffect", Details: map[string]*commonpb.Payloads{"data": in}}}}, enumspb.EVENT_TYPE_MARKER_RECORDED)
		}
	}
	for _, c := range children {
		event(&historypb.HistoryEvent{Attributes: &historypb.HistoryEvent_ChildWorkflowExecutionStartedEventAttributes{ChildWorkflowExecutionStartedEventAttributes: &historypb.ChildWorkflowExecutionStartedEventAttributes{
			WorkflowExecution: &commonpb.WorkflowExecution{WorkflowId: c.workflow, RunId: c.run}, WorkflowType: &commonpb.WorkflowType{Name: workflows.TypeWave},
		}}}, enumspb.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED)
	}
	if !open {
		event(&historypb.HistoryEvent{Attributes: &historypb.HistoryEvent_WorkflowExecutionCompletedEventAttributes{WorkflowExecutionCompletedEventAttributes: &historypb.WorkflowExecutionCompletedEventAttributes{}}}, enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED)
	}
	at := place{workflow, run}
	w.runs[at], w.open[at] = derive.Run{Workflow: workflow, ID: run, Type: workflows.TypeIncident, History: h}, open
	return at
}

// installation is a store, its bundles and what Temporal has.
type installation struct {
	t       testing.TB
	root    string
	store   *blob.Dir
	tm      *temporal
	bundles string
	now     time.Time
}

func newInstallation(t testing.TB) *installation {
	t.Helper()
	root := filepath.Join(t.TempDir(), "blobs")
	store, err := blob.OpenDir(root, blobtest.Keys(t))
	require.NoError(t, err)
	return &installation{t: t, root: root, store: store, tm: newTemporal(t), bundles: t.TempDir(), now: time.Date(2026, 11, 30, 3, 0, 0, 0, time.UTC)}
}

func (i *installation) put(content string) string {
	i.t.Helper()
	hash, err := i.store.Put(i.t.Context(), []byte(content))
	require.NoError(i.t, err)
	return hash
}

func (i *installation) has(hash string) bool {
	i.t.Helper()
	has, err := i.store.Has(i.t.Context(), hash)
	require.NoError(i.t, err)
	return has
}

// age makes everything that is stored older.
func (i *installation) age(by time.Duration) {
	i.t.Helper()
	require.NoError(i.t, filepath.WalkDir(i.root, func(path string, e fs.DirEntry, err error) error {
		require.NoError(i.t, err)
		info, err := e.Info()
		require.NoError(i.t, err)
		at := info.ModTime().Add(-by)
		return os.Chtimes(path, at, at)
	}))
}

// chapter archives a run, and has Temporal forget it.
func (i *installation) chapter(at place) string {
	i.t.Helper()
	c, err := archive.New(i.store, nil).KeepRun(i.t.Context(), inc, i.tm.runs[at])
	require.NoError(i.t, err)
	delete(i.tm.runs, at)
	delete(i.tm.open, at)
	return c.Hash
}

// bundle seals files.
func (i *installation) bundle(name string, files map[string][]byte) {
	i.t.Helper()
	f, err := os.Create(filepath.Join(i.bundles, name+".zip"))
	require.NoError(i.t, err)
	z := zip.NewWriter(f)
	for name, b := range files {
		w, err := z.Create(name)
		require.NoError(i.t, err)
		_, err = w.Write(b)
		require.NoError(i.t, err)
	}
	require.NoError(i.t, z.Close())
	require.NoError(i.t, f.Close())
}

func (i *installation) journal(name string, recs ...string) blob.Journal {
	i.t.Helper()
	j, err := i.store.OpenJournal(i.t.Context(), name, 0)
	require.NoError(i.t, err)
	for _, r := range recs {
		require.NoError(i.t, j.Append(i.t.Context(), []byte(r), false))
	}
	return j
}

func (i *installation) options() Options {
	return Options{Store: i.store, Histories: i.tm, Bundles: i.bundles, Grace: grace, Now: func() time.Time { return i.now }}
}

// collect makes a pass, a day after the one before.
func (i *installation) collect() (Result, error) {
	i.now = i.now.Add(Every)
	return New(i.options()).Collect(i.t.Context())
}

func (i *installation) collected() Result {
	i.t.Helper()
	r, err := i.collect()
	require.NoError(i.t, err)
	return r
}

func names(v ...string) string {
	b, _ := json.Marshal(map[string]any{"pages": v})
	return string(b)
}

func numbered(what string, n int) string { return fmt.Sprintf(`{"%s":%d}`, what, n) }

// hashesIn finds names in the payloads of a history's JSON by another way: every string
// that is base64 is decoded.
func hashesIn(v any) (out []string) {
	switch v := v.(type) {
	case map[string]any:
		for _, x := range v {
			out = append(out, hashesIn(x)...)
		}
	case []any:
		for _, x := range v {
			out = append(out, hashesIn(x)...)
		}
	case string:
		if raw, err := base64.StdEncoding.DecodeString(v); err == nil {
			out = append(out, hashRE.FindAllString(string(raw), -1)...)
		}
	}
	return out
}

var hashRE = regexp.MustCompile(`sha256:[0-9a-f]{64}`)
