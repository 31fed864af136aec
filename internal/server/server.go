// Package server is rekey's HTTP API (package api has its paths), for the command
// line and for the Temporal UI's codec.
//
// A request is refused before it is read: wrong host (DNS rebinding), no token,
// too large. Refusals are a view.Error that says what to do, are counted and
// logged, and repeat nothing of the request. Logs have no bodies, no query
// strings, no headers.
//
// The bearer token lets its holder read and report. It decides nothing: a
// decision is a statement, signed by the voter, which is passed on to the
// incident as it is and checked there.
//
// A new route is one line in [Server.routes] and one handler that returns an
// error; [problem] turns errors into answers. A new trigger has its own package,
// authenticates by itself and is mounted here.
package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"rekey/internal/api"
	"rekey/internal/health"
	"rekey/internal/intake"
	"rekey/internal/people"
	"rekey/internal/plan"
	"rekey/internal/secret/redact"
	"rekey/internal/statement"
	"rekey/internal/view"
	"rekey/workflows"
)

// Reports takes reports; *intake.Intake is it.
type Reports interface {
	Report(ctx context.Context, who intake.Caller, req api.ReportRequest) (api.ReportResponse, error)
}

// Incidents answers for incidents; [Temporal] is it. Errors: [ErrUnknown],
// *[Refused], or anything else for "cannot be reached".
type Incidents interface {
	Show(ctx context.Context, id string) (view.Incident, error)
	Items(ctx context.Context, id string) ([]view.Item, error)
	Plan(ctx context.Context, id string) (plan.Plan, error)
	Decide(ctx context.Context, s statement.Signed) (workflows.Decision, error)
	// List gives a page, newest first, and the cursor of the next.
	List(ctx context.Context, f Filter) (view.List, error)
	// Ready is nil when reports and decisions can be taken.
	Ready(ctx context.Context) error
}

// A Filter of a list.
type Filter struct {
	State string // "" or one of States
	After string // cursor
	Size  int
}

// ErrUnknown: there is no such incident, or nothing of it yet.
var ErrUnknown = errors.New("server: unknown")

// Refused is the incident's own no.
type Refused struct{ Body view.ErrorBody }

func (r *Refused) Error() string { return r.Body.Code + ": " + r.Body.Message }

// An Exporter writes a fresh bundle of an incident (a zip). It fails with
// ErrUnknown.
type Exporter interface {
	Export(ctx context.Context, incident string) (io.ReadCloser, error)
}

// Sessions makes the browser's cookie for the codec endpoint; *codec.Sessions is
// it.
type Sessions interface {
	Cookie(actor, path string) (*http.Cookie, error)
}

// Options of a Server. All are required but those that say otherwise.
type Options struct {
	Token     people.Token
	Actor     string // who the bearer of the token is, "local:alice"
	Reports   Reports
	Incidents Incidents
	Redact    *redact.Redactor
	Log       *slog.Logger
	Now       func() time.Time

	// Exporter; nil: bundles cannot be asked for here.
	Exporter Exporter
	// Rows; nil: items of large incidents that are rows of pages are not listed.
	Rows Rows
	// Codec is mounted at /codec/; nil: none. Sessions and UI (the Temporal UI's
	// URL, where a login ends) are needed with it.
	Codec    http.Handler
	Sessions Sessions
	UI       string
	// Mounted are handlers below a path ("/slack/") that authenticate by themselves:
	// the token is not asked for there. nil: none.
	Mounted map[string]http.Handler
	// Hosts are names by which the server may be called, besides loopback.
	Hosts []string
	// TLS; nil: none.
	TLS *tls.Config
	// Health is asked by /readyz besides Incidents, and told when the server stops;
	// nil: Incidents alone.
	Health *health.Checks
	// Drain is how long the server goes on taking requests after it stopped being
	// ready, so that a load balancer sees it.
	Drain time.Duration
	// OnRefuse is told of each refused request: its route's pattern ("" where there
	// is none) and the code; nil: nobody counts.
	OnRefuse func(route, why string)
	// Trace begins a request's span and gives what ends it; nil: none.
	Trace func(ctx context.Context, method string) (context.Context, func(route string, status int))
}

