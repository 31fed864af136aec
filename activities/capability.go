package activities

import (
	"context"
	"time"
)

// Every method below may be called twice with the same request, by two
// processes, one of which died between any two of its lines. All failures are
// *Fault. A method obeys ctx and returns soon after it is cancelled.

// An Inspector reads everything the provider can tell of a key. It changes
// nothing. What it could not see it lists in Unseen instead of failing, unless
// it could see nothing at all.
type Inspector interface {
	Inspect(context.Context, InspectRequest) (InspectResult, error)
}

// A Disabler makes a key useless without destroying it. Disabling a key that is
// disabled gives Done, one that is gone gives AlreadyGone: the caller wants the
// state, not the act.
type Disabler interface {
	Disable(context.Context, Ref) (Result, error)
}

// A Restorer enables a disabled key until a time. The end is installed at the
// provider before the key is enabled, so that it ends even if rekey is down.
type Restorer interface {
	Restore(context.Context, RestoreRequest) (Result, error)
}

// A Revoker destroys a key for ever. Revoking what is gone gives AlreadyGone.
type Revoker interface {
	Revoke(context.Context, Ref) (Result, error)
}

// A SessionEnder makes everything derived from the key before Before useless.
// Asking again with a later time moves the border; it never moves back.
type SessionEnder interface {
	EndSessions(context.Context, EndSessionsRequest) (Result, error)
}

// A Denier stops the principal, new keys included. Idempotent. Lift undoes it.
type Denier interface {
	Deny(context.Context, DenyRequest) (Result, error)
}

// A Binder ties the principal to source networks. Idempotent.
type Binder interface {
	Bind(context.Context, BindRequest) (Result, error)
}

// An Issuer makes the replacement of a key and seals its secret under
// Request.Handle in the same call. It is not idempotent at most providers:
// Before must be taken by [Lister] and be durable before Issue is called, and a
// call whose answer was lost is settled by [Reconciler].
type Issuer interface {
	Issue(context.Context, IssueRequest) (IssueResult, error)
}

// A Lister lists the keys of the principal of the named key, all of them, in a
// stable order. It changes nothing.
type Lister interface {
	ListKeys(context.Context, Ref) ([]KeyState, error)
}

// A Reconciler settles an Issue whose answer was lost. It proves which keys of
// the principal the lost call made, makes them useless (their secret is lost),
// and says which new keys it cannot attribute; those it leaves alone. It is
// idempotent.
type Reconciler interface {
	ReconcileIssue(context.Context, ReconcileRequest) (ReconcileResult, error)
}

// A Distributor puts a sealed secret into the place where dependents read it.
// It is idempotent on Ref.Token; the previous value does not stay readable.
type Distributor interface {
	Distribute(context.Context, DistributeRequest) (DistributeResult, error)
}

// A Prober asks the provider once, from one vantage point, whether a credential
// works. A single answer proves nothing: rounds, spans and controls are counted
// by the workflow.
type Prober interface {
	Probe(context.Context, ProbeRequest) (ProbeResult, error)
}

// A Sweeper lists what exists around the key that could give access again. Two
// equal digests, further apart than twice the propagation, mean a stable set.
type Sweeper interface {
	Sweep(context.Context, SweepRequest) (SweepResult, error)
}

// KeyState is one key of a principal.
type KeyState struct {
	ID      string    `json:"key_id"`
	Active  bool      `json:"active"`
	Created time.Time `json:"created"`
}

// InspectRequest asks for what is known of a key.
type InspectRequest struct {
	Ref
	// Since is how far back to look. Older than the provider's logs becomes a
	// dark window.
	Since time.Time `json:"since"`
	Now   time.Time `json:"now"`
	// Known are the callers that the estate or a confirmed baseline says are
	// legitimate.
	Known []Caller `json:"known,omitempty"`
	// Compromised are the keys already in scope: what they made is not ours.
	Compromised []string `json:"compromised,omitempty"`
}

// A Caller is one way in which a key is used: from where and with what.
type Caller struct {
	Network string `json:"network,omitempty"` // CIDR
	Agent   string `json:"agent,omitempty"`   // prefix of the user agent
	Who     string `json:"who,omitempty"`     // dependent or place
}

