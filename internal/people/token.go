package people

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"rekey/internal/fsx"
)

const tokenBytes = 32

// TokenFile is where the token is that lets the command line in. It allows
// reading and reporting, never a vote.
func TokenFile(data string) string { return filepath.Join(data, "cli-token") }

// A Token is the cli-token. It shows nothing of itself; only its digest is kept.
type Token struct{ sum [sha256.Size]byte }

// Matches compares in constant time.
func (t Token) Matches(presented string) bool {
	sum := sha256.Sum256([]byte(presented))
	return t.sum != [sha256.Size]byte{} && subtle.ConstantTimeCompare(sum[:], t.sum[:]) == 1
}

// String implements fmt.Stringer.
func (Token) String() string { return "[token]" }

// LoadOrCreateToken reads DATA/cli-token and makes it, 0600, when there is none:
// 32 random bytes in base64url.
func LoadOrCreateToken(data string) (Token, error) {
	text, err := ReadToken(data)
	if errors.Is(err, fs.ErrNotExist) {
		if err := fsx.MkdirPrivate(data); err != nil {
			return Token{}, err
		}
		raw := make([]byte, tokenBytes)
		defer clear(raw)
		_, _ = rand.Read(raw) // never fails: crypto/rand ends the process instead
		line := []byte(base64.RawURLEncoding.EncodeToString(raw) + "\n")
		defer clear(line)
		if err := fsx.CreateExclusive(TokenFile(data), line); err != nil && !errors.Is(err, fs.ErrExist) {
			return Token{}, err
		}
		text, err = ReadToken(data)
	}
	if err != nil {
		return Token{}, err
	}
	return Token{sum: sha256.Sum256([]byte(text))}, nil
}

// ReadToken gives the token to a client. errors.Is(err, fs.ErrNotExist) when no
// server was ever started with this data directory.
func ReadToken(data string) (string, error) {
	path := TokenFile(data)
	raw, err := fsx.ReadPrivate(path, 256)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("no token at %s: start `rekey up` with this data directory first, or name another with --data: %w", path, fs.ErrNotExist)
	}
	if err != nil {
		return "", err
	}
	defer clear(raw)
	text := strings.TrimSuffix(string(raw), "\n")
	if b, err := base64.RawURLEncoding.Strict().DecodeString(text); err != nil || len(b) != tokenBytes {
		return "", &KeyFileError{path, "holds no token", "remove it and start rekey again; it makes a new one"}
	}
	return text, nil
}
