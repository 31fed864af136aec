package audit

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// A Signer signs checkpoints and manifests with Ed25519 (c2sp.org/signed-note).
type Signer struct {
	signer note.Signer
	// Key is the verifier key to give to those who check bundles.
	Key string
	// Old are verifier keys that this installation signed with before, newest
	// first. They go into each bundle, so that what an older key signed can be
	// followed.
	Old []string
}

// Origin is the name of the key.
func (s *Signer) Origin() string { return s.signer.Name() }

func (s *Signer) sign(text string) ([]byte, error) {
	return note.Sign(&note.Note{Text: text}, s.signer)
}

const (
	keyFile    = "audit.key"
	pubFile    = "audit.pub"
	oldKeyFile = "audit.old.pub"
)

// NewSigner makes a signer with a new key that is kept nowhere. Origin is a
// schema-less URL such as "example.com/rekey", without space or plus.
func NewSigner(origin string) (*Signer, error) {
	skey, _, err := note.GenerateKey(rand.Reader, origin)
	if err != nil {
		return nil, fmt.Errorf("audit signing key: %w", err)
	}
	return signerFrom(skey)
}

// LoadOrCreateSigner gives the signer whose private key is in dir/audit.key (0600).
// Where there is none it makes one; two processes that start at once end up with
// the same one. dir/audit.pub is the verifier key, dir/audit.old.pub the keys
// before it. It fails when the key there is of another origin: that needs
// [RotateSigner].
func LoadOrCreateSigner(dir, origin string) (*Signer, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("audit keys: %w", err)
	}
	path := filepath.Join(dir, keyFile)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		skey, _, err := note.GenerateKey(rand.Reader, origin)
		if err != nil {
			return nil, fmt.Errorf("audit signing key for origin %q (a URL without scheme, space or plus): %w", origin, err)
		}
		if _, err := signerFrom(skey); err != nil {
			return nil, err
		}
		// Link makes the first one win, whole, whatever the other process does.
		if err := writeOnce(path, []byte(skey+"\n")); err != nil {
			return nil, err
		}
	}
	return loadSigner(dir, origin)
}

// RotateSigner replaces the signing key in dir by a new one of the given origin.
// The old private key is overwritten, its verifier key is kept in audit.old.pub.
// Bundles that were sealed before stay verifiable with the old verifier key.
func RotateSigner(dir, origin string) (*Signer, error) {
	path := filepath.Join(dir, keyFile)
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("audit keys: nothing to rotate: %w", err)
	}
	old, err := signerFrom(strings.TrimSpace(string(raw)))
	if err != nil {
		return nil, err
	}
	skey, _, err := note.GenerateKey(rand.Reader, origin)
	if err != nil {
		return nil, fmt.Errorf("audit signing key: %w", err)
	}
	if _, err := signerFrom(skey); err != nil {
		return nil, err
	}
	before, err := readKeys(filepath.Join(dir, oldKeyFile))
	if err != nil {
		return nil, err
	}
	// The old verifier key is on disk before its private key goes.
	list := old.Key + "\n"
	for _, k := range before {
		if k != old.Key {
			list += k + "\n"
		}
	}
	if err := replaceFile(filepath.Join(dir, oldKeyFile), []byte(list), 0o644); err != nil {
		return nil, err
	}
	if err := replaceFile(path, []byte(skey+"\n"), 0o600); err != nil {
		return nil, err
	}
	return loadSigner(dir, origin)
}

func loadSigner(dir, origin string) (*Signer, error) {
	path := filepath.Join(dir, keyFile)
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("audit keys: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("audit signing key %s can be read by others: run chmod 600 %s and rotate it with rekey keys rotate", path, path)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("audit keys: %w", err)
	}
	s, err := signerFrom(strings.TrimSpace(string(raw)))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if s.Origin() != origin {
		return nil, fmt.Errorf("the key in %s signs for origin %q, the configuration says audit.origin %q: set it back or rotate the key", path, s.Origin(), origin)
	}
	if s.Old, err = readKeys(filepath.Join(dir, oldKeyFile)); err != nil {
		return nil, err
	}
	// audit.pub follows from the key: a crash before this line is mended here.
	pub := filepath.Join(dir, pubFile)
	if have, err := os.ReadFile(pub); err != nil || !bytes.Equal(have, []byte(s.Key+"\n")) {
		if err := replaceFile(pub, []byte(s.Key+"\n"), 0o644); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func readKeys(path string) ([]string, error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("audit keys: %w", err)
	}
	if _, err := parseKeys([]string{string(raw)}); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return strings.Fields(string(raw)), nil
}

func writeOnce(path string, data []byte) error {
	tmp, err := writeTemp(path, data, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(tmp) }()
	if err := os.Link(tmp, path); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("audit keys: %w", err)
	}
	return syncDir(filepath.Dir(path))
}

func replaceFile(path string, data []byte, mode fs.FileMode) error {
	tmp, err := writeTemp(path, data, mode)
	if err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("audit keys: %w", err)
	}
	return syncDir(filepath.Dir(path))
}

func writeTemp(path string, data []byte, mode fs.FileMode) (string, error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.tmp")
	if err != nil {
		return "", fmt.Errorf("audit keys: %w", err)
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err != nil {
		return "", errors.Join(fmt.Errorf("audit keys: %w", err), os.Remove(f.Name()))
	}
	return f.Name(), nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("audit keys: %w", err)
	}
	return errors.Join(d.Sync(), d.Close())
}

// signerFrom also checks the key against itself: a key file that is damaged must
// not be found out by a bundle that nobody can verify.
func signerFrom(skey string) (*Signer, error) {
	bad := errors.New("not a note signer key (PRIVATE+KEY+name+hash+base64): restore it from a backup or rotate it")
	s, err := note.NewSigner(skey)
	if err != nil {
		return nil, bad
	}
	vkey, err := verifierOf(skey)
	if err != nil {
		return nil, bad
	}
	return &Signer{signer: s, Key: vkey}, nil
}

// verifierOf derives the verifier key from a signer key, so that no second file
// has to be trusted (c2sp.org/signed-note, "Ed25519").
func verifierOf(skey string) (string, error) {
	parts := strings.SplitN(skey, "+", 5)
	if len(parts) != 5 {
		return "", errors.New("malformed signer key")
	}
	raw, err := base64.StdEncoding.DecodeString(parts[4])
	if err != nil || len(raw) != 1+ed25519.SeedSize {
		return "", errors.New("malformed signer key")
	}
	pub, ok := ed25519.NewKeyFromSeed(raw[1:]).Public().(ed25519.PublicKey)
	if !ok {
		return "", errors.New("malformed signer key")
	}
	return note.NewEd25519VerifierKey(parts[2], pub)
}
