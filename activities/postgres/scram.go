package postgres

import (
	"bytes"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
)

const (
	// iterations are PostgreSQL's own (scram_iterations, SCRAM_SHA_256_DEFAULT_ITERATIONS).
	iterations = 4096
	// saltBytes is SCRAM_DEFAULT_SALT_LEN of PostgreSQL.
	saltBytes = 16
	// passwordBytes of randomness make a new password: 192 bits.
	passwordBytes = 24
)

// newPassword is 32 characters of the URL-safe base64 alphabet: they need no quoting
// in a URL, a password file or a shell, and SASLprep (RFC 4013) leaves them as they are.
func newPassword() string {
	b := make([]byte, passwordBytes)
	_, _ = rand.Read(b) // never fails, crypto/rand
	defer clear(b)
	return base64.RawURLEncoding.EncodeToString(b)
}

// verifier is what the server keeps instead of the password, computed here so that the
// password is in no statement and so in no log of the server:
// SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>. Sources: RFC 5802 section
// 3, RFC 7677, https://www.postgresql.org/docs/current/catalog-pg-authid.html.
func verifier(password string) (string, error) {
	salt := make([]byte, saltBytes)
	_, _ = rand.Read(salt) // never fails, crypto/rand
	return verifierOf(password, salt, iterations)
}

func verifierOf(password string, salt []byte, rounds int) (string, error) {
	salted, err := pbkdf2.Key(sha256.New, password, salt, rounds, sha256.Size)
	if err != nil {
		return "", err
	}
	defer clear(salted)
	clientKey := mac(salted, "Client Key")
	stored := sha256.Sum256(clientKey)
	enc := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", rounds, enc(salt), enc(stored[:]), enc(mac(salted, "Server Key"))), nil
}

// maxRounds bounds the work that a verifier from the catalogue can ask of us.
const maxRounds = 1_000_000

// matches tells whether the password is the one that the verifier is of; known is
// false for other forms of verifier, and for a password that SASLprep might change.
func matches(stored, password string) (match, known bool) {
	rest, ok := strings.CutPrefix(stored, "SCRAM-SHA-256$")
	if !ok || strings.ContainsFunc(password, func(r rune) bool { return r < ' ' || r > '~' }) {
		return false, false
	}
	head, _, _ := strings.Cut(rest, "$")
	count, salt64, _ := strings.Cut(head, ":")
	rounds, err := strconv.Atoi(count)
	salt, serr := base64.StdEncoding.DecodeString(salt64)
	if err != nil || serr != nil || rounds < 1 || rounds > maxRounds {
		return false, false
	}
	own, err := verifierOf(password, salt, rounds)
	if err != nil {
		return false, false
	}
	return hmac.Equal(bytes.TrimSpace([]byte(own)), []byte(stored)), true
}

func mac(key []byte, text string) []byte {
	m := hmac.New(sha256.New, key)
	_, _ = m.Write([]byte(text)) // never fails, hash.Hash
	return m.Sum(nil)
}
