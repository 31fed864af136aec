package workflows_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/workflow"

	"rekey/activities"
	"rekey/internal/event"
	"rekey/internal/statement"
	"rekey/internal/view"
	"rekey/workflows"
)

// by makes a report one of another person through another source.
func reportedBy(actor, source string) func(*workflows.Report) {
	return func(r *workflows.Report) { r.Actor, r.Source = actor, source }
}

func copied(place string) func(*workflows.Report) {
	return func(r *workflows.Report) { r.Copies = append(r.Copies, place) }
}

// triggers are the reports that the record has, by id.
func (w *world) triggers() map[string]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := map[string]int{}
	for _, e := range w.events {
		if e.Type == event.EventTrigger {
			out[e.Attrs["report"]]++
		}
	}
	return out
}

// Reports that say nothing new are counted by source, and are on record each. One
// that names another place is kept whole whenever it comes.
func TestReportsThatSayNothingNewAreCounted(t *testing.T) {
	const many = 300
	w := asked(t)
	for n := range many {
		source := []string{"scanner", "slack", "mail"}[n%3]
		w.reported(time.Minute+time.Duration(n)*100*time.Millisecond, fmt.Sprintf("s%d", n), "AKIA-1", reportedBy("robot", source))
	}
	w.reported(3*time.Minute, "place", "AKIA-1", reportedBy("robot", "scanner"), copied("paste/42"))
	w.reported(4*time.Minute, "other", "AKIA-2", reportedBy("robot", "scanner"))
	w.until(10 * time.Minute)
	v := w.run()
	require.Equal(t, many+3, v.ReportsTotal)
	require.Len(t, v.Reports, 22, "the first twenty, and two that say something new")
	require.Equal(t, "place", v.Reports[20].ID)
	require.Equal(t, []string{"paste/42"}, v.Reports[20].Copies)
	require.Equal(t, "other", v.Reports[21].ID)
	require.Len(t, v.Items, 2)
	total := 0
	require.Len(t, v.Repeats, 3)
	for _, r := range v.Repeats {
		require.Empty(t, r.Actor, "a robot does not vote")
		require.Len(t, r.Chain, 64)
		require.Zero(t, r.Unread)
		total += r.N
	}
	require.Equal(t, many+3-22, total)
	on := w.triggers()
	all := len(on) // a map of hundreds is nothing to print
	require.Equal(t, many+3, all)
	for id, n := range on {
		require.Equal(t, 1, n, id)
	}
	// The first version; those that came in the minute of the storm, ten seconds apart
	// while whole ones came; the place; the other key.
	require.LessOrEqual(t, v.Scope.Version, 5)
	require.GreaterOrEqual(t, v.Scope.Version, 3)
}

// What says nothing new waits until some time after the last version; what does, is
// looked at at once, with all that waits.
func TestRereadingIsSpaced(t *testing.T) {
	w := asked(t)
	versions := map[time.Duration]int{}
	look := func(d time.Duration) { w.at(d, func() { versions[d] = w.show().Scope.Version }) }
	w.reported(time.Minute, "r2", "AKIA-1")
	look(61 * time.Second)
	w.reported(62*time.Second, "r3", "AKIA-1")
	w.reported(63*time.Second, "r4", "AKIA-1")
	look(69 * time.Second)
	look(71 * time.Second)
	w.reported(72*time.Second, "r5", "AKIA-1")
	w.reported(73*time.Second, "r6", "AKIA-1", copied("paste/1"))
	look(74 * time.Second)
	look(85 * time.Second)
	w.until(2 * time.Minute)
	v := w.run()
	require.Equal(t, map[time.Duration]int{61 * time.Second: 2, 69 * time.Second: 2, 71 * time.Second: 3, 74 * time.Second: 4, 85 * time.Second: 4}, versions)
	require.Len(t, v.Reports, 6)
}

// Who reported and is only counted may not approve either.
func TestACountedReporterDoesNotApprove(t *testing.T) {
	w := asked(t)
	for n := range 25 {
		w.reported(time.Minute+time.Duration(n)*time.Second, fmt.Sprintf("s%d", n), "AKIA-1", reportedBy("robot", "scanner"))
	}
	w.reported(2*time.Minute, "hers", "AKIA-1", reportedBy("alice", "slack"))
	var a *answer
	w.at(3*time.Minute, func() { a = w.vote("alice", statement.Approve, "strategy") })
	w.until(4 * time.Minute)
	v := w.run()
	for _, r := range v.Reports {
		require.NotEqual(t, "alice", r.Actor)
	}
	require.Equal(t, "self-approval", a.code)
}

// batch sends reports in one message.
func (w *world) batch(reps ...workflows.Report) {
	w.env.SignalWorkflow(workflows.SignalReports, workflows.ReportBatch{Reports: reps})
}

func TestReportsThatComeTogether(t *testing.T) {
	w := newWorld(t)
	w.reported(0, "r1", "AKIA-1")
	forged := w.report("f1", "AKIA-1")
	forged.Actor = "mallory"
	w.at(time.Second, func() {
		w.batch(w.report("r2", "AKIA-2"), w.report("r1", "AKIA-1"), forged, w.report("r3", "AKIA-1"), w.report("r2", "AKIA-2"))
	})
	w.at(2*time.Second, func() {
		w.batch(w.report("r3", "AKIA-1"))
		w.env.SignalWorkflow(workflows.SignalReport, w.report("r2", "AKIA-2"))
	})
	w.approving("irreversible")
	v := w.run()
	require.Equal(t, "all-clear", v.State)
	require.Len(t, v.Reports, 3)
	require.Len(t, v.Items, 2)
	require.Equal(t, map[string]int{"r1": 1, "r2": 1, "r3": 1}, w.triggers())
	require.Equal(t, 1, w.count(event.EventRefused, view.CodeForged))
	require.Len(t, w.provider.did(activities.Disable), 2)
}

