package workflows

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"go.temporal.io/sdk/workflow"

	"rekey/internal/canon"
	"rekey/internal/event"
	"rekey/internal/page"
	"rekey/internal/view"
	"rekey/playbooks"
)

// MassRun is what a wave over pages hands to its next run.
type MassRun struct {
	Pages   PagesRun    `json:"pages"`
	Seq     int64       `json:"seq"`
	Queue   []WaveEvent `json:"queue,omitempty"`
	LastCmd int64       `json:"last_command"`
	Granted bool        `json:"granted,omitempty"`
	Rounds  int         `json:"rounds,omitempty"`
	Asked   []string    `json:"asked,omitempty"`
	Humans  int         `json:"humans,omitempty"`
	Open    []massTask  `json:"open,omitempty"`
	// Pulled rows have left, Returned ones of them have come to their end.
	Pulled   int       `json:"pulled,omitempty"`
	Returned int       `json:"returned,omitempty"`
	ClockSeq int64     `json:"clock_seq,omitempty"`
	Now      time.Time `json:"now,omitzero"`
	Chapters []Chapter `json:"chapters,omitempty"`
	// Told is the count that the incident knows.
	Told *page.Tally `json:"told,omitempty"`
}

// massTask is a step that stands for all rows that wait for the same.
type massTask struct {
	view.Human
	Why string `json:"why"`
}

// mass is a wave over pages: groups of rows instead of items (docs/design/0017).
type mass struct {
	outbox
	in   WaveInput
	clk  *clock
	p    *pager
	st   MassRun
	over bool
}

// massWave is [Wave] for the rows of a list.
func massWave(ctx workflow.Context, in WaveInput) error {
	st := MassRun{}
	from := in.Now
	if in.State != nil {
		st, from = *in.State, in.State.Now
	}
	clk, err := newClock(ctx, in.Settings.Virtual, from, st.ClockSeq)
	if err != nil {
		return err
	}
	w := &mass{in: in, clk: clk, st: st, outbox: outbox{incident: in.Incident, wave: in.Wave.N, outclk: clk, seq: st.Seq, queue: st.Queue}}
	w.p = newPager(in.Incident, "wave/"+itoa(in.Wave.N)+in.Life, clk)
	w.p.opened, w.p.stuck = w.opened, w.stuck
	if err := workflow.SetQueryHandler(ctx, QueryPages, func() ([]page.Group, error) { return w.p.groups(), nil }); err != nil {
		return err
	}
	chapters := archiver{incident: in.Incident, clk: clk, chapters: &w.st.Chapters}
	if before := workflow.GetInfo(ctx).ContinuedExecutionRunID; before != "" {
		chapters.keep(ctx, WaveID(in.Incident, in.Wave.N), before)
	}
	workflow.Go(ctx, w.listen)
	workflow.Go(ctx, w.send)
	if in.State == nil {
		if w.p.facts, err = engineCall[string](ctx, clk, engine, ActivityPin, "what all rows share", *in.Facts); err != nil {
			return err
		}
		if err := w.p.begin(ctx, in.Wave.List); err != nil {
			return err
		}
	} else {
		w.p.carry(&w.st.Pages)
	}
	for _, o := range in.Orders {
		w.p.order(o)
	}
	workflow.Go(ctx, w.look)
	workflow.Go(ctx, w.count)
	done, err := w.p.run(ctx, func() bool { return false })
	if err != nil {
		return err
	}
	if !done {
		return w.again(ctx, &chapters, len(w.p.orders))
	}
	return w.end(ctx, &chapters)
}

// listen takes the incident's commands.
func (w *mass) listen(ctx workflow.Context) {
	ch := workflow.GetSignalChannel(ctx, SignalCommand)
	for {
		var cmd WaveCommand
		if !take(ctx, ch, &cmd) {
			return
		}
		w.obey(ctx, cmd)
	}
}

