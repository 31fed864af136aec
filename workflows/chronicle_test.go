package workflows_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/workflow"

	"rekey/activities"
	"rekey/activities/notify"
	"rekey/internal/event"
	"rekey/internal/view"
	"rekey/workflows"
)

// aRecord plays the record of one channel by itself.
func aRecord(t *testing.T, p *place) *world { return newWorld(t, inChat(p)) }

func lines(from, to int64) []notify.Line {
	var out []notify.Line
	for n := from; n <= to; n++ {
		out = append(out, notify.Line{N: n, At: t0, Kind: notify.KindNote, Text: fmt.Sprintf("line %d", n)})
	}
	return out
}

func card(state string) *notify.Card { return &notify.Card{Incident: incidentID, State: state} }

func recordInput(first workflows.Story) workflows.RecordInput {
	return workflows.RecordInput{Incident: incidentID, Channel: "slack", Target: "#incidents", Now: t0, First: &first}
}

func (w *world) story(d time.Duration, s workflows.Story) {
	w.env.RegisterDelayedCallback(func() { w.env.SignalWorkflow(workflows.SignalStory, s) }, d)
}

func TestARecordDropsWhatCameTwice(t *testing.T) {
	p := &place{}
	w := aRecord(t, p)
	w.story(time.Second, workflows.Story{Lines: lines(2, 4)})
	w.story(2*time.Second, workflows.Story{Lines: lines(1, 5), Card: card("contained")})
	w.story(3*time.Second, workflows.Story{Over: true, Card: card("all-clear")})
	w.env.ExecuteWorkflow(workflows.TypeRecord, recordInput(workflows.Story{Lines: lines(1, 2), Card: card("open")}))
	require.NoError(t, w.env.GetWorkflowError())
	p.inOrder(t, 1)
	require.Len(t, p.posts, 5)
	require.Len(t, p.closed, 1)
	require.Equal(t, "all-clear", p.closed[0].State)
}

// A lost answer is looked for before it is said again; where nothing happened,
// nothing is looked for.
func TestARecordLooksBeforeItSaysAgain(t *testing.T) {
	for class, recheck := range map[activities.Class]bool{
		activities.ClassUnclear: true, activities.ClassTransient: false, activities.ClassThrottled: false, activities.ClassDenied: false, activities.ClassInvalid: false,
	} {
		t.Run(string(class), func(t *testing.T) {
			p := &place{}
			w := aRecord(t, p)
			p.fails = func(c workflows.RecordCall, _ time.Time) *trouble {
				if c.Attempt == 1 && c.Op != workflows.RecordUpdate {
					return &trouble{class: class, applied: class == activities.ClassUnclear}
				}
				return nil
			}
			w.story(time.Hour, workflows.Story{Over: true, Card: card("all-clear")})
			w.env.ExecuteWorkflow(workflows.TypeRecord, recordInput(workflows.Story{Lines: lines(1, 3), Card: card("open")}))
			require.NoError(t, w.env.GetWorkflowError())
			p.inOrder(t, 1)
			require.Len(t, p.posts, 3)
			for _, c := range p.calls {
				switch {
				case c.Open != nil:
					require.Equal(t, recheck && c.Attempt == 2, c.Open.Recheck)
				case c.Append != nil:
					require.Equal(t, recheck && c.Attempt == 2, c.Append.Recheck)
				}
			}
		})
	}
}

