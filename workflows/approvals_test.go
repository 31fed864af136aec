package workflows_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/activities"
	"rekey/internal/event"
	"rekey/internal/statement"
	"rekey/playbooks"
	"rekey/workflows"
)

// asked plays an incident up to the open question for the votes of reissue-first.
func asked(t *testing.T, opts ...option) *world {
	w := newWorld(t, opts...)
	w.used("AKIA-1", "billing")
	w.reported(0, "r1", "AKIA-1")
	return w
}

func TestRefusedVotes(t *testing.T) {
	type vote struct {
		action, actor string
		change        func(*world, *statement.Statement)
	}
	tests := map[string]struct {
		before []vote // accepted ones
		vote   vote
		forge  func(*world, statement.Signed) statement.Signed
		update string // another update than the statement's
		code   string
	}{
		"self-approval":             {vote: vote{actor: "rita"}, code: "self-approval"},
		"stale wave":                {vote: vote{actor: "alice", change: func(_ *world, s *statement.Statement) { s.WaveHash = "sha256:old" }}, code: "stale-plan"},
		"stale wave, by its number": {vote: vote{actor: "alice", change: func(_ *world, s *statement.Statement) { s.WaveHash, s.Approval = "sha256:old", "a1" }}, code: "stale-plan"},
		"wrong role":                {vote: vote{actor: "carol"}, code: "wrong-role"},
		"a role that was not given": {vote: vote{actor: "alice", change: func(_ *world, s *statement.Statement) { s.Role = "security" }}, code: "wrong-role"},
		"twice":                     {before: []vote{{actor: "alice"}}, vote: vote{actor: "alice"}, code: "already-voted"},
		"denied and then approved":  {before: []vote{{action: statement.Deny, actor: "bob"}}, vote: vote{actor: "alice"}, code: "no-open-approval"},
		"no such question":          {vote: vote{actor: "alice", change: func(_ *world, s *statement.Statement) { s.Approval = "a99" }}, code: "no-open-approval"},
		"unknown person":            {vote: vote{actor: "mallory"}, code: "wrong-role"},
		"other incident":            {vote: vote{actor: "alice", change: func(_ *world, s *statement.Statement) { s.Incident = "inc-other" }}, code: "replayed"},
		"expired":                   {vote: vote{actor: "alice", change: func(w *world, s *statement.Statement) { s.Expires = w.env.Now().Add(-time.Second) }}, code: "expired"},
		"never expires":             {vote: vote{actor: "alice", change: func(_ *world, s *statement.Statement) { s.Expires = time.Time{} }}, code: "expired"},
		"from the future":           {vote: vote{actor: "alice", change: func(w *world, s *statement.Statement) { s.Issued = w.env.Now().Add(time.Hour) }}, code: "expired"},
		"denial without a reason":   {vote: vote{action: statement.Deny, actor: "alice"}, code: "invalid"},
		"break-glass":               {vote: vote{actor: "alice", change: func(_ *world, s *statement.Statement) { s.BreakGlass = true }}, code: "invalid"},
		"forged: another key": {vote: vote{actor: "alice"}, code: "forged", forge: func(w *world, s statement.Signed) statement.Signed {
			out, err := statement.Sign(s.Statement, w.signer())
			require.NoError(w.t, err)
			return out
		}},
		"forged: a colleague's key": {vote: vote{actor: "alice"}, code: "forged", forge: func(w *world, s statement.Signed) statement.Signed {
			out, err := statement.Sign(s.Statement, w.voters["bob"])
			require.NoError(w.t, err)
			return out
		}},
		"forged: the server's key": {vote: vote{actor: "alice"}, code: "forged", forge: func(w *world, s statement.Signed) statement.Signed {
			out, err := statement.Sign(s.Statement, w.server)
			require.NoError(w.t, err)
			return out
		}},
		"changed after signing": {vote: vote{actor: "alice"}, code: "forged", forge: func(_ *world, s statement.Signed) statement.Signed {
			s.Statement.Text = "changed"
			return s
		}},
		"signed for another action": {vote: vote{action: statement.Note, actor: "alice"}, update: statement.Approve, code: "forged"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := asked(t)
			make := func(v vote) statement.Signed {
				open := w.show().Approvals[0]
				if v.action == "" {
					v.action = statement.Approve
				}
				return w.say(v.action, v.actor, func(s *statement.Statement) {
					s.WaveHash, s.Approval = open.WaveHash, open.ID
					if v.action == statement.Deny && len(tt.before) > 0 {
						s.Text = "too risky"
					}
					if v.change != nil {
						v.change(w, s)
					}
				})
			}
			var got *answer
			w.at(time.Minute, func() {
				for _, v := range tt.before {
					a := w.update(make(v))
					w.at(time.Second, func() { require.NoError(t, a.err) })
				}
			})
			w.at(2*time.Minute, func() {
				s := make(tt.vote)
				if tt.forge != nil {
					s = tt.forge(w, s)
				}
				name := tt.update
				if name == "" {
					name = s.Statement.Action
				}
				got = w.updateAs(name, s)
			})
			w.until(3 * time.Minute)
			v := w.run()
			require.NoError(t, got.rejected, "a security refusal is not the validator's: it would leave no trace")
			require.True(t, got.done)
			require.Equal(t, tt.code, got.code)
			require.Len(t, v.Refusals, 1)
			require.Equal(t, tt.code, v.Refusals[0].Code)
			require.Equal(t, tt.vote.actor, v.Refusals[0].Actor)
			require.Equal(t, 1, w.count(event.EventRefused, tt.code))
			require.Empty(t, w.provider.did(), "nothing moved")
			yes := 0
			for _, v := range v.Approvals[0].Votes {
				if v.Vote == "approve" {
					yes++
				}
			}
			require.LessOrEqual(t, yes, 1)
		})
	}
}

