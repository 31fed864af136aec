package s3blob

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/internal/blob"
	"rekey/internal/blob/blobtest"
	"rekey/internal/codec/keyring"
	"rekey/internal/fsx"
)

func options(t testing.TB, url string, keys *keyring.Keyring) Options {
	t.Helper()
	file := filepath.Join(t.TempDir(), "half")
	require.NoError(t, os.WriteFile(file, []byte("test\n"), 0o600))
	return Options{Endpoint: url, Region: "us-east-1", Bucket: blobtest.Bucket, AllowPrivate: true, Keys: keys, Owner: "fp1_test", AccessKeyFile: file, SecretKeyFile: file}
}

func store(t testing.TB, o Options) *Store {
	t.Helper()
	s, err := newStore(o, time.Millisecond)
	require.NoError(t, err)
	t.Cleanup(s.Close)
	return s
}

func ready(t testing.TB, w *blobtest.S3, keys *keyring.Keyring) *Store {
	t.Helper()
	s := store(t, options(t, w.URL, keys))
	require.NoError(t, s.Ready(t.Context()))
	return s
}

func texts(t testing.TB, j blob.Journal) []string {
	t.Helper()
	recs, err := j.ReadAll(t.Context())
	require.NoError(t, err)
	out := []string{}
	for _, r := range recs {
		out = append(out, string(r))
	}
	return out
}

// TestWhatIsWrongIsSaid has each fault of a set-up and of a server in turn: the error
// tells what to do, and nothing of what the server said.
func TestWhatIsWrongIsSaid(t *testing.T) {
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte("<html>log in: the words of a server</html>"))
	}))
	t.Cleanup(page.Close)
	away := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, page.URL, http.StatusTemporaryRedirect)
	}))
	t.Cleanup(away.Close)
	always := func(f blobtest.Fault) func(*blobtest.S3) {
		return func(w *blobtest.S3) { w.Fail(func(blobtest.Call) blobtest.Fault { return f }) }
	}
	for name, tt := range map[string]struct {
		world func(*blobtest.S3)
		set   func(*Options)
		say   string
		as    any
	}{
		"no bucket":             {set: func(o *Options) { o.Bucket = "other" }, say: "blobs.bucket"},
		"denied":                {world: always(blobtest.Denied), say: "allow our key s3:GetObject"},
		"busy":                  {world: always(blobtest.Refused), say: "repeated by itself"},
		"gone":                  {world: always(blobtest.Dropped), say: "does not answer"},
		"private address":       {set: func(o *Options) { o.AllowPrivate = false }, say: "blobs.allow_private"},
		"a page of a proxy":     {set: func(o *Options) { o.Endpoint = page.URL }, say: "not S3"},
		"sent elsewhere":        {set: func(o *Options) { o.Endpoint = away.URL }, say: "blobs.region"},
		"no access key":         {set: func(o *Options) { o.AccessKeyFile += ".none" }, say: "blobs.access_key_file"},
		"no secret key":         {set: func(o *Options) { o.SecretKeyFile += ".none" }, say: "blobs.secret_key_file"},
		"If-None-Match ignored": {world: (*blobtest.S3).Ignore, say: "honour"},
		"another's":             {world: func(w *blobtest.S3) { w.Set(ownerKey, []byte(`{"v":1,"owner":"fp1_other"}`)) }, say: "another rekey installation's", as: new(*OwnerError)},
		"full": {world: func(w *blobtest.S3) {
			w.Fail(func(c blobtest.Call) blobtest.Fault {
				if c.Op == "put" {
					return blobtest.Full
				}
				return blobtest.None
			})
		}, say: "no space left", as: new(*fsx.DiskFullError)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := blobtest.NewS3(t)
			if tt.world != nil {
				tt.world(w)
			}
			o := options(t, w.URL, blobtest.Keys(t))
			if tt.set != nil {
				tt.set(&o)
			}
			_, err := store(t, o).Put(t.Context(), []byte("page"))
			require.ErrorContains(t, err, tt.say)
			require.NotContains(t, err.Error(), "words of a server")
			if tt.as != nil {
				require.ErrorAs(t, err, tt.as)
			}
			if w.Fail(nil); tt.world != nil && tt.as == nil && name != "If-None-Match ignored" {
				_, err = store(t, o).Put(t.Context(), []byte("page"))
				require.NoError(t, err, "when it is over, it is over")
			}
		})
	}
	_, err := New(Options{CAFile: filepath.Join(t.TempDir(), "none")})
	require.ErrorContains(t, err, "ca_file")
}

