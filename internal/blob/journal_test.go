package blob

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"rekey/internal/fsx"
)

func contents(t testing.TB, d *Dir, name string) []string {
	t.Helper()
	j, err := d.openJournal(ctx, name, 0)
	require.NoError(t, err)
	defer func() { require.NoError(t, j.Close()) }()
	records, err := j.ReadAll(ctx)
	require.NoError(t, err)
	out := []string{}
	for _, r := range records {
		out = append(out, string(r))
	}
	return out
}

func logPath(t testing.TB, d *Dir, name string) string {
	t.Helper()
	path, err := d.journalPath(name, ".log")
	require.NoError(t, err)
	return path
}

// written appends records, each one durable, and returns the file.
func written(t testing.TB, d *Dir, name string, records ...string) []byte {
	t.Helper()
	j, err := d.openJournal(ctx, name, 0)
	require.NoError(t, err)
	for _, r := range records {
		require.NoError(t, j.Append(ctx, []byte(r), true))
	}
	require.NoError(t, j.Close())
	data, err := os.ReadFile(logPath(t, d, name))
	require.NoError(t, err)
	return data
}

func TestJournalsSurviveReopening(t *testing.T) {
	d := dir(t)
	written(t, d, "incident/inc-1/wave/1", "intent 1", "", "outcome 1")
	require.Equal(t, []string{"intent 1", "", "outcome 1"}, contents(t, d, "incident/inc-1/wave/1"))
	written(t, d, "incident/inc-1/wave/1", "intent 2")
	require.Equal(t, []string{"intent 1", "", "outcome 1", "intent 2"}, contents(t, d, "incident/inc-1/wave/1"))
	require.Empty(t, contents(t, d, "incident/inc-1/wave/2"))
}

// A crash may leave any prefix: whole records before the cut are there, nothing
// else is, and the journal goes on from there.
func TestTruncatedAtEveryByte(t *testing.T) {
	d := dir(t)
	records := []string{"intent", "outcome of it", "x"}
	whole := written(t, d, "j", records...)
	ends := []int{}
	for pos := len(journalMagic); pos < len(whole); {
		_, _, size, ok := nextFrame(whole[pos:])
		require.True(t, ok)
		pos += size
		ends = append(ends, pos)
	}
	require.Len(t, ends, 3)
	for n := range len(whole) + 1 {
		require.NoError(t, os.WriteFile(logPath(t, d, "j"), whole[:n], 0o600))
		want := []string{}
		for i, end := range ends {
			if end <= n {
				want = append(want, records[i])
			}
		}
		require.Equal(t, want, contents(t, d, "j"), "cut at %d", n)
		written(t, d, "j", "after")
		require.Equal(t, append(want, "after"), contents(t, d, "j"), "cut at %d", n)
	}
}

// Pages of an unsynced tail reach the disk in any order: zeros, garbage and even
// whole frames behind a hole are a torn tail.
func TestATornTailWithAHole(t *testing.T) {
	d := dir(t)
	durable := written(t, d, "j", "durable")
	j, err := d.openJournal(ctx, "j", 0)
	require.NoError(t, err)
	for _, r := range []string{"lost", "lost too"} {
		require.NoError(t, j.Append(ctx, []byte(r), false))
	}
	require.NoError(t, j.Close())
	torn, err := os.ReadFile(logPath(t, d, "j"))
	require.NoError(t, err)
	for name, tail := range map[string][]byte{
		"zeros":   make([]byte, 100),
		"garbage": bytes.Repeat([]byte{0xff, 0, 0, 0x30}, 30),
		"hole":    append(make([]byte, 40), torn[len(durable)+40:]...),
	} {
		require.NoError(t, os.WriteFile(logPath(t, d, "j"), slices.Concat(durable, tail), 0o600))
		require.Equal(t, []string{"durable"}, contents(t, d, "j"), name)
	}
}

// Damage before the last watermark is never taken for a torn tail: a lost intent
// would let a create run twice.
func TestDamageWhereItWasDurable(t *testing.T) {
	d := dir(t)
	whole := written(t, d, "j", "intent", "outcome", "last")
	last := len(journalMagic)
	for range 2 {
		_, _, size, ok := nextFrame(whole[last:])
		require.True(t, ok)
		last += size
	}
	for i := range last {
		damaged := bytes.Clone(whole)
		damaged[i] ^= 0x55
		require.NoError(t, os.WriteFile(logPath(t, d, "j"), damaged, 0o600))
		_, err := d.openJournal(ctx, "j", 0)
		var corrupt *JournalCorruptError
		require.ErrorAs(t, err, &corrupt, "byte %d", i)
		left, err := os.ReadFile(logPath(t, d, "j"))
		require.NoError(t, err)
		require.True(t, bytes.Equal(damaged, left), "a damaged journal is left as it is")
	}
}

