package judge

import (
	"slices"
	"strings"

	"rekey/internal/event"
	"rekey/internal/lab/control"
)

// mintedByEngine is what the lab says of keys that rekey made.
const mintedByEngine = "engine"

// reissuedInScope is G2: no reissued key is one of the compromised set. That set is
// the scope, and what the attacker made.
func (b *bench) reissuedInScope() ruling {
	r := ruling{absent: "nothing was reissued"}
	for _, id := range b.newKeys() {
		r.checked++
		if it, ok := b.byKey[id]; ok {
			r.fault("%s is the replacement of an item and itself an item (%s)", id, it.Short)
		}
		if b.keys[id].MintedBy == malicious {
			r.fault("%s is the replacement of an item and was made by the attacker", id)
		}
	}
	return r
}

// dirtyZone is G3: no new secret in a dirty zone. A zone is dirty where the
// scenario's copies say so; what was put where, the lab knows.
func (b *bench) dirtyZone() ruling {
	var dirty []string
	for _, c := range b.in.Drill.Estate.Copies {
		if c.Zone == "dirty" {
			dirty = append(dirty, c.Where, c.Store)
		}
	}
	if len(dirty) == 0 {
		return ruling{absent: "no zone is dirty"}
	}
	r := ruling{absent: "no new secret was put anywhere"}
	var seen []string
	put := func(name string) {
		if name == "" || slices.Contains(seen, name) {
			return
		}
		seen = append(seen, name)
		r.checked++
		for _, d := range dirty {
			if samePlace(d, name) {
				r.fault("a new secret was put into %s, which is in a dirty zone", name)
				return
			}
		}
	}
	for _, c := range b.in.Oracle.Calls {
		if c.Verb == "Distribute" && c.Effect {
			put(c.Target)
		}
	}
	for _, s := range b.in.Oracle.Stores {
		if b.keys[s.KeyID].MintedBy == mintedByEngine {
			put(s.Name)
		}
	}
	return r
}

// samePlace tells whether a place in the scenario is the store of that name at the
// provider: "awssm/platform/aws", "awssm:platform/aws" and "platform/aws" are one.
func samePlace(where, store string) bool {
	return where != "" && (where == store || strings.HasSuffix(where, "/"+store) || strings.HasSuffix(where, ":"+store))
}

// sideEffects is G6: one effective side effect per idempotency key (contracts
// section 3). The lab counts: Disable and Revoke take effect at most once per key
// (a key that was restored may be disabled once more), and of the keys that rekey
// made exactly one survives per adopted item, every other one is proven dead and on
// record.
func (b *bench) sideEffects() ruling {
	r := ruling{absent: "rekey changed nothing"}
	b.repeated(&r)
	b.creates(&r)
	return r
}

func (b *bench) repeated(r *ruling) {
	type effect struct{ verb, key string }
	count := map[effect]int64{}
	var order []effect
	for _, c := range b.in.Oracle.Calls {
		if !c.Effect {
			continue
		}
		r.checked++
		e := effect{c.Verb, c.Key}
		if c.Key == "" || c.Verb != "Disable" && c.Verb != "Revoke" && c.Verb != "Restore" {
			continue
		}
		if count[e]++; count[e] == 1 {
			order = append(order, e)
		}
	}
	for _, e := range order {
		may := int64(1)
		switch e.verb {
		case "Restore":
			continue // once per item, by people: G10 judges it
		case "Disable":
			may += count[effect{"Restore", e.key}]
		}
		if n := count[e]; n > may {
			b.effects.Duplicate += n - may
			r.fault("%s took effect %d times on %s", e.verb, n, e.key)
		}
	}
}

func (b *bench) creates(r *ruling) {
	killed := b.killedOnRecord()
	adopted := map[string]item{}
	for _, it := range b.items {
		id := it.Adoption.NewKeyID
		if id == "" {
			continue
		}
		if other, twice := adopted[id]; twice {
			r.fault("%s replaces both %s and %s", id, other.name(), it.name())
			continue
		}
		adopted[id] = it
		if k, ok := b.keys[id]; !ok || k.MintedBy != mintedByEngine {
			r.checked++
			r.fault("%s, the replacement of %s, is no key that rekey made", id, it.name())
		}
	}
	for _, k := range b.in.Oracle.Keys {
		if k.MintedBy != mintedByEngine {
			continue
		}
		r.checked++
		it, named := adopted[k.ID]
		switch {
		case named && !k.Alive && it.Adoption.State != "waived":
			r.fault("%s, the replacement of %s, did not survive", k.ID, it.name())
		case named:
		case k.Alive:
			b.effects.Orphans++
			r.fault("%s was made by rekey, replaces nothing, and is alive (orphan)", k.ID)
		case !slices.Contains(killed, k.ID):
			b.effects.Duplicate++
			r.fault("%s was made by rekey, is dead, and no record says that it was ours (duplicate)", k.ID)
		}
	}
}

// killedOnRecord are the extra keys that the record names as made by the incident
// and destroyed again.
func (b *bench) killedOnRecord() []string {
	var out []string
	for _, e := range b.events {
		if e.Type != event.EventReconciled {
			continue
		}
		for id := range strings.SplitSeq(e.Attrs["killed"], ",") {
			if id = strings.TrimSpace(id); id != "" {
				out = append(out, id)
			}
		}
	}
	return out
}

// cut is the first call that took the key from those who used it.
func (b *bench) cut(key string) (control.Call, bool) {
	var first control.Call
	found := false
	for _, c := range b.in.Oracle.Calls {
		if c.Effect && c.Key == key && (c.Verb == "Disable" || c.Verb == "Revoke") && (!found || c.At.Before(first.At.Time)) {
			first, found = c, true
		}
	}
	return first, found
}
