// Package upload takes one secret from a person's browser, once: a link with a random
// token, good for 15 minutes and bound to one key and one reporter, opens a page with
// a form; what is sent there goes to intake as the secret of that key.
//
// Of a token only the hash is kept (DATA/uploads), with the link encrypted beside it.
// To look at the page uses nothing up, so that a link preview harms nothing. The first
// accepted secret uses the link up, in every process that shares DATA: the mark is a
// file that can be made once. A failure behind that point burns the link; a new one is
// quickly made, while a link that came alive again could be used twice.
package upload

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"rekey/activities"
	"rekey/internal/api"
	"rekey/internal/inbox"
	"rekey/internal/intake"
	"rekey/internal/server"
	"rekey/internal/view"
)

// Life of a link.
const Life = 15 * time.Minute

const (
	tokenBytes = 32
	maxOpen    = 1000
	maxSecret  = 64 << 10 // as intake's
	maxBody    = 128 << 10
	forget     = time.Hour
	used       = "used"
)

// Reports takes reports; *intake.Intake is it.
type Reports interface {
	Report(ctx context.Context, who intake.Caller, req api.ReportRequest) (api.ReportResponse, error)
}

// A Link is what a token stands for. It holds no secret.
type Link struct {
	Provider string        `json:"provider"`
	Kind     string        `json:"kind,omitempty"`
	Account  string        `json:"account,omitempty"`
	KeyID    string        `json:"key_id"`
	Who      intake.Caller `json:"who"`
	Expires  time.Time     `json:"expires"`
}

// Options of Links; all are required.
type Options struct {
	// Box keeps the links. It is no other's.
	Box       *inbox.Inbox
	Reports   Reports
	Providers []activities.Descriptor
	// URL is where browsers reach the handler's server, "https://rekey.example.com".
	URL string
	Log *slog.Logger
	Now func() time.Time
}

// Links makes and takes links. It is safe for concurrent use.
type Links struct {
	Options
	shapes map[string][]*regexp.Regexp // of secrets, by provider
}

// New prepares Links.
func New(o Options) (*Links, error) {
	if o.Box == nil || o.Reports == nil || o.URL == "" || o.Log == nil || o.Now == nil {
		return nil, errors.New("upload: an option is missing")
	}
	l := &Links{Options: o, shapes: map[string][]*regexp.Regexp{}}
	for _, d := range o.Providers {
		for _, p := range d.Secrets {
			re, err := regexp.Compile(p)
			if err != nil {
				return nil, fmt.Errorf("upload: a secret pattern of provider %s does not compile: %w", d.Code, err)
			}
			l.shapes[d.Code] = append(l.shapes[d.Code], re)
		}
	}
	return l, nil
}

// Make gives the URL of a new link. Expires is set here. It fails with an
// *intake.Refusal where the key could not be reported, and with *server.Refused when
// too many links are open.
func (l *Links) Make(ctx context.Context, link Link) (string, error) {
	raw := make([]byte, tokenBytes)
	_, _ = rand.Read(raw) // never fails: crypto/rand ends the process instead
	token := base64.RawURLEncoding.EncodeToString(raw)
	name := nameOf(token)
	_, err := l.Reports.Report(ctx, link.Who, api.ReportRequest{
		Provider: link.Provider, Kind: link.Kind, Account: link.Account, KeyID: link.KeyID, Nonce: nonce(name), DryRun: true,
	})
	var no *intake.Refusal
	if err != nil && (!errors.As(err, &no) || no.Kind != intake.Unavailable) {
		return "", err // an engine that is down says nothing against the key
	}
	open, err := l.sweep()
	if err != nil {
		return "", err
	}
	if open >= maxOpen {
		return "", &server.Refused{Body: view.ErrorBody{Code: "busy", Message: "too many upload links are open", Do: "wait a quarter of an hour, until some have lapsed"}}
	}
	link.Expires = l.Now().Add(Life)
	content, err := json.Marshal(link)
	if err != nil {
		return "", err
	}
	if err := l.Box.Put(name, content); err != nil {
		return "", err
	}
	l.Log.Info("upload link made", "actor", link.Who.Actor, "provider", link.Provider, "link", name[:12])
	return strings.TrimSuffix(l.URL, "/") + "/upload/" + token, nil
}

