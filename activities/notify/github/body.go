package github

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"rekey/activities/notify"
	"rekey/activities/notify/text"
)

// GitHub's limits: an issue's or comment's body takes 65,536 characters
// (https://github.com/orgs/community/discussions/27190; the API answers 422 beyond),
// a title 256, a label 50. They are counted here in bytes, which are never fewer.
const (
	maxBody  = 65536
	maxTitle = 256
	maxLabel = 50
)

// How much of a long card is listed; the rest is counted.
const (
	shownItems  = 40
	shownTasks  = 25
	shownAsks   = 25
	shownBreaks = 25
	shownVotes  = 10
)

// title is "inc-…: Leaked AWS IAM user access key (critical)". Titles are plain text to
// GitHub: nothing in them formats, links or mentions.
func title(c notify.Card) string {
	s := text.Line(c.Incident, 40) + ": " + strings.ReplaceAll(text.Line(c.Title, 120), "`", "'") + " (" + text.Line(c.Severity, 20) + ")"
	return cut(s, maxTitle)
}

// Body is the body: what the card says, as Markdown, with the hidden marker
// first.
func Body(c notify.Card, mark string) string {
	parts := []string{
		marker(mark) + "\n**" + esc(text.Status(c)) + "**",
		table(c),
		"### What must be done\n\n" + strings.Join(duties(c), "\n"),
	}
	if asks := asks(c); len(asks) > 0 {
		parts = append(parts, "### Votes wanted\n\n"+strings.Join(asks, "\n"))
	}
	if len(c.Tasks) > 0 {
		parts = append(parts, "### Steps that wait for people\n\n"+strings.Join(tasks(c), "\n"))
	}
	if len(c.Breaks) > 0 {
		parts = append(parts, "### Who breaks by the plan\n\n"+list(text.Breaks(c.Breaks, shownBreaks)))
	}
	parts = append(parts, items(c), foot(c))
	// Parts are left out from the end but for the foot, so no markup is cut in two.
	for {
		body := strings.Join(slices.DeleteFunc(slices.Clone(parts), func(s string) bool { return s == "" }), "\n\n")
		if len(body) <= maxBody || len(parts) < 3 {
			return cut(body, maxBody)
		}
		parts = append(parts[:len(parts)-2], "The rest does not fit here.\n\n"+foot(c))
	}
}

func table(c notify.Card) string {
	contained, reporter := "not yet", line(c.Reporter, 200)
	if !c.Contained.IsZero() {
		contained = text.When(c.Contained)
	}
	if reporter == "" {
		reporter = "unknown"
	}
	rows := [][2]string{
		{"Incident", code(c.Incident, 40)}, {"Class", line(c.Title, 200)}, {"Key", code(c.Key, 300)},
		{"Severity", line(c.Severity, 20)}, {"Phase, state", line(c.Phase, 20) + ", " + line(c.State, 20)},
		{"Reported by", reporter}, {"Opened", esc(text.When(c.Opened))}, {"Contained", esc(contained)},
		{"Scope", esc(text.Scope(c.Scope))},
	}
	if !c.Closed.IsZero() {
		rows = append(rows, [2]string{"Closed", esc(text.When(c.Closed))})
	}
	if len(c.Steps) > 0 {
		rows = append(rows, [2]string{"Items by step", line(text.Counts(c.Steps), 600)})
	}
	if len(c.Ends) > 0 {
		rows = append(rows, [2]string{"Items ended", line(text.Counts(c.Ends), 600)})
	}
	out := "| | |\n|---|---|"
	for _, r := range rows {
		out += "\n| " + r[0] + " | " + r[1] + " |"
	}
	return out
}

// phases in their order (contracts, section 4).
var phases = []string{"preserve", "scope", "plan", "approve", "act", "notify", "verify", "harden", "close", "seal", "watch"}

// past tells whether the incident has left a phase behind. An unknown phase is never
// past anything.
func past(c notify.Card, phase string) bool {
	return slices.Index(phases, c.Phase) > slices.Index(phases, phase)
}

// duties is the task list. A box is ticked only by what the card itself says.
func duties(c notify.Card) []string {
	asked := len(c.Asks) + c.MoreAsks
	dead := text.Total(c.Dead)
	over := c.State == "contained" || c.State == "all-clear"
	out := []string{
		box(past(c, "preserve"), "Evidence preserved"),
		box(c.Scope.Version > 0, "Scope: "+text.Scope(c.Scope)),
	}
	if asked > 0 {
		out = append(out, box(false, "Votes: "+text.Plural(asked, "open question")))
	} else {
		out = append(out, box(past(c, "approve"), "Votes: no open question"))
	}
	out = append(out, box(over || dead > 0 && dead >= c.Scope.Items, "Old keys proven dead: "+text.Line(text.Dead(c), 400)))
	if len(c.Notices) > 0 {
		wait := 0
		for _, n := range c.Notices {
			if n.Name != "sent" && n.Name != "delivered" && n.Name != "acknowledged" {
				wait += n.N
			}
		}
		out = append(out, box(wait == 0, "Notices: "+text.Line(text.Counts(c.Notices), 200)))
	}
	out = append(out, box(over, "Contained"), box(c.State == "all-clear", "All clear: every item in a proven end state, nothing open"))
	switch {
	case c.Bundle == "":
		return append(out, box(false, "Sealed"))
	case over:
		return append(out, "- [x] Sealed: bundle "+code(c.Bundle, 90))
	}
	return append(out, "- [ ] Sealed again; the last bundle is "+code(c.Bundle, 90))
}

