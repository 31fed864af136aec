package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/activities/activitytest/emulatetest"
	"rekey/activities/notify"
	"rekey/internal/view"
)

// Slack users of the test: the persons of rekey.yaml, and one whom nobody knows.
const (
	slackRita    = "U0RITA"
	slackAnn     = "U0ANN"
	slackBob     = "U0BOB"
	slackMallory = "U0MALLORY"
)

// inChat is a rig with moto as its provider, a playbook of its own that asks before
// it cuts, and emulate's Slack and GitHub as the places where incidents are followed.
func inChat(t *testing.T) (*rig, cloud, *workspace, map[string]voter) {
	t.Helper()
	c := newCloud(t)
	r := onMoto(t, c)
	w := newWorkspace(t, "http://"+r.http)
	people, yaml := newVoters(t, r, voter{name: "ann", roles: []string{"commander"}}, voter{name: "bob", roles: []string{"security"}}, voter{name: "rita", roles: []string{"responder", "commander"}})
	for name, user := range map[string]string{"ann": slackAnn, "bob": slackBob, "rita": slackRita} {
		yaml = strings.Replace(yaml, "  "+name+": {", fmt.Sprintf("  %s: {slack: %s/%s, ", name, emulatetest.Team, user), 1)
	}
	asks := strings.Replace(revokeNow, "revoke-now:   {policy: true}", "revoke-now:   {roles: [commander, security], quorum: 2, expires: 30m, on_expiry: escalate, escalate_to: [admin]}", 1)
	require.NotEqual(t, revokeNow, asks)
	file := r.write("ours.yaml", asks)
	checked := r.rekey("", "playbook", "validate", file, "--json")
	require.Zero(t, checked.code, checked.out+checked.errOut)
	digest := decode[struct{ Playbooks []struct{ Digest string } }](t, checked.out).Playbooks[0].Digest
	r.configure(yaml + fmt.Sprintf(`playbooks: {files: [%s]}
ceilings: {playbook_digests: [%q]}
channels:
  slack: {team: %s, bot_token_file: %s, signing_secret_file: %s, base_url: "%s/api/", allow_private: true}
  github: {token_file: %s, base_url: %q, allow_private: true}
record:
  slack: {channel: "#%s"}
  github: {repo: %s, labels: [key-compromise]}
`, file, digest, emulatetest.Team, r.write("slack-bot", w.behind.SlackToken+"\n"), r.write("slack-signing", w.signing+"\n"), w.URL,
		r.write("github", w.behind.GitHubToken+"\n"), w.behind.GitHub, emulatetest.Channel, emulatetest.Repo))
	r.up()
	return r, c, w, people
}

var incidentRE = regexp.MustCompile(`inc-[0-9a-f]{12}`)

// button finds a button of the card that is open for votes on an approval.
func (w *workspace) button(id string) (value string) {
	w.t.Helper()
	require.Eventually(w.t, func() bool {
		_, messages := w.channel()
		for _, m := range messages {
			for _, v := range buttons(w.t, m.Blocks) {
				if _, approval, _, ok := notify.ParseButton(v); ok && approval == id {
					value = v
				}
			}
		}
		return value != ""
	}, patience, 200*time.Millisecond, "the card never showed a button for %s", id)
	return value
}

// buttons gives the values of all approve buttons of a message.
func buttons(t *testing.T, blocks json.RawMessage) []string {
	t.Helper()
	var out []string
	var walk func(any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if v["action_id"] == notify.ActionApprove {
				s, _ := v["value"].(string)
				out = append(out, s)
			}
			for _, x := range v {
				walk(x)
			}
		case []any:
			for _, x := range v {
				walk(x)
			}
		}
	}
	var v any
	if len(blocks) > 0 {
		require.NoError(t, json.Unmarshal(blocks, &v))
	}
	walk(v)
	return out
}

// An issue of GitHub, as far as the tests look.
type issue struct {
	Number   int    `json:"number"`
	State    string `json:"state"`
	Title    string `json:"title"`
	Body     string `json:"body"`
	Comments int    `json:"comments"`
}

func (w *workspace) issues() []issue {
	w.t.Helper()
	return ask[[]issue](w.t, http.MethodGet, w.behind.GitHub+"repos/"+emulatetest.Repo+"/issues?state=all", w.behind.GitHubToken, nil)
}

