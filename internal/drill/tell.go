package drill

import (
	"context"
	"fmt"

	"rekey/internal/view"
)

// byName is how many items are told of one by one. Of more only what is out of the
// ordinary is, and counts of the rest.
const byName = 40

// tell narrates what changed, and tells the lab which phase it is.
func (d *driver) tell(ctx context.Context) error {
	v := d.view
	if v.Phase != d.phase {
		d.phase = v.Phase
		d.w.say("%s  phase %s: %d items in scope, %d open", d.stamp(), v.Phase, v.Totals.Items, v.Totals.Open)
		if err := d.w.lab.EnterPhase(ctx, v.Phase); err != nil {
			return fmt.Errorf("lab: %w", err)
		}
	}
	each := v.Totals.Items <= byName
	for _, it := range v.Items {
		if it.Death.LastAlive != "" && it.Death.State == "alive" {
			d.once(it.FP+"/alive/"+it.Death.Rung, "%s is STILL ALIVE after the provider's yes", d.name(it))
		}
		if it.Death.Rung != "" && (each || it.Death.Rung != "key") {
			d.once(it.FP+"/rung/"+it.Death.Rung, "%s: rung %s", d.name(it), it.Death.Rung)
		}
		if each {
			d.tellItem(it)
		}
	}
	if counts := fmt.Sprintf("%d of %d items have ended; calls by outcome %v", v.Totals.Items-v.Totals.Open, v.Totals.Items, v.Totals.ByOutcome); !each && counts != d.counts {
		d.counts = counts
		d.w.say("%s  %s", d.stamp(), counts)
	}
	return nil
}

func (d *driver) tellItem(it view.Item) {
	if it.Rule != "" {
		d.once(it.FP+"/rule/"+it.Rule, "%s: %s (rule %s)", d.name(it), it.Strategy, it.Rule)
	}
	if it.Death.State == "dead" {
		d.once(it.FP+"/dead/"+it.Death.Rung, "%s proven dead: %d refusals, grade %s", d.name(it), it.Death.Refusals, it.Death.Grade)
	}
	if it.Adoption.NewKeyID != "" {
		d.once(it.FP+"/new", "%s: replacement %s", d.name(it), it.Adoption.NewKeyID)
	}
	if it.Adoption.State == "adopted" {
		d.once(it.FP+"/adopted", "%s: replacement adopted by %d of %d dependents", d.name(it), it.Adoption.CutOver, it.Adoption.Dependents)
	}
	if it.EndState != "" {
		d.once(it.FP+"/end", "%s: %s", d.name(it), it.EndState)
	}
}

// once says something the first time.
func (d *driver) once(key, format string, args ...any) {
	if !d.told[key] {
		d.told[key] = true
		d.w.say("%s  "+format, append([]any{d.stamp()}, args...)...)
	}
}

// name calls an item as the scenario does.
func (d *driver) name(it view.Item) string {
	if name, ok := d.names[it.KeyID]; ok {
		return name
	}
	return "attacker's " + it.Short
}
