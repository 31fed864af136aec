package workflows_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/enums/v1"

	"rekey/activities"
	"rekey/internal/event"
	"rekey/internal/page"
	"rekey/internal/statement"
	"rekey/internal/view"
	"rekey/playbooks"
	"rekey/workflows"
)

const timeoutHeartbeat = enums.TIMEOUT_TYPE_HEARTBEAT

func unmarshal(b []byte, to any) error { return json.Unmarshal(b, to) }

func TestALargeIncidentEndsEveryRow(t *testing.T) {
	const n = 1_234
	w := newWorld(t, large(n))
	w.reported(0, "r1", "AKIA-1", withSecret)
	w.approving("irreversible")
	v := w.run()

	require.Equal(t, "all-clear", v.State)
	require.Equal(t, n+1, v.Totals.Items)
	require.Zero(t, v.Totals.Open)
	require.Equal(t, n+1, v.Totals.ByEndState["revoked-verified"])
	require.Len(t, v.Items, 1, "the rest is rows")
	require.True(t, v.Truncated)
	require.Equal(t, map[string]int{"revoked-verified": n}, w.mass.ends(t))
	for _, verb := range []activities.Verb{activities.Disable, activities.EndSessions, activities.Revoke} {
		did := w.provider.did(verb)
		require.Len(t, did, n+1, verb)
		slices.Sort(did)
		require.Len(t, slices.Compact(did), n+1, "each key once")
	}
	require.Less(t, len(w.mass.passes), 60, "rows go by the page")
	require.Equal(t, 1, w.count(event.EventMassEnd, ""))
}

func TestAPassThatIsLostIsMadeAgainUnderItsID(t *testing.T) {
	w := newWorld(t, large(20, func(m *massWorld) { m.lose["Disable"], m.lose["Revoke"] = 2, 1 }))
	w.reported(0, "r1", "AKIA-1", withSecret)
	w.approving("irreversible")
	v := w.run()
	require.Equal(t, 21, v.Totals.ByEndState["revoked-verified"])
	ids := map[string]int{}
	for _, p := range w.mass.passes {
		ids[p.ID]++
		require.Equal(t, ids[p.ID], p.Attempt)
	}
	var again []int
	for _, k := range ids {
		if k > 1 {
			again = append(again, k)
		}
	}
	slices.Sort(again)
	require.Equal(t, []int{2, 3}, again)
}

func TestARowThatOutlivesItsDisableIsPulledAndClimbs(t *testing.T) {
	w := newWorld(t, large(30))
	stubborn := w.mass.ids[7]
	w.provider.key(stubborn).survives = []activities.Verb{activities.Disable}
	w.reported(0, "r1", "AKIA-1", withSecret)
	w.approving("irreversible")
	v := w.run()
	require.Equal(t, "all-clear", v.State)
	it := of(t, v, stubborn)
	require.Equal(t, "revoked-verified", it.EndState)
	require.Equal(t, "key", it.Death.Rung, "Revoke was brought forward")
	require.Equal(t, 31, v.Totals.ByEndState["revoked-verified"])
	require.Equal(t, map[string]int{"revoked-verified": 29}, w.mass.ends(t))
	require.Equal(t, 1, w.count(event.EventPulled, ""))
	require.Len(t, slices.DeleteFunc(w.provider.did(activities.Disable), func(s string) bool { return !strings.HasSuffix(s, stubborn) }), 1, "what was done is not done again")
}

