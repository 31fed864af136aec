package workflows_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/activities"
	"rekey/internal/event"
	"rekey/internal/plan"
	"rekey/internal/statement"
	"rekey/workflows"
)

// used says that dependents of ours use a key: it is replaced before it is cut.
func (w *world) used(id string, dependents ...string) {
	s := workflows.Scoped{Owner: "platform", OwnerKind: "team"}
	for _, d := range dependents {
		s.Dependents = append(s.Dependents, plan.Dependent{ID: d, Owner: "platform", BudgetMs: 1_800_000, Cutover: "dual", Proof: "last-used"})
	}
	w.estate[id] = s
}

// moves lets a dependent be seen on the replacement at a time.
func (w *world) moves(d time.Duration, id, source string) {
	w.at(d, func() {
		w.provider.mu.Lock()
		defer w.provider.mu.Unlock()
		k := w.provider.key(id)
		k.newUses = append(k.newUses, activities.Use{First: w.env.Now(), Last: w.env.Now(), Count: 3, Source: source, Label: activities.UseKnown})
	})
}

// abused lets the provider's log show abuse of a key from a time on.
func (w *world) abused(d time.Duration, id string) {
	w.at(d, func() {
		w.provider.mu.Lock()
		defer w.provider.mu.Unlock()
		k := w.provider.key(id)
		k.uses = append(k.uses, activities.Use{First: w.env.Now(), Last: w.env.Now(), Count: 5, Source: "198.51.100.7", Label: activities.UseNew, Malicious: true})
	})
}

func TestReissueFirstWaitsForEveryDependent(t *testing.T) {
	w := newWorld(t)
	w.used("AKIA-1", "billing", "nightly")
	w.reported(0, "r1", "AKIA-1", withSecret)
	w.approving("strategy", "irreversible")
	w.resolving() // the notice is sent by hand
	w.moves(2*time.Hour, "AKIA-1", "10.0.0.1")
	w.moves(5*time.Hour, "AKIA-1", "10.0.0.2")
	v := w.run()

	it := of(t, v, "AKIA-1")
	require.Equal(t, "all-clear", v.State)
	require.Equal(t, "revoked-verified", it.EndState)
	require.Equal(t, "adopted", it.Adoption.State)
	require.Equal(t, "NEW-AKIA-1", it.Adoption.NewKeyID)
	require.Equal(t, 2, it.Adoption.CutOver)
	require.Equal(t, 1, it.Adoption.Receipts)
	require.Equal(t, []string{"Issue AKIA-1", "Distribute AKIA-1", "Disable AKIA-1", "EndSessions AKIA-1", "Revoke AKIA-1"}, w.provider.did())
	cut := w.provider.when("Disable AKIA-1").Sub(t0)
	require.GreaterOrEqual(t, cut, 5*time.Hour, "not before the last dependent moved")
	require.Less(t, cut, 6*time.Hour+time.Minute)
}

func TestReissueFirstCutOff(t *testing.T) {
	tests := map[string]struct {
		play  func(*world)
		after time.Duration
		until time.Duration
		how   string
	}{
		"nobody moves: the cut-off fires": {play: func(*world) {}, after: 72 * time.Hour, until: 73 * time.Hour, how: "cut-off reached"},
		"a commander overrides it": {
			play: func(w *world) {
				w.at(10*time.Hour, func() {
					a := w.update(w.say(statement.Resolve, "alice", func(s *statement.Statement) {
						s.As, s.Items, s.Text = "override-cutoff", []string{"AKIA-1"}, "risk grew"
					}))
					w.at(time.Second, func() { require.NoError(w.t, a.err) })
				})
			}, after: 10 * time.Hour, until: 10*time.Hour + time.Minute, how: "cut-off override",
		},
		"its owner attests that all have moved": {
			play: func(w *world) {
				w.at(9*time.Hour, func() {
					w.update(w.say(statement.Resolve, "alice", func(s *statement.Statement) {
						s.As, s.Items, s.Text = "adopted", []string{"AKIA-1"}, "seen in our logs"
					}))
				})
			}, after: 9 * time.Hour, until: 9*time.Hour + time.Minute,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.used("AKIA-1", "billing")
			w.reported(0, "r1", "AKIA-1")
			w.approving("strategy", "irreversible")
			w.resolving()
			tt.play(w)
			v := w.run()
			cut := w.provider.when("Disable AKIA-1").Sub(t0)
			require.GreaterOrEqual(t, cut, tt.after)
			require.Less(t, cut, tt.until)
			require.Equal(t, "all-clear", v.State)
			if tt.how != "" {
				require.Equal(t, 1, w.count(event.EventGate, tt.how))
			}
		})
	}
}

