package cli

import (
	"fmt"
	"time"

	"rekey/internal/view"
)

// verdict is one sentence that says how it stands.
func verdict(v view.Incident) string {
	total, dead := v.Totals.Items, deadCount(v)
	keys := count(total, "key", "keys")
	switch {
	case v.State == "all-clear":
		return "ALL CLEAR: every item is in a proven end state"
	case v.State == "contained":
		return "CONTAINED: all old keys are dead; " + stillOpen(v)
	case total == 0:
		return "NOT CONTAINED: the scope is being read"
	case v.Truncated:
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

// eta says how long the plan still takes, from the first call on.
func eta(v view.Incident, now time.Time) string {
	if v.Plan == nil || v.State == "contained" || v.State == "all-clear" || v.Plan.ETAMs == 0 || (!v.Truncated && deadCount(v) == v.Totals.Items) {
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
