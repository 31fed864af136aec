package s3blob

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"rekey/internal/blob"
)

const (
	// linger is how long a record that nobody waits for is held back for others to go
	// with it in one object.
	linger = 250 * time.Millisecond
	// most is how many bytes may wait so; then who appends waits for the bucket.
	most = 256 << 10
	// groupMost bounds the new records of one segment, in bytes.
	groupMost = 4 << 20
	// wholeEvery is after how many segments one has the whole journal again: who takes
	// over reads no more than these.
	wholeEvery = 64
	// letGoFrom is from how many segments on a sealed journal keeps only the last.
	letGoFrom = 8
)

// handle is one opening of a journal. Handles of one name and term in one process share
// the journal.
type handle struct {
	*journal
	once sync.Once
}

// A journal is the log of one term. What is appended goes to the bucket in groups, one
// object each, made with If-None-Match: a higher term closes the log by making the next
// object itself, and then nothing more can be written.
type journal struct {
	s    *Store
	name string
	term uint64
	refs int // guarded by s.mu

	loadMu sync.Mutex
	loaded bool

	turn chan struct{} // one write at a time; who waits finds itself covered

	mu      sync.Mutex
	sealed  sealedPart
	records [][]byte // all after the sealed part, written or not
	written int      // how many of them are in the bucket
	bytes   int      // length of the others
	next    uint64   // number of the next segment
	start   uint64   // number of the last whole one, 0: none of this term
	sent    *sending // may be in the bucket or not
	old     []string // objects that a sealed journal does not need any more
	failed  error    // fenced, or in doubt
	lates   uint64   // objects of refused records
	waker   *time.Timer
	closed  bool
}

// sending is a segment whose bytes have left: until its fate is known nothing else may
// be written at its place.
type sending struct {
	n     uint64
	upTo  int // records that are written with it
	whole bool
	bytes []byte
}

var _ blob.Journal = (*handle)(nil)

// errClosed: this handle is closed.
var errClosed = errors.New("journal is closed")

// errDoubt: something else was written at our place.
var errDoubt = errors.New("another write has come in between: close and reopen the journal")

// Append implements blob.Journal. A durable record is in the bucket when it returns;
// another one within a moment, or with the next durable one.
func (j *handle) Append(ctx context.Context, rec []byte, durable bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := blob.CheckRecord(j.name, rec); err != nil {
		return err
	}
	upTo, waiting, err := j.push(rec)
	var fenced *blob.FencedError
	if errors.As(err, &fenced) { // the outcome of a call that was under way: evidence
		j.keepLate(ctx, [][]byte{rec})
	}
	if err == nil && (durable || waiting >= most) {
		err = j.flush(ctx, upTo)
	}
	if err != nil {
		return fmt.Errorf("journal %s: %w", j.name, err)
	}
	return nil
}

// push adds a record to those that wait.
func (j *journal) push(rec []byte) (upTo, waiting int, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.usable(); err != nil {
		return 0, 0, err
	}
	j.records = append(j.records, bytes.Clone(rec))
	j.bytes += len(rec)
	if j.waker == nil {
		j.waker = time.AfterFunc(linger, j.wake)
	}
	return len(j.records), j.bytes, nil
}

// wake writes what waits. What cannot be written now is tried again by the next one who
// appends, and by Close, who tells.
func (j *journal) wake() {
	j.mu.Lock()
	j.waker = nil
	upTo := len(j.records)
	j.mu.Unlock()
	_ = j.flush(context.Background(), upTo)
}

func (j *journal) usable() error {
	if j.failed != nil {
		return j.failed
	}
	if j.closed {
		return errClosed
	}
	return nil
}

