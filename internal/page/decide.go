package page

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"rekey/activities"
	"rekey/playbooks"
)

func itoa(n int) string { return strconv.Itoa(n) }

// Whys of waits and gates; people read them.
const (
	WhyVotes   = "votes for Revoke (irreversible)"
	WhyNotice  = "owners are told before the cut"
	WhyQuiet   = "quiet time: nobody may miss the key"
	WhyCutover = "dependents move to the new key"
	WhyAdopt   = "dependents are not all seen on the replacement"
	WhyHeld    = "on hold"
	// WhyFailing: the call goes on being repeated, and a person should know.
	WhyFailing = "keeps failing and is repeated"
	// WhyProof: an order that accepts the risk ends them, nothing else.
	WhyProof = "nothing can prove them dead: only an accepted risk ends them"
)

// Ends of a row (design section 2).
const (
	endRevoked = "revoked-verified"
)

// States of death and adoption that are set here (contracts section 4).
const (
	alive    = "alive"
	disabled = "disabled"
	proving  = "proving"
	dead     = "dead"
	human    = "human"

	waiting     = "waiting"
	notWanted   = "not-wanted"
	issued      = "issued"
	distributed = "distributed"
	adopted     = "adopted"
	waived      = "waived"
)

// Begin sets a row on the way of a wave, or of the reading of the scope. One that has
// been on its way goes on.
func (f *Facts) Begin(r *Row, now time.Time) {
	if f.Scope {
		f.inspect(r)
		return
	}
	if r.Death == "" {
		r.Death, r.Adoption = alive, notWanted
		if r.Adopt {
			r.Adoption = waiting
		}
	}
	if r.Strategy != string(f.Strategy) {
		r.Strategy, r.StepN = string(f.Strategy), 0 // what is done already is not done again
	}
	f.reconsider(r, now)
}

// Wake decides anew of a row whose time has come, see [Next.Timed].
func (f *Facts) Wake(r *Row, now time.Time) {
	if r.Next.Timed() && !now.Before(r.Next.Due.Time) {
		f.reconsider(r, now)
	}
}

// Ready tells whether a row of a pass still needs the pass's call. Where the cut-off was
// reached before the pass came to it, it does not, and is given what it needs instead.
func (f *Facts) Ready(r *Row, now time.Time) bool {
	if !f.Scope && f.beforeCut(r) && f.cutting(r, now) {
		f.reconsider(r, now)
		return false
	}
	return true
}

// reconsider decides anew, unless the row leaves the page.
func (f *Facts) reconsider(r *Row, now time.Time) {
	if r.Next.Gate != GatePull && !f.Scope {
		f.decide(r, now)
	}
}

// decide sets what the row needs next. It follows from how the row stands: deciding
// twice is deciding once.
func (f *Facts) decide(r *Row, now time.Time) {
	n := f.next(r, now)
	if n.Gate != GatePull {
		n = f.repeated(r, n, now)
		if r.Held && !n.Over() && r.End == "" {
			n = Next{Verb: n.Verb, Mode: n.Mode, Vantage: n.Vantage, Gate: GateHeld, Why: WhyHeld}
		}
	}
	r.Next = n
}

// repeated puts in what is known of earlier attempts at the same call: that it was tried,
// from when on it may be again, what a person must mend before.
func (f *Facts) repeated(r *Row, n Next, now time.Time) Next {
	doing := string(n.Verb)
	if n.Mode == ModeNew || n.Mode == ModeCutover {
		doing += " " + n.Mode
	}
	if doing != r.Doing {
		r.fresh()
		r.Doing = doing
	}
	switch {
	case n.Verb == "":
		return n
	case n.Verb == activities.EndSessions && r.Tries == 0:
		r.Border = at(now)
	case n.Verb == activities.Revoke && r.Tries > 0:
		n.Gate, n.Why = "", "" // the votes were there when it was called before
	}
	if r.Stuck != "" {
		n.Gate, n.Why, n.Due = GateHuman, r.Stuck, At{}
	} else if r.After.After(n.Due.Time) && r.After.After(now) {
		n.Due = r.After
		if r.AfterWhy != "" {
			n.Why = r.AfterWhy
		}
	}
	if f.beforeCut(r) && !f.Cutoff.IsZero() {
		switch {
		case n.Gate == GateHuman:
			n.Due = second(f.Cutoff)
		case !n.Due.Before(f.Cutoff):
			return Next{Due: second(f.Cutoff), Why: n.Why} // it will not be called any more
		}
	}
	return n
}

