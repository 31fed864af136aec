// Package estate is the graph that rekey is told: keys, copies, dependents,
// customers, and when each was where. What providers say is added by Inspect.
// docs/estate.md describes the files and what leads where, docs/design/0020 why.
package estate

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"rekey/activities"
	"rekey/internal/plan"
	"rekey/internal/secret"
	"rekey/workflows"
)

// Load reads estate and customer files. Paths in errors are as given; a mistake is
// an error with its line. Without a Fingerprinter the files are only checked, and
// [Estate.Closure] refuses.
func Load(estates, customers []string, fp *secret.Fingerprinter) (*Estate, error) {
	if err := bounded(estates, customers); err != nil {
		return nil, err
	}
	b := newBuilder(fp)
	r := reader{take: b.take()}
	r.reset = func() {
		b = newBuilder(fp)
		r.take = b.take()
	}
	if err := r.files(estates); err != nil {
		return nil, err
	}
	for _, path := range customers {
		f, err := os.Open(path)
		if err != nil {
			return nil, fmt.Errorf("customers: %w: mend customers.files in rekey.yaml", err)
		}
		err = readCustomers(path, f, b.customer)
		_ = f.Close()
		if err != nil {
			return nil, err
		}
	}
	return b.build()
}

// bounded refuses more than the numbers of texts can name. Files that are missing
// are found when they are read.
func bounded(lists ...[]string) error {
	var total int64
	for _, path := range slices.Concat(lists...) {
		if info, err := os.Stat(path); err == nil {
			total += info.Size()
		}
	}
	if total > maxBytes {
		return fmt.Errorf("estate: the estate and customers files have %d bytes, and 4 GiB is the most: divide the estate among installations", total)
	}
	return nil
}

// Keys gives every key that the files list, in their order.
func (e *Estate) Keys() []Key {
	out := make([]Key, 0, len(e.order))
	for _, n := range e.order {
		out = append(out, e.listed(n))
	}
	return out
}

// Key finds a key that the files list by its provider's id.
func (e *Estate) Key(id string) (Key, bool) {
	n, ok := e.keys.find(id)
	if !ok || e.nodes[n].class == 0 {
		return Key{}, false
	}
	return e.listed(n), true
}

func (e *Estate) listed(n uint32) Key {
	x := e.nodes[n]
	c, life := e.classes[x.class-1], e.spans[x.life]
	k := Key{ID: e.keys.at(n), Provider: c.provider, Account: c.account, Kind: c.kind, Owner: e.word(x.owner), Issued: timeOf(life.from), Retired: timeOf(life.until)}
	if x.parent > 0 {
		k.Parent = e.keys.at(x.parent - 1)
	}
	if x.spki > 0 {
		k.SPKI = e.spkis.at(x.spki - 1)
	}
	for _, p := range e.opens.of(n) {
		k.Opens = append(k.Opens, e.places.at(p))
	}
	return k
}

// word gives a text by its number and one.
func (e *Estate) word(n uint32) string {
	if n == 0 {
		return ""
	}
	return e.words.at(n - 1)
}

