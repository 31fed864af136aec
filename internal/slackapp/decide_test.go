package slackapp_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/activities/notify"
	"rekey/internal/server"
	"rekey/internal/slackapp"
	"rekey/internal/statement"
	"rekey/internal/view"
	"rekey/workflows"
)

func refused(code string) func(statement.Signed) (workflows.Decision, error) {
	return func(statement.Signed) (workflows.Decision, error) {
		return workflows.Decision{}, &server.Refused{Body: view.ErrorBody{Code: code, Message: "said the incident", Do: "`rekey incident show`"}}
	}
}

// bySlack checks that a statement is what the workflow accepts of the server.
func (w *world) bySlack(t *testing.T, s statement.Signed, person string) {
	t.Helper()
	require.Equal(t, statement.MethodSlack, s.Statement.Method)
	require.Equal(t, person, s.Statement.Actor)
	require.Equal(t, known, s.Statement.Incident)
	require.Regexp(t, `^sl-[0-9a-f]{40}$`, s.Statement.Nonce)
	require.LessOrEqual(t, s.Statement.Expires.Sub(s.Statement.Issued), 10*time.Minute)
	require.WithinDuration(t, time.Now(), s.Statement.Issued, time.Minute)
	key, err := base64.StdEncoding.DecodeString(w.server.ServerKeys[0])
	require.NoError(t, err)
	require.NoError(t, s.Verify(key), "signed with the key that incidents pin")
}

func TestVotesByCommand(t *testing.T) {
	for _, text := range []string{
		"approve " + known + " a1", "approve " + known + " " + wave, "approve incident/" + strings.ToUpper(known) + " " + wave[:25] + " looks right", "APPROVE " + known + " `a1`",
	} {
		t.Run(text, func(t *testing.T) {
			w := newWorld(t)
			require.Contains(t, w.typed(t, bob, text), "Your vote for a1 is counted: 1 of 2")
			require.Len(t, w.decisions(), 1)
			s := w.decisions()[0]
			w.bySlack(t, s, "bob")
			require.Equal(t, []string{"approve", "a1", wave, "approver"}, []string{s.Statement.Action, s.Statement.Approval, s.Statement.WaveHash, s.Statement.Role}, "bound to the question and its wave")
		})
	}
}

func TestAVoteWithoutItsQuestionIsNone(t *testing.T) {
	w := newWorld(t)
	w.view.Approvals = append(w.view.Approvals, view.Approval{ID: "a2", What: "Revoke", WaveHash: wave, State: "open", Needed: 2, Roles: []string{"security"}})
	for _, text := range []string{"approve " + known, "approve " + known + " a9", "approve " + known + " " + strings.Repeat("e", 12), "approve " + known + " " + wave} {
		got := w.typed(t, bob, text)
		require.Contains(t, got, "/rekey approve "+known+" a1", text)
		require.Contains(t, got, "/rekey approve "+known+" a2", text)
	}
	require.Empty(t, w.decisions())
}

func TestAStaleHashIsForTheIncidentToRefuse(t *testing.T) {
	w := newWorld(t)
	w.decide = refused(view.CodeStalePlan)
	stale := "sha256:" + strings.Repeat("e", 64)
	require.Contains(t, w.typed(t, bob, "approve "+known+" "+stale), "The plan has changed")
	require.Len(t, w.decisions(), 1, "it was asked, so that it is on record")
	require.Equal(t, stale, w.decisions()[0].Statement.WaveHash)
}

