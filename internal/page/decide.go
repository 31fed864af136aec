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
	unclear  = "unclear"

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
		r.Next = Next{Verb: activities.Inspect}
		if !f.kind(r).has(activities.Inspect) {
			// "uses" is the source whose absence makes every fact about use unknown.
			why := "the provider has no Inspect for " + r.Kind
			f.read(r, activities.Attempt{Detail: why, Class: activities.ClassInvalid}, now)
		}
		return
	}
	if f.Scope {
		f.inspect(r)
		return
	}
	if r.Strategy == "" || r.Death == "" {
		r.Death, r.Adoption = alive, notWanted
		if r.Adopt {
			r.Adoption = waiting
		}
	}
	r.Strategy = string(f.Strategy)
	f.decide(r, now)
}

// inspect has the row read. What the provider has no way to read is unseen: "uses" is
// the source whose absence makes every fact about use unknown.
func (f *Facts) inspect(r *Row) {
	if f.kind(r).has(activities.Inspect) {
		r.Next = Next{Verb: activities.Inspect}
		return
	}
	f.unread(r, []activities.Unseen{{Source: "uses", Why: "the provider has no Inspect for " + r.Kind}})
}

// Wake decides anew of a row whose wait is over: it waited for nothing but a time, or
// for notices that the cut-off has overtaken.
func (f *Facts) Wake(r *Row, now time.Time) {
	n := &r.Next
	if n.Due.IsZero() || now.Before(n.Due.Time) || n.Verb != "" || (n.Gate != "" && n.Gate != GateNotice) {
		return
	}
	f.decide(r, now)
}

// decide sets what the row needs next, from how it stands.
func (f *Facts) decide(r *Row, now time.Time) {
	r.Next = f.next(r, now)
	if r.Held && !r.Next.Over() && r.Next.Gate != GatePull && r.End == "" {
		r.Next = Next{Verb: r.Next.Verb, Mode: r.Next.Mode, Vantage: r.Next.Vantage, Gate: GateHeld, Why: WhyHeld}
	}
}

func (f *Facts) next(r *Row, now time.Time) Next {
	if r.End != "" {
		return f.after(r, now)
	}
	if r.turning() {
		// Abuse: cut first and replace afterwards. What is done already is not done again.
		r.Strategy, r.StepN = string(playbooks.RevokeNow), 0
	}
	steps := f.steps(r)
	for ; r.StepN < len(steps); r.StepN++ {
		s := steps[r.StepN]
		if f.beforeCut(r, s) && (r.CutNow || !f.Cutoff.IsZero() && !now.Before(f.Cutoff)) {
			r.cut()
			continue // what is not done by now does not keep the old key alive
		}
		r.Step = string(s)
		if n, todo := f.step(r, s, now); todo {
			return n
		}
	}
	r.Step = string(playbooks.StepProbe)
	return f.finish(r, now)
}

// turning tells whether abuse was seen and the row does not go the way of revoke-now.
func (r *Row) turning() bool { return r.Promoted && r.Strategy != string(playbooks.RevokeNow) }

