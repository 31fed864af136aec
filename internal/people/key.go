// Package people keeps the Ed25519 keys (RFC 8032) with which people and rekey's
// server sign statements, and says who may vote.
//
// Private keys are PKCS #8 in PEM (RFC 8410 section 7, RFC 7468),
// 0600. Public keys are read as PEM (SubjectPublicKeyInfo) or as the
// `ssh-ed25519 AAAA… comment` line of OpenSSH (RFC 8709), so that a person can
// use `ssh-keygen -t ed25519` or `rekey identity new`.
//
// Another way to hold a key (a security key, an agent) is another function that
// gives a signer for the same statements.
package people

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/crypto/ssh"

	"rekey/internal/fsx"
)

const maxKeyFile = 16 << 10

// A KeyFileError says what is wrong with a key file and what to do. It holds
// nothing of the file.
type KeyFileError struct{ Path, Why, Do string }

func (e *KeyFileError) Error() string { return fmt.Sprintf("%s %s: %s", e.Path, e.Why, e.Do) }

// LoadOrCreate reads the private key at path and makes one, 0600, when there is
// none. Two processes that start at once agree on one key.
func LoadOrCreate(path string) (ed25519.PrivateKey, error) {
	key, err := LoadIdentity(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	if err := fsx.MkdirPrivate(filepath.Dir(path)); err != nil {
		return nil, err
	}
	if err := create(path); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return LoadIdentity(path)
}

// GenerateIdentity makes a person's key pair: the private key at path, 0600, the
// public one at path + ".pub". It fails with fs.ErrExist rather than replace a
// key. It gives the base64 of the public key.
func GenerateIdentity(path string) (string, error) {
	if err := create(path); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return "", fmt.Errorf("%s is there already: choose another file; votes already given stay bound to the old key: %w", path, fs.ErrExist)
		}
		return "", err
	}
	key, err := LoadIdentity(path)
	if err != nil {
		return "", err
	}
	pub, err := MarshalPublic(Public(key))
	if err != nil {
		return "", err
	}
	return Encode(Public(key)), fsx.WriteAtomic(path+".pub", pub)
}

func create(path string) error {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	defer clear(key)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	defer clear(der)
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	defer clear(text)
	return fsx.CreateExclusive(path, text)
}

// LoadIdentity reads a private key: PKCS #8 PEM, or the file of `ssh-keygen -t
// ed25519` without a passphrase. It fails with fs.ErrNotExist, with
// *fsx.PermissionError when others can read the file, and with *KeyFileError.
func LoadIdentity(path string) (ed25519.PrivateKey, error) {
	text, err := fsx.ReadPrivate(path, maxKeyFile)
	if err != nil {
		return nil, err
	}
	defer clear(text)
	bad := &KeyFileError{path, "is not an Ed25519 private key", "restore it from backup, or make a new one with `rekey identity new` and have its public half named in rekey.yaml"}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, bad
	}
	var parsed any // what does not parse stays nil, and is no key
	switch block.Type {
	case "PRIVATE KEY":
		parsed, _ = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "OPENSSH PRIVATE KEY":
		var err error
		parsed, err = ssh.ParseRawPrivateKey(text)
		var locked *ssh.PassphraseMissingError
		if errors.As(err, &locked) {
			return nil, &KeyFileError{path, "has a passphrase", "rekey cannot ask for it; use a key without one on a protected disk (`rekey identity new` makes it)"}
		}
	}
	switch key := parsed.(type) {
	case ed25519.PrivateKey:
		return key, nil
	case *ed25519.PrivateKey:
		return *key, nil
	}
	return nil, bad
}

// LoadPublic reads a public key, PEM or an OpenSSH line. The file need not be
// private, but nobody else may write it: who can, can vote.
func LoadPublic(path string) (ed25519.PublicKey, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, &KeyFileError{path, "cannot be read", "check the path (people.<name>.cli_key_file) and its permissions"}
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return nil, &KeyFileError{path, "is not a regular file", "give the file with the public key"}
	}
	if info.Mode().Perm()&0o002 != 0 {
		return nil, &KeyFileError{path, fmt.Sprintf("may be written by everyone (mode %04o)", info.Mode().Perm()), "who can write it can vote: run `chmod go-w " + path + "`"}
	}
	text, err := io.ReadAll(io.LimitReader(f, maxKeyFile))
	if err != nil {
		return nil, &KeyFileError{path, "cannot be read", "check the disk and its permissions"}
	}
	if block, _ := pem.Decode(text); block != nil {
		if block.Type != "PUBLIC KEY" {
			return nil, &KeyFileError{path, "holds something else than a public key", "give the public half (.pub); if it is the private key, make a new one, because it was where others can read it"}
		}
		if key, err := x509.ParsePKIXPublicKey(block.Bytes); err == nil {
			if pub, ok := key.(ed25519.PublicKey); ok {
				return pub, nil
			}
		}
	} else if key, _, _, _, err := ssh.ParseAuthorizedKey(text); err == nil {
		if c, ok := key.(ssh.CryptoPublicKey); ok {
			if pub, ok := c.CryptoPublicKey().(ed25519.PublicKey); ok {
				return pub, nil
			}
		}
	}
	return nil, &KeyFileError{path, "is not an Ed25519 public key", "make one with `rekey identity new` or `ssh-keygen -t ed25519` and give its .pub file"}
}

// MarshalPublic gives the PEM of a public key.
func MarshalPublic(pub ed25519.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}

// Public is the public half.
func Public(key ed25519.PrivateKey) ed25519.PublicKey {
	pub, _ := key.Public().(ed25519.PublicKey) // the type of an ed25519 key by its documentation
	return pub
}

// Encode is how statements carry a public key: standard base64.
func Encode(pub ed25519.PublicKey) string { return base64.StdEncoding.EncodeToString(pub) }
