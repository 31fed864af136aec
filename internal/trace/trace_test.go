package trace_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	oteltrace "go.opentelemetry.io/otel/trace"
	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/protobuf/proto"

	"rekey/activities"
	"rekey/internal/trace"
	"rekey/workflows"
)

// A receiver is a collector.
type receiver struct {
	mu    sync.Mutex
	spans []*tracepb.Span
	attrs string // of the process
	heads http.Header
}

func (c *receiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var req coltracepb.ExportTraceServiceRequest
	if err != nil || r.URL.Path != "/v1/traces" || proto.Unmarshal(body, &req) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.heads = r.Header.Clone()
	for _, rs := range req.GetResourceSpans() {
		c.attrs = rs.GetResource().String()
		for _, ss := range rs.GetScopeSpans() {
			c.spans = append(c.spans, ss.GetSpans()...)
		}
	}
}

func (c *receiver) all() []*tracepb.Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.spans
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func aKey() activities.Key {
	return activities.Key{Provider: "awsiam", Account: "prod", Kind: "user-access-key", ID: "AKIAIOSFODNN7EXAMPLE", FP: "fp1_a41c09be77d2" + strings.Repeat("0", 52)}
}

func TestNoEndpointNoTraces(t *testing.T) {
	tr, err := trace.Open(trace.Options{})
	require.NoError(t, err)
	require.Nil(t, tr)
	i, err := tr.Interceptors()
	require.NoError(t, err)
	require.Empty(t, i)
	ctx, end := tr.Call(t.Context(), "inc-1", aKey(), activities.Disable)
	end(activities.Done, "")
	ctx, done := tr.Request(ctx, "GET")
	done("GET /x", 200)
	id, _ := trace.IDs(ctx)
	require.Empty(t, id)
	tr.Close(t.Context())
}

// A span names parts and outcomes. What the call was about stays here.
func TestASpanOfACallTellsNoKey(t *testing.T) {
	c := &receiver{}
	s := httptest.NewServer(c)
	defer s.Close()
	tr, err := trace.Open(trace.Options{Endpoint: s.URL, Percent: 100, Service: "rekey-worker", Version: "v9", Instance: "e1", Log: quiet()})
	require.NoError(t, err)
	ctx, done := tr.Request(t.Context(), "POST")
	id, _ := trace.IDs(ctx)
	require.Len(t, id, 32)
	call, end := tr.Call(ctx, "inc-7f3a9c2e41d0", aKey(), activities.Disable)
	inner, _ := trace.IDs(call)
	require.Equal(t, id, inner)
	end(activities.Unclear, activities.ClassTransient)
	done("POST /api/v1/reports", 503)
	tr.Close(t.Context())

	got := c.all()
	require.Len(t, got, 2)
	require.Equal(t, "awsiam.Disable", got[0].GetName())
	require.Equal(t, "POST /api/v1/reports", got[1].GetName())
	require.Equal(t, got[1].GetSpanId(), got[0].GetParentSpanId())
	require.Equal(t, tracepb.Status_STATUS_CODE_ERROR, got[0].GetStatus().GetCode())
	require.Equal(t, tracepb.Status_STATUS_CODE_ERROR, got[1].GetStatus().GetCode())
	for _, sp := range got {
		require.NotContains(t, sp.String(), "AKIA")
		require.Empty(t, sp.GetStatus().GetMessage())
	}
	require.Contains(t, got[0].String(), "a41c09be77d2")
	require.NotContains(t, got[0].String(), "a41c09be77d20", "12 digits, not the whole fingerprint")
	require.Contains(t, c.attrs, "rekey-worker")
}

