package awsiam

import (
	"github.com/google/uuid"
)

// tokenSpace is the name space of the UUIDs below; fixed for ever, because a
// reconciliation after an upgrade must find what the old version made.
var tokenSpace = uuid.MustParse("8a1a6f0e-6b0c-5d0e-9c56-1f3f0d6b7a11")

// tokenID is the UUIDv5 (RFC 9562 section 5.5) of an idempotency token: the form
// that Secrets Manager wants as ClientRequestToken, and short enough for a user
// agent. The same token gives the same UUID.
func tokenID(token string) string { return uuid.NewSHA1(tokenSpace, []byte(token)).String() }