func TestRecordsOpenOnlyInTheirPlace(t *testing.T) {
	d := dir(t)
	whole := written(t, d, "a", "first", "second")
	_, _, size, ok := nextFrame(whole[len(journalMagic):])
	require.True(t, ok)
	first := whole[len(journalMagic) : len(journalMagic)+size]
	second := whole[len(journalMagic)+size:]
	for name, content := range map[string][]byte{
		"reordered": slices.Concat([]byte(journalMagic), second, first),
		"repeated":  slices.Concat([]byte(journalMagic), first, first),
		"dropped":   slices.Concat([]byte(journalMagic), second),
	} {
		require.NoError(t, os.WriteFile(logPath(t, d, "a"), content, 0o600))
		_, err := d.openJournal(ctx, "a", 0)
		var corrupt *JournalCorruptError
		require.ErrorAs(t, err, &corrupt, name)
	}
	require.NoError(t, os.WriteFile(logPath(t, d, "b"), whole, 0o600))
	_, err := d.openJournal(ctx, "b", 0)
	require.Error(t, err, "the journal of another batch")
}

// long is a record that makes a log worth letting go when it is sealed.
func long(n int) string { return strings.Repeat(fmt.Sprintf(`{"record":%d}`, n), sealFrom/30) }

func TestASealedJournalIsABlobAndGoesOn(t *testing.T) {
	for name, recs := range map[string][]string{"small": {"r0", "r1", "r2"}, "large": {long(0), long(1), long(2)}} {
		t.Run(name, func(t *testing.T) {
			d := dir(t)
			j, err := d.openJournal(ctx, "j", 0)
			require.NoError(t, err)
			old, err := d.openJournal(ctx, "j", 0)
			require.NoError(t, err)
			add(t, j, recs...)
			hash, err := j.Seal(ctx, []byte("tail\n"))
			require.NoError(t, err)
			content, err := d.Get(ctx, hash)
			require.NoError(t, err)
			require.Equal(t, strings.Join(append(slices.Clone(recs), "tail\n"), "\n"), string(content))
			again, err := j.Seal(ctx, []byte("tail\n"))
			require.NoError(t, err)
			require.Equal(t, hash, again, "a lost answer asked for again")
			info, err := os.Stat(logPath(t, d, "j"))
			require.NoError(t, err)
			require.Less(t, info.Size(), int64(sealFrom), "its log has gone, if it was large")
			require.Equal(t, recs, texts(t, j))

			add(t, old, "after")
			want := append(slices.Clone(recs), "after")
			require.Equal(t, want, texts(t, j), "every handle goes on with the same")
			other, err := OpenDir(d.root, d.keys)
			require.NoError(t, err)
			_, err = other.openJournal(ctx, "j", 0)
			require.ErrorIs(t, err, errLocked, "it is still this process's alone")
			require.NoError(t, j.Close())
			require.NoError(t, j.Close(), "twice is once")
			require.NoError(t, old.Close())

			require.Equal(t, want, contents(t, other, "j"), "also after a restart")
			j, err = other.openJournal(ctx, "j", 0)
			require.NoError(t, err)
			add(t, j, long(3), "last")
			want = append(want, long(3), "last")
			hash, err = j.Seal(ctx, nil)
			require.NoError(t, err)
			require.NoError(t, j.Close())
			content, err = d.Get(ctx, hash)
			require.NoError(t, err)
			require.Equal(t, strings.Join(want, "\n")+"\n", string(content), "sealed once more, it is the whole again")
			require.Equal(t, want, contents(t, other, "j"))
			entries, err := os.ReadDir(filepath.Join(d.root, "journals"))
			require.NoError(t, err)
			require.Len(t, entries, 1, "nothing is left beside it")
		})
	}
}

