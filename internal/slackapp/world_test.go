package slackapp_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/activities"
	"rekey/internal/api"
	"rekey/internal/codec/keyring"
	"rekey/internal/config"
	"rekey/internal/httpx"
	"rekey/internal/inbox"
	"rekey/internal/intake"
	"rekey/internal/people"
	"rekey/internal/plan"
	"rekey/internal/secret"
	"rekey/internal/secret/redact"
	"rekey/internal/server"
	"rekey/internal/slackapp"
	"rekey/internal/statement"
	"rekey/internal/view"
	"rekey/workflows"
)

const (
	team    = "T0123ABCD"
	alice   = "U0ALICE" // commander of rekey.yaml
	bob     = "U0BOB"   // approver
	reader  = "U0READER"
	keyID   = "AKIAIOSFODNN7EXAMPLE"
	known   = "inc-0123456789ab"
	wave    = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	itemFP  = "fp1_aaaaaaaaaaaabbbbbbbbbbbbaaaaaaaaaaaabbbbbbbbbbbbaaaaaaaaaaaabbbb"
	channel = "C0456"
)

const settings = `
people:
  alice: {roles: [commander, security], slack: T0123ABCD/U0ALICE}
  bob: {roles: [approver], slack: T0123ABCD/U0BOB}
  gail: {roles: [approver], slack: T0123ABCD/U0GUEST}
channels:
  slack:
    team: T0123ABCD
    bot_token_file: bot
    signing_secret_file: sign
    readers: {user_groups: [S0SEC], email_domains: [example.com]}
`

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

// engine stands for intake and Temporal.
type engine struct {
	mu   sync.Mutex
	down error
	// votesOnly: down for reports alone.
	votesOnly bool
	hang      chan struct{}
	callers   []intake.Caller
	requests  []api.ReportRequest
	decided   []statement.Signed
	decide    func(statement.Signed) (workflows.Decision, error)
	reject    error
	view      view.Incident
	plan      plan.Plan
}

func (e *engine) wait(ctx context.Context) error {
	e.mu.Lock()
	hang, down := e.hang, e.down
	e.mu.Unlock()
	if hang != nil {
		select {
		case <-hang:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return down
}

func (e *engine) Report(ctx context.Context, who intake.Caller, r api.ReportRequest) (api.ReportResponse, error) {
	if err := e.wait(ctx); err != nil {
		return api.ReportResponse{}, &intake.Refusal{Kind: intake.Unavailable, Body: view.ErrorBody{Code: intake.CodeUnreachable, Message: "Temporal did not take the report", Do: "wait"}, Cause: err}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.callers, e.requests = append(e.callers, who), append(e.requests, r)
	if e.reject != nil {
		return api.ReportResponse{}, e.reject
	}
	return api.ReportResponse{Incident: known, Report: "r-1", FP: itemFP, Playbook: "aws-access-key"}, nil
}

func (e *engine) found(ctx context.Context, id string) error {
	e.mu.Lock()
	up := e.votesOnly
	e.mu.Unlock()
	if err := e.wait(ctx); err != nil && !up {
		return err
	}
	if id != known {
		return server.ErrUnknown
	}
	return nil
}

func (e *engine) Show(ctx context.Context, id string) (view.Incident, error) {
	return e.view, e.found(ctx, id)
}
func (e *engine) Items(ctx context.Context, id string) ([]view.Item, error) {
	return e.view.Items, e.found(ctx, id)
}
func (e *engine) Plan(ctx context.Context, id string) (plan.Plan, error) {
	return e.plan, e.found(ctx, id)
}
func (e *engine) List(ctx context.Context, _ server.Filter) (view.List, error) {
	return view.List{Incidents: []view.Summary{{ID: known, Severity: "high", State: "open", Phase: "approve", Provider: "awsiam", Open: 1}}}, e.wait(ctx)
}
func (e *engine) Decide(ctx context.Context, s statement.Signed) (workflows.Decision, error) {
	if err := e.found(ctx, s.Statement.Incident); err != nil {
		return workflows.Decision{}, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.decided = append(e.decided, s)
	if e.decide != nil {
		return e.decide(s)
	}
	return workflows.Decision{Approval: s.Statement.Approval, State: "open", Votes: 1, Needed: 2, ID: "hold1"}, nil
}

func (e *engine) reports() []api.ReportRequest {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]api.ReportRequest{}, e.requests...)
}

func (e *engine) decisions() []statement.Signed {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]statement.Signed{}, e.decided...)
}

func (e *engine) set(f func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f()
}

type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// world is an app with everything around it.
type world struct {
	*slackapp.App
	*engine
	vendor  *vendor
	log     *buffer
	data    string
	signing string
	server  *people.Voters
	options slackapp.Options
	skew    atomic.Int64 // of the app's clock
	n       int
}

