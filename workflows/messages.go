package workflows

import (
	"strings"
	"time"

	"rekey/activities"
	"rekey/internal/plan"
	"rekey/internal/statement"
	"rekey/internal/view"
	"rekey/playbooks"
)

// TaskQueue is where workflows and the engine's own activities run.
const TaskQueue = "rekey"

// HoldQueue is where processes wait to become the holder of an account, and where
// the workflows run that keep the leases. It is apart from [TaskQueue] because a
// hold lasts for hours: many accounts would take every activity slot of a process
// from the engine's own steps; and because who is next must be told fast.
const HoldQueue = "rekey-hold"

// AccountQueue is where the passes over one provider account wait. Exactly one
// process polls it at a time: the holder of the account's lease, or the one
// process that holds an embedded installation.
func AccountQueue(provider, account string) string { return AccountID(provider, account) }

// AccountID is the id of the workflow that keeps an account's lease.
func AccountID(provider, account string) string { return "account/" + provider + "/" + account }

// Names of workflow types. They are written into histories.
const (
	TypeIncident = "Incident"
	TypeWave     = "Wave"
	TypeWatch    = "Watch"
	TypeRegister = "Register"
	TypeAccount  = "Account"
	TypeRecord   = "Record"
)

// Names of signals.
const (
	// SignalReport brings a [Report] to an incident, SignalReports what came in
	// together ([ReportBatch]).
	SignalReport  = "report"
	SignalReports = "reports"
	// SignalClock moves the world's clock of a drill ([ClockTick]).
	SignalClock = "clock"
	// SignalWave is what a wave tells its incident ([WaveEvent]).
	SignalWave = "wave-event"
	// SignalCommand is what an incident tells its wave ([WaveCommand]).
	SignalCommand = "wave-command"
	// SignalStop ends a watch before its time.
	SignalStop = "stop"
	// SignalMore gives a running watch further dead keys ([WatchMore]).
	SignalMore = "more"
	// SignalStory is what an incident tells the record of a channel ([Story]).
	SignalStory = "story"
	// SignalRecord is how that record stands ([RecordState]).
	SignalRecord = "record-state"
)

// UpdateClaim is the register's update ([Claim] -> [ClaimResult]). The updates of
// an incident carry the names of the statement's actions.
const UpdateClaim = "claim"

// Names of queries.
const (
	QueryShow  = "show"  // view.Incident
	QueryItems = "items" // []view.Item
	QueryPlan  = "plan"  // plan.Plan
	QueryClock = "clock" // ClockState
	// QueryTaken tells which reports an incident has (Taken).
	QueryTaken = "taken"
)

// Names of the engine's own activities.
const (
	ActivityAdmit    = "engine.Admit"    // AdmitInput -> AdmitResult
	ActivityPreserve = "engine.Preserve" // PreserveInput -> PreserveResult
	ActivityExpand   = "engine.Expand"   // ExpandInput -> ExpandResult
	ActivityPlan     = "engine.Plan"     // PlanInput -> plan.Plan
	ActivityClaim    = "engine.Claim"    // ClaimInput -> ClaimResult
	ActivitySeal     = "engine.Seal"     // SealInput -> SealResult
	ActivityForget   = "engine.Forget"   // ForgetInput -> nothing
	ActivityAlarm    = "engine.Alarm"    // AlarmInput -> nothing
	ActivityHold     = "account.Hold"    // HoldInput -> HoldResult
	ActivityArchive  = "engine.Archive"  // ArchiveInput -> ArchiveResult
)

// IncidentID and friends build workflow ids. No key, person or customer is in
// them: ids are never encrypted.
func IncidentID(incident string) string { return "incident/" + incident }

// RegisterID is the register of a fingerprint, by the first byte of its digits
// ("fp1_3f…" -> "register/3f").
func RegisterID(fp string) string {
	const hexes = "0123456789abcdef"
	_, digits, _ := strings.Cut(fp, "_")
	if len(digits) < 2 || !strings.Contains(hexes, digits[:1]) || !strings.Contains(hexes, digits[1:2]) {
		return "register/00"
	}
	return "register/" + digits[:2]
}

// RegisterVolume is a further volume of a register, which is named by its first
// ("register/3f", 2 -> "register/3f.2").
func RegisterVolume(register string, volume int) string {
	if volume == 0 {
		return register
	}
	return register + "." + itoa(volume)
}

