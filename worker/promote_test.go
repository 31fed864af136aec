package worker

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	deploymentpb "go.temporal.io/api/deployment/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"

	"rekey/internal/cli"
	"rekey/internal/codec/keyring"
	"rekey/internal/config"
	"rekey/internal/temporalx"
	"rekey/workflows"
)

func TestWhatStaysWithWhichBuild(t *testing.T) {
	for name, c := range map[string]struct {
		open []open
		keep map[string]string
		free []string
		lost []string
	}{
		"all is known":                        {open: []open{{id: "incident/a"}, {id: "register/00"}}, keep: map[string]string{}},
		"an incident stays as a whole":        {open: []open{{id: "incident/a"}, {id: "incident/a/wave/1", breaks: true, last: "old"}, {id: "incident/ab"}}, keep: map[string]string{"incident/a": "old", "incident/a/wave/1": "old"}},
		"pinned already":                      {open: []open{{id: "incident/a", breaks: true, last: "old", pinned: "old"}}, keep: map[string]string{}},
		"a child that came later":             {open: []open{{id: "incident/a", breaks: true, last: "old", pinned: "old"}, {id: "incident/a/watch"}}, keep: map[string]string{"incident/a/watch": "old"}},
		"known by now":                        {open: []open{{id: "incident/a", pinned: "old"}, {id: "incident/a/wave/1", pinned: "old"}}, keep: map[string]string{}, free: []string{"incident/a", "incident/a/wave/1"}},
		"half of it known":                    {open: []open{{id: "incident/a", pinned: "old"}, {id: "incident/a/wave/1", breaks: true, last: "old", pinned: "old"}}, keep: map[string]string{}},
		"pinned to us":                        {open: []open{{id: "incident/a", pinned: "new"}}, keep: map[string]string{}},
		"nobody with a name ran it":           {open: []open{{id: "incident/a", breaks: true}}, keep: map[string]string{}, lost: []string{"incident/a"}},
		"we ran it ourselves":                 {open: []open{{id: "incident/a", breaks: true, last: "new"}}, keep: map[string]string{}, lost: []string{"incident/a"}},
		"the pin counts, not who ran it":      {open: []open{{id: "incident/a", breaks: true, last: "older", pinned: "old"}}, keep: map[string]string{}},
		"what is no incident stays by itself": {open: []open{{id: "register/00", breaks: true, last: "old"}, {id: "register/01"}}, keep: map[string]string{"register/00": "old"}},
	} {
		t.Run(name, func(t *testing.T) {
			ids := func(of []open) []string {
				var out []string
				for _, o := range of {
					out = append(out, o.id)
				}
				return out
			}
			keep, free, lost := (&deploy{build: "new"}).sort(c.open)
			require.Equal(t, c.keep, keep)
			require.Equal(t, c.free, ids(free))
			require.Equal(t, c.lost, ids(lost))
		})
	}
}

// GetWorkflowExecutionHistory gives a history of which another build has run one step that this one does not
// have, with the input of the workflow.
func (f *deployCluster) GetWorkflowExecutionHistory(_ context.Context, r *workflowservice.GetWorkflowExecutionHistoryRequest) (*workflowservice.GetWorkflowExecutionHistoryResponse, error) {
	return &workflowservice.GetWorkflowExecutionHistoryResponse{History: &historypb.History{Events: []*historypb.HistoryEvent{
		{EventId: 1, EventType: enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED, Attributes: &historypb.HistoryEvent_WorkflowExecutionStartedEventAttributes{WorkflowExecutionStartedEventAttributes: &historypb.WorkflowExecutionStartedEventAttributes{
			WorkflowType: &commonpb.WorkflowType{Name: workflows.TypeAccount}, TaskQueue: &taskqueuepb.TaskQueue{Name: workflows.TaskQueue}, Input: f.open[r.GetExecution().GetWorkflowId()],
		}}},
		{EventId: 2, EventType: enumspb.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED, Attributes: &historypb.HistoryEvent_WorkflowTaskScheduledEventAttributes{WorkflowTaskScheduledEventAttributes: &historypb.WorkflowTaskScheduledEventAttributes{}}},
		{EventId: 3, EventType: enumspb.EVENT_TYPE_WORKFLOW_TASK_STARTED, Attributes: &historypb.HistoryEvent_WorkflowTaskStartedEventAttributes{WorkflowTaskStartedEventAttributes: &historypb.WorkflowTaskStartedEventAttributes{ScheduledEventId: 2}}},
		{EventId: 4, EventType: enumspb.EVENT_TYPE_WORKFLOW_TASK_COMPLETED, Attributes: &historypb.HistoryEvent_WorkflowTaskCompletedEventAttributes{WorkflowTaskCompletedEventAttributes: &historypb.WorkflowTaskCompletedEventAttributes{ScheduledEventId: 2, StartedEventId: 3}}},
		{EventId: 5, EventType: enumspb.EVENT_TYPE_TIMER_STARTED, Attributes: &historypb.HistoryEvent_TimerStartedEventAttributes{TimerStartedEventAttributes: &historypb.TimerStartedEventAttributes{TimerId: "5", WorkflowTaskCompletedEventId: 4}}},
	}}}, nil
}

func (f *deployCluster) DescribeWorkflowExecution(context.Context, *workflowservice.DescribeWorkflowExecutionRequest) (*workflowservice.DescribeWorkflowExecutionResponse, error) {
	return &workflowservice.DescribeWorkflowExecutionResponse{WorkflowExecutionInfo: &workflowpb.WorkflowExecutionInfo{VersioningInfo: &workflowpb.WorkflowExecutionVersioningInfo{
		DeploymentVersion: &deploymentpb.WorkerDeploymentVersion{DeploymentName: deploymentName, BuildId: "old"},
	}}}, nil
}

// A worker without the keys of an incident cannot tell whether it knows its steps:
// it must not take over and leave the incident to a build that is gone.
func TestAMissingKeyIsNoOtherBuild(t *testing.T) {
	dir := t.TempDir()
	input := sealedBy(t, dir)
	keys := func(dir string) *keyring.Keyring {
		k, err := keyring.Open(keyring.Options{Dir: dir, Create: true, Now: time.Now})
		require.NoError(t, err)
		return k
	}
	f := &deployCluster{fakeCluster: &fakeCluster{exists: true, open: map[string]*commonpb.Payloads{"incident/a": input}}, current: "old", polls: map[string][]string{workflows.TaskQueue: {"b/new"}}}
	c, err := temporalx.Dial(t.Context(), temporalx.Options{Address: f.listen(t), Namespace: "rekey"})
	require.NoError(t, err)
	defer c.Close()
	d := func(k *keyring.Keyring) *deploy {
		return &deploy{r: &Runtime{Keys: k, Config: &config.Config{Temporal: config.Temporal{Namespace: "rekey"}}}, fleet: fleet{c, "rekey", time.Now}, build: "new"}
	}
	all, err := d(keys(dir)).look(t.Context())
	require.NoError(t, err)
	require.Equal(t, []open{{id: "incident/a", run: "r", breaks: true, last: "old"}}, all, "with the keys it is told")
	_, err = d(keys(dir)).promote(t.Context(), false)
	var refusal *cli.Error
	require.ErrorAs(t, err, &refusal)
	require.Equal(t, "breaks", refusal.Code)
	var other *keyring.CorruptError
	for _, keep := range []bool{false, true} {
		_, err = d(keys(t.TempDir())).promote(t.Context(), keep)
		require.ErrorAs(t, err, &other)
		require.ErrorContains(t, err, "incident/a")
	}
}