func TestHoldsOfRows(t *testing.T) {
	w := newWorld(t, large(25, func(m *massWorld) {
		m.strategy = func(page.Row) playbooks.StrategyName { return playbooks.DisableAndWatch }
		m.w.set.Holds = []workflows.StandingHold{{KeyID: m.ids[5], By: "legal", Why: "court order"}}
	}))
	before, during, standing := w.mass.ids[3], w.mass.ids[4], w.mass.ids[5]
	hold := func(s *statement.Statement) { s.Text, s.Until = "court order", w.env.Now().Add(100*time.Hour) }
	w.reported(0, "r1", "AKIA-1", withSecret)
	w.at(time.Second, func() { // nobody has voted yet
		require.NoError(t, w.update(w.say(statement.Hold, "alice", hold, func(s *statement.Statement) { s.Items = []string{before} })).err)
	})
	w.at(time.Hour, func() { // in the quiet time
		a := w.update(w.say(statement.Hold, "alice", hold, func(s *statement.Statement) { s.Items = []string{during} }))
		require.NoError(t, a.err)
	})
	w.at(40*time.Hour, func() {
		did := w.provider.did()
		require.NotContains(t, did, "Disable "+before)
		require.NotContains(t, did, "Disable "+standing)
		require.Contains(t, did, "Disable "+during)
		require.NotContains(t, did, "Revoke "+during)
		require.Len(t, w.provider.did(activities.Revoke), 25-3+1, "the others have moved on")
		require.Equal(t, 3, w.show().Totals.Open)
		for _, id := range []string{before, during, standing} {
			require.NoError(t, w.update(w.say(statement.Release, "alice", func(s *statement.Statement) { s.Items, s.Text = []string{id}, "lifted" })).err)
		}
	})
	w.approving("strategy", "irreversible")
	v := w.run()
	require.Equal(t, "all-clear", v.State)
	require.Equal(t, 26, v.Totals.ByEndState["revoked-verified"])
	for _, id := range []string{before, standing} {
		require.Greater(t, w.provider.when("Disable "+id), t0.Add(40*time.Hour))
	}
	require.GreaterOrEqual(t, w.provider.when("Revoke "+during), t0.Add(40*time.Hour))
}

func TestAHoldOfAWholeWave(t *testing.T) {
	w := newWorld(t, large(20, func(m *massWorld) {
		m.strategy = func(page.Row) playbooks.StrategyName { return playbooks.DisableAndWatch }
	}))
	w.reported(0, "r1", "AKIA-1", withSecret)
	w.approving("strategy", "irreversible")
	w.at(time.Hour, func() {
		a := w.update(w.say(statement.Hold, "alice", func(s *statement.Statement) {
			s.Items, s.Text, s.Until = []string{"wave/2"}, "a customer calls", w.env.Now().Add(time.Hour)
		}))
		require.NoError(t, a.err)
	})
	w.at(30*time.Hour, func() {
		require.Len(t, w.provider.did(activities.Revoke), 1, "an expired hold still holds")
		a := w.update(w.say(statement.Release, "alice", func(s *statement.Statement) { s.Task, s.Text = "hold1", "go on" }))
		require.NoError(t, a.err)
	})
	v := w.run()
	require.Equal(t, 21, v.Totals.ByEndState["revoked-verified"])
}

func TestRowsAreReplacedBeforeTheyAreCut(t *testing.T) {
	w := newWorld(t, large(40, func(m *massWorld) {
		m.owner = "platform"
		m.strategy = func(page.Row) playbooks.StrategyName { return playbooks.ReissueFirst }
	}))
	w.reported(0, "r1", "AKIA-1", withSecret)
	w.approving("strategy", "irreversible")
	w.resolving() // the owners are told by hand
	for i, id := range w.mass.ids {
		if i%4 != 0 { // a quarter never moves: the cut-off ends the wait
			w.moves(3*time.Hour, id, "10.0.0.1")
		}
	}
	v := w.run()
	require.Equal(t, "all-clear", v.State)
	require.Equal(t, 41, v.Totals.ByEndState["revoked-verified"])
	for i, id := range w.mass.ids {
		cut := w.provider.when("Disable " + id)
		if i%4 != 0 {
			require.Less(t, cut, t0.Add(10*time.Hour), id)
			require.Greater(t, cut, t0.Add(3*time.Hour), id)
		} else {
			require.GreaterOrEqual(t, cut, t0.Add(72*time.Hour), "the cut-off: "+id)
		}
	}
	require.Len(t, w.provider.did(activities.Issue), 40)
}

// resolved ends every open step in one way.
func (w *world) resolved(t *testing.T, as string) {
	t.Helper()
	for _, h := range openHumans(w.show()) {
		w.update(w.say(statement.Resolve, "alice", func(s *statement.Statement) { s.Task, s.As = h.ID, as }))
	}
}