func TestNoticeIsAGateBeforeTheCut(t *testing.T) {
	w := newWorld(t)
	w.used("AKIA-1", "billing")
	w.moves(time.Minute, "AKIA-1", "10.0.0.1") // before the replacement is there: proves nothing
	w.reported(0, "r1", "AKIA-1")
	w.approving("strategy", "irreversible")
	w.moves(20*time.Minute, "AKIA-1", "10.0.0.1")
	w.at(30*time.Minute, func() {
		require.Empty(t, w.provider.did(activities.Disable), "nobody was warned yet")
		h := openHumans(w.show())
		require.Len(t, h, 1)
		require.Contains(t, h[0].What, "send the notice")
		require.Contains(t, h[0].Text, "NEW-AKIA-1")
		w.update(w.say(statement.Resolve, "alice", func(s *statement.Statement) { s.Task = h[0].ID }))
	})
	v := w.run()
	require.Equal(t, "all-clear", v.State)
	require.Equal(t, 1, w.count(event.EventGate, "notice sent, says alice"))
	require.GreaterOrEqual(t, w.provider.when("Disable AKIA-1").Sub(t0), 30*time.Minute)
}

func TestDisableAndWatch(t *testing.T) {
	quietly := func(w *world) { // "idle" needs to know the last 30 days
		w.provider.key("AKIA-1").unseen = []activities.Unseen{{Source: "cloudtrail", Why: "denied"}}
	}
	t.Run("quiet time without a complaint ends in Revoke", func(t *testing.T) {
		w := newWorld(t)
		quietly(w)
		w.reported(0, "r1", "AKIA-1")
		w.approving("strategy", "irreversible")
		v := w.run()
		require.Equal(t, "all-clear", v.State)
		require.Equal(t, "disable-and-watch", of(t, v, "AKIA-1").Strategy)
		require.GreaterOrEqual(t, w.provider.when("Revoke AKIA-1").Sub(w.provider.when("Disable AKIA-1")), 24*time.Hour)
	})
	t.Run("restored once by two people, then killed again and proven again", func(t *testing.T) {
		w := newWorld(t)
		quietly(w)
		w.reported(0, "r1", "AKIA-1")
		w.approving("strategy", "irreversible")
		var second *answer
		w.at(2*time.Hour, func() {
			until := w.env.Now().Add(30 * time.Minute)
			w.update(w.say(statement.Restore, "alice", func(s *statement.Statement) { s.Items, s.Until, s.Text = []string{"AKIA-1"}, until, "billing is down" }))
		})
		w.at(2*time.Hour+time.Minute, func() {
			require.Empty(t, w.provider.did(activities.Restore), "one person is not enough")
			w.vote("bob", statement.Approve, "restore")
		})
		w.at(2*time.Hour+10*time.Minute, func() {
			require.Equal(t, "alive", of(t, w.show(), "AKIA-1").Death.State)
		})
		w.at(4*time.Hour, func() {
			second = w.update(w.say(statement.Restore, "alice", func(s *statement.Statement) {
				s.Items, s.Until = []string{"AKIA-1"}, w.env.Now().Add(time.Minute)
			}))
		})
		v := w.run()
		require.Equal(t, "invalid", second.code, "once per item")
		require.Equal(t, "all-clear", v.State)
		require.Equal(t, []string{"Disable AKIA-1", "EndSessions AKIA-1", "Restore AKIA-1", "Disable AKIA-1", "Revoke AKIA-1"}, w.provider.did())
		w.provider.mu.Lock()
		defer w.provider.mu.Unlock()
		var disabled []time.Time
		ids := map[string]bool{}
		for _, c := range w.provider.calls {
			if c.verb == activities.Disable {
				disabled = append(disabled, c.at)
				ids[c.pass.ID] = true
			}
		}
		require.Len(t, ids, 2, "the second Disable is an effect of its own: the journal of the first must not answer for it")
		require.GreaterOrEqual(t, disabled[1].Sub(t0), 2*time.Hour+30*time.Minute)
		require.Less(t, disabled[1].Sub(t0), 2*time.Hour+32*time.Minute)
	})
}