// A Server answers HTTP.
type Server struct {
	Options
	handler http.Handler
	logins  *logins
	counts  counts
	plain   *redact.Redactor
	busy    chan struct{}
}

// Bounds of one server.
const (
	maxReport    = 40 << 20 // 16 MiB of evidence in base64, secret and playbook
	maxStatement = 1 << 20
	maxReports   = 64 // reports that are read at once
	pageSize     = 50
	grace        = 10 * time.Second
	queryLimit   = 10 * time.Second
	decideLimit  = 30 * time.Second
	reportLimit  = 30 * time.Second
	exportLimit  = 15 * time.Minute
)

// New prepares a Server.
func New(o Options) (*Server, error) {
	if o.Reports == nil || o.Incidents == nil || o.Redact == nil || o.Log == nil || o.Now == nil || o.Actor == "" {
		return nil, errors.New("server: an option is missing")
	}
	if o.Codec != nil && (o.Sessions == nil || o.UI == "") {
		return nil, errors.New("server: the codec endpoint needs sessions and the UI's URL")
	}
	if o.Health == nil {
		o.Health = &health.Checks{}
	}
	plain, err := redact.New(redact.Options{Strip: true})
	if err != nil {
		return nil, fmt.Errorf("server: %w", err)
	}
	s := &Server{Options: o, logins: newLogins(o.Now), plain: plain, busy: make(chan struct{}, maxReports)}
	s.handler = s.guard(s.routes())
	return s, nil
}

// Handler answers every request, for tests and other servers.
func (s *Server) Handler() http.Handler { return s.handler }

// Serve answers on l until ctx ends. Then it is not ready any more, goes on for
// Drain, takes no new connections and lets open requests finish for up to 10 s. It
// closes l.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	srv := &http.Server{
		Handler: s.handler, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: time.Minute, WriteTimeout: 2 * time.Minute,
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 32 << 10, TLSConfig: s.TLS,
		// net/http's own lines quote what clients sent.
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
	done := make(chan error, 1)
	go func() {
		if s.TLS != nil {
			done <- srv.ServeTLS(l, "", "")
		} else {
			done <- srv.Serve(l)
		}
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	s.Health.Stop()
	if s.Drain > 0 {
		select {
		case err := <-done:
			return err
		case <-time.After(s.Drain):
		}
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	err := srv.Shutdown(stop)
	if err != nil {
		err = errors.Join(err, srv.Close())
	}
	if served := <-done; err == nil && !errors.Is(served, http.ErrServerClosed) {
		err = served
	}
	return err
}

// LoadTLS reads listen.tls of rekey.yaml; nil when it is empty. A renewed
// certificate needs a restart.
func LoadTLS(certFile, keyFile string) (*tls.Config, error) {
	if certFile == "" {
		return nil, nil
	}
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil { // the cause may quote the files
		return nil, fmt.Errorf("listen.tls: %s and %s are not a readable PEM certificate and its key: check the paths, and that they belong together", certFile, keyFile)
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}}, nil
}

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	api := func(pattern string, h func(http.ResponseWriter, *http.Request) error) {
		mux.Handle(pattern, s.authenticated(s.answer(h)))
	}
	api("POST /api/v1/reports", s.report)
	api("GET /api/v1/incidents", s.list)
	api("GET /api/v1/incidents/{id}", s.show)
	api("GET /api/v1/incidents/{id}/items", s.items)
	api("GET /api/v1/incidents/{id}/plan", s.plan)
	api("POST /api/v1/incidents/{id}/statements", s.statement)
	api("GET /api/v1/incidents/{id}/bundle", s.bundle)
	// Below /api nothing is told to who has no token, not even which paths exist.
	api("/api/", s.nothing)
	mux.Handle("/", s.answer(s.nothing))
	mux.Handle("GET /healthz", s.answer(s.healthz))
	mux.Handle("GET /readyz", s.answer(s.readyz))
	if s.Codec != nil {
		mux.Handle("GET /codec/login", s.answer(s.codecLogin))
		mux.Handle("/codec/", s.Codec)
	}
	for path, h := range s.Mounted {
		mux.Handle(path, h)
	}
	return mux
}
