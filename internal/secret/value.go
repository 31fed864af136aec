// Package secret holds what must not be shown: the type of a secret's bytes,
// the keyed fingerprints that stand for keys everywhere else, and the contract
// of the sealed store.
//
// This package uses the standard library only and does no I/O, because the
// provider contract (activities) imports it. What reads and writes files is in
// subpackages: installation (the fingerprint key), agestore (the sealed store),
// redact (removal of secrets from text). Another sealed store is another
// subpackage that implements Store with the promises written there.
package secret

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
)

// Mark is what a Value shows instead of its bytes.
const Mark = "[secret]"

// ErrSerialise is returned by every encoder that meets a Value.
var ErrSerialise = errors.New("secret: refusing to serialise a secret; seal it and pass its handle instead")

// A Value holds a secret. Formatting it shows Mark and serialising it fails, so
// it cannot reach a log, an error or a workflow payload by accident. Reveal is
// easy to grep for. The bytes live behind a function, where reflection-based
// printers, which see unexported fields, cannot follow. Copies share the bytes;
// the zero Value is empty. Values are not comparable with ==: use Equal.
type Value struct {
	with func(func(*[]byte))
}

// New copies b. The caller should clear(b) when it no longer needs it.
func New(b []byte) Value {
	held := bytes.Clone(b)
	var mu sync.Mutex
	return Value{with: func(f func(*[]byte)) {
		mu.Lock()
		defer mu.Unlock()
		f(&held)
	}}
}

// Reveal returns a copy of the bytes; nil when empty or destroyed.
func (v Value) Reveal() []byte {
	var out []byte
	if v.with != nil {
		v.with(func(b *[]byte) { out = bytes.Clone(*b) })
	}
	return out
}

// Len is the number of bytes; 0 when empty or destroyed.
func (v Value) Len() int {
	n := 0
	if v.with != nil {
		v.with(func(b *[]byte) { n = len(*b) })
	}
	return n
}

// Empty reports whether there is nothing in it.
func (v Value) Empty() bool { return v.Len() == 0 }

// Destroy overwrites the bytes of this Value and of all its copies; they are
// empty afterwards. Idempotent. What Reveal gave out is not reached.
func (v Value) Destroy() {
	if v.with != nil {
		v.with(func(b *[]byte) { clear(*b); *b = nil })
	}
}

// Equal compares in constant time, whatever the lengths.
func (v Value) Equal(w Value) bool {
	a, b := v.Reveal(), w.Reveal()
	defer clear(a)
	defer clear(b)
	x, y := sha256.Sum256(a), sha256.Sum256(b)
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

// String implements fmt.Stringer.
func (Value) String() string { return Mark }

// GoString implements fmt.GoStringer.
func (Value) GoString() string { return Mark }

// Format implements fmt.Formatter: Mark for every verb and flag.
func (Value) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, Mark) }

// LogValue implements slog.LogValuer.
func (Value) LogValue() slog.Value { return slog.StringValue(Mark) }

// MarshalJSON refuses with ErrSerialise.
func (Value) MarshalJSON() ([]byte, error) { return nil, ErrSerialise }

// UnmarshalJSON refuses with ErrSerialise: a secret never comes in a document.
func (*Value) UnmarshalJSON([]byte) error { return ErrSerialise }

// MarshalText refuses with ErrSerialise.
func (Value) MarshalText() ([]byte, error) { return nil, ErrSerialise }

// MarshalBinary refuses with ErrSerialise.
func (Value) MarshalBinary() ([]byte, error) { return nil, ErrSerialise }

// GobEncode refuses with ErrSerialise.
func (Value) GobEncode() ([]byte, error) { return nil, ErrSerialise }

// MarshalYAML refuses with ErrSerialise.
func (Value) MarshalYAML() (any, error) { return nil, ErrSerialise }
