package engine

import (
	"context"
	"slices"
	"strings"

	"rekey/internal/estate"
	"rekey/internal/page"
	"rekey/internal/page/pagestore"
	"rekey/workflows"
)

// Expand adds to the items what the estate says of them, and the keys that they lead to
// in one step. Where those that they lead to in ExpandInput.Depth steps would make more
// than ExpandInput.Large items, all of them come as rows of pages instead, but for those
// that are in scope. Reachable counts everything that lies behind, and what the estate
// cannot tell is said for Depth steps. Items and rows come in the order of fingerprints.
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
	given := map[string]bool{}
	for _, s := range in.Items {
		given[s.Key.FP] = true
	}
	inScope, err := e.pages().Stream(ctx, in.Known...)
	if err != nil {
		return workflows.ExpandResult{}, err
	}
	defer inScope.Close()
	known := lookup{stream: inScope}
	m := gathered{pages: e.pages(), room: in.Large - len(in.Items) - rows}
	var failed error
	sum, err := e.Estate.Closure(starts(from, in.Reported), in.Depth, in.Now, func(s workflows.Scoped) bool {
		if given[s.Key.FP] {
			return true
		}
		var is bool
		if is, failed = known.has(s.Key.FP); !is && failed == nil {
			failed = m.add(ctx, s)
		}
		return failed == nil
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		return workflows.ExpandResult{}, err
	}
	if m.writer == nil && m.room >= 0 {
		return e.expandItems(in)
	}
	out := workflows.ExpandResult{Reachable: max(sum.Reachable, len(in.Items)), Unseen: sum.Unseen, Dark: sum.Dark}
	for _, s := range in.Items {
		e.Estate.Describe(&s, in.Now)
		out.Items = append(out.Items, s)
	}
	slices.SortFunc(out.Items, func(a, b workflows.Scoped) int { return strings.Compare(a.Key.FP, b.Key.FP) })
	out.Mass, err = m.part(ctx)
	return out, err
}

// starts are where a closure begins: items, with the places that reports name.
func starts(items []workflows.Scoped, reported map[string][]string) []estate.From {
	from := make([]estate.From, 0, len(items))
	for _, s := range items {
		from = append(from, estate.From{Item: s, Places: reported[s.Key.FP]})
	}
	return from
}

// expandItems gives the items, and what they lead to in one step.
func (e *Engine) expandItems(in workflows.ExpandInput) (workflows.ExpandResult, error) {
	var out workflows.ExpandResult
	from := starts(in.Items, in.Reported)
	sum, err := e.Estate.Closure(from, 1, in.Now, func(s workflows.Scoped) bool {
		out.Items = append(out.Items, s)
		return true
	})
	if err == nil && in.Depth > 1 {
		sum, err = e.Estate.Closure(from, in.Depth, in.Now, nil)
	}
	out.Reachable, out.Unseen, out.Dark = sum.Reachable, sum.Unseen, sum.Dark
	return out, err
}

// gathered takes what is found, in the order of fingerprints. As long as there is room
// for it among items nothing is written.
type gathered struct {
	pages  *pagestore.Store
	room   int
	few    []workflows.Scoped
	writer *pagestore.Writer
}

func (m *gathered) add(ctx context.Context, s workflows.Scoped) error {
	if m.writer != nil {
		return m.writer.Add(ctx, rowOf(s))
	}
	m.few = append(m.few, s)
	if len(m.few) <= m.room {
		return nil
	}
	m.writer = m.pages.Writer()
	for _, s := range m.few {
		if err := m.writer.Add(ctx, rowOf(s)); err != nil {
			return err
		}
	}
	m.few = nil
	return nil
}

// part ends the list of what was found; nil where that was nothing.
func (m *gathered) part(ctx context.Context) (*workflows.MassPart, error) {
	if m.writer == nil {
		return nil, nil
	}
	l, err := m.writer.Close(ctx)
	return &workflows.MassPart{List: l.Hash, N: l.Items}, err
}

// A lookup finds fingerprints in rows, when it is asked in their order.
type lookup struct {
	stream *pagestore.Stream
	row    page.Row
	begun  bool
	over   bool
}

func (l *lookup) has(fp string) (bool, error) {
	for !l.over && (!l.begun || l.row.FP < fp) {
		row, more, err := l.stream.Next()
		if err != nil {
			return false, err
		}
		l.row, l.begun, l.over = row, true, !more
	}
	return !l.over && l.row.FP == fp, nil
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
