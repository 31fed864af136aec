package blob_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/internal/blob"
	"rekey/internal/blob/blobtest"
	"rekey/internal/codec/keyring"
)

// directory is a world of stores in one directory.
type directory struct{ root string }

func (d directory) Open(t testing.TB, keys *keyring.Keyring) blob.Collectable {
	t.Helper()
	s, err := blob.OpenDir(d.root, keys)
	require.NoError(t, err)
	return s
}

func (d directory) Damage(t testing.TB, hash string, f func([]byte) []byte) {
	t.Helper()
	digits := strings.TrimPrefix(hash, "sha256:")
	path := filepath.Join(d.root, "sha256", digits[:2], digits[2:])
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	if b = f(b); b == nil {
		require.NoError(t, os.Remove(path))
		return
	}
	require.NoError(t, os.WriteFile(path, b, 0o600))
}

func (d directory) Age(t testing.TB, by time.Duration) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(d.root, func(path string, e fs.DirEntry, err error) error {
		require.NoError(t, err)
		info, err := e.Info()
		require.NoError(t, err)
		at := info.ModTime().Add(-by)
		return os.Chtimes(path, at, at)
	}))
}

func TestADirectoryKeepsThePromisesOfAStore(t *testing.T) {
	blobtest.Run(t, func(t testing.TB) blobtest.World { return directory{filepath.Join(t.TempDir(), "blobs")} })
}
