package workflows

import (
	"fmt"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"rekey/activities"
	"rekey/internal/canon"
	"rekey/internal/event"
	"rekey/internal/view"
)

// sending is how many messages are handed over at once: mail servers and receivers
// are not ours to flood.
const sending = 8

// NoticesState is everything the notices of a wave know, for their next run.
type NoticesState struct {
	Now      time.Time     `json:"now"`
	ClockSeq int64         `json:"clock_seq,omitempty"`
	Orders   []NoticeOrder `json:"orders,omitempty"` // not rendered yet
	LastSeq  int64         `json:"last_seq"`
	LastCmd  int64         `json:"last_command"`
	Last     bool          `json:"last,omitempty"`
	Notices  []NoticeState `json:"notices,omitempty"`
	Humans   int           `json:"humans"`
	NextEvt  int64         `json:"next_event"`
	// ToIncident and ToWave are events not yet accepted there.
	ToIncident []NoticeEvent `json:"to_incident,omitempty"`
	ToWave     []NoticeEvent `json:"to_wave,omitempty"`
	// Chapters are the kept histories of the runs before.
	Chapters []Chapter `json:"chapters,omitempty"`
}

// A NoticeState is one message on its way to one recipient.
type NoticeState struct {
	View     view.Notice `json:"view"`
	Contacts []Contact   `json:"contacts,omitempty"`
	At       int         `json:"contact"` // index in Contacts
	Due      time.Time   `json:"due,omitzero"`
	Attempts int         `json:"attempts,omitempty"`
	Failures int         `json:"failures,omitempty"`
	Round    int         `json:"round,omitempty"`
	// Task waits for a person; Late was opened because it takes long.
	Task *view.Human `json:"task,omitempty"`
	Late *view.Human `json:"late,omitempty"`
}

type notices struct {
	in      NoticesInput
	st      *NoticesState
	clk     *clock
	flying  map[int]bool
	writing int // texts that are read for a person
	changed bool
	// chapters keeps the run before; only the end of this one waits for it.
	chapters archiver
}

// Notices is the workflow that tells owners and customers of a wave's keys: each one
// message per class and version, once, by their contacts in order, and by a person
// where no contact takes it. It calls no provider, and no wave waits for it but at
// the gate before a cut.
func Notices(ctx workflow.Context, in NoticesInput) error {
	st := in.State
	if st == nil {
		st = &NoticesState{Now: in.Now}
	}
	clk, err := newClock(ctx, in.Virtual, st.Now, st.ClockSeq)
	if err != nil {
		return err
	}
	n := &notices{in: in, st: st, clk: clk, flying: map[int]bool{}}
	if in.State == nil {
		n.take(in.First)
	}
	n.chapters = archiver{incident: in.Incident, clk: clk, chapters: &st.Chapters, kept: func() { n.changed = true }}
	if before := workflow.GetInfo(ctx).ContinuedExecutionRunID; before != "" {
		n.chapters.keep(ctx, NoticesID(in.Incident, in.Wave), before)
	}
	workflow.Go(ctx, n.listen)
	workflow.Go(ctx, n.obey)
	workflow.Go(ctx, func(ctx workflow.Context) {
		n.deliver(ctx, &st.ToIncident, IncidentID(in.Incident), func() bool { return false })
	})
	workflow.Go(ctx, func(ctx workflow.Context) {
		// A wave that wants nothing more need not be told: it may have ended.
		n.deliver(ctx, &st.ToWave, WaveID(in.Incident, in.Wave), func() bool { return st.Last })
	})
	ended := false
	for {
		n.changed = false
		if err := n.render(ctx); err != nil {
			return err
		}
		due := n.send(ctx)
		n.show(ctx)
		if n.over() && !ended {
			ended = true
			n.emit(NoticeEvent{Kind: noticeEnded, Chapters: st.Chapters})
		}
		if ended && len(st.ToIncident)+len(st.ToWave) == 0 {
			return nil
		}
		if _, err := clk.Wait(ctx, due, "notices", func() bool {
			return n.changed || n.mayContinue(ctx) || ended && len(st.ToIncident)+len(st.ToWave) == 0
		}); err != nil {
			return err
		}
		if n.mayContinue(ctx) {
			return n.again(ctx)
		}
	}
}

