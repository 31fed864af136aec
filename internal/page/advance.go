package page

import (
	"fmt"
	"time"

	"rekey/activities"
)

// Limits of patience; workflows/options.go gives the reasons, and has the same values
// for items that are moved one by one.
const (
	backoffFirst = 2 * time.Second
	backoffMax   = 5 * time.Minute
	// throttleMax is the longest wait where a provider says "slow down" and not for how
	// long: AWS never does.
	throttleMax = 30 * time.Second
	// settle is how often an unclear answer of an idempotent verb is asked again before
	// the probe has to tell.
	settle = 3
	// patience is after how many failures a row says [WhyFailing].
	patience = 6
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
// attempt at the pass. Waits count from the answer where that is later than now: a pass
// over many rows takes its time.
func (f *Facts) Advance(r *Row, a activities.Attempt, effect string, now time.Time) {
	if a.At.After(now) {
		now = a.At
	}
	if f.Scope {
		f.read(r, a, now)
		return
	}
	r.Tries++
	r.After, r.AfterWhy = At{}, ""
	if f.take(r, a, effect, now) {
		f.decide(r, now)
	}
}

// take takes an answer; false when the row leaves the page.
func (f *Facts) take(r *Row, a activities.Attempt, effect string, now time.Time) bool {
	v := r.Next.Verb
	switch v {
	case activities.Inspect:
		r.looked(a, now)
		return true
	case activities.Probe:
		return f.probed(r, a, now)
	}
	if f.repeats(r, a, effect, now) {
		return true
	}
	r.saw(a)
	switch a.Outcome {
	case activities.NeedsHuman, activities.Unsupported, activities.Denied:
		if v == activities.Issue && a.Detail == activities.SlotNeeded && r.Death == dead && !r.Revoked && f.kind(r).has(activities.Revoke) {
			r.fresh()
			r.Slot = true // the dead key gives its slot
			return true
		}
		return r.stop(a)
	}
	switch v {
	case activities.Disable, activities.Revoke, activities.EndSessions:
		r.struck(v, a, now)
	case activities.Issue:
		if a.Issue == nil || !a.Outcome.Reached() {
			return r.stop(a)
		}
		r.Effect, r.EffectToken = "", ""
		r.NewKey, r.Handle, r.Adoption = a.Issue.New.ID, a.Issue.Handle, issued
	case activities.Distribute:
		r.Handed++
		if a.Outcome.Reached() {
			r.Receipts++
		}
		if r.Handed >= len(r.Stores) {
			r.Placed, r.Adoption = at(now), distributed
		}
	}
	r.fresh()
	return true
}

// repeats tells whether the same call is to be made again, and sets from when on.
func (f *Facts) repeats(r *Row, a activities.Attempt, effect string, now time.Time) bool {
	if !a.Failed() && a.Outcome != activities.Unclear {
		return false
	}
	switch a.Class {
	case activities.ClassThrottled:
		r.throttled(a, now)
		return true
	case activities.ClassTransient:
		r.Failures++
		r.wait(backoff(r.Failures), r.failing("repeated after a failure"), now)
		return true
	case activities.ClassDenied, activities.ClassInvalid:
		return false
	}
	r.Unclear++
	switch v := r.Next.Verb; {
	case v == activities.Issue:
		f.Pending(r, effect)
	case v == activities.Distribute, v == activities.Revoke && r.Disabled:
		// No probe tells whether it happened.
	case r.Unclear >= settle:
		return false // the probe tells what the provider could not
	}
	r.wait(backoff(r.Unclear), r.failing("repeated: the answer was not clear"), now)
	return true
}

func (r *Row) throttled(a activities.Attempt, now time.Time) {
	r.Throttled++
	d := time.Duration(a.AfterMs) * time.Millisecond
	if d <= 0 {
		d = min(backoff(r.Throttled), throttleMax)
	}
	r.wait(max(d, time.Second), r.failing(toldToWait+r.Provider), now)
}

const toldToWait = "told to wait by "

// Later has a row wait whose account was told to wait before its own call was made.
// Nothing is counted: nothing was tried.
func (f *Facts) Later(r *Row, until, now time.Time) {
	r.After, r.AfterWhy = second(until), r.failing(toldToWait+r.Provider)
	if f.Scope {
		r.Next.Due, r.Next.Why = r.After, r.AfterWhy
		return
	}
	f.decide(r, now)
}

// Pending notes that the Issue which the row waits for may have been made already, in the
// journal effect: whoever makes it again must find that, and uses the same token.
func (f *Facts) Pending(r *Row, effect string) {
	if r.Effect == "" {
		r.Effect, r.EffectToken = effect, f.token(r)
	}
}

// failing is why a call is repeated.
func (r *Row) failing(why string) string {
	if r.Failures+r.Unclear >= patience || r.Throttled >= 10*patience {
		return WhyFailing
	}
	return why
}

// struck takes the answer of a call that kills.
func (r *Row) struck(v activities.Verb, a activities.Attempt, now time.Time) {
	r.Killed, r.Confirmed, r.Round, r.Blurred = at(now), false, 0, false
	if r.Death == proving {
		r.Death = disabled // what was refused before this proves nothing
	}
	switch v {
	case activities.EndSessions:
		r.EndedSessions, r.Border = true, At{}
		r.Sessions++
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

// stop hands what a person must mend to a person: a right that is missing is missing for
// many rows at once, anything else is looked at one by one, and leaves the page (false).
func (r *Row) stop(a activities.Attempt) bool {
	v := r.Next.Verb
	if a.Class != activities.ClassDenied && a.Outcome != activities.Denied {
		r.Next = Next{Verb: v, Mode: r.Next.Mode, Gate: GatePull, Why: fmt.Sprintf("%s needs a person: %s", v, a.Detail)}
		return false
	}
	right := a.Permission
	if right == "" {
		right = "the right for " + string(v)
	}
	r.Stuck = fmt.Sprintf("%s was denied: grant %s to rekey's role in %s/%s, then resolve", v, right, r.Provider, r.Account)
	return true
}
