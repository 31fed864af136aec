package workflows

import (
	"errors"
	"fmt"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"
)

// AccountInput starts the workflow that keeps the lease of a provider account, or
// its next run.
type AccountInput struct {
	Provider string `json:"provider"`
	Account  string `json:"account"`
	// Term is the number of the last hold. It only grows, also when the workflow
	// was terminated and begun anew, so that a journal tells an old holder from a
	// new one by it.
	Term uint64 `json:"term,omitempty"`
	// Stops are what the account was told to wait for, by API.
	Stops map[string]time.Time `json:"stops,omitempty"`
}

// HoldInput asks a process to hold an account.
type HoldInput struct {
	Provider string `json:"provider"`
	Account  string `json:"account"`
	Term     uint64 `json:"term"`
	// LeaseMs is the span of one renewal, TermMs how long this hold lasts at most.
	LeaseMs int64 `json:"lease_ms"`
	TermMs  int64 `json:"term_ms"`
	// Stops are obeyed by the new holder too (world's time).
	Stops map[string]time.Time `json:"stops,omitempty"`
	// Handed: the holder before ended in order a moment ago, so that its budget may
	// be used up.
	Handed bool `json:"handed,omitempty"`
}

// HoldResult is how a hold ended, and the details of each renewal.
type HoldResult struct {
	Stops map[string]time.Time `json:"stops,omitempty"`
}

// Account keeps the lease of one provider account: one process at a time runs the
// activity [ActivityHold], and only that process calls the account. The lease is
// the activity's heartbeat time-out: a renewal writes nothing into the history, and
// Temporal gives the account to another process only after the holder has let the
// time-out pass, or has ended in order.
//
// It never ends by itself. It continues as new when its history is long.
func Account(ctx workflow.Context, in AccountInput) error {
	handed := false
	for {
		// Not below the clock: a term of a workflow that was terminated is lower.
		in.Term = max(in.Term+1, uint64(max(workflow.Now(ctx).UnixMilli(), 0)))
		workflow.SetCurrentDetails(ctx, fmt.Sprintf("Lease of account %s/%s, term %d. Its holder is the worker of the pending activity.", in.Provider, in.Account, in.Term))
		var out HoldResult
		err := workflow.ExecuteActivity(holdOptions(ctx, fmt.Sprintf("hold %s/%s", in.Provider, in.Account)), ActivityHold, HoldInput{
			Provider: in.Provider, Account: in.Account, Term: in.Term, LeaseMs: Lease.Milliseconds(), TermMs: holdTerm.Milliseconds(),
			Stops: in.Stops, Handed: handed,
		}).Get(ctx, &out)
		if temporal.IsCanceledError(err) || ctx.Err() != nil {
			return err
		}
		var lost *temporal.TimeoutError
		switch {
		case err == nil:
			handed, in.Stops = true, out.Stops
		case errors.As(err, &lost):
			// The holder is gone, and its last renewal says what it was told.
			handed = false
			var last HoldResult
			if lost.HasLastHeartbeatDetails() && lost.LastHeartbeatDetails(&last) == nil {
				in.Stops = last.Stops
			}
		default:
			handed = false
			if err := workflow.Sleep(ctx, holdAgain); err != nil {
				return err
			}
		}
		if workflow.GetInfo(ctx).GetContinueAsNewSuggested() {
			return workflow.NewContinueAsNewError(ctx, TypeAccount, in)
		}
	}
}
