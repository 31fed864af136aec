package workflows_test

import (
	"crypto/ed25519"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/activities"
	"rekey/internal/event"
	"rekey/internal/statement"
	"rekey/internal/view"
	"rekey/workflows"
)

// by makes a statement of a person and signs it with a key.
func (w *world) by(k ed25519.PrivateKey, action, actor, method string, change ...func(*statement.Statement)) statement.Signed {
	w.nonce++
	s := statement.Statement{
		Action: action, Incident: w.in.ID, Actor: actor, Method: method, Nonce: fmt.Sprintf("by%d", w.nonce),
		Issued: w.env.Now(), Expires: w.env.Now().Add(5 * time.Minute),
	}
	for _, c := range change {
		c(&s)
	}
	out, err := statement.Sign(s, k)
	require.NoError(w.t, err)
	return out
}

// ballot binds a statement to the first open question.
func ballot(v view.Incident) func(*statement.Statement) {
	return func(s *statement.Statement) {
		for _, a := range v.Approvals {
			if a.State == "open" {
				s.WaveHash, s.Approval = a.WaveHash, a.ID
				return
			}
		}
	}
}

// The server speaks for a person only in a channel where the configuration names
// them, only as that channel, and nobody else may say that they are that channel.
func TestWhoMaySignForChat(t *testing.T) {
	for name, tt := range map[string]struct {
		actor, method string
		key           func(*world) ed25519.PrivateKey
		code          string
	}{
		"the server, for a person named in Slack":     {actor: "alice", method: "slack", key: func(w *world) ed25519.PrivateKey { return w.server }},
		"the server, for a person not named there":    {actor: "dora", method: "slack", key: func(w *world) ed25519.PrivateKey { return w.server }, code: "forged"},
		"the server, as the server":                   {actor: "alice", method: "server", key: func(w *world) ed25519.PrivateKey { return w.server }, code: "forged"},
		"the server, as the person's own key":         {actor: "alice", method: "cli-key", key: func(w *world) ed25519.PrivateKey { return w.server }, code: "forged"},
		"the person's own key, as Slack":              {actor: "alice", method: "slack", key: func(w *world) ed25519.PrivateKey { return w.voters["alice"] }, code: "forged"},
		"another server":                              {actor: "alice", method: "slack", key: func(w *world) ed25519.PrivateKey { return w.signer() }, code: "forged"},
		"a person not named in Slack, with their key": {actor: "dora", method: "cli-key", key: func(w *world) ed25519.PrivateKey { return w.voters["dora"] }},
	} {
		t.Run(name, func(t *testing.T) {
			w := asked(t, func(w *world) {
				w.person("dora", "commander")
				w.set.People[len(w.set.People)-1].Methods = nil
			})
			var got *answer
			w.at(time.Minute, func() {
				got = w.update(w.by(tt.key(w), statement.Approve, tt.actor, tt.method, ballot(w.show())))
			})
			w.until(2 * time.Minute)
			v := w.run()
			require.Equal(t, tt.code, got.code)
			if tt.code == "" {
				require.NoError(t, got.err)
				require.Len(t, v.Approvals[0].Votes, 1)
				require.Equal(t, tt.method, v.Approvals[0].Votes[0].Auth)
				return
			}
			require.Empty(t, v.Approvals[0].Votes)
			require.Equal(t, 1, w.count(event.EventRefused, tt.code))
		})
	}
}

func TestWhatChatMayDo(t *testing.T) {
	for action, code := range map[string]string{
		statement.Approve: "", statement.Deny: "", statement.Hold: "", statement.Release: "not-found", statement.Note: "",
		statement.Resolve: "wrong-channel", statement.Restore: "wrong-channel", statement.Close: "wrong-channel",
	} {
		t.Run(action, func(t *testing.T) {
			w := asked(t)
			var got *answer
			w.at(time.Minute, func() {
				got = w.update(w.by(w.server, action, "alice", "slack", ballot(w.show()), func(s *statement.Statement) {
					s.Text, s.Until, s.As = "because", w.env.Now().Add(time.Hour), "accepted-risk"
					s.Items = []string{"AKIA-1"}
				}))
			})
			w.until(2 * time.Minute)
			w.run()
			require.Equal(t, code, got.code, "%v", got.err)
			if code == "wrong-channel" {
				require.ErrorContains(t, got.err, "chat")
				require.Equal(t, 1, w.count(event.EventRefused, code))
			}
		})
	}
}

