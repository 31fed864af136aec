package page

import (
	"encoding/json"
	"fmt"
	"time"

	"rekey/activities"
	"rekey/internal/canon"
)

// Limits of patience; workflows/options.go gives the reasons, and has the same values
// for items that are moved one by one.
const (
	backoffFirst = 2 * time.Second
	backoffMax   = 5 * time.Minute
	// settle is how often an unclear answer of an idempotent verb is asked again before
	// the probe has to tell.
	settle = 3
	// resure is how often a Disable whose own answer was unclear is made again when the
	// key turns out to be alive.
	resure = 2
	// newKeyLag bounds how long a new key may need before it works.
	newKeyLag = 5 * time.Minute
	// newKeyAgain is the wait between two looks at it.
	newKeyAgain = 5 * time.Second
	// lookAgain bounds how long unclear probes are repeated before a person is asked.
	lookAgain = 15 * time.Minute
)

func backoff(n int) time.Duration {
	d := backoffFirst
	for i := 1; i < n && d < backoffMax; i++ {
		d *= 2
	}
	return min(d, backoffMax)
}

// Advance takes the answer of the call that the row was waiting for and sets what it
// needs next. effect is the name of the journal that the call is in: a create without
// an outcome goes on there.
//
// It is a function of its inputs alone: the same answer gives the same row, in any
// attempt at the pass.
func (f *Facts) Advance(r *Row, a activities.Attempt, effect string, now time.Time) {
	if f.Scope {
		f.read(r, a, now)
		return
	}
	v := r.Next.Verb
	r.Tries++
	if v.Mutates() {
		r.saw(a)
	}
	if v == activities.Inspect {
		f.looked(r, a)
		f.decide(r, now)
		return
	}
	if a.Failed() || a.Outcome == activities.Unclear {
		if !f.failed(r, a, effect, now) {
			return
		}
	}
	switch a.Outcome {
	case activities.NeedsHuman, activities.Unsupported, activities.Denied:
		if v == activities.Issue && a.Detail == activities.SlotNeeded && r.Death == dead && !r.Revoked {
			r.Slot, r.Tries = true, 0 // the dead key gives its slot
			f.decide(r, now)
			return
		}
		f.stop(r, a)
		return
	}
	next := r.Next
	r.Tries, r.Failures, r.Throttled, r.Unclear, r.Effect = 0, 0, 0, 0, ""
	switch v {
	case activities.Disable, activities.Revoke, activities.EndSessions:
		r.struck(v, a, now)
	case activities.Issue:
		if a.Issue == nil {
			f.stop(r, a)
			return
		}
		r.NewKey, r.Handle, r.Adoption = a.Issue.New.ID, a.Issue.Handle, issued
	case activities.Distribute:
		r.Handed++
		r.Receipts++
		if r.Handed >= len(r.Stores) {
			r.Placed, r.Adoption = at(now), distributed
		}
	case activities.Probe:
		if a.Probe != nil && !f.probed(r, next.Mode, *a.Probe, a.At, now) {
			return
		}
	}
	f.decide(r, now)
}

// struck takes the answer of a call that kills.
func (r *Row) struck(v activities.Verb, a activities.Attempt, now time.Time) {
	r.Killed, r.Confirmed, r.Round = at(now), false, 0
	switch v {
	case activities.EndSessions:
		r.EndedSessions = true
		return
	case activities.Revoke:
		// An unclear one is not done: it is asked again before the row ends.
		r.Revoked = a.Outcome != activities.Unclear
	case activities.Disable:
		r.Revoked = r.Revoked || a.Outcome == activities.AlreadyGone // somebody destroyed it: still to be proven
	}
	r.Disabled, r.Sure = true, r.Sure || a.Outcome.Reached()
	if r.Death == alive {
		r.Death = disabled
	}
}

// again waits and makes the same call once more.
func (r *Row) again(d time.Duration, why string, now time.Time) {
	r.Next.Due, r.Next.Why, r.Next.Gate = second(now.Add(d)), why, ""
}

// stop hands what a person must mend to a person: a right that is missing is missing for
// many rows at once, anything else is looked at one by one.
func (f *Facts) stop(r *Row, a activities.Attempt) {
	v := r.Next.Verb
	switch {
	case a.Class == activities.ClassDenied || a.Outcome == activities.Denied:
		right := a.Permission
		if right == "" {
			right = "the right for " + string(v)
		}
		r.Next.Gate, r.Next.Why = GateHuman, fmt.Sprintf("%s was denied: grant %s to rekey's role in %s/%s, then resolve", v, right, r.Provider, r.Account)
	default:
		r.Next.Gate, r.Next.Why = GatePull, fmt.Sprintf("%s needs a person: %s", v, a.Detail)
	}
}