// TestWhatAStoreCosts counts requests: each is money and a round trip.
func TestWhatAStoreCosts(t *testing.T) {
	w := blobtest.NewS3(t)
	keys := blobtest.Keys(t)
	s := ready(t, w, keys)
	cost := func(f func()) string {
		w.Calls()
		f()
		var ops []string
		for _, c := range w.Calls() {
			ops = append(ops, c.Op)
		}
		return strings.Join(ops, " ")
	}
	ctx := t.Context()
	hash := ""
	require.Equal(t, "put", cost(func() {
		var err error
		hash, err = s.Put(ctx, []byte("page"))
		require.NoError(t, err)
	}))
	require.Equal(t, "put get", cost(func() { _, err := s.Put(ctx, []byte("page")); require.NoError(t, err) }), "again")
	require.Equal(t, "get", cost(func() { _, err := s.Get(ctx, hash); require.NoError(t, err) }))
	require.Equal(t, "head", cost(func() { _, err := s.Has(ctx, hash); require.NoError(t, err) }))
	var j blob.Journal
	require.Equal(t, "put list", cost(func() {
		var err error
		j, err = s.OpenJournal(ctx, "pass", 7)
		require.NoError(t, err)
	}))
	require.Equal(t, "put put", cost(func() {
		require.NoError(t, j.Append(ctx, []byte("intent"), true))
		require.NoError(t, j.Append(ctx, []byte("outcome"), false))
		require.NoError(t, j.Append(ctx, []byte("another"), false))
		require.NoError(t, j.Close())
	}), "two that nobody waits for go together")
}

// TestARecordThatNobodyWaitsForIsWritten a moment later.
func TestARecordThatNobodyWaitsForIsWritten(t *testing.T) {
	w := blobtest.NewS3(t)
	s := ready(t, w, blobtest.Keys(t))
	j, err := s.OpenJournal(t.Context(), "pass", 0)
	require.NoError(t, err)
	require.NoError(t, j.Append(t.Context(), []byte("outcome"), false))
	require.Eventually(t, func() bool { return len(w.Keys(journals)) == 1 }, time.Minute, 10*time.Millisecond)
	require.NoError(t, j.Close())
	// And before that, where much waits.
	j, err = s.OpenJournal(t.Context(), "pass2", 0)
	require.NoError(t, err)
	require.NoError(t, j.Append(t.Context(), []byte(strings.Repeat("x", most)), false))
	require.Len(t, w.Keys(journalPrefix("pass2")), 1)
	require.NoError(t, j.Close())
}

// TestAppendsShareAnObject holds the first one at the server: those that come meanwhile
// go together.
func TestAppendsShareAnObject(t *testing.T) {
	w := blobtest.NewS3(t)
	s := ready(t, w, blobtest.Keys(t))
	j, err := s.openJournal(t.Context(), "pass", 0)
	require.NoError(t, err)
	gate := make(chan struct{})
	w.Fail(func(c blobtest.Call) blobtest.Fault {
		if c.Op == "put" {
			<-gate
		}
		return blobtest.None
	})
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			if err := j.Append(t.Context(), fmt.Append(nil, "r", i), true); err != nil {
				t.Error(err)
			}
		})
	}
	require.Eventually(t, func() bool { return len(texts(t, j)) == 32 }, time.Minute, time.Millisecond)
	close(gate)
	wg.Wait()
	require.LessOrEqual(t, len(w.Keys(journals)), 2, "32 durable records, at most two objects")
	require.NoError(t, j.Close())
}