func TestOtherDecisions(t *testing.T) {
	w := newWorld(t)
	require.Contains(t, w.typed(t, bob, "deny "+known+" a1 wrong account"), "against a1 is counted")
	require.Contains(t, w.typed(t, alice, "hold "+known+" AAAAAAAAAAAA, "+keyID+" until=2h payroll runs"), "On hold (hold1): 2 item(s)")
	require.Contains(t, w.typed(t, alice, "hold "+known+" all court order"), "On hold")
	require.Contains(t, w.typed(t, alice, "hold "+known+" bbbbbbbbbbbb why not"), "not in this incident; nothing was held")
	require.Contains(t, w.typed(t, alice, "release "+known+" hold1 done"), "Released")
	var got []statement.Statement
	for _, s := range w.decisions() {
		w.bySlack(t, s, s.Statement.Actor)
		got = append(got, s.Statement)
	}
	require.Len(t, got, 4)
	require.Equal(t, "wrong account", got[0].Text)
	require.Equal(t, []string{itemFP, itemFP}, got[1].Items)
	require.Equal(t, 2*time.Hour, got[1].Until.Sub(got[1].Issued))
	require.Equal(t, []string{itemFP}, got[2].Items)
	require.Equal(t, 4*time.Hour, got[2].Until.Sub(got[2].Issued), "a hold always ends")
	require.Equal(t, []string{"release", "hold1", "done"}, []string{got[3].Action, got[3].Task, got[3].Text})
}

func TestEveryRefusalIsSaidInWords(t *testing.T) {
	for code, want := range map[string]string{
		view.CodeSelfApproval: "Somebody else must vote", view.CodeStalePlan: "Look at it again", view.CodeWrongRole: "Your roles do not cover",
		view.CodeAlreadyVoted: "One person, one vote", view.CodeExpired: "Do it again", view.CodeNoOpenApproval: "Nothing is open", view.CodeNotFound: "no such item",
		view.CodeClosed: "report the key again", view.CodeHeld: "on hold", view.CodeForged: "command line", view.CodeWrongChannel: "command line", "new-code": "said the incident",
	} {
		t.Run(code, func(t *testing.T) {
			w := newWorld(t)
			w.decide = refused(code)
			require.Contains(t, w.typed(t, alice, "approve "+known+" a1"), want)
			require.Equal(t, int64(1), w.Refusals()[code], "and counted")
			require.Contains(t, w.log.String(), `"reason":"`+code+`"`, "and logged")
		})
	}
}

func TestALostAnswerIsNoSecondVote(t *testing.T) {
	w := newWorld(t)
	lost := true
	nonces := map[string]bool{}
	w.decide = func(s statement.Signed) (workflows.Decision, error) {
		if nonces[s.Statement.Nonce] {
			return refused(view.CodeReplayed)(s)
		}
		nonces[s.Statement.Nonce] = true
		w.view.Approvals[0].Votes = []view.Vote{{Actor: "bob", Vote: "approve", Auth: "slack"}}
		if lost {
			lost = false
			return workflows.Decision{}, errors.New("deadline exceeded")
		}
		return workflows.Decision{State: "open"}, nil
	}
	require.Contains(t, w.typed(t, bob, "approve "+known+" a1"), "kept for 10 minutes")
	running(t, w.App)
	require.Contains(t, w.later(t, 1), "Your vote (approve) on a1 is counted: 1 of 2")
	require.Len(t, nonces, 1, "the same request has the same nonce")
}

func TestARequestOnWhichRekeyFailsIsOver(t *testing.T) {
	w := newWorld(t)
	w.decide = func(statement.Signed) (workflows.Decision, error) { panic("a secret of the caller") }
	require.Contains(t, w.typed(t, bob, "approve "+known+" a1"), "rekey failed on this request")
	w.idle(t)
	require.NotContains(t, w.log.String(), "a secret of the caller")
	require.Contains(t, w.typed(t, bob, "list"), known)
}

func TestVotesThatMustComeFromOutside(t *testing.T) {
	w := newWorld(t)
	w.view.Approvals[0].Outside = 1
	require.Contains(t, w.typed(t, bob, "approve "+known+" a1"), "must come from outside of Slack")
}

