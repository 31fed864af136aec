// Package webhook sends notices as signed HTTP requests to an address of the
// recipient, in the shape of Standard Webhooks
// (https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md).
//
// The id of a notice is the webhook-id of every attempt, so a receiver that follows
// the scheme takes the second one for the first: the channel is idempotent.
package webhook

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"rekey/activities"
	"rekey/activities/notify"
	"rekey/internal/httpx"
	"rekey/internal/secret"
)

// Code of the channel, as in `channels.webhook` of rekey.yaml.
const Code = "webhook"

// Headers of a request (Standard Webhooks, "Webhook headers").
const (
	HeaderID        = "webhook-id"
	HeaderTimestamp = "webhook-timestamp"
	HeaderSignature = "webhook-signature"
)

const (
	// minKey is the shortest signing key: the standard asks for 24 to 64 bytes.
	minKey = 24
	// maxAfter bounds what a receiver may ask us to wait.
	maxAfter = time.Hour
	// derive keeps recipients' keys apart from any other use of the signing key.
	derive = "rekey-webhook-v1\x00"
)

// Channel is the offer of this folder.
func Channel() notify.Channel {
	return notify.Channel{
		Descriptor: notify.Descriptor{
			Code: Code, Name: "Signed webhook (Standard Webhooks)", Docs: "https://www.standardwebhooks.com", Delivery: notify.Idempotent,
		},
		Open: open,
	}
}

type sender struct {
	account activities.Account
	deps    activities.Deps
	http    *http.Client
}

func open(a activities.Account, d activities.Deps) (any, error) {
	c, err := d.HTTP(a)
	if err != nil {
		return nil, fmt.Errorf("channels.webhook: %w", err)
	}
	own := *c
	// The standard: a redirect is a failure, and the receiver's address is to be
	// mended. A body that is signed for one address goes to no other.
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &sender{account: a, deps: d, http: &own}, nil
}

// Send posts one notice. 2xx: the receiver has it. Failures are *activities.Fault:
// throttled (429), denied (our own set-up), invalid (this address will never take
// it: other 4xx, redirects), and unclear (5xx, time-outs, broken connections), which
// may be sent again because the id is the same.
func (s *sender) Send(ctx context.Context, req notify.SendRequest) (notify.SendResult, error) {
	f := func(class activities.Class, detail string) (notify.SendResult, error) {
		return notify.SendResult{}, &activities.Fault{Class: class, Op: "webhook:POST", Detail: detail}
	}
	u, err := url.Parse(req.To)
	switch {
	case notify.CheckURL(req.To) != nil || err != nil:
		return f(activities.ClassInvalid, "the contact's address is not that of a webhook")
	case u.Scheme != "https" && !s.account.AllowPrivate:
		return f(activities.ClassInvalid, "the contact's address is not https")
	case len(req.Data) == 0 || req.ID == "" || strings.ContainsFunc(req.ID, func(r rune) bool { return r <= ' ' || r > '~' || r == '.' }):
		// The signed content is id.timestamp.body: a dot in the id could shift it.
		return f(activities.ClassInvalid, "the notice has no body for machines, or its id cannot be signed")
	}
	keys, err := s.keys()
	if err != nil {
		return f(activities.ClassDenied, err.Error())
	}
	now := s.deps.Now(ctx)
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, req.To, bytes.NewReader(req.Data))
	if err != nil {
		return f(activities.ClassInvalid, "the contact's address is not that of a webhook")
	}
	stamp := strconv.FormatInt(now.Unix(), 10)
	signed := make([]string, 0, len(keys))
	for _, k := range keys {
		signed = append(signed, Sign(k.For(req.Ref), req.ID, stamp, req.Data))
		k.master.Destroy()
	}
	r.Header.Set(HeaderID, req.ID)
	r.Header.Set(HeaderTimestamp, stamp)
	r.Header.Set(HeaderSignature, strings.Join(signed, " "))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", s.deps.Agent)
	resp, err := s.http.Do(r)
	if err != nil {
		return notify.SendResult{}, lost(err)
	}
	defer func() { _ = resp.Body.Close() }()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) // so that the connection can be used again
	ev := activities.Evidence{Op: "webhook:POST", At: s.deps.Now(ctx), Status: resp.StatusCode}
	if fault := answered(resp, now); fault != nil {
		return notify.SendResult{}, fault
	}
	return notify.SendResult{Result: activities.Result{Outcome: activities.Done, Evidence: []activities.Evidence{ev}}}, nil
}

// Check reads the signing key. It calls nobody: receivers are the recipients'.
func (s *sender) Check(context.Context, ...string) []notify.Problem {
	keys, err := s.keys()
	if err != nil {
		return []notify.Problem{{Code: notify.ProblemCredential, What: err.Error(), Do: "give channels.webhook.signing_key_file a key of its own"}}
	}
	for _, k := range keys {
		k.master.Destroy()
	}
	return nil
}

