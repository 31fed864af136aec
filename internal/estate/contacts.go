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

	"rekey/activities/notify"
	"rekey/internal/canon"
	"rekey/playbooks"
)

// An Owner is a team of ours that is told of its keys: whom `owner` of a key or of a
// dependent names.
type Owner struct {
	Ref      string    `yaml:"ref" json:"ref"`
	Language string    `yaml:"language,omitempty" json:"language,omitempty"`
	Contacts []Contact `yaml:"contacts,omitempty" json:"contacts,omitempty"`
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
// somebody is told, so that a contact that was mended needs no restart. The other
// lists of the estate files are passed over: [Load] has checked them.
func LoadDirectory(estates, customers []string) (*Directory, error) {
	d := &Directory{Files: map[string][]byte{}}
	r := reader{take: map[string]func(func(any) error) error{listOwners: taker(func(o Owner) error {
		return d.add(Recipient{Audience: playbooks.AudienceOwner, Ref: o.Ref, Language: o.Language, Contacts: o.Contacts})
	})}}
	r.reset = func() { d.recipients, d.refs = map[string]Recipient{}, nil }
	r.reset()
	if err := r.files(estates); err != nil {
		return nil, err
	}
	var all []string
	for _, path := range customers {
		b, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("customers: %w: mend customers.files in rekey.yaml", err)
		}
		err = readCustomers(path, bytes.NewReader(b), func(c Customer) error {
			return d.add(Recipient{Audience: playbooks.AudienceCustomer, Ref: c.Ref, Language: c.Language, Contacts: c.Contacts, ContractHours: c.ContractHours, Keys: c.Keys})
		})
		if err != nil {
			return nil, err
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

// text is a file that is read from its beginning, and again to find a line.
type text interface {
	io.Reader
	io.ReaderAt
}

// readCustomers reads a customers file: a list, each entry checked, named by its
// line if it is wrong, and handed on.
func readCustomers(path string, f text, add func(Customer) error) error {
	d := json.NewDecoder(f)
	d.DisallowUnknownFields()
	bad := func(at int64, format string, args ...any) error {
		return fmt.Errorf("customers %s:%d: %s", filepath.Base(path), lineAt(f, at), fmt.Sprintf(format, args...))
	}
	if t, err := d.Token(); err != nil || t != json.Delim('[') {
		return bad(0, `a list of customers is wanted: [{"ref": "C033", …}]`)
	}
	for i := 1; d.More(); i++ {
		at := d.InputOffset()
		var c Customer
		err := jsonPlain(d.Decode(&c))
		if err == nil {
			err = checkRecipient(c.Ref, c.Language, c.Contacts, c.ContractHours)
		}
		if err == nil {
			err = add(c)
		}
		if err != nil {
			return bad(at, "customer %d: %s", i, err)
		}
	}
	if _, err := d.Token(); err != nil {
		return bad(d.InputOffset(), "the list does not end: add ]")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return bad(d.InputOffset(), "text after the list: remove it")
	}
	return nil
}

func (o Owner) check() error { return checkRecipient(o.Ref, o.Language, o.Contacts, 0) }

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
		return twice(r.Audience, r.Ref)
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