// A Use is a group of uses of the key that look alike.
type Use struct {
	First   time.Time `json:"first"`
	Last    time.Time `json:"last"`
	Count   int64     `json:"count"`
	Source  string    `json:"source"`
	Agent   string    `json:"agent,omitempty"`
	Calls   []string  `json:"calls"`
	Refused int64     `json:"refused,omitempty"`
	// Label is known, new or unknown: told from the key's own baseline. Malicious
	// is set only on proof or by a person.
	Label     string `json:"label"`
	Malicious bool   `json:"malicious,omitempty"`
	Why       string `json:"why"`
	Who       string `json:"who,omitempty"`
}

// Labels of a [Use].
const (
	UseKnown   = "known"
	UseNew     = "new"
	UseUnknown = "unknown"
)

// A Finding is an object that the key made, or a credential derived from it.
type Finding struct {
	// What is key, user, role, policy, session, login, other.
	What string    `json:"what"`
	ID   string    `json:"id"`
	At   time.Time `json:"at"`
	By   string    `json:"by,omitempty"`
	// Key is set where the finding is itself a key of this provider.
	Key     *Key      `json:"key,omitempty"`
	Expires time.Time `json:"expires,omitzero"`
	Why     string    `json:"why"`
}

// Unseen is a part of the scope that could not be read, and why.
type Unseen struct {
	Source     string `json:"source"`
	Why        string `json:"why"`
	Permission string `json:"permission,omitempty"`
}

// A Window is a span of time from which there are no logs.
type Window struct {
	From   time.Time `json:"from"`
	To     time.Time `json:"to"`
	Source string    `json:"source"`
}

// InspectResult is one reading of a key. Facts it could not read are absent and
// their source is in Unseen.
type InspectResult struct {
	Principal string `json:"principal,omitempty"`
	// Exists is nil when unknown.
	Exists  *bool     `json:"exists,omitempty"`
	Active  *bool     `json:"active,omitempty"`
	Admin   *bool     `json:"admin,omitempty"`
	Created time.Time `json:"created,omitzero"`
	Last    time.Time `json:"last_used,omitzero"`
	Owner   string    `json:"owner,omitempty"`
	// Roles are the roles that sessions of this key assumed.
	Roles    []string   `json:"roles,omitempty"`
	Policies []string   `json:"policies,omitempty"`
	Uses     []Use      `json:"uses,omitempty"`
	Findings []Finding  `json:"findings,omitempty"`
	Siblings []KeyState `json:"siblings,omitempty"`
	Unseen   []Unseen   `json:"unseen,omitempty"`
	Dark     []Window   `json:"dark,omitempty"`
	Evidence []Evidence `json:"evidence,omitempty"`
	// Digest identifies the reading, for evidence: "sha256:…" of its canonical
	// JSON without Evidence and Digest.
	Digest string `json:"digest"`
}

// RestoreRequest enables a key until Until.
type RestoreRequest struct {
	Ref
	Until time.Time `json:"until"`
}

// EndSessionsRequest ends what was issued before Before, for the principal and
// for the roles named.
type EndSessionsRequest struct {
	Ref
	Before time.Time `json:"before"`
	Roles  []string  `json:"roles,omitempty"`
}

// DenyRequest denies, or with Lift takes the Deny away again.
type DenyRequest struct {
	Ref
	Lift bool `json:"lift,omitempty"`
}

// BindRequest ties the principal to the networks in Allow (CIDR).
type BindRequest struct {
	Ref
	Allow []string `json:"allow"`
	Lift  bool     `json:"lift,omitempty"`
}

// IssueRequest makes a replacement key.
type IssueRequest struct {
	Ref
	// Handle is where the new secret is sealed.
	Handle string `json:"handle"`
	// Before are the keys that existed before the first attempt.
	Before []KeyState `json:"before"`
}

// IssueResult names the new key. The secret is sealed already.
type IssueResult struct {
	Result
	New    KeyState `json:"new"`
	Handle string   `json:"handle,omitempty"`
}

