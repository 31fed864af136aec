package collect

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/internal/blob"
	"rekey/internal/derive"
)

// TestWhoeverNamesABlobKeepsIt has one blob for each that can name one, and one that
// nothing names.
func TestWhoeverNamesABlobKeepsIt(t *testing.T) {
	i := newInstallation(t)
	kept := map[string]string{}
	blobFor := func(who string) string {
		kept[who] = i.put("content for " + who)
		return kept[who]
	}
	i.tm.add("incident/"+inc, "r1", true, nil, blobFor("an input"), blobFor("a result"), blobFor("a signal"), blobFor("a marker"))
	i.tm.add("incident/"+inc+"/wave/1", "w1", false, nil, blobFor("a closed run"))
	child := i.tm.add("incident/"+inc+"/wave/2", "w2", true, nil, blobFor("a run that is not listed yet"))
	i.tm.unlisted[child] = true
	i.tm.add("incident/"+inc, "r0", false, []place{child})
	kept["a chapter"] = i.chapter(i.tm.add("incident/"+inc+"/wave/3", "w3", false, nil, blobFor("an input of a chapter"), blobFor("a result of a chapter")))
	history, err := derive.JSON(i.tm.runs[i.tm.add("incident/x", "x", false, nil, blobFor("a history in a bundle"))].History)
	require.NoError(t, err)
	delete(i.tm.runs, place{"incident/x", "x"})
	i.bundle(inc, map[string][]byte{
		"events.jsonl":    []byte(strings.Repeat(" ", 1<<20-30) + `{"evidence":["` + blobFor("an event over the edge of a buffer") + `"]}`),
		"evidence.json":   []byte(names(blobFor("evidence.json"))),
		"chapters/1.json": history,
	})
	third := i.put("content for the third")
	second := i.put(names(third))
	first := i.put(names(second))
	i.tm.add("incident/"+inc+"/scope/1", "s1", true, nil, first)
	kept["a page"], kept["a page of a page"], kept["and that one's"] = first, second, third
	require.NoError(t, i.journal(inc+"/open/1", names(blobFor("a journal"))).Close())

	unnamed := i.put("named by nothing")
	ring := i.put("a ring needs two hashes that name each other, which no hash can; a chain does: " + unnamed)
	i.age(2 * grace)
	fresh := i.put("stored now")

	r := i.collected()
	require.Equal(t, 2, r.Waiting, "seen once")
	require.Zero(t, r.Removed)
	require.True(t, i.has(unnamed))
	r = i.collected()
	require.Equal(t, 2, r.Removed)
	require.Equal(t, 1, r.Young)
	require.Equal(t, len(kept), r.Named)
	require.False(t, i.has(unnamed))
	require.False(t, i.has(ring), "what only the unnamed name goes with them")
	require.True(t, i.has(fresh))
	for who, hash := range kept {
		require.True(t, i.has(hash), "%s named it", who)
	}
	last, ok, err := Last(t.Context(), i.store)
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, r, last)
}

