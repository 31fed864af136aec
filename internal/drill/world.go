// Package drill plays a scenario against the lab: it starts the lab and rekey as
// processes of their own, reports the key, plays the people, moves the world's
// clock when nothing is running, restarts rekey when the lab has killed it, and has
// package judge say how it went.
package drill

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"go.yaml.in/yaml/v3"

	"rekey/internal/fsx"
	"rekey/internal/lab/control"
	"rekey/internal/lab/scenario"
	"rekey/internal/loopback"
	"rekey/internal/people"
)

// Environment of the processes that a drill starts.
const (
	EnvVirtual  = "REKEY_LAB_VIRTUAL"
	EnvOff      = "REKEY_LAB_OFF"
	EnvLabScale = "REKEY_LAB_SCALE"
	// AddrsFile is where `rekey lab` says where it listens.
	AddrsFile = "addrs.json"
)

// Addrs is the content of [AddrsFile].
type Addrs struct {
	Provider string `json:"provider"`
	Control  string `json:"control"`
	KeyID    string `json:"engine_key_id"`
}

// readyLimit bounds how long a process may take to answer.
const readyLimit = 2 * time.Minute

// world is the processes and files of one drill.
type world struct {
	dir   string
	exe   string
	d     *scenario.Drill
	scale int
	off   string
	say   func(string, ...any)
	lab   *control.Client
	addr  Addrs
	info  control.Info
	// account is "provider/account" of the scenario.
	provider, account string
	http, temporal    string
	env               []string
	split             *Split

	mu     sync.Mutex
	procs  []*proc // rekey, in the order of their start
	kills  int
	ending bool
}

// proc is one process of rekey, started again whenever it ends.
type proc struct {
	name string // of its log file
	role string // under which the lab may kill it; empty: it tells the lab itself, or never dies
	exe  string
	args []string
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
}

