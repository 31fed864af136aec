package worker

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	deploymentpb "go.temporal.io/api/deployment/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/serviceerror"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/converter"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"rekey/internal/temporalx"
	"rekey/workflows"
)

// deployCluster is a cluster that workers of several builds poll.
type deployCluster struct {
	*fakeCluster
	current string
	// polls are identity/build by queue; old ones polled last two minutes ago.
	polls, old map[string][]string
	left       []string          // identities that ended in order
	pinned     map[string]string // workflow -> build
}

func (f *deployCluster) DescribeTaskQueue(_ context.Context, r *workflowservice.DescribeTaskQueueRequest) (*workflowservice.DescribeTaskQueueResponse, error) {
	out := &workflowservice.DescribeTaskQueueResponse{}
	add := func(list []string, at time.Time) {
		for _, p := range list {
			who, build, _ := strings.Cut(p, "/")
			info := &taskqueuepb.PollerInfo{Identity: who, LastAccessTime: timestamppb.New(at)}
			if build != "" {
				info.DeploymentOptions = &deploymentpb.WorkerDeploymentOptions{DeploymentName: deploymentName, BuildId: build, WorkerVersioningMode: enumspb.WORKER_VERSIONING_MODE_VERSIONED}
			}
			out.Pollers = append(out.Pollers, info)
		}
	}
	add(f.polls[r.GetTaskQueue().GetName()], time.Now().Add(-time.Minute))
	add(f.old[r.GetTaskQueue().GetName()], time.Now().Add(-2*time.Minute))
	return out, nil
}

func (f *deployCluster) DescribeWorkerDeployment(context.Context, *workflowservice.DescribeWorkerDeploymentRequest) (*workflowservice.DescribeWorkerDeploymentResponse, error) {
	if f.current == "" {
		return nil, serviceerror.ToStatus(serviceerror.NewNotFound("vendor words")).Err()
	}
	return &workflowservice.DescribeWorkerDeploymentResponse{WorkerDeploymentInfo: &deploymentpb.WorkerDeploymentInfo{
		Name: deploymentName, RoutingConfig: &deploymentpb.RoutingConfig{CurrentDeploymentVersion: &deploymentpb.WorkerDeploymentVersion{DeploymentName: deploymentName, BuildId: f.current}},
	}}, nil
}

func (f *deployCluster) DescribeWorkerDeploymentVersion(_ context.Context, r *workflowservice.DescribeWorkerDeploymentVersionRequest) (*workflowservice.DescribeWorkerDeploymentVersionResponse, error) {
	m := map[string]*commonpb.Payload{}
	for _, who := range f.left {
		m[left+who] = &commonpb.Payload{}
	}
	return &workflowservice.DescribeWorkerDeploymentVersionResponse{WorkerDeploymentVersionInfo: &deploymentpb.WorkerDeploymentVersionInfo{
		DeploymentVersion: r.GetDeploymentVersion(), Metadata: &deploymentpb.VersionMetadata{Entries: m},
	}}, nil
}

func (f *deployCluster) ListWorkflowExecutions(ctx context.Context, r *workflowservice.ListWorkflowExecutionsRequest) (*workflowservice.ListWorkflowExecutionsResponse, error) {
	if !strings.Contains(r.GetQuery(), "Pinned") {
		return f.fakeCluster.ListWorkflowExecutions(ctx, r)
	}
	out := &workflowservice.ListWorkflowExecutionsResponse{}
	for id, build := range f.pinned {
		p, err := converter.GetDefaultDataConverter().ToPayload(deploymentName + ":" + build)
		if err != nil {
			return nil, err
		}
		out.Executions = append(out.Executions, &workflowpb.WorkflowExecutionInfo{
			Execution:        &commonpb.WorkflowExecution{WorkflowId: id, RunId: "r"},
			SearchAttributes: &commonpb.SearchAttributes{IndexedFields: map[string]*commonpb.Payload{"TemporalWorkerDeploymentVersion": p}},
		})
	}
	return out, nil
}

func (f *deployCluster) listen(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := grpc.NewServer()
	workflowservice.RegisterWorkflowServiceServer(s, f)
	operatorservice.RegisterOperatorServiceServer(s, f)
	go func() { _ = s.Serve(l) }()
	t.Cleanup(s.Stop)
	return l.Addr().String()
}

