// Package page holds the items of a large incident: rows in pages of some hundred,
// kept as blobs under their hash (docs/design/0017). A workflow holds references and
// counts; what a row needs next is decided by pure functions here, inside the activity
// that made the call before.
//
// It is plain data and arithmetic: workflows import it, and so do the batch runner and
// the engine.
package page

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"rekey/activities"
	"rekey/internal/canon"
	"rekey/internal/view"
	"rekey/playbooks"
)

// Size is how many rows a page has at most. A pass over it is one activity: fewer rows
// cost events, more make a lost worker repeat more.
const Size = 500

// Schema is the form of a page. It is in its bytes, and so in its hash.
const Schema = "rekey.page/v1"

// A Page is rows, sorted by fingerprint.
type Page struct {
	Rows   []Row  `json:"rows"`
	Schema string `json:"schema"`
}

// A Ref points to a page in the blob store.
type Ref struct {
	Hash string `json:"hash"`
	N    int    `json:"n"`
	// First and Last are the fingerprints that it begins and ends with.
	First string `json:"first,omitempty"`
	Last  string `json:"last,omitempty"`
}

// Next is what rows wait for: a verb, from a time on, behind a gate. Rows of one group
// have the same. With nothing at all they are through. See [Next.Timed] for those that
// wait for a time alone.
type Next struct {
	// Due is not before when, in whole seconds so that rows meet in one group; zero: now.
	Due  At     `json:"due,omitzero"`
	Gate string `json:"gate,omitempty"`
	// Mode and Vantage are of a Probe or Inspect: the Mode… constants, or one of
	// activities.Probe….
	Mode    string          `json:"mode,omitempty"`
	Vantage string          `json:"vantage,omitempty"`
	Verb    activities.Verb `json:"verb,omitempty"`
	// Why is shown to people: of a gate, and of a wait.
	Why string `json:"why,omitempty"`
}

// Modes of a call besides those of a probe.
const (
	// ModeNew: a Probe of the replacement.
	ModeNew = "new"
	// ModeCutover: an Inspect of the replacement, for who uses it.
	ModeCutover = "cutover"
)

// Over tells whether nothing is to be done any more.
func (n Next) Over() bool { return n == Next{} }

// Timed tells whether the time of Due alone changes what the rows need: when it has come
// they are sorted again, their gate open or not. So it is with a wait, with notices that
// the cut-off overtakes, and with what a person should have mended before it.
func (n Next) Timed() bool {
	switch n.Gate {
	case "":
		return n.Verb == "" && !n.Due.IsZero()
	case GateNotice, GateHuman:
		return !n.Due.IsZero()
	}
	return false
}

// Gates: what must be opened before a group's verb may be called.
const (
	// GateVotes: the votes for irreversible verbs.
	GateVotes = "votes"
	// GateNotice: owners must be told, or the cut-off be reached (Due).
	GateNotice = "notice"
	// GateHeld: a hold names them.
	GateHeld = "held"
	// GateHuman: a person must mend what Why says; then the verb is called again. Where
	// the cut-off makes the call needless, it is in Due.
	GateHuman = "human"
	// GatePull: they leave the page: an incident moves them one by one from here,
	// where every call is seen by itself. Why says for what.
	GatePull = "pull"
)

// A Group is a page whose rows need the same next.
type Group struct {
	Ref
	Provider string `json:"provider"`
	Account  string `json:"account"`
	Next     Next   `json:"next"`
	Tally    Tally  `json:"tally"`
}

// A Tally counts rows by how they stand, and their calls by outcome.
type Tally struct {
	Items    int            `json:"items"`
	Ended    map[string]int `json:"ended,omitempty"`
	Death    map[string]int `json:"death,omitempty"`
	Adoption map[string]int `json:"adoption,omitempty"`
	Outcomes map[string]int `json:"outcomes,omitempty"`
}

// Add adds another count.
func (t *Tally) Add(o Tally) {
	t.Items += o.Items
	add(&t.Ended, o.Ended)
	add(&t.Death, o.Death)
	add(&t.Adoption, o.Adoption)
	add(&t.Outcomes, o.Outcomes)
}

// Open counts the rows that are not in an end state.
func (t Tally) Open() int {
	n := t.Items
	//workflowcheck:ignore
	for _, v := range t.Ended { // a sum
		n -= v
	}
	return n
}

func add(to *map[string]int, from map[string]int) {
	//workflowcheck:ignore
	for k, n := range from { // sums
		if *to == nil {
			*to = map[string]int{}
		}
		(*to)[k] += n
	}
}

