package codec_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/converter"
	"google.golang.org/protobuf/encoding/protojson"

	"rekey/internal/codec"
)

const ui = "http://127.0.0.1:8233"

type read struct {
	actor string
	n     int
}

type endpoint struct {
	*httptest.Server
	sessions *codec.Sessions
	reads    []read
	now      time.Time
	sealed   []byte // request body with one encrypted payload
	word     string
}

func serve(t *testing.T) *endpoint {
	t.Helper()
	e := &endpoint{now: time.Date(2026, 11, 21, 3, 0, 0, 0, time.UTC), word: canary(t)}
	k := ring(t, t.TempDir())
	var err error
	e.sessions, err = codec.NewSessions(func() time.Time { return e.now }, time.Hour, false)
	require.NoError(t, err)
	mux := http.NewServeMux()
	mux.Handle("/codec/", codec.Handler(codec.Options{
		Codec: codec.New(k), Origin: ui, Authenticate: e.sessions.Authenticate,
		OnRead: func(actor string, n int) { e.reads = append(e.reads, read{actor, n}) },
	}))
	e.Server = httptest.NewServer(mux)
	t.Cleanup(e.Close)
	p, err := codec.NewDataConverter(k).ToPayload(e.word)
	require.NoError(t, err)
	e.sealed, err = protojson.Marshal(&commonpb.Payloads{Payloads: []*commonpb.Payload{p}})
	require.NoError(t, err)
	return e
}

// call is what the UI's page makes the browser send.
func (e *endpoint) call(t *testing.T, method, path string, body []byte, with func(*http.Request)) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequest(method, e.URL+path, bytes.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Origin", ui)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Namespace", "rekey")
	c, err := e.sessions.Cookie("local:root", "/codec")
	require.NoError(t, err)
	req.AddCookie(c)
	if with != nil {
		with(req)
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	out, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	return resp, string(out)
}

func TestTheUIDecodes(t *testing.T) {
	e := serve(t)
	resp, body := e.call(t, http.MethodPost, "/codec/decode?preserveStorageRefs=true", e.sealed, nil)
	require.Equal(t, http.StatusOK, resp.StatusCode, body)
	require.Equal(t, ui, resp.Header.Get("Access-Control-Allow-Origin"))
	require.Equal(t, "true", resp.Header.Get("Access-Control-Allow-Credentials"))
	require.Equal(t, "no-store", resp.Header.Get("Cache-Control"))
	var out commonpb.Payloads
	require.NoError(t, protojson.Unmarshal([]byte(body), &out))
	var got string
	require.NoError(t, converter.GetDefaultDataConverter().FromPayload(out.Payloads[0], &got))
	require.Equal(t, e.word, got)
	require.Equal(t, []read{{"local:root", 1}}, e.reads, "the read is on record")
}

