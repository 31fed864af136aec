package batch

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"rekey/activities"
)

// A passing is what the calls of one attempt at a pass share.
type passing struct {
	*Runner
	p      activities.Pass // without items where it is one over pages
	client any
	lease  Lease
	rates  map[string]string // the playbook's
	first  bool
	// pages: an outcome of this pass is one to go on with whatever it says, because
	// the pass has each row once.
	pages bool
	// more ends when no further call is to be begun: those that wait for their place
	// are given back.
	more context.Context
	// infos are what the provider promises of the verb, by kind of credential; nil: it is
	// asked each time.
	infos map[string]activities.VerbInfo
	// intend writes, before a call that may be made again, that it is about to be made.
	intend func(context.Context, activities.Request) error
	// own is the journal of this pass, nil for verbs that change nothing.
	own *openLog
	// world is the world's time as last seen: every look at it is a request in a lab.
	world atomic.Int64
}

// fresh gives the world's time now, last as it was last seen.
func (s *passing) fresh(ctx context.Context) time.Time {
	now := s.Now(ctx)
	s.world.Store(now.UnixNano())
	return now
}

func (s *passing) last() time.Time { return time.Unix(0, s.world.Load()).UTC() }

// How an item came by its answer.
type how int

const (
	called    how = iota // by a call of this attempt
	recovered            // the journal had it
	stopped              // no call: the account was told to wait
	left                 // no call: more has ended
	needless             // no call: the row needs another one
)

// An answer is what became of one item.
type answer struct {
	activities.Attempt
	how how
	// until is the world's time to wait for, when stopped.
	until time.Time
	// pending: the journal holds a create of it whose outcome nobody knows.
	pending bool
}

// one gets the answer for one item: from the journal, or by the call. log is nil for
// verbs that change nothing: made again, they tell again.
//
// An error is not the provider's: the journal cannot be written, the lease has ended,
// ctx was cancelled. What was called is in the journal.
func (s *passing) one(ctx context.Context, req activities.Request, log *openLog) (answer, error) {
	info := s.info(req.Key.Kind)
	if log == nil {
		return s.plain(ctx, req, info, nil)
	}
	if info.Idempotent {
		if a, ok := s.answered(log.history(req.Key.FP)); ok {
			return answer{Attempt: a, how: recovered}, nil
		}
		return s.plain(ctx, req, info, log)
	}
	release, err := log.claim(ctx, req.Key.FP)
	if err != nil {
		return answer{}, err
	}
	defer release()
	a, err := s.once(ctx, req, info, log)
	_, a.pending = log.history(req.Key.FP).lostCreate()
	return a, err
}

// info is what the provider promises of the pass's verb.
func (s *passing) info(kind string) activities.VerbInfo {
	if i, ok := s.infos[kind]; ok {
		return i
	}
	k, _ := s.Kind(s.p.Provider, kind)
	return k.Verbs[s.p.Verb]
}

// answered gives the outcome that ends this pass for the item.
func (s *passing) answered(h history) (activities.Attempt, bool) {
	a, ok := h.settled()
	if !ok && s.pages {
		a, ok = h.of(s.p.ID)
	}
	a.Recovered = ok
	return a, ok
}

// plain makes a call that may be made again.
func (s *passing) plain(ctx context.Context, req activities.Request, info activities.VerbInfo, log *openLog) (answer, error) {
	place, a, err := s.place(ctx, info, 1)
	if place == nil {
		return a, err
	}
	defer place.Done()
	if log != nil {
		if err := s.own.latest(); err != nil {
			return answer{}, err
		}
		if err := s.intend(ctx, req); err != nil {
			return answer{}, err
		}
		s.Edge(ctx, EdgeBefore, s.p.Verb, req.Key)
	}
	return s.make(ctx, req, place, nil, log, false)
}

