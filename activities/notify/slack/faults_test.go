package slack_test

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
	"time"

	"github.com/stretchr/testify/require"

	"rekey/activities"
	"rekey/activities/notify"
	"rekey/activities/notify/slack"
)

// A fake follows Slack's published shapes where emulate has nothing: limits, error
// codes, answers without metadata.
type fake struct {
	*httptest.Server
	mu     sync.Mutex
	answer func(method string, form url.Values, w http.ResponseWriter) bool // true: answered
	posts  []url.Values
}

const team = "T0123"

func newFake(t *testing.T) *fake {
	t.Helper()
	f := &fake{}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		form, _ := url.ParseQuery(string(body))
		method := strings.TrimPrefix(r.URL.Path, "/api/")
		f.mu.Lock()
		defer f.mu.Unlock()
		if _, ok := form["token"]; ok || r.Header.Get("Authorization") != "Bearer bot-test-1" || r.URL.RawQuery != "" {
			http.Error(w, `{"ok":false,"error":"not_authed"}`, http.StatusOK)
			return
		}
		if f.answer != nil && f.answer(method, form, w) {
			return
		}
		switch method {
		case "auth.test":
			w.Header().Set("X-OAuth-Scopes", "chat:write,channels:read,channels:history,groups:read,groups:history")
			fmt.Fprintf(w, `{"ok":true,"url":"https://acme.slack.com/","team_id":%q,"user_id":"U1","bot_id":"B1"}`, team)
		case "chat.postMessage":
			f.posts = append(f.posts, form)
			fmt.Fprintf(w, `{"ok":true,"channel":"C01234567","ts":"1700000000.%06d"}`, len(f.posts))
		case "chat.update":
			fmt.Fprintf(w, `{"ok":true,"channel":"C01234567","ts":%q}`, form.Get("ts"))
		case "conversations.info":
			fmt.Fprint(w, `{"ok":true,"channel":{"id":"C01234567","name":"incidents","is_member":true}}`)
		default:
			fmt.Fprint(w, `{"ok":true,"messages":[],"channels":[{"id":"C01234567","name":"incidents"}]}`)
		}
	}))
	t.Cleanup(f.Close)
	return f
}

func (f *fake) client(t *testing.T) *slack.Client {
	t.Helper()
	return open(t, f.URL+"/api", team, "bot-test-1")
}

// says makes the method answer so.
func (f *fake) says(method string, status int, body string, header ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answer = func(m string, _ url.Values, w http.ResponseWriter) bool {
		if m != method {
			return false
		}
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
		return true
	}
}

var there = notify.Place{Channel: "slack", Where: "C01234567", ID: "1700000000.000001"}

func TestFaultsAreClassed(t *testing.T) {
	const leak = "VENDOR TEXT bot-test-1"
	tests := map[string]struct {
		status     int
		body       string
		header     []string
		onPost     activities.Class
		onUpdate   activities.Class
		after      time.Duration
		permission string
		says       string
	}{
		"429":                {429, "", []string{"Retry-After", "30"}, "throttled", "throttled", 30 * time.Second, "", "too many"},
		"429 without a time": {429, leak, nil, "throttled", "throttled", 0, "", "too many"},
		"ratelimited":        {200, `{"ok":false,"error":"ratelimited"}`, nil, "throttled", "throttled", 0, "", "too many"},
		"revoked":            {200, `{"ok":false,"error":"token_revoked","detail":"` + leak + `"}`, nil, "denied", "denied", 0, "", "bot_token_file"},
		"invalid":            {200, `{"ok":false,"error":"invalid_auth"}`, nil, "denied", "denied", 0, "", "bot_token_file"},
		"scope":              {200, `{"ok":false,"error":"missing_scope","needed":"chat:write,` + leak + `"}`, nil, "denied", "denied", 0, "chat:write", "reinstall"},
		"not in channel":     {200, `{"ok":false,"error":"not_in_channel"}`, nil, "denied", "denied", 0, "", "/invite @rekey"},
		"no channel":         {200, `{"ok":false,"error":"channel_not_found"}`, nil, "denied", "denied", 0, "", "record.slack.channel"},
		"archived":           {200, `{"ok":false,"error":"is_archived"}`, nil, "invalid", "invalid", 0, "", "archived"},
		"internal error":     {200, `{"ok":false,"error":"internal_error"}`, nil, "unclear", "transient", 0, "", "Slack failed"},
		"500 with a page":    {500, "<html>" + leak, nil, "unclear", "transient", 0, "", "Slack failed"},
		"unknown code":       {200, `{"ok":false,"error":"` + leak + `"}`, nil, "unclear", "unclear", 0, "", "do not know"},
		"a page":             {200, "<html>" + leak, nil, "unclear", "transient", 0, "", "proxy"},
		"an empty object":    {200, `{}`, nil, "unclear", "unclear", 0, "", "do not know"},
		"ok without message": {200, `{"ok":true}`, nil, "unclear", "", 0, "", "names no message"},
		"unreadable":         {200, `{"ok":true,"ts":{"a":1}}`, nil, "unclear", "transient", 0, "", "cannot be read"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			c := f.client(t)
			f.says("chat.postMessage", tt.status, tt.body, append(tt.header, "X-Slack-Req-Id", "req-1")...)
			_, err := c.Append(t.Context(), notify.AppendRequest{Place: there, Marker: incident + "/1", Line: notify.Line{N: 1, Text: "x"}})
			check := func(err error, class activities.Class) {
				got := activities.AsFault("", err)
				require.Equal(t, class, got.Class, got.Error())
				require.Contains(t, got.Detail, tt.says)
				require.NotContains(t, err.Error(), "VENDOR")
				require.NotContains(t, err.Error(), "bot-test-1")
				require.NotContains(t, err.Error(), "127.0.0.1")
				require.Equal(t, tt.after, got.After)
				require.Equal(t, tt.permission, got.Permission)
			}
			check(err, tt.onPost)
			require.Contains(t, []string{"req-1", ""}, activities.AsFault("", err).RequestID)
			f.says("chat.update", tt.status, tt.body, tt.header...)
			if err = c.Update(t.Context(), notify.UpdateRequest{Incident: incident, Place: there, Card: contained()}); tt.onUpdate == "" {
				require.NoError(t, err)
			} else {
				check(err, tt.onUpdate)
			}
		})
	}
}