func box(done bool, s string) string {
	if done {
		return "- [x] " + esc(s)
	}
	return "- [ ] " + esc(s)
}

// items ticks those whose two obligations are both met: the old key is proven dead,
// the new one adopted or not wanted.
func items(c notify.Card) string {
	if len(c.Items) == 0 {
		return ""
	}
	out := []string{"### Items", ""}
	for i, it := range c.Items {
		if i == shownItems {
			break
		}
		dead := it.Death == "dead" || slices.Contains([]string{"revoked-verified", "expired-verified", "never-existed-proven"}, it.End)
		adopted := slices.Contains([]string{"adopted", "waived", "not-wanted"}, it.Adoption)
		mark := " "
		if dead && adopted {
			mark = "x"
		}
		out = append(out, "- ["+mark+"] "+code(it.Key, 150)+" "+esc(text.Item(it)))
	}
	if n := len(c.Items) - min(len(c.Items), shownItems) + c.More; n > 0 {
		out = append(out, fmt.Sprintf("\nand %d more", n))
	}
	return strings.Join(out, "\n")
}

func asks(c notify.Card) []string {
	var out []string
	for i, a := range c.Asks {
		if i == shownAsks {
			break
		}
		s := "- " + code(a.Approval, 20) + " **" + esc(text.Subject(a)) + "**: " + line(a.What, 300)
		for _, p := range text.Price(a, c.Scope, 5) {
			s += "\n  - price: " + esc(p)
		}
		s += "\n  - votes: " + line(text.Needs(a), 400)
		for j, v := range a.Votes {
			if j == shownVotes {
				break
			}
			s += "\n  - " + esc(text.Vote(v))
		}
		if a.WaveHash != "" {
			s += "\n  - wave hash " + code(a.WaveHash, 80)
		}
		out = append(out, s)
	}
	if n := len(c.Asks) - len(out) + c.MoreAsks; n > 0 {
		out = append(out, fmt.Sprintf("- and %d more", n))
	}
	if len(out) > 0 {
		where := "with "
		if c.Chat {
			where = "in Slack or with "
		}
		out = append(out, "", "Votes are given "+where+code("rekey incident approve "+c.Incident+" --wave HASH", 120)+". A comment here is no vote.")
	}
	return out
}

func tasks(c notify.Card) []string {
	var out []string
	for i, t := range c.Tasks {
		if i == shownTasks {
			break
		}
		out = append(out, "- "+code(t.ID, 40)+" "+esc(text.Task(t, 400)))
	}
	if n := len(c.Tasks) - len(out) + c.MoreTasks; n > 0 {
		out = append(out, fmt.Sprintf("- and %d more", n))
	}
	return out
}

func list(lines []string) string {
	out := ""
	for _, l := range lines {
		out += "- " + esc(l) + "\n"
	}
	return strings.TrimRight(out, "\n")
}

func foot(c notify.Card) string {
	s := "---\nKept by rekey; changes made here by hand are overwritten. More: " + code("rekey incident show "+c.Incident, 80)
	u, err := url.Parse(c.UI)
	if err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && u.User == nil && len(c.UI) <= 500 {
		s += " · [Temporal UI](<" + strings.NewReplacer("<", "%3C", ">", "%3E").Replace(u.String()) + ">)"
	}
	return s
}

// heads are the kinds of lines that are worth a mail to everybody who follows the
// issue; the others are in the body as numbers.
var heads = map[string]string{
	notify.KindOpened: "Opened", notify.KindPlan: "Plan", notify.KindAsk: "Votes wanted", notify.KindContain: "Contained",
	notify.KindHuman: "A person must act", notify.KindClosed: "Closed", notify.KindSealed: "Sealed", notify.KindReopened: "Reopened",
	notify.KindRefused: "Refused",
}

// comment is one turning point, with the world's time: it may be written later.
func comment(l notify.Line, mark string) string {
	out := marker(mark) + "\n**" + esc(heads[l.Kind]) + "** · " + esc(text.When(l.At)) + "\n"
	for row := range strings.Lines(text.Lines(l.Text, 8000, 60)) {
		out += "\n" + esc(strings.TrimRight(row, "\n")) + "\n"
	}
	return cut(out, maxBody)
}

// cut keeps s within n bytes, at a rune.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n-len(text.Mark)], "") + text.Mark
}
