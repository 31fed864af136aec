package workflows

import (
	"fmt"
	"slices"
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"rekey/internal/canon"
	"rekey/internal/event"
	"rekey/internal/view"
	"rekey/playbooks"
)

// collect is how long the first key of a recipient waits for the others of the same
// wave, so that they are told in one message.
const collect = 2 * time.Minute

// senders are the channels that carry notices. Others only record (slack, github).
var senders = []string{"email", "webhook"}

// A noticer has the owners and customers of a wave's items told. It is nil where no
// channel is configured: then people do it, as before there were channels.
type noticer struct {
	w       *wave
	told    []*told
	seq     int64
	lastEvt int64
	started bool
	done    bool
	news    int // moves with every item
}

// told is one recipient of the wave's notices.
type told struct {
	audience, ref, template string
	channels                []string
	gate, contracts         bool
	items                   []*item
	version                 int
	first                   map[string]time.Time // by class, when the first item was ready
	warned, cut             map[string]bool      // items that a notice was ordered for
	state                   map[int]view.Notice  // by version
}

// newNoticer finds who is to be told: the owner of each item and the owners of its
// dependents, who have to switch, and the customers whose key it is.
func newNoticer(w *wave) *noticer {
	n := &noticer{w: w}
	for _, pn := range w.pb.Notices {
		var channels []string
		for _, c := range pn.Channel {
			if slices.Contains(w.in.Settings.Channels, c) && slices.Contains(senders, c) {
				channels = append(channels, c)
			}
		}
		if len(channels) == 0 {
			continue
		}
		for _, it := range w.items {
			for _, ref := range audience(it, pn.Audience) {
				n.recipient(pn, ref, channels).items = append(n.recipient(pn, ref, channels).items, it)
			}
		}
	}
	if len(n.told) == 0 {
		return nil
	}
	return n
}

func audience(it *item, kind string) []string {
	if kind == playbooks.AudienceCustomer {
		return it.plan.Customers
	}
	var out []string
	for _, d := range append([]string{it.plan.Owner}, owners(it)...) {
		if d != "" && !slices.Contains(out, d) {
			out = append(out, d)
		}
	}
	return out
}

func owners(it *item) []string {
	var out []string
	for _, d := range it.plan.Dependents {
		out = append(out, d.Owner)
	}
	return out
}

func (n *noticer) recipient(pn playbooks.Notice, ref string, channels []string) *told {
	for _, t := range n.told {
		if t.audience == pn.Audience && t.ref == ref && t.template == pn.Template {
			return t
		}
	}
	t := &told{
		audience: pn.Audience, ref: ref, template: pn.Template, channels: channels,
		gate: pn.Gate == playbooks.GateWarnBeforeCut, contracts: pn.Deadlines == playbooks.DeadlinesContracts,
		first: map[string]time.Time{}, warned: map[string]bool{}, cut: map[string]bool{}, state: map[int]view.Notice{},
	}
	n.told = append(n.told, t)
	return t
}

// of are the recipients of an item; gated alone, those that its cut waits for.
func (n *noticer) of(it *item, gated bool) []*told {
	var out []*told
	if n == nil {
		return nil
	}
	for _, t := range n.told {
		if slices.Contains(t.items, it) && (t.gate || !gated) {
			out = append(out, t)
		}
	}
	return out
}

// reached gives the time at which a recipient was told of an item; false when not
// yet, or when that is not known.
func (t *told) reached(fp string) (time.Time, bool) {
	for v := 1; v <= t.version; v++ {
		switch s := t.state[v]; s.State {
		case noticeSent, noticeDelivered, noticeAcknowledged:
			if slices.Contains(s.Items, fp) {
				return parseTime(s.At), true
			}
		}
	}
	return time.Time{}, false
}

// wants tells which class of notice a recipient is owed about an item now; "" for
// none. coming are items that will be owed one of that class.
func (n *noticer) wants(t *told, it *item, class string) (now, coming bool) {
	fp := it.v.FP
	over := it.v.EndState != "" || it.accepted != nil
	reissue := n.w.in.Wave.Strategy == playbooks.ReissueFirst && !it.promoted
	if class == noticeWarn {
		if !reissue || t.warned[fp] || it.disabled || over {
			return false, false
		}
		return it.arrived, !it.arrived
	}
	if t.cut[fp] {
		return false, false
	}
	if _, ok := t.reached(fp); ok && reissue {
		return false, false // it was cut at the time that the warning gave
	}
	if it.disabled || it.revoked {
		return true, false
	}
	return false, !reissue && !over
}

