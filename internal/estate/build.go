package estate

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"rekey/internal/secret"
)

// An Estate answers what is known of keys. It is immutable and safe for concurrent
// use. It is laid out for 100,000 keys and more: everything has a number, lists of
// numbers stand in one piece of memory, and each text is kept once.
type Estate struct {
	fp *secret.Fingerprinter
	// keys are the ids of all keys that the files mention, also those that only a
	// copy, a dependent or a customer names; places and words are the other texts.
	keys, places, words, spkis *names

	nodes   []node   // by key
	order   []uint32 // keys that the files list, as they do
	classes []class
	spans   []span // 0 is always

	copies     []held   // by key, in the order of the files
	copiesOf   []uint32 // by key: where its copies begin
	heldAt     edges    // place -> copies
	dated      []bool   // by place: some copy there has a From or Until
	children   edges    // key -> keys made from it
	opens      edges    // key -> places
	dependents []user
	usersOf    edges // key -> dependents
	customers  edges // key -> words
	served     []placement
	servedOf   []uint32 // by SPKI: where its placements begin
	same       edges    // SPKI -> keys that are it
	views      map[uint32]view
	known      map[uint32][]span // by place: when its copies are all on record
}

// A node is a key. Numbers are one more than they say, so that 0 is none.
type node struct {
	class, owner, parent, spki uint32
	life                       uint32 // span from Issued to Retired
}

// A class is what many keys have in common.
type class struct{ provider, account, kind string }

// held is a copy.
type held struct {
	key, where, store uint32 // store: a word and one, 0 is none
	span              uint32
	registered, dirty bool
}

// user is a dependent.
type user struct {
	id, owner      uint32 // words; owner and one
	budgetMs       int64
	cutover, proof uint8 // in cutovers and proofs
}

type placement struct{ spki, endpoint, span uint32 }

// A view is a place as it was at a time: a snapshot, or "PLACE@TIME".
type view struct {
	of uint32
	at int64
}

// A span of time in Unix milliseconds: from is in it, until is not.
type span struct{ from, until int64 }

const (
	begin = -1 << 63
	never = 1<<63 - 1
)

var always = span{begin, never}

func spanOf(from, until time.Time) span {
	s := always
	if !from.IsZero() {
		s.from = from.UnixMilli()
	}
	if !until.IsZero() {
		s.until = until.UnixMilli()
	}
	return s
}

func (s span) has(t int64) bool { return s.from <= t && t < s.until }

// edges are lists of numbers by number.
type edges struct{ off, to []uint32 }

func (e edges) of(i uint32) []uint32 {
	if int(i)+1 >= len(e.off) {
		return nil
	}
	return e.to[e.off[i]:e.off[i+1]]
}

// edgesOf sorts pairs by their first number and keeps the order of the second. A
// pair that follows its like is dropped.
func edgesOf(n int, pairs [][2]uint32) edges {
	if len(pairs) == 0 {
		return edges{}
	}
	e := edges{off: offsets(n, len(pairs), func(i int) uint32 { return pairs[i][0] }), to: make([]uint32, len(pairs))}
	next := slices.Clone(e.off)
	for _, p := range pairs {
		e.to[next[p[0]]] = p[1]
		next[p[0]]++
	}
	kept := uint32(0)
	for i := range n {
		row := e.to[e.off[i]:e.off[i+1]]
		e.off[i] = kept
		for k, v := range row {
			if k == 0 || row[k-1] != v {
				e.to[kept] = v
				kept++
			}
		}
	}
	e.off[n] = kept
	e.to = e.to[:kept:kept]
	return e
}

// offsets counts m things by their number below n and gives where each begins.
func offsets(n, m int, of func(int) uint32) []uint32 {
	off := make([]uint32, n+1)
	for i := range m {
		off[of(i)+1]++
	}
	for i := range n {
		off[i+1] += off[i]
	}
	return off
}

// grouped sorts things by their number and keeps their order else.
func grouped[T any](n int, list []T, of func(T) uint32) ([]T, []uint32) {
	off := offsets(n, len(list), func(i int) uint32 { return of(list[i]) })
	next, out := slices.Clone(off), make([]T, len(list))
	for _, v := range list {
		out[next[of(v)]] = v
		next[of(v)]++
	}
	return out, off
}

