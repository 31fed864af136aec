package embedded

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"go.temporal.io/api/workflowservice/v1"

	"rekey/internal/canon"
	"rekey/internal/cli"
	"rekey/internal/drill"
	"rekey/internal/lab/control"
	"rekey/internal/temporalx"
	"rekey/internal/view"
	"rekey/worker"
)

// What `rekey bench --scale` plays: an incident whose reported key is kept at one place
// with N others; every one is read, disabled, its sessions are ended, it is probed (k = 1,
// no propagation, no limit), revoked, and probed again. rekey and the lab are processes of
// their own, so that memory and CPU are rekey's alone.

const scalePlaybook = `apiVersion: rekey/v1
kind: Playbook
name: bench
title: A campaign for the bench
version: 1.0.0
match: {provider: awsiam, kinds: [user-access-key]}
start: auto
severity:
  - {level: medium, when: "true"}
scope: {depth: 1, sources: [provider, estate], lookback: 24h, timeout: 60m}
decide:
  - {id: all, strategy: revoke-now, when: "true"}
strategies:
  revoke-now: {steps: [Disable, EndSessions, Probe, Revoke]}
ladder: {automatic: [key, sessions]}
approvals:
  revoke-now: {policy: true}
  irreversible: {roles: [commander], quorum: 1, expires: 1h, on_expiry: escalate, escalate_to: [admin]}
verify: {k: 1, span: 1ns, vantage: 1, sweep: false}
watch: {for: 1h}
`

// scaleLimit bounds one campaign.
const scaleLimit = 90 * time.Minute

// A campaign is one incident of n items against a lab, both in processes of their own.
type campaign struct {
	n       int
	dir     string
	exe     string
	io      cli.IOStreams
	lab     *exec.Cmd
	up      *exec.Cmd
	addr    string // of rekey's API
	account string
	url     string
	control string
	ids     []string // of the keys; the first is reported
}

// measureScale gives the figures of an incident of n items.
func measureScale(ctx context.Context, dir string, n int, io cli.IOStreams) (figures []cli.Figure, err error) {
	ctx, cancel := context.WithTimeout(ctx, scaleLimit)
	defer cancel()
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	bare := &campaign{n: n, dir: filepath.Join(dir, "bare"), exe: exe, io: io}
	fmt.Fprintf(io.Err, "%d items: the same calls in a bare loop\n", n)
	loop, err := bare.loop(ctx)
	if err != nil {
		return nil, err
	}
	c := &campaign{n: n, dir: filepath.Join(dir, "engine"), exe: exe, io: io}
	fmt.Fprintf(io.Err, "%d items: an incident\n", n)
	run, err := c.run(ctx)
	if err != nil {
		return nil, err
	}
	name := func(what string) string { return fmt.Sprintf("%d items, %s", n, what) }
	perSecond := int64(float64(n) / run.took.Seconds())
	return []cli.Figure{
		{Name: name("bare loop"), Value: worker.Ms(loop.took), Unit: "ms", Note: fmt.Sprintf("%d calls, %d at once", loop.calls, loopAtOnce)},
		{Name: name("rekey, reported to contained"), Value: worker.Ms(run.took), Unit: "ms", Note: fmt.Sprintf("%d items/s", perSecond)},
		{Name: name("against the bare loop"), Value: int64(100 * run.took.Seconds() / loop.took.Seconds()), Unit: "%", Budget: 150},
		{Name: name("Temporal events per 1,000 items"), Value: run.events * 1000 / int64(n), Unit: "events", Budget: 200, Note: fmt.Sprintf("%d in all", run.events)},
		{Name: name("peak memory of rekey up"), Value: run.peak >> 20, Unit: "MiB", Note: "Temporal, UI, worker and server in one process"},
		{Name: name("CPU per item"), Value: run.cpu.Microseconds() / int64(n), Unit: "us", Note: "user and system, of rekey up"},
	}, nil
}

// A campaignRun is what one campaign cost.
type campaignRun struct {
	took   time.Duration
	calls  int
	events int64
	peak   int64
	cpu    time.Duration
}

// scenario is an estate of n keys besides the reported one, each of its own user.
func (c *campaign) scenario() string {
	return fmt.Sprintf(`apiVersion: rekey/v1
kind: Drill
name: bench
seed: 1
clock: {mode: real}
estate:
  providers: {awsiam/lab: {propagation: 0s}}
  keys: [{id: origin, user: origin, policy: ReadOnlyAccess}]
  generate: [{kind: key, count: %d, id: "bench-{n}", user: "bench-{n}"}]
trigger: {at: T0, report: {provider: awsiam, kind: user-access-key, key: origin, source: aws, confidence: confirmed}}
expect: [{id: origin, expr: 'lab.keys.exists(k, k.alias == "origin")'}]
`, c.n-1)
}

