package cli

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"rekey/internal/view"
)

// shower writes an incident for a person who was woken by it: the verdict first,
// then what waits for whom with the command to type, then the facts.
type shower struct {
	p   palette
	now time.Time
	v   view.Incident
}

func (s shower) text() string {
	var b []string
	b = append(b, s.head()...)
	b = append(b, s.section("Waiting for", s.waiting())...)
	b = append(b, s.section(fmt.Sprintf("Items (%d)", s.v.Totals.Items), s.items())...)
	b = append(b, s.section("Plan", s.plan())...)
	b = append(b, s.section("Approvals", s.approvals())...)
	b = append(b, s.section("Holds", s.holds())...)
	b = append(b, s.section("Refused", s.refusals())...)
	b = append(b, s.section("Not seen", s.unseen())...)
	b = append(b, s.section("Obligations", s.obligations())...)
	b = append(b, s.section("Contain on report", s.contain())...)
	b = append(b, s.section("Reports", s.reports())...)
	b = append(b, s.section("Notes", s.notes())...)
	b = append(b, s.section("Followed in", s.followed())...)
	b = append(b, s.section("Record", s.record())...)
	return strings.Join(b, "\n")
}

func (s shower) section(title string, lines []string) []string {
	if len(lines) == 0 {
		return nil
	}
	return append([]string{"", s.p.bold(title)}, lines...)
}

func (s shower) head() []string {
	v := s.v
	verdictLine := verdict(v)
	switch v.State {
	case "all-clear", "contained":
		verdictLine = s.p.green(verdictLine)
	default:
		verdictLine = s.p.red(verdictLine)
	}
	out := []string{s.p.bold(v.ID) + "  " + verdictLine}
	facts := []string{stateColour(s.p, or(v.Severity, "severity unknown")), "phase " + or(v.Phase, "?")}
	if v.Times.Reported != "" {
		facts = append(facts, "reported "+ago(v.Times.Reported, s.now))
	}
	if v.Times.Contained != "" {
		facts = append(facts, "contained "+ago(v.Times.Contained, s.now))
	}
	if v.Times.Closed != "" {
		facts = append(facts, "closed "+ago(v.Times.Closed, s.now))
	}
	if e := eta(v, s.now); e != "" {
		facts = append(facts, e)
	}
	out = append(out, "  "+strings.Join(facts, ", "))
	if v.ReopenedFrom != "" {
		out = append(out, "  reopened; before: "+v.ReopenedFrom)
	}
	return out
}

func (s shower) items() []string {
	out := itemLines(s.v.Items, s.p, "  ", true)
	if s.v.Truncated {
		out = append(out, fmt.Sprintf("  ... the first %d; the rest: rekey incident items %s --all", len(s.v.Items), s.v.ID))
	}
	return out
}

// itemLines is a table of items.
func itemLines(items []view.Item, p palette, indent string, header bool) []string {
	if len(items) == 0 {
		return nil
	}
	t := table{style: func(column int, cell string) string {
		if column == 4 || column == 5 || column == 6 {
			return stateColour(p, cell)
		}
		return cell
	}}
	t.add("ITEM", "KEY", "STRATEGY", "STEP", "OLD KEY", "NEW KEY", "END STATE", "")
	for _, it := range items {
		key := it.Provider + "/" + it.Account + " " + or(it.KeyID, it.Kind)
		var notes []string
		if it.Death.State == "proving" {
			notes = append(notes, fmt.Sprintf("%d/%d refusals", it.Death.Refusals, it.Death.Needed))
		}
		if it.Death.Rung != "" && it.Death.Rung != "key" {
			notes = append(notes, "rung "+it.Death.Rung)
		}
		if it.Death.Grade != "" {
			notes = append(notes, "proof "+it.Death.Grade)
		}
		if it.Adoption.Dependents > 0 {
			notes = append(notes, fmt.Sprintf("%d/%d cut over", it.Adoption.CutOver, it.Adoption.Dependents))
		}
		if it.Why != "" {
			notes = append(notes, line(it.Why))
		}
		t.add(it.Short, key, or(it.Strategy, "-"), or(it.Step, "-"), or(it.Death.State, "-"), or(it.Adoption.State, "-"), or(it.EndState, "-"), strings.Join(notes, ", "))
	}
	lines := t.lines(indent)
	if !header {
		return lines[1:]
	}
	return lines
}

