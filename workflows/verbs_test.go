package workflows_test

import (
	"maps"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/activities"
	"rekey/internal/event"
	"rekey/internal/statement"
	"rekey/internal/view"
	"rekey/workflows"
)

// without takes verbs away from the provider, as a kind that never had them.
func without(verbs ...activities.Verb) option {
	return kindWith(func(k *workflows.KindFacts) {
		for _, v := range verbs {
			delete(k.Verbs, v)
		}
	})
}

// byHand leaves verbs to people.
func byHand(verbs ...activities.Verb) option {
	return kindWith(func(k *workflows.KindFacts) {
		for _, v := range verbs {
			k.Verbs[v] = activities.VerbInfo{Support: activities.ByHuman, Steps: "docs#" + string(v)}
		}
	})
}

func kindWith(change func(*workflows.KindFacts)) option {
	return func(w *world) {
		k := w.set.Kinds["awsiam/user-access-key"]
		k.Verbs = maps.Clone(k.Verbs)
		change(&k)
		w.set.Kinds = map[string]workflows.KindFacts{"awsiam/user-access-key": k}
	}
}

// TestMissingVerbs has a row for each row of contracts section 6.
func TestMissingVerbs(t *testing.T) {
	tests := map[string]struct {
		opts    []option
		adopt   bool
		approve []string
		resolve func(*statement.Statement)
		want    []string
		check   func(*testing.T, *world, view.Incident)
		until   time.Duration
	}{
		"Disable: Revoke takes its place behind its gate": {
			opts: []option{without(activities.Disable)}, approve: []string{"irreversible"}, want: []string{"Revoke AKIA-1", "EndSessions AKIA-1"},
		},
		"Disable: and no Revoke without its votes": {
			opts: []option{without(activities.Disable)}, until: 6 * time.Hour, want: []string{},
		},
		"Disable and Revoke by a person: the probe proves that they did it": {
			opts: []option{byHand(activities.Disable, activities.Revoke)}, approve: []string{"irreversible"}, resolve: func(*statement.Statement) {}, until: 6 * time.Hour,
			want: []string{"EndSessions AKIA-1", "EndSessions AKIA-1"}, // the second as a rung: it goes on living
			check: func(t *testing.T, _ *world, v view.Incident) {
				require.NotEqual(t, "dead", of(t, v, "AKIA-1").Death.State, "they said so, and the key is alive")
				require.NotEmpty(t, v.NeedsHuman[0].Steps)
				require.NotEmpty(t, v.NeedsHuman[0].Owner)
				require.NotEmpty(t, v.NeedsHuman[0].Due)
			},
		},
		"EndSessions: sessions die with the key, so it is left out": {
			opts: []option{without(activities.EndSessions), kindWith(func(k *workflows.KindFacts) { k.SessionsOutlive = false })}, approve: []string{"irreversible"},
			want: []string{"Disable AKIA-1", "Revoke AKIA-1"},
		},
		"EndSessions: sessions live on, so the principal is denied with the votes of its rung": {
			opts: []option{without(activities.EndSessions)}, approve: []string{"irreversible", "rung"}, want: []string{"Disable AKIA-1", "Deny AKIA-1", "Revoke AKIA-1"},
			check: func(t *testing.T, _ *world, v view.Incident) {
				require.Equal(t, "principal", of(t, v, "AKIA-1").Death.Rung)
			},
		},
		"EndSessions: and not without them": {
			opts: []option{without(activities.EndSessions)}, approve: []string{"irreversible"}, until: 6 * time.Hour, want: []string{"Disable AKIA-1"},
		},
		"EndSessions: no rung at all, so a person ends them": {
			opts: []option{without(activities.EndSessions, activities.Deny), func(w *world) { w.set.Playbook.Ladder.Approved = nil }}, approve: []string{"irreversible"},
			resolve: func(*statement.Statement) {}, want: []string{"Disable AKIA-1", "Revoke AKIA-1"},
			check: func(t *testing.T, _ *world, v view.Incident) {
				require.Contains(t, v.NeedsHuman[0].What, "sessions of")
				require.Equal(t, "done", v.NeedsHuman[0].State)
			},
		},
		"Issue: a person makes it, and in reissue-first the old key stays until adoption is proven": {
			opts: []option{without(activities.Issue)}, adopt: true, approve: []string{"strategy", "irreversible"}, until: 60 * time.Hour, want: []string{},
			check: func(t *testing.T, _ *world, v view.Incident) {
				require.Contains(t, openHumans(v)[0].What, "make the replacement")
			},
		},
		"Issue: … or the cut-off fires": {
			opts: []option{without(activities.Issue)}, adopt: true, approve: []string{"strategy", "irreversible"}, resolve: func(s *statement.Statement) { s.As = "done" }, until: 80 * time.Hour,
			want: []string{"Disable AKIA-1", "EndSessions AKIA-1", "Revoke AKIA-1"},
			check: func(t *testing.T, w *world, _ view.Incident) {
				require.GreaterOrEqual(t, w.provider.when("Disable AKIA-1").Sub(t0), 72*time.Hour)
			},
		},
		"Issue: … even if nobody does anything": {
			opts: []option{without(activities.Issue)}, adopt: true, approve: []string{"strategy", "irreversible"}, until: 80 * time.Hour,
			want: []string{"Disable AKIA-1", "EndSessions AKIA-1", "Revoke AKIA-1"},
			check: func(t *testing.T, w *world, v view.Incident) {
				require.GreaterOrEqual(t, w.provider.when("Disable AKIA-1").Sub(t0), 72*time.Hour)
				require.Equal(t, "revoked-verified", of(t, v, "AKIA-1").EndState)
				require.Equal(t, "contained", v.State)
				require.Equal(t, 1, w.count(event.EventGate, "cut-off reached"))
				require.Len(t, openHumans(v), 1, "the replacement is still wanted")
			},
		},
		"Issue: … or they say that it is adopted": {
			opts: []option{without(activities.Issue)}, adopt: true, approve: []string{"strategy", "irreversible"}, resolve: func(s *statement.Statement) { s.As = "adopted" },
			want: []string{"Disable AKIA-1", "EndSessions AKIA-1", "Revoke AKIA-1"},
			check: func(t *testing.T, w *world, v view.Incident) {
				require.Less(t, w.provider.when("Disable AKIA-1").Sub(t0), 2*time.Hour)
				require.Equal(t, "adopted", of(t, v, "AKIA-1").Adoption.State)
			},
		},
		"Distribute: a person hands it over": {
			opts: []option{without(activities.Distribute)}, adopt: true, approve: []string{"strategy", "irreversible"}, until: 5 * time.Hour, want: []string{"Issue AKIA-1"},
			check: func(t *testing.T, _ *world, v view.Incident) {
				require.Contains(t, openHumans(v)[0].What, "hand the new key NEW-AKIA-1 over")
			},
		},
		"Probe: everything is done, and only an accepted risk ends it": {
			opts: []option{without(activities.Probe)}, approve: []string{"irreversible"}, resolve: func(*statement.Statement) {}, until: 10 * time.Hour,
			want: []string{"Disable AKIA-1", "EndSessions AKIA-1", "Revoke AKIA-1"},
			check: func(t *testing.T, _ *world, v view.Incident) {
				it := of(t, v, "AKIA-1")
				require.Empty(t, it.EndState, "resolving the step is no proof")
				require.Equal(t, "human", it.Death.State)
				require.Contains(t, openHumans(v)[0].What, "nothing can prove")
			},
		},
		"Inspect: the scope says unseen, and the first rule that does not read it decides": {
			opts: []option{without(activities.Inspect)}, approve: []string{"strategy", "irreversible"},
			want: []string{"Disable AKIA-1", "EndSessions AKIA-1", "Revoke AKIA-1"},
			check: func(t *testing.T, _ *world, v view.Incident) {
				require.Equal(t, "default", of(t, v, "AKIA-1").Rule)
				require.Len(t, v.Scope.Unseen, 1)
			},
		},
		"Sweep: nothing is looked for": {
			opts: []option{without(activities.Sweep)}, approve: []string{"irreversible"}, want: []string{"Disable AKIA-1", "EndSessions AKIA-1", "Revoke AKIA-1"},
		},
		"Revoke: dead, and destroyed by hand": {
			opts: []option{without(activities.Revoke)}, approve: []string{"irreversible"}, resolve: func(*statement.Statement) {}, want: []string{"Disable AKIA-1", "EndSessions AKIA-1"},
			check: func(t *testing.T, _ *world, v view.Incident) {
				require.Contains(t, v.NeedsHuman[0].What, "proven dead but not destroyed")
			},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, tt.opts...)
			if tt.adopt {
				w.used("AKIA-1", "billing")
			}
			w.reported(0, "r1", "AKIA-1", withSecret)
			if tt.approve != nil {
				w.approving(tt.approve...)
			}
			if tt.resolve != nil {
				w.resolving(tt.resolve)
			}
			if tt.until > 0 {
				w.until(tt.until)
			}
			v := w.run()
			require.Equal(t, tt.want, w.provider.did())
			if tt.until == 0 {
				require.Equal(t, "all-clear", v.State)
				require.Equal(t, "revoked-verified", of(t, v, "AKIA-1").EndState)
			}
			if tt.check != nil {
				tt.check(t, w, v)
			}
		})
	}
}

func TestNoProbeEndsAsAcceptedRisk(t *testing.T) {
	w := newWorld(t, without(activities.Probe))
	w.reported(0, "r1", "AKIA-1")
	w.approving("irreversible", "accept-risk")
	w.at(3*time.Hour, func() {
		w.update(w.say(statement.Resolve, "alice", func(s *statement.Statement) {
			s.As, s.Items, s.Text, s.Until = "accepted-risk", []string{"AKIA-1"}, "no way to ask", w.env.Now().Add(30*24*time.Hour)
		}))
	})
	w.until(4 * time.Hour)
	v := w.run()
	it := of(t, v, "AKIA-1")
	require.Equal(t, "accepted-risk", it.EndState)
	require.Equal(t, "alice", it.Approver)
	require.NotEmpty(t, it.Until)
	require.Equal(t, "contained", v.State)
	require.Empty(t, openHumans(v), "its steps are over with it")
}
