package slackapp_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/internal/slackapp"
)

// A call is one request as Slack makes it.
type call struct {
	path string
	body string
	at   time.Time
	sign string // "" : signed well
}

// slash is the body of a slash command
// (https://docs.slack.dev/interactivity/implementing-slash-commands#app_command_handling).
func (w *world) slash(user, text string, change ...func(url.Values)) call {
	w.n++
	f := url.Values{
		"token": {"deprecated"}, "team_id": {team}, "team_domain": {"example"}, "channel_id": {channel}, "channel_name": {"incidents"},
		"user_id": {user}, "user_name": {"somebody"}, "command": {"/rekey"}, "text": {text}, "api_app_id": {"A0123"}, "is_enterprise_install": {"false"},
		"response_url": {w.vendor.URL + "/respond/" + strconv.Itoa(w.n)}, "trigger_id": {fmt.Sprintf("13345224609.738474920.%d", w.n)},
	}
	for _, c := range change {
		c(f)
	}
	return call{path: "/slack/commands", body: f.Encode(), at: time.Now()}
}

// click is a payload of block_actions
// (https://docs.slack.dev/reference/interaction-payloads/block_actions-payload).
func (w *world) click(user, action, value string, change ...func(map[string]any)) call {
	w.n++
	p := map[string]any{
		"type": "block_actions", "team": map[string]any{"id": team, "domain": "example"}, "user": map[string]any{"id": user, "username": "somebody", "team_id": team},
		"api_app_id": "A0123", "token": "deprecated", "container": map[string]any{"type": "message", "message_ts": "1.1", "channel_id": channel, "is_ephemeral": false},
		"trigger_id": fmt.Sprintf("12321423423.333649436676.%d", w.n), "channel": map[string]any{"id": channel, "name": "incidents"},
		"message":      map[string]any{"type": "message", "blocks": []any{map[string]any{"type": "a block of tomorrow"}}},
		"response_url": w.vendor.URL + "/respond/" + strconv.Itoa(w.n),
		"actions":      []any{map[string]any{"action_id": action, "block_id": "b", "type": "button", "value": value, "action_ts": "1548426417.840180"}},
	}
	for _, c := range change {
		c(p)
	}
	raw, _ := json.Marshal(p)
	return call{path: "/slack/interactions", body: url.Values{"payload": {string(raw)}}.Encode(), at: time.Now()}
}

// send signs a call and gives it to the app.
func (w *world) send(a *slackapp.App, c call) *httptest.ResponseRecorder {
	rec := httptest.NewRecorder()
	r := w.signed(c, "https://rekey.example.com")
	r.RequestURI = r.URL.RequestURI()
	a.Handler().ServeHTTP(rec, r)
	return rec
}

// signed is a call as Slack sends it to a server.
func (w *world) signed(c call, server string) *http.Request {
	r, _ := http.NewRequest(http.MethodPost, server+c.path, strings.NewReader(c.body)) // of constants: it cannot fail
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	ts := strconv.FormatInt(c.at.Unix(), 10)
	m := hmac.New(sha256.New, []byte(w.signing))
	m.Write([]byte("v0:" + ts + ":" + c.body))
	sign := "v0=" + hex.EncodeToString(m.Sum(nil))
	if c.sign != "" {
		sign = c.sign
	}
	if c.sign != "none" {
		r.Header.Set("X-Slack-Signature", sign)
	}
	r.Header.Set("X-Slack-Request-Timestamp", ts)
	return r
}

// typed sends a command and gives the text of its answer.
func (w *world) typed(t *testing.T, user, text string) string {
	t.Helper()
	rec := w.send(w.App, w.slash(user, text))
	require.Equal(t, http.StatusOK, rec.Code, rec.Body.String())
	return textOf(t, rec.Body.String())
}

// textOf checks that an answer is for one person, and inert, and gives its text.
func textOf(t *testing.T, body string) string {
	t.Helper()
	var m struct {
		ResponseType    string `json:"response_type"`
		ReplaceOriginal bool   `json:"replace_original"`
		Blocks          []struct {
			Type     string
			Elements []struct {
				Type     string
				Elements []struct{ Type, Text, URL string }
			}
		}
	}
	require.NoError(t, json.Unmarshal([]byte(body), &m), body)
	require.Equal(t, "ephemeral", m.ResponseType)
	require.False(t, m.ReplaceOriginal)
	var b strings.Builder
	for _, block := range m.Blocks {
		require.Equal(t, "rich_text", block.Type, "nothing that Slack would read markup in")
		for _, s := range block.Elements {
			require.Equal(t, "rich_text_section", s.Type)
			for _, e := range s.Elements {
				require.Contains(t, []string{"text", "link"}, e.Type, "no mention, no broadcast")
				require.NotEmpty(t, e.Text)
				b.WriteString(e.Text + e.URL)
			}
		}
	}
	return b.String()
}

// later waits for the n-th answer at a response_url.
func (w *world) later(t *testing.T, n int) string {
	t.Helper()
	require.Eventually(t, func() bool { return len(w.vendor.got()) >= n }, time.Minute, 5*time.Millisecond, "no answer came")
	return textOf(t, w.vendor.got()[n-1])
}
