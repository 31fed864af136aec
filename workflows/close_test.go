package workflows_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/activities"
	"rekey/internal/event"
	"rekey/internal/statement"
	"rekey/workflows"
)

func TestCloseIsRefusedWhileAnythingIsOpen(t *testing.T) {
	w := newWorld(t)
	w.reported(0, "r1", "AKIA-1")
	var early *answer
	w.at(5*time.Minute, func() { early = w.update(w.say(statement.Close, "alice")) })
	w.until(6 * time.Minute)
	v := w.run()
	require.Equal(t, "invalid", early.code)
	require.Contains(t, early.err.Error(), "1 of 1 items")
	require.Len(t, v.Refusals, 1)
}

func TestContainedUntilAdopted(t *testing.T) {
	w := newWorld(t)
	w.used("AKIA-1", "billing")
	w.abused(0, "AKIA-1")
	w.reported(time.Second, "r1", "AKIA-1", withSecret)
	w.approving("irreversible")
	w.at(2*time.Hour, func() {
		v := w.show()
		require.Equal(t, "contained", v.State)
		require.Equal(t, "revoked-verified", of(t, v, "AKIA-1").EndState)
		require.Equal(t, "distributed", of(t, v, "AKIA-1").Adoption.State)
		require.NotEmpty(t, v.Times.Contained)
		require.Empty(t, v.Times.Closed)
		require.False(t, v.Bundle.Final, "sealed at contained")
		require.Len(t, openHumans(v), 1)
	})
	w.moves(5*time.Hour, "AKIA-1", "10.0.0.1")
	v := w.run()
	require.Equal(t, "all-clear", v.State)
	require.True(t, v.Bundle.Final, "and again at all-clear")
	require.Empty(t, openHumans(v), "the step lapses with the proof")
	require.Len(t, w.seals, 2)
	require.True(t, mustTime(t, v.Times.Closed).After(mustTime(t, v.Times.Contained)))
}

func TestAdoptionIsWaivedByAPerson(t *testing.T) {
	w := newWorld(t)
	w.used("AKIA-1", "billing")
	w.abused(0, "AKIA-1")
	w.reported(time.Second, "r1", "AKIA-1")
	w.approving("irreversible")
	w.at(5*time.Hour, func() {
		h := openHumans(w.show())[0]
		w.update(w.say(statement.Resolve, "alice", func(s *statement.Statement) { s.Task, s.As, s.Text = h.ID, "waived", "service is gone" }))
	})
	v := w.run()
	require.Equal(t, "all-clear", v.State)
	require.Equal(t, "waived", of(t, v, "AKIA-1").Adoption.State)
}

func accept(w *world, as, actor string, d time.Duration, ids ...string) *answer {
	return w.update(w.say(statement.Resolve, actor, func(s *statement.Statement) {
		s.As, s.Items, s.Text = as, ids, "because"
		if d > 0 {
			s.Until = w.env.Now().Add(d)
		}
	}))
}

func TestAcceptedRisk(t *testing.T) {
	w := asked(t)
	w.at(time.Minute, func() { accept(w, "accepted-risk", "alice", 48*time.Hour, "AKIA-1") })
	w.at(2*time.Minute, func() {
		require.Empty(t, of(t, w.show(), "AKIA-1").EndState, "one vote is not enough")
		w.vote("bob", statement.Approve, "accept-risk")
	})
	w.at(3*time.Minute, func() {
		v := w.show()
		require.Equal(t, "accepted-risk", of(t, v, "AKIA-1").EndState)
		require.Equal(t, "contained", v.State, "not all-clear: a risk is open")
		for _, a := range v.Approvals {
			require.NotEqual(t, "open", a.State, "nobody is asked about what has ended: "+a.What)
		}
	})
	w.at(49*time.Hour, func() {
		v := w.show()
		require.Len(t, openHumans(v), 1, "its time is over: somebody is asked")
		require.Equal(t, "alice", openHumans(v)[0].Owner)
		w.update(w.say(statement.Resolve, "alice", func(s *statement.Statement) { s.Task = openHumans(v)[0].ID }))
	})
	w.at(50*time.Hour, func() { w.update(w.say(statement.Close, "alice")) })
	v := w.run()
	require.Equal(t, "contained", v.State, "closed by hand as what it is")
	require.NotEmpty(t, v.Times.Closed)
	require.Empty(t, w.provider.did())
	require.Empty(t, v.Times.WatchUntil, "no key is dead")
}

