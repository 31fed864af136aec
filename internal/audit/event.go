// Package audit makes the sealed record of one incident and checks it: events in
// canonical JSON Lines, an RFC 6962 tree over them, a signed checkpoint, and the
// bundle that holds all of it.
//
// # The bundle
//
// A bundle is a zip of one exact form (container.go):
//
//	events.jsonl    one canonical line per event (RFC 8785)
//	leaves.txt      the leaf hash of each event: names the one that was changed, and
//	                gives the inclusion proof of any event ([Bundle.Proof])
//	checkpoint      c2sp.org/tlog-checkpoint: <origin>/<incident>, size, root; signed
//	manifest.json   name, size and SHA-256 of every file, and the one redacted form
//	                that each audience may get
//	manifest.sig    signed note with the manifest's digest
//	key.pub         verifier keys of the signer, the current one first
//	previous.json   digest and checkpoint of the bundle before, and the consistency
//	                proof that this one extends it
//	redaction.json  only in a redacted bundle: what is hidden
//	incident.json, approvals.json, evidence.json, outside.json, report.html,
//	plans/, notices/, chapters/, pages/
//
// The two signatures cover every file but themselves; the form of the zip covers
// the bytes between the files. So each byte of a bundle has exactly one value.
//
// # Extending it
//
// A new type of event is a constant below; if the report, the statistics or an
// export should read more of it than its fields, its attributes are listed in
// attrs.go, and audittest.Sample gets one such event. A new file is a field of
// [Content] and a line in contentFiles; it is internal until kept says otherwise. A
// change of meaning of an event raises [SchemaVersion], one of the form of the
// bundle [BundleSchema].
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
	EventPass            = event.EventPass
	EventPulled          = event.EventPulled
	EventMassEnd         = event.EventMassEnd
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
	EventRecordTold      = event.EventRecordTold
	EventRecordBehind    = event.EventRecordBehind
	EventRecordCaught    = event.EventRecordCaught
)

// Redaction classes.
const (
	Public   = event.Public
	Customer = event.Customer
	Internal = event.Internal
)