// TestNothingIsDeletedWhereAnythingCannotBeRead breaks one source after another: what
// would be deleted stays, and the error says what to mend.
func TestNothingIsDeletedWhereAnythingCannotBeRead(t *testing.T) {
	for name, tt := range map[string]struct {
		broken func(*installation)
		say    string
	}{
		"a history":         {func(i *installation) { i.tm.fail = errors.New("unavailable") }, "the history of incident/"},
		"the list":          {func(i *installation) { i.tm.listFail = errors.New("unavailable") }, "the list of histories"},
		"another namespace": {func(i *installation) { i.tm.namespace = "ns-2" }, "--new-namespace"},
		"no namespace":      {func(i *installation) { i.tm.namespace = "" }, "namespace"},
		"a damaged bundle": {func(i *installation) {
			require.NoError(i.t, os.WriteFile(filepath.Join(i.bundles, "b.zip"), []byte("PK"), 0o600))
		}, "bundle "},
		"a bundle of rubbish": {func(i *installation) { i.bundle("c", map[string][]byte{"chapters/1.json": []byte(`{"events": 7}`)}) }, "bundle "},
		"a named blob": {func(i *installation) {
			i.damage(i.put("a page"))
			i.tm.add("incident/"+inc, "r9", true, nil, blob.Hash([]byte("a page")))
		}, "blob sha256:"},
		"a chapter":              {func(i *installation) { i.damage(i.chapter(i.tm.add("incident/"+inc, "r8", false, nil))) }, "the history of incident/"},
		"a chapter that is lost": {func(i *installation) { i.lose(i.chapter(i.tm.add("incident/"+inc, "r8", false, nil))) }, "is not in the store"},
		"an entry of the index": {func(i *installation) {
			require.NoError(i.t, i.store.WriteName(i.t.Context(), "chapters/"+inc+"/x.json", []byte("x")))
		}, "chapters"},
		"a journal": {func(i *installation) {
			require.NoError(i.t, i.journal(inc+"/wave/1", "intent", "outcome").Close())
			path := filepath.Join(i.root, "journals", inc+"+wave+1.log")
			require.NoError(i.t, os.WriteFile(path, []byte("not a journal"), 0o600))
		}, "a journal"},
		"a stray file": {func(i *installation) {
			require.NoError(i.t, os.WriteFile(filepath.Join(i.root, "sha256", "x"), nil, 0o600))
		}, "the list of blobs"},
	} {
		t.Run(name, func(t *testing.T) {
			i := newInstallation(t)
			i.tm.add("incident/"+inc, "r1", true, nil)
			dead := i.put("named by nothing")
			i.age(2 * grace)
			require.Equal(t, 1, i.collected().Waiting)
			tt.broken(i)
			r, err := i.collect()
			require.ErrorContains(t, err, tt.say)
			require.Zero(t, r.Removed)
			require.True(t, i.has(dead))
			last, _, err := Last(t.Context(), i.store)
			require.NoError(t, err)
			require.NotEmpty(t, last.Failed, "it is on record that nothing was collected")
		})
	}
}

func (i *installation) path(hash string) string {
	d := strings.TrimPrefix(hash, prefix)
	return filepath.Join(i.root, "sha256", d[:2], d[2:])
}

func (i *installation) damage(hash string) {
	require.NoError(i.t, os.WriteFile(i.path(hash), []byte("x"), 0o600))
}

func (i *installation) lose(hash string) { require.NoError(i.t, os.Remove(i.path(hash))) }

func TestANewNamespaceIsTakenWhenToldSo(t *testing.T) {
	i := newInstallation(t)
	dead := i.put("named by nothing")
	i.age(2 * grace)
	i.collected()
	i.tm.namespace = "ns-2"
	var other *NamespaceError
	_, err := i.collect()
	require.ErrorAs(t, err, &other)
	o := i.options()
	o.NewNamespace = true
	r, err := New(o).Collect(t.Context())
	require.NoError(t, err)
	require.Equal(t, 1, r.Waiting, "what the old one's passes had seen does not count")
	require.Equal(t, 1, i.collected().Removed)
	require.False(t, i.has(dead))
}

// TestASecondCollectorIsRefused while the first is at work.
func TestASecondCollectorIsRefused(t *testing.T) {
	i := newInstallation(t)
	_, unlock, err := i.store.Hold(t.Context(), lockName)
	require.NoError(t, err)
	_, err = i.collect()
	require.ErrorIs(t, err, ErrBusy)
	unlock()
	i.collected()
}