// Which builds run incidents, and who holds accounts.
func TestDoctorLooksAtTheBuilds(t *testing.T) {
	const q = workflows.TaskQueue
	account := workflows.AccountQueue("awsiam", "main")
	const provider = `providers: {awsiam: {main: {account_id: "123456789012", regions: [us-east-1], base_url: "http://127.0.0.1:1", allow_private: true}}}`
	for name, c := range map[string]struct {
		cluster deployCluster
		waits   bool
		account bool
		id      string // "": no fault
		say, do string
	}{
		"nothing has a version":        {cluster: deployCluster{polls: map[string][]string{q: {"a"}}}, say: "whichever polls"},
		"the current build polls":      {cluster: deployCluster{current: "one", polls: map[string][]string{q: {"a/one", "b/one"}}}, say: "build one (2 poll)"},
		"another polls too":            {cluster: deployCluster{current: "one", polls: map[string][]string{q: {"a/one", "b/two"}}}, say: "build two polls too and nothing needs it"},
		"another is still needed":      {cluster: deployCluster{current: "two", polls: map[string][]string{q: {"a/one", "b/two"}}, pinned: map[string]string{"incident/x": "one"}}, say: "keep it until incident/x have ended"},
		"it was stopped too early":     {cluster: deployCluster{current: "two", polls: map[string][]string{q: {"b/two"}}, pinned: map[string]string{"incident/x": "one"}}, id: "temporal.cluster.builds.one", say: "it alone may go on with incident/x", do: "start a worker of build one"},
		"it polled a while ago":        {cluster: deployCluster{current: "two", polls: map[string][]string{q: {"b/two"}}, old: map[string][]string{q: {"a/one"}}, pinned: map[string]string{"incident/x": "one"}}, id: "temporal.cluster.builds.one", say: "incident/x"},
		"it ended in order just now":   {cluster: deployCluster{current: "two", polls: map[string][]string{q: {"a/one", "b/two"}}, left: []string{"a"}, pinned: map[string]string{"incident/x": "one"}}, id: "temporal.cluster.builds.one", say: "incident/x"},
		"only another build polls":     {cluster: deployCluster{current: "one", polls: map[string][]string{q: {"b/two"}}}, id: "temporal.cluster.builds", say: "there polls two", do: "promote"},
		"only one without a version":   {cluster: deployCluster{current: "one", polls: map[string][]string{q: {"b"}}}, id: "temporal.cluster.builds", say: "there polls (without a name)", do: "promote"},
		"only others before a first":   {cluster: deployCluster{polls: map[string][]string{q: {"b/two"}}}, id: "temporal.cluster.builds", say: "there polls two"},
		"nobody, and incidents wait":   {cluster: deployCluster{current: "one", old: map[string][]string{q: {"a/one"}}}, waits: true, id: "temporal.cluster.builds", say: "incidents stand still", do: "start `rekey worker`"},
		"nobody, and nothing waits":    {cluster: deployCluster{current: "one", old: map[string][]string{q: {"a/one"}}}},
		"an account is held":           {cluster: deployCluster{polls: map[string][]string{q: {"a"}, account: {"a"}}}, account: true, say: "1 of 1 accounts are held"},
		"an account that nobody holds": {cluster: deployCluster{polls: map[string][]string{q: {"a"}}, old: map[string][]string{account: {"b"}}}, account: true, id: "temporal.cluster.accounts", say: "nobody holds awsiam/main", do: "rekey.yaml"},
	} {
		t.Run(name, func(t *testing.T) {
			i := healthy(t)
			f := &c.cluster
			f.fakeCluster = &fakeCluster{exists: true, retention: 720 * time.Hour, attributes: temporalx.SearchAttributes(), open: map[string]*commonpb.Payloads{}}
			if c.waits {
				f.open["incident/"+anIncident] = sealedBy(t, i.data+"/keys/codec")
			}
			if c.account {
				i.yaml["providers"] = provider
			}
			i.yaml["temporal"] = fmt.Sprintf("temporal: {address: %q}", f.listen(t))
			var said string
			var faults []string
			for _, k := range i.examine(false) {
				require.NotContains(t, k.Detail, "vendor words")
				if !strings.HasPrefix(k.ID, "temporal.cluster.builds") && !strings.HasPrefix(k.ID, "temporal.cluster.accounts") {
					continue
				}
				said += k.Detail + "\n"
				if k.State == stateFault {
					faults = append(faults, k.ID)
					require.Contains(t, k.Do, c.do)
				}
			}
			require.Contains(t, said, c.say)
			if c.id == "" {
				require.Empty(t, faults)
				return
			}
			require.Equal(t, []string{c.id}, faults)
		})
	}
}
