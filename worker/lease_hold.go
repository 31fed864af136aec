package worker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	sdk "go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"rekey/workflows"
)

// CannotHold is the type of the failure of a process that was asked to hold an
// account and cannot: another one is asked next.
const CannotHold = "cannot-hold"

// renewals is how many renewals are sent in one lease: three may be lost.
const renewals = 4

// holdTask bounds one step of the workflow that keeps a lease: it decides nothing
// but who is next, and a process that stands still must not keep it.
const holdTask = 2 * time.Second

// A holder holds accounts for this process, each with a lease and a worker on the
// account's queue.
type holder struct {
	p      *parts
	leases *leases
	// renew tells Temporal that the hold lives; serve starts the account's worker.
	renew func(ctx context.Context, token []byte, details workflows.HoldResult) error
	serve func(a served) (stop func(), err error)
	open  func(provider, name string) (any, error)
	wall  func() time.Time

	mu   sync.Mutex
	busy map[served]bool
}

func newHolder(p *parts, s *leases) *holder {
	return &holder{
		p: p, leases: s, open: p.r.Client, wall: time.Now, busy: map[served]bool{},
		renew: func(ctx context.Context, token []byte, d workflows.HoldResult) error {
			return p.client.RecordActivityHeartbeat(ctx, token, d)
		},
		serve: func(a served) (func(), error) {
			w := p.account(a.provider, a.name)
			if err := w.Start(); err != nil {
				return nil, err
			}
			return w.Stop, nil
		},
	}
}

// Hold is the activity [workflows.ActivityHold]: this process holds the account
// until it stops, the term is over, or a renewal is not taken in time.
//
// Renewals are sent here and not by activity.RecordHeartbeat: that one is throttled
// and tells no error, and the lease counts from the last renewal known to be taken.
func (h *holder) Hold(ctx context.Context, in workflows.HoldInput) (workflows.HoldResult, error) {
	return h.hold(ctx, activity.GetWorkerStopChannel(ctx), activity.GetInfo(ctx).TaskToken, in)
}

func (h *holder) hold(ctx context.Context, stopping <-chan struct{}, token []byte, in workflows.HoldInput) (workflows.HoldResult, error) {
	a := served{in.Provider, in.Account}
	name := in.Provider + "/" + in.Account
	if !h.enter(a) {
		return workflows.HoldResult{}, temporal.NewApplicationError("this worker is still ending its last hold of "+name, CannotHold)
	}
	defer h.leave(a)
	if _, err := h.open(in.Provider, in.Account); err != nil {
		h.p.log("this worker cannot hold an account: it is not configured here, or does not open", "account", name, "err", err)
		return workflows.HoldResult{}, temporal.NewApplicationError("this worker cannot open account "+name+": run `rekey doctor` on its host", CannotHold)
	}
	l := newLease(in.Term, time.Duration(in.LeaseMs)*time.Millisecond, h.wall)
	renewing := context.WithoutCancel(ctx) // also while the last passes end
	if err := h.once(renewing, l, token, a); err != nil {
		return workflows.HoldResult{}, err
	}
	h.take(a, l, in)
	defer h.leases.drop(a, l)
	var wg sync.WaitGroup
	wg.Go(l.watch)
	wg.Go(func() { h.keep(renewing, l, token, a) })
	defer wg.Wait()
	defer l.end(errReleased)
	stop, err := h.serve(a)
	if err != nil {
		return workflows.HoldResult{}, err
	}
	h.p.log("account is held", "account", name, "term", in.Term)
	term := time.NewTimer(time.Duration(in.TermMs) * time.Millisecond)
	defer term.Stop()
	select {
	case <-stopping:
	case <-ctx.Done():
	case <-term.C:
	case <-l.Ended():
	}
	stop() // polls no more, and waits for the passes that run; without lease they are cancelled
	if err := l.Check(); err != nil {
		h.p.log("account is lost", "account", name, "term", in.Term, "err", err)
		return workflows.HoldResult{}, err
	}
	h.p.log("account is handed over", "account", name, "term", in.Term)
	return h.told(a), nil
}

