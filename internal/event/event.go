// Package event is the one shape of an audit event (design section 9): plain data
// that workflows may record and that internal/audit seals.
package event

// SchemaVersion is the version of [Event]. It changes when a meaning changes.
const SchemaVersion = 1

// An Event is one line of a bundle's events.jsonl. It holds no secret and no personal data
// other than the names of actors.
type Event struct {
	V        int    `json:"v"`
	Seq      int64  `json:"seq"`
	Incident string `json:"incident"`
	// Type is one of the Event… constants.
	Type string `json:"type"`
	// Time is the engine's, Source the origin's own where it says one (RFC 3339).
	Time       string `json:"time"`
	SourceTime string `json:"source_time,omitempty"`
	Phase      string `json:"phase,omitempty"`
	// Actor is who: "local:root", "policy:<rule id>", "worker", "provider:<code>".
	Actor string `json:"actor"`
	// Auth is how the actor was authenticated.
	Auth     string `json:"auth,omitempty"`
	PlanHash string `json:"plan_hash,omitempty"`
	WaveHash string `json:"wave_hash,omitempty"`
	// FP is the item's fingerprint.
	FP   string `json:"fp,omitempty"`
	Verb string `json:"verb,omitempty"`
	// Token is the idempotency token of the effect.
	Token     string `json:"token,omitempty"`
	Attempt   int    `json:"attempt,omitempty"`
	RequestID string `json:"request_id,omitempty"`
	Result    string `json:"result,omitempty"`
	// Evidence are hashes of pages and files.
	Evidence []string `json:"evidence,omitempty"`
	// Rule is the id of the rule that decided; Facts are what it read.
	Rule     string            `json:"rule,omitempty"`
	Facts    map[string]string `json:"facts,omitempty"`
	Approval string            `json:"approval,omitempty"`
	// Attrs are further facts of this type of event.
	Attrs map[string]string `json:"attrs,omitempty"`
	// Redaction is the class that audiences are filtered by: public, customer,
	// internal.
	Redaction string `json:"redaction"`
	// Origin says where in which history this event comes from.
	Origin Origin `json:"origin"`
}

// Origin points into a Temporal history, or to what stands outside of it.
type Origin struct {
	Workflow string `json:"workflow,omitempty"`
	Run      string `json:"run,omitempty"`
	EventID  int64  `json:"event_id,omitempty"`
	// Outside is set for events that no history holds ("ledger", "journal").
	Outside string `json:"outside,omitempty"`
}

// Event types.
const (
	EventOpened          = "incident.opened"
	EventReopened        = "incident.reopened"
	EventTrigger         = "trigger.received"
	EventPhase           = "phase.entered"
	EventPreserved       = "evidence.preserved"
	EventScope           = "scope.version"
	EventDecision        = "decision.made"
	EventPlan            = "plan.version"
	EventApprovalAsked   = "approval.requested"
	EventApprovalGiven   = "approval.granted"
	EventApprovalDenied  = "approval.denied"
	EventApprovalExpired = "approval.expired"
	EventApprovalVoided  = "approval.voided"
	EventRefused         = "statement.refused"
	EventBreakGlass      = "approval.broken-glass"
	EventHoldSet         = "hold.set"
	EventHoldReleased    = "hold.released"
	EventHoldExpired     = "hold.expired"
	EventCallAttempted   = "call.attempted"
	EventCallConfirmed   = "call.confirmed"
	EventCallFailed      = "call.failed"
	EventReconciled      = "issue.reconciled"
	// EventPass: one verb was called over rows of pages. Attrs count the rows, the calls
	// made and their outcomes; Evidence names the journal where there is one, then the
	// pages that went in (pages_in of them) and those that came out.
	EventPass    = "pass.done"
	EventProbe   = "probe.result"
	EventLadder  = "ladder.climbed"
	EventContain = "contain.decided"
	EventItem    = "item.end-state"
	// EventPulled: a row of a page has become an item of the incident. EventMassEnd: a
	// wave over pages has ended; Evidence names the list of its rows.
	EventPulled     = "item.pulled"
	EventMassEnd    = "wave.ended"
	EventHuman      = "human.asked"
	EventHumanDone  = "human.resolved"
	EventNotice     = "notice.rendered"
	EventGate       = "gate.opened"
	EventReissued   = "reissue.created"
	EventDelivered  = "reissue.delivered"
	EventAdopted    = "reissue.adopted"
	EventSecretGone = "secret.destroyed"
	EventTripwire   = "tripwire.hit"
	EventNote       = "note.added"
	EventClosed     = "incident.closed"
	EventSealed     = "bundle.sealed"
	EventGap        = "record.gap"
	// EventRecordTold: a channel that follows the incident has taken what the engine
	// told it. Verb is open, append or close; Attrs hold the channel, the place, and
	// of a line its number, kind, text, time and the vendor's receipt.
	EventRecordTold = "record.told"
	// EventRecordBehind and EventRecordCaught: a channel does not keep up, and does
	// again. Result is the class of the failure ("gave-up" when it was the last).
	EventRecordBehind = "record.behind"
	EventRecordCaught = "record.caught-up"
)

// Redaction classes.
const (
	Public   = "public"
	Customer = "customer"
	Internal = "internal"
)
