package workflows

import (
	"slices"
	"time"

	"rekey/activities"
	"rekey/internal/plan"
	"rekey/internal/view"
)

// IncidentState is everything an incident knows. It is plain data, so that the
// next run goes on with it.
type IncidentState struct {
	Opened   time.Time `json:"opened"`
	Now      time.Time `json:"now"` // of a drill's clock
	Phase    string    `json:"phase"`
	State    string    `json:"state"`
	Severity string    `json:"severity"`

	// Reports are those that are kept whole: the first ones, and those that said
	// something new when they came (reports.go).
	Reports []Report `json:"reports"`
	Triaged int      `json:"triaged"` // reports that were looked at
	// News is how many of Reports there were when the last one with something new was
	// added: those before it are read together with it.
	News     int             `json:"news,omitempty"`
	Repeats  []Repeat        `json:"repeats,omitempty"`
	Taken    Taken           `json:"taken,omitempty"`
	Contain  *view.Contain   `json:"contain,omitempty"`
	Disabled map[string]bool `json:"disabled,omitempty"`

	ScopeVersion int                  `json:"scope_version"`
	Items        []Scoped             `json:"items"`
	Unseen       []activities.Unseen  `json:"unseen,omitempty"`
	Dark         []activities.Window  `json:"dark,omitempty"`
	Reachable    int                  `json:"reachable"`
	Evidence     []Evidence           `json:"evidence,omitempty"`
	Findings     []activities.Finding `json:"findings,omitempty"`

	PlanVersion int         `json:"plan_version"`
	Plan        *plan.Plan  `json:"plan,omitempty"`
	Plans       []plan.Plan `json:"plans,omitempty"`

	Approvals []Approval     `json:"approvals,omitempty"`
	Views     []view.Item    `json:"views,omitempty"` // by fingerprint, sorted
	Waves     []WaveRun      `json:"waves,omitempty"`
	NextWave  int            `json:"next_wave"`
	Humans    []view.Human   `json:"humans,omitempty"`
	Holds     []HoldState    `json:"holds,omitempty"`
	Refusals  []view.Refusal `json:"refusals,omitempty"`
	Notes     []view.Note    `json:"notes,omitempty"`
	Nonces    []string       `json:"nonces,omitempty"`

	Started    bool         `json:"started"` // start: ask was answered
	Contained  time.Time    `json:"contained,omitzero"`
	Closed     time.Time    `json:"closed,omitzero"`
	Sealed     time.Time    `json:"sealed,omitzero"`
	Forgotten  bool         `json:"forgotten,omitempty"`
	FalseAlarm bool         `json:"false_alarm,omitempty"`
	Watched    int          `json:"watched,omitempty"` // dead keys that the watch knows
	WatchUntil time.Time    `json:"watch_until,omitzero"`
	Bundle     *view.Bundle `json:"bundle,omitempty"`
	Scoping    bool         `json:"scoping,omitempty"` // evidence waits for a new scope version
	// Reread: what was read before is read again in that version. Replan: the items
	// stand, but holds or decisions about them have changed.
	Reread bool `json:"reread,omitempty"`
	// ScopedAt is when the last scope version was made; RereadAt when the next one is,
	// because of reports that say nothing new.
	ScopedAt time.Time `json:"scoped_at,omitzero"`
	RereadAt time.Time `json:"reread_at,omitzero"`
	Replan   bool      `json:"replan,omitempty"`
	// Again counts how often an item was reported after its end.
	Again map[string]int `json:"again,omitempty"`
	// Left are the steps that stand for a strategy which calls no provider, by
	// fingerprint: they lapse when the item ends or moves.
	Left map[string]string `json:"left,omitempty"`
	// Lapsed are accepted risks whose time has passed and was asked about.
	Lapsed map[string]bool `json:"lapsed,omitempty"`
	// Sent are commands not yet delivered, by wave.
	Sent map[int][]WaveCommand `json:"sent,omitempty"`
	// SecretSince is when the oldest sealed secret that is not destroyed came.
	SecretSince time.Time `json:"secret_since,omitzero"`
	ClockSeq    int64     `json:"clock_seq,omitempty"`
	// Chapters are the kept histories of runs and waves that have ended.
	Chapters []Chapter `json:"chapters,omitempty"`
	Passes   int       `json:"passes,omitempty"`
	Closing  bool      `json:"closing,omitempty"` // a person asked to close
	// Told is where the incident is followed; nil: nowhere.
	Told *Told `json:"told,omitempty"`
	// Notices are the waves whose owners and customers are told, NoticeViews what
	// they are told.
	Notices     []NoticesRun  `json:"notices,omitempty"`
	NoticeViews []view.Notice `json:"notice_views,omitempty"`
	// Mass is the items that are rows of pages; nil: there are none.
	Mass *Mass `json:"mass,omitempty"`
}