// A builder gathers what files say, in any order.
type builder struct {
	e                                   *Estate
	classOf                             map[class]uint32
	spanOf                              map[span]uint32
	opens, users, customers             [][2]uint32
	owners, customerRefs, snapshotNames map[string]bool
}

func newBuilder(fp *secret.Fingerprinter) *builder {
	return &builder{
		e: &Estate{
			fp: fp, keys: newNames(), places: newNames(), words: newNames(), spkis: newNames(),
			spans: []span{always}, views: map[uint32]view{}, known: map[uint32][]span{},
		},
		classOf: map[class]uint32{}, spanOf: map[span]uint32{always: 0},
		owners: map[string]bool{}, customerRefs: map[string]bool{}, snapshotNames: map[string]bool{},
	}
}

// take gives the entries of files to the builder.
func (b *builder) take() map[string]func(func(any) error) error {
	return map[string]func(func(any) error) error{
		listKeys:       taker(b.key),
		listCopies:     taker(b.copy),
		listPlaces:     taker(b.place),
		listSnapshots:  taker(b.snapshot),
		listDependents: taker(b.dependent),
		listPlacements: taker(b.placement),
		listOwners:     taker(b.owner),
	}
}

// taker decodes an entry, checks it and hands it on.
func taker[T interface{ check() error }](add func(T) error) func(func(any) error) error {
	return func(decode func(any) error) error {
		var v T
		if err := decode(&v); err != nil {
			return err
		}
		if err := v.check(); err != nil {
			return err
		}
		return add(v)
	}
}

// node numbers a key. A place is numbered by [names.add] alone.
func (b *builder) node(id string) uint32 {
	n := b.e.keys.add(id)
	if int(n) == len(b.e.nodes) {
		b.e.nodes = append(b.e.nodes, node{})
	}
	return n
}

// word numbers a text that may be empty: 0 is none.
func (b *builder) word(s string) uint32 {
	if s == "" {
		return 0
	}
	return b.e.words.add(s) + 1
}

func (b *builder) span(from, until time.Time) uint32 {
	s := spanOf(from, until)
	n, ok := b.spanOf[s]
	if !ok {
		n = uint32(len(b.e.spans)) //nolint:gosec // bounded by the size of the files
		b.e.spans, b.spanOf[s] = append(b.e.spans, s), n
	}
	return n
}

func (b *builder) spki(s string) (uint32, error) {
	bare, err := bareSPKI(s)
	if err != nil {
		return 0, err
	}
	return b.e.spkis.add(bare), nil
}

func (b *builder) key(k Key) error {
	n := b.node(k.ID)
	if b.e.nodes[n].class > 0 {
		return fmt.Errorf("key %s is named twice", k.ID)
	}
	c := class{k.Provider, k.Account, k.Kind}
	if b.classOf[c] == 0 {
		c = class{strings.Clone(c.provider), strings.Clone(c.account), strings.Clone(c.kind)}
		b.e.classes = append(b.e.classes, c)
		b.classOf[c] = uint32(len(b.e.classes)) //nolint:gosec // bounded by the size of the files
	}
	to := node{class: b.classOf[c], owner: b.word(k.Owner), life: b.span(k.Issued, k.Retired)}
	if k.SPKI != "" {
		spki, err := b.spki(k.SPKI)
		if err != nil {
			return err
		}
		to.spki = spki + 1
	}
	if k.Parent != "" {
		to.parent = b.node(k.Parent) + 1
	}
	b.e.nodes[n] = to
	b.e.order = append(b.e.order, n)
	for _, place := range k.Opens {
		b.opens = append(b.opens, [2]uint32{n, b.e.places.add(place)})
	}
	return nil
}

func (b *builder) copy(c Copy) error {
	b.e.copies = append(b.e.copies, held{
		key: b.node(c.Key), where: b.e.places.add(c.Where), store: b.word(c.Store), span: b.span(c.From, c.Until),
		registered: c.Registered, dirty: c.Zone == "dirty",
	})
	return nil
}

func (b *builder) place(p Place) error {
	n := b.e.places.add(p.Where)
	b.e.known[n] = append(b.e.known[n], spanOf(p.KnownFrom, p.KnownUntil))
	return nil
}