// run orders notices until every item has ended and nobody is owed one.
func (n *noticer) run(ctx workflow.Context) {
	for {
		seen := n.news
		over := n.w.ended == len(n.w.items)
		now := n.w.clk.Now(ctx)
		var next time.Time
		ordered := false
		for _, class := range []string{noticeWarn, noticeCut} {
			var due []*told
			for _, t := range n.told {
				ready, coming := 0, 0
				for _, it := range t.items {
					a, b := n.wants(t, it, class)
					if a {
						ready++
					}
					if b {
						coming++
					}
				}
				if ready == 0 {
					delete(t.first, class)
					continue
				}
				if t.first[class].IsZero() {
					t.first[class] = now
				}
				if until := t.first[class].Add(collect); coming > 0 && !over && until.After(now) {
					if next.IsZero() || until.Before(next) {
						next = until
					}
					continue
				}
				due = append(due, t)
			}
			if len(due) > 0 {
				if n.order(ctx, class, due) != nil {
					return
				}
				ordered = true
			}
		}
		if ordered {
			continue
		}
		if over {
			if n.started && n.give(ctx, NoticeOrder{Last: true}) != nil {
				return
			}
			n.done = true
			return
		}
		if _, err := n.w.clk.Wait(ctx, next, "the other keys of a notice", func() bool { return n.news != seen || n.w.ended == len(n.w.items) }); err != nil {
			return
		}
	}
}

// order has some recipients told.
func (n *noticer) order(ctx workflow.Context, class string, due []*told) error {
	o := NoticeOrder{Class: class, Title: n.w.pb.Title, Exposure: n.w.in.Exposure, Since: n.w.in.Since}
	if o.Since.IsZero() {
		o.Since = n.w.in.Opened
	}
	for _, t := range due {
		t.version++
		delete(t.first, class)
		r := NoticeRecipient{Audience: t.audience, Ref: t.ref, Template: t.template, Channels: t.channels, Version: t.version}
		for _, it := range t.items {
			a, b := n.wants(t, it, class)
			if !a && !b {
				continue
			}
			if class == noticeWarn {
				o.Cutoff = it.cutoff(ctx)
				t.warned[it.v.FP] = true
			} else {
				t.cut[it.v.FP] = true
			}
			r.Items = append(r.Items, n.item(it))
		}
		o.Recipients = append(o.Recipients, r)
	}
	return n.give(ctx, o)
}

func (n *noticer) item(it *item) NoticeItem {
	out := NoticeItem{Key: it.ref.Key, NewKeyID: it.newKey, Created: n.w.in.Created[it.v.FP], Promoted: it.promoted}
	if it.disabled || it.revoked {
		out.Cut = it.killed
	}
	for _, s := range it.plan.Stores {
		out.Stores = append(out.Stores, s.Target+": "+s.Name)
	}
	return out
}

// give brings an order to the wave's notices, starting them with the first one. It
// returns when the server has it.
func (n *noticer) give(ctx workflow.Context, o NoticeOrder) error {
	defer n.w.clk.working()()
	w := n.w
	n.seq++
	o.Seq = n.seq
	id := NoticesID(w.in.Incident, w.in.Wave.N)
	if !n.started {
		n.started = true
		w.emit(WaveEvent{Kind: waveNotices})
		child := workflow.ExecuteChildWorkflow(workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{
			WorkflowID: id, ParentClosePolicy: enums.PARENT_CLOSE_POLICY_ABANDON,
			StaticSummary:         summary(fmt.Sprintf("owners and customers of wave %d are told", w.in.Wave.N)),
			TypedSearchAttributes: temporal.NewSearchAttributes(AttrIncident.ValueSet(w.in.Incident)),
		}), TypeNotices, NoticesInput{Incident: w.in.Incident, Wave: w.in.Wave.N, Virtual: w.in.Settings.Virtual, Now: w.clk.Now(ctx), First: o})
		var exec workflow.Execution
		err := child.GetChildWorkflowExecution().Get(ctx, &exec)
		if err == nil || temporal.IsCanceledError(err) {
			return err
		}
		// It runs already, or the server refuses for now: the order goes as a signal.
	}
	for failed := 1; ; failed++ {
		err := workflow.SignalExternalWorkflow(ctx, id, "", SignalOrder, o).Get(ctx, nil)
		if err == nil {
			return nil
		}
		if err := workflow.Sleep(ctx, backoff(failed)); err != nil {
			return err
		}
	}
}

