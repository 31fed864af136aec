package codec

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// CookieName is the session cookie of the codec endpoint. It is good for reading
// payloads through Handler and for nothing else.
const CookieName = "rekey_codec"

// Sessions authenticate a browser to Handler. A server signs a person in by its
// own means and then answers with Cookie. Sessions end with the process (the key
// is never stored) and after Lifetime.
type Sessions struct {
	key      []byte
	now      func() time.Time
	lifetime time.Duration
	secure   bool
}

// NewSessions makes a new signing key. secure must be true when the endpoint is
// served over https; then the cookie is not sent over http.
func NewSessions(now func() time.Time, lifetime time.Duration, secure bool) (*Sessions, error) {
	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		return nil, err
	}
	return &Sessions{key: key, now: now, lifetime: lifetime, secure: secure}, nil
}

// Cookie is the session of actor for the endpoint at path ("/codec"): HttpOnly,
// SameSite=Strict, for this host only.
func (s *Sessions) Cookie(actor, path string) (*http.Cookie, error) {
	if actor == "" || path == "" {
		return nil, errors.New("codec session: an actor and a path are needed")
	}
	end := s.now().Add(s.lifetime)
	body := base64.RawURLEncoding.EncodeToString([]byte(actor)) + "." + strconv.FormatInt(end.Unix(), 10)
	return &http.Cookie{ //nolint:gosec // Secure follows the scheme that is served; the rest is set
		Name: CookieName, Value: body + "." + s.sign(body), Path: path, Expires: end.UTC(),
		HttpOnly: true, Secure: s.secure, SameSite: http.SameSiteStrictMode,
	}, nil
}

// Authenticate fits Options.Authenticate.
func (s *Sessions) Authenticate(r *http.Request) (actor string, ok bool) {
	c, err := r.Cookie(CookieName)
	if err != nil {
		return "", false
	}
	i := strings.LastIndexByte(c.Value, '.')
	if i < 0 || !hmac.Equal([]byte(s.sign(c.Value[:i])), []byte(c.Value[i+1:])) {
		return "", false
	}
	name, end, ok := strings.Cut(c.Value[:i], ".")
	seconds, err := strconv.ParseInt(end, 10, 64)
	if !ok || err != nil || !s.now().Before(time.Unix(seconds, 0)) {
		return "", false
	}
	b, err := base64.RawURLEncoding.DecodeString(name)
	return string(b), err == nil
}

func (s *Sessions) sign(body string) string {
	m := hmac.New(sha256.New, s.key)
	m.Write([]byte("rekey codec session\x00" + body))
	return base64.RawURLEncoding.EncodeToString(m.Sum(nil))
}