// However many reports come, what a run carries on stays small.
func TestTheStateStaysSmall(t *testing.T) {
	const many, each = 10_000, 50
	w := asked(t)
	w.env.SetTestTimeout(time.Minute)
	var batch []workflows.Report
	for n := range many {
		batch = append(batch, w.report(fmt.Sprintf("s%05d", n), "AKIA-1", reportedBy("robot", "scanner"), func(r *workflows.Report) { r.Reason = "found again by the nightly scan" }))
		if len(batch) == each {
			reps := batch
			w.at(time.Minute+time.Duration(n)*time.Millisecond, func() { w.batch(reps...) })
			batch = nil
		}
	}
	w.at(2*time.Minute, func() { w.env.SetContinueAsNewSuggested(true) })
	w.reported(2*time.Minute+time.Second, "last", "AKIA-1", reportedBy("robot", "scanner"))
	w.env.ExecuteWorkflow(workflows.TypeIncident, w.in)
	var can *workflow.ContinueAsNewError
	require.ErrorAs(t, w.env.GetWorkflowError(), &can)
	size := len(can.Input.GetPayloads()[0].GetData())
	had := len(w.triggers())
	t.Logf("%d reports: %d bytes are carried on", had, size)
	require.Less(t, size, 256<<10)
	require.GreaterOrEqual(t, had, many+1, "the last one only wakes it, unless something else has")

	var next workflows.IncidentInput
	require.NoError(t, converter.GetDefaultDataConverter().FromPayloads(can.Input, &next))
	require.True(t, next.State.Taken.Has("s04711"))
	before := next.State.Repeats[0].N
	w.in = next
	w.begin()
	w.at(time.Second, func() { w.batch(w.report("s00001", "AKIA-1"), w.report("s09999", "AKIA-1"), w.report("new", "AKIA-1")) })
	w.until(time.Minute)
	v := w.run()
	require.Equal(t, had+1, v.ReportsTotal, "what came before is known to the next run")
	require.Equal(t, before+1, sum(v.Repeats))
}

func sum(rs []view.Repeat) int {
	n := 0
	for _, r := range rs {
		n += r.N
	}
	return n
}

// What does say something new, when there is no room any more, is on record, and a
// person is told once.
func TestReportsThatCannotBeReadAreToldOf(t *testing.T) {
	w := asked(t)
	for part := range 10 {
		w.at(time.Minute+time.Duration(part)*time.Second, func() {
			var reps []workflows.Report
			for n := range 42 {
				reps = append(reps, w.report(fmt.Sprintf("s%d-%d", part, n), "AKIA-1", reportedBy("robot", "scanner"), copied(fmt.Sprintf("paste/%d-%d", part, n))))
			}
			w.batch(reps...)
		})
	}
	w.until(5 * time.Minute)
	v := w.run()
	require.Len(t, v.Reports, 400)
	require.Equal(t, 421, v.ReportsTotal)
	require.Equal(t, 21, v.Repeats[0].Unread)
	told := 0
	for _, h := range openHumans(v) {
		if h.FP == "" {
			told++
			require.Contains(t, h.What, "not read for the scope")
		}
	}
	require.Equal(t, 1, told)
	all := len(w.triggers())
	require.Equal(t, 421, all)
}

// A report that comes as the incident ends reopens it, alone or with others; what was
// taken before does not.
func TestReportsAtTheMomentOfClosing(t *testing.T) {
	w := newWorld(t)
	first := w.report("r1", "AKIA-1")
	w.at(0, func() { w.env.SignalWorkflow(workflows.SignalReport, first) })
	w.approving("irreversible")
	w.env.SetOnActivityStartedListener(onSeal(func() { w.batch(w.report("r2", "AKIA-1"), first, w.report("r3", "AKIA-1")) }))
	w.env.ExecuteWorkflow(workflows.TypeIncident, w.in)
	next := nextRun(t, w)
	require.NotNil(t, next.Reopened)
	require.Len(t, next.State.Reports, 2, "whole, whatever they say: the next run knows nothing yet")
	require.True(t, next.State.Taken.Has("r1"))

	w.in = next
	w.begin()
	w.at(time.Second, func() { w.batch(first, w.report("r3", "AKIA-1")) })
	w.approving("irreversible")
	v := w.run()
	require.Equal(t, "all-clear", v.State)
	require.Equal(t, 2, v.ReportsTotal)
}

// What the life before has taken is not new to a life that intake opens.
func TestAReopenedIncidentKnowsWhatWasReported(t *testing.T) {
	w := newWorld(t)
	w.in.Reopened = &workflows.Reopened{Run: "run-1", Digest: "sha256:x", Taken: workflows.Taken{}.With("r0").With("r1")}
	w.reported(0, "r2", "AKIA-1")
	w.reported(time.Second, "r1", "AKIA-1")
	w.approving("irreversible")
	v := w.run()
	require.Len(t, v.Reports, 1)
	require.Equal(t, map[string]int{"r2": 1}, w.triggers())
}

func TestTaken(t *testing.T) {
	var s workflows.Taken
	for n := range 100 {
		s = s.With(fmt.Sprint(n))
	}
	require.True(t, s.Has("0"))
	require.False(t, s.Has("100"))
	require.False(t, s.Last(10).Has("89"))
	require.True(t, s.Last(10).Has("90"))
	require.Len(t, s.Last(1000), 800)
}
