package worker

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	namespacepb "go.temporal.io/api/namespace/v1"
	"go.temporal.io/api/operatorservice/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"rekey/internal/metrics"
	"rekey/workflows"
)

// closedRuns is a cluster with closed runs.
type closedRuns struct {
	workflowservice.WorkflowServiceClient
	retention time.Duration
	runs      []string // workflow and run
	closed    time.Time
	down      error
	query     string
}

func (c *closedRuns) WorkflowService() workflowservice.WorkflowServiceClient { return c }
func (c *closedRuns) OperatorService() operatorservice.OperatorServiceClient { return nil }

func (c *closedRuns) DescribeNamespace(context.Context, *workflowservice.DescribeNamespaceRequest, ...grpc.CallOption) (*workflowservice.DescribeNamespaceResponse, error) {
	return &workflowservice.DescribeNamespaceResponse{Config: &namespacepb.NamespaceConfig{WorkflowExecutionRetentionTtl: durationpb.New(c.retention)}}, c.down
}

// ListWorkflow gives one run a page.
func (c *closedRuns) ListWorkflow(_ context.Context, r *workflowservice.ListWorkflowExecutionsRequest) (*workflowservice.ListWorkflowExecutionsResponse, error) {
	c.query = r.GetQuery()
	n := len(r.GetNextPageToken())
	res := &workflowservice.ListWorkflowExecutionsResponse{}
	if n >= len(c.runs) {
		return res, nil
	}
	workflow, run, _ := strings.Cut(c.runs[n], " ")
	res.Executions = []*workflowpb.WorkflowExecutionInfo{{
		Execution: &commonpb.WorkflowExecution{WorkflowId: workflow, RunId: run}, CloseTime: timestamppb.New(c.closed),
	}}
	if n+1 < len(c.runs) {
		res.NextPageToken = make([]byte, n+1)
	}
	return res, nil
}

// shelf is an archive.
type shelf struct {
	kept map[string]bool
	full error
}

func (s *shelf) Kept(_ context.Context, incident, workflow, run string) bool {
	return s.kept[incident+" "+workflow+" "+run]
}

func (s *shelf) Keep(_ context.Context, incident, workflow, run string) (workflows.Chapter, error) {
	if s.full != nil {
		return workflows.Chapter{}, s.full
	}
	s.kept[incident+" "+workflow+" "+run] = true
	return workflows.Chapter{}, nil
}

func guarding(c *closedRuns, s *shelf) (*guard, *metrics.Guard, *bytes.Buffer) {
	var seen metrics.Guard
	var log bytes.Buffer
	return &guard{
		cluster: c, namespace: "rekey", archive: s, put: func(g metrics.Guard) { seen = g },
		now: func() time.Time { return c.closed.Add(25 * 24 * time.Hour) }, log: slog.New(slog.NewTextHandler(&log, nil)),
	}, &seen, &log
}

const anIncident = "inc-7f3a9c2e41d0"

// Every closed run of an incident is kept, whatever page it is on and whoever
// should have done it; nothing else is.
func TestTheGuardKeepsWhatNobodyKept(t *testing.T) {
	c := &closedRuns{retention: 30 * 24 * time.Hour, closed: at(0), runs: []string{
		"incident/" + anIncident + " r1", "incident/" + anIncident + "/wave/1 w1", "incident/" + anIncident + "/watch t1",
		"incident/" + anIncident + "/record/slack s1", "incident/" + anIncident + "/notices/1 n1", "incident/not-ours x1",
	}}
	s := &shelf{kept: map[string]bool{anIncident + " incident/" + anIncident + " r1": true}}
	g, seen, _ := guarding(c, s)
	retention, err := g.look(t.Context())
	require.NoError(t, err)
	require.Equal(t, 30*24*time.Hour, retention)
	require.Equal(t, map[string]bool{
		anIncident + " incident/" + anIncident + " r1":              true,
		anIncident + " incident/" + anIncident + "/wave/1 w1":       true,
		anIncident + " incident/" + anIncident + "/watch t1":        true,
		anIncident + " incident/" + anIncident + "/record/slack s1": true,
		anIncident + " incident/" + anIncident + "/notices/1 n1":    true,
	}, s.kept)
	require.Equal(t, metrics.Guard{Retention: 30 * 24 * time.Hour}, *seen)
	for _, want := range []string{"'Incident'", "'Wave'", "'Watch'", "'Record'", "'Notices'", "!= 'Running'"} {
		require.Contains(t, c.query, want)
	}
}

// While it cannot be kept, metrics and log say so, and how long is left.
func TestTheGuardTellsWhatIsAboutToBeLost(t *testing.T) {
	c := &closedRuns{retention: 30 * 24 * time.Hour, closed: at(0), runs: []string{"incident/" + anIncident + " r1", "incident/" + anIncident + "/wave/1 w1"}}
	g, seen, log := guarding(c, &shelf{kept: map[string]bool{}, full: errors.New("disk full")})
	_, err := g.look(t.Context())
	require.NoError(t, err)
	require.Equal(t, metrics.Guard{Retention: 30 * 24 * time.Hour, Unarchived: 2, Oldest: 25 * 24 * time.Hour}, *seen)
	require.Contains(t, log.String(), "left=120h")
	require.Contains(t, log.String(), "incident="+anIncident)
}

// Nothing is told of what could not be looked at: no zero that nobody counted.
func TestTheGuardMakesNothingUp(t *testing.T) {
	c := &closedRuns{down: errors.New("unavailable, token=abc")}
	told := false
	g, _, _ := guarding(c, &shelf{})
	g.put = func(metrics.Guard) { told = true }
	_, err := g.look(t.Context())
	require.Error(t, err)
	require.NotContains(t, err.Error(), "abc")
	require.False(t, told)
}
