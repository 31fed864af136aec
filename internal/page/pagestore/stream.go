package pagestore

import (
	"context"
	"fmt"

	"rekey/internal/page"
)

// A reader reads pages one after the other, each while the one before is worked on.
type reader struct {
	ctx    context.Context
	cancel context.CancelFunc
	pages  chan read
}

type read struct {
	rows []page.Row
	err  error
}

func (s *Store) ahead(ctx context.Context, pages []string) *reader {
	ctx, cancel := context.WithCancel(ctx)
	r := &reader{ctx: ctx, cancel: cancel, pages: make(chan read)}
	go func() {
		defer close(r.pages)
		for _, hash := range pages {
			rows, err := s.Rows(ctx, hash)
			select {
			case r.pages <- read{rows, err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return r
}

// next gives the rows of the next page, and false after the last.
func (r *reader) next() ([]page.Row, bool, error) {
	if err := r.ctx.Err(); err != nil {
		return nil, false, err
	}
	select {
	case p, ok := <-r.pages:
		return p.rows, ok && p.err == nil, p.err
	case <-r.ctx.Done():
		return nil, false, r.ctx.Err()
	}
}

// close ends the reading; nothing of it runs afterwards.
func (r *reader) close() {
	r.cancel()
	for range r.pages { // until it has seen that it is to end
	}
}

// A Stream gives the rows of lists in the order of fingerprints. It holds two pages of
// each list. It is for one goroutine, and must be closed.
type Stream struct{ heads []*head }

// A head is the next row of a list.
type head struct {
	list string
	r    *reader
	rows []page.Row
	last string
}

// Stream begins to read lists.
func (s *Store) Stream(ctx context.Context, lists ...string) (*Stream, error) {
	st := &Stream{}
	for _, hash := range lists {
		pages, err := s.Hashes(ctx, hash)
		if err == nil {
			h := &head{list: hash, r: s.ahead(ctx, pages)}
			st.heads = append(st.heads, h)
			err = st.fill(len(st.heads) - 1)
		}
		if err != nil {
			st.Close()
			return nil, err
		}
	}
	return st, nil
}

// fill reads on when a list's page is used up, and takes the list out at its end.
func (st *Stream) fill(i int) error {
	h := st.heads[i]
	for len(h.rows) == 0 {
		rows, ok, err := h.r.next()
		if err != nil {
			return err
		}
		if !ok {
			h.r.close()
			st.heads = append(st.heads[:i:i], st.heads[i+1:]...)
			return nil
		}
		if len(rows) > 0 && rows[0].FP <= h.last {
			return fmt.Errorf("list %s: its pages are not in the order of fingerprints", h.list)
		}
		h.rows = rows
	}
	return nil
}

// Next gives the next row, and false after the last. A key that stands in two lists
// comes twice, one after the other.
func (st *Stream) Next() (page.Row, bool, error) {
	if len(st.heads) == 0 {
		return page.Row{}, false, nil
	}
	first := 0
	for i, h := range st.heads {
		if h.rows[0].FP < st.heads[first].rows[0].FP {
			first = i
		}
	}
	h := st.heads[first]
	r := h.rows[0]
	h.rows, h.last = h.rows[1:], r.FP
	return r, true, st.fill(first)
}

// Close ends the reading.
func (st *Stream) Close() {
	for _, h := range st.heads {
		h.r.close()
	}
	st.heads = nil
}
