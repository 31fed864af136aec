package estate

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"rekey/activities"
	"rekey/workflows"
)

// From is where a closure begins: an item, and the places where reports say that a
// copy of it was seen. A place is named as in the copies of an estate file;
// "snapshot/ID" is a snapshot, and "PLACE@TIME" the place as it was then.
type From struct {
	Item   workflows.Scoped
	Places []string
}

// Unlimited steps go as far as anything leads.
const Unlimited = -1

// A Summary is what a closure says as a whole. Observed .. Reachable is the interval
// of what is in question (design section 2, scope).
type Summary struct {
	// Observed counts the items that were given and those reached in as many steps as
	// were asked for, Reachable those reached in any number of steps.
	Observed  int
	Reachable int
	// Retired and Unlisted were reached in as many steps as were asked for and are no
	// items: the estate calls them retired, or nothing in `keys` says what they are.
	Retired  int
	Unlisted int
	// Placements counts where the public keys among the observed are served.
	Placements int
	// Named says what the places held that reports name.
	Named []NamedPlace
	// Unseen is what the estate cannot tell of the places on those ways, Dark when what
	// they held is not on record. Both are bounded; the last line says how many were
	// left out.
	Unseen []activities.Unseen
	Dark   []activities.Window
}

// A NamedPlace is a place that a report names. Held is Live, Retired and Unlisted
// together.
type NamedPlace struct {
	Name                          string
	Held, Live, Retired, Unlisted int
}

// mostSaid bounds the lines of a summary.
const mostSaid = 50

// Closure follows the estate from items: to the keys kept at the same places at the
// same time, to what a key opens, to what was made from it, and so on (docs/design/0020).
// It goes breadth first, so each key comes with a shortest way to it as its Why; which
// of several, depends on the order of the files and the fingerprints of the items, and
// is the same each time. Cycles are safe.
//
// yield gets every item once, in the order of fingerprints, with what the estate says
// of it at that time: the items given, and the keys that are live within so many
// steps. It may be nil. When it answers false, Closure stops and gives the summary.
//
// It needs about 25 bytes for each key of the estate, and 36 for each item while it
// yields. It can be called at the same time by many.
func (e *Estate) Closure(from []From, steps int, now time.Time, yield func(workflows.Scoped) bool) (Summary, error) {
	if e.fp == nil {
		return Summary{}, errors.New("estate: it was loaded to be checked, without the installation key")
	}
	w := e.walk(from, steps, now)
	s := w.summary()
	if yield == nil {
		return s, nil
	}
	return s, w.yield(yield)
}

// summary counts what was reached.
func (w *walk) summary() Summary {
	s := &w.said
	s.Observed, s.Reachable = len(w.from), len(w.from)
	var names []string
	for n := range w.items() {
		st, _ := w.e.state(n, w.now)
		given, within := w.steps[n] == 1, w.within(w.steps[n])
		switch {
		case given:
		case st == live && within:
			s.Reachable++
			s.Observed++
		case st == live:
			s.Reachable++
			continue
		case !within:
			continue
		case st == retired:
			s.Retired++
			continue
		default:
			s.Unlisted++
			if len(names) < 3 {
				names = append(names, w.e.keys.at(n))
			}
			continue
		}
		for _, p := range w.e.placements(n) {
			if w.e.spans[p.span].has(w.now) {
				s.Placements++
			}
		}
	}
	if s.Retired > 0 {
		w.unseen(fmt.Sprintf("%d keys that this leads to are retired, as the estate files say: no provider was asked about them", s.Retired))
	}
	if s.Unlisted > 0 {
		more := ""
		if s.Unlisted > len(names) {
			more = ", …"
		}
		w.unseen(fmt.Sprintf("%d keys that this leads to are not listed under keys of the estate files, and may be live (%s%s): list them", s.Unlisted, strings.Join(names, ", "), more))
	}
	s.Dark = merged(s.Dark)
	if over := len(s.Dark) - mostSaid; over > 0 {
		s.Dark = s.Dark[:mostSaid]
		w.unseen(fmt.Sprintf("%d more times in which what places held is not on record", over))
	}
	if over := len(s.Unseen) - mostSaid; over > 0 {
		s.Unseen = append(s.Unseen[:mostSaid-1], activities.Unseen{Source: "estate", Why: fmt.Sprintf("%d more things that the estate cannot tell", over+1)})
	}
	return *s
}

