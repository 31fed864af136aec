package cli

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"rekey/internal/plan"
)

// planText is every wave with every call, for the person who approves it.
func planText(p plan.Plan, c palette) []string {
	out := []string{fmt.Sprintf("Plan version %d  %s", p.Version, p.Hash),
		fmt.Sprintf("  %s in %s, about %s", count(p.Calls, "call", "calls"), count(len(p.Waves), "wave", "waves"), ms(p.ETAMs))}
	for _, w := range p.Waves {
		out = append(out, "", c.bold(fmt.Sprintf("Wave %d: %s of %s", w.N, w.Strategy, count(w.Size(), "item", "items"))), "  "+w.Hash)
		for _, g := range w.Gates {
			out = append(out, "  gate: "+g)
		}
		if w.List != "" {
			out = append(out, massPlan(p, w, c)...)
			continue
		}
		for i, it := range w.Items {
			if i == shownItems {
				out = append(out, fmt.Sprintf("  ... and %s under the same strategy (--json has all)", count(len(w.Items)-i, "item", "items")))
				break
			}
			out = append(out, itemPlan(p, it, c)...)
		}
	}
	return append(out, breaksText(p.Breaks, c)...)
}

// shownItems bounds what a person is shown of one wave.
const shownItems = 50

// massPlan is a wave whose items are rows of pages: what all of them have in common, and
// the first of them in full.
func massPlan(p plan.Plan, w plan.Wave, c palette) []string {
	out := []string{
		fmt.Sprintf("  %s, about %s by itself", count(w.Calls, "call", "calls"), ms(w.ETAMs)),
		"  of each item, as far as it needs them: " + strings.Join(w.Verbs, ", "),
		"  the hash is over every item and call; the items are the pages of list " + w.List,
	}
	for _, it := range w.First {
		out = append(out, itemPlan(p, it, c)...)
	}
	if more := w.Count - len(w.First); more > 0 {
		out = append(out, fmt.Sprintf("  ... and %s under the same strategy (`rekey incident items` lists them)", count(more, "item", "items")))
	}
	return out
}

func itemPlan(p plan.Plan, it plan.Item, c palette) []string {
	head := fmt.Sprintf("  %s  %s/%s %s", it.Key.Short(), it.Key.Provider, it.Key.Account, or(it.Key.ID, it.Key.Kind))
	if it.Key.Principal != "" {
		head += " of " + it.Key.Principal
	}
	out := []string{head + ownedBy(it.Owner)}
	if d, ok := p.Decision(it.Key.FP); ok {
		text := "      rule " + d.Rule
		for _, k := range slices.Sorted(maps.Keys(d.Facts)) {
			text += fmt.Sprintf(", %s = %s", k, d.Facts[k])
		}
		out = append(out, text)
		for _, k := range slices.Sorted(maps.Keys(d.Skipped)) {
			out = append(out, fmt.Sprintf("      rule %s could not be told: %s", k, line(d.Skipped[k])))
		}
	}
	t := table{}
	for i, call := range it.Calls {
		t.add(fmt.Sprintf("%d.", i+1), call.Verb, callText(call))
	}
	out = append(out, t.lines("      ")...)
	for _, d := range it.Dependents {
		out = append(out, fmt.Sprintf("      used by %s%s, cut-over %s, proof %s%s", d.ID, ownedBy(d.Owner), or(d.Cutover, "?"), or(d.Proof, "?"), budget(d.BudgetMs)))
	}
	for _, r := range it.Rungs {
		word := "asks again"
		if r.Approved {
			word = "approved with this wave"
		}
		out = append(out, fmt.Sprintf("      if it still answers: %s (%s)%s", c.yellow(r.Name), word, price(r)))
	}
	return out
}

func callText(c plan.Call) string {
	text := strings.Join(c.Vendor, ", ")
	if c.Target != "" {
		text += " -> " + c.Target
	}
	if c.Support == "human" {
		text += " (by a person)"
	}
	return strings.TrimSpace(text)
}

func price(r plan.Rung) string {
	var calls []string
	for _, c := range r.Calls {
		calls = append(calls, c.Vendor...)
	}
	out := ""
	if len(calls) > 0 {
		out = ": " + strings.Join(calls, ", ")
	}
	if r.Price != "" {
		out += "; " + line(r.Price)
	}
	return out
}

func breaksText(breaks []plan.Break, c palette) []string {
	if len(breaks) == 0 {
		return []string{"", "Breaks nobody that is known"}
	}
	out := []string{"", c.bold("Breaks")}
	for _, b := range breaks {
		text := "  " + c.yellow(b.Dependent) + " for " + outage(b.OutageMs) + budget(b.BudgetMs) + ownedBy(b.Owner)
		if b.Why != "" {
			text += ": " + line(b.Why)
		}
		out = append(out, text)
	}
	return out
}