// TestAResponseFromSlack is a whole response of a team in its chat: reported,
// planned and approved there, with the one vote outside that what cannot be undone
// needs; followed in a card, a thread and an issue.
func TestAResponseFromSlack(t *testing.T) {
	t.Parallel() // it mostly waits
	r, c, w, people := inChat(t)

	require.Contains(t, strings.ToLower(w.types(slackRita, "help")), "report")
	require.NotContains(t, w.types(slackMallory, "list"), "inc-", "who is nobody is told nothing")
	said := w.types(slackRita, "report awsiam "+c.keyID+" confidence=confirmed reason=in a public repository")
	id := incidentRE.FindString(said)
	require.NotEmpty(t, id, said)
	// Temporal's index has an incident a moment after it was started.
	require.Eventually(t, func() bool { return strings.Contains(w.types(slackRita, "list"), id) }, patience, time.Second, "the list never had it")

	v := r.until(id, "the question about the strategy", func(v view.Incident) bool { _, ok := open(v, "strategy"); return ok })
	require.Equal(t, "rita", v.Reports[0].Actor, "who reports in Slack is the person of rekey.yaml")
	require.Equal(t, "slack", v.Reports[0].Source)
	q, _ := open(v, "strategy")
	require.Contains(t, w.types(slackAnn, "plan "+id), q.WaveHash[7:19], "what is voted on is shown")
	require.Contains(t, w.types(slackAnn, "status "+id), id)

	press := w.button(q.ID)
	require.Equal(t, notify.ButtonValue(id, q.ID, q.WaveHash), press)
	require.Contains(t, w.press(slackRita, notify.ActionApprove, press), "reported", "no approval of what one reported")
	require.NotContains(t, w.press(slackMallory, notify.ActionApprove, press), "counts")
	w.press(slackAnn, notify.ActionApprove, press)
	v = r.until(id, "ann's vote", func(v view.Incident) bool { q, _ := open(v, "strategy"); return len(q.Votes) == 1 })
	q, _ = open(v, "strategy")
	require.Equal(t, "ann", q.Votes[0].Actor)
	require.Equal(t, "slack", q.Votes[0].Auth)
	refused(t, r.rekey("", "incident", "approve", id, "--wave", q.WaveHash, "--approval", q.ID, "--identity", people["ann"].identity, "--json"), 1, view.CodeAlreadyVoted)
	require.Equal(t, "Active", c.keys(t, "payments-ci")[c.keyID], "nothing moves before the second vote")
	w.types(slackBob, "approve "+id+" "+q.ID)

	v = r.until(id, "the question for Revoke", func(v view.Incident) bool { _, ok := open(v, "irreversible"); return ok })
	q, _ = open(v, "irreversible")
	press = w.button(q.ID)
	w.press(slackAnn, notify.ActionApprove, press)
	v = r.until(id, "ann's vote for Revoke", func(v view.Incident) bool { q, _ := open(v, "irreversible"); return len(q.Votes) == 1 })
	require.Contains(t, c.keys(t, "payments-ci"), c.keyID)
	o := r.rekey("", "incident", "approve", id, "--wave", q.WaveHash, "--approval", q.ID, "--identity", people["bob"].identity, "--json")
	require.Zero(t, o.code, o.out+o.errOut)

	v = r.until(id, "its end", func(v view.Incident) bool { return v.State == "all-clear" && v.Bundle != nil && v.Bundle.Digest != "" })
	require.Equal(t, "revoked-verified", v.Items[0].EndState)
	require.False(t, c.Works(t, c.keyID, c.secret))
	codes := map[string]bool{}
	for _, x := range v.Refusals {
		codes[x.Actor+" "+x.Code] = true
	}
	require.True(t, codes["rita "+view.CodeSelfApproval], "%v", v.Refusals)
	require.True(t, codes["ann "+view.CodeAlreadyVoted], "%v", v.Refusals)

	// The card is one message, changed in place; its thread tells the story in order.
	t.Cleanup(func() {
		if t.Failed() {
			_, all := w.channel()
			for _, m := range all {
				t.Logf("Slack %s in %q: %s\n%s", m.TS, m.ThreadTS, m.Text, m.Blocks)
			}
			t.Logf("GitHub: %+v", w.issues())
		}
	})
	var card posted
	channel := ""
	require.Eventually(t, func() bool {
		var all []posted
		channel, all = w.channel()
		var cards []posted
		for _, m := range all {
			if m.ThreadTS == "" || m.ThreadTS == m.TS {
				cards = append(cards, m)
			}
		}
		if len(cards) == 1 {
			card = cards[0]
		}
		return len(cards) == 1 && strings.Contains(card.Text, "ALL CLEAR")
	}, patience, 500*time.Millisecond, "one card, and it says ALL CLEAR")
	require.Empty(t, buttons(t, card.Blocks), "nothing is left to press")
	// The card is ahead of the thread: it is drawn as things are, the thread in order.
	var story strings.Builder
	require.Eventually(t, func() bool {
		story.Reset()
		for _, m := range w.thread(channel, card.TS) {
			story.WriteString(m.Text + "\n")
		}
		return strings.Contains(story.String(), "all-clear")
	}, patience, 500*time.Millisecond, "the thread is told to its end")
	t.Logf("thread:\n%s", story.String())
	last := -1
	for _, turn := range []string{"ann", "bob", "dead", "all-clear"} {
		at := strings.Index(story.String(), turn)
		require.Greater(t, at, last, "%q comes after what was before:\n%s", turn, story.String())
		last = at
	}
	var is issue
	require.Eventually(t, func() bool {
		all := w.issues()
		if len(all) == 1 {
			is = all[0]
		}
		return len(all) == 1 && is.State == "closed" && strings.Contains(is.Body, r.show(id).Bundle.Digest) && !strings.Contains(is.Body, "- [ ]")
	}, patience, 500*time.Millisecond, "one issue, closed with the last bundle's digest and every task done")
	require.Contains(t, is.Title, id)

	bundle := filepath.Join(r.dir, "incident.zip")
	require.Zero(t, r.rekey("", "audit", "export", id, "-o", bundle).code)
	require.Zero(t, r.rekey("", "audit", "verify", bundle).code)
	keep(t, bundle)
	seen := r.logged() + story.String() + is.Body + string(card.Blocks)
	for name, secret := range map[string]string{"leaked": c.secret, "bot token": w.behind.SlackToken, "signing secret": w.signing, "GitHub token": w.behind.GitHubToken} {
		require.NotContains(t, seen, secret, name)
	}
}

