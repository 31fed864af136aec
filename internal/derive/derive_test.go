package derive_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/converter"
	"google.golang.org/protobuf/types/known/timestamppb"

	"rekey/activities"
	"rekey/activities/notify"
	"rekey/internal/canon"
	"rekey/internal/derive"
	"rekey/internal/event"
	"rekey/internal/page"
	"rekey/workflows"
)

var start = time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)

func payloads(t *testing.T, v any) *commonpb.Payloads {
	t.Helper()
	p, err := converter.GetDefaultDataConverter().ToPayloads(v)
	require.NoError(t, err)
	return p
}

// history is built by hand, a second between events.
type history struct {
	t *testing.T
	h *historypb.History
}

func newHistory(t *testing.T) *history {
	t.Helper()
	return &history{t: t, h: &historypb.History{}}
}

func (h *history) add(typ enumspb.EventType, e *historypb.HistoryEvent) int64 {
	e.EventId, e.EventType = int64(len(h.h.Events)+1), typ
	e.EventTime = timestamppb.New(start.Add(time.Duration(e.EventId) * time.Second))
	h.h.Events = append(h.h.Events, e)
	return e.EventId
}

func (h *history) marker(name string, v any) {
	h.add(enumspb.EVENT_TYPE_MARKER_RECORDED, &historypb.HistoryEvent{Attributes: &historypb.HistoryEvent_MarkerRecordedEventAttributes{
		MarkerRecordedEventAttributes: &historypb.MarkerRecordedEventAttributes{MarkerName: name, Details: map[string]*commonpb.Payloads{"data": payloads(h.t, v)}},
	}})
}

func (h *history) record(e event.Event) {
	h.marker("SideEffect", workflows.Recorded{ID: workflows.MarkerRecord, Event: e})
}

func (h *history) schedule(name string, in any) int64 {
	return h.add(enumspb.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED, &historypb.HistoryEvent{Attributes: &historypb.HistoryEvent_ActivityTaskScheduledEventAttributes{
		ActivityTaskScheduledEventAttributes: &historypb.ActivityTaskScheduledEventAttributes{ActivityType: &commonpb.ActivityType{Name: name}, Input: payloads(h.t, in)},
	}})
}

func (h *history) complete(sched int64, res any) {
	h.add(enumspb.EVENT_TYPE_ACTIVITY_TASK_COMPLETED, &historypb.HistoryEvent{Attributes: &historypb.HistoryEvent_ActivityTaskCompletedEventAttributes{
		ActivityTaskCompletedEventAttributes: &historypb.ActivityTaskCompletedEventAttributes{ScheduledEventId: sched, Result: payloads(h.t, res)},
	}})
}

func (h *history) events() []event.Event {
	h.t.Helper()
	out, err := derive.Events("inc-1", []derive.Run{{Workflow: "wf", ID: "run", History: h.h}})
	require.NoError(h.t, err)
	return out
}

func pass(v activities.Verb) activities.Pass {
	return activities.Pass{Incident: "inc-1", ID: "p1", Verb: v, Attempt: 2, Items: []activities.Request{{
		Ref: activities.Ref{Token: "tok", Key: activities.Key{FP: "fp1_a", Provider: "awsiam", Account: "prod", ID: "id-a"}},
	}}}
}

func TestMarkersAreEvents(t *testing.T) {
	h := newHistory(t)
	h.record(event.Event{Type: event.EventPhase, V: 1, Time: canon.Time(start), Actor: "local:root", Phase: "scope", Incident: "forged", Attrs: map[string]string{"empty": ""}})
	h.marker("Version", "x")
	h.marker("SideEffect", workflows.Recorded{ID: "else"})
	h.marker("SideEffect", "no record")
	got := h.events()
	require.Len(t, got, 3, "markers of the SDK itself are not ours")
	require.Equal(t, event.Event{
		Type: event.EventPhase, V: 1, Time: canon.Time(start), Actor: "local:root", Phase: "scope",
		Incident: "inc-1", Redaction: event.Public, Origin: event.Origin{Workflow: "wf", Run: "run", EventID: 1},
	}, got[0])
	for _, gap := range got[1:] {
		require.Equal(t, event.EventGap, gap.Type, "what cannot be read is said, not left out")
	}
}