// orders are the commands that are about rows.
var orders = map[string]string{
	cmdHold: page.OrderHold, cmdRelease: page.OrderRelease, cmdPromote: page.OrderPromote, cmdAccept: page.OrderAccept,
	cmdAttest: page.OrderAttest, cmdOverride: page.OrderOverride, cmdForget: page.OrderForget, cmdPull: page.OrderPull,
}

func (w *mass) obey(ctx workflow.Context, cmd WaveCommand) {
	if cmd.Seq <= w.st.LastCmd {
		return // a repeat
	}
	w.st.LastCmd = cmd.Seq
	switch cmd.Kind {
	case cmdGrant:
		w.st.Granted = true
		w.p.news = true
	case cmdDeny:
		w.page(ctx, "denied/"+itoa(w.st.Rounds), view.Human{What: "Revoke was voted down for wave " + itoa(w.in.Wave.N) + ": resolve this step to have it voted on again, or end its items by decision (resolve --as accepted-risk --item wave/" + itoa(w.in.Wave.N) + ")"})
	case cmdResolved:
		w.resolved(cmd)
	case cmdReturned:
		w.st.Returned += len(cmd.FPs)
	default:
		kind, ok := orders[cmd.Kind]
		if !ok {
			return
		}
		fps := slices.Clone(cmd.FPs)
		slices.Sort(fps)
		w.p.order(page.Order{Kind: kind, FPs: fps, All: cmd.All, As: cmd.As, Actor: cmd.Actor, Text: cmd.Text, Until: cmd.Until})
	}
}

// resolved takes the word of a person about a step of this wave.
func (w *mass) resolved(cmd WaveCommand) {
	i := slices.IndexFunc(w.st.Open, func(t massTask) bool { return t.ID == cmd.Task })
	if i < 0 {
		return
	}
	t := w.st.Open[i]
	w.st.Open = slices.Delete(w.st.Open, i, i+1)
	w.st.Asked = slices.DeleteFunc(w.st.Asked, func(a string) bool { return a == t.Why })
	switch {
	case strings.HasPrefix(t.Why, "denied/"):
		w.st.Rounds++
		w.st.Asked = slices.DeleteFunc(w.st.Asked, func(a string) bool { return a == page.GateVotes })
	case t.Why == page.WhyAdopt:
		// Of those that are at their end: the others' dependents are not spoken of.
		w.p.order(page.Order{Kind: page.OrderAttest, All: true, Why: page.WhyAdopt, As: cmd.As, Actor: cmd.Actor, Text: cmd.Text})
	case t.Why == whyHarden, strings.HasPrefix(t.Why, whyStuck):
	case strings.HasPrefix(t.Why, whyFails):
		w.st.Asked = append(w.st.Asked, t.Why) // once
	default:
		w.p.order(page.Order{Kind: page.OrderResolve, All: true, Why: t.Why, As: cmd.As, Actor: cmd.Actor, Text: cmd.Text})
	}
	w.p.news = true
}

// opened tells whether a gate is open.
func (w *mass) opened(g page.Group) bool { return g.Next.Gate == page.GateVotes && w.st.Granted }

const whyStuck = "stuck/"

// stuck tells a person what keeps failing, once; it is repeated all the same.
func (w *mass) stuck(ctx workflow.Context, what string) {
	w.page(ctx, whyStuck+what, view.Human{What: what})
}

const whyFails = "fails/"

// failing names the calls that go on being repeated, those under way included.
func (w *mass) failing() []string {
	var out []string
	for _, g := range w.p.groups() {
		if g.Next.Why != page.WhyFailing {
			continue
		}
		if what := fmt.Sprintf("%s in %s/%s", g.Next.Verb, g.Provider, g.Account); !slices.Contains(out, what) {
			out = append(out, what)
		}
	}
	slices.Sort(out)
	return out
}

// look asks people what groups at rest wait for.
func (w *mass) look(ctx workflow.Context) {
	seen := ""
	for {
		now := w.waits()
		if now != seen {
			seen = now
			w.ask(ctx)
		}
		if w.canPull() {
			if err := w.pull(ctx); err != nil {
				return
			}
		}
		if err := workflow.Await(ctx, func() bool { return w.waits() != seen || w.canPull() || w.over }); err != nil || w.over {
			return
		}
	}
}

