package lab

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
)

// lockDir makes sure one process at a time has a lab's files. The kernel drops the lock with the
// process, so a killed lab leaves nothing to clean up.
func lockDir(dir string) (io.Closer, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("%s is in use by another lab", dir)
	}
	return f, nil
}
