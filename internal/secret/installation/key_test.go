package installation_test

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"rekey/internal/fsx"
	"rekey/internal/secret/installation"
)

func fp(t *testing.T, path string) string {
	t.Helper()
	f, err := installation.Load(path)
	require.NoError(t, err)
	s, err := f.Public("awsiam", "prod", "user-access-key", "AKIAIOSFODNN7EXAMPLE")
	require.NoError(t, err)
	return s
}

func TestTheKeyIsMadeOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "installation.key")
	got := make([]string, 16)
	var wg sync.WaitGroup
	for i := range got {
		wg.Go(func() { got[i] = fp(t, path) })
	}
	wg.Wait()
	for _, s := range got {
		require.Equal(t, got[0], s, "two starts made two keys")
	}
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	require.NotEqual(t, got[0], fp(t, filepath.Join(t.TempDir(), "other.key")), "keys are random")
}

func TestADamagedKeyIsNeverReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "installation.key")
	fp(t, path)
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	for n := range whole {
		require.NoError(t, os.WriteFile(path, whole[:n], 0o600))
		_, err := installation.Load(path)
		var damaged *installation.DamagedError
		require.ErrorAs(t, err, &damaged, "truncated to %d bytes", n)
		left, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, string(whole[:n]), string(left))
	}
}

func TestAnOpenKeyIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "installation.key")
	fp(t, path)
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620} {
		require.NoError(t, os.Chmod(path, mode))
		_, err := installation.Load(path)
		var open *fsx.PermissionError
		require.ErrorAs(t, err, &open)
		require.ErrorContains(t, err, "chmod 600")
	}
}
