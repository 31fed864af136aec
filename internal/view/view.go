// Package view is the JSON that rekey shows of an incident (contracts section 4).
// The shapes are fixed: keys may be added, nothing else.
package view

import "strconv"

// Incident is `incident show --json`.
type Incident struct {
	Schema       string   `json:"schema"`
	ID           string   `json:"id"`
	WorkflowID   string   `json:"workflow_id"`
	RunID        string   `json:"run_id"`
	ReopenedFrom string   `json:"reopened_from,omitempty"`
	Phase        string   `json:"phase"`
	State        string   `json:"state"`
	Severity     string   `json:"severity"`
	Playbook     Playbook `json:"playbook"`
	Times        Times    `json:"times"`
	Reports      []Report `json:"reports"`
	// ReportsTotal counts all reports: those of Reports, and those that said nothing
	// new and are counted by source.
	ReportsTotal int               `json:"reports_total,omitempty"`
	Repeats      []Repeat          `json:"repeats,omitempty"`
	Scope        Scope             `json:"scope"`
	Plan         *Plan             `json:"plan,omitempty"`
	Approvals    []Approval        `json:"approvals"`
	Items        []Item            `json:"items"`
	Truncated    bool              `json:"items_truncated"`
	Totals       Totals            `json:"totals"`
	Holds        []Hold            `json:"holds"`
	Obligations  []Obligation      `json:"obligations"`
	NeedsHuman   []Human           `json:"needs_human"`
	Notices      Notices           `json:"notices"`
	NoticesSent  []Notice          `json:"notices_sent,omitempty"`
	Bundle       *Bundle           `json:"bundle,omitempty"`
	Links        map[string]string `json:"links,omitempty"`
	Refusals     []Refusal         `json:"refusals,omitempty"`
	Contain      *Contain          `json:"contain_on_report,omitempty"`
	Notes        []Note            `json:"notes,omitempty"`
	Records      []Record          `json:"records,omitempty"`
	Mass         *Mass             `json:"mass,omitempty"`
}

// Mass is the items of a large incident that are rows of pages (docs/design/0017).
// They count in Totals; `incident items` lists them.
type Mass struct {
	Items int `json:"items"`
	Open  int `json:"open"`
	// Dead are proven dead; ByDeath and ByAdoption count the rows by those states.
	Dead       int            `json:"dead"`
	ByDeath    map[string]int `json:"by_death,omitempty"`
	ByAdoption map[string]int `json:"by_adoption,omitempty"`
	// Reading are those that the scope still reads.
	Reading int        `json:"reading,omitempty"`
	Waves   []MassWave `json:"waves,omitempty"`
	Left    []MassLeft `json:"left,omitempty"`
}

// MassWave is a wave whose items are rows.
type MassWave struct {
	N     int `json:"n"`
	Items int `json:"items"`
	Open  int `json:"open"`
	Dead  int `json:"dead"`
	// ETAMs is how long the plan gives it, from its start at Started on.
	ETAMs   int64  `json:"eta_ms,omitempty"`
	Started string `json:"started,omitempty"`
}

// MassLeft is rows that no wave moves, and how people ended them.
type MassLeft struct {
	Strategy string `json:"strategy"`
	Items    int    `json:"items"`
	EndState string `json:"end_state,omitempty"`
	// Task is the step that stands for them.
	Task string `json:"task,omitempty"`
}

// SchemaIncident is the schema name of [Incident].
const SchemaIncident = "rekey.incident/v1"

// Playbook names the pinned playbook.
type Playbook struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Digest  string `json:"digest"`
}

// Times of an incident, RFC 3339.
type Times struct {
	Reported   string `json:"reported,omitempty"`
	Aware      string `json:"aware,omitempty"`
	Contained  string `json:"contained,omitempty"`
	Closed     string `json:"closed,omitempty"`
	Sealed     string `json:"sealed,omitempty"`
	WatchUntil string `json:"watch_until,omitempty"`
}

