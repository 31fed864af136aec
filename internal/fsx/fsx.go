// Package fsx writes private files so that a crash between any two steps leaves
// either the old state or the new one, never half a file.
//
// Every function takes plain paths, creates directories 0700 and files 0600 and
// syncs file and directory before it returns. A package that needs another
// durable-write shape adds it here, so that the fsync rules stand in one place
// (rename and link are durable only after the directory is synced:
// https://man7.org/linux/man-pages/man2/fsync.2.html).
package fsx

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Modes of everything under the data directory.
const (
	DirMode  fs.FileMode = 0o700
	FileMode fs.FileMode = 0o600
)

// A DiskFullError says that a write met a full disk or quota. Nothing was left
// half written; the call can be repeated once there is room.
type DiskFullError struct {
	Path string
	Err  error
}

func (e *DiskFullError) Error() string {
	return fmt.Sprintf("no space left to write %s: free space on that file system (or raise its quota), then the step is repeated by itself", e.Path)
}

func (e *DiskFullError) Unwrap() error { return e.Err }

// Full wraps err in a DiskFullError when it means "no space" or "quota
// exceeded", and returns it as it is otherwise.
func Full(path string, err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return &DiskFullError{Path: path, Err: err}
	}
	return err
}

// A PermissionError says that a private file or directory can be read or
// written by others.
type PermissionError struct {
	Path string
	Mode fs.FileMode
}

func (e *PermissionError) Error() string {
	want := "600"
	if e.Mode.IsDir() {
		want = "700"
	}
	return fmt.Sprintf("%s is open to others (mode %04o): run `chmod %s %s`, and treat what it holds as exposed if others use this machine",
		e.Path, e.Mode.Perm(), want, e.Path)
}

// MkdirPrivate makes dir and its parents, 0700, and syncs the parent of dir. An
// existing directory keeps its mode (it may be one that others need to list: the
// files in it are private by themselves), but one that others can write is
// refused with *PermissionError: what is in it may not be ours.
func MkdirPrivate(dir string) error {
	if err := os.MkdirAll(dir, DirMode); err != nil {
		return Full(dir, err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if info.Mode().Perm()&0o022 != 0 {
		return &PermissionError{Path: dir, Mode: info.Mode()}
	}
	return SyncDir(filepath.Dir(dir))
}

// SyncDir makes the names in dir durable.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if errors.Is(err, syscall.EINVAL) { // a file system that cannot sync directories has no order to keep
		err = nil
	}
	return errors.Join(err, d.Close())
}

// WriteAtomic replaces the file at path with data. Idempotent.
func WriteAtomic(path string, data []byte) error {
	return write(path, plain(data), os.Rename)
}

// WriteAtomicFrom is [WriteAtomic] of what fill writes, which is never in memory as a
// whole. An error of fill leaves the file as it was.
func WriteAtomicFrom(path string, fill func(io.Writer) error) error {
	return write(path, fill, os.Rename)
}

func plain(data []byte) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	}
}

// CreateExclusive makes the file at path with data. It fails with fs.ErrExist
// when there is one already, and it never leaves a truncated file: the complete
// file appears under its name at once.
func CreateExclusive(path string, data []byte) error {
	return write(path, plain(data), func(tmp, path string) error {
		if err := os.Link(tmp, path); err != nil {
			if errors.Is(err, fs.ErrExist) { // the loser builds on the winner's file: make that durable too
				err = errors.Join(err, SyncDir(filepath.Dir(path)))
			}
			return err
		}
		return os.Remove(tmp)
	})
}

// TempPattern is how unfinished files are named; whoever lists a directory
// skips and may remove them.
const TempPattern = ".tmp-*"

// TempName is a new name for an unfinished file.
func TempName() string { return strings.TrimSuffix(TempPattern, "*") + rand.Text() }

// IsTemp reports whether name is an unfinished file left by a crash.
func IsTemp(name string) bool {
	ok, err := filepath.Match(TempPattern, name)
	return ok && err == nil
}

func write(path string, fill func(io.Writer) error, publish func(tmp, path string) error) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, TempPattern) // 0600 by contract of os.CreateTemp
	if err != nil {
		return Full(path, err)
	}
	defer func() {
		if err != nil {
			err = Full(path, errors.Join(err, f.Close()))
			_ = os.Remove(f.Name()) // best effort: the name is unique and ignored by readers
		}
	}()
	if err = fill(f); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = publish(f.Name(), path); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	return SyncDir(dir)
}

// ReadPrivate reads a regular file of at most limit bytes that nobody else may
// read or write. It fails with *PermissionError otherwise.
func ReadPrivate(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file: put a plain file there", path)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, &PermissionError{Path: path, Mode: info.Mode()}
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s is larger than %d bytes: it is not the file expected here", path, limit)
	}
	return data, nil
}
