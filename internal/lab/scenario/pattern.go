package scenario

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// A placeholder of `generate` is a number, and what is done to it:
//
//	{n}        the number of the object, counted from `from`
//	{i}        its place among those made by this entry, counted from 1
//	{n/3}      the number of its group where three that follow each other make one, from 1
//	{i/2+60}   the same, counted from 61
//	{n:03}     written with at least three digits
var placeholder = regexp.MustCompile(`\{([ni])(?:/([1-9]\d{0,6}))?(?:\+(\d{1,7}))?(?::0([1-9]))?\}`)

// badPattern says what is wrong with a pattern: anything in braces that is no placeholder.
func badPattern(pattern string) error {
	if rest := placeholder.ReplaceAllString(pattern, ""); strings.ContainsAny(rest, "{}") {
		return fmt.Errorf("%q: write {n}, {i}, {n/3}, {i/2+60} or {n:03}", pattern)
	}
	return nil
}

// numbered tells whether what a pattern gives differs from object to object.
func numbered(pattern string) bool {
	for _, m := range placeholder.FindAllStringSubmatch(pattern, -1) {
		if m[2] == "" {
			return true
		}
	}
	return false
}

// fill writes the numbers into a pattern.
func fill(pattern string, n, i int) string {
	return placeholder.ReplaceAllStringFunc(pattern, func(found string) string {
		m := placeholder.FindStringSubmatch(found)
		v := n
		if m[1] == "i" {
			v = i
		}
		if m[2] != "" {
			by, _ := strconv.Atoi(m[2])
			v = (v + by - 1) / by
		}
		add, _ := strconv.Atoi(m[3])
		width, _ := strconv.Atoi(m[4])
		return fmt.Sprintf("%0*d", width, v+add)
	})
}

// each calls f with the number and the place of everything an entry makes at a scale.
func (g Generate) each(scale int, f func(n, i int)) {
	left := map[int]bool{}
	for _, n := range g.Except {
		left[n] = true
	}
	for i := 1; i <= g.Count*max(scale, 1); i++ {
		if n := max(g.From, 1) + i - 1; !left[n] {
			f(n, i)
		}
	}
}

// idPattern is the scenario id of what is generated.
func (g Generate) idPattern() string {
	if g.ID != "" {
		return g.ID
	}
	return "key-" + g.User
}

// GeneratedKeys gives the keys that `generate` makes at a scale (1 = as written).
func (d *Drill) GeneratedKeys(scale int) []Key {
	var out []Key
	for _, g := range d.Estate.Generate {
		if g.Kind != "key" {
			continue
		}
		id := g.idPattern()
		g.each(scale, func(n, i int) {
			k := Key{ID: fill(id, n, i), User: fill(g.User, n, i), Policy: g.Policy, Owner: fill(g.Owner, n, i), Issued: g.Issued, State: g.State}
			if k.Policy == "" {
				k.Policy = "ReadOnlyAccess"
			}
			out = append(out, k)
		})
	}
	return out
}

// AllKeys gives the keys of the estate, those that are named and those that are made.
func (d *Drill) AllKeys(scale int) []Key {
	return append(append([]Key{}, d.Estate.Keys...), d.GeneratedKeys(scale)...)
}

// AllCopies gives the copies of the estate, those that are named and those of generated keys.
func (d *Drill) AllCopies(scale int) []Copy {
	out := append([]Copy{}, d.Estate.Copies...)
	for _, g := range d.Estate.Generate {
		if g.Kind != "key" || g.Where == "" {
			continue
		}
		id := g.idPattern()
		g.each(scale, func(n, i int) {
			out = append(out, Copy{Key: fill(id, n, i), Where: fill(g.Where, n, i), Registered: true})
		})
	}
	return out
}

// AllDependents gives the dependents of the estate, those that are named and those that are made.
// t0 is when the world starts: times that are spread over a span are fixed here.
func (d *Drill) AllDependents(scale int, t0 time.Time) []Dependent {
	out := append([]Dependent{}, d.Estate.Dependents...)
	for _, g := range d.Estate.Generate {
		if g.Kind != "dependent" {
			continue
		}
		count := g.Count * max(scale, 1)
		g.each(scale, func(n, i int) {
			dep := Dependent{ID: fill(g.ID, n, i), Owner: fill(g.Owner, n, i), OutageBudget: g.OutageBudget, Cutover: g.Cutover, Proof: g.Proof,
				Every: g.Every, Store: fill(g.Store, n, i), Calls: g.Calls, Past: g.Past}
			for _, k := range g.Keys {
				dep.Keys = append(dep.Keys, fill(k, n, i))
			}
			if !g.Moves.IsZero() {
				dep.Moves = g.Moves.at(i-1, count, t0)
			}
			out = append(out, dep)
		})
	}
	return out
}
