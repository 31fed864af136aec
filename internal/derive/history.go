package derive

import (
	"context"
	"errors"
	"fmt"
	"slices"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/proxy"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/temporalproto"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"

	"rekey/workflows"
)

// A Source reads histories from Temporal and decodes them.
type Source struct {
	Client client.Client
	Codec  converter.PayloadCodec
}

// Runs gives all runs of the workflows that Temporal still has, the oldest first,
// with their payloads decoded. A run that retention has taken is named in gone.
func (s Source) Runs(ctx context.Context, workflowIDs []string) (runs []Run, gone []string, err error) {
	for _, id := range workflowIDs {
		var chain []Run
		runID := ""
		for {
			r, before, err := s.run(ctx, id, runID)
			var missing *serviceerror.NotFound
			if errors.As(err, &missing) {
				if runID != "" {
					gone = append(gone, id+" run "+runID)
				}
				break
			}
			if err != nil {
				return nil, nil, fmt.Errorf("history of %s: %w", id, err)
			}
			chain = append(chain, r)
			if before == "" {
				break
			}
			runID = before
		}
		slices.Reverse(chain)
		runs = append(runs, chain...)
	}
	return runs, gone, nil
}

// run reads one run and says which run came before it.
func (s Source) run(ctx context.Context, id, runID string) (Run, string, error) {
	h := &historypb.History{}
	it := s.Client.GetWorkflowHistory(ctx, id, runID, false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for it.HasNext() {
		e, err := it.Next()
		if err != nil {
			return Run{}, "", err
		}
		h.Events = append(h.Events, e)
	}
	if err := s.decode(ctx, h); err != nil {
		return Run{}, "", err
	}
	if len(h.Events) == 0 {
		return Run{}, "", serviceerror.NewNotFound("empty history")
	}
	started := h.Events[0].GetWorkflowExecutionStartedEventAttributes()
	r := Run{Workflow: id, ID: started.GetOriginalExecutionRunId(), Type: started.GetWorkflowType().GetName(), History: h}
	if runID != "" {
		r.ID = runID
	}
	before := started.GetContinuedExecutionRunId()
	if before == "" && r.Type == workflows.TypeIncident {
		var in workflows.IncidentInput
		if err := converter.GetDefaultDataConverter().FromPayloads(started.GetInput(), &in); err == nil && in.Reopened != nil {
			before = in.Reopened.Run
		}
	}
	return r, before, nil
}

func (s Source) decode(ctx context.Context, h *historypb.History) error {
	if s.Codec == nil {
		return nil
	}
	return proxy.VisitPayloads(ctx, h, proxy.VisitPayloadsOptions{
		SkipSearchAttributes: true,
		Visitor: func(_ *proxy.VisitPayloadsContext, p []*commonpb.Payload) ([]*commonpb.Payload, error) {
			return s.Codec.Decode(p)
		},
	})
}

// JSON writes a history as Temporal's tools read it: it can be replayed.
func JSON(h *historypb.History) ([]byte, error) {
	b, err := temporalproto.CustomJSONMarshalOptions{}.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("history as JSON: %w", err)
	}
	return b, nil
}