// once makes a call that must not happen twice: its intent is on disk before it
// begins, and what an earlier attempt may have done is settled first.
func (s *passing) once(ctx context.Context, req activities.Request, info activities.VerbInfo, log *openLog) (answer, error) {
	fp := req.Key.FP
	before := log.history(fp)
	if a, ok := s.answered(before); ok {
		return answer{Attempt: a, how: recovered}, nil
	}
	if last, lost := before.lostCreate(); lost && !s.p.NoReconcile {
		if err := s.outlive(ctx, last); err != nil {
			return answer{}, err
		}
		// It may have ended well while this attempt waited: then there is nothing to
		// settle, and its key must not be destroyed.
		if err := log.refresh(ctx); err != nil {
			return answer{}, err
		}
		before = log.history(fp)
		if a, ok := s.answered(before); ok {
			return answer{Attempt: a, how: recovered}, nil
		}
	}
	if s.p.Verb == activities.Issue {
		return s.issue(ctx, req, info, log, before)
	}
	place, a, err := s.place(ctx, info, 1)
	if place == nil {
		return a, err
	}
	defer place.Done()
	return s.durably(ctx, req, place, s.intent(req), log)
}

// intent is the record before a call.
func (s *passing) intent(req activities.Request) record {
	return record{Kind: kindIntent, Pass: s.p.ID, FP: req.Key.FP, N: req.Attempt, At: s.last(), Epoch: s.Epoch}
}

