package audit

// Keys of [Event].Attrs that the report, the statistics and the exports read. An
// event may carry others; of these, each is left out where it is not known.
//
//	trigger.received   FP; SourceTime is since when the reporter says so; source, confidence, exposed, key_id
//	phase.entered      Phase is the phase entered
//	decision.made      FP, Rule, Result is the strategy or "promoted"
//	contain.decided    FP, Result; one attribute for each condition
//	approval.*         Approval, Actor, Auth, WaveHash, Result is what for; role, note
//	statement.refused  Actor, Result is the error code; action, why
//	call.attempted     FP, Verb, Attempt; key_id, provider, account, kind
//	call.confirmed,    FP, Verb, Attempt, RequestID, Result is the outcome
//	call.failed
//	pass.done          Verb, Attempt, Token is the pass; provider, account, rows, made, groups, journal, and for each
//	                   outcome "outcome <name>", for each class of failure "failed <class>". Evidence: the journal
//	                   where there is one, pages_in pages that went in, pages_out that came out
//	item.pulled        FP, Result is why; wave, step, death
//	wave.ended         WaveHash, Evidence is the list of its rows; items, open, the end states, "death <state>", …
//	probe.result       FP, Result alive|refused|unclear|mismatch for one answer: vantage, control, mode, subject;
//	                   Result "dead" for the verdict that completes the proof: grade, rung
//	ladder.climbed     FP, Result is the rung
//	item.end-state     FP, Result is the end state; grade, rung, new_key_id. Without FP: of all rows of the lists in
//	                   Evidence, as people decided; items, strategy, why, until
//	human.asked        FP; owner, due, what
//	human.resolved     Actor; what, says
//	reissue.*          FP; new_key_id
//	notice.rendered    Result is the delivery state; recipient, channel, audience, version, gate
//	gate.opened        FP, Result is how; gate
//	tripwire.hit       FP, SourceTime, Result refused|succeeded; source, caller
//	note.added         Actor; text
//	incident.closed    Result contained|all-clear; else the end of the watch
//	record.gap         from, to, what, why, workflow
//	record.told        Verb open|append|close, RequestID; channel, where, id, url; of an open: target;
//	                   of an append: line, kind, text, said, and receipt where the channel shows the line;
//	                   of a close: state, bundle
//	record.behind      Result is the class of the failure, or "gave-up"; channel, since, op, line, waiting, why, permission
//	record.caught-up   channel, since, line
const (
	AttrSource     = "source"
	AttrConfidence = "confidence"
	// AttrExposed is since when the key was in foreign hands, RFC 3339.
	AttrExposed  = "exposed"
	AttrKeyID    = "key_id"
	AttrProvider = "provider"
	AttrAccount  = "account"
	AttrKind     = "kind"
	// AttrSubject of a probe is "old" or "new".
	AttrSubject = "subject"
	AttrVantage = "vantage"
	// AttrControl is "true" where the positive control passed in the same round.
	AttrControl   = "control"
	AttrGrade     = "grade"
	AttrRung      = "rung"
	AttrNewKeyID  = "new_key_id"
	AttrStore     = "store"
	AttrRecipient = "recipient"
	AttrChannel   = "channel"
	AttrAudience  = "audience"
	AttrVersion   = "version"
	AttrRole      = "role"
	AttrAction    = "action"
	AttrCaller    = "caller"
	AttrGate      = "gate"
	AttrSays      = "says"
	AttrNote      = "note"
	AttrText      = "text"
	AttrWorkflow  = "workflow"
	AttrWhat      = "what"
	AttrWhy       = "why"
	AttrOwner     = "owner"
	AttrDue       = "due"
	AttrFrom      = "from"
	AttrTo        = "to"
	AttrItems     = "items"
	AttrRows      = "rows"
	AttrMade      = "made"
	// AttrOutcome and AttrFailed begin the counts of a pass.
	AttrOutcome = "outcome "
	AttrFailed  = "failed "
	// AttrWhere is a channel's own name of the place: a Slack channel id, owner/repo;
	// AttrTarget is the one that was configured. AttrID is the thread or issue there.
	AttrWhere  = "where"
	AttrTarget = "target"
	AttrID     = "id"
	AttrURL    = "url"
	// AttrLine is the number of a line of the story: the one told or, of an outage,
	// the last one that the place shows. AttrSaid is when the engine said it.
	AttrLine = "line"
	AttrSaid = "said"
	// AttrReceipt is the vendor's id of a line that was told.
	AttrReceipt = "receipt"
	AttrState   = "state"
	AttrBundle  = "bundle"
	AttrSince   = "since"
	// AttrOp is what a channel failed at, AttrWaiting how many lines wait for it.
	AttrOp         = "op"
	AttrWaiting    = "waiting"
	AttrPermission = "permission"
)

// Values that change how an event is read.
const (
	// SubjectNew is the subject of a probe of the replacement key.
	SubjectNew = "new"
	// ProbeDead is the Result of a probe.result that is the verdict, not an answer.
	ProbeDead = "dead"
	// HitRefused is the Result of a use of the dead key that did not get through.
	HitRefused = "refused"
	// RecordOpen, RecordAppend and RecordClose are the Verb of a record.told.
	RecordOpen   = "open"
	RecordAppend = "append"
	RecordClose  = "close"
	// RecordGaveUp is the Result of a record.behind after which nobody tries again.
	RecordGaveUp = "gave-up"
)
