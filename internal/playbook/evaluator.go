package playbook

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"

	"rekey/playbooks"
)

// An Evaluator holds the compiled conditions of one playbook. It is safe for
// concurrent use. It is for activities: conditions are never evaluated in workflow
// code.
//
// A condition whose truth depends on a fact that is not known is false (design
// section 7). `a || b` is true as soon as one side is known to be true, `a && b`
// false as soon as one is known to be false; the negation of an unknown is unknown,
// so no rule becomes true because something could not be read.
type Evaluator struct {
	pb       *playbooks.Playbook
	match    *condition
	severity []*condition
	contain  *condition
	decide   []*condition
}

// A condition is a compiled `when`.
type condition struct {
	prog  cel.Program
	reads []string
}

// A ReadFact is a fact that a rule names, with the value it had.
type ReadFact struct {
	Name string `json:"name"`
	// Value is written as a rule would: text in quotes, "unknown" when not known.
	Value string `json:"value"`
	Known bool   `json:"known"`
}

// A SkippedRule came before the chosen one and could not be told true or false.
type SkippedRule struct {
	RuleID string `json:"rule"`
	Why    string `json:"why"`
}

// A Decision is pinned in the plan: the rule, its strategy, the facts the rule
// names, and the rules that were passed over because something is unknown.
type Decision struct {
	RuleID   string                 `json:"rule"`
	Strategy playbooks.StrategyName `json:"strategy"`
	Read     []ReadFact             `json:"read,omitempty"`
	Skipped  []SkippedRule          `json:"skipped,omitempty"`
}

// A Verdict says whether the playbook allows containment on report. It is one
// condition among those of design section 3.
type Verdict struct {
	Allowed bool       `json:"allowed"`
	Why     string     `json:"why"`
	Read    []ReadFact `json:"read,omitempty"`
}

// NewEvaluator compiles the conditions of a playbook. A playbook that [Parse]
// accepted compiles; an error means that it came from another build.
func NewEvaluator(pb *playbooks.Playbook) (*Evaluator, error) {
	env, err := newEnv()
	if err != nil {
		return nil, err
	}
	e := &Evaluator{pb: pb}
	build := func(path, when string) *condition {
		if err != nil {
			return nil
		}
		var c *condition
		if c, err = newCondition(env, when); err != nil {
			err = fmt.Errorf("playbook %s: %s: %w", pb.Name, path, err)
		}
		return c
	}
	if pb.Match.When != "" {
		e.match = build("match", pb.Match.When)
	}
	for i, s := range pb.Severity {
		e.severity = append(e.severity, build(fmt.Sprintf("severity[%d]", i), s.When))
	}
	if pb.ContainOnReport != nil {
		e.contain = build("contain_on_report", pb.ContainOnReport.When)
	}
	for i, r := range pb.Decide {
		e.decide = append(e.decide, build(fmt.Sprintf("decide[%d]", i), r.When))
	}
	if err != nil {
		return nil, err
	}
	return e, nil
}

func newCondition(env *cel.Env, when string) (*condition, error) {
	checked, reads, faults := compile(env, when)
	if len(faults) > 0 {
		return nil, errors.New(faults[0].msg)
	}
	prog, err := env.Program(checked, cel.EvalOptions(cel.OptOptimize, cel.OptPartialEval), cel.CostLimit(CostLimit))
	if err != nil {
		return nil, fmt.Errorf("cannot be prepared: %w", err)
	}
	c := &condition{prog: prog}
	for _, r := range reads {
		c.reads = append(c.reads, r.name)
	}
	return c, nil
}

// Playbook is the playbook that was compiled.
func (e *Evaluator) Playbook() *playbooks.Playbook { return e.pb }

// Match tells whether the playbook takes the report: its provider and kind, and
// match.when. An error means that match.when failed while it was evaluated; the
// report then waits for a person.
func (e *Evaluator) Match(facts playbooks.Facts) (bool, error) {
	provider, kind := facts.Get("report.provider"), facts.Get("report.kind")
	if provider.Type() != playbooks.TypeString || kind.Type() != playbooks.TypeString {
		return false, nil
	}
	if *provider.Str != e.pb.Match.Provider || !slices.Contains(e.pb.Match.Kinds, *kind.Str) {
		return false, nil
	}
	if e.match == nil {
		return true, nil
	}
	w := newWorld(facts)
	is, why := e.match.eval(w)
	if is == failed {
		return false, fmt.Errorf("playbook %s: match: %s", e.pb.Name, why)
	}
	return is == holds, nil
}

