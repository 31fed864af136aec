package estate

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"rekey/playbooks"
)

// File is the shape of an estate file (docs/estate.md): of a whole YAML file, or of
// each JSON document of one.
type File struct {
	Keys       []Key       `yaml:"keys,omitempty" json:"keys,omitempty"`
	Copies     []Copy      `yaml:"copies,omitempty" json:"copies,omitempty"`
	Places     []Place     `yaml:"places,omitempty" json:"places,omitempty"`
	Snapshots  []Snapshot  `yaml:"snapshots,omitempty" json:"snapshots,omitempty"`
	Dependents []Dependent `yaml:"dependents,omitempty" json:"dependents,omitempty"`
	Placements []Placement `yaml:"placements,omitempty" json:"placements,omitempty"`
	Owners     []Owner     `yaml:"owners,omitempty" json:"owners,omitempty"`
}

// A Key is one that rekey is told of.
type Key struct {
	ID       string `yaml:"id" json:"id"`
	Provider string `yaml:"provider" json:"provider"`
	Account  string `yaml:"account" json:"account"`
	Kind     string `yaml:"kind" json:"kind"`
	Owner    string `yaml:"owner,omitempty" json:"owner,omitempty"`
	// Parent is the key that made this one.
	Parent string `yaml:"parent,omitempty" json:"parent,omitempty"`
	// SPKI names the key itself where ID names what was made with it, as the serial
	// of a certificate does: the SHA-256 of the SubjectPublicKeyInfo, 64 hex digits.
	// Keys with one SPKI are one item.
	SPKI string `yaml:"spki,omitempty" json:"spki,omitempty"`
	// Opens are places that whoever has the key can read.
	Opens []string `yaml:"opens,omitempty" json:"opens,omitempty"`
	// Issued and Retired bound its life. A retired key is not an item.
	Issued  time.Time `yaml:"issued,omitempty" json:"issued,omitzero"`
	Retired time.Time `yaml:"retired,omitempty" json:"retired,omitzero"`
}

// A Copy is a place where a key is or was kept.
type Copy struct {
	Key   string `yaml:"key" json:"key"`
	Where string `yaml:"where" json:"where"`
	Store string `yaml:"store,omitempty" json:"store,omitempty"`
	// Registered: that it lies there is sure. A copy that is not leads from its place
	// to its key, not from its key to its place.
	Registered bool   `yaml:"registered,omitempty" json:"registered,omitempty"`
	Zone       string `yaml:"zone,omitempty" json:"zone,omitempty"` // clean or dirty
	// From and Until bound the time in which it lay there. Without From it counts as
	// there from the beginning, without Until as there still.
	From  time.Time `yaml:"from,omitempty" json:"from,omitzero"`
	Until time.Time `yaml:"until,omitempty" json:"until,omitzero"`
}

// A Place says for which time the copies at it are all on record. Without an entry
// nothing is said about gaps.
type Place struct {
	Where      string    `yaml:"where" json:"where"`
	KnownFrom  time.Time `yaml:"known_from,omitempty" json:"known_from,omitzero"`
	KnownUntil time.Time `yaml:"known_until,omitempty" json:"known_until,omitzero"`
}

// A Snapshot is what a place held at a time, kept somewhere else: a backup, an
// image. It is the place "snapshot/ID".
type Snapshot struct {
	ID string    `yaml:"id" json:"id"`
	Of string    `yaml:"of" json:"of"`
	At time.Time `yaml:"at" json:"at"`
}

// A Dependent uses keys.
type Dependent struct {
	ID      string             `yaml:"id" json:"id"`
	Keys    []string           `yaml:"keys" json:"keys"`
	Owner   string             `yaml:"owner,omitempty" json:"owner,omitempty"`
	Budget  playbooks.Duration `yaml:"outage_budget,omitempty" json:"outage_budget,omitzero"`
	Cutover string             `yaml:"cutover,omitempty" json:"cutover,omitempty"`
	Proof   string             `yaml:"proof,omitempty" json:"proof,omitempty"`
}

