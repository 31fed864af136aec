// Package derive turns Temporal histories into the events of the audit bundle.
// The history is the truth of what the engine did (design section 1): an event is
// here because a history has it, and says which.
package derive

import (
	"fmt"
	"sort"
	"strconv"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/converter"

	"rekey/activities"
	"rekey/internal/canon"
	"rekey/internal/event"
	"rekey/internal/page"
	"rekey/workflows"
)

// A Run is one run of one workflow with its history, payloads decoded.
type Run struct {
	Workflow string
	ID       string
	Type     string
	History  *historypb.History
}

// Events gives the events of the runs in the order of the world's time. The same
// histories give the same events.
func Events(incident string, runs []Run) ([]event.Event, error) {
	var out []event.Event
	for _, r := range runs {
		evs, err := ofRun(incident, r)
		if err != nil {
			return nil, fmt.Errorf("history of %s run %s: %w", r.Workflow, r.ID, err)
		}
		out = append(out, evs...)
	}
	sort.SliceStable(out, func(i, j int) bool { return out[i].Time < out[j].Time })
	return out, nil
}

// Extend puts the events that were not in a bundle yet behind those that were: a
// sealed order never changes.
func Extend(before, all []event.Event) []event.Event {
	seen := map[string]bool{}
	for _, e := range before {
		seen[id(e)] = true
	}
	out := append([]event.Event{}, before...)
	for _, e := range all {
		if !seen[id(e)] {
			out = append(out, e)
		}
	}
	for i := range out {
		out[i].Seq = int64(i + 1)
	}
	return out
}

// id is what tells two events apart: the place in a history, and the type, because
// one place can give several.
func id(e event.Event) string {
	return e.Origin.Workflow + "\x00" + e.Origin.Run + "\x00" + strconv.FormatInt(e.Origin.EventID, 10) + "\x00" + e.Type + "\x00" + e.FP + "\x00" + e.Origin.Outside
}

type reader struct {
	incident  string
	run       Run
	dc        converter.DataConverter
	scheduled map[int64]*historypb.HistoryEvent
	passes    map[int64]activities.Pass
	pages     map[int64]page.Pass
	calls     map[int64]workflows.RecordCall
	// skew is the world's time less Temporal's, as last seen: not zero in drills.
	skew time.Duration
	out  []event.Event
}

func ofRun(incident string, run Run) ([]event.Event, error) {
	r := &reader{
		incident: incident, run: run, dc: converter.GetDefaultDataConverter(), scheduled: map[int64]*historypb.HistoryEvent{},
		passes: map[int64]activities.Pass{}, pages: map[int64]page.Pass{}, calls: map[int64]workflows.RecordCall{},
	}
	for _, e := range run.History.GetEvents() {
		if err := r.read(e); err != nil {
			return nil, fmt.Errorf("event %d: %w", e.GetEventId(), err)
		}
	}
	return r.out, nil
}

func (r *reader) read(e *historypb.HistoryEvent) error {
	switch e.GetEventType() {
	case enumspb.EVENT_TYPE_MARKER_RECORDED:
		return r.marker(e)
	case enumspb.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
		return r.scheduledTask(e)
	case enumspb.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
		a := e.GetActivityTaskCompletedEventAttributes()
		return r.completed(e, a.GetScheduledEventId(), a.GetResult())
	case enumspb.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT:
		r.lost(e, e.GetActivityTaskTimedOutEventAttributes().GetScheduledEventId(), "no answer from the worker")
	case enumspb.EVENT_TYPE_ACTIVITY_TASK_FAILED:
		r.lost(e, e.GetActivityTaskFailedEventAttributes().GetScheduledEventId(), "the worker could not keep its journal")
	case enumspb.EVENT_TYPE_ACTIVITY_TASK_CANCELED:
		r.lost(e, e.GetActivityTaskCanceledEventAttributes().GetScheduledEventId(), "cancelled")
	case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED:
		r.add(e, e.GetEventTime().AsTime(), event.Event{Type: event.EventGap, Actor: "temporal", Result: "terminated", Attrs: map[string]string{"workflow": r.run.Workflow}})
	case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED:
		r.add(e, e.GetEventTime().AsTime(), event.Event{Type: event.EventGap, Actor: "temporal", Result: "failed", Attrs: map[string]string{"workflow": r.run.Workflow}})
	}
	return nil
}

