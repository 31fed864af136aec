package pagestore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"rekey/internal/blob"
	"rekey/internal/page"
)

// blobs is a store in memory that counts reads.
type blobs struct {
	mu   sync.Mutex
	m    map[string][]byte
	gets map[string]int
	full bool
}

func newBlobs() *blobs { return &blobs{m: map[string][]byte{}, gets: map[string]int{}} }

func (b *blobs) Get(_ context.Context, hash string) ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.gets[hash]++
	v, ok := b.m[hash]
	if !ok {
		return nil, &blob.NotFoundError{Hash: hash}
	}
	return v, nil
}

func (b *blobs) Put(_ context.Context, v []byte) (string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.full {
		return "", errors.New("disk full")
	}
	b.m[blob.Hash(v)] = slices.Clone(v)
	return blob.Hash(v), nil
}

func row(n int) page.Row {
	return page.Row{FP: fmt.Sprintf("fp1_%06d", n), Provider: "awsiam", Account: "prod", Kind: "k", ID: fmt.Sprintf("id-%d", n)}
}

func put(t *testing.T, s *Store, ns ...int) string {
	t.Helper()
	var rows []page.Row
	for _, n := range ns {
		rows = append(rows, row(n))
	}
	ref, err := s.Put(t.Context(), rows)
	require.NoError(t, err)
	require.Equal(t, len(ns), ref.N)
	return ref.Hash
}

func fps(t *testing.T, s *Store, l page.List) []string {
	t.Helper()
	var out []string
	require.NoError(t, s.Each(t.Context(), hashes(l), func(rows []page.Row) error {
		for _, r := range rows {
			out = append(out, r.FP)
		}
		return nil
	}))
	return out
}

func hashes(l page.List) []string {
	var out []string
	for _, p := range l.Pages {
		out = append(out, p.Hash)
	}
	return out
}

func TestPackFillsPagesInOrder(t *testing.T) {
	s := New(newBlobs())
	var pages []string
	for i := range 12 { // the pages overlap from end to end
		var ns []int
		for n := i; n < 12*100; n += 12 {
			ns = append(ns, n)
		}
		pages = append(pages, put(t, s, ns...))
	}
	l, err := s.Pack(t.Context(), pages)
	require.NoError(t, err)
	require.Equal(t, 1200, l.Items)
	var sizes []int
	for _, p := range l.Pages {
		sizes = append(sizes, p.N)
	}
	require.Equal(t, []int{500, 500, 200}, sizes)
	got := fps(t, s, l)
	require.Len(t, got, 1200)
	require.True(t, slices.IsSorted(got))
	require.Equal(t, row(0).FP, l.Pages[0].First)
	require.Equal(t, row(1199).FP, l.Pages[2].Last)

	slices.Reverse(pages)
	again, err := s.Pack(t.Context(), pages)
	require.NoError(t, err)
	require.Equal(t, l, again, "the same rows are the same list, whatever pages they came in")
	read, err := s.List(t.Context(), l.Hash)
	require.NoError(t, err)
	require.Equal(t, l, read)
}