// waits says for what people are needed: it changes when ask has something to do.
func (w *mass) waits() string {
	var b strings.Builder
	for _, g := range w.p.idle {
		if g.Next.Gate != "" && g.Next.Gate != page.GateHeld && g.Next.Gate != page.GatePull {
			b.WriteString(g.Next.Gate + "|" + g.Next.Why + "\n")
		}
	}
	b.WriteString(fmt.Sprintf("%d %v %d", w.st.Rounds, w.st.Granted, len(w.st.Open)))
	if w.adopting() > 0 {
		b.WriteString(fmt.Sprintf("adopting %v", w.p.settled()))
	}
	b.WriteString(fmt.Sprint(w.failing()))
	return b.String()
}

// adopting counts rows whose old key is at its end while the replacement is not seen
// adopted.
func (w *mass) adopting() int {
	n := 0
	for _, g := range w.p.idle {
		if g.Next.Why == page.WhyAdopt {
			n += g.N
		}
	}
	return n
}

// ask opens the questions and steps that groups wait for: one for all rows that wait
// for the same.
func (w *mass) ask(ctx workflow.Context) {
	by := map[string]int{}
	var whys []page.Next
	for _, g := range w.p.idle {
		n := page.Next{Gate: g.Next.Gate, Why: g.Next.Why}
		switch n.Gate {
		case page.GateVotes, page.GateNotice, page.GateHuman:
		default:
			continue
		}
		if by[n.Gate+n.Why] == 0 {
			whys = append(whys, n)
		}
		by[n.Gate+n.Why] += g.N
	}
	for _, n := range whys {
		rows := by[n.Gate+n.Why]
		switch {
		case n.Gate == page.GateVotes:
			if w.st.Granted || slices.Contains(w.st.Asked, page.GateVotes) {
				continue
			}
			w.st.Asked = append(w.st.Asked, page.GateVotes)
			w.emit(WaveEvent{Kind: waveAsk, Ask: &Ask{For: playbooks.ApproveIrreversible, What: fmt.Sprintf("Revoke (irreversible) in wave %d of %d items", w.in.Wave.N, w.in.Wave.Count), Round: w.st.Rounds}})
		case n.Gate == page.GateNotice:
			w.page(ctx, n.Why, view.Human{
				What: fmt.Sprintf("tell the owners of %d keys of wave %d before they are cut, then resolve (`rekey incident items` lists keys, owners and replacements)", rows, w.in.Wave.N),
				Text: fmt.Sprintf("A key that you use has leaked and is being replaced. The replacement is in the store where you read it. Switch to it before %s: after that the old key is refused.\nIncident: %s\n", canon.Time(w.in.Facts.Cutoff), w.in.Incident),
			})
		case n.Why == page.WhyAdopt:
		default:
			w.page(ctx, n.Why, view.Human{What: fmt.Sprintf("%d items of wave %d: %s", rows, w.in.Wave.N, n.Why)})
		}
	}
	if n := w.adopting(); n > 0 && w.p.settled() {
		w.page(ctx, page.WhyAdopt, view.Human{What: fmt.Sprintf("%s (%d in wave %d): resolve --as adopted or waived when they are", page.WhyAdopt, n, w.in.Wave.N)})
	}
	failing := w.failing()
	for _, what := range failing {
		w.page(ctx, whyFails+what, view.Human{What: what + " " + page.WhyFailing + ": look at the provider's status and at rekey's path to it (`rekey doctor`); it goes on by itself"})
	}
	// What nobody waits for any more lapses.
	w.st.Open = slices.DeleteFunc(w.st.Open, func(t massTask) bool {
		gone := by[page.GateNotice+t.Why]+by[page.GateHuman+t.Why] == 0
		if t.Why == page.WhyAdopt {
			gone = w.adopting() == 0
		}
		if what, ok := strings.CutPrefix(t.Why, whyFails); ok {
			gone = !slices.Contains(failing, what)
		}
		if t.Why == whyHarden || strings.HasPrefix(t.Why, whyStuck) || strings.HasPrefix(t.Why, "denied/") || !gone {
			return false
		}
		w.st.Asked = slices.DeleteFunc(w.st.Asked, func(a string) bool { return a == t.Why })
		h := t.Human
		h.State = "lapsed"
		w.emit(WaveEvent{Kind: waveHuman, Human: &h})
		return true
	})
}

