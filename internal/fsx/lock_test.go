package fsx_test

import (
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"rekey/internal/fsx"
)

// TestLockKeepsOthersOut counts who is inside: an flock belongs to the open file, so
// goroutines keep each other out as processes do.
func TestLockKeepsOthersOut(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "lock")
	inside, most := 0, 0
	var mu sync.Mutex
	count := func(by int) {
		mu.Lock()
		defer mu.Unlock()
		inside += by
		most = max(most, inside)
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			unlock, err := fsx.Lock(path)
			if err != nil {
				t.Error(err)
				return
			}
			count(1)
			count(-1)
			unlock()
		})
	}
	all.Wait()
	require.Equal(t, 1, most)
}