// over tells whether nothing is left to do: the wave is done, every notice has an
// end, no person is waited for.
func (n *notices) over() bool {
	if !n.st.Last || len(n.st.Orders) > 0 || len(n.flying)+n.writing+n.chapters.under > 0 {
		return false
	}
	for _, s := range n.st.Notices {
		if s.Task != nil || s.Late != nil || s.View.State == noticeQueued {
			return false
		}
	}
	return true
}

func (n *notices) mayContinue(ctx workflow.Context) bool {
	return workflow.GetInfo(ctx).GetContinueAsNewSuggested() && len(n.flying)+n.writing == 0 && n.clk.busy == 0
}

func (n *notices) again(ctx workflow.Context) error {
	orders := workflow.GetSignalChannel(ctx, SignalOrder)
	for {
		var o NoticeOrder
		if !orders.ReceiveAsync(&o) {
			break
		}
		n.take(o)
	}
	commands := workflow.GetSignalChannel(ctx, SignalCommand)
	for {
		var cmd WaveCommand
		if !commands.ReceiveAsync(&cmd) {
			break
		}
		n.command(ctx, cmd)
	}
	n.clk.drain(ctx)
	n.st.Now, n.st.ClockSeq = n.clk.Now(ctx), n.clk.seq
	next := n.in
	next.First, next.State = NoticeOrder{}, n.st
	return workflow.NewContinueAsNewError(ctx, TypeNotices, next)
}

func (n *notices) listen(ctx workflow.Context) {
	ch := workflow.GetSignalChannel(ctx, SignalOrder)
	for {
		var o NoticeOrder
		if !take(ctx, ch, &o) {
			return
		}
		n.take(o)
	}
}

// take keeps an order; a repeat is dropped by its number.
func (n *notices) take(o NoticeOrder) {
	if o.Seq <= n.st.LastSeq {
		return
	}
	n.st.LastSeq, n.changed = o.Seq, true
	n.st.Last = n.st.Last || o.Last
	if len(o.Recipients) > 0 {
		n.st.Orders = append(n.st.Orders, o)
	}
}

func (n *notices) obey(ctx workflow.Context) {
	ch := workflow.GetSignalChannel(ctx, SignalCommand)
	for {
		var cmd WaveCommand
		if !take(ctx, ch, &cmd) {
			return
		}
		n.command(ctx, cmd)
	}
}

// emit queues an event for the incident, and what the gate reads for the wave.
func (n *notices) emit(e NoticeEvent) {
	n.st.NextEvt++
	e.Wave, e.Seq = n.in.Wave, n.st.NextEvt
	n.st.ToIncident = append(n.st.ToIncident, e)
	if e.Kind == noticeTold && !n.st.Last {
		n.st.ToWave = append(n.st.ToWave, e)
	}
}

// deliver sends events until the server has taken them. gone tells whether nobody
// need be told any more.
func (n *notices) deliver(ctx workflow.Context, out *[]NoticeEvent, to string, gone func() bool) {
	for failed := 0; ; {
		if workflow.Await(ctx, func() bool { return len(*out) > 0 }) != nil {
			return
		}
		if gone() {
			*out, n.changed = nil, true
			continue
		}
		done := n.clk.working()
		err := workflow.SignalExternalWorkflow(ctx, to, "", SignalNotice, (*out)[0]).Get(ctx, nil)
		done()
		if err != nil {
			failed++
			if workflow.Sleep(ctx, backoff(failed)) != nil {
				return
			}
			continue
		}
		failed, *out, n.changed = 0, (*out)[1:], true
	}
}

