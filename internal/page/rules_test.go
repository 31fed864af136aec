package page_test

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/activities"
	"rekey/internal/page"
	"rekey/playbooks"
)

// fail names the row and all that was done to it.
func (s *story) fail(r *subject, format string, args ...any) {
	var b strings.Builder
	for _, c := range r.calls[max(0, len(r.calls)-40):] {
		fmt.Fprintf(&b, "  %s %s %s %s -> %s %s", c.at.Sub(t0), c.verb, c.mode, c.vantage, c.answer.Outcome, c.answer.Class)
		if c.answer.Probe != nil {
			fmt.Fprintf(&b, " %s control=%v", c.answer.Probe.Saw, c.answer.Probe.Control)
		}
		if c.lost {
			b.WriteString(" (lost)")
		}
		b.WriteByte('\n')
	}
	s.t.Fatalf("%s %s at %s: %s\nfacts %+v\n%s%s", r.row.FP, r.row.Kind, s.now.Sub(t0), fmt.Sprintf(format, args...), *s.f, b.String(), asJSON(s.t, r.row))
}

func (s *story) kind(r *subject) page.Kind { return s.f.Kinds["awsiam/"+r.row.Kind] }

func moved(r *page.Row) bool {
	return slices.Contains([]string{"not-wanted", "adopted", "waived"}, r.Adoption)
}

func kills(v activities.Verb) bool { return v == activities.Disable || v == activities.Revoke }

// decided checks what was decided: that it is a state which something ends, that deciding
// once more changes nothing, and that nothing is done twice.
func (s *story) decided(r *subject, decide func()) {
	was := r.row
	decide()
	n := r.row.Next
	due := n.Due.Time
	switch {
	case n.Over():
		if r.row.End == "" {
			s.fail(r, "through without an end")
		}
	case n.Verb == "" && n.Gate == "" && !due.After(s.now) && !due.After(r.back):
		s.fail(r, "waits for a time that was, and would do so again: %+v", n)
	case n.Gate != "" && n.Why == "":
		s.fail(r, "behind a gate that does not say why: %+v", n)
	case !due.Equal(due.Truncate(time.Second)):
		s.fail(r, "due between two seconds: %s", due)
	case r.row.Held && r.row.End == "" && n.Gate != page.GateHeld && n.Gate != page.GatePull:
		s.fail(r, "held, and may go: %+v", n)
	}
	if r.row.End != "" && was.End != "" && r.row.End != was.End {
		s.fail(r, "ended as %s, and now as %s", was.End, r.row.End)
	}
	if r.row.End == "revoked-verified" && was.End == "" && !s.f.Trust {
		s.proven(r)
	}
	again := clone(r.row)
	s.f.Wake(&again, s.now)
	if s.now.Before(due) && !reflect.DeepEqual(again, r.row) {
		s.fail(r, "woken before its time it changes: %s", asJSON(s.t, again))
	}
}

// obeyed checks what an order did.
func (s *story) obeyed(r *subject, was page.Row, o page.Order) {
	n := r.row.Next
	stays := func(a, b page.Row) bool {
		return a.NewKey == b.NewKey && a.Handed == b.Handed && a.Placed == b.Placed && a.Sessions == b.Sessions && a.Disabled == b.Disabled && a.Revoked == b.Revoked && a.Effect == b.Effect && a.Death == b.Death
	}
	if o.Kind == page.OrderPromote && was.End == "" && n.Gate != page.GatePull && !r.row.Held {
		if !stays(was, r.row) && !(was.Death == "dead" || was.Death == "proving" || was.Death == "disabled") {
			s.fail(r, "promotion forgets what was done: %s", asJSON(s.t, was))
		}
		first := n.Verb == activities.Disable || n.Verb == activities.Revoke && !slices.Contains(s.kind(r).API, activities.Disable)
		if !r.row.Disabled && !r.row.Revoked && (!first || n.Due.After(s.now) && !kills(was.Next.Verb)) {
			s.fail(r, "promoted, and not cut at once: %+v", n)
		}
	}
	// What a call waits for is not forgotten because somebody said something.
	same := was.Doing == r.row.Doing && was.End == r.row.End && was.Resured == r.row.Resured
	if same && o.Kind != page.OrderResolve && (was.After.After(s.now) && r.row.After != was.After || was.Stuck != "" && r.row.Stuck == "") {
		s.fail(r, "%s forgets that the call waits: %s", o.Kind, asJSON(s.t, was))
	}
}

