package e2e

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"google.golang.org/protobuf/proto"

	"rekey/internal/devserver"
	"rekey/internal/temporalx"
	"rekey/internal/view"
	"rekey/workflows"
)

// idleScenario has a key that nobody uses: policy lets it be cut at once.
const idleScenario = `apiVersion: rekey/v1
kind: Drill
name: idle
seed: 3
clock: {mode: real}
estate:
  providers: {awsiam/lab: {propagation: 1s}}
  keys:
    - {id: IDLE, user: idle, policy: ReadOnlyAccess, issued: T0-60d, owner: ""}
trigger: {at: T0, report: {provider: awsiam, kind: user-access-key, key: IDLE, source: cli, confidence: confirmed}}
expect: [{id: there, expr: 'lab.keys.size() > 0'}]
`

// A collector takes traces as an OpenTelemetry collector does (OTLP over HTTP,
// https://opentelemetry.io/docs/specs/otlp/#otlphttp).
type collector struct {
	url string
	mu  sync.Mutex
	raw []byte
	got []*tracepb.Span
	by  map[string]*tracepb.Span // span id -> span
	who map[string]bool          // authorization headers
}

func newCollector(t *testing.T) *collector {
	c := &collector{by: map[string]*tracepb.Span{}, who: map[string]bool{}}
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var req coltracepb.ExportTraceServiceRequest
		if err != nil || r.URL.Path != "/v1/traces" || proto.Unmarshal(body, &req) != nil {
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.raw = append(c.raw, body...)
		c.who[r.Header.Get("Authorization")] = true
		for _, rs := range req.GetResourceSpans() {
			for _, ss := range rs.GetScopeSpans() {
				for _, sp := range ss.GetSpans() {
					c.got = append(c.got, sp)
					c.by[hex.EncodeToString(sp.GetSpanId())] = sp
				}
			}
		}
	}))
	t.Cleanup(s.Close)
	c.url = s.URL
	return c
}

// named gives the spans of a name.
func (c *collector) named(name string) []*tracepb.Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []*tracepb.Span
	for _, s := range c.got {
		if s.GetName() == name {
			out = append(out, s)
		}
	}
	return out
}

func attribute(s *tracepb.Span, key string) string {
	for _, a := range s.GetAttributes() {
		if a.GetKey() == key {
			return a.GetValue().GetStringValue()
		}
	}
	return ""
}

