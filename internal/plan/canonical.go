package plan

import (
	"bytes"
	"encoding/json"

	"rekey/activities"
	"rekey/internal/canon"
)

// The types below are those of an item with their fields in the order of their JSON
// names, so that encoding/json writes the canonical form (RFC 8785) by itself: the
// general way costs five times as much, and a plan may have a million items. A test
// holds the two together.
type (
	sortedItem struct {
		Adopt      bool              `json:"adopt"`
		Calls      []sortedCall      `json:"calls"`
		Customers  []string          `json:"customers,omitempty"`
		Dependents []sortedDependent `json:"dependents,omitempty"`
		Harden     []string          `json:"harden,omitempty"`
		Key        sortedKey         `json:"key"`
		Owner      string            `json:"owner,omitempty"`
		Roles      []string          `json:"roles,omitempty"`
		Rungs      []sortedRung      `json:"rungs,omitempty"`
		Stores     []sortedStore     `json:"stores,omitempty"`
	}
	sortedKey struct {
		Account   string `json:"account"`
		FP        string `json:"fp"`
		ID        string `json:"key_id,omitempty"`
		Kind      string `json:"kind"`
		Principal string `json:"principal,omitempty"`
		Provider  string `json:"provider"`
	}
	sortedCall struct {
		Support string   `json:"support"`
		Target  string   `json:"target,omitempty"`
		Vendor  []string `json:"vendor,omitempty"`
		Verb    string   `json:"verb"`
	}
	sortedRung struct {
		Approved bool         `json:"approved"`
		Calls    []sortedCall `json:"calls"`
		Name     string       `json:"name"`
		Price    string       `json:"price"`
	}
	sortedDependent struct {
		Cutover  string `json:"cutover"`
		ID       string `json:"id"`
		BudgetMs int64  `json:"outage_budget_ms"`
		Owner    string `json:"owner,omitempty"`
		Proof    string `json:"proof"`
	}
	sortedStore struct {
		Name   string `json:"name"`
		Target string `json:"target"`
	}
)

func sortKey(k activities.Key) sortedKey {
	return sortedKey{Account: k.Account, FP: k.FP, ID: k.ID, Kind: k.Kind, Principal: k.Principal, Provider: k.Provider}
}

func sortCalls(calls []Call) []sortedCall {
	if calls == nil {
		return nil
	}
	out := make([]sortedCall, len(calls))
	for i, c := range calls {
		out[i] = sortedCall{Support: c.Support, Target: c.Target, Vendor: c.Vendor, Verb: c.Verb}
	}
	return out
}

// canonical gives the canonical bytes of an item.
func canonical(it Item) ([]byte, error) {
	s := sortedItem{
		Adopt: it.Adopt, Calls: sortCalls(it.Calls), Customers: it.Customers, Harden: it.Harden, Key: sortKey(it.Key), Owner: it.Owner, Roles: it.Roles,
	}
	for _, d := range it.Dependents {
		s.Dependents = append(s.Dependents, sortedDependent{Cutover: d.Cutover, ID: d.ID, BudgetMs: d.BudgetMs, Owner: d.Owner, Proof: d.Proof})
	}
	for _, r := range it.Rungs {
		s.Rungs = append(s.Rungs, sortedRung{Approved: r.Approved, Calls: sortCalls(r.Calls), Name: r.Name, Price: r.Price})
	}
	for _, st := range it.Stores {
		s.Stores = append(s.Stores, sortedStore{Name: st.Name, Target: st.Target})
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		return nil, err
	}
	raw := bytes.TrimSuffix(b.Bytes(), []byte{'\n'})
	if bytes.Contains(raw, []byte(`\u`)) { // what one of the two escapes and the other does not
		return canon.JSON(it)
	}
	return raw, nil
}