// merged puts windows of one source together where they touch. They come by time.
func merged(windows []activities.Window) []activities.Window {
	slices.SortFunc(windows, func(a, b activities.Window) int {
		return cmp.Or(cmp.Compare(a.Source, b.Source), a.From.Compare(b.From))
	})
	var out []activities.Window
	for _, d := range windows {
		if n := len(out) - 1; n >= 0 && out[n].Source == d.Source && !d.From.After(out[n].To) {
			if d.To.After(out[n].To) {
				out[n].To = d.To
			}
			continue
		}
		out = append(out, d)
	}
	slices.SortStableFunc(out, func(a, b activities.Window) int { return a.From.Compare(b.From) })
	return out
}

// items goes through the reached items, by one key of each.
func (w *walk) items() iter.Seq[uint32] {
	return func(yield func(uint32) bool) {
		for i, steps := range w.steps {
			n := uint32(i)
			var room [1]uint32
			if steps > 0 && w.e.alike(n, &room)[0] == n && !yield(n) {
				return
			}
		}
	}
}

// within tells whether steps, as walk has them, are as many as were asked for.
func (w *walk) within(steps int32) bool { return w.limit < 0 || int(steps)-1 <= w.limit }

// found is an item to be yielded: its fingerprint in bytes.
type found struct {
	fp   [32]byte
	spki bool
	n    uint32
}

func (f found) String() string {
	var room [len("spki_") + 64]byte
	b := append(room[:0], "fp1_"...)
	if f.spki {
		b = append(room[:0], "spki_"...)
	}
	return string(hex.AppendEncode(b, f.fp[:]))
}

// yield gives the items in the order of their fingerprints.
func (w *walk) yield(yield func(workflows.Scoped) bool) error {
	var list []found
	w.begins = make([][6]byte, len(w.steps))
	for n := range w.items() {
		st, shown := w.e.state(n, w.now)
		if w.steps[n] == 1 || st != live || !w.within(w.steps[n]) {
			continue
		}
		fp, err := w.e.fingerprint(shown)
		if err != nil {
			return err
		}
		f := found{n: shown, spki: strings.HasPrefix(fp, "spki_")}
		if _, err := hex.Decode(f.fp[:], []byte(fp[strings.IndexByte(fp, '_')+1:])); err != nil {
			return fmt.Errorf("estate: key %s: %w", w.e.keys.at(shown), err)
		}
		var room [1]uint32
		for _, m := range w.e.alike(n, &room) {
			w.begins[m] = [6]byte(f.fp[:6])
		}
		list = append(list, f)
	}
	slices.SortFunc(list, func(a, b found) int {
		if a.spki != b.spki {
			return cmp.Compare(a.String(), b.String())
		}
		return bytes.Compare(a.fp[:], b.fp[:])
	})
	given := w.from
	next := func(s workflows.Scoped) bool {
		w.e.Describe(&s, time.UnixMilli(w.now))
		return yield(s)
	}
	for _, f := range list {
		fp := f.String()
		for ; len(given) > 0 && given[0].Item.Key.FP < fp; given = given[1:] {
			if !next(given[0].Item) {
				return nil
			}
		}
		c := w.e.classes[w.e.nodes[f.n].class-1]
		key := activities.Key{FP: fp, Provider: c.provider, Account: c.account, Kind: c.kind, ID: w.e.keys.at(f.n)}
		why, err := w.why(f.n)
		if err != nil {
			return err
		}
		if !next(workflows.Scoped{Key: key, Basis: "estate", Why: why, Depth: int(w.depth[f.n])}) {
			return nil
		}
	}
	for _, g := range given {
		if !next(g.Item) {
			return nil
		}
	}
	return nil
}

// why says how a key was reached.
func (w *walk) why(n uint32) (string, error) {
	who, err := w.who(w.pred[n])
	if err != nil || w.how[n] == made {
		return "made from " + who, err
	}
	where := w.at(w.via[n])
	text := w.e.title(where)
	if where.dated && w.e.sinceUnknown(n, where.view) {
		text += " (since when is not on record)"
	}
	switch w.how[n] {
	case named:
		return text + ", where a report saw a copy of " + who, nil
	case opened:
		return text + ", which " + who + " opens", nil
	}
	return text + ", as " + who, nil
}

// at is the place that a via names.
func (w *walk) at(via uint32) source {
	if i := int(via) - w.e.places.len(); i >= 0 {
		return w.sources[i]
	}
	s := source{place: via, name: w.e.places.at(via)}
	s.view, s.dated = w.e.views[via]
	return s
}

// who is how people read the key that led on.
func (w *walk) who(pred uint32) (string, error) {
	if s, ok := w.given(pred); ok {
		return s.Key.Short(), nil
	}
	if w.e.nodes[pred].class == 0 {
		return w.e.keys.at(pred) + ", which is not listed", nil
	}
	if b := w.begins[pred]; b != [6]byte{} {
		return hex.EncodeToString(b[:]), nil
	}
	fp, err := w.e.fingerprint(pred)
	return activities.Key{FP: fp}.Short(), err
}
