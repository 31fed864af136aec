package e2e

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/activities/activitytest/emulatetest"
)

// A workspace is Slack as rekey and its users see it: the emulate package behind a
// proxy that adds what emulate does not have (profiles, the receivers of answers),
// and a client that makes and signs requests after Slack's published shapes
// (https://docs.slack.dev/authentication/verifying-requests-from-slack).
type workspace struct {
	*httptest.Server
	t       *testing.T
	behind  *emulatetest.Server
	rekey   string // base URL of rekey's HTTP server
	signing string

	mu      sync.Mutex
	answers map[string][]string // bodies by response_url path
	n       int
	down    bool
	posts   []string // paths that reached emulate, in order
}

func newWorkspace(t *testing.T, rekey string) *workspace {
	t.Helper()
	w := &workspace{t: t, behind: emulatetest.Start(t), rekey: rekey, answers: map[string][]string{}}
	raw := make([]byte, 16)
	_, err := rand.Read(raw)
	require.NoError(t, err)
	w.signing = hex.EncodeToString(raw)
	to, err := url.Parse(strings.TrimSuffix(w.behind.Slack, "api/"))
	require.NoError(t, err)
	emulate := httputil.NewSingleHostReverseProxy(to)
	w.Server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { w.serve(rw, r, emulate) }))
	t.Cleanup(w.Close)
	return w
}

func (w *workspace) serve(rw http.ResponseWriter, r *http.Request, emulate http.Handler) {
	w.mu.Lock()
	down := w.down
	w.mu.Unlock()
	switch {
	case strings.HasPrefix(r.URL.Path, "/answer/"):
		body, _ := io.ReadAll(r.Body)
		w.mu.Lock()
		w.answers[r.URL.Path] = append(w.answers[r.URL.Path], string(body))
		w.mu.Unlock()
	case down:
		rw.WriteHeader(http.StatusServiceUnavailable)
	case r.URL.Path == "/api/users.info":
		_ = r.ParseForm()
		_ = json.NewEncoder(rw).Encode(map[string]any{"ok": true, "user": map[string]any{"id": r.Form.Get("user"), "team_id": emulatetest.Team}})
	default:
		w.mu.Lock()
		w.posts = append(w.posts, r.URL.Path)
		w.mu.Unlock()
		emulate.ServeHTTP(rw, r)
	}
}

// pull tells whether Slack is there.
func (w *workspace) pull(down bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down = down
}

// send signs a request as Slack does and gives the acknowledgement.
func (w *workspace) send(path string, form url.Values) (int, string) {
	w.t.Helper()
	body := form.Encode()
	at := strconv.FormatInt(time.Now().Unix(), 10)
	mac := hmac.New(sha256.New, []byte(w.signing))
	mac.Write([]byte("v0:" + at + ":" + body))
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, w.rekey+path, strings.NewReader(body))
	require.NoError(w.t, err)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("X-Slack-Request-Timestamp", at)
	req.Header.Set("X-Slack-Signature", "v0="+hex.EncodeToString(mac.Sum(nil)))
	began := time.Now()
	resp, err := http.DefaultClient.Do(req)
	require.NoError(w.t, err)
	defer func() { _ = resp.Body.Close() }()
	ack, err := io.ReadAll(resp.Body)
	require.NoError(w.t, err)
	w.t.Logf("%s acknowledged after %d ms", path, time.Since(began).Milliseconds())
	return resp.StatusCode, string(ack)
}

// fresh gives the fields that are new with each request: where its answer goes, and
// its trigger.
func (w *workspace) fresh() (path, trigger string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.n++
	return fmt.Sprintf("/answer/%d", w.n), fmt.Sprintf("%d.%d.e2e", time.Now().UnixMilli(), w.n)
}

// type types a slash command and gives everything that the user is told, the
// acknowledgement included.
func (w *workspace) types(user, text string) string {
	w.t.Helper()
	path, trigger := w.fresh()
	code, ack := w.send("/slack/commands", url.Values{
		"command": {"/rekey"}, "text": {text}, "team_id": {emulatetest.Team}, "team_domain": {"acme"}, "channel_id": {"C000000001"}, "channel_name": {"incidents"},
		"user_id": {user}, "user_name": {"somebody"}, "trigger_id": {trigger}, "response_url": {w.URL + path}, "api_app_id": {"A0REKEY"},
	})
	require.Equal(w.t, http.StatusOK, code, ack)
	return w.told(path, ack)
}

