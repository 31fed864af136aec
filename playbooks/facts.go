package playbooks

import (
	"sort"
	"strconv"
	"strings"
)

// FactType is the type of a fact.
type FactType string

// The types.
const (
	TypeInt    FactType = "int"
	TypeBool   FactType = "bool"
	TypeString FactType = "string"
)

// A FactInfo describes one fact that a rule may read.
type FactInfo struct {
	Name   string   `json:"name"` // "scope.malicious_use_24h"
	Type   FactType `json:"type"`
	Values []string `json:"values,omitempty"` // all values, where they are few
	Doc    string   `json:"doc"`
}

// FactTable lists every fact, in the order of the documentation. Nothing else can
// be read by a rule: no clock, no environment, no network.
func FactTable() []FactInfo {
	return []FactInfo{
		{"report.confidence", TypeString, []string{"sample", "suspected", "confirmed"}, "How sure the source is. `sample` is a vendor's test message."},
		{"report.source", TypeString, nil, "Name of the source as rekey.yaml knows it: cli, github, aws, slack, …"},
		{"report.source_kind", TypeString, []string{"cli", "chat", "webhook", "provider", "scanner", "person", "tripwire"}, "What sort of source it is. `provider` is an authenticated alert of the key's own provider."},
		{"report.possession", TypeBool, nil, "The secret was in the report and was checked to be the key's."},
		{"report.provider", TypeString, nil, "Provider code of the reported key."},
		{"report.kind", TypeString, nil, "Kind of the reported key."},
		{"report.subject", TypeString, []string{"key", "host", "worm"}, "What the report is about. A host or a worm is isolated before a key dies."},

		{"item.provider", TypeString, nil, "Provider code of the item."},
		{"item.account", TypeString, nil, "Account of the provider, as rekey.yaml names it."},
		{"item.kind", TypeString, nil, "Kind of credential."},
		{"item.held", TypeBool, nil, "A hold names the item: it must not move."},
		{"item.owner", TypeString, nil, "Who owns the item; empty when it is known that nobody does."},
		{"item.owner_kind", TypeString, []string{"team", "customer", "none"}, "Whose it is: ours, a customer's, nobody's."},
		{"item.admin", TypeBool, nil, "The item can administer its account."},
		{"item.exposure", TypeString, []string{"public", "internal", "private"}, "Widest place where a copy was seen."},
		{"item.reported", TypeBool, nil, "The item is the one that was reported, not one that scope found."},
		{"item.unattributed", TypeBool, nil, "It appeared on a compromised principal and nobody claims it."},
		{"item.created_by_compromised", TypeBool, nil, "Proof exists that a compromised key made it."},
		{"item.age_days", TypeInt, nil, "Whole days since it was made."},
		{"item.never_used", TypeBool, nil, "The provider says it was never used."},

		{"scope.malicious_use_24h", TypeInt, nil, "Calls of the last 24 h that are proven or declared malicious."},
		{"scope.malicious_use", TypeInt, nil, "The same over the whole look-back."},
		{"scope.unknown_use_24h", TypeInt, nil, "Calls of the last 24 h that neither the estate nor the key's own baseline explains."},
		{"scope.dependents_seen_30d", TypeInt, nil, "Dependents of the item that were seen using it, or are told to use it, in the last 30 days."},
		{"scope.dark_days_30d", TypeInt, nil, "Days of the last 30 for which some log could not be read. 0 is needed before \"nobody uses it\" means anything."},
		{"scope.attacker_reads_store", TypeBool, nil, "The attacker can read the place where the new secret would go."},
		{"scope.items", TypeInt, nil, "Items in scope."},
		{"scope.customers", TypeInt, nil, "Customers who must be told."},
	}
}

// FactVariables lists the variables of a rule, sorted.
func FactVariables() []string { return []string{"item", "report", "scope"} }

// A Fact is one value, or the knowledge that it is not known. Of Str, Int and Bool
// exactly one is set when Known, none otherwise.
type Fact struct {
	Known bool    `json:"known"`
	Str   *string `json:"str,omitempty"`
	Int   *int64  `json:"int,omitempty"`
	Bool  *bool   `json:"bool,omitempty"`
}

// StrFact is a known text.
func StrFact(v string) Fact { return Fact{Known: true, Str: &v} }

// IntFact is a known number.
func IntFact(v int64) Fact { return Fact{Known: true, Int: &v} }

// BoolFact is a known truth value.
func BoolFact(v bool) Fact { return Fact{Known: true, Bool: &v} }

// UnknownFact is a fact that could not be read. A fact that is left out of [Facts]
// is unknown as well.
func UnknownFact() Fact { return Fact{} }

// Type is the type of a known fact, "" otherwise.
func (f Fact) Type() FactType {
	switch {
	case !f.Known:
		return ""
	case f.Str != nil:
		return TypeString
	case f.Int != nil:
		return TypeInt
	case f.Bool != nil:
		return TypeBool
	}
	return ""
}

// String writes the fact as a rule would: text quoted, "unknown" when not known.
func (f Fact) String() string {
	switch f.Type() {
	case TypeString:
		return strconv.Quote(*f.Str)
	case TypeInt:
		return strconv.FormatInt(*f.Int, 10)
	case TypeBool:
		return strconv.FormatBool(*f.Bool)
	}
	return "unknown"
}

// Facts are what is known of one item when its strategy is decided. The keys are
// the names without their variable: Scope["malicious_use_24h"].
type Facts struct {
	Report map[string]Fact `json:"report,omitempty"`
	Item   map[string]Fact `json:"item,omitempty"`
	Scope  map[string]Fact `json:"scope,omitempty"`
}

// Get gives a fact by its full name; one that is absent is unknown.
func (f Facts) Get(name string) Fact {
	variable, field, _ := strings.Cut(name, ".")
	switch variable {
	case "report":
		return f.Report[field]
	case "item":
		return f.Item[field]
	case "scope":
		return f.Scope[field]
	}
	return Fact{}
}

// Set writes a fact under its full name; a name without one of the three variables
// is ignored, because no rule could read it.
func (f *Facts) Set(name string, v Fact) {
	variable, field, _ := strings.Cut(name, ".")
	var m *map[string]Fact
	switch variable {
	case "report":
		m = &f.Report
	case "item":
		m = &f.Item
	case "scope":
		m = &f.Scope
	default:
		return
	}
	if *m == nil {
		*m = map[string]Fact{}
	}
	(*m)[field] = v
}

// Names lists the full names of the facts that are present, sorted.
func (f Facts) Names() []string {
	var out []string
	for _, k := range sortedKeys(f.Item) {
		out = append(out, "item."+k)
	}
	for _, k := range sortedKeys(f.Report) {
		out = append(out, "report."+k)
	}
	for _, k := range sortedKeys(f.Scope) {
		out = append(out, "scope."+k)
	}
	sort.Strings(out)
	return out
}