func TestCallsAreEvents(t *testing.T) {
	attempt := func(v activities.Verb, change func(*activities.Attempt)) activities.Attempt {
		a := activities.Attempt{FP: "fp1_a", Verb: v, N: 2, Outcome: activities.Done, RequestID: "req"}
		change(&a)
		return a
	}
	for name, row := range map[string]struct {
		verb   activities.Verb
		change func(*activities.Attempt)
		types  []string
		result string
		attrs  map[string]string // of the first
	}{
		"done":      {activities.Disable, func(*activities.Attempt) {}, []string{event.EventCallConfirmed}, "done", nil},
		"recovered": {activities.Disable, func(a *activities.Attempt) { a.Recovered = true }, []string{event.EventCallConfirmed}, "done", map[string]string{"recovered": "true"}},
		"denied": {activities.Disable, func(a *activities.Attempt) {
			a.Class, a.Outcome, a.Permission = activities.ClassDenied, activities.Denied, "iam:UpdateAccessKey"
		}, []string{event.EventCallFailed}, "denied", map[string]string{"class": "denied", "permission": "iam:UpdateAccessKey"}},
		"probe": {activities.Probe, func(a *activities.Attempt) {
			a.Probe = &activities.ProbeResult{Saw: "refused", Control: true, Mode: "auth"}
		}, []string{event.EventProbe}, "refused", map[string]string{"control": "true", "mode": "auth"}},
		"issued":          {activities.Issue, func(a *activities.Attempt) { a.Issue = &activities.IssueResult{New: activities.KeyState{ID: "id-b"}} }, []string{event.EventReissued, event.EventCallConfirmed}, "done", map[string]string{"new_key_id": "id-b"}},
		"issue not known": {activities.Issue, func(a *activities.Attempt) { a.Outcome, a.Issue = activities.Unclear, &activities.IssueResult{} }, []string{event.EventCallConfirmed}, "unclear", nil},
		"settled, then issued": {activities.Issue, func(a *activities.Attempt) {
			a.Reconcile = &activities.ReconcileResult{Settled: true, Killed: []activities.KeyState{{ID: "x"}, {ID: "y"}}}
			a.Issue = &activities.IssueResult{New: activities.KeyState{ID: "id-b"}}
		}, []string{event.EventReconciled, event.EventReissued, event.EventCallConfirmed}, "done", map[string]string{"settled": "true", "killed": "x,y"}},
		"delivered": {activities.Distribute, func(a *activities.Attempt) { a.Distribute = &activities.DistributeResult{Version: "v7"} }, []string{event.EventDelivered, event.EventCallConfirmed}, "done", map[string]string{"version": "v7"}},
		"swept":     {activities.Sweep, func(a *activities.Attempt) { a.Sweep = &activities.SweepResult{Digest: "sha256:s"} }, []string{event.EventCallConfirmed}, "done", map[string]string{"digest": "sha256:s", "findings": "0"}},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHistory(t)
			id := h.schedule("awsiam."+string(row.verb), pass(row.verb))
			h.complete(id, activities.PassResult{Journal: "sha256:j", Items: []activities.Attempt{attempt(row.verb, row.change)}})
			got := h.events()
			require.Len(t, got, len(row.types)+1)
			require.Equal(t, event.EventCallAttempted, got[0].Type)
			require.Equal(t, "tok", got[0].Token)
			require.Equal(t, 2, got[0].Attempt)
			require.Equal(t, map[string]string{"provider": "awsiam", "account": "prod", "key_id": "id-a"}, got[0].Attrs)
			require.EqualValues(t, 1, got[0].Origin.EventID)
			for i, typ := range row.types {
				e := got[i+1]
				require.Equal(t, typ, e.Type)
				require.Equal(t, "fp1_a", e.FP)
				require.Equal(t, "provider:awsiam", e.Actor)
				require.Equal(t, "tok", e.Token)
				require.Equal(t, "req", e.RequestID)
				require.Contains(t, e.Evidence, "sha256:j")
				require.Equal(t, canon.Time(start.Add(2*time.Second)), e.Time)
				require.EqualValues(t, 2, e.Origin.EventID)
			}
			require.Equal(t, row.result, got[1].Result)
			require.Equal(t, row.attrs, got[1].Attrs)
		})
	}
}