func newState(next int) *IncidentState {
	return &IncidentState{
		Phase: phasePreserve, State: stateOpen, NextWave: next, Disabled: map[string]bool{},
	}
}

// States of a wave.
const (
	waveRunning = "running"
	waveOver    = "ended"
)

// A WaveRun is a wave that was started.
type WaveRun struct {
	Wave    plan.Wave `json:"wave"`
	State   string    `json:"state"` // running, ended
	LastEvt int64     `json:"last_event"`
	NextCmd int64     `json:"next_command"`
	Voted   bool      `json:"voted,omitempty"`
	// Redone are items that another wave has taken over, because they were reported
	// again after their end here. Promoted were told to be cut now.
	Redone   []string `json:"redone,omitempty"`
	Promoted []string `json:"promoted,omitempty"`
	// From is the wave over pages that its items were pulled out of.
	From int `json:"from,omitempty"`
}

// has tells whether the wave moves, or has moved, an item.
func (w *WaveRun) has(fp string) bool {
	if slices.Contains(w.Redone, fp) {
		return false
	}
	return slices.ContainsFunc(w.Wave.Items, func(it plan.Item) bool { return it.Key.FP == fp })
}

// An Approval is a question and its votes.
type Approval struct {
	ID         string      `json:"id"`
	For        string      `json:"for"`
	Ask        string      `json:"ask,omitempty"` // key of the wave's Ask
	Wave       int         `json:"wave"`
	WaveHash   string      `json:"wave_hash"`
	Strategy   string      `json:"strategy,omitempty"`
	What       string      `json:"what"`
	State      string      `json:"state"` // open, granted, denied, voided
	Needed     int         `json:"needed"`
	Outside    int         `json:"outside_chat"`
	Roles      []string    `json:"roles"`
	EscalateTo []string    `json:"escalate_to,omitempty"`
	Votes      []view.Vote `json:"votes,omitempty"`
	Asked      time.Time   `json:"asked,omitzero"`
	Expires    time.Time   `json:"expires"`
	Window     int64       `json:"window_ms"`
	Level      int         `json:"level"` // how often it expired
	Items      []string    `json:"items,omitempty"`
	// As, Until and Text are of accept-risk and restore.
	As    string    `json:"as,omitempty"`
	Until time.Time `json:"until,omitzero"`
	Text  string    `json:"text,omitempty"`
	By    string    `json:"by,omitempty"`
}

// A HoldState is a hold and how it stands.
type HoldState struct {
	ID    string    `json:"id"`
	Items []string  `json:"items"`
	By    string    `json:"by"`
	Why   string    `json:"why"`
	Until time.Time `json:"until,omitzero"`
	State string    `json:"state"` // open, expired, released
	// Task is the step that its expiry opened.
	Task string `json:"task,omitempty"`
}

// Phases of an incident, in order.
const (
	phasePreserve = "preserve"
	phaseScope    = "scope"
	phasePlan     = "plan"
	phaseApprove  = "approve"
	phaseAct      = "act"
	phaseClose    = "close"
	phaseSeal     = "seal"
	phaseWatch    = "watch"
)

// States of an incident.
const (
	stateOpen      = "open"
	stateWaiting   = "waiting"
	stateContained = "contained"
	stateAllClear  = "all-clear"
)

// End states of an item (design section 2).
const (
	endRevoked  = "revoked-verified"
	endExpired  = "expired-verified"
	endNever    = "never-existed-proven"
	endAccepted = "accepted-risk"
	endCustomer = "customer-action-open"
)
