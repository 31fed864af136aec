package workflows

import (
	"fmt"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"rekey/activities"
	"rekey/activities/notify"
	"rekey/internal/canon"
	"rekey/internal/event"
)

// RecordID is the workflow id of the record of an incident in a channel.
func RecordID(incident, channel string) string { return IncidentID(incident) + "/record/" + channel }

// ActivityRecord makes one call to a channel that follows incidents
// ([RecordCall] -> [RecordAnswer]). Its failures are in the answer: the loop that
// repeats it is in the workflow.
const ActivityRecord = "notify.Record"

// A Story is what an incident tells its records: the lines that are new, and the
// card if it has changed. Over: nothing will come after it.
type Story struct {
	// Life tells the lives of a reopened incident apart.
	Life  string        `json:"life,omitempty"`
	Lines []notify.Line `json:"lines,omitempty"`
	Card  *notify.Card  `json:"card,omitempty"`
	Over  bool          `json:"over,omitempty"`
}

// A RecordState is how a record stands. It tells its incident when that changes.
type RecordState struct {
	Channel string        `json:"channel"`
	State   string        `json:"state"` // of the record… constants
	Place   *notify.Place `json:"place,omitempty"`
	// Told is the last line that the place shows.
	Told  int64     `json:"told,omitempty"`
	Why   string    `json:"why,omitempty"`
	Since time.Time `json:"since,omitzero"`
	Run   string    `json:"run,omitempty"`
	// Chapters are the kept histories of the runs before.
	Chapters []Chapter `json:"chapters,omitempty"`
}

// States of a record.
const (
	recordOpening   = "opening"
	recordFollowing = "following"
	recordBehind    = "behind"
	recordClosed    = "closed"
)

// A queuedLine waits to be told, with the life of the incident that it is of.
type queuedLine struct {
	Life string      `json:"life,omitempty"`
	Line notify.Line `json:"line"`
}

// RecordInput starts a record, or its next run.
type RecordInput struct {
	Incident string   `json:"incident"`
	Channel  string   `json:"channel"`
	Target   string   `json:"target"`
	Labels   []string `json:"labels,omitempty"`
	Virtual  bool     `json:"virtual,omitempty"`
	// First is the story so far.
	First *Story `json:"first,omitempty"`
	// Place is where an earlier life of the incident was followed. Again: there was
	// one, so a place may be found. Before is the run that kept it.
	Place  *notify.Place `json:"place,omitempty"`
	Again  bool          `json:"again,omitempty"`
	Before string        `json:"before,omitempty"`

	// What a run hands to the next one.
	Now      time.Time    `json:"now,omitzero"`
	ClockSeq int64        `json:"clock_seq,omitempty"`
	Life     string       `json:"life,omitempty"`
	Last     int64        `json:"last,omitempty"` // number of the last line that came
	Told     int64        `json:"told,omitempty"` // … that the place shows
	Queue    []queuedLine `json:"queue,omitempty"`
	Card     *notify.Card `json:"card,omitempty"`
	Shown    bool         `json:"shown,omitempty"`
	Over     time.Time    `json:"over,omitzero"`
	// Reopen: the place is to be told that the incident goes on. Shut: it was told
	// that it is over.
	Reopen bool `json:"reopen,omitempty"`
	Shut   bool `json:"shut,omitempty"`
	// Recheck: the last attempt at the place, or at the first line of the queue, may
	// have succeeded. Attempts counts them.
	Recheck  bool `json:"recheck,omitempty"`
	Attempts int  `json:"attempts,omitempty"`
	// CardFailures and LineFailures are those in a row, since Since; Why is the last
	// one's. Behind: it was said.
	CardFailures int       `json:"card_failures,omitempty"`
	LineFailures int       `json:"line_failures,omitempty"`
	Since        time.Time `json:"since,omitzero"`
	Why          string    `json:"why,omitempty"`
	Behind       bool      `json:"behind,omitempty"`
	// CardDue and LineDue are when the next attempt may be made.
	CardDue time.Time `json:"card_due,omitzero"`
	LineDue time.Time `json:"line_due,omitzero"`
	// Chapters are the kept histories of the runs before.
	Chapters []Chapter `json:"chapters,omitempty"`
}

// Kinds of call to a channel.
const (
	RecordOpen   = "open"
	RecordAppend = "append"
	RecordUpdate = "update"
	RecordClose  = "close"
)

// A RecordCall is one call to a channel: Op says which of the requests it is;
// update and close share one.
type RecordCall struct {
	Channel string                `json:"channel"`
	Op      string                `json:"op"`
	Attempt int                   `json:"attempt"`
	Open    *notify.OpenRequest   `json:"open,omitempty"`
	Append  *notify.AppendRequest `json:"append,omitempty"`
	Update  *notify.UpdateRequest `json:"update,omitempty"`
}