// startLab starts the lab's process and learns its keys.
func (c *campaign) startLab(ctx context.Context) error {
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return err
	}
	file := filepath.Join(c.dir, "scenario.yaml")
	if err := os.WriteFile(file, []byte(c.scenario()), 0o600); err != nil {
		return err
	}
	c.lab = c.command(ctx, "lab.log", nil, "lab", "--dir", c.dir, "--scenario", file)
	if err := c.lab.Start(); err != nil {
		return err
	}
	info, control, err := labInfo(ctx, c.dir)
	if err != nil {
		return err
	}
	c.control = control
	c.account, c.url = info.Account, info.BaseURL
	c.ids = []string{info.Aliases["origin"]}
	for i := range c.n - 1 {
		c.ids = append(c.ids, info.Aliases[fmt.Sprintf("bench-%d", i+1)])
	}
	return nil
}

func (c *campaign) command(ctx context.Context, log string, env []string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, c.exe, args...) //nolint:gosec // our own binary
	cmd.Env = append(os.Environ(), env...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 30 * time.Second
	if f, err := os.OpenFile(filepath.Join(c.dir, log), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err == nil {
		cmd.Stdout, cmd.Stderr = f, f
	}
	return cmd
}

// stop ends a process in order.
func stop(cmd *exec.Cmd) error {
	if cmd == nil || cmd.Process == nil {
		return nil
	}
	_ = cmd.Process.Signal(os.Interrupt)
	err := cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return nil // how it ended is in its log
	}
	return err
}