// TestASealedJournalLetsItsObjectsGo but the marks that keep former holders out.
func TestASealedJournalLetsItsObjectsGo(t *testing.T) {
	w := blobtest.NewS3(t)
	keys := blobtest.Keys(t)
	s := ready(t, w, keys)
	old, err := ready(t, w, keys).OpenJournal(t.Context(), "pass", 1)
	require.NoError(t, err)
	for i := range 20 {
		require.NoError(t, old.Append(t.Context(), fmt.Append(nil, "r", i), true))
	}
	j, err := s.OpenJournal(t.Context(), "pass", 2)
	require.NoError(t, err)
	require.NoError(t, j.Append(t.Context(), []byte("last"), true))
	_, err = j.Seal(t.Context(), nil)
	require.NoError(t, err)
	require.Equal(t, []string{segmentKey("pass", 1, 0), segmentKey("pass", 1, 21), segmentKey("pass", 2, 0), segmentKey("pass", 2, 2)}, w.Keys(journals))
	var fenced *blob.FencedError
	require.ErrorAs(t, old.Append(t.Context(), []byte("late"), true), &fenced)
	require.ErrorAs(t, old.Append(t.Context(), []byte("later"), true), &fenced)
	late, err := j.Late(t.Context())
	require.NoError(t, err)
	require.Equal(t, [][]byte{[]byte("late"), []byte("later")}, late)
	require.NoError(t, j.Close())
}

// TestDamageOfAnyObjectOfAJournalIsFound: a lost intent would let a create run twice.
func TestDamageOfAnyObjectOfAJournalIsFound(t *testing.T) {
	w := blobtest.NewS3(t)
	keys := blobtest.Keys(t)
	j, err := ready(t, w, keys).OpenJournal(t.Context(), "pass", 1)
	require.NoError(t, err)
	for i := range 6 {
		require.NoError(t, j.Append(t.Context(), []byte(strings.Repeat(fmt.Sprint("r", i), 200)), true))
	}
	require.NoError(t, j.Close())
	all := w.Keys(journalPrefix("pass"))
	require.Len(t, all, 7)
	read := func(term uint64) error {
		j, err := ready(t, w, keys).OpenJournal(t.Context(), "pass", term)
		if err == nil {
			err = j.Close()
		}
		return err
	}
	require.NoError(t, read(1))
	var corrupt *blob.JournalCorruptError
	for i, key := range all[1:] {
		whole := w.Get(key)
		other := w.Get(all[1+(i+1)%6])
		for _, bad := range [][]byte{{}, other, append(slices.Clone(whole), 0), whole[:len(whole)-1], nil} {
			if bad == nil && i == 5 {
				continue // the last object: nothing tells that there was one
			}
			w.Set(key, bad)
			require.ErrorAs(t, read(1), &corrupt, "%s", key)
			require.ErrorContains(t, read(1), "probe it")
		}
		for at := 0; at < len(whole); at += 7 {
			flipped := slices.Clone(whole)
			flipped[at] ^= 1
			w.Set(key, flipped)
			require.Error(t, read(1), "%s byte %d", key, at)
		}
		w.Set(key, whole)
	}
	require.NoError(t, read(1))
	w.Set(journalPrefix("pass")+"stray", []byte("x"))
	require.ErrorContains(t, read(1), "not a journal's")
}

// TestALostLockEndsWhatItProtects: the holder stood still, or the bucket did not answer.
func TestALostLockEndsWhatItProtects(t *testing.T) {
	w := blobtest.NewS3(t)
	keys := blobtest.Keys(t)
	s := ready(t, w, keys)
	s.lockAge, s.lockRenew = lockSlack+time.Second, 20*time.Millisecond
	held, unlock, err := s.Hold(t.Context(), "collect")
	require.NoError(t, err)
	w.Calls()
	require.Eventually(t, func() bool {
		return slices.ContainsFunc(w.Calls(), func(c blobtest.Call) bool { return c.Op == "put" })
	}, time.Minute, time.Millisecond, "it is renewed")
	require.NoError(t, held.Err())

	// Its renewals come to nothing, and the world goes on: another takes it for dead.
	var lost atomic.Bool
	lost.Store(true)
	mine := w.Keys(lockPrefix("collect"))
	require.Len(t, mine, 1)
	w.Fail(func(c blobtest.Call) blobtest.Fault {
		if lost.Load() && c.Key == mine[0] && c.Op == "put" {
			return blobtest.Denied
		}
		return blobtest.None
	})
	w.Age(2 * lockAge)
	other := ready(t, w, keys)
	_, free, err := other.Hold(t.Context(), "collect")
	require.NoError(t, err)
	lost.Store(false)
	select {
	case <-held.Done():
	case <-time.After(60 * time.Second):
		t.Fatal("it still believes that it has the lock")
	}
	unlock()
	free()
	require.Empty(t, w.Keys(lockPrefix("collect")))
}

