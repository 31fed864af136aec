// Package activities is the contract between rekey and the systems whose keys it
// kills: the verbs, what they take and give, how they fail, and how a provider
// describes itself.
//
// # Adding a provider
//
// A provider is one folder below activities that exports
//
//	func Provider() activities.Provider
//
// and one line in activities/all. It implements, per verb it has, a one-method
// interface of this package ([Disabler], [Revoker], …) and promises the same
// verbs in its [Descriptor]; the contract test in activities/all holds the two
// together and every provider to the same behaviour under failure. A verb that
// the system does not offer is left out: what that means is decided by the
// workflow (contracts section 6), never by a method that says "not implemented".
//
// Providers know nothing of Temporal, and this package imports nothing but the
// standard library and rekey/internal/secret, which itself is standard library.
package activities

// A Verb is one capability of a provider.
type Verb string

// The verbs. Their order is the order in which a person reads a descriptor.
const (
	// Inspect reads what the key is, who has it, what it did and made.
	Inspect Verb = "Inspect"
	// Disable makes the key useless without destroying it.
	Disable Verb = "Disable"
	// Restore enables a disabled key for a bounded time.
	Restore Verb = "Restore"
	// Revoke destroys the key. It is irreversible.
	Revoke Verb = "Revoke"
	// EndSessions kills what was derived from the key and outlives it.
	EndSessions Verb = "EndSessions"
	// Deny stops the whole principal.
	Deny Verb = "Deny"
	// Bind ties the principal to source addresses.
	Bind Verb = "Bind"
	// Issue makes the replacement key and seals its secret.
	Issue Verb = "Issue"
	// Distribute puts the sealed replacement where dependents read it.
	Distribute Verb = "Distribute"
	// Probe asks the system whether a credential still works.
	Probe Verb = "Probe"
	// Sweep lists what the key may have left behind.
	Sweep Verb = "Sweep"
)

// Verbs lists every verb in the order of a descriptor.
func Verbs() []Verb {
	return []Verb{Inspect, Disable, Restore, Revoke, EndSessions, Deny, Bind, Issue, Distribute, Probe, Sweep}
}

// Mutates tells whether v changes anything at the provider.
func (v Verb) Mutates() bool {
	switch v {
	case Inspect, Probe, Sweep:
		return false
	}
	return true
}

// Name is the registered activity type of a provider's verb, "awsiam.Disable".
// It is written into histories, so a provider's code can never be renamed once
// released.
func Name(provider string, v Verb) string { return provider + "." + string(v) }

// An Outcome is what is known after a call.
type Outcome string

// The outcomes (design section 2).
const (
	Done        Outcome = "done"         // the provider says the state is reached
	DoneAsync   Outcome = "done-async"   // accepted; true only after a Probe
	AlreadyGone Outcome = "already-gone" // somebody else did it, or it never was
	Assumed     Outcome = "assumed"      // reached by inference only
	Denied      Outcome = "denied"       // our own credential lacks the right
	NeedsHuman  Outcome = "needs-human"  // a person must do it
	Unsupported Outcome = "unsupported"  // this provider cannot, in this case
	Unclear     Outcome = "unclear"      // may have happened; probe before going on
)

// Reached tells whether the wanted state is known to be reached, as far as the
// provider's word goes. It is never proof of death.
func (o Outcome) Reached() bool { return o == Done || o == AlreadyGone }