// timeOf gives a bound of a span; an open one is the zero time.
func timeOf(ms int64) time.Time {
	if ms == begin || ms == never {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

// Live counts the keys of an account that are not retired at that time.
func (e *Estate) Live(provider, account string, now time.Time) int {
	live := 0
	for _, n := range e.order {
		if c := e.classes[e.nodes[n].class-1]; c.provider == provider && c.account == account && !e.retired(n, now.UnixMilli()) {
			live++
		}
	}
	return live
}

func (e *Estate) retired(n uint32, now int64) bool { return now >= e.spans[e.nodes[n].life].until }

// alike gives the keys that are one item with n, itself among them: those with the
// same public key.
func (e *Estate) alike(n uint32, room *[1]uint32) []uint32 {
	if s := e.nodes[n].spki; s > 0 {
		return e.same.of(s - 1)
	}
	room[0] = n
	return room[:]
}

// state is what an estate says of an item.
type state int

const (
	unlisted state = iota // no entry in keys: it may be live
	retired
	live
)

// state of the item that n is, and the entry to show for it. A public key that is
// served somewhere is live, whatever was retired.
func (e *Estate) state(n uint32, now int64) (state, uint32) {
	x := e.nodes[n]
	if x.class == 0 {
		return unlisted, n
	}
	var room [1]uint32
	alike := e.alike(n, &room)
	for _, m := range alike {
		if !e.retired(m, now) {
			return live, m
		}
	}
	for _, p := range e.placements(n) {
		if e.spans[p.span].has(now) {
			return live, alike[len(alike)-1]
		}
	}
	return retired, n
}

// placements of the public key that n is.
func (e *Estate) placements(n uint32) []placement {
	s := e.nodes[n].spki
	if s == 0 {
		return nil
	}
	return e.served[e.servedOf[s-1]:e.servedOf[s]]
}

// fingerprint of a key that the files list.
func (e *Estate) fingerprint(n uint32) (string, error) {
	x := e.nodes[n]
	if x.spki > 0 {
		return "spki_" + e.spkis.at(x.spki-1), nil
	}
	c := e.classes[x.class-1]
	fp, err := e.fp.Public(c.provider, c.account, c.kind, e.keys.at(n))
	if err != nil {
		return "", fmt.Errorf("estate: key %s: %w", e.keys.at(n), err)
	}
	return fp, nil
}

// find gives the number of an item's key: by its id, or by its public key, which may
// have come under another id than the files know.
func (e *Estate) find(k activities.Key) (uint32, bool) {
	if n, ok := e.keys.find(k.ID); ok {
		return n, true
	}
	if digits, ok := strings.CutPrefix(k.FP, "spki_"); ok {
		if s, ok := e.spkis.find(digits); ok && len(e.same.of(s)) > 0 {
			return e.same.of(s)[0], true
		}
	}
	return 0, false
}

// Describe adds to an item what the estate says of it at that time.
func (e *Estate) Describe(s *workflows.Scoped, now time.Time) {
	s.Dependents, s.Customers, s.Copies = nil, nil, nil
	n, ok := e.find(s.Key)
	listed := ok && e.nodes[n].class > 0
	var room [1]uint32
	var alike []uint32
	if ok {
		alike = e.alike(n, &room)
	}
	owner := uint32(0)
	for _, m := range alike {
		if x := e.nodes[m].owner; owner == 0 || m == n && x > 0 {
			owner = x
		}
	}
	switch {
	case owner > 0:
		s.Owner, s.OwnerKind = e.word(owner), "team"
	case listed:
		s.OwnerKind = "none"
	case s.Reading != nil && s.Reading.Owner != "":
		s.Owner, s.OwnerKind = s.Reading.Owner, "team"
	}
	if !ok {
		return
	}
	at := now.UnixMilli()
	dirty, stores := false, false
	copies := once{to: &s.Copies}
	for _, m := range alike {
		for _, d := range e.usersOf.of(m) {
			u := e.dependents[d]
			s.Dependents = append(s.Dependents, plan.Dependent{ID: e.words.at(u.id), Owner: e.word(u.owner), BudgetMs: u.budgetMs, Cutover: cutovers[u.cutover], Proof: proofs[u.proof]})
		}
		for _, c := range e.customers.of(m) {
			if ref := e.words.at(c); !slices.Contains(s.Customers, ref) {
				s.Customers = append(s.Customers, ref)
			}
		}
		for _, c := range e.copies[e.copiesOf[m]:e.copiesOf[m+1]] {
			if !e.spans[c.span].has(at) {
				continue
			}
			copies.add(e.places.at(c.where))
			if c.store > 0 {
				stores = true
				dirty = dirty || c.dirty
			}
		}
	}
	for _, p := range e.placements(n) {
		if e.spans[p.span].has(at) {
			copies.add(e.words.at(p.endpoint))
		}
	}
	if stores {
		s.StoreDirty = &dirty
	}
}

// once appends what is not in a list yet. A long one is looked up.
type once struct {
	to   *[]string
	have map[string]bool
}

func (o *once) add(s string) {
	const few = 16
	switch {
	case len(*o.to) < few:
		if slices.Contains(*o.to, s) {
			return
		}
	case o.have == nil:
		o.have = map[string]bool{}
		for _, v := range *o.to {
			o.have[v] = true
		}
		fallthrough
	default:
		if o.have[s] {
			return
		}
		o.have[s] = true
	}
	*o.to = append(*o.to, s)
}

// Age is how long ago t was, in whole days.
func Age(t, now time.Time) int64 {
	if t.IsZero() || t.After(now) {
		return 0
	}
	return int64(now.Sub(t) / (24 * time.Hour))
}