// slackKey is a key of Slack itself.
func slackKey(rep *workflows.Report) {
	rep.Key = activities.Key{FP: fp("xoxb"), Provider: "slack", Account: "acme", Kind: "bot-token", ID: "A0123"}
}

// What is being cleaned up does not decide how: with Slack in scope its votes stop
// counting, those of open questions are taken back, and their authors may vote
// another way.
func TestSlackInScopeLosesItsVote(t *testing.T) {
	for name, tt := range map[string]struct {
		opt  option
		late func(*workflows.Report) // the report that brings it into scope
		lost bool
	}{
		"a key of Slack":                    {opt: func(*world) {}, late: slackKey, lost: true},
		"another key":                       {opt: func(*world) {}, late: func(rep *workflows.Report) { rep.Key = key("AKIA-9") }},
		"what the configuration says it is": {opt: func(w *world) { w.set.VoteRests = map[string][]string{"slack": {"AKIA-9"}} }, late: func(rep *workflows.Report) { rep.Key = key("AKIA-9") }, lost: true},
		"its account":                       {opt: func(w *world) { w.set.VoteRests = map[string][]string{"slack": {"awsiam/prod"}} }, late: nil, lost: true},
		"another account":                   {opt: func(w *world) { w.set.VoteRests = map[string][]string{"slack": {"awsiam/test"}} }, late: nil},
	} {
		t.Run(name, func(t *testing.T) {
			w := asked(t, tt.opt)
			var first, hold, second, note, own, again *answer
			w.at(time.Minute, func() { first = w.update(w.by(w.server, statement.Approve, "alice", "slack", ballot(w.show()))) })
			if tt.late != nil {
				w.reported(2*time.Minute, "r2", "AKIA-1", tt.late)
			}
			w.at(3*time.Minute, func() {
				v := w.show()
				if tt.late != nil && tt.lost {
					require.Equal(t, "voided", v.Approvals[0].Votes[0].Vote, "at once, not when the next vote comes")
				}
				if !tt.lost {
					return // a hold would make another plan
				}
				hold = w.update(w.by(w.server, statement.Hold, "alice", "slack", func(s *statement.Statement) {
					s.Items, s.Text, s.Until = []string{"AKIA-1"}, "wait", w.env.Now().Add(time.Hour)
				}))
			})
			w.at(4*time.Minute, func() {
				second = w.update(w.by(w.server, statement.Approve, "bob", "slack", ballot(w.show())))
				note = w.update(w.by(w.server, statement.Note, "bob", "slack", func(s *statement.Statement) { s.Text = "Slack is not mine any more" }))
			})
			if tt.lost {
				w.at(5*time.Minute, func() {
					require.Equal(t, "open", w.show().Approvals[0].State)
					own = w.update(w.say(statement.Approve, "alice", ballot(w.show())))
				})
				w.at(6*time.Minute, func() { again = w.update(w.say(statement.Approve, "bob", ballot(w.show()))) })
			}
			w.until(7 * time.Minute)
			v := w.run()
			require.NoError(t, note.err, "a note is always taken")
			if !tt.lost {
				require.NoError(t, first.err)
				require.NoError(t, second.err)
				require.Equal(t, "granted", v.Approvals[0].State)
				return
			}
			require.Equal(t, "wrong-channel", second.code)
			require.Equal(t, "wrong-channel", hold.code, "whoever has Slack must not stop the response either")
			require.NoError(t, own.err, "a voided vote may be given again")
			require.NoError(t, again.err)
			require.Equal(t, "granted", v.Approvals[0].State)
			if tt.late != nil {
				require.NoError(t, first.err)
				require.Equal(t, 1, w.count(event.EventApprovalVoided, "vote"))
				require.Equal(t, []string{"voided", "approve", "approve"}, []string{v.Approvals[0].Votes[0].Vote, v.Approvals[0].Votes[1].Vote, v.Approvals[0].Votes[2].Vote})
			} else {
				require.Equal(t, "wrong-channel", first.code)
			}
		})
	}
}

