// Package estatetest makes estates for tests and benchmarks: of any size, with
// cycles, the same for the same seed, and written as they are made, so that an estate
// of 100,000 keys costs no memory.
package estatetest

import (
	"fmt"
	"iter"
	"math/rand/v2"
	"time"

	"rekey/internal/estate"
	"rekey/playbooks"
)

// An Estate says what is to be made. The zero value of each number is none of it;
// [Usual] has numbers that are like a company's.
type Estate struct {
	Keys int
	Seed uint64
	// Islands are parts of which none leads to another. 0 is one.
	Islands int
	// KeysAPlace is how many keys lie at one place, Hubs how many places hold a
	// hundredth of an island each.
	KeysAPlace int
	Hubs       int
	// Percentages, of keys unless said else.
	Parents      int // made from another key; cycles and keys that made themselves occur
	Dependents   int // used by somebody
	Customers    int // a customer's
	Opens        int // opens a place
	Retired      int // replaced since
	Unlisted     int // keys that lie somewhere, more than Keys, and are not listed
	Certificates int // has a public key, some of them one that another key has too
	Unregistered int // of copies
	Dated        int // of copies: lay there for a time
	Doubled      int // of copies: said twice
	Owners       int // teams, not a percentage
	Snapshots    int // not a percentage
	// Provider, Account and Kind of the keys; "lab", "prod" and "key" if empty. KeyID
	// names key n; KeyID(n) if nil.
	Provider, Account, Kind string
	KeyID                   func(n int) string
}

// Usual is an estate of that many keys in islands of a hundred.
func Usual(keys int, seed uint64) Estate {
	return Estate{
		Keys: keys, Seed: seed, Islands: max(1, keys/100), KeysAPlace: 3, Hubs: 1, Parents: 20, Dependents: 60, Customers: 10, Owners: max(1, keys/50),
		Unregistered: 5, Doubled: 1,
	}
}

// Whole is an estate in which every key leads to every other.
func Whole(keys int, seed uint64) Estate {
	e := Usual(keys, seed)
	e.Islands, e.Parents, e.KeysAPlace, e.Unregistered = 1, 100, 4, 0
	return e
}

// Tangled has some of everything, for tests of what leads where.
func Tangled(keys int, seed uint64) Estate {
	return Estate{
		Keys: keys, Seed: seed, Islands: 2, KeysAPlace: 3, Hubs: 1, Parents: 30, Dependents: 50, Customers: 20, Opens: 10, Retired: 20, Unlisted: 10,
		Certificates: 20, Unregistered: 20, Dated: 50, Doubled: 10, Owners: 3, Snapshots: 4,
	}
}

// Now is the time that Dated and Retired are about: what is over, was over then.
var Now = time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)

// KeyID is how key n is called. Unlisted keys have the numbers from Keys on.
func KeyID(n int) string { return fmt.Sprintf("key-%07d", n) }

// ID is how this estate calls key n.
func (e Estate) ID(n int) string {
	if e.KeyID != nil {
		return e.KeyID(n)
	}
	return KeyID(n)
}

// random gives the numbers of one list: lists can be made one without the other.
func (e Estate) random(list uint64) *rand.Rand { return rand.New(rand.NewPCG(e.Seed, list)) }

// lists, for random.
const (
	keys = iota
	copies
	snapshots
	dependents
	placements
	customers
)

func chance(r *rand.Rand, percent int) bool { return r.IntN(100) < percent }

// near gives another key of the island of key n, mostly a close one.
func (e Estate) near(r *rand.Rand, n int) int {
	size := max(1, e.Keys/max(1, e.Islands))
	first := n / size * size
	last := min(first+size, e.Keys)
	if first >= last {
		return n % e.Keys
	}
	if chance(r, 20) {
		return first + r.IntN(last-first)
	}
	return first + (n-first+1+r.IntN(8))%(last-first)
}

