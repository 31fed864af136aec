package e2e

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/internal/lab/control"
	"rekey/internal/playbook"
)

const leaseItems = 24

// leaseScenario has a key and a user for each item.
func leaseScenario() string {
	var keys strings.Builder
	for n := range leaseItems {
		fmt.Fprintf(&keys, "    - {id: k%d, user: svc-%d, policy: ReadOnlyAccess, issued: T0-60d, owner: team-%d}\n", n, n, n)
	}
	return `apiVersion: rekey/v1
kind: Drill
name: lease
seed: 3
clock: {mode: real}
estate:
  providers: {awsiam/lab: {propagation: 1s}}
  keys:
` + keys.String() + `trigger: {at: T0, report: {provider: awsiam, kind: user-access-key, key: k0, source: cli, confidence: confirmed}}
expect: [{id: there, expr: 'lab.keys.size() > 0'}]
`
}

// replacePlaybook makes the replacements first, by policy: creates are what must
// not happen twice.
const replacePlaybook = `apiVersion: rekey/v1
kind: Playbook
name: replace-first
title: Replace first
version: 1.0.0
match: {provider: awsiam, kinds: [user-access-key], when: "true"}
start: auto
severity: [{level: high, when: "true"}]
scope: {depth: 2, sources: [provider, estate], lookback: 90d, timeout: 5m}
decide: [{id: always, strategy: reissue-first, when: "true"}]
strategies:
  reissue-first: {cutoff: 72h, steps: [Issue, Distribute, WaitCutover, Disable, EndSessions, Probe, Revoke]}
ladder: {automatic: [key, sessions]}
approvals:
  reissue-first: {policy: true}
  irreversible: {roles: [commander, security], quorum: 2, expires: 1h, on_expiry: escalate, escalate_to: [admin]}
  rung:         {roles: [commander, security], quorum: 2, expires: 30m, on_expiry: escalate, escalate_to: [admin]}
reissue: {stores: [{target: awssm, name: "{{item.owner}}/aws"}]}
verify: {k: 2, span: 30s, vantage: 1, sweep: false}
watch: {for: 1d}
`

// A providerCall is a request to the provider, and the process that made it.
type providerCall struct {
	at     time.Time
	pid    int
	action string
}

// A door stands between the workers and the provider, and tells whose call is whose
// by the socket it came from (proc(5)).
type door struct {
	url   string
	mu    sync.Mutex
	calls []providerCall
}

type pidKey struct{}

func newDoor(t *testing.T, target string) *door {
	t.Helper()
	u, err := url.Parse(target)
	require.NoError(t, err)
	out := &door{}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(u)
		r.Out.Host = r.In.Host // it is signed
	}}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		pid, _ := r.Context().Value(pidKey{}).(int)
		var body bytes.Buffer
		_, _ = body.ReadFrom(http.MaxBytesReader(w, r.Body, 1<<20))
		_ = r.Body.Close()
		form, _ := url.ParseQuery(body.String())
		out.mu.Lock()
		out.calls = append(out.calls, providerCall{time.Now(), pid, form.Get("Action")})
		out.mu.Unlock()
		r.Body = http.NoBody
		if body.Len() > 0 {
			r.Body = readCloser{&body}
		}
		proxy.ServeHTTP(w, r)
	}))
	srv.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		return context.WithValue(ctx, pidKey{}, peer(c))
	}
	srv.Start()
	t.Cleanup(srv.Close)
	out.url = srv.URL
	return out
}

type readCloser struct{ *bytes.Buffer }

func (readCloser) Close() error { return nil }

// peer is the process at the other end of a connection on this machine, 0 where it
// cannot be told.
func peer(c net.Conn) int {
	// Both ends: another process may use the same port towards somebody else.
	theirs, ours := port(c.RemoteAddr()), port(c.LocalAddr())
	table, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		return 0
	}
	inode := ""
	for line := range strings.Lines(string(table)) {
		f := strings.Fields(line)
		if len(f) > 9 && strings.HasSuffix(f[1], theirs) && strings.HasSuffix(f[2], ours) && f[9] != "0" {
			inode = f[9]
		}
	}
	fds, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil && inode != "" && to == "socket:["+inode+"]" {
			pid, _ := strconv.Atoi(strings.Split(fd, "/")[2])
			return pid
		}
	}
	return 0
}