func TestCallsWithoutAnAnswerAreUnknown(t *testing.T) {
	for name, row := range map[string]struct {
		end func(h *history, sched int64)
		why string
	}{
		"timed out": {func(h *history, id int64) {
			h.add(enumspb.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT, &historypb.HistoryEvent{Attributes: &historypb.HistoryEvent_ActivityTaskTimedOutEventAttributes{ActivityTaskTimedOutEventAttributes: &historypb.ActivityTaskTimedOutEventAttributes{ScheduledEventId: id}}})
		}, "no answer from the worker"},
		"failed": {func(h *history, id int64) {
			h.add(enumspb.EVENT_TYPE_ACTIVITY_TASK_FAILED, &historypb.HistoryEvent{Attributes: &historypb.HistoryEvent_ActivityTaskFailedEventAttributes{ActivityTaskFailedEventAttributes: &historypb.ActivityTaskFailedEventAttributes{ScheduledEventId: id}}})
		}, "the worker could not keep its journal"},
		"cancelled": {func(h *history, id int64) {
			h.add(enumspb.EVENT_TYPE_ACTIVITY_TASK_CANCELED, &historypb.HistoryEvent{Attributes: &historypb.HistoryEvent_ActivityTaskCanceledEventAttributes{ActivityTaskCanceledEventAttributes: &historypb.ActivityTaskCanceledEventAttributes{ScheduledEventId: id}}})
		}, "cancelled"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHistory(t)
			row.end(h, h.schedule("awsiam.Disable", pass(activities.Disable)))
			row.end(h, 99) // of an activity that is no call
			got := h.events()
			require.Len(t, got, 2)
			require.Equal(t, event.EventCallAttempted, got[0].Type)
			require.Equal(t, event.EventCallFailed, got[1].Type)
			require.Equal(t, "unknown", got[1].Result)
			require.Equal(t, "tok", got[1].Token)
			require.Equal(t, map[string]string{"why": row.why}, got[1].Attrs)
		})
	}
}

// What a channel was told, and when, is in the bundle: what it has taken, not what
// was tried or shown.
func TestWhatAChannelWasTold(t *testing.T) {
	place := notify.Place{Channel: "slack", Where: "C1", ID: "17.1", URL: "https://chat.example/17"}
	line := notify.Line{N: 3, At: start, Kind: notify.KindDead, Text: "it is dead"}
	appended := workflows.RecordCall{Channel: "slack", Op: workflows.RecordAppend, Attempt: 2, Append: &notify.AppendRequest{Place: place, Line: line, Marker: "inc-1/3"}}
	h := newHistory(t)
	h.complete(h.schedule(workflows.ActivityRecord, workflows.RecordCall{Channel: "slack", Op: workflows.RecordOpen, Attempt: 1, Open: &notify.OpenRequest{Target: "#incidents", Marker: "inc-1"}}), workflows.RecordAnswer{Place: &place})
	h.complete(h.schedule(workflows.ActivityRecord, appended), workflows.RecordAnswer{Class: activities.ClassTransient, Detail: "down"})
	h.complete(h.schedule(workflows.ActivityRecord, workflows.RecordCall{Channel: "slack", Op: workflows.RecordUpdate, Update: &notify.UpdateRequest{Place: place}}), workflows.RecordAnswer{})
	h.complete(h.schedule(workflows.ActivityRecord, appended), workflows.RecordAnswer{Receipt: "17.2", RequestID: "req"})
	h.complete(h.schedule(workflows.ActivityRecord, workflows.RecordCall{Channel: "slack", Op: workflows.RecordClose, Update: &notify.UpdateRequest{Place: place, Card: notify.Card{State: "all-clear", Bundle: "sha256:b"}}}), workflows.RecordAnswer{})
	got := h.events()
	require.Len(t, got, 3)
	for _, e := range got {
		require.Equal(t, event.EventRecordTold, e.Type)
		require.Equal(t, event.Internal, e.Redaction, "it names people")
		require.Equal(t, "slack", e.Attrs["channel"])
		require.Equal(t, "17.1", e.Attrs["id"])
	}
	require.Equal(t, []string{"open", "append", "close"}, []string{got[0].Verb, got[1].Verb, got[2].Verb})
	require.Equal(t, 2, got[1].Attempt)
	require.Equal(t, "req", got[1].RequestID)
	require.Equal(t, canon.Time(start.Add(8*time.Second)), got[1].Time, "when it was taken")
	require.Equal(t, map[string]string{
		"channel": "slack", "where": "C1", "id": "17.1", "url": "https://chat.example/17", "line": "3", "kind": "dead", "text": "it is dead",
		"said": canon.Time(start), "receipt": "17.2", "marker": "inc-1/3",
	}, got[1].Attrs)
	require.Equal(t, "sha256:b", got[2].Attrs["bundle"])
}

