package cli

import (
	"cmp"
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
	// pace is what was seen of it while it was watched.
	pace []string
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

// Verdict is one sentence that says how it stands.
func verdict(v view.Incident) string {
	total, dead := v.Totals.Items, provenDead(v)
	keys := count(total, "key", "keys")
	switch {
	case v.State == "all-clear":
		return "ALL CLEAR: every item is in a proven end state"
	case v.State == "contained":
		return "CONTAINED: all old keys are dead; " + stillOpen(v)
	case total == 0:
		return "NOT CONTAINED: the scope is being read"
	case partly(v):
		return fmt.Sprintf("NOT CONTAINED: %d of %s open", v.Totals.Open, count(total, "item", "items"))
	case len(openApprovals(v)) > 0 && dead == 0 && !anyDisabled(v):
		return fmt.Sprintf("NOT CONTAINED: nothing is killed yet; %s", waitsForVotes(v))
	case dead < total:
		return fmt.Sprintf("NOT CONTAINED: %d of %s proven dead", dead, keys)
	}
	return fmt.Sprintf("NOT CONTAINED YET: every old key is dead, %s", count(v.Totals.Open, "item is open", "items are open"))
}

func anyDisabled(v view.Incident) bool {
	for _, it := range v.Items {
		for _, o := range it.Outcomes {
			if o.Verb == "Disable" && o.Outcome == "done" {
				return true
			}
		}
	}
	return false
}

// stillOpen says what keeps a contained incident from being all-clear.
func stillOpen(v view.Incident) string {
	people := 0
	for _, h := range v.NeedsHuman {
		if h.State == "" || h.State == "open" {
			people++
		}
	}
	if v.Totals.Open > 0 || people == 0 {
		return count(v.Totals.Open, "item is open", "items are open")
	}
	return count(people, "thing waits for a person", "things wait for a person")
}

func waitsForVotes(v view.Incident) string {
	n := 0
	for _, a := range openApprovals(v) {
		n += max(a.Needed-approved(a), 0)
	}
	return "it waits for " + count(n, "vote", "votes")
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

// waiting lists what a person must do, and how.
func (s shower) waiting() []string {
	var out []string
	for _, a := range openApprovals(s.v) {
		left := ""
		if a.Expires != "" {
			left = ", expires " + ago(a.Expires, s.now)
			if isPast(a.Expires, s.now) {
				left = ", " + s.p.red("expired "+ago(a.Expires, s.now))
			}
		}
		out = append(out, fmt.Sprintf("  %s  %s: %s%s", s.p.yellow(a.ID), approvalTitle(a), needed(a), left))
		if who := voters(a); who != "" {
			out = append(out, "      "+who)
		}
		if a.What != "" {
			out = append(out, "      "+line(a.What))
		}
		out = append(out, "      $ "+approveHint(s.v, a))
	}
	for _, h := range s.v.NeedsHuman {
		if h.State != "" && h.State != "open" {
			continue
		}
		out = append(out, fmt.Sprintf("  %s  %s%s", s.p.yellow(h.ID), line(h.What), s.whoUntil(h.Owner, h.Due)))
		if h.Steps != "" {
			out = append(out, "      steps: "+line(h.Steps))
		}
		out = append(out, fmt.Sprintf("      $ rekey incident resolve %s --task %s --as done --reason WHAT-YOU-DID", s.v.ID, h.ID))
	}
	for _, g := range openReasons(s.v) {
		if s.asked(g.why) {
			continue // the same wait, seen from the item: it stands above with its command
		}
		out = append(out, fmt.Sprintf("  %s: %s%s", count(g.n, "item", "items"), g.why, s.whoUntil(g.owner, g.due)))
	}
	return out
}

// asked tells whether an open task or vote says the same already.
func (s shower) asked(why string) bool {
	for _, h := range s.v.NeedsHuman {
		if (h.State == "" || h.State == "open") && line(h.What) == why {
			return true
		}
	}
	for _, a := range openApprovals(s.v) {
		if a.What != "" && why == "votes: "+line(a.What) {
			return true
		}
	}
	return false
}

func (s shower) whoUntil(owner, due string) string {
	out := ""
	if owner != "" {
		out += ", for " + owner
	}
	switch {
	case due == "":
	case isPast(due, s.now):
		out += ", " + s.p.red("was due "+ago(due, s.now))
	default:
		out += ", due " + ago(due, s.now)
	}
	return out
}

func approvalTitle(a view.Approval) string {
	title := a.For
	if a.Strategy != "" {
		title += " " + a.Strategy
	}
	if a.Wave > 0 {
		title += fmt.Sprintf(" of wave %d", a.Wave)
	}
	if n := len(a.Items); n > 0 {
		title += " (" + count(n, "item", "items") + ")"
	}
	return title
}

// needed says how many votes there are, of how many and of whom.
func needed(a view.Approval) string {
	outside := ""
	if a.Outside > 0 {
		outside = fmt.Sprintf("; %d of them outside of chat", a.Outside)
	}
	return fmt.Sprintf("%d of %s (%s%s)", approved(a), count(a.Needed, "vote", "votes"), strings.Join(a.Roles, ", "), outside)
}

// voters says who voted how.
func voters(a view.Approval) string {
	var who []string
	for _, v := range a.Votes {
		word := v.Vote
		switch word {
		case "approve":
			word = "approved"
		case "deny":
			word = "denied"
		case "voided":
			who = append(who, fmt.Sprintf("%s's vote is voided (%s)", v.Actor, line(v.Note)))
			continue
		}
		who = append(who, fmt.Sprintf("%s %s as %s", v.Actor, word, v.Role))
	}
	return strings.Join(who, ", ")
}

// approveHint is the command that votes for a. The question's id is needed only
// where its hash does not name it alone.
func approveHint(v view.Incident, a view.Approval) string {
	hint := "rekey incident approve " + v.ID
	if a.WaveHash != "" {
		hint += " --wave " + shortHash(a.WaveHash)
	}
	same := 0
	for _, q := range openApprovals(v) {
		if q.WaveHash == a.WaveHash {
			same++
		}
	}
	if a.WaveHash == "" || same > 1 {
		hint += " --approval " + a.ID
	}
	return hint
}

// hashDigits are shown of a wave's hash and are enough to name it.
const hashDigits = 16

func shortHash(h string) string {
	h = strings.TrimPrefix(h, "sha256:")
	if len(h) > hashDigits {
		return h[:hashDigits]
	}
	return h
}

func (s shower) items() []string {
	out := itemLines(s.v.Items, s.p, "  ", true)
	if s.v.Mass != nil {
		return append(out, massLines(s.v, s.now)...)
	}
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
	return t.lines("  ")
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

func deadCount(v view.Incident) int {
	n := 0
	for _, it := range v.Items {
		if isDead(it) {
			n++
		}
	}
	return n
}

// isDead tells whether an item's old key is proven dead, or never was.
func isDead(it view.Item) bool {
	switch it.EndState {
	case "revoked-verified", "expired-verified", "never-existed-proven":
		return true
	}
	return it.Death.State == "dead"
}

func openApprovals(v view.Incident) []view.Approval {
	return slices.DeleteFunc(slices.Clone(v.Approvals), func(a view.Approval) bool { return a.State != "open" })
}

func approved(a view.Approval) int {
	n := 0
	for _, v := range a.Votes {
		if v.Vote == "approve" {
			n++
		}
	}
	return n
}

// An openReason groups items that wait for the same thing.
type openReason struct {
	why, owner, due string
	n               int
}

func openReasons(v view.Incident) []openReason {
	found := map[openReason]int{}
	for _, it := range v.Items {
		if it.Open.Why != "" && it.EndState == "" {
			found[openReason{why: line(it.Open.Why), owner: it.Open.Owner, due: it.Open.Due}]++
		}
	}
	var out []openReason
	for r, n := range found {
		r.n = n
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b openReason) int {
		return cmp.Or(cmp.Compare(a.due, b.due), cmp.Compare(a.why, b.why), cmp.Compare(a.owner, b.owner))
	})
	return out
}

// eta says how long the plan still takes, from the first call on.
func eta(v view.Incident, now time.Time) string {
	if v.Plan == nil || v.State == "contained" || v.State == "all-clear" || v.Plan.ETAMs == 0 || (!partly(v) && provenDead(v) == v.Totals.Items) {
		return ""
	}
	first := ""
	for _, it := range v.Items {
		for _, o := range it.Outcomes {
			if first == "" || o.At < first {
				first = o.At
			}
		}
	}
	if first == "" {
		return "about " + ms(v.Plan.ETAMs) + " once approved"
	}
	at, err := time.Parse(time.RFC3339, first)
	if err != nil {
		return ""
	}
	left := time.Duration(v.Plan.ETAMs)*time.Millisecond - now.Sub(at)
	if left < 0 {
		return span(-left) + " longer than planned"
	}
	return "about " + span(left) + " left"
}