// failed takes a failure; true when the row goes on in spite of it.
func (f *Facts) failed(r *Row, a activities.Attempt, effect string, now time.Time) bool {
	v := r.Next.Verb
	switch a.Class {
	case activities.ClassThrottled:
		r.Throttled++
		r.again(max(time.Duration(a.AfterMs)*time.Millisecond, time.Second), "told to wait by "+r.Provider, now)
		return false
	case activities.ClassTransient:
		r.Failures++
		r.again(backoff(r.Failures), "repeated after a failure", now)
		if v == activities.Probe {
			return f.unclear(r, now)
		}
		return false
	case activities.ClassDenied, activities.ClassInvalid:
		if v == activities.Probe {
			return f.unclear(r, now)
		}
		f.stop(r, a)
		return false
	}
	switch v {
	case activities.Probe:
		return f.unclear(r, now)
	case activities.Issue:
		if r.Effect == "" {
			r.Effect = effect // the next attempt must find what this one may have made
		}
	case activities.Distribute:
	default:
		if r.Unclear++; r.Unclear >= settle {
			return true // the probe tells what the provider could not
		}
		r.again(backoff(r.Unclear), "repeated: the answer was not clear", now)
		return false
	}
	r.Unclear++
	r.again(backoff(r.Unclear), "repeated: the answer was not clear", now)
	return false
}

// unclear repeats a probe without a clear answer, and asks a person when that lasts. It
// gives false: the row stays where it is. A proof that is only looked at once more is
// not held up for ever.
func (f *Facts) unclear(r *Row, now time.Time) bool {
	r.Unclear++
	r.Round = 0
	if r.Clear.IsZero() {
		r.Clear = at(now)
	}
	if r.Death == dead && r.Next.Mode != ModeNew && r.Unclear >= settle {
		r.Confirmed, r.Unclear = true, 0
		f.decide(r, now)
		return false
	}
	n := r.Next
	if r.Next.Mode != ModeNew {
		n = f.ask(r)
	}
	if now.Sub(r.Clear.Time) >= lookAgain {
		n.Gate, n.Why = GateHuman, fmt.Sprintf("probes give no clear answer: mend the path to %s, then resolve", r.Provider)
		r.Clear = At{}
		r.Next = n
		return false
	}
	n.Due, n.Why = second(now.Add(max(f.pause(r), backoff(min(r.Unclear, settle))))), "the probe gave no clear answer"
	r.Next = n
	return false
}

// span is over how long the refusals of a proof must lie: at least twice the
// propagation (design section 6).
func (f *Facts) span(r *Row) time.Duration { return max(f.Span, 2*f.kind(r).Propagation) }

// pause is the wait between two rounds of probes.
func (f *Facts) pause(r *Row) time.Duration {
	span := f.span(r)
	if f.K > 1 {
		span /= time.Duration(f.K - 1)
	}
	if span <= 0 {
		return 0
	}
	return max(span, time.Second)
}

// probed takes an answer of a probe; false when it has set what comes next itself. The
// rules are those of workflows/prove.go.
func (f *Facts) probed(r *Row, mode string, p activities.ProbeResult, seen, now time.Time) bool {
	if mode == ModeNew {
		switch {
		case p.Saw == activities.ProbeAlive:
			r.NewSeen = true
			return true
		case now.Sub(r.Since.Time) >= newKeyLag:
			r.Next = Next{Verb: activities.Probe, Mode: ModeNew, Gate: GatePull, Why: "the new key does not work: look at it before the old one is destroyed"}
			return false
		}
		r.again(newKeyAgain, "the new key is not usable yet", now)
		return false
	}
	switch {
	case p.Saw == activities.ProbeAlive, p.Saw == activities.ProbeMismatch:
		return f.lives(r, seen, now)
	case p.Saw != activities.ProbeRefused || !p.Control:
		return f.unclear(r, now)
	}
	r.Clear = at(now)
	if r.Round++; r.Round < len(f.places(r, mode)) {
		r.Next = f.ask(r)
		return false
	}
	r.Round = 0
	if r.Death == dead {
		r.Confirmed = true
		return true
	}
	r.Refusals++
	if r.FirstRefused.IsZero() {
		r.FirstRefused = at(seen)
	}
	if r.Refusals >= max(f.K, 1) && seen.Sub(r.FirstRefused.Time) >= f.span(r) {
		r.Death, r.Grade = dead, "A"
		if mode == activities.ProbeState {
			r.Grade = "B"
		}
		return true
	}
	r.Next = f.ask(r)
	if d := f.pause(r); d > 0 {
		r.Next.Due, r.Next.Why = second(now.Add(d)), "next probe"
	}
	return false
}

