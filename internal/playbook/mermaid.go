package playbook

import (
	"fmt"
	"strings"

	"rekey/playbooks"
)

// Mermaid draws a playbook as a flowchart (https://mermaid.js.org/syntax/flowchart.html):
// the phases, the rules in their order, the steps of each strategy with the gates
// before them, and the ladder. The same playbook gives the same text.
func Mermaid(pb *playbooks.Playbook) string {
	d := &drawing{}
	d.line("---")
	d.line("title: %s %s", pb.Name, pb.Version)
	d.line("---")
	d.line("flowchart TD")
	d.in(func() {
		d.intake(pb)
		d.rules(pb)
		for _, n := range usedStrategies(pb) {
			d.strategy(pb, n)
		}
		d.rungs(pb)
		d.end(pb)
	})
	return d.b.String()
}

type drawing struct {
	b     strings.Builder
	depth int
}

func (d *drawing) line(format string, args ...any) {
	d.b.WriteString(strings.Repeat("  ", d.depth))
	fmt.Fprintf(&d.b, format, args...)
	d.b.WriteByte('\n')
}

func (d *drawing) in(f func()) {
	d.depth++
	f()
	d.depth--
}

// label quotes text for a node; Mermaid's own signs become its entity codes.
func label(lines ...string) string {
	r := strings.NewReplacer("#", "#35;", `"`, "#quot;", "&", "#amp;", "<", "#lt;", ">", "#gt;", "`", "#96;", "\n", " ", "\r", " ")
	for i, l := range lines {
		lines[i] = r.Replace(l)
	}
	return `"` + strings.Join(lines, "<br/>") + `"`
}

func (d *drawing) intake(pb *playbooks.Playbook) {
	m := pb.Match
	d.line("report([%s])", label("report: "+m.Provider+" "+strings.Join(m.Kinds, ", ")))
	next := "preserve"
	if c := pb.ContainOnReport; c != nil {
		next = "containwhen"
	}
	if m.When == "" {
		d.line("report --> %s", next)
	} else {
		d.line("match{%s}", label(m.When))
		d.line("report --> match")
		d.line("other([%s])", label("next playbook, or a person"))
		d.line("match -- no --> other")
		d.line("match -- %s --> %s", pb.Start, next)
	}
	if c := pb.ContainOnReport; c != nil {
		d.line("containwhen{%s}", label("contain on report?", c.When))
		d.line("contain[%s]", label("Disable the reported key"))
		d.line("containwhen -- %s --> contain", label("yes, and rekey.yaml lets it"))
		d.line("containwhen -- no --> preserve")
		d.line("contain --> preserve")
	}
	d.line("preserve[%s]", label("preserve evidence"))
	d.line("scope[%s]", label("scope", fmt.Sprintf("%s, depth %d, %s back", strings.Join(texts(pb.Scope.Sources), " + "), pb.Scope.Depth, pb.Scope.Lookback)))
	d.line("preserve --> scope")
	d.line("scope -- each item --> r0")
}

func (d *drawing) rules(pb *playbooks.Playbook) {
	d.line("subgraph plan [%s]", label("plan: first rule that is true"))
	d.in(func() {
		for i, r := range pb.Decide {
			if strings.TrimSpace(r.When) == "true" {
				d.line("r%d[%s]", i, label(r.ID))
				continue
			}
			d.line("r%d{%s}", i, label(r.ID, r.When))
		}
		for i := range len(pb.Decide) - 1 {
			d.line("r%d -- no --> r%d", i, i+1)
		}
	})
	d.line("end")
	first := map[playbooks.StrategyName]string{}
	for _, n := range usedStrategies(pb) {
		first[n] = entry(pb, n)
	}
	for i, r := range pb.Decide {
		d.line("r%d --> %s", i, first[r.Strategy])
	}
}

func usedStrategies(pb *playbooks.Playbook) []playbooks.StrategyName {
	c := &checker{pb: pb}
	return c.used()
}

func id(n playbooks.StrategyName) string { return strings.ReplaceAll(string(n), "-", "_") }

