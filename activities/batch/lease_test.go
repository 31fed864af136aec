package batch_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/temporal"

	"rekey/activities"
	"rekey/activities/batch"
)

// A lease of the tests ends when its end is called, or at the n-th question.
type lease struct {
	term  uint64
	ended chan struct{}
	asked atomic.Int64
	dies  int64
}

var errOver = errors.New("the lease has ended")

func newLease(term uint64) *lease { return &lease{term: term, ended: make(chan struct{})} }

func (l *lease) end() { close(l.ended) }

func (l *lease) Term() uint64           { return l.term }
func (l *lease) Ended() <-chan struct{} { return l.ended }

func (l *lease) Check() error {
	if n := l.asked.Add(1); l.dies > 0 && n >= l.dies {
		return errOver
	}
	select {
	case <-l.ended:
		return errOver
	default:
		return nil
	}
}

// under is a runner of another process that has, or has not, the lease.
func under(c any, j batch.Journals, epoch string, l *lease) *batch.Runner {
	r := runner(c, j, workerOptions{epoch: epoch})
	o := r.Options
	o.Lease = func(string, string) (batch.Lease, error) {
		if l == nil {
			return nil, errors.New("this worker does not hold the account")
		}
		return l, nil
	}
	return batch.New(o)
}

func run(r *batch.Runner, v activities.Verb, attempt int) (activities.PassResult, error) {
	return r.Activity(v)(context.Background(), pass(v, attempt))
}

func TestNoCallWithoutLease(t *testing.T) {
	for _, v := range []activities.Verb{activities.Disable, activities.Issue, activities.Probe} {
		c, j := newCloud(), newMemory()
		_, err := run(under(c, j, "a", nil), v, 1)
		var app *temporal.ApplicationError
		require.ErrorAs(t, err, &app)
		require.Equal(t, batch.NoLease, app.Type(), "the workflow makes the pass again, under its id")
		require.Empty(t, c.calls)
		require.Empty(t, j.recs, "nothing was intended")
	}
}

// TestNoCallBegunAfterTheLease lets the lease end between the intent and the call: a
// process that stood still just there.
func TestNoCallBegunAfterTheLease(t *testing.T) {
	for _, v := range []activities.Verb{activities.Disable, activities.Issue, activities.Probe} {
		c := newCloud()
		l := newLease(1)
		l.dies = 2 // the pass may begin, the call may not
		_, err := run(under(c, newMemory(), "a", l), v, 1)
		require.ErrorIs(t, err, errOver)
		require.Zero(t, c.count(string(v)))
	}
}

// hanging is a provider that answers when its call is cancelled, and has done what
// it was asked.
type hanging struct {
	*cloud
	begun chan struct{}
}

func (h *hanging) Issue(ctx context.Context, r activities.IssueRequest) (activities.IssueResult, error) {
	res, err := h.cloud.Issue(ctx, r)
	close(h.begun)
	<-ctx.Done()
	if err == nil {
		err = ctx.Err()
	}
	return res, err
}

// TestACallUnderWayEndsWithTheLease ends the lease while a create has no answer yet.
// The next holder knows that the first cannot be calling any more: it settles at
// once, and exactly one key is alive.
func TestACallUnderWayEndsWithTheLease(t *testing.T) { synctest.Test(t, callUnderWay) }

func callUnderWay(t *testing.T) {
	j := blobs(t)
	h := &hanging{cloud: newCloud(), begun: make(chan struct{})}
	first := newLease(5)
	done := make(chan error, 1)
	go func() {
		_, err := run(under(h, j, "a", first), activities.Issue, 1)
		done <- err
	}()
	<-h.begun
	first.end()
	require.Error(t, <-done, "the call was cancelled, and its outcome is not known")

	next := under(h.cloud, j, "b", newLease(9))
	began := time.Now()
	for n := 2; n < 5; n++ {
		out, err := run(next, activities.Issue, n)
		require.NoError(t, err)
		if a := out.Items[0]; a.Outcome == activities.Done {
			require.Equal(t, []string{"OLD", a.Issue.New.ID}, h.alive(), "one replacement is alive")
			require.Less(t, time.Since(began), 10*time.Second, "whose lease has ended is not waited for")
			_, err := run(under(h.cloud, j, "a", newLease(5)), activities.Issue, n+1)
			require.ErrorContains(t, err, "lost its lease", "the former holder may not even look")
			return
		}
	}
	t.Fatal("never reached")
}

// TestStopsGoFromHolderToHolder hands over what the provider asked to wait for.
func TestStopsGoFromHolderToHolder(t *testing.T) {
	now := time.Unix(5000, 0).UTC()
	old := batch.NewLimits(map[string]float64{"awsiam/prod/iam": 1000, "awsiam/other/iam": 1000})
	old.Stop("awsiam", "prod", "iam", now.Add(time.Minute))
	old.Stop("awsiam", "prod", "sts", now.Add(-time.Minute))
	old.Stop("awsiam", "other", "iam", now.Add(time.Minute))
	stops := old.Stops("awsiam", "prod", now)
	require.Equal(t, map[string]time.Time{"iam": now.Add(time.Minute)}, stops)

	next := batch.NewLimits(map[string]float64{"awsiam/prod/iam": 1000})
	next.Take("awsiam", "prod", stops, false)
	_, err := next.Acquire(t.Context(), want("inc-1", activities.Disable), now)
	var told *batch.StoppedError
	require.ErrorAs(t, err, &told)
	require.Equal(t, now.Add(time.Minute), told.Until, "the new holder waits as the old one was told")
}

// TestABudgetIsNotSpentTwice hands over in order: the new holder begins with nothing.
func TestABudgetIsNotSpentTwice(t *testing.T) {
	for drained, empty := range map[bool]bool{true: true, false: false} {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		l := batch.NewLimits(map[string]float64{"awsiam/prod/iam": 1})
		l.Take("awsiam", "prod", nil, drained)
		_, err := l.Acquire(ctx, want("inc-1", activities.Disable), time.Unix(5000, 0))
		require.Equal(t, empty, err != nil, "the next call of one a second is %v away", time.Second)
	}
}
