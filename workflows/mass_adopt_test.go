package workflows_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/activities"
	"rekey/internal/page"
	"rekey/internal/statement"
	"rekey/playbooks"
)

func reissued(m *massWorld) {
	m.owner = "platform"
	m.strategy = func(page.Row) playbooks.StrategyName { return playbooks.ReissueFirst }
}

// What a person says of the replacements of keys that are dead is no word about those that
// still wait for their dependents.
func TestAdoptionOfSomeRowsCutsNoOthers(t *testing.T) {
	w := newWorld(t, large(12, reissued))
	first, second := w.mass.ids[2], w.mass.ids[9]
	w.reported(0, "r1", "AKIA-1", withSecret)
	w.approving("strategy", "irreversible")
	cut := func(id string) {
		a := w.update(w.say(statement.Resolve, "alice", func(s *statement.Statement) {
			s.As, s.Items, s.Text = "override-cutoff", []string{id}, "it cannot wait"
		}))
		w.at(time.Second, func() { require.NoError(t, a.err) })
	}
	told := func(what, as string) {
		for _, h := range openHumans(w.show()) {
			if strings.Contains(h.What, what) {
				w.update(w.say(statement.Resolve, "alice", func(s *statement.Statement) { s.Task, s.As = h.ID, as }))
				return
			}
		}
		t.Errorf("%s: nobody is asked about %q: %v", w.env.Now().Sub(t0), what, openHumans(w.show()))
	}
	w.at(time.Hour, func() { told("tell the owners", "done") })
	w.at(2*time.Hour, func() { cut(first) })
	w.at(4*time.Hour, func() { told("not all seen", "waived") })
	w.at(30*time.Hour, func() {
		require.NotZero(t, w.provider.when("Disable "+first))
		for _, id := range w.mass.ids {
			if id != first {
				require.Zero(t, w.provider.when("Disable "+id), "its dependents have not moved")
			}
		}
		cut(second)
	})
	w.at(32*time.Hour, func() { told("not all seen", "adopted") }) // of those that came to it since, it is asked anew
	w.at(80*time.Hour, func() { told("not all seen", "adopted") })
	v := w.run()
	require.Equal(t, 13, v.Totals.ByEndState["revoked-verified"])
	adoption := map[string]int{}
	for _, r := range w.mass.rows(w.seals[len(w.seals)-1].Lists...) {
		adoption[r.Adoption]++
	}
	require.Equal(t, 1, adoption["waived"], adoption)
	require.Equal(t, 11, adoption["adopted"], adoption)
}

// A row that is pulled while a create has no answer goes on in its journal, under its
// token: what the lost call has made is settled there.
func TestAPulledRowKeepsItsLostCreate(t *testing.T) {
	const n = 5
	w := newWorld(t, large(n, reissued))
	lost := fault{class: activities.ClassUnclear, outcome: activities.Unclear, applied: true}
	stop := fault{class: activities.ClassInvalid, outcome: activities.NeedsHuman, detail: "cannot list keys"}
	w.provider.script[activities.Issue] = append(slices.Repeat([]fault{lost}, n), slices.Repeat([]fault{stop}, n)...)
	w.reported(0, "r1", "AKIA-1", withSecret)
	w.approving("strategy", "irreversible")
	w.resolving()
	w.run()
	tokens, journals, calls := map[string]map[string]bool{}, map[string]map[string]bool{}, 0
	for _, c := range w.provider.all() {
		if c.verb != activities.Issue {
			continue
		}
		calls++
		req := c.pass.Items[0]
		id := req.Key.ID
		if tokens[id] == nil {
			tokens[id], journals[id] = map[string]bool{}, map[string]bool{}
		}
		tokens[id][req.Token] = true
		journals[id][strings.TrimPrefix(c.pass.ID, incidentID+"/")] = true
	}
	require.Len(t, tokens, n)
	require.Equal(t, 3*n, calls, "lost, refused, and made by the item")
	for id := range tokens {
		require.Len(t, tokens[id], 1, "one effect, one token: %v", tokens[id])
		require.Len(t, journals[id], 1, "one effect, one journal: %v", journals[id])
	}
}

// Calls that keep failing are repeated, and one person is told, once for all rows.
func TestRowsWhoseCallsKeepFailing(t *testing.T) {
	w := newWorld(t, large(12))
	w.provider.always[activities.EndSessions] = fault{class: activities.ClassTransient, outcome: activities.Unclear, detail: "no route"}
	w.reported(0, "r1", "AKIA-1", withSecret)
	w.approving("irreversible")
	for _, at := range []time.Duration{time.Hour, 2 * time.Hour} {
		w.at(at, func() {
			var about []string
			for _, h := range openHumans(w.show()) {
				if strings.HasPrefix(h.What, "EndSessions in awsiam/prod "+page.WhyFailing) {
					about = append(about, h.What)
				}
			}
			require.Len(t, about, 1)
			require.Contains(t, about[0], "rekey doctor")
		})
	}
	w.at(3*time.Hour, func() {
		w.provider.mu.Lock()
		defer w.provider.mu.Unlock()
		delete(w.provider.always, activities.EndSessions)
	})
	v := w.run()
	require.Equal(t, 13, v.Totals.ByEndState["revoked-verified"])
	require.Empty(t, openHumans(v), "the step lapses when it goes on")
}
