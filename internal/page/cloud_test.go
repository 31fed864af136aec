package page_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"rekey/activities"
	"rekey/internal/page"
)

// A subject is one key at its provider, the row that stands for it, and what becomes of
// both. It has its own luck, so that the same happens to it whatever page it is in.
type subject struct {
	rng *rand.Rand
	row page.Row
	// back is when its last call came back.
	back time.Time

	prop     time.Duration
	killed   time.Time // the last kill that took hold
	dead     bool
	gone     bool
	revived  time.Time // somebody enables the disabled key again, once
	survives []activities.Verb
	foreign  bool // a key of others holds the second slot of its principal
	made     []*made
	stores   map[string]string // what each store has
	moves    []time.Duration   // when dependents use the replacement, after it was placed; never: < 0
	badNew   bool              // the replacement never works

	brisk  bool // answers take no time, and new keys work at once
	faults int  // how many calls may still go wrong
	wrong  float64
	always map[activities.Verb]activities.Class // what goes wrong for ever
	script map[activities.Verb][]fault          // what the next calls do
	denied map[activities.Verb]bool             // until a person grants the right
	blind  map[string]bool                      // vantage points that see nothing, until a person mends it
	// journals are what the runner wrote, by their names.
	journals map[string][]record

	orders []order
	passes int
	calls  []call
}

// A fault is one call that goes wrong; applied: it took effect all the same.
type fault struct {
	class   activities.Class
	applied bool
	probe   *activities.ProbeResult
}

// made is a key that Issue has made.
type made struct {
	id, token string
	at        time.Time
	alive     bool
}

type record struct {
	intent bool
	token  string
	answer *activities.Attempt
	over   bool // settled
}

// call is one call with its answer, as the provider saw it.
type call struct {
	verb    activities.Verb
	mode    string
	vantage string
	at      time.Time
	answer  activities.Attempt
	req     activities.Request
	lost    bool // the worker died: the page never learned of it
	row     page.Row
}

func (s *subject) chance(p float64) bool { return s.rng.Float64() < p }

func (s *subject) span(most time.Duration) time.Duration {
	return time.Duration(s.rng.Int64N(int64(most) + 1)).Truncate(time.Millisecond)
}

// lives tells whether the old key is let in. Inside the propagation nobody knows.
func (s *subject) lives(now time.Time) bool {
	if !s.revived.IsZero() && !now.Before(s.revived) {
		s.revived = time.Time{}
		if s.dead && !s.gone {
			s.dead = false
		}
	}
	if s.dead && now.Sub(s.killed) < s.prop {
		return s.chance(0.5)
	}
	return !s.dead
}

func (s *subject) kill(v activities.Verb, now time.Time) {
	s.lives(now)
	if v == activities.Revoke {
		s.gone = true
	}
	if !slices.Contains(s.survives, v) && !s.dead {
		s.dead, s.killed = true, now
	}
}

// pass is what a worker does with the row in one pass: it gives the answer, of the second
// attempt where it died under the first one.
func (s *subject) pass(f *page.Facts, id string, now time.Time) activities.Attempt {
	journal := s.row.Journal(id)
	req := f.Request(&s.row, now)
	v := s.row.Next.Verb
	if s.chance(s.wrong / 2) {
		a := s.one(v, req, journal, now, true)
		now = a.At.Add(s.span(5 * time.Second))
		req = f.Request(&s.row, now)
	}
	return s.one(v, req, journal, now, false)
}

// one is one attempt at a call under its journal. lost: the answer is written down, or
// not even that, and nobody gets it.
func (s *subject) one(v activities.Verb, req activities.Request, journal string, now time.Time, lost bool) activities.Attempt {
	at := now
	if !s.brisk {
		at = now.Add(s.span(900 * time.Millisecond))
		if s.chance(0.1) {
			at = at.Add(s.span(50 * time.Second)) // a pass over many rows takes its time
		}
	}
	name := journal + " " + s.row.FP
	if v.Mutates() {
		for _, r := range s.journals[name] {
			if r.answer != nil && !r.answer.Failed() && (r.answer.Outcome.Reached() || r.answer.Outcome == activities.DoneAsync) {
				a := *r.answer
				a.Recovered = true
				return a
			}
		}
	}
	a := activities.Attempt{FP: req.Key.FP, Verb: v, N: req.Attempt, At: at, Outcome: activities.Done}
	if v == activities.Issue && s.settleIssue(name, &a) {
		s.seen(call{verb: v, at: now, answer: a, req: req, lost: lost, row: s.row})
		return a
	}
	s.journals[name] = append(s.journals[name], record{intent: true, token: req.Token})
	s.answer(v, req, &a)
	if v.Mutates() && !(lost && s.chance(0.5)) {
		kept := a
		s.journals[name] = append(s.journals[name], record{token: req.Token, answer: &kept})
	}
	s.seen(call{verb: v, mode: s.row.Next.Mode, vantage: req.Vantage, at: now, answer: a, req: req, lost: lost, row: s.row})
	return a
}

func (s *subject) seen(c call) { s.calls = append(s.calls, c) }

