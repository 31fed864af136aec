package workflows

import (
	"fmt"
	"slices"

	"go.temporal.io/sdk/workflow"

	"rekey/internal/view"
	"rekey/playbooks"
)

// takeEvents receives what the waves tell.
func (r *incident) takeEvents(ctx workflow.Context) {
	ch := workflow.GetSignalChannel(ctx, SignalWave)
	for {
		var e WaveEvent
		if !take(ctx, ch, &e) {
			return
		}
		r.takeEvent(ctx, e)
	}
}

// takeEvent applies one event of a wave. A repeat is dropped by its number.
func (r *incident) takeEvent(ctx workflow.Context, e WaveEvent) {
	w := r.waveN(e.Wave)
	if w == nil || e.Seq <= w.LastEvt {
		return
	}
	w.LastEvt = e.Seq
	switch e.Kind {
	case waveItem:
		if e.Item != nil && w.has(e.Item.FP) {
			v := r.viewOf(e.Item.FP)
			rule := v.Rule
			*v = *e.Item
			v.Rule = rule
		}
	case waveAsk:
		if e.Ask != nil {
			r.question(ctx, *w, *e.Ask)
		}
	case waveHuman:
		if e.Human != nil {
			r.putHuman(*e.Human)
		}
	case waveFindings:
		for _, u := range e.Unseen {
			r.unseen(u)
		}
		if s := r.item(e.FP); s != nil {
			for _, f := range e.Findings {
				r.finding(ctx, s.Key, f)
			}
		}
	case waveNotices:
		r.telling(e.Wave)
	case waveTally:
		if m := r.massWave(e.Wave); m != nil && e.Tally != nil {
			m.Tally = *e.Tally
		}
	case wavePulled:
		r.takePulled(ctx, e.Wave, e.Rows)
	case waveEnded:
		w.State = waveOver
		if m := r.massWave(e.Wave); m != nil {
			m.List = e.List
		}
		r.chapters.pin(e.Chapters)
		if w.From > 0 {
			r.command(ctx, w.From, WaveCommand{Kind: cmdReturned, FPs: itemFPs(w.Wave)})
		}
		r.waveOver(ctx, *w)
		r.chapters.keep(ctx, WaveID(r.in.ID, w.Wave.N), "")
	}
	r.changed, r.stir = true, true
}

// waveOver clears up behind a wave: questions that nobody waits for any more are
// voided, and an item without an end goes to a person instead of being lost.
func (r *incident) waveOver(ctx workflow.Context, w WaveRun) {
	for i := range r.st.Approvals {
		a := &r.st.Approvals[i]
		if a.State == "open" && a.Wave == w.Wave.N && (a.For == playbooks.ApproveIrreversible || a.For == playbooks.ApproveRung || a.For == playbooks.ApproveRestore) {
			r.void(ctx, a)
		}
	}
	for i := range r.st.Humans {
		var wave, n int
		h := &r.st.Humans[i]
		if _, err := fmt.Sscanf(h.ID, "h%d-%d", &wave, &n); err == nil && wave == w.Wave.N && h.State == "open" {
			h.State = "lapsed"
		}
	}
	for _, fp := range itemFPs(w.Wave) {
		if w.has(fp) && r.viewOf(fp).EndState == "" {
			h := r.human(ctx, view.Human{FP: fp, What: fmt.Sprintf("wave %d ended without an end for %s: look at it, then resolve --as accepted-risk, or report it again", w.Wave.N, r.viewOf(fp).Short)})
			r.leave(fp, h.ID)
		}
	}
}

func (r *incident) putHuman(h view.Human) {
	i := slices.IndexFunc(r.st.Humans, func(o view.Human) bool { return o.ID == h.ID })
	if i < 0 {
		r.st.Humans = append(r.st.Humans, h)
		return
	}
	if r.st.Humans[i].State == "open" {
		r.st.Humans[i] = h
	}
}

// question opens the approval that a wave asks for.
func (r *incident) question(ctx workflow.Context, w WaveRun, a Ask) {
	name := a.For
	if r.approvalFor(name, w.Wave.Hash, a.Key()) != nil {
		return
	}
	switch name {
	case playbooks.ApproveIrreversible, playbooks.ApproveRung:
		r.open(ctx, r.pb.Approvals[name], Approval{
			For: name, Ask: a.Key(), Wave: w.Wave.N, WaveHash: w.Wave.Hash, Strategy: string(w.Wave.Strategy), What: a.What, Items: a.FPs,
		})
	}
}
