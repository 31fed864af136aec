package slackapp_test

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/internal/slackapp"
)

func TestOnlySlackIsListenedTo(t *testing.T) {
	w := newWorld(t)
	good := func() call { return w.slash(alice, "report awsiam "+keyID) }
	for name, c := range map[string]struct {
		change func(*call)
		status int
		reason string
	}{
		"unsigned":            {func(c *call) { c.sign = "none" }, http.StatusUnauthorized, "bad-signature"},
		"wrong signature":     {func(c *call) { c.sign = "v0=" + strings.Repeat("ab", 32) }, http.StatusUnauthorized, "bad-signature"},
		"not a signature":     {func(c *call) { c.sign = "v0=zz" }, http.StatusUnauthorized, "bad-signature"},
		"other version":       {func(c *call) { c.sign = "v1=" + strings.Repeat("ab", 32) }, http.StatusUnauthorized, "bad-signature"},
		"old":                 {func(c *call) { c.at = c.at.Add(-6 * time.Minute) }, http.StatusUnauthorized, "stale"},
		"from the future":     {func(c *call) { c.at = c.at.Add(6 * time.Minute) }, http.StatusUnauthorized, "stale"},
		"oversized":           {func(c *call) { c.body += "&x=" + strings.Repeat("x", 100<<10) }, http.StatusRequestEntityTooLarge, "oversized"},
		"other workspace":     {func(c *call) { c.body = strings.Replace(c.body, team, "T0OTHER", 1) }, http.StatusForbidden, "wrong-team"},
		"no form":             {func(c *call) { c.body = "%zz" }, http.StatusBadRequest, "malformed"},
		"no user":             {func(c *call) { c.body = strings.Replace(c.body, "user_id", "user", 1) }, http.StatusBadRequest, "malformed"},
		"user id with a path": {func(c *call) { c.body = strings.Replace(c.body, "user_id="+alice, "user_id=U1%2F..", 1) }, http.StatusBadRequest, "malformed"},
		"no trigger":          {func(c *call) { c.body = strings.Replace(c.body, "trigger_id", "t", 1) }, http.StatusBadRequest, "malformed"},
	} {
		t.Run(name, func(t *testing.T) {
			before := w.Refusals()[c.reason]
			one := good()
			c.change(&one)
			rec := w.send(w.App, one)
			require.Equal(t, c.status, rec.Code, rec.Body.String())
			require.Equal(t, before+1, w.Refusals()[c.reason])
			require.Contains(t, rec.Body.String(), `"do":`)
		})
	}
	require.Empty(t, w.reports())
	pending, err := w.options.Inbox.Pending()
	require.NoError(t, err)
	require.Empty(t, pending, "nothing was kept")
	require.Contains(t, textOf(t, w.send(w.App, good()).Body.String()), "Reported", "and what is Slack's is")
}

func TestTheSignatureIsOfTheBytesAsTheyCame(t *testing.T) {
	w := newWorld(t)
	c := w.slash(alice, "report awsiam "+keyID)
	signed := c.body
	c.body = strings.Replace(c.body, "report", "%72eport", 1) // the same form, other bytes
	require.NotEqual(t, signed, c.body)
	r := c
	r.sign = "v0=" + strings.Repeat("0", 64)
	require.Equal(t, http.StatusUnauthorized, w.send(w.App, r).Code)
	require.Equal(t, http.StatusOK, w.send(w.App, c).Code)
}

func TestARequestIsTakenOnce(t *testing.T) {
	w := newWorld(t)
	c := w.slash(alice, "report awsiam "+keyID)
	require.Contains(t, textOf(t, w.send(w.App, c).Body.String()), "Reported")
	c.at = c.at.Add(time.Second) // a repeat that is signed anew is the same request all the same
	require.Contains(t, textOf(t, w.send(w.App, c).Body.String()), "taken this very request before")
	require.Contains(t, textOf(t, w.send(w.start(t), c).Body.String()), "taken this very request before", "by another replica too")
	require.Len(t, w.reports(), 1)
	require.Equal(t, int64(1), w.Refusals()["replayed"])
	require.Contains(t, textOf(t, w.send(w.App, w.slash(alice, "report awsiam "+keyID)).Body.String()), "Reported", "typing it again is another one")
}

