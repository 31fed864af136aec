package worker

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	namespacepb "go.temporal.io/api/namespace/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/serviceerror"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/converter"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"rekey/internal/codec"
	"rekey/internal/codec/keyring"
	"rekey/internal/temporalx"
)

// fakeCluster is the set-up side of a Temporal cluster.
type fakeCluster struct {
	workflowservice.UnimplementedWorkflowServiceServer
	operatorservice.UnimplementedOperatorServiceServer
	mu         sync.Mutex
	exists     bool
	retention  time.Duration
	attributes map[string]enumspb.IndexedValueType
	// idle: nobody polls. open are the inputs of open incidents, by id. refuse is what
	// every call gets.
	idle   bool
	open   map[string]*commonpb.Payloads
	refuse error
}

func (f *fakeCluster) GetSystemInfo(context.Context, *workflowservice.GetSystemInfoRequest) (*workflowservice.GetSystemInfoResponse, error) {
	if f.refuse != nil {
		return nil, f.refuse
	}
	return &workflowservice.GetSystemInfoResponse{Capabilities: &workflowservice.GetSystemInfoResponse_Capabilities{}}, nil
}

func (f *fakeCluster) DescribeNamespace(_ context.Context, r *workflowservice.DescribeNamespaceRequest) (*workflowservice.DescribeNamespaceResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.exists {
		return nil, serviceerror.ToStatus(serviceerror.NewNamespaceNotFound(r.GetNamespace())).Err()
	}
	return &workflowservice.DescribeNamespaceResponse{Config: &namespacepb.NamespaceConfig{WorkflowExecutionRetentionTtl: durationpb.New(f.retention)}}, nil
}

func (f *fakeCluster) RegisterNamespace(_ context.Context, r *workflowservice.RegisterNamespaceRequest) (*workflowservice.RegisterNamespaceResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.exists, f.retention = true, r.GetWorkflowExecutionRetentionPeriod().AsDuration()
	return &workflowservice.RegisterNamespaceResponse{}, nil
}

func (f *fakeCluster) UpdateNamespace(_ context.Context, r *workflowservice.UpdateNamespaceRequest) (*workflowservice.UpdateNamespaceResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.retention = r.GetConfig().GetWorkflowExecutionRetentionTtl().AsDuration()
	return &workflowservice.UpdateNamespaceResponse{}, nil
}

func (f *fakeCluster) CountWorkflowExecutions(context.Context, *workflowservice.CountWorkflowExecutionsRequest) (*workflowservice.CountWorkflowExecutionsResponse, error) {
	return &workflowservice.CountWorkflowExecutionsResponse{Count: int64(len(f.open))}, nil
}

func (f *fakeCluster) DescribeTaskQueue(context.Context, *workflowservice.DescribeTaskQueueRequest) (*workflowservice.DescribeTaskQueueResponse, error) {
	if f.idle {
		return &workflowservice.DescribeTaskQueueResponse{}, nil
	}
	return &workflowservice.DescribeTaskQueueResponse{Pollers: []*taskqueuepb.PollerInfo{{Identity: "rekey-1"}}}, nil
}

func (f *fakeCluster) ListWorkflowExecutions(context.Context, *workflowservice.ListWorkflowExecutionsRequest) (*workflowservice.ListWorkflowExecutionsResponse, error) {
	out := &workflowservice.ListWorkflowExecutionsResponse{}
	for id := range f.open {
		out.Executions = append(out.Executions, &workflowpb.WorkflowExecutionInfo{Execution: &commonpb.WorkflowExecution{WorkflowId: id, RunId: "r"}})
	}
	return out, nil
}

func (f *fakeCluster) GetWorkflowExecutionHistory(_ context.Context, r *workflowservice.GetWorkflowExecutionHistoryRequest) (*workflowservice.GetWorkflowExecutionHistoryResponse, error) {
	return &workflowservice.GetWorkflowExecutionHistoryResponse{History: &historypb.History{Events: []*historypb.HistoryEvent{{
		EventId: 1, EventType: enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED,
		Attributes: &historypb.HistoryEvent_WorkflowExecutionStartedEventAttributes{WorkflowExecutionStartedEventAttributes: &historypb.WorkflowExecutionStartedEventAttributes{
			Input: f.open[r.GetExecution().GetWorkflowId()],
		}},
	}}}}, nil
}

