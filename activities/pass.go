package activities

import "time"

// A Pass is the input of every provider activity: one verb, once, over the items
// of one page. It returns after one attempt at each; it never waits for
// propagation, cut-over or people.
type Pass struct {
	Incident string `json:"incident"`
	// ID names the journal of this pass. It is the same for every attempt, so that
	// a second attempt finds what the first one did.
	ID       string `json:"id"`
	Verb     Verb   `json:"verb"`
	Provider string `json:"provider"`
	Account  string `json:"account"`
	Attempt  int    `json:"attempt"`
	// Items are the page itself when it is small; Page is its hash in the blob
	// store otherwise.
	Items []Request `json:"items,omitempty"`
	Page  string    `json:"page,omitempty"`
	// NoReconcile switches the settling of lost Issue calls off, for a drill's
	// negative control.
	NoReconcile bool `json:"no_reconcile,omitempty"`
	// Rates are the playbook's that bound the provider, by their names there
	// ("awsiam.write": "10/s"). They only lower what the account allows.
	Rates map[string]string `json:"rates,omitempty"`
}

// A Request is one item of a pass with what its verb needs; fields that a verb
// does not use are empty.
type Request struct {
	Ref
	Since       time.Time `json:"since,omitzero"`
	Now         time.Time `json:"now,omitzero"`
	Until       time.Time `json:"until,omitzero"`
	Before      time.Time `json:"before,omitzero"`
	Known       []Caller  `json:"known,omitempty"`
	Compromised []string  `json:"compromised,omitempty"`
	Ours        []string  `json:"ours,omitempty"`
	UsesOnly    bool      `json:"uses_only,omitempty"`
	Roles       []string  `json:"roles,omitempty"`
	Allow       []string  `json:"allow,omitempty"`
	Lift        bool      `json:"lift,omitempty"`
	Handle      string    `json:"handle,omitempty"`
	NewKeyID    string    `json:"new_key_id,omitempty"`
	Target      string    `json:"target,omitempty"`
	Name        string    `json:"name,omitempty"`
	Mode        string    `json:"mode,omitempty"`
	Vantage     string    `json:"vantage,omitempty"`
}

// PassResult is what one pass did.
type PassResult struct {
	// Items are in the order of the page when it is small; Page is the hash of the
	// result page.
	Items []Attempt `json:"items,omitempty"`
	Page  string    `json:"page,omitempty"`
	// Journal is the hash of the journal as it stood at the end.
	Journal string `json:"journal,omitempty"`
}

// An Attempt is one call on one item: its outcome, or its fault.
type Attempt struct {
	FP      string    `json:"fp"`
	Verb    Verb      `json:"verb"`
	N       int       `json:"attempt"`
	At      time.Time `json:"at"`
	Outcome Outcome   `json:"outcome"`
	// Class is set when the call failed.
	Class      Class      `json:"class,omitempty"`
	Detail     string     `json:"detail,omitempty"`
	Permission string     `json:"permission,omitempty"`
	AfterMs    int64      `json:"after_ms,omitempty"`
	RequestID  string     `json:"request_id,omitempty"`
	Status     int        `json:"status,omitempty"`
	Evidence   []Evidence `json:"evidence,omitempty"`
	// Recovered: the outcome was read from the journal, or settled by
	// reconciliation, instead of by a call of this attempt.
	Recovered bool `json:"recovered,omitempty"`

	Inspect    *InspectResult    `json:"inspect,omitempty"`
	Issue      *IssueResult      `json:"issue,omitempty"`
	Reconcile  *ReconcileResult  `json:"reconcile,omitempty"`
	Distribute *DistributeResult `json:"distribute,omitempty"`
	Probe      *ProbeResult      `json:"probe,omitempty"`
	Sweep      *SweepResult      `json:"sweep,omitempty"`
}

// Failed tells whether the call failed.
func (a Attempt) Failed() bool { return a.Class != "" }

// SlotNeeded is the Detail of an Issue that cannot go on before a key of the
// principal is revoked.
const SlotNeeded = "slot-needed"
