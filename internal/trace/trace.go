// Package trace sends OpenTelemetry traces (OTLP over HTTP) of what an incident
// does: from the request that reported a key, through the workflows, to each call
// of a provider. It is off unless telemetry.otlp_endpoint is set.
//
// A trace leaves the machine and is read by more people than an incident, so a
// span has names of parts only: provider, account, verb, outcome, the incident and
// the first 12 digits of a fingerprint. It never has a key id, a URL, a header, a
// text of an error or anything that came from outside; not even the trace of a
// caller is taken over, because its `tracestate` is free text that would be
// written into histories.
//
// The collector is never waited for: spans are kept in a bounded queue and dropped
// when it is full.
package trace

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	temporal "go.temporal.io/sdk/contrib/opentelemetry"
	"go.temporal.io/sdk/interceptor"

	"rekey/activities"
)

// Options of a Tracer.
type Options struct {
	// Endpoint is the collector's URL, "https://collector:4318"; without a path
	// /v1/traces is taken. Empty: no traces.
	Endpoint string
	// CAFile holds PEM certificates to trust instead of the system's.
	CAFile string
	// HeadersFile holds "name: value" lines that go with each export, as a token.
	HeadersFile string
	// Percent of traces that are kept, 0 to 100.
	Percent int
	// Service, Version and Instance name this process in the traces.
	Service, Version, Instance string
	// Log is told once when the collector does not take spans, and once when it
	// does again.
	Log *slog.Logger
}

// Bounds: what is kept while the collector is slow (about 5 MiB), and how long one
// export may take.
const (
	queue       = 4096
	batch       = 512
	exportLimit = 5 * time.Second
	flushLimit  = 3 * time.Second
	maxHeaders  = 64 << 10
)

// A Tracer makes spans. A nil Tracer makes none.
type Tracer struct {
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
}

// Open makes a Tracer; nil without an endpoint. It does not connect: a collector
// that is down is no reason not to start. Errors: files that cannot be read.
func Open(o Options) (*Tracer, error) {
	if o.Endpoint == "" {
		return nil, nil
	}
	client, err := o.client()
	if err != nil {
		return nil, err
	}
	exp := &quiet{next: otlptrace.NewUnstarted(client), log: o.Log}
	return newTracer(exp, o), nil
}

func newTracer(exp sdktrace.SpanExporter, o Options) *Tracer {
	res := resource.NewSchemaless(
		// https://opentelemetry.io/docs/specs/semconv/resource/#service
		attribute.String("service.name", o.Service), attribute.String("service.namespace", "rekey"),
		attribute.String("service.version", o.Version), attribute.String("service.instance.id", o.Instance),
	)
	p := sdktrace.NewTracerProvider(
		sdktrace.WithResource(res),
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(float64(o.Percent)/100))),
		// Without blocking: a full queue drops spans, it does not hold up a call.
		sdktrace.WithBatcher(exp, sdktrace.WithMaxQueueSize(queue), sdktrace.WithMaxExportBatchSize(batch), sdktrace.WithExportTimeout(exportLimit)),
	)
	return &Tracer{provider: p, tracer: p.Tracer("rekey")}
}

// Probe sends the collector an empty export and gives its status. Errors name the
// file that is wrong, or say that nothing answers; none quotes the collector.
func Probe(ctx context.Context, o Options) (status int, err error) {
	headers, err := readHeaders(o.HeadersFile)
	if err != nil {
		return 0, err
	}
	secure, err := o.tls()
	if err != nil {
		return 0, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, o.url(), http.NoBody)
	if err != nil {
		return 0, errors.New("telemetry.otlp_endpoint is not a URL")
	}
	req.Header.Set("Content-Type", "application/x-protobuf")
	for name, value := range headers {
		req.Header.Set(name, value)
	}
	c := exportClient(secure)
	defer c.CloseIdleConnections()
	resp, err := c.Do(req)
	var untrusted *tls.CertificateVerificationError
	switch {
	case errors.As(err, &untrusted):
		return 0, errors.New("the collector's certificate is not trusted: give telemetry.ca_file, or the name that it was made for")
	case err != nil:
		return 0, errors.New("nothing answers at telemetry.otlp_endpoint")
	}
	return resp.StatusCode, resp.Body.Close()
}