// A RecordAnswer is what became of it: a receipt, or a failure with its class.
type RecordAnswer struct {
	Place      *notify.Place    `json:"place,omitempty"`
	Receipt    string           `json:"receipt,omitempty"`
	Class      activities.Class `json:"class,omitempty"`
	Detail     string           `json:"detail,omitempty"`
	Permission string           `json:"permission,omitempty"`
	AfterMs    int64            `json:"after_ms,omitempty"`
	RequestID  string           `json:"request_id,omitempty"`
	Status     int              `json:"status,omitempty"`
}

// chronicler keeps one place in step with one incident.
type chronicler struct {
	in    *RecordInput
	clk   *clock
	moved bool // a story has come
	news  bool // the incident is to be told how it stands
	busy  bool
	// chapters keeps the run before; it holds nothing up but the end of this one.
	chapters archiver
}

// Record is the workflow that follows one incident in one channel: it opens the
// place, appends the lines one after another, shows the latest card, and closes the
// place at the end. Nobody waits for it. What the vendor answers decides when it
// tries again; it ends when the incident is over and everything is told.
func Record(ctx workflow.Context, in RecordInput) error {
	clk, err := newClock(ctx, in.Virtual, in.Now, in.ClockSeq)
	if err != nil {
		return err
	}
	c := &chronicler{in: &in, clk: clk}
	c.chapters = archiver{incident: in.Incident, clk: clk, chapters: &in.Chapters, kept: func() { c.news = true }}
	if in.First != nil {
		in.Reopen = in.Place != nil
		in.Life = in.First.Life
		c.take(ctx, *in.First)
		in.First = nil
	} else {
		c.news = true // which run keeps the place now
	}
	workflow.Go(ctx, c.listen)
	workflow.Go(ctx, c.tell)
	if before := or(workflow.GetInfo(ctx).ContinuedExecutionRunID, in.Before); before != "" {
		c.chapters.keep(ctx, RecordID(in.Incident, in.Channel), before)
	}
	for {
		c.moved = false
		c.show(ctx)
		op, due := c.next(ctx)
		switch {
		case c.tired(ctx):
			return c.giveUp(ctx)
		case op == "" && c.done():
			if c.drain(ctx); !c.done() {
				continue // it was reopened
			}
			return workflow.Await(ctx, func() bool { return !c.news && !c.busy && c.chapters.under == 0 })
		case op == "" || c.clk.Now(ctx).Before(due):
			if _, err := clk.Wait(ctx, due, "the next attempt: "+in.Why, func() bool { return c.moved }); err != nil {
				return err
			}
		default:
			over := !in.Over.IsZero()
			a, err := c.call(ctx, op)
			switch {
			case err != nil:
				return err
			case a.Class != "":
				c.failed(ctx, op, a)
			default:
				c.took(ctx, op, a, over)
			}
		}
		if workflow.GetInfo(ctx).GetContinueAsNewSuggested() && !c.busy && !c.news && c.chapters.under == 0 {
			c.drain(ctx)
			in.Now, in.ClockSeq = clk.Now(ctx), clk.seq
			return workflow.NewContinueAsNewError(ctx, TypeRecord, in)
		}
	}
}

func (c *chronicler) listen(ctx workflow.Context) {
	ch := workflow.GetSignalChannel(ctx, SignalStory)
	for {
		var s Story
		if !ch.Receive(ctx, &s) {
			return
		}
		c.take(ctx, s)
	}
}

func (c *chronicler) drain(ctx workflow.Context) {
	ch := workflow.GetSignalChannel(ctx, SignalStory)
	for {
		var s Story
		if !ch.ReceiveAsync(&s) {
			break
		}
		c.take(ctx, s)
	}
	c.clk.drain(ctx)
}

// take puts what is new into the queue. A line that came before, with an earlier
// run of the incident or a signal sent twice, is dropped by its number.
func (c *chronicler) take(ctx workflow.Context, s Story) {
	in := c.in
	c.moved = true
	if s.Life != in.Life {
		in.Life, in.Last = s.Life, 0 // numbers may begin anew
		in.Over, in.Reopen, in.Shut = time.Time{}, true, false
	}
	for _, l := range s.Lines {
		if l.N > in.Last {
			in.Last = l.N
			in.Queue = append(in.Queue, queuedLine{Life: s.Life, Line: l})
		}
	}
	if s.Card != nil {
		in.Card, in.Shown = s.Card, false
	}
	if s.Over && in.Over.IsZero() {
		in.Over, in.Reopen = c.clk.Now(ctx), false
	}
}

