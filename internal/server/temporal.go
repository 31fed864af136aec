package server

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"

	"rekey/internal/canon"
	"rekey/internal/page"
	"rekey/internal/plan"
	"rekey/internal/statement"
	"rekey/internal/view"
	"rekey/workflows"
)

// Temporal is the [Incidents] over a Temporal client.
type Temporal struct {
	Client    client.Client
	Namespace string
}

var _ Incidents = Temporal{}

// Show implements Incidents.
func (t Temporal) Show(ctx context.Context, id string) (v view.Incident, err error) {
	err = t.query(ctx, id, workflows.QueryShow, &v)
	return v, err
}

// Items implements Incidents.
func (t Temporal) Items(ctx context.Context, id string) (v []view.Item, err error) {
	err = t.query(ctx, id, workflows.QueryItems, &v)
	return v, err
}

// Plan implements Incidents. Before there is a plan it gives an empty one.
func (t Temporal) Plan(ctx context.Context, id string) (v plan.Plan, err error) {
	err = t.query(ctx, id, workflows.QueryPlan, &v)
	if errors.As(err, new(*serviceerror.QueryFailed)) {
		return plan.Plan{}, nil
	}
	return v, err
}

// Pages says where the rows of a large incident are; of a small one, or one of a build
// before, that there are none.
func (t Temporal) Pages(ctx context.Context, id string) (v workflows.PagesState, err error) {
	err = t.query(ctx, id, workflows.QueryPages, &v)
	if errors.As(err, new(*serviceerror.QueryFailed)) {
		return workflows.PagesState{}, nil
	}
	return v, err
}

// Groups gives the pages of rows that a running wave moves, each with what its rows need
// next.
func (t Temporal) Groups(ctx context.Context, wave string) (v []page.Group, err error) {
	answer, err := t.Client.QueryWorkflow(ctx, wave, "", workflows.QueryPages)
	if err != nil {
		return nil, unknownOr(err)
	}
	err = answer.Get(&v)
	return v, err
}

func (t Temporal) query(ctx context.Context, id, name string, out any) error {
	answer, err := t.Client.QueryWorkflow(ctx, workflows.IncidentID(id), "", name)
	if err != nil {
		return unknownOr(err)
	}
	return answer.Get(out)
}

func unknownOr(err error) error {
	var missing *serviceerror.NotFound
	if errors.As(err, &missing) {
		return ErrUnknown
	}
	return err
}

// Decide implements Incidents. The update's id is new for each request, so that the
// very same statement, sent again by whoever copied it, reaches the incident, which
// refuses its used nonce on record. Repeats below this call, after a lost answer of
// Temporal, carry the same id and are one update.
func (t Temporal) Decide(ctx context.Context, s statement.Signed) (d workflows.Decision, err error) {
	id := workflows.IncidentID(s.Statement.Incident)
	h, err := t.Client.UpdateWorkflow(ctx, client.UpdateWorkflowOptions{
		UpdateID: "st-" + rand.Text(), WorkflowID: id,
		UpdateName: s.Statement.Action, Args: []any{s}, WaitForStage: client.WorkflowUpdateStageCompleted,
	})
	if err == nil {
		err = h.Get(ctx, &d)
	}
	if err == nil {
		return d, nil
	}
	return d, t.refused(ctx, id, err)
}

// refused tells the incident's no from "cannot be reached".
func (t Temporal) refused(ctx context.Context, id string, err error) error {
	var app *temporal.ApplicationError
	if errors.As(err, &app) {
		var body view.ErrorBody
		if app.Type() == workflows.RefusalType && app.HasDetails() && app.Details(&body) == nil && body.Code != "" {
			return &Refused{body}
		}
		return &Refused{view.ErrorBody{Code: view.CodeInvalid, Message: "the incident did not take the statement", Do: "look at the incident (`rekey incident show`) and sign again"}}
	}
	if errors.Is(unknownOr(err), ErrUnknown) {
		if _, err := t.Client.DescribeWorkflowExecution(ctx, id, ""); err != nil {
			return unknownOr(err)
		}
		return &Refused{view.ErrorBody{Code: view.CodeClosed, Message: "the incident is over", Do: "report the key again to reopen it"}}
	}
	return err
}

