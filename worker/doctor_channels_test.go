package worker

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// vendors plays Slack, GitHub, a mail server and an OpenTelemetry collector.
type vendors struct {
	team, bot, scopes string // of Slack's auth.test; scopes ""; not told
	slackErr          string // Slack's error of every call
	member            bool
	late              time.Duration // how far the vendors' clocks are behind
	github            int           // status of every call
	noRepo            bool
	issuesOff         bool
	collector         int
}

const allScopes = "chat:write,channels:read,channels:history,groups:read,groups:history,users:read,users:read.email,usergroups:read,commands,reactions:write,pins:write,im:write"

func (v *vendors) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Date", time.Now().Add(-v.late).UTC().Format(http.TimeFormat))
	w.Header().Set("Content-Type", "application/json")
	path := r.URL.Path
	switch {
	case strings.Contains(path, "/v1/traces"):
		w.WriteHeader(v.collector)
	case strings.HasPrefix(path, "/slack/"):
		if v.scopes != "" {
			w.Header().Set("X-OAuth-Scopes", v.scopes)
		}
		switch {
		case v.slackErr != "":
			fmt.Fprintf(w, `{"ok":false,"error":%q}`, v.slackErr)
		case strings.HasSuffix(path, "auth.test"):
			fmt.Fprintf(w, `{"ok":true,"team_id":%q,"bot_id":%q,"user_id":"U0BOT"}`, v.team, v.bot)
		case strings.HasSuffix(path, "conversations.info"):
			fmt.Fprintf(w, `{"ok":true,"channel":{"id":"C0123456789","name":"incidents","is_channel":true,"is_member":%t}}`, v.member)
		default:
			fmt.Fprint(w, `{"ok":true,"channels":[{"id":"C0123456789","name":"incidents","name_normalized":"incidents","is_channel":true,"is_member":true}],"response_metadata":{"next_cursor":""}}`)
		}
	default: // GitHub
		switch {
		case v.github != http.StatusOK:
			w.WriteHeader(v.github)
			fmt.Fprint(w, `{"message":"vendor words"}`)
		case strings.Contains(path, "/repos/") && v.noRepo:
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, `{"message":"vendor words"}`)
		case strings.Contains(path, "/repos/"):
			fmt.Fprintf(w, `{"id":1,"name":"security","full_name":"acme/security","has_issues":%t,"private":true,"permissions":{"pull":true,"push":true,"triage":true}}`, !v.issuesOff)
		default:
			fmt.Fprint(w, `{"login":"rekey","id":1}`)
		}
	}
}

// secretText is a secret of n hex digits, made now.
func secretText(t *testing.T, n int) string {
	t.Helper()
	b := make([]byte, (n+1)/2)
	_, err := rand.Read(b)
	require.NoError(t, err)
	return hex.EncodeToString(b)[:n]
}

// connected is an installation with every channel, a record in Slack and GitHub, and
// traces; each file's text can be changed before it is examined.
func connected(t *testing.T, v *vendors) (*install, map[string]string) {
	t.Helper()
	s := httptest.NewServer(v)
	t.Cleanup(s.Close)
	i := healthy(t)
	files := map[string]string{
		"bot": "xoxb-" + secretText(t, 40), "sign": secretText(t, 32), "app": "xapp-1-" + secretText(t, 40), "gh": "ghp_" + secretText(t, 36), "otlp": "authorization: Bearer " + secretText(t, 20),
	}
	for name, text := range files {
		i.write(name, text+"\n")
	}
	i.yaml["channels"] = fmt.Sprintf(`channels:
  slack: {team: T0123, bot_token_file: bot, signing_secret_file: sign, app_token_file: app, base_url: "%[1]s/slack/api", allow_private: true}
  github: {token_file: gh, base_url: "%[1]s", allow_private: true}`, s.URL)
	i.yaml["record"] = `record: {slack: {channel: "#incidents"}, github: {repo: acme/security}}`
	i.yaml["telemetry"] = fmt.Sprintf(`telemetry: {otlp_endpoint: "%s", headers_file: otlp}`, s.URL)
	return i, files
}

func allWell() *vendors {
	return &vendors{team: "T0123", bot: "B0BOT", scopes: allScopes, member: true, github: http.StatusOK, collector: http.StatusOK}
}

