package workflows_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/activities"
	"rekey/internal/statement"
)

func TestFaultsOfCalls(t *testing.T) {
	transient := fault{class: activities.ClassTransient, outcome: activities.Unclear, detail: "no route"}
	unclear := fault{class: activities.ClassUnclear, outcome: activities.Unclear, detail: "no answer"}
	late := fault{class: activities.ClassUnclear, outcome: activities.Unclear, detail: "no answer", applied: true}
	denied := fault{class: activities.ClassDenied, outcome: activities.Denied, perm: "iam:UpdateAccessKey"}
	throttled := fault{class: activities.ClassThrottled, outcome: activities.Unclear, after: 90 * time.Second}
	tests := map[string]struct {
		verb    activities.Verb
		script  []fault
		resolve bool
		calls   int
		after   time.Duration // of the last call, since the first
		oneID   bool          // all attempts share one journal
	}{
		"throttled: not before it may":                                     {verb: activities.Disable, script: []fault{throttled, throttled}, calls: 3, after: 180 * time.Second, oneID: true},
		"transient: repeated":                                              {verb: activities.Disable, script: []fault{transient, transient, transient}, calls: 4, after: 14 * time.Second, oneID: true},
		"the worker dies: at once, under its token":                        {verb: activities.Disable, script: []fault{{lost: true}, {lost: true, applied: true}}, calls: 3, oneID: true},
		"unclear, and it happened: the probe tells":                        {verb: activities.Disable, script: []fault{late, late, late}, calls: 3, oneID: true},
		"unclear, and it did not: made again before the ladder is climbed": {verb: activities.Disable, script: []fault{unclear, unclear, unclear}, calls: 4},
		"denied: a person grants the right":                                {verb: activities.Disable, script: []fault{denied}, resolve: true, calls: 2},
		"Revoke is throttled":                                              {verb: activities.Revoke, script: []fault{throttled}, calls: 2, after: 90 * time.Second, oneID: true},
		"Revoke is unclear":                                                {verb: activities.Revoke, script: []fault{unclear, unclear, unclear}, calls: 4},
		"Inspect is throttled":                                             {verb: activities.Inspect, script: []fault{throttled}, calls: 2, after: 90 * time.Second, oneID: true},
		"Sweep is transient":                                               {verb: activities.Sweep, script: []fault{transient}, calls: 5}, // the last one is the watch's
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.provider.script[tt.verb] = tt.script
			w.reported(0, "r1", "AKIA-1", withSecret)
			w.approving("irreversible")
			if tt.resolve {
				w.resolving()
			}
			v := w.run()
			require.Equal(t, "all-clear", v.State)
			require.Empty(t, w.provider.did(activities.Deny), "no rung above the key was climbed")
			var at []time.Time
			ids, tokens, attempts := map[string]bool{}, map[string]bool{}, map[int]bool{}
			for _, c := range w.provider.all() {
				if c.verb == tt.verb {
					at = append(at, c.at)
					ids[c.pass.ID], tokens[c.pass.Items[0].Token], attempts[c.pass.Attempt] = true, true, true
				}
			}
			require.Len(t, at, tt.calls)
			require.GreaterOrEqual(t, at[len(at)-1].Sub(at[0]), tt.after)
			if tt.oneID {
				require.Len(t, ids, 1, "one effect, one journal")
				require.Len(t, tokens, 1)
				require.Len(t, attempts, tt.calls, "each attempt has its number")
			}
			if tt.resolve {
				require.Contains(t, v.NeedsHuman[0].What, "iam:UpdateAccessKey")
			}
		})
	}
}

func TestFailingForLongIsGivenToAPersonAndGoesOn(t *testing.T) {
	w := newWorld(t)
	w.provider.always[activities.Disable] = fault{class: activities.ClassTransient, outcome: activities.Unclear, detail: "no route"}
	w.reported(0, "r1", "AKIA-1")
	w.approving("irreversible")
	w.at(time.Hour, func() {
		h := openHumans(w.show())
		require.Len(t, h, 1)
		require.Contains(t, h[0].What, "keeps failing")
		require.NotEmpty(t, h[0].Owner)
		w.provider.mu.Lock()
		delete(w.provider.always, activities.Disable)
		w.provider.mu.Unlock()
	})
	v := w.run()
	require.Equal(t, "all-clear", v.State)
	require.Empty(t, openHumans(v), "the step lapses when the call succeeds")
}

