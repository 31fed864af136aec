package estate

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"go.yaml.in/yaml/v3"

	"rekey/activities/notify"
	"rekey/internal/canon"
	"rekey/playbooks"
)

// An Owner is a team of ours that is told of its keys: whom `owner` of a key or of a
// dependent names.
type Owner struct {
	Ref      string    `yaml:"ref"`
	Language string    `yaml:"language"`
	Contacts []Contact `yaml:"contacts"`
}

// A Customer is who must be told; persons are in the file only, never in a plan.
type Customer struct {
	Ref           string    `json:"ref"`
	Name          string    `json:"name"`
	Language      string    `json:"language,omitempty"`
	Regimes       []string  `json:"regimes,omitempty"`
	Contacts      []Contact `json:"contacts,omitempty"`
	Keys          []string  `json:"keys"`
	ContractHours int       `json:"contract_hours,omitempty"`
}

// A Contact is one way to reach somebody. Those of lower order are tried first.
type Contact struct {
	Order   int    `json:"order" yaml:"order"`
	Channel string `json:"channel" yaml:"channel"`
	Address string `json:"address" yaml:"address"`
}

// A Recipient is an owner or a customer with their contacts by order.
type Recipient struct {
	Audience      string // playbooks.AudienceOwner or AudienceCustomer
	Ref           string
	Language      string
	Contacts      []Contact
	ContractHours int
	Keys          []string // of a customer
}

// A Directory is who can be told, as the files said when they were read.
type Directory struct {
	recipients map[string]Recipient
	refs       []string // of map keys, in the order of the files
	// Digest names the content of the customers files, "sha256:…"; "" without any. It
	// is the one file's, or that of the JSON list of the files' digests.
	Digest string
	// Files are the customers files by digest, as they were read, and the list of
	// them where there are several: what Digest names is here.
	Files map[string][]byte
}

// maxContractHours bounds contract_hours: a year.
const maxContractHours = 8760

