// Package estate is the graph that rekey is told: keys, copies, dependents,
// customers. What providers say is added by Inspect; each edge knows its source.
package estate

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"rekey/activities"
	"rekey/internal/plan"
	"rekey/internal/secret"
	"rekey/playbooks"
	"rekey/workflows"
)

// File is the shape of estate.yaml (contracts section 1).
type File struct {
	Keys       []Key       `yaml:"keys"`
	Copies     []Copy      `yaml:"copies"`
	Dependents []Dependent `yaml:"dependents"`
	Placements []Placement `yaml:"placements"`
	Owners     []Owner     `yaml:"owners"`
}

// A Key is one that rekey is told of.
type Key struct {
	ID       string `yaml:"id"`
	Provider string `yaml:"provider"`
	Account  string `yaml:"account"`
	Kind     string `yaml:"kind"`
	Owner    string `yaml:"owner"`
	Parent   string `yaml:"parent"`
}

// A Copy is a place where a key is kept.
type Copy struct {
	Key        string `yaml:"key"`
	Where      string `yaml:"where"`
	Store      string `yaml:"store"`
	Registered bool   `yaml:"registered"`
	Zone       string `yaml:"zone"` // clean or dirty
}

// A Dependent uses keys.
type Dependent struct {
	ID      string             `yaml:"id"`
	Keys    []string           `yaml:"keys"`
	Owner   string             `yaml:"owner"`
	Budget  playbooks.Duration `yaml:"outage_budget"`
	Cutover string             `yaml:"cutover"`
	Proof   string             `yaml:"proof"`
}

// A Placement is where a public key is served.
type Placement struct {
	SPKI     string `yaml:"spki"`
	Endpoint string `yaml:"endpoint"`
}

// An Estate answers what is known of keys. It is immutable and safe for concurrent
// use.
type Estate struct {
	keys       map[string]Key
	order      []string
	copies     map[string][]Copy   // by key
	places     map[string][]string // where -> keys
	children   map[string][]string
	dependents map[string][]plan.Dependent
	customers  map[string][]string
	fp         *secret.Fingerprinter
}

// Load reads estate and customer files. Paths in errors are as given; an unknown
// key is an error with its line.
func Load(estates, customers []string, fp *secret.Fingerprinter) (*Estate, error) {
	e := &Estate{
		keys: map[string]Key{}, copies: map[string][]Copy{}, places: map[string][]string{}, children: map[string][]string{},
		dependents: map[string][]plan.Dependent{}, customers: map[string][]string{}, fp: fp,
	}
	for _, path := range estates {
		b, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("estate: %w: mend estate.files in rekey.yaml", err)
		}
		var f File
		d := yaml.NewDecoder(bytes.NewReader(b))
		d.KnownFields(true)
		if err := d.Decode(&f); err != nil && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("estate %s: %s", path, plain(err))
		}
		if err := e.add(path, f); err != nil {
			return nil, err
		}
	}
	for _, path := range customers {
		b, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("customers: %w: mend customers.files in rekey.yaml", err)
		}
		list, err := readCustomers(filepath.Base(path), b)
		if err != nil {
			return nil, err
		}
		for _, c := range list {
			for _, k := range c.Keys {
				if !slices.Contains(e.customers[k], c.Ref) {
					e.customers[k] = append(e.customers[k], c.Ref)
				}
			}
		}
	}
	// Contacts are read again when somebody is told: here only mistakes are found.
	_, err := LoadDirectory(estates, customers)
	if err != nil {
		return nil, err
	}
	return e, nil
}

var unknownField = regexp.MustCompile(`(?:json: unknown field |field )"?([^\s"]+)"?(?: not found in type \S+)?`)

var wrongType = regexp.MustCompile("cannot unmarshal (!!\\S+(?: `[^`]*`)?) into \\S+")

// plain is what a decoder says, without the names of our types.
func plain(err error) string {
	text := strings.Join(strings.Fields(strings.TrimPrefix(err.Error(), "yaml: unmarshal errors:")), " ")
	text = wrongType.ReplaceAllString(text, "$1 does not belong here")
	return unknownField.ReplaceAllString(strings.TrimPrefix(text, "yaml: "), `unknown key "$1"`)
}