func TestPromotionOnAbuse(t *testing.T) {
	tests := map[string]struct {
		play func(*world)
		step string // where the item stands when abuse is seen
	}{
		"while dependents move":  {step: "WaitCutover", play: func(w *world) { w.resolving() }},
		"while the notice waits": {step: "Notice", play: func(*world) {}},
		"while Issue is denied": {step: "Issue", play: func(w *world) {
			w.provider.always[activities.Issue] = fault{class: activities.ClassDenied, outcome: activities.Denied, perm: "iam:CreateAccessKey"}
		}},
		"while Issue is not clear": {step: "Issue", play: func(w *world) {
			w.provider.always[activities.Issue] = fault{class: activities.ClassUnclear, outcome: activities.Unclear}
		}},
		"while Distribute fails": {step: "Distribute", play: func(w *world) {
			w.provider.always[activities.Distribute] = fault{class: activities.ClassTransient, outcome: activities.Unclear}
		}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.used("AKIA-1", "billing")
			w.reported(0, "r1", "AKIA-1")
			w.approving("strategy", "irreversible")
			tt.play(w)
			w.abused(5*time.Hour, "AKIA-1")
			w.at(5*time.Hour+time.Second, func() { require.Equal(t, tt.step, of(t, w.show(), "AKIA-1").Step) })
			w.reported(5*time.Hour+2*time.Second, "r2", "AKIA-1")
			w.until(7 * time.Hour)
			v := w.run()
			it := of(t, v, "AKIA-1")
			require.Equal(t, "dead", it.Death.State)
			cut := w.provider.when("Disable AKIA-1").Sub(t0)
			require.GreaterOrEqual(t, cut, 5*time.Hour)
			require.Less(t, cut, 5*time.Hour+time.Minute, "abuse cuts at once")
			require.Equal(t, 1, w.count(event.EventDecision, "promoted"))
			require.Equal(t, 2, v.Scope.Version)
			require.LessOrEqual(t, len(w.provider.did(activities.Issue)), 100)
		})
	}
}

func TestNewEvidenceVoidsOnlyTheApprovalItTouches(t *testing.T) {
	w := newWorld(t)
	w.used("AKIA-1", "billing")
	w.provider.key("AKIA-2").unseen = []activities.Unseen{{Source: "cloudtrail", Why: "denied"}} // disable-and-watch
	w.reach["AKIA-1"] = []string{"AKIA-2"}
	w.reported(0, "r1", "AKIA-1")
	var before []string
	w.at(time.Minute, func() {
		v := w.show()
		require.Len(t, v.Approvals, 2)
		for _, a := range v.Approvals {
			require.Equal(t, "open", a.State)
			before = append(before, a.WaveHash)
		}
		require.NoError(t, w.vote("alice", statement.Approve, "strategy").err)
	})
	w.at(2*time.Minute, func() {
		w.mu.Lock()
		w.used("AKIA-1", "billing", "nightly") // one more dependent: another wave
		w.mu.Unlock()
	})
	w.reported(3*time.Minute, "r2", "AKIA-1")
	w.until(4 * time.Minute)
	v := w.run()
	states := map[string]string{}
	for _, a := range v.Approvals {
		states[a.Strategy+" "+a.WaveHash] = a.State
	}
	require.Len(t, v.Approvals, 3)
	voided, kept := 0, 0
	for _, a := range v.Approvals {
		switch {
		case a.State == "voided":
			require.Equal(t, "reissue-first", a.Strategy)
			voided++
		case a.Strategy == "disable-and-watch":
			require.Contains(t, before, a.WaveHash)
			kept++
		}
	}
	require.Equal(t, 1, voided)
	require.Equal(t, 1, kept)
	require.Equal(t, 1, w.count(event.EventApprovalVoided, ""))
	require.Equal(t, 2, v.Scope.Version)
}
