// Package statement is what an authenticated person or trigger says to an
// incident, signed by the component that authenticated them: the voter's own key
// or rekey's server (design section 2). It is plain data and Ed25519 (RFC 8032)
// so that a workflow can check it.
package statement

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"rekey/internal/canon"
)

// Actions a statement can ask for: the names of the incident's updates, and
// Report for triggers.
const (
	Approve = "approve"
	Deny    = "deny"
	Hold    = "hold"
	Release = "release"
	Restore = "restore"
	Resolve = "resolve"
	Note    = "note"
	Close   = "close"
	Report  = "report"
)

// A Statement is the signed text. All of it is covered by the signature.
type Statement struct {
	V        int    `json:"v"`
	Action   string `json:"action"`
	Incident string `json:"incident"`
	// Actor is the person, Role the role they act in, Method how they were
	// authenticated ("cli-key", "server").
	Actor  string `json:"actor"`
	Role   string `json:"role,omitempty"`
	Method string `json:"method"`
	// WaveHash binds a vote to one wave as it was shown; Approval names the
	// question.
	WaveHash string `json:"wave_hash,omitempty"`
	Approval string `json:"approval,omitempty"`
	// Items are fingerprints, for hold, release, restore and resolve.
	Items []string `json:"items,omitempty"`
	// Text is the reason or the note.
	Text string `json:"text,omitempty"`
	// As is the end state asked for by resolve: accepted-risk,
	// never-existed-proven; or done, adopted, override-cutoff.
	As string `json:"as,omitempty"`
	// Task names the needs-human step that resolve ends.
	Task string `json:"task,omitempty"`
	// Until ends a hold, a Restore or an accepted risk.
	Until      time.Time `json:"until,omitzero"`
	BreakGlass bool      `json:"break_glass,omitempty"`
	Nonce      string    `json:"nonce"`
	Issued     time.Time `json:"issued"`
	Expires    time.Time `json:"expires"`
}

// Signed is a statement with its signature. KeyID says which of the signer's
// keys it was.
type Signed struct {
	Statement Statement `json:"statement"`
	KeyID     string    `json:"key_id"`
	Signature string    `json:"signature"` // base64, standard, padded
}

const domain = "rekey statement v1\n"

// ErrBadSignature means the statement is not what the holder of the key said.
var ErrBadSignature = errors.New("statement: signature does not match")

// Sign signs s. KeyID is derived from the key.
func Sign(s Statement, key ed25519.PrivateKey) (Signed, error) {
	s.V = 1
	msg, err := message(s)
	if err != nil {
		return Signed{}, err
	}
	pub, ok := key.Public().(ed25519.PublicKey)
	if !ok {
		return Signed{}, errors.New("statement: not an Ed25519 key")
	}
	return Signed{Statement: s, KeyID: KeyID(pub), Signature: base64.StdEncoding.EncodeToString(ed25519.Sign(key, msg))}, nil
}

// Verify checks the signature with key; it says nothing of time, role or nonce.
func (s Signed) Verify(key ed25519.PublicKey) error {
	if s.Statement.V != 1 {
		return fmt.Errorf("statement: version %d is not known", s.Statement.V)
	}
	msg, err := message(s.Statement)
	if err != nil {
		return err
	}
	sig, err := base64.StdEncoding.DecodeString(s.Signature)
	if err != nil || len(key) != ed25519.PublicKeySize || !ed25519.Verify(key, msg, sig) {
		return ErrBadSignature
	}
	return nil
}

func message(s Statement) ([]byte, error) {
	b, err := canon.JSON(s)
	if err != nil {
		return nil, err
	}
	return append([]byte(domain), b...), nil
}

// KeyID names a public key: the first 16 hex digits of its SHA-256.
func KeyID(pub ed25519.PublicKey) string {
	return strings.TrimPrefix(canon.Hash(pub), "sha256:")[:16]
}

// A Person is one voter as pinned at the start of an incident.
type Person struct {
	Actor string   `json:"actor"`
	Roles []string `json:"roles"`
	// Keys are base64 public keys of the person's own.
	Keys []string `json:"keys,omitempty"`
	// Methods are the channels in which the server may authenticate this person and
	// sign for them ("slack"), because the configuration names them there.
	Methods []string `json:"methods,omitempty"`
}

// MethodSlack: the server checked Slack's signature, and signs for the person whom
// the configuration names there.
const MethodSlack = "slack"

// Has tells whether p may act as role. An admin may not act as another role
// unless it was given to them.
func (p Person) Has(role string) bool {
	for _, r := range p.Roles {
		if r == role {
			return true
		}
	}
	return false
}
