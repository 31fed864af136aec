package workflows

import (
	"slices"
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
	// More are further events of the same moment.
	More []event.Event `json:"more,omitempty"`
}

// recordedMost bounds the events of one side effect, so that its payload stays below
// what Temporal warns of: an event has some hundred bytes.
const recordedMost = 100

// record writes a decision into the history. Seq, origin and incident are filled
// in by the export.
func record(ctx workflow.Context, now time.Time, e event.Event) {
	recordAll(ctx, now, []event.Event{e})
}

// recordAll writes what came together.
func recordAll(ctx workflow.Context, now time.Time, events []event.Event) {
	for i := range events {
		e := &events[i]
		e.V = event.SchemaVersion
		e.Time = canon.Time(now)
		if e.Actor == "" {
			e.Actor = "worker"
		}
		if e.Redaction == "" {
			e.Redaction = event.Internal
		}
	}
	for part := range slices.Chunk(events, recordedMost) {
		workflow.SideEffect(ctx, func(workflow.Context) any { return Recorded{ID: MarkerRecord, Event: part[0], More: part[1:]} })
	}
}
