// Package blobtest holds every kind of blob store to the same promises, and has an S3
// in memory with faults.
package blobtest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/internal/blob"
	"rekey/internal/codec/keyring"
)

// A World is one place where stores are, and what tests do to it.
type World interface {
	// Open opens the store as another process would: nothing in memory is shared.
	Open(t testing.TB, keys *keyring.Keyring) blob.Collectable
	// Damage replaces the stored bytes of a blob; nil removes it.
	Damage(t testing.TB, hash string, f func(stored []byte) []byte)
	// Age makes everything that is there older.
	Age(t testing.TB, by time.Duration)
}

// Keys makes a keyring.
func Keys(t testing.TB) *keyring.Keyring {
	t.Helper()
	k, err := keyring.Open(keyring.Options{Dir: t.TempDir(), Create: true, Now: time.Now})
	require.NoError(t, err)
	return k
}

// Run holds a kind of store to what blob.Collectable promises. world makes a new, empty
// place.
func Run(t *testing.T, world func(t testing.TB) World) {
	for name, test := range map[string]func(*testing.T, World){
		"content comes back by its hash":           contentComesBack,
		"what is not there is not found":           notFound,
		"damage is found and mended":               damage,
		"a missing key is not damage":              missingKey,
		"puts of the same at once":                 putsAtOnce,
		"a cancelled call":                         cancelled,
		"what is put again is young again":         young,
		"what was just put outlives a collector":   outlives,
		"blobs are listed and removed by age":      removed,
		"documents by name":                        documents,
		"a journal is read as it was written":      journal,
		"names and records that are refused":       refused,
		"appends at once":                          appendsAtOnce,
		"a term takes over":                        takeOver,
		"a term goes on where no terms were":       fromNoTerms,
		"many terms at once":                       manyTerms,
		"terms that wrote nothing":                 emptyTerms,
		"a sealed journal is a blob and goes on":   sealed,
		"a term takes over a sealed journal":       takeOverSealed,
		"a journal whose key is missing":           journalKey,
		"journals are listed, inspected, removed":  collected,
		"a lock is one caller's":                   lock,
		"a lock is waited for":                     lockWaits,
		"handles of one process share the journal": shared,
	} {
		t.Run(name, func(t *testing.T) { test(t, world(t)) })
	}
}

func put(t testing.TB, s blob.Store, content []byte) string {
	t.Helper()
	hash, err := s.Put(t.Context(), content)
	require.NoError(t, err)
	require.Equal(t, blob.Hash(content), hash)
	return hash
}

func contentComesBack(t *testing.T, w World) {
	keys := Keys(t)
	s := w.Open(t, keys)
	noise := make([]byte, 3<<20)
	_, err := rand.Read(noise)
	require.NoError(t, err)
	for name, content := range map[string][]byte{
		"empty": nil, "text": []byte("page"), "page": bytes.Repeat([]byte(`{"fp":"fp1_"},`), 40_000), "large": noise,
	} {
		hash := put(t, s, content)
		put(t, s, content)
		for _, s := range []blob.Store{s, w.Open(t, keys)} {
			got, err := s.Get(t.Context(), hash)
			require.NoError(t, err, name)
			require.True(t, bytes.Equal(content, got), name)
			has, err := s.Has(t.Context(), hash)
			require.NoError(t, err, name)
			require.True(t, has, name)
		}
	}
}

func notFound(t *testing.T, w World) {
	s := w.Open(t, Keys(t))
	absent := blob.Hash([]byte("absent"))
	_, err := s.Get(t.Context(), absent)
	var missing *blob.NotFoundError
	require.ErrorAs(t, err, &missing)
	require.Equal(t, absent, missing.Hash)
	has, err := s.Has(t.Context(), absent)
	require.NoError(t, err)
	require.False(t, has)
	for _, bad := range []string{"", "sha256:", "../../etc/passwd", "sha256:../../../../etc/passwd", absent + "0", strings.ToUpper(absent)} {
		_, err := s.Get(t.Context(), bad)
		require.ErrorContains(t, err, "not a blob hash")
		_, err = s.Has(t.Context(), bad)
		require.ErrorContains(t, err, "not a blob hash")
	}
}

