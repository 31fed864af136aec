package github_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/activities"
	"rekey/activities/notify"
	"rekey/activities/notify/github"
)

func TestBodySaysWhatIsTrue(t *testing.T) {
	plain := func(c notify.Card) string { return strings.ReplaceAll(github.Body(c, incident), `\`, "") }
	got := plain(waiting())
	require.True(t, strings.HasPrefix(got, "<!-- rekey:"+incident+" -->\n"))
	for _, want := range []string{
		"**Not contained. Waits for people: 2 open questions, 1 step for people.**",
		"| Key | `awsiam/prod user-access-key a41c09be77d2 AKIAIOSFODNN7EXAMPLE` |", "| Contained | not yet |",
		"- [x] Evidence preserved", "- [x] Scope: version 2", "NOT complete", "- [ ] Votes: 2 open questions",
		"- [ ] Old keys proven dead: 1 of 3 items", "- [ ] Contained", "- [ ] Sealed",
		"- [x] `AKIAIOSFODNN7EXAMPLE` revoke-now", "- [ ] `AKIAI44QH8DHBEXAMPLE` reissue-first",
		"wave hash `" + waveHash + "`", "1 of them outside Slack", "A comment here is no vote.",
		"nightly-export (owner unknown): down 45 min, OVER its budget of 30 min", "[Temporal UI](<http",
	} {
		require.Contains(t, got, want)
	}
	require.NotContains(t, got, "Notices:", "nothing is said about what the card does not know")

	require.Contains(t, got, "Votes are given with `rekey incident approve")
	chat := waiting()
	chat.Chat = true
	require.Contains(t, plain(chat), "Votes are given in Slack or with `rekey incident approve")

	done := contained()
	done.Notices = []notify.Count{{Name: "bounced", N: 1}, {Name: "sent", N: 4}}
	got = plain(done)
	for _, want := range []string{
		"- [x] Votes: no open question", "- [x] Old keys proven dead: 3 of 3 items", "- [x] Contained", "- [ ] All clear",
		"- [x] Sealed: bundle `" + done.Bundle, "- [ ] Notices: bounced 1, sent 4", "Customer C033",
	} {
		require.Contains(t, got, want)
	}

	done.State = "open" // reopened
	require.Contains(t, plain(done), "- [ ] Sealed again; the last bundle is `"+done.Bundle)
	early := plain(notify.Card{Incident: incident, Phase: "preserve", State: "open"})
	require.NotContains(t, early, "[x]", "nothing is done before it is")
	require.NotContains(t, plain(notify.Card{Phase: "a phase of tomorrow"}), "[x]")
}

// mention, reference and link as GitHub finds them in rendered text.
var live = regexp.MustCompile(`(?i)@[a-z0-9]|#[0-9]|GH-[0-9]|https?://|www\.|[0-9a-f]{7,40}`)

// outside takes out code spans and what we write ourselves, and undoes backslashes:
// what is left is what GitHub's filters see.
func outside(body string) string {
	body = regexp.MustCompile(`(?m)<!-- rekey:[A-Za-z0-9./_-]+ -->\n|\[Temporal UI\]\(<[^>]*>\)`).ReplaceAllString(body, "")
	body = regexp.MustCompile("`[^`\n]*`").ReplaceAllString(body, "")
	body = strings.ReplaceAll(body, "&#8203;", "\x01")
	return strings.ReplaceAll(body, `\`, "")
}

func TestHostileTextStaysText(t *testing.T) {
	c := waiting()
	c.Title, c.Key, c.Reporter, c.Phase, c.Severity, c.State = hostile, hostile, hostile, hostile, hostile, hostile
	c.Asks[0].What, c.Asks[0].Roles, c.Asks[0].Breaks[0].Dependent, c.Asks[0].Votes[0].Actor, c.Asks[0].Approval = hostile, []string{hostile}, hostile, hostile, hostile
	c.Tasks[0].What, c.Tasks[0].Owner, c.Tasks[0].ID = hostile, hostile, hostile
	c.Items[0].Key, c.Items[0].Waits, c.Steps[0].Name = hostile, hostile, hostile
	c.Breaks[0].Dependent, c.UI, c.Bundle = hostile, "javascript:alert(1)", hostile
	f := newFake(t)
	_, err := f.client(t).Append(t.Context(), notify.AppendRequest{Place: there, Marker: incident + "/1", Line: notify.Line{N: 1, At: at, Kind: notify.KindAsk, Text: hostile}})
	require.NoError(t, err)
	require.Len(t, f.bodies, 1)
	for _, body := range []string{github.Body(c, incident), f.bodies[0]} {
		got := outside(body)
		require.Empty(t, live.FindAllString(got, -1))
		require.Equal(t, 1, strings.Count(body, "<!-- rekey:"), "no marker but ours")
		require.NotContains(t, got, "<b>")
		for _, bad := range []string{"javascript:", "\u202e", "\x00", "\x1b", "\n- [x] Sealed\n", "\n# Head", "\n```"} {
			require.NotContains(t, body, bad)
		}
		// Every character that formats is escaped.
		require.NotRegexp(t, `[^\\]\*\*all clear|[^\\]~~not|[^\\]\[click|[^\\]!\\?\[x`, regexp.MustCompile("`[^`\n]*`").ReplaceAllString(body, ""))
	}
}

func TestBodyOfAnySizeIsAccepted(t *testing.T) {
	c := waiting()
	long := strings.Repeat(hostile+"`|", 500)
	ask, task, item := c.Asks[0], c.Tasks[0], c.Items[0]
	for i := range 200 {
		ask.What, ask.Approval = long, fmt.Sprintf("a%d", i)
		ask.Breaks = append(ask.Breaks, notify.Break{Dependent: long, Owner: long, Outage: time.Hour})
		ask.Votes = append(ask.Votes, notify.Vote{Actor: long, Role: long, Vote: long, Auth: long})
		ask.Roles = append(ask.Roles, long)
		c.Asks = append(c.Asks, ask)
		task.What, task.Owner = long, long
		c.Tasks = append(c.Tasks, task)
		item.Key, item.Waits = long, long
		c.Items = append(c.Items, item)
		c.Breaks = append(c.Breaks, notify.Break{Dependent: long})
	}
	body := github.Body(c, incident)
	require.LessOrEqual(t, len(body), 65536)
	require.True(t, strings.HasPrefix(body, "<!-- rekey:"+incident+" -->"))
	require.Contains(t, body, "rekey incident show "+incident)
	require.Contains(t, body, "### What must be done")
}

// A fake follows GitHub's published shapes where emulate has nothing.
type fake struct {
	*httptest.Server
	mu     sync.Mutex
	answer func(w http.ResponseWriter, r *http.Request) bool // true: answered
	bodies []string
	made   int
}

func newFake(t *testing.T) *fake {
	t.Helper()
	f := &fake{}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var in struct{ Body string }
		b, _ := io.ReadAll(r.Body)
		f.mu.Lock()
		defer f.mu.Unlock()
		if r.Header.Get("Authorization") != "Bearer gh-test-1" || r.Header.Get("User-Agent") != "rekey-test" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if f.answer != nil && f.answer(w, r) {
			return
		}
		_ = json.Unmarshal(b, &in)
		switch {
		case r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/comments"), r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/issues"):
			f.bodies, f.made = append(f.bodies, in.Body), f.made+1
			w.WriteHeader(http.StatusCreated)
			fmt.Fprintf(w, `{"number":12,"id":%d,"html_url":"https://github.example/acme/security/issues/12"}`, f.made)
		case r.URL.Path == "/api/v3/user":
			fmt.Fprint(w, `{"login":"rekey-bot"}`)
		case r.Method == http.MethodPatch:
			fmt.Fprint(w, `{"number":12}`)
		case strings.Contains(r.URL.Path, "/labels/"):
			fmt.Fprint(w, `{"name":"x"}`)
		case r.URL.Path == "/api/v3/repos/acme/security":
			fmt.Fprint(w, `{"full_name":"acme/security","has_issues":true,"visibility":"private"}`)
		default:
			fmt.Fprint(w, `[]`)
		}
	}))
	t.Cleanup(f.Close)
	return f
}

