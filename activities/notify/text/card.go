package text

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"rekey/activities/notify"
)

// none stands where a fact is missing, so that no gap is read as a fact.
const none = "unknown"

// When gives a time for people, always in UTC: two people in two zones must speak of
// the same minute. The zero time is "unknown".
func When(t time.Time) string {
	if t.IsZero() {
		return none
	}
	return t.UTC().Format("2006-01-02 15:04 UTC")
}

// Span gives a duration for people in its two largest units: "45 s", "2 h 5 min".
func Span(d time.Duration) string {
	if d < time.Second {
		return "0 s"
	}
	units := []struct {
		size time.Duration
		name string
	}{{24 * time.Hour, "d"}, {time.Hour, "h"}, {time.Minute, "min"}, {time.Second, "s"}}
	for i, u := range units {
		if d < u.size {
			continue
		}
		out := fmt.Sprintf("%d %s", d/u.size, u.name)
		if i+1 < len(units) {
			if rest := d % u.size / units[i+1].size; rest > 0 {
				out += fmt.Sprintf(" %d %s", rest, units[i+1].name)
			}
		}
		return out
	}
	return ""
}

// Plural gives "1 item", "2 items".
func Plural(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
}

// Counts gives "Probe 2, waiting 1".
func Counts(cs []notify.Count) string {
	var out []string
	for _, c := range cs {
		out = append(out, fmt.Sprintf("%s %d", Line(c.Name, 60), c.N))
	}
	return strings.Join(out, ", ")
}

// Total adds counts.
func Total(cs []notify.Count) int {
	n := 0
	for _, c := range cs {
		n += c.N
	}
	return n
}

// Status is what the state of the card means, in one sentence. It claims nothing
// that the card does not: all-clear comes from the engine alone.
func Status(c notify.Card) string {
	var waits []string
	if n := len(c.Asks) + c.MoreAsks; n > 0 {
		waits = append(waits, Plural(n, "open question"))
	}
	if n := len(c.Tasks) + c.MoreTasks; n > 0 {
		waits = append(waits, Plural(n, "step")+" for people")
	}
	still := strings.Join(waits, ", ")
	switch c.State {
	case "all-clear":
		return "All clear since " + When(c.Closed) + ": nothing is open."
	case "contained":
		s := "Contained since " + When(c.Contained) + ", NOT all clear"
		if still != "" {
			s += ": " + still
		}
		return s + "."
	}
	s := "Not contained"
	if !c.Contained.IsZero() {
		s = "Was contained at " + When(c.Contained) + ", open again"
	}
	if still == "" {
		return s + ". Nothing waits for people now."
	}
	return s + ". Waits for people: " + still + "."
}

// Dead says how many old keys are proven dead, and how it was proven.
func Dead(c notify.Card) string {
	n := Total(c.Dead)
	s := fmt.Sprintf("%d of %s", n, Plural(c.Scope.Items, "item"))
	var grades []string
	for _, g := range c.Dead {
		grades = append(grades, fmt.Sprintf("%d grade %s%s", g.N, Line(g.Name, 20), gradeMeans[g.Name]))
	}
	if len(grades) > 0 {
		s += " (" + strings.Join(grades, ", ") + ")"
	}
	return s
}

// gradeMeans are the words of the design, section 2.
var gradeMeans = map[string]string{
	"A": ": the old key was refused", "B": ": provider's state and silence in the logs", "C": ": attested by a person",
}

// Scope says what is in scope and, always, what could not be seen.
func Scope(s notify.Scope) string {
	if s.Version == 0 {
		return "not known yet"
	}
	out := fmt.Sprintf("version %d: %s, %d open, %d reachable", s.Version, Plural(s.Items, "item"), s.Open, s.Reachable)
	if s.Unseen > 0 || s.Dark > 0 {
		return out + "; NOT complete: " + Blind(s)
	}
	return out + "; no blind spot known"
}

// Blind counts what the scope could not see; empty when nothing.
func Blind(s notify.Scope) string {
	var out []string
	if s.Unseen > 0 {
		out = append(out, Plural(s.Unseen, "source")+" unseen")
	}
	if s.Dark > 0 {
		out = append(out, Plural(s.Dark, "dark window"))
	}
	return strings.Join(out, ", ")
}

// Break says who is interrupted and for how long.
func Break(b notify.Break) string {
	owner := Line(b.Owner, 60)
	if owner == "" {
		owner = none
	}
	s := fmt.Sprintf("%s (owner %s): down %s", Line(b.Dependent, 80), owner, Span(b.Outage))
	switch {
	case b.Outage <= 0:
		s = fmt.Sprintf("%s (owner %s): no outage expected", Line(b.Dependent, 80), owner)
	case b.Budget <= 0:
		s += ", budget " + none
	case b.Outage > b.Budget:
		s += ", OVER its budget of " + Span(b.Budget)
	default:
		s += " of its budget of " + Span(b.Budget)
	}
	return s
}