func damage(t *testing.T, w World) {
	s := w.Open(t, Keys(t))
	page := bytes.Repeat([]byte("the page "), 100)
	hash, other := put(t, s, page), put(t, s, []byte("another page"))
	var whole, swapped []byte
	look := func(to *[]byte) func([]byte) []byte {
		return func(b []byte) []byte { *to = slices.Clone(b); return b }
	}
	w.Damage(t, hash, look(&whole))
	w.Damage(t, other, look(&swapped))
	damages := [][]byte{{}, swapped, append(slices.Clone(whole), 0)}
	for i := 0; i < len(whole); i += 1 + len(whole)/40 {
		flipped := slices.Clone(whole)
		flipped[i] ^= 0x40
		damages = append(damages, whole[:i], flipped)
	}
	for i, d := range damages {
		w.Damage(t, hash, func([]byte) []byte { return d })
		_, err := s.Get(t.Context(), hash)
		require.Error(t, err, "damage %d", i)
		require.ErrorContains(t, err, hash, "the blob is named")
	}
	w.Damage(t, hash, func([]byte) []byte { return swapped })
	var corrupt *blob.CorruptError
	_, err := s.Get(t.Context(), hash)
	require.ErrorAs(t, err, &corrupt)
	put(t, s, page)
	got, err := s.Get(t.Context(), hash)
	require.NoError(t, err)
	require.True(t, bytes.Equal(page, got), "putting it again mends it")
}

func missingKey(t *testing.T, w World) {
	keys := Keys(t)
	before := put(t, w.Open(t, keys), []byte("before"))
	require.NoError(t, keys.Add("next"))
	require.NoError(t, keys.Activate("next"))
	s := w.Open(t, keys)
	after := put(t, s, []byte("after"))
	for hash, want := range map[string]string{before: "before", after: "after"} {
		got, err := s.Get(t.Context(), hash)
		require.NoError(t, err)
		require.Equal(t, want, string(got))
	}
	stranger := w.Open(t, Keys(t))
	_, err := stranger.Get(t.Context(), after)
	var missing *keyring.MissingKeyError
	require.ErrorAs(t, err, &missing)
	require.Equal(t, "next", missing.ID)
	_, err = stranger.Put(t.Context(), []byte("after"))
	require.ErrorAs(t, err, &missing, "what it cannot read it does not replace")
	got, err := s.Get(t.Context(), after)
	require.NoError(t, err)
	require.Equal(t, "after", string(got))
}

func putsAtOnce(t *testing.T, w World) {
	keys := Keys(t)
	stores := []blob.Store{w.Open(t, keys), w.Open(t, keys)}
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			content, s := []byte{byte(i % 4)}, stores[i%2]
			hash, err := s.Put(t.Context(), content)
			if err != nil {
				t.Error(err)
				return
			}
			if got, err := s.Get(t.Context(), hash); err != nil || !bytes.Equal(got, content) {
				t.Errorf("got %q: %v", got, err)
			}
		})
	}
	wg.Wait()
	n := 0
	require.NoError(t, w.Open(t, keys).EachBlob(t.Context(), func(blob.Stored) error { n++; return nil }))
	require.Equal(t, 4, n)
}

func cancelled(t *testing.T, w World) {
	s := w.Open(t, Keys(t))
	hash := put(t, s, []byte("x"))
	j, err := s.OpenJournal(t.Context(), "j", 0)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = s.Put(ctx, []byte("y"))
	require.ErrorIs(t, err, context.Canceled)
	_, err = s.Get(ctx, hash)
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, j.Append(ctx, []byte("r"), true), context.Canceled)
	_, err = s.OpenJournal(ctx, "j2", 0)
	require.ErrorIs(t, err, context.Canceled)
	require.NoError(t, j.Close())
}

func ages(t testing.TB, s blob.Collectable) map[string]time.Duration {
	t.Helper()
	out := map[string]time.Duration{}
	require.NoError(t, s.EachBlob(t.Context(), func(b blob.Stored) error {
		require.Positive(t, b.Size)
		out[b.Hash] = b.Age
		return nil
	}))
	return out
}