func (f *fake) client(t *testing.T) *github.Client {
	t.Helper()
	return withToken(t, f.URL+"/api/v3", "gh-test-1")
}

var there = notify.Place{Channel: "github", Where: "acme/security", ID: "12"}

func TestFaultsAreClassed(t *testing.T) {
	const leak = "VENDOR TEXT gh-test-1"
	soon := strconv.FormatInt(time.Now().Add(10*time.Minute).Unix(), 10)
	tests := map[string]struct {
		status   int
		body     string
		header   []string
		onPost   activities.Class
		onUpdate activities.Class
		min, max time.Duration
		says     string
	}{
		"primary limit":          {403, `{"message":"` + leak + `"}`, []string{"X-RateLimit-Remaining", "0", "X-RateLimit-Reset", soon}, "throttled", "throttled", 9 * time.Minute, 10 * time.Minute, "too many"},
		"primary limit, 429":     {429, `{}`, []string{"X-RateLimit-Remaining", "0", "X-RateLimit-Reset", soon}, "throttled", "throttled", 9 * time.Minute, 10 * time.Minute, "too many"},
		"secondary, retry after": {403, `{}`, []string{"Retry-After", "60"}, "throttled", "throttled", time.Minute, time.Minute, "too many"},
		"secondary, by words":    {403, `{"message":"You have exceeded a secondary rate limit."}`, nil, "throttled", "throttled", time.Minute, time.Minute, "too many"},
		"secondary, by address":  {403, `{"documentation_url":"https://docs.github.com/rest/overview/rate-limits-for-the-rest-api#about-secondary-rate-limits"}`, nil, "throttled", "throttled", time.Minute, time.Minute, "too many"},
		"401":                    {401, `{"message":"` + leak + `"}`, nil, "denied", "denied", 0, 0, "not accepted"},
		"403":                    {403, `{"message":"` + leak + `"}`, []string{"X-RateLimit-Remaining", "4999"}, "denied", "denied", 0, 0, "permission"},
		"404":                    {404, `{"message":"Not Found"}`, nil, "denied", "denied", 0, 0, "record.github.repo"},
		"410":                    {410, `{}`, nil, "invalid", "invalid", 0, 0, "switched off"},
		"422":                    {422, `{"message":"` + leak + `"}`, nil, "invalid", "invalid", 0, 0, "refuses the content"},
		"502":                    {502, "<html>" + leak, nil, "unclear", "transient", 0, 0, "failed"},
		"a page":                 {200, "<html>" + leak, nil, "unclear", "transient", 0, 0, "proxy"},
		"empty":                  {201, `{}`, nil, "unclear", "transient", 0, 0, ""},
		"unreadable":             {201, `[]`, nil, "unclear", "transient", 0, 0, "cannot be read"},
		"202":                    {202, `{}`, nil, "unclear", "transient", 0, 0, ""},
		"moved":                  {301, "", []string{"Location", "/repositories/1/issues"}, "invalid", "invalid", 0, 0, "renamed or moved"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			f.answer = func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method == http.MethodGet {
					return false
				}
				for i := 0; i+1 < len(tt.header); i += 2 {
					w.Header().Set(tt.header[i], tt.header[i+1])
				}
				w.Header().Set("X-GitHub-Request-Id", "AB12:34CD")
				w.WriteHeader(tt.status)
				_, _ = io.WriteString(w, tt.body)
				return true
			}
			check := func(err error, class activities.Class) {
				require.Error(t, err)
				got := activities.AsFault("", err)
				require.Equal(t, class, got.Class, got.Error())
				require.Contains(t, got.Detail, tt.says)
				require.GreaterOrEqual(t, got.After, tt.min)
				require.LessOrEqual(t, got.After, tt.max)
				for _, bad := range []string{"VENDOR", "gh-test-1", "127.0.0.1"} {
					require.NotContains(t, err.Error(), bad)
				}
			}
			c := f.client(t)
			_, err := c.Open(t.Context(), notify.OpenRequest{Incident: incident, Target: "acme/security", Marker: incident, Card: waiting()})
			check(err, tt.onPost)
			_, err = c.Append(t.Context(), notify.AppendRequest{Place: there, Marker: incident + "/1", Line: notify.Line{N: 1, Kind: notify.KindAsk, Text: "x"}})
			check(err, tt.onPost)
			check(c.Update(t.Context(), notify.UpdateRequest{Incident: incident, Place: there, Card: contained()}), tt.onUpdate)
		})
	}
}