// Settings are pinned when an incident starts: nothing that is edited later
// changes a running incident.
type Settings struct {
	Playbook playbooks.Playbook `json:"playbook"`
	Digest   string             `json:"digest"`
	People   []statement.Person `json:"people"`
	// ServerKeys are base64 Ed25519 keys of the rekey servers that may sign
	// statements of triggers.
	ServerKeys []string `json:"server_keys"`
	// Quorum and OutsideChat are the ceiling of rekey.yaml for irreversible verbs.
	Quorum      int `json:"quorum"`
	OutsideChat int `json:"outside_chat"`
	// Solo: exactly one person is configured and quorum is 1, so the reporter's
	// own vote counts and is recorded as self-approved.
	Solo bool `json:"solo,omitempty"`
	// Kinds are the descriptors' facts that workflows need, by provider/kind.
	Kinds map[string]KindFacts `json:"kinds"`
	// Holds are the standing holds of rekey.yaml.
	Holds []StandingHold `json:"holds,omitempty"`
	// Virtual: waits go by the clock of a drill.
	Virtual bool `json:"virtual,omitempty"`
	// Large is from how many items on an incident keeps further ones as rows of pages
	// (docs/design/0017); 0: never, as builds before did.
	Large int `json:"large,omitempty"`
	// Off are rules that a drill's negative control switched off. Only the lab's
	// namespace accepts it.
	Off []string `json:"off,omitempty"`
	// Channels are the channels that rekey.yaml configures (slack, github, …): where
	// this incident may be followed and its notices sent.
	Channels []string `json:"channels,omitempty"`
	// VoteRests are keys that a way to vote rests on besides its own provider's, by
	// method: "provider", "provider/account" or a key id. With one of them in scope
	// that method carries no decisions.
	VoteRests map[string][]string `json:"vote_rests,omitempty"`
	// UI is the Temporal UI's base URL, for links.
	UI        string `json:"ui,omitempty"`
	Namespace string `json:"namespace,omitempty"`
}

// Rules that a negative control may switch off.
const (
	// OffProbeOld: trust the answer of the kill call.
	OffProbeOld = "probe-old"
	// OffReconcile: call Issue again without settling the lost one.
	OffReconcile = "issue-reconcile"
)

// KindFacts is what a workflow must know of a kind of credential.
type KindFacts struct {
	Verbs           map[activities.Verb]activities.VerbInfo `json:"verbs"`
	PropagationMs   int64                                   `json:"propagation_ms"`
	SessionsOutlive bool                                    `json:"sessions_outlive"`
	ProbeAction     bool                                    `json:"probe_action"`
	// Vantages by account.
	Vantages map[string][]string `json:"vantages,omitempty"`
	// RungVerbs by rung.
	RungVerbs map[string]activities.Verb `json:"rung_verbs,omitempty"`
}

// StandingHold is a hold of the configuration.
type StandingHold struct {
	KeyID string    `json:"key_id"`
	By    string    `json:"by"`
	Why   string    `json:"why"`
	Until time.Time `json:"until,omitzero"`
}

// IncidentInput starts an incident, or its next run.
type IncidentInput struct {
	ID       string   `json:"id"`
	Settings Settings `json:"settings"`
	// Reopened is set when an earlier run of this incident was closed.
	Reopened *Reopened `json:"reopened,omitempty"`
	// State is carried by continue-as-new.
	State *IncidentState `json:"state,omitempty"`
}

// Reopened points to the run that this one reopens.
type Reopened struct {
	Run    string `json:"run"`
	Digest string `json:"digest"`
	// Waves is how many waves the incident had: numbers go on.
	Waves int `json:"waves,omitempty"`
	// Records are where that run was followed: the same places are gone on with, and
	// so are the numbers of their lines.
	Records []view.Record `json:"records,omitempty"`
	// Taken are the last reports of that run: sent again, they are not new.
	Taken Taken `json:"taken,omitempty"`
}

// Report is what a trigger says. It holds no secret: Secret is a handle in the
// sealed store.
type Report struct {
	ID         string         `json:"id"`
	Source     string         `json:"source"`
	SourceKind string         `json:"source_kind"`
	Actor      string         `json:"actor"`
	Received   time.Time      `json:"received"`
	Claimed    time.Time      `json:"claimed,omitzero"`
	Confidence string         `json:"confidence"`
	Subject    string         `json:"subject,omitempty"`
	Exposure   string         `json:"exposure,omitempty"`
	Key        activities.Key `json:"key"`
	// Alias is the fingerprint over the secret, where both are known.
	Alias      string     `json:"alias,omitempty"`
	Secret     string     `json:"secret,omitempty"`
	Possession bool       `json:"possession,omitempty"`
	Severity   string     `json:"severity,omitempty"`
	Reason     string     `json:"reason,omitempty"`
	Evidence   []Evidence `json:"evidence,omitempty"`
	// Copies are places where the trigger saw a copy of the secret.
	Copies []string `json:"copies,omitempty"`
	// Ceiling is what the source may cause at most: "propose" or "contain".
	Ceiling   string           `json:"ceiling"`
	Statement statement.Signed `json:"statement"`
}