// TestACrashWhileALogIsLetGo stops between any two steps: the journal reads the same.
func TestACrashWhileALogIsLetGo(t *testing.T) {
	d := dir(t)
	recs := []string{long(0), long(1), long(2)}
	written(t, d, "j", recs...)
	content := JoinRecords([][]byte{[]byte(recs[0]), []byte(recs[1]), []byte(recs[2])}, nil)
	hash, err := d.Put(ctx, content)
	require.NoError(t, err)
	require.Equal(t, recs, contents(t, d, "j"), "the blob is there, the log as well")
	gone, err := sealedLog(d.keys, "j", sealedPart{Hash: hash, N: len(recs)})
	require.NoError(t, err)
	tmp := filepath.Join(d.root, "journals", fsx.TempName())
	for n := range len(gone) + 1 {
		require.NoError(t, os.WriteFile(tmp, gone[:n], 0o600))
		require.Equal(t, recs, contents(t, d, "j"), "half of the new log, under no name")
	}
	require.NoError(t, os.Rename(tmp, logPath(t, d, "j")))
	require.Equal(t, recs, contents(t, d, "j"))

	// Once it has the name it is whole: anything else is damage, never an empty journal.
	for n := len(sealedMagic) - 1; n < len(gone); n++ {
		require.NoError(t, os.WriteFile(logPath(t, d, "j"), gone[:n], 0o600))
		_, err := d.openJournal(ctx, "j", 0)
		var damaged *JournalCorruptError
		require.ErrorAs(t, err, &damaged, "cut at %d", n)
		flipped := bytes.Clone(gone)
		flipped[n] ^= 1
		require.NoError(t, os.WriteFile(logPath(t, d, "j"), flipped, 0o600))
		_, err = d.openJournal(ctx, "j", 0)
		require.ErrorAs(t, err, &damaged, "byte %d", n)
	}
	require.NoError(t, os.WriteFile(logPath(t, d, "other"), gone, 0o600))
	_, err = d.openJournal(ctx, "other", 0)
	require.Error(t, err, "the sealed part of another journal")

	// A blob that is gone is an error, and no empty journal.
	require.NoError(t, os.WriteFile(logPath(t, d, "j"), gone, 0o600))
	path, err := d.path(hash)
	require.NoError(t, err)
	require.NoError(t, os.Remove(path))
	j, err := d.openJournal(ctx, "j", 0)
	require.NoError(t, err)
	_, err = j.ReadAll(ctx)
	var missing *NotFoundError
	require.ErrorAs(t, err, &missing)
	require.NoError(t, j.Close())
}

func TestAttemptsOfOneProcessShareTheLog(t *testing.T) {
	d := dir(t)
	old, err := d.openJournal(ctx, "j", 0)
	require.NoError(t, err)
	next, err := d.openJournal(ctx, "j", 0)
	require.NoError(t, err)
	require.NoError(t, old.Append(ctx, []byte("from the old attempt"), false))
	records, err := next.ReadAll(ctx)
	require.NoError(t, err)
	require.Len(t, records, 1)
	require.NoError(t, old.Close())
	require.NoError(t, next.Append(ctx, []byte("after"), true), "the log is open while someone uses it")

	other, err := OpenDir(d.root, d.keys) // as another process would
	require.NoError(t, err)
	_, err = other.openJournal(ctx, "j", 0)
	require.ErrorIs(t, err, errLocked)
	require.NoError(t, next.Close())
	require.ErrorIs(t, next.Append(ctx, nil, false), errClosed)
	require.Len(t, contents(t, other, "j"), 2)
}

func TestJournalNames(t *testing.T) {
	d := dir(t)
	for _, bad := range []string{"", "/", "a/", "/a", "..", "a/../b", ".hidden", "a+b", "a b", "a\x00", strings.Repeat("x", 201)} {
		_, err := d.openJournal(ctx, bad, 0)
		require.Error(t, err, "%q", bad)
	}
	written(t, d, "a/b", "1")
	written(t, d, "a.b", "2")
	require.Equal(t, []string{"1"}, contents(t, d, "a/b"))
	j, err := d.openJournal(ctx, "a/b", 0)
	require.NoError(t, err)
	require.ErrorContains(t, j.Append(ctx, make([]byte, MaxRecord+1), false), "blob store")
	require.ErrorContains(t, j.Append(ctx, []byte("a\nb"), false), "one line")
	stopped, cancel := context.WithCancel(ctx)
	cancel()
	require.ErrorIs(t, j.Append(stopped, nil, false), context.Canceled)
	require.NoError(t, j.Close())
}

// faulty is a journal's file that fails when told.
type faulty struct {
	file
	room     int64 // bytes until the disk is full; -1: no end
	syncErr  error
	truncErr error
	syncs    atomic.Int32
	gate     chan struct{} // when set, Sync waits for it
}

func (f *faulty) WriteAt(b []byte, at int64) (int, error) {
	if f.room >= 0 && at+int64(len(b)) > f.room {
		n, _ := f.file.WriteAt(b[:max(0, f.room-at)], at)
		return n, syscall.ENOSPC
	}
	return f.file.WriteAt(b, at)
}

func (f *faulty) Sync() error {
	f.syncs.Add(1)
	if f.gate != nil {
		<-f.gate
	}
	return errors.Join(f.syncErr, f.file.Sync())
}

func (f *faulty) Truncate(n int64) error { return errors.Join(f.truncErr, f.file.Truncate(n)) }

func faultyJournal(t *testing.T) (*Dir, *faulty, *fileJournal) {
	t.Helper()
	d, f := dir(t), &faulty{room: -1}
	d.openFile = func(path string, lock bool) (file, error) {
		under, err := openFile(path, lock)
		f.file = under
		return f, err
	}
	j, err := d.openJournal(ctx, "j", 0)
	require.NoError(t, err)
	require.NoError(t, j.Append(ctx, []byte("before"), true))
	return d, f, j
}

