package estate

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"rekey/activities"
	"rekey/workflows"
)

// How a key was reached.
type how uint8

const (
	kept   how = iota // at a place where the key before it is kept
	named             // at a place where a report saw a copy of the key before it
	opened            // at a place that the key before it opens
	made              // from the key before it
)

// A walk is one closure under way.
type walk struct {
	e     *Estate
	now   int64
	limit int            // of steps; below 0: none
	from  []From         // by fingerprint
	roots map[uint32]int // keys that were given, by their place in from
	// steps, depth, pred, via and how are by key. steps is one more than it says: 0
	// means that nothing leads there. pred is the key before, or beyond the keys the
	// place in from of an item given; via a place, or beyond them one of sources.
	steps, depth []int32
	pred, via    []uint32
	how          []how
	queue        []uint32
	sources      []source
	done         []bool // places whose copies were all gone through
	left         map[uint32]*remaining
	viewed       map[view]bool
	said         Summary
	begins       [][6]byte // of the fingerprints of keys, what people see of them
	lines        map[string]bool
}

func (e *Estate) walk(from []From, limit int, now time.Time) *walk {
	keys := e.keys.len()
	w := &walk{
		e: e, now: now.UnixMilli(), limit: limit, from: slices.Clone(from), roots: map[uint32]int{},
		steps: make([]int32, keys), depth: make([]int32, keys), pred: make([]uint32, keys), via: make([]uint32, keys), how: make([]how, keys),
		done: make([]bool, e.places.len()), left: map[uint32]*remaining{}, viewed: map[view]bool{}, lines: map[string]bool{},
	}
	slices.SortStableFunc(w.from, func(a, b From) int { return cmp.Compare(a.Item.Key.FP, b.Item.Key.FP) })
	w.from = slices.CompactFunc(w.from, func(a, b From) bool { return a.Item.Key.FP == b.Item.Key.FP })
	for i, f := range w.from {
		if n, ok := e.find(f.Item.Key); ok && w.steps[n] == 0 {
			w.roots[n] = i
			w.mark(n, 1, int32(f.Item.Depth), w.root(i), 0, kept) //nolint:gosec // bounded by the playbook's depth
		}
	}
	w.named()
	for i := 0; i < len(w.queue); i++ {
		w.leave(w.queue[i])
	}
	return w
}

// root is how pred names an item given.
func (w *walk) root(i int) uint32 { return uint32(w.e.keys.len() + i) } //nolint:gosec // bounded by the size of the files

// given gives the item that a pred names, if it is one.
func (w *walk) given(pred uint32) (workflows.Scoped, bool) {
	if i := int(pred) - w.e.keys.len(); i >= 0 {
		return w.from[i].Item, true
	}
	i, ok := w.roots[pred]
	if !ok {
		return workflows.Scoped{}, false
	}
	return w.from[i].Item, true
}

// mark notes that a key is reached, and with it those that are the same.
func (w *walk) mark(n uint32, steps, depth int32, pred, via uint32, by how) {
	var room [1]uint32
	for _, m := range w.e.alike(n, &room) {
		w.steps[m], w.depth[m], w.pred[m], w.via[m], w.how[m] = steps, depth, pred, via, by
	}
	w.queue = append(w.queue, n)
}

// reach comes to a key from another.
func (w *walk) reach(n, pred, via uint32, by how) {
	if w.steps[n] > 0 {
		return
	}
	if s, ok := w.given(pred); ok {
		w.mark(n, 2, int32(s.Depth)+1, pred, via, by) //nolint:gosec // bounded by the playbook's depth
		return
	}
	w.mark(n, w.steps[pred]+1, w.depth[pred]+1, pred, via, by)
}

// named goes to the places that reports name. The reported keys need not be known.
func (w *walk) named() {
	for i, f := range w.from {
		for _, name := range f.Places {
			s, lack := w.e.source(name)
			if lack != "" {
				w.unseen(lack)
				continue
			}
			held := w.held(s)
			w.said.Named = append(w.said.Named, held)
			if held.Held == 0 {
				w.unseen(fmt.Sprintf("what was %s is unknown: the estate names nothing that was there then", w.e.title(s)))
			}
			if int(s.place) < w.e.places.len() {
				w.visit(s.place, always, w.root(i), named)
				continue
			}
			w.sources = append(w.sources, s)
			w.look(s.view, w.root(i), uint32(w.e.places.len()+len(w.sources)-1), named) //nolint:gosec // reports name few places
		}
	}
}

