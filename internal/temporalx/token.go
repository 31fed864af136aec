package temporalx

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// TokenFile is where the embedded server of a data directory keeps the credential of its callers (mode 0600).
func TokenFile(dataDir string) string { return filepath.Join(dataDir, "keys", "temporal-token") }

// ReadToken returns the credential of the embedded server of a data directory. It refuses a file that others may
// read. errors.Is(err, fs.ErrNotExist) when no server was ever started there.
func ReadToken(dataDir string) (string, error) {
	name := TokenFile(dataDir)
	info, err := os.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("no Temporal token in %s: start `rekey up` with this data directory first: %w", dataDir, fs.ErrNotExist)
	}
	if err != nil {
		return "", fmt.Errorf("Temporal token: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("%s may be read by others (mode %04o): run `chmod 600 %s`, and delete the file first if someone may have read it; the next start makes a new one", name, info.Mode().Perm(), name)
	}
	raw, err := os.ReadFile(name)
	if err != nil {
		return "", fmt.Errorf("Temporal token: %w", err)
	}
	token := strings.TrimSpace(string(raw))
	if len(token) < 32 {
		return "", fmt.Errorf("%s holds no usable token: delete it, the next start makes a new one", name)
	}
	return token, nil
}