// press presses a button of a card. Slack shows no acknowledgement of it.
func (w *workspace) press(user, action, value string) string {
	w.t.Helper()
	path, trigger := w.fresh()
	payload, err := json.Marshal(map[string]any{
		"type": "block_actions", "trigger_id": trigger, "response_url": w.URL + path, "api_app_id": "A0REKEY",
		"team": map[string]string{"id": emulatetest.Team, "domain": "acme"}, "user": map[string]string{"id": user, "team_id": emulatetest.Team},
		"channel": map[string]string{"id": "C000000001", "name": "incidents"},
		"actions": []any{map[string]any{"type": "button", "action_id": action, "value": value, "action_ts": trigger}},
	})
	require.NoError(w.t, err)
	code, ack := w.send("/slack/interactions", url.Values{"payload": {string(payload)}})
	require.Equal(w.t, http.StatusOK, code, ack)
	return w.told(path, "")
}

// told waits for the answer where it was asked for; a short acknowledgement that
// says everything is one.
func (w *workspace) told(path, ack string) string {
	w.t.Helper()
	got := ack
	if ack == "" || strings.Contains(strings.ToLower(ack), "working on it") {
		require.Eventually(w.t, func() bool {
			w.mu.Lock()
			defer w.mu.Unlock()
			got = ack + strings.Join(w.answers[path], "\n")
			return len(w.answers[path]) > 0
		}, patience, 50*time.Millisecond, "nobody answered")
	}
	return plainText(got)
}

// plainText is what a person reads of blocks.
func plainText(body string) string {
	var out strings.Builder
	var walk func(any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if s, ok := v["text"].(string); ok {
				out.WriteString(s)
			}
			for k, x := range v {
				if _, isText := x.(string); k != "text" || !isText {
					walk(x)
				}
			}
		case []any:
			for _, x := range v {
				walk(x)
			}
			out.WriteString("\n")
		}
	}
	d := json.NewDecoder(strings.NewReader(body))
	for {
		var v any
		if err := d.Decode(&v); err != nil {
			break
		}
		walk(v)
	}
	if out.Len() == 0 {
		return body
	}
	return out.String()
}

// ask asks emulate as a person's client would.
func ask[T any](t *testing.T, method, url, token string, form url.Values) T {
	t.Helper()
	req, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), method, url, strings.NewReader(form.Encode()))
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	var v T
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&v))
	return v
}

// slack calls a method of Slack's web API, past the proxy.
func (w *workspace) slack(method string, form url.Values) channelMessages {
	w.t.Helper()
	return ask[channelMessages](w.t, http.MethodPost, w.behind.Slack+method, w.behind.SlackToken, form)
}

// A posted message of Slack, as far as the tests look.
type posted struct {
	TS       string          `json:"ts"`
	ThreadTS string          `json:"thread_ts"`
	Text     string          `json:"text"`
	Blocks   json.RawMessage `json:"blocks"`
}

type channelMessages struct {
	Channels []struct{ ID, Name string } `json:"channels"`
	Messages []posted                    `json:"messages"`
}

// channel gives the messages of the incidents channel, newest first.
func (w *workspace) channel() (id string, messages []posted) {
	w.t.Helper()
	for _, c := range w.slack("conversations.list", nil).Channels {
		if c.Name == emulatetest.Channel {
			id = c.ID
		}
	}
	require.NotEmpty(w.t, id)
	return id, w.slack("conversations.history", url.Values{"channel": {id}}).Messages
}

// thread gives the replies below a message, in order.
func (w *workspace) thread(channel, ts string) []posted {
	w.t.Helper()
	all := w.slack("conversations.replies", url.Values{"channel": {channel}, "ts": {ts}}).Messages
	var out []posted
	for _, m := range all {
		if m.TS != ts {
			out = append(out, m)
		}
	}
	return out
}
