package server

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"rekey/internal/page"
	"rekey/internal/view"
	"rekey/workflows"
)

// Rows lists the items of a large incident that are rows of pages.
type Rows interface {
	// After gives up to n of them whose fingerprints come after fp ("": from the first
	// on), in the order of fingerprints. An incident that has none gives none.
	After(ctx context.Context, incident, fp string, n int) ([]view.Item, error)
}

// PagesSource says where the rows of an incident are; [Temporal] is it.
type PagesSource interface {
	Pages(ctx context.Context, incident string) (workflows.PagesState, error)
	Groups(ctx context.Context, wave string) ([]page.Group, error)
}

// PageStore reads pages and lists; *pagestore.Store is it.
type PageStore interface {
	List(ctx context.Context, hash string) (page.List, error)
	Rows(ctx context.Context, hash string) ([]page.Row, error)
}

const (
	// heldPages bounds the pages that are kept between two requests: some 50 MB.
	heldPages = 32
	// heldFor is how long whoever pages through rows sees them as they were when they
	// began: a page holds 200, and rows move meanwhile.
	heldFor = time.Minute
)

// PagedRows is [Rows] over the blob store. What it keeps for the next request is
// bounded.
type PagedRows struct {
	source PagesSource
	store  PageStore
	now    func() time.Time

	mu    sync.Mutex
	seen  map[string]sight
	pages map[string]held
	uses  int
}

// A sight is where the rows of an incident were at a time.
type sight struct {
	at    time.Time
	pages []placed
}

// placed is a page and what is known of all its rows.
type placed struct {
	page.Ref
	wave      int
	end, open string
	// rank tells which page counts when a row stands in two of them, as it does for a
	// moment when it moves: the lowest.
	rank int
}

// held is a page that was read, and when it was used last among all.
type held struct {
	rows []page.Row
	used int
}

// NewRows makes a PagedRows.
func NewRows(source PagesSource, store PageStore, now func() time.Time) *PagedRows {
	return &PagedRows{source: source, store: store, now: now, seen: map[string]sight{}, pages: map[string]held{}}
}

// After implements Rows.
func (p *PagedRows) After(ctx context.Context, incident, fp string, n int) ([]view.Item, error) {
	pages, err := p.look(ctx, incident, fp != "")
	if err != nil || n <= 0 {
		return nil, err
	}
	// Only pages that can hold one of the next n rows are read: they come in the order of
	// their first fingerprints, and the last of the n bounds where it must begin.
	var found []foundRow
	for _, at := range pages {
		if at.Last != "" && at.Last <= fp {
			continue
		}
		if len(found) >= n && at.First > found[n-1].row.FP {
			break
		}
		rows, err := p.rows(ctx, at.Hash)
		if err != nil {
			return nil, err
		}
		from, exact := slices.BinarySearchFunc(rows, fp, func(r page.Row, fp string) int { return strings.Compare(r.FP, fp) })
		if exact {
			from++
		}
		for i := from; i < len(rows) && i-from < n; i++ {
			found = append(found, foundRow{&rows[i], at})
		}
		slices.SortFunc(found, func(a, b foundRow) int {
			return cmp.Or(strings.Compare(a.row.FP, b.row.FP), cmp.Compare(a.at.rank, b.at.rank))
		})
		found = slices.CompactFunc(found, func(a, b foundRow) bool { return a.row.FP == b.row.FP })
		found = found[:min(n, len(found))]
	}
	out := make([]view.Item, 0, len(found))
	for _, f := range found {
		out = append(out, f.item())
	}
	return out, nil
}

// A foundRow is a row and where it was found.
type foundRow struct {
	row *page.Row
	at  placed
}

// item is a row as an item is shown, with what is known of all rows of its page.
func (f foundRow) item() view.Item {
	v := f.row.View(f.at.wave, 0)
	if v.EndState == "" {
		v.EndState = f.at.end
	}
	if v.EndState == "" && v.Open.Why == "" {
		v.Open.Why = f.at.open
	}
	return v
}

// look asks where the rows are. Whoever goes on gets the answer that they began with.
func (p *PagedRows) look(ctx context.Context, incident string, goesOn bool) ([]placed, error) {
	p.mu.Lock()
	for id, s := range p.seen {
		if p.now().Sub(s.at) >= heldFor {
			delete(p.seen, id)
		}
	}
	s, ok := p.seen[incident]
	p.mu.Unlock()
	if ok && goesOn {
		return s.pages, nil
	}
	pages, err := p.ask(ctx, incident)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	p.seen[incident] = sight{p.now(), pages}
	p.mu.Unlock()
	return pages, nil
}

// Ranks of places: what a wave moves, what has ended, what waits.
const (
	rankMoves = iota
	rankOver
	rankWaits
)

func (p *PagedRows) ask(ctx context.Context, incident string) ([]placed, error) {
	st, err := p.source.Pages(ctx, incident)
	if err != nil {
		return nil, err
	}
	var out []placed
	for _, id := range st.Waves {
		groups, err := p.source.Groups(ctx, id)
		if err != nil {
			return nil, err
		}
		n, err := strconv.Atoi(id[strings.LastIndexByte(id, '/')+1:])
		if err != nil {
			n = 0 // not the id of a wave: the rows count all the same
		}
		for _, g := range groups {
			out = append(out, placed{Ref: g.Ref, wave: n, rank: rankMoves})
		}
	}
	for _, l := range st.Lists {
		list, err := p.store.List(ctx, l.List)
		if err != nil {
			return nil, err
		}
		rank := rankWaits
		if l.Wave > 0 {
			rank = rankOver
		}
		for _, ref := range list.Pages {
			out = append(out, placed{Ref: ref, wave: l.Wave, end: l.End, open: l.Open, rank: rank})
		}
	}
	slices.SortStableFunc(out, func(a, b placed) int { return strings.Compare(a.First, b.First) })
	return out, nil
}

// rows reads a page, or takes it from those that were read a moment ago.
func (p *PagedRows) rows(ctx context.Context, hash string) ([]page.Row, error) {
	if rows, ok := p.held(hash); ok {
		return rows, nil
	}
	rows, err := p.store.Rows(ctx, hash)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.uses++
	p.pages[hash] = held{rows, p.uses}
	for len(p.pages) > heldPages {
		oldest := hash
		for h, page := range p.pages {
			if page.used < p.pages[oldest].used {
				oldest = h
			}
		}
		delete(p.pages, oldest)
	}
	return rows, nil
}

func (p *PagedRows) held(hash string) ([]page.Row, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	h, ok := p.pages[hash]
	if ok {
		p.uses++
		p.pages[hash] = held{h.rows, p.uses}
	}
	return h.rows, ok
}
