package lab

import (
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"syscall"
	"time"

	"rekey/internal/lab/awssim"
	"rekey/internal/lab/control"
	"rekey/internal/lab/scenario"
)

// controlHandler is the control API. Every path wants the bearer token.
func (s *Server) controlHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /lab/clock", s.getClock)
	mux.HandleFunc("POST /lab/clock", s.setClock)
	mux.HandleFunc("GET /lab/oracle", s.getOracle)
	mux.HandleFunc("GET /lab/ledger", s.getLedger)
	mux.HandleFunc("GET /lab/key/{name...}", s.getKey)
	mux.HandleFunc("GET /lab/info", s.getInfo)
	mux.HandleFunc("GET /lab/secret/{name...}", s.getSecret)
	mux.HandleFunc("POST /lab/act", s.act)
	mux.HandleFunc("POST /lab/edge", s.edge)
	mux.HandleFunc("POST /lab/engine", s.register)
	mux.HandleFunc("POST /lab/arm", s.arm)
	mux.HandleFunc("DELETE /lab/arm", s.disarm)
	mux.HandleFunc("POST /lab/phase", s.phase)
	mux.HandleFunc("POST /lab/dependents/{id}/restart", s.restart)
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if subtle.ConstantTimeCompare([]byte(bearer(r)), []byte(s.token)) != 1 {
			refuse(rw, http.StatusUnauthorized, "the control API wants the bearer token of "+control.TokenFile)
			return
		}
		mux.ServeHTTP(rw, r)
	})
}

func refuse(rw http.ResponseWriter, status int, format string, args ...any) {
	rw.Header().Set("Content-Type", "application/json")
	rw.WriteHeader(status)
	_ = json.NewEncoder(rw).Encode(map[string]string{"error": fmt.Sprintf(format, args...)})
}

func answer(rw http.ResponseWriter, v any) {
	rw.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(rw).Encode(v)
}

func read(rw http.ResponseWriter, r *http.Request, v any) bool {
	dec := json.NewDecoder(io.LimitReader(r.Body, maxBody))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		refuse(rw, http.StatusBadRequest, "the body does not fit: %v", err)
		return false
	}
	return true
}

func (s *Server) clock() control.Clock {
	out := control.Clock{Now: control.Time{Time: s.w.now()}, Mode: "virtual", Calls: s.w.sim.Seq()}
	if s.w.real {
		out.Mode = "real"
	}
	if next := s.w.nextEvent(); !next.IsZero() {
		out.NextEvent = &control.Time{Time: next}
	}
	return out
}

func (s *Server) getClock(rw http.ResponseWriter, _ *http.Request) {
	s.w.mu.Lock()
	s.w.settle()
	out := s.clock()
	s.w.mu.Unlock()
	answer(rw, out)
}

// longest is how far one step may go: a slip of a digit would run for hours.
const longest = 10 * 365 * 24 * time.Hour

func (s *Server) setClock(rw http.ResponseWriter, r *http.Request) {
	var in control.SetClock
	if !read(rw, r, &in) {
		return
	}
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	if s.w.real {
		refuse(rw, http.StatusConflict, "this lab's clock is real: it moves by itself")
		return
	}
	to := s.w.now().Add(time.Duration(in.AdvanceMS) * time.Millisecond)
	switch {
	case in.To != nil && in.AdvanceMS != 0:
		refuse(rw, http.StatusBadRequest, "give to or advance_ms, not both")
		return
	case in.To != nil:
		if to = in.To.UTC(); to.Truncate(time.Millisecond).Before(to) {
			to = to.Truncate(time.Millisecond).Add(time.Millisecond) // world time falls on whole milliseconds; never short of what was asked
		}
	case in.AdvanceMS < 0:
		refuse(rw, http.StatusBadRequest, "time does not run backwards")
		return
	}
	if to.Sub(s.w.now()) > longest {
		refuse(rw, http.StatusBadRequest, "a step of more than ten years")
		return
	}
	s.w.moveTo(to)
	s.w.dirty = true
	err := s.w.save()
	if err == nil {
		err = s.w.flush(s.w.effects.size(), s.w.trail.size())
	}
	if err != nil {
		refuse(rw, http.StatusInternalServerError, "the lab cannot write its files")
		return
	}
	answer(rw, s.clock())
}

func (s *Server) getOracle(rw http.ResponseWriter, _ *http.Request) {
	s.w.mu.Lock()
	s.w.settle()
	out := s.w.oracle()
	upTo := s.w.effects.size()
	s.w.mu.Unlock()
	var err error
	if out.Calls, err = s.w.calls(upTo); err != nil {
		refuse(rw, http.StatusInternalServerError, "the lab cannot read its effect log")
		return
	}
	answer(rw, out)
}

func (s *Server) getLedger(rw http.ResponseWriter, _ *http.Request) {
	s.w.mu.Lock()
	s.w.settle()
	out := s.w.ledger()
	s.w.mu.Unlock()
	answer(rw, out)
}

func (s *Server) getKey(rw http.ResponseWriter, r *http.Request) {
	s.w.mu.Lock()
	s.w.settle()
	out := s.w.keyLedger(s.w.keyID(r.PathValue("name")))
	s.w.mu.Unlock()
	if out.State == "" {
		refuse(rw, http.StatusNotFound, "no key of that name")
		return
	}
	answer(rw, out)
}

func (s *Server) getInfo(rw http.ResponseWriter, _ *http.Request) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	answer(rw, control.Info{BaseURL: s.baseURL(), Account: s.w.sim.Account(), Region: region, Aliases: maps.Clone(s.w.st.Aliases), T0: control.Time{Time: s.w.t0}})
}

