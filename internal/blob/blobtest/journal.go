package blobtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/internal/blob"
	"rekey/internal/codec/keyring"
)

func open(t testing.TB, s blob.Journals, name string, term uint64) blob.Journal {
	t.Helper()
	j, err := s.OpenJournal(t.Context(), name, term)
	require.NoError(t, err)
	return j
}

func add(t testing.TB, j blob.Journal, recs ...string) {
	t.Helper()
	for _, r := range recs {
		require.NoError(t, j.Append(t.Context(), []byte(r), true))
	}
}

func texts(t testing.TB, j blob.Journal) []string {
	t.Helper()
	recs, err := j.ReadAll(t.Context())
	require.NoError(t, err)
	return words(recs)
}

func words(recs [][]byte) []string {
	out := []string{}
	for _, r := range recs {
		out = append(out, string(r))
	}
	return out
}

// read opens the journal as another process would, after the one before has ended.
func read(t testing.TB, w World, keys *keyring.Keyring, name string, term uint64) []string {
	t.Helper()
	j := open(t, w.Open(t, keys), name, term)
	defer func() { require.NoError(t, j.Close()) }()
	return texts(t, j)
}

func closed(t testing.TB, all ...blob.Journal) {
	t.Helper()
	for _, j := range all {
		require.NoError(t, j.Close())
		require.NoError(t, j.Close(), "twice is once")
	}
}

func journal(t *testing.T, w World) {
	keys := Keys(t)
	name := "inc-1/wave/1/Issue/ab.c/1"
	require.Empty(t, read(t, w, keys, name, 0))
	j := open(t, w.Open(t, keys), name, 0)
	add(t, j, "intent 1", "", "outcome 1")
	require.NoError(t, j.Append(t.Context(), []byte("not waited for"), false))
	want := []string{"intent 1", "", "outcome 1", "not waited for"}
	require.Equal(t, want, texts(t, j), "what is not durable is read as well")
	closed(t, j)
	require.Error(t, j.Append(t.Context(), []byte("x"), true), "closed")
	require.Equal(t, want, read(t, w, keys, name, 0))
	j = open(t, w.Open(t, keys), name, 0)
	for i := range 200 { // over the pages and checkpoints of any store
		add(t, j, fmt.Sprint("r", i))
		want = append(want, fmt.Sprint("r", i))
	}
	closed(t, j)
	require.Equal(t, want, read(t, w, keys, name, 0))
	require.Empty(t, read(t, w, keys, name+"/2", 0), "another journal whose name begins like it")
}

func refused(t *testing.T, w World) {
	s := w.Open(t, Keys(t))
	for _, bad := range []string{"", "/", "a/", "/a", "..", "a/../b", ".hidden", "a+b", "a~b", "a b", "a\x00", strings.Repeat("x", 201)} {
		_, err := s.OpenJournal(t.Context(), bad, 0)
		require.Error(t, err, "%q", bad)
		_, err = s.Lock(t.Context(), bad)
		require.Error(t, err, "%q", bad)
	}
	j := open(t, s, "a/b", 0)
	require.ErrorContains(t, j.Append(t.Context(), make([]byte, blob.MaxRecord+1), false), "blob store")
	require.ErrorContains(t, j.Append(t.Context(), []byte("a\nb"), false), "one line")
	add(t, j, strings.Repeat("x", blob.MaxRecord))
	closed(t, j)
}