// port is that of an address, as proc(5) writes it.
func port(a net.Addr) string {
	_, port, err := net.SplitHostPort(a.String())
	if err != nil {
		return ""
	}
	n, _ := strconv.Atoi(port)
	return fmt.Sprintf(":%04X", n)
}

// by gives the calls of a process after a moment.
func (p *door) by(pid int, after time.Time) []providerCall {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []providerCall
	for _, c := range p.calls {
		if c.pid == pid && c.at.After(after) {
			out = append(out, c)
		}
	}
	return out
}

// A process is one `rekey worker` or `rekey serve`.
type process struct {
	t    *testing.T
	name string
	cmd  *exec.Cmd
	mu   sync.Mutex
	log  bytes.Buffer
	done chan struct{}
}

func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.Write(b)
}

func (p *process) logged() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// holds tells whether the process has the account now, by what it said last.
func (p *process) holds() bool {
	log := p.logged()
	held := strings.LastIndex(log, "account is held")
	return held >= 0 && held > strings.LastIndex(log, "account is lost") && held > strings.LastIndex(log, "account is handed over")
}

func (p *process) signal(s syscall.Signal) { require.NoError(p.t, p.cmd.Process.Signal(s)) }

func (r *rig) process(name string, args ...string) *process {
	r.t.Helper()
	p := &process{t: r.t, name: name, cmd: detached(r.command(context.Background(), args...)), done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = p, p
	require.NoError(r.t, p.cmd.Start())
	go func() { _ = p.cmd.Wait(); close(p.done) }()
	r.t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.done
		if r.t.Failed() {
			r.t.Logf("log of %s:\n%s", name, tail(unasked(p.logged())))
		}
	})
	return p
}

