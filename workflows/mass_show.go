package workflows

import (
	"rekey/internal/canon"
	"rekey/internal/view"
)

// massDead counts the rows whose key is proven dead.
func (r *incident) massDead() int {
	n := 0
	if m := r.st.Mass; m != nil {
		for _, w := range m.Waves {
			n += w.Tally.Death["dead"]
		}
	}
	return n
}

// massTotals adds the rows to the totals of a view.
func (r *incident) massTotals(v *view.Incident) {
	m := r.st.Mass
	if m == nil {
		return
	}
	v.Mass = r.massView()
	v.Totals.Items, v.Totals.Open = r.size(), r.openCount()
	//workflowcheck:ignore
	for end, n := range r.massEnds() { // sums
		v.Totals.ByEndState[end] += n
	}
	for _, w := range m.Waves {
		//workflowcheck:ignore
		for o, n := range w.Tally.Outcomes { // sums
			v.Totals.ByOutcome[o] += n
		}
	}
}

// massView is how the rows stand.
func (r *incident) massView() *view.Mass {
	m := r.st.Mass
	out := &view.Mass{Items: r.rows(), Open: r.openCount() - len(r.openItems()), Dead: r.massDead(), ByDeath: map[string]int{}, ByAdoption: map[string]int{}}
	for _, p := range m.Parts {
		if p.Read == "" {
			out.Reading += p.N
		}
	}
	for _, w := range m.Waves {
		add(out.ByDeath, w.Tally.Death)
		add(out.ByAdoption, w.Tally.Adoption)
		v := view.MassWave{N: w.N, Items: w.Tally.Items, Open: w.Tally.Open(), Dead: w.Tally.Death["dead"], Started: canon.Time(w.Started)}
		if run := r.waveN(w.N); run != nil {
			v.ETAMs = run.Wave.ETAMs
		}
		out.Waves = append(out.Waves, v)
	}
	for _, l := range m.Left {
		out.Left = append(out.Left, view.MassLeft{Strategy: string(l.Strategy), Items: l.Items, EndState: l.End, Task: l.Task})
	}
	return out
}

func add(to, from map[string]int) {
	//workflowcheck:ignore
	for k, n := range from { // sums
		to[k] += n
	}
}
