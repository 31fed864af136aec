// Package cluster runs rekey as docker-compose.yml does, as processes of this
// machine: a real PostgreSQL, Temporal's own server and schema tool (built inside
// this module), `rekey serve` and two `rekey worker`, with the certificates that
// deploy/make-secrets makes and the files of deploy/temporal and deploy/postgres.
// Then it takes them away in the middle of an incident.
package cluster

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A process is one of the cluster's, started again as often as it is killed.
type process struct {
	t    *testing.T
	name string
	args []string
	env  []string
	dir  string

	mu    sync.Mutex
	log   bytes.Buffer
	cmd   *exec.Cmd
	ended chan struct{}
}

func newProcess(t *testing.T, name, dir string, env []string, args ...string) *process {
	p := &process{t: t, name: name, args: args, env: env, dir: dir}
	t.Cleanup(func() {
		p.stop()
		if t.Failed() {
			t.Logf("log of %s, its end:\n%s", name, p.tail(12000))
		}
	})
	return p
}

// start starts it, again where it was stopped.
func (p *process) start() {
	p.t.Helper()
	cmd := exec.Command(p.args[0], p.args[1:]...)
	cmd.Env, cmd.Dir = append(os.Environ(), p.env...), p.dir
	cmd.Stdout, cmd.Stderr = (*logged)(p), (*logged)(p)
	require.NoError(p.t, cmd.Start())
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	p.mu.Lock()
	p.cmd, p.ended = cmd, ended
	p.mu.Unlock()
}

// kill is kill -9; stop is Ctrl-C. Both return when the process has ended.
func (p *process) kill() { p.end(syscall.SIGKILL) }
func (p *process) stop() { p.end(syscall.SIGINT) }

func (p *process) end(how syscall.Signal) {
	p.mu.Lock()
	cmd, ended := p.cmd, p.ended
	p.cmd = nil
	p.mu.Unlock()
	if cmd == nil {
		return
	}
	_ = cmd.Process.Signal(how)
	select {
	case <-ended:
	case <-time.After(60 * time.Second):
		p.t.Errorf("%s did not end within a minute of %v", p.name, how)
		_ = cmd.Process.Kill()
		<-ended
	}
}

// alive tells whether it runs.
func (p *process) alive() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return false
	}
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

func (p *process) logs() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

// holds tells whether the process has an account now, by what it said last.
func (p *process) holds() bool {
	log := p.logs()
	held := strings.LastIndex(log, "account is held")
	return held >= 0 && held > strings.LastIndex(log, "account is lost") && held > strings.LastIndex(log, "account is handed over")
}

func (p *process) tail(n int) string {
	s := p.logs()
	return s[max(0, len(s)-n):]
}

// logged is a process as the writer of its own log.
type logged process

// Write implements io.Writer.
func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.log.Write(b)
}

// A result is what a command gave.
type result struct {
	code        int
	out, errOut string
}

// run runs a command to its end.
func run(t *testing.T, dir string, env []string, args ...string) result {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
	cmd.Env, cmd.Dir = append(os.Environ(), env...), dir
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	r := result{out: out.String(), errOut: errOut.String()}
	if err != nil {
		exit, ok := err.(*exec.ExitError) //nolint:errorlint // Run gives exactly this
		require.True(t, ok, "%s: %v", args[0], err)
		r.code = exit.ExitCode()
	}
	return r
}

// programs are rekey and Temporal's own, built once for all tests.
var programs = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "rekey-cluster-")
	if err != nil {
		return "", err
	}
	out, err := exec.Command("go", "build", "-o", dir+"/", "rekey/cmd/rekey", "go.temporal.io/server/cmd/server", "go.temporal.io/server/cmd/tools/sql").CombinedOutput()
	if err != nil {
		return dir, fmt.Errorf("%w: %s", err, out)
	}
	return dir, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, _ := programs(); code == 0 || dir != "" {
		_ = os.RemoveAll(dir)
	}
	os.Exit(code)
}

// root is the root of the module, where deploy/ is.
func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join("..", ".."))
	require.NoError(t, err)
	require.FileExists(t, filepath.Join(dir, "go.mod"))
	return dir
}