// getSecret gives a credential out. It is not logged: the control API has no access log.
func (s *Server) getSecret(rw http.ResponseWriter, r *http.Request) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	id := s.w.keyID(r.PathValue("name"))
	secret, token, ok := s.w.sim.Secret(id)
	if !ok {
		refuse(rw, http.StatusNotFound, "no key of that name")
		return
	}
	rw.Header().Set("Cache-Control", "no-store")
	answer(rw, control.Secret{KeyID: id, SecretKey: secret, SessionToken: token})
}

func (s *Server) register(rw http.ResponseWriter, r *http.Request) {
	var in control.Engine
	if !read(rw, r, &in) {
		return
	}
	if in.PID <= 1 || syscall.Kill(in.PID, 0) != nil {
		refuse(rw, http.StatusBadRequest, "no process %d of this user", in.PID)
		return
	}
	if in.Role == "" {
		in.Role = control.RoleEngine
	}
	s.pidMu.Lock()
	s.pids[in.Role] = in.PID
	s.pidMu.Unlock()
	answer(rw, struct{}{})
}

func (s *Server) arm(rw http.ResponseWriter, r *http.Request) {
	var in control.Arm
	if !read(rw, r, &in) {
		return
	}
	if !edgeKnown(in.Edge) || in.Verb == "" || in.Nth < 1 || len(in.Victims) == 0 {
		refuse(rw, http.StatusBadRequest, "an armed kill has a verb, an edge, a nth from 1 and victims")
		return
	}
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	s.w.st.Armed = append(s.w.st.Armed, &armed{Arm: in})
	s.saved(rw, struct{}{})
}

func (s *Server) disarm(rw http.ResponseWriter, _ *http.Request) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	n := len(s.w.st.Armed)
	s.w.st.Armed = nil
	s.saved(rw, map[string]int{"armed": n})
}

// saved answers once the change is in world.json.
func (s *Server) saved(rw http.ResponseWriter, v any) {
	s.w.dirty = true
	if err := s.w.save(); err != nil {
		refuse(rw, http.StatusInternalServerError, "the lab cannot write its files")
		return
	}
	answer(rw, v)
}

func edgeKnown(edge string) bool {
	switch edge {
	case scenario.EdgeBeforeCall, scenario.EdgeAfterCall, scenario.EdgeAfterRecord:
		return true
	}
	return false
}

// edge kills the engine where the drill says so. The hook then never returns: the process that
// waits for it is gone. Where another process dies the engine goes on.
func (s *Server) edge(rw http.ResponseWriter, r *http.Request) {
	var in control.Edge
	if !read(rw, r, &in) {
		return
	}
	if !edgeKnown(in.Edge) {
		refuse(rw, http.StatusBadRequest, "unknown edge %q", in.Edge)
		return
	}
	s.pidMu.Lock()
	pids := maps.Clone(s.pids)
	s.pidMu.Unlock()
	s.w.mu.Lock()
	s.w.settle()
	victims, err := s.w.killAt(in, pids)
	s.w.mu.Unlock()
	if err != nil {
		refuse(rw, http.StatusConflict, "%v", err)
		return
	}
	for _, pid := range victims {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			refuse(rw, http.StatusConflict, "a kill is due, but process %d cannot be killed", pid)
			return
		}
	}
	if slices.Contains(victims, pids[control.RoleEngine]) {
		<-r.Context().Done()
		return
	}
	answer(rw, struct{}{})
}

// act does what a person does at the provider by hand.
func (s *Server) act(rw http.ResponseWriter, r *http.Request) {
	var in control.Act
	if !read(rw, r, &in) {
		return
	}
	form := url.Values{}
	for k, v := range in.With {
		form.Set(k, v)
	}
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	s.w.settle()
	if s.w.st.OperatorKey == "" {
		refuse(rw, http.StatusConflict, "nobody in this drill acts at the provider")
		return
	}
	service, action := splitCall(in.Call)
	code, _ := s.w.sim.Invoke(awssim.Actor{KeyID: s.w.st.OperatorKey, SourceIP: "203.0.113.18", ASN: 64496, UserAgent: "aws-cli/2.15.3", Label: "legit", Source: in.Source},
		service, action, form)
	err := s.w.save()
	if err == nil {
		err = s.w.flush(s.w.effects.size(), s.w.trail.size())
	}
	switch {
	case err != nil:
		refuse(rw, http.StatusInternalServerError, "the lab cannot write its files")
	case code != "":
		refuse(rw, http.StatusConflict, "%s: %s", in.Call, code)
	default:
		answer(rw, struct{}{})
	}
}

func (s *Server) phase(rw http.ResponseWriter, r *http.Request) {
	var in control.Phase
	if !read(rw, r, &in) {
		return
	}
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	s.w.enterPhase(in.Phase)
	if err := s.w.save(); err != nil {
		refuse(rw, http.StatusInternalServerError, "the lab cannot write its files")
		return
	}
	answer(rw, struct{}{})
}

func (s *Server) restart(rw http.ResponseWriter, r *http.Request) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	found := false
	for _, c := range s.w.consumers {
		if c.Dependent && c.ID == r.PathValue("id") {
			c.Reload, found = true, true
			s.w.moved(c)
		}
	}
	if !found {
		refuse(rw, http.StatusNotFound, "no dependent of that name")
		return
	}
	if err := s.w.save(); err != nil {
		refuse(rw, http.StatusInternalServerError, "the lab cannot write its files")
		return
	}
	answer(rw, struct{}{})
}