func TestDoctorNamesWhatIsBrokenBetweenUsAndOthers(t *testing.T) {
	for name, c := range map[string]struct {
		broken func(*install, *vendors)
		id     string // begins with
		say    string
	}{
		"a revoked bot token":                      {func(_ *install, v *vendors) { v.slackErr = "token_revoked" }, "channels.slack.credential", ""},
		"a bot token of another workspace":         {func(_ *install, v *vendors) { v.team = "T0999" }, "channels.slack.wrong-team", "another workspace"},
		"a Slack app without a scope":              {func(_ *install, v *vendors) { v.scopes = "channels:read" }, "channels.slack.missing-scope", "chat:write"},
		"a Slack app that is not in the channel":   {func(_ *install, v *vendors) { v.member = false }, "channels.slack.target", "not in the channel"},
		"a clock that Slack's requests fail by":    {func(_ *install, v *vendors) { v.late = 10 * time.Minute }, "channels.slack.clock-skew", "clock"},
		"a signing secret that is another thing":   {func(i *install, _ *vendors) { i.write("sign", "xoxb-not-a-signing-secret\n") }, "channels.slack.signing-secret", "signing secret"},
		"an app token that is a bot token":         {func(i *install, _ *vendors) { i.write("app", i.read("bot")) }, "channels.slack.app-token", "xapp-"},
		"a signing secret whose file is gone":      {func(i *install, _ *vendors) { i.remove("sign") }, "channels.slack.signing-secret", "cannot be read"},
		"an expired GitHub token":                  {func(_ *install, v *vendors) { v.github = http.StatusUnauthorized }, "channels.github.credential", ""},
		"a repository that our token does not see": {func(_ *install, v *vendors) { v.noRepo = true }, "channels.github.target", ""},
		"a repository without issues":              {func(_ *install, v *vendors) { v.issuesOff = true }, "channels.github.target", "issues"},
		"an App without its key": {func(i *install, _ *vendors) {
			i.yaml["channels"] = strings.Replace(i.yaml["channels"], "token_file: gh", "app_id: 1, installation_id: 2, private_key_file: nokey", 1)
		}, "channels.github", ""},
		"a mail server that is not there": {func(i *install, _ *vendors) {
			i.yaml["channels"] += "\n  email: {host: 127.0.0.1, port: 1, from: \"a@example.com\", allow_private: true}"
		}, "channels.email.unreachable", ""},
		"a mail server without TLS": {func(i *install, _ *vendors) {
			i.yaml["channels"] += fmt.Sprintf("\n  email: {host: 127.0.0.1, port: %d, from: \"a@example.com\", allow_private: true}", clearMail(i.t))
		}, "channels.email", ""},
		"a webhook key that is none": {func(i *install, _ *vendors) {
			i.yaml["channels"] += "\n  webhook: {signing_key_file: " + i.write("k", "x\n") + "}"
		}, "channels.webhook", ""},
		"a collector that refuses us":           {func(_ *install, v *vendors) { v.collector = http.StatusUnauthorized }, "telemetry", "headers_file"},
		"a collector that is none":              {func(_ *install, v *vendors) { v.collector = http.StatusNotFound }, "telemetry", "no OTLP/HTTP collector"},
		"headers of the collector that are not": {func(i *install, _ *vendors) { i.write("otlp", "just a token\n") }, "telemetry", "line 1"},
		"a collector that is not there": {func(i *install, _ *vendors) {
			i.yaml["telemetry"] = `telemetry: {otlp_endpoint: "http://127.0.0.1:1"}`
		}, "telemetry", "nothing answers"},
		"nobody who can vote outside of Slack": {func(i *install, _ *vendors) {
			i.yaml["people"] = "people:\n  ann: {roles: [commander, admin], slack: T0123/U0A}\n  ben: {roles: [security], slack: T0123/U0B}\n  cas: {roles: [commander, security, approver], slack: T0123/U0C}"
		}, "people.outside-slack", "never be approved"},
	} {
		t.Run(name, func(t *testing.T) {
			v := allWell()
			i, files := connected(t, v)
			c.broken(i, v)
			checks := i.examine(false)
			text := fmt.Sprint(checks)
			faults := brokenIn(checks)
			require.NotEmpty(t, faults)
			for _, id := range faults {
				require.True(t, strings.HasPrefix(id, c.id) || strings.HasSuffix(id, ".clock-skew") && v.late != 0, "%s is healthy, and reported broken: %s", id, text)
			}
			got, _ := find(checks, faults[0], stateFault)
			require.NotEmpty(t, got.Do)
			require.Contains(t, text, c.say)
			require.NotContains(t, text, "vendor words")
			for _, secret := range files {
				require.NotContains(t, text, secret)
			}
		})
	}
}

func TestDoctorFindsNothingWrongWithChannelsThatWork(t *testing.T) {
	i, _ := connected(t, allWell())
	checks := i.examine(false)
	require.Empty(t, brokenIn(checks), fmt.Sprint(checks))
	for _, id := range []string{"channels.slack", "channels.github", "channels.slack.signing-secret", "channels.slack.app-token", "telemetry", "people.outside-slack"} {
		_, ok := find(checks, id, stateOK)
		require.True(t, ok, id)
	}
	got, _ := find(checks, "channels.slack", stateOK)
	require.Contains(t, got.Detail, "#incidents")
}

// clearMail is a mail server that offers no STARTTLS (RFC 3207).
func clearMail(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				fmt.Fprint(c, "220 mail.example.com\r\n")
				b := make([]byte, 512)
				for {
					if _, err := c.Read(b); err != nil {
						return
					}
					fmt.Fprint(c, "250 mail.example.com\r\n")
				}
			}()
		}
	}()
	return l.Addr().(*net.TCPAddr).Port
}
