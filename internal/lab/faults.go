package lab

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"rekey/internal/lab/awssim"
	"rekey/internal/lab/control"
	"rekey/internal/lab/scenario"
)

// faultState is how far one fault of the drill has got.
type faultState struct {
	Seen  int  `json:"seen,omitempty"`  // matching calls so far
	Used  int  `json:"used,omitempty"`  // times it struck
	Armed bool `json:"armed,omitempty"` // its phase has begun
}

// acts lists the faults this lab acts on; a drill with another one of part "lab" is refused.
var acts = []string{"throttle", "burst-503", "latency", "lost-answer", "alive-after-200", "not-found", "wrong-account-credential", "list-missing",
	"pagination-cut", "propagation", "clock-skew", "log-gap", "worker-kill", "hidden-copy", "stale-cache", "residual-session", "planted-persistence",
	"attacker-mints", "undocumented-dependent"}

func checkFaults(d *scenario.Drill) error {
	for i, f := range d.Faults {
		for _, w := range scenario.Catalogue() {
			if w.What == f.What && w.Part == scenario.PartLab && !slices.Contains(acts, f.What) {
				return fmt.Errorf("drill %s: faults[%d] %s: this lab does not act on it", d.Name, i, f.What)
			}
		}
		if f.What == "clock-skew" && (f.By.D() > time.Hour || f.By.D() < -time.Hour) {
			return fmt.Errorf("drill %s: faults[%d]: a clock skew above an hour is not played", d.Name, i)
		}
	}
	return nil
}

// started tells whether a fault's time or phase has come.
func (w *world) started(i int) bool {
	f := w.drill.Faults[i]
	switch {
	case f.At.Phase != "":
		return w.st.Faults[i].Armed
	case !f.At.Time.IsZero():
		return !w.now().Before(f.At.Time.Resolve(w.t0))
	default:
		return true
	}
}

// strikes counts a call against a fault and tells whether it strikes now. A fault counted by verb
// strikes once unless it says how often; one that holds from a time strikes until it ends.
func (w *world) strikes(i int) bool {
	f, st := w.drill.Faults[i], w.st.Faults[i]
	st.Seen++
	w.dirty = true
	limit := f.Times
	if limit == 0 && f.At.Verb != "" {
		limit = 1
	}
	if st.Seen < max(f.At.Nth, 1) || limit > 0 && st.Used >= limit {
		return false
	}
	if f.What == "burst-503" && f.For > 0 {
		start := w.t0
		if !f.At.Time.IsZero() {
			start = f.At.Time.Resolve(w.t0)
		}
		if !w.now().Before(start.Add(f.For.D())) {
			return false
		}
	}
	st.Used++
	return true
}

func (w *world) matches(f scenario.Fault, c *awssim.Call) bool {
	if f.At.Verb != "" && f.At.Verb != c.Verb {
		return false
	}
	if f.Action != "" {
		want := f.Action
		if !strings.Contains(want, ":") {
			want = c.Service + ":" + want
		}
		if want != c.Service+":"+c.Action {
			return false
		}
	}
	return f.Key == "" || w.keyID(f.Key) == c.TargetKey
}

