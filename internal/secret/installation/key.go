// Package installation keeps the key under which this installation makes its
// fingerprints. It is made once and never rotated: a new key would not recognise
// any earlier incident (contracts section 0).
package installation

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"rekey/internal/fsx"
	"rekey/internal/secret"
)

const header = "# rekey installation key (fp1). Never rotate, never share; back it up apart from the data.\n"

// A DamagedError says that the key file is there and not a key. It is never
// replaced by itself.
type DamagedError struct{ Path, Why string }

func (e *DamagedError) Error() string {
	return fmt.Sprintf("installation key %s is damaged (%s): restore it from backup; only if there never was an incident, remove it and start again", e.Path, e.Why)
}

// Load opens the key file at path and makes it, 0600, when there is none. Two
// processes that start at once agree on one key. It fails with
// *fsx.PermissionError when others can read the file and with *DamagedError when
// it is truncated.
func Load(path string) (*secret.Fingerprinter, error) {
	text, err := fsx.ReadPrivate(path, 4096)
	if errors.Is(err, fs.ErrNotExist) {
		if err = create(path); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("installation key: %w", err)
		}
		text, err = fsx.ReadPrivate(path, 4096)
	}
	if err != nil {
		return nil, fmt.Errorf("installation key: %w", err)
	}
	defer clear(text)
	body, ok := strings.CutPrefix(string(text), header)
	if !ok {
		return nil, &DamagedError{path, "no header"}
	}
	line, ok := strings.CutSuffix(body, "\n")
	if !ok {
		return nil, &DamagedError{path, "truncated"}
	}
	key, err := base64.StdEncoding.Strict().DecodeString(line)
	if err != nil || len(key) != secret.KeySize {
		return nil, &DamagedError{path, "not a key of 32 bytes in base64"}
	}
	defer clear(key)
	return secret.NewFingerprinter(key)
}

func create(path string) error {
	key := make([]byte, secret.KeySize)
	defer clear(key)
	if _, err := rand.Read(key); err != nil {
		return err
	}
	return fsx.CreateExclusive(path, []byte(header+base64.StdEncoding.EncodeToString(key)+"\n"))
}
