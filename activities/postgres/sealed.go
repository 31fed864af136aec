package postgres

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"

	"rekey/activities"
	"rekey/internal/secret"
)

// A pair is what is sealed of a role, as JSON. A report may have sealed the bare
// password or a connection string instead.
type pair struct {
	User     string `json:"user"`
	Password string `json:"password"`
}

// String keeps a pair out of every format.
func (pair) String() string { return secret.Mark }

// GoString keeps a pair out of %#v.
func (pair) GoString() string { return secret.Mark }

var _ fmt.Stringer = pair{}

func (c *Client) sealRef(incident, handle string) secret.Ref {
	return secret.Ref{Incident: incident, Handle: handle, Provider: Code, Origin: c.origin}
}

// seal keeps a new pair under the handle.
func (c *Client) seal(ctx context.Context, incident, handle string, p pair) error {
	b, err := json.Marshal(p)
	if err != nil {
		return errors.New("the new password cannot be encoded")
	}
	defer clear(b)
	return c.deps.Secrets.Seal(ctx, c.sealRef(incident, handle), secret.New(b))
}

// unseal reads the pair under the handle for the purpose; role is whose it must be.
// ok is false when nothing is sealed there.
func (c *Client) unseal(ctx context.Context, op, incident, handle, role string, why secret.Purpose) (p pair, ok bool, f *activities.Fault) {
	v, err := c.deps.Secrets.Open(ctx, c.sealRef(incident, handle), why)
	switch {
	case errors.Is(err, secret.ErrGone):
		return pair{}, false, nil
	case errors.Is(err, secret.ErrBinding):
		return pair{}, false, invalid(op, "the sealed secret is bound to another server than this account's")
	case ctx.Err() != nil:
		return pair{}, false, &activities.Fault{Class: activities.ClassTransient, Op: op, Detail: "cancelled before the statement was sent"}
	case err != nil:
		return pair{}, false, &activities.Fault{Class: activities.ClassTransient, Op: op, Detail: "the sealed store does not answer; see rekey doctor"}
	}
	defer v.Destroy()
	b := v.Reveal()
	defer clear(b)
	p = readPair(b)
	if p.Password == "" {
		return pair{}, false, invalid(op, "what is sealed is no password")
	}
	if p.User == "" {
		p.User = role
	}
	if role != "" && p.User != role {
		return pair{}, false, invalid(op, "what is sealed is of another role, not of %s", role)
	}
	return p, true, nil
}

// readPair understands what rekey sealed, a connection string, and a bare password.
func readPair(b []byte) pair {
	trimmed := bytes.TrimSpace(b)
	var p pair
	if bytes.HasPrefix(trimmed, []byte("{")) && json.Unmarshal(trimmed, &p) == nil && p.Password != "" {
		return p
	}
	for _, scheme := range []string{"postgres://", "postgresql://"} {
		if !bytes.HasPrefix(trimmed, []byte(scheme)) {
			continue
		}
		if u, err := url.Parse(string(trimmed)); err == nil && u.User != nil {
			if password, ok := u.User.Password(); ok {
				return pair{User: u.User.Username(), Password: password}
			}
		}
	}
	return pair{Password: string(bytes.TrimRight(b, "\r\n"))}
}