// Report is what a trigger said.
type Report struct {
	ID         string   `json:"id"`
	Source     string   `json:"source"`
	Actor      string   `json:"actor"`
	Received   string   `json:"received"`
	Claimed    string   `json:"claimed,omitempty"`
	Confidence string   `json:"confidence"`
	Evidence   []string `json:"evidence,omitempty"`
	Reason     string   `json:"reason,omitempty"`
	// Copies are places where the reporter saw a copy of the secret.
	Copies []string `json:"copies,omitempty"`
}

// Repeat counts the reports of one source that said nothing new. Each of them is an
// event trigger.received of the bundle.
type Repeat struct {
	Source string `json:"source"`
	Actor  string `json:"actor,omitempty"` // one of the incident's people
	N      int    `json:"n"`
	First  string `json:"first"`
	Last   string `json:"last"`
	// Unread are those that did say something new when there was no room for them.
	Unread int `json:"unread,omitempty"`
	// Chain is a hash over all of them in their order.
	Chain string `json:"chain"`
}

// Scope is the current version.
type Scope struct {
	Version   int      `json:"version"`
	Items     int      `json:"items"`
	Observed  int      `json:"observed"`
	Reachable int      `json:"reachable"`
	Basis     []string `json:"basis"`
	Unseen    []Unseen `json:"unseen"`
	Dark      []Dark   `json:"dark"`
}

// Unseen is what the scope could not read.
type Unseen struct {
	Source     string `json:"source"`
	Why        string `json:"why"`
	Permission string `json:"permission,omitempty"`
}

// Dark is a span without logs.
type Dark struct {
	From   string `json:"from"`
	To     string `json:"to"`
	Source string `json:"source"`
}

// Plan is the current plan in short.
type Plan struct {
	Hash    string  `json:"hash"`
	Version int     `json:"version"`
	Waves   []Wave  `json:"waves"`
	Calls   int     `json:"calls"`
	ETAMs   int64   `json:"eta_ms"`
	Breaks  []Break `json:"breaks"`
}

// Wave is one wave in short.
type Wave struct {
	N        int    `json:"n"`
	Hash     string `json:"hash"`
	Strategy string `json:"strategy"`
	Items    int    `json:"items"`
	State    string `json:"state,omitempty"`
}

// Break is a dependent that the plan will interrupt.
type Break struct {
	Dependent string `json:"dependent"`
	OutageMs  int64  `json:"outage_ms"`
	BudgetMs  int64  `json:"budget_ms,omitempty"`
	Owner     string `json:"owner,omitempty"`
}

// Approval is a question to people.
type Approval struct {
	ID       string   `json:"id"`
	For      string   `json:"for"`
	Strategy string   `json:"strategy,omitempty"`
	WaveHash string   `json:"wave_hash"`
	Wave     int      `json:"wave,omitempty"`
	State    string   `json:"state"`
	Needed   int      `json:"needed"`
	Roles    []string `json:"roles"`
	Votes    []Vote   `json:"votes"`
	// Asked is when the question was put.
	Asked   string   `json:"asked,omitempty"`
	Expires string   `json:"expires,omitempty"`
	Items   []string `json:"items,omitempty"`
	What    string   `json:"what,omitempty"`
	Level   int      `json:"level,omitempty"`
	// Outside is how many of the votes needed must come from outside of chat.
	Outside int `json:"outside,omitempty"`
}

// Vote is one person's answer.
type Vote struct {
	Actor string `json:"actor"`
	Role  string `json:"role"`
	Vote  string `json:"vote"`
	At    string `json:"at"`
	Auth  string `json:"auth"`
	Note  string `json:"note,omitempty"`
}

// Item is one thing to make harmless.
type Item struct {
	FP       string    `json:"fp"`
	Short    string    `json:"short"`
	Provider string    `json:"provider"`
	Account  string    `json:"account"`
	Kind     string    `json:"kind"`
	KeyID    string    `json:"key_id,omitempty"`
	Owner    string    `json:"owner,omitempty"`
	Strategy string    `json:"strategy"`
	Rule     string    `json:"rule"`
	Wave     int       `json:"wave"`
	Step     string    `json:"step"`
	Death    Death     `json:"death"`
	Adoption Adoption  `json:"adoption"`
	EndState string    `json:"end_state"`
	Open     Open      `json:"open"`
	Outcomes []Outcome `json:"outcomes"`
	Why      string    `json:"why,omitempty"`
	Approver string    `json:"approver,omitempty"`
	Until    string    `json:"until,omitempty"`
}