// beforeCut tells whether a step is one that the cut-off bounds (contracts section 6).
func (f *Facts) beforeCut(r *Row, s Step) bool {
	if r.Strategy != string(playbooks.ReissueFirst) || r.Disabled || r.Revoked {
		return false
	}
	switch s {
	case playbooks.StepIssue, playbooks.StepDistribute, playbooks.StepProbeNew, playbooks.StepNotice, playbooks.StepWaitCutover:
		return true
	}
	return false
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
		return f.revoke(r)
	case playbooks.StepEndSessions:
		switch {
		case r.EndedSessions:
			return Next{}, false
		case k.has(activities.EndSessions):
			return Next{Verb: activities.EndSessions}, true
		}
		return pull("sessions outlive the key and " + r.Provider + " cannot end them")
	case playbooks.StepProbe:
		return f.probe(r)
	case playbooks.StepIssue:
		switch {
		case r.NewKey != "" || settledAdoption(r):
			return Next{}, false
		case r.Slot && !r.Revoked:
			return f.revoke(r)
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
		if !f.Gated || r.Told || r.Promoted || (r.Owner == "" && len(r.Customers) == 0) {
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
		return f.revoke(r)
	}
	return pull(fmt.Sprintf("step %s is not done by the page", s))
}

func (f *Facts) revoke(*Row) (Next, bool) {
	return Next{Verb: activities.Revoke, Gate: GateVotes, Why: WhyVotes}, true
}

// probe begins a series of probes of the old key, or goes on with it; false when it is
// proven dead.
func (f *Facts) probe(r *Row) (Next, bool) {
	if f.Trust && r.Death != dead {
		r.Death, r.Grade = dead, "A"
	}
	if r.Death == dead {
		return Next{}, false
	}
	if !f.kind(r).has(activities.Probe) {
		return pull("nothing can prove it dead: only an accepted risk ends it")
	}
	n := f.ask(r)
	if r.Death != proving {
		r.Death, r.Refusals, r.FirstRefused, r.Round, r.Clear = proving, 0, At{}, 0, At{}
		n = f.ask(r)
		if p := f.kind(r).Propagation; p > 0 {
			// What the provider says inside its propagation proves nothing.
			n.Due = second(r.Killed.Add(p))
		}
	}
	return n, true
}

// ask is the next probe of a round: each vantage point is a call of its own.
func (f *Facts) ask(r *Row) Next {
	mode := r.mode()
	places := f.places(r, mode)
	return Next{Verb: activities.Probe, Mode: mode, Vantage: places[min(r.Round, len(places)-1)]}
}

// finish proves the end once more after the last kill, and ends the row.
func (f *Facts) finish(r *Row, now time.Time) Next {
	if n, todo := f.probe(r); todo {
		return n
	}
	switch {
	case !r.Confirmed && !f.Trust:
		return f.ask(r)
	case r.Revoked:
		if r.Rung == "" {
			r.Rung = string(playbooks.RungKey)
		}
		r.end(endRevoked, now)
		return f.after(r, now)
	case f.kind(r).has(activities.Revoke):
		n, _ := f.revoke(r)
		return n
	}
	n, _ := pull("proven dead but not destroyed: " + r.Provider + " has no API for it")
	return n
}

func settledAdoption(r *Row) bool {
	return r.Adoption == notWanted || r.Adoption == adopted || r.Adoption == waived
}

// after is what is left once the old key is at its end: the replacement's adoption.
func (f *Facts) after(r *Row, now time.Time) Next {
	if settledAdoption(r) {
		return Next{}
	}
	if r.NewKey == "" || !f.kind(r).has(activities.Inspect) {
		return Next{Gate: GateHuman, Why: WhyAdopt}
	}
	n, todo := f.look(r, now)
	if !todo {
		return Next{}
	}
	n.Why = WhyAdopt
	return n
}

// cutover waits until every dependent is seen on the new key, or for the cut-off.
func (f *Facts) cutover(r *Row, now time.Time) (Next, bool) {
	if r.NewKey == "" || !f.kind(r).has(activities.Inspect) {
		if settledAdoption(r) {
			return Next{}, false
		}
		return Next{Due: second(f.Cutoff), Why: WhyCutover}, true
	}
	return f.look(r, now)
}

// looks are the waits between two looks at who uses the replacement. They grow: a wait
// of three days costs some eighty looks, not thousands; after [dailyFrom] looks it is
// one a day.
var looks = []time.Duration{time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 15 * time.Minute, 30 * time.Minute, time.Hour}

const dailyFrom = 80

// look gives the next look at who uses the replacement; false when all do.
func (f *Facts) look(r *Row, now time.Time) (Next, bool) {
	if r.Attested || len(r.Dependents) == 0 {
		r.Adoption = adopted
	}
	if settledAdoption(r) {
		return Next{}, false
	}
	n := Next{Verb: activities.Inspect, Mode: ModeCutover, Why: WhyCutover}
	if r.Looks > 0 {
		wait := looks[min(r.Looks-1, len(looks)-1)]
		if r.Looks > dailyFrom {
			wait = 24 * time.Hour
		}
		due := now.Add(wait)
		if r.End == "" && !f.Cutoff.IsZero() && due.After(f.Cutoff) {
			due = f.Cutoff
		}
		n.Due = second(due)
	}
	return n, true
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
