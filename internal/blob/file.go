package blob

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

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
