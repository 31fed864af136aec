package awsiam

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"

	"rekey/activities"
	"rekey/internal/secret"
)

// A pair is what is sealed of a key, as JSON. A report may have sealed the bare
// secret instead; then the id is the item's.
type pair struct {
	ID     string `json:"access_key_id"`
	Secret string `json:"secret_access_key"`
	Token  string `json:"session_token,omitempty"`
}

// String keeps a pair out of every format.
func (pair) String() string { return secret.Mark }

// GoString keeps a pair out of %#v.
func (pair) GoString() string { return secret.Mark }

func (c *Client) sealRef(incident, handle string) secret.Ref {
	return secret.Ref{Incident: incident, Handle: handle, Provider: Code, Origin: c.origin}
}

// seal keeps a new pair under the handle.
func (c *Client) seal(ctx context.Context, incident, handle string, p pair) error {
	b, err := json.Marshal(p)
	if err != nil {
		return errors.New("the new secret cannot be encoded")
	}
	defer clear(b)
	return c.deps.Secrets.Seal(ctx, c.sealRef(incident, handle), secret.New(b))
}

// unseal reads the pair under the handle for the purpose; id is whose it must be.
// ok is false when nothing is sealed there.
func (c *Client) unseal(ctx context.Context, op, incident, handle, id string, why secret.Purpose) (p pair, ok bool, f *activities.Fault) {
	v, err := c.deps.Secrets.Open(ctx, c.sealRef(incident, handle), why)
	switch {
	case errors.Is(err, secret.ErrGone):
		return pair{}, false, nil
	case errors.Is(err, secret.ErrBinding):
		return pair{}, false, invalid(op, "the sealed secret is bound to another endpoint than this account's")
	case ctx.Err() != nil:
		return pair{}, false, &activities.Fault{Class: activities.ClassTransient, Op: op, Detail: cancelled}
	case err != nil:
		return pair{}, false, &activities.Fault{Class: activities.ClassTransient, Op: op, Detail: "the sealed store does not answer; see rekey doctor"}
	}
	defer v.Destroy()
	b := v.Reveal()
	defer clear(b)
	if bytes.HasPrefix(bytes.TrimSpace(b), []byte("{")) {
		if json.Unmarshal(b, &p) != nil || p.Secret == "" {
			return pair{}, false, invalid(op, "what is sealed is not an AWS key pair")
		}
		if p.ID == "" {
			p.ID = id
		}
	} else {
		p = pair{ID: id, Secret: string(bytes.TrimSpace(b))}
	}
	if id != "" && p.ID != id {
		return pair{}, false, invalid(op, "what is sealed is of another key, not of %s", id)
	}
	return p, true, nil
}

// credential makes the SDK sign with the pair.
func (p pair) credential() aws.CredentialsProvider {
	return aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: p.ID, SecretAccessKey: p.Secret, SessionToken: p.Token}, nil
	})
}

var _ fmt.Stringer = pair{}