func TestProviderThatNoWorkerHas(t *testing.T) {
	w := newWorld(t)
	w.provider.always[activities.Disable] = fault{lost: true}
	w.reported(0, "r1", "AKIA-1", withSecret)
	w.until(6 * time.Hour)
	v := w.run()
	require.NotEqual(t, "dead", of(t, v, "AKIA-1").Death.State)
	require.NotEmpty(t, v.Approvals, "what is alive climbs, with its votes")
	require.Empty(t, w.provider.did(activities.Revoke))
}

func TestUnclearIssueNeverProceeds(t *testing.T) {
	w := newWorld(t)
	w.used("AKIA-1", "billing")
	w.provider.always[activities.Issue] = fault{class: activities.ClassUnclear, outcome: activities.Unclear, detail: "no answer"}
	w.reported(0, "r1", "AKIA-1")
	w.approving("strategy", "irreversible")
	w.until(48 * time.Hour)
	v := w.run()
	require.Empty(t, w.provider.did(activities.Disable, activities.Distribute, activities.Revoke))
	require.NotEqual(t, "issued", of(t, v, "AKIA-1").Adoption.State)
	require.Len(t, openHumans(v), 1)
	ids := map[string]bool{}
	for _, c := range w.provider.all() {
		if c.verb == activities.Issue {
			ids[c.pass.ID] = true
		}
	}
	require.Len(t, ids, 1, "one journal knows all that was lost")
}

func TestIssueKeepsItsJournalWhileAPersonHelps(t *testing.T) {
	w := newWorld(t)
	w.used("AKIA-1", "billing")
	w.provider.script[activities.Issue] = []fault{
		{class: activities.ClassUnclear, outcome: activities.Unclear, applied: true},
		{class: activities.ClassDenied, outcome: activities.Denied, perm: "iam:ListAccessKeys"},
	}
	w.reported(0, "r1", "AKIA-1")
	w.approving("strategy", "irreversible")
	w.resolving()
	w.moves(2*time.Hour, "AKIA-1", "10.0.0.1")
	require.Equal(t, "all-clear", w.run().State)
	ids := map[string]bool{}
	for _, c := range w.provider.all() {
		if c.verb == activities.Issue {
			ids[c.pass.ID] = true
		}
	}
	require.Len(t, ids, 1)
}

func TestSlotNeeded(t *testing.T) {
	w := newWorld(t)
	w.provider.slots = 1
	w.used("AKIA-1", "billing")
	w.abused(0, "AKIA-1") // revoke-now, with a replacement
	w.reported(time.Second, "r1", "AKIA-1", withSecret)
	w.approving("irreversible")
	w.moves(4*time.Hour, "AKIA-1", "10.0.0.1")
	v := w.run()
	require.Equal(t, "all-clear", v.State)
	require.Equal(t, "adopted", of(t, v, "AKIA-1").Adoption.State)
	require.Equal(t, []string{"Disable AKIA-1", "EndSessions AKIA-1", "Issue AKIA-1", "Revoke AKIA-1", "Issue AKIA-1", "Distribute AKIA-1"}, w.provider.did(), "Revoke comes earlier, with its votes")
}

func TestSlotNeededWithoutAProofOfDeath(t *testing.T) {
	w := newWorld(t)
	w.provider.slots = 1
	w.used("AKIA-1", "billing")
	w.reported(0, "r1", "AKIA-1")
	w.approving("strategy", "irreversible")
	w.until(10 * time.Hour)
	v := w.run()
	require.Empty(t, w.provider.did(activities.Revoke), "a living key is not destroyed for its slot")
	require.Contains(t, openHumans(v)[0].What, "no free slot")
}

func TestDeniedDistributeWaitsForItsRight(t *testing.T) {
	w := newWorld(t)
	w.used("AKIA-1", "billing")
	w.provider.script[activities.Distribute] = []fault{{class: activities.ClassDenied, outcome: activities.Denied, perm: "secretsmanager:PutSecretValue"}}
	w.reported(0, "r1", "AKIA-1")
	w.approving("strategy", "irreversible")
	w.at(2*time.Hour, func() {
		require.Empty(t, w.provider.did(activities.Disable))
		h := openHumans(w.show())
		require.Contains(t, h[0].What, "secretsmanager:PutSecretValue")
		w.update(w.say(statement.Resolve, "alice", func(s *statement.Statement) { s.Task = h[0].ID }))
	})
	w.at(3*time.Hour, func() { require.Len(t, w.provider.did(activities.Distribute), 2) })
	w.until(3*time.Hour + time.Second)
	require.Equal(t, 1, of(t, w.run(), "AKIA-1").Adoption.Receipts)
}