// TestWhatOperatorsSee follows one incident from its report to the call that
// contains it: in the trace, in the metrics, on /readyz and in the log.
func TestWhatOperatorsSee(t *testing.T) {
	t.Parallel()
	col := newCollector(t)
	r, l := onLab(t, idleScenario)
	r.upArgs = []string{"--log-format", "json"}
	headers := r.write("headers", "# for the collector\nAuthorization: Bearer of-the-collector\n")
	r.configure("telemetry: {otlp_endpoint: \"" + col.url + "\", headers_file: " + headers + "}\n")
	r.up()
	key := l.info.Aliases["IDLE"]
	id := r.report(key)
	r.until(id, "the key disabled", func(v view.Incident) bool { return disabled(v) != nil })

	var disable []*tracepb.Span
	require.Eventually(t, func() bool { disable = col.named("awsiam.Disable"); return len(disable) > 0 }, patience, 100*time.Millisecond)
	report := func() []*tracepb.Span { return col.named("POST /api/v1/reports") }
	require.Eventually(t, func() bool { return len(report()) == 1 }, patience, 100*time.Millisecond)
	call := disable[0]
	require.Equal(t, report()[0].GetTraceId(), call.GetTraceId(), "one trace, from the report to the call")
	require.Equal(t, "awsiam", attribute(call, "rekey.provider"))
	require.Equal(t, "lab", attribute(call, "rekey.account"))
	require.Equal(t, "Disable", attribute(call, "rekey.verb"))
	require.Equal(t, "done", attribute(call, "rekey.outcome"))
	require.Equal(t, id, attribute(call, "rekey.incident"))
	require.Len(t, attribute(call, "rekey.item"), 12)
	for _, step := range []string{"SignalWithStartWorkflow:Incident", "StartActivity:awsiam.Inspect", "RunActivity:awsiam.Disable"} {
		require.Eventually(t, func() bool {
			for _, s := range col.named(step) {
				if string(s.GetTraceId()) == string(call.GetTraceId()) {
					return true
				}
			}
			return false
		}, patience, 100*time.Millisecond, step)
	}
	parent := col.by[hex.EncodeToString(call.GetParentSpanId())]
	require.NotNil(t, parent)
	require.Equal(t, "RunActivity:awsiam.Disable", parent.GetName(), "the call is in the activity")

	page := r.metrics(t, "/metrics")
	require.Regexp(t, regexp.MustCompile(`rekey_provider_calls_total\{account="lab",outcome="done",provider="awsiam",verb="Disable"\} 1`), page)
	require.Contains(t, page, "rekey_provider_call_seconds_bucket")
	require.Contains(t, page, "temporal_request_latency_seconds_bucket", "the SDK's own are there too")
	require.Contains(t, page, "rekey_build_info{")
	require.Contains(t, r.metrics(t, "/healthz"), `"ok"`)
	var ready struct{ Checks []string }
	require.NoError(t, json.Unmarshal([]byte(r.metrics(t, "/readyz")), &ready))
	require.ElementsMatch(t, []string{"temporal", "keys", "polling"}, ready.Checks)
	require.Eventually(t, func() bool { return strings.Contains(r.metrics(t, "/metrics"), "rekey_incidents{") }, patience, 500*time.Millisecond, "the open incident is counted")

	r.stop()
	logged := r.logged()
	require.Regexp(t, regexp.MustCompile(`"msg":"provider call","incident":"`+id+`","provider":"awsiam","account":"lab","verb":"Disable".*"trace":"`+hex.EncodeToString(call.GetTraceId())+`"`), logged)
	col.mu.Lock()
	defer col.mu.Unlock()
	for what, text := range map[string]string{"traces": string(col.raw), "metrics": page} {
		require.NotContains(t, text, key, "no key id in %s", what)
		require.NotContains(t, text, "127.0.0.1:", "no URL in %s", what)
	}
	require.Equal(t, map[string]bool{"Bearer of-the-collector": true}, col.who)
	r.onlyTraceparents(t, id)
}

// metrics asks the address of the metrics.
func (r *rig) metrics(t *testing.T, path string) string {
	t.Helper()
	resp, err := http.Get("http://" + r.observed + path)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, resp.StatusCode, string(b))
	return string(b)
}

// onlyTraceparents looks at what tracing left in the history, which is not
// encrypted: two random numbers and a flag (https://www.w3.org/TR/trace-context/).
func (r *rig) onlyTraceparents(t *testing.T, incident string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	srv, err := devserver.Start(ctx, devserver.Options{DataDir: r.data(), Frontend: "127.0.0.1:0"})
	require.NoError(t, err)
	defer func() { _ = srv.Stop(context.WithoutCancel(ctx)) }()
	c, err := temporalx.Dial(ctx, srv.DialOptions("rekey"))
	require.NoError(t, err)
	defer c.Close()
	seen := 0
	it := c.GetWorkflowHistory(ctx, workflows.IncidentID(incident), "", false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for it.HasNext() {
		e, err := it.Next()
		require.NoError(t, err)
		for _, h := range []*commonpb.Header{
			e.GetWorkflowExecutionStartedEventAttributes().GetHeader(), e.GetActivityTaskScheduledEventAttributes().GetHeader(),
			e.GetWorkflowExecutionSignaledEventAttributes().GetHeader(), e.GetMarkerRecordedEventAttributes().GetHeader(),
		} {
			for name, p := range h.GetFields() {
				require.Equal(t, "_tracer-data", name)
				require.Regexp(t, regexp.MustCompile(`^\{"traceparent":"00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]"\}$`), string(p.GetData()))
				seen++
			}
		}
	}
	require.NotZero(t, seen)
}
