// Package canon gives the canonical bytes that rekey hashes and signs.
package canon

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"github.com/gowebpki/jcs"
)

// JSON marshals v and brings it into the form of RFC 8785 (JCS).
func JSON(v any) ([]byte, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("canonical JSON: %w", err)
	}
	out, err := jcs.Transform(raw)
	if err != nil {
		return nil, fmt.Errorf("canonical JSON: %w", err)
	}
	return out, nil
}

// Hash is "sha256:" and the hex digest of b.
func Hash(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// HashOf is the Hash of the canonical JSON of v.
func HashOf(v any) (string, error) {
	b, err := JSON(v)
	if err != nil {
		return "", err
	}
	return Hash(b), nil
}

// TimeLayout is how times are written (contracts section 0).
const TimeLayout = "2006-01-02T15:04:05.000Z"

// Time writes t as contracts section 0 wants; the zero time is "".
func Time(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(TimeLayout)
}
