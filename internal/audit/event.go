// Package audit makes the sealed record of one incident and checks it: events in
// canonical JSON Lines, an RFC 6962 tree over them, a signed checkpoint, and the
// bundle that holds all of it.
package audit

import "rekey/internal/event"

// The event's shape lives in rekey/internal/event, so that workflows can record
// events without importing what seals them.
type (
	// Event is one line of events.jsonl.
	Event = event.Event
	// Origin points into a history.
	Origin = event.Origin
)

// SchemaVersion is the version of [Event].
const SchemaVersion = event.SchemaVersion

// Event types.
const (
	EventOpened          = event.EventOpened
	EventReopened        = event.EventReopened
	EventTrigger         = event.EventTrigger
	EventPhase           = event.EventPhase
	EventPreserved       = event.EventPreserved
	EventScope           = event.EventScope
	EventDecision        = event.EventDecision
	EventPlan            = event.EventPlan
	EventApprovalAsked   = event.EventApprovalAsked
	EventApprovalGiven   = event.EventApprovalGiven
	EventApprovalDenied  = event.EventApprovalDenied
	EventApprovalExpired = event.EventApprovalExpired
	EventApprovalVoided  = event.EventApprovalVoided
	EventRefused         = event.EventRefused
	EventBreakGlass      = event.EventBreakGlass
	EventHoldSet         = event.EventHoldSet
	EventHoldReleased    = event.EventHoldReleased
	EventHoldExpired     = event.EventHoldExpired
	EventCallAttempted   = event.EventCallAttempted
	EventCallConfirmed   = event.EventCallConfirmed
	EventCallFailed      = event.EventCallFailed
	EventReconciled      = event.EventReconciled
	EventProbe           = event.EventProbe
	EventLadder          = event.EventLadder
	EventContain         = event.EventContain
	EventItem            = event.EventItem
	EventHuman           = event.EventHuman
	EventHumanDone       = event.EventHumanDone
	EventNotice          = event.EventNotice
	EventGate            = event.EventGate
	EventReissued        = event.EventReissued
	EventDelivered       = event.EventDelivered
	EventAdopted         = event.EventAdopted
	EventSecretGone      = event.EventSecretGone
	EventTripwire        = event.EventTripwire
	EventNote            = event.EventNote
	EventClosed          = event.EventClosed
	EventSealed          = event.EventSealed
	EventGap             = event.EventGap
)

// Redaction classes.
const (
	Public   = event.Public
	Customer = event.Customer
	Internal = event.Internal
)
