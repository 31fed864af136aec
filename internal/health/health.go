// Package health answers /healthz and /readyz for every process of rekey.
//
// Alive means that the process answers. Ready means that work sent to it now would
// be done: a check that fails says which part is missing and how to mend it. A
// process that is stopping is not ready from the first moment on, so that a load
// balancer sends nothing more while open requests finish.
package health

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"

	"rekey/internal/view"
)

// lookLimit bounds one look at all checks: shorter than the usual time-out of
// who asks (10 s), so that they get an answer that says what is missing.
const lookLimit = 8 * time.Second

// A Problem is why a process is not ready.
type Problem struct{ Body view.ErrorBody }

func (p *Problem) Error() string { return p.Body.Code + ": " + p.Body.Message }

// Not makes a Problem: a code, what is missing, and how to mend it.
func Not(code, message, do string) error {
	return &Problem{view.ErrorBody{Code: code, Message: message, Do: do}}
}

// Checks are what makes a process ready. Safe for concurrent use.
type Checks struct {
	mu       sync.Mutex
	checks   []check
	stopping bool
}

type check struct {
	name string
	look func(context.Context) error
}

// Add adds a check. look obeys ctx; an error that is no *Problem is shown as
// "does not answer", without its text.
func (c *Checks) Add(name string, look func(context.Context) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.checks = append(c.checks, check{name, look})
}

// Stop makes the process unready for good.
func (c *Checks) Stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopping = true
}

// Ready looks at every check, all at once, and gives the first failed one in their
// order, as *Problem. names are those that hold.
func (c *Checks) Ready(ctx context.Context) (names []string, err error) {
	c.mu.Lock()
	checks, stopping := slices.Clone(c.checks), c.stopping
	c.mu.Unlock()
	if stopping {
		return nil, Not("stopping", "this process is stopping", "ask another one; open requests are finished")
	}
	ctx, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	errs := make([]error, len(checks))
	var wg sync.WaitGroup
	for i, ch := range checks {
		wg.Go(func() { errs[i] = ch.look(ctx) })
	}
	wg.Wait()
	for i, e := range errs {
		var p *Problem
		switch {
		case e == nil:
			names = append(names, checks[i].name)
		case err != nil:
		case errors.As(e, &p):
			err = p
		default:
			err = Not(checks[i].name, checks[i].name+" does not answer", "`rekey doctor` looks for the reason")
		}
	}
	return names, err
}

// Status is the answer of a process that is ready.
type Status struct {
	Status string   `json:"status"`
	Checks []string `json:"checks,omitempty"` // that hold
}

// Handler serves /healthz, /readyz and /metrics, for the address of the metrics.
// It answers GET and HEAD alone and reads no body.
func (c *Checks) Handler(metrics http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, Status{Status: "ok"}) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		names, err := c.Ready(r.Context())
		var p *Problem
		if errors.As(err, &p) {
			w.Header().Set("Retry-After", "2")
			answer(w, http.StatusServiceUnavailable, view.Error{Error: p.Body})
			return
		}
		answer(w, http.StatusOK, Status{Status: "ready", Checks: names})
	})
	mux.Handle("GET /metrics", metrics)
	return mux
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // who asked has gone
}