// next gives what is to be done and when it may. The card comes before the lines:
// after an outage people must first see how it stands.
func (c *chronicler) next(ctx workflow.Context) (string, time.Time) {
	in := c.in
	over := !in.Over.IsZero()
	card := ""
	switch {
	case in.Card == nil:
		return "", time.Time{}
	case in.Place == nil:
		return RecordOpen, in.CardDue
	case in.Reopen:
		card = RecordClose // with an open card it says: reopened
	case over && len(in.Queue) == 0 && !in.Shut:
		card = RecordClose
	case !in.Shown:
		card = RecordUpdate
	}
	switch {
	case card == "" && len(in.Queue) == 0:
		return "", time.Time{} // nothing is waited for but a story
	case len(in.Queue) == 0:
		return card, in.CardDue
	case card == "" || (c.clk.Now(ctx).Before(in.CardDue) && in.LineDue.Before(in.CardDue)):
		return RecordAppend, in.LineDue
	}
	return card, in.CardDue
}

// done tells whether the incident is over and all of it told.
func (c *chronicler) done() bool {
	return !c.in.Over.IsZero() && c.in.Shut && c.in.Shown && len(c.in.Queue) == 0
}

// marker is found again in the place.
func (c *chronicler) marker(l queuedLine) string {
	return fmt.Sprintf("%s%s/%d", c.in.Incident, l.Life, l.Line.N)
}

// call makes one attempt. An error means that the workflow is cancelled.
func (c *chronicler) call(ctx workflow.Context, op string) (RecordAnswer, error) {
	defer c.clk.working()()
	in := c.in
	in.Attempts++
	req := RecordCall{Channel: in.Channel, Op: op, Attempt: in.Attempts}
	what := in.Channel + ": " + op
	switch op {
	case RecordOpen:
		req.Open = &notify.OpenRequest{
			Incident: in.Incident, Target: in.Target, Labels: in.Labels, Card: *in.Card, Marker: in.Incident, Recheck: in.Recheck || in.Again,
		}
	case RecordAppend:
		l := in.Queue[0]
		req.Append = &notify.AppendRequest{Incident: in.Incident, Place: *in.Place, Line: l.Line, Marker: c.marker(l), Recheck: in.Recheck}
		what += fmt.Sprintf(" line %d (%s)", l.Line.N, l.Line.Kind)
	default:
		req.Update = &notify.UpdateRequest{Incident: in.Incident, Place: *in.Place, Card: *in.Card, Marker: in.Incident}
	}
	shown := in.Card
	var a RecordAnswer
	err := workflow.ExecuteActivity(recordOptions(ctx, what), ActivityRecord, req).Get(ctx, &a)
	switch {
	case err == nil:
	case temporal.IsCanceledError(err) || ctx.Err() != nil:
		return a, err
	default:
		// The worker died under it. What the vendor did is not known.
		a = RecordAnswer{Class: activities.ClassUnclear, Detail: "no answer from the worker"}
	}
	if a.Class == "" && op == RecordOpen && a.Place == nil {
		a = RecordAnswer{Class: activities.ClassInvalid, Detail: "the channel gave no place: the worker is of another build"}
	}
	if a.Class == "" && op != RecordAppend {
		in.Shown = in.Card == shown // a newer one may have come meanwhile
	}
	return a, nil
}

// took goes on from a call that succeeded; over tells what a close has said.
func (c *chronicler) took(ctx workflow.Context, op string, a RecordAnswer, over bool) {
	in := c.in
	if op == RecordAppend {
		in.Told = in.Queue[0].Line.N
		in.Queue = in.Queue[1:]
		in.LineDue, in.LineFailures = time.Time{}, 0
	} else {
		in.CardDue, in.CardFailures = time.Time{}, 0
	}
	switch op {
	case RecordOpen:
		in.Place = a.Place
		in.Reopen = in.Again && in.Over.IsZero() // what was found may say that it is over
		c.news = true
	case RecordClose:
		in.Shut, in.Reopen = over, in.Reopen && over
		c.news = true
	}
	if op == RecordOpen || op == RecordAppend {
		in.Recheck = false
	}
	in.Attempts = 0
	if in.Behind && len(in.Queue) == 0 && in.Shown {
		record(ctx, c.clk.Now(ctx), event.Event{Type: event.EventRecordCaught, Attrs: map[string]string{"channel": in.Channel, "line": itoa(int(in.Told)), "since": canon.Time(in.Since)}})
		in.Behind = false
		c.news = true
	}
	if !in.Behind {
		in.Since, in.Why = time.Time{}, ""
	}
}

