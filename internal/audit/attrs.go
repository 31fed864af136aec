package audit

// Keys of [Event].Attrs that the report, the statistics and the exports read. An
// event may carry others; of these, each is left out where it is not known.
//
//	trigger.received   Result accepted|merged|ignored; exposed, source, confidence, key_id
//	phase.entered      Phase is the phase entered
//	scope.version      version, items, observed, reachable; from, to, source of dark windows are in the view
//	decision.made      FP, Rule, Result is the strategy; key_id, provider, account, kind, exposed
//	plan.version       version, calls, waves
//	approval.*         Approval, Actor, Auth, WaveHash; role, for, needed, expires
//	statement.refused  Actor, Result is the error code; action
//	call.*             FP, Verb, Attempt, RequestID, Result is the outcome; call.attempted has none
//	probe.result       FP, Result alive|refused|unclear|mismatch; subject, vantage, control, mode, death, grade
//	ladder.climbed     FP; rung
//	item.end-state     FP, Result is the end state; grade, rung, new_key_id
//	human.asked        FP; owner, due, what
//	reissue.*          FP; new_key_id, store
//	notice.rendered    Result queued|sent|delivered|bounced|acknowledged; recipient, channel, audience, version
//	tripwire.hit       FP, SourceTime, Result denied|allowed|unclear; source, who
//	incident.closed    Result contained|all-clear
//	bundle.sealed      Result is the digest of the bundle before
//	record.gap         from, to, what, why
const (
	AttrSource     = "source"
	AttrConfidence = "confidence"
	// AttrExposed is since when the key was in foreign hands, RFC 3339.
	AttrExposed  = "exposed"
	AttrKeyID    = "key_id"
	AttrProvider = "provider"
	AttrAccount  = "account"
	AttrKind     = "kind"
	// AttrSubject of a probe is "old" (the default) or "new".
	AttrSubject = "subject"
	AttrVantage = "vantage"
	// AttrControl is "true" where the positive control passed in the same round.
	AttrControl = "control"
	// AttrDeath is the state of death after this probe; "dead" on the probe that
	// completes the proof.
	AttrDeath     = "death"
	AttrGrade     = "grade"
	AttrRung      = "rung"
	AttrNewKeyID  = "new_key_id"
	AttrStore     = "store"
	AttrRecipient = "recipient"
	AttrChannel   = "channel"
	AttrAudience  = "audience"
	AttrVersion   = "version"
	AttrRole      = "role"
	AttrFor       = "for"
	AttrAction    = "action"
	AttrWho       = "who"
	AttrWhat      = "what"
	AttrWhy       = "why"
	AttrOwner     = "owner"
	AttrDue       = "due"
	AttrFrom      = "from"
	AttrTo        = "to"
	AttrItems     = "items"
)

// Values of Attrs that change how an event is read.
const (
	SubjectNew = "new"
	DeathDead  = "dead"
)