// Death is how far the old key is proven dead.
type Death struct {
	State        string   `json:"state"`
	Refusals     int      `json:"refusals"`
	Needed       int      `json:"needed"`
	FirstRefused string   `json:"first_refused,omitempty"`
	LastAlive    string   `json:"last_alive,omitempty"`
	Rung         string   `json:"rung,omitempty"`
	Vantages     []string `json:"vantages,omitempty"`
	Grade        string   `json:"grade,omitempty"`
}

// Adoption is how far the replacement is proven adopted.
type Adoption struct {
	State      string `json:"state"`
	NewKeyID   string `json:"new_key_id,omitempty"`
	Receipts   int    `json:"receipts"`
	Dependents int    `json:"dependents"`
	CutOver    int    `json:"cut_over"`
}

// Open says what an item waits for, on whom, until when.
type Open struct {
	Why   string `json:"why"`
	Owner string `json:"owner"`
	Due   string `json:"due"`
}

// Outcome is one call.
type Outcome struct {
	Verb      string `json:"verb"`
	Outcome   string `json:"outcome"`
	Attempt   int    `json:"attempt"`
	At        string `json:"at"`
	RequestID string `json:"request_id,omitempty"`
	Detail    string `json:"detail,omitempty"`
}

// Totals count items.
type Totals struct {
	Items      int            `json:"items"`
	Open       int            `json:"open"`
	ByEndState map[string]int `json:"by_end_state"`
	ByOutcome  map[string]int `json:"by_outcome"`
}

// Hold names items that must not move.
type Hold struct {
	ID    string   `json:"id"`
	Items []string `json:"items"`
	By    string   `json:"by"`
	Why   string   `json:"why"`
	Until string   `json:"until"`
	State string   `json:"state"`
}

// Obligation is a duty to tell someone.
type Obligation struct {
	ID   string `json:"id"`
	What string `json:"what"`
	Due  string `json:"due"`
}

// Human is a step that a person must do.
type Human struct {
	ID    string `json:"id"`
	FP    string `json:"fp,omitempty"`
	What  string `json:"what"`
	Steps string `json:"steps,omitempty"`
	Owner string `json:"owner"`
	Due   string `json:"due"`
	State string `json:"state"`
	Text  string `json:"text,omitempty"`
	By    string `json:"by,omitempty"`
}

// A Notice is one message to one recipient in one version. It names them by ref; the
// text is in the blob store and in the bundle.
type Notice struct {
	ID       string `json:"id"`
	Wave     int    `json:"wave"`
	Audience string `json:"audience"` // owner, customer
	Ref      string `json:"ref"`
	Template string `json:"template"`
	Class    string `json:"class"` // warn, cut
	Version  int    `json:"version"`
	// Channel and Contact (its order) that it went to, or goes to next.
	Channel string   `json:"channel,omitempty"`
	Contact int      `json:"contact,omitempty"`
	State   string   `json:"state"` // queued, sent, delivered, bounced, acknowledged, unclear, superseded
	At      string   `json:"at"`
	Items   []string `json:"items"`            // fingerprints
	Text    string   `json:"text,omitempty"`   // hash of the message
	Detail  string   `json:"detail,omitempty"` // why it stands so
	// ContractHours after which the key may be cut before its cut-off.
	ContractHours int `json:"contract_hours,omitempty"`
}

// Notices count messages by state.
type Notices struct {
	Queued       int `json:"queued"`
	Sent         int `json:"sent"`
	Delivered    int `json:"delivered"`
	Bounced      int `json:"bounced"`
	Acknowledged int `json:"acknowledged"`
	// Unclear: the channel's answer is lost, and a person looks.
	Unclear int `json:"unclear,omitempty"`
}

