package lab

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
)

// lines is an append-only file of lines. What is appended is handed to the kernel by flush, many
// callers' lines in one write: then a process that is killed has lost nothing. It is on disk a
// second later (see syncEvery): a power cut may take the last lines with it, whole ones from
// the end, and the part of one that readLines cuts off.
type lines struct {
	file *os.File
	mu   sync.Mutex // guards buf and end
	buf  []byte
	end  int64 // of the file, buf included

	writing sync.Mutex // one write at a time; taken before mu
	spare   []byte
	flushed int64 // guarded by writing
	synced  int64 // guarded by writing
	failed  error // guarded by writing: what a file lacks it never gets
}

func openLines(path string) (*lines, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &lines{file: f, end: info.Size(), flushed: info.Size(), synced: info.Size()}, nil
}

// append adds a line and gives its place.
func (l *lines) append(parts ...[]byte) (at int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at = l.end
	before := len(l.buf)
	for _, p := range parts {
		l.buf = append(l.buf, p...)
	}
	l.buf = append(l.buf, '\n')
	l.end += int64(len(l.buf) - before)
	return at
}

// size is where the next line will be.
func (l *lines) size() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.end
}

// flush returns when everything before a place is in the kernel's hands.
func (l *lines) flush(upTo int64) error {
	l.writing.Lock()
	defer l.writing.Unlock()
	if l.failed != nil || l.flushed >= upTo {
		return l.failed
	}
	l.mu.Lock()
	out, end := l.buf, l.end
	l.buf = l.spare[:0]
	l.mu.Unlock()
	_, l.failed = l.file.Write(out)
	if l.failed == nil {
		l.flushed = end
	}
	const most = 1 << 20 // one large burst must not hold its memory for ever
	if l.spare = out; cap(out) > most {
		l.spare = nil
	}
	return l.failed
}

// line reads one back.
func (l *lines) line(at int64) ([]byte, error) {
	if err := l.flush(at + 1); err != nil {
		return nil, err
	}
	for size := 2048; ; size *= 4 {
		buf := make([]byte, size)
		n, err := l.file.ReadAt(buf, at)
		if i := bytes.IndexByte(buf[:n], '\n'); i >= 0 {
			return buf[:i], nil
		}
		if err != nil {
			return nil, fmt.Errorf("%s at %d: %w", filepath.Base(l.file.Name()), at, err)
		}
	}
}

// sync puts everything on disk.
func (l *lines) sync() error {
	if err := l.flush(l.size()); err != nil {
		return err
	}
	l.writing.Lock()
	upTo, had := l.flushed, l.synced
	l.writing.Unlock()
	if upTo == had {
		return nil
	}
	if err := l.file.Sync(); err != nil {
		return err
	}
	l.writing.Lock()
	l.synced = max(l.synced, upTo)
	l.writing.Unlock()
	return nil
}

func (l *lines) close() error { return errors.Join(l.sync(), l.file.Close()) }

// readLines calls f for each whole line and its place, and cuts a torn last one off, which a kill
// may leave.
func readLines(path string, f func(line []byte, at int64) error) error {
	file, err := os.OpenFile(path, os.O_RDWR, 0o600)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	r := bufio.NewReaderSize(file, 1<<20)
	var offset int64
	for n := 1; ; n++ {
		line, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			if len(line) > 0 {
				return file.Truncate(offset)
			}
			return nil
		}
		if err != nil {
			return err
		}
		if err := f(bytes.TrimRight(line, "\n"), offset); err != nil {
			return fmt.Errorf("%s line %d: %w", filepath.Base(path), n, err)
		}
		offset += int64(len(line))
	}
}

// replace writes a file whole: a reader sees the old or the new one, also after a kill. durable
// makes that true after a power cut too.
func replace(path string, data []byte, durable bool) error {
	return replaceBy(path, durable, func(to io.Writer) error { _, err := to.Write(data); return err })
}

func replaceBy(path string, durable bool, write func(io.Writer) error) error {
	tmp := path + ".tmp"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	err = write(f)
	if durable {
		err = errors.Join(err, f.Sync())
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}