// exportClient goes to the collector and nowhere else: the headers hold its key, which
// net/http would take along to wherever a redirect leads, and show to a proxy of the
// environment.
func exportClient(secure *tls.Config) *http.Client {
	return &http.Client{
		Timeout:   exportLimit,
		Transport: &http.Transport{TLSClientConfig: secure, ForceAttemptHTTP2: true, TLSHandshakeTimeout: exportLimit, MaxIdleConns: 2, IdleConnTimeout: time.Minute},
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		},
	}
}

// url is where exports go.
func (o Options) url() string {
	endpoint := o.Endpoint
	if rest := endpoint[strings.Index(endpoint, "://")+len("://"):]; !strings.Contains(strings.TrimSuffix(rest, "/"), "/") {
		endpoint = strings.TrimSuffix(endpoint, "/") + "/v1/traces" // https://opentelemetry.io/docs/specs/otlp/#otlphttp-request
	}
	return endpoint
}

// tls trusts CAFile; nil without one.
func (o Options) tls() (*tls.Config, error) {
	if o.CAFile == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(o.CAFile)
	if err != nil {
		return nil, fmt.Errorf("telemetry.ca_file: %s cannot be read", o.CAFile)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("telemetry.ca_file: %s holds no PEM certificate", o.CAFile)
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}, nil
}

func (o Options) client() (otlptrace.Client, error) {
	headers, err := readHeaders(o.HeadersFile)
	if err != nil {
		return nil, err
	}
	secure, err := o.tls()
	if err != nil {
		return nil, err
	}
	opts := []otlptracehttp.Option{
		otlptracehttp.WithEndpointURL(o.url()), otlptracehttp.WithHeaders(headers), otlptracehttp.WithHTTPClient(exportClient(secure)),
		otlptracehttp.WithRetry(otlptracehttp.RetryConfig{Enabled: true, InitialInterval: 500 * time.Millisecond, MaxInterval: time.Second, MaxElapsedTime: exportLimit}),
	}
	return otlptracehttp.NewClient(opts...), nil
}

// readHeaders reads "name: value" lines. No error quotes the file.
func readHeaders(file string) (map[string]string, error) {
	if file == "" {
		return nil, nil
	}
	b, err := os.ReadFile(file)
	if err != nil || len(b) > maxHeaders {
		return nil, fmt.Errorf("telemetry.headers_file: %s cannot be read", file)
	}
	out := map[string]string{}
	for i, line := range strings.Split(string(b), "\n") {
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		if name = strings.TrimSpace(name); !ok || name == "" {
			return nil, fmt.Errorf("telemetry.headers_file: line %d of %s is not `name: value`", i+1, file)
		}
		out[name] = strings.TrimSpace(value)
	}
	return out, nil
}

// Close sends what is queued, for up to 3 s.
func (t *Tracer) Close(ctx context.Context) {
	if t == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushLimit)
	defer cancel()
	_ = t.provider.Shutdown(ctx) // what the collector does not take is lost, and said by quiet
}

// Interceptors are for the options of the Temporal client, which passes them to its
// workers. Their header in histories holds the W3C traceparent alone: two random
// numbers and a flag. It is not encrypted, and needs not be.
func (t *Tracer) Interceptors() ([]interceptor.ClientInterceptor, error) {
	if t == nil {
		return nil, nil
	}
	i, err := temporal.NewTracingInterceptor(temporal.TracerOptions{
		Tracer: t.tracer, TextMapPropagator: propagation.TraceContext{}, DisableBaggage: true,
		// Queries are for showing: the readers of metrics and pages ask all day.
		DisableQueryTracing: true,
		// A header that another build wrote must not stop a workflow.
		AllowInvalidParentSpans: true,
		SpanStarter: func(ctx context.Context, tr trace.Tracer, name string, opts ...trace.SpanStartOption) trace.Span {
			_, span := tr.Start(ctx, name, opts...)
			return discreet{span}
		},
	})
	if err != nil {
		return nil, fmt.Errorf("tracing: %w", err)
	}
	return []interceptor.ClientInterceptor{i}, nil
}

