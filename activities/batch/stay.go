package batch

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"
)

// A Stay bounds how long a pass over pages takes calls from its account's budget. Then
// it gives its other rows back as they are. A pass that is away keeps people's orders
// waiting, and a place of the worker; one that comes back with little done costs events
// of history.
type Stay struct {
	// Least is how long it may stay always, Most the longest.
	Least, Most time.Duration
	// Rows is how many calls it stays for beyond Least: a slow budget is worth a longer
	// stay, or each item would cost an event.
	Rows int
	// Crowd is how many passes over pages of the account this process has at once
	// before none stays beyond Least: the next one waits for a place.
	Crowd int
}

// DefaultStay holds the events of a pass, about six, to one for sixteen calls wherever
// its budget gives a call a second. A worker has 64 places.
var DefaultStay = Stay{Least: 20 * time.Second, Most: 2 * time.Minute, Rows: 100, Crowd: 32}

// look is how often a pass asks itself whether it has stayed long enough.
const look = 250 * time.Millisecond

// spare is the time that a pass leaves of its activity's, after the last call has
// ended, for writing its pages.
const spare = 10 * time.Second

// Why a pass begins no further call.
var (
	errPatience = errors.New("the budget took too long")
	errAsked    = errors.New("the workflow wants its rows back")
	errStops    = errors.New("this worker stops")
)

// patient gives a context that ends when a single pass has waited for its budget so
// long that its call might not end within the activity's time.
func patient(ctx, more context.Context) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return more, func() {}
	}
	left := time.Until(deadline)
	return context.WithTimeoutCause(more, max(left-callLimit-2*beat, left/4), errPatience)
}

// crowd counts the passes over pages of each account.
type crowd struct {
	mu sync.Mutex
	n  map[accountID]int
}

func (c *crowd) enter(a accountID) (leave func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n == nil {
		c.n = map[accountID]int{}
	}
	c.n[a]++
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.n[a]--; c.n[a] == 0 {
			delete(c.n, a)
		}
	}
}

func (c *crowd) size(a accountID) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n[a]
}

// stay gives the two contexts of a pass over pages: calls end with the first, and none
// is begun after the second has ended. Asked to come back, or when its worker stops, a
// pass lets its calls end and answers; with its activity lost it ends at once.
func (s *passing) stay(ctx context.Context, began func() int) (calls, more context.Context, end func()) {
	calls, cut := context.WithCancelCause(context.WithoutCancel(ctx))
	more, leave := context.WithCancelCause(calls)
	at := accountID{s.p.Provider, s.p.Account}
	out := s.crowd.enter(at)
	var stops <-chan struct{}
	if activity.IsActivity(ctx) {
		stops = activity.GetWorkerStopChannel(ctx)
	}
	start := time.Now()
	last := start.Add(s.Stay.Most)
	if deadline, ok := ctx.Deadline(); ok {
		if d := deadline.Add(-callLimit - spare); d.Before(last) {
			last = d
		}
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		t := time.NewTicker(look)
		defer t.Stop()
		asked := ctx.Done()
		for {
			select {
			case <-done:
				return
			case <-asked:
				if !temporal.IsCanceledError(context.Cause(ctx)) {
					cut(context.Cause(ctx))
					return
				}
				leave(errAsked)
				asked = nil
			case <-s.lease.Ended():
				cut(errors.New("the lease has ended"))
				return
			case <-stops:
				leave(errStops)
				stops = nil
			case now := <-t.C:
				long := now.Sub(start) >= s.Stay.Least && (began() >= s.Stay.Rows || s.crowd.size(at) > s.Stay.Crowd)
				if long || now.After(last) {
					leave(errPatience)
				}
				if deadline, ok := ctx.Deadline(); ok && now.After(deadline.Add(-spare)) {
					cut(errPatience) // readings of unknown length: they are made again
				}
			}
		}
	})
	return calls, more, func() {
		close(done)
		wg.Wait()
		out()
		cut(context.Canceled)
	}
}
