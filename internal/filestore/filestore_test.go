package filestore_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/internal/filestore"
)

func open(t *testing.T, mode string) (*filestore.Store, string) {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.Chmod(dir, 0o700))
	s, err := filestore.Open(dir, mode)
	require.NoError(t, err)
	return s, dir
}

func TestWriteReplacesAsAWhole(t *testing.T) {
	for mode, want := range map[string]fs.FileMode{"": 0o600, "0640": 0o640} {
		s, dir := open(t, mode)
		_, err := s.Read("payments/db.json")
		require.ErrorIs(t, err, fs.ErrNotExist)
		for i, content := range []string{"first", "second, longer", "3"} {
			changed, err := s.Write("payments/db.json", []byte(content))
			require.NoError(t, err)
			require.True(t, changed)
			changed, err = s.Write("payments/db.json", []byte(content))
			require.NoError(t, err)
			require.False(t, changed, "the same again, %d", i)
			got, err := s.Read("payments/db.json")
			require.NoError(t, err)
			require.Equal(t, content, string(got))
		}
		info, err := os.Stat(filepath.Join(dir, "payments", "db.json"))
		require.NoError(t, err)
		require.Equal(t, want, info.Mode().Perm())
		info, err = os.Stat(filepath.Join(dir, "payments"))
		require.NoError(t, err)
		require.Equal(t, mode == "0640", info.Mode()&fs.ModeSetgid != 0)
		require.Zero(t, info.Mode().Perm()&0o027&^0o050, "nobody else looks in, nobody else writes")
		require.Equal(t, []string{"db.json"}, names(t, filepath.Join(dir, "payments")), "nothing else stays")
	}
}

func TestLeftoversGo(t *testing.T) {
	s, dir := open(t, "")
	old := filepath.Join(dir, ".db.0123456789abcdef")
	require.NoError(t, os.WriteFile(old, []byte("cut short"), 0o600))
	require.NoError(t, os.Chtimes(old, time.Time{}, time.Now().Add(-time.Hour)))
	require.NoError(t, os.WriteFile(filepath.Join(dir, ".db.fedcba9876543210"), []byte("under way"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, ".db.keep"), []byte("somebody's"), 0o600))
	_, err := s.Write("db", []byte("new"))
	require.NoError(t, err)
	require.ElementsMatch(t, []string{"db", ".db.keep", ".db.fedcba9876543210"}, names(t, dir))
}

func TestReadersSeeOneOrTheOther(t *testing.T) {
	s, dir := open(t, "")
	values := []string{strings.Repeat("a", 9000), strings.Repeat("b", 7000)}
	_, err := s.Write("db", []byte(values[0]))
	require.NoError(t, err)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for i := range 50 {
				_, err := s.Write("db", []byte(values[i%2]))
				require.NoError(t, err)
			}
		})
	}
	for range 200 {
		b, err := os.ReadFile(filepath.Join(dir, "db"))
		require.NoError(t, err)
		require.Contains(t, values, string(b))
	}
	wg.Wait()
}

func TestNamesStayInside(t *testing.T) {
	s, dir := open(t, "")
	outside := t.TempDir()
	require.NoError(t, os.Symlink(outside, filepath.Join(dir, "link")))
	for _, bad := range []string{
		"", ".", "..", "../x", "a/../../x", "/etc/x", "a//b", "a/", ".hidden", "a/.b", "a b", "a\x00b", "a\nb", `a\b`, strings.Repeat("n", 300),
	} {
		_, err := s.Write(bad, []byte("x"))
		require.ErrorIs(t, err, filestore.ErrName, "%q", bad)
		_, err = s.Read(bad)
		require.ErrorIs(t, err, filestore.ErrName, "%q", bad)
	}
	_, err := s.Write("link/x", []byte("x"))
	require.Error(t, err, "a link out of the folder")
	require.Empty(t, names(t, outside))
	require.NotContains(t, err.Error(), outside)
}

func TestFoldersThatAreNotOurs(t *testing.T) {
	_, err := filestore.Open("relative", "")
	require.ErrorContains(t, err, "absolute")
	_, err = filestore.Open("/x", "0644")
	require.ErrorIs(t, err, filestore.ErrMode)
	s, dir := open(t, "")
	require.NoError(t, os.Chmod(dir, 0o777))
	_, err = s.Write("db", []byte("x"))
	require.ErrorIs(t, err, filestore.ErrDir)
	s, err = filestore.Open(filepath.Join(dir, "none"), "")
	require.NoError(t, err)
	_, err = s.Write("db", []byte("x"))
	require.ErrorIs(t, err, filestore.ErrDir)
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}
