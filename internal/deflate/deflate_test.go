package deflate_test

import (
	"bytes"
	"crypto/rand"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"rekey/internal/deflate"
)

func TestWhatIsPackedComesBack(t *testing.T) {
	noise := make([]byte, 10_000)
	_, err := rand.Read(noise)
	require.NoError(t, err)
	var wg sync.WaitGroup
	for _, plain := range [][]byte{nil, []byte("x"), bytes.Repeat([]byte(`{"fp":"fp1_"}`), 10_000), noise} {
		for range 8 { // writers are shared
			wg.Go(func() {
				got, err := deflate.Unpack(deflate.Pack(plain), len(plain))
				if err != nil || !bytes.Equal(plain, got) {
					t.Errorf("%d bytes came back as %d: %v", len(plain), len(got), err)
				}
			})
		}
	}
	wg.Wait()
	require.Less(t, len(deflate.Pack(bytes.Repeat([]byte("row"), 100_000))), 3000)
}

// TestABombIsNotUnpacked gives a megabyte that says it is a kilobyte.
func TestABombIsNotUnpacked(t *testing.T) {
	bomb := deflate.Pack(make([]byte, 1<<20))
	require.Less(t, len(bomb), 8<<10)
	_, err := deflate.Unpack(bomb, 1<<20-1)
	require.ErrorIs(t, err, deflate.ErrTooLarge)
	got, err := deflate.Unpack(bomb, 1<<20)
	require.NoError(t, err)
	require.Len(t, got, 1<<20)
}

func TestDamageIsNotUnpacked(t *testing.T) {
	packed := deflate.Pack(bytes.Repeat([]byte("page of rows, "), 100))
	for n := range packed {
		_, err := deflate.Unpack(packed[:n], 1<<20)
		require.Error(t, err, "cut at %d", n)
	}
	_, err := deflate.Unpack(append(bytes.Clone(packed), 0), 1<<20)
	require.Error(t, err, "something follows")
}
