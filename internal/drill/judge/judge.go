// Package judge says how a drill went: it holds the drill's own expectations and
// the invariants G1 to G10 (domain.md section 3) against three witnesses that do
// not depend on each other: what rekey shows, what its sealed record says, and what
// the lab itself saw. Where they differ, the lab is right.
//
// # Extending it
//
// An invariant is one function from a [bench] to a [ruling] in the list in
// invariants; it counts what it looked at, so that "held" always means that
// something was there to be held. New evidence is a field of [Input].
package judge

import (
	"fmt"
	"slices"
	"strings"

	"rekey/internal/cli"
	"rekey/internal/event"
	"rekey/internal/lab/control"
	"rekey/internal/lab/scenario"
	"rekey/internal/view"
)

// Input is everything a drill is judged by.
type Input struct {
	Drill *scenario.Drill
	// Control is the name of the negative control that was played; empty: none.
	Control string
	// Final is `incident show` of the first incident. Its items must be complete:
	// where the view cuts them, the caller adds the pages.
	Final view.Incident
	// Others are further incidents of the drill, complete in the same way.
	Others []view.Incident
	// Events are the events of the last bundle of each incident, the watch's too.
	Events []event.Event
	// Oracle is the lab's own account of the world.
	Oracle control.Oracle
	// Bundle is the last bundle of the first incident; nil: none was sealed.
	Bundle []byte
	// Data is the engine's data directory. It is searched for secrets, except for
	// the directory lab/, which belongs to the lab.
	Data string
	// Logs are files that rekey wrote what it says to.
	Logs []string
	// Secrets are the secret bytes of every credential in the world, at least 8
	// bytes each: those of the scenario, and those that were issued in its course.
	Secrets [][]byte
	// Customers are those whose keys the drill has; G7 has no subject without them.
	Customers []Customer
}

// Customer is one of those who must be told, with the ids of its keys: the
// provider's or the scenario's.
type Customer struct {
	Ref  string
	Keys []string
}

// Results of a drill (contracts section 4).
const (
	Passed = "passed"
	Failed = "failed"
)

// States of an invariant (contracts section 4).
const (
	Held          = "held"
	Violated      = "violated"
	NotApplicable = "not-applicable"
)

// Verdict is the judged part of [cli.DrillResult].
type Verdict struct {
	// Result is passed when every expectation held and no invariant was violated.
	Result       string
	Expectations []cli.Expectation
	// Invariants are G1 to G10 in order.
	Invariants []cli.Invariant
	Effects    cli.Effects
	// Control is nil when none was played.
	Control *cli.DrillControl
}

// Judge judges a drill that has ended. It reads the files that Input names and
// changes nothing; judged twice, the same input gives the same verdict.
func Judge(in Input) Verdict {
	b := newBench(in)
	v := Verdict{Result: Passed, Expectations: []cli.Expectation{}, Invariants: []cli.Invariant{}}

	expectations := b.expect()
	for _, e := range expectations {
		v.Expectations = append(v.Expectations, e.Expectation)
		if !e.Held {
			v.Result = Failed
		}
	}
	for _, i := range invariants() {
		r := i.judge(b)
		v.Invariants = append(v.Invariants, r.as(i.id))
		if len(r.faults) > 0 {
			v.Result = Failed
		}
	}
	v.Effects = b.effects
	if in.Control != "" {
		v.Control = b.control(v.Invariants, expectations)
	}
	return v
}

type invariant struct {
	id    string
	judge func(*bench) ruling
}

// invariants lists G1 to G10 in the order of [scenario.Invariants].
func invariants() []invariant {
	return []invariant{
		{"G1", (*bench).attackerSuccess},
		{"G2", (*bench).reissuedInScope},
		{"G3", (*bench).dirtyZone},
		{"G4", (*bench).secretBytes},
		{"G5", (*bench).endStates},
		{"G6", (*bench).sideEffects},
		{"G7", (*bench).warnedBeforeCut},
		{"G8", (*bench).bundleVerifies},
		{"G9", (*bench).obligations},
		{"G10", (*bench).approvedBefore},
	}
}

// control says whether the switched-off rule was noticed, by exactly what the drill
// names. Of the expectations only those that it names count: a world without one of
// rekey's rules may well disappoint others. An expectation that could not be
// evaluated proves nothing about the rule.
func (b *bench) control(invariants []cli.Invariant, expectations []expectation) *cli.DrillControl {
	must := slices.Clone(b.in.Drill.Controls[b.in.Control].MustViolate)
	c := &cli.DrillControl{Name: b.in.Control, MustViolate: append([]string{}, must...), Violated: []string{}}
	for _, i := range invariants {
		if i.State == Violated {
			c.Violated = append(c.Violated, i.ID)
		}
	}
	for _, e := range expectations {
		if !e.Held && !e.broken && slices.Contains(must, e.ID) {
			c.Violated = append(c.Violated, e.ID)
		}
	}
	slices.Sort(must)
	violated := slices.Sorted(slices.Values(c.Violated))
	c.Caught = len(must) > 0 && slices.Equal(slices.Compact(must), violated)
	return c
}

// ruling is what came out of one invariant.
type ruling struct {
	checked int64
	faults  []string
	// absent says why there was nothing to look at.
	absent string
	// note says what a held invariant does not cover.
	note string
}

func (r *ruling) fault(format string, args ...any) {
	r.faults = append(r.faults, fmt.Sprintf(format, args...))
}

// shownFaults bounds the detail of an invariant.
const shownFaults = 5

func (r ruling) as(id string) cli.Invariant {
	out := cli.Invariant{ID: id, Checked: r.checked}
	switch {
	case len(r.faults) > 0:
		out.State = Violated
		out.Detail = strings.Join(r.faults[:min(len(r.faults), shownFaults)], "; ")
		if more := len(r.faults) - shownFaults; more > 0 {
			out.Detail += fmt.Sprintf("; and %d more", more)
		}
	case r.checked == 0:
		out.State, out.Detail = NotApplicable, r.absent
	default:
		out.State, out.Detail = Held, r.note
	}
	return out
}
