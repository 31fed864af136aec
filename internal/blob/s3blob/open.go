package s3blob

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"rekey/internal/blob"
)

// OpenJournal implements blob.Journals.
//
// Who opens under a term first makes object 0 of that term, and lists then. Of two who
// do so at once at least one sees the other, so the lower one is either refused here or
// finds its log closed when it writes. The log of the term before is closed by making
// its next object: from then on it cannot grow, and what it has is what the new term
// begins with. It is copied into the new log with the first records there.
func (s *Store) OpenJournal(ctx context.Context, name string, term uint64) (blob.Journal, error) {
	j, err := s.openJournal(ctx, name, term)
	if err != nil {
		return nil, err
	}
	return j, nil
}

func (s *Store) openJournal(ctx context.Context, name string, term uint64) (*handle, error) {
	if err := blob.CheckJournalName(name); err != nil {
		return nil, err
	}
	if err := s.Ready(ctx); err != nil {
		return nil, err
	}
	j := &journal{s: s, name: name, term: term, turn: make(chan struct{}, 1), next: 1}
	s.mu.Lock()
	if open, ok := s.open[j.key()]; ok {
		j = open
	} else {
		s.open[j.key()] = j
	}
	j.refs++
	s.mu.Unlock()

	j.loadMu.Lock()
	defer j.loadMu.Unlock()
	if !j.loaded {
		if err := j.load(ctx); err != nil {
			return nil, errors.Join(fmt.Errorf("open journal %s: %w", name, err), s.release(j))
		}
		j.loaded = true
	}
	return &handle{journal: j}, nil
}

// logs are the numbers of the objects of each term of a journal.
type logs struct {
	terms []uint64            // rising
	have  map[uint64][]uint64 // numbers, rising; 0 is the mark of the term
}

func (l logs) last(term uint64) uint64 {
	if n := l.have[term]; len(n) > 0 {
		return n[len(n)-1]
	}
	return 0
}

// keys are those of the segments 1 to last that are there.
func (l logs) keys(name string, term, last uint64) []string {
	var out []string
	for _, n := range l.have[term] {
		if n > 0 && n <= last {
			out = append(out, segmentKey(name, term, n))
		}
	}
	return out
}

func (s *Store) logs(ctx context.Context, name string) (logs, error) {
	out := logs{have: map[uint64][]uint64{}}
	prefix := journalPrefix(name)
	err := s.b.list(ctx, prefix, func(o object) error {
		term, n, late, ok := parseSegment(o.key[len(prefix):])
		if !ok {
			return fmt.Errorf("%s is not a journal's: remove it", s.b.prefix+o.key)
		}
		if late {
			return nil
		}
		if out.have[term] == nil {
			out.terms = append(out.terms, term)
		}
		out.have[term] = append(out.have[term], n) // keys come in their order
		return nil
	})
	return out, err
}

// load takes the journal over. A log that lets its objects go while it is read has a
// higher term, and that is then what is wrong.
func (j *journal) load(ctx context.Context) error {
	err := j.takeOver(ctx)
	var gap *SegmentError
	if errors.As(err, &gap) && gap.Missing {
		have, again := j.s.logs(ctx, j.name)
		if again == nil {
			again = j.fenced(have)
		}
		if again != nil {
			return again
		}
	}
	return err
}

// fenced tells whether a higher term has opened the journal.
func (j *journal) fenced(have logs) error {
	n := len(have.terms)
	switch {
	case n == 0 || have.terms[n-1] <= j.term:
		return nil
	case j.term == 0:
		return &blob.FencedError{Name: j.name}
	}
	return &blob.FencedError{Name: j.name, Term: have.terms[n-1]}
}

