package page

import (
	"time"

	"rekey/activities"
)

// Name is the registered activity type of a pass over pages. It is written into
// histories.
func Name(provider string, v activities.Verb) string { return activities.Name(provider, v) + ".page" }

// A Pass is the input of a provider activity over pages: one verb, once, over every row
// of them that is due.
type Pass struct {
	Incident string `json:"incident"`
	// ID names the journal of the pass; it is the same for every attempt of the
	// activity.
	ID       string          `json:"id"`
	Verb     activities.Verb `json:"verb"`
	Provider string          `json:"provider"`
	Account  string          `json:"account"`
	Attempt  int             `json:"attempt"`
	// Pages hold the rows, together at most Size; all wait for Verb.
	Pages []string `json:"pages"`
	// Facts is the hash of the blob with the wave's [Facts].
	Facts string    `json:"facts"`
	Now   time.Time `json:"now"`
	// First: before everything else that wants the account's budget: containment.
	First bool `json:"first,omitempty"`
}

// A PassResult is what one pass did: the rows again, grouped by what they need next.
type PassResult struct {
	Groups []Group `json:"groups"`
	// Outcomes counts the calls of this pass by outcome, Failed those that failed by
	// class; Made is how many were made by this attempt, the rest was in the journal.
	Outcomes map[string]int `json:"outcomes,omitempty"`
	Failed   map[string]int `json:"failed,omitempty"`
	Made     int            `json:"made"`
	// Left is how many rows were due and are given back as they are, because the
	// account's budget did not suffice in time.
	Left int `json:"left,omitempty"`
	// Journal is the hash of what the pass did, one record a line: of a verb that
	// changes something its intents and answers, of one that reads the answers.
	Journal string `json:"journal,omitempty"`
	// Findings, Unseen and Dark are what a reading of the scope found, each thing once
	// and at most [Most] of a kind; More counts what was left out.
	Findings []Found             `json:"findings,omitempty"`
	Unseen   []activities.Unseen `json:"unseen,omitempty"`
	Dark     []activities.Window `json:"dark,omitempty"`
	More     int                 `json:"more,omitempty"`
}

// Most bounds what a pass lists of a reading of the scope. All of it is in the rows.
const Most = 50

// Types of failures of a pass that a repeat alone does not mend.
const (
	// Lost: a page or the facts are not in the blob store, or damaged. The message
	// names the hash: it is restored from a backup.
	Lost = "lost-page"
	// OtherBuild: they were written in a form that the worker's build does not know.
	OtherBuild = "other-build"
)

// A Found is a finding and the key that made it.
type Found struct {
	From    activities.Key     `json:"from"`
	Finding activities.Finding `json:"finding"`
}

// A SortInput asks for pages to be sorted again: orders, waits that are over, small
// pages to be put together. It calls no provider.
type SortInput struct {
	Incident string `json:"incident"`
	Facts    string `json:"facts"`
	// Pages, or all pages of List.
	Pages  []string  `json:"pages,omitempty"`
	List   string    `json:"list,omitempty"`
	Orders []Order   `json:"orders,omitempty"`
	Now    time.Time `json:"now"`
	// Begin: the rows are set on their way.
	Begin bool `json:"begin,omitempty"`
	// Pull: rows that wait behind GatePull, at most this many, are given back and left
	// out of the groups.
	Pull int `json:"pull,omitempty"`
}

// A SortResult is the groups, and the rows that were pulled.
type SortResult struct {
	Groups []Group `json:"groups"`
	Pulled []Row   `json:"pulled,omitempty"`
	// Matched is how many rows the orders were about.
	Matched int `json:"matched,omitempty"`
}

// A List is pages in the order of fingerprints, itself a blob: workflows hold its hash.
type List struct {
	// Hash is the list's own; it is left out of its bytes.
	Hash   string `json:"hash,omitempty"`
	Items  int    `json:"items"`
	Pages  []Ref  `json:"pages"`
	Schema string `json:"schema"`
}

// ListSchema is the form of a list.
const ListSchema = "rekey.page-list/v1"
