package agestore

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"filippo.io/age"

	"rekey/internal/fsx"
	"rekey/internal/secret"
)

const (
	maxKeyFile = 64 << 10
	ageMagic   = "age-encryption.org/v1"
)

// ReadPassphrase reads a passphrase file: private, one line, its line end not
// part of the passphrase.
func ReadPassphrase(path string) (secret.Value, error) {
	b, err := fsx.ReadPrivate(path, 4096)
	if err != nil {
		return secret.Value{}, fmt.Errorf("sealed.passphrase_file: %w", err)
	}
	defer clear(b)
	line := bytes.TrimRight(b, "\r\n")
	if len(line) == 0 || bytes.ContainsAny(line, "\r\n") {
		return secret.Value{}, fmt.Errorf("sealed.passphrase_file %s must hold one line, the passphrase", path)
	}
	return secret.New(line), nil
}

// LoadIdentity opens the installation's age identity and makes one when there is
// none at path. With a passphrase the file is an age file under scrypt (what
// `age -p` writes), without one it is the plain file age-keygen writes; both
// 0600. A wrong or missing passphrase fails with secret.ErrPassphrase. A plain
// file is refused when a passphrase is configured: its owner believes it is
// protected. Format: https://age-encryption.org/v1.
func LoadIdentity(path string, passphrase secret.Value) (*age.X25519Identity, error) {
	return loadIdentity(path, passphrase, 0)
}

// loadIdentity takes scrypt's work factor (log2 N), 0 for age's own default.
func loadIdentity(path string, passphrase secret.Value, work int) (*age.X25519Identity, error) {
	text, err := fsx.ReadPrivate(path, maxKeyFile)
	if errors.Is(err, fs.ErrNotExist) {
		if err = createIdentity(path, passphrase, work); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("sealed store identity: %w", err)
		}
		text, err = fsx.ReadPrivate(path, maxKeyFile)
	}
	if err != nil {
		return nil, fmt.Errorf("sealed store identity: %w", err)
	}
	defer clear(text)
	protected := bytes.HasPrefix(text, []byte(ageMagic))
	switch {
	case protected && passphrase.Empty():
		return nil, fmt.Errorf("%s is protected by a passphrase and none is given: %w", path, secret.ErrPassphrase)
	case !protected && !passphrase.Empty():
		return nil, fmt.Errorf("%s is not protected though sealed.passphrase_file is set: protect it with `age -p`, or remove that setting: %w", path, secret.ErrPassphrase)
	case protected:
		clearText, err := unlock(text, passphrase)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		defer clear(clearText)
		text = clearText
	}
	return parseIdentity(path, text)
}

func unlock(text []byte, passphrase secret.Value) ([]byte, error) {
	id, err := age.NewScryptIdentity(string(passphrase.Reveal()))
	if err != nil {
		return nil, secret.ErrPassphrase
	}
	r, err := age.Decrypt(bytes.NewReader(text), id)
	if err != nil {
		return nil, secret.ErrPassphrase
	}
	out, err := io.ReadAll(io.LimitReader(r, maxKeyFile))
	if err != nil {
		return nil, errors.New("the identity file is truncated or changed: restore it from backup")
	}
	return out, nil
}

func parseIdentity(path string, text []byte) (*age.X25519Identity, error) {
	damaged := fmt.Errorf("sealed store identity %s is damaged: restore it from backup, or remove it and accept that what is sealed now cannot be read", path)
	if !bytes.HasSuffix(text, []byte("\n")) {
		return nil, damaged
	}
	ids, err := age.ParseIdentities(bytes.NewReader(text))
	if err != nil || len(ids) != 1 {
		return nil, damaged
	}
	id, ok := ids[0].(*age.X25519Identity)
	if !ok {
		return nil, fmt.Errorf("%s holds another kind of age identity: rekey needs one X25519 identity, as age-keygen makes it", path)
	}
	return id, nil
}

func createIdentity(path string, passphrase secret.Value, work int) error {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		return err
	}
	text := fmt.Sprintf("# rekey sealed store, made %s\n# public key: %s\n%s\n", time.Now().UTC().Format(time.RFC3339), id.Recipient(), id)
	if passphrase.Empty() {
		return fsx.CreateExclusive(path, []byte(text))
	}
	r, err := age.NewScryptRecipient(string(passphrase.Reveal()))
	if err != nil {
		return err
	}
	if work != 0 {
		r.SetWorkFactor(work)
	}
	sealed, err := encrypt(r, strings.NewReader(text))
	if err != nil {
		return err
	}
	return fsx.CreateExclusive(path, sealed)
}

func encrypt(to age.Recipient, plain io.Reader) ([]byte, error) {
	var b bytes.Buffer
	w, err := age.Encrypt(&b, to)
	if err != nil {
		return nil, err
	}
	if _, err = io.Copy(w, plain); err != nil {
		return nil, err
	}
	if err = w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