// One line that a channel refuses holds up the lines behind it and no card; the
// attempts become slow, and it is said once.
func TestARefusedLine(t *testing.T) {
	p := &place{}
	w := aRecord(t, p)
	p.fails = func(c workflows.RecordCall, now time.Time) *trouble {
		if c.Append != nil && c.Append.Line.N == 2 && now.Before(t0.Add(24*time.Hour)) {
			return &trouble{class: activities.ClassInvalid}
		}
		return nil
	}
	for n := range 20 {
		w.story(time.Duration(n+1)*time.Hour, workflows.Story{Card: card(fmt.Sprintf("open %d", n))})
	}
	w.env.RegisterDelayedCallback(func() {
		require.Equal(t, "open 19", p.lastCard().State, "the card is true meanwhile")
		require.Len(t, p.texts(), 1)
		refused := 0
		for _, c := range p.calls {
			if c.Append != nil && c.Append.Line.N == 2 {
				refused++
			}
		}
		require.Less(t, refused, 40, "slowly")
	}, 21*time.Hour)
	w.story(30*time.Hour, workflows.Story{Over: true})
	w.env.ExecuteWorkflow(workflows.TypeRecord, recordInput(workflows.Story{Lines: lines(1, 3), Card: card("open")}))
	require.NoError(t, w.env.GetWorkflowError())
	p.inOrder(t, 1)
	require.Len(t, p.posts, 3)
	require.Equal(t, 1, w.count(event.EventRecordBehind, "invalid"))
	require.Equal(t, 1, w.count(event.EventRecordCaught, ""))
}

func TestARecordGivesUpLongAfterTheIncident(t *testing.T) {
	p := &place{fails: func(workflows.RecordCall, time.Time) *trouble { return &trouble{class: activities.ClassDenied} }}
	w := aRecord(t, p)
	w.env.SetTestTimeout(time.Minute)
	w.story(time.Minute, workflows.Story{Over: true})
	w.env.ExecuteWorkflow(workflows.TypeRecord, recordInput(workflows.Story{Lines: lines(1, 2), Card: card("open")}))
	require.NoError(t, w.env.GetWorkflowError())
	require.Empty(t, p.posts)
	require.Equal(t, 1, w.count(event.EventRecordBehind, "gave-up"), "on record, with what was not told")
	require.Greater(t, w.env.Now().Sub(t0), 29*24*time.Hour)
}

func TestARecordContinuesAsNew(t *testing.T) {
	p := &place{fails: during(0, time.Hour, trouble{class: activities.ClassUnclear, applied: true})}
	w := aRecord(t, p)
	w.env.RegisterDelayedCallback(func() { w.env.SetContinueAsNewSuggested(true) }, 10*time.Minute)
	w.story(9*time.Minute, workflows.Story{Lines: lines(3, 4)})
	w.env.ExecuteWorkflow(workflows.TypeRecord, recordInput(workflows.Story{Lines: lines(1, 2), Card: card("open")}))
	var can *workflow.ContinueAsNewError
	require.ErrorAs(t, w.env.GetWorkflowError(), &can)
	var next workflows.RecordInput
	require.NoError(t, converter.GetDefaultDataConverter().FromPayloads(can.Input, &next))
	require.Len(t, next.Queue, 4)
	require.True(t, next.Recheck, "the last attempt may have succeeded")
	require.True(t, next.Behind)

	w.begin()
	w.env.SetContinuedExecutionRunID("run-1")
	p.fails = nil
	w.story(time.Minute, workflows.Story{Lines: lines(4, 5), Over: true, Card: card("all-clear")})
	w.env.ExecuteWorkflow(workflows.TypeRecord, next)
	require.NoError(t, w.env.GetWorkflowError())
	p.inOrder(t, 1)
	require.Len(t, p.posts, 5)
	require.Len(t, p.closed, 1)
	require.Equal(t, []workflows.ArchiveInput{{Incident: incidentID, Workflow: workflows.RecordID(incidentID, "slack"), Run: "run-1"}}, w.archived)
}

