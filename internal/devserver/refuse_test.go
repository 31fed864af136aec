package devserver

import (
	"context"
	"database/sql"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"rekey/internal/temporalx"
)

// Every row is a reason not to start; the error says what to do, and nothing stays locked or listening.
func TestStartRefuses(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	busy := taken.Addr().String()

	rows := map[string]struct {
		prepare func(t *testing.T, o *Options)
		want    []string
	}{
		"frontend port taken": {
			func(_ *testing.T, o *Options) { o.Frontend = busy },
			[]string{busy, "the Temporal frontend", "listen.temporal", "REKEY_LISTEN_TEMPORAL"},
		},
		"UI port taken": {
			func(_ *testing.T, o *Options) { o.UI = busy },
			[]string{busy, "the Temporal UI", "listen.ui", "REKEY_LISTEN_UI"},
		},
		"reachable from other machines": {
			func(_ *testing.T, o *Options) { o.Frontend = "0.0.0.0:7233" },
			[]string{"listen.temporal", "other machines", "rekey worker"},
		},
		"UI on all interfaces by an empty host": {
			func(_ *testing.T, o *Options) { o.UI = ":8233" },
			[]string{"listen.ui", "other machines"},
		},
		"not an address": {
			func(_ *testing.T, o *Options) { o.Frontend = "localhost" },
			[]string{"listen.temporal", "host:port"},
		},
		"no data directory": {
			func(_ *testing.T, o *Options) { o.DataDir = "" },
			[]string{"--data"},
		},
		"a directory of somebody else's files": {
			func(t *testing.T, o *Options) {
				require.NoError(t, os.Mkdir(o.DataDir, 0o755))
				require.NoError(t, os.WriteFile(filepath.Join(o.DataDir, "thesis.txt"), nil, 0o644))
			},
			[]string{"open to others", "chmod 700"},
		},
		"token readable by others": {
			func(t *testing.T, o *Options) {
				require.NoError(t, os.MkdirAll(filepath.Join(o.DataDir, "keys"), 0o700))
				require.NoError(t, os.WriteFile(temporalx.TokenFile(o.DataDir), []byte(newToken()), 0o644))
			},
			[]string{"temporal-token", "chmod 600"},
		},
		"database is text": {
			func(t *testing.T, o *Options) {
				writeDatabase(t, o.DataDir, []byte(strings.Repeat("not a database\n", 500)))
			},
			[]string{databaseName, "damaged", "restore", "move both away"},
		},
		"database cut short": {
			func(t *testing.T, o *Options) {
				whole := soundDatabase(t, o.DataDir)
				writeDatabase(t, o.DataDir, whole[:len(whole)/2+100])
			},
			[]string{databaseName, "damaged"},
		},
		"database with a page overwritten": {
			func(t *testing.T, o *Options) {
				whole := soundDatabase(t, o.DataDir)
				copy(whole[4096*2:4096*4], strings.Repeat("\xff", 8192))
				writeDatabase(t, o.DataDir, whole)
			},
			[]string{databaseName, "damaged"},
		},
		"database of another Temporal": {
			func(t *testing.T, o *Options) {
				soundDatabase(t, o.DataDir)
				db, err := sql.Open("sqlite", filepath.Join(o.DataDir, databaseName))
				require.NoError(t, err)
				_, err = db.Exec("PRAGMA user_version = 7")
				require.NoError(t, err)
				require.NoError(t, db.Close())
			},
			[]string{databaseName, "another version of Temporal"},
		},
		"data directory in use": {
			func(t *testing.T, o *Options) {
				require.NoError(t, prepareDir(o.DataDir))
				f, err := lock(o.DataDir)
				require.NoError(t, err)
				t.Cleanup(func() { _ = f.Close() })
			},
			[]string{"in use by process " + strconv.Itoa(os.Getpid()), "--data"},
		},
	}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			o := options(t, filepath.Join(t.TempDir(), "data"))
			row.prepare(t, &o)
			s, err := Start(context.Background(), o)
			if err == nil {
				require.NoError(t, s.Stop(context.Background()))
			}
			require.Error(t, err)
			for _, want := range row.want {
				require.ErrorContains(t, err, want)
			}
			if name != "data directory in use" && o.DataDir != "" {
				if _, err := os.Stat(o.DataDir); err == nil {
					f, err := lock(o.DataDir)
					require.NoError(t, err, "still locked")
					require.NoError(t, f.Close())
				}
			}
		})
	}
}

