// Package drilltest plays drills in tests, with the binary of the test as rekey.
package drilltest

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/internal/cli"
)

// asRekey makes this test binary be rekey: the processes that drills start are the
// very code that is tested.
const asRekey = "REKEY_E2E_AS_REKEY"

// Main is TestMain of a package that plays drills, with worker/embedded as engine.
func Main(m *testing.M, engine cli.Engine) {
	if os.Getenv(asRekey) == "1" {
		os.Exit(cli.Main(engine))
	}
	os.Exit(m.Run())
}

// AsRekey has every process that the test starts from its own binary be rekey.
func AsRekey(t *testing.T) {
	t.Helper()
	t.Setenv(asRekey, "1")
}

// Run plays one drill as a user would, and gives its result.
func Run(t *testing.T, name string, wantCode int, args ...string) cli.DrillResult {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	dir := t.TempDir()
	cmd := exec.CommandContext(ctx, self, append([]string{"drill", "run", name, "--json", "--data", dir}, args...)...)
	cmd.Env = append(os.Environ(), asRekey+"=1", "NO_COLOR=1", "REKEY_CONFIG=")
	cmd.Dir = dir
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	code := 0
	if err := cmd.Run(); err != nil {
		var exit *exec.ExitError
		require.ErrorAs(t, err, &exit)
		code = exit.ExitCode()
	}
	require.Equal(t, wantCode, code, "%s\n%s", out.String(), errOut.String())
	var res struct {
		cli.DrillResult
		Control json.RawMessage `json:"control"` // "" or an object
	}
	require.NoError(t, json.Unmarshal(out.Bytes(), &res), "%s", out.String())
	if string(res.Control) != `""` {
		require.NoError(t, json.Unmarshal(res.Control, &res.DrillResult.Control))
	}
	return res.DrillResult
}