func TestReplayedStatement(t *testing.T) {
	w := asked(t)
	var s statement.Signed
	var again *answer
	w.at(time.Minute, func() {
		s = w.say(statement.Note, "alice", func(s *statement.Statement) { s.Text = "looking" })
		w.update(s)
	})
	w.at(2*time.Minute, func() { again = w.update(s) })
	w.until(3 * time.Minute)
	v := w.run()
	require.Equal(t, "replayed", again.code)
	require.Len(t, v.Notes, 1)
	require.Len(t, v.Refusals, 1)
}

func TestMalformedUpdateIsRefusedByTheValidator(t *testing.T) {
	w := asked(t)
	var got *answer
	w.at(time.Minute, func() { got = w.updateAs(statement.Approve, statement.Signed{}) })
	w.until(2 * time.Minute)
	v := w.run()
	require.Error(t, got.rejected)
	require.Empty(t, v.Refusals)
}

func TestSeveralOpenQuestionsNeedAName(t *testing.T) {
	w := asked(t, func(w *world) { w.reach["AKIA-1"] = []string{"AKIA-2"} })
	w.provider.key("AKIA-2").unseen = []activities.Unseen{{Source: "cloudtrail", Why: "denied"}} // asks for votes, too
	var vague, named *answer
	// Two questions under the plan's hash: the risk of one item, and of the other.
	risk := func(id string) func(*statement.Statement) {
		return func(s *statement.Statement) {
			s.As, s.Items, s.Text, s.Until = "accepted-risk", []string{id}, "test account", w.env.Now().Add(24*time.Hour)
		}
	}
	w.at(time.Minute, func() {
		w.update(w.say(statement.Resolve, "alice", risk("AKIA-1")))
		w.update(w.say(statement.Resolve, "alice", risk("AKIA-2")))
	})
	w.at(2*time.Minute, func() {
		a := w.show().Approvals
		last := a[len(a)-1]
		require.Equal(t, "accept-risk", last.For)
		vague = w.update(w.say(statement.Approve, "bob", func(s *statement.Statement) { s.WaveHash = last.WaveHash }))
		named = w.update(w.say(statement.Approve, "bob", func(s *statement.Statement) { s.WaveHash, s.Approval = last.WaveHash, last.ID }))
	})
	w.until(3 * time.Minute)
	w.run()
	require.Equal(t, "invalid", vague.code)
	require.NoError(t, named.err)
	require.Equal(t, "granted", named.State)
}

