package activities

import (
	"context"
	"time"
)

// A right of our own at a provider, as far as it can be told without using it.
const (
	RightAllowed = "allowed"
	RightDenied  = "denied"
	RightUnknown = "unknown"
)

// A SelfChecker looks at our own credential of an account, for `rekey provider check`.
// An opened client may implement it. It changes nothing.
type SelfChecker interface {
	// Identity is who we are there, in the provider's words. Errors are *Fault.
	Identity(ctx context.Context) (string, error)
	// May tells for each permission, as the descriptor names them, whether we have it:
	// allowed, denied or unknown. What is left out is unknown.
	May(ctx context.Context, permissions []string) map[string]string
	// Skew is how far the provider's clock is ahead of ours, as of the last answer;
	// false before there was one that says.
	Skew() (time.Duration, bool)
}