// refForm keeps addresses out of refs: a ref is in workflows, plans and logs.
var refForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/ -]{0,127}$`)

// languageForm is that of BCP 47 in short: "en", "pt-BR".
var languageForm = regexp.MustCompile(`^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*$`)

// LoadDirectory reads owners of the estate files and customers. It is called when
// somebody is told, so that a contact that was mended needs no restart.
func LoadDirectory(estates, customers []string) (*Directory, error) {
	d := &Directory{recipients: map[string]Recipient{}, Files: map[string][]byte{}}
	for _, path := range estates {
		b, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("estate: %w: mend estate.files in rekey.yaml", err)
		}
		if err := d.owners(filepath.Base(path), b); err != nil {
			return nil, err
		}
	}
	var all []string
	for _, path := range customers {
		b, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("customers: %w: mend customers.files in rekey.yaml", err)
		}
		name := filepath.Base(path)
		list, err := readCustomers(name, b)
		if err != nil {
			return nil, err
		}
		for _, c := range list {
			err := d.add(Recipient{Audience: playbooks.AudienceCustomer, Ref: c.Ref, Language: c.Language, Contacts: c.Contacts, ContractHours: c.ContractHours, Keys: c.Keys})
			if err != nil {
				return nil, fmt.Errorf("customers %s: %w", name, err)
			}
		}
		d.Files[canon.Hash(b)] = b
		all = append(all, canon.Hash(b))
	}
	switch len(all) {
	case 0:
	case 1:
		d.Digest = all[0]
	default:
		list, err := canon.JSON(all)
		if err != nil {
			return nil, fmt.Errorf("customers: %w", err)
		}
		d.Digest = canon.Hash(list)
		d.Files[d.Digest] = list
	}
	return d, nil
}

// owners adds those of an estate file. Its other parts were checked by [Load].
func (d *Directory) owners(name string, b []byte) error {
	var f File
	if err := yaml.Unmarshal(b, &f); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("estate %s: %s", name, plain(err))
	}
	var root yaml.Node
	if err := yaml.Unmarshal(b, &root); err != nil {
		return fmt.Errorf("estate %s: %s", name, plain(err))
	}
	for i, o := range f.Owners {
		at := fmt.Sprintf("estate %s:%d: owners[%d]", name, lineOf(&root, "owners", i), i)
		if err := checkRecipient(o.Ref, o.Language, o.Contacts, 0); err != nil {
			return fmt.Errorf("%s: %w", at, err)
		}
		if err := d.add(Recipient{Audience: playbooks.AudienceOwner, Ref: o.Ref, Language: o.Language, Contacts: o.Contacts}); err != nil {
			return fmt.Errorf("%s: %w", at, err)
		}
	}
	return nil
}

// lineOf finds the line of entry i of a list at the top of a document; 0: unknown.
func lineOf(root *yaml.Node, list string, i int) int {
	if len(root.Content) == 0 {
		return 0
	}
	m := root.Content[0].Content
	for n := 0; n+1 < len(m); n += 2 {
		if m[n].Value == list && i < len(m[n+1].Content) {
			return m[n+1].Content[i].Line
		}
	}
	return 0
}

// readCustomers reads a customers file: a list, each entry checked and named by its
// line.
func readCustomers(name string, b []byte) ([]Customer, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	bad := func(err error) error {
		line := 1 + bytes.Count(b[:min(int(d.InputOffset()), len(b))], []byte("\n"))
		return fmt.Errorf("customers %s:%d: %s", name, line, plain(err))
	}
	if t, err := d.Token(); err != nil || t != json.Delim('[') {
		return nil, bad(errors.New(`a list of customers is wanted: [{"ref": "C033", …}]`))
	}
	var out []Customer
	for i := 0; d.More(); i++ {
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return nil, bad(err)
		}
		line := 1 + bytes.Count(b[:d.InputOffset()], []byte("\n")) - bytes.Count(raw, []byte("\n"))
		var c Customer
		strict := json.NewDecoder(bytes.NewReader(raw))
		strict.DisallowUnknownFields()
		err := strict.Decode(&c)
		if err == nil {
			err = checkRecipient(c.Ref, c.Language, c.Contacts, c.ContractHours)
		}
		if err != nil {
			var wrong *json.UnmarshalTypeError
			if errors.As(err, &wrong) {
				// Its text names Go's types.
				err = fmt.Errorf("%s: a %s does not belong here", wrong.Field, wrong.Value)
			}
			return nil, fmt.Errorf("customers %s:%d: customer %d: %s", name, line, i+1, plain(err))
		}
		out = append(out, c)
	}
	if _, err := d.Token(); err != nil {
		return nil, bad(errors.New("the list does not end: add ]"))
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, bad(errors.New("text after the list: remove it"))
	}
	return out, nil
}

func checkRecipient(ref, language string, contacts []Contact, hours int) error {
	if !refForm.MatchString(ref) {
		return fmt.Errorf("ref %s: give a short name of letters, digits, dot, dash; no address, because it is in histories and bundles", quoteRef(ref))
	}
	if language != "" && !languageForm.MatchString(language) {
		return fmt.Errorf("%s: language: write a tag such as en or pt-BR", ref)
	}
	if hours < 0 || hours > maxContractHours {
		return fmt.Errorf("%s: contract_hours: between 0 and %d", ref, maxContractHours)
	}
	seen := map[int]bool{}
	for i, c := range contacts {
		switch {
		case c.Order < 1:
			return fmt.Errorf("%s: contacts[%d]: order: 1 is tried first, then 2, …", ref, i)
		case seen[c.Order]:
			return fmt.Errorf("%s: contacts[%d]: order %d is given twice: each contact has its own", ref, i, c.Order)
		}
		seen[c.Order] = true
		if err := notify.CheckAddress(c.Channel, c.Address); err != nil {
			return fmt.Errorf("%s: contacts[%d]: %w", ref, i, err)
		}
	}
	return nil
}

// quoteRef shows a bad ref without what may be an address in it.
func quoteRef(ref string) string {
	if ref == "" {
		return "is missing"
	}
	return "is not usable"
}

func (d *Directory) add(r Recipient) error {
	key := r.Audience + "/" + r.Ref
	if _, ok := d.recipients[key]; ok {
		return fmt.Errorf("%s %s is named twice: keep one", r.Audience, r.Ref)
	}
	r.Contacts = slices.Clone(r.Contacts)
	slices.SortFunc(r.Contacts, func(a, b Contact) int { return cmp.Compare(a.Order, b.Order) })
	d.recipients[key] = r
	d.refs = append(d.refs, key)
	return nil
}

// Find gives an owner or customer.
func (d *Directory) Find(audience, ref string) (Recipient, bool) {
	r, ok := d.recipients[audience+"/"+ref]
	return r, ok
}

// All gives everybody, in the order of the files.
func (d *Directory) All() []Recipient {
	out := make([]Recipient, 0, len(d.refs))
	for _, k := range d.refs {
		out = append(out, d.recipients[k])
	}
	return out
}
