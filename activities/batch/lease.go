package batch

import (
	"context"

	"go.temporal.io/sdk/activity"
)

// whole is the lease of a process that holds the whole installation: it ends with
// the process.
type whole struct{}

func (whole) Term() uint64           { return 0 }
func (whole) Check() error           { return nil }
func (whole) Ended() <-chan struct{} { return nil }

func (r *Runner) lease(provider, account string) (Lease, error) {
	if r.Lease == nil {
		return whole{}, nil
	}
	l, err := r.Lease(provider, account)
	if err != nil {
		return nil, err
	}
	return l, l.Check()
}

// within gives a context that ends with the lease, so that no call outlives it.
func within(ctx context.Context, l Lease) (context.Context, func()) {
	if l.Ended() == nil {
		return ctx, func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		select {
		case <-l.Ended():
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// stopping gives a context that ends when the worker of this activity begins to stop.
func stopping(ctx context.Context) (context.Context, func()) {
	if !activity.IsActivity(ctx) {
		return ctx, func() {}
	}
	stop := activity.GetWorkerStopChannel(ctx)
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		select {
		case <-stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}
