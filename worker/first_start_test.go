package worker

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"rekey/internal/config"
)

// startAs makes this test binary be one process that opens an installation and
// says which keys it has.
const startAs = "REKEY_TEST_FIRST_START"

func TestMain(m *testing.M) {
	if dir := os.Getenv(startAs); dir != "" {
		keys, err := firstStart(dir)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Fprintln(os.Stdout, keys)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// firstStart opens the installation in dir and names every key of it, by what it
// makes: none of them is printed.
func firstStart(dir string) (string, error) {
	cfg, err := config.Parse(fmt.Appendf(nil, "data: %q\naudit: {origin: example.com/rekey}\n", dir), dir)
	if err != nil {
		return "", err
	}
	r, err := Open(cfg, NewLog(os.Stderr, "error", ""), true)
	if err != nil {
		return "", err
	}
	fp, err := r.Finger.Public("awsiam", "prod", "user-access-key", "AKIAIOSFODNN7EXAMPLE")
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("fingerprint %s\nsealing %s of %v\naudit %s\nserver %x", fp, r.Keys.Current(), r.Keys.IDs(), r.Signer.Key, r.server.Public()), nil
}

// TestFirstStartOfManyProcesses starts several processes at once on an empty data
// directory, as a cluster does the first time, many times over: all have the same
// keys, and so have all later ones.
func TestFirstStartOfManyProcesses(t *testing.T) {
	self, err := os.Executable()
	require.NoError(t, err)
	const rounds, processes = 5, 6
	for range rounds {
		dir := filepath.Join(t.TempDir(), "data")
		out := make([]string, processes)
		var wg sync.WaitGroup
		for n := range out {
			wg.Go(func() {
				cmd := exec.Command(self)
				cmd.Env = append(os.Environ(), startAs+"="+dir)
				var said, errs bytes.Buffer
				cmd.Stdout, cmd.Stderr = &said, &errs
				if err := cmd.Run(); err != nil {
					out[n] = "failed: " + errs.String()
					return
				}
				out[n] = said.String()
			})
		}
		wg.Wait()
		for _, o := range out {
			require.Equal(t, out[0], o, "processes that start together agree on every key")
			require.True(t, strings.HasPrefix(o, "fingerprint fp1_"), o)
		}
		later, err := firstStart(dir)
		require.NoError(t, err)
		require.Equal(t, strings.TrimSpace(out[0]), later)
		identity, err := os.ReadFile(filepath.Join(dir, "keys", "age.txt"))
		require.NoError(t, err)
		require.Equal(t, 1, bytes.Count(identity, []byte("AGE-SECRET-KEY-")), "one identity, whole")
	}
}
