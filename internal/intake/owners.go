package intake

import (
	"context"
	"errors"
	"sync"
)

// mostOwners bounds each of the two halves of what is remembered: some MB.
const mostOwners = 8192

// owners remembers whose keys are, and asks once where many ask at the same time: in
// a storm of reports of few keys a register is asked a few times instead of
// thousands.
type owners struct {
	mu sync.Mutex
	// young and old are fingerprint -> incident; what was not asked for since old was
	// young is forgotten.
	young, old map[string]string
	asking     map[string]*asking
}

type asking struct {
	done  chan struct{}
	owner string
	err   error
}

func newOwners() *owners {
	return &owners{young: map[string]string{}, old: map[string]string{}, asking: map[string]*asking{}}
}

// of gives the owner of a fingerprint. recent: as a register says now; fresh tells
// whether one was asked.
func (o *owners) of(ctx context.Context, fp string, recent bool, ask func(context.Context) (string, error)) (owner string, fresh bool, err error) {
	for {
		o.mu.Lock()
		if !recent {
			if owner, ok := o.known(fp); ok {
				o.mu.Unlock()
				return owner, false, nil
			}
		}
		other := o.asking[fp]
		if other == nil {
			mine := &asking{done: make(chan struct{})}
			o.asking[fp] = mine
			o.mu.Unlock()
			mine.owner, mine.err = ask(ctx)
			o.mu.Lock()
			delete(o.asking, fp)
			if mine.err == nil {
				o.keep(fp, mine.owner)
			}
			o.mu.Unlock()
			close(mine.done)
			return mine.owner, true, mine.err
		}
		o.mu.Unlock()
		select {
		case <-other.done:
		case <-ctx.Done():
			return "", false, ctx.Err()
		}
		// Whoever asked may have been cancelled: that is not our end.
		if !errors.Is(other.err, context.Canceled) && !errors.Is(other.err, context.DeadlineExceeded) {
			return other.owner, true, other.err
		}
	}
}

func (o *owners) known(fp string) (string, bool) {
	owner, ok := o.young[fp]
	if !ok {
		if owner, ok = o.old[fp]; ok {
			o.keep(fp, owner)
		}
	}
	return owner, ok
}

func (o *owners) keep(fp, owner string) {
	if len(o.young) >= mostOwners {
		o.old, o.young = o.young, map[string]string{}
	}
	o.young[fp] = owner
}
