package engine

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"rekey/internal/plan"
	"rekey/playbooks"
)

// mostBreaks is how many interrupted dependents a plan over rows names.
const mostBreaks = 200

// breaks keeps the dependents that one strategy interrupts in one account: those whose
// own outage is longest, each once.
type breaks struct {
	by map[place]map[string]plan.Break
}

// place is where the outage depends on the turns of the same account.
type place struct {
	provider, account string
	strategy          playbooks.StrategyName
}

// add takes the dependents of a row, whose outage is ms beside its turn.
func (b *breaks) add(it plan.Item, strategy playbooks.StrategyName, ms int64) {
	if len(it.Dependents) == 0 {
		return
	}
	if b.by == nil {
		b.by = map[place]map[string]plan.Break{}
	}
	at := place{it.Key.Provider, it.Key.Account, strategy}
	if b.by[at] == nil {
		b.by[at] = map[string]plan.Break{}
	}
	top := b.by[at]
	for _, d := range it.Dependents {
		n := plan.Break{Dependent: d.ID, Owner: d.Owner, OutageMs: ms, BudgetMs: d.BudgetMs, Why: fmt.Sprintf("%s of %s", strategy, it.Key.Short())}
		if old, ok := top[d.ID]; ok && worse(old, n) <= 0 {
			continue
		}
		top[d.ID] = n
		if len(top) > 2*mostBreaks {
			for _, out := range ranked(top)[mostBreaks:] {
				delete(top, out.Dependent)
			}
		}
	}
}

// worst gives those with the longest outages; turns adds what the rows of an account
// wait for each other.
func (b *breaks) worst(turns func(place) int64) []plan.Break {
	all := map[string]plan.Break{}
	for at, top := range b.by {
		more := turns(at)
		for _, n := range top {
			if n.OutageMs > 0 {
				n.OutageMs += more
			}
			if old, ok := all[n.Dependent]; !ok || worse(n, old) < 0 {
				all[n.Dependent] = n
			}
		}
	}
	out := ranked(all)
	return out[:min(len(out), mostBreaks)]
}

func ranked(m map[string]plan.Break) []plan.Break {
	out := make([]plan.Break, 0, len(m))
	for _, n := range m {
		out = append(out, n)
	}
	slices.SortFunc(out, worse)
	return out
}

// worse orders breaks: the longest outage first, then the smallest budget.
func worse(a, b plan.Break) int {
	return cmp.Or(cmp.Compare(b.OutageMs, a.OutageMs), cmp.Compare(a.BudgetMs, b.BudgetMs), strings.Compare(a.Dependent, b.Dependent), strings.Compare(a.Why, b.Why))
}
