package pagestore

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"strings"

	"rekey/internal/page"
)

// stride is of how many rows of a page one is remembered where a merge is cut.
const stride = 16

// A span is what the survey of a merge knows of a page.
type span struct{ hash, first, last string }

// Merge gives the rows of pages to f in the order of fingerprints. Pages may overlap in
// any way; a key that stands in two of them is an error, because it would be acted on
// twice.
//
// It holds some [mostRows] rows. Where the pages have more, the fingerprints are cut
// into ranges of about that many, one after the other, and a page is read again for
// each range that it has part in. Pages in order have part in one or two.
func (s *Store) Merge(ctx context.Context, pages []string, f func(page.Row) error) error {
	return s.ranges(ctx, pages, func(rows []page.Row) error {
		for i := range rows {
			if i > 0 && rows[i].FP == rows[i-1].FP {
				return fmt.Errorf("page: %s stands in two pages that are put together", rows[i].Key().Short())
			}
			if err := f(rows[i]); err != nil {
				return err
			}
		}
		return nil
	})
}

// ranges gives the rows of pages to f, some at a time, sorted within and between.
func (s *Store) ranges(ctx context.Context, pages []string, f func(rows []page.Row) error) error {
	var held []page.Row
	var spans []span
	var marks []string
	total, i := 0, 0
	err := s.Each(ctx, pages, func(rows []page.Row) error {
		hash := pages[i]
		i++
		if len(rows) == 0 {
			return nil
		}
		if total += len(rows); total <= s.most {
			held = append(held, rows...)
		} else {
			held = nil
		}
		spans = append(spans, span{hash, rows[0].FP, rows[len(rows)-1].FP})
		for i := 0; i < len(rows); i += stride {
			marks = append(marks, rows[i].FP)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if total <= s.most {
		byFP(held)
		return f(held)
	}
	slices.Sort(marks)
	step := max(1, s.most/stride)
	for from, to := "", " "; to != ""; from = to {
		to = "" // the end; otherwise the first fingerprint that is not in the range
		if len(marks) > step {
			to, marks = marks[step], marks[step:]
		}
		held = held[:0]
		for _, p := range spans {
			if p.last < from || (to != "" && p.first >= to) {
				continue
			}
			rows, err := s.Rows(ctx, p.hash)
			if err != nil {
				return err
			}
			end := len(rows)
			if to != "" {
				end = at(rows, to)
			}
			held = append(held, rows[at(rows, from):end]...)
		}
		byFP(held)
		if err := f(held); err != nil {
			return err
		}
	}
	return nil
}

// at is where a fingerprint stands in rows, or would stand.
func at(rows []page.Row, fp string) int {
	return sort.Search(len(rows), func(i int) bool { return rows[i].FP >= fp })
}

func byFP(rows []page.Row) {
	slices.SortFunc(rows, func(a, b page.Row) int { return strings.Compare(a.FP, b.FP) })
}

// Pack puts pages together in the order of fingerprints, fills full pages, and lists
// them.
func (s *Store) Pack(ctx context.Context, pages []string) (page.List, error) {
	w := s.Writer()
	if err := s.Merge(ctx, pages, func(r page.Row) error { return w.Add(ctx, r) }); err != nil {
		return page.List{}, err
	}
	return w.Close(ctx)
}
