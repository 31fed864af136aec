// Package plan turns items and a playbook into what will be done: a strategy per
// item, waves, the exact calls, who breaks. A plan is data; its hash is what
// people approve.
package plan

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"sort"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"rekey/activities"
	"rekey/internal/canon"
	"rekey/playbooks"
)

// A Plan is one version of what will be done.
type Plan struct {
	Version int    `json:"version"`
	Hash    string `json:"hash"`
	Waves   []Wave `json:"waves"`
	// Decisions are per item, sorted by fingerprint.
	Decisions []Decision `json:"decisions"`
	Calls     int        `json:"calls"`
	ETAMs     int64      `json:"eta_ms"`
	Breaks    []Break    `json:"breaks"`
	// Customers is the digest of the customers files, "" without any. It is not part
	// of the hash: a mended address voids no vote.
	Customers string `json:"customers,omitempty"`
}

// A Wave is the items that move together under one approval.
type Wave struct {
	N        int                    `json:"n"`
	Hash     string                 `json:"hash"`
	Strategy playbooks.StrategyName `json:"strategy"`
	Items    []Item                 `json:"items"`
	Gates    []string               `json:"gates,omitempty"`
	Batch    int                    `json:"batch"`
	// Playbook is the digest of the playbook that decided.
	Playbook string `json:"playbook"`
	// List is set where the items are rows of pages (docs/design/0017): the hash of
	// their list; Count is how many they are, Verbs the calls that the plan has for
	// any of them. Items is then empty, and Hash is set by whoever has read them: the same
	// hash as if they stood here.
	List  string   `json:"list,omitempty"`
	Count int      `json:"count,omitempty"`
	Verbs []string `json:"verbs,omitempty"`
	// First are the first of them with their exact calls, for people to read; the others
	// are laid out by the same rules. It is not part of the hash.
	First []Item `json:"first,omitempty"`
	// Calls and ETAMs are what the wave costs by itself, where its items are rows.
	Calls int   `json:"calls,omitempty"`
	ETAMs int64 `json:"eta_ms,omitempty"`
}

// Size is how many items move in the wave.
func (w *Wave) Size() int {
	if w.List != "" {
		return w.Count
	}
	return len(w.Items)
}

// An Item is one key in a wave, with everything that will be done to it.
type Item struct {
	Key        activities.Key `json:"key"`
	Secret     string         `json:"-"`
	Calls      []Call         `json:"calls"`
	Rungs      []Rung         `json:"rungs,omitempty"`
	Dependents []Dependent    `json:"dependents,omitempty"`
	Stores     []Store        `json:"stores,omitempty"`
	Roles      []string       `json:"roles,omitempty"`
	// Adopt is false when nobody needs a replacement.
	Adopt bool   `json:"adopt"`
	Owner string `json:"owner,omitempty"`
	// Customers are refs of those who must be told.
	Customers []string `json:"customers,omitempty"`
	// Harden are the Bind networks, when the playbook asks for them.
	Harden []string `json:"harden,omitempty"`
}

// A Call is one step as it will be made.
type Call struct {
	Verb    string   `json:"verb"`
	Support string   `json:"support"`
	Vendor  []string `json:"vendor,omitempty"`
	Target  string   `json:"target,omitempty"`
}

// A Rung is one step of the kill ladder with its calls and price.
type Rung struct {
	Name string `json:"name"`
	// Approved tells whether climbing to it inside this wave needs no further
	// vote.
	Approved bool   `json:"approved"`
	Calls    []Call `json:"calls"`
	Price    string `json:"price"`
}

// A Dependent uses the key.
type Dependent struct {
	ID       string `json:"id"`
	Owner    string `json:"owner,omitempty"`
	BudgetMs int64  `json:"outage_budget_ms"`
	Cutover  string `json:"cutover"`
	Proof    string `json:"proof"`
}

// A Store is where the replacement goes.
type Store struct {
	Target string `json:"target"`
	Name   string `json:"name"`
}

