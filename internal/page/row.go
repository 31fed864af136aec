package page

import (
	"encoding/json"
	"fmt"
	"time"

	"rekey/activities"
	"rekey/internal/canon"
	"rekey/internal/plan"
)

// At is a time as pages hold it: RFC 3339, UTC, three decimals (contracts section 0).
type At struct{ time.Time }

// MarshalJSON implements json.Marshaler.
func (a At) MarshalJSON() ([]byte, error) { return []byte(`"` + canon.Time(a.Time) + `"`), nil }

// UnmarshalJSON implements json.Unmarshaler.
func (a *At) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	if s == "" {
		*a = At{}
		return nil
	}
	t, err := time.Parse(canon.TimeLayout, s)
	if err != nil {
		return fmt.Errorf("page: %w", err)
	}
	a.Time = t
	return nil
}

// At makes a time fit for a page.
func at(t time.Time) At { return At{t.UTC().Truncate(time.Millisecond)} }

// A Row is one item on its way. The fields of this type, and of all types in a page,
// stand in the order of their JSON names: see [Encode]. It holds no secret and no
// personal data: Customers are refs.
type Row struct {
	Account  string `json:"account"`
	Adopt    bool   `json:"adopt,omitempty"` // somebody needs a replacement
	Adoption string `json:"adoption,omitempty"`
	// After is before when the call in Doing must not be made again, AfterWhy what for.
	After    At     `json:"after,omitzero"`
	AfterWhy string `json:"after_why,omitempty"`
	Attested bool   `json:"attested,omitempty"` // a person says that all dependents moved
	// Basis and Why: how it came into scope. Depth: in how many steps.
	Basis string `json:"basis,omitempty"`
	// Blurred: a vantage point of the round of probes under way gave no clear answer.
	Blurred bool `json:"blurred,omitempty"`
	// Border: EndSessions ends what was issued before it. All attempts have the same.
	Border At   `json:"border,omitzero"`
	ByHand bool `json:"by_hand,omitempty"` // a person makes the replacement
	// Calls counts the mutating calls by outcome.
	Calls map[string]int `json:"calls,omitempty"`
	// Clear is from when on the probes under way gave no clear answer.
	Clear At `json:"clear,omitzero"`
	// Confirmed: the proof was looked at once more after the last kill.
	Confirmed bool `json:"confirmed,omitempty"`
	// Conflict is another incident that has claimed the key.
	Conflict             string   `json:"conflict,omitempty"`
	Copies               []string `json:"copies,omitempty"`
	CreatedByCompromised bool     `json:"created_by_compromised,omitempty"`
	Customers            []string `json:"customers,omitempty"`
	// Cut says what opened the cut-over gate without a proof.
	Cut    string `json:"cut,omitempty"`
	CutNow bool   `json:"cut_now,omitempty"` // a person says that the cut-off is now
	// CutOver is how many dependents are seen on the replacement.
	CutOver int `json:"cut_over,omitempty"`
	// Death and Adoption are the states of contracts section 4.
	Death      string      `json:"death,omitempty"`
	Dependents []Dependent `json:"dependents,omitempty"`
	Depth      int         `json:"depth,omitempty"`
	Disabled   bool        `json:"disabled,omitempty"`
	// Doing is the call that After, Stuck and the counts of attempts are about.
	Doing string `json:"doing,omitempty"`
	// Effect names the journal that holds the first intent of a create that has no
	// outcome yet: every attempt goes on in it, under EffectToken, whoever makes it.
	Effect      string `json:"effect,omitempty"`
	EffectToken string `json:"effect_token,omitempty"`
	End         string `json:"end,omitempty"`
	EndBy       string `json:"end_by,omitempty"`
	EndUntil    At     `json:"end_until,omitzero"`
	EndWhy      string `json:"end_why,omitempty"`
	// EndAt is when the end state was reached.
	EndAt         At     `json:"ended,omitzero"`
	EndedSessions bool   `json:"ended_sessions,omitempty"`
	Exposure      string `json:"exposure,omitempty"`
	// Facts are what the rule that decided has read, Skipped the rules before it that an
	// unknown fact made false.
	Facts map[string]string `json:"facts,omitempty"`
	// Failures, Throttled and Unclear count in the call of Doing.
	Failures     int    `json:"failures,omitempty"`
	FirstRefused At     `json:"first_refused,omitzero"`
	FP           string `json:"fp"`
	Grade        string `json:"grade,omitempty"`
	// Handed is how many stores have the replacement, Handle where its secret is sealed.
	Handed    int       `json:"handed,omitempty"`
	Handle    string    `json:"handle,omitempty"`
	Held      bool      `json:"held,omitempty"`
	ID        string    `json:"key_id,omitempty"`
	Killed    At        `json:"killed,omitzero"` // the last kill call
	Kind      string    `json:"kind"`
	LastAlive At        `json:"last_alive,omitzero"`
	Looks     int       `json:"looks,omitempty"` // at who uses the replacement
	NewKey    string    `json:"new_key,omitempty"`
	NewSeen   bool      `json:"new_seen,omitempty"` // the replacement works
	Next      Next      `json:"next,omitzero"`
	Outcomes  []Outcome `json:"outcomes,omitempty"` // the last calls that change something
	Owner     string    `json:"owner,omitempty"`
	OwnerKind string    `json:"owner_kind,omitempty"`
	Placed    At        `json:"placed,omitzero"` // when the replacement was distributed
	Principal string    `json:"principal,omitempty"`
	Promoted  bool      `json:"promoted,omitempty"` // abuse was seen: cut now
	Provider  string    `json:"provider"`
	Quiet     At        `json:"quiet,omitzero"` // end of the quiet time
	// Reading is the canonical JSON of an activities.InspectResult, until the plan.
	Reading  json.RawMessage `json:"reading,omitempty"`
	Receipts int             `json:"receipts,omitempty"`
	Refusals int             `json:"refusals,omitempty"`
	Resured  int             `json:"resured,omitempty"` // Disables made again because their answer was unclear
	Revoked  bool            `json:"revoked,omitempty"`
	Roles    []string        `json:"roles,omitempty"`
	// Round is a round of probes under way: how many vantage points have refused.
	Round int    `json:"round,omitempty"`
	Rule  string `json:"rule,omitempty"`
	Rung  string `json:"rung,omitempty"`
	// Secret is the handle of the key's own secret.
	Secret string `json:"secret,omitempty"`
	// Sessions is how often its sessions were ended: abuse ends them once more.
	Sessions int `json:"sessions,omitempty"`
	// Since is when the wait for a replacement to work began.
	Since   At                `json:"since,omitzero"`
	Skipped map[string]string `json:"skipped,omitempty"`
	// Slot: the old key must go first, there is no free slot for the replacement.
	Slot       bool    `json:"slot,omitempty"`
	Step       string  `json:"step,omitempty"`
	StepN      int     `json:"step_n,omitempty"`
	StoreDirty *bool   `json:"store_dirty,omitempty"`
	Stores     []Store `json:"stores,omitempty"`
	Strategy   string  `json:"strategy,omitempty"`
	// Stuck is what a person must mend before the call of Doing is made again.
	Stuck     string `json:"stuck,omitempty"`
	Sure      bool   `json:"sure,omitempty"` // the provider's word is that it is disabled or gone
	Throttled int    `json:"throttled,omitempty"`
	Told      bool   `json:"told,omitempty"` // its owners were told before the cut
	// Tries counts the attempts at the call of Doing.
	Tries        int    `json:"tries,omitempty"`
	Unattributed bool   `json:"unattributed,omitempty"`
	Unclear      int    `json:"unclear,omitempty"`
	Why          string `json:"why,omitempty"`
}