// Count gives the tally of rows.
func Count(rows []Row) Tally {
	t := Tally{Items: len(rows), Ended: map[string]int{}, Death: map[string]int{}, Adoption: map[string]int{}, Outcomes: map[string]int{}}
	for i := range rows {
		r := &rows[i]
		if r.End != "" {
			t.Ended[r.End]++
		}
		if r.Death != "" {
			t.Death[r.Death]++
		}
		if r.Adoption != "" {
			t.Adoption[r.Adoption]++
		}
		add(&t.Outcomes, r.Calls)
	}
	return t
}

// Encode gives the canonical bytes of rows (RFC 8785), sorted by fingerprint.
//
// The fields of the types in a page stand in the order of their JSON names, and hold
// no floats and no integer beyond 2^53-1, so that encoding/json writes the canonical form
// by itself, but for what [plain] finds: the general way costs ten times as much.
func Encode(rows []Row) ([]byte, error) {
	if rows == nil {
		rows = []Row{} // null is never written (contracts section 0)
	}
	slices.SortFunc(rows, func(a, b Row) int { return strings.Compare(a.FP, b.FP) })
	const row = 512 // bytes, mostly
	b := bytes.NewBuffer(make([]byte, 0, row*(len(rows)+1)))
	enc := json.NewEncoder(b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(Page{Rows: rows, Schema: Schema}); err != nil {
		return nil, fmt.Errorf("page: %w", err)
	}
	raw := bytes.TrimSuffix(b.Bytes(), []byte{'\n'})
	if !plain(raw, rows) {
		return canon.JSON(json.RawMessage(raw))
	}
	return raw, nil
}

// plain tells whether encoding/json has written what RFC 8785 writes. It escapes U+2028
// and U+2029, which RFC 8785 does not, and sorts the keys of a map by their bytes, not by
// their UTF-16.
func plain(raw []byte, rows []Row) bool {
	if bytes.Contains(raw, []byte(`\u`)) {
		return false
	}
	for i := range rows {
		for k := range rows[i].Calls {
			if strings.IndexFunc(k, func(c rune) bool { return c >= 0x80 }) >= 0 {
				return false
			}
		}
	}
	return true
}

// ErrSchema: the blob is no page, or of a build that writes what this one does not know
// and would lose.
var ErrSchema = errors.New("page: not a page of this build: let a worker of the newest build hold the account")

// Decode reads the bytes of a page.
func Decode(b []byte) ([]Row, error) {
	// The rows are counted first: they are large, and a slice that grows copies them.
	p := Page{Rows: make([]Row, 0, bytes.Count(b, []byte(`{"account":`)))}
	if err := decode(b, &p); err != nil {
		return nil, err
	}
	if p.Schema != Schema {
		return nil, ErrSchema
	}
	return p.Rows, nil
}

func decode(b []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return fmt.Errorf("%w (%w)", ErrSchema, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return ErrSchema
	}
	return nil
}

// RefOf describes rows that are stored under hash; rows are sorted.
func RefOf(hash string, rows []Row) Ref {
	r := Ref{Hash: hash, N: len(rows)}
	if len(rows) > 0 {
		r.First, r.Last = rows[0].FP, rows[len(rows)-1].FP
	}
	return r
}

// View is a row as contracts section 4 shows an item; needed is how many refusals prove
// a death.
func (r *Row) View(wave, needed int) view.Item {
	v := view.Item{
		FP: r.FP, Short: r.Key().Short(), Provider: r.Provider, Account: r.Account, Kind: r.Kind, KeyID: r.ID,
		Owner: r.Owner, Strategy: r.Strategy, Rule: r.Rule, Wave: wave, Step: r.Step, EndState: r.End, Why: r.EndWhy, Approver: r.EndBy, Until: canon.Time(r.EndUntil.Time),
		Death: view.Death{
			State: r.Death, Refusals: r.Refusals, Needed: needed, FirstRefused: canon.Time(r.FirstRefused.Time), LastAlive: canon.Time(r.LastAlive.Time),
			Rung: r.Rung, Grade: r.Grade,
		},
		Adoption: view.Adoption{State: r.Adoption, NewKeyID: r.NewKey, Receipts: r.Receipts, Dependents: len(r.Dependents), CutOver: r.CutOver},
		Outcomes: []view.Outcome{},
	}
	if r.Next.Gate != "" || r.Next.Why != "" {
		// Whatever is open has somebody's name to it.
		v.Open = view.Open{Why: r.Next.Why, Owner: cmp.Or(r.Owner, string(playbooks.RoleCommander)), Due: canon.Time(r.Next.Due.Time)}
	}
	for _, o := range r.Outcomes {
		v.Outcomes = append(v.Outcomes, view.Outcome{Verb: o.Verb, Outcome: o.Outcome, Attempt: o.Attempt, At: canon.Time(o.At.Time), RequestID: o.RequestID, Detail: o.Detail})
	}
	return v
}