func TestBlocksThatSlackRefusesBecomeText(t *testing.T) {
	f := newFake(t)
	c := f.client(t)
	f.answer = func(method string, form url.Values, w http.ResponseWriter) bool {
		if !strings.HasPrefix(method, "chat.") || !strings.Contains(form.Get("blocks"), "header") {
			return false
		}
		_, _ = io.WriteString(w, `{"ok":false,"error":"invalid_blocks"}`)
		return true
	}
	place, err := c.Open(t.Context(), notify.OpenRequest{Incident: incident, Target: "#incidents", Marker: incident, Card: waiting()})
	require.NoError(t, err)
	require.Len(t, f.posts, 1)
	require.Contains(t, f.posts[0].Get("text"), "Votes wanted")
	require.NoError(t, c.Update(t.Context(), notify.UpdateRequest{Incident: incident, Place: place, Card: waiting()}))
}

func TestMessagesLinkPingAndUnfurlNothing(t *testing.T) {
	f := newFake(t)
	c := f.client(t)
	_, err := c.Open(t.Context(), notify.OpenRequest{Incident: incident, Target: "incidents", Marker: incident, Card: waiting()})
	require.NoError(t, err)
	for _, urgent := range []bool{true, false} {
		_, err = c.Append(t.Context(), notify.AppendRequest{Place: there, Marker: incident + "/1", Line: notify.Line{N: 1, At: at, Kind: notify.KindNote, Text: strings.Repeat(hostile, 900), Urgent: urgent}})
		require.NoError(t, err)
	}
	require.Len(t, f.posts, 3)
	for _, form := range f.posts {
		require.Equal(t, "none", form.Get("parse"))
		require.Equal(t, "false", form.Get("unfurl_links"))
		require.Equal(t, "false", form.Get("unfurl_media"))
		require.NotEqual(t, "1", form.Get("link_names"))
		require.NotEmpty(t, form.Get("text"))
		require.NotContains(t, form.Get("text"), "<")
		for _, block := range strings.Split(form.Get("blocks"), `"type":"mrkdwn"`)[1:] {
			require.Contains(t, block[:strings.Index(block, "}")], `"verbatim":true`)
		}
	}
	require.Equal(t, there.ID, f.posts[1].Get("thread_ts"))
	require.Equal(t, "true", f.posts[1].Get("reply_broadcast"), "urgent lines are shown in the channel too")
	require.Empty(t, f.posts[2].Get("reply_broadcast"))
	var blocks []struct {
		Text struct{ Text string }
	}
	require.NoError(t, json.Unmarshal([]byte(f.posts[1].Get("blocks")), &blocks))
	require.LessOrEqual(t, len([]rune(blocks[0].Text.Text)), 3000)
}

