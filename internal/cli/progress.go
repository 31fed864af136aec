package cli

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"rekey/internal/view"
)

// phases in the order of an incident's life.
func phases() []string {
	return []string{"preserve", "scope", "plan", "approve", "act", "notify", "verify", "harden", "close", "seal", "watch"}
}

// A measure is how far a phase is: part of whole. Whole 0: it has no measure.
type measure struct {
	part, whole int
	unit        string
}

func measureOf(v view.Incident, phase string) measure {
	switch phase {
	case "scope":
		if v.Mass != nil {
			return measure{v.Mass.Items - v.Mass.Reading, v.Mass.Items, "read"}
		}
	case "approve":
		m := measure{unit: "votes"}
		for _, a := range v.Approvals {
			switch a.State {
			case "voided", "expired", "denied":
				continue
			}
			m.whole += a.Needed
			m.part += min(approved(a), a.Needed)
		}
		return m
	case "act":
		if partly(v) {
			return measure{}
		}
		return measure{provenDead(v), v.Totals.Items, "proven dead"}
	case "notify":
		n := v.Notices
		return measure{n.Delivered + n.Acknowledged, n.Queued + n.Sent + n.Delivered + n.Bounced + n.Acknowledged, "delivered"}
	case "verify":
		m := measure{unit: "adopted"}
		for _, it := range v.Items {
			switch it.Adoption.State {
			case "", "not-wanted":
				continue
			case "adopted", "waived":
				m.part++
			}
			m.whole++
		}
		if v.Mass != nil {
			for state, n := range v.Mass.ByAdoption {
				switch state {
				case "not-wanted":
					continue
				case "adopted", "waived":
					m.part += n
				}
				m.whole += n
			}
		}
		return m
	case "close":
		return measure{v.Totals.Items - v.Totals.Open, v.Totals.Items, "in an end state"}
	}
	return measure{}
}

// frame draws an incident in lines of at most width columns and height rows. What
// waits for a person stays when there is no room for all bars.
func frame(v view.Incident, now time.Time, p palette, width, height int, pace ...string) []string {
	s := shower{p: p, now: now, v: v, pace: pace}
	room := max(height-1, 1)
	out := assemble(s, width, false)
	if len(out) > room {
		out = assemble(s, width, true)
	}
	if len(out) > room {
		keep := max(room-1, 0)
		for keep > 0 && strings.HasSuffix(out[keep-1], continued) {
			keep-- // half a command is worse than none
		}
		more := fmt.Sprintf("  ... %s more: rekey incident show %s", count(len(out)-keep, "line", "lines"), v.ID)
		out = append(out[:keep], cut(p.dim(more), width))
	}
	return out
}

func assemble(s shower, width int, short bool) []string {
	var out []string
	for _, l := range s.head() {
		out = append(out, wrap(l, width)...)
	}
	out = append(out, "")
	for _, l := range bars(s.v, s.p, width, short) {
		out = append(out, cut(l, width))
	}
	out = append(out, "")
	out = append(out, wrap("  "+states(s.v, s.p), width)...)
	for _, l := range s.pace {
		out = append(out, wrap("  "+l, width)...)
	}
	if w := s.waiting(); len(w) > 0 {
		out = append(out, "", s.p.bold("Waiting for"))
		for _, l := range w {
			out = append(out, wrap(l, width)...)
		}
	}
	return out
}

const (
	// commandIndent stands before a command to type.
	commandIndent = "      $ "
	// continued ends a line of a command that goes on.
	continued = " \\"
)

// wrap breaks a line at its spaces and indents what follows; a command is broken so
// that it can be copied from a narrow terminal.
func wrap(l string, width int) []string {
	if columns(l) <= width {
		return []string{l}
	}
	text := strings.TrimLeft(l, " ")
	indent := l[:len(l)-len(text)]
	end := ""
	if strings.HasPrefix(l, commandIndent) {
		end = continued
	}
	var out []string
	at, empty := indent, true
	for _, word := range strings.SplitAfter(text, " ") {
		if !empty && columns(at)+columns(strings.TrimRight(word, " "))+len(end) > width {
			out = append(out, strings.TrimRight(at, " ")+end)
			at = indent + "    "
		}
		at += word
		empty = false
	}
	return append(out, at)
}