func TestQuorum(t *testing.T) {
	tests := map[string]struct {
		opt   option
		votes []string
		want  string // state of the irreversible approval
	}{
		"the playbook's two":                  {opt: func(*world) {}, votes: []string{"alice", "bob"}, want: "granted"},
		"one of the playbook's two":           {opt: func(*world) {}, votes: []string{"alice"}, want: "open"},
		"raised to three by the ceiling":      {opt: func(w *world) { w.set.Quorum = 3 }, votes: []string{"alice", "bob"}, want: "open"},
		"three of three":                      {opt: func(w *world) { w.set.Quorum = 3; w.person("dora", "commander") }, votes: []string{"alice", "bob", "dora"}, want: "granted"},
		"a ceiling below lowers nothing":      {opt: func(w *world) { w.set.Quorum = 1 }, votes: []string{"alice"}, want: "open"},
		"both from chat where one must not":   {opt: func(w *world) { w.set.OutsideChat = 1 }, votes: []string{"alice@slack", "bob@slack"}, want: "open"},
		"one of two from chat":                {opt: func(w *world) { w.set.OutsideChat = 1 }, votes: []string{"alice@slack", "bob"}, want: "granted"},
		"a team of one: the reporter's vote":  {opt: solo, votes: []string{"rita"}, want: "granted"},
		"no team of one: the reporter's vote": {opt: func(w *world) { solo(w); w.set.Solo = false }, votes: []string{"rita"}, want: "open"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, tt.opt)
			w.reported(0, "r1", "AKIA-1")
			w.at(30*time.Minute, func() {
				for _, a := range w.show().Approvals {
					require.Equal(t, "irreversible", a.For)
					for _, voter := range tt.votes {
						actor, method := voter, "cli-key"
						if len(voter) > 6 && voter[len(voter)-6:] == "@slack" {
							actor, method = voter[:len(voter)-6], "slack"
						}
						w.update(w.say(statement.Approve, actor, func(s *statement.Statement) { s.WaveHash, s.Approval, s.Method = a.WaveHash, a.ID, method }))
					}
				}
			})
			w.until(31 * time.Minute)
			v := w.run()
			require.Len(t, v.Approvals, 1)
			require.Equal(t, tt.want, v.Approvals[0].State)
			revoked := len(w.provider.did("Revoke"))
			require.Equal(t, tt.want == "granted", revoked == 1)
			if tt.want == "granted" && w.set.Solo {
				require.Equal(t, "self-approved", v.Approvals[0].Votes[0].Note)
			}
		})
	}
}

func solo(w *world) {
	w.set.Solo = true
	a := w.set.Playbook.Approvals[playbooks.ApproveIrreversible]
	a.Quorum = 1
	w.set.Playbook.Approvals = map[string]playbooks.Approval{"revoke-now": {Policy: true}, playbooks.ApproveIrreversible: a}
}

func TestExpiryEscalatesAndNeverProceedsOrDrops(t *testing.T) {
	w := asked(t)
	w.at(29*time.Minute, func() { require.Equal(t, 0, w.show().Approvals[0].Level) })
	w.at(31*time.Minute, func() {
		a := w.show().Approvals[0]
		require.Equal(t, 1, a.Level)
		require.Equal(t, "open", a.State)
		require.Contains(t, a.Roles, "admin")
	})
	w.at(90*24*time.Hour, func() {
		require.Equal(t, "open", w.show().Approvals[0].State)
		require.Empty(t, w.provider.did(), "it never goes ahead by itself")
		require.NoError(t, w.vote("carol", statement.Approve, "strategy").err)
		w.vote("bob", statement.Approve, "strategy")
	})
	w.at(90*24*time.Hour+time.Minute, func() {
		require.NotEmpty(t, w.provider.did(), "the votes of those it escalated to count")
		w.last = w.show()
		w.env.CancelWorkflow()
	})
	v := w.run()
	require.Equal(t, "granted", v.Approvals[0].State)
	require.Greater(t, w.count(event.EventApprovalExpired, "escalated"), 1)
}