// A reopened incident is followed in the same place, by lines with further numbers;
// it is told there that it goes on, and in the end that it is over again.
func TestAReopenedIncidentIsFollowedInTheSamePlace(t *testing.T) {
	p := &place{}
	w := newWorld(t, inChat(p))
	w.reported(0, "r1", "AKIA-1")
	w.approving("irreversible")
	w.env.SetDetachedChildWait(true)
	first := w.run()
	require.Equal(t, "all-clear", first.State)
	told := first.Records[0].Lines
	require.Len(t, p.texts(), int(told))
	require.Len(t, p.closed, 1)
	require.NotEmpty(t, first.Records[0].Run)

	w.in.Reopened = &workflows.Reopened{Run: "run-of-before", Digest: first.Bundle.Digest, Waves: 1, Records: first.Records}
	w.begin()
	w.last = view.Incident{}
	w.provider.key("AKIA-1").active, w.provider.key("AKIA-1").exists = true, true
	w.reported(0, "r2", "AKIA-1")
	w.approving("irreversible")
	w.env.SetDetachedChildWait(true)
	second := w.run()
	require.Equal(t, "all-clear", second.State)
	p.inOrder(t, 1)
	require.Greater(t, second.Records[0].Lines, told)
	require.Len(t, p.texts(), int(second.Records[0].Lines))
	require.Contains(t, p.texts(notify.KindReopened)[0], first.Bundle.Digest)
	require.Len(t, p.closed, 3)
	require.NotEqual(t, "all-clear", p.closed[1].State, "it goes on")
	require.Equal(t, "all-clear", p.closed[2].State)
	record := workflows.RecordID(incidentID, "slack")
	require.Contains(t, w.archived, workflows.ArchiveInput{Incident: incidentID, Workflow: record, Run: first.Records[0].Run}, "the run of before is kept")
	require.Contains(t, w.seals[len(w.seals)-1].Chapters, workflows.Chapter{Workflow: record, Run: "run of " + record, Hash: "sha256:" + record}, "and the incident pins it")
}

// Where nobody knows the place of before, it is looked for by its marker.
func TestAnUnknownPlaceIsLookedFor(t *testing.T) {
	p := &place{}
	w := newWorld(t, inChat(p), func(w *world) {
		w.in.Reopened = &workflows.Reopened{Run: "run-of-before", Digest: "sha256:before"}
	})
	w.reported(0, "r1", "AKIA-1")
	w.approving("irreversible")
	w.env.SetDetachedChildWait(true)
	w.run()
	require.True(t, p.calls[0].Open.Recheck)
	require.Equal(t, incidentID, p.calls[0].Open.Marker)
	for _, c := range p.calls {
		if c.Append != nil {
			require.True(t, strings.HasPrefix(c.Append.Marker, incidentID+".run-of-b/"), "lines of another life have other markers: %s", c.Append.Marker)
		}
	}
}

// An incident of 200 items is told in a bounded number of lines and messages.
func TestALargeIncidentIsToldInFewLines(t *testing.T) {
	const items = 200
	p := &place{}
	w := newWorld(t, inChat(p))
	for i := 2; i <= items; i++ {
		w.reach["AKIA-1"] = append(w.reach["AKIA-1"], fmt.Sprintf("AKIA-%d", i))
	}
	w.env.SetTestTimeout(2 * time.Minute)
	w.reported(0, "r1", "AKIA-1")
	w.approving("irreversible")
	w.env.SetDetachedChildWait(true)
	v := w.run()
	require.Equal(t, "all-clear", v.State)
	require.Equal(t, items, v.Totals.Items)
	p.inOrder(t, 1)
	require.Less(t, len(p.texts()), 160)
	require.Less(t, len(p.texts(notify.KindDead)), 30)
	all := strings.Join(p.texts(notify.KindDead), "\n")
	require.Contains(t, all, "more items proven dead (", "counted by grade")
	require.LessOrEqual(t, len(p.lastCard().Items), 10)
	require.Equal(t, items, p.lastCard().Scope.Items)
	updates := 0
	for _, c := range p.calls {
		if c.Op == workflows.RecordUpdate {
			updates++
		}
	}
	require.Less(t, updates, 160)
	t.Logf("%d items: %d lines, %d cards, %d calls", items, len(p.posts), updates, p.tried())
}
