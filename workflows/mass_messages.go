package workflows

import (
	"time"

	"rekey/activities"
	"rekey/internal/page"
	"rekey/internal/plan"
	"rekey/playbooks"
)

// What a large incident adds (docs/design/0017): most of its items are rows of pages,
// its mass. The reported keys, what an attacker made, and what needs a person stay
// items of their own.

// TypeScope is the workflow that reads the mass of an incident.
const TypeScope = "Scope"

// QueryPages answers a [PagesState] by an incident, or a []page.Group by a wave.
const QueryPages = "pages"

// The engine's activities over pages. They are idempotent: the same input gives the
// same pages.
const (
	ActivityPin        = "engine.Pin"        // page.Facts -> string, its hash
	ActivitySort       = "engine.Sort"       // page.SortInput -> page.SortResult
	ActivityList       = "engine.List"       // ListInput -> page.List
	ActivityClaimPages = "engine.ClaimPages" // ClaimPagesInput -> ClaimPagesResult
	ActivityPlanPages  = "engine.PlanPages"  // PlanPagesInput -> PlanPagesResult
	ActivityUnfold     = "engine.Unfold"     // UnfoldInput -> plan.Wave
	ActivityFind       = "engine.Find"       // FindInput -> FindResult
)

// ScopeID is the workflow that reads part n of an incident's mass.
func ScopeID(incident string, n int) string { return IncidentID(incident) + "/scope/" + itoa(n) }

// A Mass is what an incident knows of its rows.
type Mass struct {
	Parts []MassPart `json:"parts"`
	// Waves are those that were started, by number.
	Waves []MassWave `json:"waves,omitempty"`
	// Left are rows whose strategy calls no provider, or that a hold kept out of the
	// plan: people decide of them together.
	Left []MassLeft `json:"left,omitempty"`
	// Pulled counts rows that were made items of their own.
	Pulled int `json:"pulled,omitempty"`
	// Out are rows that are items of the incident now, Asked those that a wave was asked
	// to give back, Pulls those that came and wait for a wave of their own.
	Out   []string   `json:"out,omitempty"`
	Asked []string   `json:"asked,omitempty"`
	Pulls []MassPull `json:"pulls,omitempty"`
	// Plan is the plan over the rows, PlannedFor what it was made of.
	Plan       *PlanPagesResult `json:"plan,omitempty"`
	PlannedFor string           `json:"planned_for,omitempty"`
	// HoldsOf is how many parts were read when standing holds were looked for in them.
	HoldsOf int `json:"holds_of,omitempty"`
}

// A MassPart is the rows that one scope version added.
type MassPart struct {
	Version int    `json:"version"`
	List    string `json:"list"`           // as the estate gave them
	Read    string `json:"read,omitempty"` // with what the provider says of them
	N       int    `json:"n"`
	// Scope is the number of the workflow that reads it.
	Scope int `json:"scope,omitempty"`
}

// A MassWave is how the rows of a wave stand.
type MassWave struct {
	N     int        `json:"n"`
	Items int        `json:"items"`
	Tally page.Tally `json:"tally"`
	// List is set when it has ended: its rows at their end.
	List    string    `json:"list,omitempty"`
	Pulled  int       `json:"pulled,omitempty"`
	Started time.Time `json:"started,omitzero"`
}

// A MassLeft is rows that no wave moves.
type MassLeft struct {
	Strategy playbooks.StrategyName `json:"strategy"`
	Items    int                    `json:"items"`
	List     string                 `json:"list"`
	Task     string                 `json:"task,omitempty"` // the step that stands for them
	// End is what people decided.
	End   string    `json:"end,omitempty"`
	Actor string    `json:"actor,omitempty"`
	Why   string    `json:"why,omitempty"`
	Until time.Time `json:"until,omitzero"`
}

// PagesState is where the rows of an incident are.
type PagesState struct {
	// Lists are those of waves that have ended and of rows that no wave has moved yet;
	// Waves are the workflow ids of those that run, whose groups [QueryPages] gives.
	Lists []PagesList `json:"lists,omitempty"`
	Waves []string    `json:"waves,omitempty"`
	// Scopes are the workflow ids of those that read the rows.
	Scopes []string `json:"scopes,omitempty"`
	Items  int      `json:"items"`
}

// A PagesList is rows and how they ended together, where they did.
type PagesList struct {
	List     string `json:"list"`
	Wave     int    `json:"wave,omitempty"`
	Strategy string `json:"strategy,omitempty"`
	End      string `json:"end,omitempty"`
	Open     string `json:"open,omitempty"`
}

// A ListInput asks for the pages of a list, or writes one of pages that are sorted,
// merged and filled anew.
type ListInput struct {
	Incident string `json:"incident"`
	List     string `json:"list,omitempty"`
	// Pack are pages to be put together in the order of fingerprints.
	Pack []string `json:"pack,omitempty"`
}

// ClaimPagesInput claims the rows of a list for an incident.
type ClaimPagesInput struct {
	Incident string `json:"incident"`
	List     string `json:"list"`
}