func TestAMissingRightIsOneStepForAllRows(t *testing.T) {
	w := newWorld(t, large(50))
	w.provider.always[activities.EndSessions] = fault{class: activities.ClassDenied, outcome: activities.Denied, perm: "iam:PutUserPolicy"}
	w.reported(0, "r1", "AKIA-1", withSecret)
	w.approving("irreversible")
	w.at(time.Hour, func() {
		var about []view.Human
		for _, h := range openHumans(w.show()) {
			if strings.Contains(h.What, "50 items") {
				about = append(about, h)
			}
		}
		require.Len(t, about, 1)
		require.Contains(t, about[0].What, "iam:PutUserPolicy")
		w.provider.mu.Lock()
		delete(w.provider.always, activities.EndSessions)
		w.provider.mu.Unlock()
		w.resolved(t, "done")
	})
	v := w.run()
	require.Equal(t, "all-clear", v.State)
	require.Equal(t, 51, v.Totals.ByEndState["revoked-verified"])
}

func TestARowThatIsReportedByItselfMovesByItself(t *testing.T) {
	w := newWorld(t, large(30, func(m *massWorld) {
		m.owner = "platform"
		m.strategy = func(page.Row) playbooks.StrategyName { return playbooks.ReissueFirst }
	}))
	abused := w.mass.ids[11]
	w.reported(0, "r1", "AKIA-1", withSecret)
	w.approving("strategy", "irreversible")
	w.abused(50*time.Minute, abused)
	w.reported(time.Hour, "r2", abused)
	w.at(4*time.Hour, func() {
		require.Less(t, w.provider.when("Disable "+abused), t0.Add(2*time.Hour), "abuse: cut at once")
		for _, id := range w.mass.ids {
			if id != abused {
				require.Zero(t, w.provider.when("Disable "+id), "the others wait for their dependents")
			}
		}
	})
	for _, id := range w.mass.ids {
		w.moves(5*time.Hour, id, "10.0.0.9")
	}
	w.resolving()
	v := w.run()
	require.Equal(t, 31, v.Totals.ByEndState["revoked-verified"])
	require.Equal(t, "revoked-verified", of(t, v, abused).EndState)
	require.Len(t, slices.DeleteFunc(w.provider.did(activities.Issue), func(s string) bool { return !strings.HasSuffix(s, abused) }), 1, "its replacement is made once")
}

func TestRowsThatNoWaveMovesAreDecidedTogether(t *testing.T) {
	w := newWorld(t, large(12, func(m *massWorld) {
		m.strategy = func(r page.Row) playbooks.StrategyName {
			if r.ID < "MASS-00004" {
				return playbooks.NotifyOnly
			}
			return playbooks.RevokeNow
		}
	}))
	w.reported(0, "r1", "AKIA-1", withSecret)
	w.approving("irreversible")
	w.at(time.Hour, func() {
		v := w.show()
		require.Equal(t, 4, v.Totals.Open)
		for _, h := range openHumans(v) {
			if strings.Contains(h.What, "not ours") {
				a := w.update(w.say(statement.Resolve, "alice", func(s *statement.Statement) { s.Task, s.As, s.Text = h.ID, "customer-action-open", "told by mail" }))
				require.NoError(t, a.err)
			}
		}
	})
	w.at(2*time.Hour, func() {
		a := w.update(w.say(statement.Close, "alice", func(s *statement.Statement) { s.Text = "customers act" }))
		require.NoError(t, a.err)
	})
	v := w.run()
	require.Equal(t, "contained", v.State)
	require.Equal(t, map[string]int{"revoked-verified": 9, "customer-action-open": 4}, v.Totals.ByEndState)
}

func TestKeysOfOtherIncidentsAreTakenOutOfTheMass(t *testing.T) {
	w := newWorld(t, large(10))
	other := w.mass.ids[2]
	w.claims[fp(other)] = "inc-0000000000ff"
	w.reported(0, "r1", "AKIA-1", withSecret)
	w.approving("irreversible", "accept-risk")
	w.at(time.Hour, func() {
		require.Empty(t, slices.DeleteFunc(w.provider.did(), func(s string) bool { return !strings.HasSuffix(s, other) }), "not ours to move")
		w.update(w.say(statement.Resolve, "alice", func(s *statement.Statement) {
			s.Items, s.As, s.Text, s.Until = []string{other}, "accepted-risk", "the other incident has it", w.env.Now().Add(100*time.Hour)
		}))
	})
	w.at(2*time.Hour, func() {
		w.update(w.say(statement.Close, "alice", func(s *statement.Statement) { s.Text = "done here" }))
	})
	v := w.run()
	require.Equal(t, map[string]int{"revoked-verified": 10, "accepted-risk": 1}, v.Totals.ByEndState)
	require.Equal(t, 11, v.Totals.Items)
}