// Slack gives metadata only where the app may read it; the id of the first block is
// looked at then.
func TestFoundByBlockWhereThereIsNoMetadata(t *testing.T) {
	f := newFake(t)
	c := f.client(t)
	place, err := c.Open(t.Context(), notify.OpenRequest{Incident: incident, Target: "#incidents", Marker: incident, Card: waiting()})
	require.NoError(t, err)
	blocks := f.posts[0].Get("blocks")
	history := func(user string) string {
		j, err := json.Marshal([]map[string]any{
			{"type": "message", "user": "U9", "ts": "1700000009.000009", "text": "chatter"},
			{"type": "message", "user": user, "ts": place.ID, "blocks": json.RawMessage(blocks)},
		})
		require.NoError(t, err)
		return `{"ok":true,"messages":` + string(j) + `}`
	}
	f.says("conversations.history", 200, history("U1"))
	again := notify.OpenRequest{Incident: incident, Target: "#incidents", Marker: incident, Card: waiting(), Recheck: true}
	got, err := c.Open(t.Context(), again)
	require.NoError(t, err)
	require.Equal(t, place, got)
	require.Len(t, f.posts, 1)
	f.says("conversations.history", 200, history("U666"))
	got, err = c.Open(t.Context(), again)
	require.NoError(t, err)
	require.NotEqual(t, place, got, "another app's message is not ours")
	require.Len(t, f.posts, 2)

	// A look-up that fails must not pass for "not there".
	for body, class := range map[string]activities.Class{
		`{"ok":false,"error":"missing_scope","needed":"channels:history"}`:  activities.ClassDenied,
		`{"ok":false,"error":"internal_error"}`:                             activities.ClassTransient,
		`{"ok":true,"messages":[],"response_metadata":{"next_cursor":"x"}}`: activities.ClassTransient,
	} {
		f.says("conversations.history", 200, body)
		_, err = c.Open(t.Context(), again)
		require.Equal(t, class, activities.AsFault("", err).Class, body)
		require.Len(t, f.posts, 2)
	}
}

func TestCheck(t *testing.T) {
	f := newFake(t)
	c := f.client(t)
	require.Empty(t, c.Check(t.Context(), "#incidents"))
	tests := map[string]struct {
		method, body string
		header       []string
		target       string
		want         string
		says         string
	}{
		"refused":      {"auth.test", `{"ok":false,"error":"account_inactive"}`, nil, "", notify.ProblemCredential, "not accepted"},
		"no answer":    {"auth.test", `<html>`, nil, "", notify.ProblemUnreachable, "proxy"},
		"other team":   {"auth.test", `{"ok":true,"team_id":"T9","bot_id":"B1"}`, nil, "", notify.ProblemTeam, team},
		"no bot":       {"auth.test", `{"ok":true,"team_id":"T0123"}`, nil, "", notify.ProblemCredential, "person"},
		"lacks":        {"auth.test", `{"ok":true,"team_id":"T0123","bot_id":"B1"}`, []string{"X-OAuth-Scopes", "channels:read,groups:read,groups:history"}, "", notify.ProblemScope, "chat:write, channels:history"},
		"too wide":     {"auth.test", `{"ok":true,"team_id":"T0123","bot_id":"B1"}`, []string{"X-OAuth-Scopes", "chat:write,channels:read,channels:history,groups:read,groups:history,admin.users:write"}, "", notify.ProblemTooWide, "admin.users:write"},
		"clock":        {"auth.test", `{"ok":true,"team_id":"T0123","bot_id":"B1"}`, []string{"Date", time.Now().Add(-10 * time.Minute).UTC().Format(http.TimeFormat)}, "", notify.ProblemClock, "differ by"},
		"not a member": {"conversations.info", `{"ok":true,"channel":{"id":"C01234567","name":"incidents","is_member":false}}`, nil, "#incidents", notify.ProblemTarget, "/invite"},
		"not found":    {"x", "", nil, "#other", notify.ProblemTarget, "no channel #other"},
		"no name":      {"x", "", nil, "#in cidents", notify.ProblemTarget, "must be a name"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			f.says(tt.method, 200, tt.body, tt.header...)
			var targets []string
			if tt.target != "" {
				targets = append(targets, tt.target)
			}
			got := f.client(t).Check(t.Context(), targets...)
			require.Len(t, got, 1, "%+v", got)
			require.Equal(t, tt.want, got[0].Code)
			require.Contains(t, got[0].What, tt.says)
			require.NotEmpty(t, got[0].Do)
		})
	}
	got := open(t, f.URL, team, "xapp-test").Check(t.Context())
	require.Equal(t, notify.ProblemCredential, got[0].Code)
	require.NotContains(t, got[0].What, "xapp-test")
}
