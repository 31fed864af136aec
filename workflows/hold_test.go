package workflows_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/internal/event"
	"rekey/internal/statement"
	"rekey/workflows"
)

func (w *world) hold(actor, id string, d time.Duration) *answer {
	return w.update(w.say(statement.Hold, actor, func(s *statement.Statement) {
		s.Items, s.Text, s.Until = []string{id}, "court order", w.env.Now().Add(d)
	}))
}

func (w *world) release(actor, id string) *answer {
	return w.update(w.say(statement.Release, actor, func(s *statement.Statement) { s.Items = []string{id} }))
}

func TestHoldBeforeAWave(t *testing.T) {
	w := asked(t)
	w.reach["AKIA-1"] = []string{"AKIA-2"} // idle: revoke-now by policy
	w.approving("irreversible")
	var vote *answer
	w.at(time.Minute, func() { require.NoError(t, w.hold("alice", "AKIA-1", 24*time.Hour).err) })
	w.at(30*time.Minute, func() {
		v := w.show()
		require.Equal(t, "hold", of(t, v, "AKIA-1").Strategy)
		require.Equal(t, "on hold", of(t, v, "AKIA-1").Open.Why)
		require.Equal(t, "alice", of(t, v, "AKIA-1").Open.Owner)
		require.Equal(t, "revoked-verified", of(t, v, "AKIA-2").EndState, "the others go on")
		require.Equal(t, "voided", v.Approvals[0].State)
		require.NoError(t, w.release("alice", "AKIA-1").err)
	})
	w.at(31*time.Minute, func() {
		require.Empty(t, of(t, w.show(), "AKIA-1").Open.Why)
		vote = w.vote("alice", statement.Approve, "strategy")
	})
	w.until(32 * time.Minute)
	w.run()
	require.NoError(t, vote.err)
	require.Equal(t, 1, w.count(event.EventHoldSet, ""))
	require.Equal(t, 1, w.count(event.EventHoldReleased, ""))
}

func TestHoldDuringAWave(t *testing.T) {
	w := newWorld(t)
	w.reported(0, "r1", "AKIA-1")
	w.at(10*time.Minute, func() {
		require.Equal(t, "Revoke", of(t, w.show(), "AKIA-1").Step)
		w.hold("alice", "AKIA-1", time.Hour)
	})
	var vote *answer
	w.at(11*time.Minute, func() { vote = w.vote("bob", statement.Approve, "irreversible") })
	w.at(2*time.Hour, func() {
		require.Empty(t, w.provider.did("Revoke"))
		v := w.show()
		require.Equal(t, "expired", v.Holds[0].State, "its time is over")
		h := openHumans(v)
		require.Len(t, h, 1, "and somebody is paged")
		require.Contains(t, h[0].What, "has expired")
		require.Equal(t, "alice", h[0].Owner)
	})
	w.at(24*time.Hour, func() {
		require.Empty(t, w.provider.did("Revoke"), "an expired hold holds")
		w.release("alice", "AKIA-1")
	})
	w.at(24*time.Hour+time.Minute, func() {
		require.Empty(t, openHumans(w.show()), "the page is over with the hold")
		w.vote("alice", statement.Approve, "irreversible")
		w.vote("bob", statement.Approve, "irreversible")
	})
	v := w.run()
	require.Equal(t, "held", vote.code)
	require.Equal(t, "all-clear", v.State)
	require.GreaterOrEqual(t, w.provider.when("Revoke AKIA-1").Sub(t0), 24*time.Hour)
}

func TestHoldComesAfterTheVote(t *testing.T) {
	w := newWorld(t)
	w.used("AKIA-1", "billing")
	w.reported(0, "r1", "AKIA-1")
	w.approving("strategy", "irreversible")
	w.resolving()
	w.at(2*time.Hour, func() { w.hold("alice", "AKIA-1", time.Hour) })
	w.moves(3*time.Hour, "AKIA-1", "10.0.0.1")
	w.at(20*time.Hour, func() {
		require.Equal(t, []string{"Issue AKIA-1", "Distribute AKIA-1"}, w.provider.did(), "adoption is proven, and still it must not be cut")
		w.release("alice", "AKIA-1")
	})
	v := w.run()
	require.Equal(t, "all-clear", v.State)
	require.GreaterOrEqual(t, w.provider.when("Disable AKIA-1").Sub(t0), 20*time.Hour)
}

func TestHoldStopsRepeatedCalls(t *testing.T) {
	w := newWorld(t)
	w.provider.always["Disable"] = fault{class: "transient", outcome: "unclear"}
	w.reported(0, "r1", "AKIA-1")
	var calls int
	w.at(time.Minute, func() { w.hold("alice", "AKIA-1", 24*time.Hour) })
	w.at(2*time.Minute, func() { calls = len(w.provider.did("Disable")); require.Positive(t, calls) })
	w.at(10*time.Hour, func() { require.Len(t, w.provider.did("Disable"), calls) })
	w.until(10*time.Hour + time.Second)
	w.run()
}