// settleIssue is the runner's reconciliation: what a create without an outcome may have
// made, as far as this journal knows of it, is destroyed before another one is made.
func (s *subject) settleIssue(name string, a *activities.Attempt) bool {
	recs := s.journals[name]
	lost := false
	for _, r := range recs {
		switch {
		case r.over:
			lost = false
		case r.intent:
			lost = true
		case r.answer != nil && (r.answer.Class != "" && r.answer.Class != activities.ClassUnclear || !r.answer.Failed() && r.answer.Outcome != activities.Unclear):
			lost = false
		}
	}
	if !lost {
		return false
	}
	for _, r := range recs {
		for _, m := range s.made {
			if r.token == m.token {
				m.alive = false
			}
		}
	}
	s.journals[name] = append(recs, record{over: true})
	a.Outcome, a.Detail, a.Recovered = activities.Unclear, "settled", true
	return true
}

// answer makes the call, or lets it go wrong.
func (s *subject) answer(v activities.Verb, req activities.Request, a *activities.Attempt) {
	if fs := s.script[v]; len(fs) > 0 {
		f := fs[0]
		if s.script[v] = fs[1:]; f.applied {
			s.apply(v, req, &activities.Attempt{At: a.At})
		}
		if a.Probe = f.probe; f.class != "" {
			a.Outcome, a.Class = activities.Unclear, f.class
		}
		return
	}
	if class, ok := s.always[v]; ok {
		a.Outcome, a.Class = activities.Unclear, class
		return
	}
	if s.denied[v] {
		a.Outcome, a.Class, a.Permission = activities.Denied, activities.ClassDenied, "right:"+string(v)
		return
	}
	if v == activities.Probe && (s.blind[req.Vantage] || s.blind["*"]) {
		if s.chance(0.5) {
			a.Outcome, a.Class = activities.Unclear, activities.ClassUnclear
		} else {
			a.Probe = &activities.ProbeResult{Saw: activities.ProbeUnclear}
		}
		return
	}
	if s.faults <= 0 || !s.chance(s.wrong) {
		s.apply(v, req, a)
		return
	}
	s.faults--
	switch s.rng.IntN(7) {
	case 0:
		a.Outcome, a.Class, a.AfterMs = activities.Unclear, activities.ClassThrottled, s.span(10*time.Minute).Milliseconds()
	case 1:
		a.Outcome, a.Class = activities.Unclear, activities.ClassTransient
	case 2: // nothing happened
		a.Outcome, a.Class = activities.Unclear, activities.ClassUnclear
	case 3: // it happened
		s.apply(v, req, a)
		*a = activities.Attempt{FP: a.FP, Verb: v, N: a.N, At: a.At, Outcome: activities.Unclear, Class: activities.ClassUnclear}
	case 4:
		s.denied[v] = true
		a.Outcome, a.Class = activities.Denied, activities.ClassDenied
	case 5: // it happened, and is not yet true
		s.apply(v, req, a)
		if a.Outcome == activities.Done && v != activities.Issue {
			a.Outcome = activities.DoneAsync
		}
	case 6:
		if v != activities.Probe {
			s.apply(v, req, a)
			return
		}
		// A refusal without a control, an answer that is none, or no answer at all.
		a.Probe = []*activities.ProbeResult{{Saw: activities.ProbeRefused}, {Saw: activities.ProbeUnclear, Control: true}, nil}[s.rng.IntN(3)]
	}
}

func (s *subject) apply(v activities.Verb, req activities.Request, a *activities.Attempt) {
	switch v {
	case activities.Disable, activities.Revoke:
		if s.gone {
			a.Outcome = activities.AlreadyGone
		}
		s.kill(v, a.At)
	case activities.Issue:
		if s.foreign && !s.gone {
			a.Outcome, a.Detail = activities.NeedsHuman, activities.SlotNeeded
			return
		}
		m := &made{id: fmt.Sprintf("NEW%d-%s", len(s.made), req.Key.ID), token: req.Token, at: a.At, alive: true}
		s.made = append(s.made, m)
		a.Issue = &activities.IssueResult{New: activities.KeyState{ID: m.id, Active: true}, Handle: req.Handle}
	case activities.Distribute:
		s.stores[req.Target+" "+req.Name] = req.NewKeyID
		a.Distribute = &activities.DistributeResult{Version: "v"}
	case activities.Probe:
		s.probe(req, a)
	case activities.Inspect:
		s.inspect(req, a)
	}
}

func (s *subject) probe(req activities.Request, a *activities.Attempt) {
	p := &activities.ProbeResult{Saw: activities.ProbeRefused, Control: true}
	a.Probe = p
	if req.NewKeyID != "" {
		for _, m := range s.made {
			if m.id == req.NewKeyID && m.alive && !s.badNew && (s.brisk || a.At.Sub(m.at) > s.prop) {
				p.Saw = activities.ProbeAlive
			}
		}
		return
	}
	if s.lives(a.At) {
		p.Saw = activities.ProbeAlive
		if s.chance(0.1) {
			p.Saw = activities.ProbeMismatch
		}
	}
}

func (s *subject) inspect(req activities.Request, a *activities.Attempt) {
	res := &activities.InspectResult{}
	a.Inspect = res
	for i, d := range s.moves {
		u := activities.Use{Last: req.Since.Add(d), Count: 3, Source: fmt.Sprintf("10.0.0.%d", i)}
		switch {
		case d < 0:
			u.Last, u.Refused = a.At, 3 // it tries, and is refused
			res.Uses = append(res.Uses, u)
		case !a.At.Before(u.Last):
			res.Uses = append(res.Uses, u)
		}
	}
}