// A Break is a dependent that this plan interrupts.
type Break struct {
	Dependent string `json:"dependent"`
	Owner     string `json:"owner,omitempty"`
	OutageMs  int64  `json:"outage_ms"`
	BudgetMs  int64  `json:"budget_ms"`
	Why       string `json:"why"`
}

// A Decision says which rule chose an item's strategy and what it read.
type Decision struct {
	FP       string                 `json:"fp"`
	Rule     string                 `json:"rule"`
	Strategy playbooks.StrategyName `json:"strategy"`
	Facts    map[string]string      `json:"facts,omitempty"`
	// Skipped are earlier rules that an unknown fact made false: rule id -> why.
	Skipped map[string]string `json:"skipped,omitempty"`
}

// hashed is what a wave's hash covers: no clock time, run id or attempt.
type hashed struct {
	Items    []Item                 `json:"items"`
	Strategy playbooks.StrategyName `json:"strategy"`
	Gates    []string               `json:"gates"`
	Batch    int                    `json:"batch"`
	Playbook string                 `json:"playbook"`
}

// Seal sorts the wave's items by fingerprint and sets its hash (contracts
// section 0). The wave's number is not part of it: the same items under the same
// calls have the same hash wherever they stand.
func (w *Wave) Seal() error {
	if w.List != "" {
		return nil
	}
	sort.Slice(w.Items, func(i, j int) bool { return w.Items[i].Key.FP < w.Items[j].Key.FP })
	gates := append([]string{}, w.Gates...)
	sort.Strings(gates)
	h, err := canon.HashOf(hashed{Items: w.Items, Strategy: w.Strategy, Gates: gates, Batch: w.Batch, Playbook: w.Playbook})
	if err != nil {
		return fmt.Errorf("plan: %w", err)
	}
	w.Hash = h
	return nil
}

// Seal sets the plan's hash: the RFC 6962 Merkle root over the waves' hashes.
func (p *Plan) Seal() error {
	hashes := make([]tlog.Hash, 0, len(p.Waves)*2)
	read := tlog.HashReaderFunc(func(ix []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(ix))
		for i, n := range ix {
			out[i] = hashes[n]
		}
		return out, nil
	})
	for i := range p.Waves {
		if err := p.Waves[i].Seal(); err != nil {
			return err
		}
		hs, err := tlog.StoredHashes(int64(i), []byte(p.Waves[i].Hash), read)
		if err != nil {
			return fmt.Errorf("plan: %w", err)
		}
		hashes = append(hashes, hs...)
	}
	if len(p.Waves) == 0 {
		sum := sha256.Sum256(nil) // RFC 6962 section 2.1: the hash of an empty list
		p.Hash = "sha256:" + hex.EncodeToString(sum[:])
		return nil
	}
	root, err := tlog.TreeHash(int64(len(p.Waves)), read)
	if err != nil {
		return fmt.Errorf("plan: %w", err)
	}
	p.Hash = "sha256:" + hex.EncodeToString(root[:])
	return nil
}

// Wave finds a wave by its hash.
func (p *Plan) Wave(hash string) (Wave, bool) {
	for _, w := range p.Waves {
		if w.Hash == hash {
			return w, true
		}
	}
	return Wave{}, false
}

// Decision finds an item's decision.
func (p *Plan) Decision(fp string) (Decision, bool) {
	i := sort.Search(len(p.Decisions), func(i int) bool { return p.Decisions[i].FP >= fp })
	if i < len(p.Decisions) && p.Decisions[i].FP == fp {
		return p.Decisions[i], true
	}
	return Decision{}, false
}

// Rung finds a rung of an item.
func (it Item) Rung(name string) (Rung, bool) {
	for _, r := range it.Rungs {
		if r.Name == name {
			return r, true
		}
	}
	return Rung{}, false
}

// Describe gives the wave in one line for people. Its number is not in it: that is
// settled later.
func (w Wave) Describe() string {
	verbs := w.Verbs
	if len(w.Items) > 0 {
		for _, c := range w.Items[0].Calls {
			verbs = append(verbs, c.Verb)
		}
	}
	return fmt.Sprintf("%s of %d item(s): %s", w.Strategy, w.Size(), strings.Join(verbs, ", "))
}