func TestReport(t *testing.T) {
	w := newWorld(t)
	require.Contains(t, w.typed(t, alice, "report awsiam "+keyID+" severity=critical confidence=confirmed account=prod seen on GitHub &amp; a paste"), known)
	require.Contains(t, w.typed(t, reader, "report awsiam/user-access-key "+keyID), known)
	require.Len(t, w.reports(), 2)
	r := w.reports()[0]
	require.Equal(t, []string{"awsiam", "prod", keyID, "critical", "confirmed", "seen on GitHub & a paste"}, []string{r.Provider, r.Account, r.KeyID, r.Severity, r.Confidence, r.Reason})
	require.Regexp(t, `^sl-[0-9a-f]{40}$`, r.Nonce)
	require.Empty(t, r.Copies)
	require.Equal(t, "alice", w.callers[0].Actor, "a person is one person whatever the channel")
	require.Equal(t, "slack:"+team+"/"+reader, w.callers[1].Actor)
	require.Equal(t, "slack", w.callers[0].Source)
	require.Equal(t, "chat", w.callers[0].SourceKind)
}

func TestWhoMayWhat(t *testing.T) {
	w := newWorld(t)
	for user, want := range map[string]string{
		"U0NOBODY": "does not know you", "U0GUEST": "Guests of this workspace", "U0ULTRA": "Guests of this workspace", "U0BOT": "not to bots",
		"U0GONE": "closed", "U0OTHER": "another organisation", "U0STRANGE": "another organisation", "U0UNCONF": "does not know you", "U0LIKE": "does not know you",
	} {
		for _, text := range []string{"list", "status " + known, "report awsiam " + keyID, "approve " + known + " a1", "help", "nonsense"} {
			got := w.typed(t, user, text)
			require.Contains(t, got, want, user+" "+text)
			require.NotContains(t, got, keyID)
			require.NotContains(t, got, known, "nothing is told to them")
		}
	}
	require.Empty(t, w.reports())
	require.Empty(t, w.decisions())
	require.Positive(t, w.Refusals()["guest"])
	require.Contains(t, w.log.String(), `"reason":"stranger"`)
	for _, user := range []string{reader, "U0MAIL"} {
		require.Contains(t, w.typed(t, user, "status "+known), keyID)
		require.Contains(t, w.typed(t, user, "approve "+known+" a1"), "votes and holds are for the people named in rekey.yaml")
		require.Contains(t, w.typed(t, user, "hold "+known+" all because"), "votes and holds")
	}
	require.Empty(t, w.decisions())
	require.Contains(t, w.typed(t, alice, "help"), "You are alice (commander, security)")
}

func TestWhoSlackDoesNotShowUsIsAStranger(t *testing.T) {
	w := newWorld(t)
	for range 3 {
		require.Contains(t, w.typed(t, "U0HIDDEN", "report awsiam "+keyID), "another organisation")
	}
	w.idle(t) // and is not asked about for as long as a report waits
	require.Empty(t, w.reports())
}

func TestWhatMustWaitKeepsNobodyElseWaiting(t *testing.T) {
	// Twice as many reports as there are hands wait for an engine that refuses them all
	// the time; votes are among them, wherever their names stand in the inbox.
	const reports, votes = 130, 30
	w := newWorld(t)
	w.set(func() { w.down = errors.New("connection refused") })
	for range reports {
		w.send(w.App, w.slash(alice, "report awsiam "+keyID))
	}
	for range votes {
		w.send(w.App, w.slash(bob, "approve "+known+" a1"))
	}
	require.Len(t, mustPending(t, w), reports+votes)
	w.set(func() { w.votesOnly = true })
	running(t, w.App)
	require.Eventually(t, func() bool { return len(w.decisions()) == votes }, 90*time.Second, 20*time.Millisecond, "votes among reports that wait")
	require.Empty(t, w.reports())
}

func TestWhoCannotBeToldIsNobody(t *testing.T) {
	w := newWorld(t)
	w.vendor.mu.Lock()
	w.vendor.down = true
	w.vendor.mu.Unlock()
	require.Contains(t, w.typed(t, alice, "list"), "could not ask Slack who you are")
	require.Contains(t, w.typed(t, reader, "list"), "could not ask Slack who you are")
}

func TestSlackIsAskedOnceAMinute(t *testing.T) {
	w := newWorld(t)
	for range 3 {
		w.typed(t, reader, "list")
	}
	require.Equal(t, 1, w.vendor.count("/api/users.info"))
	require.Equal(t, 1, w.vendor.count("/api/usergroups.users.list"))
	w.skew.Store(int64(61 * time.Second))
	w.vendor.mu.Lock()
	w.vendor.users[reader] = person(reader, map[string]any{"is_restricted": true})
	w.vendor.mu.Unlock()
	require.Contains(t, w.typed(t, reader, "list"), "Guests", "what was true a minute ago is asked again")
}