// A Placement is where a public key is or was served.
type Placement struct {
	SPKI     string    `yaml:"spki" json:"spki"`
	Endpoint string    `yaml:"endpoint" json:"endpoint"`
	From     time.Time `yaml:"from,omitempty" json:"from,omitzero"`
	Until    time.Time `yaml:"until,omitempty" json:"until,omitzero"`
}

// The lists of a file, as they are called there.
const (
	listKeys       = "keys"
	listCopies     = "copies"
	listPlaces     = "places"
	listSnapshots  = "snapshots"
	listDependents = "dependents"
	listPlacements = "placements"
	listOwners     = "owners"
)

func lists() []string {
	return []string{listKeys, listCopies, listPlaces, listSnapshots, listDependents, listPlacements, listOwners}
}

// snapshotPrefix begins the place that a snapshot is.
const snapshotPrefix = "snapshot/"

var spkiForm = regexp.MustCompile(`^(?:spki_)?([0-9a-f]{64})$`)

// bareSPKI gives the 64 digits.
func bareSPKI(s string) (string, error) {
	m := spkiForm.FindStringSubmatch(s)
	if m == nil {
		return "", errors.New("spki is the SHA-256 of the SubjectPublicKeyInfo: 64 hex digits in lower case, spki_ before them or not")
	}
	return m[1], nil
}

var zones, cutovers, proofs = []string{"", "clean", "dirty"}, []string{"", "dual", "hot", "restart"}, []string{"", "last-used", "probe", "attest"}

// order says that a span of time ends after it begins.
func order(first, last string, from, until time.Time) error {
	if !from.IsZero() && !until.IsZero() && !until.After(from) {
		return fmt.Errorf("%s is not after %s", last, first)
	}
	return nil
}

func (k Key) check() error {
	if k.ID == "" || k.Provider == "" || k.Account == "" || k.Kind == "" {
		return errors.New("id, provider, account and kind are needed")
	}
	if slices.Contains(k.Opens, "") {
		return errors.New("opens names a place without a name")
	}
	return order("issued", "retired", k.Issued, k.Retired)
}

func (c Copy) check() error {
	if c.Key == "" || c.Where == "" {
		return errors.New("key and where are needed")
	}
	if !slices.Contains(zones, c.Zone) {
		return errors.New("zone is clean or dirty")
	}
	return order("from", "until", c.From, c.Until)
}

func (p Place) check() error {
	if p.Where == "" {
		return errors.New("where is needed")
	}
	if p.KnownFrom.IsZero() && p.KnownUntil.IsZero() {
		return errors.New("known_from, known_until or both are needed: leave the entry out when the copies are all on record for all time")
	}
	return order("known_from", "known_until", p.KnownFrom, p.KnownUntil)
}

func (s Snapshot) check() error {
	switch {
	case s.ID == "" || s.Of == "" || s.At.IsZero():
		return errors.New("id, of and at are needed")
	case strings.HasPrefix(s.ID, snapshotPrefix):
		return errors.New("id is the name alone: its place is " + snapshotPrefix + "ID")
	case strings.HasPrefix(s.Of, snapshotPrefix):
		return errors.New("of is the place whose content was kept, not another snapshot: name that place and the time of the first one")
	}
	if place, _, ok := splitPlace(s.Of); ok {
		return errors.New("of is a place without a time: name the place " + place + ", and the time as at")
	}
	return nil
}

func (d Dependent) check() error {
	if d.ID == "" || len(d.Keys) == 0 {
		return errors.New("id and keys are needed")
	}
	if !slices.Contains(cutovers, d.Cutover) {
		return errors.New("cutover is dual, hot or restart")
	}
	if !slices.Contains(proofs, d.Proof) {
		return errors.New("proof is last-used, probe or attest")
	}
	return nil
}

func (p Placement) check() error {
	if p.SPKI == "" || p.Endpoint == "" {
		return errors.New("spki and endpoint are needed")
	}
	return order("from", "until", p.From, p.Until)
}
