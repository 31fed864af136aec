package engine

import (
	"rekey/internal/page"
	"rekey/internal/plan"
	"rekey/playbooks"
	"rekey/workflows"
)

// rowOf makes a row of an item that the estate has found.
func rowOf(s workflows.Scoped) page.Row {
	r := page.Row{
		Basis: s.Basis, Why: s.Why, Depth: s.Depth, Owner: s.Owner, OwnerKind: s.OwnerKind, Exposure: s.Exposure, Customers: s.Customers, Copies: s.Copies,
		StoreDirty: s.StoreDirty, Unattributed: s.Unattributed, CreatedByCompromised: s.CreatedByCompromised, Secret: s.Secret, Conflict: s.Conflict,
	}
	r.SetKey(s.Key)
	r.SetDependents(s.Dependents)
	return r
}

// itemOf lays out the calls of a row, as planItem does for an item.
func itemOf(pb *playbooks.Playbook, r *page.Row, s workflows.Scoped, name playbooks.StrategyName, kinds map[string]workflows.KindFacts) plan.Item {
	it := planItem(pb, s, name, kinds)
	it.Roles = r.Roles // what was read, after the reading itself is gone
	return it
}