func TestReading(t *testing.T) {
	w := newWorld(t)
	status := w.typed(t, alice, "status "+known)
	for _, want := range []string{known, "waiting", keyID, "Vote wanted a1", wave, "/rekey approve " + known + " a1"} {
		require.Contains(t, status, want)
	}
	require.Contains(t, w.typed(t, alice, "list"), known)
	require.Contains(t, w.typed(t, alice, "plan "+known), "no plan yet")
	missing := w.typed(t, alice, "status inc-ffffffffffff")
	require.Contains(t, missing, "no such incident")
	require.Contains(t, missing, known, "and those there are")
	require.Contains(t, w.typed(t, alice, "plan awsiam "+keyID), "rekey plan", "a server without read identities says where to ask")
}

func TestWrongInputSaysWhatToType(t *testing.T) {
	w := newWorld(t)
	for text, want := range map[string]string{
		"": "What you can type", "raport awsiam " + keyID: "did you mean `report`", "report": "/rekey report PROVIDER", "report awsiam": "public id is missing",
		"status": "say which incident", "status inc-1": "inc- and 12", "approve " + known: "/rekey approve " + known + " a1", "deny " + known + " a1": "needs a reason",
		"hold " + known + " aaaaaaaaaaaa": "needs a reason", "hold " + known + " all until=99y x": "at most 30d", "release " + known: "name the hold",
		"restore " + known: "command line", "resolve x": "command line", "close x": "command line", "list everything": "states are",
		"report awsiam " + keyID + " severty=high": "did you mean severity=?",
	} {
		require.Contains(t, w.typed(t, alice, text), want, text)
	}
	require.Empty(t, w.reports())
	require.Empty(t, w.decisions())
}

func TestHostileTextInEveryField(t *testing.T) {
	w := newWorld(t)
	hostile := "<!channel> <@U0BOB> <https://evil.test|click> *bold* `code` \x00\x07\x1b[31m \u202egnp.exe\u202c \u200b" + strings.Repeat("A", 3000)
	w.view.Items[0].Open.Why, w.view.Items[0].KeyID, w.view.Severity = hostile, hostile, hostile
	w.view.Approvals[0].What = hostile
	check := func(body string) {
		got := textOf(t, body)
		for _, bad := range []string{"\u202e", "\x00", "\x1b", "\u200b"} {
			require.NotContains(t, got, bad)
		}
		require.Less(t, len(body), 20<<10, "Socket Mode drops what is larger")
	}
	check(w.send(w.App, w.slash(alice, "status "+known)).Body.String())
	for _, text := range []string{hostile, "report " + hostile, "report awsiam " + keyID + " " + hostile, "status " + hostile, "approve " + known + " " + hostile,
		"deny " + known + " a1 " + hostile, "hold " + known + " " + hostile, "hold " + known + " all " + hostile, "release " + known + " " + hostile, "plan " + hostile, "upload " + hostile, "list " + hostile} {
		rec := w.send(w.App, w.slash(alice, text))
		require.Equal(t, http.StatusOK, rec.Code)
		check(rec.Body.String())
	}
	for _, field := range []string{"user_name", "channel_id", "channel_name", "team_domain", "command"} {
		rec := w.send(w.App, w.slash(alice, "list", func(f url.Values) { f.Set(field, hostile) }))
		require.Equal(t, http.StatusOK, rec.Code, field)
		check(rec.Body.String())
	}
	for _, s := range w.decisions() {
		require.NotContains(t, s.Statement.Text, "\u202e", "nor into what is on record")
		require.NotContains(t, s.Statement.Text, "\x1b")
	}
	require.NotEmpty(t, w.decisions())
}

func TestNoAnswerGoesElsewhere(t *testing.T) {
	w := newWorld(t)
	w.Pace(20*time.Millisecond, time.Second)
	hang := make(chan struct{})
	w.set(func() { w.hang = hang })
	for _, u := range []string{
		"http://hooks.slack.com/x", "https://hooks.slack.com.evil.test/", "https://hooks.slack.com:444/", "https://u:p@hooks.slack.com/", "http://169.254.169.254/latest/",
		"file:///etc/passwd", "https://evil.test/", "//evil.test/", "gopher://hooks.slack.com/", "http://127.0.0.1:1/x",
	} {
		rec := w.send(w.App, w.slash(alice, "list", func(f url.Values) { f.Set("response_url", u) }))
		require.Contains(t, textOf(t, rec.Body.String()), "Working on it")
	}
	w.set(func() { w.hang = nil })
	close(hang)
	w.idle(t)
	require.Empty(t, w.vendor.got())
	require.Equal(t, int64(10), w.Refusals()["foreign-url"])
	require.Equal(t, 10, w.vendor.count("/api/chat.postMessage"), "they are told in a direct message")
}

