package blob

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/internal/codec/keyring"
)

// another opens the same store as another process would: nothing in memory is shared.
func another(t *testing.T, root string, keys *keyring.Keyring) *Dir {
	t.Helper()
	d, err := OpenDir(root, keys)
	require.NoError(t, err)
	return d
}

func shared(t *testing.T) (string, *keyring.Keyring) {
	t.Helper()
	k, err := keyring.Open(keyring.Options{Dir: t.TempDir(), Create: true, Now: time.Now})
	require.NoError(t, err)
	return t.TempDir(), k
}

func texts(t *testing.T, j *fileJournal) []string {
	t.Helper()
	recs, err := j.ReadAll(t.Context())
	require.NoError(t, err)
	out := []string{}
	for _, r := range recs {
		out = append(out, string(r))
	}
	return out
}

func add(t *testing.T, j *fileJournal, recs ...string) {
	t.Helper()
	for _, r := range recs {
		require.NoError(t, j.Append(t.Context(), []byte(r), true))
	}
}

// TestATermTakesOver is a holder that stood still and comes back: what it writes
// after the next one began is read by nobody who decides, and is on record as late.
func TestATermTakesOver(t *testing.T) {
	root, keys := shared(t)
	old, err := another(t, root, keys).openJournal(ctx, "inc-1/wave/1/Issue/ab/1", 5)
	require.NoError(t, err)
	add(t, old, "intent 1", "outcome 1", "intent 2")

	host := another(t, root, keys)
	next, err := host.openJournal(ctx, "inc-1/wave/1/Issue/ab/1", 9)
	require.NoError(t, err, "the old one is not asked: it may stand still for ever")
	require.Equal(t, []string{"intent 1", "outcome 1", "intent 2"}, texts(t, next))
	add(t, old, "outcome 2, late") // it is back
	add(t, next, "settled", "intent 3")
	require.Equal(t, []string{"intent 1", "outcome 1", "intent 2", "settled", "intent 3"}, texts(t, next))

	_, err = another(t, root, keys).openJournal(ctx, "inc-1/wave/1/Issue/ab/1", 5)
	var fenced *FencedError
	require.ErrorAs(t, err, &fenced)
	require.Equal(t, uint64(9), fenced.Term)
	_, err = another(t, root, keys).openJournal(ctx, "inc-1/wave/1/Issue/ab/1", 8)
	require.ErrorAs(t, err, &fenced, "a term that never opened it is refused as well")
	_, err = another(t, root, keys).openJournal(ctx, "inc-1/wave/1/Issue/ab/1", 0)
	require.ErrorAs(t, err, &fenced, "nobody without a lease")

	again, err := host.openJournal(ctx, "inc-1/wave/1/Issue/ab/1", 9)
	require.NoError(t, err)
	require.Equal(t, texts(t, next), texts(t, again), "the same term goes on in one log")
	require.NoError(t, next.Close())
	require.NoError(t, again.Close())
	last, err := another(t, root, keys).openJournal(ctx, "inc-1/wave/1/Issue/ab/1", 10)
	require.NoError(t, err)
	require.Equal(t, []string{"intent 1", "outcome 1", "intent 2", "settled", "intent 3"}, texts(t, last))
	late, err := last.Late(t.Context())
	require.NoError(t, err)
	require.Equal(t, [][]byte{[]byte("outcome 2, late")}, late)
	require.NoError(t, last.Close())
	require.NoError(t, old.Close())
}

func TestATermGoesOnWhereNoTermsWere(t *testing.T) {
	root, keys := shared(t)
	before, err := another(t, root, keys).openJournal(ctx, "pass", 0)
	require.NoError(t, err)
	add(t, before, "intent")
	require.NoError(t, before.Close())
	j, err := another(t, root, keys).openJournal(ctx, "pass", 1)
	require.NoError(t, err)
	require.Equal(t, []string{"intent"}, texts(t, j))
	require.NoError(t, j.Close())
}

// TestATermDropsATornTail takes over from a holder that died, or still writes, in
// the middle of a record.
func TestATermDropsATornTail(t *testing.T) {
	root, keys := shared(t)
	old, err := another(t, root, keys).openJournal(ctx, "pass", 1)
	require.NoError(t, err)
	add(t, old, "intent", "outcome")
	whole, err := os.ReadFile(old.path)
	require.NoError(t, err)
	one := len(whole) - (len(whole)-len(journalMagic))/2 // the second record is one byte longer
	for cut := one + 1; cut < len(whole); cut++ {
		dir := t.TempDir()
		d := another(t, dir, keys)
		require.NoError(t, os.MkdirAll(filepath.Join(dir, "journals", "pass.d"), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "journals", "pass.d", termFile(1)), whole[:cut], 0o600))
		j, err := d.openJournal(ctx, "pass", 2)
		require.NoError(t, err, "cut at %d", cut)
		require.Equal(t, []string{"intent"}, texts(t, j))
		add(t, j, "settled")
		require.NoError(t, j.Close())
		j, err = another(t, dir, keys).openJournal(ctx, "pass", 2)
		require.NoError(t, err)
		require.Equal(t, []string{"intent", "settled"}, texts(t, j), "it is durable as it was read")
		require.NoError(t, j.Close())
	}
}