// listen takes what became of the notices.
func (n *noticer) listen(ctx workflow.Context) {
	ch := workflow.GetSignalChannel(ctx, SignalNotice)
	for {
		var e NoticeEvent
		if !take(ctx, ch, &e) {
			return
		}
		if e.Seq <= n.lastEvt || e.Notice == nil {
			continue // a repeat
		}
		n.lastEvt = e.Seq
		n.news++
		for _, t := range n.told {
			if t.audience == e.Notice.Audience && t.ref == e.Notice.Ref && t.template == e.Notice.Template {
				t.state[e.Notice.Version] = *e.Notice
			}
		}
		for _, it := range n.w.items {
			if it.atGate {
				it.wait(ctx, n.why(it), it.owner(), it.cut)
			}
		}
	}
}

// why says what the gate of an item waits for.
func (n *noticer) why(it *item) string {
	s := "the notice before the cut:"
	for _, t := range n.of(it, true) {
		if _, ok := t.reached(it.v.FP); ok {
			continue
		}
		last := t.state[t.version]
		if last.State == "" {
			last.State = noticeQueued
		}
		s += fmt.Sprintf(" %s %s %s", t.audience, t.ref, last.State)
		if last.Detail != "" {
			s += " (" + last.Detail + ")"
		}
		s += ";"
	}
	return s[:len(s)-1]
}

// open tells whether everybody that the cut of an item waits for was told, and
// until when the contracts ask to wait after that.
func (n *noticer) open(it *item) (bool, time.Time) {
	var until time.Time
	for _, t := range n.of(it, true) {
		at, ok := t.reached(it.v.FP)
		if !ok {
			return false, time.Time{}
		}
		if !t.contracts {
			continue
		}
		for v := 1; v <= t.version; v++ {
			s := t.state[v]
			if end := at.Add(time.Duration(s.ContractHours) * time.Hour); s.ContractHours > 0 && end.After(until) {
				until = end
			}
		}
	}
	return true, until
}

// warned is the gate by channels: the old key is not cut before everybody the
// playbook names was told, or the cut-off fired. Only this item waits.
func (it *item) warned(ctx workflow.Context) error {
	w, n := it.w, it.w.noticer
	until := it.cutoff(ctx)
	if it.disabled {
		record(ctx, w.clk.Now(ctx), event.Event{Type: event.EventGate, FP: it.v.FP, Result: "cut already", Attrs: map[string]string{"gate": playbooks.GateWarnBeforeCut}})
		return nil
	}
	it.arrived, it.atGate = true, true
	n.news++
	it.wait(ctx, n.why(it), it.owner(), until)
	told, err := w.clk.Wait(ctx, until, "notices about "+it.v.Short, func() bool {
		ok, _ := n.open(it)
		return ok || it.leaves()
	})
	it.atGate = false
	it.going(ctx)
	if err != nil || it.accepted != nil {
		return err
	}
	how := it.opened()
	if ok, end := n.open(it); told && ok {
		how = "notice sent"
		it.notBefore = end
		if end.After(until) {
			it.notBefore = until
		}
	}
	record(ctx, w.clk.Now(ctx), event.Event{Type: event.EventGate, FP: it.v.FP, Result: how, Attrs: map[string]string{"gate": playbooks.GateWarnBeforeCut, "cutoff": canon.Time(until)}})
	if !it.plan.Adopt {
		return it.contracts(ctx) // no cut-over is waited for
	}
	return nil
}

// contracts waits for the hours that contracts give after a notice. The cut-off, a
// promotion and a person's override end it.
func (it *item) contracts(ctx workflow.Context) error {
	w := it.w
	if !it.notBefore.After(w.clk.Now(ctx)) || it.leaves() {
		return nil
	}
	it.wait(ctx, "the hours that contracts give after a notice", it.owner(), it.notBefore)
	_, err := w.clk.Wait(ctx, it.notBefore, "contract hours of "+it.v.Short, it.leaves)
	it.going(ctx)
	if err != nil || it.accepted != nil {
		return err
	}
	how := "contract hours over"
	if it.leaves() {
		how = it.opened()
	}
	record(ctx, w.clk.Now(ctx), event.Event{Type: event.EventGate, FP: it.v.FP, Result: how, Attrs: map[string]string{"gate": "contract-hours", "until": canon.Time(it.notBefore)}})
	return nil
}
