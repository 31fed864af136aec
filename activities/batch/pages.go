package batch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.temporal.io/sdk/temporal"

	"rekey/activities"
	"rekey/internal/blob"
	"rekey/internal/page"
	"rekey/internal/page/pagestore"
)

// Pages is the function registered under page.Name(provider, v): one call for each row
// of the pages that is due (docs/design/0017). It may run twice, also at the same time:
// the journal says what was done, and a page is never changed.
//
// Like [Runner.Activity] it returns an error only for what is not the provider's.
// Failures of the types page.Lost and page.OtherBuild are not worth a repeat.
func (r *Runner) Pages(v activities.Verb) func(context.Context, page.Pass) (page.PassResult, error) {
	return func(ctx context.Context, p page.Pass) (page.PassResult, error) {
		began := time.Now()
		header := activities.Pass{Incident: p.Incident, ID: p.ID, Verb: p.Verb, Provider: p.Provider, Account: p.Account, Attempt: p.Attempt}
		if len(p.Pages) > 0 {
			header.Page = p.Pages[0]
		}
		// Also a pass that was asked to come back beats until it has.
		s, lctx, end, err := r.begin(ctx, context.WithoutCancel(ctx), v, header)
		if err != nil {
			return page.PassResult{}, err
		}
		defer end()
		if s.client, err = r.Client(p.Provider, p.Account); err != nil {
			return page.PassResult{}, fmt.Errorf("account %s/%s cannot be opened by this worker: mend rekey.yaml, then it goes on: %w", p.Provider, p.Account, err)
		}
		t := &turnover{passing: s, in: p, store: pagestore.New(r.Blobs)}
		if err := t.load(lctx); err != nil {
			return page.PassResult{}, err
		}
		s.pages, s.first, s.p.NoReconcile, s.rates = true, p.First, t.facts.NoReconcile, map[string]string{}
		for name, rate := range t.facts.Rates {
			s.rates[name] = string(rate)
		}
		calls, more, leave := s.stay(lctx, func() int { return int(t.made.Load()) })
		defer leave()
		s.more = more
		defer t.close()
		var res page.PassResult
		if err = t.run(calls); err == nil {
			res, err = t.result(calls)
		}
		switch cause := context.Cause(calls); {
		case err == nil:
			r.Log.Info("pass over pages", "incident", p.Incident, "pass", p.ID, "provider", p.Provider, "account", p.Account, "verb", string(v),
				"rows", len(t.rows), "made", res.Made, "left", res.Left, "groups", len(res.Groups), "took_ms", time.Since(began).Milliseconds())
			return res, nil
		case errors.Is(err, context.Canceled) && cause != nil:
			err = cause // why it was
		}
		return page.PassResult{}, err
	}
}

// A turnover is one attempt at a pass over pages.
type turnover struct {
	*passing
	in    page.Pass
	store *pagestore.Store
	facts *page.Facts
	rows  []page.Row
	todo  []int // rows that are due
	got   []answer

	made   atomic.Int64 // calls begun
	failed atomic.Pointer[fail]
	// effects are the journals in which creates without an outcome go on, by name.
	effects map[string]*openLog
}

// fail is why a pass gives no result.
type fail struct {
	err   error
	panic any
}

func (t *turnover) fails(f fail) { t.failed.CompareAndSwap(nil, &f) }

// due finds the rows that are called: they wait for the pass's verb, their time has
// come, and no gate keeps them. The workflow opens the gate of votes by asking for the
// pass; none of the others is opened for a page.
func (t *turnover) due(now time.Time) {
	if t.in.Now.After(now) {
		now = t.in.Now // the clocks of workflow and worker may differ: it would ask again at once
	}
	for i := range t.rows {
		n := &t.rows[i].Next
		if n.Verb == t.in.Verb && (n.Gate == "" || n.Gate == page.GateVotes) && !n.Due.After(now) {
			t.todo = append(t.todo, i)
		}
	}
	t.got = make([]answer, len(t.todo))
	t.infos = map[string]activities.VerbInfo{}
	for _, i := range t.todo {
		if kind := t.rows[i].Kind; !t.has(kind) {
			t.infos[kind] = t.info(kind)
		}
	}
}

func (t *turnover) has(kind string) bool {
	_, ok := t.infos[kind]
	return ok
}

// group is for how many rows a pass writes at once that their calls are about to be
// made, where they may be made again: whoever reads the journal knows which calls the
// death of a worker leaves open, within so many.
const group = 50

// intents are written by whoever comes to one of their rows first.
type intents struct {
	once sync.Once
	err  error
}

// intending gives the function that writes the intents of calls that may be made again.
func (t *turnover) intending() func(context.Context, activities.Request) error {
	groups := make([]intents, (len(t.todo)+group-1)/group)
	place := make(map[string]int, len(t.todo))
	for n, i := range t.todo {
		place[t.rows[i].FP] = n / group
	}
	return func(ctx context.Context, req activities.Request) error {
		n := place[req.Key.FP]
		g := &groups[n]
		g.once.Do(func() {
			rec := record{Kind: kindIntents, Pass: t.in.ID, At: t.last(), Epoch: t.Epoch}
			for _, i := range t.todo[n*group : min(len(t.todo), n*group+group)] {
				rec.FPs = append(rec.FPs, t.rows[i].FP)
			}
			g.err = t.own.append(ctx, rec, false)
		})
		return g.err
	}
}

