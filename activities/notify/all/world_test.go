package all_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/emersion/go-smtp"

	"rekey/activities"
	"rekey/activities/activitytest/smtptest"
	"rekey/internal/secret"
)

// A world is a vendor that one channel speaks to, as small as the promises of the
// contract test need it. Foreign servers are in the channels' own tests.
type world struct {
	account activities.Account
	target  string // of a recorder
	to      string // of a sender
	// arrived is what the vendor has, in full as it was sent.
	arrived func() []string
	// lose drops the answer of the next message after it was taken.
	lose func()
	// rage makes every answer from now on a failure with the vendor's own text.
	rage func(text string)
}

// worlds has one for every channel; a new one adds its own.
func worlds(t *testing.T, code string) world {
	t.Helper()
	switch code {
	case "slack":
		h := &front{t: t}
		h.reply = h.slack
		return h.world("slack", "#incidents", map[string]string{"team": "T0123"}, "/api/")
	case "github":
		h := &front{t: t}
		h.reply = h.github
		return h.world("github", "acme/security", nil, "/api/v3/")
	case "webhook":
		h := &front{t: t}
		h.reply = func(w http.ResponseWriter, _ *http.Request, body string) bool {
			h.sent = append(h.sent, body)
			w.WriteHeader(http.StatusNoContent)
			return true
		}
		return h.world("webhook", "", nil, "/hook")
	case "email":
		s := smtptest.Start(t, smtptest.Clear, "", "")
		return world{
			account: activities.Account{
				Name: code, AllowPrivate: true, Settings: map[string]string{"host": s.Host, "port": s.Port, "tls": "none", "from": "security@example.com"},
				Credential: credential,
			},
			to: "oncall@customer.example",
			arrived: func() []string {
				var out []string
				for _, m := range s.Mails() {
					out = append(out, string(m.Data))
				}
				return out
			},
			lose: func() { s.Set(smtptest.Faults{Lose: true}) },
			rage: func(text string) {
				e := &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 7, 1}, Message: text}
				s.Set(smtptest.Faults{Mail: e, Rcpt: e, Data: e})
			},
		}
	}
	t.Fatalf("channel %q has no world in this test: add one, so that it is held to the promises of all", code)
	return world{}
}

// ownSecret is the credential of every channel here.
const ownSecret = "own-credential-of-this-test-0123456789"

func credential(string) (secret.Value, error) { return secret.New([]byte(ownSecret)), nil }

// A front is a vendor over HTTP.
type front struct {
	t     *testing.T
	mu    sync.Mutex
	sent  []string
	drop  bool
	angry string
	// reply answers; true: a message was taken.
	reply func(w http.ResponseWriter, r *http.Request, body string) bool
}

func (h *front) world(code, target string, settings map[string]string, path string) world {
	srv := httptest.NewServer(h)
	h.t.Cleanup(srv.Close)
	s := map[string]string{"base_url": srv.URL + path}
	for k, v := range settings {
		s[k] = v
	}
	return world{
		account: activities.Account{Name: code, AllowPrivate: true, Settings: s, Credential: credential},
		target:  target, to: srv.URL + path,
		arrived: func() []string {
			h.mu.Lock()
			defer h.mu.Unlock()
			return append([]string(nil), h.sent...)
		},
		lose: func() { h.set(func() { h.drop = true }) },
		rage: func(text string) { h.set(func() { h.angry = text }) },
	}
}

func (h *front) set(do func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	do()
}

// ServeHTTP implements http.Handler.
func (h *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.angry != "" {
		w.WriteHeader(http.StatusBadRequest)
		j, _ := json.Marshal(map[string]any{"ok": false, "error": h.angry, "message": h.angry})
		_, _ = w.Write(j)
		return
	}
	rec := httptest.NewRecorder()
	if taken := h.reply(rec, r, string(body)); taken && h.drop {
		h.drop = false
		panic(http.ErrAbortHandler)
	}
	for k, v := range rec.Header() {
		w.Header()[k] = v
	}
	w.WriteHeader(rec.Code)
	_, _ = w.Write(rec.Body.Bytes())
}

func (h *front) slack(w http.ResponseWriter, r *http.Request, body string) bool {
	form, _ := url.ParseQuery(body)
	switch method := strings.TrimPrefix(r.URL.Path, "/api/"); method {
	case "auth.test":
		fmt.Fprint(w, `{"ok":true,"team_id":"T0123","user_id":"U1","bot_id":"B1","url":"https://acme.slack.com/"}`)
	case "conversations.list":
		fmt.Fprint(w, `{"ok":true,"channels":[{"id":"C01234567","name":"incidents"}]}`)
	case "conversations.history", "conversations.replies":
		out := []string{}
		for i, s := range h.sent {
			f, _ := url.ParseQuery(s)
			if (f.Get("thread_ts") == "") == (method == "conversations.history") || f.Get("thread_ts") == form.Get("ts") {
				out = append(out, fmt.Sprintf(`{"user":"U1","ts":"1700000000.%06d","metadata":%s}`, i+1, f.Get("metadata")))
			}
		}
		fmt.Fprintf(w, `{"ok":true,"messages":[%s]}`, strings.Join(out, ","))
	case "chat.postMessage":
		h.sent = append(h.sent, body)
		fmt.Fprintf(w, `{"ok":true,"channel":"C01234567","ts":"1700000000.%06d"}`, len(h.sent))
		return true
	default:
		fmt.Fprintf(w, `{"ok":true,"ts":%q}`, form.Get("ts"))
	}
	return false
}

func (h *front) github(w http.ResponseWriter, r *http.Request, body string) bool {
	item := func(i int) string {
		var in struct{ Body string }
		_ = json.Unmarshal([]byte(h.sent[i]), &in)
		j, _ := json.Marshal(map[string]any{"number": 1, "id": i + 1, "body": in.Body, "user": map[string]string{"login": "rekey-bot"}})
		return string(j)
	}
	switch {
	case r.URL.Path == "/api/v3/user":
		fmt.Fprint(w, `{"login":"rekey-bot"}`)
	case r.Method == http.MethodPost && (strings.HasSuffix(r.URL.Path, "/issues") || strings.HasSuffix(r.URL.Path, "/comments")):
		h.sent = append(h.sent, body)
		w.WriteHeader(http.StatusCreated)
		fmt.Fprint(w, item(len(h.sent)-1))
		return true
	case r.Method == http.MethodGet && (strings.HasSuffix(r.URL.Path, "/issues") || strings.HasSuffix(r.URL.Path, "/comments")):
		out := []string{}
		for i := range h.sent {
			out = append(out, item(i))
		}
		fmt.Fprint(w, "["+strings.Join(out, ",")+"]")
	default:
		fmt.Fprint(w, `{"number":1}`)
	}
	return false
}
