package engine

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"rekey/internal/canon"
	"rekey/internal/page"
	"rekey/internal/page/pagestore"
	"rekey/workflows"
)

func (e *Engine) pages() *pagestore.Store { return pagestore.New(e.Blobs) }

// Pin keeps what all rows of a wave share, and gives its hash.
func (e *Engine) Pin(ctx context.Context, f page.Facts) (string, error) {
	b, err := canon.JSON(f)
	if err != nil {
		return "", err
	}
	hash, err := e.Blobs.Put(ctx, b)
	if err != nil {
		return "", fmt.Errorf("keep the facts of a wave: %w", err)
	}
	return hash, nil
}

func (e *Engine) facts(ctx context.Context, hash string) (*page.Facts, error) {
	b, err := e.Blobs.Get(ctx, hash)
	if err != nil {
		return nil, fmt.Errorf("facts of the wave: %w", err)
	}
	f, err := page.DecodeFacts(b)
	if err != nil {
		return nil, fmt.Errorf("facts of the wave %s: %w", hash, err)
	}
	return f, nil
}

// List reads a list of pages, or puts pages together to one.
func (e *Engine) List(ctx context.Context, in workflows.ListInput) (page.List, error) {
	if in.List != "" {
		return e.pages().List(ctx, in.List)
	}
	return e.pages().Pack(ctx, in.Pack)
}

// Sort applies orders to rows, wakes those whose wait is over, and puts all into groups
// by what they need next. Rows of many pages that need the same come into full pages.
// It reads one page after the other and holds, for each group, less than a page.
func (e *Engine) Sort(ctx context.Context, in page.SortInput) (page.SortResult, error) {
	f, err := e.facts(ctx, in.Facts)
	if err != nil {
		return page.SortResult{}, err
	}
	orders, err := e.orders(ctx, in.Orders)
	if err != nil {
		return page.SortResult{}, err
	}
	pages := e.pages()
	hashes := in.Pages
	if in.List != "" {
		if hashes, err = pages.Hashes(ctx, in.List); err != nil {
			return page.SortResult{}, err
		}
	}
	out := page.SortResult{}
	s := sorter{pages: pages, heaps: map[string][]page.Row{}}
	err = pages.Each(ctx, hashes, func(rows []page.Row) error {
		for i := range rows {
			r := &rows[i]
			if in.Begin {
				f.Begin(r, in.Now)
			} else {
				f.Wake(r, in.Now)
			}
			if f.Obey(r, orders, in.Now) > 0 {
				out.Matched++
			}
			if r.Next.Gate == page.GatePull && len(out.Pulled) < in.Pull {
				out.Pulled = append(out.Pulled, *r)
				continue
			}
			if err := s.add(ctx, *r); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return page.SortResult{}, err
	}
	out.Groups, err = s.groups(ctx)
	return out, err
}

// orders fills the fingerprints of sets in, sorted as the rows' search wants them.
func (e *Engine) orders(ctx context.Context, given []page.Order) ([]page.Order, error) {
	out := slices.Clone(given)
	for i := range out {
		o := &out[i]
		fps := slices.Clone(o.FPs)
		if o.Set != "" {
			b, err := e.Blobs.Get(ctx, o.Set)
			if err != nil {
				return nil, fmt.Errorf("fingerprints of an order: %w", err)
			}
			fps = append(fps, strings.Fields(string(b))...)
		}
		slices.Sort(fps)
		o.FPs = slices.Compact(fps)
	}
	return out, nil
}

// A sorter heaps rows up by what they need next and writes a page whenever a heap is
// one.
type sorter struct {
	pages *pagestore.Store
	heaps map[string][]page.Row
	done  []named
}

// named is a group with its name.
type named struct {
	name  string
	group page.Group
}

func (s *sorter) add(ctx context.Context, r page.Row) error {
	name := r.Group()
	heap := append(s.heaps[name], r)
	if len(heap) < page.Size {
		s.heaps[name] = heap
		return nil
	}
	s.heaps[name] = heap[:0]
	return s.put(ctx, name, heap)
}

func (s *sorter) put(ctx context.Context, name string, rows []page.Row) error {
	ref, err := s.pages.Put(ctx, rows)
	if err != nil {
		return err
	}
	s.done = append(s.done, named{name, page.Group{
		Ref: ref, Provider: rows[0].Provider, Account: rows[0].Account, Next: rows[0].Next, Tally: page.Count(rows),
	}})
	return nil
}

// groups writes what is left and gives all groups, in the order of their names and
// first fingerprints.
func (s *sorter) groups(ctx context.Context) ([]page.Group, error) {
	for name, rows := range s.heaps {
		if len(rows) == 0 {
			continue
		}
		if err := s.put(ctx, name, rows); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(s.done, func(a, b named) int {
		return cmp.Or(strings.Compare(a.name, b.name), strings.Compare(a.group.First, b.group.First))
	})
	out := make([]page.Group, 0, len(s.done))
	for _, d := range s.done {
		out = append(out, d.group)
	}
	return out, nil
}