// Request begins the span of a request to the HTTP server; the returned function
// ends it with the route's pattern and the status.
func (t *Tracer) Request(ctx context.Context, method string) (context.Context, func(route string, status int)) {
	if t == nil {
		return ctx, func(string, int) {}
	}
	ctx, span := t.tracer.Start(ctx, method, trace.WithSpanKind(trace.SpanKindServer), trace.WithNewRoot())
	return ctx, func(route string, status int) {
		if route != "" {
			span.SetName(route)
		}
		// https://opentelemetry.io/docs/specs/semconv/http/http-spans/
		span.SetAttributes(attribute.String("http.request.method", method), attribute.String("http.route", route), attribute.Int("http.response.status_code", status))
		if status >= http.StatusInternalServerError {
			span.SetStatus(codes.Error, "")
		}
		span.End()
	}
}

// Call begins the span of one call of a provider; the returned function ends it.
// incident may be "".
func (t *Tracer) Call(ctx context.Context, incident string, k activities.Key, v activities.Verb) (context.Context, func(activities.Outcome, activities.Class)) {
	if t == nil {
		return ctx, func(activities.Outcome, activities.Class) {}
	}
	ctx, span := t.tracer.Start(ctx, k.Provider+"."+string(v), trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
		attribute.String("rekey.provider", k.Provider), attribute.String("rekey.account", k.Account), attribute.String("rekey.verb", string(v)),
		attribute.String("rekey.incident", incident), attribute.String("rekey.item", k.Short()),
	))
	return ctx, func(o activities.Outcome, c activities.Class) {
		span.SetAttributes(attribute.String("rekey.outcome", string(o)))
		if c != "" {
			span.SetAttributes(attribute.String("rekey.class", string(c)))
			span.SetStatus(codes.Error, "")
		}
		span.End()
	}
}

// IDs are the trace and span of ctx in hex, "" where there are none.
func IDs(ctx context.Context) (traceID, spanID string) {
	sc := trace.SpanContextFromContext(ctx)
	if !sc.IsValid() {
		return "", ""
	}
	return sc.TraceID().String(), sc.SpanID().String()
}

// discreet is a span that keeps the texts of errors to itself: that something
// failed is told, what it said is in the histories and the log.
type discreet struct{ trace.Span }

func (d discreet) RecordError(error, ...trace.EventOption) {}

func (d discreet) SetStatus(c codes.Code, _ string) { d.Span.SetStatus(c, "") }

// quiet is an exporter that fails in silence: OpenTelemetry's own handler of errors
// is a global that prints the collector's address and answer.
type quiet struct {
	next sdktrace.SpanExporter
	log  *slog.Logger

	mu      sync.Mutex
	started bool
	failing bool
}

func (q *quiet) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	if err := q.start(ctx); err != nil {
		return nil //nolint:nilerr // said by start
	}
	q.told(q.next.ExportSpans(ctx, spans))
	return nil
}

func (q *quiet) start(ctx context.Context) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.started {
		return nil
	}
	if s, ok := q.next.(interface{ Start(context.Context) error }); ok {
		if err := s.Start(ctx); err != nil {
			return err
		}
	}
	q.started = true
	return nil
}

func (q *quiet) told(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if failing := err != nil; failing != q.failing {
		q.failing = failing
		if failing {
			q.log.Warn("traces are not taken by the collector and are dropped: check telemetry in rekey.yaml; incidents go on")
		} else {
			q.log.Info("traces are taken again")
		}
	}
}

func (q *quiet) Shutdown(ctx context.Context) error {
	if err := q.next.Shutdown(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		q.log.Debug("the exporter of traces did not stop in order")
	}
	return nil
}
