// Package agestore is the sealed store as a directory of age files, the default.
//
//	DIR/<incident>/key.age           the incident's data key (an age X25519
//	                                 identity), encrypted to the installation's
//	DIR/<incident>/<hash>.sealed     one secret, encrypted to the data key; the
//	                                 name is SHA-256 of the handle
//
// Destroying an incident removes its data key first (overwritten, then unlinked),
// so that every sealed file of it is unreadable at once, whatever becomes of the
// rest of the removal or of copies of those files. The binding of a secret to
// incident, handle, provider and origin is inside the ciphertext. The directory
// must be left out of backups (design section 8).
//
// On copy-on-write file systems and SSDs overwriting cannot promise to erase the
// old bytes; protect the identity with a passphrase file on another medium there.
package agestore

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"filippo.io/age"

	"rekey/internal/fsx"
	"rekey/internal/secret"
)

const (
	keyFile   = "key.age"
	deadKey   = "key.dead" // between the first and the last step of Destroy
	suffix    = ".sealed"
	maxSecret = 1 << 20
	maxHandle = 512
)

// Options of a Store. All but OnRead are required.
type Options struct {
	Dir      string              // made 0700 when missing
	Identity *age.X25519Identity // from LoadIdentity
	// OnRead is called before a secret is handed out, and for every refusal. It
	// must be safe for concurrent use.
	OnRead func(secret.ReadRecord)
	Now    func() time.Time
}

// A Store is a secret.Store in one directory. One process owns the directory.
type Store struct {
	opts Options
	// mu keeps Destroy and the sealing of the same process apart; reads share it.
	mu sync.RWMutex
}

var _ secret.Store = (*Store)(nil)

// Open prepares the directory.
func Open(o Options) (*Store, error) {
	if o.Identity == nil || o.Now == nil || o.Dir == "" {
		return nil, errors.New("agestore: Dir, Identity and Now are required")
	}
	if o.OnRead == nil {
		o.OnRead = func(secret.ReadRecord) {}
	}
	if err := fsx.MkdirPrivate(o.Dir); err != nil {
		return nil, fmt.Errorf("sealed store: %w", err)
	}
	return &Store{opts: o}, nil
}

// envelope is what is encrypted: the binding and the secret under one seal.
type envelope struct {
	Version  int        `json:"v"`
	Ref      secret.Ref `json:"ref"`
	SealedAt time.Time  `json:"sealed_at"`
	Bytes    []byte     `json:"bytes"`
}

// Seal implements secret.Store.
func (s *Store) Seal(ctx context.Context, ref secret.Ref, v secret.Value) error {
	return s.seal(ctx, ref, v, false)
}

// Replace implements secret.Store.
func (s *Store) Replace(ctx context.Context, ref secret.Ref, v secret.Value) error {
	return s.seal(ctx, ref, v, true)
}

func (s *Store) seal(ctx context.Context, ref secret.Ref, v secret.Value, replace bool) error {
	if err := check(ctx, ref); err != nil {
		return err
	}
	if v.Empty() || v.Len() > maxSecret {
		return fmt.Errorf("sealed store: a secret has 1 to %d bytes, this one %d", maxSecret, v.Len())
	}
	s.mu.Lock()
	defer s.mu.Unlock()

	key, err := s.dataKey(ref.Incident)
	if errors.Is(err, fs.ErrNotExist) {
		key, err = s.newDataKey(ref.Incident)
	}
	if err != nil {
		return err
	}
	have, err := s.read(key, ref)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil && !replace:
		return err
	case !replace:
		defer clear(have.Bytes)
		if have.Ref != ref {
			return secret.ErrBinding
		}
		if !secret.New(have.Bytes).Equal(v) {
			return secret.ErrDiffers
		}
		return nil // sealed already; its age counts from the first time
	default:
		clear(have.Bytes)
	}
	raw := v.Reveal()
	defer clear(raw)
	plain, err := json.Marshal(envelope{Version: 1, Ref: ref, SealedAt: s.opts.Now().UTC(), Bytes: raw})
	if err != nil {
		return err
	}
	defer clear(plain)
	sealed, err := encrypt(key.Recipient(), bytes.NewReader(plain))
	if err != nil {
		return err
	}
	if err := fsx.WriteAtomic(s.path(ref), sealed); err != nil {
		return fmt.Errorf("sealed store: %w", err)
	}
	return nil
}

// Open implements secret.Store. why must be given.
func (s *Store) Open(ctx context.Context, ref secret.Ref, why secret.Purpose) (secret.Value, error) {
	if err := check(ctx, ref); err != nil {
		return secret.Value{}, err
	}
	if why == "" {
		return secret.Value{}, errors.New("sealed store: say what the secret is read for; every read is on record")
	}
	record := secret.ReadRecord{At: s.opts.Now().UTC(), Ref: ref, Purpose: why}
	e, err := s.load(ref)
	defer clear(e.Bytes)
	switch {
	case errors.Is(err, secret.ErrGone):
		record.Why = "gone"
	case err != nil:
		record.Why = "unreadable"
	case e.Ref != ref:
		record.Why, err = "binding", secret.ErrBinding
	default:
		record.Granted = true
	}
	s.opts.OnRead(record)
	if err != nil {
		return secret.Value{}, err
	}
	return secret.New(e.Bytes), nil
}

