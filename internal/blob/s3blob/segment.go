package s3blob

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"rekey/internal/blob"
	"rekey/internal/codec/keyring"
	"rekey/internal/deflate"
)

// A segment is one object of a journal: a magic, one byte length of the key id, the key
// id, and the ciphertext, bound to the journal's name, the term and the number, of a
// head in JSON, a line break and records, each a line.
type segment struct {
	segmentHead
	records [][]byte
}

type segmentHead struct {
	Kind string `json:"kind"`
	// Start is the number of the last segment, at most this one, that has the whole
	// journal up to there. What is before it need not be read, and may be gone.
	Start uint64 `json:"start"`
	// N is how many records follow.
	N int `json:"n"`
	// Sealed, only in a whole segment: the records before those here are lines of a blob.
	Sealed *sealedPart `json:"sealed,omitempty"`
	// Term is that of who fenced this log, in a closing segment.
	Term uint64 `json:"term,omitempty"`
}

type sealedPart struct {
	Hash string `json:"hash"`
	N    int    `json:"n"`
}

// Kinds of segments.
const (
	kindOpen    = "open"    // number 0: a holder of the term wants the journal
	kindRecords = "records" // records
	kindClosed  = "closed"  // a higher term has taken over: nothing follows
	kindLate    = "late"    // records that were refused
)

const (
	segmentMagic       = "rekeys1\n"
	packedSegmentMagic = "rekeys2\n"
	packSegmentFrom    = 512
	// maxSegment bounds a segment in bytes before it is packed: a checkpoint of the
	// largest page and a group of records.
	maxSegment = 64 << 20
	// maxStoredSegment bounds the object.
	maxStoredSegment = maxSegment + 1<<10
)

func segmentContext(name string, term, n uint64, kind string) string {
	return name + "\x00" + strconv.FormatUint(term, 16) + "\x00" + strconv.FormatUint(n, 16) + "\x00" + kind
}

// Contexts tell what was packed, and late segments, which have their own numbers.
const (
	contextPlain  = "s3"
	contextPacked = "s3 " + deflate.Name
	contextLate   = "s3 late"
)

func encodeSegment(keys *keyring.Keyring, name string, term, n uint64, s segment) ([]byte, error) {
	s.N = len(s.records)
	head, err := json.Marshal(s.segmentHead)
	if err != nil {
		return nil, err
	}
	plain := append(append(head, '\n'), blob.JoinRecords(s.records, nil)...)
	if len(plain) > maxSegment {
		return nil, fmt.Errorf("journal %s: %d bytes are more than a journal holds: put its content into the blob store and record the hash", name, len(plain))
	}
	magic, how := segmentMagic, contextPlain
	if s.Kind == kindLate {
		how = contextLate
	} else if len(plain) >= packSegmentFrom {
		if packed := deflate.Pack(plain); len(packed) < len(plain) {
			magic, how, plain = packedSegmentMagic, contextPacked, packed
		}
	}
	id, sealed := keys.Seal(keyring.Journal, segmentContext(name, term, n, how), plain)
	out := append(append([]byte(magic), byte(len(id))), id...) //nolint:gosec // a key id is at most 64 bytes
	return append(out, sealed...), nil
}

// decodeSegment reads the object of a segment. It fails with *blob.JournalCorruptError
// and *keyring.MissingKeyError.
func decodeSegment(keys *keyring.Keyring, name string, term, n uint64, late bool, data []byte) (segment, error) {
	damaged := func() (segment, error) { return segment{}, &SegmentError{Name: name, Term: term, N: n} }
	how := contextPlain
	if late {
		how = contextLate
	}
	body, ok := bytes.CutPrefix(data, []byte(segmentMagic))
	if !ok && !late {
		body, ok = bytes.CutPrefix(data, []byte(packedSegmentMagic))
		how = contextPacked
	}
	if !ok || len(body) == 0 || len(body) < 1+int(body[0]) {
		return damaged()
	}
	k := 1 + int(body[0])
	plain, err := keys.Open(keyring.Journal, string(body[1:k]), segmentContext(name, term, n, how), body[k:])
	var missing *keyring.MissingKeyError
	if errors.As(err, &missing) {
		return segment{}, fmt.Errorf("journal %s: %w", name, err)
	}
	if err != nil {
		return damaged()
	}
	if how == contextPacked {
		if plain, err = deflate.Unpack(plain, maxSegment); err != nil {
			return damaged()
		}
	}
	head, rest, ok := bytes.Cut(plain, []byte{'\n'})
	var s segment
	if !ok || json.Unmarshal(head, &s.segmentHead) != nil || s.Start > n {
		return damaged()
	}
	if s.records, err = blob.SplitRecords(rest, s.N); err != nil {
		return damaged()
	}
	return s, nil
}

// A SegmentError says that an object of a journal is damaged or missing. It is never
// mended by itself: an intent may be lost with it.
type SegmentError struct {
	Name    string
	Term, N uint64
	// Missing: it is not there, and others after it are.
	Missing bool
}

func (e *SegmentError) Error() string {
	what := "damaged"
	if e.Missing {
		what = "missing"
	}
	return fmt.Sprintf("journal %s: its object %s is %s: restore it from backup, or treat every item of this batch as unclear and probe it", e.Name, segmentKey(e.Name, e.Term, e.N), what)
}

// As lets errors.As find what every store says of a damaged journal.
func (e *SegmentError) As(target any) bool {
	t, ok := target.(**blob.JournalCorruptError)
	if ok {
		*t = &blob.JournalCorruptError{Name: e.Name}
	}
	return ok
}

const journals = "journals/"

// journalPrefix is before all keys of a journal. '~' is in no name.
func journalPrefix(name string) string { return journals + strings.ReplaceAll(name, "/", "~") + "/" }

func segmentKey(name string, term, n uint64) string {
	return fmt.Sprintf("%s%016x/%08x", journalPrefix(name), term, n)
}

const latePrefix = "late."

func lateKey(name string, term, n uint64) string {
	return fmt.Sprintf("%s%s%016x/%08x", journalPrefix(name), latePrefix, term, n)
}

// parseSegment reads what segmentKey and lateKey wrote, without the journal's prefix.
func parseSegment(rest string) (term, n uint64, late, ok bool) {
	rest, late = strings.CutPrefix(rest, latePrefix)
	dir, number, ok := strings.Cut(rest, "/")
	if !ok || len(dir) != 16 || len(number) != 8 {
		return 0, 0, late, false
	}
	term, err := strconv.ParseUint(dir, 16, 64)
	if err != nil {
		return 0, 0, late, false
	}
	n, err = strconv.ParseUint(number, 16, 64)
	return term, n, late, err == nil
}