func (f *Facts) next(r *Row, now time.Time) Next {
	if r.End != "" {
		return f.after(r)
	}
	if r.Promoted && r.Strategy != string(playbooks.RevokeNow) {
		// Abuse: cut first and replace afterwards. What is done already is not done again,
		// but for sessions: whoever abuses a key that was cut may have got one since.
		r.Strategy, r.StepN, r.EndedSessions = string(playbooks.RevokeNow), 0, false
	}
	steps := f.steps(r)
	for ; r.StepN < len(steps); r.StepN++ {
		r.Step = string(steps[r.StepN])
		if f.beforeCut(r) && f.cutting(r, now) {
			r.cut()
			continue // what is not done by now does not keep the old key alive
		}
		if n, todo := f.step(r, steps[r.StepN], now); todo {
			return n
		}
	}
	r.Step = string(playbooks.StepProbe)
	return f.finish(r, now)
}

// beforeCut tells whether the row is at a step that the cut-off bounds (contracts
// section 6).
func (f *Facts) beforeCut(r *Row) bool {
	if r.Strategy != string(playbooks.ReissueFirst) || r.Disabled || r.Revoked || r.End != "" {
		return false
	}
	switch Step(r.Step) {
	case playbooks.StepIssue, playbooks.StepDistribute, playbooks.StepProbeNew, playbooks.StepNotice, playbooks.StepWaitCutover:
		return true
	}
	return false
}

// cutting tells whether nothing is waited for any more: the cut-off was reached, or is
// now because a person says so.
func (f *Facts) cutting(r *Row, now time.Time) bool {
	return r.CutNow || !f.Cutoff.IsZero() && !now.Before(f.Cutoff)
}

func (r *Row) cut() {
	switch {
	case r.Cut != "":
	case r.CutNow:
		r.Cut = "cut-off override"
	default:
		r.Cut = "cut-off reached"
	}
}

// pull hands the row to the incident, which moves it by itself.
func pull(why string) (Next, bool) { return Next{Gate: GatePull, Why: why}, true }

// step gives the call of a step, and false when it is done.
func (f *Facts) step(r *Row, s Step, now time.Time) (Next, bool) {
	k := f.kind(r)
	switch s {
	case playbooks.StepDisable:
		switch {
		case r.Disabled || r.Revoked:
			return Next{}, false
		case k.has(activities.Disable):
			return Next{Verb: activities.Disable}, true
		case slices.Contains(k.Human, activities.Disable) || !k.has(activities.Revoke):
			return pull("Disable by hand: " + r.Provider + " has no API for it")
		}
		return revoke()
	case playbooks.StepEndSessions:
		switch {
		case r.EndedSessions:
			return Next{}, false
		case k.has(activities.EndSessions):
			return Next{Verb: activities.EndSessions}, true
		}
		return pull("sessions outlive the key and " + r.Provider + " cannot end them")
	case playbooks.StepProbe:
		return f.probe(r, now)
	case playbooks.StepIssue:
		switch {
		case r.NewKey != "" || r.ByHand || r.settled():
			return Next{}, false
		case r.Slot && !r.Revoked:
			return revoke()
		case k.has(activities.Issue):
			return Next{Verb: activities.Issue}, true
		}
		return pull("make the replacement by hand: " + r.Provider + " has no API for it")
	case playbooks.StepDistribute:
		switch {
		case r.NewKey == "" || !r.Placed.IsZero():
			return Next{}, false
		case r.Handle == "":
			return pull("the sealed secret of the replacement was destroyed before it could be handed over")
		case len(r.Stores) == 0 || !k.has(activities.Distribute):
			return pull("hand the replacement over: no store is named for it")
		}
		return Next{Verb: activities.Distribute}, true
	case playbooks.StepProbeNew:
		if r.NewSeen || r.NewKey == "" || r.Handle == "" || !k.has(activities.Probe) {
			return Next{}, false
		}
		if r.Since.IsZero() {
			r.Since = at(now)
		}
		return Next{Verb: activities.Probe, Mode: ModeNew, Vantage: f.places(r, activities.ProbeAuth)[0]}, true
	case playbooks.StepNotice:
		switch {
		case !f.Gated, r.Told, r.Strategy == string(playbooks.RevokeNow), r.Owner == "" && len(r.Customers) == 0:
			return Next{}, false
		case f.cutting(r, now):
			r.cut()
			return Next{}, false
		}
		return Next{Gate: GateNotice, Due: second(f.Cutoff), Why: WhyNotice}, true
	case playbooks.StepWaitCutover:
		return f.cutover(r, now)
	case playbooks.StepWaitQuiet:
		if r.Quiet.IsZero() {
			r.Quiet = second(now.Add(f.Quiet))
		}
		if !now.Before(r.Quiet.Time) {
			return Next{}, false
		}
		return Next{Due: r.Quiet, Why: WhyQuiet}, true
	case playbooks.StepRevoke:
		if r.Revoked || !k.has(activities.Revoke) {
			return Next{}, false
		}
		return revoke()
	}
	return pull(fmt.Sprintf("step %s is not done by the page", s))
}

