// Package batch runs a provider's verbs as Temporal activities: one pass of one
// verb over one page, with a journal that survives the worker, rate limits, and
// the settling of calls whose answer was lost. It is the one place beside worker
// that knows Temporal's activity package; providers know nothing of it.
package batch

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	"rekey/activities"
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
	Limits   *Limits
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
	// came of it; nil: nobody counts. Its context goes into the call.
	Observe func(ctx context.Context, p activities.Pass, key activities.Key) (context.Context, func(activities.Attempt))
	Log     *slog.Logger
}

// A Runner holds the activities.
type Runner struct{ Options }

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
	return &Runner{o}
}

// Activity is the function registered under activities.Name(provider, v).
//
// It returns an error only for what is not the provider's: a journal that cannot
// be written, an input that no workflow of this build makes. What the provider
// says, failures included, is in the result, so that the workflow has every
// attempt on record and decides about the next.
func (r *Runner) Activity(v activities.Verb) func(context.Context, activities.Pass) (activities.PassResult, error) {
	return func(ctx context.Context, p activities.Pass) (activities.PassResult, error) {
		if p.Verb != v {
			return activities.PassResult{}, temporal.NewNonRetryableApplicationError(fmt.Sprintf("a pass of %s reached the activity of %s", p.Verb, v), string(activities.ClassInvalid), nil)
		}
		lease, err := r.lease(p)
		if err != nil {
			return activities.PassResult{}, temporal.NewNonRetryableApplicationError(err.Error(), NoLease, nil)
		}
		ctx, end := within(ctx, lease)
		defer end()
		ctx, stop := beating(ctx)
		defer stop()
		client, err := r.Client(p.Provider, p.Account)
		if err != nil {
			return failAll(p, &activities.Fault{Class: activities.ClassInvalid, Op: string(v), Detail: err.Error()}, r.Now(ctx)), nil
		}
		if !v.Mutates() {
			return r.read(ctx, client, p, lease)
		}
		return r.mutate(ctx, client, p, lease)
	}
}

