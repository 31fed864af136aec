package server

import (
	"fmt"
	"net"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"rekey/internal/secret"
	"rekey/internal/view"
)

// refuse counts a refused request. The route is its pattern, "" before there is one.
func (s *Server) refuse(r *http.Request, reason string) {
	s.counts.add(reason)
	if s.OnRefuse != nil {
		s.OnRefuse(r.Pattern, reason)
	}
}

// counts are the refused requests by reason.
type counts struct {
	mu sync.Mutex
	by map[string]int64
}

func (c *counts) add(reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.by == nil {
		c.by = map[string]int64{}
	}
	c.by[reason]++
}

// Refusals counts refused requests by reason since the start: bad-host,
// unauthorized, and the codes of view.Error.
func (s *Server) Refusals() map[string]int64 {
	s.counts.mu.Lock()
	defer s.counts.mu.Unlock()
	out := make(map[string]int64, len(s.counts.by))
	for k, v := range s.counts.by {
		out[k] = v
	}
	return out
}

// guard is around everything: host, headers, panics, the access log.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := s.Now()
		rec := &recorder{ResponseWriter: w}
		if s.Trace != nil {
			ctx, end := s.Trace(r.Context(), method(r.Method))
			r = r.WithContext(ctx)
			defer func() { end(r.Pattern, rec.status) }()
		}
		h := rec.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cache-Control", "no-store")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		h.Set("Cross-Origin-Resource-Policy", "same-site")
		defer func() {
			p := recover()
			if p == http.ErrAbortHandler { //nolint:errorlint // a cut-off answer: the connection must end too; it is what was panicked with, no chain
				s.log(r, rec, s.Now().Sub(began))
				panic(p)
			}
			if p != nil {
				// The value may hold anything: only its type is logged.
				s.Log.Error("panic in a request", "type", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
				s.refuse(r, "internal")
				if rec.status == 0 {
					write(rec, http.StatusInternalServerError, view.ErrorBody{Code: "internal", Message: "rekey failed on this request", Do: "look at the server's log, then try again; nothing was decided"})
				}
			}
			s.log(r, rec, s.Now().Sub(began))
		}()
		if !s.hostAllowed(r) {
			s.refuse(r, "bad-host")
			write(rec, http.StatusForbidden, view.ErrorBody{Code: "bad-host", Message: "this server is not called by that host name", Do: "use its address, or add the name to listen.hosts in rekey.yaml"})
			return
		}
		next.ServeHTTP(rec, r)
	})
}

// hostAllowed refuses names under which a web page could have this server
// answer to it (DNS rebinding): loopback, the very address the connection came in
// by, and configured names pass.
func (s *Server) hostAllowed(r *http.Request) bool {
	name := r.Host
	if h, _, err := net.SplitHostPort(r.Host); err == nil {
		name = h
	}
	name = strings.ToLower(strings.Trim(name, "[]"))
	if ip := net.ParseIP(name); ip != nil {
		local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
		if ip.IsLoopback() || (ok && local.IP.Equal(ip)) {
			return true
		}
	}
	return name == "localhost" || slices.ContainsFunc(s.Hosts, func(h string) bool { return strings.EqualFold(h, name) })
}

// authenticated lets only the bearer of the token pass, before anything of the
// request is read (RFC 6750 section 2.1).
func (s *Server) authenticated(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " ")
		if !ok || !strings.EqualFold(scheme, "Bearer") || !s.Token.Matches(token) {
			s.refuse(r, "unauthorized")
			w.Header().Set("WWW-Authenticate", `Bearer realm="rekey"`)
			write(w, http.StatusUnauthorized, view.ErrorBody{Code: "unauthorized", Message: "no valid token", Do: "the token is in DATA/cli-token of this server's data directory; `rekey` reads it from there (--data)"})
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (s *Server) log(r *http.Request, rec *recorder, took time.Duration) {
	level := s.Log.InfoContext
	switch {
	case rec.status >= http.StatusInternalServerError:
		level = s.Log.ErrorContext
	case rec.status == http.StatusUnauthorized && strings.HasPrefix(r.Pattern, "/codec/"):
		// A page of the Temporal UI asks for each of its payloads by itself: to look
		// without having signed in is no event, and would bury those that are.
	case rec.status >= http.StatusBadRequest:
		level = s.Log.WarnContext
	}
	// The pattern, not the path: what a caller made up does not enter the log.
	from, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		from = "unknown"
	}
	args := []any{"method", method(r.Method), "route", r.Pattern, "status", rec.status, "bytes", rec.bytes, "took_ms", took.Milliseconds(), "from", from}
	if id := r.PathValue("id"); secret.ValidIncident(id) {
		args = append(args, "incident", id)
	}
	level(r.Context(), "request", args...)
}

func method(m string) string {
	if slices.Contains([]string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}, m) {
		return m
	}
	return "other"
}

// recorder remembers the status for the log.
type recorder struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(b []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	n, err := r.ResponseWriter.Write(b)
	r.bytes += int64(n)
	return n, err
}

// Unwrap is for http.ResponseController.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