// inject gives what the faults do to a call of the engine.
func (w *world) inject(c *awssim.Call) awssim.Injection {
	var out awssim.Injection
	if !c.Engine || !c.Network {
		return out
	}
	for i, f := range w.drill.Faults {
		if !slices.Contains([]string{"throttle", "burst-503", "latency", "lost-answer", "not-found", "list-missing", "pagination-cut", "wrong-account-credential"}, f.What) {
			continue
		}
		if !w.started(i) || !w.matches(f, c) || f.What == "lost-answer" && !c.Mutating || !w.strikes(i) {
			continue
		}
		status := func(standard int) int {
			if f.Status != 0 {
				return f.Status
			}
			return standard
		}
		fail := func(status int, code, message string) {
			if out.Error == nil {
				out.Error = &awssim.APIError{Status: status, Code: code, Message: message, RetryAfter: f.RetryAfter.D()}
			}
		}
		switch f.What {
		case "throttle":
			fail(status(http.StatusTooManyRequests), "Throttling", "Rate exceeded")
		case "burst-503":
			fail(status(http.StatusServiceUnavailable), "ServiceUnavailable", "The request has failed due to a temporary failure of the server.")
		case "latency":
			out.Latency += f.For.D()
		case "lost-answer":
			out.LoseAnswer = true
		case "not-found":
			if c.Service == "secretsmanager" {
				fail(http.StatusBadRequest, "ResourceNotFoundException", "Secrets Manager can't find the specified secret.")
			} else {
				fail(http.StatusNotFound, "NoSuchEntity", "The entity cannot be found.")
			}
		case "list-missing":
			fail(status(http.StatusNotImplemented), "NotImplemented", "The operation is not implemented.")
		case "pagination-cut":
			out.CutPages = true
		case "wrong-account-credential":
			out.Account = f.Account
			if out.Account == "" {
				out.Account = "999988887777"
			}
		}
	}
	return out
}

func (w *world) keepAlive(keyID string) (string, bool) {
	for i, f := range w.drill.Faults {
		if f.What == "alive-after-200" && w.keyID(f.Key) == keyID && w.started(i) {
			return f.UntilRung, true
		}
	}
	return "", false
}

func (w *world) skew() time.Duration {
	for i, f := range w.drill.Faults {
		if f.What == "clock-skew" && w.started(i) {
			return f.By.D()
		}
	}
	return 0
}

func (w *world) logGap(at time.Time) bool {
	for _, f := range w.drill.Faults {
		if f.What == "log-gap" && !at.Before(f.From.Resolve(w.t0)) && at.Before(f.To.Resolve(w.t0)) {
			return true
		}
	}
	return false
}

// enterPhase arms the faults of a phase.
func (w *world) enterPhase(phase string) {
	for i, f := range w.drill.Faults {
		if f.At.Phase == phase {
			w.st.Faults[i].Armed = true
			w.dirty = true
		}
	}
}

// armed is a kill that was asked for in the course of the drill.
type armed struct {
	control.Arm
	Seen int `json:"seen"`
}

// killAt gives the processes that are to die at this edge, and records it: the drill's kills strike
// the engine, armed ones whom they name. A kill is on disk before it happens, so it happens once,
// also where the lab dies with the engine.
func (w *world) killAt(e control.Edge, pids map[string]int) ([]int, error) {
	counted := false
	var victims []string
	for i, f := range w.drill.Faults {
		if f.What != "worker-kill" || f.At.Verb != e.Verb || f.At.Edge != e.Edge || f.Key != "" && w.keyID(f.Key) != e.Key {
			continue
		}
		counted = true
		if w.strikes(i) {
			victims = append(victims, control.RoleEngine)
		}
	}
	w.st.Armed = slices.DeleteFunc(w.st.Armed, func(a *armed) bool {
		if a.Verb != e.Verb || a.Edge != e.Edge {
			return false
		}
		a.Seen++
		counted, w.dirty = true, true
		if a.Seen < a.Nth {
			return false
		}
		victims = append(victims, a.Victims...)
		return true
	})
	slices.Sort(victims)
	var out []int
	for _, role := range slices.Compact(victims) {
		pid := pids[role]
		if pid == 0 {
			return nil, fmt.Errorf("a kill is due, but no process is registered as %s", role)
		}
		out = append(out, pid)
		w.dirty = true
		w.st.Kills = append(w.st.Kills, control.Kill{At: control.Time{Time: w.now()}, PID: pid, Role: role, Verb: e.Verb, Edge: e.Edge, Key: e.Key, Incident: e.Incident})
	}
	if !counted {
		return nil, nil
	}
	return out, w.save() // the count survives a lab that dies with the engine
}