// ReportBatch is reports that came in together.
type ReportBatch struct {
	Reports []Report `json:"reports"`
}

// Evidence is a file given with a report, kept in the blob store under its hash.
type Evidence struct {
	Name string `json:"name"`
	Hash string `json:"hash"`
	Size int64  `json:"size"`
}

// Decision is the answer to an accepted update.
type Decision struct {
	// Approval is the question it counted for, State what became of it.
	Approval string `json:"approval,omitempty"`
	State    string `json:"state,omitempty"`
	Votes    int    `json:"votes,omitempty"`
	Needed   int    `json:"needed,omitempty"`
	Note     string `json:"note,omitempty"`
	ID       string `json:"id,omitempty"`
}

// RefusalType is the type of the application error that a refused update carries;
// its details are a view.ErrorBody.
const RefusalType = "refused"

// Claim asks a register for fingerprints, at most [ClaimMost], on behalf of an
// incident.
type Claim struct {
	FPs      []string `json:"fps"`
	Incident string   `json:"incident"`
	// From moves what that incident owns to Incident: both turned out to be about one
	// key. What a third one owns stays there.
	From string `json:"from,omitempty"`
	// Conflicts asks for an answer that names only what others own.
	Conflicts bool `json:"conflicts,omitempty"`
}

// ClaimResult says whose each fingerprint is.
type ClaimResult struct {
	Owners map[string]string `json:"owners"`
	// New is how many had no owner before.
	New int `json:"new,omitempty"`
	// Left are those that this volume does not have and does not take, because it is
	// full: they are to be claimed from volume Next ([RegisterVolume]).
	Left []string `json:"left,omitempty"`
	Next int      `json:"next,omitempty"`
}

// ClockTick moves a drill's clock.
type ClockTick struct {
	Now time.Time `json:"now"`
	Seq int64     `json:"seq"`
}

// ClockState is what a drill's driver asks of every workflow.
type ClockState struct {
	Now time.Time `json:"now"`
	// Wake is when the workflow wants to be woken next; zero: never.
	Wake time.Time `json:"wake,omitzero"`
	// Busy: activities, messages to others or handlers are under way.
	Busy bool `json:"busy"`
	// Seq is the last tick that was seen.
	Seq int64 `json:"seq"`
	// Waiting says for what, for people.
	Waiting string `json:"waiting,omitempty"`
}

// AdmitInput asks whether the reported key may be disabled at once, and how
// severe the report is, before scope is known.
type AdmitInput struct {
	Incident string             `json:"incident"`
	Report   Report             `json:"report"`
	Playbook playbooks.Playbook `json:"playbook"`
	Now      time.Time          `json:"now"`
}

// AdmitResult is the answer with every condition.
type AdmitResult struct {
	Severity string       `json:"severity"`
	Contain  view.Contain `json:"contain"`
	// Principal, where the estate knows it.
	Principal string `json:"principal,omitempty"`
}

// PreserveInput keeps evidence before anything destructive.
type PreserveInput struct {
	Incident string                     `json:"incident"`
	Items    []activities.Key           `json:"items"`
	Readings []activities.InspectResult `json:"readings"`
	Reports  []Report                   `json:"reports"`
	Now      time.Time                  `json:"now"`
}

// PreserveResult names what was kept.
type PreserveResult struct {
	Evidence []Evidence `json:"evidence"`
}

// ExpandInput asks the estate for what the items reach in one round.
type ExpandInput struct {
	Incident string   `json:"incident"`
	Items    []Scoped `json:"items"`
	// Depth is how many more steps the scope may take, this one too.
	Depth    int           `json:"depth"`
	Now      time.Time     `json:"now"`
	Lookback time.Duration `json:"lookback"`
	Evidence []Evidence    `json:"evidence,omitempty"`
	// Large is from how many items on further ones come as rows of pages, 0: never.
	// Known are lists of rows that are in scope already.
	Large int      `json:"large,omitempty"`
	Known []string `json:"known,omitempty"`
	// Reported are the places of copies that reports name, by the fingerprint of their
	// key: what else was kept there is in question too.
	Reported map[string][]string `json:"reported,omitempty"`
}

