package derive

import (
	"bytes"
	"context"
	"fmt"
	"time"

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

// Run reads one run, the latest where runID is "", with its payloads decoded. It
// fails with *serviceerror.NotFound where Temporal has no such run (any more).
func (s Source) Run(ctx context.Context, id, runID string) (Run, error) {
	h := &historypb.History{}
	it := s.Client.GetWorkflowHistory(ctx, id, runID, false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for it.HasNext() {
		e, err := it.Next()
		if err != nil {
			return Run{}, err
		}
		h.Events = append(h.Events, e)
	}
	if err := s.decode(ctx, h); err != nil {
		return Run{}, err
	}
	if len(h.Events) == 0 {
		return Run{}, serviceerror.NewNotFound("empty history")
	}
	r := ofHistory(id, h)
	if runID != "" {
		r.ID = runID
	}
	return r, nil
}

// Ended waits until a run, the latest where runID is "", has ended or ctx has.
func (s Source) Ended(ctx context.Context, id, runID string) error {
	_, err := s.Client.GetWorkflowHistory(ctx, id, runID, true, enumspb.HISTORY_EVENT_FILTER_TYPE_CLOSE_EVENT).Next()
	return err
}

func ofHistory(id string, h *historypb.History) Run {
	started := h.GetEvents()[0].GetWorkflowExecutionStartedEventAttributes()
	return Run{Workflow: id, ID: started.GetOriginalExecutionRunId(), Type: started.GetWorkflowType().GetName(), History: h}
}

// Before is the id of the run that this one goes on from: the one that continued as
// new, or the one of a closed incident that was reopened. "" where there is none.
func (r Run) Before() string {
	started := r.History.GetEvents()[0].GetWorkflowExecutionStartedEventAttributes()
	before := started.GetContinuedExecutionRunId()
	if before == "" && r.Type == workflows.TypeIncident {
		var in workflows.IncidentInput
		if err := converter.GetDefaultDataConverter().FromPayloads(started.GetInput(), &in); err == nil && in.Reopened != nil {
			before = in.Reopened.Run
		}
	}
	if before == "" && r.Type == workflows.TypeRecord {
		var in workflows.RecordInput
		if err := converter.GetDefaultDataConverter().FromPayloads(started.GetInput(), &in); err == nil {
			before = in.Before
		}
	}
	return before
}

// Ended tells whether the history is complete, and when its last event was.
func (r Run) Ended() (time.Time, bool) {
	last := r.History.GetEvents()[len(r.History.GetEvents())-1]
	switch last.GetEventType() {
	case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED, enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED,
		enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT, enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED,
		enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED, enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW:
		return last.GetEventTime().AsTime(), true
	}
	return time.Time{}, false
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

// Parse reads what [JSON] wrote of a run.
func Parse(workflow, run string, b []byte) (Run, error) {
	h, err := client.HistoryFromJSON(bytes.NewReader(b), client.HistoryJSONOptions{})
	if err != nil || len(h.GetEvents()) == 0 {
		return Run{}, fmt.Errorf("history of %s run %s is not one: restore it from backup", workflow, run)
	}
	r := ofHistory(workflow, h)
	r.ID = run
	return r, nil
}
