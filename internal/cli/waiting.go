package cli

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"rekey/internal/view"
)

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
