// Package httpx makes the HTTP clients with which providers and channels speak
// to the outside. A client has a time-out for the whole exchange, a bound on what
// it reads, follows no redirect to another host, uses no proxy that was not
// configured, and connects to no private address unless its account allows it
// (design section 6).
//
// To give a client another property, add it to [Options] and read it in [New];
// there is one way to make a client and no default client.
package httpx

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"rekey/activities"
)

// Defaults of [Options].
const (
	// DefaultTimeout bounds one exchange, from the dial to the last byte.
	DefaultTimeout = 20 * time.Second
	// DefaultMaxBody bounds one answer after decompression. The largest answer we
	// ask for is a page of GetAccountAuthorizationDetails, some megabytes.
	DefaultMaxBody = 16 << 20
	// maxRedirects is how often a server may send us on within itself.
	maxRedirects = 3
)

// Errors a client gives besides those of net/http. They hold no address that a
// server chose.
var (
	// ErrAddress: the name resolves to an address that is not public.
	ErrAddress = errors.New("the address is private, link-local or reserved; set allow_private for this account if that is meant")
	// ErrRedirect: the server sent us elsewhere.
	ErrRedirect = errors.New("redirect refused: it leaves the configured host")
	// ErrTooLarge: the answer is larger than the bound.
	ErrTooLarge = errors.New("answer larger than allowed")
)

// Options says how a client is to behave. The zero value is the strictest.
type Options struct {
	Timeout time.Duration // 0: DefaultTimeout
	MaxBody int64         // 0: DefaultMaxBody
	// AllowPrivate permits loopback, private, link-local and metadata addresses.
	AllowPrivate bool
	// CAFile is a PEM file of authorities that replace the system's.
	CAFile string
}

// ForAccount makes the client of one account (it fits activities.Deps.HTTP).
// The setting "timeout" is a Go duration that replaces DefaultTimeout.
func ForAccount(a activities.Account) (*http.Client, error) {
	o := Options{AllowPrivate: a.AllowPrivate, CAFile: a.CAFile}
	if s := a.Settings["timeout"]; s != "" {
		d, err := time.ParseDuration(s)
		if err != nil || d <= 0 {
			return nil, fmt.Errorf("account %s: timeout must be a positive duration such as 20s", a.Name)
		}
		o.Timeout = d
	}
	c, err := New(o)
	if err != nil {
		return nil, fmt.Errorf("account %s: %w", a.Name, err)
	}
	return c, nil
}

// New makes a client. It is safe for concurrent use; its idle connections go
// away by themselves.
func New(o Options) (*http.Client, error) {
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	if o.MaxBody == 0 {
		o.MaxBody = DefaultMaxBody
	}
	tlsConfig, err := TLS(o.CAFile)
	if err != nil {
		return nil, err
	}
	dialer := Dialer(o.AllowPrivate)
	return &http.Client{
		Timeout: o.Timeout,
		Transport: &bounded{max: o.MaxBody, next: &http.Transport{
			Proxy:                  nil, // HTTP(S)_PROXY of the environment must not see secrets
			DialContext:            dialer.DialContext,
			TLSClientConfig:        tlsConfig,
			TLSHandshakeTimeout:    5 * time.Second,
			ResponseHeaderTimeout:  o.Timeout,
			IdleConnTimeout:        90 * time.Second,
			MaxIdleConns:           256,
			MaxIdleConnsPerHost:    64,
			MaxResponseHeaderBytes: 64 << 10,
			ForceAttemptHTTP2:      true,
		}},
		CheckRedirect: sameHost,
	}, nil
}

// TLS is the configuration for a server's certificate: TLS 1.2 at least, and the
// authorities of caFile (PEM) in place of the system's where it is given.
func TLS(caFile string) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if caFile != "" {
		pool, err := authorities(caFile)
		if err != nil {
			return nil, err
		}
		c.RootCAs = pool
	}
	return c, nil
}

// Dialer opens connections for clients that do not speak HTTP under the same rule:
// no address that is not public, unless allowed.
func Dialer(allowPrivate bool) *net.Dialer {
	d := &net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}
	if !allowPrivate {
		// Control runs on the address that is really dialled, after resolution, so
		// that no name and no second answer of a resolver gets around it.
		d.Control = publicOnly
	}
	return d
}

func authorities(file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("ca_file: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("ca_file %s holds no PEM certificate", file)
	}
	return pool, nil
}

// sameHost follows a redirect only to the scheme and host that was asked first:
// net/http would carry a signed body to wherever a 307 points.
func sameHost(req *http.Request, via []*http.Request) error {
	first := via[0].URL
	if req.URL.Scheme != first.Scheme || req.URL.Host != first.Host || len(via) > maxRedirects {
		return ErrRedirect
	}
	return nil
}