// beating heartbeats until stopped. A beat carries no outcome: the journal does.
func beating(ctx context.Context) (context.Context, func()) {
	if !activity.IsActivity(ctx) {
		return ctx, func() {}
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
	return ctx, func() { close(done); wg.Wait() }
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
		FP: req.Key.FP, Verb: p.Verb, N: p.Attempt, At: now,
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

// read makes the calls that change nothing. They are not journaled: made again,
// they tell again.
func (r *Runner) read(ctx context.Context, client any, p activities.Pass, lease Lease) (activities.PassResult, error) {
	out := activities.PassResult{Items: make([]activities.Attempt, 0, len(p.Items))}
	for _, req := range p.Items {
		if f := r.wait(ctx, p, req); f != nil {
			out.Items = append(out.Items, failed(p, req, f, r.Now(ctx)))
			continue
		}
		if err := lease.Check(); err != nil {
			return activities.PassResult{}, err
		}
		a := r.call(ctx, client, p, req, nil)
		out.Items = append(out.Items, a)
	}
	return out, ctx.Err()
}

// mutate makes the calls that change something, each under its journal.
func (r *Runner) mutate(ctx context.Context, client any, p activities.Pass, lease Lease) (activities.PassResult, error) {
	j, err := r.Journals.Open(ctx, p.Incident+"/"+p.ID, lease.Term())
	if err != nil {
		return activities.PassResult{}, fmt.Errorf("journal of %s: %w", p.ID, err)
	}
	defer func() {
		if err := j.Close(); err != nil {
			r.Log.Warn("journal did not close", "pass", p.ID, "err", err)
		}
	}()
	log, err := readLog(ctx, j)
	if err != nil {
		return activities.PassResult{}, fmt.Errorf("journal of %s: %w", p.ID, err)
	}
	out := activities.PassResult{Items: make([]activities.Attempt, 0, len(p.Items))}
	for _, req := range p.Items {
		a, err := r.one(ctx, client, p, req, j, log, lease)
		if err != nil {
			return activities.PassResult{}, err
		}
		out.Items = append(out.Items, a)
	}
	if !final(out.Items) {
		return out, nil // the next pass of this effect goes on in the same journal
	}
	if out.Journal, err = j.Seal(ctx); err != nil {
		return activities.PassResult{}, fmt.Errorf("journal of %s: %w", p.ID, err)
	}
	return out, nil
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

// one makes one mutating call, unless the journal says that it was made.
func (r *Runner) one(ctx context.Context, client any, p activities.Pass, req activities.Request, j Journal, log journal, lease Lease) (activities.Attempt, error) {
	before := log.of(req.Key.FP)
	if a, ok := before.settled(); ok {
		a.Recovered = true
		return a, nil
	}
	if f := r.wait(ctx, p, req); f != nil {
		return failed(p, req, f, r.Now(ctx)), nil
	}
	info, _ := r.Kind(req.Key.Provider, req.Key.Kind)
	durable := !info.Verbs[p.Verb].Idempotent
	intent := record{Kind: kindIntent, FP: req.Key.FP, N: p.Attempt, At: r.Now(ctx), Epoch: r.Epoch, Deadline: time.Now().Add(callLimit + beat)}

	if p.Verb == activities.Issue {
		if p.NoReconcile {
			// Without settling, each attempt is a create of its own.
			req.Handle = fmt.Sprintf("%s/%d", req.Handle, p.Attempt)
		}
		a, ready, err := r.prepareIssue(ctx, client, p, req, j, before, &intent)
		if err != nil || !ready {
			return a, err
		}
	}
	if err := appendRecord(ctx, j, intent, durable); err != nil {
		return activities.Attempt{}, err
	}
	r.Edge(ctx, EdgeBefore, p.Verb, req.Key)
	// The process may have stood still since the pass began.
	if err := lease.Check(); err != nil {
		return activities.Attempt{}, err
	}
	a := r.call(ctx, client, p, req, intent.Before)
	r.Edge(ctx, EdgeAfter, p.Verb, req.Key)
	if err := appendRecord(ctx, j, record{Kind: kindOutcome, FP: req.Key.FP, N: p.Attempt, At: a.At, Attempt: &a}, durable); err != nil {
		return activities.Attempt{}, err
	}
	r.Edge(ctx, EdgeRecord, p.Verb, req.Key)
	return a, nil
}

// prepareIssue takes the list of keys before the first create and, where an
// earlier create got no answer, settles it first. ready is false when the
// returned attempt is the answer of this pass.
func (r *Runner) prepareIssue(ctx context.Context, client any, p activities.Pass, req activities.Request, j Journal, before history, intent *record) (activities.Attempt, bool, error) {
	lister, ok := client.(activities.Lister)
	if !ok {
		return failed(p, req, &activities.Fault{Class: activities.ClassInvalid, Op: "Issue", Detail: "provider cannot list keys, so a lost create could not be settled"}, r.Now(ctx)), false, nil
	}
	last, lost := before.lostCreate()
	if !lost || p.NoReconcile {
		if first, had := before.firstIntent(); had && !p.NoReconcile {
			// Keys that this effect made and lost are after the first list, not ours
			// to forget: the same list serves every attempt.
			intent.Before = first.Before
			return activities.Attempt{}, true, nil
		}
		keys, err := lister.ListKeys(ctx, req.Ref)
		if err != nil {
			return failed(p, req, activities.AsFault("ListKeys", err), r.Now(ctx)), false, nil
		}
		intent.Before = keys
		return activities.Attempt{}, true, nil
	}
	if err := r.outlive(ctx, last); err != nil {
		return activities.Attempt{}, false, err
	}
	// It may have ended well while this attempt waited: then there is nothing to
	// settle, and its key must not be destroyed.
	log, err := readLog(ctx, j)
	if err != nil {
		return activities.Attempt{}, false, fmt.Errorf("journal of %s: %w", p.ID, err)
	}
	before = log.of(req.Key.FP)
	if a, ok := before.settled(); ok {
		a.Recovered = true
		return a, false, nil
	}
	rec, ok := client.(activities.Reconciler)
	if !ok {
		return failed(p, req, &activities.Fault{Class: activities.ClassInvalid, Op: "Issue", Detail: "a create got no answer and this provider cannot settle it: look at the principal's keys"}, r.Now(ctx)), false, nil
	}
	first, _ := before.firstIntent()
	res, err := rec.ReconcileIssue(ctx, activities.ReconcileRequest{
		IssueRequest: activities.IssueRequest{Ref: req.Ref, Handle: req.Handle, Before: first.Before},
		Started:      first.At, Now: r.Now(ctx),
	})
	if err != nil {
		return failed(p, req, activities.AsFault("ReconcileIssue", err), r.Now(ctx)), false, nil
	}
	a := activities.Attempt{
		FP: req.Key.FP, Verb: p.Verb, N: p.Attempt, At: r.Now(ctx), Outcome: activities.Unclear,
		Detail: res.Detail, Evidence: res.Evidence, Reconcile: &res, Recovered: true,
	}
	if res.Kept != nil {
		a.Outcome = activities.Done
		a.Issue = &activities.IssueResult{Result: activities.Result{Outcome: activities.Done, Evidence: res.Evidence}, New: *res.Kept, Handle: req.Handle}
	}
	if err := appendRecord(ctx, j, record{Kind: kindReconciled, FP: req.Key.FP, N: p.Attempt, At: a.At, Attempt: &a, Settled: res.Settled}, true); err != nil {
		return a, false, err
	}
	// The settling is an answer of its own, so that what it destroyed is on record
	// even when the next create fails.
	return a, false, nil
}

// outlive waits until the process that made the intent cannot be calling any
// more: at once when it is known dead, else until its call's limit is over.
func (r *Runner) outlive(ctx context.Context, last record) error {
	if last.Epoch != r.Epoch && r.Dead != nil && r.Dead(last.Epoch) {
		return nil
	}
	t := time.NewTimer(time.Until(last.Deadline))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// wait takes a place in the account's budget.
func (r *Runner) wait(ctx context.Context, p activities.Pass, req activities.Request) *activities.Fault {
	info, _ := r.Kind(req.Key.Provider, req.Key.Kind)
	api := info.Verbs[p.Verb].API
	// A process that stops calls nobody who still waits here: the next one does.
	ctx, cancel := stopping(ctx)
	defer cancel()
	after, err := r.Limits.Wait(ctx, p.Provider, p.Account, api, p.Verb, r.Now(ctx))
	if err != nil {
		return &activities.Fault{Class: activities.ClassTransient, Op: string(p.Verb), Detail: "cancelled while waiting for the rate limit"}
	}
	if after > 0 {
		return &activities.Fault{Class: activities.ClassThrottled, Op: string(p.Verb), Detail: "account is told to wait", After: after}
	}
	return nil
}

func appendRecord(ctx context.Context, j Journal, rec record, durable bool) error {
	b, err := json.Marshal(rec)
	if err != nil {
		return fmt.Errorf("journal record: %w", err)
	}
	return j.Append(ctx, b, durable)
}