// entry is the node at which a strategy begins.
func entry(pb *playbooks.Playbook, n playbooks.StrategyName) string {
	if len(pb.Strategy(n).Steps) == 0 {
		return id(n)
	}
	return id(n) + "_gate"
}

// gate writes who must agree.
func gate(a playbooks.Approval) string {
	if a.Policy {
		return "by policy: the rule approves"
	}
	return fmt.Sprintf("%d of %s, %s, then %s", a.Quorum, strings.Join(texts(a.Roles), ", "), a.Expires, strings.Join(texts(a.EscalateTo), ", "))
}

func (d *drawing) strategy(pb *playbooks.Playbook, n playbooks.StrategyName) {
	s := pb.Strategy(n)
	if len(s.Steps) == 0 {
		d.line("%s[%s]", id(n), label(string(n)+": nothing moves"))
		d.line("%s --> close", id(n))
		return
	}
	d.line("subgraph %s [%s]", id(n), label(string(n)))
	prev := entry(pb, n)
	d.in(func() {
		d.line("direction LR")
		d.line("%s{{%s}}", prev, label(gate(pb.ApprovalFor(n))))
		for i, step := range s.Steps {
			if step == playbooks.StepRevoke {
				g := fmt.Sprintf("%s_irreversible%d", id(n), i)
				d.line("%s{{%s}}", g, label(gate(pb.Approvals[playbooks.ApproveIrreversible])))
				d.line("%s --> %s", prev, g)
				prev = g
			}
			text := []string{string(step)}
			switch step {
			case playbooks.StepWaitCutover:
				text = append(text, "at most "+s.Cutoff.String())
			case playbooks.StepWaitQuiet:
				text = append(text, s.Quiet.String())
			case playbooks.StepProbe:
				text = append(text, fmt.Sprintf("%d refusals over %s", pb.Verify.K, pb.Verify.Span))
			}
			at := fmt.Sprintf("%s_%d", id(n), i)
			d.line("%s[%s]", at, label(text...))
			d.line("%s --> %s", prev, at)
			prev = at
		}
	})
	d.line("end")
	for i, step := range s.Steps {
		if step == playbooks.StepProbe && len(pb.Ladder.Automatic)+len(pb.Ladder.Approved) > 0 {
			d.line("%s_%d -. still alive .-> rung0", id(n), i)
		}
	}
	if n.Moves() {
		d.line("%s --> verify", prev)
	} else {
		d.line("%s --> close", prev)
	}
}

func (d *drawing) rungs(pb *playbooks.Playbook) {
	var listed []playbooks.Rung
	for _, r := range playbooks.Rungs() {
		if ok, _ := pb.Ladder.Allows(r); ok {
			listed = append(listed, r)
		}
	}
	if len(listed) == 0 {
		return
	}
	d.line("subgraph ladder [%s]", label("kill ladder: while the old key answers"))
	d.in(func() {
		d.line("direction BT")
		for i, r := range listed {
			who := "automatic"
			switch _, automatic := pb.Ladder.Allows(r); {
			case r == playbooks.RungKey:
				who = gate(pb.Approvals[playbooks.ApproveIrreversible])
			case !automatic:
				who = gate(pb.Approvals[playbooks.ApproveRung])
			}
			d.line("rung%d[%s]", i, label(string(r), who))
			if i > 0 {
				d.line("rung%d --> rung%d", i-1, i)
			}
		}
		d.line("person([%s])", label("a person, with the vendor ticket ready"))
		d.line("rung%d --> person", len(listed)-1)
	})
	d.line("end")
}

func (d *drawing) end(pb *playbooks.Playbook) {
	verify := fmt.Sprintf("%d refusals over %s from %d places", pb.Verify.K, pb.Verify.Span, pb.Verify.Vantage)
	if pb.Verify.Sweep {
		verify += ", swept until stable"
	}
	d.line("verify[%s]", label("verify", verify))
	d.line("harden[%s]", label("harden, or declined by the owner"))
	d.line("close[%s]", label("close on a zero balance"))
	d.line("seal[%s]", label("seal the bundle"))
	d.line("watch([%s])", label("watch for "+pb.Watch.For.String()))
	d.line("verify --> harden --> close --> seal --> watch")
}