// cutOff checks that nothing but a hold, and what has left the page, keeps an old key alive
// when its time is over.
func (s *story) cutOff(r *subject) {
	row := &r.row
	late := s.f.Strategy == playbooks.ReissueFirst && s.now.After(s.f.Cutoff.Add(2*time.Second)) && s.now.After(r.back.Add(2*time.Second))
	waits := slices.Contains([]string{"Issue", "Distribute", "ProbeNew", "Notice", "WaitCutover"}, row.Step) && row.Strategy == string(playbooks.ReissueFirst)
	if late && waits && !row.Disabled && !row.Revoked && row.End == "" && row.Next.Gate != page.GateHeld && row.Next.Gate != page.GatePull {
		s.fail(r, "the cut-off was at %s, and it waits: %+v", s.f.Cutoff.Sub(t0), row.Next)
	}
}

// legal checks a call before it is made.
func (s *story) legal(r *subject) {
	row := &r.row
	n := row.Next
	if !s.open(n) || s.now.Before(n.Due.Time) || row.Held && row.End == "" {
		s.fail(r, "called behind a closed gate, or before its time: %+v", n)
	}
	if !slices.Contains(s.kind(r).API, n.Verb) {
		s.fail(r, "%s has no API", n.Verb)
	}
	if row.End != "" && (n.Verb != activities.Inspect || row.End != "revoked-verified") {
		s.fail(r, "%s after the end", n.Verb)
	}
	if i := len(r.calls) - 1; i >= 0 {
		last := r.calls[i]
		if w := time.Duration(last.answer.AfterMs) * time.Millisecond; last.verb == n.Verb && s.now.Before(last.answer.At.Add(w)) {
			s.fail(r, "called inside a Retry-After of %s", w)
		}
		if last.verb == n.Verb && n.Verb.Mutates() && last.answer.Outcome == activities.Unclear && s.now.Sub(last.answer.At) < time.Second {
			s.fail(r, "repeated without a wait")
		}
		if s.now.Before(last.answer.At) {
			s.fail(r, "called before the last call came back")
		}
	}
	if kills(n.Verb) && !row.Disabled && row.Strategy == string(playbooks.ReissueFirst) && !moved(row) && row.Cut == "" {
		s.fail(r, "cut before its dependents moved, with no word of why")
	}
	cut := s.f.Strategy == playbooks.ReissueFirst && !s.now.Before(s.f.Cutoff)
	if cut && !row.Disabled && !row.Promoted && (n.Verb == activities.Issue || n.Verb == activities.Distribute || n.Verb == activities.Inspect) && row.End == "" {
		s.fail(r, "%s after the cut-off keeps the old key alive", n.Verb)
	}
	if n.Verb == activities.Revoke && row.Disabled && row.Death != "dead" && row.Death != "human" {
		s.fail(r, "destroyed before it was proven dead")
	}
}

// answered checks what became of a call.
func (s *story) answered(r *subject, was page.Row) {
	c := r.calls[len(r.calls)-1]
	if c.verb == activities.EndSessions && (!c.req.Before.Equal(was.Border.Time) || c.req.Before.IsZero() || c.req.Before.After(c.at)) {
		s.fail(r, "EndSessions ends what was issued before %s, at %s", c.req.Before, c.at)
	}
	quick := 0 // calls in a row without a pause
	for i := len(r.calls) - 1; i > 0 && r.calls[i].at.Sub(r.calls[i-1].answer.At) < time.Second; i-- {
		quick++
	}
	if quick > 60 {
		s.fail(r, "it goes round and round")
	}
}

// proven checks an end against what the provider knows, by a count of its own.
func (s *story) proven(r *subject) {
	k := s.kind(r)
	span := max(s.f.Span, 2*k.Propagation)
	var kill, last time.Time // the last kill of a living key, the last of all
	var rounds []time.Time   // when every vantage point had refused
	looked := false
	saw, blurred, unclear := 0, false, 0
	for _, c := range r.calls {
		if c.lost {
			continue
		}
		row := c.row
		places := 1
		if row.Secret != "" {
			places = max(1, min(len(k.Places["prod"]), max(s.f.Vantages, 1)))
		}
		switch {
		case c.verb.Mutates() && c.verb != activities.Issue && c.verb != activities.Distribute && !failed(c.answer):
			last, looked, saw, blurred, unclear = c.answer.At, false, 0, false, 0
			if row.Death != "dead" {
				kill, rounds = last, nil
			}
		case c.verb != activities.Probe || c.mode == page.ModeNew || c.answer.Class == activities.ClassThrottled:
		case c.answer.Probe != nil && (c.answer.Probe.Saw == activities.ProbeAlive || c.answer.Probe.Saw == activities.ProbeMismatch):
			rounds, looked, saw, blurred, unclear = nil, false, 0, false, 0
		default:
			if row.Round == 0 {
				saw, blurred = 0, false
			}
			saw++
			blurred = blurred || c.answer.Probe == nil || c.answer.Probe.Saw != activities.ProbeRefused || !c.answer.Probe.Control
			if saw < places {
				continue
			}
			if blurred {
				unclear++
				looked = looked || row.Death == "dead" && unclear >= 3
			} else {
				rounds, looked, unclear = append(rounds, c.answer.At), true, 0
			}
			saw, blurred = 0, false
		}
	}
	switch {
	case len(rounds) < max(s.f.K, 1):
		s.fail(r, "proven by %d refusals, %d are needed", len(rounds), s.f.K)
	case rounds[len(rounds)-1].Sub(rounds[0]) < span:
		s.fail(r, "refusals over %s, %s are needed", rounds[len(rounds)-1].Sub(rounds[0]), span)
	case rounds[0].Before(kill.Add(k.Propagation)) && k.Propagation > 0 && !kill.IsZero():
		s.fail(r, "a refusal inside the propagation counts")
	case !looked:
		s.fail(r, "nobody looked after the last kill at %s", last.Sub(t0))
	case !r.dead || !r.gone || r.row.EndAt.Before(r.killed.Add(r.prop)):
		s.fail(r, "the key is let in: dead %v, gone %v, since %s", r.dead, r.gone, r.killed.Sub(t0))
	}
}