// A pass over pages is one event, whatever it holds: what became of each row stands in
// the pages that it names.
func TestAPassOverPagesIsOneEvent(t *testing.T) {
	in := page.Pass{Incident: "inc-1", ID: "wave/1/Disable/p3", Verb: activities.Disable, Provider: "awsiam", Account: "prod", Attempt: 2, Pages: []string{"sha256:in"}, Now: start.Add(48 * time.Hour)}
	group := func(hash string, n int) page.Group { return page.Group{Ref: page.Ref{Hash: hash, N: n}} }
	h := newHistory(t)
	h.complete(h.schedule("awsiam.Disable.page", in), page.PassResult{
		Groups: []page.Group{group("sha256:a", 480), group("sha256:b", 20)}, Outcomes: map[string]int{"done": 480, "denied": 3},
		Failed: map[string]int{"denied": 17}, Made: 499, Journal: "sha256:j", More: 2,
	})
	got := h.events()
	require.Len(t, got, 1)
	e := got[0]
	require.Equal(t, event.EventPass, e.Type)
	require.Equal(t, event.Internal, e.Redaction)
	require.Equal(t, "provider:awsiam", e.Actor)
	require.Equal(t, "Disable", e.Verb)
	require.Equal(t, in.ID, e.Token)
	require.Equal(t, 2, e.Attempt)
	require.Empty(t, e.FP)
	require.Equal(t, map[string]string{
		"provider": "awsiam", "account": "prod", "rows": "500", "made": "499", "groups": "2", "pages_in": "1", "pages_out": "2", "journal": "sha256:j",
		"outcome done": "480", "outcome denied": "3", "failed denied": "17", "findings": "2",
	}, e.Attrs)
	require.Equal(t, []string{"sha256:j", "sha256:in", "sha256:a", "sha256:b"}, e.Evidence)
	require.Equal(t, canon.Time(start.Add(48*time.Hour+time.Second)), e.Time, "a drill's clock is the world's")

	h = newHistory(t)
	id := h.schedule("awsiam.Disable.page", in)
	h.add(enumspb.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT, &historypb.HistoryEvent{Attributes: &historypb.HistoryEvent_ActivityTaskTimedOutEventAttributes{ActivityTaskTimedOutEventAttributes: &historypb.ActivityTaskTimedOutEventAttributes{ScheduledEventId: id}}})
	got = h.events()
	require.Len(t, got, 1)
	require.Equal(t, event.EventCallFailed, got[0].Type)
	require.Equal(t, "unknown", got[0].Result)
	require.Equal(t, in.ID, got[0].Token)
	require.Equal(t, []string{"sha256:in"}, got[0].Evidence)
	require.Equal(t, "no answer from the worker", got[0].Attrs["why"])
	require.Equal(t, canon.Time(start.Add(48*time.Hour+time.Second)), got[0].Time)

	h = newHistory(t)
	h.complete(h.schedule("awsiam.Revoke.page", in), page.PassResult{})
	h.complete(h.schedule("awsiam.Disable", in), page.PassResult{})
	require.Empty(t, h.events(), "what is named otherwise is no pass over pages")
}

func TestEnginesActivitiesAreNoCalls(t *testing.T) {
	h := newHistory(t)
	h.complete(h.schedule("engine.Admit", pass(activities.Disable)), "anything")
	h.complete(h.schedule("awsiam.Other", map[string]string{"a": "b"}), "anything")
	require.Empty(t, h.events())
}