func (f *fakeCluster) ListSearchAttributes(context.Context, *operatorservice.ListSearchAttributesRequest) (*operatorservice.ListSearchAttributesResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := map[string]enumspb.IndexedValueType{}
	for k, v := range f.attributes {
		out[k] = v
	}
	return &operatorservice.ListSearchAttributesResponse{CustomAttributes: out}, nil
}

func (f *fakeCluster) AddSearchAttributes(_ context.Context, r *operatorservice.AddSearchAttributesRequest) (*operatorservice.AddSearchAttributesResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.attributes == nil {
		return nil, status.Error(codes.PermissionDenied, "vendor words")
	}
	for k, v := range r.GetSearchAttributes() {
		f.attributes[k] = v
	}
	return &operatorservice.AddSearchAttributesResponse{}, nil
}

func (f *fakeCluster) serve(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := grpc.NewServer()
	workflowservice.RegisterWorkflowServiceServer(s, f)
	operatorservice.RegisterOperatorServiceServer(s, f)
	go func() { _ = s.Serve(l) }()
	t.Cleanup(s.Stop)
	return l.Addr().String()
}

func TestDoctorLooksAtTheCluster(t *testing.T) {
	all := temporalx.SearchAttributes()
	some := map[string]enumspb.IndexedValueType{"RekeyPhase": enumspb.INDEXED_VALUE_TYPE_KEYWORD}
	wrong := map[string]enumspb.IndexedValueType{"RekeyPhase": enumspb.INDEXED_VALUE_TYPE_INT}
	const month = 720 * time.Hour
	for name, c := range map[string]struct {
		cluster *fakeCluster
		fix     bool
		faults  []string
		mended  []string
	}{
		"all is well":                          {&fakeCluster{exists: true, retention: month, attributes: all}, false, nil, nil},
		"no namespace":                         {&fakeCluster{attributes: all}, false, []string{"temporal.cluster.namespace"}, nil},
		"no namespace, mended":                 {&fakeCluster{attributes: all}, true, nil, []string{"temporal.cluster.namespace"}},
		"runs are deleted after a day":         {&fakeCluster{exists: true, retention: 24 * time.Hour, attributes: all}, false, []string{"temporal.cluster.retention"}, nil},
		"runs are deleted, mended":             {&fakeCluster{exists: true, retention: 24 * time.Hour, attributes: all}, true, nil, []string{"temporal.cluster.retention"}},
		"attributes are missing":               {&fakeCluster{exists: true, retention: month, attributes: some}, false, []string{"temporal.cluster.search-attributes"}, nil},
		"attributes are missing, mended":       {&fakeCluster{exists: true, retention: month, attributes: map[string]enumspb.IndexedValueType{}}, true, nil, []string{"temporal.cluster.search-attributes"}},
		"an attribute has another type":        {&fakeCluster{exists: true, retention: month, attributes: wrong}, true, []string{"temporal.cluster.search-attributes"}, nil},
		"attributes may not be added by us":    {&fakeCluster{exists: true, retention: month}, true, []string{"temporal.cluster.search-attributes"}, nil},
		"more than asked for is never lowered": {&fakeCluster{exists: true, retention: 10 * month, attributes: all}, true, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			i := healthy(t)
			kept := c.cluster.retention
			i.yaml["temporal"] = fmt.Sprintf("temporal: {address: %q}", c.cluster.serve(t))
			checks := i.examine(c.fix)
			require.Equal(t, c.faults, brokenIn(checks))
			for _, id := range c.mended {
				_, ok := find(checks, id, stateMended)
				require.True(t, ok, id)
			}
			if len(c.mended) > 0 {
				require.Empty(t, brokenIn(i.examine(false)), "it stays mended")
			} else {
				require.Equal(t, kept, c.cluster.retention, "nothing was changed")
			}
			require.NotContains(t, fmt.Sprint(checks), "vendor words")
		})
	}
}

// sealedBy is an incident's input under the codec keys of a directory.
func sealedBy(t *testing.T, dir string) *commonpb.Payloads {
	t.Helper()
	keys, err := keyring.Open(keyring.Options{Dir: dir, Create: true, Now: time.Now})
	require.NoError(t, err)
	p, err := converter.NewCodecDataConverter(converter.GetDefaultDataConverter(), codec.New(keys)).ToPayloads("input")
	require.NoError(t, err)
	return p
}

