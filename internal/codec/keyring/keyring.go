// Package keyring keeps the AES-256 keys under which payloads, blobs and
// journals are encrypted, one private file per key id.
//
// A key file DIR/<id>.key is two lines: a comment that names the id and the 32
// random bytes in base64. DIR/current names the id that seals; every id in DIR
// opens. Keys rotate in two phases so that no process meets an id it does not
// have: Add (or copy the file) on every host, then Activate. Old keys stay until
// nothing is sealed under them. A running keyring picks up added files by itself
// when it meets an id it does not know.
//
// Cipher: AES-256-GCM with a random 96-bit nonce in front (NIST SP 800-38D
// section 8.2.2: at most 2^32 messages per key; `rekey keys rotate` long before).
// Version, usage, key id and the caller's context are authenticated with it, so a
// ciphertext opens only as what and where it was sealed.
package keyring

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"rekey/internal/fsx"
)

// A Usage separates what is sealed under one key.
type Usage string

// Usages.
const (
	Payload Usage = "payload"
	Blob    Usage = "blob"
	Journal Usage = "journal"
	Inbox   Usage = "inbox"
)

const (
	keySize     = 32
	keySuffix   = ".key"
	currentFile = "current"
	version     = "rekey/v1"
	// Overhead is how much longer a ciphertext is than its plaintext.
	Overhead = 12 + 16
)

var idRE = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)

// A MissingKeyError says that something is sealed under a key that is not here.
type MissingKeyError struct{ ID, Dir string }

func (e *MissingKeyError) Error() string {
	return fmt.Sprintf("codec key %q is not in %s: copy %s%s there from a host that has it or from backup; keys stay until nothing is sealed under them", e.ID, e.Dir, e.ID, keySuffix)
}

// A CorruptError says that a ciphertext does not open under the key it names.
type CorruptError struct{ ID string }

func (e *CorruptError) Error() string {
	return fmt.Sprintf("does not open under codec key %q: it was changed, or this host's key file of that id is not the one it was sealed with; compare the key files", e.ID)
}

// A DamagedKeyError says that a key file is there and not a key.
type DamagedKeyError struct{ Path, Why string }

func (e *DamagedKeyError) Error() string {
	return fmt.Sprintf("codec key file %s is damaged (%s): restore it from backup or another host", e.Path, e.Why)
}

// Options of a Keyring.
type Options struct {
	Dir string
	// Current pins the sealing id (codec.current in rekey.yaml); empty means the
	// id in DIR/current.
	Current string
	// Create makes the first key in an empty directory. Only a process that owns
	// the whole installation may set it: hosts of a cluster share their keys.
	Create bool
	Now    func() time.Time // names the first key; required with Create
}

// A Keyring seals under one key and opens under all it has. It is safe for
// concurrent use.
type Keyring struct {
	dir    string
	pinned bool

	mu      sync.RWMutex
	current string
	keys    map[string]cipher.AEAD
}

// Open reads every key in the directory. It fails when a file is damaged or open
// to others, or when the sealing key is missing.
func Open(o Options) (*Keyring, error) {
	if err := fsx.MkdirPrivate(o.Dir); err != nil {
		return nil, fmt.Errorf("codec keys: %w", err)
	}
	k := &Keyring{dir: o.Dir, current: o.Current, pinned: o.Current != ""}
	if err := k.Reload(); err != nil {
		return nil, err
	}
	if o.Create && (k.current == "" || len(k.keys) == 0) {
		if err := k.first(o); err != nil {
			return nil, err
		}
	}
	if k.current == "" {
		return nil, fmt.Errorf("codec keys: no sealing key is chosen in %s: set codec.current in rekey.yaml to one of its key ids", o.Dir)
	}
	if _, ok := k.keys[k.current]; !ok {
		return nil, &MissingKeyError{ID: k.current, Dir: o.Dir}
	}
	return k, nil
}

// first makes the first key. Processes that start together on one empty directory
// may each make one (a month may end between them); which one seals is settled by
// who names it first, for all of them.
func (k *Keyring) first(o Options) error {
	if k.pinned {
		return k.Add(o.Current)
	}
	id := "k" + o.Now().UTC().Format("2006-01")
	if ids := k.IDs(); len(ids) == 1 {
		id = ids[0] // made by a process that has not named it yet, or died before
	} else if len(ids) > 1 && !slices.Contains(ids, id) {
		return nil // keys that people put here: they choose
	}
	if err := k.Add(id); err != nil {
		return err
	}
	err := fsx.CreateExclusive(filepath.Join(k.dir, currentFile), []byte(id+"\n"))
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("codec keys: %w", err)
	}
	return k.Reload()
}