// A Dependent is plan.Dependent in a page.
type Dependent struct {
	BudgetMs int64  `json:"budget_ms,omitempty"`
	Cutover  string `json:"cutover,omitempty"`
	ID       string `json:"id"`
	Owner    string `json:"owner,omitempty"`
	Proof    string `json:"proof,omitempty"`
}

// A Store is plan.Store in a page.
type Store struct {
	Name   string `json:"name"`
	Target string `json:"target"`
}

// An Outcome is one call that changes something.
type Outcome struct {
	At        At     `json:"at,omitzero"`
	Attempt   int    `json:"attempt,omitempty"`
	Detail    string `json:"detail,omitempty"`
	Outcome   string `json:"outcome"`
	RequestID string `json:"request_id,omitempty"`
	Verb      string `json:"verb"`
}

// Key is the key of the row.
func (r *Row) Key() activities.Key {
	return activities.Key{FP: r.FP, Provider: r.Provider, Account: r.Account, Kind: r.Kind, ID: r.ID, Principal: r.Principal}
}

// SetKey sets what [Row.Key] gives.
func (r *Row) SetKey(k activities.Key) {
	r.FP, r.Provider, r.Account, r.Kind, r.ID, r.Principal = k.FP, k.Provider, k.Account, k.Kind, k.ID, k.Principal
}

// PlanDependents are the dependents as a plan has them.
func (r *Row) PlanDependents() []plan.Dependent {
	var out []plan.Dependent
	for _, d := range r.Dependents {
		out = append(out, plan.Dependent{ID: d.ID, Owner: d.Owner, BudgetMs: d.BudgetMs, Cutover: d.Cutover, Proof: d.Proof})
	}
	return out
}

// SetDependents sets them.
func (r *Row) SetDependents(ds []plan.Dependent) {
	r.Dependents = nil
	for _, d := range ds {
		r.Dependents = append(r.Dependents, Dependent{ID: d.ID, Owner: d.Owner, BudgetMs: d.BudgetMs, Cutover: d.Cutover, Proof: d.Proof})
	}
}

// mostOutcomes is how many calls a row keeps; Calls counts them all.
const mostOutcomes = 12

// saw keeps a call that changes something, once its answer is one to go on with.
func (r *Row) saw(a activities.Attempt) {
	if r.Calls == nil {
		r.Calls = map[string]int{}
	}
	r.Calls[string(a.Outcome)]++
	r.Outcomes = append(r.Outcomes, Outcome{At: at(a.At), Attempt: a.N, Detail: a.Detail, Outcome: string(a.Outcome), RequestID: a.RequestID, Verb: string(a.Verb)})
	if n := len(r.Outcomes); n > mostOutcomes {
		r.Outcomes = r.Outcomes[n-mostOutcomes:]
	}
}

// fresh forgets the attempts at a call: the next one is another.
func (r *Row) fresh() {
	r.Tries, r.Failures, r.Throttled, r.Unclear = 0, 0, 0, 0
	r.After, r.AfterWhy, r.Stuck = At{}, "", ""
}

// wait lets the same call be made again, not before d has passed.
func (r *Row) wait(d time.Duration, why string, now time.Time) {
	r.After, r.AfterWhy = second(now.Add(d)), why
}

// end sets the end state.
func (r *Row) end(state string, now time.Time) {
	r.End, r.EndAt, r.Step = state, at(now), ""
}