// What does not fit into memory is put together range by range, to the same list.
func TestMergeHoldsFewRows(t *testing.T) {
	const n = 1_700
	for name, order := range map[string]func(i int) int{
		"in order":     func(i int) int { return i },
		"backwards":    func(i int) int { return n - 1 - i },
		"all overlap":  func(i int) int { return (i * 7919) % n },
		"small pages":  func(i int) int { return (i*31 + i/7) % n },
		"random":       func() func(int) int { p := rand.New(rand.NewPCG(1, 2)).Perm(n); return func(i int) int { return p[i] } }(),
		"one by one":   func(i int) int { return i ^ 1 },
		"halves mixed": func(i int) int { return (i%2)*n/2 + i/2 },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBlobs()
			s := New(b)
			size := 17 // the last row of a page is a place to cut
			if name == "small pages" {
				size = 3
			}
			var pages []string
			seen := map[int]bool{}
			var ns []int
			for i := range n {
				if k := order(i); !seen[k] {
					seen[k] = true
					ns = append(ns, k)
				}
			}
			for chunk := range slices.Chunk(ns, size) {
				pages = append(pages, put(t, s, chunk...))
			}
			want, err := s.Pack(t.Context(), pages)
			require.NoError(t, err)
			s.most = 200
			held, most, last := 0, 0, ""
			clear(b.gets)
			got, err := s.Pack(t.Context(), pages)
			require.NoError(t, err)
			require.Equal(t, want, got)
			for _, n := range b.gets {
				held += n
			}
			if name == "in order" {
				require.LessOrEqual(t, held, 2*len(pages)+2*n/s.most, "pages in order are read twice, those at a cut once more")
			}
			require.NoError(t, s.ranges(t.Context(), pages, func(rows []page.Row) error {
				most = max(most, len(rows))
				for _, r := range rows {
					require.Less(t, last, r.FP)
					last = r.FP
				}
				return nil
			}))
			require.LessOrEqual(t, most, s.most+stride*len(pages))
			if name != "small pages" && name != "all overlap" && name != "random" {
				require.LessOrEqual(t, most, s.most+3*stride)
			}
		})
	}
}

func TestAKeyInTwoPagesIsAnError(t *testing.T) {
	s := New(newBlobs())
	a, b := put(t, s, 1, 2, 3), put(t, s, 3, 4)
	_, err := s.Pack(t.Context(), []string{a, b})
	require.ErrorContains(t, err, "two pages")
	w := s.Writer()
	require.NoError(t, w.Add(t.Context(), row(2)))
	require.ErrorIs(t, w.Add(t.Context(), row(2)), errOrder)
	require.ErrorIs(t, w.Add(t.Context(), row(1)), errOrder)
}

func TestListOfNothing(t *testing.T) {
	s := New(newBlobs())
	l, err := s.Pack(t.Context(), nil)
	require.NoError(t, err)
	require.Zero(t, l.Items)
	read, err := s.List(t.Context(), l.Hash)
	require.NoError(t, err)
	require.Equal(t, l, read)
	require.NotNil(t, read.Pages)
	empty, err := s.Put(t.Context(), nil)
	require.NoError(t, err)
	same, err := s.Pack(t.Context(), []string{empty.Hash, put(t, s, 1)})
	require.NoError(t, err)
	require.Equal(t, 1, same.Items)
	require.Len(t, same.Pages, 1)
}

func TestWhatIsNoPageIsRefused(t *testing.T) {
	b := newBlobs()
	s := New(b)
	page1 := put(t, s, 1, 2)
	keep := func(text string) string {
		h, err := b.Put(t.Context(), []byte(text))
		require.NoError(t, err)
		return h
	}
	_, err := s.List(t.Context(), page1)
	require.ErrorContains(t, err, "not a list")
	_, err = s.List(t.Context(), keep(`{"items":3,"pages":[{"hash":"x","n":2}],"schema":"rekey.page-list/v1"}`))
	require.ErrorContains(t, err, "says 3 items")
	l, err := s.Pack(t.Context(), []string{page1})
	require.NoError(t, err)
	_, err = s.Rows(t.Context(), l.Hash)
	require.ErrorIs(t, err, page.ErrSchema)
	_, err = s.Rows(t.Context(), keep(strings.Replace(string(b.m[page1]), "fp1_000001", "fp1_000009", 1)))
	require.ErrorContains(t, err, "order")
	_, err = s.Rows(t.Context(), blob.Hash([]byte("gone")))
	var gone *blob.NotFoundError
	require.ErrorAs(t, err, &gone)
	err = s.Each(t.Context(), []string{page1, blob.Hash([]byte("gone"))}, func([]page.Row) error { return nil })
	require.ErrorAs(t, err, &gone)
	b.full = true
	_, err = s.Pack(t.Context(), []string{page1})
	require.ErrorContains(t, err, "disk full")
}