func TestATermRefusesDamage(t *testing.T) {
	root, keys := shared(t)
	old, err := another(t, root, keys).openJournal(ctx, "pass", 1)
	require.NoError(t, err)
	add(t, old, "intent", "outcome", "intent 2")
	whole, err := os.ReadFile(old.path)
	require.NoError(t, err)
	whole[len(journalMagic)+frameHead+10] ^= 1
	require.NoError(t, os.WriteFile(old.path, whole, 0o600))
	_, err = another(t, root, keys).openJournal(ctx, "pass", 2)
	var damaged *JournalCorruptError
	require.ErrorAs(t, err, &damaged, "an intent may be lost in it")
}

// TestManyTermsAtOnce lets terms open one journal at the same moment, in any order:
// whoever is let in sees all that was on record before, and the highest is let in.
func TestManyTermsAtOnce(t *testing.T) {
	for range 10 {
		root, keys := shared(t)
		first, err := another(t, root, keys).openJournal(ctx, "pass", 1)
		require.NoError(t, err)
		add(t, first, "intent")
		require.NoError(t, first.Close())
		var wg sync.WaitGroup
		got := make([]error, 8)
		for n := range got {
			d := another(t, root, keys)
			wg.Go(func() {
				j, err := d.openJournal(ctx, "pass", uint64(n)+2)
				got[n] = err
				if err == nil {
					recs, err := j.ReadAll(context.Background())
					if err != nil || len(recs) != 1 {
						got[n] = fmt.Errorf("%d records: %w", len(recs), err)
					}
				}
			})
		}
		wg.Wait()
		require.NoError(t, got[7], "the highest term")
		for _, err := range got {
			if err != nil {
				var fenced *FencedError
				require.ErrorAs(t, err, &fenced)
			}
		}
	}
}

// lockedIn makes this test binary be a process that adds to a counter under a lock.
const lockedIn = "REKEY_TEST_LOCKED_IN"

func TestMain(m *testing.M) {
	if dir := os.Getenv(lockedIn); dir != "" {
		if err := countUp(dir, 50); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// countUp adds n lines to a file by reading and writing it whole: without a lock,
// lines of others would be lost.
func countUp(dir string, n int) error {
	d := &Dir{root: dir}
	for range n {
		unlock, err := d.Lock(context.Background(), "counter")
		if err != nil {
			return err
		}
		path := filepath.Join(dir, "counter")
		b, err := os.ReadFile(path)
		if err != nil && !os.IsNotExist(err) {
			return err
		}
		if err := os.WriteFile(path, append(b, "x\n"...), 0o600); err != nil {
			return err
		}
		unlock()
	}
	return nil
}

func TestLockBetweenProcesses(t *testing.T) {
	root, keys := shared(t)
	d := another(t, root, keys)
	self, err := os.Executable()
	require.NoError(t, err)
	var wg sync.WaitGroup
	for range 3 {
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), lockedIn+"="+root)
		var errs bytes.Buffer
		cmd.Stderr = &errs
		wg.Go(func() {
			if err := cmd.Run(); err != nil {
				t.Errorf("%v: %s", err, errs.String())
			}
		})
	}
	require.NoError(t, countUp(root, 50))
	wg.Wait()
	b, err := os.ReadFile(filepath.Join(root, "counter"))
	require.NoError(t, err)
	require.Equal(t, 4*50, strings.Count(string(b), "x"), "none was lost")

	unlock, err := d.Lock(t.Context(), "counter")
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 3*lockEvery)
	defer cancel()
	_, err = another(t, root, keys).Lock(ctx, "counter")
	require.ErrorIs(t, err, context.DeadlineExceeded, "a lock that is held is waited for, not taken")
	unlock()
}

// TestATermTakesOverASealedJournal: what was sealed away is the next one's too, and a
// late record is told apart from it.
func TestATermTakesOverASealedJournal(t *testing.T) {
	root, keys := shared(t)
	old, err := another(t, root, keys).openJournal(ctx, "pass", 5)
	require.NoError(t, err)
	want := []string{long(1), long(2)}
	add(t, old, want...)
	_, err = old.Seal(ctx, nil)
	require.NoError(t, err)
	add(t, old, "more")

	next, err := another(t, root, keys).openJournal(ctx, "pass", 6)
	require.NoError(t, err)
	require.Equal(t, append(want, "more"), texts(t, next))
	add(t, old, "late")
	add(t, next, "settled", long(3))
	_, err = next.Seal(ctx, nil)
	require.NoError(t, err)
	late, err := next.Late(ctx)
	require.NoError(t, err)
	require.Equal(t, [][]byte{[]byte("late")}, late)
	require.NoError(t, next.Close())
	require.NoError(t, old.Close())
}

// TestManyJournalsLeaveNothingOpen opens and closes journals as the passes of a large
// incident do.
func TestManyJournalsLeaveNothingOpen(t *testing.T) {
	root, keys := shared(t)
	d := another(t, root, keys)
	open := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Skip("skipped: needs /proc")
		}
		return len(entries)
	}
	before := open()
	for n := range 2000 {
		j, err := d.openJournal(ctx, fmt.Sprintf("inc/pass/%d", n), uint64(n%2))
		require.NoError(t, err)
		require.NoError(t, j.Append(ctx, []byte("outcome"), false))
		_, err = j.Seal(ctx, nil)
		require.NoError(t, err)
		require.NoError(t, j.Close())
	}
	require.LessOrEqual(t, open(), before+5)
	require.Empty(t, d.open)
}