// held counts what a place held that a report names.
func (w *walk) held(s source) NamedPlace {
	out := NamedPlace{Name: s.name}
	seen := map[uint32]bool{}
	count := func(n uint32) {
		var room [1]uint32
		first := w.e.alike(n, &room)[0]
		if seen[first] {
			return
		}
		seen[first] = true
		out.Held++
		switch st, _ := w.e.state(n, w.now); st {
		case live:
			out.Live++
		case retired:
			out.Retired++
		case unlisted:
			out.Unlisted++
		}
	}
	for _, c := range w.e.heldAt.of(s.place) {
		count(w.e.copies[c].key)
	}
	if s.dated {
		for _, c := range w.e.heldAt.of(s.view.of) {
			if w.e.spans[w.e.copies[c].span].has(s.view.at) {
				count(w.e.copies[c].key)
			}
		}
	}
	return out
}

// leave goes on from a key. A retired one that nobody reported leads only to what
// was made from it: that lives on, while its own copies are worth nothing.
func (w *walk) leave(n uint32) {
	st, _ := w.e.state(n, w.now)
	_, given := w.roots[n]
	var room [1]uint32
	for _, m := range w.e.alike(n, &room) {
		if st != retired || given {
			for _, c := range w.e.copies[w.e.copiesOf[m]:w.e.copiesOf[m+1]] {
				if c.registered {
					w.visit(c.where, w.e.spans[c.span], n, kept)
				}
			}
			for _, p := range w.e.opens.of(m) {
				w.visit(p, always, n, opened)
			}
		}
		for _, c := range w.e.children.of(m) {
			w.reach(c, n, 0, made)
		}
	}
}

// visit goes to the keys that lay at a place some time in s.
func (w *walk) visit(p uint32, s span, pred uint32, by how) {
	w.gaps(p, s, pred)
	switch all := s == always || !w.e.dated[p]; {
	case w.done[p]:
	case all:
		w.done[p] = true
		for _, c := range w.e.heldAt.of(p) {
			w.reach(w.e.copies[c].key, pred, p, by)
		}
	default:
		if w.left[p] == nil {
			w.left[p] = w.e.remaining(p)
		}
		w.left[p].takeOut(s, func(c uint32) { w.reach(w.e.copies[c].key, pred, p, by) })
	}
	if v, ok := w.e.views[p]; ok {
		w.look(v, pred, p, by)
	}
}

// look goes to the keys that lay at a place at one time.
func (w *walk) look(v view, pred, via uint32, by how) {
	if w.viewed[v] {
		return
	}
	w.viewed[v] = true
	if _, ok := w.given(pred); ok || w.within(w.steps[pred]+1) {
		if gap, ok := w.e.gapAt(v.of, v.at, w.now); ok {
			w.said.Dark = append(w.said.Dark, gap)
		}
	}
	for _, c := range w.e.heldAt.of(v.of) {
		if w.e.spans[w.e.copies[c].span].has(v.at) {
			w.reach(w.e.copies[c].key, pred, via, by)
		}
	}
}

// gaps notes what is not on record of a place, where a key within the limit leads
// there.
func (w *walk) gaps(p uint32, s span, pred uint32) {
	if _, ok := w.given(pred); !ok && !w.within(w.steps[pred]+1) {
		return
	}
	dark, early := w.e.gaps(p, s, w.now)
	w.said.Dark = append(w.said.Dark, dark...)
	if early != begin {
		w.unseen(fmt.Sprintf("what was kept at %s before %s is not on record", w.e.places.at(p), stamp(early)))
	}
}

func (w *walk) unseen(why string) {
	if !w.lines[why] {
		w.lines[why] = true
		w.said.Unseen = append(w.said.Unseen, activities.Unseen{Source: "estate", Why: why})
	}
}