// render makes the messages of new orders. What was queued for the same recipient
// and not handed over is superseded: nobody is warned of a cut that has been.
func (n *notices) render(ctx workflow.Context) error {
	for len(n.st.Orders) > 0 {
		o := n.st.Orders[0]
		in := RenderInput{Incident: n.in.Incident, Order: o, Now: n.clk.Now(ctx)}
		for i := range o.Recipients {
			in.IDs = append(in.IDs, fmt.Sprintf("%s-n%d-%d", n.in.Incident, n.in.Wave, len(n.st.Notices)+i+1))
		}
		res, err := engineCall[RenderResult](ctx, n.clk, engine, ActivityRender, fmt.Sprintf("%d notice(s): %s", len(o.Recipients), o.Class), in)
		if err != nil {
			return err
		}
		n.st.Orders = n.st.Orders[1:]
		for i, rec := range o.Recipients {
			m := Rendered{Why: "the notice was not rendered: the worker is of another build"}
			if i < len(res.Messages) {
				m = res.Messages[i]
			}
			n.supersede(ctx, rec)
			n.add(ctx, o, rec, in.IDs[i], m)
		}
	}
	return nil
}

func (n *notices) supersede(ctx workflow.Context, rec NoticeRecipient) {
	for i := range n.st.Notices {
		s := &n.st.Notices[i]
		v := &s.View
		if v.Audience != rec.Audience || v.Ref != rec.Ref || v.Template != rec.Template || v.State != noticeQueued || n.flying[i] {
			continue
		}
		n.lapse(s)
		n.become(ctx, s, noticeSuperseded, "a later version is told instead")
	}
}

func (n *notices) add(ctx workflow.Context, o NoticeOrder, rec NoticeRecipient, id string, m Rendered) {
	s := NoticeState{Contacts: m.Contacts, Due: n.clk.Now(ctx), View: view.Notice{
		ID: id, Wave: n.in.Wave, Audience: rec.Audience, Ref: rec.Ref, Template: rec.Template, Class: o.Class, Version: rec.Version,
		Text: m.Text, ContractHours: m.ContractHours, Items: []string{},
	}}
	for _, it := range rec.Items {
		s.View.Items = append(s.View.Items, it.Key.FP)
	}
	n.st.Notices = append(n.st.Notices, s)
	p := &n.st.Notices[len(n.st.Notices)-1]
	p.aim()
	n.become(ctx, p, noticeQueued, m.Why)
	if m.Text == "" || len(m.Contacts) == 0 {
		n.byHand(ctx, p, "nobody can be told by a channel: "+m.Why)
	}
}

// aim shows the contact that is next.
func (s *NoticeState) aim() {
	if s.At < len(s.Contacts) {
		s.View.Channel, s.View.Contact = s.Contacts[s.At].Channel, s.Contacts[s.At].Order
	}
}

// become sets a notice's state, on record.
func (n *notices) become(ctx workflow.Context, s *NoticeState, state, detail string) {
	v := &s.View
	now := n.clk.Now(ctx)
	v.State, v.Detail, v.At = state, detail, canon.Time(now)
	e := event.Event{Type: event.EventNotice, Result: state, Attrs: map[string]string{
		"recipient": v.Ref, "audience": v.Audience, "channel": v.Channel, "contact": itoa(v.Contact), "version": itoa(v.Version),
		"class": v.Class, "template": v.Template, "notice": v.ID, "detail": detail, "keys": itoa(len(v.Items)),
	}}
	if v.Text != "" {
		e.Evidence = []string{v.Text}
	}
	record(ctx, now, e)
	n.tell(s)
}

// tell passes on how a notice stands.
func (n *notices) tell(s *NoticeState) {
	v := s.View
	n.emit(NoticeEvent{Kind: noticeTold, Notice: &v})
	n.changed = true
}

// send hands over what is due, some at once, and gives when the next one is.
func (n *notices) send(ctx workflow.Context) time.Time {
	var next time.Time
	now := n.clk.Now(ctx)
	suggested := workflow.GetInfo(ctx).GetContinueAsNewSuggested()
	for i := range n.st.Notices {
		s := &n.st.Notices[i]
		if s.View.State != noticeQueued || s.Task != nil || n.flying[i] || s.At >= len(s.Contacts) {
			continue
		}
		if s.Due.After(now) {
			if next.IsZero() || s.Due.Before(next) {
				next = s.Due
			}
			continue
		}
		if suggested || len(n.flying) >= sending {
			continue // when one of those under way is done
		}
		n.flying[i] = true
		workflow.Go(ctx, func(ctx workflow.Context) {
			n.hand(ctx, i)
			delete(n.flying, i)
			n.changed = true
		})
	}
	return next
}