// lives takes that the old key was let in. Within twice the propagation of the last kill
// that is not yet "alive after the provider's yes".
func (f *Facts) lives(r *Row, seen, now time.Time) bool {
	r.LastAlive, r.Clear = at(seen), at(now)
	r.Refusals, r.FirstRefused, r.Round, r.Confirmed = 0, At{}, 0, false
	if now.Sub(r.Killed.Time) < 2*f.kind(r).Propagation {
		r.Death, r.Next = proving, f.ask(r)
		r.Next.Due, r.Next.Why = second(now.Add(max(f.pause(r), time.Second))), "not yet everywhere"
		return false
	}
	r.Death = alive
	if !r.Sure && !r.Revoked && r.Resured < resure {
		// Its Disable had no clear answer: the ladder is for keys that outlive theirs.
		r.Resured++
		r.Disabled, r.StepN = false, f.first(r)
		return true
	}
	r.Next = Next{Gate: GatePull, Why: "still alive after the provider's yes"}
	return false
}

// first is the step that disables.
func (f *Facts) first(r *Row) int {
	for i, s := range f.steps(r) {
		if s.Verb() == string(activities.Disable) {
			return i
		}
	}
	return 0
}

// looked takes a reading of who uses the replacement. Uses carry no names: one
// dependent is proven by any use that is not ours, n by n different callers.
func (f *Facts) looked(r *Row, a activities.Attempt) {
	r.Looks++
	if a.Inspect == nil {
		return // not read: the next look tells
	}
	callers := map[string]bool{}
	for _, u := range a.Inspect.Uses {
		if u.Last.After(r.Placed.Time) && u.Count > u.Refused {
			callers[u.Source+" "+u.Agent] = true
		}
	}
	r.CutOver = min(len(callers), len(r.Dependents))
	if r.CutOver >= len(r.Dependents) {
		r.Adoption = adopted
	}
}

// read takes a reading of the scope.
func (f *Facts) read(r *Row, a activities.Attempt, now time.Time) {
	r.Tries++
	if a.Class == activities.ClassThrottled {
		r.Throttled++
		r.again(max(time.Duration(a.AfterMs)*time.Millisecond, time.Second), "told to wait by "+r.Provider, now)
		return
	}
	if a.Class == activities.ClassTransient && r.Failures < settle {
		r.Failures++
		r.again(backoff(r.Failures), "repeated after a failure", now)
		return
	}
	if a.Inspect == nil {
		f.unread(r, []activities.Unseen{{Source: r.Provider, Why: a.Detail, Permission: a.Permission}, {Source: "uses", Why: a.Detail, Permission: a.Permission}})
		return
	}
	if a.Inspect.Principal != "" {
		r.Principal = a.Inspect.Principal
	}
	r.Roles = a.Inspect.Roles
	r.keep(*a.Inspect)
}

// unread notes what of the row could not be read, and that it is not asked again.
func (f *Facts) unread(r *Row, why []activities.Unseen) {
	r.keep(activities.InspectResult{Unseen: why})
}

// keep takes a reading of the scope; the row waits for the plan then.
func (r *Row) keep(res activities.InspectResult) {
	if b, err := canon.JSON(res); err == nil {
		r.Reading = b
	}
	r.Tries, r.Failures, r.Throttled, r.Next = 0, 0, 0, Next{}
}

// Read gives the reading of the scope, nil when there is none.
func (r *Row) Read() (*activities.InspectResult, error) {
	if len(r.Reading) == 0 {
		return nil, nil
	}
	var res activities.InspectResult
	if err := json.Unmarshal(r.Reading, &res); err != nil {
		return nil, fmt.Errorf("page: reading of %s: %w", r.Key().Short(), err)
	}
	return &res, nil
}
