package worker

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

	"rekey/internal/metrics"
	"rekey/internal/temporalx"
	"rekey/workflows"
)

// The guard looks this often, and looks back over everything this rarely: what was
// archived is told by a small file, so that a look costs little.
const (
	guardEvery = 5 * time.Minute
	guardLimit = 4 * time.Minute
	guardPage  = 500
)

// A guard keeps what Temporal is about to forget. Successors and parents archive
// finished runs; the guard finds those that nobody did (the last run of an
// incident, children of one that was ended by force, runs of an older build) in
// time, and says so by metrics and log while it cannot.
type guard struct {
	cluster interface {
		temporalx.Cluster
		ListWorkflow(context.Context, *workflowservice.ListWorkflowExecutionsRequest) (*workflowservice.ListWorkflowExecutionsResponse, error)
	}
	namespace string
	archive   interface {
		Kept(ctx context.Context, incident, workflow, run string) bool
		Keep(ctx context.Context, incident, workflow, run string) (workflows.Chapter, error)
	}
	put func(metrics.Guard)
	now func() time.Time
	log *slog.Logger
}

// guardRetention runs the guard until ctx ends. A drill's world moves faster than
// Temporal's retention and is thrown away: it has none.
func (r *Runtime) guardRetention(ctx context.Context, c client.Client) {
	if r.Virtual() {
		return
	}
	g := &guard{cluster: c, namespace: r.Namespace(), archive: r.archive(c), put: r.Metrics.Guarded, now: time.Now, log: r.Log}
	warned := false
	for {
		retention, err := g.look(ctx)
		if err != nil && ctx.Err() == nil {
			r.Log.Warn("closed runs were not looked at: what is not archived may be lost to retention", "error", err)
		}
		if err == nil && retention < temporalx.MinimumRetention && !warned {
			warned = true
			r.Log.Warn("closed runs are deleted too early: raise the namespace's retention", "namespace", g.namespace,
				"retention", hours(retention), "least", hours(temporalx.MinimumRetention), "do", "run `rekey doctor --fix`")
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(guardEvery):
		}
	}
}

// look archives what is closed and not archived yet, and tells the retention.
func (g *guard) look(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, guardLimit)
	defer cancel()
	retention, err := temporalx.Retention(ctx, g.cluster, g.namespace)
	if err != nil {
		return 0, fmt.Errorf("namespace %s cannot be looked at", g.namespace) // the cause is the cluster's text
	}
	seen := metrics.Guard{Retention: retention}
	query := fmt.Sprintf("WorkflowType IN ('%s') AND ExecutionStatus != 'Running'", strings.Join(workflows.IncidentTypes(), "', '"))
	var page []byte
	for {
		res, err := g.cluster.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{Namespace: g.namespace, PageSize: guardPage, NextPageToken: page, Query: query})
		if err != nil {
			return seen.Retention, fmt.Errorf("closed runs of namespace %s cannot be listed", g.namespace)
		}
		for _, e := range res.GetExecutions() {
			id, run := e.GetExecution().GetWorkflowId(), e.GetExecution().GetRunId()
			incident := incidentOf(id)
			if incident == "" || g.archive.Kept(ctx, incident, id, run) {
				continue
			}
			if _, err := g.archive.Keep(ctx, incident, id, run); err == nil {
				g.log.Info("the history of a run was archived", "incident", incident, "workflow", id, "run", run)
				continue
			} else if ctx.Err() == nil {
				age := g.now().Sub(e.GetCloseTime().AsTime())
				g.log.Error("the history of a run could not be archived", "incident", incident, "workflow", id, "run", run,
					"left", hours(max(seen.Retention-age, 0)), "error", err)
			}
			seen.Unarchived++
			seen.Oldest = max(seen.Oldest, g.now().Sub(e.GetCloseTime().AsTime()))
		}
		if page = res.GetNextPageToken(); len(page) == 0 {
			g.put(seen)
			return seen.Retention, nil
		}
	}
}