// What stops the work although the cluster is set up as it should be.
func TestDoctorLooksAtTheWorkOfACluster(t *testing.T) {
	const month = 720 * time.Hour
	whole := func() *fakeCluster {
		return &fakeCluster{exists: true, retention: month, attributes: temporalx.SearchAttributes(), open: map[string]*commonpb.Payloads{}}
	}
	for name, c := range map[string]struct {
		broken func(*testing.T, *install, *fakeCluster)
		id     string // "": healthy
		say    string
		do     string
	}{
		"an incident is open and all is well": {func(t *testing.T, i *install, f *fakeCluster) {
			f.open["incident/"+anIncident] = sealedBy(t, filepath.Join(i.data, "keys", "codec"))
		}, "", "", ""},
		"nobody polls and nothing waits": {func(_ *testing.T, _ *install, f *fakeCluster) { f.idle = true }, "", "", ""},
		"nobody polls and an incident waits": {func(t *testing.T, i *install, f *fakeCluster) {
			f.idle = true
			f.open["incident/"+anIncident] = sealedBy(t, filepath.Join(i.data, "keys", "codec"))
		}, "temporal.cluster.workers", "incidents stand still", "rekey worker"},
		"the codec key of an open incident is gone": {func(t *testing.T, i *install, f *fakeCluster) {
			f.open["incident/"+anIncident] = sealedBy(t, filepath.Join(i.dir, "other-keys"))
		}, "temporal.cluster.payloads", anIncident, "restore"},
		"the cluster refuses our credential": {func(_ *testing.T, _ *install, f *fakeCluster) {
			f.refuse = status.Error(codes.Unauthenticated, "vendor words: token expired")
		}, "temporal.cluster", "", "api_key_file"},
		"the cluster forbids us": {func(_ *testing.T, _ *install, f *fakeCluster) {
			f.refuse = status.Error(codes.PermissionDenied, "vendor words")
		}, "temporal.cluster", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			i, f := healthy(t), whole()
			c.broken(t, i, f)
			i.yaml["temporal"] = fmt.Sprintf("temporal: {address: %q}", f.serve(t))
			checks := i.examine(false)
			require.NotContains(t, fmt.Sprint(checks), "vendor words")
			if c.id == "" {
				require.Empty(t, brokenIn(checks))
				return
			}
			require.Equal(t, []string{c.id}, brokenIn(checks))
			got, _ := find(checks, c.id, stateFault)
			require.Contains(t, got.Detail, c.say)
			require.Contains(t, got.Do, c.do)
		})
	}
}

func TestDoctorSaysThatTemporalIsUnreachable(t *testing.T) {
	i := healthy(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	i.yaml["temporal"] = fmt.Sprintf("temporal: {address: %q}", l.Addr().String())
	checks := i.examine(false)
	require.Equal(t, []string{"temporal.cluster"}, brokenIn(checks))
}

// A process that hangs keeps the lock: a second one could not start, and would not
// say why at once.
func TestDoctorSeesWhoHasTheDataDirectory(t *testing.T) {
	i := healthy(t)
	f, err := os.OpenFile(filepath.Join(i.data, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	require.NoError(t, err)
	defer func() { _ = f.Close() }()
	_, free := find(i.examine(false), "data.lock", stateOK)
	require.True(t, free)
	require.NoError(t, syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB))
	checks := i.examine(false)
	require.Equal(t, []string{"data.lock"}, brokenIn(checks))
	got, _ := find(checks, "data.lock", stateFault)
	require.Contains(t, got.Do, "fuser")
}

// The codec endpoint as the browser that shows the Temporal UI sees it.
func TestDoctorAsksTheCodecEndpoint(t *testing.T) {
	for name, c := range map[string]struct {
		answer func(http.ResponseWriter, *http.Request)
		state  string
	}{
		"for this UI": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Access-Control-Allow-Origin", r.Header.Get("Origin"))
			w.WriteHeader(http.StatusNoContent)
		}, stateOK},
		"for another UI": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Access-Control-Allow-Origin", "http://127.0.0.1:1")
			w.WriteHeader(http.StatusNoContent)
		}, stateFault},
		"it refuses":  {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }, stateFault},
		"it hangs up": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, stateFault},
		"none":        {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) }, stateSkipped},
	} {
		t.Run(name, func(t *testing.T) {
			i := healthy(t)
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch r.URL.Path {
				case "/codec/decode":
					if r.Method != http.MethodOptions {
						w.WriteHeader(http.StatusMethodNotAllowed)
						return
					}
					c.answer(w, r)
				case "/healthz":
					fmt.Fprint(w, `{"status":"ok"}`)
				}
			}))
			t.Cleanup(s.Close)
			i.yaml["listen"] = i.listen(s.Listener.Addr().String())
			_, ok := find(i.examine(false), "codec", c.state)
			require.True(t, ok)
		})
	}
}
