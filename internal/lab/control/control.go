// Package control is the lab's control API as its clients see it: the drill driver (clock,
// oracle, secrets) and the engine's batch runner (the edge hook). Only the standard library, so
// that the worker can import it without pulling in the simulator.
//
// The API has its own loopback listener and a bearer token from a 0600 file; it is never reachable
// through the simulated provider.
package control

import "time"

// TokenFile is the name of the token file in the lab's directory.
const TokenFile = "control-token"

// Environment variables the engine reads to find its lab.
const (
	EnvURL   = "REKEY_LAB_CONTROL" // http://127.0.0.1:PORT
	EnvToken = "REKEY_LAB_CONTROL_TOKEN"
)

// Time is a point of world time, written RFC 3339 UTC with 3 decimals. World time always falls on a
// whole millisecond, so nothing is lost.
type Time struct{ time.Time }

// MarshalJSON writes the time.
func (t Time) MarshalJSON() ([]byte, error) {
	return []byte(t.UTC().Format(`"2006-01-02T15:04:05.000Z"`)), nil
}

// Clock is world time.
type Clock struct {
	Now       Time   `json:"now"`
	NextEvent *Time  `json:"next_event,omitempty"` // earliest thing the world will do by itself
	Mode      string `json:"mode"`                 // virtual or real
	Calls     int64  `json:"calls"`                // that the account has seen, of anybody
}

// SetClock moves a virtual clock: to a time, or by milliseconds. Never backwards.
type SetClock struct {
	To        *Time `json:"to,omitempty"`
	AdvanceMS int64 `json:"advance_ms,omitempty"`
}

// Edges of a call.
const (
	BeforeCall  = "before-call"
	AfterCall   = "after-call-before-record"
	AfterRecord = "after-record"
)

// Edge says that the engine stands at an edge of a call. Key is the provider's key id.
type Edge struct {
	Verb     string `json:"verb"`
	Edge     string `json:"edge"`
	Key      string `json:"key,omitempty"`
	Incident string `json:"incident,omitempty"`
}

// Engine registers the process that worker-kill strikes, or another one that an armed kill may
// name by its role; no role is RoleEngine.
type Engine struct {
	PID  int    `json:"pid"`
	Role string `json:"role,omitempty"`
}

// RoleEngine is the process that makes the calls.
const RoleEngine = "engine"

// Arm asks for one more kill, besides those of the drill: SIGKILL to the processes of the roles
// given when the engine stands at the edge of the nth call of the verb, counted from now on.
type Arm struct {
	Verb    string   `json:"verb"`
	Edge    string   `json:"edge"`
	Nth     int      `json:"nth"`
	Victims []string `json:"victims"`
}

// Phase says that the incident entered a phase, for faults that strike at one.
type Phase struct {
	Phase string `json:"phase"`
}

// Info says where the lab is.
type Info struct {
	BaseURL string            `json:"base_url"` // of the simulated provider
	Account string            `json:"account"`
	Region  string            `json:"region"`
	Aliases map[string]string `json:"aliases"` // scenario id -> provider key id
	T0      Time              `json:"t0"`
}

// Secret is a credential the lab gives out.
type Secret struct {
	KeyID        string `json:"key_id"`
	SecretKey    string `json:"secret_access_key"`
	SessionToken string `json:"session_token,omitempty"`
}

// Oracle is the truth about the world, for judging a drill.
type Oracle struct {
	Now        Time        `json:"now"`
	Keys       []Key       `json:"keys"`
	Uses       []Use       `json:"uses"`
	Calls      []Call      `json:"calls"`
	Dependents []Dependent `json:"dependents"`
	Kills      []Kill      `json:"kills"`
	Sessions   []Session   `json:"sessions"`
	Policies   []Policy    `json:"policies"`
	Stores     []Store     `json:"stores"`
	Rules      []Rule      `json:"rules"`
	Jobs       []Job       `json:"jobs"`
	Backoff    Backoff     `json:"backoff"`
}

// Key as it is now. Alive = it would pass authentication.
type Key struct {
	ID       string `json:"id"`
	Alias    string `json:"alias,omitempty"`
	User     string `json:"user"`
	State    string `json:"state"` // active, inactive, deleted
	Alive    bool   `json:"alive"`
	MintedBy string `json:"minted_by"` // scenario, engine, malicious, unknown
	Created  Time   `json:"created"`
}

// Use is a use of a key. Equal uses that follow each other are one entry: At is the first, Last
// the last, N how many.
type Use struct {
	Key    string `json:"key"`
	Alias  string `json:"alias,omitempty"`
	At     Time   `json:"at"`
	Last   Time   `json:"last"`
	N      int    `json:"n"`
	Source string `json:"source"`
	IP     string `json:"ip"`
	ASN    int    `json:"asn"`
	Call   string `json:"call"`   // service:Action
	Result string `json:"result"` // ok, denied, throttled, failed
	Label  string `json:"label"`  // legit, malicious, engine, unknown
}