func TestEachStops(t *testing.T) {
	s := New(newBlobs())
	pages := []string{put(t, s, 1), put(t, s, 2), put(t, s, 3)}
	n := 0
	err := s.Each(t.Context(), pages, func([]page.Row) error { n++; return errors.New("enough") })
	require.ErrorContains(t, err, "enough")
	require.Equal(t, 1, n)
	ctx, cancel := context.WithCancel(t.Context())
	err = s.Each(ctx, pages, func([]page.Row) error { cancel(); return nil })
	require.ErrorIs(t, err, context.Canceled)
}

// The bytes of a list are canonical: what is hashed is what RFC 8785 gives.
func TestListBytes(t *testing.T) {
	b := newBlobs()
	s := New(b)
	l, err := s.PutList(t.Context(), []page.Ref{{Hash: "sha256:a", N: 2, First: "x", Last: "y"}})
	require.NoError(t, err)
	require.Equal(t, `{"items":2,"pages":[{"first":"x","hash":"sha256:a","last":"y","n":2}],"schema":"rekey.page-list/v1"}`, string(b.m[l.Hash]))
	require.True(t, json.Valid(b.m[l.Hash]))
}

func BenchmarkPack(b *testing.B) {
	for _, n := range []int{25_000, 100_000} {
		b.Run(fmt.Sprintf("%d", n), func(b *testing.B) {
			s := New(newBlobs())
			var pages []string
			for i := 0; i < n; i += page.Size {
				var rows []page.Row
				for k := i; k < i+page.Size; k++ {
					r := row(k)
					r.Owner, r.Calls = "team", map[string]int{"done": 3}
					for range 4 {
						r.Outcomes = append(r.Outcomes, page.Outcome{Attempt: 1, Outcome: "done", RequestID: strings.Repeat("a", 36), Verb: "Disable"})
					}
					rows = append(rows, r)
				}
				ref, err := s.Put(b.Context(), rows)
				require.NoError(b, err)
				pages = append(pages, ref.Hash)
			}
			b.ReportAllocs()
			for b.Loop() {
				_, err := s.Pack(b.Context(), pages)
				require.NoError(b, err)
			}
		})
	}
}

func TestStreamMergesLists(t *testing.T) {
	s := New(newBlobs())
	list := func(ns ...int) string {
		w := s.Writer()
		for _, n := range ns {
			require.NoError(t, w.Add(t.Context(), row(n)))
		}
		l, err := w.Close(t.Context())
		require.NoError(t, err)
		return l.Hash
	}
	var even, odd []int
	for n := range 1300 {
		if n%2 == 0 {
			even = append(even, n)
		} else {
			odd = append(odd, n)
		}
	}
	all := func(lists ...string) (out []string) {
		st, err := s.Stream(t.Context(), lists...)
		require.NoError(t, err)
		defer st.Close()
		for {
			r, ok, err := st.Next()
			require.NoError(t, err)
			if !ok {
				return out
			}
			out = append(out, r.FP)
		}
	}
	got := all(list(odd...), list(), list(even...), list(2000))
	require.Len(t, got, 1301)
	require.True(t, slices.IsSorted(got))
	require.Equal(t, []string{row(1).FP, row(2).FP, row(2).FP, row(3).FP}, all(list(1, 2), list(2, 3)), "a key in two lists comes twice")
	require.Empty(t, all())

	a, b := put(t, s, 5, 6), put(t, s, 1, 2)
	l, err := s.PutList(t.Context(), []page.Ref{{Hash: a, N: 2}, {Hash: b, N: 2}})
	require.NoError(t, err)
	st, err := s.Stream(t.Context(), l.Hash)
	require.NoError(t, err)
	defer st.Close()
	_, _, err = st.Next()
	require.NoError(t, err)
	_, _, err = st.Next()
	require.ErrorContains(t, err, "order")
	_, err = s.Stream(t.Context(), l.Hash, blob.Hash([]byte("gone")))
	require.ErrorContains(t, err, "not in the store")
	_, err = s.Stream(t.Context(), list(1), func() string {
		l, err := s.PutList(t.Context(), []page.Ref{{Hash: blob.Hash([]byte("gone")), N: 1}})
		require.NoError(t, err)
		return l.Hash
	}())
	require.ErrorContains(t, err, "not in the store")
}
