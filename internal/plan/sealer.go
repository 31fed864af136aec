package plan

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"slices"
	"strconv"

	"rekey/internal/canon"
)

// A Sealer makes the hash of a wave whose items are never in memory together: the same
// hash that [Wave.Seal] sets.
type Sealer struct {
	h    hash.Hash
	tail string
	last string
	n    int
}

// NewSealer begins the hash of w, whose Items are left out.
func NewSealer(w Wave) (*Sealer, error) {
	// The canonical form has the names in order (RFC 8785 section 3.2.3), so what stands
	// before and after the items is known already.
	gates := slices.Sorted(slices.Values(w.Gates))
	if gates == nil {
		gates = []string{}
	}
	head, err := canon.JSON(map[string]any{"batch": w.Batch, "gates": gates})
	if err != nil {
		return nil, fmt.Errorf("plan: %w", err)
	}
	tail, err := canon.JSON(map[string]any{"playbook": w.Playbook, "strategy": w.Strategy})
	if err != nil {
		return nil, fmt.Errorf("plan: %w", err)
	}
	s := &Sealer{h: sha256.New(), tail: "]," + string(tail[1:])}
	s.h.Write(append(head[:len(head)-1], `,"items":[`...))
	return s, nil
}

// Add takes the next item, in the order of fingerprints.
func (s *Sealer) Add(it Item) error {
	if it.Key.FP <= s.last {
		return fmt.Errorf("plan: item %s comes after %s: items are sealed in the order of fingerprints", strconv.Quote(it.Key.FP), strconv.Quote(s.last))
	}
	b, err := canonical(it)
	if err != nil {
		return fmt.Errorf("plan: %w", err)
	}
	if s.n > 0 {
		s.h.Write([]byte{','})
	}
	s.h.Write(b)
	s.last = it.Key.FP
	s.n++
	return nil
}

// Sum ends the hash and gives it.
func (s *Sealer) Sum() string {
	s.h.Write([]byte(s.tail))
	return "sha256:" + hex.EncodeToString(s.h.Sum(nil))
}