func (e *Estate) add(path string, f File) error {
	name := filepath.Base(path)
	for i, k := range f.Keys {
		if k.ID == "" || k.Provider == "" || k.Account == "" || k.Kind == "" {
			return fmt.Errorf("estate %s: keys[%d]: id, provider, account and kind are needed", name, i)
		}
		if _, ok := e.keys[k.ID]; ok {
			return fmt.Errorf("estate %s: key %s is named twice", name, k.ID)
		}
		e.keys[k.ID] = k
		e.order = append(e.order, k.ID)
		if k.Parent != "" {
			e.children[k.Parent] = append(e.children[k.Parent], k.ID)
		}
	}
	for i, c := range f.Copies {
		if c.Key == "" || c.Where == "" {
			return fmt.Errorf("estate %s: copies[%d]: key and where are needed", name, i)
		}
		if c.Zone != "" && c.Zone != "clean" && c.Zone != "dirty" {
			return fmt.Errorf("estate %s: copies[%d]: zone is clean or dirty", name, i)
		}
		e.copies[c.Key] = append(e.copies[c.Key], c)
		e.places[c.Where] = append(e.places[c.Where], c.Key)
	}
	for i, d := range f.Dependents {
		if d.ID == "" || len(d.Keys) == 0 {
			return fmt.Errorf("estate %s: dependents[%d]: id and keys are needed", name, i)
		}
		if !slices.Contains([]string{"", "dual", "hot", "restart"}, d.Cutover) {
			return fmt.Errorf("estate %s: dependents[%d]: cutover is dual, hot or restart", name, i)
		}
		if !slices.Contains([]string{"", "last-used", "probe", "attest"}, d.Proof) {
			return fmt.Errorf("estate %s: dependents[%d]: proof is last-used, probe or attest", name, i)
		}
		for _, k := range d.Keys {
			e.dependents[k] = append(e.dependents[k], plan.Dependent{ID: d.ID, Owner: d.Owner, BudgetMs: d.Budget.Std().Milliseconds(), Cutover: d.Cutover, Proof: d.Proof})
		}
	}
	return nil
}

// Keys gives every key that the files name, in their order.
func (e *Estate) Keys() []Key {
	out := make([]Key, 0, len(e.order))
	for _, id := range e.order {
		out = append(out, e.keys[id])
	}
	return out
}

// Key finds a key by its provider's id.
func (e *Estate) Key(id string) (Key, bool) {
	k, ok := e.keys[id]
	return k, ok
}

// Live counts the keys of an account.
func (e *Estate) Live(provider, account string) int {
	n := 0
	for _, k := range e.keys {
		if k.Provider == provider && k.Account == account {
			n++
		}
	}
	return n
}

// Dependents of a key, as the estate knows them.
func (e *Estate) Dependents(id string) []plan.Dependent { return e.dependents[id] }

// Describe adds to an item what the estate says of it.
func (e *Estate) Describe(s *workflows.Scoped) {
	id := s.Key.ID
	k, known := e.keys[id]
	switch {
	case known && k.Owner != "":
		s.Owner, s.OwnerKind = k.Owner, "team"
	case known:
		s.OwnerKind = "none"
	case s.Reading != nil && s.Reading.Owner != "":
		s.Owner, s.OwnerKind = s.Reading.Owner, "team"
	}
	s.Dependents = e.dependents[id]
	s.Customers = e.customers[id]
	s.Copies = nil
	dirty, stores := false, false
	for _, c := range e.copies[id] {
		s.Copies = append(s.Copies, c.Where)
		if c.Store != "" {
			stores = true
			dirty = dirty || c.Zone == "dirty"
		}
	}
	if stores {
		s.StoreDirty = &dirty
	}
}

// Reach gives the keys that an item leads to in one step: the keys kept at the
// same places, which whoever read one could read too, and its children.
func (e *Estate) Reach(s workflows.Scoped) ([]workflows.Scoped, error) {
	var out []workflows.Scoped
	seen := map[string]bool{s.Key.ID: true}
	add := func(id, why string) error {
		k, ok := e.keys[id]
		if !ok || seen[id] {
			return nil
		}
		seen[id] = true
		fp, err := e.fp.Public(k.Provider, k.Account, k.Kind, k.ID)
		if err != nil {
			return fmt.Errorf("estate: key %s: %w", k.ID, err)
		}
		out = append(out, workflows.Scoped{
			Key:   activities.Key{FP: fp, Provider: k.Provider, Account: k.Account, Kind: k.Kind, ID: k.ID},
			Basis: "estate", Why: why, Depth: s.Depth + 1,
		})
		return nil
	}
	for _, c := range e.copies[s.Key.ID] {
		if !c.Registered {
			continue
		}
		for _, id := range e.places[c.Where] {
			if err := add(id, "kept at "+c.Where+", as "+s.Key.Short()); err != nil {
				return nil, err
			}
		}
	}
	for _, id := range e.children[s.Key.ID] {
		if err := add(id, "made from "+s.Key.Short()); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Age is how long ago t was, in whole days.
func Age(t, now time.Time) int64 {
	if t.IsZero() || t.After(now) {
		return 0
	}
	return int64(now.Sub(t) / (24 * time.Hour))
}
