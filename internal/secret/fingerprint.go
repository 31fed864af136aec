package secret

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// KeySize is the length of the installation key in bytes.
const KeySize = 32

const (
	fpPrefix   = "fp1_"  // names the installation key, which never rotates
	spkiPrefix = "spki_" // public-key items: not keyed
	incPrefix  = "inc-"
	shortLen   = 12
)

var (
	fpRE  = regexp.MustCompile(`^(?:fp1|spki)_[0-9a-f]{64}$`)
	incRE = regexp.MustCompile(`^inc-[0-9a-f]{12}$`)
)

// A Fingerprinter makes the names under which keys are known everywhere
// (contracts section 0). It is safe for concurrent use.
type Fingerprinter struct{ key Value }

// NewFingerprinter takes the installation key: KeySize random bytes.
func NewFingerprinter(key []byte) (*Fingerprinter, error) {
	if len(key) != KeySize {
		return nil, fmt.Errorf("secret: the installation key has %d bytes, want %d: restore the file from backup; a new key would not recognise earlier incidents", len(key), KeySize)
	}
	return &Fingerprinter{key: New(key)}, nil
}

// Public is the fingerprint of a key with a public id: fp1_ + hex(HMAC-SHA-256(
// installation key, provider 0x00 account 0x00 kind 0x00 publicID)). The same
// arguments give the same fingerprint for ever. It fails when the id is empty or
// a part holds a zero byte, which would make two different keys look the same.
func (f *Fingerprinter) Public(provider, account, kind, publicID string) (string, error) {
	if publicID == "" {
		return "", errors.New("secret: no public id to fingerprint: use Alias with the secret itself")
	}
	if strings.ContainsRune(publicID, 0) {
		return "", errors.New("secret: the key id holds a zero byte: give the id as the provider shows it")
	}
	return f.item(provider, account, kind, []byte(publicID))
}

// Alias is the fingerprint over the secret in place of the public id, for kinds
// without one and as a second claim where both are known.
func (f *Fingerprinter) Alias(provider, account, kind string, v Value) (string, error) {
	if v.Empty() {
		return "", errors.New("secret: an empty secret has no fingerprint")
	}
	b := v.Reveal()
	defer clear(b)
	return f.item(provider, account, kind, b)
}

func (f *Fingerprinter) item(provider, account, kind string, last []byte) (string, error) {
	for _, part := range []string{provider, account, kind} {
		if part == "" || strings.ContainsRune(part, 0) {
			return "", errors.New("secret: provider, account and kind must be given and hold no zero byte")
		}
	}
	return fpPrefix + f.mac([]byte(provider+"\x00"+account+"\x00"+kind+"\x00"), last), nil
}

func (f *Fingerprinter) mac(parts ...[]byte) string {
	key := f.key.Reveal()
	defer clear(key)
	m := hmac.New(sha256.New, key)
	for _, p := range parts {
		m.Write(p)
	}
	return hex.EncodeToString(m.Sum(nil))
}

// ExposureIncident proposes the incident id of an exposure without a key:
// inc- + 12 hex of HMAC(source 0x00 external reference).
func (f *Fingerprinter) ExposureIncident(source, reference string) (string, error) {
	if source == "" || reference == "" || strings.ContainsRune(source, 0) {
		return "", errors.New("secret: an exposure needs a source and a reference of that source (ticket, URL)")
	}
	return incPrefix + f.mac([]byte(source+"\x00"), []byte(reference))[:shortLen], nil
}

// SPKI is the fingerprint of a public-key item: spki_ + hex(SHA-256(DER of the
// SubjectPublicKeyInfo)), RFC 5280 section 4.1. It is not keyed: the public key
// is public.
func SPKI(der []byte) string {
	sum := sha256.Sum256(der)
	return spkiPrefix + hex.EncodeToString(sum[:])
}

// ValidFingerprint reports whether fp is a complete fp1_ or spki_ fingerprint.
func ValidFingerprint(fp string) bool { return fpRE.MatchString(fp) }

// ValidIncident reports whether id has the form of an incident id.
func ValidIncident(id string) bool { return incRE.MatchString(id) }

// Short is what people see of a fingerprint: its first 12 hex digits, or
// "invalid" for what is not one.
func Short(fp string) string {
	if !ValidFingerprint(fp) {
		return "invalid"
	}
	_, digits, _ := strings.Cut(fp, "_")
	return digits[:shortLen]
}

// IncidentID proposes the id of a new incident from the fingerprint of its first
// item; the register settles it.
func IncidentID(fp string) (string, error) {
	if !ValidFingerprint(fp) {
		return "", errors.New("secret: not a fingerprint: want fp1_ or spki_ and 64 hex digits")
	}
	return incPrefix + Short(fp), nil
}
