package server_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/internal/api"
	"rekey/internal/intake"
	"rekey/internal/people"
	"rekey/internal/plan"
	"rekey/internal/secret/redact"
	"rekey/internal/server"
	"rekey/internal/statement"
	"rekey/internal/view"
	"rekey/workflows"
)

const known = "inc-0123456789ab"

// fake is everything behind the server.
type fake struct {
	mu       sync.Mutex
	report   func(intake.Caller, api.ReportRequest) (api.ReportResponse, error)
	decide   func(statement.Signed) (workflows.Decision, error)
	items    []view.Item
	plan     plan.Plan
	down     error
	filters  []server.Filter
	callers  []intake.Caller
	requests []api.ReportRequest
	decided  []statement.Signed
	export   string
	cutOff   bool
}

func (f *fake) Report(_ context.Context, who intake.Caller, r api.ReportRequest) (api.ReportResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.callers, f.requests = append(f.callers, who), append(f.requests, r)
	if f.report != nil {
		return f.report(who, r)
	}
	return api.ReportResponse{Schema: "rekey.report/v1", Incident: known, Report: "r-1", FP: "fp1_ab"}, nil
}

func (f *fake) found(id string) error {
	if f.down != nil {
		return f.down
	}
	if id != known {
		return server.ErrUnknown
	}
	return nil
}

func (f *fake) Show(_ context.Context, id string) (view.Incident, error) {
	return view.Incident{Schema: view.SchemaIncident, ID: id, Phase: "act"}, f.found(id)
}
func (f *fake) Items(_ context.Context, id string) ([]view.Item, error) { return f.items, f.found(id) }
func (f *fake) Plan(_ context.Context, id string) (plan.Plan, error)    { return f.plan, f.found(id) }
func (f *fake) Ready(context.Context) error                             { return f.down }

func (f *fake) Decide(_ context.Context, s statement.Signed) (workflows.Decision, error) {
	if err := f.found(s.Statement.Incident); err != nil {
		return workflows.Decision{}, err
	}
	f.decided = append(f.decided, s)
	return f.decide(s)
}

func (f *fake) List(_ context.Context, flt server.Filter) (view.List, error) {
	f.filters = append(f.filters, flt)
	return view.List{Schema: view.SchemaIncident, Incidents: []view.Summary{{ID: known}, {ID: "inc-ffffffffffff"}}, Next: "more"}, f.down
}

func (f *fake) Export(_ context.Context, id string) (io.ReadCloser, error) {
	if f.cutOff {
		return io.NopCloser(io.MultiReader(strings.NewReader(strings.Repeat("x", 1<<16)), &broken{})), nil
	}
	return io.NopCloser(strings.NewReader(f.export)), f.found(id)
}

type broken struct{}

func (*broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func (f *fake) Cookie(actor, path string) (*http.Cookie, error) {
	return &http.Cookie{Name: "rekey_codec", Value: actor, Path: path, HttpOnly: true, SameSite: http.SameSiteStrictMode}, nil
}

// world is a server with its token, log and clock.
type world struct {
	*fake
	*server.Server
	token string
	log   *syncBuffer
	now   time.Time
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func newWorld(t *testing.T, change ...func(*server.Options)) *world {
	t.Helper()
	data := t.TempDir()
	token, err := people.LoadOrCreateToken(data)
	require.NoError(t, err)
	text, err := people.ReadToken(data)
	require.NoError(t, err)
	red, err := redact.New(redact.Options{})
	require.NoError(t, err)
	w := &world{fake: &fake{}, token: text, log: &syncBuffer{}, now: time.Date(2026, 11, 21, 3, 0, 0, 0, time.UTC)}
	o := server.Options{
		Token: token, Actor: "local:alice", Reports: w.fake, Incidents: w.fake, Exporter: w.fake, Redact: red,
		Log: slog.New(slog.NewJSONHandler(w.log, nil)), Now: func() time.Time { return w.now },
	}
	for _, c := range change {
		c(&o)
	}
	w.Server, err = server.New(o)
	require.NoError(t, err)
	return w
}

// call asks the server; a string body is sent as it is, anything else as JSON.
func (w *world) call(t *testing.T, method, path string, body any, change ...func(*http.Request)) *httptest.ResponseRecorder {
	t.Helper()
	var r io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		r = strings.NewReader(b)
	default:
		raw, err := json.Marshal(b)
		require.NoError(t, err)
		r = bytes.NewReader(raw)
	}
	req := httptest.NewRequest(method, "http://127.0.0.1:8443"+path, r)
	req.Header.Set("Authorization", "Bearer "+w.token)
	req.Header.Set("Content-Type", "application/json")
	for _, c := range change {
		c(req)
	}
	rec := httptest.NewRecorder()
	w.Handler().ServeHTTP(rec, req)
	return rec
}

// refused asks for a refusal and gives it.
func refused(t *testing.T, rec *httptest.ResponseRecorder, status int, code string) view.ErrorBody {
	t.Helper()
	require.Equal(t, status, rec.Code, rec.Body.String())
	require.Equal(t, "application/json", rec.Header().Get("Content-Type"))
	var e view.Error
	require.NoError(t, json.Unmarshal(rec.Body.Bytes(), &e))
	require.Equal(t, code, e.Error.Code)
	require.NotEmpty(t, e.Error.Message)
	require.NotEmpty(t, e.Error.Do, "every refusal says what to do")
	return e.Error
}

func canary(t *testing.T) string {
	t.Helper()
	b := make([]byte, 20)
	_, err := rand.Read(b)
	require.NoError(t, err)
	return hex.EncodeToString(b)
}