// sweep ends what has lapsed and counts what is open.
func (l *Links) sweep() (int, error) {
	if err := l.Box.Clean(l.Now().Add(-forget)); err != nil {
		return 0, err
	}
	names, err := l.Box.Pending()
	if err != nil {
		return 0, err
	}
	open := 0
	for _, name := range names {
		e, link, ok := l.take(name)
		if e == nil {
			continue
		}
		if ok && l.Now().Before(link.Expires) {
			open++
		} else if err := e.Done(); err != nil {
			e.Close()
			return 0, err
		}
		e.Close()
	}
	return open, nil
}

func (l *Links) take(name string) (*inbox.Entry, Link, bool) {
	var link Link
	e, err := l.Box.Take(name)
	if err != nil {
		l.Log.Error("an upload link cannot be read", "link", name[:12], "error", err)
		return nil, link, false
	}
	if e == nil {
		return nil, link, false
	}
	return e, link, json.Unmarshal(e.Content, &link) == nil
}

// nameOf is the hash under which a token is known: its SHA-256 in hex.
func nameOf(token string) string {
	sum := sha256.Sum256([]byte("rekey upload v1\x00" + token))
	return hex.EncodeToString(sum[:])
}

func nonce(name string) string { return "up-" + name[:40] }

var tokenRE = regexp.MustCompile(`^[A-Za-z0-9_-]{43}$`)

// open gives the link of a token, locked; nil when it is not valid (any more), or in
// use for longer than a moment.
func (l *Links) open(token string) (*inbox.Entry, Link, string) {
	if !tokenRE.MatchString(token) {
		return nil, Link{}, ""
	}
	name := nameOf(token)
	e, link, ok := l.take(name)
	for range 100 { // somebody looks at it: a preview, or the sweep of another link
		if e != nil || !l.Box.Waits(name) {
			break
		}
		time.Sleep(20 * time.Millisecond)
		e, link, ok = l.take(name)
	}
	if e != nil && (!ok || !l.Now().Before(link.Expires)) {
		e.Close()
		return nil, Link{}, ""
	}
	return e, link, name
}

// fits says what is wrong with a secret, "" when nothing is. Nothing of it is repeated.
func (l *Links) fits(link Link, secret string) string {
	switch {
	case secret == "":
		return "There was nothing in it. Paste the secret, or choose a file."
	case len(secret) > maxSecret:
		return "It is larger than 64 KiB. Give the secret alone."
	case secret == link.KeyID || l.isID(link, secret):
		return "That is a key's public id, not its secret."
	case strings.ContainsAny(secret, "\r\n") && !strings.HasPrefix(secret, "-----BEGIN "):
		return "It has several lines. Give the secret alone, not the file that it came in."
	}
	shapes := l.shapes[link.Provider]
	if len(shapes) == 0 {
		return ""
	}
	// A bare secret often has no mark of its own: it is known by what stands before it.
	for _, before := range []string{"", link.KeyID + " ", "secret_access_key=", "session_token=", "secret=", "token=", "password="} {
		if slices.ContainsFunc(shapes, func(re *regexp.Regexp) bool { return re.MatchString(before + secret) }) {
			return ""
		}
	}
	return "It does not look like a secret of this provider. Is it complete, and the right key's?"
}

func (l *Links) isID(link Link, text string) bool {
	i := slices.IndexFunc(l.Providers, func(d activities.Descriptor) bool { return d.Code == link.Provider })
	if i < 0 || l.Providers[i].CheckID == nil {
		return false
	}
	_, err := l.Providers[i].CheckID(text)
	return err == nil
}

// Handler answers GET and POST /upload/{token}. The token is the permission: mount it
// outside of any other guard.
func (l *Links) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /upload/{token}", l.show)
	mux.HandleFunc("POST /upload/{token}", l.accept)
	return mux
}