func TestAFullDiskLosesNothingThatWasWritten(t *testing.T) {
	d, f, j := faultyJournal(t)
	size, err := f.Size()
	require.NoError(t, err)
	for room := size; room < size+40; room++ {
		f.room = room
		var full *fsx.DiskFullError
		require.ErrorAs(t, j.Append(ctx, []byte("no room"), true), &full)
	}
	f.room = -1
	require.NoError(t, j.Append(ctx, []byte("after"), true), "it goes on once there is room")
	require.NoError(t, j.Close())
	require.Equal(t, []string{"before", "after"}, contents(t, d, "j"))
}

func TestAFileInDoubtIsNotWrittenAgain(t *testing.T) {
	for name, fail := range map[string]func(*faulty){
		"sync failed":                 func(f *faulty) { f.syncErr = syscall.EIO },
		"half a frame not taken back": func(f *faulty) { f.room, f.truncErr = 100, syscall.EIO },
	} {
		t.Run(name, func(t *testing.T) {
			d, f, j := faultyJournal(t)
			fail(f)
			require.Error(t, j.Append(ctx, []byte("unsure"), true))
			f.syncErr, f.truncErr, f.room = nil, nil, -1
			require.ErrorContains(t, j.Append(ctx, []byte("next"), false), "in doubt")
			_, err := j.Seal(ctx, nil)
			require.ErrorContains(t, err, "in doubt")
			require.NoError(t, j.Close())
			require.Equal(t, "before", contents(t, d, "j")[0])
		})
	}
}

func TestConcurrentDurableAppendsShareSyncs(t *testing.T) {
	d, f, j := faultyJournal(t)
	f.gate = make(chan struct{})
	start := f.syncs.Load()
	var wg sync.WaitGroup
	const n = 32
	for i := range n {
		wg.Go(func() {
			if err := j.Append(ctx, fmt.Append(nil, "r", i), true); err != nil {
				t.Error(err)
			}
		})
	}
	for { // until all are written; the first sync is held at the gate
		if records, err := j.ReadAll(ctx); err != nil || len(records) == n+1 {
			break
		}
	}
	close(f.gate)
	wg.Wait()
	require.LessOrEqual(t, f.syncs.Load()-start, int32(2), "32 appends, at most two syncs")
	require.NoError(t, j.Close())
	got := contents(t, d, "j")
	require.Len(t, got, n+1)
	slices.Sort(got)
	require.Len(t, slices.Compact(got), n+1)
}

func FuzzJournalReader(f *testing.F) {
	d := dir(f)
	whole := written(f, d, "j", "intent", "", "outcome")
	part := sealedPart{Hash: Hash(nil), N: 7}
	sealed, err := sealedLog(d.keys, "j", part)
	require.NoError(f, err)
	f.Add(sealed)
	f.Add(sealed[:len(sealed)-1])
	f.Add(whole)
	f.Add(whole[:len(whole)-3])
	f.Add([]byte(journalMagic))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := scan(d.keys, "j", data)
		if err != nil {
			return
		}
		if c.good > int64(len(data)) {
			t.Fatalf("%d of %d bytes are good", c.good, len(data))
		}
		again, err := scan(d.keys, "j", data[:c.good])
		if err != nil || again.good != c.good || len(again.records) != len(c.records) || again.sealed != c.sealed {
			t.Fatalf("the good part reads differently: %d of %d records, %v", len(again.records), len(c.records), err)
		}
		if c.sealed.N > 0 && c.sealed != part {
			t.Fatal("a sealed part was made up")
		}
		want := []string{"intent", "", "outcome"}
		if len(c.records) > len(want) {
			t.Fatal("a record was made up")
		}
		for i, r := range c.records {
			if string(r) != want[i] {
				t.Fatalf("record %d is %q", i, r)
			}
		}
		if records, err := SplitRecords(data, 3); err == nil && !bytes.HasPrefix(data, JoinRecords(records, nil)) {
			t.Fatal("a sealed journal does not join to what it was")
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	rec := bytes.Repeat([]byte("r"), 200)
	for _, durable := range []bool{false, true} {
		for _, n := range []int{1, 32} {
			b.Run(fmt.Sprintf("durable=%t/appenders=%d", durable, n), func(b *testing.B) {
				j, err := dir(b).openJournal(ctx, "j", 0)
				require.NoError(b, err)
				defer func() { require.NoError(b, j.Close()) }()
				var next atomic.Int64
				var wg sync.WaitGroup
				b.ResetTimer()
				for range n {
					wg.Go(func() {
						for next.Add(1) <= int64(b.N) {
							if err := j.Append(ctx, rec, durable); err != nil {
								b.Error(err)
							}
						}
					})
				}
				wg.Wait()
			})
		}
	}
}
