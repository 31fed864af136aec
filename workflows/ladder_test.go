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

func TestLadder(t *testing.T) {
	const (
		disable = "Disable AKIA-1"
		end     = "EndSessions AKIA-1"
		revoke  = "Revoke AKIA-1"
		deny    = "Deny AKIA-1"
		bind    = "Bind AKIA-1"
	)
	survives := func(verbs ...activities.Verb) option {
		return func(w *world) { w.provider.key("AKIA-1").survives = verbs }
	}
	tests := map[string]struct {
		opt      option
		approve  []string
		resolve  bool
		want     []string
		rung     string
		grade    string
		endState string
		state    string // of death, when it does not end
		open     string // of the step that is open at the end
	}{
		"dead at once": {opt: survives(), approve: []string{"irreversible"}, want: []string{disable, end, revoke}, rung: "key", grade: "A", endState: "revoked-verified"},
		"a 200 that kills nothing climbs to Revoke, with its votes": {
			opt: survives(activities.Disable), approve: []string{"irreversible"}, want: []string{disable, end, revoke}, rung: "key", grade: "A", endState: "revoked-verified",
		},
		"the key rung does not climb without the votes for what cannot be undone": {
			opt: survives(activities.Disable), want: []string{disable, end}, state: "alive", open: "",
		},
		"a Deny that works stops the climb, though authentication still answers": {
			opt: survives(activities.Disable, activities.Revoke, activities.EndSessions), approve: []string{"irreversible", "rung"},
			want: []string{disable, end, revoke, end, deny}, rung: "principal", grade: "A", endState: "revoked-verified",
		},
		"the principal rung does not climb without votes of its own": {
			opt: survives(activities.Disable, activities.Revoke, activities.EndSessions), approve: []string{"irreversible"},
			want: []string{disable, end, revoke, end}, state: "alive",
		},
		"a person denies from above": {
			opt:     survives(activities.Disable, activities.Revoke, activities.EndSessions, activities.Deny),
			approve: []string{"irreversible", "rung"}, want: []string{disable, end, revoke, end, deny}, state: "alive", open: "deny",
		},
		"bound to networks, and dead": {
			opt: func(w *world) {
				survives(activities.Disable, activities.Revoke, activities.EndSessions, activities.Deny)(w)
				w.set.Playbook.Harden.AllowFrom = []string{"203.0.113.0/24"}
			},
			approve: []string{"irreversible", "rung"}, resolve: true, want: []string{disable, end, revoke, end, deny, bind}, rung: "network-bind", grade: "A", endState: "revoked-verified",
		},
		"nothing helps: the vendor's ticket": {
			opt: func(w *world) {
				survives(activities.Disable, activities.Revoke, activities.EndSessions, activities.Deny)(w)
				w.set.Playbook.Ladder.Approved = []playbooks.Rung{playbooks.RungPrincipal}
			},
			approve: []string{"irreversible", "rung"}, want: []string{disable, end, revoke, end, deny}, state: "alive", open: "open a ticket",
		},
		"unclear probes never climb": {
			opt:     func(w *world) { w.provider.key("AKIA-1").saw = activities.ProbeUnclear },
			approve: []string{"irreversible", "rung"}, want: []string{disable, end}, state: "unclear", open: "no clear answer",
		},
		"probes that fail never climb": {
			opt: func(w *world) {
				w.provider.always[activities.Probe] = fault{class: activities.ClassTransient, outcome: activities.Unclear, detail: "no route"}
			},
			approve: []string{"irreversible", "rung"}, want: []string{disable, end}, state: "unclear", open: "no clear answer",
		},
		"probes whose worker dies never climb": {
			opt:     func(w *world) { w.provider.always[activities.Probe] = fault{lost: true} },
			approve: []string{"irreversible", "rung"}, want: []string{disable, end}, state: "unclear", open: "no clear answer",
		},
		"refusals without a control never count": {
			opt:     func(w *world) { w.provider.key("AKIA-1").noControl = true },
			approve: []string{"irreversible", "rung"}, want: []string{disable, end}, state: "unclear", open: "no clear answer",
		},
		"a secret that is not the key's says that the key is alive": {
			opt:  func(w *world) { w.provider.key("AKIA-1").saw = activities.ProbeMismatch },
			want: []string{disable, end}, state: "alive",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, tt.opt)
			w.reported(0, "r1", "AKIA-1", withSecret)
			if len(tt.approve) > 0 {
				w.approving(tt.approve...)
			}
			if tt.resolve {
				w.resolving()
			}
			if tt.endState == "" {
				w.until(6 * time.Hour)
			}
			v := w.run()
			it := of(t, v, "AKIA-1")
			require.Equal(t, tt.want, w.provider.did())
			require.Equal(t, tt.endState, it.EndState)
			if tt.endState != "" {
				require.Equal(t, tt.rung, it.Death.Rung)
				require.Equal(t, tt.grade, it.Death.Grade)
				require.Equal(t, "all-clear", v.State)
				require.Empty(t, openHumans(v), "nothing is asked of anybody behind a proven death")
				return
			}
			require.Contains(t, []string{tt.state, "proving"}, it.Death.State)
			require.NotEqual(t, "dead", it.Death.State)
			if tt.open != "" {
				h := openHumans(v)
				require.NotEmpty(t, h)
				require.Contains(t, h[len(h)-1].What, tt.open)
				require.NotEmpty(t, h[len(h)-1].Owner)
				require.NotEmpty(t, h[len(h)-1].Due)
			}
		})
	}
}

