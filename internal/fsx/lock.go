package fsx

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// lockPatience is how long Lock waits: whoever holds it makes a few small files.
const lockPatience = 30 * time.Second

// Lock keeps other processes, on this machine and on others that share the file
// system (flock(2); NFS since Linux 2.6.12), out of what unlock ends: two that start
// at once must not both make the keys of a new installation. The lock ends with the
// process. path is made when it is missing, its directory too.
func Lock(path string) (unlock func(), err error) {
	if err := MkdirPrivate(filepath.Dir(path)); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, FileMode)
	if err != nil {
		return nil, Full(path, err)
	}
	for deadline := time.Now().Add(lockPatience); ; time.Sleep(20 * time.Millisecond) {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) //nolint:gosec // a file descriptor fits an int
		switch {
		case err == nil:
			return func() { _ = f.Close() }, nil // closing ends the lock
		case !errors.Is(err, syscall.EWOULDBLOCK):
			_ = f.Close()
			return nil, fmt.Errorf("%s cannot be locked (%w): the file system of the data directory has to support flock", path, err)
		case time.Now().After(deadline):
			_ = f.Close()
			return nil, fmt.Errorf("%s is locked by another process for more than %v: look for a rekey that hangs at its start", path, lockPatience)
		}
	}
}
