package engine

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"rekey/internal/page"
	"rekey/workflows"
)

// Expand adds to the items what the estate says of them, and the keys that they lead to
// in one step. Where those that they lead to in ExpandInput.Depth steps would make more
// than ExpandInput.Large items, all of them come as rows of pages instead, but for those
// that are in scope. Reachable counts everything that lies behind. Items and rows come
// in the order of fingerprints.
func (e *Engine) Expand(ctx context.Context, in workflows.ExpandInput) (workflows.ExpandResult, error) {
	if in.Large <= 0 {
		return e.expandItems(in)
	}
	rows, of, err := e.known(ctx, in)
	if err != nil {
		return workflows.ExpandResult{}, err
	}
	// What a row led to came with it: were it followed again once it is an item, the
	// scope would grow beyond the playbook's depth.
	from := slices.DeleteFunc(slices.Clone(in.Items), func(s workflows.Scoped) bool { return of[s.Key.FP] })
	f, err := e.follow(from)
	if err != nil {
		return workflows.ExpandResult{}, err
	}
	given := map[string]bool{}
	for _, s := range in.Items {
		given[s.Key.FP] = true
	}
	found, err := e.unknown(ctx, in.Known, f.within(in.Depth, given))
	if err != nil {
		return workflows.ExpandResult{}, err
	}
	if len(in.Items)+rows+len(found) <= in.Large {
		return e.expandItems(in)
	}
	out := workflows.ExpandResult{Reachable: max(f.all, len(in.Items))}
	for _, s := range in.Items {
		e.Estate.Describe(&s)
		out.Items = append(out.Items, s)
	}
	slices.SortFunc(out.Items, byFP)
	out.Mass, err = e.mass(ctx, found)
	return out, err
}

// mass writes what was found as rows; nil where nothing was.
func (e *Engine) mass(ctx context.Context, found []workflows.Scoped) (*workflows.MassPart, error) {
	if len(found) == 0 {
		return nil, nil
	}
	w := e.pages().Writer()
	for _, s := range found {
		e.Estate.Describe(&s)
		if err := w.Add(ctx, rowOf(s)); err != nil {
			return nil, err
		}
	}
	l, err := w.Close(ctx)
	return &workflows.MassPart{List: l.Hash, N: l.Items}, err
}

// unknown gives what stands in none of the lists.
func (e *Engine) unknown(ctx context.Context, lists []string, found []workflows.Scoped) ([]workflows.Scoped, error) {
	known, err := e.pages().Stream(ctx, lists...)
	if err != nil {
		return nil, err
	}
	defer known.Close()
	k, more, err := known.Next()
	out := found[:0]
	for _, s := range found {
		for more && err == nil && k.FP < s.Key.FP {
			k, more, err = known.Next()
		}
		if err != nil {
			return nil, err
		}
		if !more || k.FP != s.Key.FP {
			out = append(out, s)
		}
	}
	return out, err
}

// known counts the rows of the lists that are in scope, and tells which of the items
// were among them.
func (e *Engine) known(ctx context.Context, in workflows.ExpandInput) (int, map[string]bool, error) {
	items := map[string]bool{}
	for _, s := range in.Items {
		items[s.Key.FP] = true
	}
	pages, err := e.pages().Hashes(ctx, in.Known...)
	if err != nil {
		return 0, nil, err
	}
	n, of := 0, map[string]bool{}
	err = e.pages().Each(ctx, pages, func(rows []page.Row) error {
		n += len(rows)
		for i := range rows {
			if fp := rows[i].FP; items[fp] {
				of[fp] = true
			}
		}
		return nil
	})
	return n - len(of), of, err
}

// expandItems gives the items, and what they lead to in one step.
func (e *Engine) expandItems(in workflows.ExpandInput) (workflows.ExpandResult, error) {
	out := workflows.ExpandResult{}
	have := map[string]bool{}
	for _, s := range in.Items {
		have[s.Key.FP] = true
	}
	for _, s := range in.Items {
		e.Estate.Describe(&s)
		out.Items = append(out.Items, s)
		next, err := e.Estate.Reach(s)
		if err != nil {
			return out, err
		}
		for _, n := range next {
			if have[n.Key.FP] {
				continue
			}
			have[n.Key.FP] = true
			e.Estate.Describe(&n)
			out.Items = append(out.Items, n)
		}
	}
	f, err := e.follow(out.Items)
	out.Reachable = f.all
	slices.SortFunc(out.Items, byFP)
	return out, err
}

func byFP(a, b workflows.Scoped) int { return strings.Compare(a.Key.FP, b.Key.FP) }

// A following is the keys that items lead to in any number of steps.
type following struct {
	// all counts them, the items among them.
	all  int
	keys []step
}

// A step is a key and in how many steps it was reached first.
type step struct {
	workflows.Scoped
	n int
}

// within gives the keys that so many steps lead to, in the order of fingerprints,
// without some.
func (f following) within(steps int, without map[string]bool) []workflows.Scoped {
	var out []workflows.Scoped
	for _, k := range f.keys {
		if k.n > 0 && k.n <= steps && !without[k.Key.FP] {
			out = append(out, k.Scoped)
		}
	}
	slices.SortFunc(out, func(a, b workflows.Scoped) int { return cmp.Compare(a.Key.FP, b.Key.FP) })
	return out
}

// follow goes through the estate from items, breadth first. Cycles are safe.
func (e *Engine) follow(items []workflows.Scoped) (following, error) {
	var f following
	seen := map[string]bool{}
	for _, s := range items {
		if !seen[s.Key.FP] {
			seen[s.Key.FP] = true
			f.keys = append(f.keys, step{Scoped: s})
		}
	}
	for i := 0; i < len(f.keys); i++ {
		next, err := e.Estate.Reach(f.keys[i].Scoped)
		if err != nil {
			return f, err
		}
		for _, s := range next {
			if !seen[s.Key.FP] {
				seen[s.Key.FP] = true
				f.keys = append(f.keys, step{Scoped: s, n: f.keys[i].n + 1})
			}
		}
	}
	f.all = len(f.keys)
	return f, nil
}
