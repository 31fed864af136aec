package slackapp_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
)

// vendor is what stands for Slack: its Web API, and the response_urls.
type vendor struct {
	*httptest.Server
	mu      sync.Mutex
	users   map[string]map[string]any
	answers []string // bodies sent to response_urls
	posts   []url.Values
	views   []string
	asked   map[string]int
	down    bool
	refuse  bool // response_urls answer 404
	socket  http.HandlerFunc
	// elsewhere is where apps.connections.open sends to, "": here.
	elsewhere string
}

func person(id string, change map[string]any) map[string]any {
	u := map[string]any{
		"id": id, "team_id": team, "name": "somebody", "deleted": false, "is_bot": false, "is_restricted": false, "is_ultra_restricted": false,
		"is_stranger": false, "is_email_confirmed": true, "profile": map[string]any{"email": "someone@elsewhere.example"},
	}
	for k, v := range change {
		u[k] = v
	}
	return u
}

func newVendor(t *testing.T) *vendor {
	v := &vendor{asked: map[string]int{}, users: map[string]map[string]any{
		alice: person(alice, nil), bob: person(bob, nil), reader: person(reader, nil), "U0MAIL": person("U0MAIL", map[string]any{"profile": map[string]any{"email": "x@Example.com"}}),
		"U0UNCONF": person("U0UNCONF", map[string]any{"is_email_confirmed": false, "profile": map[string]any{"email": "x@example.com"}}),
		"U0LIKE":   person("U0LIKE", map[string]any{"profile": map[string]any{"email": "x@example.com.evil.test"}}),
		"U0NOBODY": person("U0NOBODY", nil),
		"U0GUEST":  person("U0GUEST", map[string]any{"is_restricted": true}), "U0ULTRA": person("U0ULTRA", map[string]any{"is_restricted": true, "is_ultra_restricted": true, "profile": map[string]any{"email": "x@example.com"}}),
		"U0BOT":     person("U0BOT", map[string]any{"is_bot": true, "profile": map[string]any{"email": "x@example.com"}}),
		"U0GONE":    person("U0GONE", map[string]any{"deleted": true, "profile": map[string]any{"email": "x@example.com"}}),
		"U0OTHER":   person("U0OTHER", map[string]any{"team_id": "T0OTHER", "profile": map[string]any{"email": "x@example.com"}}),
		"U0STRANGE": person("U0STRANGE", map[string]any{"is_stranger": true, "profile": map[string]any{"email": "x@example.com"}}),
	}}
	v.Server = httptest.NewServer(http.HandlerFunc(v.serve))
	t.Cleanup(v.Close)
	return v
}

func (v *vendor) serve(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/ws" {
		v.socket(w, r)
		return
	}
	body, _ := io.ReadAll(r.Body)
	form, _ := url.ParseQuery(string(body))
	v.mu.Lock()
	defer v.mu.Unlock()
	v.asked[r.URL.Path]++
	reply := func(a any) { _ = json.NewEncoder(w).Encode(a) }
	if v.down {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	switch {
	case strings.HasPrefix(r.URL.Path, "/respond"):
		if v.refuse {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		v.answers = append(v.answers, string(body))
	case r.URL.Path == "/api/users.info":
		u, ok := v.users[form.Get("user")]
		if !ok {
			reply(map[string]any{"ok": false, "error": "user_not_found"})
			return
		}
		reply(map[string]any{"ok": true, "user": u})
	case r.URL.Path == "/api/usergroups.users.list":
		reply(map[string]any{"ok": true, "users": []string{reader}})
	case r.URL.Path == "/api/views.open":
		v.views = append(v.views, string(body))
		reply(map[string]any{"ok": true, "view": map[string]any{"id": "V1"}})
	case r.URL.Path == "/api/chat.postMessage":
		v.posts = append(v.posts, form)
		reply(map[string]any{"ok": true, "channel": "D1", "ts": "1.1"})
	case r.URL.Path == "/api/apps.connections.open":
		to := v.URL
		if v.elsewhere != "" {
			to = v.elsewhere
		}
		reply(map[string]any{"ok": true, "url": "ws" + strings.TrimPrefix(to, "http") + "/ws"})
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

func (v *vendor) count(path string) int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.asked[path]
}

func (v *vendor) got() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return append([]string{}, v.answers...)
}

// modals and posts are what the app asked of Slack.
func (v *vendor) modals() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return append([]string{}, v.views...)
}

func (v *vendor) messages() []url.Values {
	v.mu.Lock()
	defer v.mu.Unlock()
	return append([]url.Values{}, v.posts...)
}
