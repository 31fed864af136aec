package batch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
)

// logs are the journals that passes of this process have open. Attempts at one pass
// may overlap: the old one is cancelled only when one of its beats fails. So they
// share what is written, and never make one create at the same time.
type logs struct {
	mu   sync.Mutex
	open map[logName]*sharedLog
}

// A logName tells the terms of a journal apart: what is written under a former one
// counts no more.
type logName struct {
	name string
	term uint64
}

type sharedLog struct {
	of   *logs
	name logName
	refs int // guarded by of.mu
	gen  int // guarded by of.mu: attempts that have opened it

	load sync.Once
	err  error
	j    Journal

	mu   sync.Mutex
	recs journal
	busy map[string]chan struct{} // creates under way, by item
}

// An openLog is one attempt's hold of a journal.
type openLog struct {
	*sharedLog
	attempt int
}

// errLater: another attempt at the same pass has begun.
var errLater = errors.New("a later attempt at this pass has begun: this one makes no more calls")

// get opens the journal name, or shares it with an attempt that has it open.
func (l *logs) get(ctx context.Context, js Journals, name string, term uint64) (*openLog, error) {
	key := logName{name, term}
	l.mu.Lock()
	if l.open == nil {
		l.open = map[logName]*sharedLog{}
	}
	s, ok := l.open[key]
	if !ok {
		s = &sharedLog{of: l, name: key, busy: map[string]chan struct{}{}}
		l.open[key] = s
	}
	s.refs++
	s.gen++
	o := &openLog{sharedLog: s, attempt: s.gen}
	l.mu.Unlock()
	s.load.Do(func() {
		if s.j, s.err = js.Open(ctx, name, term); s.err == nil {
			s.recs, s.err = readLog(ctx, s.j)
		}
	})
	if s.err != nil {
		return nil, errors.Join(fmt.Errorf("journal %s: %w", name, s.err), o.close())
	}
	return o, nil
}

// close gives the journal back; the last one closes it.
func (o *openLog) close() error {
	o.sharedLog.of.mu.Lock()
	o.refs--
	last := o.refs == 0
	if last {
		delete(o.sharedLog.of.open, o.name)
	}
	o.sharedLog.of.mu.Unlock()
	if !last || o.j == nil {
		return nil
	}
	return o.j.Close()
}

// latest fails when a later attempt has opened the journal: what this one would give
// back is not wanted any more.
func (o *openLog) latest() error {
	o.sharedLog.of.mu.Lock()
	defer o.sharedLog.of.mu.Unlock()
	if o.attempt != o.gen {
		return errLater
	}
	return nil
}

// history gives the records of one item.
func (o *openLog) history(fp string) history {
	o.mu.Lock()
	defer o.mu.Unlock()
	h := o.recs.of(fp)
	return h[:len(h):len(h)]
}

// append writes a record; durable waits until it is on disk.
func (o *openLog) append(ctx context.Context, rec record, durable bool) error {
	b, err := json.Marshal(rec)
	if err != nil {
		return fmt.Errorf("journal record: %w", err)
	}
	if err := o.j.Append(ctx, b, durable); err != nil {
		return fmt.Errorf("journal %s: %w", o.name.name, err)
	}
	if rec.FP == "" {
		return nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.recs[rec.FP] = append(o.recs[rec.FP], rec)
	return nil
}

// refresh reads the journal again: another attempt may have written to it.
func (o *openLog) refresh(ctx context.Context) error {
	recs, err := readLog(ctx, o.j)
	if err != nil {
		return fmt.Errorf("journal %s: %w", o.name.name, err)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.recs = recs
	return nil
}

// claim keeps every other attempt away from an item until release is called: none may
// look for a create that the other is about to make.
func (o *openLog) claim(ctx context.Context, fp string) (release func(), err error) {
	for {
		o.mu.Lock()
		other, taken := o.busy[fp]
		if !taken {
			mine := make(chan struct{})
			o.busy[fp] = mine
			o.mu.Unlock()
			return func() {
				o.mu.Lock()
				defer o.mu.Unlock()
				delete(o.busy, fp)
				close(mine)
			}, nil
		}
		o.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