// Reload reads keys that were added to the directory, and the sealing id unless
// the configuration pins it.
func (k *Keyring) Reload() error {
	entries, err := os.ReadDir(k.dir)
	if err != nil {
		return fmt.Errorf("codec keys: %w", err)
	}
	keys := map[string]cipher.AEAD{}
	for _, e := range entries {
		id, ok := strings.CutSuffix(e.Name(), keySuffix)
		if !ok || fsx.IsTemp(e.Name()) {
			continue
		}
		if keys[id], err = k.read(id); err != nil {
			return err
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.keys = keys
	if k.pinned {
		return nil
	}
	text, err := fsx.ReadPrivate(filepath.Join(k.dir, currentFile), 256)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("codec keys: %w", err)
	}
	id := strings.TrimSuffix(string(text), "\n")
	if _, ok := keys[id]; !ok { // perhaps made since the directory was listed
		switch key, err := k.read(id); {
		case errors.Is(err, fs.ErrNotExist):
			return &MissingKeyError{ID: id, Dir: k.dir}
		case err != nil:
			return err
		default:
			keys[id] = key
		}
	}
	k.current = id
	return nil
}

func header(id string) string {
	return "# rekey codec key " + id + " (AES-256). Keep it private, and as long as anything is sealed under it.\n"
}

func (k *Keyring) read(id string) (cipher.AEAD, error) {
	path := filepath.Join(k.dir, id+keySuffix)
	if !idRE.MatchString(id) {
		return nil, &DamagedKeyError{path, "its name is not a key id"}
	}
	text, err := fsx.ReadPrivate(path, 4096)
	if err != nil {
		return nil, fmt.Errorf("codec keys: %w", err)
	}
	defer clear(text)
	body, ok := strings.CutPrefix(string(text), header(id))
	if !ok {
		return nil, &DamagedKeyError{path, "its first line does not name this id"}
	}
	line, ok := strings.CutSuffix(body, "\n")
	if !ok {
		return nil, &DamagedKeyError{path, "truncated"}
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(line)
	if err != nil || len(raw) != keySize {
		return nil, &DamagedKeyError{path, "not 32 bytes in base64"}
	}
	defer clear(raw)
	block, err := aes.NewCipher(raw)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// Add is phase one of a rotation: it makes the key id if it is not there and
// opens with it from now on; nothing is sealed under it yet. Idempotent; an
// existing key is never overwritten.
func (k *Keyring) Add(id string) error {
	if !idRE.MatchString(id) {
		return fmt.Errorf("codec keys: %q is not a key id: use up to 64 of a-z, 0-9, dot, dash, underscore", id)
	}
	raw := make([]byte, keySize)
	defer clear(raw)
	if _, err := rand.Read(raw); err != nil {
		return err
	}
	text := header(id) + base64.StdEncoding.EncodeToString(raw) + "\n"
	err := fsx.CreateExclusive(filepath.Join(k.dir, id+keySuffix), []byte(text))
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("codec keys: %w", err)
	}
	return k.Reload()
}

// Activate is phase two: id seals from now on, also after a restart. Every other
// process must have the key already. Idempotent. It is refused when the
// configuration pins another id.
func (k *Keyring) Activate(id string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, ok := k.keys[id]; !ok {
		return &MissingKeyError{ID: id, Dir: k.dir}
	}
	if k.pinned {
		if id == k.current {
			return nil
		}
		return fmt.Errorf("codec keys: codec.current in rekey.yaml is %q: change it to %q there on every host", k.current, id)
	}
	if err := fsx.WriteAtomic(filepath.Join(k.dir, currentFile), []byte(id+"\n")); err != nil {
		return fmt.Errorf("codec keys: %w", err)
	}
	k.current = id
	return nil
}

// Current is the id that seals.
func (k *Keyring) Current() string {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.current
}

// IDs are the ids that open, sorted.
func (k *Keyring) IDs() []string {
	k.mu.RLock()
	defer k.mu.RUnlock()
	ids := make([]string, 0, len(k.keys))
	for id := range k.keys {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// Seal encrypts plain under the current key and returns the key's id, which the
// caller keeps beside the ciphertext. context says what and where it is.
func (k *Keyring) Seal(u Usage, context string, plain []byte) (id string, sealed []byte) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.current, k.keys[k.current].Seal(nil, nil, plain, aad(u, k.current, context)) //nolint:gosec // NewGCMWithRandomNonce makes its own nonce; the argument must be nil
}

// Open decrypts what Seal gave for the same usage, id and context. It fails with
// *MissingKeyError or *CorruptError.
func (k *Keyring) Open(u Usage, id, context string, sealed []byte) ([]byte, error) {
	aead, err := k.key(id)
	if err != nil {
		return nil, err
	}
	plain, err := aead.Open(nil, nil, sealed, aad(u, id, context))
	if err != nil {
		return nil, &CorruptError{ID: id}
	}
	return plain, nil
}

func (k *Keyring) key(id string) (cipher.AEAD, error) {
	get := func() (cipher.AEAD, bool) {
		k.mu.RLock()
		defer k.mu.RUnlock()
		aead, ok := k.keys[id]
		return aead, ok
	}
	if aead, ok := get(); ok {
		return aead, nil
	}
	if !idRE.MatchString(id) {
		return nil, &CorruptError{ID: "?"}
	}
	if _, err := os.Stat(filepath.Join(k.dir, id+keySuffix)); err == nil { // added since
		if err := k.Reload(); err != nil {
			return nil, err
		}
		if aead, ok := get(); ok {
			return aead, nil
		}
	}
	return nil, &MissingKeyError{ID: id, Dir: k.dir}
}

func aad(u Usage, id, context string) []byte {
	return []byte(version + "\x00" + string(u) + "\x00" + id + "\x00" + context)
}