// ClaimPagesResult says which keys are another incident's. They are not in List.
type ClaimPagesResult struct {
	List string `json:"list"`
	N    int    `json:"n"`
	// Conflicts are at most [MostConflicts], More counts the rest.
	Conflicts []Scoped `json:"conflicts,omitempty"`
	More      int      `json:"more,omitempty"`
}

// MostConflicts bounds what a claim gives back.
const MostConflicts = 50

// PlanPagesInput asks for the waves over the rows of lists.
type PlanPagesInput struct {
	Incident string             `json:"incident"`
	Playbook playbooks.Playbook `json:"playbook"`
	Digest   string             `json:"digest"`
	Lists    []string           `json:"lists"`
	// Items are the incident's items besides, for facts over the whole scope.
	Items  []Scoped `json:"items"`
	Report Report   `json:"report"`
	// Held are rows that a hold names; Out those that are items of the incident now, or
	// have ended by decision: they are not planned. AllHeld: a hold names all rows.
	Held    []string  `json:"held,omitempty"`
	AllHeld bool      `json:"all_held,omitempty"`
	Out     []string  `json:"out,omitempty"`
	Now     time.Time `json:"now"`
	// Started are the lists of waves that run or have ended: their rows are planned no
	// more.
	Started []string             `json:"started,omitempty"`
	Kinds   map[string]KindFacts `json:"kinds"`
}

// PlanPagesResult is the waves over rows, each with the list of its pages.
type PlanPagesResult struct {
	Waves    []plan.Wave  `json:"waves"`
	Left     []MassLeft   `json:"left,omitempty"`
	Breaks   []plan.Break `json:"breaks,omitempty"` // bounded
	Calls    int          `json:"calls"`
	ETAMs    int64        `json:"eta_ms"`
	Severity string       `json:"severity,omitempty"`
	// Rules counts the rows by the rule that decided.
	Rules map[string]int `json:"rules,omitempty"`
	// ScopeItems and ScopeCustomers count the whole scope, rows and items, and whom its
	// keys concern: rules over items read them too.
	ScopeItems     int `json:"scope_items,omitempty"`
	ScopeCustomers int `json:"scope_customers,omitempty"`
}

// ScopeInput starts the reading of a part of the mass, or its next run.
type ScopeInput struct {
	Incident string     `json:"incident"`
	Part     int        `json:"part"`
	List     string     `json:"list"`
	Facts    page.Facts `json:"facts"` // Scope false: the rows are claimed only
	Settings Settings   `json:"settings"`
	Until    time.Time  `json:"until"`
	Now      time.Time  `json:"now"`
	ClockSeq int64      `json:"clock_seq,omitempty"`
	// State and Found are what a run hands to the next one.
	State    *PagesRun    `json:"state,omitempty"`
	Found    *ScopeResult `json:"found,omitempty"`
	Chapters []Chapter    `json:"chapters,omitempty"`
}

// ScopeResult is what was read.
type ScopeResult struct {
	List     string              `json:"list"`
	N        int                 `json:"n"`
	Findings []page.Found        `json:"findings,omitempty"`
	Unseen   []activities.Unseen `json:"unseen,omitempty"`
	Dark     []activities.Window `json:"dark,omitempty"`
	// Unread counts the rows that could not be read in time.
	Unread int `json:"unread,omitempty"`
	// Conflicts are keys of other incidents, MoreConflicts counts those without room.
	Conflicts     []Scoped  `json:"conflicts,omitempty"`
	MoreConflicts int       `json:"more_conflicts,omitempty"`
	Chapters      []Chapter `json:"chapters,omitempty"`
}

// ScopeSignal brings a [ScopeResult] to its incident.
type ScopeSignal struct {
	Part   int         `json:"part"`
	Result ScopeResult `json:"result"`
}

// SignalScope is how the reading of a part of the mass tells what it found.
const SignalScope = "scope-result"

// UnfoldInput asks for the plan of rows that were pulled: the calls and rungs of a wave
// of items, under the strategy that was approved for them.
type UnfoldInput struct {
	Incident string                 `json:"incident"`
	Rows     []page.Row             `json:"rows"`
	Strategy playbooks.StrategyName `json:"strategy"`
	Playbook playbooks.Playbook     `json:"playbook"`
	Digest   string                 `json:"digest"`
	Kinds    map[string]KindFacts   `json:"kinds"`
	// From is the wave that they leave: it is among the gates, so that the same items
	// never have the hash of another wave.
	From int `json:"from"`
}

// FindInput looks rows up by fingerprint, short form or provider id.
type FindInput struct {
	Incident string   `json:"incident"`
	Names    []string `json:"names"`
	Lists    []string `json:"lists"`
}

// FindResult gives the row of each name, as its list has it, and the list.
type FindResult struct {
	Rows map[string]page.Row `json:"rows,omitempty"`
	In   map[string]string   `json:"in,omitempty"`
}
