package workflows_test

import (
	"errors"
	"testing"
	"time"

	"context"

	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/workflow"

	"rekey/internal/statement"
	"rekey/workflows"
)

// onSeal runs f once, when the bundle is being sealed.
func onSeal(f func()) func(*activity.Info, context.Context, converter.EncodedValues) {
	done := false
	return func(info *activity.Info, _ context.Context, _ converter.EncodedValues) {
		if info.ActivityType.Name == workflows.ActivitySeal && !done {
			done = true
			f()
		}
	}
}

// nextRun gives the input that a run continues as new with.
func nextRun(t *testing.T, w *world) workflows.IncidentInput {
	t.Helper()
	var can *workflow.ContinueAsNewError
	require.ErrorAs(t, w.env.GetWorkflowError(), &can)
	var in workflows.IncidentInput
	require.NoError(t, converter.GetDefaultDataConverter().FromPayloads(can.Input, &in))
	return in
}

func TestReportWhileAnActivityRuns(t *testing.T) {
	w := asked(t)
	late := w.report("r2", "AKIA-2")
	done := false
	w.env.SetOnActivityStartedListener(func(info *activity.Info, _ context.Context, _ converter.EncodedValues) {
		if info.ActivityType.Name == workflows.ActivityPlan && !done {
			done = true
			w.env.SignalWorkflow(workflows.SignalReport, late)
		}
	})
	w.until(time.Minute) // nothing else wakes the incident
	v := w.run()
	require.True(t, done)
	require.Len(t, v.Reports, 2)
	require.Len(t, v.Items, 2)
	require.Equal(t, 2, v.Scope.Version)
}

func TestIncidentContinuesAsNewWithEverything(t *testing.T) {
	w := asked(t)
	w.reach["AKIA-1"] = []string{"AKIA-2"}
	w.set.Playbook.Approvals["revoke-now"] = w.set.Playbook.Approvals["reissue-first"] // nothing moves before the votes
	w.in.Settings = w.set
	var note statement.Signed
	w.at(time.Minute, func() {
		w.vote("alice", statement.Approve, "strategy")
		note = w.say(statement.Note, "alice", func(s *statement.Statement) { s.Text = "looking" })
		w.update(note)
		w.hold("bob", "AKIA-2", time.Hour)
	})
	w.at(2*time.Minute, func() { w.env.SetContinueAsNewSuggested(true) })
	w.reported(90*time.Second, "r2", "AKIA-1")
	w.env.ExecuteWorkflow(workflows.TypeIncident, w.in)
	next := nextRun(t, w)
	require.Nil(t, next.Reopened, "it goes on, it is not reopened")
	require.Len(t, next.State.Reports, 2)
	require.Equal(t, 2, next.State.Triaged)
	before := next.State.PlanVersion
	require.Positive(t, before)

	w.in = next
	w.begin()
	var replayed *answer
	w.at(time.Minute, func() {
		v := w.show()
		require.Len(t, v.Notes, 1)
		require.Len(t, v.Holds, 1)
		require.Len(t, v.Reports, 2)
		replayed = w.update(note)
		w.release("bob", "AKIA-2")
	})
	w.at(2*time.Minute, func() {
		for _, a := range w.show().Approvals {
			if a.Strategy == "reissue-first" && a.State == "open" {
				require.Len(t, a.Votes, 1, "alice's vote is kept")
				w.update(w.say(statement.Approve, "bob", func(s *statement.Statement) { s.WaveHash, s.Approval = a.WaveHash, a.ID }))
			}
		}
	})
	w.approving("strategy", "irreversible")
	w.resolving()
	w.moves(2*time.Hour, "AKIA-1", "10.0.0.1")
	v := w.run()
	require.Equal(t, "replayed", replayed.code, "a nonce is used once, over all runs")
	require.Equal(t, "all-clear", v.State)
	require.Equal(t, "revoked-verified", of(t, v, "AKIA-2").EndState)
	require.Equal(t, 2, v.Scope.Version, "what was scoped is not scoped again")
}

func TestIncidentContinuesAsNewWhileAWaveRuns(t *testing.T) {
	w := newWorld(t)
	w.reported(0, "r1", "AKIA-1")
	w.at(10*time.Minute, func() { w.vote("alice", statement.Approve, "irreversible") })
	w.at(11*time.Minute, func() { w.env.SetContinueAsNewSuggested(true) })
	w.at(11*time.Minute+time.Second, func() { w.update(w.say(statement.Note, "alice", func(s *statement.Statement) { s.Text = "wake up" })) })
	w.env.ExecuteWorkflow(workflows.TypeIncident, w.in)
	next := nextRun(t, w)
	require.Len(t, next.State.Waves, 1)
	seen := next.State.Waves[0].LastEvt
	require.Positive(t, seen)

	// The wave lives on, outside of this run.
	w.in = next
	w.begin()
	var sent []workflows.WaveCommand
	w.env.OnSignalExternalWorkflow(mock.Anything, workflows.WaveID(incidentID, 1), "", workflows.SignalCommand, mock.Anything).
		Return(func(_, _, _, _ string, arg any) error {
			sent = append(sent, arg.(workflows.WaveCommand))
			return nil
		})
	wave := func(e workflows.WaveEvent) { w.env.SignalWorkflow(workflows.SignalWave, e) }
	w.at(time.Minute, func() {
		require.Empty(t, sent)
		w.vote("bob", statement.Approve, "irreversible")
	})
	w.at(2*time.Minute, func() {
		require.Len(t, sent, 1, "the second vote of two, over two runs")
		require.Equal(t, "grant", sent[0].Kind)
		require.Equal(t, int64(1), sent[0].Seq)
		it := of(t, w.show(), "AKIA-1")
		stale := it
		stale.EndState = "expired-verified"
		wave(workflows.WaveEvent{Wave: 1, Seq: seen, Kind: "item", Item: &stale}) // a repeat
		it.EndState, it.Death.State = "revoked-verified", "dead"
		wave(workflows.WaveEvent{Wave: 1, Seq: seen + 1, Kind: "item", Item: &it})
		wave(workflows.WaveEvent{Wave: 1, Seq: seen + 2, Kind: "ended"})
	})
	v := w.run()
	require.Equal(t, "all-clear", v.State)
	require.Equal(t, "revoked-verified", of(t, v, "AKIA-1").EndState)
}