// marker reads what the workflow itself decided.
func (r *reader) marker(e *historypb.HistoryEvent) error {
	m := e.GetMarkerRecordedEventAttributes()
	data := m.GetDetails()["data"]
	if m.GetMarkerName() != "SideEffect" || data == nil {
		return nil
	}
	var rec workflows.Recorded
	if err := r.dc.FromPayloads(data, &rec); err != nil || rec.ID != workflows.MarkerRecord {
		// Workflows of rekey have no other side effects.
		r.add(e, e.GetEventTime().AsTime().Add(r.skew), event.Event{Type: event.EventGap, Actor: "temporal", Result: "a record of the workflow cannot be read"})
		return nil //nolint:nilerr // the gap is the answer: one bad record must not hide the rest
	}
	if at, err := time.Parse(canon.TimeLayout, rec.Event.Time); err == nil {
		r.skew = at.Sub(e.GetEventTime().AsTime())
	}
	for _, ev := range append([]event.Event{rec.Event}, rec.More...) {
		r.origin(e, &ev)
		r.out = append(r.out, ev)
	}
	return nil
}

func (r *reader) scheduledTask(e *historypb.HistoryEvent) error {
	a := e.GetActivityTaskScheduledEventAttributes()
	var call workflows.RecordCall
	if a.GetActivityType().GetName() == workflows.ActivityRecord && r.dc.FromPayloads(a.GetInput(), &call) == nil {
		r.calls[e.GetEventId()] = call
		return nil
	}
	var over page.Pass
	if isPagePass(a.GetActivityType().GetName(), a.GetInput(), r.dc, &over) {
		r.scheduled[e.GetEventId()] = e
		r.pages[e.GetEventId()] = over
		return nil
	}
	var p activities.Pass
	if !isPass(a.GetActivityType().GetName(), a.GetInput(), r.dc, &p) {
		return nil
	}
	r.scheduled[e.GetEventId()] = e
	r.passes[e.GetEventId()] = p
	return nil
}

func isPass(name string, in *commonpb.Payloads, dc converter.DataConverter, p *activities.Pass) bool {
	if in == nil || len(name) >= 7 && name[:7] == "engine." {
		return false
	}
	return dc.FromPayloads(in, p) == nil && p.Verb != "" && len(p.Items) > 0
}

// attempted writes that a call was begun, at the world's time.
//
// The workflow's own time stands in the request; in a drill it is not Temporal's.
func (r *reader) attempted(sched *historypb.HistoryEvent) {
	p := r.passes[sched.GetEventId()]
	for _, req := range p.Items {
		at := sched.GetEventTime().AsTime()
		if !req.Now.IsZero() {
			r.skew = req.Now.Sub(at)
			at = req.Now
		}
		ev := event.Event{
			Type: event.EventCallAttempted, Actor: "worker", FP: req.Key.FP, Verb: string(p.Verb), Token: req.Token, Attempt: p.Attempt,
			Attrs: attrs("provider", req.Key.Provider, "account", req.Key.Account, "key_id", req.Key.ID, "mode", req.Mode, "vantage", req.Vantage),
		}
		r.add(sched, at, ev)
	}
}

