package estate

import (
	"hash/maphash"
	"slices"
	"strings"
)

// names numbers texts: each is kept once, in one piece of memory, and is 0, 1, 2, …
// by the order in which it came first. A text costs its bytes and about 12 more.
type names struct {
	text *strings.Builder
	all  string   // text, as long as it is
	end  []uint32 // of each text in all
	// slots is an open hash table of numbers+1.
	slots []uint32
	seed  maphash.Seed
}

func newNames() *names {
	return &names{text: &strings.Builder{}, slots: make([]uint32, 16), seed: maphash.MakeSeed()}
}

func (n *names) len() int { return len(n.end) }

// at gives a text by its number.
func (n *names) at(i uint32) string {
	from := uint32(0)
	if i > 0 {
		from = n.end[i-1]
	}
	return n.all[from:n.end[i]]
}

// find gives the number of a text.
func (n *names) find(s string) (uint32, bool) {
	slot := n.slots[n.slot(s)]
	return slot - 1, slot > 0
}

// add gives the number of a text, which is kept if it is new.
func (n *names) add(s string) uint32 {
	i := n.slot(s)
	if n.slots[i] > 0 {
		return n.slots[i] - 1
	}
	n.text.WriteString(s)
	n.all = n.text.String()
	n.end = append(n.end, uint32(len(n.all))) //nolint:gosec // Load refuses files of 4 GiB and more
	n.slots[i] = uint32(len(n.end))           //nolint:gosec // there are no more texts than bytes
	if len(n.end)*4 > len(n.slots)*3 {
		n.slots = make([]uint32, 2*len(n.slots))
		for k := range n.end {
			n.slots[n.slot(n.at(uint32(k)))] = uint32(k + 1)
		}
	}
	return uint32(len(n.end) - 1) //nolint:gosec // as above
}

// slot is where a text is, or would be.
func (n *names) slot(s string) int {
	mask := len(n.slots) - 1
	for i := int(maphash.String(n.seed, s)) & mask; ; i = (i + 1) & mask { //nolint:gosec // the low bits of a hash
		if k := n.slots[i]; k == 0 || n.at(k-1) == s {
			return i
		}
	}
}

// pack gives back the memory that growing had taken. Nothing is added afterwards.
func (n *names) pack() {
	n.all, n.text = strings.Clone(n.all), nil
	n.end = slices.Clip(slices.Clone(n.end))
}