func TestRefusals(t *testing.T) {
	plain, err := converter.GetDefaultDataConverter().ToPayload("RekeyPhase")
	require.NoError(t, err)
	plaintext, err := protojson.Marshal(&commonpb.Payloads{Payloads: []*commonpb.Payload{plain}})
	require.NoError(t, err)
	for name, c := range map[string]struct {
		method, path string
		body         []byte
		with         func(*http.Request)
		status       int
	}{
		"no session":          {"POST", "/codec/decode", nil, func(r *http.Request) { r.Header.Del("Cookie") }, 401},
		"forged session":      {"POST", "/codec/decode", nil, func(r *http.Request) { r.Header.Set("Cookie", codec.CookieName+"=bG9jYWw6cm9vdA.99999999999.x") }, 401},
		"no session, garbage": {"POST", "/codec/decode", []byte("{"), func(r *http.Request) { r.Header.Del("Cookie") }, 401}, // authentication before parsing
		"another page":        {"POST", "/codec/decode", nil, func(r *http.Request) { r.Header.Set("Origin", "http://127.0.0.1:9999") }, 403},
		"another host name":   {"POST", "/codec/decode", nil, func(r *http.Request) { r.Header.Set("Origin", "http://localhost:8233") }, 403},
		"null origin":         {"POST", "/codec/decode", nil, func(r *http.Request) { r.Header.Set("Origin", "null") }, 403},
		"encode":              {"POST", "/codec/encode", nil, nil, 403},
		"get":                 {"GET", "/codec/decode", nil, nil, 405},
		"elsewhere":           {"POST", "/codec/download", nil, nil, 404},
		"garbage":             {"POST", "/codec/decode", []byte("{"), nil, 400},
		"plaintext":           {"POST", "/codec/decode", plaintext, nil, 422},
		"too large":           {"POST", "/codec/decode", bytes.Repeat([]byte(" "), 17<<20), nil, 413},
	} {
		t.Run(name, func(t *testing.T) {
			e := serve(t)
			if c.body == nil {
				c.body = e.sealed
			}
			resp, body := e.call(t, c.method, c.path, c.body, c.with)
			require.Equal(t, c.status, resp.StatusCode, body)
			require.NotContains(t, body, e.word)
			require.Empty(t, e.reads)
			wantOrigin := ui
			if strings.Contains(body, "origin") {
				wantOrigin = ""
			}
			require.Equal(t, wantOrigin, resp.Header.Get("Access-Control-Allow-Origin"), "the UI must see the status, others nothing")
		})
	}
}

func TestPreflight(t *testing.T) {
	e := serve(t)
	preflight := func(origin string) *http.Response {
		resp, _ := e.call(t, http.MethodOptions, "/codec/decode", nil, func(r *http.Request) {
			r.Header.Del("Cookie") // browsers send none with a preflight
			r.Header.Set("Origin", origin)
			r.Header.Set("Access-Control-Request-Method", "POST")
			r.Header.Set("Access-Control-Request-Headers", "content-type,x-namespace")
		})
		return resp
	}
	ok := preflight(ui)
	require.Equal(t, http.StatusNoContent, ok.StatusCode)
	require.Equal(t, ui, ok.Header.Get("Access-Control-Allow-Origin"))
	require.Equal(t, "true", ok.Header.Get("Access-Control-Allow-Credentials"))
	require.Contains(t, ok.Header.Get("Access-Control-Allow-Headers"), "X-Namespace")
	bad := preflight("https://evil.example")
	require.Equal(t, http.StatusForbidden, bad.StatusCode)
	require.Empty(t, bad.Header.Get("Access-Control-Allow-Origin"))
}

func TestSessionsEnd(t *testing.T) {
	e := serve(t)
	c, err := e.sessions.Cookie("local:root", "/codec")
	require.NoError(t, err)
	require.True(t, c.HttpOnly)
	require.Equal(t, http.SameSiteStrictMode, c.SameSite)

	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	at, err := url.Parse(e.URL + "/codec/decode")
	require.NoError(t, err)
	jar.SetCookies(at, []*http.Cookie{c})
	elsewhere, err := url.Parse(e.URL + "/api/v1/incidents")
	require.NoError(t, err)
	require.Empty(t, jar.Cookies(elsewhere), "it goes to the codec endpoint only")

	auth := func(value string) bool {
		r := httptest.NewRequest(http.MethodPost, "/codec/decode", nil)
		r.AddCookie(&http.Cookie{Name: codec.CookieName, Value: value})
		_, ok := e.sessions.Authenticate(r)
		return ok
	}
	require.True(t, auth(c.Value))
	other, err := codec.NewSessions(time.Now, time.Hour, true)
	require.NoError(t, err)
	theirs, err := other.Cookie("local:root", "/codec")
	require.NoError(t, err)
	require.True(t, theirs.Secure)
	require.False(t, auth(theirs.Value), "another process's session")
	for i := range c.Value {
		changed := []byte(c.Value)
		changed[i] = 'A' + (changed[i]+1)%26
		require.False(t, auth(string(changed)), "changed at %d", i)
	}
	e.now = e.now.Add(time.Hour)
	require.False(t, auth(c.Value), "after its lifetime")
	_, err = e.sessions.Cookie("", "/codec")
	require.Error(t, err)
}
