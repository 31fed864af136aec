// Package e2e holds the tests that run rekey as its users do: the real binary's
// code in processes of its own, against servers that somebody else wrote or the
// lab. It is, with cmd/rekey, the only place that links the embedded Temporal
// server besides worker/embedded and internal/devserver.
package e2e

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/activities/activitytest/porttest"
	"rekey/internal/cli"
	"rekey/worker/embedded"
)

// asRekey makes this test binary be rekey: processes of the tests, and those that
// drills start, are the very code that is tested.
const asRekey = "REKEY_E2E_AS_REKEY"

func TestMain(m *testing.M) {
	if os.Getenv(asRekey) == "1" {
		os.Exit(cli.Main(testEngine(embedded.Engine())))
	}
	// These tests wait more than they work: six at a time keep the package far below
	// the ten minutes that `go test` gives it.
	flag.Parse()
	if err := flag.Set("test.parallel", "6"); err != nil {
		panic(err)
	}
	code := m.Run()
	if built.Load() {
		server, _ := temporalServer()
		_ = os.RemoveAll(filepath.Dir(server))
	}
	os.Exit(code)
}

// built: [temporalServer] was asked for.
var built atomic.Bool

// needServer skips a test whose server is not on this machine, or fails it where
// CI says that it must be there.
func needServer(t *testing.T, there bool, what string) {
	t.Helper()
	if there {
		return
	}
	if os.Getenv("REKEY_REQUIRE_SERVERS") == "1" {
		t.Fatalf("needs %s: install it", what)
	}
	t.Skipf("skipped: needs %s", what)
}

// An outcome is what a command of rekey gave.
type outcome struct {
	code        int
	out, errOut string
}

// A rig is one data directory with its configuration.
type rig struct {
	t    *testing.T
	dir  string
	env  []string
	http string
	ui   string
	// observed is the address of /metrics, /healthz and /readyz.
	observed string
	// upArgs are further arguments of `rekey up`.
	upArgs []string

	mu    sync.Mutex
	cmd   *exec.Cmd
	ended chan struct{} // closed when cmd has ended
	log   *bytes.Buffer
}

// newRig makes a data directory and a rekey.yaml of the lines given, with free
// ports.
func newRig(t *testing.T, yaml string, env ...string) *rig {
	t.Helper()
	ports := porttest.Addresses(t, 4)
	r := &rig{t: t, dir: t.TempDir(), env: env, http: ports[0], ui: ports[2], observed: ports[3], log: &bytes.Buffer{}}
	head := fmt.Sprintf("data: %s\nlisten: {http: %s, temporal: %s, ui: %s, metrics: %s}\n", filepath.Join(r.dir, "data"), ports[0], ports[1], ports[2], ports[3])
	require.NoError(t, os.WriteFile(filepath.Join(r.dir, "rekey.yaml"), []byte(head+yaml), 0o600))
	t.Cleanup(func() {
		r.stop()
		if t.Failed() {
			t.Logf("log of rekey:\n%s", unasked(r.logged()))
		}
	})
	return r
}

// unasked is a log without the many reads of who watches.
func unasked(log string) string {
	var out []string
	for line := range strings.Lines(log) {
		if !strings.Contains(line, "msg=request method=GET") || !strings.Contains(line, "status=200") {
			out = append(out, line)
		}
	}
	return strings.Join(out, "")
}

func (r *rig) config() string { return filepath.Join(r.dir, "rekey.yaml") }
func (r *rig) data() string   { return filepath.Join(r.dir, "data") }

// command prepares rekey with this rig's configuration.
func (r *rig) command(ctx context.Context, args ...string) *exec.Cmd {
	self, err := os.Executable()
	require.NoError(r.t, err)
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Env = append(os.Environ(), append([]string{asRekey + "=1", "REKEY_CONFIG=" + r.config(), "NO_COLOR=1"}, r.env...)...)
	cmd.Dir = r.dir
	return cmd
}

// rekey runs one command, which must end by itself; stdin may be "".
func (r *rig) rekey(stdin string, args ...string) outcome {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience+time.Minute) // --wait waits for patience
	defer cancel()
	cmd := r.command(ctx, args...)
	var out, errOut bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errOut
	err := cmd.Run()
	o := outcome{out: out.String(), errOut: errOut.String()}
	if err != nil {
		exit, ok := err.(*exec.ExitError) //nolint:errorlint // Run gives exactly this
		require.True(r.t, ok, "%v", err)
		o.code = exit.ExitCode()
	}
	return o
}

// up starts `rekey up` and waits until it is ready.
func (r *rig) up() {
	r.t.Helper()
	r.start()
	ready := func() bool {
		res, err := http.Get("http://" + r.http + "/readyz")
		if err != nil {
			return false
		}
		defer func() { _ = res.Body.Close() }()
		return res.StatusCode == http.StatusOK
	}
	for deadline := time.Now().Add(patience); !ready(); {
		select {
		case <-r.ended:
			require.FailNow(r.t, "rekey up has ended", r.logged())
		case <-time.After(20 * time.Millisecond):
		}
		require.True(r.t, time.Now().Before(deadline), "rekey up is not ready: %s", r.logged())
	}
}

func (r *rig) start() {
	r.t.Helper()
	cmd := r.command(context.Background(), append([]string{"up", "--log-level", "info"}, r.upArgs...)...)
	w := &locked{r: r}
	cmd.Stdout, cmd.Stderr = w, w
	require.NoError(r.t, cmd.Start())
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	r.mu.Lock()
	r.cmd, r.ended = cmd, ended
	r.mu.Unlock()
}

type locked struct{ r *rig }

func (l *locked) Write(b []byte) (int, error) {
	l.r.mu.Lock()
	defer l.r.mu.Unlock()
	return l.r.log.Write(b)
}

func (r *rig) logged() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.log.String()
}

// stop is Ctrl-C, kill is kill -9. Both return when rekey has ended.
func (r *rig) stop() { r.end(os.Interrupt) }
func (r *rig) kill() { r.end(os.Kill) }

func (r *rig) end(how os.Signal) {
	r.mu.Lock()
	cmd := r.cmd
	r.cmd = nil
	r.mu.Unlock()
	if cmd == nil {
		return
	}
	_ = cmd.Process.Signal(how)
	select {
	case <-r.ended:
	case <-time.After(patience):
		r.t.Errorf("rekey up did not end within %v of %v", patience, how)
		_ = cmd.Process.Kill()
		<-r.ended
	}
}
