package workflows

import (
	"fmt"
	"slices"
	"strings"

	"go.temporal.io/sdk/workflow"

	"rekey/internal/event"
	"rekey/internal/page"
	"rekey/internal/plan"
	"rekey/internal/view"
	"rekey/playbooks"
)

// A MassPull is rows that have left their wave and wait to move one by one.
type MassPull struct {
	From int        `json:"from"`
	Rows []page.Row `json:"rows"`
}

// outOfMass looks whether keys that were reported by themselves are rows: those become
// items, and whatever a row has behind it stays known. One that a wave moves is asked
// back from it.
func (r *incident) outOfMass(ctx workflow.Context) error {
	m := r.st.Mass
	if m == nil {
		return nil
	}
	var names []string
	for _, rep := range r.st.Reports {
		fp := rep.Key.FP
		if r.item(fp) == nil && !slices.Contains(m.Out, fp) && !slices.Contains(m.Asked, fp) && !slices.Contains(names, fp) {
			names = append(names, fp)
		}
	}
	if len(names) == 0 {
		return nil
	}
	found, err := r.find(ctx, names)
	if err != nil {
		return err
	}
	for _, fp := range names {
		row, ok := found.Rows[fp]
		if !ok {
			continue
		}
		list := found.In[fp]
		i := slices.IndexFunc(r.st.Waves, func(w WaveRun) bool { return w.Wave.List == list })
		switch {
		case i >= 0 && r.st.Waves[i].State == waveRunning:
			m.Asked = append(m.Asked, fp)
			r.command(ctx, r.st.Waves[i].Wave.N, WaveCommand{Kind: cmdPull, FPs: []string{fp}, Text: whyPullNew})
		default:
			from := 0
			if w := slices.IndexFunc(m.Waves, func(w MassWave) bool { return w.List == list }); w >= 0 {
				from = m.Waves[w].N
			}
			r.takeRow(from, row)
		}
	}
	return nil
}

// find looks rows up by fingerprint, short form or provider id.
func (r *incident) find(ctx workflow.Context, names []string) (FindResult, error) {
	in := FindInput{Incident: r.in.ID, Names: names}
	m := r.st.Mass
	for _, w := range m.Waves {
		if w.List != "" {
			in.Lists = append(in.Lists, w.List)
		} else if run := r.waveN(w.N); run != nil {
			in.Lists = append(in.Lists, run.Wave.List)
		}
	}
	for _, p := range m.Parts {
		in.Lists = append(in.Lists, or(p.Read, p.List))
	}
	return engineCall[FindResult](ctx, r.clk, sortLimit, ActivityFind, fmt.Sprintf("find %d keys", len(names)), in)
}

// takePulled takes rows that a wave gives back.
func (r *incident) takePulled(ctx workflow.Context, from int, rows []page.Row) {
	var moving []page.Row
	for _, row := range rows {
		r.takeRow(from, row)
		if row.End == "" {
			moving = append(moving, row)
		} else {
			r.command(ctx, from, WaveCommand{Kind: cmdReturned, FPs: []string{row.FP}})
		}
	}
	if len(moving) > 0 {
		r.st.Mass.Pulls = append(r.st.Mass.Pulls, MassPull{From: from, Rows: moving})
	}
}

// takeRow makes a row an item.
func (r *incident) takeRow(from int, row page.Row) {
	m := r.st.Mass
	s := Scoped{
		Key: row.Key(), Secret: row.Secret, Basis: row.Basis, Why: row.Why, Depth: row.Depth, Owner: row.Owner, OwnerKind: row.OwnerKind, Exposure: row.Exposure,
		Dependents: row.PlanDependents(), Customers: row.Customers, Copies: row.Copies, Unattributed: row.Unattributed,
		CreatedByCompromised: row.CreatedByCompromised, StoreDirty: row.StoreDirty,
	}
	if reading, err := row.Read(); err == nil {
		s.Reading = reading
	}
	if !r.addItem(s) {
		return
	}
	m.Pulled++
	m.Out = append(m.Out, row.FP)
	m.Asked = slices.DeleteFunc(m.Asked, func(fp string) bool { return fp == row.FP })
	if w := r.massWave(from); w != nil {
		w.Pulled++
		w.Tally.Items--
		if row.End != "" {
			w.Tally.Ended[row.End]--
		}
	}
	v := row.View(from, r.pb.Verify.K)
	v.Open = view.Open{Why: row.Next.Why, Owner: v.Owner}
	*r.viewOf(row.FP) = v
	r.st.Scoping = r.st.Scoping || slices.ContainsFunc(r.st.Reports, func(rep Report) bool { return rep.Key.FP == row.FP })
	r.changed, r.stir = true, true
}