// page opens one step for all rows that wait for why; it is asked once.
func (w *mass) page(ctx workflow.Context, why string, h view.Human) {
	if slices.Contains(w.st.Asked, why) {
		return
	}
	w.st.Asked = append(w.st.Asked, why)
	w.st.Humans++
	h.ID, h.State, h.Owner = fmt.Sprintf("h%d-%d", w.in.Wave.N, w.st.Humans), "open", string(playbooks.RoleCommander)
	h.Due = canon.Time(w.clk.Now(ctx).Add(humanDue))
	w.st.Open = append(w.st.Open, massTask{Human: h, Why: why})
	open := h
	w.emit(WaveEvent{Kind: waveHuman, Human: &open})
	record(ctx, w.clk.Now(ctx), event.Event{Type: event.EventHuman, Attrs: map[string]string{"task": h.ID, "what": h.What, "owner": h.Owner, "due": h.Due}})
}

// canPull tells whether rows wait to become items of their own, and may.
func (w *mass) canPull() bool {
	return w.p.settled() && !w.p.ending && w.st.Pulled-w.st.Returned < pulledAtOnce && slices.ContainsFunc(w.p.idle, func(g resting) bool { return g.Next.Gate == page.GatePull })
}

func (w *mass) pull(ctx workflow.Context) error {
	rows, err := w.p.pull(ctx, WaveItems)
	if err != nil || len(rows) == 0 {
		return err
	}
	w.st.Pulled += len(rows)
	w.emit(WaveEvent{Kind: wavePulled, Rows: rows})
	for _, r := range rows {
		record(ctx, w.clk.Now(ctx), event.Event{Type: event.EventPulled, FP: r.FP, Result: r.Next.Why, Attrs: map[string]string{"wave": itoa(w.in.Wave.N), "step": r.Step, "death": r.Death}})
	}
	return nil
}

// count keeps the incident and the Temporal UI told of how the rows stand.
func (w *mass) count(ctx workflow.Context) {
	for {
		t := w.p.tally()
		if w.st.Told == nil || !sameTally(*w.st.Told, t) {
			w.st.Told = &t
			w.emit(WaveEvent{Kind: waveTally, Tally: &t})
		}
		w.show(ctx)
		if err := workflow.Sleep(ctx, tallyPause); err != nil || w.over {
			return
		}
		if err := workflow.Await(ctx, func() bool { return w.over || !sameTally(*w.st.Told, w.p.tally()) }); err != nil || w.over {
			return
		}
	}
}

// show keeps the status that the Temporal UI shows.
func (w *mass) show(ctx workflow.Context) {
	t := w.p.tally()
	s := fmt.Sprintf("**%s**, %d items, %d open, %d pulled\n\n| next | rows | from | why |\n|---|---|---|---|\n", w.in.Wave.Strategy, t.Items, t.Open(), w.st.Pulled)
	type line struct {
		next page.Next
		n    int
	}
	var lines []line
	for _, g := range w.p.groups() {
		n := g.Next
		i := slices.IndexFunc(lines, func(l line) bool { return l.next == n })
		if i < 0 {
			lines = append(lines, line{next: n})
			i = len(lines) - 1
		}
		lines[i].n += g.N
	}
	const most = 20
	for _, l := range lines[:min(len(lines), most)] {
		what := string(l.next.Verb)
		if l.next.Over() {
			what = "ended"
		}
		if l.next.Gate != "" {
			what += " behind " + l.next.Gate
		}
		s += fmt.Sprintf("| %s | %d | %s | %s |\n", what, l.n, canon.Time(l.next.Due.Time), l.next.Why)
	}
	workflow.SetCurrentDetails(ctx, s)
}

