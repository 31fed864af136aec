// Package batch runs a provider's verbs as Temporal activities: one pass of one
// verb over one page, with a journal that survives the worker, rate limits, and
// the settling of calls whose answer was lost. It is the one place beside worker
// that knows Temporal's activity package; providers know nothing of it.
package batch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	"rekey/activities"
	"rekey/internal/page/pagestore"
)

// callLimit bounds one provider call. A call that was begun longer ago than this
// by a process that is still alive cannot be running any more.
const callLimit = 20 * time.Second

// beat is how often a running pass tells Temporal that it lives; the activity's
// heartbeat time-out is four times that.
const beat = time.Second

// A Journal is the append-only record of one pass.
type Journal interface {
	// Append adds a record; durable waits until it is on disk.
	Append(ctx context.Context, rec []byte, durable bool) error
	// Records gives all records in their order.
	Records(ctx context.Context) ([][]byte, error)
	// Seal puts the journal as it stands into the blob store and gives its hash.
	Seal(ctx context.Context) (string, error)
	Close() error
}

// Journals opens journals by name. term is the term of the lease under which the
// caller writes, 0 where no lease is kept: a journal that a higher term has opened
// is refused to a lower one, and what a lower term still writes is never read.
type Journals interface {
	Open(ctx context.Context, name string, term uint64) (Journal, error)
}

// A Lease is the right of this process to call one provider account.
type Lease interface {
	// Term grows from holder to holder.
	Term() uint64
	// Check fails when the lease has ended. It is asked right before each call.
	Check() error
	// Ended is closed when the lease has ended: calls under way are cancelled.
	Ended() <-chan struct{}
}

// NoLease is the type of the failure of a pass that reached a process without the
// account's lease. Nothing was called; the pass is repeated under its id.
const NoLease = "no-lease"

// Edges of a call, for drills that kill the worker there.
const (
	EdgeBefore = "before-call"
	EdgeAfter  = "after-call-before-record"
	EdgeRecord = "after-record"
)

// Options are what a Runner needs.
type Options struct {
	// Client gives the opened client of an account.
	Client func(provider, account string) (any, error)
	// Kind gives what the provider promises of a kind.
	Kind     func(provider, kind string) (activities.KindInfo, bool)
	Journals Journals
	// Blobs hold the pages of passes over pages; nil where there are none.
	Blobs  pagestore.Blobs
	Limits *Limits
	// Now is the world's clock.
	Now func(context.Context) time.Time
	// Lease gives the lease of an account, or says why this process has none. nil
	// where one process holds the whole installation by a lock.
	Lease func(provider, account string) (Lease, error)
	// Epoch names this process. Dead tells whether the process of another epoch
	// cannot be calling the account of this pass any more: true where the data
	// directory is locked by this one, and where the account's lease has come to it.
	Epoch string
	Dead  func(epoch string) bool
	// Fingerprint names a key that a provider found.
	Fingerprint func(activities.Key) (string, error)
	// Edge is called at the edges of mutating calls; nil outside of drills.
	Edge func(ctx context.Context, edge string, v activities.Verb, key activities.Key)
	// Observe is told of every call before it is made, and by what it returns of what
	// came of it; nil: nobody counts. Its context goes into the call. The pass is
	// without items, and has a Page where it is one over pages.
	Observe func(ctx context.Context, p activities.Pass, key activities.Key) (context.Context, func(activities.Attempt))
	// Stay bounds how long a pass over pages stays; zero: [DefaultStay].
	Stay Stay
	Log  *slog.Logger
}

// A Runner holds the activities.
type Runner struct {
	Options
	logs  logs
	crowd crowd
}

// New makes a Runner.
func New(o Options) *Runner {
	if o.Edge == nil {
		o.Edge = func(context.Context, string, activities.Verb, activities.Key) {}
	}
	if o.Observe == nil {
		o.Observe = func(ctx context.Context, _ activities.Pass, _ activities.Key) (context.Context, func(activities.Attempt)) {
			return ctx, func(activities.Attempt) {}
		}
	}
	if o.Stay == (Stay{}) {
		o.Stay = DefaultStay
	}
	return &Runner{Options: o}
}

// Activity is the function registered under activities.Name(provider, v).
//
// It returns an error only for what is not the provider's: a journal that cannot
// be written, an input that no workflow of this build makes. What the provider
// says, failures included, is in the result, so that the workflow has every
// attempt on record and decides about the next.
func (r *Runner) Activity(v activities.Verb) func(context.Context, activities.Pass) (activities.PassResult, error) {
	return func(ctx context.Context, p activities.Pass) (activities.PassResult, error) {
		s, ctx, end, err := r.begin(ctx, ctx, v, p)
		if err != nil {
			return activities.PassResult{}, err
		}
		defer end()
		if s.client, err = r.Client(p.Provider, p.Account); err != nil {
			return failAll(p, &activities.Fault{Class: activities.ClassInvalid, Op: string(v), Detail: err.Error()}, r.Now(ctx)), nil
		}
		// A process that stops calls nobody who still waits here: the next one does.
		more, cancel := stopping(ctx)
		defer cancel()
		s.more, cancel = patient(ctx, more)
		defer cancel()
		if !v.Mutates() {
			return s.each(ctx, p.Items)
		}
		return s.mutate(ctx, p.Items)
	}
}

