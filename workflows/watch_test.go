package workflows_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/workflow"

	"rekey/activities"
	"rekey/internal/event"
	"rekey/workflows"
)

// watching makes a world whose workflow is the watch on dead keys.
func watching(t *testing.T, ids ...string) (*world, workflows.WatchInput) {
	w := newWorld(t)
	in := workflows.WatchInput{
		Incident: incidentID, Settings: w.set, Since: t0, Until: t0.Add(72 * time.Hour), Now: t0, Dead: map[string]time.Time{},
		Workflows: []string{workflows.WaveID(incidentID, 1)},
	}
	for _, id := range ids {
		in.Keys = append(in.Keys, key(id))
		in.Dead[fp(id)] = t0.Add(-10 * time.Minute)
	}
	w.env.SetStartWorkflowOptions(client.StartWorkflowOptions{ID: workflows.WatchID(incidentID), TaskQueue: workflows.TaskQueue})
	return w, in
}

// hit lets a use of a key appear in the provider's log at a time; lag is how late.
func (w *world) hit(d, lag time.Duration, id, source string, refused bool) {
	last := t0.Add(d)
	w.at(max(d+lag, 0), func() {
		w.provider.mu.Lock()
		defer w.provider.mu.Unlock()
		u := activities.Use{First: last, Last: last, Count: 1, Source: source}
		if refused {
			u.Refused = 1
		}
		k := w.provider.key(id)
		k.hits = append(k.hits, u)
	})
}

func TestWatchQuiet(t *testing.T) {
	w, in := watching(t, "AKIA-1", "AKIA-2")
	w.env.ExecuteWorkflow(workflows.TypeWatch, in)
	require.NoError(t, w.env.GetWorkflowError())
	require.Equal(t, 1, w.count(event.EventClosed, "watch ended"))
	require.Len(t, w.seals, 1)
	require.True(t, w.seals[0].Final)
	require.True(t, w.seals[0].Extend)
	require.Contains(t, w.seals[0].Workflows, workflows.WaveID(incidentID, 1))
	w.provider.mu.Lock()
	defer w.provider.mu.Unlock()
	last := w.provider.calls[len(w.provider.calls)-1]
	require.Equal(t, in.Until, last.at.UTC(), "a last look at the end of the window")
	require.Empty(t, w.alarms)
}

func TestWatchHits(t *testing.T) {
	w, in := watching(t, "AKIA-1")
	w.hit(-time.Hour, 0, "AKIA-1", "10.0.0.1", false)                     // before it was dead: legitimate
	w.hit(10*time.Minute, time.Minute, "AKIA-1", "ami/AMI-7", true)       // refused
	w.hit(12*time.Minute, 14*time.Minute, "AKIA-1", "198.51.100.1", true) // published after the look behind it
	w.hit(30*time.Minute, time.Minute, "AKIA-1", "198.51.100.9", false)   // it worked
	w.hit(45*time.Minute, time.Minute, "AKIA-1", "198.51.100.9", false)   // and again: on record, and no second alarm
	w.hit(20*time.Hour, 40*time.Minute, "AKIA-1", "198.51.100.20", true)  // late, when looks are far apart
	w.hit(71*time.Hour, 30*time.Minute, "AKIA-1", "198.51.100.99", true)  // seen by the last look
	w.env.ExecuteWorkflow(workflows.TypeWatch, in)
	require.NoError(t, w.env.GetWorkflowError())
	require.Equal(t, 4, w.count(event.EventTripwire, "refused"), "each once, however often it is read")
	require.Equal(t, 2, w.count(event.EventTripwire, "succeeded"))
	require.Len(t, w.alarms, 1)
	require.Equal(t, "198.51.100.9", w.alarms[0].Hit.Source)
	require.Equal(t, "AKIA-1", w.alarms[0].Key.ID)
}