func sameTally(a, b page.Tally) bool {
	return a.Items == b.Items && sameCounts(a.Ended, b.Ended) && sameCounts(a.Death, b.Death) && sameCounts(a.Adoption, b.Adoption) && sameCounts(a.Outcomes, b.Outcomes)
}

func sameCounts(a, b map[string]int) bool {
	if len(a) != len(b) {
		return false
	}
	//workflowcheck:ignore
	for k, n := range a { // compares
		if b[k] != n {
			return false
		}
	}
	return true
}

// again continues as new with everything that is known. Orders behind the first obeyed
// ones came at the last moment: the next run has them obeyed.
func (w *mass) again(ctx workflow.Context, chapters *archiver, obeyed int) error {
	if err := chapters.done(ctx); err != nil {
		return err
	}
	ch := workflow.GetSignalChannel(ctx, SignalCommand)
	for {
		var cmd WaveCommand
		if !ch.ReceiveAsync(&cmd) {
			break
		}
		w.obey(ctx, cmd)
	}
	w.clk.drain(ctx)
	w.st.Pages = w.p.state()
	w.st.Seq, w.st.Queue, w.st.Now, w.st.ClockSeq = w.seq, w.queue, w.clk.Now(ctx), w.clk.seq
	next := w.in
	next.Orders, next.State = w.p.orders[obeyed:], &w.st
	return workflow.NewContinueAsNewError(ctx, TypeWave, next)
}

const whyHarden = "harden"

// end packs the rows at their end and tells the incident.
func (w *mass) end(ctx workflow.Context, chapters *archiver) error {
	w.harden(ctx)
	if _, err := w.clk.Wait(ctx, time.Time{}, "hardening of the replacements", w.hardened); err != nil {
		return err
	}
	list, err := w.p.pack(ctx)
	if err != nil {
		return err
	}
	if err := chapters.done(ctx); err != nil {
		return err
	}
	t := w.p.tally()
	w.over = true
	w.emit(WaveEvent{Kind: waveTally, Tally: &t})
	w.emit(WaveEvent{Kind: waveEnded, List: list.Hash, Chapters: w.st.Chapters})
	record(ctx, w.clk.Now(ctx), event.Event{Type: event.EventMassEnd, WaveHash: w.in.Wave.Hash, Evidence: []string{list.Hash}, Attrs: tallyAttrs(t)})
	w.show(ctx)
	return workflow.Await(ctx, w.sent)
}

// hardened tells whether nobody has to decide about hardening any more.
func (w *mass) hardened() bool {
	return !slices.ContainsFunc(w.st.Open, func(t massTask) bool { return t.Why == whyHarden })
}

// harden asks the owners of replaced items for what the playbook proposes, once for all.
func (w *mass) harden(ctx workflow.Context) {
	n := 0
	for _, state := range []string{"issued", "distributed", "adopted"} {
		n += w.p.tally().Adoption[state]
	}
	if what := hardening(&w.in.Settings.Playbook); what != "" && n > 0 {
		w.page(ctx, whyHarden, view.Human{What: fmt.Sprintf("harden the %d replacements of wave %d: %s; or decline it with a reason and a date; then resolve", n, w.in.Wave.N, what)})
	}
}

func tallyAttrs(t page.Tally) map[string]string {
	out := map[string]string{"items": itoa(t.Items), "open": itoa(t.Open())}
	for _, m := range []struct {
		name string
		by   map[string]int
	}{{"", t.Ended}, {"death ", t.Death}, {"adoption ", t.Adoption}, {"calls ", t.Outcomes}} {
		//workflowcheck:ignore
		for k, n := range m.by { // into a map
			out[m.name+k] = itoa(n)
		}
	}
	return out
}