func TestADryRunChangesNothing(t *testing.T) {
	i := newInstallation(t)
	dead := i.put("named by nothing")
	i.age(2 * grace)
	i.collected()
	o := i.options()
	o.DryRun = true
	o.Now = func() time.Time { return i.now.Add(Every) }
	for range 2 {
		r, err := New(o).Collect(t.Context())
		require.NoError(t, err)
		require.Equal(t, 1, r.Removed)
		require.Positive(t, r.RemovedBytes)
		require.True(t, i.has(dead))
	}
	last, _, err := Last(t.Context(), i.store)
	require.NoError(t, err)
	require.False(t, last.DryRun, "and is not on record")
}

// TestWhatIsNamedAgainStays was unnamed in one pass and is named in the next.
func TestWhatIsNamedAgainStays(t *testing.T) {
	i := newInstallation(t)
	hash := i.put("content")
	i.age(2 * grace)
	require.Equal(t, 1, i.collected().Waiting)
	at := i.tm.add("incident/"+inc, "r1", true, nil, hash)
	require.Equal(t, 1, i.collected().Named)
	delete(i.tm.runs, at)
	require.Equal(t, 1, i.collected().Waiting, "then it waits from the beginning")
	require.Equal(t, hash, i.put("content"))
	require.Equal(t, 1, i.collected().Young, "and what is put again is young")
	require.True(t, i.has(hash))
}

// TestJournalsGoWhenTheirIncidentIsOverAndTheyAreOnRecord.
func TestJournalsGoWhenTheirIncidentIsOverAndTheyAreOnRecord(t *testing.T) {
	i := newInstallation(t)
	seal := func(name string, recs ...string) string {
		j := i.journal(name, recs...)
		hash, err := j.Seal(t.Context(), nil)
		require.NoError(t, err)
		require.NoError(t, j.Close())
		return hash
	}
	const over, open = "inc-aaaaaaaaaaaa", "inc-bbbbbbbbbbbb"
	large := strings.Repeat("x", 40<<10)
	named := seal(over+"/wave/1/Disable/ab/1", large, "outcome")
	small := seal("notify/"+over+"-n1-1-c1", "outcome")
	untold := seal(over+"/wave/1/Disable/ab/2", large, "a pass that died before it told")
	require.NoError(t, i.journal(over+"/wave/1/Issue/ab/3", "never sealed").Close())
	require.NoError(t, i.journal(over+"/wave/1/Issue/ab/4").Close())
	i.journalTouch(over + "/wave/1/Issue/ab/4")
	running := seal(open+"/wave/1/Disable/ab/1", large, "of an open incident")
	require.NoError(t, i.journal("breaker", "for ever").Close())
	i.tm.add("incident/"+over, "r1", false, nil, named, small)
	i.tm.add("incident/"+open, "r1", true, nil, running)
	i.age(2 * grace)
	require.NoError(t, i.journal(over+"/wave/1/Disable/ab/5", "a moment ago").Close())

	r := i.collected()
	require.Equal(t, 3, r.JournalsRemoved, "two on record, one empty")
	var left []string
	require.NoError(t, i.store.EachJournal(t.Context(), func(name string, _ time.Duration) error { left = append(left, name); return nil }))
	require.ElementsMatch(t, []string{over + "/wave/1/Disable/ab/2", over + "/wave/1/Issue/ab/3", open + "/wave/1/Disable/ab/1", "breaker", over + "/wave/1/Disable/ab/5"}, left)
	i.collected()
	for _, hash := range []string{named, small, untold, running} {
		require.True(t, i.has(hash), "what a journal was, or still says, is kept")
	}
}

// journalTouch makes the file of a journal that nothing was written to.
func (i *installation) journalTouch(name string) {
	path := filepath.Join(i.root, "journals", strings.ReplaceAll(name, "/", "+")+".log")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	require.NoError(i.t, err)
	require.NoError(i.t, f.Close())
}

