package redact

import (
	"bytes"
	"io"
	"sync"
)

// maxHeld bounds what a Writer holds back; overlap is how much of it stays when
// it must let go, so that a secret over the edge is still seen whole.
const (
	maxHeld = 256 << 10
	overlap = 16 << 10
)

// A Writer redacts what goes through it, line by line: it holds back an
// unfinished line, and an unfinished private key block, until the rest comes or
// Flush is called. It is safe for concurrent use.
type Writer struct {
	r    *Redactor
	mu   sync.Mutex
	next io.Writer
	held []byte
}

// Writer wraps next. Call Flush at the end.
func (r *Redactor) Writer(next io.Writer) *Writer { return &Writer{r: r, next: next} }

// Write implements io.Writer. It takes all of b, or fails with next's error.
func (w *Writer) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.held = append(w.held, b...)
	cut := bytes.LastIndexByte(w.held, '\n') + 1
	if i := bytes.LastIndex(w.held[:cut], []byte("-----BEGIN ")); i >= 0 && !bytes.Contains(w.held[i:cut], []byte("-----END ")) {
		cut = bytes.LastIndexByte(w.held[:i], '\n') + 1
	}
	if len(w.held)-cut > maxHeld {
		cut = len(w.held) - overlap
	}
	if err := w.emit(cut); err != nil {
		return 0, err
	}
	return len(b), nil
}

// Flush writes what is held back.
func (w *Writer) Flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.emit(len(w.held))
}

// emit writes the first cut bytes, or fewer when a secret reaches over the cut.
func (w *Writer) emit(cut int) error {
	if cut == 0 {
		return nil
	}
	if cut < len(w.held) {
		for _, s := range w.r.find(w.held) {
			if s.start < cut && cut < s.end && s.end-s.start < maxHeld {
				cut = s.start
			}
		}
	}
	out := w.r.Bytes(w.held[:cut])
	w.held = append(w.held[:0], w.held[cut:]...)
	if len(out) == 0 {
		return nil
	}
	_, err := w.next.Write(out)
	return err
}
