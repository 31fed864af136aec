package worker

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/serviceerror"

	"rekey/activities/batch"
	"rekey/workflows"
)

const testLease = 6 * time.Second

// frontend is Temporal as far as a lease sees it.
type frontend struct {
	mu    sync.Mutex
	taken []time.Time // when a renewal was taken
	fail  error       // what renewals give
	slow  time.Duration
}

func (s *frontend) renew(ctx context.Context, _ []byte, _ workflows.HoldResult) error {
	s.mu.Lock()
	slow, fail := s.slow, s.fail
	s.mu.Unlock()
	select {
	case <-time.After(slow):
	case <-ctx.Done():
		return ctx.Err()
	}
	if fail == nil {
		s.mu.Lock()
		s.taken = append(s.taken, time.Now())
		s.mu.Unlock()
	}
	return fail
}

func (s *frontend) set(fail error, slow time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail, s.slow = fail, slow
}

func (s *frontend) last() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.taken[len(s.taken)-1]
}

// testHold is a hold that runs.
type testHold struct {
	h       *holder
	server  *frontend
	stop    chan struct{}
	stopped atomic.Bool // the account's worker polls no more
	done    chan error
}

func newTestHold() *testHold {
	s := &frontend{}
	p := &parts{r: &Runtime{Log: slog.New(slog.DiscardHandler)}, limits: batch.NewLimits(map[string]float64{"awsiam/prod/iam": 10})}
	t := &testHold{server: s, stop: make(chan struct{}), done: make(chan error, 1)}
	t.h = &holder{
		p: p, leases: newLeases(), renew: s.renew, wall: time.Now, busy: map[served]bool{},
		open:  func(string, string) (any, error) { return struct{}{}, nil },
		serve: func(served) (func(), error) { return func() { t.stopped.Store(true) }, nil },
	}
	return t
}

func (t *testHold) start() {
	go func() {
		_, err := t.h.hold(context.Background(), t.stop, []byte("token"), workflows.HoldInput{
			Provider: "awsiam", Account: "prod", Term: 7, LeaseMs: testLease.Milliseconds(), TermMs: time.Hour.Milliseconds(),
		})
		t.done <- err
	}()
	synctest.Wait()
}

func (t *testHold) may() error {
	l, err := t.h.leases.get("awsiam", "prod")
	if err != nil {
		return err
	}
	return l.Check()
}

// TestLeaseEndsBeforeTemporalGivesItAway is the one property that all rests on:
// from the last renewal that Temporal took, the holder may call for less than the
// heartbeat time-out.
func TestLeaseEndsBeforeTemporalGivesItAway(t *testing.T) {
	down := serviceerror.NewUnavailable("down")
	for name, row := range map[string]struct {
		fail error
		slow time.Duration
	}{
		"Temporal is down":         {fail: down},
		"Temporal does not answer": {slow: time.Hour},
		"answers come too late":    {slow: 2 * testLease},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newTestHold()
				h.start()
				time.Sleep(time.Minute)
				synctest.Wait()
				require.NoError(t, h.may(), "a lease that is renewed goes on")
				require.Less(t, time.Since(h.server.last()), testLease/2)
				h.server.set(row.fail, row.slow)
				given := h.server.last().Add(testLease) // here Temporal gives the account away, at the earliest
				l, err := h.h.leases.get("awsiam", "prod")
				require.NoError(t, err)
				<-l.Ended()
				require.True(t, time.Now().Before(given), "calls end before another process may begin")
				require.LessOrEqual(t, time.Until(given), margin+lookAt, "and not long before")
				require.ErrorIs(t, <-h.done, errLeaseOver)
				require.True(t, h.stopped.Load(), "it polls no more")
				require.Error(t, h.may())
				h.server.set(nil, 0)
				time.Sleep(time.Minute)
				require.Error(t, h.may(), "what has ended does not come back")
			})
		})
	}
}

func TestOneLostRenewalIsSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newTestHold()
		h.start()
		for range 20 {
			h.server.set(serviceerror.NewUnavailable("down"), 0)
			time.Sleep(testLease / 2)
			h.server.set(nil, 0)
			time.Sleep(testLease / 2)
			require.NoError(t, h.may())
		}
		close(h.stop)
		require.NoError(t, <-h.done)
	})
}

func TestARefusedRenewalEndsTheLeaseAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newTestHold()
		h.start()
		h.server.set(serviceerror.NewNotFound("the hold timed out"), 0)
		time.Sleep(testLease/renewals + time.Millisecond)
		synctest.Wait()
		require.Error(t, h.may())
		require.Error(t, <-h.done)
	})
}

// TestStandingStill is a process that is stopped, and a machine that is suspended:
// the first thing that is asked after it finds the lease ended, whatever timers do.
func TestStandingStill(t *testing.T) {
	t.Run("stopped: no timer has run", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			l := newLease(1, testLease, time.Now)
			require.NoError(t, l.renewed(l.sending()))
			time.Sleep(testLease) // nobody watches this one
			require.ErrorIs(t, l.Check(), errLeaseOver)
			require.ErrorIs(t, l.renewed(l.sending()), errLeaseOver, "too late")
		})
	})
	t.Run("suspended: the monotonic clock stood still", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var ahead atomic.Int64
			l := newLease(1, testLease, func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) })
			require.NoError(t, l.renewed(l.sending()))
			go l.watch()
			require.NoError(t, l.Check())
			ahead.Store(int64(time.Hour))
			require.ErrorIs(t, l.Check(), errLeaseOver)
			<-l.Ended()
		})
	})
	t.Run("the wall clock is set back", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var ahead atomic.Int64
			l := newLease(1, testLease, func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) })
			require.NoError(t, l.renewed(l.sending()))
			ahead.Store(-int64(time.Hour))
			time.Sleep(testLease)
			require.ErrorIs(t, l.Check(), errLeaseOver, "the monotonic clock tells")
		})
	})
}

// TestHandOver stops the process: passes that run may finish under the lease, which
// is renewed meanwhile, and only then is the account given up.
func TestHandOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newTestHold()
		h.h.serve = func(served) (func(), error) {
			return func() {
				for range 15 { // passes that take longer than a lease
					time.Sleep(time.Second)
					require.NoError(t, h.may(), "a pass that runs keeps its lease")
				}
			}, nil
		}
		h.start()
		close(h.stop)
		require.NoError(t, <-h.done)
		require.Error(t, h.may())
		n := len(h.server.taken)
		time.Sleep(time.Minute)
		require.Len(t, h.server.taken, n, "what is given up is not renewed")
	})
}

func TestOneHoldOfAnAccountInAProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newTestHold()
		h.start()
		_, err := h.h.hold(context.Background(), nil, nil, workflows.HoldInput{Provider: "awsiam", Account: "prod", Term: 8, LeaseMs: testLease.Milliseconds()})
		require.ErrorContains(t, err, "still ending")
		close(h.stop)
		require.NoError(t, <-h.done)
	})
}

func TestWhoCannotOpenAnAccountDoesNotHoldIt(t *testing.T) {
	h := newTestHold()
	h.h.open = func(string, string) (any, error) { return nil, errors.New("no credentials on this host") }
	_, err := h.h.hold(context.Background(), nil, nil, workflows.HoldInput{Provider: "awsiam", Account: "prod", Term: 1, LeaseMs: testLease.Milliseconds()})
	require.ErrorContains(t, err, "doctor")
	require.NotContains(t, err.Error(), "no credentials on this host")
	require.Empty(t, h.server.taken, "not renewed once")
	require.Error(t, h.may())
}

// TestGate refuses the requests of a client, also the later ones of one verb, once
// the lease has ended.
func TestGate(t *testing.T) {
	var asked atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	defer srv.Close()
	l := newLease(1, time.Hour, time.Now)
	require.NoError(t, l.renewed(l.sending()))
	c := http.Client{Transport: &gate{next: http.DefaultTransport, check: l.Check}}
	get := func() error {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL, nil)
		require.NoError(t, err)
		res, err := c.Do(req)
		if err == nil {
			require.NoError(t, res.Body.Close())
		}
		return err
	}
	require.NoError(t, get())
	l.end(errReleased)
	require.ErrorIs(t, get(), errReleased)
	require.Equal(t, int64(1), asked.Load())
}
