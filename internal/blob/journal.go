package blob

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// A Journal is an append-only log of encrypted records, each one line of text: what a
// batch intends and what came of it. It is safe for concurrent use.
type Journal interface {
	// Append writes rec, at most MaxRecord bytes without a line break, as the next
	// record. It survives whatever comes after Append has returned when durable:
	// concurrent durable appends share one write to the store. Otherwise it may be
	// lost with the process or the host. After an error the record may be there or
	// not, and appending can be tried again; *FencedError: it is not, and never will.
	Append(ctx context.Context, rec []byte, durable bool) error
	// ReadAll returns every record, in order, also those not durable yet. The caller
	// must not change them.
	ReadAll(ctx context.Context) ([][]byte, error)
	// Late gives the records that holders of lower terms still wrote after the next
	// one had taken over, in their order. They are evidence; nothing is decided by
	// them.
	Late(ctx context.Context) ([][]byte, error)
	// Seal puts the records into the blob store as one blob, each a line, tail after
	// them, and gives its hash. The journal may be appended to afterwards. What it
	// held may now be the blob's alone, so Seal is for a journal that is likely
	// complete. Idempotent.
	Seal(ctx context.Context, tail []byte) (hash string, err error)
	// Close releases the handle. What was appended is kept. Idempotent.
	Close() error
}

// Journals are journals by name: segments of letters, digits, dot, dash and
// underscore, parted by slashes, at most 200 bytes.
type Journals interface {
	// OpenJournal opens the journal name for the holder of a term, or makes it. It
	// gives what all terms before had written. It fails with *FencedError when a
	// higher term has opened it, and with *JournalCorruptError on damage. No two
	// processes may share a term; where it is 0 whoever opens must be alone, by Lock
	// or by holding the whole store. Close it.
	OpenJournal(ctx context.Context, name string, term uint64) (Journal, error)
	// Lock takes the lock name for this caller alone, among all processes and all
	// callers in this one, and waits for it until ctx ends. The lock ends with unlock
	// or with the process.
	Lock(ctx context.Context, name string) (unlock func(), err error)
}

// A FencedError says that a holder with a higher term has opened the journal: what
// this one would write counts no more.
type FencedError struct {
	Name string
	// Term is the higher one, 0 when the journal is one of terms and was opened
	// without.
	Term uint64
}

func (e *FencedError) Error() string {
	if e.Term == 0 {
		return fmt.Sprintf("journal %s was written by workers of a cluster: it is not opened without their lease", e.Name)
	}
	return fmt.Sprintf("journal %s has gone to another process (term %d): this one lost its lease", e.Name, e.Term)
}

// A JournalCorruptError says that a journal is damaged where it was durable. It
// is never mended by itself: an intent may be lost in the damage.
type JournalCorruptError struct {
	Name   string
	Offset int64
}

func (e *JournalCorruptError) Error() string {
	return fmt.Sprintf("journal %s is damaged at byte %d, before what was known to be durable: restore it from backup, or treat every item of this batch as unclear and probe it", e.Name, e.Offset)
}

// errClosed: this handle is closed.
var errClosed = errors.New("journal is closed")

var segmentRE = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]*$`)

// CheckJournalName tells what is wrong with a name of a journal or lock.
func CheckJournalName(name string) error {
	if len(name) > 200 {
		return errors.New("journal names have at most 200 bytes")
	}
	for segment := range strings.SplitSeq(name, "/") {
		if !segmentRE.MatchString(segment) {
			return fmt.Errorf("%q is not a journal name: use segments of letters, digits, dot, dash, underscore, parted by slashes", name)
		}
	}
	return nil
}

// CheckRecord tells what is wrong with a record of the journal name.
func CheckRecord(name string, rec []byte) error {
	if len(rec) > MaxRecord {
		return fmt.Errorf("journal %s: a record of %d bytes is larger than %d: put its content into the blob store and record the hash", name, len(rec), MaxRecord)
	}
	if bytes.IndexByte(rec, '\n') >= 0 {
		return fmt.Errorf("journal %s: a record is one line, and this one has a line break", name)
	}
	return nil
}

// JoinRecords gives the content of a sealed journal: each record a line, then tail.
func JoinRecords(records [][]byte, tail []byte) []byte {
	size := len(tail)
	for _, r := range records {
		size += len(r) + 1
	}
	out := make([]byte, 0, size)
	for _, r := range records {
		out = append(append(out, r...), '\n')
	}
	return append(out, tail...)
}

// LateLines are late records as they stand in a sealed journal, after its own.
func LateLines(late [][]byte) []byte {
	var out []byte
	for _, r := range late {
		out = append(append(append(out, `{"kind":"late","record":`...), r...), "}\n"...)
	}
	return out
}

// SplitRecords gives the first n records of the content of a sealed journal.
func SplitRecords(content []byte, n int) ([][]byte, error) {
	out := make([][]byte, 0, min(n, len(content)))
	for range n {
		line, rest, ok := bytes.Cut(content, []byte{'\n'})
		if !ok {
			return nil, errors.New("blob: not the content of a sealed journal")
		}
		out, content = append(out, line), rest
	}
	return out, nil
}
