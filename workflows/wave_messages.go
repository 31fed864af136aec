package workflows

import (
	"time"

	"rekey/activities"
	"rekey/internal/page"
	"rekey/internal/plan"
	"rekey/internal/view"
)

// WaveID is the workflow id of a wave. Numbers go on across reopening.
func WaveID(incident string, n int) string { return IncidentID(incident) + "/wave/" + itoa(n) }

// WatchID is the workflow id of an incident's watch.
func WatchID(incident string) string { return IncidentID(incident) + "/watch" }

// WaveInput starts a wave.
type WaveInput struct {
	Incident string    `json:"incident"`
	Wave     plan.Wave `json:"wave"`
	// Secrets are handles by fingerprint.
	Secrets  map[string]string `json:"secrets,omitempty"`
	Settings Settings          `json:"settings"`
	// Opened is when the incident was opened; what appeared on a principal since
	// then is residue.
	Opened time.Time `json:"opened"`
	Now    time.Time `json:"now"`
	// Compromised are the provider ids of all keys in scope when it starts.
	Compromised []string `json:"compromised"`
	// Disabled are items that contain on report has disabled already.
	Disabled map[string]bool `json:"disabled,omitempty"`
	// Voted: people approved this wave, so rungs that its vote covered need none.
	Voted bool `json:"voted,omitempty"`
	// Held are items that must not move from the first step on.
	Held []string `json:"held,omitempty"`
	// Since, Exposure and Created (by fingerprint) are what notices say of the
	// exposure: since when, where, and how old the keys are.
	Since    time.Time            `json:"since,omitzero"`
	Exposure string               `json:"exposure,omitempty"`
	Created  map[string]time.Time `json:"created,omitempty"`
	// Life tells the passes of a reopened incident from those before.
	Life string `json:"life,omitempty"`
	// Resume are items that an earlier wave has replaced already.
	Resume map[string]view.Item `json:"resume,omitempty"`
	// Rows are items that were pulled out of the pages of another wave: they go on from
	// where they stood. Granted are questions that were answered for that wave.
	Rows    map[string]page.Row `json:"rows,omitempty"`
	Granted []string            `json:"granted,omitempty"`
	// Holds a wave over pages begins with, and what its runs hand on.
	Orders []page.Order `json:"orders,omitempty"`
	Facts  *page.Facts  `json:"facts,omitempty"`
	State  *MassRun     `json:"state,omitempty"`
}

// Kinds of [WaveEvent].
const (
	waveItem     = "item"     // an item's state changed
	waveAsk      = "ask"      // a vote is needed
	waveHuman    = "human"    // a person is needed, or no longer
	waveFindings = "findings" // the sweep found something
	waveNotices  = "notices"  // owners and customers are being told
	waveEnded    = "ended"    // all items have ended
	waveTally    = "tally"    // how the rows of a wave over pages stand
	wavePulled   = "pulled"   // rows that the incident moves one by one from here
)

// A WaveEvent is what a wave tells its incident. It is sent as a signal whose
// acceptance the wave waits for; Seq lets the incident drop a repeat.
type WaveEvent struct {
	Wave     int                  `json:"wave"`
	Seq      int64                `json:"seq"`
	Kind     string               `json:"kind"`
	Item     *view.Item           `json:"item,omitempty"`
	Ask      *Ask                 `json:"ask,omitempty"`
	Human    *view.Human          `json:"human,omitempty"`
	FP       string               `json:"fp,omitempty"`
	Findings []activities.Finding `json:"findings,omitempty"`
	Unseen   []activities.Unseen  `json:"unseen,omitempty"`
	Tally    *page.Tally          `json:"tally,omitempty"`
	Rows     []page.Row           `json:"rows,omitempty"`
	// List is of waveEnded: the rows at their end; Chapters the kept histories of its runs.
	List     string    `json:"list,omitempty"`
	Chapters []Chapter `json:"chapters,omitempty"`
}

// An Ask is a vote that a wave needs before it goes on.
type Ask struct {
	// For is irreversible or rung.
	For  string   `json:"for"`
	Rung string   `json:"rung,omitempty"`
	FPs  []string `json:"fps"`
	What string   `json:"what"`
	// Round is how often it was voted down before.
	Round int `json:"round,omitempty"`
}

// Key identifies the question. Revoke is asked once for all items of the wave; a
// rung strikes other things of each item's principal, so it is asked for each.
func (a Ask) Key() string {
	k := a.For + "/" + a.Rung
	if a.Rung != "" {
		for _, fp := range a.FPs {
			k += "/" + activities.Key{FP: fp}.Short()
		}
	}
	if a.Round > 0 {
		k += "/" + itoa(a.Round)
	}
	return k
}

// Kinds of [WaveCommand].
const (
	cmdGrant    = "grant"    // the vote was given
	cmdDeny     = "deny"     // the vote was refused
	cmdHold     = "hold"     // items must not move
	cmdRelease  = "release"  // they may
	cmdPromote  = "promote"  // cut now: abuse was seen
	cmdResolved = "resolved" // a needs-human step was ended by a person
	cmdRestore  = "restore"  // enable again until a time
	cmdAccept   = "accept"   // items end as somebody decided
	cmdForget   = "forget"   // the sealed secrets are destroyed
	cmdAttest   = "attest"   // a person says that the dependents have moved
	cmdOverride = "override" // the cut-off is now
	cmdPull     = "pull"     // of a wave over pages: give the rows back
	cmdReturned = "returned" // … those that were pulled are at their end
)

// A WaveCommand is what an incident tells its wave.
type WaveCommand struct {
	Seq   int64     `json:"seq"`
	Kind  string    `json:"kind"`
	Ask   string    `json:"ask,omitempty"`
	FPs   []string  `json:"fps,omitempty"`
	All   bool      `json:"all,omitempty"` // every row of a wave over pages
	Task  string    `json:"task,omitempty"`
	As    string    `json:"as,omitempty"`
	Actor string    `json:"actor,omitempty"`
	Text  string    `json:"text,omitempty"`
	Until time.Time `json:"until,omitzero"`
}