func TestWatchGoesOnWhereItCouldNotRead(t *testing.T) {
	w, in := watching(t, "AKIA-1")
	w.at(10*time.Hour, func() {
		w.provider.mu.Lock()
		w.provider.always[activities.Sweep] = fault{class: activities.ClassDenied, outcome: activities.Denied}
		w.provider.mu.Unlock()
	})
	w.hit(11*time.Hour, 0, "AKIA-1", "198.51.100.1", true)
	w.at(40*time.Hour, func() {
		w.provider.mu.Lock()
		delete(w.provider.always, activities.Sweep)
		w.provider.mu.Unlock()
	})
	w.env.ExecuteWorkflow(workflows.TypeWatch, in)
	require.Equal(t, 1, w.count(event.EventTripwire, "refused"), "a gap of 29 hours is read afterwards")
	w.provider.mu.Lock()
	defer w.provider.mu.Unlock()
	for _, c := range w.provider.calls {
		if !c.at.Before(t0.Add(40 * time.Hour)) {
			require.True(t, c.pass.Items[0].Since.Before(t0.Add(11*time.Hour)))
			break
		}
	}
}

func TestWatchContinuesAsNewWithEverything(t *testing.T) {
	w, in := watching(t, "AKIA-1")
	w.hit(10*time.Minute, time.Minute, "AKIA-1", "ami/AMI-7", true)
	w.at(time.Hour, func() { w.env.SetContinueAsNewSuggested(true) })
	w.env.ExecuteWorkflow(workflows.TypeWatch, in)
	var can *workflow.ContinueAsNewError
	require.ErrorAs(t, w.env.GetWorkflowError(), &can)
	var next workflows.WatchInput
	require.NoError(t, converter.GetDefaultDataConverter().FromPayloads(can.Input, &next))
	require.Equal(t, 1, next.Total)
	require.Equal(t, in.Until, next.Until.UTC())
	require.Equal(t, in.Keys, next.Keys)
	require.Positive(t, next.Polls)

	events := w.events
	w2, _ := watching(t)
	w2.events = events
	w2.provider.key("AKIA-1").hits = w.provider.key("AKIA-1").hits
	w2.env.SetStartTime(t0.Add(time.Hour))
	w2.env.ExecuteWorkflow(workflows.TypeWatch, next)
	require.NoError(t, w2.env.GetWorkflowError())
	require.Equal(t, 1, w2.count(event.EventTripwire, "refused"), "what was told is not told again")
}

func TestWatchStopsAndTakesMore(t *testing.T) {
	w, in := watching(t, "AKIA-1")
	w.at(2*time.Hour, func() {
		w.env.SignalWorkflow(workflows.SignalMore, workflows.WatchMore{
			Keys: []activities.Key{key("AKIA-2"), key("AKIA-1")}, Dead: map[string]time.Time{fp("AKIA-2"): t0.Add(2 * time.Hour)},
			Workflows: []string{workflows.WaveID(incidentID, 2)}, Until: t0.Add(96 * time.Hour),
		})
	})
	w.hit(3*time.Hour, time.Minute, "AKIA-2", "ami/AMI-7", true)
	w.at(80*time.Hour, func() { w.env.SignalWorkflow(workflows.SignalStop, nil) })
	w.env.ExecuteWorkflow(workflows.TypeWatch, in)
	require.NoError(t, w.env.GetWorkflowError())
	require.Equal(t, 1, w.count(event.EventTripwire, "refused"))
	require.Contains(t, w.seals[0].Workflows, workflows.WaveID(incidentID, 2))
	w.provider.mu.Lock()
	defer w.provider.mu.Unlock()
	last := w.provider.calls[len(w.provider.calls)-1].at
	require.Equal(t, t0.Add(80*time.Hour), last.UTC(), "stopped in the longer window, after a last look")
}

func TestReopenedIncidentGivesItsKeysToTheWatchThatRuns(t *testing.T) {
	w := newWorld(t)
	w.env.SetDetachedChildWait(true)
	w.used("AKIA-1", "billing")
	w.abused(0, "AKIA-1")
	w.reported(time.Second, "r1", "AKIA-1")
	w.approving("irreversible")
	w.reported(4*time.Hour, "r2", "AKIA-2") // contained by then, and watched
	w.moves(8*time.Hour, "AKIA-1", "10.0.0.1")
	w.at(40*time.Hour, func() {
		require.NoError(t, w.env.SignalWorkflowByID(workflows.WatchID(incidentID), workflows.SignalStop, nil))
	})
	w.hit(20*time.Hour, time.Minute, "AKIA-2", "ami/AMI-7", true)
	w.env.ExecuteWorkflow(workflows.TypeIncident, w.in)
	require.NoError(t, w.env.GetWorkflowError())
	require.Equal(t, 1, w.count(event.EventTripwire, "refused"))
}
