package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/proxy"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	sdklog "go.temporal.io/sdk/log"
	sdk "go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"rekey/internal/codec"
)

// A BreaksError says that this build cannot go on with a running workflow.
type BreaksError struct{ Workflow, Run string }

func (e *BreaksError) Error() string {
	return fmt.Sprintf("this build would break %s (run %s): it was started by another version whose steps differ; run that version until it ends, or install one that knows its steps. Nothing was started", e.Workflow, e.Run)
}

// ReplayOpen replays every open history with this build's workflows before
// anything polls, and fails with *BreaksError on the first that differs.
func (r *Runtime) ReplayOpen(ctx context.Context, c client.Client) (int, error) {
	return r.replayAll(ctx, c, "ExecutionStatus = 'Running'")
}

func (r *Runtime) replayAll(ctx context.Context, c client.Client, query string) (int, error) {
	return r.eachOpen(ctx, c, query, func(id, run string, err error) error {
		if err != nil {
			return errors.Join(&BreaksError{id, run}, err)
		}
		return nil
	})
}

// eachOpen replays what a query finds, and tells each whether this build goes on with
// it (nil) or not. It gives how many were replayed, and ends with the first error that
// each returns. What no build has begun yet is told as nil.
func (r *Runtime) eachOpen(ctx context.Context, c client.Client, query string, each func(id, run string, err error) error) (int, error) {
	rp, err := sdk.NewWorkflowReplayerWithOptions(sdk.WorkflowReplayerOptions{DataConverter: r.DataConverter(), FailureConverter: codec.NewFailureConverter(r.Keys)})
	if err != nil {
		return 0, err
	}
	Register(replayRegistry{rp})
	n := 0
	var page []byte
	for {
		res, err := c.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{Namespace: r.Namespace(), Query: query, NextPageToken: page})
		if err != nil {
			return n, fmt.Errorf("list open workflows: %w", err)
		}
		for _, e := range res.GetExecutions() {
			id, run := e.GetExecution().GetWorkflowId(), e.GetExecution().GetRunId()
			h := &historypb.History{}
			it := c.GetWorkflowHistory(ctx, id, run, false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
			for it.HasNext() {
				ev, err := it.Next()
				if err != nil {
					return n, fmt.Errorf("history of %s: %w", id, err)
				}
				h.Events = append(h.Events, ev)
			}
			var broken error
			if ran(h) { // else no workflow task was completed yet: any build may begin it
				broken = rp.ReplayWorkflowHistory(sdklog.NewStructuredLogger(slog.New(slog.DiscardHandler)), h)
				n++
			}
			if broken != nil {
				// A key that is missing here says nothing about the build.
				if err := r.readable(ctx, h); err != nil {
					return n, fmt.Errorf("%s (run %s) cannot be replayed: %w", id, run, err)
				}
			}
			if err := each(id, run, broken); err != nil {
				return n, err
			}
		}
		if page = res.GetNextPageToken(); len(page) == 0 {
			return n, nil
		}
	}
}

// readable fails where a history is sealed under a key that is not here, or is
// another one of that name.
func (r *Runtime) readable(ctx context.Context, h *historypb.History) error {
	decode := codec.New(r.Keys)
	return proxy.VisitPayloads(ctx, &workflowservice.GetWorkflowExecutionHistoryResponse{History: h}, proxy.VisitPayloadsOptions{SkipSearchAttributes: true, Visitor: func(_ *proxy.VisitPayloadsContext, p []*commonpb.Payload) ([]*commonpb.Payload, error) {
		_, err := decode.Decode(p)
		var plain *codec.PlaintextError
		if err != nil && !errors.As(err, &plain) {
			return nil, err
		}
		return p, nil
	}})
}

func ran(h *historypb.History) bool {
	for _, e := range h.GetEvents() {
		if e.GetEventType() == enumspb.EVENT_TYPE_WORKFLOW_TASK_COMPLETED {
			return true
		}
	}
	return false
}

// replayRegistry lets [Register] fill a replayer.
type replayRegistry struct{ sdk.WorkflowReplayer }

func (r replayRegistry) RegisterWorkflowWithOptions(w any, o workflow.RegisterOptions) {
	r.WorkflowReplayer.RegisterWorkflowWithOptions(w, o)
}