// Breaks lists at most n of them and says how many are missing. Those over their
// budget come first.
func Breaks(bs []notify.Break, n int) []string {
	bs = slices.Clone(bs)
	slices.SortStableFunc(bs, func(a, b notify.Break) int { return rank(a) - rank(b) })
	var out []string
	for i, b := range bs {
		if i == n {
			out = append(out, fmt.Sprintf("and %d more", len(bs)-n))
			break
		}
		out = append(out, Break(b))
	}
	return out
}

func rank(b notify.Break) int {
	switch {
	case b.Outage > 0 && b.Outage > b.Budget:
		return 0 // over budget, or the budget is unknown
	case b.Outage > 0:
		return 1
	}
	return 2
}

// Subject names what is asked about: "wave 2, reissue-first, 3 items, 9 calls".
func Subject(a notify.Ask) string {
	var out []string
	if a.Wave > 0 {
		out = append(out, fmt.Sprintf("wave %d", a.Wave))
	}
	if a.For != "strategy" && a.For != "" {
		out = append(out, strings.ToUpper(Line(a.For, 40))) // it is no step like the others
	}
	if a.Strategy != "" {
		out = append(out, Line(a.Strategy, 40))
	}
	out = append(out, Plural(a.Items, "item"))
	if a.Calls > 0 {
		out = append(out, Plural(a.Calls, "call"))
	}
	return strings.Join(out, ", ")
}

// Price says who breaks when the ask is approved. A scope with blind spots takes
// the comfort out of "nobody".
func Price(a notify.Ask, s notify.Scope, n int) []string {
	if len(a.Breaks) > 0 {
		return Breaks(a.Breaks, n)
	}
	if blind := Blind(s); blind != "" || s.Version == 0 {
		if blind == "" {
			blind = "the scope is not known yet"
		}
		return []string{"nobody is KNOWN to break; not everything was seen: " + blind}
	}
	return []string{"nobody is known to break"}
}

// Approvals counts the votes to approve that were given.
func Approvals(a notify.Ask) int {
	n := 0
	for _, v := range a.Votes {
		if v.Vote == "approve" {
			n++
		}
	}
	return n
}

// Needs says how many votes are wanted, of whom and from where.
func Needs(a notify.Ask) string {
	s := fmt.Sprintf("%d of %s given", Approvals(a), Plural(a.Needed, "vote"))
	if len(a.Roles) > 0 {
		var roles []string
		for i, r := range a.Roles {
			if i == 8 {
				roles = append(roles, Mark)
				break
			}
			roles = append(roles, Line(r, 30))
		}
		s += ", by " + strings.Join(roles, " or ")
	}
	if n := Outside(a); n > 0 {
		s += fmt.Sprintf(", %d of them outside Slack", n)
	}
	if !a.Expires.IsZero() {
		s += ", until " + When(a.Expires)
	}
	return s
}

// Outside is how many votes must come from outside of chat: never more than are
// wanted at all.
func Outside(a notify.Ask) int { return min(a.Outside, a.Needed) }

// Vote gives one vote: "oncall-1 (commander): approve, cli-key".
func Vote(v notify.Vote) string {
	s := Line(v.Actor, 60)
	if v.Role != "" {
		s += " (" + Line(v.Role, 30) + ")"
	}
	return s + ": " + Line(v.Vote, 20) + ", " + Line(v.Auth, 30)
}

// Task gives one step of a person: what, who, until when.
func Task(t notify.Task, n int) string {
	owner := Line(t.Owner, 60)
	if owner == "" {
		owner = "nobody yet"
	}
	s := Line(t.What, n) + " (owner: " + owner
	if !t.Due.IsZero() {
		s += ", due " + When(t.Due)
	}
	return s + ")"
}

// Item gives where one item stands, without its key.
func Item(i notify.Item) string {
	var out []string
	add := func(s string) {
		if s != "" {
			out = append(out, s)
		}
	}
	add(Line(i.Strategy, 30))
	if i.End != "" {
		add("ended: " + Line(i.End, 40))
	} else if i.Step != "" {
		add("step " + Line(i.Step, 30))
	}
	if i.Death != "" {
		s := "old key " + Line(i.Death, 30)
		if i.Grade != "" {
			s += " (grade " + Line(i.Grade, 5) + ")"
		}
		add(s)
	}
	if i.Adoption != "" {
		add("new key " + Line(i.Adoption, 30))
	}
	if i.Waits != "" {
		add("waits for " + Line(i.Waits, 80))
	}
	return strings.Join(out, ", ")
}