func TestTheApproveButton(t *testing.T) {
	w := newWorld(t)
	rec := w.send(w.App, w.click(bob, notify.ActionApprove, notify.ButtonValue(known, "a1", wave)))
	require.Equal(t, http.StatusOK, rec.Code)
	require.Empty(t, rec.Body.String(), "Slack shows no answer to a click")
	require.Contains(t, w.later(t, 1), "Your vote for a1 is counted")
	require.Len(t, w.decisions(), 1)
	w.bySlack(t, w.decisions()[0], "bob")
	require.Equal(t, wave, w.decisions()[0].Statement.WaveHash, "the wave as the card showed it")

	for user, want := range map[string]string{"U0NOBODY": "does not know you", reader: "votes and holds", "U0GUEST": "Guests"} {
		n := len(w.vendor.got())
		w.send(w.App, w.click(user, notify.ActionApprove, notify.ButtonValue(known, "a1", wave)))
		require.Contains(t, w.later(t, n+1), want)
	}
	n := len(w.vendor.got())
	w.send(w.App, w.click(bob, notify.ActionApprove, "v9:something else"))
	require.Contains(t, w.later(t, n+1), "not one of this version")
	w.send(w.App, w.click(bob, notify.ActionApprove, notify.ButtonValue(known, "a1", wave), func(p map[string]any) { p["user"].(map[string]any)["team_id"] = "T0OTHER" }))
	require.Contains(t, w.later(t, n+2), "another organisation", "a Slack Connect user in a shared channel")
	require.Len(t, w.decisions(), 1)
}

func TestButtonsInAnOrganisation(t *testing.T) {
	// One workspace of an organisation: Slack names the organisation as the user's team.
	w := newWorld(t)
	inOrg := func(p map[string]any) { p["user"].(map[string]any)["team_id"] = "E0ORG" }
	w.send(w.App, w.click(bob, notify.ActionApprove, notify.ButtonValue(known, "a1", wave), inOrg))
	require.Contains(t, w.later(t, 1), "Your vote for a1 is counted")
	w.send(w.App, w.click("U0OTHER", notify.ActionApprove, notify.ButtonValue(known, "a1", wave), inOrg))
	require.Contains(t, w.later(t, 2), "another organisation", "users.info tells whose they are")

	// The whole organisation: the workspace of the click comes along.
	w = newWorld(t, func(o *slackapp.Options) {
		o.Config.Channels.Slack.Team = "E0ORG"
		p := o.Config.People["bob"]
		p.Slack = "E0ORG/" + bob
		o.Config.People["bob"] = p
	})
	w.vendor.mu.Lock()
	w.vendor.users[bob] = person(bob, map[string]any{"enterprise_user": map[string]any{"enterprise_id": "E0ORG"}})
	w.vendor.mu.Unlock()
	w.send(w.App, w.click(bob, notify.ActionApprove, notify.ButtonValue(known, "a1", wave), func(p map[string]any) {
		inOrg(p)
		p["is_enterprise_install"], p["enterprise"] = true, map[string]any{"id": "E0ORG", "name": "Org"}
	}))
	require.Contains(t, w.later(t, 1), "Your vote for a1 is counted")
	// A workspace of another organisation, or none, does not become ours by naming it.
	c := w.click(bob, notify.ActionApprove, notify.ButtonValue(known, "a1", wave), func(p map[string]any) { p["enterprise"] = map[string]any{"id": "E0ORG"} })
	require.Equal(t, http.StatusForbidden, w.send(w.App, c).Code)
	require.Len(t, w.decisions(), 1)
}

func TestInteractionsThatAreNotOurs(t *testing.T) {
	w := newWorld(t)
	require.Equal(t, http.StatusOK, w.send(w.App, w.click(bob, "a_link", "x")).Code)
	require.Equal(t, http.StatusOK, w.send(w.App, w.click(bob, "x", "x", func(p map[string]any) { p["type"] = "view_closed" })).Code)
	require.Equal(t, http.StatusForbidden, w.send(w.App, w.click(bob, notify.ActionApprove, "x", func(p map[string]any) { p["team"] = map[string]any{"id": "T0OTHER"} })).Code)
	for _, payload := range []string{"", "{", "[]", `{"type":5}`, `{"type":"block_actions"}`} {
		c := w.click(bob, "x", "x")
		c.body = url.Values{"payload": {payload}}.Encode()
		require.Equal(t, http.StatusBadRequest, w.send(w.App, c).Code, payload)
	}
	c := w.click(bob, notify.ActionApprove, strings.Repeat("x", 300<<10))
	require.Equal(t, http.StatusRequestEntityTooLarge, w.send(w.App, c).Code)
	p, err := w.options.Inbox.Pending()
	require.NoError(t, err)
	require.Empty(t, p)
	require.Empty(t, w.decisions())
}

