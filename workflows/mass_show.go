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
