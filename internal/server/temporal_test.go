package server_test

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/mocks"
	"go.temporal.io/sdk/temporal"
	"google.golang.org/protobuf/types/known/timestamppb"

	"rekey/internal/plan"
	"rekey/internal/server"
	"rekey/internal/view"
	"rekey/workflows"
)

func TestTemporalQueries(t *testing.T) {
	const id = "incident/" + known
	for name, tt := range map[string]struct {
		err     error
		unknown bool
		fails   bool
	}{
		"answered": {},
		"unknown":  {err: serviceerror.NewNotFound("no"), unknown: true},
		"down":     {err: serviceerror.NewUnavailable("no"), fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			c := mocks.NewClient(t)
			v := mocks.NewEncodedValue(t)
			if tt.err == nil {
				v.On("Get", mock.Anything).Run(func(a mock.Arguments) { a.Get(0).(*view.Incident).ID = known }).Return(nil)
			}
			c.On("QueryWorkflow", mock.Anything, id, "", workflows.QueryShow).Return(v, tt.err)
			got, err := server.Temporal{Client: c}.Show(t.Context(), known)
			require.Equal(t, tt.unknown, errors.Is(err, server.ErrUnknown))
			require.Equal(t, tt.fails || tt.unknown, err != nil)
			if err == nil {
				require.Equal(t, known, got.ID)
			}
		})
	}
	c := mocks.NewClient(t)
	c.On("QueryWorkflow", mock.Anything, id, "", workflows.QueryPlan).Return(nil, serviceerror.NewQueryFailed("there is no plan yet"))
	p, err := server.Temporal{Client: c}.Plan(t.Context(), known)
	require.NoError(t, err)
	require.Equal(t, plan.Plan{}, p)
}

func TestTemporalDecide(t *testing.T) {
	body := view.ErrorBody{Code: view.CodeSelfApproval, Message: "m", Do: "d"}
	refusal := temporal.NewApplicationErrorWithOptions("m", workflows.RefusalType, temporal.ApplicationErrorOptions{Details: []any{body}})
	for name, tt := range map[string]struct {
		updateErr, getErr error
		describe          error
		described         bool
		want              error
		refused           string
		other             bool
	}{
		"taken":                         {},
		"refused":                       {getErr: refusal, refused: view.CodeSelfApproval},
		"refused at once":               {updateErr: refusal, refused: view.CodeSelfApproval},
		"malformed":                     {getErr: temporal.NewApplicationError("not a signed statement", ""), refused: view.CodeInvalid},
		"over":                          {updateErr: serviceerror.NewNotFound("completed"), described: true, refused: view.CodeClosed},
		"unknown":                       {updateErr: serviceerror.NewNotFound("none"), described: true, describe: serviceerror.NewNotFound("none"), want: server.ErrUnknown},
		"Temporal is down":              {updateErr: serviceerror.NewUnavailable("x"), other: true},
		"too many updates at once":      {updateErr: serviceerror.NewResourceExhausted(enumspb.RESOURCE_EXHAUSTED_CAUSE_CONCURRENT_LIMIT, "x"), other: true},
		"down while it is looked after": {updateErr: serviceerror.NewNotFound("?"), described: true, describe: serviceerror.NewUnavailable("x"), other: true},
	} {
		t.Run(name, func(t *testing.T) {
			c := mocks.NewClient(t)
			h := mocks.NewWorkflowUpdateHandle(t)
			if tt.updateErr == nil {
				h.On("Get", mock.Anything, mock.Anything).Run(func(a mock.Arguments) {
					a.Get(1).(*workflows.Decision).State = "granted"
				}).Return(tt.getErr)
			}
			var sent []client.UpdateWorkflowOptions
			c.On("UpdateWorkflow", mock.Anything, mock.Anything).Run(func(a mock.Arguments) {
				sent = append(sent, a.Get(1).(client.UpdateWorkflowOptions))
			}).Return(h, tt.updateErr)
			if tt.described {
				c.On("DescribeWorkflowExecution", mock.Anything, "incident/"+known, "").Return(nil, tt.describe)
			}
			d, err := server.Temporal{Client: c}.Decide(t.Context(), goodStatement())
			require.Len(t, sent, 1)
			require.Equal(t, "approve", sent[0].UpdateName)
			require.Equal(t, client.WorkflowUpdateStageCompleted, sent[0].WaitForStage)
			require.Equal(t, []any{goodStatement()}, sent[0].Args)

			var refused *server.Refused
			switch {
			case tt.refused != "":
				require.ErrorAs(t, err, &refused)
				require.Equal(t, tt.refused, refused.Body.Code)
			case tt.want != nil:
				require.ErrorIs(t, err, tt.want)
			case tt.other:
				require.Error(t, err)
				require.False(t, errors.As(err, &refused) || errors.Is(err, server.ErrUnknown))
			default:
				require.NoError(t, err)
				require.Equal(t, "granted", d.State)
			}
		})
	}
}