// Select gives the first playbook whose match is true, or nil: the report then
// waits for a person. The error names the playbooks whose match failed; it never
// hides a playbook behind them.
func Select(evaluators []*Evaluator, facts playbooks.Facts) (*Evaluator, error) {
	var errs []error
	for _, e := range evaluators {
		ok, err := e.Match(facts)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if ok {
			return e, errors.Join(errs...)
		}
	}
	return nil, errors.Join(errs...)
}

// Reads lists the facts that severities and decisions name, sorted: items that have the
// same values of these are judged alike.
func (e *Evaluator) Reads() []string {
	var out []string
	for _, c := range slices.Concat(e.severity, e.decide) {
		out = append(out, c.reads...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Judge is [Evaluator.Severity] and [Evaluator.Decide] of one item.
func (e *Evaluator) Judge(facts playbooks.Facts) (playbooks.Level, Decision) {
	w := newWorld(facts)
	level, _ := e.severityIn(w)
	return level, e.decideIn(facts, w)
}

// Severity gives the first severity whose condition is true and its index.
func (e *Evaluator) Severity(facts playbooks.Facts) (level playbooks.Level, index int) {
	return e.severityIn(newWorld(facts))
}

func (e *Evaluator) severityIn(w world) (level playbooks.Level, index int) {
	for i, c := range e.severity {
		if is, _ := c.eval(w); is == holds {
			return e.pb.Severity[i].Level, i
		}
	}
	// Not reached with a validated playbook, whose last severity is true; a playbook
	// made by hand gets the worst, not none.
	return playbooks.Critical, -1
}

// Contain says whether the playbook allows containment on report.
func (e *Evaluator) Contain(facts playbooks.Facts) Verdict {
	if e.contain == nil {
		return Verdict{Why: "the playbook has no contain_on_report"}
	}
	w := newWorld(facts)
	is, why := e.contain.eval(w)
	return Verdict{Allowed: is == holds, Why: why, Read: e.contain.read(facts, w)}
}

// Decide gives the strategy of an item: that of the first rule that is true.
func (e *Evaluator) Decide(facts playbooks.Facts) Decision {
	return e.decideIn(facts, newWorld(facts))
}

func (e *Evaluator) decideIn(facts playbooks.Facts, w world) Decision {
	var d Decision
	for i, c := range e.decide {
		is, why := c.eval(w)
		switch is {
		case holds:
			d.RuleID, d.Strategy = e.pb.Decide[i].ID, e.pb.Decide[i].Strategy
			d.Read = c.read(facts, w)
			return d
		case unknown, failed:
			d.Skipped = append(d.Skipped, SkippedRule{RuleID: e.pb.Decide[i].ID, Why: why})
		}
	}
	// Not reached with a validated playbook. A hold moves nothing and shows up.
	d.RuleID, d.Strategy = "none", playbooks.Hold
	return d
}

// truth is what is known of a condition.
type truth int

const (
	fails truth = iota
	holds
	unknown
	failed
)

// A world is the facts in CEL's form.
type world struct {
	vars    cel.PartialActivation
	unknown map[string]bool
}

func newWorld(facts playbooks.Facts) world {
	vars := map[string]any{}
	var patterns []*cel.AttributePatternType
	missing := map[string]bool{}
	for _, info := range playbooks.FactTable() {
		f := facts.Get(info.Name)
		// A fact of another type than the table's was made by a bug elsewhere: it tells
		// nothing.
		if f.Type() != info.Type {
			patterns = append(patterns, cel.AttributePattern(info.Name))
			missing[info.Name] = true
			continue
		}
		switch info.Type {
		case playbooks.TypeInt:
			vars[info.Name] = *f.Int
		case playbooks.TypeBool:
			vars[info.Name] = *f.Bool
		default:
			vars[info.Name] = *f.Str
		}
	}
	// The error is for values that are neither a map nor an activation.
	act, err := cel.PartialVars(vars, patterns...)
	if err != nil {
		panic("playbook: facts are a map: " + err.Error())
	}
	return world{vars: act, unknown: missing}
}

func (c *condition) eval(w world) (is truth, why string) {
	out, _, err := c.prog.Eval(w.vars)
	switch {
	case err != nil:
		return failed, "could not be evaluated: " + err.Error()
	case types.IsUnknown(out):
		var names []string
		for _, n := range c.reads {
			if w.unknown[n] {
				names = append(names, n)
			}
		}
		return unknown, "unknown: " + strings.Join(names, ", ")
	case out == types.True:
		return holds, "true"
	}
	return fails, "false"
}

func (c *condition) read(facts playbooks.Facts, w world) []ReadFact {
	var out []ReadFact
	for _, n := range c.reads {
		f := facts.Get(n)
		if w.unknown[n] {
			f = playbooks.UnknownFact()
		}
		out = append(out, ReadFact{Name: n, Value: f.String(), Known: f.Known})
	}
	return out
}