func (b *builder) snapshot(s Snapshot) error {
	if b.snapshotNames[s.ID] {
		return fmt.Errorf("snapshot %s is named twice", s.ID)
	}
	b.snapshotNames[s.ID] = true
	b.e.views[b.e.places.add(snapshotPrefix+s.ID)] = view{of: b.e.places.add(s.Of), at: s.At.UnixMilli()}
	return nil
}

func (b *builder) dependent(d Dependent) error {
	n := uint32(len(b.e.dependents)) //nolint:gosec // bounded by the size of the files
	b.e.dependents = append(b.e.dependents, user{
		id: b.e.words.add(d.ID), owner: b.word(d.Owner), budgetMs: d.Budget.Std().Milliseconds(),
		cutover: uint8(slices.Index(cutovers, d.Cutover)), proof: uint8(slices.Index(proofs, d.Proof)), //nolint:gosec // checked
	})
	for _, k := range d.Keys {
		b.users = append(b.users, [2]uint32{b.node(k), n})
	}
	return nil
}

func (b *builder) placement(p Placement) error {
	spki, err := b.spki(p.SPKI)
	if err != nil {
		return err
	}
	b.e.served = append(b.e.served, placement{spki: spki, endpoint: b.e.words.add(p.Endpoint), span: b.span(p.From, p.Until)})
	return nil
}

// owner finds mistakes only: contacts are read again when somebody is told.
func (b *builder) owner(o Owner) error {
	if b.owners[o.Ref] {
		return twice("owner", o.Ref)
	}
	b.owners[o.Ref] = true
	return nil
}

func (b *builder) customer(c Customer) error {
	if b.customerRefs[c.Ref] {
		return twice("customer", c.Ref)
	}
	b.customerRefs[c.Ref] = true
	ref := b.e.words.add(c.Ref)
	for _, k := range c.Keys {
		b.customers = append(b.customers, [2]uint32{b.node(k), ref})
	}
	return nil
}

// build puts everything where it is found.
func (b *builder) build() (*Estate, error) {
	e := b.e
	if err := b.times(); err != nil {
		return nil, err
	}
	keys, places := e.keys.len(), e.places.len()
	e.copies, e.copiesOf = grouped(keys, e.copies, func(c held) uint32 { return c.key })
	at := make([][2]uint32, len(e.copies))
	e.dated = make([]bool, places)
	for i, c := range e.copies {
		at[i] = [2]uint32{c.where, uint32(i)}
		e.dated[c.where] = e.dated[c.where] || c.span > 0
	}
	e.heldAt = edgesOf(places, at)
	var children, same [][2]uint32
	for _, n := range e.order {
		if p := e.nodes[n].parent; p > 0 {
			children = append(children, [2]uint32{p - 1, n})
		}
		if s := e.nodes[n].spki; s > 0 {
			same = append(same, [2]uint32{s - 1, n})
		}
	}
	e.children, e.same = edgesOf(keys, children), edgesOf(e.spkis.len(), same)
	e.opens, e.usersOf, e.customers = edgesOf(keys, b.opens), edgesOf(keys, b.users), edgesOf(keys, b.customers)
	e.served, e.servedOf = grouped(e.spkis.len(), e.served, func(p placement) uint32 { return p.spki })
	for _, n := range []*names{e.keys, e.places, e.words, e.spkis} {
		n.pack()
	}
	e.nodes, e.order, e.dependents, e.spans = slices.Clone(e.nodes), slices.Clone(e.order), slices.Clone(e.dependents), slices.Clone(e.spans)
	for _, spans := range e.known {
		slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	}
	return e, nil
}

// times makes views of the places that are named with a time, "PLACE@TIME".
func (b *builder) times() error {
	for i := range b.e.places.len() {
		p := uint32(i)
		if base, at, ok := splitPlace(b.e.places.at(p)); ok {
			b.e.views[p] = view{of: b.e.places.add(base), at: at}
		}
	}
	for p, v := range b.e.views {
		if _, ok := b.e.views[v.of]; ok {
			return fmt.Errorf("estate: %s is as of a time of %s, which is as of a time itself: name the place", b.e.places.at(p), b.e.places.at(v.of))
		}
	}
	return nil
}

func twice(audience, ref string) error {
	return fmt.Errorf("%s %s is named twice: keep one", audience, ref)
}