func TestUpdateIDs(t *testing.T) {
	var ids []string
	c := mocks.NewClient(t)
	c.On("UpdateWorkflow", mock.Anything, mock.Anything).Run(func(a mock.Arguments) {
		ids = append(ids, a.Get(1).(client.UpdateWorkflowOptions).UpdateID)
	}).Return(nil, serviceerror.NewUnavailable("x"))
	engine := server.Temporal{Client: c}
	_, _ = engine.Decide(t.Context(), goodStatement())
	_, _ = engine.Decide(t.Context(), goodStatement())
	require.NotEqual(t, ids[0], ids[1], "a statement that is sent again must reach the incident, which refuses it on record")
}

func TestTemporalList(t *testing.T) {
	payload := func(v any) *commonpb.Payload {
		p, err := converter.GetDefaultDataConverter().ToPayload(v)
		require.NoError(t, err)
		return p
	}
	execution := func(id string, status enumspb.WorkflowExecutionStatus, open int, more ...string) *workflowpb.WorkflowExecutionInfo {
		fields := map[string]*commonpb.Payload{"RekeyOpenItems": payload(open), "RekeyProvider": payload([]string{"awsiam"})}
		if len(more) > 0 {
			fields["RekeyPhase"], fields["RekeySeverity"] = payload(more[0]), payload(more[1])
		}
		return &workflowpb.WorkflowExecutionInfo{
			Execution: &commonpb.WorkflowExecution{WorkflowId: "incident/" + id}, Status: status,
			StartTime:        timestamppb.New(time.Date(2026, 11, 21, 3, 0, 0, 0, time.UTC)),
			SearchAttributes: &commonpb.SearchAttributes{IndexedFields: fields},
		}
	}
	running, completed := enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING, enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED
	var asked *workflowservice.ListWorkflowExecutionsRequest
	c := mocks.NewClient(t)
	c.On("ListWorkflow", mock.Anything, mock.Anything).Run(func(a mock.Arguments) {
		asked = a.Get(1).(*workflowservice.ListWorkflowExecutionsRequest)
	}).Return(&workflowservice.ListWorkflowExecutionsResponse{
		Executions: []*workflowpb.WorkflowExecutionInfo{
			execution("inc-000000000001", running, 3, "act", "critical"),
			execution("inc-000000000002", completed, 1), execution("inc-000000000003", completed, 0),
			execution("inc-000000000001", completed, 0),
		},
		NextPageToken: []byte("token"),
	}, nil)
	engine := server.Temporal{Client: c, Namespace: "rekey"}
	l, err := engine.List(t.Context(), server.Filter{Size: 50})
	require.NoError(t, err)
	require.Equal(t, view.List{Schema: "rekey.incident/v1", Next: "dG9rZW4", Incidents: []view.Summary{
		{ID: "inc-000000000001", Phase: "act", State: "open", Severity: "critical", Open: 3, Started: "2026-11-21T03:00:00.000Z", Provider: "awsiam"},
		{ID: "inc-000000000002", State: "contained", Open: 1, Started: "2026-11-21T03:00:00.000Z", Provider: "awsiam"},
		{ID: "inc-000000000003", State: "all-clear", Started: "2026-11-21T03:00:00.000Z", Provider: "awsiam"},
	}}, l, "a reopened incident once, by its last run")
	require.Equal(t, "WorkflowType = 'Incident' AND ExecutionStatus != 'ContinuedAsNew'", asked.Query)
	require.Equal(t, int32(50), asked.PageSize)

	for _, state := range server.States() {
		_, err = engine.List(t.Context(), server.Filter{State: state, After: l.Next, Size: 1})
		require.NoError(t, err)
		require.Equal(t, []byte("token"), asked.NextPageToken)
		require.Contains(t, asked.Query, "Running", state)
	}
	_, err = engine.List(t.Context(), server.Filter{After: "!"})
	require.ErrorContains(t, err, "the cursor is not one")
}

func TestTemporalReady(t *testing.T) {
	polled := &workflowservice.DescribeTaskQueueResponse{Pollers: []*taskqueuepb.PollerInfo{{}}}
	for name, tt := range map[string]struct {
		workflows, activities *workflowservice.DescribeTaskQueueResponse
		err                   error
		want                  string
	}{
		"ready":                 {workflows: polled, activities: polled},
		"no worker":             {workflows: &workflowservice.DescribeTaskQueueResponse{}, want: "no worker polls"},
		"no one for activities": {workflows: polled, activities: &workflowservice.DescribeTaskQueueResponse{}, want: "no worker polls"},
		"Temporal is not there": {err: serviceerror.NewUnavailable("down"), want: "down"},
	} {
		t.Run(name, func(t *testing.T) {
			c := mocks.NewClient(t)
			c.On("DescribeTaskQueue", mock.Anything, workflows.TaskQueue, enumspb.TASK_QUEUE_TYPE_WORKFLOW).Return(tt.workflows, tt.err)
			if tt.activities != nil {
				c.On("DescribeTaskQueue", mock.Anything, workflows.TaskQueue, enumspb.TASK_QUEUE_TYPE_ACTIVITY).Return(tt.activities, nil)
			}
			err := server.Temporal{Client: c}.Ready(t.Context())
			if tt.want == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, tt.want)
			}
		})
	}
}