// Bundle is the last sealed bundle.
type Bundle struct {
	Path   string `json:"path"`
	Digest string `json:"digest"`
	Final  bool   `json:"final"`
}

// Refusal is a decision that was not accepted.
type Refusal struct {
	At     string `json:"at"`
	Actor  string `json:"actor"`
	Action string `json:"action"`
	Code   string `json:"code"`
	Why    string `json:"why"`
}

// Contain says what became of contain on report, and why.
type Contain struct {
	Allowed    bool        `json:"allowed"`
	Conditions []Condition `json:"conditions"`
	Outcome    string      `json:"outcome,omitempty"`
}

// Condition is one of the conditions of contain on report.
type Condition struct {
	ID   string `json:"id"`
	Held bool   `json:"held"`
	Why  string `json:"why"`
}

// Note is what a person added.
type Note struct {
	At    string `json:"at"`
	Actor string `json:"actor"`
	Text  string `json:"text"`
}

// Record is a place that follows the incident: a thread, an issue.
type Record struct {
	Channel string `json:"channel"`
	// State is opening, following, behind or closed. What stands in the bundle does
	// not depend on it.
	State string `json:"state"`
	// Where and ID are the place, once it is known: a Slack channel and a timestamp,
	// a repository and the number of an issue.
	Where string `json:"where,omitempty"`
	ID    string `json:"id,omitempty"`
	URL   string `json:"url,omitempty"`
	// Lines is how many turning points there are, Behind how many of them the place
	// does not show as far as the incident knows.
	Lines  int64 `json:"lines"`
	Behind int64 `json:"behind,omitempty"`
	// Why and Since say what keeps it behind.
	Why   string `json:"why,omitempty"`
	Since string `json:"since,omitempty"`
	// Run is the run of the workflow that keeps the place.
	Run string `json:"run,omitempty"`
}

// List is `incident list --json`.
type List struct {
	Schema    string    `json:"schema"`
	Incidents []Summary `json:"incidents"`
	Next      string    `json:"next"`
}

// Summary is one line of a list.
type Summary struct {
	ID       string `json:"id"`
	Phase    string `json:"phase"`
	State    string `json:"state"`
	Severity string `json:"severity"`
	Open     int    `json:"open"`
	Started  string `json:"started"`
	Provider string `json:"provider,omitempty"`
}

// Items is `incident items --json`.
type Items struct {
	Schema string `json:"schema"`
	Items  []Item `json:"items"`
	Next   string `json:"next"`
}

// ShownItems is how many items [Incident] holds.
const ShownItems = 200

// Page cuts items after cursor (an index) and gives the next cursor.
func Page(items []Item, cursor string, size int) ([]Item, string) {
	from, err := strconv.Atoi(cursor)
	if err != nil || from < 0 {
		from = 0
	}
	if from >= len(items) {
		return []Item{}, ""
	}
	to := min(from+size, len(items))
	next := ""
	if to < len(items) {
		next = strconv.Itoa(to)
	}
	return items[from:to], next
}

// Error is what the HTTP API answers when it refuses (contracts section 5).
type Error struct {
	Error ErrorBody `json:"error"`
}

// ErrorBody tells what is wrong and what to do.
type ErrorBody struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Do      string `json:"do"`
}

// Codes of refused updates (contracts section 5).
const (
	CodeSelfApproval   = "self-approval"
	CodeStalePlan      = "stale-plan"
	CodeWrongRole      = "wrong-role"
	CodeAlreadyVoted   = "already-voted"
	CodeExpired        = "expired"
	CodeNoOpenApproval = "no-open-approval"
	CodeNotFound       = "not-found"
	CodeClosed         = "closed"
	CodeHeld           = "held"
	// CodeForged and CodeReplayed are added by rekey: they say which check of a
	// statement failed.
	CodeForged   = "forged"
	CodeReplayed = "replayed"
	CodeInvalid  = "invalid"
	// CodeWrongChannel: the channel through which the statement came does not carry
	// it, because it is for votes only or because the channel itself is in scope.
	CodeWrongChannel = "wrong-channel"
)