// configure writes rekey.yaml, the estate and the playbook.
func (c *campaign) configure() error {
	lab := filepath.Join(c.dir, "lab")
	var estate strings.Builder
	estate.WriteString("keys:\n")
	for _, id := range c.ids {
		fmt.Fprintf(&estate, "  - {id: %s, provider: awsiam, account: lab, kind: user-access-key}\n", id)
	}
	estate.WriteString("copies:\n")
	for _, id := range c.ids {
		fmt.Fprintf(&estate, "  - {key: %s, where: host/ci, registered: true}\n", id)
	}
	addrs, err := freeAddrs(4)
	if err != nil {
		return err
	}
	c.addr = addrs[0]
	cfg := fmt.Sprintf(`data: %q
listen: {http: %q, temporal: %q, ui: %q, metrics: %q}
temporal: {namespace: %s}
estate: {files: [estate.yaml]}
playbooks: {files: [playbook.yaml]}
ceilings: {irreversible: {quorum: 1, outside_slack: 0}}
providers:
  awsiam:
    lab: {account_id: %q, regions: [us-east-1], base_url: %q, allow_private: true, rate: {iam: 100000/s, sts: 100000/s, cloudtrail: 100000/s}, credentials: {access_key_id_file: %q, secret_access_key_file: %q}}
`, filepath.Join(c.dir, "data"), addrs[0], addrs[1], addrs[2], addrs[3], drill.Namespace, c.account, c.url, filepath.Join(lab, "engine-id"), filepath.Join(lab, "engine-key"))
	for name, text := range map[string]string{"estate.yaml": estate.String(), "playbook.yaml": scalePlaybook, "rekey.yaml": cfg} {
		if err := os.WriteFile(filepath.Join(c.dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// rekey runs a command of ours and decodes what it says.
func (c *campaign) rekey(ctx context.Context, to any, args ...string) error {
	cmd := exec.CommandContext(ctx, c.exe, append(args, "--config", filepath.Join(c.dir, "rekey.yaml"), "--json")...) //nolint:gosec // our own binary
	var errOut strings.Builder
	cmd.Stderr = &errOut
	out, err := cmd.Output()
	if to != nil && len(out) > 0 {
		if jsonErr := json.Unmarshal(out, to); jsonErr != nil {
			return fmt.Errorf("rekey %s: %w", args[0], jsonErr)
		}
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == cli.ExitOpen {
		return nil // still going
	}
	if err != nil {
		return fmt.Errorf("rekey %s: %w: %s", strings.Join(args, " "), err, errOut.String())
	}
	return nil
}

// run plays the campaign and counts.
func (c *campaign) run(ctx context.Context) (out campaignRun, err error) {
	if err := c.startLab(ctx); err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, stop(c.lab)) }()
	if err := c.configure(); err != nil {
		return out, err
	}
	token, err := os.ReadFile(filepath.Join(c.dir, "lab", control.TokenFile))
	if err != nil {
		return out, err
	}
	env := []string{control.EnvURL + "=" + c.control, control.EnvToken + "=" + strings.TrimSpace(string(token)), "REKEY_LAB_PROPAGATION=0s", "REKEY_LAB_QUIET=1"}
	c.up = c.command(ctx, "up.log", env, "up", "--config", filepath.Join(c.dir, "rekey.yaml"))
	if err := c.up.Start(); err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, stop(c.up)) }()
	if err := ready(ctx, c.addr); err != nil {
		return out, fmt.Errorf("rekey up did not start, see %s: %w", filepath.Join(c.dir, "up.log"), err)
	}
	var reported struct {
		Incident string `json:"incident"`
	}
	if err := c.rekey(ctx, &reported, "report", "awsiam", c.ids[0], "--account", "lab", "--reason", "bench"); err != nil {
		return out, err
	}
	v, err := c.vote(ctx, reported.Incident)
	if err != nil {
		return out, err
	}
	from, _ := time.Parse(canon.TimeLayout, v.Times.Reported)
	to, _ := time.Parse(canon.TimeLayout, v.Times.Contained)
	out.took = to.Sub(from)
	if out.peak, out.cpu, err = spent(c.up.Process.Pid); err != nil {
		return out, err
	}
	out.events, err = c.events(ctx, reported.Incident)
	return out, err
}

// vote says yes to every question until the incident is contained.
func (c *campaign) vote(ctx context.Context, id string) (view.Incident, error) {
	for {
		var v view.Incident
		if err := c.rekey(ctx, &v, "incident", "show", id); err != nil {
			return v, err
		}
		for _, a := range v.Approvals {
			if a.State != "open" {
				continue
			}
			if err := c.rekey(ctx, nil, "incident", "approve", id, "--wave", a.WaveHash, "--approval", a.ID); err != nil {
				return v, err
			}
		}
		if v.Times.Contained != "" {
			if v.Totals.ByEndState["revoked-verified"] != c.n {
				return v, fmt.Errorf("%d of %d items are proven revoked: %v", v.Totals.ByEndState["revoked-verified"], c.n, v.Totals.ByEndState)
			}
			return v, nil
		}
		select {
		case <-ctx.Done():
			return v, fmt.Errorf("the incident was not over in time: %d of %d open, see %s", v.Totals.Open, c.n, c.dir)
		case <-time.After(250 * time.Millisecond):
		}
	}
}

// events counts the events in the histories of all runs of an incident.
func (c *campaign) events(ctx context.Context, id string) (int64, error) {
	token, err := temporalx.ReadToken(filepath.Join(c.dir, "data"))
	if err != nil {
		return 0, err
	}
	cfg, err := os.ReadFile(filepath.Join(c.dir, "rekey.yaml"))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(cfg), `temporal: "`)
	address, _, _ := strings.Cut(rest, `"`)
	t, err := temporalx.Dial(ctx, temporalx.Options{Address: address, Namespace: drill.Namespace, Token: token})
	if err != nil {
		return 0, err
	}
	defer t.Close()
	var n int64
	var next []byte
	for {
		res, err := t.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{Namespace: drill.Namespace, Query: fmt.Sprintf("RekeyIncident = '%s' OR WorkflowId = 'incident/%s'", id, id), NextPageToken: next})
		if err != nil {
			return 0, err
		}
		for _, e := range res.GetExecutions() {
			desc, err := t.DescribeWorkflowExecution(ctx, e.GetExecution().GetWorkflowId(), e.GetExecution().GetRunId())
			if err != nil {
				return 0, err
			}
			n += desc.GetWorkflowExecutionInfo().GetHistoryLength()
		}
		if next = res.GetNextPageToken(); len(next) == 0 {
			return n, nil
		}
	}
}

// spent is the peak of a process's resident memory in bytes, and its CPU time
// (proc(5)).
func spent(pid int) (peak int64, cpu time.Duration, err error) {
	status, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		return 0, 0, fmt.Errorf("memory is measured on Linux only: %w", err)
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err != nil {
				return 0, 0, err
			}
			peak = kb << 10
		}
	}
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0, 0, err
	}
	const tick = 10 * time.Millisecond // USER_HZ is 100 on every Linux that Go runs on
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	for _, f := range fields[11:13] { // utime, stime
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, 0, err
		}
		cpu += time.Duration(n) * tick
	}
	return peak, cpu, nil
}