func TestRungVotesAreForOneItem(t *testing.T) {
	w := newWorld(t, func(w *world) {
		for _, id := range []string{"AKIA-1", "AKIA-2"} {
			w.provider.key(id).survives = []activities.Verb{activities.Disable, activities.Revoke, activities.EndSessions}
		}
		w.reach["AKIA-1"] = []string{"AKIA-2"}
	})
	w.reported(0, "r1", "AKIA-1", withSecret)
	w.approving("irreversible")
	voted := ""
	w.at(2*time.Hour, func() {
		n := 0
		for _, a := range w.show().Approvals {
			if a.For == "rung" && a.State == "open" {
				require.Len(t, a.Items, 1)
				n++
			}
		}
		require.Equal(t, 2, n)
		for _, a := range w.show().Approvals {
			if a.For == "rung" {
				voted = a.Items[0]
				for _, actor := range []string{"alice", "bob"} {
					w.update(w.say(statement.Approve, actor, func(s *statement.Statement) { s.WaveHash, s.Approval = a.WaveHash, a.ID }))
				}
				break
			}
		}
	})
	w.until(4 * time.Hour)
	w.run()
	denied := w.provider.did(activities.Deny)
	require.Len(t, denied, 1, "the other principal has its own question")
	for _, id := range []string{"AKIA-1", "AKIA-2"} {
		if fp(id) == voted {
			require.Equal(t, "Deny "+id, denied[0])
		}
	}
}

func TestDeathNeedsKRefusalsOverTheSpan(t *testing.T) {
	w := newWorld(t)
	w.reported(0, "r1", "AKIA-1", withSecret)
	w.approving("irreversible")
	v := w.run()
	require.Equal(t, 3, of(t, v, "AKIA-1").Death.Refusals)
	require.Equal(t, []string{"eu-central-1", "us-east-1"}, of(t, v, "AKIA-1").Death.Vantages)
	first := w.provider.when("Probe AKIA-1 auth")
	require.GreaterOrEqual(t, first.Sub(w.provider.when("Disable AKIA-1")), 15*time.Second, "not inside the propagation")
	require.GreaterOrEqual(t, w.provider.when("Revoke AKIA-1").Sub(first), 30*time.Second, "two times the propagation")
	w.provider.mu.Lock()
	defer w.provider.mu.Unlock()
	from := map[string]int{}
	for _, c := range w.provider.calls {
		if c.verb == activities.Probe {
			from[c.pass.Items[0].Vantage]++
		}
	}
	require.GreaterOrEqual(t, from["eu-central-1"], 3)
	require.GreaterOrEqual(t, from["us-east-1"], 3)
}

