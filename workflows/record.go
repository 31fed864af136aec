package workflows

import (
	"time"

	"go.temporal.io/sdk/workflow"

	"rekey/internal/canon"
	"rekey/internal/event"
)

// MarkerRecord is the id of the side effects that carry what a workflow decided.
// Calls, signals and updates are in the history by themselves; a decision is not,
// so it is written there.
const MarkerRecord = "record"

// Recorded is what such a side effect holds. ID tells the audit export which side
// effects of a history are records.
type Recorded struct {
	ID    string      `json:"id"`
	Event event.Event `json:"event"`
}

// record writes a decision into the history. Seq, origin and incident are filled
// in by the export.
func record(ctx workflow.Context, now time.Time, e event.Event) {
	e.V = event.SchemaVersion
	e.Time = canon.Time(now)
	if e.Actor == "" {
		e.Actor = "worker"
	}
	if e.Redaction == "" {
		e.Redaction = event.Internal
	}
	workflow.SideEffect(ctx, func(workflow.Context) any { return Recorded{ID: MarkerRecord, Event: e} })
}
