package workflows

import (
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
	v.Totals.Items, v.Totals.Open = r.size(), r.openCount()
	for end, n := range r.massEnds() { //workflowcheck:ignore sums
		v.Totals.ByEndState[end] += n
	}
	for _, w := range m.Waves {
		for o, n := range w.Tally.Outcomes { //workflowcheck:ignore sums
			v.Totals.ByOutcome[o] += n
		}
	}
}