// movePulled starts waves for rows that were pulled: from where they stand, under the
// strategy and the votes of the wave that they come from.
func (r *incident) movePulled(ctx workflow.Context) error {
	m := r.st.Mass
	if m == nil {
		return nil
	}
	for len(m.Pulls) > 0 {
		p := m.Pulls[0]
		from := r.waveN(p.From)
		if from == nil {
			return fmt.Errorf("rows were pulled out of wave %d, which is not known", p.From)
		}
		w, err := engineCall[plan.Wave](ctx, r.clk, engine, ActivityUnfold, fmt.Sprintf("plan of %d rows that leave wave %d", len(p.Rows), p.From), UnfoldInput{
			Incident: r.in.ID, Rows: p.Rows, Strategy: from.Wave.Strategy, Playbook: *r.pb, Digest: r.set.Digest, Kinds: r.set.Kinds, From: p.From,
		})
		if err != nil {
			return err
		}
		w.N = r.st.NextWave
		m.Pulls = m.Pulls[1:]
		if err := r.startPulled(ctx, w, p, from); err != nil {
			return err
		}
	}
	return nil
}

func (r *incident) startPulled(ctx workflow.Context, w plan.Wave, p MassPull, from *WaveRun) error {
	rows := map[string]page.Row{}
	for _, row := range p.Rows {
		rows[row.FP] = row
	}
	var granted []string
	if slices.ContainsFunc(r.st.Approvals, func(a Approval) bool {
		return a.For == playbooks.ApproveIrreversible && a.WaveHash == from.Wave.Hash && a.State == "granted"
	}) {
		granted = append(granted, Ask{For: playbooks.ApproveIrreversible}.Key()) // people have voted for these items too
	}
	record(ctx, r.clk.Now(ctx), event.Event{Type: event.EventDecision, Actor: "policy:pulled", WaveHash: w.Hash, Result: string(w.Strategy), Attrs: map[string]string{
		"items": joinShorts(p.Rows), "from": itoa(p.From), "why": p.Rows[0].Next.Why,
	}})
	return r.launch(ctx, w, WaveRun{Voted: from.Voted, From: p.From}, func(in *WaveInput) {
		in.Rows, in.Granted = rows, granted
		for _, row := range p.Rows {
			if row.Secret != "" && !r.st.Forgotten {
				in.Secrets[row.FP] = row.Secret
			}
		}
	})
}

func joinShorts(rows []page.Row) string {
	out := ""
	for i := range rows {
		if i > 0 {
			out += ","
		}
		out += rows[i].Key().Short()
	}
	return out
}

// resume has an item go on from where its row stood.
func (it *item) resume(row page.Row) {
	v := row.View(it.v.Wave, it.v.Death.Needed)
	v.Strategy, v.Rule, v.Step, v.Open = it.v.Strategy, it.v.Rule, "", view.Open{}
	it.v = v
	it.disabled, it.sure, it.revoked, it.killed = row.Disabled, row.Sure, row.Revoked, row.Killed.Time
	it.newKey, it.handle, it.placed, it.attested = row.NewKey, row.Handle, row.Placed.Time, row.Attested
	it.turned = it.turned || row.Strategy == string(playbooks.RevokeNow)
	it.promoted = row.Promoted
	if row.Effect != "" {
		// A create without an outcome: every further attempt goes on in its journal, which
		// the row names in full, and under its token.
		it.issuing = &effect{id: strings.TrimPrefix(row.Effect, it.w.in.Incident+"/"), token: row.EffectToken, attempts: row.Tries}
	}
	switch {
	case row.Death == "dead":
	case row.Disabled, row.Revoked:
		it.v.Death.State = "disabled"
	default:
		it.v.Death.State = "alive"
	}
	if it.v.Outcomes == nil {
		it.v.Outcomes = []view.Outcome{}
	}
}