func TestOneRefusalIsNotEnoughBeforeTheSpan(t *testing.T) {
	w := newWorld(t, func(w *world) { w.set.Playbook.Verify.K, w.set.Playbook.Verify.Sweep = 1, false })
	w.reported(0, "r1", "AKIA-1", withSecret)
	w.approving("irreversible")
	require.Equal(t, "all-clear", w.run().State)
	first, last := time.Time{}, time.Time{}
	for _, c := range w.provider.all() {
		if c.verb == activities.Revoke {
			break
		}
		if c.verb == activities.Probe {
			last = c.at
			if first.IsZero() {
				first = c.at
			}
		}
	}
	require.GreaterOrEqual(t, last.Sub(first), 30*time.Second)
}

func TestRefusedOnceAndThenUnclearGoesToAPerson(t *testing.T) {
	w := newWorld(t)
	w.reported(0, "r1", "AKIA-1", withSecret)
	w.at(16*time.Second, func() {
		w.provider.mu.Lock()
		defer w.provider.mu.Unlock()
		w.provider.key("AKIA-1").saw = activities.ProbeUnclear
	})
	w.until(2 * time.Hour)
	v := w.run()
	require.NotEqual(t, "dead", of(t, v, "AKIA-1").Death.State)
	require.Len(t, openHumans(v), 1)
	require.Contains(t, openHumans(v)[0].What, "no clear answer")
	require.Empty(t, w.provider.did(activities.Revoke))
}

func TestNoReplacementUnderADeny(t *testing.T) {
	w := newWorld(t, func(w *world) {
		w.provider.key("AKIA-1").survives = []activities.Verb{activities.Disable, activities.Revoke, activities.EndSessions}
	})
	w.used("AKIA-1", "billing")
	w.abused(0, "AKIA-1") // revoke-now, with a replacement
	w.reported(time.Second, "r1", "AKIA-1", withSecret)
	w.approving("irreversible", "rung")
	w.at(3*time.Hour, func() {
		require.Empty(t, w.provider.did(activities.Issue), "the new key of the same principal would be refused too")
		h := openHumans(w.show())
		require.Len(t, h, 1)
		require.Contains(t, h[0].What, "principal")
		w.update(w.say(statement.Resolve, "alice", func(s *statement.Statement) { s.Task, s.As = h[0].ID, "adopted" }))
	})
	v := w.run()
	require.Equal(t, "all-clear", v.State)
	require.Equal(t, "adopted", of(t, v, "AKIA-1").Adoption.State)
}

func TestAliveBetweenRefusalsStartsAnew(t *testing.T) {
	w := newWorld(t)
	w.reported(0, "r1", "AKIA-1", withSecret)
	w.approving("irreversible")
	flip := func(d time.Duration, saw string) {
		w.at(d, func() { w.provider.mu.Lock(); w.provider.key("AKIA-1").saw = saw; w.provider.mu.Unlock() })
	}
	flip(20*time.Second, activities.ProbeAlive) // inside twice the propagation: no climb
	flip(25*time.Second, "")
	v := w.run()
	it := of(t, v, "AKIA-1")
	require.Equal(t, "all-clear", v.State)
	require.Empty(t, w.provider.did(activities.Deny))
	if it.Death.LastAlive != "" {
		require.True(t, mustTime(t, it.Death.FirstRefused).After(mustTime(t, it.Death.LastAlive)))
	}
}

func TestGradeBWithoutTheSecret(t *testing.T) {
	w := newWorld(t)
	w.reported(0, "r1", "AKIA-1")
	w.approving("irreversible")
	v := w.run()
	require.Equal(t, "B", of(t, v, "AKIA-1").Death.Grade)
	require.Equal(t, 0, w.forgets, "nothing was sealed")
	for _, c := range w.provider.did(activities.Probe) {
		require.Equal(t, "Probe AKIA-1 state", c)
	}
}

func TestControlOffTrustsTheAnswer(t *testing.T) {
	w := newWorld(t, func(w *world) {
		w.set.Off = []string{workflows.OffProbeOld}
		w.provider.key("AKIA-1").survives = []activities.Verb{activities.Disable, activities.Revoke}
	})
	w.reported(0, "r1", "AKIA-1", withSecret)
	w.approving("irreversible")
	v := w.run()
	require.Equal(t, "all-clear", v.State, "the negative control: a key that lives is called dead")
	require.Empty(t, w.provider.did(activities.Probe))
	require.Equal(t, 0, w.count(event.EventLadder, ""))
}