// A caller's own trace is not taken over: whoever can reach a webhook could write
// into histories by its tracestate.
func TestACallersTraceIsNotTaken(t *testing.T) {
	c := &receiver{}
	s := httptest.NewServer(c)
	defer s.Close()
	tr, err := trace.Open(trace.Options{Endpoint: s.URL, Percent: 100, Log: quiet()})
	require.NoError(t, err)
	state, err := oteltrace.ParseTraceState("evil=1")
	require.NoError(t, err)
	theirs := oteltrace.NewSpanContext(oteltrace.SpanContextConfig{TraceID: oteltrace.TraceID{1}, SpanID: oteltrace.SpanID{1}, TraceFlags: oteltrace.FlagsSampled, TraceState: state, Remote: true})
	_, done := tr.Request(oteltrace.ContextWithRemoteSpanContext(t.Context(), theirs), "POST")
	done("POST /webhooks/github", 200)
	tr.Close(t.Context())
	require.Empty(t, c.all()[0].GetTraceState())
	require.NotEqual(t, theirs.TraceID().String(), string(c.all()[0].GetTraceId()))
}

func TestPercentOfTracesIsKept(t *testing.T) {
	c := &receiver{}
	s := httptest.NewServer(c)
	defer s.Close()
	tr, err := trace.Open(trace.Options{Endpoint: s.URL, Percent: 0, Log: quiet()})
	require.NoError(t, err)
	_, done := tr.Request(t.Context(), "POST")
	done("POST /x", 200)
	tr.Close(t.Context())
	require.Empty(t, c.all())
}

// The headers' file goes with each export, and the collector's own CA is trusted.
func TestTheCollectorIsAuthenticated(t *testing.T) {
	c := &receiver{}
	s := httptest.NewTLSServer(c)
	defer s.Close()
	dir := t.TempDir()
	ca, headers := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "headers")
	require.NoError(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600))
	require.NoError(t, os.WriteFile(headers, []byte("# token\nX-Token: abc: def\n"), 0o600))
	tr, err := trace.Open(trace.Options{Endpoint: s.URL + "/", CAFile: ca, HeadersFile: headers, Percent: 100, Log: quiet()})
	require.NoError(t, err)
	_, done := tr.Request(t.Context(), "GET")
	done("GET /x", 200)
	tr.Close(t.Context())
	require.Len(t, c.all(), 1)
	require.Equal(t, "abc: def", c.heads.Get("X-Token"))
}

func TestTheCollectorsKeyGoesToNoOther(t *testing.T) {
	other := &receiver{}
	elsewhere := httptest.NewServer(other)
	defer elsewhere.Close()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, elsewhere.URL+"/v1/traces", http.StatusPermanentRedirect)
	}))
	defer s.Close()
	headers := filepath.Join(t.TempDir(), "headers")
	require.NoError(t, os.WriteFile(headers, []byte("X-Token: abc\n"), 0o600))
	o := trace.Options{Endpoint: s.URL, HeadersFile: headers, Percent: 100, Log: quiet()}
	tr, err := trace.Open(o)
	require.NoError(t, err)
	_, done := tr.Request(t.Context(), "GET")
	done("GET /x", 200)
	tr.Close(t.Context())
	status, err := trace.Probe(t.Context(), o)
	require.NoError(t, err)
	require.Equal(t, http.StatusPermanentRedirect, status)
	require.Empty(t, other.all())
	require.Nil(t, other.heads)
}

func TestFilesThatAreWrongAreNamed(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(dir, "h")
	require.NoError(t, os.WriteFile(secret, []byte("just-a-token\n"), 0o600))
	for name, o := range map[string]trace.Options{
		"telemetry.headers_file: line 1": {HeadersFile: secret},
		"telemetry.headers_file":         {HeadersFile: filepath.Join(dir, "none")},
		"telemetry.ca_file":              {CAFile: secret},
	} {
		o.Endpoint, o.Log = "http://127.0.0.1:1", quiet()
		_, err := trace.Open(o)
		require.ErrorContains(t, err, name)
		require.NotContains(t, err.Error(), "just-a-token")
	}
}

