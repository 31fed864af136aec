package slackapp_test

import (
	"context"
	"sync"

	"rekey/internal/api"
	"rekey/internal/intake"
	"rekey/internal/plan"
	"rekey/internal/server"
	"rekey/internal/statement"
	"rekey/internal/view"
	"rekey/workflows"
)

// engine stands for intake and Temporal.
type engine struct {
	mu   sync.Mutex
	down error
	// votesOnly: down for reports alone.
	votesOnly bool
	hang      chan struct{}
	callers   []intake.Caller
	requests  []api.ReportRequest
	decided   []statement.Signed
	decide    func(statement.Signed) (workflows.Decision, error)
	reject    error
	view      view.Incident
	plan      plan.Plan
}

func (e *engine) wait(ctx context.Context) error {
	e.mu.Lock()
	hang, down := e.hang, e.down
	e.mu.Unlock()
	if hang != nil {
		select {
		case <-hang:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return down
}

func (e *engine) Report(ctx context.Context, who intake.Caller, r api.ReportRequest) (api.ReportResponse, error) {
	if err := e.wait(ctx); err != nil {
		return api.ReportResponse{}, &intake.Refusal{Kind: intake.Unavailable, Body: view.ErrorBody{Code: intake.CodeUnreachable, Message: "Temporal did not take the report", Do: "wait"}, Cause: err}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.callers, e.requests = append(e.callers, who), append(e.requests, r)
	if e.reject != nil {
		return api.ReportResponse{}, e.reject
	}
	return api.ReportResponse{Incident: known, Report: "r-1", FP: itemFP, Playbook: "aws-access-key"}, nil
}

func (e *engine) found(ctx context.Context, id string) error {
	e.mu.Lock()
	up := e.votesOnly
	e.mu.Unlock()
	if err := e.wait(ctx); err != nil && !up {
		return err
	}
	if id != known {
		return server.ErrUnknown
	}
	return nil
}

func (e *engine) Show(ctx context.Context, id string) (view.Incident, error) {
	return e.view, e.found(ctx, id)
}

func (e *engine) Items(ctx context.Context, id string) ([]view.Item, error) {
	return e.view.Items, e.found(ctx, id)
}

func (e *engine) Plan(ctx context.Context, id string) (plan.Plan, error) {
	return e.plan, e.found(ctx, id)
}

func (e *engine) List(ctx context.Context, _ server.Filter) (view.List, error) {
	return view.List{Incidents: []view.Summary{{ID: known, Severity: "high", State: "open", Phase: "approve", Provider: "awsiam", Open: 1}}}, e.wait(ctx)
}

func (e *engine) Decide(ctx context.Context, s statement.Signed) (workflows.Decision, error) {
	if err := e.found(ctx, s.Statement.Incident); err != nil {
		return workflows.Decision{}, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.decided = append(e.decided, s)
	if e.decide != nil {
		return e.decide(s)
	}
	return workflows.Decision{Approval: s.Statement.Approval, State: "open", Votes: 1, Needed: 2, ID: "hold1"}, nil
}

func (e *engine) reports() []api.ReportRequest {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]api.ReportRequest{}, e.requests...)
}

func (e *engine) decisions() []statement.Signed {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]statement.Signed{}, e.decided...)
}

func (e *engine) set(f func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f()
}