// TestChatIsDownAndNothingWaits: with Slack away the key is cut as ever, and what
// happened is told afterwards, once.
func TestChatIsDownAndNothingWaits(t *testing.T) {
	t.Parallel()
	r, c, w, people := inChat(t)
	w.pull(true)
	id := r.report(c.keyID, "--reason", "in a public repository", "--confidence", "confirmed")
	vote := func(name string) {
		v := r.until(id, name, func(v view.Incident) bool { _, ok := open(v, name); return ok })
		q, _ := open(v, name)
		for _, who := range []string{"ann", "bob"} {
			o := r.rekey("", "incident", "approve", id, "--wave", q.WaveHash, "--approval", q.ID, "--identity", people[who].identity, "--json")
			require.Zero(t, o.code, o.out+o.errOut)
		}
	}
	vote("strategy")
	vote("irreversible")
	r.until(id, "its item dead", func(v view.Incident) bool { return v.Items[0].Death.State == "dead" })
	_, before := w.channel()
	require.Empty(t, before, "Slack heard nothing yet")
	w.pull(false)
	r.until(id, "its end", func(v view.Incident) bool { return v.State == "all-clear" && v.Bundle != nil })
	var story []string
	require.Eventually(t, func() bool {
		channel, all := w.channel()
		story = nil
		for _, m := range all {
			if m.ThreadTS == "" || m.ThreadTS == m.TS {
				for _, line := range w.thread(channel, m.TS) {
					story = append(story, line.Text)
				}
			}
		}
		return strings.Contains(strings.Join(story, "\n"), "all-clear")
	}, patience, time.Second)
	once := map[string]bool{}
	for _, line := range story {
		if strings.HasPrefix(line, "Phase:") {
			continue // an incident may come back to a phase
		}
		require.False(t, once[line], "told twice: %s\n%s", line, strings.Join(story, "\n"))
		once[line] = true
	}
}