// flush returns when the first upTo records are in the bucket.
func (j *journal) flush(ctx context.Context, upTo int) error {
	select {
	case j.turn <- struct{}{}:
		defer func() { <-j.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	return j.write(ctx, upTo)
}

// write is flush for whoever has the turn.
func (j *journal) write(ctx context.Context, upTo int) error {
	for {
		f, err := j.group(upTo)
		if err != nil || f == nil {
			return err
		}
		if err := j.send(ctx, f); err != nil {
			return err
		}
	}
}

// group gives the segment to send next, nil when the first upTo records are written.
func (j *journal) group(upTo int) (*sending, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.written >= upTo {
		return nil, nil //nolint:nilnil // nothing is left to send
	}
	if j.failed != nil {
		return nil, j.failed
	}
	if j.sent != nil {
		return j.sent, nil
	}
	f := &sending{n: j.next, upTo: j.written}
	for size := 0; f.upTo < len(j.records) && size < groupMost; f.upTo++ {
		size += len(j.records[f.upTo])
	}
	seg := segment{segmentHead: segmentHead{Kind: kindRecords, Start: j.start}, records: j.records[j.written:f.upTo]}
	if j.start == 0 || f.n-j.start >= wholeEvery {
		f.whole, seg.Start, seg.records = true, f.n, j.records[:f.upTo]
		if j.sealed.N > 0 {
			seg.Sealed = &j.sealed
		}
	}
	var err error
	if f.bytes, err = encodeSegment(j.s.keys, j.name, j.term, f.n, seg); err != nil {
		return nil, err
	}
	j.sent = f
	return f, nil
}

// send puts a segment at its place, or finds out who was there before.
func (j *journal) send(ctx context.Context, f *sending) error {
	key := segmentKey(j.name, j.term, f.n)
	err := j.s.b.put(ctx, key, f.bytes, true)
	if errors.Is(err, errExists) {
		if err = j.taken(ctx, key, f); err != nil {
			return err
		}
	}
	if err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, r := range j.records[j.written:f.upTo] {
		j.bytes -= len(r)
	}
	j.old = append(j.old, key)
	j.written, j.next, j.sent = f.upTo, f.n+1, nil
	if f.whole {
		j.start = f.n
	}
	return nil
}

// taken finds out what is at our place: the very segment, of a put whose answer was
// lost; the mark of a higher term; or a write that nobody may have made.
func (j *journal) taken(ctx context.Context, key string, f *sending) error {
	there, _, err := j.s.b.get(ctx, key, maxStoredSegment)
	if err != nil {
		return err
	}
	if bytes.Equal(there, f.bytes) {
		return nil
	}
	seg, err := decodeSegment(j.s.keys, j.name, j.term, f.n, false, there)
	if err == nil && seg.Kind == kindClosed {
		err = &blob.FencedError{Name: j.name, Term: seg.Term}
	} else if err == nil {
		err = errDoubt
	}
	j.mu.Lock()
	j.failed = err
	refused := j.records[j.written:]
	j.mu.Unlock()
	var fenced *blob.FencedError
	if errors.As(err, &fenced) {
		j.keepLate(ctx, refused)
	}
	return err
}

// keepLate keeps records that were refused, as evidence. Nothing is lost for those who
// decide when it cannot: they do not read it.
func (j *journal) keepLate(ctx context.Context, records [][]byte) {
	j.mu.Lock()
	n := j.next + j.lates
	j.lates++
	j.mu.Unlock()
	late, err := encodeSegment(j.s.keys, j.name, j.term, n, segment{segmentHead: segmentHead{Kind: kindLate}, records: records})
	if err == nil {
		_ = j.s.b.put(ctx, lateKey(j.name, j.term, n), late, false)
	}
}

// ReadAll implements blob.Journal.
func (j *handle) ReadAll(ctx context.Context) ([][]byte, error) {
	j.mu.Lock()
	sealed, records := j.sealed, j.records[:len(j.records):len(j.records)]
	j.mu.Unlock()
	return blob.AllRecords(ctx, j.s, j.name, sealed.Hash, sealed.N, records)
}

// Late implements blob.Journal.
func (j *handle) Late(ctx context.Context) ([][]byte, error) {
	if j.term == 0 {
		return nil, ctx.Err()
	}
	return j.s.late(ctx, j.name, j.term)
}

// late reads what holders of terms up to upTo still wrote.
func (s *Store) late(ctx context.Context, name string, upTo uint64) ([][]byte, error) {
	var out [][]byte
	prefix := journalPrefix(name)
	err := s.b.list(ctx, prefix+latePrefix, func(o object) error {
		term, n, late, ok := parseSegment(o.key[len(prefix):])
		if !ok || !late {
			return &SegmentError{Name: name, Term: term, N: n}
		}
		if term > upTo {
			return nil
		}
		data, _, err := s.b.get(ctx, o.key, maxStoredSegment)
		if err != nil {
			return err
		}
		seg, err := decodeSegment(s.keys, name, term, n, true, data)
		out = append(out, seg.records...)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("journal %s: %w", name, err)
	}
	return out, nil
}

// Seal implements blob.Journal. Of a journal in many objects one is left, which names
// the blob.
func (j *handle) Seal(ctx context.Context, tail []byte) (string, error) {
	select {
	case j.turn <- struct{}{}:
		defer func() { <-j.turn }()
	case <-ctx.Done():
		return "", ctx.Err()
	}
	hash, err := j.seal(ctx, tail)
	if err != nil {
		return "", fmt.Errorf("journal %s: %w", j.name, err)
	}
	return hash, nil
}

func (j *journal) seal(ctx context.Context, tail []byte) (string, error) {
	j.mu.Lock()
	upTo, err := len(j.records), j.usable()
	j.mu.Unlock()
	if err == nil {
		err = j.write(ctx, upTo)
	}
	if err != nil {
		return "", err
	}
	j.mu.Lock()
	sealed, records := j.sealed, j.records[:upTo:upTo]
	j.mu.Unlock()
	all, err := blob.AllRecords(ctx, j.s, j.name, sealed.Hash, sealed.N, records)
	if err != nil {
		return "", err
	}
	hash, err := j.s.Put(ctx, blob.JoinRecords(all, tail))
	if err != nil || upTo == 0 {
		return hash, err
	}
	return hash, j.letGo(ctx, sealedPart{Hash: hash, N: len(all)}, upTo)
}

// letGo writes a segment that has the first upTo records as a sealed part, and removes
// those before it. Marks of terms stay: they are what keeps a former holder out. A
// crash leaves objects that nobody reads.
func (j *journal) letGo(ctx context.Context, part sealedPart, upTo int) error {
	j.mu.Lock()
	if len(j.old) < letGoFrom || j.sent != nil {
		j.mu.Unlock()
		return nil
	}
	f := &sending{n: j.next, upTo: j.written, whole: true}
	seg := segment{segmentHead: segmentHead{Kind: kindRecords, Start: f.n, Sealed: &part}, records: j.records[upTo:j.written]}
	var err error
	if f.bytes, err = encodeSegment(j.s.keys, j.name, j.term, f.n, seg); err != nil {
		j.mu.Unlock()
		return err
	}
	j.sent = f
	old := j.old
	j.old = nil
	j.mu.Unlock()
	if err := j.send(ctx, f); err != nil {
		return err
	}
	j.mu.Lock()
	j.sealed, j.records, j.written = part, j.records[upTo:], j.written-upTo
	j.mu.Unlock()
	return j.s.b.remove(ctx, old...)
}

// Close implements blob.Journal. The last handle writes what still waits.
func (j *handle) Close() error {
	var err error
	j.once.Do(func() { err = j.s.release(j.journal) })
	if err != nil {
		return fmt.Errorf("journal %s: %w", j.name, err)
	}
	return nil
}

// release gives up one handle. The journal stays known until what waits is written, so
// that who opens it meanwhile shares it.
func (s *Store) release(j *journal) error {
	j.mu.Lock()
	upTo := len(j.records)
	j.mu.Unlock()
	err := j.flush(context.Background(), upTo) // its calls have limits of their own
	s.mu.Lock()
	defer s.mu.Unlock()
	if j.refs--; j.refs > 0 {
		return err
	}
	delete(s.open, j.key())
	j.mu.Lock()
	defer j.mu.Unlock()
	j.closed = true
	if j.waker != nil {
		j.waker.Stop()
		j.waker = nil
	}
	return err
}

func (j *journal) key() string { return fmt.Sprintf("%s\x00%d", j.name, j.term) }
