package workflows

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.temporal.io/sdk/workflow"

	"rekey/activities"
	"rekey/internal/canon"
	"rekey/internal/event"
	"rekey/internal/plan"
	"rekey/internal/view"
	"rekey/playbooks"
)

func itoa(n int) string { return strconv.Itoa(n) }

// wave moves its items, each in a coroutine of its own: a stuck item delays no
// other.
type wave struct {
	in    WaveInput
	pb    *playbooks.Playbook
	clk   *clock
	call  *caller
	items []*item

	outbox

	lastCmd  int64
	granted  map[string]bool
	denied   map[string]string
	resolved map[string]WaveCommand
	asked    map[string]bool
	humans   int
	ended    int
	noticer  *noticer
}

// Wave is the workflow of one wave: the items of one approved set of calls, from
// the first kill to a proven end. It is started by the incident and outlives any
// run of it; it ends when each of its items has ended.
func Wave(ctx workflow.Context, in WaveInput) error {
	if in.Wave.List != "" {
		return massWave(ctx, in)
	}
	clk, err := newClock(ctx, in.Settings.Virtual, in.Now, 0)
	if err != nil {
		return err
	}
	w := &wave{
		in: in, pb: &in.Settings.Playbook, clk: clk,
		granted: map[string]bool{}, denied: map[string]string{}, resolved: map[string]WaveCommand{}, asked: map[string]bool{},
		outbox: outbox{incident: in.Incident, wave: in.Wave.N, outclk: clk},
	}
	for _, ask := range in.Granted {
		w.granted[ask] = true
	}
	w.call = &caller{incident: in.Incident, prefix: "wave/" + itoa(in.Wave.N) + in.Life, clk: clk, off: w.off, rates: w.pb.RatesOf}
	for _, p := range in.Wave.Items {
		it := newItem(w, p)
		if row, ok := in.Rows[p.Key.FP]; ok {
			it.resume(row)
		}
		w.items = append(w.items, it)
	}
	workflow.Go(ctx, w.listen)
	workflow.Go(ctx, w.send)
	if w.noticer = newNoticer(w); w.noticer != nil {
		workflow.Go(ctx, w.noticer.listen)
		workflow.Go(ctx, w.noticer.run)
	}
	for _, it := range w.items {
		workflow.Go(ctx, func(ctx workflow.Context) {
			it.run(ctx)
			w.ended++
			w.show(ctx)
		})
	}
	w.show(ctx)
	if err := workflow.Await(ctx, func() bool { return w.ended == len(w.items) }); err != nil {
		return err
	}
	// The incident learns of notices before it learns of the end.
	if err := workflow.Await(ctx, func() bool { return w.noticer == nil || w.noticer.done }); err != nil {
		return err
	}
	w.emit(WaveEvent{Kind: waveEnded})
	return workflow.Await(ctx, w.sent)
}

// off tells whether a drill's negative control switched a rule off.
func (w *wave) off(rule string) bool { return slices.Contains(w.in.Settings.Off, rule) }

// listen takes the incident's commands.
func (w *wave) listen(ctx workflow.Context) {
	ch := workflow.GetSignalChannel(ctx, SignalCommand)
	for {
		var cmd WaveCommand
		if !ch.Receive(ctx, &cmd) {
			return
		}
		if cmd.Seq <= w.lastCmd {
			continue // a repeat
		}
		w.lastCmd = cmd.Seq
		switch cmd.Kind {
		case cmdGrant:
			w.granted[cmd.Ask] = true
		case cmdDeny:
			w.denied[cmd.Ask] = cmd.Text
		case cmdResolved:
			w.resolved[cmd.Task] = cmd
		default:
			for _, it := range w.items {
				if slices.Contains(cmd.FPs, it.plan.Key.FP) {
					it.command(cmd)
				}
			}
		}
	}
}

