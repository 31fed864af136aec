package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"rekey/internal/fsx"
)

// file is what a journal needs of its file.
type file interface {
	io.ReaderAt
	io.WriterAt
	Size() (int64, error)
	Truncate(int64) error
	Sync() error
	Close() error
}

type osFile struct{ *os.File }

func (f osFile) Sync() error { return syncData(f.File) }

func (f osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// errLocked: another process holds the file.
var errLocked = errors.New("held by another process: end it first; its lock goes with it")

// openFile opens or makes the file and locks it against other processes; the
// lock ends with the process, also by kill -9
// (https://man7.org/linux/man-pages/man2/flock.2.html).
func openFile(path string) (file, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, fsx.FileMode)
	if err != nil {
		return nil, fsx.Full(path, err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = errLocked
		}
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), f.Close())
	}
	return osFile{f}, nil
}

// openUnlocked opens the log of a term. Its writer is alone by its term; a lock
// would also keep out the one after it while a stopped process lives.
func openUnlocked(path string) (file, error) {
	f, err := os.OpenFile(path, os.O_RDWR, fsx.FileMode)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

// lockEvery is how often a lock that another process holds is tried again.
const lockEvery = 20 * time.Millisecond

// Lock takes the lock name for this caller alone, among all processes and all
// callers in this one, and waits for it until ctx ends. The lock ends with unlock
// or with the process. Hosts that share the directory need a file system that
// carries flock between them: NFS version 4 does
// (https://man7.org/linux/man-pages/man2/flock.2.html), and one that has no locks
// is refused here.
func (d *Dir) Lock(ctx context.Context, name string) (unlock func(), err error) {
	path, err := d.journalPath(name, ".lock")
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, fsx.FileMode)
	if err != nil {
		return nil, fsx.Full(path, err)
	}
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil // closing unlocks; nothing was written
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			return nil, errors.Join(fmt.Errorf("%s cannot be locked: put the data directory on a file system with flock (local, or NFS version 4): %w", path, err), f.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("%s is held by another process: %w", path, ctx.Err()), f.Close())
		case <-time.After(lockEvery):
		}
	}
}
