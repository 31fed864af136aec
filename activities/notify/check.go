package notify

import "context"

// A Checker is a channel that can test its own set-up. It is optional; `rekey
// doctor` uses it. A check reads and changes nothing, so it may run at any time and
// by several processes at once. It returns when ctx ends.
type Checker interface {
	// Check tests the credential, its rights, the clock and, for each target in the
	// form of a playbook's record section ("#incidents", "acme/security"), whether
	// the channel can write there. No problem found: nil.
	Check(ctx context.Context, targets ...string) []Problem
}

// A Problem is one thing that is wrong with a channel's set-up, and its mending. It
// holds no secret and no vendor text.
type Problem struct {
	Code   string `json:"code"`             // of the Problem… constants
	Target string `json:"target,omitempty"` // the record's target, where it is about one
	What   string `json:"what"`
	Do     string `json:"do"`
	// Warning: it works today.
	Warning bool `json:"warning,omitempty"`
}

// Codes of a [Problem].
const (
	ProblemUnreachable = "unreachable"   // the vendor does not answer, or something else does
	ProblemCredential  = "credential"    // missing, malformed, refused or expired
	ProblemTeam        = "wrong-team"    // the credential is another workspace's
	ProblemScope       = "missing-scope" // the credential lacks a right
	ProblemTooWide     = "wide-scope"    // the credential can do much more than it needs
	ProblemTarget      = "target"        // the channel or repository cannot be written to
	ProblemClock       = "clock-skew"    // this machine's clock and the vendor's differ
	ProblemExpires     = "expires-soon"  // the credential ends within a week
)
