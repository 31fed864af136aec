package estate_test

import (
	"slices"
	"strings"
	"time"

	"rekey/internal/estate"
)

// oracle answers what leads where by the plainest reading of the rules, with no
// regard for cost: every pair of keys is looked at.
type oracle struct {
	f    estate.File
	from []string            // ids
	seen map[string][]string // places that reports name, by id
	now  time.Time

	entry map[string]estate.Key      // by id
	alike map[string][]string        // ids by item
	held  map[string]map[string]bool // items by place, as they are asked for
}

// A way is how one key leads to another.
type way struct{ why, place string }

func (o *oracle) listed(id string) (estate.Key, bool) {
	if o.entry == nil {
		o.entry, o.alike, o.held = map[string]estate.Key{}, map[string][]string{}, map[string]map[string]bool{}
		for _, k := range o.f.Keys {
			o.entry[k.ID] = k
			o.alike[o.item(k.ID)] = append(o.alike[o.item(k.ID)], k.ID)
		}
	}
	k, ok := o.entry[id]
	return k, ok
}

// item is what an id is one of: its public key, or itself.
func (o *oracle) item(id string) string {
	if k, ok := o.listed(id); ok && k.SPKI != "" {
		return k.SPKI
	}
	return id
}

// ids are all keys that are an item.
func (o *oracle) ids(item string) []string {
	if ids := o.alike[item]; len(ids) > 0 {
		return ids
	}
	return []string{item}
}

func during(from, until, t time.Time) bool {
	return !t.Before(from) && (until.IsZero() || t.Before(until))
}

// state is live, retired or unlisted.
func (o *oracle) state(item string) string {
	out := "unlisted"
	for _, id := range o.ids(item) {
		if k, ok := o.listed(id); ok {
			if k.Retired.IsZero() || o.now.Before(k.Retired) {
				return "live"
			}
			out = "retired"
		}
	}
	for _, p := range o.f.Placements {
		if p.SPKI == item && during(p.From, p.Until, o.now) && out != "unlisted" {
			return "live"
		}
	}
	return out
}

func together(a, b estate.Copy) bool {
	return (b.Until.IsZero() || a.From.Before(b.Until)) && (a.Until.IsZero() || b.From.Before(a.Until))
}

// holds gives the items that a place held, by its name as reports write it.
func (o *oracle) holds(place string) map[string]bool {
	if out, ok := o.held[place]; ok {
		return out
	}
	out := map[string]bool{}
	o.held[place] = out
	for _, c := range o.f.Copies {
		if c.Where == place {
			out[o.item(c.Key)] = true
		}
	}
	of, at := "", time.Time{}
	if base, when, ok := strings.Cut(place, "@"); ok {
		of = base
		at, _ = time.Parse(time.RFC3339, when)
	}
	for _, s := range o.f.Snapshots {
		if "snapshot/"+s.ID == place {
			of, at = s.Of, s.At
		}
	}
	for _, c := range o.f.Copies {
		if of != "" && c.Where == of && during(c.From, c.Until, at) {
			out[o.item(c.Key)] = true
		}
	}
	return out
}

// ways are how an item leads to another in one step.
func (o *oracle) ways(a, b string) []way {
	var out []way
	ids, to := o.ids(a), o.ids(b)
	given := slices.ContainsFunc(ids, func(id string) bool { return slices.Contains(o.from, id) })
	for _, k := range o.f.Keys {
		if slices.Contains(to, k.ID) && slices.Contains(ids, k.Parent) {
			out = append(out, way{why: "made"})
		}
	}
	for _, id := range ids {
		for _, place := range o.seen[id] {
			if o.holds(place)[b] {
				out = append(out, way{"named", place})
			}
		}
	}
	if o.state(a) == "retired" && !given {
		return out
	}
	for _, c := range o.f.Copies {
		if !slices.Contains(ids, c.Key) || !c.Registered {
			continue
		}
		for _, d := range o.f.Copies {
			if slices.Contains(to, d.Key) && d.Where == c.Where && together(c, d) {
				out = append(out, way{"kept", c.Where})
			}
		}
		if strings.HasPrefix(c.Where, "snapshot/") && o.holds(c.Where)[b] {
			out = append(out, way{"kept", c.Where})
		}
	}
	for _, id := range ids {
		k, _ := o.listed(id)
		for _, place := range k.Opens {
			if o.holds(place)[b] {
				out = append(out, way{"opened", place})
			}
		}
	}
	return out
}

// everything gives all items.
func (o *oracle) everything() []string {
	seen := map[string]bool{}
	for _, k := range o.f.Keys {
		seen[o.item(k.ID)] = true
	}
	for _, c := range o.f.Copies {
		seen[o.item(c.Key)] = true
	}
	out := make([]string, 0, len(seen))
	for item := range seen {
		out = append(out, item)
	}
	slices.Sort(out)
	return out
}

// steps gives the fewest steps to every item that can be reached.
func (o *oracle) steps() map[string]int {
	out := map[string]int{}
	for _, id := range o.from {
		out[o.item(id)] = 0
	}
	all := o.everything()
	for n := 0; ; n++ {
		grew := false
		for a, at := range out {
			if at != n {
				continue
			}
			for _, b := range all {
				if _, ok := out[b]; !ok && len(o.ways(a, b)) > 0 {
					out[b], grew = n+1, true
				}
			}
		}
		if !grew {
			return out
		}
	}
}
