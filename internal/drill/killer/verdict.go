package killer

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"rekey/internal/drill"
	"rekey/internal/drill/judge"
	"rekey/internal/event"
	"rekey/internal/lab/control"
	"rekey/internal/lab/scenario"
	"rekey/internal/view"
)

// wronged says what was lost, and which effects design section 4 does not allow. The
// lab's log decides; what rekey says of itself is held against it.
func wronged(p Plan, n int, played *drill.Played, o control.Oracle, ids func(string) string, d *scenario.Drill) []string {
	v := &verdict{plan: p, played: played, o: own(o, users(p, n))}
	v.allClear()
	v.ends(keys(p, n), ids)
	v.effects()
	v.replacements(users(p, n)[:2])
	v.invariants(d)
	return v.wrong
}

type verdict struct {
	plan   Plan
	played *drill.Played
	o      control.Oracle
	wrong  []string
}

func (v *verdict) fault(format string, args ...any) {
	v.wrong = append(v.wrong, fmt.Sprintf(format, args...))
}

// own is what the lab has seen of the users of one incident.
func own(o control.Oracle, users []string) control.Oracle {
	mine := map[string]bool{}
	for _, u := range users {
		mine[u], mine[u+"/aws"] = true, true
	}
	keys := map[string]bool{}
	o.Keys = slices.DeleteFunc(slices.Clone(o.Keys), func(k control.Key) bool { return !mine[k.User] })
	for _, k := range o.Keys {
		keys[k.ID] = true
	}
	o.Calls = slices.DeleteFunc(slices.Clone(o.Calls), func(c control.Call) bool { return !mine[c.Target] && !keys[c.Key] })
	o.Uses = slices.DeleteFunc(slices.Clone(o.Uses), func(u control.Use) bool { return !keys[u.Key] })
	o.Stores = slices.DeleteFunc(slices.Clone(o.Stores), func(s control.Store) bool { return !mine[s.Name] })
	o.Sessions = slices.DeleteFunc(slices.Clone(o.Sessions), func(s control.Session) bool { return !keys[s.Parent] })
	o.Dependents = slices.DeleteFunc(slices.Clone(o.Dependents), func(d control.Dependent) bool { return !keys[d.OnKey] })
	o.Kills = nil // those of all incidents
	return o
}

// allClear: the incident has come to its end.
func (v *verdict) allClear() {
	if v.played.Final.State != "all-clear" {
		v.fault("the incident is %s in phase %s, with %d items open", v.played.Final.State, v.played.Final.Phase, v.played.Final.Totals.Open)
	}
}

// ends: each key of the incident is an item that was proven dead, and the provider has
// it no more.
func (v *verdict) ends(names []string, ids func(string) string) {
	if got, want := len(v.played.Final.Items), len(names); got != want {
		v.fault("%d items in scope, want %d", got, want)
	}
	state := map[string]control.Key{}
	for _, k := range v.o.Keys {
		state[k.ID] = k
	}
	for _, name := range names {
		id := ids(name)
		i := slices.IndexFunc(v.played.Final.Items, func(it view.Item) bool { return it.KeyID == id })
		if i < 0 {
			v.fault("%s is no item: it was lost", name)
			continue
		}
		if end := v.played.Final.Items[i].EndState; end != "revoked-verified" {
			v.fault("%s ended as %q", name, end)
		}
		if k := state[id]; k.State != "deleted" || k.Alive {
			v.fault("%s is %s at the provider (alive: %t)", name, k.State, k.Alive)
		}
	}
}

// token is the idempotency key that each call carries in its user agent.
var token = regexp.MustCompile(`\brekey-token/([0-9a-f-]+)`)

// effects: one per idempotency key and kind of call; Issue has its own rule. The same
// for each key: Disable and Revoke take effect once, whatever the number of effects
// that rekey thinks it has.
func (v *verdict) effects() {
	type once struct{ token, action, target string }
	count := map[once]int{}
	byKey := map[[2]string]int{}
	for _, c := range v.o.Calls {
		if !c.Effect {
			continue
		}
		if c.Verb == "Disable" || c.Verb == "Revoke" {
			byKey[[2]string{c.Verb, c.Key}]++
		}
		m := token.FindStringSubmatch(c.Agent)
		if m == nil {
			v.fault("%s of %s%s carries no token: %s", c.Action, c.Key, c.Target, c.Agent)
			continue
		}
		if c.Verb != "Issue" {
			count[once{m[1], c.Action, c.Target + c.Key}]++
		}
	}
	for e, n := range count {
		if n > 1 {
			v.fault("%s on %s took effect %d times under one token", e.action, e.target, n)
		}
	}
	for e, n := range byKey {
		if n > 1 {
			v.fault("%s took effect %d times on %s", e[0], n, e[1])
		}
	}
}

// replacements: of the keys that were made for a user exactly one lives, it is in the
// store and in use; every other one is dead and on record as ours.
func (v *verdict) replacements(owners []string) {
	var killed []string
	for _, e := range v.played.Events {
		if e.Type == event.EventReconciled {
			killed = append(killed, strings.Split(e.Attrs["killed"], ",")...)
		}
	}
	for _, user := range owners {
		var alive []string
		for _, k := range v.o.Keys {
			switch {
			case k.User != user || k.MintedBy != "engine":
			case k.Alive:
				alive = append(alive, k.ID)
			case !slices.Contains(killed, k.ID):
				v.fault("%s was made for %s, is %s, and no record says that it was ours", k.ID, user, k.State)
			}
		}
		if len(alive) != 1 {
			v.fault("%d replacements of %s live: %v", len(alive), user, alive)
			continue
		}
		if i := slices.IndexFunc(v.o.Stores, func(s control.Store) bool { return s.Name == user+"/aws" }); i < 0 || v.o.Stores[i].KeyID != alive[0] {
			v.fault("the store of %s does not hold its replacement %s", user, alive[0])
		}
		if i := slices.IndexFunc(v.o.Dependents, func(d control.Dependent) bool { return d.ID == "app-"+user }); i < 0 || v.o.Dependents[i].OnKey != alive[0] {
			v.fault("the dependent of %s does not use its replacement %s", user, alive[0])
		}
	}
}

// invariants are those of every drill, as far as they are about one incident alone. G4
// searches a whole data directory: see closing.
func (v *verdict) invariants(d *scenario.Drill) {
	verdict := judge.Judge(judge.Input{Drill: d, Final: v.played.Final, Events: v.played.Events, Oracle: v.o, Bundle: v.played.Bundle})
	for _, i := range verdict.Invariants {
		if i.State == judge.Violated {
			v.fault("%s: %s", i.ID, i.Detail)
		}
	}
}
