package devserver

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"rekey/internal/temporalx"
)

const (
	databaseName = "temporal.db"
	lockName     = "lock"
	logName      = "temporal.log"

	// minFreeBytes leaves room for the write-ahead log of a busy incident.
	minFreeBytes = 64 << 20
)

// prepareDir makes the data directory private. A directory that others may enter is only tightened when it is ours or
// empty: `--data /tmp` must not change /tmp.
func prepareDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	if info.Mode().Perm()&0o077 == 0 {
		return nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	_, err = os.Stat(filepath.Join(dir, databaseName))
	if len(entries) > 0 && err != nil {
		return fmt.Errorf("data directory %s is open to others (mode %04o) and holds files that are not rekey's: choose an empty directory, or run `chmod 700 %s`", dir, info.Mode().Perm(), dir)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	return nil
}

// lock takes the data directory for this process until the file is closed. The kernel releases it when the process
// dies, however it dies.
func lock(dir string) (*os.File, error) {
	name := filepath.Join(dir, lockName)
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock of the data directory: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		raw, _ := io.ReadAll(io.LimitReader(f, 32))
		_ = f.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock of the data directory %s: %w; it must be on a local file system", name, err)
		}
		holder := "another process"
		if pid, err := strconv.Atoi(strings.TrimSpace(string(raw))); err == nil {
			holder = fmt.Sprintf("process %d", pid)
		}
		return nil, fmt.Errorf("data directory %s is in use by %s: stop that one, or choose another directory with --data", dir, holder)
	}
	err = f.Chmod(0o600)
	if err == nil {
		err = f.Truncate(0)
	}
	if err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("lock of the data directory: %w", writeError(dir, err))
	}
	return f, nil
}

// checkSpace refuses to start on a disk that is about to be full: SQLite would then fail in the middle of an incident.
func checkSpace(dir string, free func(dir string) (uint64, error)) error {
	n, err := free(dir)
	if err != nil {
		return fmt.Errorf("free space of the data directory: %w", err)
	}
	if n < minFreeBytes {
		return fmt.Errorf("disk of the data directory %s is full: %d MB free, %d MB needed; free some, or move the data directory", dir, n>>20, uint64(minFreeBytes)>>20)
	}
	return nil
}

func freeBytes(dir string) (uint64, error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return 0, err
	}
	return uint64(s.Bavail) * uint64(s.Bsize), nil //nolint:gosec,unconvert // a block size is positive; the types differ between systems
}

// writeError names the disk when that is what a write failed of.
func writeError(dir string, err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("disk of %s is full: free some space and start again", dir)
	}
	return err
}

// callerToken reads the credential of callers, or makes it at the first start.
func callerToken(dir string) (string, error) {
	token, err := temporalx.ReadToken(dir)
	if !errors.Is(err, fs.ErrNotExist) {
		return token, err
	}
	name := temporalx.TokenFile(dir)
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return "", fmt.Errorf("Temporal token: %w", err)
	}
	token = newToken()
	f, err := os.CreateTemp(filepath.Dir(name), ".temporal-token-*") // mode 0600 whatever the umask
	if err != nil {
		return "", fmt.Errorf("Temporal token: %w", err)
	}
	defer func() { _ = os.Remove(f.Name()) }()
	_, err = f.WriteString(token + "\n")
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return "", fmt.Errorf("Temporal token: %w", writeError(dir, err))
	}
	return token, nil
}

// newToken returns 256 random bits as text.
func newToken() string {
	raw := make([]byte, 32)
	_, _ = rand.Read(raw) // never fails: crypto/rand ends the process instead
	return base64.RawURLEncoding.EncodeToString(raw)
}
