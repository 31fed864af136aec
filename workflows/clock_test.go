package workflows_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/workflows"
)

// TestVirtualClock plays a whole incident by the clock of a drill: the driver moves
// the world to the next wake-up whenever nothing runs.
func TestVirtualClock(t *testing.T) {
	w := newWorld(t, func(w *world) { w.set.Virtual = true })
	w.used("AKIA-1", "billing")
	world := t0.Add(-365 * 24 * time.Hour) // a drill plays in the past
	rep := w.report("r1", "AKIA-1", func(r *workflows.Report) { r.Received = world })
	w.at(0, func() { w.env.SignalWorkflow(workflows.SignalReport, rep) })
	w.approving("strategy", "irreversible")
	w.resolving()

	seq := int64(0)
	ids := []string{workflows.IncidentID(incidentID), workflows.WaveID(incidentID, 1)}
	state := func(id string) (workflows.ClockState, bool) {
		var st workflows.ClockState
		enc, err := w.env.QueryWorkflowByID(id, workflows.QueryClock)
		if err != nil {
			return st, false
		}
		require.NoError(t, enc.Get(&st))
		return st, true
	}
	steps := 0
	w.every(10*time.Minute, func() { // by the wall clock: only for the votes and the driver
		next := time.Time{}
		for _, id := range ids {
			st, ok := state(id)
			if !ok {
				continue
			}
			if st.Busy {
				return
			}
			if !st.Wake.IsZero() && (next.IsZero() || st.Wake.Before(next)) {
				next = st.Wake
			}
		}
		if next.IsZero() {
			return
		}
		steps++
		seq++
		for _, id := range ids {
			if _, ok := state(id); ok {
				require.NoError(t, w.env.SignalWorkflowByID(id, workflows.SignalClock, workflows.ClockTick{Now: next, Seq: seq}))
			}
		}
		w.at(time.Second, func() {
			if st, ok := state(ids[0]); ok {
				require.Equal(t, seq, st.Seq)
				require.Equal(t, next.UTC(), st.Now.UTC())
			}
		})
	})
	v := w.run()
	require.Equal(t, "contained", map[string]string{"all-clear": "contained", "contained": "contained"}[v.State])
	require.Greater(t, steps, 10)
	require.Equal(t, "2025-11-21T03:00:00.000Z", v.Times.Reported, "every time is the world's")
	contained := mustTime(t, v.Times.Contained)
	require.GreaterOrEqual(t, contained.Sub(world), 72*time.Hour, "the cut-off is three of the world's days")
	require.Less(t, contained.Sub(world), 96*time.Hour)
}
