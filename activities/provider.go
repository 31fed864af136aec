package activities

import (
	"context"
	"net/http"
	"time"

	"rekey/internal/secret"
)

// A Provider is a folder's offer: what it is, and how to open one account of it.
type Provider struct {
	Descriptor Descriptor
	// Open builds the client of one configured account. It makes no call. The
	// returned value implements the capability interfaces of the descriptor's
	// verbs and must be safe for concurrent use.
	Open func(Account, Deps) (any, error)
	// Origin says where a secret of this account may be sent, "https://host:port" or
	// the provider's own scheme. A sealed secret is bound to it.
	Origin func(Account) (string, error)
}

// An Account is one configured account of a provider (contracts section 1).
type Account struct {
	Name         string            // "prod"
	Settings     map[string]string // account_id, base_url, …: as configured
	Regions      []string          // vantage points too
	AllowPrivate bool
	CAFile       string
	// Credential reads one of our own credentials by its name in the
	// configuration ("access_key_id", "secret_access_key").
	Credential func(name string) (secret.Value, error)
}

// Deps is what a provider gets from the outside.
type Deps struct {
	Secrets secret.Store
	// HTTP gives a client with time-out, body limit, no redirects to other hosts,
	// and no private addresses unless the account allows them.
	HTTP func(Account) (*http.Client, error)
	// Now is the world's clock: wall time, or the lab's.
	Now func(context.Context) time.Time
	// Agent is the user agent that marks rekey's calls.
	Agent string
}

// Support says who can do a verb.
type Support string

// How a verb is supported. A verb that is not there at all is left out.
const (
	ByAPI   Support = "api"
	ByHuman Support = "human"
)

// Proof says how a verb was proven to work.
type Proof string

// Proofs, best first.
const (
	ForeignServer     Proof = "foreign-server"
	PublishedFixtures Proof = "published-fixtures"
	LabOnly           Proof = "lab-only"
)

// A VerbInfo is what a provider promises of one verb of one kind.
type VerbInfo struct {
	Support     Support  `json:"support"`
	Reversible  bool     `json:"reversible"`
	Idempotent  bool     `json:"idempotent"`
	Permissions []string `json:"permissions,omitempty"`
	Steps       string   `json:"steps,omitempty"` // documentation anchor when human
	Proof       Proof    `json:"proof,omitempty"`
	// API names the rate limit the verb counts against.
	API string `json:"api,omitempty"`
	// Calls are the vendor operations it may make, for the plan.
	Calls []string `json:"calls,omitempty"`
}

// A KindInfo describes one kind of credential.
type KindInfo struct {
	Kind string `json:"kind"`
	// Recogniser says in words what a person looks for; Pattern and Check say it
	// to the machine.
	Recogniser string            `json:"recogniser"`
	Pattern    string            `json:"pattern"`
	Checksum   bool              `json:"checksum"`
	Verbs      map[Verb]VerbInfo `json:"verbs"`
	// Propagation is how long a change takes to be seen everywhere.
	Propagation time.Duration `json:"-"`
	// SessionsOutlive: what was derived from the key lives on without it.
	SessionsOutlive    bool `json:"sessions_outlive_key"`
	ProbeWithoutSecret bool `json:"probe_without_secret"`
	// IDSuffices: all verbs but Probe work without the secret.
	IDSuffices bool `json:"id_suffices"`
	// Actions the probe may use, harmless reads.
	ProbeAction string `json:"probe_action,omitempty"`
}

// A Limit is a published rate limit.
type Limit struct {
	API   string  `json:"api"`
	Rate  string  `json:"rate"`
	Per   string  `json:"per"`
	Value float64 `json:"-"` // per second
}

// A Descriptor is everything rekey knows of a provider without calling it.
type Descriptor struct {
	Code  string     `json:"code"`
	Name  string     `json:"name"`
	Docs  string     `json:"docs"`
	Kinds []KindInfo `json:"kinds"`
	// Limits are the vendor's; configuration may lower them.
	Limits []Limit `json:"limits"`
	// ReadPolicy and WritePolicy are ready to paste.
	ReadPolicy  string `json:"read_policy,omitempty"`
	WritePolicy string `json:"write_policy,omitempty"`
	// Secrets are the patterns that the redactor must take out of any text.
	Secrets []string `json:"-"`
	// CheckID refuses a malformed key id with a sentence for the person who
	// typed it, and gives its kind.
	CheckID func(id string) (kind string, err error) `json:"-"`
	// FreeForm: key ids are names that people choose, so that nearly any short text is
	// well-formed.
	FreeForm bool `json:"free_form,omitempty"`
	// Stores are the Distribute targets it has, "awssm".
	Stores []string `json:"stores,omitempty"`
	// LadderCalls tells for a rung which verbs it uses.
	RungVerbs map[string]Verb `json:"-"`
}

// Kind finds a kind.
func (d Descriptor) Kind(kind string) (KindInfo, bool) {
	for _, k := range d.Kinds {
		if k.Kind == kind {
			return k, true
		}
	}
	return KindInfo{}, false
}

// Has lists the verbs that a client implements by type, in the order of [Verbs].
func Has(client any) []Verb {
	var out []Verb
	for _, v := range Verbs() {
		if Implements(client, v) {
			out = append(out, v)
		}
	}
	return out
}

// Implements tells whether client has v.
func Implements(client any, v Verb) bool {
	ok := false
	switch v {
	case Inspect:
		_, ok = client.(Inspector)
	case Disable:
		_, ok = client.(Disabler)
	case Restore:
		_, ok = client.(Restorer)
	case Revoke:
		_, ok = client.(Revoker)
	case EndSessions:
		_, ok = client.(SessionEnder)
	case Deny:
		_, ok = client.(Denier)
	case Bind:
		_, ok = client.(Binder)
	case Issue:
		_, ok = client.(Issuer)
	case Distribute:
		_, ok = client.(Distributor)
	case Probe:
		_, ok = client.(Prober)
	case Sweep:
		_, ok = client.(Sweeper)
	}
	return ok
}