func TestAcceptedRiskEndsAnItemThatAWaveMoves(t *testing.T) {
	w := newWorld(t)
	w.provider.key("AKIA-1").saw = activities.ProbeUnclear
	w.reported(0, "r1", "AKIA-1")
	w.at(time.Hour, func() { accept(w, "accepted-risk", "alice", 48*time.Hour, "AKIA-1") })
	w.at(time.Hour+time.Minute, func() { w.vote("bob", statement.Approve, "accept-risk") })
	w.until(2 * time.Hour)
	v := w.run()
	require.Equal(t, "accepted-risk", of(t, v, "AKIA-1").EndState)
	require.Equal(t, "contained", v.State)
	require.Empty(t, openHumans(v))
	require.Equal(t, 1, w.count(event.EventItem, "accepted-risk"))
	calls := len(w.provider.all())
	require.Positive(t, calls)
}

func TestFalseAlarmTakesTwo(t *testing.T) {
	w := newWorld(t, func(w *world) {
		a := w.set.Playbook.Approvals["irreversible"]
		a.Quorum = 1 // whatever the playbook says
		w.set.Playbook.Approvals["irreversible"] = a
	})
	w.used("AKIA-1", "billing")
	w.reported(0, "r1", "AKIA-1")
	w.at(time.Minute, func() { accept(w, "never-existed-proven", "alice", 0, "AKIA-1") })
	w.at(time.Hour, func() {
		require.Empty(t, of(t, w.show(), "AKIA-1").EndState)
		w.vote("bob", statement.Approve, "false-alarm")
	})
	v := w.run()
	require.Equal(t, "never-existed-proven", of(t, v, "AKIA-1").EndState)
	require.Len(t, v.Approvals[len(v.Approvals)-1].Votes, 2)
	require.Equal(t, "all-clear", v.State)
	require.Empty(t, w.provider.did())
}

func TestLeftToPeople(t *testing.T) {
	dirty := true
	tests := map[string]struct {
		prepare func(*world)
		what    string
		strat   string
		as      string
		state   string
	}{
		"barrier":     {prepare: func(w *world) { w.estate["AKIA-1"] = workflows.Scoped{Owner: "platform", StoreDirty: &dirty} }, what: "needs a barrier", strat: "barrier", as: "accepted-risk", state: "contained"},
		"notify-only": {prepare: func(w *world) { w.estate["AKIA-1"] = workflows.Scoped{OwnerKind: "customer"} }, what: "is not ours", strat: "notify-only", as: "customer-action-open", state: "contained"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			tt.prepare(w)
			w.reported(0, "r1", "AKIA-1", withSecret)
			w.approving("accept-risk")
			var plain *answer
			w.at(time.Minute, func() {
				h := openHumans(w.show())
				require.Len(t, h, 1)
				require.Contains(t, h[0].What, tt.what)
				plain = w.update(w.say(statement.Resolve, "alice", func(s *statement.Statement) { s.Task = h[0].ID }))
			})
			w.reported(2*time.Minute, "r2", "AKIA-1") // asked about once only
			w.at(3*time.Minute, func() {
				require.Len(t, openHumans(w.show()), 1)
				accept(w, tt.as, "alice", 24*time.Hour, "AKIA-1")
			})
			w.until(10 * time.Minute)
			v := w.run()
			require.Equal(t, "invalid", plain.code, "a step that stands for an item ends with the item")
			require.Empty(t, w.provider.did(), "no provider is called")
			require.Equal(t, tt.strat, of(t, v, "AKIA-1").Strategy)
			require.Equal(t, tt.as, of(t, v, "AKIA-1").EndState)
			require.Equal(t, tt.state, v.State)
			require.Empty(t, openHumans(v))
		})
	}
}

func TestOursIsNotTheCustomers(t *testing.T) {
	w := asked(t)
	var got *answer
	w.at(time.Minute, func() { got = accept(w, "customer-action-open", "alice", 0, "AKIA-1") })
	w.until(2 * time.Minute)
	w.run()
	require.Equal(t, "invalid", got.code)
}

func TestKeyOfAnotherIncident(t *testing.T) {
	w := newWorld(t)
	w.claims[fp("AKIA-2")] = "inc-other"
	w.reach["AKIA-1"] = []string{"AKIA-2"}
	w.reported(0, "r1", "AKIA-1")
	w.approving("irreversible", "accept-risk")
	w.at(time.Hour, func() {
		require.Contains(t, openHumans(w.show())[0].What, "inc-other")
		accept(w, "accepted-risk", "alice", 24*time.Hour, "AKIA-2")
	})
	w.until(2 * time.Hour)
	v := w.run()
	require.Equal(t, []string{"Disable AKIA-1", "EndSessions AKIA-1", "Revoke AKIA-1"}, w.provider.did(), "it is not touched here")
	require.Empty(t, openHumans(v))
}