// ReconcileRequest settles an Issue whose answer was lost.
type ReconcileRequest struct {
	IssueRequest
	// Started is when the lost call was begun.
	Started time.Time `json:"started"`
	Now     time.Time `json:"now"`
}

// ReconcileResult tells what the lost call had done.
type ReconcileResult struct {
	// Settled: no key of the lost call can be alive any more; Issue may be called
	// again with the same Before.
	Settled bool `json:"settled"`
	// Killed are keys proven to be of the lost call and destroyed.
	Killed []KeyState `json:"killed,omitempty"`
	// Kept is set when the lost call's key was found with its secret sealed.
	Kept *KeyState `json:"kept,omitempty"`
	// Unattributed are new keys that nobody can be proven to have made.
	Unattributed []KeyState `json:"unattributed,omitempty"`
	Detail       string     `json:"detail,omitempty"`
	Evidence     []Evidence `json:"evidence,omitempty"`
}

// DistributeRequest writes the secret sealed under Handle to Store.
type DistributeRequest struct {
	Ref
	Handle   string `json:"handle"`
	NewKeyID string `json:"new_key_id"`
	// Target is the kind of store, "awssm"; Name is its name for the secret.
	Target string `json:"target"`
	Name   string `json:"name"`
}

// DistributeResult is the receipt of the store.
type DistributeResult struct {
	Result
	// Version is the store's version id of the value.
	Version string `json:"version"`
}

// How a probe asks.
const (
	// ProbeAuth: does the credential authenticate?
	ProbeAuth = "auth"
	// ProbeAction: is a harmless action, allowed before the kill, refused? Needed
	// for EndSessions and Deny, under which authentication alone still answers.
	ProbeAction = "action"
	// ProbeState: what does the provider's state say? Used where no secret is
	// known; grade B at best.
	ProbeState = "state"
)

// ProbeRequest asks once.
type ProbeRequest struct {
	Ref
	Mode string `json:"mode"`
	// Vantage is one of the descriptor's or configuration's vantage points.
	Vantage string `json:"vantage,omitempty"`
	// Handle overrides Ref.Secret: the handle of a new key's secret.
	Handle   string `json:"handle,omitempty"`
	NewKeyID string `json:"new_key_id,omitempty"`
}

// What a probe saw.
const (
	ProbeAlive   = "alive"
	ProbeRefused = "refused"
	ProbeUnclear = "unclear" // time-out, proxy, 5xx: never counts either way
	// ProbeMismatch: the id is live and the secret is not its secret. The key is
	// alive; the secret proves nothing.
	ProbeMismatch = "mismatch"
)

// ProbeResult is one answer.
type ProbeResult struct {
	Saw string `json:"saw"`
	// Control tells whether, in the same round from the same place, a credential
	// that must work did work. Without it a refusal does not count.
	Control  bool       `json:"control"`
	Mode     string     `json:"mode"`
	Vantage  string     `json:"vantage,omitempty"`
	Detail   string     `json:"detail,omitempty"`
	Evidence []Evidence `json:"evidence,omitempty"`
}

// SweepRequest asks for the residue around the principal since Since.
type SweepRequest struct {
	Ref
	Since time.Time `json:"since"`
	Now   time.Time `json:"now"`
	// Compromised are the keys in scope: what they made is residue.
	Compromised []string `json:"compromised,omitempty"`
	// Ours are keys that this incident made.
	Ours []string `json:"ours,omitempty"`
	// UsesOnly asks for Hits alone, for a watch that looks often: Digest is then
	// empty.
	UsesOnly bool `json:"uses_only,omitempty"`
}

// SweepResult is one reading of the residue.
type SweepResult struct {
	// Digest of the set of keys, users, roles and policies looked at.
	Digest   string     `json:"digest"`
	Findings []Finding  `json:"findings,omitempty"`
	Hits     []Use      `json:"hits,omitempty"` // uses of the key since Since
	Unseen   []Unseen   `json:"unseen,omitempty"`
	Evidence []Evidence `json:"evidence,omitempty"`
}