// A Key is the installation's signing key, from which each recipient's is derived.
type Key struct{ master secret.Value }

// NewKey takes the bytes of a signing key: at least 24.
func NewKey(b []byte) (Key, error) {
	if len(b) < minKey {
		return Key{}, fmt.Errorf("channels.webhook.signing_key_file: a key has at least %d bytes, one key a line: make one with `openssl rand -base64 32`", minKey)
	}
	return Key{secret.New(b)}, nil
}

// For is the key of one recipient: HMAC-SHA-256 of its ref. What one customer holds
// signs nothing for another.
func (k Key) For(ref string) secret.Value {
	m := hmac.New(sha256.New, k.master.Reveal())
	m.Write([]byte(derive + ref))
	return secret.New(m.Sum(nil))
}

// Secret is the recipient's key as libraries of the standard take it, "whsec_" and
// base64. It is handed to that recipient once, and shown nowhere else.
func (k Key) Secret(ref string) string {
	return "whsec_" + base64.StdEncoding.EncodeToString(k.For(ref).Reveal())
}

// Sign gives "v1," and the base64 of the HMAC-SHA-256 over id, timestamp (seconds)
// and raw body, joined by dots.
func Sign(key secret.Value, id, timestamp string, body []byte) string {
	m := hmac.New(sha256.New, key.Reveal())
	m.Write([]byte(id + "." + timestamp + "."))
	m.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(m.Sum(nil))
}

// keys reads the signing keys: the current one on the first line, older ones, which
// receivers may still check against, on the next.
func (s *sender) keys() ([]Key, error) {
	raw, err := s.account.Credential("signing_key")
	if err != nil {
		return nil, errors.New("channels.webhook.signing_key_file cannot be read: put the key there, mode 0600")
	}
	defer raw.Destroy()
	return Keys(raw.Reveal())
}

// Keys reads the content of a signing key file, current key first.
func Keys(b []byte) ([]Key, error) {
	var out []Key
	for line := range bytes.Lines(b) {
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		k, err := NewKey(line)
		if err != nil {
			return nil, err
		}
		out = append(out, k)
	}
	if len(out) == 0 {
		return nil, errors.New("channels.webhook.signing_key_file is empty: make a key with `openssl rand -base64 32`")
	}
	return out, nil
}

// answered classes what the receiver said; nil: it has the notice.
func answered(resp *http.Response, now time.Time) *activities.Fault {
	f := &activities.Fault{Class: activities.ClassInvalid, Op: "webhook:POST", Status: resp.StatusCode, Detail: fmt.Sprintf("the receiver refuses the notice (%d)", resp.StatusCode)}
	switch c := resp.StatusCode; {
	case c/100 == 2:
		return nil
	case c == http.StatusTooManyRequests:
		f.Class, f.Detail, f.After = activities.ClassThrottled, "the receiver takes fewer requests (429)", after(resp.Header.Get("Retry-After"), now)
	case c == http.StatusRequestTimeout, c == http.StatusTooEarly:
		f.Class, f.Detail = activities.ClassUnclear, fmt.Sprintf("the receiver did not take the whole request (%d)", c)
	case c/100 == 5:
		f.Class, f.Detail = activities.ClassUnclear, fmt.Sprintf("the receiver failed (%d): it may have the notice", c)
	case c/100 == 3:
		f.Detail = fmt.Sprintf("the receiver sends elsewhere (%d): a webhook follows no redirect", c)
	case c == http.StatusGone:
		f.Detail = "the receiver is gone (410): the contact's address is no longer served"
	}
	return f
}

// after reads Retry-After: seconds or a date (RFC 9110 section 10.2.3).
func after(s string, now time.Time) time.Duration {
	if n, err := strconv.Atoi(s); err == nil && n >= 0 {
		return time.Duration(min(n, int(maxAfter/time.Second))) * time.Second // bounded first: the product of a large one overflows
	}
	if t, err := http.ParseTime(s); err == nil && t.After(now) {
		return min(t.Sub(now), maxAfter)
	}
	return 0
}

// lost classes a request without an answer. The text of the error is dropped: it
// holds the recipient's address.
func lost(err error) *activities.Fault {
	f := &activities.Fault{Class: activities.ClassUnclear, Op: "webhook:POST", Detail: "the receiver did not answer: it may have the notice"}
	var op *net.OpError
	switch {
	case errors.Is(err, httpx.ErrAddress):
		f.Class, f.Detail = activities.ClassInvalid, "the contact's address leads to a private network"
	case errors.As(err, &op) && op.Op == "dial":
		f.Class, f.Detail = activities.ClassTransient, "the receiver cannot be reached"
	}
	return f
}