// A look-up that fails or is cut off must not pass for "not there".
func TestLookUpThatFailsMakesNothing(t *testing.T) {
	f := newFake(t)
	c := f.client(t)
	req := notify.OpenRequest{Incident: incident, Target: "acme/security", Marker: incident, Card: waiting(), Recheck: true}
	for _, status := range []int{500, 403, 404} {
		f.answer = func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/issues") {
				w.WriteHeader(status)
				return true
			}
			return false
		}
		_, err := c.Open(t.Context(), req)
		require.Error(t, err)
		require.Zero(t, f.made)
	}
	// The second page is read too.
	f.answer = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodGet || !strings.HasSuffix(r.URL.Path, "/issues") {
			return false
		}
		out := []string{}
		for i := range 100 {
			body := "chatter that quotes <!-- rekey:" + incident + " -->" // ours only at the beginning
			if r.URL.Query().Get("page") == "2" && i == 3 {
				body = github.Body(waiting(), incident)
			}
			out = append(out, fmt.Sprintf(`{"number":%d,"user":{"login":"rekey-bot"},"body":%q,"created_at":%q}`, 500-i, body, time.Now().UTC().Format(time.RFC3339)))
		}
		fmt.Fprint(w, "["+strings.Join(out, ",")+"]")
		return true
	}
	place, err := c.Open(t.Context(), req)
	require.NoError(t, err)
	require.Equal(t, "497", place.ID)
	require.Zero(t, f.made)
}