// TestOneProcessAtATimeCallsAnAccount runs two workers against Temporal's own server
// in the middle of an incident that makes a key for each of its items. The holder of the account is
// killed; the next one is stopped for longer than its lease and goes on; the third is
// ended in order. Calls are told apart at the provider's door, effects are counted in
// the lab's own log.
func TestOneProcessAtATimeCallsAnAccount(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("skipped: builds Temporal's server and plays an incident, minutes long")
	}
	r := newRig(t, "temporal: {namespace: rekey}\n")
	address := startTemporal(t, t.TempDir(), "rekey")
	l := startLab(t, r, leaseScenario())
	entrance := newDoor(t, l.addrs.Provider)
	account := strings.Replace(l.account, strconv.Quote(l.addrs.Provider), strconv.Quote(entrance.url), 1)
	require.Contains(t, account, entrance.url)
	account = strings.TrimSuffix(account, "}") + ", rate: {iam: 4/s}}" // so that a wave has a middle
	var estate, copies strings.Builder
	for n := range leaseItems {
		id := l.info.Aliases[fmt.Sprintf("k%d", n)]
		fmt.Fprintf(&estate, "  - {id: %s, provider: awsiam, account: lab, kind: user-access-key, owner: team-%d}\n", id, n)
		fmt.Fprintf(&copies, "  - {key: %s, where: host/vault, registered: true}\n", id)
	}
	r.configure("providers: {awsiam: {lab: " + account + "}}\nestate: {files: [" + r.write("estate.yaml", "keys:\n"+estate.String()+"copies:\n"+copies.String()) + "]}\n")
	pb := r.write("playbook.yaml", replacePlaybook)
	digest, err := playbook.Digest([]byte(replacePlaybook))
	require.NoError(t, err)
	r.configure(fmt.Sprintf("ceilings: {playbook_digests: [%q]}\n", digest))

	r.process("serve", "serve", "--temporal", address, "--listen-metrics", "127.0.0.1:0")
	workers := 0
	start := func() *process {
		workers++
		return r.process(fmt.Sprintf("worker %d", workers), "worker", "--temporal", address, "--log-level", "info", "--listen-metrics", "127.0.0.1:0")
	}
	one, two := start(), start()
	require.Eventually(t, func() bool { return one.holds() || two.holds() }, patience, 20*time.Millisecond, "nobody holds the account")
	if two.holds() {
		one, two = two, one
	}
	require.Eventually(t, func() bool {
		res, err := http.Get("http://" + r.http + "/readyz")
		if err != nil {
			return false
		}
		defer func() { _ = res.Body.Close() }()
		return res.StatusCode == http.StatusOK
	}, patience, 50*time.Millisecond, "rekey serve is not ready")
	o := r.rekey("", "report", "awsiam/user-access-key", l.info.Aliases["k0"], "--playbook", pb)
	require.Zero(t, o.code, "%s%s", o.out, o.errOut)

	created := func() int {
		n := 0
		for _, c := range l.oracle(t).Calls {
			if c.Action == "iam:CreateAccessKey" && c.Effect {
				n++
			}
		}
		return n
	}
	reached := func(n int) {
		t.Helper()
		require.Eventually(t, func() bool { return created() >= n }, patience, 20*time.Millisecond, "%d keys were not made", n)
	}

	// The holder is killed in a wave.
	reached(4)
	require.False(t, two.holds())
	one.signal(syscall.SIGKILL)
	killed := time.Now()
	require.Eventually(t, two.holds, patience, 10*time.Millisecond, "nobody took over")
	t.Logf("killed: the other worker holds the account after %v", time.Since(killed).Round(10*time.Millisecond))
	require.Empty(t, entrance.by(two.pid(), time.Time{}), "the one that waited has called nobody")

	// The next holder stands still for longer than its lease.
	three := start()
	reached(9)
	two.signal(syscall.SIGSTOP)
	stopped := time.Now()
	require.Eventually(t, three.holds, patience, 10*time.Millisecond, "nobody took over")
	t.Logf("stopped: the other worker holds the account after %v", time.Since(stopped).Round(10*time.Millisecond))
	reached(12)
	two.signal(syscall.SIGCONT)
	require.Eventually(t, func() bool { return strings.Contains(two.logged(), "account is lost") }, patience, 10*time.Millisecond)

	// The third ends in order, and hands over.
	reached(15)
	require.Empty(t, entrance.by(two.pid(), stopped), "a process that stood still made a call after its lease")
	three.signal(syscall.SIGTERM)
	ended := time.Now()
	require.Eventually(t, two.holds, patience, 10*time.Millisecond, "nobody took over")
	t.Logf("ended: the other worker holds the account after %v", time.Since(ended).Round(10*time.Millisecond))
	<-three.done
	require.Zero(t, three.cmd.ProcessState.ExitCode(), "it ends in order: %s", tail(three.logged()))
	require.Contains(t, three.logged(), "account is handed over")

	// None lost, none twice.
	alive := func() map[string]int {
		out := map[string]int{}
		for _, k := range l.oracle(t).Keys {
			if k.MintedBy == "engine" && k.Alive {
				out[k.User]++
			}
		}
		return out
	}
	require.Eventually(t, func() bool { return len(alive()) == leaseItems }, patience, 200*time.Millisecond, "a key has no replacement")
	for user, n := range alive() {
		require.Equal(t, 1, n, "%s has two keys", user)
	}
	t.Logf("%d keys were made for %d items; each extra one was settled and is dead", created(), leaseItems)
	require.LessOrEqual(t, created(), leaseItems+3*10, "at most the calls of a wave that were under way may have been made again")

	// At every moment one process at most called the account.
	entrance.mu.Lock()
	defer entrance.mu.Unlock()
	var turns []int
	for _, c := range entrance.calls {
		require.NotZero(t, c.pid, "a call that cannot be told apart proves nothing")
		if len(turns) == 0 || turns[len(turns)-1] != c.pid {
			turns = append(turns, c.pid)
		}
	}
	require.Equal(t, []int{one.pid(), two.pid(), three.pid(), two.pid()}, turns, "the account went from process to process, and nobody spoke out of turn")
}

func (l *labProcess) oracle(t *testing.T) control.Oracle {
	t.Helper()
	o, err := l.control.Oracle(t.Context())
	require.NoError(t, err)
	return o
}