// soundDatabase makes a database with the schema and some rows, and returns its bytes.
func soundDatabase(t *testing.T, dir string) []byte {
	t.Helper()
	require.NoError(t, prepareDir(dir))
	path, err := openDatabase(context.Background(), dir)
	require.NoError(t, err)
	require.NoError(t, checkpoint(path))
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Greater(t, len(whole), 5*4096)
	return whole
}

func writeDatabase(t *testing.T, dir string, raw []byte) {
	t.Helper()
	require.NoError(t, prepareDir(dir))
	for _, suffix := range []string{"-wal", "-shm"} {
		_ = os.Remove(filepath.Join(dir, databaseName+suffix))
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, databaseName), raw, 0o600))
}

func TestFullDisk(t *testing.T) {
	err := checkSpace("/data", func(string) (uint64, error) { return 1 << 20, nil })
	require.ErrorContains(t, err, "disk of the data directory /data is full: 1 MB free, 64 MB needed")
	require.NoError(t, checkSpace("/data", func(string) (uint64, error) { return 1 << 30, nil }))
	require.EqualError(t, writeError("/data", &os.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}),
		"disk of /data is full: free some space and start again")

	// SQLite's own answer: a database that may not grow.
	dir := t.TempDir()
	soundDatabase(t, dir)
	path := filepath.Join(dir, databaseName)
	db, err := openSQLite(path)
	require.NoError(t, err)
	defer db.Close()
	_, err = db.Exec("PRAGMA max_page_count = 1")
	require.NoError(t, err)
	_, err = db.Exec("CREATE TABLE big AS SELECT zeroblob(10000000)")
	require.EqualError(t, databaseError(path, err), "disk of "+dir+" is full: free some space and start again")
}

// A crash between creating the file and its tables leaves an empty file, which is new, not damaged.
func TestEmptyDatabaseFileIsNew(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, databaseName), nil, 0o644))
	path, err := openDatabase(context.Background(), dir)
	require.NoError(t, err)
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	_, err = openDatabase(context.Background(), dir)
	require.NoError(t, err, "opening again changes nothing")
}

func TestPrepareDirTightensOnlyItsOwn(t *testing.T) {
	for name, file := range map[string]string{"empty": "", "rekey's": databaseName} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			require.NoError(t, os.Mkdir(dir, 0o755))
			if file != "" {
				require.NoError(t, os.WriteFile(filepath.Join(dir, file), nil, 0o600))
			}
			require.NoError(t, prepareDir(dir))
			info, err := os.Stat(dir)
			require.NoError(t, err)
			require.Equal(t, os.FileMode(0o700), info.Mode().Perm())
		})
	}
}

// Temporal ends the process on Fatal and panics on a bad configuration; here both become errors.
func TestGuard(t *testing.T) {
	f := newFatal()
	l := logger{to: options(t, "").Logger, fatal: f}
	require.ErrorContains(t, guard(func() error { l.Fatal("Failed to start gRPC listener"); return nil }), "gave up")
	require.ErrorContains(t, f.get(), "Failed to start gRPC listener")
	require.ErrorContains(t, guard(func() error { panic("no HTTP port") }), "no HTTP port")
	require.NoError(t, guard(func() error { return nil }))
}

// TestUserWithoutName: Temporal's server would end with a page of its own words.
func TestUserWithoutName(t *testing.T) {
	require.NoError(t, known(nil))
	err := known(user.UnknownUserIdError(54321))
	require.ErrorContains(t, err, strconv.Itoa(os.Getuid()))
	require.ErrorContains(t, err, "/etc/passwd")
	require.ErrorContains(t, err, "USER")
}