// durably writes the intent to disk and makes the call. The call ends before the
// deadline that the intent names: from then on it cannot be running.
func (s *passing) durably(ctx context.Context, req activities.Request, place *Place, intent record, log *openLog) (answer, error) {
	if err := s.own.latest(); err != nil {
		return answer{}, err
	}
	intent.Deadline = time.Now().Add(callLimit + beat)
	if err := log.append(ctx, intent, true); err != nil {
		return answer{}, err
	}
	s.Edge(ctx, EdgeBefore, s.p.Verb, req.Key)
	if err := s.own.latest(); err != nil {
		// Whoever comes next need not look for what was not made.
		return answer{}, errors.Join(err, log.append(context.WithoutCancel(ctx), record{Kind: kindWithdrawn, Pass: s.p.ID, FP: req.Key.FP, N: req.Attempt, At: s.last()}, false))
	}
	limit := time.Until(intent.Deadline) - beat
	if limit < callLimit/2 {
		f := &activities.Fault{Class: activities.ClassTransient, Op: string(s.p.Verb), Detail: "not called: the journal's disk was too slow"}
		a := failed(s.p, req, f, s.fresh(ctx))
		err := log.append(ctx, s.outcome(req, &a), true)
		return answer{Attempt: a}, err
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return s.make(ctx, req, place, intent.Before, log, true)
}

func (s *passing) outcome(req activities.Request, a *activities.Attempt) record {
	return record{Kind: kindOutcome, Pass: s.p.ID, FP: req.Key.FP, N: req.Attempt, At: a.At, Attempt: a}
}

// make makes the call and writes what it gave.
func (s *passing) make(ctx context.Context, req activities.Request, place *Place, before []activities.KeyState, log *openLog, durable bool) (answer, error) {
	// The process may have stood still since the pass began.
	if err := s.lease.Check(); err != nil {
		return answer{}, err
	}
	a := s.call(ctx, place, req, before)
	place.Done()
	if log == nil {
		return answer{Attempt: a}, nil
	}
	s.Edge(ctx, EdgeAfter, s.p.Verb, req.Key)
	if ctx.Err() != nil && !durable && a.Outcome == activities.Unclear {
		// It was cut off by us, and can simply be made again.
		return answer{}, ctx.Err()
	}
	// What was called is on record, also when nobody waits for the answer any more.
	if err := log.append(context.WithoutCancel(ctx), s.outcome(req, &a), durable); err != nil {
		return answer{}, err
	}
	s.Edge(ctx, EdgeRecord, s.p.Verb, req.Key)
	return answer{Attempt: a}, nil
}

// place takes a place in the account's budget for a call of n requests; nil when the
// call is not to be made, and the answer says why.
func (s *passing) place(ctx context.Context, info activities.VerbInfo, n int) (*Place, answer, error) {
	p, err := s.Limits.Acquire(s.more, Want{
		Provider: s.p.Provider, Account: s.p.Account, API: info.API, Incident: s.p.Incident, Verb: s.p.Verb, First: s.first, Alone: !s.pages, Calls: n,
		Caps: Caps(s.rates, s.p.Provider, s.p.Verb, info.API),
	}, s.last())
	var told *StoppedError
	switch {
	case err == nil:
		return p, answer{}, nil
	case ctx.Err() != nil:
		return nil, answer{}, ctx.Err()
	}
	a := answer{how: left}
	if errors.As(err, &told) {
		a.how, a.until = stopped, told.Until
	}
	return nil, a, nil
}

// issue makes a create: it takes the list of keys before the first one and, where an
// earlier one got no answer, settles that first.
func (s *passing) issue(ctx context.Context, req activities.Request, info activities.VerbInfo, log *openLog, before history) (answer, error) {
	if s.p.NoReconcile {
		// Without settling, each attempt is a create of its own.
		req.Handle = fmt.Sprintf("%s/%d", req.Handle, req.Attempt)
	}
	_, lost := before.lostCreate()
	first, had := before.firstIntent()
	list := !had || s.p.NoReconcile
	settle := lost && !s.p.NoReconcile
	requests := 1
	if list || settle {
		requests = 2
	}
	place, a, err := s.place(ctx, info, requests)
	if place == nil {
		return a, err
	}
	defer place.Done()
	intent := s.intent(req)
	switch {
	case settle:
		return s.settle(ctx, req, place, first, log)
	case list:
		keys, f := s.list(ctx, req)
		if f != nil {
			return answer{Attempt: s.fault(ctx, req, place, f)}, nil
		}
		intent.Before = keys
	default:
		// Keys that this effect made and lost are after the first list, not ours to
		// forget: the same list serves every attempt.
		intent.Before = first.Before
	}
	return s.durably(ctx, req, place, intent, log)
}

// list gives the principal's keys before a create.
func (s *passing) list(ctx context.Context, req activities.Request) ([]activities.KeyState, *activities.Fault) {
	lister, ok := s.client.(activities.Lister)
	if !ok {
		return nil, &activities.Fault{Class: activities.ClassInvalid, Op: "Issue", Detail: "provider cannot list keys, so a lost create could not be settled"}
	}
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	keys, err := lister.ListKeys(ctx, req.Ref)
	if err != nil {
		return nil, activities.AsFault("ListKeys", err)
	}
	return keys, nil
}

// settle finds out what a lost create did.
//
// The settling is an answer of its own, so that what it destroyed is on record even
// when the next create fails.
func (s *passing) settle(ctx context.Context, req activities.Request, place *Place, first record, log *openLog) (answer, error) {
	rec, ok := s.client.(activities.Reconciler)
	if !ok {
		f := &activities.Fault{Class: activities.ClassInvalid, Op: "Issue", Detail: "a create got no answer and this provider cannot settle it: look at the principal's keys"}
		return answer{Attempt: s.fault(ctx, req, place, f)}, nil
	}
	if err := s.lease.Check(); err != nil {
		return answer{}, err
	}
	res, err := rec.ReconcileIssue(ctx, activities.ReconcileRequest{
		IssueRequest: activities.IssueRequest{Ref: req.Ref, Handle: req.Handle, Before: first.Before},
		Started:      first.At, Now: s.last(),
	})
	if err != nil {
		return answer{Attempt: s.fault(ctx, req, place, activities.AsFault("ReconcileIssue", err))}, nil
	}
	a := activities.Attempt{
		FP: req.Key.FP, Verb: s.p.Verb, N: req.Attempt, At: s.fresh(ctx), Outcome: activities.Unclear,
		Detail: res.Detail, Evidence: res.Evidence, Reconcile: &res, Recovered: true,
	}
	if res.Kept != nil {
		a.Outcome = activities.Done
		a.Issue = &activities.IssueResult{Result: activities.Result{Outcome: activities.Done, Evidence: res.Evidence}, New: *res.Kept, Handle: req.Handle}
	}
	r := record{Kind: kindReconciled, Pass: s.p.ID, FP: req.Key.FP, N: req.Attempt, At: a.At, Attempt: &a, Settled: res.Settled}
	return answer{Attempt: a}, log.append(context.WithoutCancel(ctx), r, true)
}

// outlive waits until the process that made the intent cannot be calling any
// more: at once when it is known dead, else until its call's limit is over.
func (s *passing) outlive(ctx context.Context, last record) error {
	if last.Epoch != s.Epoch && s.Dead != nil && s.Dead(last.Epoch) {
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

// fault is the attempt of a call that failed. Where the provider said that it is
// called too often, the account is stopped for all.
func (s *passing) fault(ctx context.Context, req activities.Request, place *Place, f *activities.Fault) activities.Attempt {
	now := s.fresh(ctx)
	if f.Class == activities.ClassThrottled {
		place.Stop(now.Add(max(f.After, time.Second)))
	}
	return failed(s.p, req, f, now)
}
