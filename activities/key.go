package activities

import (
	"strings"
	"time"
)

// A Key names one credential everywhere in rekey. It holds no secret.
type Key struct {
	// FP is the item fingerprint (contracts section 0).
	FP       string `json:"fp"`
	Provider string `json:"provider"`
	Account  string `json:"account"`
	Kind     string `json:"kind"`
	// ID is the provider's public id, "AKIA…".
	ID string `json:"key_id,omitempty"`
	// Principal is who the key acts as, in the provider's own name (an IAM user
	// name). Empty before Inspect.
	Principal string `json:"principal,omitempty"`
}

// Short is the part of the fingerprint that people see.
func (k Key) Short() string {
	prefix := len("fp1_")
	if strings.HasPrefix(k.FP, "spki_") {
		prefix = len("spki_")
	}
	if len(k.FP) < prefix+12 {
		return k.FP
	}
	return k.FP[prefix : prefix+12]
}

// A Ref is what every request carries.
type Ref struct {
	Incident string `json:"incident"`
	// Token is the idempotency token of this effect: the same effect asked for
	// again, by any attempt, carries the same token.
	Token   string `json:"token"`
	Attempt int    `json:"attempt"`
	Key     Key    `json:"key"`
	// Secret is the handle of the key's own secret in the sealed store, empty
	// when the report carried none.
	Secret string `json:"secret,omitempty"`
}

// Evidence is what is kept of one call: never bodies, never vendor text.
type Evidence struct {
	Op        string    `json:"op"`
	At        time.Time `json:"at"`
	RequestID string    `json:"request_id,omitempty"`
	Status    int       `json:"status,omitempty"`
}

// A Result is what a mutating verb gives back when it did not fail.
type Result struct {
	Outcome  Outcome    `json:"outcome"`
	Detail   string     `json:"detail,omitempty"`
	Evidence []Evidence `json:"evidence,omitempty"`
}