func TestOpenRefusesBadConfiguration(t *testing.T) {
	for says, settings := range map[string]map[string]string{
		"must be a URL":         {"base_url": "https://user@host/"},
		"the web site":          {"base_url": "https://github.com/"},
		"app_id":                {"app_id": "x", "installation_id": "1"},
		"installation's number": {"app_id": "1"},
	} {
		_, err := github.Channel().Open(activities.Account{Settings: settings}, activities.Deps{HTTP: func(activities.Account) (*http.Client, error) { return &http.Client{}, nil }})
		require.ErrorContains(t, err, says)
	}
	_, err := github.Channel().Open(activities.Account{Settings: map[string]string{"base_url": "http://10.0.0.1/api/v3/"}}, activities.Deps{})
	require.ErrorContains(t, err, "without TLS")
	f := newFake(t)
	c := open(t, f.URL, map[string]string{"app_id": "1", "installation_id": "2"}, map[string]string{"private_key": "PRIVATE no key"})
	_, err = c.Open(t.Context(), notify.OpenRequest{Incident: incident, Target: "acme/security", Marker: incident})
	require.Equal(t, activities.ClassDenied, activities.AsFault("", err).Class)
	require.NotContains(t, err.Error(), "PRIVATE")
	for _, target := range []string{"acme", "acme/..", "acme/a b", "../x", "acme/a/b", ""} {
		_, err = f.client(t).Open(t.Context(), notify.OpenRequest{Incident: incident, Target: target, Marker: incident})
		require.Equal(t, activities.ClassInvalid, activities.AsFault("", err).Class, target)
	}
}

func TestCheck(t *testing.T) {
	tests := map[string]struct {
		path, body string
		status     int
		header     []string
		want, says string
	}{
		"refused":   {"/api/v3/user", "{}", 401, nil, notify.ProblemCredential, "not accepted"},
		"page":      {"/api/v3/user", "<html>", 200, nil, notify.ProblemUnreachable, "proxy"},
		"no scope":  {"/api/v3/user", `{"login":"x"}`, 200, []string{"X-OAuth-Scopes", "gist"}, notify.ProblemScope, "repo"},
		"too wide":  {"/api/v3/user", `{"login":"x"}`, 200, []string{"X-OAuth-Scopes", "repo, admin:org"}, notify.ProblemTooWide, "admin:org"},
		"ends soon": {"/api/v3/user", `{"login":"x"}`, 200, []string{"GitHub-Authentication-Token-Expiration", time.Now().UTC().Add(24 * time.Hour).Format("2006-01-02 15:04:05 MST")}, notify.ProblemExpires, "ends at"},
		"clock":     {"/api/v3/user", `{"login":"x"}`, 200, []string{"Date", time.Now().Add(5 * time.Minute).UTC().Format(http.TimeFormat)}, notify.ProblemClock, "differ by"},
		"not seen":  {"/api/v3/repos/acme/security", "{}", 404, nil, notify.ProblemTarget, "may not see"},
		"archived":  {"/api/v3/repos/acme/security", `{"archived":true,"has_issues":true}`, 200, nil, notify.ProblemTarget, "archived"},
		"no issues": {"/api/v3/repos/acme/security", `{"has_issues":false}`, 200, nil, notify.ProblemTarget, "switched off"},
		"public":    {"/api/v3/repos/acme/security", `{"has_issues":true,"visibility":"public"}`, 200, nil, notify.ProblemTarget, "everybody reads"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			require.Empty(t, f.client(t).Check(t.Context(), "acme/security"))
			f.answer = func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path != tt.path {
					return false
				}
				for i := 0; i+1 < len(tt.header); i += 2 {
					w.Header().Set(tt.header[i], tt.header[i+1])
				}
				w.WriteHeader(tt.status)
				_, _ = io.WriteString(w, tt.body)
				return true
			}
			got := f.client(t).Check(t.Context(), "acme/security")
			require.Len(t, got, 1, "%+v", got)
			require.Equal(t, tt.want, got[0].Code)
			require.Contains(t, got[0].What, tt.says)
			require.NotEmpty(t, got[0].Do)
		})
	}
}
