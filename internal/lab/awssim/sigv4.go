package awssim

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// Signature Version 4 verification, written from
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html and
// on purpose not with the SDK's signer: what verifies the client should not share its mistakes.

const (
	algorithm   = "AWS4-HMAC-SHA256"
	amzDate     = "20060102T150405Z"
	dateSkew    = 15 * time.Minute
	emptySHA    = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	termination = "aws4_request"
)

// signature is a parsed Authorization header.
type signature struct {
	keyID   string
	date    string // YYYYMMDD
	region  string
	service string
	headers []string
	value   string
}

// parseAuthorization reads `AWS4-HMAC-SHA256 Credential=…, SignedHeaders=…, Signature=…`.
func parseAuthorization(h string) (signature, bool) {
	var s signature
	rest, ok := strings.CutPrefix(h, algorithm+" ")
	if !ok {
		return s, false
	}
	for _, part := range strings.Split(rest, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		switch name {
		case "Credential":
			scope := strings.Split(value, "/")
			if len(scope) != 5 || scope[4] != termination {
				return s, false
			}
			s.keyID, s.date, s.region, s.service = scope[0], scope[1], scope[2], scope[3]
		case "SignedHeaders":
			s.headers = strings.Split(value, ";")
		case "Signature":
			s.value = value
		}
	}
	return s, s.keyID != "" && s.value != "" && slices.Contains(s.headers, "host")
}

// signingKeys keeps derived keys: who calls once, calls again. Safe for concurrent use.
type signingKeys struct {
	mu   sync.Mutex
	keys map[[4]string][]byte
}

// key derives what a signature of this scope is made with.
func (k *signingKeys) key(salt []byte, s signature) []byte {
	scope := [4]string{s.keyID, s.date, s.region, s.service}
	k.mu.Lock()
	key, ok := k.keys[scope]
	k.mu.Unlock()
	if ok {
		return key
	}
	key = mac(mac(mac(mac([]byte("AWS4"+secretOf(salt, s.keyID)), s.date), s.region), s.service), termination)
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.keys == nil || len(k.keys) >= cached {
		k.keys = map[[4]string][]byte{}
	}
	k.keys[scope] = key
	return key
}

// verify checks the signature of a request under a derived key.
func (s signature) verify(r *http.Request, body []byte, key []byte) bool {
	date := r.Header.Get("X-Amz-Date")
	scope := s.date + "/" + s.region + "/" + s.service + "/" + termination
	hashed := sha256.Sum256([]byte(s.canonical(r, body)))
	text := algorithm + "\n" + date + "\n" + scope + "\n" + hex.EncodeToString(hashed[:])
	want := hex.EncodeToString(mac(key, text))
	return subtle.ConstantTimeCompare([]byte(want), []byte(s.value)) == 1
}

func (s signature) canonical(r *http.Request, body []byte) string {
	var b strings.Builder
	path := r.URL.EscapedPath()
	if path == "" {
		path = "/"
	}
	b.WriteString(r.Method + "\n" + escapePath(path) + "\n" + canonicalQuery(r.URL.Query()) + "\n")
	for _, h := range s.headers {
		value := strings.Join(r.Header.Values(h), ",")
		switch h {
		case "host":
			value = r.Host
		case "content-length":
			value = r.Header.Get("Content-Length")
			if value == "" {
				value = itoa(int(r.ContentLength))
			}
		}
		b.WriteString(h + ":" + strings.Join(strings.Fields(value), " ") + "\n")
	}
	payload := emptySHA
	if len(body) > 0 {
		sum := sha256.Sum256(body)
		payload = hex.EncodeToString(sum[:])
	}
	b.WriteString("\n" + strings.Join(s.headers, ";") + "\n" + payload)
	return b.String()
}

// escapePath encodes each segment once more, as every service but S3 does.
func escapePath(p string) string {
	segments := strings.Split(p, "/")
	for i, seg := range segments {
		segments[i] = strings.ReplaceAll(url.QueryEscape(seg), "+", "%20")
	}
	return strings.Join(segments, "/")
}

func canonicalQuery(q url.Values) string {
	var pairs []string
	esc := func(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }
	for k, vs := range q {
		for _, v := range vs {
			pairs = append(pairs, esc(k)+"="+esc(v))
		}
	}
	slices.Sort(pairs)
	return strings.Join(pairs, "&")
}

func mac(key []byte, text string) []byte {
	m := hmac.New(sha256.New, key)
	m.Write([]byte(text))
	return m.Sum(nil)
}

// dateAccepted tells whether a signing date is one the client can honestly have. Real AWS allows
// 15 minutes around its own clock. Here the client may sign with wall time, or with world time as
// the SDK learnt it from the Date header of any earlier answer, so every world time from the start
// of the lab to now is good too.
func dateAccepted(signed, wall, worldStart, worldNow time.Time) bool {
	near := func(from, to time.Time) bool {
		return !signed.Before(from.Add(-dateSkew)) && !signed.After(to.Add(dateSkew))
	}
	return near(wall, wall) || near(worldStart, worldNow)
}
