package intake

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"

	"rekey/workflows"
)

// Claim implements Engine: update-with-start, p50 9 ms (reference/temporal.md), and
// again in the next volume for what a full register sends on.
//
// A claim is idempotent, so an answer that was lost is asked for again. A register
// takes ten updates at a time and continues as new after 1,800: what it refuses
// meanwhile is asked again too, with growing pauses, until ctx ends.
func (t Temporal) Claim(ctx context.Context, register string, c workflows.Claim) (workflows.ClaimResult, error) {
	out := workflows.ClaimResult{Owners: map[string]string{}}
	for volume := 0; ; {
		res, err := t.patiently(ctx, workflows.RegisterVolume(register, volume), workflows.RegisterInput{Volume: volume}, c)
		if err != nil {
			return out, err
		}
		maps.Copy(out.Owners, res.Owners)
		out.New += res.New
		if len(res.Left) == 0 {
			return out, nil
		}
		if res.Next <= volume {
			return out, fmt.Errorf("%s sends claims back to volume %d", workflows.RegisterVolume(register, volume), res.Next)
		}
		volume, c.FPs = res.Next, res.Left
	}
}

// Pauses between claims that a register could not take. The SDK has its own below
// them, from 200 ms on.
const (
	claimPause    = 50 * time.Millisecond
	claimPauseMax = 2 * time.Second
)

func (t Temporal) patiently(ctx context.Context, id string, in workflows.RegisterInput, c workflows.Claim) (workflows.ClaimResult, error) {
	for pause := claimPause; ; pause = min(2*pause, claimPauseMax) {
		res, err := t.ask(ctx, id, in, c)
		if err == nil || !passing(err) {
			return res, err
		}
		wait := time.NewTimer(pause/2 + rand.N(pause)) //nolint:gosec // spreads callers; nothing to guess
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
			return res, err
		}
	}
}

// passing tells whether a register could not take a claim for a moment: it is busy,
// or between two runs.
func passing(err error) bool {
	var (
		busy    *serviceerror.ResourceExhausted
		away    *serviceerror.Unavailable
		aborted *serviceerror.Aborted
		over    *serviceerror.NotFound
	)
	return errors.As(err, &busy) || errors.As(err, &away) || errors.As(err, &aborted) || errors.As(err, &over)
}

func (t Temporal) ask(ctx context.Context, id string, in workflows.RegisterInput, c workflows.Claim) (workflows.ClaimResult, error) {
	var out workflows.ClaimResult
	start := t.Client.NewWithStartWorkflowOperation(client.StartWorkflowOptions{
		ID: id, TaskQueue: workflows.TaskQueue,
		WorkflowIDConflictPolicy: enumspb.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
		StaticSummary:            "which incident has which key",
	}, workflows.TypeRegister, in)
	h, err := t.Client.UpdateWithStartWorkflow(ctx, client.UpdateWithStartWorkflowOptions{
		StartWorkflowOperation: start,
		UpdateOptions: client.UpdateWorkflowOptions{
			WorkflowID: id, UpdateName: workflows.UpdateClaim, Args: []any{c}, WaitForStage: client.WorkflowUpdateStageCompleted,
		},
	})
	if err != nil {
		return out, err
	}
	err = h.Get(ctx, &out)
	return out, err
}