const (
	labelWidth  = 10
	noteWidth   = 26
	leastBar    = 10
	greatestBar = 40
)

// bars is one line per phase up to seal: done, current with its measure, or still
// to come. The short form leaves out what has no measure and is not current.
func bars(v view.Incident, p palette, width int, short bool) []string {
	length := min(max(width-labelWidth-noteWidth-6, leastBar), greatestBar)
	at := slices.Index(phases(), v.Phase)
	if v.Times.Closed != "" {
		at = max(at, slices.Index(phases(), "seal"))
	}
	var out []string
	for i, phase := range phases() {
		if phase == "watch" {
			continue
		}
		m := measureOf(v, phase)
		if short && m.whole == 0 && i != at {
			continue
		}
		part, whole, note := m.part, m.whole, ""
		if whole > 0 {
			note = fmt.Sprintf("%d/%d %s", part, whole, m.unit)
		}
		done := i < at || (phase == "seal" && v.Times.Sealed != "")
		paint := p.dim
		switch {
		case done && (whole == 0 || part >= whole):
			part, whole, paint = 1, 1, p.green
			note = or(note, "done")
		case i == at || done:
			paint, note = p.yellow, or(note, "under way")
		case whole > 0 && part > 0:
			paint = p.yellow
		}
		out = append(out, fmt.Sprintf("  %-*s %s  %s", labelWidth, phase, paint(bar(part, whole, length)), note))
	}
	return out
}

func bar(part, whole, length int) string {
	full := 0
	if whole > 0 {
		full = min(part, whole) * length / whole
	}
	return strings.Repeat("#", full) + strings.Repeat("-", length-full)
}

// states counts items by what is known of the old key, and of the new one.
func states(v view.Incident, p palette) string {
	if len(v.Items) == 0 && v.Mass == nil {
		return "no items yet"
	}
	old, adoption := map[string]int{}, map[string]int{}
	for _, it := range v.Items {
		old[or(it.Death.State, "alive")]++
		if it.Adoption.State != "" {
			adoption[it.Adoption.State]++
		}
	}
	if v.Mass != nil {
		rest := v.Mass.Items
		for state, n := range v.Mass.ByDeath {
			old[state] += n
			rest -= n
		}
		old["alive"] += rest // nothing was done to them yet
		for state, n := range v.Mass.ByAdoption {
			adoption[state] += n
		}
	}
	text := "old keys: " + tally(old, []string{"dead", "proving", "disabled", "alive", "unclear", "human"}, p)
	if len(adoption) > 0 {
		text += "   new keys: " + tally(adoption, []string{"adopted", "distributed", "issued", "waiting", "waived", "unclear", "not-wanted"}, p)
	}
	if partly(v) {
		text += fmt.Sprintf("   (the first %d items)", len(v.Items))
	}
	return text
}

func tally(counts map[string]int, order []string, p palette) string {
	var parts []string
	for _, w := range order {
		if n := counts[w]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, stateColour(p, w)))
		}
	}
	return strings.Join(parts, ", ")
}

// manyItems is how many items may change in one reading before they are counted
// and no longer named.
const manyItems = 10