func TestATerminatedRunIsAGap(t *testing.T) {
	h := newHistory(t)
	h.add(enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED, &historypb.HistoryEvent{})
	got := h.events()
	require.Len(t, got, 1)
	require.Equal(t, "terminated", got[0].Result)
	require.Equal(t, event.Public, got[0].Redaction)
}

func TestADrillsClockIsTheWorlds(t *testing.T) {
	h := newHistory(t)
	p := pass(activities.Disable)
	p.Items[0].Now = start.Add(48 * time.Hour)
	h.complete(h.schedule("awsiam.Disable", p), activities.PassResult{Items: []activities.Attempt{{FP: "fp1_a", Outcome: activities.Done}}})
	got := h.events()
	require.Equal(t, canon.Time(start.Add(48*time.Hour)), got[0].Time)
	require.Equal(t, canon.Time(start.Add(48*time.Hour+time.Second)), got[1].Time)
}

func TestRunsAreMergedByTheWorldsTime(t *testing.T) {
	a, b := newHistory(t), newHistory(t)
	a.record(event.Event{Type: event.EventOpened, Time: canon.Time(start.Add(time.Hour))})
	b.record(event.Event{Type: event.EventClosed, Time: canon.Time(start)})
	got, err := derive.Events("inc-1", []derive.Run{{Workflow: "a", ID: "1", History: a.h}, {Workflow: "b", ID: "1", History: b.h}})
	require.NoError(t, err)
	require.Equal(t, []string{event.EventClosed, event.EventOpened}, []string{got[0].Type, got[1].Type})
}

func TestExtendNeverChangesASealedOrder(t *testing.T) {
	at := func(id int64, typ, fp string) event.Event {
		return event.Event{Type: typ, FP: fp, Origin: event.Origin{Workflow: "wf", Run: "run", EventID: id}}
	}
	sealed := derive.Extend(nil, []event.Event{at(5, "x", "a"), at(2, "x", "a")})
	early, sameSpot, sameType := at(1, "x", "a"), at(5, "y", "a"), at(5, "x", "b")
	all := []event.Event{early, at(2, "x", "a"), at(5, "x", "a"), sameSpot, sameType}
	got := derive.Extend(sealed, all)
	require.Len(t, got, 5)
	require.Equal(t, sealed, got[:2], "what was sealed stays first, in its order, with its number")
	for i, e := range got {
		require.EqualValues(t, i+1, e.Seq)
	}
	require.Equal(t, []string{"x", "y", "x"}, []string{got[2].Type, got[3].Type, got[4].Type})
	require.Equal(t, got, derive.Extend(got, all), "sealing again adds nothing")
	require.Zero(t, all[0].Seq, "the input is left as it is")
}

func TestRedactionClasses(t *testing.T) {
	for typ, want := range map[string]string{
		event.EventOpened: event.Public, event.EventClosed: event.Public, event.EventGap: event.Public,
		event.EventProbe: event.Customer, event.EventItem: event.Customer, event.EventReissued: event.Customer, event.EventTripwire: event.Customer,
		event.EventApprovalGiven: event.Internal, event.EventTrigger: event.Internal, event.EventNote: event.Internal,
		event.EventScope: event.Internal, event.EventBreakGlass: event.Internal,
		event.EventRecordTold: event.Internal, event.EventRecordBehind: event.Internal, event.EventRecordCaught: event.Internal, "something.new": event.Internal,
	} {
		h := newHistory(t)
		h.record(event.Event{Type: typ, Time: canon.Time(start), Redaction: event.Public})
		require.Equal(t, want, h.events()[0].Redaction, "%s: the class is the type's, whatever the record says", typ)
	}
}

func TestJSONKeepsTheHistory(t *testing.T) {
	h := newHistory(t)
	h.schedule("awsiam.Disable", pass(activities.Disable))
	b, err := derive.JSON(h.h)
	require.NoError(t, err)
	require.Contains(t, string(b), "EVENT_TYPE_ACTIVITY_TASK_SCHEDULED")
	require.Contains(t, string(b), "awsiam.Disable")
}
