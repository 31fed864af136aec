package drill

import (
	"time"

	"rekey/internal/estate"
	"rekey/internal/lab/scenario"
	"rekey/playbooks"
)

// Estate is what rekey would know of the world of a scenario at a scale: registered
// copies only, and none of the keys that the scenario calls unrelated. aliases are
// the provider's ids by the scenario's names.
func Estate(d *scenario.Drill, scale int, aliases map[string]string, provider, account string) estate.File {
	id := func(alias string) string {
		if id, ok := aliases[alias]; ok {
			return id
		}
		return alias
	}
	var f estate.File
	for _, k := range d.AllKeys(scale) {
		if k.State == "unrelated" {
			continue
		}
		f.Keys = append(f.Keys, estate.Key{ID: id(k.ID), Provider: provider, Account: account, Kind: d.Trigger.Report.Kind, Owner: k.Owner, Parent: id(k.Parent)})
	}
	for _, c := range d.AllCopies(scale) {
		if c.Registered {
			f.Copies = append(f.Copies, estate.Copy{Key: id(c.Key), Where: c.Where, Store: c.Store, Registered: true, Zone: c.Zone})
		}
	}
	for _, dep := range d.AllDependents(scale, d.T0(time.Time{})) {
		e := estate.Dependent{ID: dep.ID, Owner: dep.Owner, Budget: playbooks.Duration(dep.OutageBudget), Cutover: dep.Cutover, Proof: dep.Proof}
		for _, k := range dep.Keys {
			e.Keys = append(e.Keys, id(k))
		}
		f.Dependents = append(f.Dependents, e)
	}
	return f
}