// hand makes one attempt at one contact.
func (n *notices) hand(ctx workflow.Context, i int) {
	defer n.clk.working()()
	s := &n.st.Notices[i]
	s.Attempts++
	c := s.Contacts[s.At]
	in := SendInput{
		Incident: n.in.Incident, ID: fmt.Sprintf("%s-c%d", s.View.ID, c.Order), Audience: s.View.Audience, Ref: s.View.Ref,
		Contact: c, Text: s.View.Text, Round: s.Round, Attempt: s.Attempts,
	}
	var out SendResult
	err := workflow.ExecuteActivity(sendOptions(ctx, fmt.Sprintf("%s by %s, contact %d", s.View.ID, c.Channel, c.Order)), ActivitySend, in).Get(ctx, &out)
	s = &n.st.Notices[i] // the slice may have grown
	if err != nil {
		if temporal.IsCanceledError(err) || ctx.Err() != nil {
			return
		}
		// The worker died, or could not keep its journal. Whether the message went out
		// the journal tells the next attempt.
		n.later(ctx, s, SendResult{Class: activities.ClassTransient, Detail: "no worker could finish it: is one running that has this channel?"}, died(err))
		return
	}
	n.settle(ctx, s, out)
}

// settle goes on from what an attempt gave.
func (n *notices) settle(ctx workflow.Context, s *NoticeState, out SendResult) {
	switch {
	case out.Outcome.Reached():
		state := noticeSent
		if out.Delivered {
			state = noticeDelivered
		}
		n.lapse(s)
		n.become(ctx, s, state, "")
	case out.Class == activities.ClassInvalid:
		// For good: the next contact is tried, then a person.
		n.become(ctx, s, noticeBounced, out.Detail)
		s.At, s.Attempts, s.Failures = s.At+1, 0, 0
		if s.At < len(s.Contacts) {
			s.aim()
			s.Due = n.clk.Now(ctx)
			n.become(ctx, s, noticeQueued, "the contact before refused it: "+out.Detail)
			return
		}
		n.byHand(ctx, s, "no contact takes it: "+out.Detail)
	case out.Class == activities.ClassUnclear && !out.Again:
		n.lapse(s)
		n.become(ctx, s, noticeUnclear, out.Detail)
		n.ask(ctx, s, view.Human{What: fmt.Sprintf(
			"look whether notice %s reached %s %s (contact %d, %s): resolve as done when it did, or --as send-again; it is never sent again by itself",
			s.View.ID, s.View.Audience, s.View.Ref, s.View.Contact, s.View.Channel)})
	default:
		n.later(ctx, s, out, false)
	}
}

// later repeats with growing waits, for as long as it takes; a person hears of it.
func (n *notices) later(ctx workflow.Context, s *NoticeState, out SendResult, atOnce bool) {
	s.Failures++
	wait := max(backoff(s.Failures), time.Duration(out.AfterMs)*time.Millisecond)
	if out.Class == activities.ClassDenied {
		wait = backoffMax // our own set-up has to be mended first
	}
	if atOnce && s.Failures < patience {
		wait = 0
	}
	s.Due = n.clk.Now(ctx).Add(wait)
	if s.View.Detail != out.Detail {
		n.become(ctx, s, noticeQueued, out.Detail)
	}
	if s.Late == nil && (s.Failures >= patience || out.Class == activities.ClassDenied) {
		h := n.page(ctx, s, view.Human{What: fmt.Sprintf("notice %s to %s %s keeps failing and is repeated: %s", s.View.ID, s.View.Audience, s.View.Ref, out.Detail)})
		s.Late = &h
	}
}

func (n *notices) show(ctx workflow.Context) {
	count := map[string]int{}
	for _, s := range n.st.Notices {
		count[s.View.State]++
	}
	text := fmt.Sprintf("notices of wave %d\n\n| state | n |\n|---|---|\n", n.in.Wave)
	for _, state := range []string{noticeQueued, noticeSent, noticeDelivered, noticeAcknowledged, noticeBounced, noticeUnclear, noticeSuperseded} {
		if count[state] > 0 {
			text += fmt.Sprintf("| %s | %d |\n", state, count[state])
		}
	}
	workflow.SetCurrentDetails(ctx, text)
}