// graph is a random installation, and what it must keep, worked out apart.
func graph(t *testing.T, seed uint64) (i *installation, keep, drop map[string]bool) {
	t.Helper()
	i = newInstallation(t)
	rnd := rand.New(rand.NewPCG(seed, 7))
	keep, drop = map[string]bool{}, map[string]bool{}
	// Blobs that name some of those before them.
	var hashes []string
	below := map[string][]string{}
	for n := range 30 + rnd.IntN(20) {
		var to []string
		for range rnd.IntN(3) {
			if n > 0 {
				to = append(to, hashes[rnd.IntN(n)])
			}
		}
		to = append(to, blob.Hash(fmt.Append(nil, "not stored ", n)))
		hash := i.put(numbered("blob", n) + names(to...))
		hashes, below[hash] = append(hashes, hash), to
	}
	var mark func(string)
	mark = func(hash string) {
		if !keep[hash] {
			keep[hash] = true
			for _, to := range below[hash] {
				mark(to)
			}
		}
	}
	some := func() []string {
		var out []string
		for range rnd.IntN(3) {
			out = append(out, hashes[rnd.IntN(len(hashes))])
			mark(out[len(out)-1])
		}
		return out
	}
	for n := range 6 {
		id := fmt.Sprintf("incident/inc-%012x/wave/%d", n/2, n)
		at := i.tm.add(id, "run", rnd.IntN(2) == 0, nil, some()...)
		switch {
		case i.tm.open[at]:
		case rnd.IntN(3) == 0:
			mark(i.chapter(at))
		case rnd.IntN(3) == 0:
			h, err := derive.JSON(i.tm.runs[at].History)
			require.NoError(t, err)
			i.bundle(fmt.Sprint("b", n), map[string][]byte{"chapters/1.json": h, "events.jsonl": []byte(names(some()...))})
			delete(i.tm.runs, at)
		}
		require.NoError(t, i.journal(fmt.Sprintf("inc-%012x/pass/%d", n/2, n), names(some()...)).Close())
	}
	require.NoError(t, i.store.EachBlob(t.Context(), func(b blob.Stored) error {
		if !keep[b.Hash] {
			drop[b.Hash] = true
		}
		return nil
	}))
	return i, keep, drop
}

// hold compares a store with what must be there.
func (i *installation) hold(stored, keep, drop map[string]bool, msg string) {
	i.t.Helper()
	for hash := range stored {
		if keep[hash] {
			require.True(i.t, i.has(hash), "%s: a named blob is gone", msg)
		}
		if drop[hash] {
			require.False(i.t, i.has(hash), "%s: an unnamed one is left", msg)
		}
	}
}

func (i *installation) stored() map[string]bool {
	out := map[string]bool{}
	require.NoError(i.t, i.store.EachBlob(i.t.Context(), func(b blob.Stored) error { out[b.Hash] = true; return nil }))
	return out
}

// TestRandomGraphs: nothing that is named is ever deleted, everything that is unnamed
// and old is.
func TestRandomGraphs(t *testing.T) {
	dropped := 0
	for seed := range uint64(60) {
		i, keep, drop := graph(t, seed)
		stored := i.stored()
		i.collected()
		i.hold(stored, keep, nil, fmt.Sprint("seed ", seed, ", all young"))
		require.Equal(t, stored, i.stored(), "everything young stays")
		i.age(2 * grace)
		i.collected()
		require.Equal(t, stored, i.stored(), "one pass deletes nothing")
		i.collected()
		i.hold(stored, keep, drop, fmt.Sprint("seed ", seed))
		dropped += len(drop)
	}
	require.Greater(t, dropped, 200, "there was something to delete")
}

// dying is a store whose process dies at the n-th step that changes something.
type dying struct {
	*blob.Dir
	left int
}

var errDied = errors.New("the process died")

func (d *dying) step() error {
	if d.left--; d.left < 0 {
		return errDied
	}
	return nil
}

func (d *dying) WriteName(ctx context.Context, name string, content []byte) error {
	if err := d.step(); err != nil {
		return err
	}
	return d.Dir.WriteName(ctx, name, content)
}