// run makes the calls, a bounded number at once.
func (t *turnover) run(ctx context.Context) error {
	t.due(t.last())
	if len(t.todo) == 0 {
		return ctx.Err()
	}
	if t.in.Verb.Mutates() {
		if err := t.open(ctx); err != nil {
			return err
		}
	}
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(len(t.todo), t.Limits.Width()) {
		wg.Go(func() {
			defer func() {
				if p := recover(); p != nil {
					t.fails(fail{panic: p})
				}
			}()
			for t.failed.Load() == nil {
				n := int(next.Add(1)) - 1
				if n >= len(t.todo) {
					return
				}
				if err := t.row(ctx, n); err != nil {
					t.fails(fail{err: err})
				}
			}
		})
	}
	wg.Wait()
	if f := t.failed.Load(); f != nil {
		if f.panic != nil {
			panic(f.panic) // on the activity's own goroutine: the worker reports it
		}
		return f.err
	}
	return ctx.Err()
}

// open opens the pass's own journal, and those in which creates go on.
func (t *turnover) open(ctx context.Context) (err error) {
	name := journalName(t.in.Incident, t.in.ID)
	if t.own, err = t.logs.get(ctx, t.Journals, name, t.lease.Term()); err != nil {
		return err
	}
	t.effects = map[string]*openLog{name: t.own}
	t.intend = t.intending()
	for _, i := range t.todo {
		effect := t.rows[i].Effect
		if t.effects[effect] != nil || effect == "" || t.in.Verb != activities.Issue {
			continue
		}
		log, err := t.logs.get(ctx, t.Journals, effect, t.lease.Term())
		if err != nil {
			return err
		}
		t.effects[effect] = log
	}
	return nil
}

func (t *turnover) close() {
	for _, log := range t.effects {
		t.shut(log)
	}
}

// log gives the journal of a row.
func (t *turnover) log(r *page.Row) *openLog {
	if l, ok := t.effects[r.Effect]; ok && t.in.Verb == activities.Issue {
		return l
	}
	return t.own
}

// row gets the answer for one row, and what it needs next.
func (t *turnover) row(ctx context.Context, n int) error {
	row := &t.rows[t.todo[n]]
	if !t.facts.Ready(row, t.last()) {
		t.got[n].how = needless
		return nil
	}
	log := t.log(row)
	a, err := t.one(ctx, t.facts.Request(row, t.last()), log)
	if err != nil {
		return err
	}
	t.got[n] = a
	effect := ""
	if log != nil {
		effect = log.name.name
	}
	if a.pending && t.in.Verb == activities.Issue {
		t.facts.Pending(row, effect) // whoever has the row next must find it
	}
	switch a.how {
	case stopped:
		t.facts.Later(row, a.until, t.last())
		return nil
	case left:
		return nil
	case called:
		t.made.Add(1)
	}
	if log != t.own {
		// What this pass did is in its own journal too, which its result names.
		rec := record{Kind: kindOutcome, Pass: t.in.ID, FP: row.FP, N: a.N, At: a.At, Attempt: &a.Attempt}
		if err := t.own.append(context.WithoutCancel(ctx), rec, false); err != nil {
			return err
		}
	}
	// The answer's own time: an attempt that has it from the journal gives the same row.
	t.facts.Advance(row, a.Attempt, effect, a.At)
	return nil
}

// load reads the facts and the pages.
func (t *turnover) load(ctx context.Context) error {
	b, err := t.Blobs.Get(ctx, t.in.Facts)
	if err == nil {
		t.facts, err = page.DecodeFacts(b)
	}
	if err != nil {
		return unreadable("facts", t.in.Facts, err)
	}
	pages := make([][]page.Row, max(len(t.in.Pages), 1))
	err = atOnce(len(t.in.Pages), func(i int) (err error) {
		pages[i], err = t.store.Rows(ctx, t.in.Pages[i])
		return unreadable("page", t.in.Pages[i], err)
	})
	if err != nil {
		return err
	}
	if t.rows = pages[0]; len(pages) > 1 {
		t.rows = slices.Concat(pages...)
	}
	return t.check()
}

// check refuses what no workflow of this build asks for: calls would go to another
// account, or twice.
func (t *turnover) check() error {
	wrong := ""
	seen := make(map[string]bool, len(t.rows))
	for i := range t.rows {
		r := &t.rows[i]
		switch {
		case r.Provider != t.in.Provider || r.Account != t.in.Account:
			wrong = fmt.Sprintf("row %s is of account %s/%s", r.Key().Short(), r.Provider, r.Account)
		case seen[r.FP]:
			wrong = fmt.Sprintf("row %s is there twice", r.Key().Short())
		}
		seen[r.FP] = true
	}
	if len(t.rows) > page.Size {
		wrong = fmt.Sprintf("%d rows are more than %d", len(t.rows), page.Size)
	}
	if t.facts.Incident != t.in.Incident {
		wrong = "its facts are of incident " + t.facts.Incident
	}
	if wrong == "" {
		return nil
	}
	return temporal.NewNonRetryableApplicationError(fmt.Sprintf("pass %s over pages of %s/%s: %s; nothing was called", t.in.ID, t.in.Provider, t.in.Account, wrong), string(activities.ClassInvalid), nil)
}

// unreadable says which blob cannot be read, and whether a repeat may mend that.
func unreadable(what, hash string, err error) error {
	var missing *blob.NotFoundError
	var damaged *blob.CorruptError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &missing), errors.As(err, &damaged):
		return temporal.NewNonRetryableApplicationError(fmt.Sprintf("nothing was called, because the pass's %s is lost: %v", what, err), page.Lost, nil)
	case errors.Is(err, page.ErrSchema):
		return temporal.NewNonRetryableApplicationError(fmt.Sprintf("nothing was called, because this worker cannot read %s %s: %v", what, hash, err), page.OtherBuild, nil)
	}
	return fmt.Errorf("%s %s: %w", what, hash, err)
}