func revoke() (Next, bool) {
	return Next{Verb: activities.Revoke, Gate: GateVotes, Why: WhyVotes}, true
}

// finish proves the end once more after the last kill, and ends the row.
func (f *Facts) finish(r *Row, now time.Time) Next {
	if n, todo := f.probe(r, now); todo {
		return n
	}
	switch {
	case r.Death != dead:
		return Next{Gate: GateHuman, Why: WhyProof}
	case !r.Confirmed && !f.Trust:
		return f.spread(r, f.ask(r), now)
	case r.Revoked:
		if r.Rung == "" {
			r.Rung = string(playbooks.RungKey)
		}
		r.end(endRevoked, now)
		return f.after(r)
	case f.kind(r).has(activities.Revoke):
		n, _ := revoke()
		return n
	}
	n, _ := pull("proven dead but not destroyed: " + r.Provider + " has no API for it")
	return n
}

// settled tells whether nobody waits for a replacement any more.
func (r *Row) settled() bool {
	return r.Adoption == notWanted || r.Adoption == adopted || r.Adoption == waived
}

// after is what is left once the old key is at its end: the replacement's adoption. It
// is waited for after a proven end only.
func (f *Facts) after(r *Row) Next {
	switch {
	case r.End != endRevoked:
		return Next{}
	case r.Effect != "":
		n, _ := pull("a call to Issue had no answer before the old key was cut: settle what it made")
		return n
	case f.over(r):
		return Next{}
	case r.NewKey == "" || !f.kind(r).has(activities.Inspect):
		return Next{Gate: GateHuman, Why: WhyAdopt}
	}
	return Next{Verb: activities.Inspect, Mode: ModeCutover, Why: WhyAdopt}
}

// cutover waits until every dependent is seen on the new key, or for the cut-off.
func (f *Facts) cutover(r *Row, now time.Time) (Next, bool) {
	switch {
	case f.over(r):
		return Next{}, false
	case f.cutting(r, now):
		r.cut()
		return Next{}, false
	case r.NewKey != "" && f.kind(r).has(activities.Inspect):
		return Next{Verb: activities.Inspect, Mode: ModeCutover, Why: WhyCutover}, true
	case f.Cutoff.IsZero():
		return Next{Gate: GateHuman, Why: WhyAdopt}, true
	}
	return Next{Due: second(f.Cutoff), Why: WhyCutover}, true
}

// over tells whether all dependents have moved, as far as that needs no look.
func (f *Facts) over(r *Row) bool {
	if !r.settled() && (r.Attested || r.NewKey != "" && len(r.Dependents) == 0) {
		r.Adoption = adopted
	}
	return r.settled()
}

// second rounds up to a second, so that rows of a page meet in one group again.
func second(t time.Time) At {
	if t.IsZero() {
		return At{}
	}
	r := t.UTC().Truncate(time.Second)
	if r.Before(t) {
		r = r.Add(time.Second)
	}
	return At{r}
}