func TestFindings(t *testing.T) {
	found := func(id string, ours bool) activities.Finding {
		k := key(id)
		f := activities.Finding{What: "key", ID: id, By: "AKIA-1", Key: &k, Why: "made by the leaked key"}
		if ours {
			f.By = ""
		}
		return f
	}
	t.Run("a key that the sweep finds becomes an item of a new scope version, with a wave", func(t *testing.T) {
		w := newWorld(t)
		w.provider.key("AKIA-1").findings = []activities.Finding{found("AKIA-EVIL", false)}
		w.reported(0, "r1", "AKIA-1")
		w.approving("irreversible")
		v := w.run()
		require.Equal(t, "all-clear", v.State)
		require.Equal(t, 2, v.Scope.Version)
		it := of(t, v, "AKIA-EVIL")
		require.Equal(t, "attacker-made", it.Rule)
		require.Equal(t, "revoked-verified", it.EndState)
		require.Equal(t, 2, it.Wave)
		require.Contains(t, v.Scope.Basis, "sweep")
		require.Equal(t, "not-wanted", it.Adoption.State)
	})
	t.Run("what is no key goes to a person, once, and blocks all-clear", func(t *testing.T) {
		w := newWorld(t)
		w.provider.key("AKIA-1").findings = []activities.Finding{{What: "user", ID: "backdoor", Why: "made by the leaked key"}}
		w.reported(0, "r1", "AKIA-1")
		w.approving("irreversible")
		w.at(2*time.Hour, func() {
			v := w.show()
			require.Equal(t, "contained", v.State)
			require.Len(t, openHumans(v), 1)
			require.Contains(t, openHumans(v)[0].What, "backdoor")
			w.update(w.say(statement.Resolve, "alice", func(s *statement.Statement) { s.Task, s.Text = openHumans(v)[0].ID, "removed" }))
		})
		require.Equal(t, "all-clear", w.run().State)
	})
	t.Run("it is not closed by an accepted risk of the item it was found at", func(t *testing.T) {
		w := newWorld(t)
		w.provider.key("AKIA-1").findings = []activities.Finding{{What: "user", ID: "backdoor", Why: "made by the leaked key"}}
		w.reported(0, "r1", "AKIA-1")
		w.approving("accept-risk")
		w.at(time.Hour, func() { accept(w, "accepted-risk", "alice", 24*time.Hour, "AKIA-1") })
		w.until(2 * time.Hour)
		v := w.run()
		require.Equal(t, "accepted-risk", of(t, v, "AKIA-1").EndState)
		require.Len(t, openHumans(v), 1)
	})
	t.Run("our own replacement is none", func(t *testing.T) {
		w := newWorld(t)
		w.used("AKIA-1", "billing")
		w.reach["AKIA-1"] = []string{"AKIA-2"}
		w.provider.key("AKIA-2").findings = []activities.Finding{found("NEW-AKIA-1", true)}
		w.abused(0, "AKIA-1")
		w.reported(time.Second, "r1", "AKIA-1")
		w.approving("strategy", "irreversible")
		w.at(3*time.Hour, func() { w.reported(time.Second, "r2", "AKIA-2") })
		w.moves(4*time.Hour, "AKIA-1", "10.0.0.1")
		w.until(30 * time.Hour)
		v := w.run()
		for _, it := range v.Items {
			require.NotEqual(t, "NEW-AKIA-1", it.KeyID)
		}
		require.Empty(t, w.provider.when("Disable NEW-AKIA-1"))
		require.Equal(t, 2, v.Scope.Version, "one for each report, none for it")
	})
	t.Run("found after containment it takes containment back", func(t *testing.T) {
		w := newWorld(t)
		w.used("AKIA-1", "billing")
		w.abused(0, "AKIA-1")
		w.reported(time.Second, "r1", "AKIA-1")
		w.approving("irreversible")
		w.at(3*time.Hour, func() {
			require.Equal(t, "contained", w.show().State)
			w.mu.Lock()
			w.reach["AKIA-1"] = []string{"AKIA-2"}
			w.mu.Unlock()
			w.provider.mu.Lock()
			w.provider.key("AKIA-2").saw = activities.ProbeUnclear
			w.provider.mu.Unlock()
		})
		w.reported(3*time.Hour+time.Second, "r2", "AKIA-2")
		w.until(4 * time.Hour)
		v := w.run()
		require.NotEqual(t, "contained", v.State)
		require.Empty(t, v.Times.Contained)
	})
}

