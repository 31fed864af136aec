// Package pagestore keeps pages and lists of pages in the blob store: reading one after
// another, putting together, filling anew. What is held in memory at once is bounded,
// however long a list is.
package pagestore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"rekey/internal/blob"
	"rekey/internal/canon"
	"rekey/internal/page"
)

// Blobs is the part of a blob store that pages need.
type Blobs interface {
	Get(ctx context.Context, hash string) ([]byte, error)
	Put(ctx context.Context, plaintext []byte) (hash string, err error)
}

var _ Blobs = blob.Store(nil)

// mostRows is how many rows are held at once. A row with its outcomes is some 3 kB in
// memory, so this is 75 MB; a wave has no more.
const mostRows = 25_000

// A Store reads and writes pages. It is safe for concurrent use.
type Store struct {
	blobs Blobs
	most  int
}

// New makes a Store over blobs.
func New(blobs Blobs) *Store { return &Store{blobs: blobs, most: mostRows} }

// Put keeps rows as a page, sorted by fingerprint; rows are sorted in place. The same
// rows give the same page.
func (s *Store) Put(ctx context.Context, rows []page.Row) (page.Ref, error) {
	b, err := page.Encode(rows)
	if err != nil {
		return page.Ref{}, err
	}
	hash, err := s.blobs.Put(ctx, b)
	if err != nil {
		return page.Ref{}, fmt.Errorf("keep a page: %w", err)
	}
	return page.RefOf(hash, rows), nil
}

// Rows reads a page.
func (s *Store) Rows(ctx context.Context, hash string) ([]page.Row, error) {
	b, err := s.blobs.Get(ctx, hash)
	if err != nil {
		return nil, fmt.Errorf("page: %w", err)
	}
	rows, err := page.Decode(b)
	if err != nil {
		return nil, fmt.Errorf("page %s: %w", hash, err)
	}
	for i := 1; i < len(rows); i++ {
		if rows[i-1].FP >= rows[i].FP {
			return nil, fmt.Errorf("page %s: its rows are not in the order of their fingerprints, each once", hash)
		}
	}
	return rows, nil
}

// List reads a list; its Hash is set.
func (s *Store) List(ctx context.Context, hash string) (page.List, error) {
	b, err := s.blobs.Get(ctx, hash)
	if err != nil {
		return page.List{}, fmt.Errorf("list of pages: %w", err)
	}
	var l page.List
	if err := json.Unmarshal(b, &l); err != nil || l.Schema != page.ListSchema {
		return page.List{}, fmt.Errorf("%s is not a list of pages of this build", hash)
	}
	n := 0
	for _, p := range l.Pages {
		n += p.N
	}
	if n != l.Items {
		return page.List{}, fmt.Errorf("list %s says %d items, its pages hold %d", hash, l.Items, n)
	}
	l.Hash = hash
	return l, nil
}

// PutList keeps a list of pages and gives it with its hash.
func (s *Store) PutList(ctx context.Context, pages []page.Ref) (page.List, error) {
	l := page.List{Pages: pages, Schema: page.ListSchema}
	if pages == nil {
		l.Pages = []page.Ref{}
	}
	for _, p := range pages {
		l.Items += p.N
	}
	b, err := canon.JSON(l)
	if err != nil {
		return page.List{}, err
	}
	if l.Hash, err = s.blobs.Put(ctx, b); err != nil {
		return page.List{}, fmt.Errorf("keep a list of pages: %w", err)
	}
	return l, nil
}

// Hashes are the pages of lists, one list after the other.
func (s *Store) Hashes(ctx context.Context, lists ...string) ([]string, error) {
	var out []string
	for _, hash := range lists {
		l, err := s.List(ctx, hash)
		if err != nil {
			return nil, err
		}
		for _, p := range l.Pages {
			out = append(out, p.Hash)
		}
	}
	return out, nil
}

// Each gives the rows of each page to f, in the order of the pages. The next page is
// read while f works, so two are in memory.
func (s *Store) Each(ctx context.Context, pages []string, f func(rows []page.Row) error) error {
	r := s.ahead(ctx, pages)
	defer r.close()
	for {
		rows, ok, err := r.next()
		if !ok || err != nil {
			return err
		}
		if err := f(rows); err != nil {
			return err
		}
	}
}

// A Writer fills pages one after the other and lists them.
type Writer struct {
	s     *Store
	rows  []page.Row
	pages []page.Ref
	last  string
}

// Writer begins a list.
func (s *Store) Writer() *Writer { return &Writer{s: s} }

// errOrder: a list is in the order of fingerprints, and no key is in it twice.
var errOrder = errors.New("page: rows must come in the order of their fingerprints, each once")

// Add takes the next row, in the order of fingerprints.
func (w *Writer) Add(ctx context.Context, r page.Row) error {
	if r.FP <= w.last {
		return fmt.Errorf("%w: %s after %s", errOrder, r.FP, w.last)
	}
	w.last = r.FP
	w.rows = append(w.rows, r)
	if len(w.rows) == page.Size {
		return w.flush(ctx)
	}
	return nil
}

func (w *Writer) flush(ctx context.Context) error {
	if len(w.rows) == 0 {
		return nil
	}
	ref, err := w.s.Put(ctx, w.rows)
	if err != nil {
		return err
	}
	w.pages = append(w.pages, ref)
	w.rows = w.rows[:0]
	return nil
}

// Close writes what is left and the list.
func (w *Writer) Close(ctx context.Context) (page.List, error) {
	if err := w.flush(ctx); err != nil {
		return page.List{}, err
	}
	return w.s.PutList(ctx, w.pages)
}
