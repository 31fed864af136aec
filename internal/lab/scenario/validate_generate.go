package scenario

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// maxGenerated bounds what one entry of `generate` makes.
const maxGenerated = 1_000_000

// ids are the scenario's ids of keys: the named ones, and, once somebody asks for another one,
// those that are made.
type ids struct {
	drill *Drill
	named map[string]bool
	made  map[string]bool
}

func (k *ids) has(id string) bool { return k.named[id] || k.generated()[id] }

func (k *ids) generated() map[string]bool {
	if k.made == nil {
		k.made = map[string]bool{}
		for _, g := range k.drill.Estate.Generate {
			// An entry that is refused, for its size too, makes nothing.
			if g.Kind == "key" && g.Count <= maxGenerated {
				g.each(1, func(n, i int) { k.made[fill(g.idPattern(), n, i)] = true })
			}
		}
	}
	return k.made
}

// list gives ids to suggest one from: of very many, the named ones.
func (k *ids) list() []string {
	out := slices.Sorted(maps.Keys(k.named))
	if len(k.generated()) <= 1000 {
		out = append(out, slices.Sorted(maps.Keys(k.made))...)
	}
	return out
}

func (d *decoder) generate(e *Estate, known *ids) {
	makes := map[string]string{} // id -> the entry that makes it
	for id := range known.named {
		makes["key "+id] = "exists"
	}
	for _, dep := range e.Dependents {
		makes["dependent "+dep.ID] = "exists"
	}
	for i, g := range e.Generate {
		at := fmt.Sprintf("estate.generate[%d]", i)
		before := len(d.problems)
		d.required(at+".kind", g.Kind)
		d.oneOf(at+".kind", g.Kind, "key", "dependent")
		if g.Count < 1 || g.Count > maxGenerated {
			d.reject(at+".count", "must be 1 to %d, is %d", maxGenerated, g.Count)
		}
		if g.From < 0 {
			d.reject(at+".from", "counts from 1")
		}
		for name, pattern := range map[string]string{"id": g.ID, "user": g.User, "owner": g.Owner, "where": g.Where, "store": g.Store} {
			if err := badPattern(pattern); err != nil {
				d.reject(at+"."+name, "%s", err)
			}
		}
		switch g.Kind {
		case "key":
			d.generateKeys(at, g)
		case "dependent":
			d.generateDependents(at, g, known)
		}
		if len(d.problems) > before {
			continue
		}
		id := g.idPattern()
		g.each(1, func(n, i int) {
			name := g.Kind + " " + fill(id, n, i)
			if by, twice := makes[name]; twice && len(d.problems) == before {
				if by != "exists" {
					by = "is made by " + by
				}
				d.reject(at, "makes %s, which %s", strings.Replace(name, " ", ` "`, 1)+`"`, by)
			}
			makes[name] = at
		})
	}
}

func (d *decoder) generateKeys(at string, g Generate) {
	if !numbered(g.User) || !userPattern.MatchString(fill(g.User, 1, 1)) {
		d.reject(at+".user", "%q: an IAM user name with {n} in it", g.User)
	}
	if g.ID != "" && !numbered(g.ID) {
		d.reject(at+".id", "%q: without {n} every key would have the same id", g.ID)
	}
	d.oneOf(at+".policy", g.Policy, Policies...)
	d.oneOf(at+".state", g.State, "exposed", "unrelated")
	if len(g.Keys) > 0 || g.Store != "" || g.Cutover != "" || g.Proof != "" || g.Every != 0 || g.OutageBudget != 0 || len(g.Calls) > 0 || !g.Moves.IsZero() || g.Past != (Past{}) {
		d.reject(at, "keys, store, cutover, proof, every, outage_budget, calls, moves and past belong to kind: dependent")
	}
}

func (d *decoder) generateDependents(at string, g Generate, known *ids) {
	if g.User != "" || g.Policy != "" || g.State != "" || g.Where != "" || !g.Issued.IsZero() {
		d.reject(at, "user, policy, state, where and issued belong to kind: key")
	}
	if !numbered(g.ID) {
		d.reject(at+".id", "%q: without {n} every dependent would have the same id", g.ID)
	}
	if len(g.Keys) == 0 {
		d.reject(at+".keys", "is missing: a dependent uses at least one key")
	}
	if g.Owner == "" && g.Store == "" {
		d.reject(at+".owner", "is missing: its store is named after it (or give store)")
	}
	for j, pattern := range g.Keys {
		path := fmt.Sprintf("%s.keys[%d]", at, j)
		if err := badPattern(pattern); err != nil {
			d.reject(path, "%s", err)
			continue
		}
		before := len(d.problems)
		if g.Count <= maxGenerated {
			g.each(1, func(n, i int) {
				if id := fill(pattern, n, i); len(d.problems) == before && !known.has(id) {
					d.refersKey(path, id, known)
				}
			})
		}
	}
	d.oneOf(at+".cutover", g.Cutover, "dual", "hot", "restart")
	d.oneOf(at+".proof", g.Proof, "last-used", "probe", "attest")
	if g.Every < 0 || g.OutageBudget < 0 {
		d.reject(at, "every and outage_budget cannot be negative")
	}
	if g.Moves.From.IsZero() != g.Moves.To.IsZero() {
		d.reject(at+".moves", "needs from and to, or one time")
	}
	d.past(at, g.Past)
	for j, c := range g.Calls {
		if !actionPattern.MatchString(c) {
			d.reject(fmt.Sprintf("%s.calls[%d]", at, j), "%q: write iam:ListUsers", c)
		}
	}
}

func (d *decoder) past(at string, p Past) {
	if p.Times < 0 || p.Every < 0 || (p.Times == 0) != (p.Every == 0) {
		d.reject(at+".past", "needs every and times")
	}
}