// submit is a payload of view_submission for the modal that was opened
// (https://docs.slack.dev/reference/interaction-payloads/view-interactions-payload).
func (w *world) submit(t *testing.T, user, opened, reason string) call {
	t.Helper()
	var asked struct {
		View struct {
			CallbackID      string `json:"callback_id"`
			PrivateMetadata string `json:"private_metadata"`
			Blocks          []struct {
				Type    string
				BlockID string `json:"block_id"`
				Element struct {
					ActionID string `json:"action_id"`
				}
			}
		}
	}
	require.NoError(t, json.Unmarshal([]byte(opened), &asked))
	input := asked.View.Blocks[len(asked.View.Blocks)-1]
	require.Equal(t, "input", input.Type)
	return w.click(user, "", "", func(p map[string]any) {
		delete(p, "actions")
		delete(p, "response_url")
		delete(p, "channel")
		p["type"] = "view_submission"
		p["view"] = map[string]any{
			"id": "V1", "hash": "1.x", "callback_id": asked.View.CallbackID, "private_metadata": asked.View.PrivateMetadata,
			"state": map[string]any{"values": map[string]any{input.BlockID: map[string]any{input.Element.ActionID: map[string]any{"type": "plain_text_input", "value": reason}}}},
		}
	})
}

func TestTheDenyButtonAsksWhy(t *testing.T) {
	w := newWorld(t)
	hang := make(chan struct{})
	w.set(func() { w.hang = hang }) // the engine is slow; the modal does not wait for it
	rec := w.send(w.App, w.click(bob, notify.ActionDeny, notify.ButtonValue(known, "a1", wave)))
	require.Equal(t, http.StatusOK, rec.Code)
	w.idle(t)
	require.Len(t, w.vendor.modals(), 1)
	require.Empty(t, w.decisions())
	require.Zero(t, w.vendor.count("/api/users.info"), "nothing slow before a trigger_id lapses")
	w.set(func() { w.hang = nil })

	rec = w.send(w.App, w.submit(t, bob, w.vendor.modals()[0], "the wrong\naccount"))
	require.Equal(t, http.StatusOK, rec.Code)
	require.Empty(t, rec.Body.String(), "an empty answer closes the modal")
	require.Contains(t, w.later(t, 1), "against a1 is counted")
	require.Len(t, w.decisions(), 1)
	w.bySlack(t, w.decisions()[0], "bob")
	require.Equal(t, []string{"deny", "a1", wave, "the wrong account"}, []string{w.decisions()[0].Statement.Action, w.decisions()[0].Statement.Approval, w.decisions()[0].Statement.WaveHash, w.decisions()[0].Statement.Text})

	n := len(w.vendor.got())
	w.send(w.App, w.submit(t, reader, w.vendor.modals()[0], "me too"))
	require.Contains(t, w.later(t, n+1), "votes and holds", "the modal's answer is checked like every request")
	w.send(w.App, w.submit(t, bob, w.vendor.modals()[0], "  "))
	require.Contains(t, w.later(t, n+2), "needs a reason")
	require.Len(t, w.decisions(), 1)
}

func TestTheDenyButtonOfOthersOpensNothing(t *testing.T) {
	w := newWorld(t)
	w.send(w.App, w.click("U0NOBODY", notify.ActionDeny, notify.ButtonValue(known, "a1", wave)))
	require.Contains(t, w.later(t, 1), "does not know you")
	require.Empty(t, w.vendor.modals())
}

func TestAModalThatCannotBeOpenedSaysWhatToType(t *testing.T) {
	w := newWorld(t)
	w.vendor.mu.Lock()
	w.vendor.down = true
	w.vendor.mu.Unlock()
	w.send(w.App, w.click(bob, notify.ActionDeny, notify.ButtonValue(known, "a1", wave)))
	require.Eventually(t, func() bool { return w.vendor.count("/api/views.open") > 0 }, time.Minute, time.Millisecond)
	w.vendor.mu.Lock()
	w.vendor.down = false
	w.vendor.mu.Unlock()
	require.Contains(t, w.later(t, 1), "/rekey deny "+known+" a1")
}