// TestJournalsUnderFaults lets holders follow each other while every call may fail, be
// lost, or happen without an answer, and any of them may die: whatever a holder was
// answered for is read by all after it, in order, once; and what was never asked for is
// never there.
func TestJournalsUnderFaults(t *testing.T) {
	for seed := range uint64(40) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			underFaults(t, seed)
		})
	}
}

func underFaults(t *testing.T, seed uint64) {
	t.Helper()
	rnd := rand.New(rand.NewPCG(seed, 1))
	w := blobtest.NewS3(t)
	keys := blobtest.Keys(t)
	// what is asked of the server, decided in a goroutine of its own
	var mu sync.Mutex
	faults := rand.New(rand.NewPCG(seed, 2))
	share := 3 + seed%5
	w.Fail(func(blobtest.Call) blobtest.Fault {
		mu.Lock()
		defer mu.Unlock()
		if faults.Uint64N(10) >= share {
			return blobtest.None
		}
		return []blobtest.Fault{blobtest.Refused, blobtest.Lost, blobtest.Dropped}[faults.IntN(3)]
	})
	type holder struct {
		j    blob.Journal
		term uint64
	}
	var live []holder
	var log []string           // what was answered for by whoever was in charge then, in order
	asked := map[string]bool{} // all that was ever appended
	term, n := uint64(0), 0
	for range 30 {
		switch rnd.IntN(4) {
		case 0: // a new holder; the old one may be dead, or not know it yet
			term++
			j, err := quick(t, w, keys).OpenJournal(t.Context(), "pass", term)
			if err != nil {
				continue
			}
			if len(live) > 0 && rnd.IntN(2) == 0 {
				live = live[1:]
			}
			live = append(live, holder{j, term})
			log = check(t, log, texts(t, j), asked)
		default:
			if len(live) == 0 {
				continue
			}
			h := live[rnd.IntN(len(live))]
			n++
			rec := fmt.Sprintf("%d by %d", n, h.term)
			asked[rec] = true
			err := h.j.Append(t.Context(), []byte(rec), true)
			var fenced *blob.FencedError
			switch {
			case err == nil && h.term == live[len(live)-1].term:
				log = append(log, rec)
			case err == nil:
				t.Fatalf("%q was taken from a holder that had been followed", rec)
			case errors.As(err, &fenced):
				require.Greater(t, fenced.Term, h.term)
			}
		}
	}
	w.Fail(nil)
	j, err := quick(t, w, keys).OpenJournal(t.Context(), "pass", term+1)
	require.NoError(t, err)
	check(t, log, texts(t, j), asked)
}

// quick is a store that gives up soon.
func quick(t testing.TB, w *blobtest.S3, keys *keyring.Keyring) *Store {
	t.Helper()
	s := store(t, options(t, w.URL, keys))
	s.isReady = true
	return s
}

// check holds a reading to what was answered for, and gives what counts from now on: a
// record without an answer may be there, and then stays.
func check(t *testing.T, log, have []string, asked map[string]bool) []string {
	t.Helper()
	seen := map[string]bool{}
	at := 0
	for _, r := range have {
		require.True(t, asked[r], "%q was made up", r)
		require.False(t, seen[r], "%q is there twice", r)
		seen[r] = true
		if at < len(log) && r == log[at] {
			at++
		}
	}
	require.Equal(t, len(log), at, "answered for: %q\nread: %q", log, have)
	return have
}

// TestALostAnswerIsNoFailure loses the answer of each call once: what happened is found
// out, and nothing happens twice.
func TestALostAnswerIsNoFailure(t *testing.T) {
	w := blobtest.NewS3(t)
	keys := blobtest.Keys(t)
	first := true
	var mu sync.Mutex
	w.Fail(func(blobtest.Call) blobtest.Fault {
		mu.Lock()
		defer mu.Unlock()
		if first = !first; first {
			return blobtest.None
		}
		return blobtest.Lost
	})
	ctx := t.Context()
	s := store(t, options(t, w.URL, keys))
	hash, err := s.Put(ctx, []byte("page"))
	require.NoError(t, err)
	_, err = s.Get(ctx, hash)
	require.NoError(t, err)
	j, err := s.OpenJournal(ctx, "pass", 4)
	require.NoError(t, err)
	want := []string{}
	for i := range 12 {
		want = append(want, fmt.Sprint("r", i))
		require.NoError(t, j.Append(ctx, []byte(want[i]), true))
	}
	_, err = j.Seal(ctx, nil)
	require.NoError(t, err)
	require.NoError(t, j.Append(ctx, []byte("after"), true))
	require.NoError(t, j.Close())
	next, err := s.OpenJournal(ctx, "pass", 5)
	require.NoError(t, err)
	require.Equal(t, append(want, "after"), texts(t, next))
	require.NoError(t, next.Close())
	_, unlock, err := s.Hold(ctx, "breaker")
	require.NoError(t, err)
	unlock()
}