func or(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// days before Now.
func days(n int) time.Time { return Now.Add(-time.Duration(n) * 24 * time.Hour) }

func spki(n int) string { return fmt.Sprintf("spki_%064x", n+1) }

// AllKeys gives the entries of keys.
func (e Estate) AllKeys() iter.Seq[estate.Key] {
	return func(yield func(estate.Key) bool) {
		r := e.random(keys)
		for n := range e.Keys {
			k := estate.Key{ID: e.ID(n), Provider: or(e.Provider, "lab"), Account: or(e.Account, "prod"), Kind: or(e.Kind, "key")}
			if e.Owners > 0 && !chance(r, 5) {
				k.Owner = fmt.Sprintf("team-%d", r.IntN(e.Owners))
			}
			if chance(r, e.Parents) {
				k.Parent = e.ID(e.near(r, n))
			}
			if chance(r, e.Opens) {
				k.Opens = []string{e.place(r, e.near(r, n))}
				if e.Snapshots > 0 && chance(r, 20) {
					k.Opens = append(k.Opens, fmt.Sprintf("snapshot/s-%d", r.IntN(e.Snapshots)))
				}
			}
			if chance(r, e.Certificates) {
				k.SPKI = spki(e.near(r, n) / 2)
			}
			if chance(r, e.Retired) {
				k.Retired = days(1 + r.IntN(300))
			}
			if !yield(k) {
				return
			}
		}
	}
}

// place is where key n lies, or where most of its island lies.
func (e Estate) place(r *rand.Rand, n int) string {
	size := max(1, e.Keys/max(1, e.Islands))
	if e.Hubs > 0 && chance(r, 1) {
		return fmt.Sprintf("vault/hub-%d-%d", n/size, r.IntN(e.Hubs))
	}
	return fmt.Sprintf("host/h-%d-%d", n/size, n%size/max(1, e.KeysAPlace))
}

// AllCopies gives the entries of copies: each key lies at one or two places.
func (e Estate) AllCopies() iter.Seq[estate.Copy] {
	return func(yield func(estate.Copy) bool) {
		if e.KeysAPlace == 0 {
			return
		}
		r := e.random(copies)
		for n := range e.Keys + e.Keys*e.Unlisted/100 {
			for copy := range 1 + r.IntN(2) {
				at := n
				if n >= e.Keys || copy > 0 {
					at = e.near(r, n)
				}
				c := estate.Copy{Key: e.ID(n), Where: e.place(r, at), Registered: !chance(r, e.Unregistered)}
				if chance(r, 20) {
					c.Store = "awssm"
					c.Zone = []string{"", "clean", "dirty"}[r.IntN(3)]
				}
				if chance(r, e.Dated) {
					c.From = days(100 + r.IntN(300))
					if chance(r, 50) {
						c.Until = days(1 + r.IntN(99))
					} else if chance(r, 50) {
						c.Until = c.From.Add(time.Duration(1+r.IntN(50)) * 24 * time.Hour)
					}
				}
				if !yield(c) || chance(r, e.Doubled) && !yield(c) {
					return
				}
			}
		}
	}
}

// AllSnapshots gives the entries of snapshots, "s-0" and on.
func (e Estate) AllSnapshots() iter.Seq[estate.Snapshot] {
	return func(yield func(estate.Snapshot) bool) {
		r := e.random(snapshots)
		for n := range e.Snapshots {
			if !yield(estate.Snapshot{ID: fmt.Sprintf("s-%d", n), Of: e.place(r, r.IntN(e.Keys)), At: days(r.IntN(400))}) {
				return
			}
		}
	}
}

// AllDependents gives the entries of dependents, each of one to three keys.
func (e Estate) AllDependents() iter.Seq[estate.Dependent] {
	return func(yield func(estate.Dependent) bool) {
		r := e.random(dependents)
		for n := range e.Keys {
			if !chance(r, e.Dependents) {
				continue
			}
			d := estate.Dependent{ID: fmt.Sprintf("app-%d", n), Keys: []string{e.ID(n)}, Budget: playbooks.Duration(time.Duration(1+r.IntN(60)) * time.Minute), Cutover: "dual", Proof: "last-used"}
			for range r.IntN(3) {
				d.Keys = append(d.Keys, e.ID(e.near(r, n)))
			}
			if e.Owners > 0 {
				d.Owner = fmt.Sprintf("team-%d", r.IntN(e.Owners))
			}
			if !yield(d) {
				return
			}
		}
	}
}

// AllPlacements gives the entries of placements, of half of the public keys.
func (e Estate) AllPlacements() iter.Seq[estate.Placement] {
	return func(yield func(estate.Placement) bool) {
		if e.Certificates == 0 {
			return
		}
		r := e.random(placements)
		for n := range e.Keys / 2 {
			if !chance(r, 50) {
				continue
			}
			p := estate.Placement{SPKI: spki(n), Endpoint: fmt.Sprintf("www-%d.example.com:443", n)}
			if chance(r, 30) {
				p.Until = days(1 + r.IntN(100))
			}
			if !yield(p) {
				return
			}
		}
	}
}

// AllCustomers gives the entries of a customers file.
func (e Estate) AllCustomers() iter.Seq[estate.Customer] {
	return func(yield func(estate.Customer) bool) {
		r := e.random(customers)
		for n := range e.Keys {
			if !chance(r, e.Customers) {
				continue
			}
			c := estate.Customer{Ref: fmt.Sprintf("C%06d", n), Name: "Example Ltd", Keys: []string{e.ID(n)}}
			if chance(r, 30) {
				c.Keys = append(c.Keys, e.ID(e.near(r, n)), e.ID(n))
			}
			if !yield(c) {
				return
			}
		}
	}
}

// File gives everything at once. It is for small estates.
func (e Estate) File() estate.File {
	var f estate.File
	collect(&f.Keys, e.AllKeys())
	collect(&f.Copies, e.AllCopies())
	collect(&f.Snapshots, e.AllSnapshots())
	collect(&f.Dependents, e.AllDependents())
	collect(&f.Placements, e.AllPlacements())
	return f
}

func collect[T any](to *[]T, from iter.Seq[T]) {
	for v := range from {
		*to = append(*to, v)
	}
}
