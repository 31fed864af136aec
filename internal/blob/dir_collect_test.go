package blob

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/internal/fsx"
)

func TestTidyRemovesWhatCrashesLeft(t *testing.T) {
	d := dir(t)
	hash, err := d.Put(ctx, []byte("page"))
	require.NoError(t, err)
	require.NoError(t, d.WriteName(ctx, "chapters/inc-1/a.json", []byte("{}")))
	written(t, d, "j", "intent")
	at := func(name string) string { return filepath.Join(d.root, filepath.FromSlash(name)) }
	old := time.Now().Add(-48 * time.Hour)
	for _, name := range []string{"journals/gone.lock", "journals/held.lock", "sha256/" + fsx.TempName(), "chapters/inc-1/" + fsx.TempName(), "journals/" + fsx.TempName()} {
		require.NoError(t, os.WriteFile(at(name), nil, 0o600))
		require.NoError(t, os.Chtimes(at(name), old, old))
	}
	fresh := at("journals/" + fsx.TempName())
	require.NoError(t, os.WriteFile(fresh, nil, 0o600))
	unlock, err := d.Lock(ctx, "held")
	require.NoError(t, err)
	defer unlock()
	require.NoError(t, d.Tidy(ctx, 24*time.Hour))
	left, err := filepath.Glob(filepath.Join(d.root, "*", "*.lock"))
	require.NoError(t, err)
	require.Equal(t, []string{at("journals/held.lock")}, left)
	temps, err := filepath.Glob(filepath.Join(d.root, "*", ".tmp-*"))
	require.NoError(t, err)
	require.Equal(t, []string{fresh}, temps, "somebody may be writing it")
	_, err = d.Get(ctx, hash)
	require.NoError(t, err)
	require.Equal(t, []string{"intent"}, contents(t, d, "j"))
	_, err = d.ReadName(ctx, "chapters/inc-1/a.json")
	require.NoError(t, err)
}

// TestALockThatIsTidiedAwayIsStillOne removes the file of a lock again and again while
// others take it: never two have it.
func TestALockThatIsTidiedAwayIsStillOne(t *testing.T) {
	d := dir(t)
	stop := make(chan struct{})
	var tidy sync.WaitGroup
	tidy.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				if err := d.Tidy(ctx, -1); err != nil {
					t.Error(err)
					return
				}
			}
		}
	})
	inside, most := 0, 0
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 25 {
				unlock, err := d.Lock(ctx, "j")
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				inside++
				most = max(most, inside)
				mu.Unlock()
				time.Sleep(100 * time.Microsecond)
				mu.Lock()
				inside--
				mu.Unlock()
				unlock()
			}
		})
	}
	wg.Wait()
	close(stop)
	tidy.Wait()
	require.Equal(t, 1, most)
}

// TestACollectorThatIsSlowIsWaitedFor puts old content again while a collector has
// looked at it and not deleted it yet.
func TestACollectorThatIsSlowIsWaitedFor(t *testing.T) {
	d := dir(t)
	page := []byte("page")
	hash, err := d.Put(ctx, page)
	require.NoError(t, err)
	path, err := d.path(hash)
	require.NoError(t, err)
	for name, found := range map[string][]byte{"as it was": stored(t, d, hash), "damaged": []byte("x")} {
		require.NoError(t, os.WriteFile(path, found, 0o600))
		old := time.Now().Add(-48 * time.Hour)
		require.NoError(t, os.Chtimes(path, old, old))
		unlock, err := d.Lock(ctx, SweepLock)
		require.NoError(t, err)
		done := make(chan error, 1)
		go func() { _, err := d.Put(context.Background(), page); done <- err }()
		require.Eventually(t, func() bool {
			info, err := os.Lstat(path)
			return err == nil && time.Since(info.ModTime()) < Fresh
		}, time.Minute, time.Millisecond, name)
		require.NoError(t, os.Remove(path)) // it had looked before
		unlock()
		require.NoError(t, <-done)
		got, err := d.Get(ctx, hash)
		require.NoError(t, err, name)
		require.Equal(t, page, got)
	}
}
