package worker

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"

	"rekey/internal/config"
)

// slackServer is the HTTP server of a runtime with the Slack app, as serve and up
// make it. Temporal is not there.
func slackServer(t *testing.T, yaml string) (h http.Handler, sign string) {
	t.Helper()
	vendor := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"ok":true,"user":{"id":"U0ALICE","team_id":"T0123ABCD"}}`)
	}))
	t.Cleanup(vendor.Close)
	dir := t.TempDir()
	raw := make([]byte, 16)
	_, err := rand.Read(raw)
	require.NoError(t, err)
	sign = hex.EncodeToString(raw)
	for _, name := range []string{"bot", "sign", "app"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(sign), 0o600))
	}
	cfg, err := config.Parse([]byte(strings.ReplaceAll(yaml, "VENDOR", vendor.URL)), dir)
	require.NoError(t, err)
	cfg.Data = filepath.Join(dir, "data")
	r, err := Open(cfg, slog.New(slog.DiscardHandler), true)
	require.NoError(t, err)
	c, err := client.NewLazyClient(client.Options{HostPort: "127.0.0.1:1", Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	s, beside, err := r.NewServer(c, r.NewEngine(c), "", "http://127.0.0.1:8443")
	require.NoError(t, err)
	require.NotNil(t, beside)
	return s.Handler(), sign
}

func ask(h http.Handler, method, target, body, sign string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if sign != "" {
		ts := strconv.FormatInt(time.Now().Unix(), 10)
		m := hmac.New(sha256.New, []byte(sign))
		m.Write([]byte("v0:" + ts + ":" + body))
		r.Header.Set("X-Slack-Signature", "v0="+hex.EncodeToString(m.Sum(nil)))
		r.Header.Set("X-Slack-Request-Timestamp", ts)
	}
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, r)
	return rec
}

const withSlack = `
listen: {url: "https://rekey.example.com"}
people: {alice: {roles: [commander], slack: T0123ABCD/U0ALICE}}
providers: {awsiam: {prod: {account_id: "123456789012"}}}
channels: {slack: {team: T0123ABCD, bot_token_file: bot, signing_secret_file: sign, base_url: "VENDOR/api/", allow_private: true}}
`

func TestTheSlackAppIsServed(t *testing.T) {
	h, sign := slackServer(t, withSlack)
	n := 0
	body := func(text string) string {
		n++
		return url.Values{"team_id": {"T0123ABCD"}, "user_id": {"U0ALICE"}, "command": {"/rekey"}, "text": {text}, "trigger_id": {"1.2." + strconv.Itoa(n)}}.Encode()
	}
	const at = "https://rekey.example.com"
	require.Equal(t, http.StatusUnauthorized, ask(h, http.MethodPost, at+"/slack/commands", body("help"), "").Code, "no token is asked for, a signature is")
	require.Equal(t, http.StatusForbidden, ask(h, http.MethodPost, "https://evil.test/slack/commands", body("help"), sign).Code, "the host is checked as for every request")
	require.Equal(t, http.StatusMethodNotAllowed, ask(h, http.MethodGet, at+"/slack/commands", "", sign).Code)
	rec := ask(h, http.MethodPost, at+"/slack/commands", body("help"), sign)
	require.Equal(t, http.StatusOK, rec.Code, rec.Body.String())
	require.Contains(t, rec.Body.String(), "alice")
	require.Equal(t, http.StatusUnauthorized, ask(h, http.MethodPost, at+"/api/v1/reports", "{}", sign).Code, "and opens nothing else")

	rec = ask(h, http.MethodPost, at+"/slack/commands", body("upload awsiam AKIAIOSFODNN7EXAMPLE"), sign)
	_, link, ok := strings.Cut(rec.Body.String(), at+"/upload/")
	if !ok { // the engine, which is not there, was asked for longer than Slack waits
		require.Contains(t, rec.Body.String(), "Working on it")
	} else {
		token, _, _ := strings.Cut(link, `"`)
		rec = ask(h, http.MethodGet, at+"/upload/"+token, "", "")
		require.Equal(t, http.StatusOK, rec.Code)
		require.Contains(t, rec.Header().Get("Content-Security-Policy"), "form-action 'self'", "the page's own policy, not the API's")
	}
	require.Equal(t, http.StatusNotFound, ask(h, http.MethodGet, at+"/upload/x", "", "").Code)
}

func TestTheSlackAppIsServedOnlyWhereItIsConfigured(t *testing.T) {
	for name, yaml := range map[string]string{
		"no Slack":          `people: {alice: {roles: [commander]}}`,
		"posting only":      strings.Replace(withSlack, "signing_secret_file: sign, ", "", 1),
		"Socket Mode alone": strings.Replace(withSlack, "signing_secret_file: sign", "app_token_file: app", 1),
	} {
		h, sign := slackServer(t, yaml)
		require.Equal(t, http.StatusNotFound, ask(h, http.MethodPost, "http://127.0.0.1/slack/commands", "x", sign).Code, name)
	}
}

func TestWhereBrowsersReachThisServer(t *testing.T) {
	for _, tt := range []struct{ url, own, want string }{
		{"", "http://127.0.0.1:8443", "http://127.0.0.1:8443"},
		{"", "https://0.0.0.0:8443", ""},
		{"https://rekey.example.com", "https://0.0.0.0:8443", "https://rekey.example.com"},
	} {
		r := &Runtime{Config: &config.Config{Listen: config.Listen{URL: tt.url}}}
		require.Equal(t, tt.want, r.public(tt.own))
	}
	require.Contains(t, (&Runtime{Config: &config.Config{Listen: config.Listen{URL: "https://rekey.example.com", Hosts: []string{"a"}}}}).hosts(), "rekey.example.com")
}