func TestSlowWorkIsAcknowledgedFirst(t *testing.T) {
	w := newWorld(t)
	hang := make(chan struct{})
	w.set(func() { w.hang = hang })
	require.Less(t, slackapp.Quick, 3*time.Second, "Slack gives up after 3 s")
	w.Pace(20*time.Millisecond, time.Second)
	require.Contains(t, w.typed(t, alice, "report awsiam "+keyID), "Working on it", "while the work hangs")
	pending, err := w.options.Inbox.Pending()
	require.NoError(t, err)
	require.Len(t, pending, 1, "and it was durable before")
	close(hang)
	require.Contains(t, w.later(t, 1), "Reported")
	w.idle(t)
}

func TestEngineDown(t *testing.T) {
	w := newWorld(t)
	w.set(func() { w.down = errors.New("connection refused") })
	told := w.typed(t, alice, "report awsiam "+keyID)
	require.Contains(t, told, "kept and will be taken as soon as")
	require.Contains(t, w.typed(t, alice, "approve "+known+" a1"), "kept for 10 minutes")
	require.Contains(t, w.typed(t, alice, "status "+known), "does not answer at the moment", "what only reads is asked again by its author")
	require.NotContains(t, w.log.String(), keyID)

	running(t, w.App)
	require.Eventually(t, func() bool { p, err := w.options.Inbox.Pending(); return err == nil && len(p) == 2 }, time.Minute, 5*time.Millisecond)
	require.Empty(t, w.vendor.got(), "told once, not at each attempt")
	w.set(func() { w.down = nil })
	w.idle(t)
	require.Len(t, w.reports(), 1)
	require.Len(t, w.decisions(), 1)
	all := w.later(t, 1) + w.later(t, 2)
	require.Contains(t, all, "Reported")
	require.Contains(t, all, "Your vote for a1 is counted")
}

func TestAVoteDoesNotCountLongAfterItWasMeant(t *testing.T) {
	w := newWorld(t)
	w.set(func() { w.down = errors.New("connection refused") })
	require.Contains(t, w.typed(t, alice, "approve "+known+" a1"), "kept for 10 minutes")
	w.skew.Store(int64(11 * time.Minute))
	running(t, w.start(t))
	require.Contains(t, w.later(t, 1), "not done")
	w.idle(t)
	w.set(func() { w.down = nil })
	require.Empty(t, w.decisions())
}

func TestACrashBetweenAcknowledgementAndWorkLosesNothing(t *testing.T) {
	w := newWorld(t)
	hang := make(chan struct{})
	w.set(func() { w.hang = hang })
	dead := w.start(t)
	dead.Pace(20*time.Millisecond, 20*time.Millisecond)
	stop := running(t, dead)
	rec := w.send(dead, w.slash(alice, "report awsiam "+keyID))
	require.Contains(t, textOf(t, rec.Body.String()), "Working on it")
	go stop() // the process ends in the middle of its work
	require.Eventually(t, func() bool {
		e, err := w.options.Inbox.Take(mustPending(t, w)[0])
		if err != nil || e == nil {
			return false
		}
		e.Close()
		return true
	}, time.Minute, 50*time.Millisecond, "its lock ends with it")
	require.Empty(t, w.reports())
	w.set(func() { w.hang = nil })
	running(t, w.start(t))
	require.Contains(t, w.later(t, 1), "Reported")
	require.Len(t, w.reports(), 1)
	w.idle(t)
}

func mustPending(t *testing.T, w *world) []string {
	t.Helper()
	p, err := w.options.Inbox.Pending()
	require.NoError(t, err)
	require.NotEmpty(t, p)
	return p
}

func TestTheAnswerComesByMessageWhenItsURLHasLapsed(t *testing.T) {
	w := newWorld(t)
	w.set(func() { w.down = errors.New("connection refused") })
	w.typed(t, alice, "report awsiam "+keyID)
	w.set(func() { w.down = nil })
	w.skew.Store(int64(2 * time.Hour))
	running(t, w.start(t))
	w.idle(t)
	require.Len(t, w.reports(), 1, "a report is evidence: it is taken late rather than never")
	require.Empty(t, w.vendor.got())
	require.Len(t, w.vendor.messages(), 1)
	require.Equal(t, alice, w.vendor.messages()[0].Get("channel"))
	require.Contains(t, w.vendor.messages()[0].Get("blocks"), known)
}

func TestOptionsAreNeeded(t *testing.T) {
	_, err := slackapp.New(slackapp.Options{})
	require.Error(t, err)
}
