package page

import (
	"fmt"
	"time"

	"rekey/activities"
)

// What a row waits for between probes.
const (
	whyPropagation = "the kill is not yet everywhere"
	whyNextProbe   = "next probe"
	whyUnclear     = "the probe gave no clear answer"
)

// probe begins a series of probes of the old key, or goes on with it; false when it is
// proven dead, or when nothing can prove it.
func (f *Facts) probe(r *Row, now time.Time) (Next, bool) {
	if f.Trust && r.Death != dead {
		r.Death, r.Grade = dead, "A"
	}
	switch {
	case r.Death == dead:
		return Next{}, false
	case !f.kind(r).has(activities.Probe):
		r.Death = human
		return Next{}, false
	case r.Death != proving:
		r.Death, r.Refusals, r.FirstRefused, r.Round, r.Blurred = proving, 0, At{}, 0, false
	}
	return f.spread(r, f.ask(r), now), true
}

// spread waits with a probe for the propagation of the last kill: what the provider says
// inside it proves nothing.
func (f *Facts) spread(r *Row, n Next, now time.Time) Next {
	if due := second(r.Killed.Add(f.kind(r).Propagation)); !r.Killed.IsZero() && due.After(now) {
		n.Due, n.Why = due, whyPropagation
	}
	return n
}

// ask is the next probe of a round: each vantage point is a call of its own.
func (f *Facts) ask(r *Row) Next {
	mode := r.mode()
	places := f.places(r, mode)
	return Next{Verb: activities.Probe, Mode: mode, Vantage: places[min(r.Round, len(places)-1)]}
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

// probed takes an answer of a probe; false when the row leaves the page. The rules are
// those of workflows/prove.go: k refusals in a row, each round from every vantage point
// and with its control, over at least the span. One vantage point that is let in makes
// the round alive; an answer that is not clear counts neither way, and keeps no other
// vantage point from telling that the key lives.
func (f *Facts) probed(r *Row, a activities.Attempt, now time.Time) bool {
	if a.Class == activities.ClassThrottled {
		r.throttled(a, now)
		return true
	}
	clear := !a.Failed() && a.Probe != nil
	if r.Next.Mode == ModeNew {
		return f.probedNew(r, a, clear, now)
	}
	switch {
	case clear && (a.Probe.Saw == activities.ProbeAlive || a.Probe.Saw == activities.ProbeMismatch):
		return f.lives(r, a.At, now)
	case !clear || a.Probe.Saw != activities.ProbeRefused || !a.Probe.Control:
		r.Blurred = true
	}
	mode := r.Next.Mode
	if r.Round++; r.Round < len(f.places(r, mode)) {
		return true
	}
	blurred := r.Blurred
	r.Round, r.Blurred = 0, false
	if blurred {
		f.unclear(r, f.pause(r), now)
		return true
	}
	r.fresh()
	if r.Death == dead {
		r.Confirmed = true
		return true
	}
	r.Refusals++
	seen := at(a.At)
	if r.FirstRefused.IsZero() {
		r.FirstRefused = seen
	}
	if r.Refusals >= max(f.K, 1) && seen.Sub(r.FirstRefused.Time) >= f.span(r) {
		r.Death, r.Grade = dead, "A"
		if mode == activities.ProbeState {
			r.Grade = "B"
		}
		return true
	}
	if d := f.pause(r); d > 0 {
		r.wait(d, whyNextProbe, now)
	}
	return true
}

// probedNew takes an answer about the replacement.
func (f *Facts) probedNew(r *Row, a activities.Attempt, clear bool, now time.Time) bool {
	switch {
	case clear && a.Probe.Saw == activities.ProbeAlive:
		r.NewSeen = true
		r.fresh()
	case !clear || a.Probe.Saw == activities.ProbeUnclear || a.Probe.Saw == activities.ProbeRefused && !a.Probe.Control:
		// Whether it works cannot be seen: that is not the new key's fault.
		r.Since = At{}
		f.unclear(r, newKeyAgain, now)
	case now.Sub(r.Since.Time) >= newKeyLag:
		r.Next = Next{Verb: activities.Probe, Mode: ModeNew, Gate: GatePull, Why: "the new key does not work: look at it before the old one is destroyed"}
		return false
	default:
		r.fresh()
		r.wait(newKeyAgain, "the new key is not usable yet", now)
	}
	return true
}

// unclear repeats a round of probes without a clear answer, and asks a person when that
// lasts. A proof that is only looked at once more is not held up for ever.
func (f *Facts) unclear(r *Row, pause time.Duration, now time.Time) {
	r.Unclear++
	switch {
	case r.Unclear == 1:
		r.Clear = at(now)
	case r.Unclear >= settle && r.Death == dead && r.Next.Mode != ModeNew:
		r.fresh()
		r.Confirmed = true
		return
	case now.Sub(r.Clear.Time) >= lookAgain:
		r.Stuck = fmt.Sprintf("probes give no clear answer: mend the path to %s, then resolve", r.Provider)
		return
	}
	r.wait(max(pause, backoff(min(r.Unclear, settle))), whyUnclear, now)
}

// lives takes that the old key was let in. Within twice the propagation of the last kill
// that is not yet "alive after the provider's yes".
func (f *Facts) lives(r *Row, seen, now time.Time) bool {
	r.fresh()
	r.LastAlive = at(seen)
	r.Refusals, r.FirstRefused, r.Round, r.Blurred, r.Confirmed, r.Grade = 0, At{}, 0, false, false, ""
	if now.Sub(r.Killed.Time) < 2*f.kind(r).Propagation {
		r.Death = proving
		r.wait(max(f.pause(r), time.Second), whyPropagation, now)
		return true
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
