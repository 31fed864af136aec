package blob

import (
	"os"
	"syscall"
)

// syncData makes the content and length durable, and leaves times alone:
// https://man7.org/linux/man-pages/man2/fdatasync.2.html.
func syncData(f *os.File) error {
	for {
		if err := syscall.Fdatasync(int(f.Fd())); err != syscall.EINTR {
			return os.NewSyscallError("fdatasync", err)
		}
	}
}