// Exists implements secret.Store.
func (s *Store) Exists(ctx context.Context, ref secret.Ref) (bool, error) {
	if err := check(ctx, ref); err != nil {
		return false, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, p := range []string{filepath.Join(s.opts.Dir, ref.Incident, keyFile), s.path(ref)} {
		if _, err := os.Lstat(p); errors.Is(err, fs.ErrNotExist) {
			return false, nil
		} else if err != nil {
			return false, err
		}
	}
	return true, nil
}

// Meta says when a secret was sealed and what it is bound to. The secret itself
// is not handed out, so no read is recorded. It fails with secret.ErrGone.
func (s *Store) Meta(ctx context.Context, ref secret.Ref) (secret.Meta, error) {
	if err := check(ctx, ref); err != nil {
		return secret.Meta{}, err
	}
	e, err := s.load(ref)
	clear(e.Bytes)
	return secret.Meta{Ref: e.Ref, SealedAt: e.SealedAt}, err
}

// Destroy implements secret.Store.
func (s *Store) Destroy(ctx context.Context, incident string) error {
	if err := check(ctx, secret.Ref{Incident: incident, Handle: "-", Provider: "-", Origin: "-"}); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.destroy(incident)
}

// destroy first takes the data key's name away, in one durable step that a crash
// cannot halve; the rest can be done again at leisure.
func (s *Store) destroy(incident string) error {
	dir := filepath.Join(s.opts.Dir, incident)
	err := os.Rename(filepath.Join(dir, keyFile), filepath.Join(dir, deadKey))
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return fmt.Errorf("sealed store: %w", err)
	default:
		if err := fsx.SyncDir(dir); err != nil {
			return fmt.Errorf("sealed store: %w", err)
		}
	}
	if err := overwrite(filepath.Join(dir, deadKey)); err != nil {
		return fmt.Errorf("sealed store: %w", err)
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("sealed store: %w", err)
	}
	return fsx.SyncDir(s.opts.Dir)
}

// overwrite puts random bytes over a file, durably. A missing one is fine.
func overwrite(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil {
		_, err = io.CopyN(f, rand.Reader, info.Size())
	}
	return errors.Join(err, f.Sync(), f.Close())
}

// load opens what is sealed under ref, without comparing the binding.
func (s *Store) load(ref secret.Ref) (envelope, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	key, err := s.dataKey(ref.Incident)
	if err == nil {
		var e envelope
		if e, err = s.read(key, ref); err == nil {
			return e, nil
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = secret.ErrGone
	}
	return envelope{}, err
}

// read fails with fs.ErrNotExist when nothing is there. The incident and handle
// inside must be those of the file's place: a file that was moved is refused.
func (s *Store) read(key *age.X25519Identity, ref secret.Ref) (envelope, error) {
	e, err := readFile(key, s.path(ref))
	if err != nil {
		return envelope{}, err
	}
	if e.Ref.Incident != ref.Incident || e.Ref.Handle != ref.Handle {
		clear(e.Bytes)
		return envelope{}, unreadable(s.path(ref))
	}
	return e, nil
}

func readFile(key *age.X25519Identity, path string) (envelope, error) {
	sealed, err := fsx.ReadPrivate(path, 2*maxSecret+4096)
	if err != nil {
		return envelope{}, err
	}
	plain, err := decrypt(key, sealed)
	if err != nil {
		return envelope{}, unreadable(path)
	}
	defer clear(plain)
	var e envelope
	if err := json.Unmarshal(plain, &e); err != nil || e.Version != 1 {
		return envelope{}, unreadable(path)
	}
	return e, nil
}

func decrypt(key *age.X25519Identity, sealed []byte) ([]byte, error) {
	r, err := age.Decrypt(bytes.NewReader(sealed), key)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

func unreadable(path string) error {
	return fmt.Errorf("sealed file %s cannot be read: it was changed, or belongs to another installation identity; report the key again with its secret", path)
}

func (s *Store) path(ref secret.Ref) string {
	sum := sha256.Sum256([]byte(ref.Handle))
	return filepath.Join(s.opts.Dir, ref.Incident, hex.EncodeToString(sum[:])+suffix)
}

// dataKey fails with fs.ErrNotExist when the incident has none.
func (s *Store) dataKey(incident string) (*age.X25519Identity, error) {
	path := filepath.Join(s.opts.Dir, incident, keyFile)
	sealed, err := fsx.ReadPrivate(path, maxKeyFile)
	if err != nil {
		return nil, err
	}
	text, err := decrypt(s.opts.Identity, sealed)
	if err != nil {
		return nil, fmt.Errorf("data key %s: %w", path, secret.ErrPassphrase)
	}
	defer clear(text)
	return age.ParseX25519Identity(strings.TrimSpace(string(text)))
}

// newDataKey first clears what an interrupted Destroy left: it cannot be read.
func (s *Store) newDataKey(incident string) (*age.X25519Identity, error) {
	if err := s.destroy(incident); err != nil {
		return nil, err
	}
	dir := filepath.Join(s.opts.Dir, incident)
	if err := fsx.MkdirPrivate(dir); err != nil {
		return nil, fmt.Errorf("sealed store: %w", err)
	}
	key, err := age.GenerateX25519Identity()
	if err != nil {
		return nil, err
	}
	sealed, err := encrypt(s.opts.Identity.Recipient(), strings.NewReader(key.String()))
	if err != nil {
		return nil, err
	}
	if err := fsx.CreateExclusive(filepath.Join(dir, keyFile), sealed); err != nil {
		return nil, fmt.Errorf("sealed store: %w", err)
	}
	return key, nil
}

func check(ctx context.Context, ref secret.Ref) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if !secret.ValidIncident(ref.Incident) {
		return errors.New("sealed store: not an incident id: want inc- and 12 hex digits")
	}
	if ref.Handle == "" || len(ref.Handle) > maxHandle || strings.ContainsFunc(ref.Handle, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return errors.New("sealed store: a handle has 1 to 512 bytes and no control characters")
	}
	if ref.Provider == "" || ref.Origin == "" {
		return errors.New("sealed store: a secret is bound to a provider and an origin; give both")
	}
	return nil
}