func TestDenial(t *testing.T) {
	t.Run("of a strategy goes to a person, and a risk that is accepted ends it", func(t *testing.T) {
		w := asked(t)
		w.at(time.Minute, func() { w.vote("bob", statement.Deny, "strategy") })
		w.at(2*time.Minute, func() {
			v := w.show()
			require.Equal(t, "denied", v.Approvals[0].State)
			require.Len(t, openHumans(v), 1)
			w.update(w.say(statement.Resolve, "alice", func(s *statement.Statement) {
				s.As, s.Items, s.Text, s.Until = "accepted-risk", []string{"AKIA-1"}, "decoy", w.env.Now().Add(24*time.Hour)
			}))
		})
		w.at(3*time.Minute, func() { w.vote("bob", statement.Approve, "accept-risk") })
		w.until(4 * time.Minute)
		v := w.run()
		require.Equal(t, "accepted-risk", of(t, v, "AKIA-1").EndState)
		require.Equal(t, "alice", of(t, v, "AKIA-1").Approver)
		require.Equal(t, "contained", v.State)
		require.Empty(t, w.provider.did())
	})
	t.Run("of Revoke can be voted on again", func(t *testing.T) {
		w := newWorld(t)
		w.reported(0, "r1", "AKIA-1")
		w.at(10*time.Minute, func() { w.vote("bob", statement.Deny, "irreversible") })
		w.at(11*time.Minute, func() {
			require.Empty(t, w.provider.did("Revoke"))
			h := openHumans(w.show())
			require.Len(t, h, 1)
			w.update(w.say(statement.Resolve, "alice", func(s *statement.Statement) { s.Task = h[0].ID }))
		})
		w.at(12*time.Minute, func() {
			require.Empty(t, w.provider.did("Revoke"), "resolving the step is no vote")
			w.vote("alice", statement.Approve, "irreversible")
			w.vote("bob", statement.Approve, "irreversible")
		})
		v := w.run()
		require.Equal(t, "all-clear", v.State)
		require.Len(t, w.provider.did("Revoke"), 1)
	})
}

func TestStart(t *testing.T) {
	t.Run("ask waits for a person", func(t *testing.T) {
		w := newWorld(t, func(w *world) { w.set.Playbook.Start = playbooks.StartAsk })
		w.reported(0, "r1", "AKIA-1")
		w.approving("irreversible")
		w.at(time.Hour, func() {
			require.Empty(t, w.provider.did())
			require.NoError(t, w.vote("alice", statement.Approve, "start").err)
		})
		v := w.run()
		require.Equal(t, "all-clear", v.State)
		require.GreaterOrEqual(t, w.provider.when("Disable AKIA-1").Sub(t0), time.Hour)
	})
	t.Run("record never acts", func(t *testing.T) {
		w := newWorld(t, func(w *world) { w.set.Playbook.Start = playbooks.StartRecord })
		w.reported(0, "r1", "AKIA-1")
		w.until(30 * 24 * time.Hour)
		v := w.run()
		require.Empty(t, w.provider.did())
		require.NotNil(t, v.Plan)
		require.NotEqual(t, "all-clear", v.State)
	})
}

func TestReportsAreSignedByTheServer(t *testing.T) {
	w := asked(t)
	w.at(time.Minute, func() {
		rep := w.report("r2", "AKIA-9")
		s, err := statement.Sign(rep.Statement.Statement, w.signer())
		require.NoError(t, err)
		rep.Statement = s
		w.env.SignalWorkflow(workflows.SignalReport, rep)
		other := w.report("r3", "AKIA-1") // a true statement about another key
		other.Key = key("AKIA-9")
		w.env.SignalWorkflow(workflows.SignalReport, other)
	})
	w.until(2 * time.Minute)
	v := w.run()
	require.Len(t, v.Reports, 1)
	require.Len(t, v.Items, 1)
	require.Equal(t, 2, w.count(event.EventRefused, "forged"))
}