func descriptors() []activities.Descriptor {
	return []activities.Descriptor{{
		Code: "awsiam", Name: "AWS IAM", Secrets: []string{`lab-secret-[0-9a-f]{16}`},
		Kinds: []activities.KindInfo{{Kind: "user-access-key", Pattern: `\bAKIA[A-Z0-9]{16}\b`, IDSuffices: true}},
		CheckID: func(id string) (string, error) {
			if strings.HasPrefix(id, "AKIA") {
				return "user-access-key", nil
			}
			return "", errors.New("a key id begins with AKIA")
		},
	}, {
		Code: "vault", Name: "Vault", Kinds: []activities.KindInfo{{Kind: "token"}},
	}}
}

func random(t *testing.T) string {
	t.Helper()
	b := make([]byte, 16)
	_, err := rand.Read(b)
	require.NoError(t, err)
	return hex.EncodeToString(b)
}

func newWorld(t *testing.T, change ...func(*slackapp.Options)) *world {
	t.Helper()
	w := &world{engine: &engine{}, vendor: newVendor(t), log: &buffer{}, data: t.TempDir(), signing: random(t)}
	w.view = view.Incident{
		ID: known, Severity: "high", State: "waiting", Phase: "approve", Totals: view.Totals{Items: 1, Open: 1},
		Items:     []view.Item{{FP: itemFP, Short: "aaaaaaaaaaaa", Provider: "awsiam", Account: "prod", KeyID: keyID, Strategy: "revoke-now", Step: "Probe"}},
		Approvals: []view.Approval{{ID: "a1", For: "strategy", What: "revoke-now of 1 item", WaveHash: wave, State: "open", Needed: 2, Roles: []string{"commander", "approver"}}},
	}
	cfg, err := config.Parse([]byte(settings), w.data)
	require.NoError(t, err)
	cfg.Channels.Slack.BaseURL = w.vendor.URL + "/api/"
	keys, err := keyring.Open(keyring.Options{Dir: filepath.Join(w.data, "keys", "codec"), Create: true, Now: time.Now})
	require.NoError(t, err)
	box, err := inbox.Open(filepath.Join(w.data, "inbox"), keys)
	require.NoError(t, err)
	signer, err := people.LoadOrCreate(people.ServerKeyFile(w.data))
	require.NoError(t, err)
	voters, err := people.Pinned(cfg, w.data)
	require.NoError(t, err)
	w.server = &voters
	red, err := redact.New(redact.Options{})
	require.NoError(t, err)
	hc, err := httpx.New(httpx.Options{AllowPrivate: true})
	require.NoError(t, err)
	bot := "xoxb-" + random(t)
	w.options = slackapp.Options{
		Config: cfg, Reports: w.engine, Incidents: w.engine, Providers: descriptors(), Signer: signer, Inbox: box, Redact: red, HTTP: hc,
		Log: slog.New(slog.NewJSONHandler(w.log, nil)), Now: func() time.Time { return time.Now().Add(time.Duration(w.skew.Load())) },
		Account: activities.Account{Name: "slack", AllowPrivate: true, Settings: map[string]string{"team": team, "base_url": w.vendor.URL + "/api/"},
			Credential: func(name string) (secret.Value, error) {
				return secret.New([]byte(map[string]string{"bot_token": bot, "signing_secret": w.signing, "app_token": "xapp-" + bot}[name])), nil
			}},
	}
	for _, c := range change {
		c(&w.options)
	}
	w.App = w.start(t)
	return w
}

// start makes another process over the same data.
func (w *world) start(t *testing.T) *slackapp.App {
	t.Helper()
	a, err := slackapp.New(w.options)
	require.NoError(t, err)
	return a
}

// running runs an app until the test, or the returned function, ends it.
func running(t *testing.T, a *slackapp.App) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { a.Run(ctx); close(done) }()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return stop
}

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
	r := httptest.NewRequest(http.MethodPost, "https://rekey.example.com"+c.path, strings.NewReader(c.body))
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
	rec := httptest.NewRecorder()
	a.Handler().ServeHTTP(rec, r)
	return rec
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
	require.Eventually(t, func() bool { return len(w.vendor.got()) >= n }, 20*time.Second, 5*time.Millisecond, "no answer came")
	return textOf(t, w.vendor.got()[n-1])
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

func (w *world) idle(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool { p, err := w.options.Inbox.Pending(); return err == nil && len(p) == 0 }, 20*time.Second, 5*time.Millisecond)
}

// nowhere checks that a secret is in no log, no answer, no file, no request of ours.
func (w *world) nowhere(t *testing.T, canary string) {
	t.Helper()
	require.NotContains(t, w.log.String(), canary)
	w.vendor.mu.Lock()
	defer w.vendor.mu.Unlock()
	require.NotContains(t, fmt.Sprint(w.vendor.answers, w.vendor.posts, w.vendor.views), canary)
	require.NoError(t, filepath.WalkDir(w.data, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		require.NotContains(t, string(raw), canary, path)
		return err
	}))
}