func (r *reader) completed(e *historypb.HistoryEvent, schedID int64, result *commonpb.Payloads) error {
	if call, ok := r.calls[schedID]; ok {
		return r.told(e, call, result)
	}
	sched, ok := r.scheduled[schedID]
	if !ok {
		return nil
	}
	if p, ok := r.pages[schedID]; ok {
		return r.passed(e, sched, p, result)
	}
	var res activities.PassResult
	if err := r.dc.FromPayloads(result, &res); err != nil {
		return fmt.Errorf("result of a pass: %w", err)
	}
	p := r.passes[schedID]
	for i, a := range res.Items {
		if i == 0 {
			r.attempted(sched)
		}
		at := e.GetEventTime().AsTime().Add(r.skew)
		if !a.Recovered && a.At.After(at) {
			at = a.At
		}
		for _, ev := range ofAttempt(p, a) {
			if res.Journal != "" {
				ev.Evidence = append(ev.Evidence, res.Journal)
			}
			r.add(e, at, ev)
		}
	}
	return nil
}

// told writes what a channel that follows the incident has taken. An attempt that
// failed has told nothing; that a channel does not keep up is a record of the
// workflow itself. Shown cards are not events: they say nothing that is not one.
func (r *reader) told(e *historypb.HistoryEvent, call workflows.RecordCall, result *commonpb.Payloads) error {
	var a workflows.RecordAnswer
	if err := r.dc.FromPayloads(result, &a); err != nil {
		return fmt.Errorf("answer of a channel: %w", err)
	}
	if a.Class != "" || call.Op == workflows.RecordUpdate {
		return nil
	}
	ev := event.Event{Type: event.EventRecordTold, Verb: call.Op, Attempt: call.Attempt, RequestID: a.RequestID, Result: string(activities.Done)}
	place := a.Place
	switch {
	case call.Append != nil:
		l := call.Append.Line
		place = &call.Append.Place
		ev.Attrs = attrs("line", strconv.FormatInt(l.N, 10), "kind", l.Kind, "text", l.Text, "said", canon.Time(l.At), "receipt", a.Receipt, "marker", call.Append.Marker)
	case call.Update != nil:
		place = &call.Update.Place
		ev.Attrs = attrs("state", call.Update.Card.State, "bundle", call.Update.Card.Bundle)
	case call.Open != nil:
		ev.Attrs = attrs("target", call.Open.Target, "marker", call.Open.Marker)
	}
	if place != nil && ev.Attrs != nil {
		ev.Attrs["where"], ev.Attrs["id"], ev.Attrs["url"] = place.Where, place.ID, place.URL
	}
	if ev.Attrs == nil {
		ev.Attrs = map[string]string{}
	}
	ev.Attrs["channel"] = call.Channel
	r.add(e, e.GetEventTime().AsTime().Add(r.skew), ev)
	return nil
}

// lost writes that nobody knows what became of a call. The journal of the next
// attempt settles it.
func (r *reader) lost(e *historypb.HistoryEvent, schedID int64, why string) {
	sched, ok := r.scheduled[schedID]
	if !ok {
		return
	}
	if p, ok := r.pages[schedID]; ok {
		r.passLost(e, sched, p, why)
		return
	}
	r.attempted(sched)
	p := r.passes[schedID]
	for _, req := range p.Items {
		r.add(e, e.GetEventTime().AsTime().Add(r.skew), event.Event{
			Type: event.EventCallFailed, FP: req.Key.FP, Verb: string(p.Verb), Token: req.Token, Attempt: p.Attempt, Result: "unknown", Attrs: attrs("why", why),
		})
	}
}