// ask asks the incident for a vote and waits for it. It gives false when people
// said no, or when the item goes another way meanwhile.
func (w *wave) ask(ctx workflow.Context, it *item, a Ask) (bool, error) {
	if a.Rung != "" {
		a.FPs = []string{it.v.FP}
	} else {
		// One question for all items that will come to it, so that people vote once.
		names := make([]string, 0, len(w.items))
		for _, other := range w.items {
			a.FPs = append(a.FPs, other.v.FP)
			names = append(names, other.v.Short)
		}
		a.What += " " + strings.Join(names, ", ")
	}
	key := a.Key()
	if !w.asked[key] {
		w.asked[key] = true
		w.emit(WaveEvent{Kind: waveAsk, Ask: &a})
	}
	it.wait(ctx, "votes: "+a.What, "", time.Time{})
	_, err := w.clk.Wait(ctx, time.Time{}, "votes for "+key, func() bool {
		_, no := w.denied[key]
		return w.granted[key] || no || it.leaves()
	})
	it.going(ctx)
	return w.granted[key], err
}

// human asks a person to do something and waits until they say that they did, or
// until done holds. It gives their command; ok is false when something else ended
// the wait.
func (w *wave) human(ctx workflow.Context, it *item, h view.Human, until time.Time) (WaveCommand, bool, error) {
	due := w.clk.Now(ctx).Add(humanDue)
	if !until.IsZero() && until.Before(due) {
		due = until
	}
	h = w.page(ctx, it, h, due)
	_, err := w.clk.Wait(ctx, until, h.What, func() bool {
		_, ok := w.resolved[h.ID]
		return ok || it.leaves()
	})
	cmd, ok := w.resolved[h.ID]
	if !ok {
		w.lapse(h)
	}
	it.going(ctx)
	return cmd, ok, err
}

// page opens a step for a person and does not wait for them.
func (w *wave) page(ctx workflow.Context, it *item, h view.Human, due time.Time) view.Human {
	w.humans++
	h.ID = fmt.Sprintf("h%d-%d", w.in.Wave.N, w.humans)
	h.FP, h.State, h.Due = it.v.FP, "open", canon.Time(due)
	if h.Owner == "" {
		h.Owner = it.owner()
	}
	open := h
	w.emit(WaveEvent{Kind: waveHuman, Human: &open})
	record(ctx, w.clk.Now(ctx), event.Event{Type: event.EventHuman, FP: h.FP, Attrs: map[string]string{"task": h.ID, "what": h.What, "owner": h.Owner, "due": h.Due}})
	it.wait(ctx, h.What, h.Owner, due)
	return h
}

// lapse takes a step back that nobody need do any more.
func (w *wave) lapse(h view.Human) {
	h.State = "lapsed"
	w.emit(WaveEvent{Kind: waveHuman, Human: &h})
}

// kind is what is known of an item's kind of credential.
func (w *wave) kind(k activities.Key) KindFacts { return w.in.Settings.Kinds[k.Provider+"/"+k.Kind] }

// show keeps the status that the Temporal UI shows.
func (w *wave) show(ctx workflow.Context) {
	s := fmt.Sprintf("**%s**, %d of %d items ended\n\n| key | step | death | adoption | end |\n|---|---|---|---|---|\n", w.in.Wave.Strategy, w.ended, len(w.items))
	for _, it := range w.items {
		v := it.v
		s += fmt.Sprintf("| %s | %s | %s | %s | %s |\n", v.Short, v.Step, v.Death.State, v.Adoption.State, v.EndState)
	}
	workflow.SetCurrentDetails(ctx, s)
}

// steps gives the steps of a strategy for an item, without those that it does not
// need.
func (w *wave) steps(p plan.Item, name playbooks.StrategyName) []playbooks.Step {
	k := w.kind(p.Key)
	all := w.pb.Strategy(name).Steps
	out := make([]playbooks.Step, 0, len(all))
	for _, s := range all {
		switch s {
		case playbooks.StepEndSessions:
			if !k.SessionsOutlive {
				continue
			}
		case playbooks.StepIssue, playbooks.StepDistribute, playbooks.StepProbeNew, playbooks.StepWaitCutover:
			if !p.Adopt {
				continue
			}
		}
		out = append(out, s)
	}
	return out
}