func TestStandingHold(t *testing.T) {
	t.Run("is checked before any call", func(t *testing.T) {
		w := newWorld(t, func(w *world) {
			w.set.Holds = []workflows.StandingHold{{KeyID: "AKIA-1", By: "legal", Why: "evidence"}}
			w.admit = func(workflows.AdmitInput) workflows.AdmitResult {
				r := workflows.AdmitResult{Severity: "high"}
				r.Contain.Allowed = true
				return r
			}
		})
		w.reported(0, "r1", "AKIA-1")
		w.until(time.Hour)
		v := w.run()
		require.Empty(t, w.provider.did(), "contain on report obeys it too")
		require.False(t, v.Contain.Allowed)
		require.Equal(t, "legal", v.Holds[0].By)
		require.Equal(t, "on hold", of(t, v, "AKIA-1").Open.Why)
	})
	t.Run("where the playbook has no rule for it", func(t *testing.T) {
		w := newWorld(t, func(w *world) {
			w.set.Holds = []workflows.StandingHold{{KeyID: "AKIA-2", By: "legal", Why: "evidence"}}
			w.set.Playbook.Decide = w.set.Playbook.Decide[1:]
			w.reach["AKIA-1"] = []string{"AKIA-2"}
		})
		w.approving("irreversible")
		w.reported(0, "r1", "AKIA-1")
		w.until(time.Hour)
		v := w.run()
		require.Equal(t, []string{"Disable AKIA-1", "EndSessions AKIA-1", "Revoke AKIA-1"}, w.provider.did())
		require.Equal(t, "on hold", of(t, v, "AKIA-2").Open.Why)
	})
	t.Run("that ran out before is none", func(t *testing.T) {
		w := newWorld(t, func(w *world) {
			w.set.Holds = []workflows.StandingHold{{KeyID: "AKIA-1", By: "legal", Why: "evidence", Until: t0.Add(-time.Hour)}}
		})
		w.approving("irreversible")
		w.reported(0, "r1", "AKIA-1")
		require.Equal(t, "all-clear", w.run().State)
	})
}

func TestRefusedHolds(t *testing.T) {
	tests := map[string]struct {
		actor  string
		action string
		change func(*world, *statement.Statement)
		code   string
	}{
		"without an end": {actor: "alice", change: func(_ *world, s *statement.Statement) { s.Items, s.Text = []string{"AKIA-1"}, "x" }, code: "invalid"},
		"that is over": {actor: "alice", change: func(w *world, s *statement.Statement) {
			s.Items, s.Text, s.Until = []string{"AKIA-1"}, "x", w.env.Now()
		}, code: "invalid"},
		"without a reason": {actor: "alice", change: func(w *world, s *statement.Statement) {
			s.Items, s.Until = []string{"AKIA-1"}, w.env.Now().Add(time.Hour)
		}, code: "invalid"},
		"without items": {actor: "alice", change: func(w *world, s *statement.Statement) { s.Text, s.Until = "x", w.env.Now().Add(time.Hour) }, code: "invalid"},
		"of what is not here": {actor: "alice", change: func(w *world, s *statement.Statement) {
			s.Items, s.Text, s.Until = []string{"AKIA-7"}, "x", w.env.Now().Add(time.Hour)
		}, code: "not-found"},
		"release of nothing":      {actor: "alice", action: statement.Release, change: func(_ *world, s *statement.Statement) { s.Items = []string{"AKIA-1"} }, code: "not-found"},
		"by an approver, release": {actor: "eve", action: statement.Release, change: func(_ *world, s *statement.Statement) { s.Items = []string{"AKIA-1"} }, code: "wrong-role"},
		"by a viewer": {actor: "vic", change: func(w *world, s *statement.Statement) {
			s.Items, s.Text, s.Until = []string{"AKIA-1"}, "x", w.env.Now().Add(time.Hour)
		}, code: "wrong-role"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := asked(t, func(w *world) { w.person("vic", "viewer"); w.person("eve", "approver") })
			var got *answer
			w.at(time.Minute, func() {
				if tt.action == "" {
					tt.action = statement.Hold
				}
				got = w.update(w.say(tt.action, tt.actor, func(s *statement.Statement) { tt.change(w, s) }))
			})
			w.until(2 * time.Minute)
			v := w.run()
			require.Equal(t, tt.code, got.code)
			require.Len(t, v.Refusals, 1)
			require.Empty(t, v.Holds)
		})
	}
}
