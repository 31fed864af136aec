package estate

import (
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	"rekey/activities"
)

// splitPlace reads "PLACE@TIME": a place as it was at a time, a day (its first
// moment in UTC) or an RFC 3339 time. ok is false for a plain place, whose name may
// hold an @ too.
func splitPlace(name string) (place string, at int64, ok bool) {
	i := strings.LastIndexByte(name, '@')
	if i < 1 {
		return "", 0, false
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, name[i+1:]); err == nil {
			if _, _, again := splitPlace(name[:i]); again {
				return "", 0, false
			}
			return name[:i], t.UnixMilli(), true
		}
	}
	return "", 0, false
}

// stamp writes a time for people.
func stamp(ms int64) string { return time.UnixMilli(ms).UTC().Format(time.RFC3339) }

// A source of keys in a walk: a place, or a place as of a time.
type source struct {
	place uint32 // whose copies are meant as well; the number of places: none
	view  view
	dated bool // view is set
	name  string
}

// source finds what a report names. ok is false where the estate has nothing about
// it; why says what it lacks.
func (e *Estate) source(name string) (s source, why string) {
	s = source{place: uint32(e.places.len()), name: name} //nolint:gosec // bounded by the size of the files
	if p, ok := e.places.find(name); ok {
		s.place = p
		s.view, s.dated = e.views[p]
		if s.dated || len(e.heldAt.of(p)) > 0 {
			return s, ""
		}
	}
	if base, at, ok := splitPlace(name); ok {
		p, ok := e.places.find(base)
		if _, isView := e.views[p]; ok && isView {
			return s, fmt.Sprintf("%s names a time, and %s is as of a time itself: report one of them", name, base)
		}
		if ok && len(e.heldAt.of(p)) > 0 {
			s.view, s.dated = view{of: p, at: at}, true
			return s, ""
		}
	}
	if strings.HasPrefix(name, snapshotPrefix) {
		return s, fmt.Sprintf("what %s held is unknown: no `snapshots` entry of the estate files names it", name)
	}
	return s, fmt.Sprintf("what else is kept at %s is unknown: no copy of the estate files names it", name)
}

// title is how people read a source.
func (e *Estate) title(s source) string {
	switch {
	case !s.dated:
		return "kept at " + s.name
	case strings.HasPrefix(s.name, snapshotPrefix):
		return fmt.Sprintf("in %s, %s as of %s", s.name, e.places.at(s.view.of), stamp(s.view.at))
	}
	return fmt.Sprintf("kept at %s as of %s", e.places.at(s.view.of), stamp(s.view.at))
}

// sinceUnknown tells that a key counts as held at a time because nothing says when
// it came.
func (e *Estate) sinceUnknown(n uint32, v view) bool {
	unknown := false
	var room [1]uint32
	for _, m := range e.alike(n, &room) {
		for _, c := range e.copies[e.copiesOf[m]:e.copiesOf[m+1]] {
			if s := e.spans[c.span]; c.where == v.of && s.has(v.at) {
				if s.from != begin {
					return false
				}
				unknown = true
			}
		}
	}
	return unknown
}

// gaps gives the parts of a span, up to now, in which what a place held is not on
// record, as windows. early is the beginning of the record where the span has no
// beginning itself: what was before it has no first day.
func (e *Estate) gaps(p uint32, s span, now int64) (dark []activities.Window, early int64) {
	known := e.known[p]
	if len(known) == 0 {
		return nil, begin
	}
	early = begin
	end := min(s.until, now)
	from := s.from
	add := func(until int64) {
		until = min(until, end)
		if from >= until {
			return
		}
		if from == begin {
			early = until
			return
		}
		dark = append(dark, activities.Window{From: timeOf(from), To: timeOf(until), Source: "estate " + e.places.at(p)})
	}
	for _, k := range known {
		add(k.from)
		from = max(from, k.until)
	}
	add(never)
	return dark, early
}

// gapAt gives the window without a record in which a time lies.
func (e *Estate) gapAt(p uint32, t, now int64) (activities.Window, bool) {
	known := e.known[p]
	if len(known) == 0 || t >= now || slices.ContainsFunc(known, func(k span) bool { return k.has(t) }) {
		return activities.Window{}, false
	}
	from, until := int64(begin), now
	for _, k := range known {
		if k.until <= t {
			from = max(from, k.until)
		} else {
			until = min(until, k.from)
		}
	}
	if from == begin {
		from = t // before the record begins: from the time that was asked for
	}
	return activities.Window{From: timeOf(from), To: timeOf(until), Source: "estate " + e.places.at(p)}, true
}

// remaining are the copies at a place that no walk has come to yet, found by the time
// in which they lay there. Taking all of n copies out costs n log n, in whatever
// order the times ask for them.
type remaining struct {
	copies []uint32 // by the beginning of their span
	from   []int64
	latest []int64 // a heap-shaped tree of the latest ends
	leaves int
}

func (e *Estate) remaining(p uint32) *remaining {
	r := &remaining{copies: slices.Clone(e.heldAt.of(p)), leaves: 1}
	begins := func(c uint32) int64 { return e.spans[e.copies[c].span].from }
	sort.SliceStable(r.copies, func(i, j int) bool { return begins(r.copies[i]) < begins(r.copies[j]) })
	for r.leaves < len(r.copies) {
		r.leaves *= 2
	}
	r.latest = make([]int64, 2*r.leaves)
	for i := range r.latest {
		r.latest[i] = begin
	}
	for i, c := range r.copies {
		r.from = append(r.from, begins(c))
		r.latest[r.leaves+i] = e.spans[e.copies[c].span].until
	}
	for i := r.leaves - 1; i > 0; i-- {
		r.latest[i] = max(r.latest[2*i], r.latest[2*i+1])
	}
	return r
}

// takeOut takes the copies out that lay there some time in s.
func (r *remaining) takeOut(s span, f func(copy uint32)) {
	before := sort.Search(len(r.from), func(i int) bool { return r.from[i] >= s.until })
	r.under(1, 0, r.leaves, before, s.from, f)
}

// under goes through a part of the tree: its leaves are those from first on.
func (r *remaining) under(at, first, n, before int, after int64, f func(uint32)) {
	if first >= before || r.latest[at] <= after {
		return
	}
	if n == 1 {
		r.latest[at] = begin
		f(r.copies[first])
		return
	}
	r.under(2*at, first, n/2, before, after, f)
	r.under(2*at+1, first+n/2, n/2, before, after, f)
	r.latest[at] = max(r.latest[2*at], r.latest[2*at+1])
}
