package inbox_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/internal/codec/keyring"
	"rekey/internal/inbox"
)

const name = "3f9a0c41d2e8b756"

func open(t *testing.T, data string) *inbox.Inbox {
	t.Helper()
	keys, err := keyring.Open(keyring.Options{Dir: filepath.Join(data, "keys"), Create: true, Now: time.Now})
	require.NoError(t, err)
	b, err := inbox.Open(filepath.Join(data, "inbox"), keys)
	require.NoError(t, err)
	return b
}

func pending(t *testing.T, b *inbox.Inbox) []string {
	t.Helper()
	p, err := b.Pending()
	require.NoError(t, err)
	return p
}

func TestAnEntryIsTakenOnceAndSurvivesItsProcess(t *testing.T) {
	data := t.TempDir()
	b := open(t, data)
	require.NoError(t, b.Put(name, []byte("what was asked")))

	e, err := b.Take(name)
	require.NoError(t, err)
	require.Equal(t, "what was asked", string(e.Content))
	other := open(t, data) // another replica
	again, err := other.Take(name)
	require.NoError(t, err)
	require.Nil(t, again, "somebody works on it")
	e.Close() // as when the process dies

	require.Equal(t, []string{name}, pending(t, other))
	e, err = other.Take(name)
	require.NoError(t, err)
	require.Equal(t, "what was asked", string(e.Content))
	require.True(t, b.Waits(name))
	require.NoError(t, e.Done())
	e.Close()
	require.False(t, b.Waits(name))

	require.Empty(t, pending(t, b))
	e, err = b.Take(name)
	require.NoError(t, err)
	require.Nil(t, e, "it is done")
	require.ErrorIs(t, b.Put(name, []byte("again")), inbox.ErrTwice, "the name stays taken")
}

func TestOfManyThatArriveAtOnceOneIsTaken(t *testing.T) {
	data := t.TempDir()
	boxes := []*inbox.Inbox{open(t, data), open(t, data)}
	var taken, twice atomic.Int64
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			switch err := boxes[i%2].Put(name, []byte("x")); {
			case err == nil:
				taken.Add(1)
			case errors.Is(err, inbox.ErrTwice):
				twice.Add(1)
			}
		})
	}
	wg.Wait()
	require.Equal(t, int64(1), taken.Load())
	require.Equal(t, int64(19), twice.Load())
}

func TestNothingOfARequestIsReadableOnDisk(t *testing.T) {
	data := t.TempDir()
	b := open(t, data)
	require.NoError(t, b.Put(name, []byte("the text somebody typed")))
	raw, err := os.ReadFile(filepath.Join(data, "inbox", name+".req"))
	require.NoError(t, err)
	require.NotContains(t, string(raw), "somebody")

	e, err := b.Take(name)
	require.NoError(t, err)
	require.NoError(t, e.Done())
	e.Close()
	info, err := os.Stat(filepath.Join(data, "inbox", name+".req"))
	require.NoError(t, err)
	require.Zero(t, info.Size())
}

func TestAChangedOrMovedEntryDoesNotOpen(t *testing.T) {
	data := t.TempDir()
	b := open(t, data)
	require.NoError(t, b.Put(name, []byte("text")))
	path := filepath.Join(data, "inbox", name+".req")
	raw, err := os.ReadFile(path)
	require.NoError(t, err)

	require.NoError(t, os.WriteFile(filepath.Join(data, "inbox", "another-name.req"), raw, 0o600))
	_, err = b.Take("another-name")
	require.Error(t, err, "an entry opens under its own name only")

	raw[len(raw)-1] ^= 1
	require.NoError(t, os.WriteFile(path, raw, 0o600))
	_, err = b.Take(name)
	require.Error(t, err)
	require.NoError(t, os.WriteFile(path, []byte("junk"), 0o600))
	_, err = b.Take(name)
	require.Error(t, err)
	require.Contains(t, pending(t, b), name, "what cannot be read is not dropped")
}

func TestFirstIsOneOfAll(t *testing.T) {
	data := t.TempDir()
	b := open(t, data)
	first, err := b.First(name, "told")
	require.NoError(t, err)
	require.True(t, first)
	first, err = open(t, data).First(name, "told")
	require.NoError(t, err)
	require.False(t, first)
}

func TestCleanForgetsOnlyWhatIsDoneAndOld(t *testing.T) {
	data := t.TempDir()
	b := open(t, data)
	for _, n := range []string{"done-and-old", "done-and-new", "open-and-old"} {
		require.NoError(t, b.Put(n, []byte("x")))
		if strings.HasPrefix(n, "done") {
			e, err := b.Take(n)
			require.NoError(t, err)
			require.NoError(t, e.Done())
			e.Close()
		}
		_, err := b.First(n, "told")
		require.NoError(t, err)
	}
	old := time.Now().Add(-2 * time.Hour)
	files, err := filepath.Glob(filepath.Join(data, "inbox", "*-old.*"))
	require.NoError(t, err)
	require.Len(t, files, 4)
	for _, f := range files {
		require.NoError(t, os.Chtimes(f, old, old))
	}
	require.NoError(t, b.Clean(time.Now().Add(-time.Hour)))
	require.NoError(t, b.Put("done-and-old", []byte("x")), "forgotten")
	require.ErrorIs(t, b.Put("done-and-new", []byte("x")), inbox.ErrTwice)
	require.Contains(t, pending(t, b), "open-and-old")
	first, err := b.First("open-and-old", "told")
	require.NoError(t, err)
	require.False(t, first, "the mark of an open entry stays")
}

func TestBadNamesAreRefused(t *testing.T) {
	b := open(t, t.TempDir())
	for _, n := range []string{"", "short", "../../etc/passwd", "UPPER-CASE", strings.Repeat("a", 97), "with space"} {
		require.Error(t, b.Put(n, []byte("x")), n)
		e, err := b.Take(n)
		require.NoError(t, err)
		require.Nil(t, e)
	}
	require.Error(t, b.Put(name, nil), "an empty entry would be a done one")
}