func (j *journal) takeOver(ctx context.Context) error {
	if j.term > 0 {
		mark, err := encodeSegment(j.s.keys, j.name, j.term, 0, segment{segmentHead: segmentHead{Kind: kindOpen}})
		if err != nil {
			return err
		}
		// That of an earlier opening under this term is as good.
		if err := j.s.b.put(ctx, segmentKey(j.name, j.term, 0), mark, true); err != nil && !errors.Is(err, errExists) {
			return err
		}
	}
	have, err := j.s.logs(ctx, j.name)
	if err != nil {
		return err
	}
	if err := j.fenced(have); err != nil {
		return err
	}
	if last := have.last(j.term); last > 0 { // this term has written before
		l, err := j.s.readLog(ctx, j.name, j.term, last)
		if err != nil {
			return err
		}
		if l.by > 0 {
			return &blob.FencedError{Name: j.name, Term: l.by}
		}
		j.sealed, j.records, j.start, j.next = l.sealed, l.records, l.start, last+1
		j.written, j.old = len(j.records), have.keys(j.name, j.term, last)
		return nil
	}
	for _, term := range slices.Backward(have.terms) {
		if term == j.term {
			continue
		}
		last, err := j.shut(ctx, term, have.last(term))
		if err != nil {
			return err
		}
		if last == 0 {
			continue // it was opened, and nothing was ever written: what is before it counts
		}
		l, err := j.s.readLog(ctx, j.name, term, last)
		if err != nil {
			return err
		}
		j.sealed, j.records, j.old = l.sealed, l.records, have.keys(j.name, term, last)
		j.written = len(j.records) // in the log of that term, which is closed
		return nil
	}
	return nil
}

// shut makes sure that the log of a lower term does not grow any more, and gives the
// number of its last segment with records.
func (j *journal) shut(ctx context.Context, term, last uint64) (uint64, error) {
	for n := last + 1; ; n++ {
		mark, err := encodeSegment(j.s.keys, j.name, term, n, segment{segmentHead: segmentHead{Kind: kindClosed, Term: j.term}})
		if err != nil {
			return 0, err
		}
		if n == last+1 && last > 0 {
			// It may be closed already.
			seg, err := j.s.readSegment(ctx, j.name, term, last)
			if err != nil {
				return 0, err
			}
			if seg.Kind == kindClosed {
				return last - 1, nil
			}
		}
		err = j.s.b.put(ctx, segmentKey(j.name, term, n), mark, true)
		if err == nil {
			return n - 1, nil
		}
		if !errors.Is(err, errExists) {
			return 0, err
		}
		seg, err := j.s.readSegment(ctx, j.name, term, n)
		if err != nil {
			return 0, err
		}
		if seg.Kind == kindClosed { // by us, when the answer was lost, or by another
			return n - 1, nil
		}
	}
}

func (s *Store) readSegment(ctx context.Context, name string, term, n uint64) (segment, error) {
	data, _, err := s.b.get(ctx, segmentKey(name, term, n), maxStoredSegment)
	if errors.Is(err, errAbsent) {
		return segment{}, &SegmentError{Name: name, Term: term, N: n, Missing: true}
	}
	if err != nil {
		return segment{}, err
	}
	return decodeSegment(s.keys, name, term, n, false, data)
}

// termLog is what the log of a term holds.
type termLog struct {
	sealed  sealedPart
	records [][]byte
	start   uint64
	by      uint64 // the term that closed it
}

// readers is how many segments are read at once.
const readers = 16

// readLog reads the log of a term up to the segment last.
func (s *Store) readLog(ctx context.Context, name string, term, last uint64) (termLog, error) {
	var out termLog
	end, err := s.readSegment(ctx, name, term, last)
	if err != nil {
		return out, err
	}
	if end.Kind == kindClosed {
		out.by = end.Term
		if last--; last == 0 {
			return out, nil
		}
		if end, err = s.readSegment(ctx, name, term, last); err != nil {
			return out, err
		}
	}
	if end.Kind != kindRecords || end.Start == 0 {
		return out, &SegmentError{Name: name, Term: term, N: last}
	}
	out.start = end.Start
	segs := make([]segment, last-end.Start+1)
	segs[len(segs)-1] = end
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(readers)
	for i := range segs[:len(segs)-1] {
		g.Go(func() (err error) {
			segs[i], err = s.readSegment(ctx, name, term, out.start+uint64(i)) //nolint:gosec // an index is not negative
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return out, err
	}
	for i, seg := range segs {
		whole := i == 0
		if seg.Kind != kindRecords || seg.Start != out.start || (seg.Sealed != nil && !whole) {
			return out, &SegmentError{Name: name, Term: term, N: out.start + uint64(i)}
		}
		if seg.Sealed != nil {
			out.sealed = *seg.Sealed
		}
		out.records = append(out.records, seg.records...)
	}
	return out, nil
}