func failed(a activities.Attempt) bool {
	return a.Failed() && a.Class != activities.ClassUnclear
}

// ended checks where a row stands when nothing moves any more.
func (s *story) ended(r *subject) {
	row := &r.row
	n := row.Next
	switch {
	case n.Over():
	case n.Gate == page.GatePull, n.Gate == page.GateHeld:
	case n.Gate == page.GateVotes && s.voted.IsZero():
	case n.Gate == page.GateHuman && n.Why == page.WhyAdopt:
	case n.Verb == activities.Inspect && row.End != "", n.Verb == activities.Inspect && s.f.Cutoff.IsZero(): // it is looked at once a day
	case r.tired() && (n.Why == page.WhyFailing || n.Verb == activities.Probe):
	default:
		s.fail(r, "it stops in the middle: %+v", n)
	}
	if row.End == "revoked-verified" {
		require.True(s.t, r.dead && r.gone && !r.lives(s.now), "%s: the key is let in afterwards", row.FP)
	}
	// Creates: one survives, every other one is proven dead.
	alive := []string{}
	for _, m := range r.made {
		if m.alive {
			alive = append(alive, m.id)
		}
	}
	settled := row.Effect == "" || n.Gate == page.GatePull || n.Gate == page.GateHeld || row.EndBy != "" || len(r.always) > 0 || s.voted.IsZero()
	if row.Effect == "" && len(alive) > 0 && !slices.Equal(alive, []string{row.NewKey}) || len(alive) > 1 || !settled {
		s.fail(r, "keys %v are alive, the row knows %q, effect %q", alive, row.NewKey, row.Effect)
	}
	if !row.Placed.IsZero() && row.Handed != len(row.Stores) {
		s.fail(r, "%d of %d stores", row.Handed, len(row.Stores))
	}
	s.tokens(r)
	if len(r.calls) > 1200 {
		s.fail(r, "%d calls", len(r.calls))
	}
}

// tokens: the same effect has the same token over all attempts, another effect another.
func (s *story) tokens(r *subject) {
	byToken, byEffect, before := map[string]string{}, map[string]string{}, map[string]time.Time{}
	for _, c := range r.calls {
		if !c.verb.Mutates() {
			continue
		}
		effect := string(c.verb)
		switch c.verb {
		case activities.Distribute:
			effect += c.req.Target + c.req.Name
		case activities.Disable:
			effect += fmt.Sprint(c.row.Resured)
		case activities.EndSessions:
			effect += fmt.Sprint(c.row.Sessions)
		}
		if byToken[c.req.Token] != "" && byToken[c.req.Token] != effect || byEffect[effect] != "" && byEffect[effect] != c.req.Token {
			s.fail(r, "token %s is of %s and of %s", c.req.Token, effect, byToken[c.req.Token])
		}
		if !strings.Contains(c.req.Token, r.row.FP) {
			s.fail(r, "another key could have the token %s", c.req.Token)
		}
		byToken[c.req.Token], byEffect[effect] = effect, c.req.Token
		if b := before[effect]; !b.IsZero() && !b.Equal(c.req.Before) {
			s.fail(r, "%s: from %s to %s between two attempts", effect, b, c.req.Before)
		}
		if before[effect] = c.req.Before; c.answer.Class == activities.ClassDenied {
			before[effect] = time.Time{} // nothing was done, and a person has had their time
		}
	}
}