// ofAttempt gives what one attempt at one item has to say.
func ofAttempt(p activities.Pass, a activities.Attempt) []event.Event {
	base := event.Event{FP: a.FP, Verb: string(a.Verb), Attempt: a.N, RequestID: a.RequestID, Result: string(a.Outcome)}
	for _, req := range p.Items {
		if req.Key.FP == a.FP {
			base.Token = req.Token
			base.Actor = "provider:" + req.Key.Provider
		}
	}
	extra := attrs("detail", a.Detail, "class", string(a.Class), "permission", a.Permission)
	if a.Recovered {
		extra["recovered"] = "true"
	}
	if a.Failed() {
		base.Type, base.Attrs = event.EventCallFailed, extra
		return []event.Event{base}
	}
	var out []event.Event
	if a.Reconcile != nil {
		ev := base
		ev.Type = event.EventReconciled
		ev.Attrs = map[string]string{"settled": strconv.FormatBool(a.Reconcile.Settled), "killed": ids(a.Reconcile.Killed), "unattributed": ids(a.Reconcile.Unattributed)}
		out = append(out, ev)
	}
	switch {
	case a.Probe != nil:
		ev := base
		ev.Type, ev.Result = event.EventProbe, a.Probe.Saw
		ev.Attrs = attrs("mode", a.Probe.Mode, "vantage", a.Probe.Vantage, "control", strconv.FormatBool(a.Probe.Control), "detail", a.Detail, "subject", subject(p, a.FP))
		return append(out, ev)
	case a.Issue != nil && a.Outcome.Reached():
		ev := base
		ev.Type, ev.Attrs = event.EventReissued, attrs("new_key_id", a.Issue.New.ID)
		out = append(out, ev)
	case a.Distribute != nil && a.Outcome.Reached():
		ev := base
		ev.Type, ev.Attrs = event.EventDelivered, attrs("version", a.Distribute.Version)
		out = append(out, ev)
	case a.Inspect != nil:
		base.Evidence = append(base.Evidence, a.Inspect.Digest)
	case a.Sweep != nil:
		extra["digest"], extra["findings"] = a.Sweep.Digest, strconv.Itoa(len(a.Sweep.Findings))
	}
	base.Type, base.Attrs = event.EventCallConfirmed, extra
	return append(out, base)
}

// subject tells a probe of the replacement from one of the old key.
func subject(p activities.Pass, fp string) string {
	for _, req := range p.Items {
		if req.Key.FP == fp && req.NewKeyID != "" {
			return "new"
		}
	}
	return ""
}

// classes are who may see which event (design section 9: redaction per audience).
// What names people, or more than one customer's keys, is internal; so is what is
// not listed.
var classes = map[string]string{
	event.EventOpened: event.Public, event.EventReopened: event.Public, event.EventPhase: event.Public,
	event.EventClosed: event.Public, event.EventSealed: event.Public, event.EventGap: event.Public,
	event.EventProbe: event.Customer, event.EventItem: event.Customer, event.EventReissued: event.Customer,
	event.EventDelivered: event.Customer, event.EventAdopted: event.Customer, event.EventLadder: event.Customer,
	event.EventGate: event.Customer, event.EventSecretGone: event.Customer, event.EventTripwire: event.Customer,
}

func ids(keys []activities.KeyState) string {
	s := ""
	for i, k := range keys {
		if i > 0 {
			s += ","
		}
		s += k.ID
	}
	return s
}

func attrs(kv ...string) map[string]string {
	out := map[string]string{}
	for i := 0; i+1 < len(kv); i += 2 {
		if kv[i+1] != "" {
			out[kv[i]] = kv[i+1]
		}
	}
	return out
}

func (r *reader) add(e *historypb.HistoryEvent, at time.Time, ev event.Event) {
	ev.V = event.SchemaVersion
	ev.Time = canon.Time(at)
	if ev.Actor == "" {
		ev.Actor = "worker"
	}
	r.origin(e, &ev)
	r.out = append(r.out, ev)
}

func (r *reader) origin(e *historypb.HistoryEvent, ev *event.Event) {
	ev.Incident = r.incident
	ev.Redaction = event.Internal
	if c, ok := classes[ev.Type]; ok {
		ev.Redaction = c
	}
	ev.Origin = event.Origin{Workflow: r.run.Workflow, Run: r.run.ID, EventID: e.GetEventId()}
	for k, v := range ev.Attrs {
		if v == "" {
			delete(ev.Attrs, k)
		}
	}
	if len(ev.Attrs) == 0 {
		ev.Attrs = nil
	}
}
