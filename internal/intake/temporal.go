package intake

import (
	"context"
	"errors"
	"fmt"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"rekey/internal/view"
	"rekey/workflows"
)

// Temporal is the [Engine] over a Temporal client.
type Temporal struct {
	Client client.Client
	// Bundle gives the digest of an incident's last bundle, "" when there is none.
	// It is asked where the closed run itself is gone by retention; nil: unknown.
	Bundle func(incident string) string
}

var _ Engine = Temporal{}

// State implements Engine.
func (t Temporal) State(ctx context.Context, incident string) (State, error) {
	id := workflows.IncidentID(incident)
	d, err := t.Client.DescribeWorkflowExecution(ctx, id, "")
	var missing *serviceerror.NotFound
	switch {
	case errors.As(err, &missing):
		if digest := t.bundle(incident); digest != "" {
			return State{Closed: &Closed{Reopened: workflows.Reopened{Digest: digest}}}, nil
		}
		return State{}, nil
	case err != nil:
		return State{}, err
	case d.GetWorkflowExecutionInfo().GetStatus() == enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING:
		return State{Running: true}, nil
	}
	run := d.GetWorkflowExecutionInfo().GetExecution().GetRunId()
	closed := &Closed{Reopened: workflows.Reopened{Run: run, Digest: t.bundle(incident)}}
	// What the run itself says is best; a report is not refused because no worker
	// can answer for a run that is over.
	var v view.Incident
	if answer, err := t.Client.QueryWorkflow(ctx, id, run, workflows.QueryShow); err == nil && answer.Get(&v) == nil {
		if v.Bundle != nil {
			closed.Digest = v.Bundle.Digest
		}
		if v.Plan != nil {
			for _, w := range v.Plan.Waves {
				closed.Waves = max(closed.Waves, w.N)
			}
		}
		closed.Records = v.Records
	}
	if answer, err := t.Client.QueryWorkflow(ctx, id, run, workflows.QueryTaken); err == nil {
		_ = answer.Get(&closed.Taken) // a build before it does not say: then nothing is known
	}
	return State{Closed: closed}, nil
}

func (t Temporal) bundle(incident string) string {
	if t.Bundle == nil {
		return ""
	}
	return t.Bundle(incident)
}

// Signal implements Engine. Several reports are one message: one event of the history
// and one workflow task.
func (t Temporal) Signal(ctx context.Context, incident string, r []workflows.Report) error {
	name, arg := workflows.SignalReports, any(workflows.ReportBatch{Reports: r})
	if len(r) == 1 {
		name, arg = workflows.SignalReport, r[0]
	}
	err := t.Client.SignalWorkflow(ctx, workflows.IncidentID(incident), "", name, arg)
	var missing *serviceerror.NotFound
	if errors.As(err, &missing) {
		return ErrNotRunning
	}
	return err
}

// Start implements Engine. Where the namespace lacks a search attribute the
// incident starts without: a missing one never stops an incident (design
// section 4).
func (t Temporal) Start(ctx context.Context, in workflows.IncidentInput, r workflows.Report) error {
	o := client.StartWorkflowOptions{
		ID: workflows.IncidentID(in.ID), TaskQueue: workflows.TaskQueue,
		WorkflowIDReusePolicy: enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
		StaticSummary:         fmt.Sprintf("%s: %s/%s", in.Settings.Playbook.Title, r.Key.Provider, r.Key.Kind),
		TypedSearchAttributes: temporal.NewSearchAttributes(
			workflows.AttrProvider.ValueSet([]string{r.Key.Provider}), workflows.AttrIncident.ValueSet(in.ID), workflows.AttrPhase.ValueSet("preserve"),
		),
	}
	const most = 200 // bytes of a static summary, reference/temporal.md
	if len(o.StaticSummary) > most {
		o.StaticSummary = r.Key.Provider + "/" + r.Key.Kind
	}
	_, err := t.Client.SignalWithStartWorkflow(ctx, o.ID, workflows.SignalReport, r, o, workflows.TypeIncident, in)
	var invalid *serviceerror.InvalidArgument
	if errors.As(err, &invalid) {
		o.TypedSearchAttributes = temporal.SearchAttributes{}
		_, err = t.Client.SignalWithStartWorkflow(ctx, o.ID, workflows.SignalReport, r, o, workflows.TypeIncident, in)
	}
	return err
}
