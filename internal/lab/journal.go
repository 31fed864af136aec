package lab

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"rekey/internal/lab/awssim"
)

// Effect is one line of the effect log: a mutating call of the engine, refused ones too, or any
// call that changed something, with the objects as they are after it. Secret values in it are sealed.
type Effect struct {
	*awssim.Record
	Result string       `json:"result"`
	Puts   []awssim.Put `json:"puts,omitempty"`
}

// journal is an append-only file with group commit: many callers wait for one fsync.
type journal struct {
	file    *os.File
	mu      sync.Mutex // guards written and the file's end
	written int64
	syncing sync.Mutex // one fsync at a time
	synced  int64
}

func openJournal(path string) (*journal, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	return &journal{file: f}, nil
}

// append writes one line; mark is what sync wants to know.
func (j *journal) append(v any) (mark int64, err error) {
	line, err := json.Marshal(v)
	if err != nil {
		return 0, err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if _, err := j.file.Write(append(line, '\n')); err != nil {
		return 0, err
	}
	j.written++
	return j.written, nil
}

// sync returns when everything up to mark is on disk.
func (j *journal) sync(mark int64) error {
	j.syncing.Lock()
	defer j.syncing.Unlock()
	if j.synced >= mark {
		return nil
	}
	j.mu.Lock()
	upTo := j.written
	j.mu.Unlock()
	if err := j.file.Sync(); err != nil {
		return err
	}
	j.synced = upTo
	return nil
}

func (j *journal) close() error { return errors.Join(j.file.Sync(), j.file.Close()) }

// readLines calls f for each whole line and cuts a torn last one off, which a kill may leave.
func readLines(path string, f func([]byte) error) error {
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
		if err := f(bytes.TrimRight(line, "\n")); err != nil {
			return fmt.Errorf("%s line %d: %w", filepath.Base(path), n, err)
		}
		offset += int64(len(line))
	}
}

// replace writes a file whole: a reader sees the old or the new one, also after a kill. durable
// makes that true after a power cut too.
func replace(path string, data []byte, durable bool) error {
	tmp := path + ".tmp"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if durable {
		err = errors.Join(err, f.Sync())
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}
