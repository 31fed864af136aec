// Package wire is what the channels that speak HTTP share: a client that keeps what
// is known of each exchange, and the class of a call whose answer did not come or
// is not the vendor's. What an answer means is the channel's own knowledge.
package wire

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"regexp"
	"strconv"
	"sync/atomic"
	"time"

	"rekey/activities"
	"rekey/internal/httpx"
)

// An Effect says what a repeated call does; the class of a lost answer depends on it.
type Effect int

// Effects.
const (
	Reads   Effect = iota // changes nothing
	Repeats               // changes something; twice is as good as once
	Creates               // twice makes two
)

// errNotJSON: a success that the vendor cannot have said: a proxy's page, a body
// that is cut off.
var errNotJSON = errors.New("the answer is not JSON")

// maxAfter bounds what a server can make us wait.
const maxAfter = time.Hour

// An Exchange is what is kept of the last request of a call.
type Exchange struct {
	wrote atomic.Bool
	// Status is 0 when no answer came.
	Status int
	Header http.Header
	// Body is the whole answer. Nothing of it may go into a Fault but words of the
	// channel's own tables.
	Body []byte
	// Skew is the vendor's clock less ours, from the Date header; Dated when there
	// was one. It is exact to a second and half the time the call took.
	Skew  time.Duration
	Dated bool
}

type exchangeKey struct{}

// With gives a context whose call is kept in the Exchange. One call at a time.
func With(ctx context.Context) (context.Context, *Exchange) {
	x := &Exchange{}
	return context.WithValue(ctx, exchangeKey{}, x), x
}

// Client wraps c: each request passes through edit, which may set its credential
// and change its body, and is kept in the Exchange of its context. An answer is
// read to its end here, so that a slow or cut one fails the call and no later
// reader; a 2xx that is no JSON fails. A redirect that would change the method is
// refused: net/http turns a PATCH that meets a 301 into a GET, whose 200 would pass
// for success.
func Client(c *http.Client, edit func(*http.Request) error) *http.Client {
	out := *c
	next := c.Transport
	if next == nil {
		next = http.DefaultTransport
	}
	out.Transport = &transport{next: next, edit: edit}
	check := c.CheckRedirect
	out.CheckRedirect = func(req *http.Request, via []*http.Request) error {
		if req.Method != via[0].Method {
			return httpx.ErrRedirect
		}
		if check == nil {
			return nil
		}
		return check(req, via)
	}
	return &out
}

type transport struct {
	next http.RoundTripper
	edit func(*http.Request) error
}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(in *http.Request) (*http.Response, error) {
	x, _ := in.Context().Value(exchangeKey{}).(*Exchange)
	if x == nil {
		x = &Exchange{}
	}
	x.wrote.Store(false)
	x.Status, x.Header, x.Body, x.Dated = 0, nil, nil, false
	req := in.Clone(httptrace.WithClientTrace(in.Context(), &httptrace.ClientTrace{
		WroteHeaders: func() { x.wrote.Store(true) },
	}))
	if t.edit != nil {
		if err := t.edit(req); err != nil {
			if in.Body != nil {
				_ = in.Body.Close()
			}
			return nil, err
		}
	}
	start := time.Now()
	resp, err := t.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	x.Status, x.Header, x.Body = resp.StatusCode, resp.Header, body
	if d, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		x.Skew, x.Dated = d.Sub(start.Add(time.Since(start)/2)), true
	}
	if resp.StatusCode/100 == 2 && resp.StatusCode != http.StatusNoContent && !json.Valid(body) {
		return nil, errNotJSON
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp, nil
}

var idForm = regexp.MustCompile(`^[A-Za-z0-9:._-]{1,80}$`)

// Fault starts a fault of op with what the exchange knows. The request id is
// dropped when it is not one: a header is a place where a hostile server could put
// text that we would store.
func (x *Exchange) Fault(op, idHeader string) *activities.Fault {
	f := &activities.Fault{Op: op, Status: x.Status}
	if id := x.Header.Get(idHeader); idForm.MatchString(id) {
		f.RequestID = id
	}
	return f
}

// Broken classes a call without an answer of the vendor, by writing Class and
// Detail; false when the vendor did answer, with anything but a success. err is not
// kept: it may hold addresses or the vendor's text.
func (x *Exchange) Broken(ctx context.Context, f *activities.Fault, eff Effect, err error) bool {
	set := func(c activities.Class, detail string) bool {
		f.Class, f.Detail = c, detail
		return true
	}
	switch {
	case errors.Is(err, httpx.ErrAddress):
		return set(activities.ClassInvalid, httpx.ErrAddress.Error())
	case errors.Is(err, httpx.ErrRedirect) || x.Status/100 == 3:
		return set(activities.ClassInvalid, "the answer sends us elsewhere, which is refused: was it renamed or moved, or is a proxy in between?")
	case errors.Is(err, httpx.ErrTooLarge):
		return set(Lost(eff), "the answer is larger than allowed")
	case errors.Is(err, errNotJSON):
		return set(Lost(eff), "the answer is not the vendor's: is a proxy in between?")
	case x.Status != 0:
		return false
	case !x.wrote.Load() && ctx.Err() != nil:
		return set(activities.ClassTransient, "cancelled before the call was sent")
	case !x.wrote.Load() && untrusted(err):
		return set(activities.ClassTransient, "the server's certificate is not trusted; set ca_file if it is your own authority's")
	case !x.wrote.Load():
		return set(activities.ClassTransient, "no connection")
	case ctx.Err() != nil:
		return set(Lost(eff), "cancelled before the answer came")
	}
	return set(Lost(eff), "no answer came")
}

// Lost is the class of a call whose answer did not come: only what creates must be
// looked up before it is repeated.
func Lost(eff Effect) activities.Class {
	if eff == Creates {
		return activities.ClassUnclear
	}
	return activities.ClassTransient
}

// After reads Retry-After (RFC 9110 section 10.2.3: seconds, or a date), at most an
// hour; 0 when there is none.
func (x *Exchange) After() time.Duration {
	s := x.Header.Get("Retry-After")
	if s == "" {
		return 0
	}
	var d time.Duration
	if n, err := strconv.Atoi(s); err == nil {
		d = time.Duration(min(n, int(maxAfter/time.Second))) * time.Second
	} else if t, err := http.ParseTime(s); err == nil {
		d = time.Until(t)
	}
	return Bounded(d)
}

// Bounded keeps a waiting time between 0 and an hour.
func Bounded(d time.Duration) time.Duration { return min(max(d, 0), maxAfter) }

func untrusted(err error) bool {
	var verify *tls.CertificateVerificationError
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	return errors.As(err, &verify) || errors.As(err, &authority) || errors.As(err, &host)
}