// RemoveBlobs deletes one at a time, so that every place between two is tried.
func (d *dying) RemoveBlobs(ctx context.Context, hashes []string, age time.Duration) (out []blob.Stored, err error) {
	for _, h := range hashes {
		if err := d.step(); err != nil {
			return out, err
		}
		one, err := d.Dir.RemoveBlobs(ctx, []string{h}, age)
		if out = append(out, one...); err != nil {
			return out, err
		}
	}
	return out, nil
}

func (d *dying) RemoveJournal(ctx context.Context, name string, age time.Duration) (bool, error) {
	if err := d.step(); err != nil {
		return false, err
	}
	return d.Dir.RemoveJournal(ctx, name, age)
}

// TestACrashAnywhereIsHarmless dies at each step in turn, and has the next pass finish.
func TestACrashAnywhereIsHarmless(t *testing.T) {
	for seed := range uint64(4) {
		for at := range 12 {
			i, keep, drop := graph(t, seed)
			stored := i.stored()
			i.age(2 * grace)
			i.collected()
			o := i.options()
			o.Store = &dying{Dir: i.store, left: at}
			i.now = i.now.Add(Every)
			_, _ = New(o).Collect(t.Context())
			i.hold(stored, keep, nil, fmt.Sprint("seed ", seed, " at ", at))
			i.collected()
			i.collected()
			i.hold(stored, keep, drop, fmt.Sprint("seed ", seed, " after ", at))
		}
	}
}

func TestNamesAreFoundWhereverTheyStand(t *testing.T) {
	a, b := blob.Hash([]byte("a")), blob.Hash([]byte("b"))
	for text, want := range map[string][]string{
		"": nil, "sha256:": nil, a: {a}, a + b: {a, b}, "x" + a + "y": {a}, "sha256:sha256:" + a: {a}, a[:len(a)-1]: nil,
		strings.ToUpper(a): nil, `{"h":"` + a + `"}` + "\n" + b + "\n": {a, b}, "sha256:" + strings.Repeat("g", 64) + a: {a},
	} {
		var got, streamed []string
		scan([]byte(text), func(n name) { got = append(got, n.String()) })
		require.Equal(t, want, got, text)
		for size := 1; size < 100; size += 7 { // wherever a read ends
			streamed = nil
			require.NoError(t, stream(&slow{bytes.NewReader([]byte(text)), size}, func(n name) { streamed = append(streamed, n.String()) }))
			require.Equal(t, want, streamed, "%s by %d", text, size)
		}
	}
	_, ok := parse("sha256:" + strings.Repeat("a", 63))
	require.False(t, ok)
}

// slow gives few bytes at a time.
type slow struct {
	r    *bytes.Reader
	size int
}

func (s *slow) Read(p []byte) (int, error) { return s.r.Read(p[:min(len(p), s.size)]) }

// TestRecordedHistoriesGiveTheirNames holds the scanning to what releases wrote: every
// hash that is in a payload is found.
func TestRecordedHistoriesGiveTheirNames(t *testing.T) {
	files, err := filepath.Glob("../../workflows/testdata/histories/*/*.json")
	require.NoError(t, err)
	more, err := filepath.Glob("../../workflows/testdata/histories/*.json")
	require.NoError(t, err)
	total := 0
	for _, f := range append(files, more...) {
		text, err := os.ReadFile(f)
		require.NoError(t, err)
		if strings.HasPrefix(filepath.Base(f), "bad-") || !looksLikeHistory(text) {
			continue
		}
		found := map[string]bool{}
		require.NoError(t, content(t.Context(), text, func(n name) { found[n.String()] = true }), f)
		var tree any
		require.NoError(t, json.Unmarshal(text, &tree))
		for _, want := range hashesIn(tree) {
			require.True(t, found[want], "%s: %s", f, want)
			total++
		}
	}
	require.Positive(t, total, "there are recorded histories, and they name blobs")
}