// TestABucketThatFillsUp loses nothing that was answered for, and goes on when there is
// room again.
func TestABucketThatFillsUp(t *testing.T) {
	w := blobtest.NewS3(t)
	keys := blobtest.Keys(t)
	s := ready(t, w, keys)
	ctx := t.Context()
	j, err := s.OpenJournal(ctx, "pass", 1)
	require.NoError(t, err)
	require.NoError(t, j.Append(ctx, []byte("before"), true))
	w.Fail(func(c blobtest.Call) blobtest.Fault {
		if c.Op == "put" {
			return blobtest.Full
		}
		return blobtest.None
	})
	var full *fsx.DiskFullError
	_, err = s.Put(ctx, []byte("page"))
	require.ErrorAs(t, err, &full)
	require.ErrorAs(t, j.Append(ctx, []byte("unsure"), true), &full)
	_, err = s.OpenJournal(ctx, "another", 1)
	require.ErrorAs(t, err, &full)
	_, err = s.Lock(ctx, "breaker")
	require.ErrorAs(t, err, &full)
	w.Fail(nil)
	has, err := s.Has(ctx, blob.Hash([]byte("page")))
	require.NoError(t, err)
	require.False(t, has)
	_, err = s.Put(ctx, []byte("page"))
	require.NoError(t, err)
	require.NoError(t, j.Append(ctx, []byte("after"), true))
	require.NoError(t, j.Close())
	next, err := s.OpenJournal(ctx, "pass", 2)
	require.NoError(t, err)
	require.Equal(t, []string{"before", "unsure", "after"}, texts(t, next))
	require.NoError(t, next.Close())
}

// TestASlowBucketKeepsNobodyWhoStops waits for a call that does not end.
func TestASlowBucketKeepsNobodyWhoStops(t *testing.T) {
	w := blobtest.NewS3(t)
	s := ready(t, w, blobtest.Keys(t))
	j, err := s.OpenJournal(t.Context(), "pass", 1)
	require.NoError(t, err)
	gate := make(chan struct{})
	w.Fail(func(blobtest.Call) blobtest.Fault { <-gate; return blobtest.None })
	ctx, cancel := context.WithCancel(t.Context())
	errs := make(chan error)
	for range 2 { // one sends, one waits for its turn
		go func() { errs <- j.Append(ctx, []byte("r"), true) }()
	}
	go func() { _, err := s.Put(ctx, []byte("page")); errs <- err }()
	cancel()
	for range 3 {
		require.ErrorIs(t, <-errs, context.Canceled)
	}
	close(gate)
	require.NoError(t, j.Close())
}

// TestProbeFindsWhatIsNotAllowed refuses each kind of call in turn.
func TestProbeFindsWhatIsNotAllowed(t *testing.T) {
	w := blobtest.NewS3(t)
	keys := blobtest.Keys(t)
	w.At(func() time.Time { return time.Now().Add(3 * time.Minute) })
	skew, err := ready(t, w, keys).Probe(t.Context())
	require.NoError(t, err)
	require.InDelta(t, 3*time.Minute, skew, float64(30*time.Second))
	require.Empty(t, w.Keys(probes), "nothing is left of it")
	for _, op := range []string{"put", "get", "head", "list", "delete"} {
		s := ready(t, w, keys)
		w.Fail(func(c blobtest.Call) blobtest.Fault {
			if c.Op == op && c.Key != ownerKey {
				return blobtest.Denied
			}
			return blobtest.None
		})
		_, err := s.Probe(t.Context())
		require.ErrorContains(t, err, "s3:DeleteObject", op)
		w.Fail(nil)
	}
}
