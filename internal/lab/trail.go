package lab

import (
	"bufio"
	"encoding/json"
	"errors"
	"os"

	"rekey/internal/lab/awssim"
)

// trailFile holds every call. It is buffered within one request or clock step and handed to the
// kernel at its end; it is not synced: a killed process loses nothing, and effects are in the
// effect log, which is.
type trailFile struct {
	file *os.File
	buf  *bufio.Writer
}

func openTrail(path string) (*trailFile, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	return &trailFile{f, bufio.NewWriterSize(f, 1<<16)}, nil
}

func (t *trailFile) append(r *awssim.Record) error {
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	_, err = t.buf.Write(append(line, '\n'))
	return err
}

func (t *trailFile) flush() error { return t.buf.Flush() }

func (t *trailFile) close() error {
	return errors.Join(t.buf.Flush(), t.file.Sync(), t.file.Close())
}
