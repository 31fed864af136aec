package workflows_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/activities"
	"rekey/internal/event"
	"rekey/internal/view"
	"rekey/playbooks"
	"rekey/workflows"
)

// admitting answers Admit with all conditions held, but for those named.
func admitting(not ...string) option {
	return func(w *world) {
		w.admit = func(workflows.AdmitInput) workflows.AdmitResult {
			r := workflows.AdmitResult{Severity: "high", Principal: "user-AKIA-1"}
			r.Contain.Allowed = len(not) == 0
			for _, id := range []string{"ceiling", "ours", "subject", "dependents", "possession", "playbook", "breaker"} {
				held := true
				for _, n := range not {
					held = held && n != id
				}
				r.Contain.Conditions = append(r.Contain.Conditions, view.Condition{ID: id, Held: held, Why: "said the engine"})
			}
			return r
		}
	}
}

func TestContainOnReport(t *testing.T) {
	t.Run("every condition holds: Disable is the first call", func(t *testing.T) {
		w := newWorld(t, admitting())
		w.used("AKIA-1", "billing")
		w.reported(0, "r1", "AKIA-1", withSecret)
		w.until(time.Minute)
		v := w.run()
		require.Equal(t, []string{"Disable AKIA-1"}, w.provider.did(), "and nothing else before the votes")
		require.True(t, v.Contain.Allowed)
		require.Equal(t, "done", v.Contain.Outcome)
		require.Equal(t, "disabled", of(t, v, "AKIA-1").Death.State)
		require.Equal(t, 1, w.count(event.EventContain, "allowed"))
		i := slices.IndexFunc(w.provider.all(), func(c call) bool { return c.verb == activities.Disable }) // scope reads beside it
		require.Equal(t, "user-AKIA-1", w.provider.all()[i].pass.Items[0].Key.Principal)
	})
	t.Run("the wave does not disable it again", func(t *testing.T) {
		// A vote stands before the first wave: by then Disable was answered.
		w := newWorld(t, admitting(), func(w *world) { w.set.Playbook.Start = playbooks.StartAsk })
		w.reported(0, "r1", "AKIA-1", withSecret)
		w.approving("start", "irreversible")
		v := w.run()
		require.Equal(t, "all-clear", v.State)
		require.Equal(t, []string{"Disable AKIA-1", "EndSessions AKIA-1", "Revoke AKIA-1"}, w.provider.did())
	})
	t.Run("a wave that begins before Disable is answered makes the call itself", func(t *testing.T) {
		w := newWorld(t, admitting())
		w.provider.slow = activities.Disable // the first is answered when the second has come
		w.reported(0, "r1", "AKIA-1", withSecret)
		w.approving("irreversible")
		v := w.run()
		require.Equal(t, "all-clear", v.State)
		require.Equal(t, "done", v.Contain.Outcome)
		require.Equal(t, []string{"Disable AKIA-1", "Disable AKIA-1", "EndSessions AKIA-1", "Revoke AKIA-1"}, w.provider.did())
	})
	for _, id := range []string{"ceiling", "ours", "subject", "dependents", "possession", "playbook", "breaker"} {
		t.Run("no Disable where "+id+" does not hold", func(t *testing.T) {
			w := newWorld(t, admitting(id))
			w.used("AKIA-1", "billing")
			w.reported(0, "r1", "AKIA-1", withSecret)
			w.until(time.Hour)
			v := w.run()
			require.Empty(t, w.provider.did())
			require.False(t, v.Contain.Allowed)
			require.Equal(t, 1, w.count(event.EventContain, "proposed"))
			for _, e := range w.events {
				if e.Type == event.EventContain {
					require.Len(t, e.Attrs, 7, "each condition is on record")
					require.Equal(t, "false: said the engine", e.Attrs[id])
				}
			}
		})
	}
	t.Run("a provider that does not answer holds nothing up", func(t *testing.T) {
		w := newWorld(t, admitting())
		w.provider.always[activities.Disable] = fault{class: activities.ClassTransient, outcome: activities.Unclear}
		w.used("AKIA-1", "billing")
		w.reported(0, "r1", "AKIA-1")
		w.at(time.Minute, func() {
			v := w.show()
			require.NotNil(t, v.Plan, "the plan is there while Disable is repeated")
			require.Len(t, v.Approvals, 1)
		})
		w.until(2 * time.Minute)
		v := w.run()
		require.Equal(t, "alive", of(t, v, "AKIA-1").Death.State)
	})
	t.Run("a hold ends its repeats", func(t *testing.T) {
		w := newWorld(t, admitting())
		w.provider.always[activities.Disable] = fault{class: activities.ClassTransient, outcome: activities.Unclear}
		w.used("AKIA-1", "billing")
		w.reported(0, "r1", "AKIA-1")
		w.at(time.Minute, func() { w.hold("alice", "AKIA-1", 24*time.Hour) })
		calls := 0
		w.at(2*time.Minute, func() { calls = len(w.provider.did()) })
		w.until(10 * time.Hour)
		w.run()
		require.Positive(t, calls)
		require.Len(t, w.provider.did(), calls)
	})
	t.Run("a forged first report is kept, and proposes only", func(t *testing.T) {
		var asked workflows.AdmitInput
		w := newWorld(t, func(w *world) {
			w.admit = func(in workflows.AdmitInput) workflows.AdmitResult {
				asked = in
				return workflows.AdmitResult{Severity: "medium"}
			}
		})
		rep := w.report("r1", "AKIA-1", func(r *workflows.Report) { r.Ceiling = "contain" })
		rep.Statement.Signature = "AAAA"
		w.at(0, func() { w.env.SignalWorkflow(workflows.SignalReport, rep) })
		w.until(time.Minute)
		v := w.run()
		require.Equal(t, "propose", asked.Report.Ceiling)
		require.Len(t, v.Reports, 1)
		require.Len(t, v.Refusals, 1)
	})
}

func TestSeverityIsNeverLowered(t *testing.T) {
	w := newWorld(t, admitting("ceiling")) // high
	w.used("AKIA-1", "billing")
	w.reported(0, "r1", "AKIA-1")
	w.reported(time.Minute, "r2", "AKIA-1", func(r *workflows.Report) { r.Severity = "low" })
	w.at(2*time.Minute, func() { require.Equal(t, "high", w.show().Severity) })
	w.reported(3*time.Minute, "r3", "AKIA-1", func(r *workflows.Report) { r.Severity = "critical" })
	w.until(4 * time.Minute)
	require.Equal(t, "critical", w.run().Severity)
}
