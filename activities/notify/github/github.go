// Package github follows an incident in one issue of a GitHub repository: the body is
// kept true to the card, comments mark the turning points.
//
// The issue and each comment carry a hidden marker (an HTML comment) by which they
// are found again when an answer was lost. They are looked for by listing, not by the
// search API, whose index lags behind.
package github

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"

	"github.com/bradleyfalzon/ghinstallation/v2"
	"github.com/google/go-github/v60/github"

	"rekey/activities"
	"rekey/activities/notify"
	"rekey/activities/notify/wire"
)

// Code names the channel in rekey.yaml and playbooks. It is written into histories.
const Code = "github"

// apiURL is GitHub's own API. A GitHub Enterprise Server has https://HOST/api/v3/
// (https://docs.github.com/en/enterprise-server/rest/using-the-rest-api/getting-started-with-the-rest-api).
const apiURL = "https://api.github.com/"

// Channel describes GitHub and opens it.
func Channel() notify.Channel {
	return notify.Channel{
		Descriptor: notify.Descriptor{
			Code: Code, Name: "GitHub", Docs: "https://docs.github.com/en/rest/issues", Delivery: notify.Detectable,
			Permissions: []string{"Issues: read and write", "Metadata: read"},
			// https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api
			Limits: []activities.Limit{
				{API: "all", Rate: "5000/h", Per: "user or installation", Value: 5000.0 / 3600},
				{API: "issues and comments created", Rate: "80/min", Per: "user or installation", Value: 80.0 / 60},
				{API: "issues and comments created", Rate: "500/h", Per: "user or installation", Value: 500.0 / 3600},
			},
		},
		Open: open,
	}
}

// A Client is one token or App installation. It is safe for concurrent use. It reads
// the credential for each call, so a rotated file counts at once.
type Client struct {
	account activities.Account
	base    *url.URL
	agent   string
	http    *http.Client

	app, installation int64

	mu     sync.Mutex
	key    [sha256.Size]byte // of the private key the App's transport was made with
	bearer *ghinstallation.Transport
	apps   *ghinstallation.AppsTransport
	logins map[[sha256.Size]byte]string // by hash of the credential
	labels map[string]bool              // "owner/repo/label" that is known to be there
}

var (
	_ notify.Recorder = (*Client)(nil)
	_ notify.Checker  = (*Client)(nil)
)

func open(a activities.Account, d activities.Deps) (any, error) {
	fail := func(err error) (any, error) { return nil, fmt.Errorf("channels.github: %w", err) }
	base, err := baseURL(a.Settings["base_url"], a.AllowPrivate)
	if err != nil {
		return fail(err)
	}
	h, err := d.HTTP(a)
	if err != nil {
		return fail(err)
	}
	c := &Client{account: a, base: base, agent: d.Agent, logins: map[[sha256.Size]byte]string{}, labels: map[string]bool{}}
	if c.agent == "" {
		c.agent = "rekey" // GitHub refuses requests without one
	}
	c.http = wire.Client(h, func(r *http.Request) error {
		r.Header.Set("User-Agent", c.agent)
		return nil
	})
	if id := a.Settings["app_id"]; id != "" {
		if c.app, err = strconv.ParseInt(id, 10, 64); err != nil || c.app < 1 {
			return fail(errors.New("app_id must be the App's number"))
		}
		if c.installation, err = strconv.ParseInt(a.Settings["installation_id"], 10, 64); err != nil || c.installation < 1 {
			return fail(errors.New("installation_id must be the installation's number: it ends the address of the installation's settings page"))
		}
	}
	return c, nil
}

// baseURL checks where the credential may be sent.
func baseURL(s string, private bool) (*url.URL, error) {
	if s == "" {
		s = apiURL
	}
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, errors.New("base_url must be a URL without user and query, as in https://HOST/api/v3/")
	}
	if u.Scheme == "http" && !private {
		return nil, errors.New("base_url without TLS is for test servers: use https, or set allow_private")
	}
	if u.Host == "github.com" || u.Host == "www.github.com" {
		return nil, errors.New("base_url is the web site: leave it out for github.com; https://HOST/api/v3/ for an Enterprise Server")
	}
	u.Path = strings.TrimRight(u.Path, "/") + "/"
	return u, nil
}