// begin checks that this process may make the pass. The context that it gives ends
// with the lease; it beats until end, or until beats has ended.
func (r *Runner) begin(ctx, beats context.Context, v activities.Verb, p activities.Pass) (s *passing, _ context.Context, end func(), err error) {
	if p.Verb != v {
		return nil, nil, nil, temporal.NewNonRetryableApplicationError(fmt.Sprintf("a pass of %s reached the activity of %s", p.Verb, v), string(activities.ClassInvalid), nil)
	}
	lease, err := r.lease(p.Provider, p.Account)
	if err != nil {
		return nil, nil, nil, temporal.NewNonRetryableApplicationError(err.Error(), NoLease, nil)
	}
	ctx, leave := within(ctx, lease)
	stop := beating(beats)
	p.Items = nil
	s = &passing{Runner: r, p: p, lease: lease, rates: p.Rates}
	s.fresh(ctx)
	return s, ctx, func() { stop(); leave() }, nil
}

// beating heartbeats until stopped. A beat carries no outcome: the journal does.
func beating(ctx context.Context) (stop func()) {
	if !activity.IsActivity(ctx) {
		return func() {}
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		t := time.NewTicker(beat)
		defer t.Stop()
		for {
			select {
			case <-done:
				return
			case <-ctx.Done():
				return
			case <-t.C:
				activity.RecordHeartbeat(ctx)
			}
		}
	}()
	return func() { close(done); wg.Wait() }
}

func failAll(p activities.Pass, f *activities.Fault, now time.Time) activities.PassResult {
	out := activities.PassResult{Items: make([]activities.Attempt, len(p.Items))}
	for i, req := range p.Items {
		out.Items[i] = failed(p, req, f, now)
	}
	return out
}

func failed(p activities.Pass, req activities.Request, f *activities.Fault, now time.Time) activities.Attempt {
	a := activities.Attempt{
		FP: req.Key.FP, Verb: p.Verb, N: req.Attempt, At: now,
		Class: f.Class, Detail: f.Op + ": " + f.Detail, Permission: f.Permission,
		AfterMs: f.After.Milliseconds(), RequestID: f.RequestID, Status: f.Status,
	}
	switch f.Class {
	case activities.ClassDenied:
		a.Outcome = activities.Denied
	case activities.ClassInvalid:
		a.Outcome = activities.NeedsHuman
	default:
		a.Outcome = activities.Unclear
	}
	return a
}

// each makes the calls one after the other.
func (s *passing) each(ctx context.Context, items []activities.Request) (activities.PassResult, error) {
	out := activities.PassResult{Items: make([]activities.Attempt, 0, len(items))}
	for _, req := range items {
		a, err := s.one(ctx, req, s.own)
		if err != nil {
			return activities.PassResult{}, err
		}
		out.Items = append(out.Items, s.uncalled(req, a))
	}
	return out, ctx.Err()
}

// uncalled is the attempt of an item that was not called, or what it has got.
func (s *passing) uncalled(req activities.Request, a answer) activities.Attempt {
	f := &activities.Fault{Class: activities.ClassThrottled, Op: string(s.p.Verb)}
	now := s.last()
	switch {
	case a.how == stopped:
		f.Detail, f.After = "account is told to wait", a.until.Sub(now)
	case a.how == left && errors.Is(context.Cause(s.more), errPatience):
		f.Detail, f.After = "the account's rate is used up by others", time.Second
	case a.how == left:
		f.Class, f.Detail = activities.ClassTransient, "cancelled while waiting for the rate limit"
	default:
		return a.Attempt
	}
	return failed(s.p, req, f, now)
}

// mutate makes the calls that change something, each under its journal.
func (s *passing) mutate(ctx context.Context, items []activities.Request) (_ activities.PassResult, err error) {
	if s.own, err = s.logs.get(ctx, s.Journals, journalName(s.p.Incident, s.p.ID), s.lease.Term()); err != nil {
		return activities.PassResult{}, err
	}
	defer s.shut(s.own)
	s.intend = func(ctx context.Context, req activities.Request) error {
		return s.own.append(ctx, s.intent(req), false)
	}
	out, err := s.each(ctx, items)
	if err != nil {
		return activities.PassResult{}, err
	}
	if !final(out.Items) {
		return out, nil // the next pass of this effect goes on in the same journal
	}
	if out.Journal, err = s.own.j.Seal(ctx); err != nil {
		return activities.PassResult{}, fmt.Errorf("journal of %s: %w", s.p.ID, err)
	}
	return out, nil
}

func journalName(incident, pass string) string { return incident + "/" + pass }

func (r *Runner) shut(o *openLog) {
	if err := o.close(); err != nil {
		r.Log.Warn("journal did not close", "journal", o.name.name, "err", err)
	}
}

// final tells whether every item of a pass is settled, so that its journal is
// complete.
func final(items []activities.Attempt) bool {
	for _, a := range items {
		if _, ok := (history{{Attempt: &a}}).settled(); !ok {
			return false
		}
	}
	return true
}
