package intake_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/mocks"

	"rekey/activities"
	"rekey/internal/intake"
	"rekey/internal/view"
	"rekey/playbooks"
	"rekey/workflows"
)

func described(status enumspb.WorkflowExecutionStatus, runID string) *workflowservice.DescribeWorkflowExecutionResponse {
	return &workflowservice.DescribeWorkflowExecutionResponse{WorkflowExecutionInfo: &workflowpb.WorkflowExecutionInfo{
		Status: status, Execution: &commonpb.WorkflowExecution{RunId: runID},
	}}
}

func TestTemporalState(t *testing.T) {
	const id = "incident/inc-0123456789ab"
	missing := serviceerror.NewNotFound("workflow not found")
	took := workflows.Taken{}.With("r-1")
	shown := func(c *mocks.Client) {
		v := mocks.NewEncodedValue(t)
		v.On("Get", mock.Anything).Run(func(a mock.Arguments) {
			*a.Get(0).(*view.Incident) = view.Incident{
				Bundle: &view.Bundle{Digest: "sha256:new"},
				Plan:   &view.Plan{Waves: []view.Wave{{N: 2}, {N: 5}, {N: 1}}},
			}
		}).Return(nil)
		c.On("QueryWorkflow", mock.Anything, id, "run-1", workflows.QueryShow).Return(v, nil)
		had := mocks.NewEncodedValue(t)
		had.On("Get", mock.Anything).Run(func(a mock.Arguments) { *a.Get(0).(*workflows.Taken) = took }).Return(nil)
		c.On("QueryWorkflow", mock.Anything, id, "run-1", workflows.QueryTaken).Return(had, nil)
	}
	for name, tt := range map[string]struct {
		status enumspb.WorkflowExecutionStatus
		err    error
		bundle string
		query  func(*mocks.Client)
		want   intake.State
		fails  bool
	}{
		"never was": {err: missing},
		"runs":      {status: enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING, want: intake.State{Running: true}},
		"over, a worker answers": {
			status: enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED, bundle: "sha256:old", query: shown,
			want: intake.State{Closed: &intake.Closed{Reopened: workflows.Reopened{Run: "run-1", Digest: "sha256:new", Waves: 5, Taken: took}}},
		},
		"over, no worker answers": {
			status: enumspb.WORKFLOW_EXECUTION_STATUS_TERMINATED, bundle: "sha256:old",
			query: func(c *mocks.Client) {
				c.On("QueryWorkflow", mock.Anything, id, "run-1", mock.Anything).Return(nil, errors.New("no poller")).Twice()
			},
			want: intake.State{Closed: &intake.Closed{Reopened: workflows.Reopened{Run: "run-1", Digest: "sha256:old"}}},
		},
		"gone by retention": {err: missing, bundle: "sha256:old", want: intake.State{Closed: &intake.Closed{Reopened: workflows.Reopened{Digest: "sha256:old"}}}},
		"Temporal is down":  {err: serviceerror.NewUnavailable("down"), fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			c := mocks.NewClient(t)
			c.On("DescribeWorkflowExecution", mock.Anything, id, "").Return(described(tt.status, "run-1"), tt.err)
			if tt.query != nil {
				tt.query(c)
			}
			got, err := intake.Temporal{Client: c, Bundle: func(string) string { return tt.bundle }}.State(t.Context(), "inc-0123456789ab")
			require.Equal(t, tt.fails, err != nil)
			require.Equal(t, tt.want, got)
		})
	}
}

func TestTemporalClaim(t *testing.T) {
	c := mocks.NewClient(t)
	claim := workflows.Claim{FPs: []string{"fp1_ab"}, Incident: "inc-0123456789ab"}
	c.On("NewWithStartWorkflowOperation", mock.MatchedBy(func(o client.StartWorkflowOptions) bool {
		return o.ID == "register/ab" && o.TaskQueue == workflows.TaskQueue && o.WorkflowIDConflictPolicy == enumspb.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING
	}), workflows.TypeRegister, workflows.RegisterInput{}).Return(nil)
	h := mocks.NewWorkflowUpdateHandle(t)
	h.On("Get", mock.Anything, mock.Anything).Run(func(a mock.Arguments) {
		*a.Get(1).(*workflows.ClaimResult) = workflows.ClaimResult{Owners: map[string]string{"fp1_ab": "inc-other"}}
	}).Return(nil)
	c.On("UpdateWithStartWorkflow", mock.Anything, mock.MatchedBy(func(o client.UpdateWithStartWorkflowOptions) bool {
		u := o.UpdateOptions
		return u.UpdateName == workflows.UpdateClaim && u.WaitForStage == client.WorkflowUpdateStageCompleted &&
			len(u.Args) == 1 && u.Args[0].(workflows.Claim).Incident == claim.Incident
	})).Return(h, nil)
	got, err := intake.Temporal{Client: c}.Claim(t.Context(), "register/ab", claim)
	require.NoError(t, err)
	require.Equal(t, "inc-other", got.Owners["fp1_ab"])
}

func TestTemporalStartAndSignal(t *testing.T) {
	in := workflows.IncidentInput{ID: "inc-0123456789ab", Settings: workflows.Settings{Playbook: playbooks.Playbook{Title: "Leaked"}}}
	rep := workflows.Report{ID: "r-1", Key: activities.Key{Provider: "awsiam", Kind: "user-access-key", ID: keyID}}
	var sent []client.StartWorkflowOptions
	c := mocks.NewClient(t)
	c.On("SignalWithStartWorkflow", mock.Anything, "incident/inc-0123456789ab", workflows.SignalReport, rep, mock.Anything, workflows.TypeIncident, in).
		Run(func(a mock.Arguments) { sent = append(sent, a.Get(4).(client.StartWorkflowOptions)) }).
		Return(nil, serviceerror.NewInvalidArgument("no such search attribute")).Once()
	c.On("SignalWithStartWorkflow", mock.Anything, "incident/inc-0123456789ab", workflows.SignalReport, rep, mock.Anything, workflows.TypeIncident, in).
		Run(func(a mock.Arguments) { sent = append(sent, a.Get(4).(client.StartWorkflowOptions)) }).
		Return(nil, nil).Once()
	require.NoError(t, intake.Temporal{Client: c}.Start(t.Context(), in, rep))
	require.Len(t, sent, 2, "a missing search attribute never stops an incident")
	provider, ok := sent[0].TypedSearchAttributes.GetKeywordList(workflows.AttrProvider)
	require.True(t, ok)
	require.Equal(t, []string{"awsiam"}, provider)
	require.Zero(t, sent[1].TypedSearchAttributes.Size())
	for _, o := range sent {
		require.Equal(t, "Leaked: awsiam/user-access-key", o.StaticSummary)
		require.Equal(t, enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE, o.WorkflowIDReusePolicy, "a closed incident is reopened")
	}

	c.On("SignalWorkflow", mock.Anything, "incident/inc-0123456789ab", "", workflows.SignalReport, rep).Return(serviceerror.NewNotFound("over")).Once()
	require.ErrorIs(t, intake.Temporal{Client: c}.Signal(t.Context(), in.ID, []workflows.Report{rep}), intake.ErrNotRunning)
	c.On("SignalWorkflow", mock.Anything, "incident/inc-0123456789ab", "", workflows.SignalReports, workflows.ReportBatch{Reports: []workflows.Report{rep, rep}}).Return(nil).Once()
	require.NoError(t, intake.Temporal{Client: c}.Signal(t.Context(), in.ID, []workflows.Report{rep, rep}))
}
