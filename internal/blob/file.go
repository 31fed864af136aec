package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
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

// openFile opens or makes the file and, with lock, locks it against other processes;
// the lock ends with the process, also by kill -9
// (https://man7.org/linux/man-pages/man2/flock.2.html). The log of a term is not
// locked: its writer is alone by its term, and a lock would also keep out the one
// after it while a stopped process lives.
func openFile(path string, lock bool) (file, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, fsx.FileMode)
		if err != nil {
			return nil, fsx.Full(path, err)
		}
		if !lock {
			return osFile{f}, nil
		}
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
			if errors.Is(err, syscall.EWOULDBLOCK) {
				err = errLocked
			}
			return nil, errors.Join(fmt.Errorf("%s: %w", path, err), f.Close())
		}
		// Another process may have put a new file in its place or removed it, and
		// ended, between the two calls above.
		ours, err := f.Stat()
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		if there, err := os.Stat(path); err == nil && os.SameFile(ours, there) {
			return osFile{f}, nil
		}
		_ = f.Close() // nothing was written
	}
}

// lockEvery is how often a lock that another process holds is tried again.
const lockEvery = 20 * time.Millisecond

// Lock implements [Journals]. Hosts that share the directory need a file system that
// carries flock between them: NFS version 4 does
// (https://man7.org/linux/man-pages/man2/flock.2.html), and one that has no locks
// is refused here.
func (d *Dir) Lock(ctx context.Context, name string) (unlock func(), err error) {
	path, err := d.journalPath(name, ".lock")
	if err != nil {
		return nil, err
	}
	for {
		f, err := openFile(path, true)
		if err == nil {
			return func() { _ = f.Close() }, nil // closing unlocks; nothing was written
		}
		var open *fs.PathError // of open and stat; flock gives a plain number
		if errors.As(err, &open) {
			return nil, err
		}
		if !errors.Is(err, errLocked) && !errors.Is(err, syscall.EINTR) {
			return nil, fmt.Errorf("%s cannot be locked: put the data directory on a file system with flock (local, or NFS version 4): %w", path, err)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%s is held by another process: %w", path, ctx.Err())
		case <-time.After(lockEvery):
		}
	}
}