// Call is a mutating call by the engine.
type Call struct {
	Seq       int64  `json:"seq"` // among all calls of the account
	Verb      string `json:"verb"`
	Action    string `json:"action"`
	Key       string `json:"key,omitempty"`    // the key it is about
	Target    string `json:"target,omitempty"` // user, role or secret it is about
	Caller    string `json:"caller"`           // key id that signed it
	Agent     string `json:"agent,omitempty"`  // user agent: it names the incident and the effect's token
	RequestID string `json:"request_id"`
	At        Time   `json:"at"`
	Result    string `json:"result"`
	Effect    bool   `json:"effect"`         // it changed something
	Lost      bool   `json:"lost"`           // the answer was cut
	Stop      string `json:"stop,omitempty"` // during, in-flight: see Backoff
}

// Ledger is what the engine did, counted. It takes no longer at 100,000 keys than at ten; single
// calls are in the oracle.
type Ledger struct {
	Now   Time                 `json:"now"`
	Calls int64                `json:"calls"` // mutating ones
	Verbs map[string]VerbCount `json:"verbs"` // "" holds what belongs to no verb
	Keys  map[string]KeyCount  `json:"keys"`  // by who made them: scenario, engine, malicious, unknown
	// Repeated are the keys on which Revoke, or Disable without a Restore in between, took effect
	// more than once.
	Repeated []KeyLedger `json:"repeated"`
	Backoff  Backoff     `json:"backoff"`
	Kills    int         `json:"kills"`
}

// VerbCount counts the mutating calls of a verb. First and Last are world time.
type VerbCount struct {
	Calls   int64            `json:"calls"`
	Effects int64            `json:"effects"` // calls that changed something
	Lost    int64            `json:"lost"`
	Results map[string]int64 `json:"results"`
	First   Time             `json:"first"`
	Last    Time             `json:"last"`
}

// KeyCount counts keys by their state. Alive are those that would pass authentication.
type KeyCount struct {
	Total    int64 `json:"total"`
	Active   int64 `json:"active"`
	Inactive int64 `json:"inactive"`
	Deleted  int64 `json:"deleted"`
	Alive    int64 `json:"alive"`
}

// Backoff counts calls, reading ones too, that came while their caller was told to wait by a
// Retry-After of that API: During those that it made all the same, InFlight those that it had made
// before it can have read the answer (100 ms).
type Backoff struct {
	During   int64  `json:"during"`
	InFlight int64  `json:"in_flight"`
	First    []Call `json:"first"` // of During
}

// KeyLedger is how often each verb took effect on a key, and what it is now.
type KeyLedger struct {
	Key      string `json:"key"`
	Alias    string `json:"alias,omitempty"`
	State    string `json:"state,omitempty"` // active, inactive, deleted
	Alive    bool   `json:"alive"`
	MintedBy string `json:"minted_by,omitempty"`
	Disable  int    `json:"disable"`
	Restore  int    `json:"restore"`
	Revoke   int    `json:"revoke"`
}

// Dependent is a legitimate consumer.
type Dependent struct {
	ID       string `json:"id"`
	OutageMS int64  `json:"outage_ms"`
	OnKey    string `json:"on_key"`
	Uses     int    `json:"uses"`
	Failures int    `json:"failures"`
}

// Kill is one SIGKILL to the engine, or to what an armed kill names.
type Kill struct {
	At       Time   `json:"at"`
	PID      int    `json:"pid"`
	Role     string `json:"role,omitempty"`
	Verb     string `json:"verb"`
	Edge     string `json:"edge"`
	Key      string `json:"key,omitempty"`
	Incident string `json:"incident,omitempty"`
}

// Session is a set of temporary credentials. Usable = not expired and not refused everything by policy.
type Session struct {
	ID      string `json:"id"`
	Kind    string `json:"kind"`
	Parent  string `json:"parent"`
	User    string `json:"user,omitempty"`
	Role    string `json:"role,omitempty"`
	Issued  Time   `json:"issued"`
	Expires Time   `json:"expires"`
	Usable  bool   `json:"usable"`
	Engine  bool   `json:"engine"`
}

// Policy is an inline or attached policy of a user or role.
type Policy struct {
	Principal string `json:"principal"` // user/NAME or role/NAME
	Name      string `json:"name"`
	Inline    bool   `json:"inline"`
	Document  string `json:"document,omitempty"`
}

// Rule is a scheduled rule (EventBridge).
type Rule struct {
	Name    string `json:"name"`
	ARN     string `json:"arn"`
	By      string `json:"by"` // key id that made it
	Created Time   `json:"created"`
}

// Job is what the attacker planted as a rule. Ran is when it did its work; absent: not yet, or its
// rule was gone when it was due.
type Job struct {
	Name string `json:"name"`
	Due  Time   `json:"due"`
	Over bool   `json:"over"`
	Ran  *Time  `json:"ran,omitempty"`
}

// Act is a call that a person makes at the provider, with an administrator's rights.
type Act struct {
	Call   string            `json:"call"` // service:Action
	With   map[string]string `json:"with"`
	Source string            `json:"source"`
}

// Store is a Secrets Manager secret; KeyID is the key it holds now.
type Store struct {
	Name     string `json:"name"`
	KeyID    string `json:"key_id,omitempty"`
	Versions int    `json:"versions"`
}