func (s shower) plan() []string {
	pl := s.v.Plan
	if pl == nil {
		return nil
	}
	out := []string{fmt.Sprintf("  version %d, %s, about %s  (%s)", pl.Version, count(pl.Calls, "call", "calls"), ms(pl.ETAMs), "rekey incident plan "+s.v.ID)}
	t := table{}
	for _, w := range pl.Waves {
		t.add(fmt.Sprintf("wave %d", w.N), w.Strategy, count(w.Items, "item", "items"), w.State, shortHash(w.Hash))
	}
	out = append(out, t.lines("  ")...)
	for _, b := range pl.Breaks {
		out = append(out, "  "+s.p.yellow("breaks "+b.Dependent)+" for "+outage(b.OutageMs)+budget(b.BudgetMs)+ownedBy(b.Owner))
	}
	return out
}

func outage(n int64) string {
	if n == 0 {
		return "no time"
	}
	return ms(n)
}

func budget(n int64) string {
	if n == 0 {
		return ""
	}
	return " (budget " + ms(n) + ")"
}

func ownedBy(owner string) string {
	if owner == "" {
		return ""
	}
	return ", owner " + owner
}

func (s shower) approvals() []string {
	t := table{}
	for _, a := range s.v.Approvals {
		t.add(a.ID, approvalTitle(a), a.State, needed(a), voters(a))
	}
	return t.lines("  ")
}

func (s shower) holds() []string {
	t := table{}
	for _, h := range s.v.Holds {
		t.add(h.ID, h.State, count(len(h.Items), "item", "items"), "by "+h.By, "until "+clock(h.Until), line(h.Why))
	}
	return t.lines("  ")
}

func (s shower) refusals() []string {
	t := table{}
	for _, r := range s.v.Refusals {
		t.add(clock(r.At), r.Actor, r.Action, s.p.red(r.Code), line(r.Why))
	}
	return t.lines("  ")
}

func (s shower) unseen() []string {
	var out []string
	for _, u := range s.v.Scope.Unseen {
		text := "  " + u.Source + ": " + line(u.Why)
		if u.Permission != "" {
			text += " (needs " + u.Permission + ")"
		}
		out = append(out, text)
	}
	for _, d := range s.v.Scope.Dark {
		out = append(out, fmt.Sprintf("  %s has no logs from %s to %s", d.Source, clock(d.From), clock(d.To)))
	}
	if len(out) > 0 && s.v.Scope.Reachable > s.v.Scope.Observed {
		out = append(out, fmt.Sprintf("  %d observed, %d could be reached", s.v.Scope.Observed, s.v.Scope.Reachable))
	}
	return out
}

func (s shower) obligations() []string {
	t := table{}
	for _, o := range s.v.Obligations {
		when := "due " + ago(o.Due, s.now)
		if isPast(o.Due, s.now) {
			when = s.p.red("missed " + ago(o.Due, s.now))
		}
		t.add(o.ID, when, clock(o.Due), line(o.What))
	}
	return t.lines("  ")
}

func (s shower) contain() []string {
	c := s.v.Contain
	if c == nil {
		return nil
	}
	word := "not done"
	if c.Allowed {
		word = "done: " + or(c.Outcome, "under way")
	}
	out := []string{"  " + word}
	for _, k := range c.Conditions {
		if !k.Held {
			out = append(out, "  "+k.ID+": "+line(k.Why))
		}
	}
	return out
}

func (s shower) reports() []string {
	t := table{}
	for _, r := range s.v.Reports {
		t.add(r.ID, clock(r.Received), r.Source, r.Actor, r.Confidence, line(r.Reason))
	}
	out := t.lines("  ")
	for _, r := range s.v.Repeats {
		say := "nothing new"
		if r.Unread > 0 {
			say = fmt.Sprintf("only counted, %d with something new that nobody has read", r.Unread)
		}
		from := r.Source
		if r.Actor != "" {
			from += " by " + r.Actor
		}
		out = append(out, fmt.Sprintf("  and %s from %s, %s to %s: %s", count(r.N, "report", "reports"), line(from), clock(r.First), clock(r.Last), say))
	}
	return out
}

func (s shower) notes() []string {
	t := table{}
	for _, n := range s.v.Notes {
		t.add(clock(n.At), n.Actor, line(n.Text))
	}
	return t.lines("  ")
}

func (s shower) record() []string {
	var out []string
	if s.v.Playbook.Name != "" {
		out = append(out, fmt.Sprintf("  playbook  %s %s", s.v.Playbook.Name, s.v.Playbook.Version))
	}
	if b := s.v.Bundle; b != nil {
		final := ""
		if !b.Final {
			final = " (a later one will extend it)"
		}
		out = append(out, "  bundle    "+b.Path+final)
	}
	for _, k := range slices.Sorted(maps.Keys(s.v.Links)) {
		out = append(out, fmt.Sprintf("  %-9s %s", k, s.v.Links[k]))
	}
	return out
}