// The issue in its own words: report from Slack, two approvers, the reporter
// refused, one person refused through a second channel, and for Revoke one vote
// outside of Slack.
func TestAResponseRunFromSlack(t *testing.T) {
	w := newWorld(t, func(w *world) { w.set.OutsideChat = 1; w.person("dora", "commander") })
	w.used("AKIA-1", "billing")
	w.reported(0, "r1", "AKIA-1", func(rep *workflows.Report) { rep.Source = "slack" })
	chat := func(action, actor string) *answer {
		return w.update(w.by(w.server, action, actor, "slack", ballot(w.show())))
	}
	var plan, reporter, first, twice, second, chatOnly, third, cli *answer
	w.at(time.Minute, func() {
		require.Zero(t, w.show().Approvals[0].Outside, "a reversible strategy may be approved in chat alone")
		plan = chat(statement.Note, "rita")
		reporter = chat(statement.Approve, "rita")
		first = chat(statement.Approve, "alice")
		w.at(time.Second, func() { twice = w.update(w.say(statement.Approve, "alice", ballot(w.show()))) })
	})
	w.at(2*time.Minute, func() { second = chat(statement.Approve, "bob") })
	w.moves(5*time.Hour, "AKIA-1", "10.0.0.1")
	asked := false
	w.every(time.Minute, func() {
		for _, a := range w.show().Approvals {
			if a.For != "irreversible" || a.State != "open" || asked {
				continue
			}
			asked = true
			require.Equal(t, 1, a.Outside)
			chatOnly = chat(statement.Approve, "alice")
			w.at(time.Second, func() { third = chat(statement.Approve, "bob") })
			w.at(time.Minute, func() {
				a := w.show().Approvals[len(w.show().Approvals)-1]
				require.Equal(t, "open", a.State, "two votes from chat do not revoke")
				require.Empty(t, w.provider.did(activities.Revoke))
				cli = w.update(w.say(statement.Approve, "dora", ballot(w.show())))
			})
		}
	})
	v := w.run()
	require.Equal(t, "invalid", plan.code, "a note without text")
	require.Equal(t, "self-approval", reporter.code)
	require.NoError(t, first.err)
	require.Equal(t, "already-voted", twice.code, "one person, one vote, whatever the channel")
	require.NoError(t, second.err)
	require.Equal(t, "granted", second.State)
	require.NoError(t, chatOnly.err)
	require.NoError(t, third.err)
	require.NoError(t, cli.err)
	require.Equal(t, "granted", cli.State)
	require.Equal(t, "all-clear", v.State)
}

// The irreversible and an end by decision need a vote from outside of chat.
func TestOutsideOfChat(t *testing.T) {
	for _, about := range []string{"irreversible", "accept-risk", "false-alarm"} {
		t.Run(about, func(t *testing.T) {
			w := newWorld(t, func(w *world) { w.set.OutsideChat = 1 })
			w.reported(0, "r1", "AKIA-1")
			if about != "irreversible" {
				w.at(time.Minute, func() {
					w.update(w.say(statement.Resolve, "rita", func(s *statement.Statement) {
						s.Items, s.Text, s.Until = []string{"AKIA-1"}, "a decoy", w.env.Now().Add(time.Hour)
						s.As = map[string]string{"accept-risk": "accepted-risk", "false-alarm": "never-existed-proven"}[about]
					}))
				})
			}
			w.at(30*time.Minute, func() {
				for _, a := range w.show().Approvals {
					if a.For != about {
						continue
					}
					require.Equal(t, 1, a.Outside)
					for _, actor := range []string{"alice", "bob"} {
						w.update(w.by(w.server, statement.Approve, actor, "slack", func(s *statement.Statement) { s.WaveHash, s.Approval = a.WaveHash, a.ID }))
					}
				}
			})
			w.until(31 * time.Minute)
			v := w.run()
			state := ""
			for _, a := range v.Approvals {
				if a.For == about {
					state = a.State
					require.Len(t, a.Votes, 2)
				}
			}
			require.Equal(t, "open", state)
		})
	}
}