// newWorld lays out the directory of a drill.
func newWorld(dir string, d *scenario.Drill, scale int, off string, say func(string, ...any)) (*world, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	w := &world{dir: dir, exe: exe, d: d, scale: max(scale, 1), off: off, say: say}
	for name := range d.Estate.Providers {
		w.provider, w.account, _ = strings.Cut(name, "/")
	}
	if w.provider == "" {
		return nil, errors.New("the scenario has no provider")
	}
	for _, sub := range []string{"", "people", "data"} {
		if err := fsx.MkdirPrivate(filepath.Join(dir, sub)); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// startLab starts the lab's process and waits for it.
func (w *world) startLab(ctx context.Context, source []byte) (stop func(), err error) {
	file := filepath.Join(w.dir, "scenario.yaml")
	if err := fsx.WriteAtomic(file, source); err != nil {
		return nil, err
	}
	cmd, closeLog, err := w.process(ctx, "lab.log", []string{fmt.Sprintf("%s=%d", EnvLabScale, w.scale)}, w.exe, "lab", "--dir", w.dir, "--scenario", file)
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the lab: %w", err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); closeLog(); close(ended) }()
	stop = func() {
		_ = cmd.Process.Signal(os.Interrupt)
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			_ = cmd.Process.Kill()
			<-ended
		}
	}
	path := filepath.Join(w.dir, "lab", AddrsFile)
	if err := w.until(ctx, ended, func() bool {
		b, err := os.ReadFile(path)
		return err == nil && json.Unmarshal(b, &w.addr) == nil
	}); err != nil {
		stop()
		return nil, fmt.Errorf("the lab did not start, see %s: %w", filepath.Join(w.dir, "lab.log"), err)
	}
	token, err := os.ReadFile(filepath.Join(w.dir, "lab", control.TokenFile))
	if err != nil {
		stop()
		return nil, err
	}
	w.lab = control.New(w.addr.Control, strings.TrimSpace(string(token)))
	if w.info, err = w.lab.Info(ctx); err != nil {
		stop()
		return nil, fmt.Errorf("the lab does not answer: %w", err)
	}
	w.env = []string{control.EnvURL + "=" + w.addr.Control, control.EnvToken + "=" + strings.TrimSpace(string(token)), EnvVirtual + "=1"}
	if w.off != "" {
		w.env = append(w.env, EnvOff+"="+w.off)
	}
	return stop, nil
}

// configure writes what rekey is told: the lab's account, the estate as far as it
// is registered, and the people with keys made for this drill.
func (w *world) configure() (map[string]string, error) {
	identities := map[string]string{}
	folk := map[string]any{}
	roles := map[string][]string{}
	for _, p := range w.d.People {
		for _, r := range p.Roles {
			if !slices.Contains(roles[p.Actor], r) {
				roles[p.Actor] = append(roles[p.Actor], r)
			}
		}
	}
	for _, p := range w.d.People {
		if _, ok := identities[p.Actor]; ok {
			continue
		}
		path := filepath.Join(w.dir, "people", p.Actor+".key")
		if _, err := people.GenerateIdentity(path); err != nil {
			return nil, err
		}
		key, err := people.LoadIdentity(path)
		if err != nil {
			return nil, err
		}
		pub, err := people.MarshalPublic(people.Public(key))
		if err != nil {
			return nil, err
		}
		if err := fsx.WriteAtomic(path+".pub", pub); err != nil {
			return nil, err
		}
		identities[p.Actor] = path
		folk[p.Actor] = map[string]any{"roles": roles[p.Actor], "cli_key_file": path + ".pub"}
	}
	if err := w.writeEstate(); err != nil {
		return nil, err
	}
	ports, err := loopback.Ports(4)
	if err != nil {
		return nil, err
	}
	at := make([]string, len(ports))
	for i, p := range ports {
		at[i] = loopback.Address(p)
	}
	w.http, w.temporal = at[0], at[1]
	account := map[string]any{
		"account_id": w.info.Account, "regions": []string{"us-east-1", "eu-central-1"}, "base_url": w.addr.Provider, "allow_private": true,
		"rate": map[string]any{"cloudtrail": "1000/s"}, // the lab keeps its own limits, in the world's time
		"credentials": map[string]any{
			"access_key_id_file": filepath.Join(w.dir, "lab", "engine-id"), "secret_access_key_file": filepath.Join(w.dir, "lab", "engine-key"),
		},
	}
	cfg := map[string]any{
		"data":      filepath.Join(w.dir, "data"),
		"listen":    map[string]any{"http": at[0], "temporal": at[1], "ui": at[2], "metrics": at[3]},
		"temporal":  map[string]any{"namespace": Namespace, "versioning": false},
		"audit":     map[string]any{"origin": "drill.invalid/rekey"},
		"people":    folk,
		"providers": map[string]any{w.provider: map[string]any{w.account: account}},
		"estate":    map[string]any{"files": []string{filepath.Join(w.dir, "estate.yaml")}},
	}
	b, err := yaml.Marshal(cfg)
	if err != nil {
		return nil, err
	}
	return identities, fsx.WriteAtomic(w.config(), b)
}

// Namespace is where the workflows of drills run.
const Namespace = "rekey-drill"

func (w *world) config() string { return filepath.Join(w.dir, "rekey.yaml") }

// id is the provider's id of a key of the scenario.
func (w *world) id(alias string) string {
	if id, ok := w.info.Aliases[alias]; ok {
		return id
	}
	return alias
}

// writeEstate tells rekey what it would know.
func (w *world) writeEstate() error {
	b, err := yaml.Marshal(Estate(w.d, w.scale, w.info.Aliases, w.provider, w.account))
	if err != nil {
		return err
	}
	return fsx.WriteAtomic(filepath.Join(w.dir, "estate.yaml"), b)
}

// startEngine starts rekey: one process with everything in it, or its parts.
func (w *world) startEngine(ctx context.Context) error {
	if w.split != nil {
		return w.startSplit(ctx)
	}
	return w.start(ctx, &proc{name: "engine", exe: w.exe, args: []string{"up", "--config", w.config(), "--log-level", "info"}})
}

// start starts a process of rekey and keeps it up: when it is killed it is started
// again, as a supervisor would.
func (w *world) start(ctx context.Context, p *proc) error {
	if err := w.run(ctx, p); err != nil {
		return err
	}
	w.mu.Lock()
	w.procs = append(w.procs, p)
	w.mu.Unlock()
	go w.supervise(ctx, p)
	return nil
}

func (w *world) run(ctx context.Context, p *proc) error {
	cmd, closeLog, err := w.process(ctx, p.name+".log", w.env, p.exe, p.args...)
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		closeLog()
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	done := make(chan struct{})
	w.mu.Lock()
	p.cmd, p.done = cmd, done
	w.mu.Unlock()
	go func() {
		_ = cmd.Wait()
		closeLog()
		close(done)
	}()
	if p.role == "" {
		return nil
	}
	return w.lab.RegisterAs(ctx, p.role, cmd.Process.Pid)
}

// supervise restarts a process whenever it ends before the drill does.
func (w *world) supervise(ctx context.Context, p *proc) {
	for {
		w.mu.Lock()
		done := p.done
		w.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-done:
		}
		w.mu.Lock()
		ending := w.ending
		if !ending {
			w.kills++
		}
		w.mu.Unlock()
		if ending {
			return
		}
		w.say("%s was killed; starting it again", p.name)
		if err := w.run(ctx, p); err != nil {
			w.say("%s does not start again: %v", p.name, err)
			return
		}
	}
}

// stopEngine ends rekey in order, the last process first.
func (w *world) stopEngine() {
	w.mu.Lock()
	w.ending = true
	procs := slices.Clone(w.procs)
	w.mu.Unlock()
	for _, p := range slices.Backward(procs) {
		w.mu.Lock()
		cmd, done := p.cmd, p.done
		w.mu.Unlock()
		_ = cmd.Process.Signal(os.Interrupt)
		select {
		case <-done:
		case <-time.After(45 * time.Second):
			_ = cmd.Process.Kill()
			<-done
		}
	}
}

// process prepares a child that writes to a log file of the drill.
func (w *world) process(ctx context.Context, log string, env []string, exe string, args ...string) (*exec.Cmd, func(), error) {
	f, err := os.OpenFile(filepath.Join(w.dir, log), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, nil, err
	}
	// Not bound to ctx: a child that is ended in order tells more than a killed one.
	cmd := exec.CommandContext(context.WithoutCancel(ctx), exe, args...) //nolint:gosec // our own binary, or what a test names
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = f, f
	cmd.Stdin = nil
	return cmd, func() { _ = f.Close() }, nil
}

// until polls cond while a process lives.
func (w *world) until(ctx context.Context, ended <-chan struct{}, cond func() bool) error {
	limit := time.NewTimer(readyLimit)
	defer limit.Stop()
	for !cond() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ended:
			if cond() {
				return nil
			}
			return errors.New("its process ended")
		case <-limit.C:
			return fmt.Errorf("no answer after %s", readyLimit)
		case <-time.After(20 * time.Millisecond):
		}
	}
	return nil
}
