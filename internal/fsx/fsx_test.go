package fsx_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"rekey/internal/fsx"
)

func TestCreateExclusiveHasOneWinner(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	var won atomic.Int32
	var winner atomic.Value
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			data := fmt.Sprint("writer ", i)
			err := fsx.CreateExclusive(path, []byte(data))
			if err == nil {
				won.Add(1)
				winner.Store(data)
			} else if !errors.Is(err, fs.ErrExist) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, 1, won.Load())
	got, err := fsx.ReadPrivate(path, 100)
	require.NoError(t, err)
	require.Equal(t, winner.Load(), string(got))
	require.ErrorIs(t, fsx.CreateExclusive(path, nil), fs.ErrExist)
	entries, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	require.Len(t, entries, 1, "losers leave nothing behind")
}

func TestWriteAtomicReplaces(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	for _, s := range []string{"one", "", "three"} {
		require.NoError(t, fsx.WriteAtomic(path, []byte(s)))
		got, err := fsx.ReadPrivate(path, 100)
		require.NoError(t, err)
		require.Equal(t, s, string(got))
	}
	require.Error(t, fsx.WriteAtomic(filepath.Join(path, "below-a-file"), nil))
}

func TestPrivateMeansPrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	require.NoError(t, fsx.MkdirPrivate(dir))
	require.NoError(t, fsx.MkdirPrivate(dir))
	info, err := os.Stat(dir)
	require.NoError(t, err)
	require.Equal(t, fsx.DirMode, info.Mode().Perm())
	require.NoError(t, os.Chmod(dir, 0o755))
	require.NoError(t, fsx.MkdirPrivate(dir))
	info, err = os.Stat(dir)
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o755), info.Mode().Perm(), "the mode of a directory that was there is its owner's choice")
	require.NoError(t, os.Chmod(dir, 0o770))
	require.ErrorContains(t, fsx.MkdirPrivate(dir), "chmod 700")
	require.NoError(t, os.Chmod(dir, fsx.DirMode))

	_, err = fsx.ReadPrivate(dir, 10)
	require.ErrorContains(t, err, "not a regular file")
	file := filepath.Join(dir, "f")
	require.NoError(t, fsx.WriteAtomic(file, []byte("12345")))
	_, err = fsx.ReadPrivate(file, 4)
	require.ErrorContains(t, err, "larger than 4")
}

func TestAFullDiskSaysWhatToDo(t *testing.T) {
	for _, cause := range []error{syscall.ENOSPC, syscall.EDQUOT} {
		err := fsx.Full("/data/x", &fs.PathError{Op: "write", Path: "/data/x", Err: cause})
		var full *fsx.DiskFullError
		require.ErrorAs(t, err, &full)
		require.ErrorContains(t, err, "free space")
		require.ErrorIs(t, err, cause)
	}
	require.ErrorIs(t, fsx.Full("/data/x", fs.ErrPermission), fs.ErrPermission)
	require.NoError(t, fsx.Full("/data/x", nil))
}
