package collect

import (
	"context"
	"errors"
	"fmt"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

	"rekey/internal/derive"
	"rekey/workflows"
)

// An Execution is a run that Temporal has.
type Execution struct {
	Workflow, Run, Type string
	Open                bool
}

// Histories are all that Temporal has of an installation.
type Histories interface {
	// Each lists every run.
	Each(ctx context.Context, f func(Execution) error) error
	// Run reads one, the latest where run is "". It fails with *serviceerror.NotFound
	// where Temporal has none.
	Run(ctx context.Context, workflow, run string) (derive.Run, error)
	// Namespace is the id that Temporal gave to it when it was made.
	Namespace(ctx context.Context) (string, error)
}

// Temporal is Histories of a cluster.
type Temporal struct {
	Client client.Client
	Name   string // of the namespace
	derive.Source
}

// pageSize is how many runs are listed at once.
const pageSize = 500

// Each implements Histories.
func (t Temporal) Each(ctx context.Context, f func(Execution) error) error {
	var page []byte
	for {
		res, err := t.Client.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{Namespace: t.Name, PageSize: pageSize, NextPageToken: page})
		if err != nil {
			return fmt.Errorf("the runs of namespace %s cannot be listed", t.Name) // the cause is the cluster's text
		}
		for _, e := range res.GetExecutions() {
			x := e.GetExecution()
			if err := f(Execution{x.GetWorkflowId(), x.GetRunId(), e.GetType().GetName(), e.GetStatus() == enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING}); err != nil {
				return err
			}
		}
		if page = res.GetNextPageToken(); len(page) == 0 {
			return nil
		}
	}
}

// Namespace implements Histories.
func (t Temporal) Namespace(ctx context.Context) (string, error) {
	res, err := t.Client.WorkflowService().DescribeNamespace(ctx, &workflowservice.DescribeNamespaceRequest{Namespace: t.Name})
	if err != nil {
		return "", fmt.Errorf("namespace %s cannot be looked at", t.Name)
	}
	return res.GetNamespaceInfo().GetId(), nil
}

// namesNothing are the workflows that never hold the name of a blob, and whose
// histories are many and long: registers and leases. Any other type is read, also one
// that this build does not know.
func namesNothing(kind string) bool {
	return kind == workflows.TypeRegister || kind == workflows.TypeAccount
}

// a place is one run.
type place struct{ workflow, run string }

// runs scans every history that Temporal has, and those that they lead to: what is
// listed may be a moment behind. It gives the incidents that have an open run.
func (c *Collector) runs(ctx context.Context, found func(name)) (read map[place]bool, open map[string]bool, err error) {
	read, open = map[place]bool{}, map[string]bool{}
	var next []place
	err = c.Histories.Each(ctx, func(e Execution) error {
		if e.Open {
			for _, id := range incidents(e.Workflow) {
				open[id] = true
			}
		}
		if !namesNothing(e.Type) {
			next = append(next, place{e.Workflow, e.Run})
		}
		return nil
	})
	if err != nil {
		return nil, nil, &UnreadableError{What: "the list of histories", Err: err}
	}
	for len(next) > 0 {
		at := next[len(next)-1]
		next = next[:len(next)-1]
		if read[at] {
			continue
		}
		r, err := c.Histories.Run(ctx, at.workflow, at.run)
		var gone *serviceerror.NotFound
		if errors.As(err, &gone) { // deleted since, by retention: it is a chapter, or was never to be kept
			continue
		}
		if err != nil {
			return nil, nil, &UnreadableError{What: "the history of " + at.workflow + " run " + at.run, Err: err}
		}
		read[at] = true
		if _, ended := r.Ended(); !ended {
			for _, id := range incidents(at.workflow) {
				open[id] = true
			}
		}
		err = history(ctx, r.History, found, func(workflow, run string) {
			if workflow == "" {
				workflow = at.workflow
			}
			if to := (place{workflow, run}); run != "" && !read[to] {
				next = append(next, to)
			}
		})
		if err != nil {
			return nil, nil, &UnreadableError{What: "the history of " + at.workflow + " run " + at.run, Err: err}
		}
	}
	return read, open, nil
}
