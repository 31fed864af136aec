package server

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// linkLife is how long a login link may lie in a terminal before it is opened.
const linkLife = 10 * time.Minute

// logins are the links that were printed and not yet opened. They are in memory
// only: after a restart new ones are printed.
type logins struct {
	now func() time.Time
	mu  sync.Mutex
	by  map[[sha256.Size]byte]login
}

type login struct {
	actor string
	end   time.Time
}

func newLogins(now func() time.Time) *logins {
	return &logins{now: now, by: map[[sha256.Size]byte]login{}}
}

// CodecLogin makes a link that signs one browser in to the codec endpoint, once,
// within 10 minutes. base is the URL under which that browser reaches this
// server, with the same host name as the Temporal UI ("http://127.0.0.1:8443").
// The link lets its opener read payloads as s.Actor: print it only where that
// person sees it.
func (s *Server) CodecLogin(base string) string {
	raw := make([]byte, 32)
	_, _ = rand.Read(raw) // never fails: crypto/rand ends the process instead
	token := base64.RawURLEncoding.EncodeToString(raw)
	l := s.logins
	l.mu.Lock()
	defer l.mu.Unlock()
	for k, v := range l.by {
		if !l.now().Before(v.end) {
			delete(l.by, k)
		}
	}
	l.by[sha256.Sum256([]byte(token))] = login{s.Actor, l.now().Add(linkLife)}
	return base + "/codec/login?token=" + url.QueryEscape(token)
}

// take uses a link up.
func (l *logins) take(token string) (actor string, ok bool) {
	sum := sha256.Sum256([]byte(token))
	l.mu.Lock()
	defer l.mu.Unlock()
	found, ok := l.by[sum]
	delete(l.by, sum)
	return found.actor, ok && l.now().Before(found.end)
}

func (s *Server) codecLogin(w http.ResponseWriter, r *http.Request) error {
	actor, ok := s.logins.take(r.URL.Query().Get("token"))
	if !ok {
		return bad(http.StatusUnauthorized, "unauthorized", "a link works once and for 10 minutes: `rekey up` prints a new one at each start", "this link is not valid any more")
	}
	c, err := s.Sessions.Cookie(actor, "/codec")
	if err != nil {
		return err
	}
	s.Log.Info("a browser signed in to read payloads", "actor", actor)
	http.SetCookie(w, c)
	http.Redirect(w, r, s.UI, http.StatusSeeOther)
	return nil
}