// TestWhatArrivesAsARunEndsIsKept sends a report and a wave's event in the very
// workflow task in which the incident continues as new: the main coroutine runs
// before those that wait for signals.
func TestWhatArrivesAsARunEndsIsKept(t *testing.T) {
	w := newWorld(t)
	w.reported(0, "r1", "AKIA-1")
	late := w.report("r2", "AKIA-2")
	// Without a delay it is done after this callback, and before the task that the
	// signal starts.
	suggest := func() { w.env.RegisterDelayedCallback(func() { w.env.SetContinueAsNewSuggested(true) }, 0) }
	w.at(11*time.Minute, func() {
		suggest()
		w.env.SignalWorkflow(workflows.SignalReport, late)
	})
	w.env.ExecuteWorkflow(workflows.TypeIncident, w.in)
	next := nextRun(t, w)
	require.Len(t, next.State.Reports, 2)
	require.Equal(t, 1, next.State.Triaged, "the next run has to look at it")

	w.in = next
	w.begin()
	seen := next.State.Waves[0].LastEvt
	w.at(time.Minute, func() {
		it := of(t, w.show(), "AKIA-1")
		it.EndState, it.Death.State = "revoked-verified", "dead"
		suggest()
		w.env.SignalWorkflow(workflows.SignalWave, workflows.WaveEvent{Wave: 1, Seq: seen + 1, Kind: "item", Item: &it})
	})
	w.env.ExecuteWorkflow(workflows.TypeIncident, w.in)
	next = nextRun(t, w)
	require.Equal(t, seen+1, next.State.Waves[0].LastEvt)
}

func TestCommandsThatWereNotDeliveredAreCarriedOn(t *testing.T) {
	w := newWorld(t)
	w.reported(0, "r1", "AKIA-1")
	w.at(10*time.Minute, func() { w.vote("alice", statement.Approve, "irreversible") })
	w.at(11*time.Minute, func() { w.env.SetContinueAsNewSuggested(true) })
	w.at(11*time.Minute+time.Second, func() { w.update(w.say(statement.Note, "alice", func(s *statement.Statement) { s.Text = "wake up" })) })
	w.env.ExecuteWorkflow(workflows.TypeIncident, w.in)
	next := nextRun(t, w)
	next.State.Sent = map[int][]workflows.WaveCommand{1: {{Seq: 1, Kind: "hold", FPs: []string{fp("AKIA-1")}}, {Seq: 2, Kind: "release", FPs: []string{fp("AKIA-1")}}}}
	next.State.Waves[0].NextCmd = 2

	w.in = next
	w.begin()
	var kinds []string
	failures := 2 // the wave is between two workflow tasks
	w.env.OnSignalExternalWorkflow(mock.Anything, workflows.WaveID(incidentID, 1), "", workflows.SignalCommand, mock.Anything).
		Return(func(_, _, _, _ string, arg any) error {
			if failures > 0 {
				failures--
				return errors.New("not reachable")
			}
			kinds = append(kinds, arg.(workflows.WaveCommand).Kind)
			return nil
		})
	w.at(10*time.Minute, func() { w.vote("bob", statement.Approve, "irreversible") })
	w.until(20 * time.Minute)
	w.run()
	require.Equal(t, []string{"hold", "release", "grant"}, kinds, "in their order, each once")
}

func TestWaveWithoutAnEndIsNotLost(t *testing.T) {
	w := newWorld(t)
	w.env.OnWorkflow(workflows.TypeWave, mock.Anything, mock.Anything).Return(nil)
	w.reported(0, "r1", "AKIA-1")
	w.at(time.Minute, func() {
		w.env.SignalWorkflow(workflows.SignalWave, workflows.WaveEvent{Wave: 1, Seq: 1, Kind: "ended"})
	})
	w.until(time.Hour)
	v := w.run()
	require.NotEqual(t, "all-clear", v.State)
	require.Len(t, openHumans(v), 1)
	require.Contains(t, openHumans(v)[0].What, "without an end")
	require.Equal(t, 1, v.Totals.Open)
}

func TestReopenedLifeHasJournalsOfItsOwn(t *testing.T) {
	contain := func(w *world) {
		w.admit = func(workflows.AdmitInput) workflows.AdmitResult {
			r := workflows.AdmitResult{Severity: "high"}
			r.Contain.Allowed = true
			return r
		}
	}
	ids := map[string]int{}
	for _, reopened := range []*workflows.Reopened{nil, {Run: "11111111-aaaa", Digest: "sha256:x"}, {Run: "22222222-bbbb", Digest: "sha256:y"}} {
		w := newWorld(t, contain)
		w.in.Reopened = reopened // the number of its waves is not known: numbers begin again
		w.reported(0, "r1", "AKIA-1")
		w.approving("irreversible")
		v := w.run()
		require.Equal(t, "all-clear", v.State)
		for _, c := range w.provider.all() {
			if c.verb.Mutates() {
				ids[c.pass.ID]++
			}
		}
	}
	for id, n := range ids {
		require.Equal(t, 1, n, "%s: a journal of the life before would answer for this one's call", id)
	}
	require.NotContains(t, ids, "")
	require.NotEmpty(t, ids)
}
