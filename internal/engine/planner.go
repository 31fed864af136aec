package engine

import (
	"strings"
	"time"

	"rekey/internal/plan"
	"rekey/internal/playbook"
	"rekey/playbooks"
	"rekey/workflows"
)

// A planner decides items by the rules of one playbook, whether they are items or rows.
type planner struct {
	pb    *playbooks.Playbook
	kinds map[string]workflows.KindFacts
	now   time.Time
	all   whole
	eval  *playbook.Evaluator
	reads []string
	// report are its facts: of an item, and of the reported one.
	report, reported map[string]playbooks.Fact
	known            map[string]judgement
	worst            int // index of the worst severity seen
}

// A judgement is what the rules say of an item. Items that have the same values of all
// facts that rules read have the same: of 100,000 rows a few dozen are evaluated.
type judgement struct {
	level    int
	rule     string
	strategy playbooks.StrategyName
	facts    map[string]string
	skipped  map[string]string
}

// mostJudgements bounds what is remembered; beyond it rows are evaluated again.
const mostJudgements = 10_000

func newPlanner(pb *playbooks.Playbook, rep workflows.Report, kinds map[string]workflows.KindFacts, now time.Time) (*planner, error) {
	eval, err := playbook.NewEvaluator(pb)
	if err != nil {
		return nil, err
	}
	reported := reportFacts(rep)
	reported.Set("report.possession", playbooks.BoolFact(rep.Possession))
	return &planner{
		pb: pb, kinds: kinds, now: now, eval: eval, reads: eval.Reads(), report: reportFacts(rep).Report, reported: reported.Report,
		known: map[string]judgement{}, worst: len(playbooks.Levels()),
	}, nil
}

// judge decides an item. declared are uses that a person called malicious.
func (p *planner) judge(s workflows.Scoped, held bool, declared int64) judgement {
	f := playbooks.Facts{Report: p.report}
	if s.Basis == "report" {
		f.Report = p.reported
	}
	itemFacts(&f, s, p.now, held)
	scopeFacts(&f, s, p.all, p.now, declared)
	var name strings.Builder
	for _, r := range p.reads {
		name.WriteString(f.Get(r).String())
		name.WriteByte(0)
	}
	j, ok := p.known[name.String()]
	if !ok {
		j = p.evaluate(f)
		if len(p.known) < mostJudgements {
			p.known[name.String()] = j
		}
	}
	p.worst = min(p.worst, j.level)
	return j
}

func (p *planner) evaluate(f playbooks.Facts) judgement {
	level, d := p.eval.Judge(f)
	j := judgement{level: levelOf(string(level)), rule: d.RuleID, strategy: d.Strategy, facts: map[string]string{}}
	for _, r := range d.Read {
		j.facts[r.Name] = r.Value
	}
	for _, sk := range d.Skipped {
		if j.skipped == nil {
			j.skipped = map[string]string{}
		}
		j.skipped[sk.RuleID] = sk.Why
	}
	return j
}

// levelOf is the place of a severity among all, the worst first; behind all when it is
// none.
func levelOf(name string) int {
	for i, l := range playbooks.Levels() {
		if string(l) == name {
			return i
		}
	}
	return len(playbooks.Levels())
}

// saw takes the severity of items that were judged elsewhere.
func (p *planner) saw(severity string) { p.worst = min(p.worst, levelOf(severity)) }

// severity is the worst of what was judged, "" before anything was.
func (p *planner) severity() string {
	if p.worst < len(playbooks.Levels()) {
		return string(playbooks.Levels()[p.worst])
	}
	return ""
}

// decision is a judgement as a plan holds it.
func (j judgement) decision(fp string) plan.Decision {
	return plan.Decision{FP: fp, Rule: j.rule, Strategy: j.strategy, Facts: j.facts, Skipped: j.skipped}
}
