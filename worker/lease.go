package worker

import (
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"rekey/activities"
	"rekey/activities/batch"
	"rekey/internal/httpx"
)

// margin is how long before its lease ends a holder stops: for the call that was
// begun a moment before, and for clocks that do not go quite alike.
const margin = time.Second

// lookAt is how often the clocks are compared: a machine that was suspended wakes
// with its monotonic clock where it was.
const lookAt = 200 * time.Millisecond

// errLeaseOver: no renewal was taken in time.
var errLeaseOver = errors.New("the lease of the account has ended: Temporal took no renewal in time, so another worker may call the account by now")

// errReleased: the hold ended in order.
var errReleased = errors.New("the account was handed over")

// A lease is the right of this process to call one account until a moment that
// each renewal moves on. Once ended it stays ended: the next hold is another term.
type lease struct {
	term uint64
	span time.Duration // of one renewal, without margin
	wall func() time.Time

	mu        sync.Mutex
	until     time.Time // by the monotonic clock
	untilWall time.Time // by the wall clock, which goes on while a machine is suspended
	why       error
	ended     chan struct{}
}

var _ batch.Lease = (*lease)(nil)

// newLease makes a lease that has ended until its first renewal.
func newLease(term uint64, span time.Duration, wall func() time.Time) *lease {
	return &lease{term: term, span: max(span-margin, span/2), wall: wall, ended: make(chan struct{})}
}

// sending is the moment from which a renewal counts: before it was sent, because
// nobody knows when it arrived.
type sending struct{ mono, wall time.Time }

func (l *lease) sending() sending { return sending{time.Now(), l.wall().Round(0)} }

// renewed counts a renewal that Temporal took. One that comes back too late does
// not bring the lease back.
func (l *lease) renewed(s sending) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.until.IsZero() {
		l.look()
	}
	if l.why == nil {
		l.until, l.untilWall = s.mono.Add(l.span), s.wall.Add(l.span)
		l.look() // the first answer may have taken longer than a lease
	}
	return l.why
}

// look ends the lease when a clock says so. l.mu is held.
func (l *lease) look() {
	if l.why == nil && (!time.Now().Before(l.until) || !l.wall().Round(0).Before(l.untilWall)) {
		l.why = errLeaseOver
		close(l.ended)
	}
}

// Term implements batch.Lease.
func (l *lease) Term() uint64 { return l.term }

// Check implements batch.Lease: it reads the clocks, so that a process that stood
// still finds out before its timers do.
func (l *lease) Check() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.look()
	return l.why
}

// Ended implements batch.Lease.
func (l *lease) Ended() <-chan struct{} { return l.ended }

// end ends the lease now.
func (l *lease) end(why error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.why == nil {
		l.why = why
		close(l.ended)
	}
}

// left is how long the lease still lasts without a renewal.
func (l *lease) left() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return min(time.Until(l.until), l.untilWall.Sub(l.wall().Round(0)))
}

// watch ends the lease on time. It returns when the lease has ended.
func (l *lease) watch() {
	for l.Check() == nil {
		t := time.NewTimer(max(min(l.left(), lookAt), time.Millisecond))
		select {
		case <-l.ended:
		case <-t.C:
		}
		t.Stop()
	}
}

// leases are those that this process has.
type leases struct {
	mu   sync.Mutex
	held map[served]*lease
}

func newLeases() *leases { return &leases{held: map[served]*lease{}} }

func (s *leases) put(a served, l *lease) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held[a] = l
}

func (s *leases) drop(a served, l *lease) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held[a] == l {
		delete(s.held, a)
	}
}

// get gives the lease of an account, or says that this process has none.
func (s *leases) get(provider, name string) (batch.Lease, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, ok := s.held[served{provider, name}]
	if !ok {
		return nil, fmt.Errorf("this worker does not hold account %s/%s: nothing was called, and the call is made again where it is held", provider, name)
	}
	return l, nil
}

// gated gives the HTTP clients of an account: where leases are kept, each request
// asks for the lease first, also the second and later ones of one verb.
func (r *Runtime) gated(provider, name string) func(activities.Account) (*http.Client, error) {
	if r.leases == nil {
		return httpx.ForAccount
	}
	return func(a activities.Account) (*http.Client, error) {
		c, err := httpx.ForAccount(a)
		if err != nil {
			return nil, err
		}
		c.Transport = &gate{next: c.Transport, check: func() error {
			l, err := r.leases.get(provider, name)
			if err != nil {
				return err
			}
			return l.Check()
		}}
		return c, nil
	}
}

// A gate lets requests through while the lease lasts.
type gate struct {
	next  http.RoundTripper
	check func() error
}

// RoundTrip implements http.RoundTripper.
func (g *gate) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := g.check(); err != nil {
		if req.Body != nil {
			_ = req.Body.Close() // as http.RoundTripper asks, also on errors
		}
		return nil, err
	}
	return g.next.RoundTrip(req)
}