// api gives a client with today's credential. go-github keeps what it knows of rate
// limits in the client; ours are kept by the caller, who is told to wait.
func (c *Client) api() (*github.Client, *activities.Fault) {
	var next http.RoundTripper
	if c.app != 0 {
		t, _, f := c.asApp()
		if f != nil {
			return nil, f
		}
		next = t
	} else {
		token, f := c.token()
		if f != nil {
			return nil, f
		}
		next = header{c.http.Transport, token}
	}
	return c.with(next), nil
}

func (c *Client) with(next http.RoundTripper) *github.Client {
	h := *c.http
	h.Transport = next
	g := github.NewClient(&h)
	g.BaseURL = c.base
	g.UserAgent = c.agent
	return g
}

// header sends a token.
type header struct {
	next  http.RoundTripper
	token string
}

// RoundTrip implements http.RoundTripper.
func (h header) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+h.token)
	return h.next.RoundTrip(r)
}

// asApp gives the transports of the App, made anew when its key's file changes.
// ghinstallation signs a JWT with the key and fetches installation tokens, which live
// for an hour, by itself
// (https://docs.github.com/en/apps/creating-github-apps/authenticating-with-a-github-app).
func (c *Client) asApp() (*ghinstallation.Transport, *ghinstallation.AppsTransport, *activities.Fault) {
	pem, f := c.credential("private_key", "channels.github.private_key_file")
	if f != nil {
		return nil, nil, f
	}
	sum := sha256.Sum256([]byte(pem))
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.bearer != nil && c.key == sum {
		return c.bearer, c.apps, nil
	}
	apps, err := ghinstallation.NewAppsTransport(c.http.Transport, c.app, []byte(pem))
	if err != nil { // its text may hold parts of the key
		return nil, nil, denied("channels.github.private_key_file holds no RSA private key in PEM: download a new one from the App's settings page")
	}
	apps.BaseURL = strings.TrimRight(c.base.String(), "/")
	t := ghinstallation.NewFromAppsTransport(apps, c.installation)
	t.Client = c.http
	c.key, c.bearer, c.apps = sum, t, apps
	return t, apps, nil
}

func (c *Client) token() (string, *activities.Fault) {
	token, f := c.credential("token", "channels.github.token_file")
	if f != nil {
		return "", f
	}
	if strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", denied("channels.github.token_file holds more than one token: write the token alone into it")
	}
	return token, nil
}

// credential reads one of ours. What is wrong with it is said without it.
func (c *Client) credential(name, at string) (string, *activities.Fault) {
	if c.account.Credential == nil {
		return "", denied("no credential: set " + at)
	}
	v, err := c.account.Credential(name)
	if err != nil {
		return "", denied(err.Error()) // the configuration's own words: it names the file, never what is in it
	}
	b := v.Reveal()
	defer clear(b)
	s := strings.TrimSpace(string(b))
	if s == "" {
		return "", denied(at + " is empty")
	}
	return s, nil
}

func denied(detail string) *activities.Fault {
	return &activities.Fault{Class: activities.ClassDenied, Op: "github", Detail: detail}
}

// login is who we are to GitHub, asked once per credential: only what we wrote is
// ours to adopt and to change.
func (c *Client) login(ctx context.Context) (string, *activities.Fault) {
	var (
		sum [sha256.Size]byte
		g   *github.Client
		op  = "GET /user"
	)
	if c.app != 0 {
		_, apps, f := c.asApp()
		if f != nil {
			return "", f
		}
		c.mu.Lock()
		sum = c.key
		c.mu.Unlock()
		g, op = c.with(apps), "GET /app"
	} else {
		token, f := c.token()
		if f != nil {
			return "", f
		}
		sum = sha256.Sum256([]byte(token))
		g = c.with(header{c.http.Transport, token})
	}
	c.mu.Lock()
	login := c.logins[sum]
	c.mu.Unlock()
	if login != "" {
		return login, nil
	}
	login, _, f := call(ctx, op, wire.Reads, func(ctx context.Context) (string, error) {
		if c.app != 0 {
			app, _, err := g.Apps.Get(ctx, "")
			// https://docs.github.com/en/apps/creating-github-apps/about-creating-github-apps:
			// what an App writes is by SLUG[bot].
			return app.GetSlug() + "[bot]", err
		}
		u, _, err := g.Users.Get(ctx, "")
		return u.GetLogin(), err
	})
	if f != nil {
		return "", f
	}
	if login == "" || login == "[bot]" {
		return "", &activities.Fault{Class: activities.ClassTransient, Op: op, Detail: "the answer names nobody: is a proxy in between?"}
	}
	c.mu.Lock()
	c.logins[sum] = login
	c.mu.Unlock()
	return login, nil
}