// failed says when to try again.
func (c *chronicler) failed(ctx workflow.Context, op string, a RecordAnswer) {
	in := c.in
	now := c.clk.Now(ctx)
	failures := &in.CardFailures
	if op == RecordAppend {
		failures = &in.LineFailures
	}
	*failures++
	if in.Since.IsZero() {
		in.Since = now
	}
	in.Why = fmt.Sprintf("%s: %s", a.Class, a.Detail)
	if a.Permission != "" {
		in.Why += " (needs " + a.Permission + ")"
	}
	wait := backoff(*failures)
	switch a.Class {
	case activities.ClassThrottled: // nothing happened
		wait = max(time.Duration(a.AfterMs)*time.Millisecond, time.Second)
	case activities.ClassTransient: // nothing happened
	case activities.ClassDenied, activities.ClassInvalid: // nothing will, until a person mends it
		const doublings = 6 // a minute, and an hour in the end
		wait = min(time.Minute<<min(*failures-1, doublings), tellSlow)
	default: // unclear
		in.Recheck = in.Recheck || op == RecordOpen || op == RecordAppend
	}
	due := now.Add(wait)
	// A line that is refused holds up the lines behind it, and no card.
	if op != RecordAppend || a.Class != activities.ClassInvalid {
		in.CardDue = due
	}
	if op == RecordAppend || a.Class != activities.ClassInvalid {
		in.LineDue = due
	}
	stuck := a.Class == activities.ClassDenied || a.Class == activities.ClassInvalid || due.Sub(in.Since) >= tellBehind
	if !in.Behind && stuck {
		in.Behind = true
		c.news = true
		record(ctx, now, event.Event{Type: event.EventRecordBehind, Result: string(a.Class), Attrs: map[string]string{
			"channel": in.Channel, "op": op, "line": itoa(int(in.Told)), "waiting": itoa(len(in.Queue)), "why": a.Detail, "permission": a.Permission, "since": canon.Time(in.Since),
		}})
	}
}

// tired tells whether the incident has been over for so long that nobody looks.
func (c *chronicler) tired(ctx workflow.Context) bool {
	return c.in.Behind && !c.in.Over.IsZero() && c.clk.Now(ctx).Sub(c.in.Over) > tellGiveUp
}

// giveUp ends a record that could not be kept. What it was to say is in the bundle.
func (c *chronicler) giveUp(ctx workflow.Context) error {
	record(ctx, c.clk.Now(ctx), event.Event{Type: event.EventRecordBehind, Result: "gave-up", Attrs: map[string]string{
		"channel": c.in.Channel, "line": itoa(int(c.in.Told)), "waiting": itoa(len(c.in.Queue)), "why": c.in.Why,
	}})
	return nil
}

func (c *chronicler) state(ctx workflow.Context) RecordState {
	in := c.in
	s := RecordState{Channel: in.Channel, State: recordFollowing, Place: in.Place, Told: in.Told, Chapters: in.Chapters, Run: workflow.GetInfo(ctx).WorkflowExecution.RunID}
	switch {
	case in.Behind:
		s.State, s.Why, s.Since = recordBehind, in.Why, in.Since
	case c.done():
		s.State = recordClosed
	case in.Place == nil:
		s.State = recordOpening
	}
	return s
}

// tell tells the incident how the record stands. An incident that is over needs no
// telling.
func (c *chronicler) tell(ctx workflow.Context) {
	const most = 5
	for failed := 0; ; {
		if workflow.Await(ctx, func() bool { return c.news }) != nil {
			return
		}
		c.news, c.busy = false, true
		err := workflow.SignalExternalWorkflow(ctx, IncidentID(c.in.Incident), "", SignalRecord, c.state(ctx)).Get(ctx, nil)
		if err != nil && failed < most && c.in.Over.IsZero() {
			failed++
			if workflow.Sleep(ctx, backoff(failed)) != nil {
				return
			}
			c.news = true
		} else {
			failed = 0
		}
		c.busy = false
	}
}

// show keeps the status that the Temporal UI shows.
func (c *chronicler) show(ctx workflow.Context) {
	in := c.in
	s := fmt.Sprintf("**%s** in %s: line %d told, %d wait", c.state(ctx).State, in.Channel, in.Told, len(in.Queue))
	if in.Place != nil && in.Place.URL != "" {
		s += "\n\n" + in.Place.URL
	}
	if in.Behind {
		s += "\n\nsince " + canon.Time(in.Since) + ": " + in.Why
	}
	workflow.SetCurrentDetails(ctx, s)
}