// enter lets one hold of an account be in this process: the next begins when the
// passes of the last one have ended.
func (h *holder) enter(a served) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.busy[a] {
		return false
	}
	h.busy[a] = true
	return true
}

func (h *holder) leave(a served) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.busy, a)
}

func (h *holder) take(a served, l *lease, in workflows.HoldInput) {
	h.p.limits.Take(a.provider, a.name, in.Stops, in.Handed)
	h.leases.put(a, l)
}

// told is what the account was told to wait for: the next holder obeys it.
func (h *holder) told(a served) workflows.HoldResult {
	return workflows.HoldResult{Stops: h.p.limits.Stops(a.provider, a.name, h.p.r.Now(context.Background()))}
}

// once sends one renewal.
func (h *holder) once(ctx context.Context, l *lease, token []byte, a served) error {
	s := l.sending()
	ctx, cancel := context.WithTimeout(ctx, l.span/2)
	defer cancel()
	if err := h.renew(ctx, token, h.told(a)); err != nil {
		return err
	}
	return l.renewed(s)
}

// keep renews until the lease ends. A renewal that Temporal refuses ends it at once;
// one that is lost is sent again.
func (h *holder) keep(ctx context.Context, l *lease, token []byte, a served) {
	every := (l.span + margin) / renewals
	t := time.NewTimer(every)
	defer t.Stop()
	for {
		select {
		case <-l.Ended():
			return
		case <-t.C:
		}
		switch err := h.once(ctx, l, token, a); {
		case err == nil:
			t.Reset(every)
		case refused(err):
			l.end(fmt.Errorf("the lease of the account was taken away: %w", errLeaseOver))
			return
		default:
			t.Reset(every / 4)
		}
	}
}

// refused tells whether Temporal knows the hold no more, or wants its end.
func refused(err error) bool {
	var gone *serviceerror.NotFound
	return errors.As(err, &gone) || temporal.IsCanceledError(err) || errors.Is(err, activity.ErrActivityPaused) || errors.Is(err, activity.ErrActivityReset)
}

func (p *parts) log(msg string, args ...any) { p.r.Log.Info(msg, args...) }

// RunShared polls until ctx ends, as one of several processes that share an
// installation: workflows and the engine's steps at once, an account's queue while
// this process has the account's lease. It starts the workflows that keep the
// leases of its accounts. When ctx ends, running passes finish, leases are handed
// over, and it returns.
func (r *Runtime) RunShared(ctx context.Context, c client.Client) error {
	s := newLeases()
	r.leases = s
	p := r.newParts(c, s.get)
	// Few pollers and short waits: a process that stands still keeps its polls open,
	// and each takes a task with it until the task's time-out.
	holds := sdk.New(c, workflows.HoldQueue, p.options(sdk.Options{
		WorkerStopTimeout: graceful, MaxConcurrentActivityTaskPollers: 1, StickyScheduleToStartTimeout: time.Second,
	}))
	holds.RegisterWorkflowWithOptions(workflows.Account, workflow.RegisterOptions{Name: workflows.TypeAccount})
	holds.RegisterActivityWithOptions(newHolder(p, s).Hold, activity.RegisterOptions{Name: workflows.ActivityHold})
	if err := r.keepAccounts(ctx, c); err != nil {
		return err
	}
	return r.poll(ctx, c, []sdk.Worker{p.shared(), holds})
}

// keepAccounts starts the workflow of each configured account that has none.
func (r *Runtime) keepAccounts(ctx context.Context, c client.Client) error {
	for _, a := range r.accounts() {
		_, err := c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
			ID: workflows.AccountID(a.provider, a.name), TaskQueue: workflows.HoldQueue, WorkflowTaskTimeout: holdTask,
			WorkflowIDConflictPolicy: enumspb.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
			WorkflowIDReusePolicy:    enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
			StaticSummary:            "lease of " + a.provider + "/" + a.name,
		}, workflows.TypeAccount, workflows.AccountInput{Provider: a.provider, Account: a.name})
		if err != nil {
			return fmt.Errorf("lease of account %s/%s: %w", a.provider, a.name, err)
		}
	}
	return nil
}