// States are the values of a list's filter. Visibility knows whether an incident
// runs, not what it waits for: `open` holds those that wait too.
func States() []string { return []string{"open", "contained", "all-clear"} }

// List implements Incidents, from visibility: it needs no worker and may lag a
// moment behind. An incident that was reopened is shown once, by its last run.
func (t Temporal) List(ctx context.Context, f Filter) (view.List, error) {
	out := view.List{Schema: view.SchemaIncident, Incidents: []view.Summary{}}
	token, err := base64.RawURLEncoding.DecodeString(f.After)
	if err != nil {
		return out, bad(400, view.CodeInvalid, "give the `next` of the page before", "the cursor is not one")
	}
	query := fmt.Sprintf("WorkflowType = '%s' AND ExecutionStatus != 'ContinuedAsNew'", workflows.TypeIncident)
	switch f.State {
	case "open":
		query += " AND ExecutionStatus = 'Running'"
	case "contained":
		query += " AND ExecutionStatus != 'Running' AND RekeyOpenItems > 0"
	case "all-clear":
		query += " AND ExecutionStatus != 'Running' AND RekeyOpenItems = 0"
	}
	page, err := t.Client.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{
		Namespace: t.Namespace, PageSize: int32(f.Size), NextPageToken: token, Query: query, //nolint:gosec // a page size, bounded above
	})
	var invalid *serviceerror.InvalidArgument
	if errors.As(err, &invalid) && f.After != "" {
		return out, bad(400, view.CodeInvalid, "give the `next` of the page before", "the cursor is not one")
	}
	if err != nil {
		return out, err
	}
	seen := map[string]bool{}
	for _, e := range page.GetExecutions() {
		s := summary(e)
		if !seen[s.ID] {
			seen[s.ID] = true
			out.Incidents = append(out.Incidents, s)
		}
	}
	out.Next = base64.RawURLEncoding.EncodeToString(page.GetNextPageToken())
	return out, nil
}

func summary(e *workflowpb.WorkflowExecutionInfo) view.Summary {
	a := e.GetSearchAttributes().GetIndexedFields()
	s := view.Summary{
		ID:    strings.TrimPrefix(e.GetExecution().GetWorkflowId(), workflows.IncidentID("")),
		Phase: attribute[string](a, "RekeyPhase"), Severity: attribute[string](a, "RekeySeverity"),
		Open: attribute[int](a, "RekeyOpenItems"), Provider: strings.Join(attribute[[]string](a, "RekeyProvider"), ","),
		Started: canon.Time(e.GetStartTime().AsTime()),
	}
	switch {
	case e.GetStatus() == enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING:
		s.State = "open"
	case s.Open > 0:
		s.State = "contained"
	default:
		s.State = "all-clear"
	}
	return s
}

// attribute is the zero value where the namespace lacks it.
func attribute[T any](fields map[string]*commonpb.Payload, name string) (v T) {
	if p := fields[name]; p != nil {
		if err := converter.GetDefaultDataConverter().FromPayload(p, &v); err != nil {
			var zero T
			return zero
		}
	}
	return v
}

// errNoWorker is an answer of its own on /readyz.
var errNoWorker = bad(503, "no-worker", "start `rekey worker` (`rekey up` has one), or wait for it", "Temporal answers, and no worker polls")

// Ready implements Incidents: Temporal answers and a worker polls the queue of
// the workflows.
func (t Temporal) Ready(ctx context.Context) error {
	for _, kind := range []enumspb.TaskQueueType{enumspb.TASK_QUEUE_TYPE_WORKFLOW, enumspb.TASK_QUEUE_TYPE_ACTIVITY} {
		d, err := t.Client.DescribeTaskQueue(ctx, workflows.TaskQueue, kind)
		if err != nil {
			return err
		}
		if len(d.GetPollers()) == 0 {
			return errNoWorker
		}
	}
	return nil
}
