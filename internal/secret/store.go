package secret

import (
	"context"
	"errors"
	"time"
)

// Errors of a Store. They say what to do and never hold secret bytes.
var (
	// ErrGone: nothing is sealed under this reference (any more).
	ErrGone = errors.New("secret: nothing is sealed under this handle: it was destroyed (proof of death or expiry) or never sealed; report the key again with its secret if it is needed")
	// ErrBinding: the secret is bound to another provider or origin. It is sent
	// nowhere else (design section 6).
	ErrBinding = errors.New("secret: the handle is bound to another provider or origin: use the account it was sealed for; if base_url was changed since, report the key again")
	// ErrPassphrase: the store's identity cannot be unlocked.
	ErrPassphrase = errors.New("secret: the sealed store's identity does not open: check sealed.passphrase_file and sealed.identity_file in rekey.yaml")
	// ErrDiffers: another secret is sealed under this reference already.
	ErrDiffers = errors.New("secret: another secret is sealed under this handle: use a new handle, or Replace if the sealed one is wrong")
)

// A Ref names one sealed secret and where it may go. It holds no secret and may
// travel in workflow payloads.
type Ref struct {
	// Incident owns the data key: destroying it makes all its secrets unreadable.
	Incident string `json:"incident"`
	// Handle is any text without control characters that is unique in the
	// incident, at most 512 bytes.
	Handle string `json:"handle"`
	// Provider is the provider's code, "awsiam".
	Provider string `json:"provider"`
	// Origin is the scheme, host and port the secret may be sent to, or a word
	// of the provider for "its own default".
	Origin string `json:"origin"`
}

// Meta is what is known of a sealed secret without handing it out.
type Meta struct {
	Ref      Ref
	SealedAt time.Time
}

// A Purpose says why a secret is read: "probe", "distribute". It is recorded.
type Purpose string

// A ReadRecord is one attempt to read a sealed secret. Granted is false for a
// refused one (gone, wrong binding).
type ReadRecord struct {
	At      time.Time
	Ref     Ref
	Purpose Purpose
	Granted bool
	Why     string // of a refusal: "gone", "binding", "unreadable"
}

// A Store keeps secrets sealed. Implementations are safe for concurrent use and
// survive a crash between any two steps.
type Store interface {
	// Seal keeps v under ref, durably, before it returns. Sealing the same bytes
	// again changes nothing; other bytes fail with ErrDiffers.
	Seal(ctx context.Context, ref Ref, v Value) error
	// Replace is Seal without the refusal.
	Replace(ctx context.Context, ref Ref, v Value) error
	// Open hands out the secret for one purpose and records the read. It fails
	// with ErrGone, or with ErrBinding when ref's provider or origin are not the
	// ones it was sealed with.
	Open(ctx context.Context, ref Ref, why Purpose) (Value, error)
	// Exists reports whether Open could find something; it reads no secret.
	Exists(ctx context.Context, ref Ref) (bool, error)
	// Destroy makes every secret of the incident unreadable, data key first.
	// Idempotent.
	Destroy(ctx context.Context, incident string) error
}