// A collector that is down, or says no, is told once and disturbs nothing.
func TestACollectorThatFailsDisturbsNothing(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		_, _ = w.Write([]byte("the collector's own words"))
	}))
	defer s.Close()
	var log bytes.Buffer
	tr, err := trace.Open(trace.Options{Endpoint: s.URL, Percent: 100, Log: slog.New(slog.NewTextHandler(&log, nil))})
	require.NoError(t, err)
	for range 3000 {
		_, end := tr.Call(t.Context(), "inc-1", aKey(), activities.Probe)
		end(activities.Done, "")
	}
	tr.Close(t.Context())
	require.Equal(t, 1, strings.Count(log.String(), "level=WARN"), log.String())
	require.NotContains(t, log.String(), "own words")
	require.NotContains(t, log.String(), "127.0.0.1")
}

// A collector that never answers holds up nobody: spans are dropped, and the end of
// the process waits for its limit at most.
func TestACollectorThatHangsIsNotWaitedFor(t *testing.T) {
	release := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer s.Close()
	defer close(release)
	tr, err := trace.Open(trace.Options{Endpoint: s.URL, Percent: 100, Log: quiet()})
	require.NoError(t, err)
	for range 20_000 { // several times the queue
		_, end := tr.Call(t.Context(), "inc-1", aKey(), activities.Probe)
		end(activities.Done, "")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tr.Close(ctx)
	require.NoError(t, ctx.Err())
}

func interceptors(t *testing.T, url string) (*trace.Tracer, []interceptor.WorkerInterceptor) {
	t.Helper()
	tr, err := trace.Open(trace.Options{Endpoint: url, Percent: 100, Log: quiet()})
	require.NoError(t, err)
	cs, err := tr.Interceptors()
	require.NoError(t, err)
	var out []interceptor.WorkerInterceptor
	for _, c := range cs {
		w, ok := c.(interceptor.WorkerInterceptor)
		require.True(t, ok)
		out = append(out, w)
	}
	require.NotEmpty(t, out)
	return tr, out
}

// What a workflow's step said when it failed is not in its span.
func TestASpanOfAStepKeepsTheTextOfItsError(t *testing.T) {
	c := &receiver{}
	s := httptest.NewServer(c)
	defer s.Close()
	tr, is := interceptors(t, s.URL)
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(nothing{})
	env := suite.NewTestWorkflowEnvironment()
	env.SetWorkerOptions(worker.Options{Interceptors: is})
	env.RegisterWorkflowWithOptions(func(workflow.Context) error { return errors.New("password=hunter2") }, workflow.RegisterOptions{Name: "W"})
	env.ExecuteWorkflow("W")
	require.Error(t, env.GetWorkflowError())
	tr.Close(t.Context())
	require.NotEmpty(t, c.all())
	failed := false
	for _, sp := range c.all() {
		require.NotContains(t, sp.String(), "hunter2")
		failed = failed || sp.GetStatus().GetCode() == tracepb.Status_STATUS_CODE_ERROR
	}
	require.True(t, failed, "that it failed is told")
}

// Histories that were recorded without traces replay with them: to switch tracing
// on breaks no running incident.
func TestRecordedHistoriesReplayWithTraces(t *testing.T) {
	files, err := filepath.Glob("../../workflows/testdata/histories/*/[^b]*.json.gz")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	s := httptest.NewServer(&receiver{})
	defer s.Close()
	tr, is := interceptors(t, s.URL)
	defer tr.Close(t.Context())
	for _, f := range files {
		t.Run(filepath.Base(f), func(t *testing.T) {
			r, err := worker.NewWorkflowReplayerWithOptions(worker.WorkflowReplayerOptions{Interceptors: is})
			require.NoError(t, err)
			for name, w := range map[string]any{
				workflows.TypeIncident: workflows.Incident, workflows.TypeWave: workflows.Wave, workflows.TypeScope: workflows.Scope, workflows.TypeWatch: workflows.Watch, workflows.TypeRegister: workflows.Register,
				workflows.TypeRecord: workflows.Record, workflows.TypeNotices: workflows.Notices,
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
			require.NoError(t, r.ReplayWorkflowHistory(nothing{}, h))
		})
	}
}

// nothing logs nothing.
type nothing struct{}

func (nothing) Debug(string, ...any) {}
func (nothing) Info(string, ...any)  {}
func (nothing) Warn(string, ...any)  {}
func (nothing) Error(string, ...any) {}