func young(t *testing.T, w World) {
	s := w.Open(t, Keys(t))
	hash := put(t, s, []byte("page"))
	w.Age(t, blob.Fresh/2)
	put(t, s, []byte("page"))
	require.Greater(t, ages(t, s)[hash], blob.Fresh/3, "what is fresh is left alone")
	w.Age(t, blob.Fresh)
	put(t, s, []byte("page"))
	require.Less(t, ages(t, s)[hash], time.Hour)
	got, err := s.Get(t.Context(), hash)
	require.NoError(t, err)
	require.Equal(t, "page", string(got))
}

// week is a grace of a collector.
const week = 7 * 24 * time.Hour

// outlives lets collectors delete everything that is old while others put the same
// content again: what a Put has answered for is there.
func outlives(t *testing.T, w World) {
	keys := Keys(t)
	s, other := w.Open(t, keys), w.Open(t, keys)
	var contents [][]byte
	var hashes []string
	for i := range 6 {
		contents = append(contents, fmt.Append(nil, "content ", i))
		hashes = append(hashes, blob.Hash(contents[i]))
	}
	for range 5 {
		for _, c := range contents {
			put(t, s, c)
		}
		w.Age(t, 2*week)
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := other.RemoveBlobs(t.Context(), hashes, week); err != nil {
				t.Error(err)
			}
		})
		for i, c := range contents {
			wg.Go(func() {
				if _, err := s.Put(t.Context(), c); err != nil {
					t.Error(err)
				}
				if _, err := s.Get(t.Context(), hashes[i]); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		for i := range contents {
			_, err := s.Get(t.Context(), hashes[i])
			require.NoError(t, err)
		}
	}
}

func removed(t *testing.T, w World) {
	s := w.Open(t, Keys(t))
	old, named := put(t, s, []byte("old")), put(t, s, []byte("named"))
	w.Age(t, 2*week)
	fresh := put(t, s, []byte("fresh"))
	require.Len(t, ages(t, s), 3)
	out, err := s.RemoveBlobs(t.Context(), []string{old, fresh, blob.Hash([]byte("absent"))}, week)
	require.NoError(t, err)
	require.Len(t, out, 1)
	require.Equal(t, old, out[0].Hash)
	require.Positive(t, out[0].Size)
	have := ages(t, s)
	require.Contains(t, have, named)
	require.Contains(t, have, fresh)
	require.Len(t, have, 2)
	_, err = s.RemoveBlobs(t.Context(), []string{fresh}, blob.Fresh)
	require.ErrorContains(t, err, "never removed")
	require.NoError(t, s.Tidy(t.Context(), week))
	require.Len(t, ages(t, s), 2)
}

func documents(t *testing.T, w World) {
	keys := Keys(t)
	s := w.Open(t, keys)
	ctx := t.Context()
	_, err := s.ReadName(ctx, "chapters/inc-1/a.json")
	require.ErrorIs(t, err, fs.ErrNotExist)
	none := 0
	require.NoError(t, s.EachName(ctx, "chapters", func(string) error { none++; return nil }))
	require.Zero(t, none)
	for name, text := range map[string]string{"chapters/inc-1/a.json": "1", "chapters/inc-1/b.json": "", "chapters/inc-10/c.json": "3", "gc/state": "4"} {
		require.NoError(t, s.WriteName(ctx, name, []byte("before")))
		require.NoError(t, s.WriteName(ctx, name, []byte(text)))
		got, err := w.Open(t, keys).ReadName(ctx, name)
		require.NoError(t, err)
		require.Equal(t, text, string(got))
	}
	for prefix, want := range map[string][]string{
		"chapters": {"chapters/inc-1/a.json", "chapters/inc-1/b.json", "chapters/inc-10/c.json"}, "chapters/inc-1": {"chapters/inc-1/a.json", "chapters/inc-1/b.json"}, "none": nil,
	} {
		var got []string
		require.NoError(t, s.EachName(ctx, prefix, func(n string) error { got = append(got, n); return nil }))
		require.Equal(t, want, got)
	}
	stop := errors.New("stop")
	require.ErrorIs(t, s.EachName(ctx, "chapters", func(string) error { return stop }), stop)
	for _, bad := range []string{"", "..", "a/../b", "/a", "a/"} {
		require.Error(t, s.WriteName(ctx, bad, nil), "%q", bad)
	}
}