// Scoped is an item with what is known of it.
type Scoped struct {
	Key     activities.Key            `json:"key"`
	Alias   string                    `json:"alias,omitempty"`
	Secret  string                    `json:"secret,omitempty"`
	Basis   string                    `json:"basis"` // report, estate, provider, sweep
	Why     string                    `json:"why"`
	Depth   int                       `json:"depth"`
	Reading *activities.InspectResult `json:"reading,omitempty"`
	// Estate is what the estate says.
	Owner      string           `json:"owner,omitempty"`
	OwnerKind  string           `json:"owner_kind,omitempty"`
	Exposure   string           `json:"exposure,omitempty"`
	Dependents []plan.Dependent `json:"dependents,omitempty"`
	Customers  []string         `json:"customers,omitempty"`
	Copies     []string         `json:"copies,omitempty"`
	// Unattributed and CreatedByCompromised: how it came to be.
	Unattributed         bool `json:"unattributed,omitempty"`
	CreatedByCompromised bool `json:"created_by_compromised,omitempty"`
	// Conflict is another incident that has claimed this key.
	Conflict string `json:"conflict,omitempty"`
	// StoreDirty: the attacker can read where the new secret would go.
	StoreDirty *bool `json:"store_dirty,omitempty"`
}

// ExpandResult is what one round found.
type ExpandResult struct {
	// Items are the given ones, with the estate's knowledge, and new ones.
	Items  []Scoped            `json:"items"`
	Unseen []activities.Unseen `json:"unseen,omitempty"`
	// Dark is when the estate does not know what places held.
	Dark []activities.Window `json:"dark,omitempty"`
	// Reachable counts the keys that the estate says could be reached.
	Reachable int `json:"reachable"`
	// Mass is further items as rows: all that the playbook's depth reaches.
	Mass *MassPart `json:"mass,omitempty"`
}

// PlanInput asks for a plan over the items.
type PlanInput struct {
	Incident string             `json:"incident"`
	Version  int                `json:"version"`
	Playbook playbooks.Playbook `json:"playbook"`
	Digest   string             `json:"digest"`
	Items    []Scoped           `json:"items"`
	Report   Report             `json:"report"`
	Held     []string           `json:"held,omitempty"`
	Now      time.Time          `json:"now"`
	// Started are waves that run or have ended: they stay in the plan as they are,
	// and their items are only decided again, so that abuse can promote them.
	Started []plan.Wave `json:"started,omitempty"`
	// Kinds as pinned.
	Kinds map[string]KindFacts `json:"kinds"`
	// Malicious are uses that a person declared, by fingerprint.
	Malicious map[string]int64 `json:"malicious,omitempty"`
	// Paged are the waves over rows, to be sealed into the same plan: they come behind
	// the others.
	Paged *PlanPagesResult `json:"paged,omitempty"`
}

// PlanResult is the plan and the severity that the scope gives.
type PlanResult struct {
	Plan     plan.Plan `json:"plan"`
	Severity string    `json:"severity"`
}

// ClaimInput claims keys of an incident in the registers.
type ClaimInput struct {
	Incident string   `json:"incident"`
	FPs      []string `json:"fps"`
}

// SealInput writes a bundle.
type SealInput struct {
	Incident string        `json:"incident"`
	View     view.Incident `json:"view"`
	Final    bool          `json:"final"`
	// Workflows are the ids whose histories belong to it.
	Workflows []string    `json:"workflows"`
	Plans     []plan.Plan `json:"plans,omitempty"`
	Evidence  []Evidence  `json:"evidence,omitempty"`
	Now       time.Time   `json:"now"`
	// Chapters are kept histories, by hash.
	Chapters []Chapter `json:"chapters,omitempty"`
	// Lists are rows at their end, and those that no wave moves.
	Lists []string `json:"lists,omitempty"`
	// Extend: take view, plans and evidence from the bundle before.
	Extend bool `json:"extend,omitempty"`
}

// AlarmInput reports a use of a dead key that succeeded.
type AlarmInput struct {
	Incident string         `json:"incident"`
	Key      activities.Key `json:"key"`
	Hit      Hit            `json:"hit"`
	Now      time.Time      `json:"now"`
}

// SealResult names the bundle.
type SealResult struct {
	Path   string `json:"path"`
	Digest string `json:"digest"`
	Events int64  `json:"events"`
}

// ForgetInput destroys the sealed secrets of an incident.
type ForgetInput struct {
	Incident string `json:"incident"`
}