// changes says in one sentence each what is different in b.
func changes(a, b view.Incident) []string {
	var out []string
	say := func(format string, args ...any) { out = append(out, line(fmt.Sprintf(format, args...))) }
	if a.Severity != b.Severity {
		say("severity %s", b.Severity)
	}
	if a.Phase != b.Phase {
		say("phase %s", b.Phase)
	}
	if a.Scope.Version != b.Scope.Version {
		say("scope version %d: %s, %d reachable", b.Scope.Version, count(b.Scope.Items, "item", "items"), b.Scope.Reachable)
	}
	if b.Plan != nil && (a.Plan == nil || a.Plan.Version != b.Plan.Version) {
		say("plan version %d: %s in %s, about %s", b.Plan.Version, count(b.Plan.Calls, "call", "calls"), count(len(b.Plan.Waves), "wave", "waves"), ms(b.Plan.ETAMs))
	}
	for _, r := range b.Reports[min(len(a.Reports), len(b.Reports)):] {
		say("report %s from %s", r.ID, r.Source)
	}
	out = append(out, approvalChanges(a, b)...)
	out = append(out, itemChanges(a, b)...)
	for _, h := range b.NeedsHuman {
		i := slices.IndexFunc(a.NeedsHuman, func(o view.Human) bool { return o.ID == h.ID })
		switch {
		case i < 0:
			say("%s needs a person: %s (for %s, due %s)", h.ID, h.What, or(h.Owner, "nobody yet"), clock(h.Due))
		case a.NeedsHuman[i].State != h.State:
			say("%s %s", h.ID, h.State)
		}
	}
	for _, h := range b.Holds {
		i := slices.IndexFunc(a.Holds, func(o view.Hold) bool { return o.ID == h.ID })
		if i < 0 || a.Holds[i].State != h.State {
			say("hold %s %s by %s: %s", h.ID, h.State, h.By, h.Why)
		}
	}
	for _, r := range b.Refusals[min(len(a.Refusals), len(b.Refusals)):] {
		say("refused: %s by %s (%s)", r.Action, r.Actor, r.Code)
	}
	for _, n := range b.Notes[min(len(a.Notes), len(b.Notes)):] {
		say("note by %s: %s", n.Actor, n.Text)
	}
	if b.Bundle != nil && (a.Bundle == nil || a.Bundle.Digest != b.Bundle.Digest) {
		say("bundle sealed: %s", b.Bundle.Path)
	}
	if a.State != b.State {
		say("state %s", b.State)
	}
	if a.Times.Closed == "" && b.Times.Closed != "" {
		say("closed")
	}
	return out
}

func approvalChanges(a, b view.Incident) []string {
	var out []string
	for _, q := range b.Approvals {
		i := slices.IndexFunc(a.Approvals, func(o view.Approval) bool { return o.ID == q.ID })
		var old view.Approval
		if i >= 0 {
			old = a.Approvals[i]
		} else if q.State == "open" {
			out = append(out, fmt.Sprintf("approval %s asked: %s, %s", q.ID, approvalTitle(q), needed(q)))
		}
		for _, v := range q.Votes[min(len(old.Votes), len(q.Votes)):] {
			out = append(out, fmt.Sprintf("approval %s: %s votes %s as %s", q.ID, v.Actor, v.Vote, v.Role))
		}
		if q.State != "open" && q.State != old.State {
			out = append(out, fmt.Sprintf("approval %s %s", q.ID, q.State))
		}
	}
	return out
}

func itemChanges(a, b view.Incident) []string {
	before := make(map[string]view.Item, len(a.Items))
	for _, it := range a.Items {
		before[it.FP] = it
	}
	type change struct{ name, what string }
	var all []change
	for _, it := range b.Items {
		old := before[it.FP]
		name := it.Short + " " + or(it.KeyID, it.Kind)
		note := func(format string, args ...any) { all = append(all, change{name, fmt.Sprintf(format, args...)}) }
		if old.Step != it.Step && it.Step != "" {
			note("step %s", it.Step)
		}
		if old.Death.State != it.Death.State && it.Death.State != "" {
			note("old key %s", it.Death.State)
		} else if it.Death.State == "proving" && it.Death.Refusals != old.Death.Refusals {
			note("refused %d of %d times", it.Death.Refusals, it.Death.Needed)
		}
		if old.Death.Rung != it.Death.Rung && it.Death.Rung != "" && it.Death.Rung != "key" {
			note("rung %s", it.Death.Rung)
		}
		if old.Adoption.State != it.Adoption.State && it.Adoption.State != "" {
			note("new key %s", it.Adoption.State)
		}
		if old.EndState != it.EndState && it.EndState != "" {
			note("%s", it.EndState)
		}
	}
	var out, order []string
	counts := map[string]int{}
	for _, c := range all {
		if len(all) <= manyItems {
			out = append(out, c.name+": "+c.what)
			continue
		}
		if counts[c.what]++; counts[c.what] == 1 {
			order = append(order, c.what)
		}
	}
	for _, what := range order {
		out = append(out, count(counts[what], "item", "items")+": "+what)
	}
	return out
}