func appendsAtOnce(t *testing.T, w World) {
	keys := Keys(t)
	j := open(t, w.Open(t, keys), "j", 3)
	var wg sync.WaitGroup
	want := []string{}
	for i := range 64 {
		want = append(want, fmt.Sprint("r", i))
		wg.Go(func() {
			if err := j.Append(t.Context(), fmt.Append(nil, "r", i), i%2 == 0); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	inMemory := texts(t, j)
	closed(t, j)
	got := read(t, w, keys, "j", 3)
	require.Equal(t, inMemory, got, "in one order for all")
	slices.Sort(got)
	slices.Sort(want)
	require.Equal(t, want, got)
}

// takeOver is a holder that stood still and comes back: what it writes after the next
// one began is read by nobody who decides, and is on record as late.
func takeOver(t *testing.T, w World) {
	keys := Keys(t)
	const name = "inc-1/wave/1/Issue/ab/1"
	old := open(t, w.Open(t, keys), name, 5)
	add(t, old, "intent 1", "outcome 1", "intent 2")

	host := w.Open(t, keys)
	next := open(t, host, name, 9)
	require.Equal(t, []string{"intent 1", "outcome 1", "intent 2"}, texts(t, next), "the old one is not asked: it may stand still for ever")
	// It is back. A store may refuse it, or keep what it writes apart.
	var fenced *blob.FencedError
	for _, r := range []string{"outcome 2, late", "intent 3, late"} {
		if err := old.Append(t.Context(), []byte(r), true); err != nil {
			require.ErrorAs(t, err, &fenced)
		}
	}
	add(t, next, "settled", "intent 3")
	want := []string{"intent 1", "outcome 1", "intent 2", "settled", "intent 3"}
	require.Equal(t, want, texts(t, next))

	for _, term := range []uint64{5, 8} {
		_, err := w.Open(t, keys).OpenJournal(t.Context(), name, term)
		require.ErrorAs(t, err, &fenced)
		require.Equal(t, uint64(9), fenced.Term)
	}
	_, err := w.Open(t, keys).OpenJournal(t.Context(), name, 0)
	require.ErrorAs(t, err, &fenced, "nobody without a lease")

	again := open(t, host, name, 9)
	require.Equal(t, texts(t, next), texts(t, again), "the same term goes on in one log")
	closed(t, next, again)
	require.Equal(t, want, read(t, w, keys, name, 9))
	last := open(t, w.Open(t, keys), name, 10)
	require.Equal(t, want, texts(t, last))
	late, err := last.Late(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"outcome 2, late", "intent 3, late"}, words(late))
	closed(t, last)
	all, err := w.Open(t, keys).Inspect(t.Context(), name)
	require.NoError(t, err)
	require.Equal(t, want, words(all.Records), "the same without opening it")
	require.Equal(t, late, all.Late)
	_ = old.Close()
}

func fromNoTerms(t *testing.T, w World) {
	keys := Keys(t)
	j := open(t, w.Open(t, keys), "pass", 0)
	add(t, j, "intent")
	closed(t, j)
	j = open(t, w.Open(t, keys), "pass", 1)
	require.Equal(t, []string{"intent"}, texts(t, j))
	add(t, j, "outcome")
	closed(t, j)
	require.Equal(t, []string{"intent", "outcome"}, read(t, w, keys, "pass", 2))
}

// manyTerms lets terms open one journal at the same moment, in any order: whoever is
// let in sees all that was on record before, the highest is let in, and only one of
// them can go on.
func manyTerms(t *testing.T, w World) {
	if n, ok := w.(interface{ NotAtomic() string }); ok {
		t.Skip("skipped: " + n.NotAtomic())
	}
	for round := range 5 {
		keys := Keys(t)
		name := fmt.Sprint("pass/", round)
		first := open(t, w.Open(t, keys), name, 1)
		add(t, first, "intent")
		closed(t, first)
		var wg sync.WaitGroup
		got := make([]error, 8)
		opened := make([]blob.Journal, len(got))
		for n := range got {
			s := w.Open(t, keys)
			wg.Go(func() {
				j, err := s.OpenJournal(context.Background(), name, uint64(n)+2)
				if got[n] = err; err != nil {
					return
				}
				opened[n] = j
				recs, err := j.ReadAll(context.Background())
				if err != nil || len(recs) == 0 || string(recs[0]) != "intent" {
					got[n] = fmt.Errorf("%d records: %w", len(recs), err)
					return
				}
				_ = j.Append(context.Background(), fmt.Append(nil, "of ", n), true)
			})
		}
		wg.Wait()
		require.NoError(t, got[7], "the highest term")
		for n, err := range got {
			if err != nil {
				var fenced *blob.FencedError
				require.ErrorAs(t, err, &fenced)
			}
			if opened[n] != nil {
				_ = opened[n].Close()
			}
		}
		want := read(t, w, keys, name, 20)
		require.Equal(t, "intent", want[0])
		require.Equal(t, "of 7", want[len(want)-1], "the highest wrote last: %v", want)
		require.Equal(t, want, read(t, w, keys, name, 21), "and it stays so")
	}
}

// emptyTerms are holders that died between opening and their first record.
func emptyTerms(t *testing.T, w World) {
	keys := Keys(t)
	j := open(t, w.Open(t, keys), "pass", 1)
	add(t, j, "intent")
	closed(t, j)
	for term := uint64(2); term < 6; term++ {
		require.Equal(t, []string{"intent"}, read(t, w, keys, "pass", term))
	}
	j = open(t, w.Open(t, keys), "pass", 6)
	add(t, j, "settled")
	closed(t, j)
	require.Equal(t, []string{"intent", "settled"}, read(t, w, keys, "pass", 7))
}

// long is a record that makes a journal worth sealing away.
func long(n int) string { return strings.Repeat(fmt.Sprintf(`{"record":%d}`, n), 2000) }

func sealed(t *testing.T, w World) {
	for name, recs := range map[string][]string{"small": {"r0", "r1"}, "large": {long(0), long(1), long(2), "3", "4", "5", "6", "7", "8", "9"}} {
		keys := Keys(t)
		s := w.Open(t, keys)
		j := open(t, s, name, 2)
		add(t, j, recs...)
		hash, err := j.Seal(t.Context(), []byte("tail\n"))
		require.NoError(t, err)
		content, err := s.Get(t.Context(), hash)
		require.NoError(t, err)
		require.Equal(t, strings.Join(append(slices.Clone(recs), "tail\n"), "\n"), string(content))
		again, err := j.Seal(t.Context(), []byte("tail\n"))
		require.NoError(t, err)
		require.Equal(t, hash, again, "a lost answer asked for again")
		require.Equal(t, recs, texts(t, j))
		add(t, j, "after")
		want := append(slices.Clone(recs), "after")
		require.Equal(t, want, texts(t, j))
		closed(t, j)
		require.Equal(t, want, read(t, w, keys, name, 2))

		j = open(t, w.Open(t, keys), name, 2)
		more := []string{long(10), long(11), "12", "13", "14", "15", "16", "17", "18", "19"}
		add(t, j, more...)
		want = append(want, more...)
		hash, err = j.Seal(t.Context(), nil)
		require.NoError(t, err)
		content, err = s.Get(t.Context(), hash)
		require.NoError(t, err)
		require.Equal(t, strings.Join(want, "\n")+"\n", string(content), "it is the whole again")
		closed(t, j)
		require.Equal(t, want, read(t, w, keys, name, 2))
	}
	s := w.Open(t, Keys(t))
	j := open(t, s, "empty", 0)
	hash, err := j.Seal(t.Context(), nil)
	require.NoError(t, err)
	require.Equal(t, blob.Hash(nil), hash)
	closed(t, j)
}

func takeOverSealed(t *testing.T, w World) {
	keys := Keys(t)
	old := open(t, w.Open(t, keys), "pass", 5)
	want := []string{long(1), long(2), "3", "4", "5", "6", "7", "8", "9", "10"}
	add(t, old, want...)
	_, err := old.Seal(t.Context(), nil)
	require.NoError(t, err)
	add(t, old, "more")
	want = append(want, "more")

	next := open(t, w.Open(t, keys), "pass", 6)
	require.Equal(t, want, texts(t, next))
	_ = old.Append(t.Context(), []byte("late"), true)
	add(t, next, "settled", long(3), "a", "b", "c", "d", "e", "f", "g", "h")
	want = append(want, "settled", long(3), "a", "b", "c", "d", "e", "f", "g", "h")
	_, err = next.Seal(t.Context(), nil)
	require.NoError(t, err)
	_ = old.Append(t.Context(), []byte("later"), true) // also after objects were let go
	late, err := next.Late(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"late", "later"}, words(late))
	closed(t, next)
	_ = old.Close()
	require.Equal(t, want, read(t, w, keys, "pass", 7))
}

func journalKey(t *testing.T, w World) {
	keys := Keys(t)
	j := open(t, w.Open(t, keys), "j", 0)
	add(t, j, "one")
	for _, id := range []string{"next", "last"} {
		require.NoError(t, keys.Add(id))
		require.NoError(t, keys.Activate(id))
		add(t, j, "under "+id)
	}
	closed(t, j)
	require.Equal(t, []string{"one", "under next", "under last"}, read(t, w, keys, "j", 0))
	j = open(t, w.Open(t, keys), "j2", 0)
	add(t, j, "under last")
	closed(t, j)
	_, err := w.Open(t, Keys(t)).OpenJournal(t.Context(), "j2", 0)
	var missing *keyring.MissingKeyError
	require.ErrorAs(t, err, &missing)
}

func collected(t *testing.T, w World) {
	keys := Keys(t)
	s := w.Open(t, keys)
	each := func() map[string]time.Duration {
		out := map[string]time.Duration{}
		require.NoError(t, s.EachJournal(t.Context(), func(name string, age time.Duration) error { out[name] = age; return nil }))
		return out
	}
	require.Empty(t, each())
	old := open(t, s, "inc-1/a/b", 0)
	add(t, old, "names "+blob.Hash([]byte("x")))
	closed(t, old)
	held := open(t, s, "inc-1/a", 4)
	add(t, held, long(1), long(2), "3", "4", "5", "6", "7", "8", "9")
	hash, err := held.Seal(t.Context(), nil)
	require.NoError(t, err)
	add(t, held, "r")
	w.Age(t, 2*week)
	young := open(t, s, "notify/young", 0)
	add(t, young, "r")
	closed(t, young)
	have := each()
	require.Len(t, have, 3)
	require.Greater(t, have["inc-1/a/b"], week)
	require.Greater(t, have["inc-1/a"], week)
	require.Less(t, have["notify/young"], week)

	for name, want := range map[string]blob.Inspected{
		"inc-1/a/b": {Records: [][]byte{[]byte("names " + blob.Hash([]byte("x")))}},
		"inc-1/a":   {Records: [][]byte{[]byte(long(1)), []byte(long(2)), []byte("3"), []byte("4"), []byte("5"), []byte("6"), []byte("7"), []byte("8"), []byte("9"), []byte("r")}, Sealed: hash},
		"absent":    {},
	} {
		got, err := s.Inspect(t.Context(), name)
		require.NoError(t, err)
		require.Equal(t, want, got, name)
	}

	for name, want := range map[string]bool{"inc-1/a/b": true, "inc-1/a": false, "notify/young": false, "absent": false} {
		got, err := s.RemoveJournal(t.Context(), name, week)
		require.NoError(t, err)
		require.Equal(t, want, got, name)
	}
	require.Len(t, each(), 2)
	closed(t, held)
	if each()["inc-1/a"] > week { // its last record may have come with closing
		got, err := s.RemoveJournal(t.Context(), "inc-1/a", week)
		require.NoError(t, err)
		require.True(t, got)
		require.Equal(t, []string{"notify/young"}, keysOf(each()))
	}
	require.Empty(t, read(t, w, keys, "inc-1/a/b", 0))
}

func keysOf(m map[string]time.Duration) (out []string) {
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

func lock(t *testing.T, w World) {
	keys := Keys(t)
	stores := []blob.Journals{w.Open(t, keys), w.Open(t, keys), w.Open(t, keys)}
	inside, most, times := 0, 0, 0
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range 9 {
		wg.Go(func() {
			unlock, err := stores[i%len(stores)].Lock(t.Context(), "breaker")
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			inside++
			most, times = max(most, inside), times+1
			mu.Unlock()
			time.Sleep(2 * time.Millisecond)
			mu.Lock()
			inside--
			mu.Unlock()
			unlock()
		})
	}
	wg.Wait()
	require.Equal(t, 1, most, "never two")
	require.Equal(t, 9, times)
}

func lockWaits(t *testing.T, w World) {
	keys := Keys(t)
	s := w.Open(t, keys)
	held, unlock, err := s.Hold(t.Context(), "collect")
	require.NoError(t, err)
	require.NoError(t, held.Err())
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err = w.Open(t, keys).Lock(ctx, "collect")
	require.ErrorIs(t, err, context.DeadlineExceeded, "a lock that is held is waited for, not taken")
	other, err := w.Open(t, keys).Lock(t.Context(), "another")
	require.NoError(t, err)
	other()
	unlock()
	again, err := w.Open(t, keys).Lock(t.Context(), "collect")
	require.NoError(t, err)
	again()
}

func shared(t *testing.T, w World) {
	keys := Keys(t)
	s := w.Open(t, keys)
	old, next := open(t, s, "j", 3), open(t, s, "j", 3)
	require.NoError(t, old.Append(t.Context(), []byte("from the old attempt"), false))
	require.Equal(t, []string{"from the old attempt"}, texts(t, next))
	closed(t, old)
	add(t, next, "after")
	var wg sync.WaitGroup
	for range 4 { // opened and closed by others meanwhile
		wg.Go(func() {
			for range 5 {
				j, err := s.OpenJournal(t.Context(), "j", 3)
				if err == nil {
					err = errors.Join(j.Append(t.Context(), []byte("more"), false), j.Close())
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	closed(t, next)
	require.Len(t, read(t, w, keys, "j", 3), 22)
}
