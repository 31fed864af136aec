package workflows

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"sort"
	"strings"
)

// Claims say which incident owns which fingerprint, in few bytes: a register carries
// them whenever it continues as new. The zero Claims are empty.
type Claims struct {
	// Incidents that own something; FPs refers to them by index.
	Incidents []string `json:"incidents,omitempty"`
	// FPs are entries of [entrySize] bytes, sorted: what tells a fingerprint from
	// the others of its register, and the index of its incident.
	FPs []byte `json:"fps,omitempty"`
}

const (
	// keySize: 15 bytes behind the first one, which all fingerprints of a register
	// share, are 120 bits of a keyed hash. Two of ten million that are equal are
	// less likely than 2^-70.
	keySize   = 15
	indexSize = 3 // up to 16.7 million incidents
	entrySize = keySize + indexSize
	digits    = 64 // of a fingerprint, in hex
)

// shorten gives what an entry keeps of a fingerprint. One that is not an HMAC of the
// installation ("spki_…", whatever comes later) is hashed with its name, so that the
// kinds cannot meet.
func shorten(fp string) [keySize]byte {
	var out [keySize]byte
	if hexes, ok := strings.CutPrefix(fp, "fp1_"); ok && len(hexes) == digits {
		if raw, err := hex.DecodeString(hexes[2 : 2+2*keySize]); err == nil {
			return [keySize]byte(raw)
		}
	}
	sum := sha256.Sum256([]byte("register\x00" + fp))
	copy(out[:], sum[:])
	return out
}

// Len is how many fingerprints are claimed.
func (c *Claims) Len() int { return len(c.FPs) / entrySize }

func (c *Claims) entry(i int) []byte { return c.FPs[i*entrySize : (i+1)*entrySize] }

// find gives the place of a key, or where it belongs.
func (c *Claims) find(key [keySize]byte) (int, bool) {
	return sort.Find(c.Len(), func(i int) int { return strings.Compare(string(key[:]), string(c.entry(i)[:keySize])) })
}

// Owner tells whose a fingerprint is.
func (c *Claims) Owner(fp string) (string, bool) {
	i, ok := c.find(shorten(fp))
	if !ok {
		return "", false
	}
	e := c.entry(i)
	return c.Incidents[int(e[keySize])|int(e[keySize+1])<<8|int(e[keySize+2])<<16], true
}

// index gives the number of an incident, a new one where it has none.
func (c *Claims) index(incident string) [indexSize]byte {
	i := slices.Index(c.Incidents, incident)
	if i < 0 {
		i = len(c.Incidents)
		c.Incidents = append(c.Incidents, incident)
	}
	return indexOf(i)
}

func indexOf(i int) [indexSize]byte {
	return [indexSize]byte{byte(i), byte(i >> 8), byte(i >> 16)} //nolint:gosec // a number below 2^24
}

// add gives fingerprints that nobody owns to an incident, and tells how many those
// were: one that is named twice is one.
func (c *Claims) add(fps []string, incident string) int {
	if len(fps) == 0 {
		return 0
	}
	keys := make([][keySize]byte, 0, len(fps))
	for _, fp := range fps {
		keys = append(keys, shorten(fp))
	}
	slices.SortFunc(keys, func(a, b [keySize]byte) int { return strings.Compare(string(a[:]), string(b[:])) })
	keys = slices.Compact(keys)
	owner := c.index(incident)
	merged := make([]byte, 0, len(c.FPs)+len(keys)*entrySize)
	done := 0
	for _, key := range keys {
		at, _ := c.find(key)
		merged = append(merged, c.FPs[done*entrySize:at*entrySize]...)
		merged = append(append(merged, key[:]...), owner[:]...)
		done = at
	}
	c.FPs = append(merged, c.FPs[done*entrySize:]...)
	return len(keys)
}

// move gives a fingerprint that has an owner to another one.
func (c *Claims) move(fp, incident string) {
	if i, ok := c.find(shorten(fp)); ok {
		owner := c.index(incident)
		c.FPs = slices.Clone(c.FPs) // what was handed on is not changed
		copy(c.entry(i)[keySize:], owner[:])
	}
}

// adopt takes over what a build before carried.
func (c *Claims) adopt(owners map[string]string) {
	if len(owners) == 0 {
		return
	}
	// Both loops give what is sorted behind them.
	//workflowcheck:ignore
	for _, incident := range owners {
		c.Incidents = append(c.Incidents, incident)
	}
	slices.Sort(c.Incidents)
	c.Incidents = slices.Compact(c.Incidents)
	entries := make([]string, 0, len(owners))
	//workflowcheck:ignore
	for fp, incident := range owners {
		key := shorten(fp)
		i, _ := slices.BinarySearch(c.Incidents, incident)
		at := indexOf(i)
		entries = append(entries, string(key[:])+string(at[:]))
	}
	slices.Sort(entries)
	c.FPs = []byte(strings.Join(entries, ""))
}
