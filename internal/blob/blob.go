// Package blob keeps what is too large for a workflow history: pages, results
// and journals, under the SHA-256 of their plaintext.
//
// A workflow holds the hash; the hash pins the content. What is stored is
// encrypted under the codec keys (internal/codec/keyring), and Get verifies the
// hash after decryption, so neither a changed file nor a swapped one is ever
// returned. Another kind of store is another type that implements Store and
// Journals; internal/blob/s3blob is the one for several hosts.
package blob

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"time"
)

// MaxSize is the largest blob in bytes.
const MaxSize = 256 << 20

// Fresh is how old a blob may be that Put finds and leaves as it is. An older one it
// makes young again, so that a collector, which goes by age, leaves what was just put.
const Fresh = 24 * time.Hour

// SweepLock is held while a collector deletes. Put waits for it when it finds content
// that is not fresh, so that what a collector had looked at before is not deleted after.
const SweepLock = "sweep"

const hashPrefix = "sha256:"

var hashRE = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

// A Store keeps content under its hash. Implementations are safe for concurrent
// use, and a crash leaves whole blobs only.
type Store interface {
	// Put keeps plaintext, durably, and returns its hash. Putting the same bytes
	// again changes nothing, except that it mends a damaged copy. It fails with
	// *fsx.DiskFullError when there is no room.
	Put(ctx context.Context, plaintext []byte) (hash string, err error)
	// Get returns the content. It fails with *NotFoundError, with *CorruptError
	// when it is not what the hash pins, and with *keyring.MissingKeyError.
	Get(ctx context.Context, hash string) ([]byte, error)
	// Has reports whether something is stored under hash, without reading it.
	Has(ctx context.Context, hash string) (bool, error)
}

// Hash is the name of plaintext: "sha256:" and 64 hex digits.
func Hash(plaintext []byte) string {
	sum := sha256.Sum256(plaintext)
	return hashPrefix + hex.EncodeToString(sum[:])
}

// ValidHash reports whether s has the form of a blob's name.
func ValidHash(s string) bool { return hashRE.MatchString(s) }

// A NotFoundError says that a blob is not in the store.
type NotFoundError struct{ Hash string }

func (e *NotFoundError) Error() string {
	return fmt.Sprintf("blob %s is not in the store: it was removed, or another host wrote it and the hosts share no store; restore it from backup, or give all hosts one store (blobs in rekey.yaml)", e.Hash)
}

// A CorruptError says that a stored blob is not the content its hash pins.
type CorruptError struct {
	Hash string
	Why  string
	Err  error
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("blob %s is damaged (%s): restore it from backup; putting the same content again mends it", e.Hash, e.Why)
}

func (e *CorruptError) Unwrap() error { return e.Err }