func TestReportedAgainAfterItsEnd(t *testing.T) {
	w := newWorld(t, admitting())
	w.used("AKIA-1", "billing")
	w.abused(0, "AKIA-1")
	w.reported(time.Second, "r1", "AKIA-1", withSecret)
	w.approving("irreversible")
	w.at(3*time.Hour, func() {
		require.Equal(t, "contained", w.show().State)
		w.provider.mu.Lock()
		*w.provider.key("AKIA-1") = state{exists: true, active: true} // and its log shows nothing
		w.provider.mu.Unlock()
	})
	w.reported(3*time.Hour+time.Second, "r2", "AKIA-1")
	w.moves(5*time.Hour, "AKIA-1", "10.0.0.1")
	v := w.run()
	require.Equal(t, "all-clear", v.State)
	require.Equal(t, "revoked-verified", of(t, v, "AKIA-1").EndState)
	require.Len(t, w.provider.did(activities.Disable), 2, "it works again, so it is killed again")
	require.Len(t, w.provider.did(activities.Revoke), 2)
	require.Equal(t, "abuse", of(t, v, "AKIA-1").Rule)
	require.Len(t, w.provider.did(activities.Issue), 1, "its replacement stands")
	ids := map[string]bool{}
	for _, c := range w.provider.all() {
		if c.verb == activities.Disable {
			ids[c.pass.ID] = true
		}
	}
	require.Len(t, ids, 2)
	hashes := map[string]bool{}
	for _, p := range v.Approvals {
		hashes[p.WaveHash] = true
	}
	require.Len(t, hashes, 2, "the second Revoke has votes of its own")
}

func TestReportAtTheMomentOfClosing(t *testing.T) {
	for name, play := range map[string]func(w *world, late workflows.Report){
		"while the last bundle is sealed": func(w *world, late workflows.Report) {
			w.env.SetOnActivityStartedListener(onSeal(func() { w.env.SignalWorkflow(workflows.SignalReport, late) }))
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.reported(0, "r1", "AKIA-1")
			w.approving("irreversible")
			play(w, w.report("r2", "AKIA-2"))
			w.env.ExecuteWorkflow(workflows.TypeIncident, w.in)
			next := nextRun(t, w)
			require.NotNil(t, next.Reopened, "the late report opens the next run")
			require.Equal(t, "sha256:bundle1", next.Reopened.Digest)
			require.Equal(t, 1, next.Reopened.Waves)
			require.Len(t, next.State.Reports, 1)
			require.Equal(t, "r2", next.State.Reports[0].ID)
			require.NotEmpty(t, next.State.Nonces, "no vote can be used a second time")

			w.in = next
			w.begin()
			w.reported(0, "r2", "AKIA-2") // and sent again
			w.approving("irreversible")
			v := w.run()
			require.Equal(t, "all-clear", v.State)
			require.Equal(t, 2, of(t, v, "AKIA-2").Wave, "numbers go on")
			require.NotEmpty(t, v.ReopenedFrom)
		})
	}
}

func TestDuplicateReport(t *testing.T) {
	w := newWorld(t)
	rep := w.report("r1", "AKIA-1")
	w.at(0, func() { w.env.SignalWorkflow(workflows.SignalReport, rep) })
	w.at(time.Minute, func() { w.env.SignalWorkflow(workflows.SignalReport, rep) })
	w.approving("irreversible")
	v := w.run()
	require.Len(t, v.Reports, 1)
	require.Equal(t, 1, v.Scope.Version)
	require.Len(t, w.provider.did(activities.Disable), 1)
}

func TestSecretsAreDestroyedAfter72Hours(t *testing.T) {
	w := newWorld(t)
	w.provider.key("AKIA-1").saw = activities.ProbeUnclear
	w.reported(0, "r1", "AKIA-1", withSecret)
	w.at(71*time.Hour, func() { require.Equal(t, 0, w.forgets) })
	w.until(73 * time.Hour)
	v := w.run()
	require.Equal(t, 1, w.forgets)
	require.Equal(t, 1, w.count(event.EventSecretGone, ""))
	require.Empty(t, of(t, v, "AKIA-1").EndState)
	modes := w.provider.did(activities.Probe)
	require.Equal(t, "Probe AKIA-1 auth", modes[0])
	require.Equal(t, "Probe AKIA-1 state", modes[len(modes)-1], "from then on the provider's state answers")
}
