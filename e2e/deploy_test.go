package e2e

import (
	"context"
	"net/http"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"rekey/internal/cli"
	"rekey/internal/codec"
	"rekey/internal/codec/keyring"
	"rekey/internal/lab/control"
	"rekey/internal/playbook"
	"rekey/internal/temporalx"
	"rekey/internal/view"
	"rekey/workflows"
)

// asBuild names the build of the processes that a test starts: the same code under
// two names is two builds.
const asBuild = "REKEY_E2E_BUILD"

// deployScenario has two keys, each with an incident of its own.
const deployScenario = `apiVersion: rekey/v1
kind: Drill
name: deploy
seed: 5
clock: {mode: real}
estate:
  providers: {awsiam/lab: {propagation: 1s}}
  keys:
    - {id: ONE, user: one, policy: ReadOnlyAccess, issued: T0-60d, owner: platform}
    - {id: TWO, user: two, policy: ReadOnlyAccess, issued: T0-60d, owner: billing}
trigger: {at: T0, report: {provider: awsiam, kind: user-access-key, key: ONE, source: cli, confidence: confirmed}}
expect: [{id: there, expr: 'lab.keys.size() > 0'}]
`

// votedPlaybook asks before it acts.
const votedPlaybook = `apiVersion: rekey/v1
kind: Playbook
name: voted
title: Ask, then disable
version: 1.0.0
match: {provider: awsiam, kinds: [user-access-key], when: "true"}
start: auto
severity: [{level: high, when: "true"}]
scope: {depth: 1, sources: [provider, estate], lookback: 90d, timeout: 5m}
decide: [{id: always, strategy: revoke-now, when: "true"}]
strategies:
  revoke-now: {steps: [Disable, EndSessions, Probe, Revoke]}
ladder: {automatic: [key, sessions]}
approvals:
  revoke-now:   {roles: [commander, security], quorum: 1, expires: 1h, on_expiry: escalate, escalate_to: [admin]}
  irreversible: {roles: [commander, security], quorum: 2, expires: 1h, on_expiry: escalate, escalate_to: [admin]}
  rung:         {roles: [commander, security], quorum: 2, expires: 30m, on_expiry: escalate, escalate_to: [admin]}
verify: {k: 2, span: 30s, vantage: 1, sweep: false}
watch: {for: 1d}
`

// clusterRig gives a rig on a namespace of a Temporal server.
func clusterRig(t *testing.T, address, namespace string) *rig {
	t.Helper()
	r := newRig(t, "temporal: {address: \""+address+"\", namespace: "+namespace+"}\n")
	o := r.rekey("", "doctor", "--fix", "--only", "temporal", "--json")
	require.Contains(t, o.out, "was created", o.errOut)
	return r
}

// as runs f as another build.
func (r *rig) as(build string, f func()) {
	before := r.env
	r.env = append(append([]string{}, before...), asBuild+"="+build)
	f()
	r.env = before
}

func (r *rig) worker(build string) (p *process) {
	r.as(build, func() {
		p = r.process("worker of "+build, "worker", "--log-level", "info", "--listen-metrics", "127.0.0.1:0")
	})
	return p
}

func (r *rig) promote(build string, more ...string) (o outcome) {
	r.as(build, func() { o = r.rekey("", append([]string{"worker", "promote", "--json"}, more...)...) })
	return o
}

func (r *rig) builds() cli.BuildsResult {
	r.t.Helper()
	o := r.rekey("", "worker", "builds", "--json")
	require.Zero(r.t, o.code, o.errOut)
	return decode[cli.BuildsResult](r.t, o.out)
}

func (p *process) says(what string) {
	p.t.Helper()
	require.Eventually(p.t, func() bool { return strings.Contains(p.logged(), what) }, patience, 50*time.Millisecond, "%s never said: %s", p.name, what)
}

func (p *process) end() {
	p.t.Helper()
	p.signal(syscall.SIGTERM)
	<-p.done
	require.Zero(p.t, p.cmd.ProcessState.ExitCode(), tail(p.logged()))
}

func (r *rig) serve() {
	r.t.Helper()
	r.process("serve", "serve", "--listen-metrics", "127.0.0.1:0")
	require.Eventually(r.t, func() bool {
		res, err := http.Get("http://" + r.http + "/healthz")
		if err != nil {
			return false
		}
		defer func() { _ = res.Body.Close() }()
		return res.StatusCode == http.StatusOK
	}, patience, 50*time.Millisecond, "rekey serve does not answer")
}

// dial is a client of the rig's namespace that can read its payloads.
func (r *rig) dial(address, namespace string) client.Client {
	r.t.Helper()
	keys, err := keyring.Open(keyring.Options{Dir: r.data() + "/keys/codec"})
	require.NoError(r.t, err)
	c, err := temporalx.Dial(r.t.Context(), temporalx.Options{
		Address: address, Namespace: namespace, DataConverter: codec.NewDataConverter(keys), FailureConverter: codec.NewFailureConverter(keys),
	})
	require.NoError(r.t, err)
	r.t.Cleanup(c.Close)
	return c
}

// buildOf is the build that ran a workflow last.
func buildOf(t *testing.T, c client.Client, id string) string {
	t.Helper()
	d, err := c.DescribeWorkflowExecution(t.Context(), id, "")
	require.NoError(t, err)
	return d.GetWorkflowExecutionInfo().GetVersioningInfo().GetDeploymentVersion().GetBuildId()
}

// TestDeploy plays what an operator does with a new build, against Temporal's own
// server and with processes as they are run.
func TestDeploy(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("skipped: builds Temporal's server and waits for its polls to be over, a minute or two")
	}
	address := startTemporal(t, t.TempDir(), "rekey")
	t.Run("an incident survives it", func(t *testing.T) { t.Parallel(); survives(t, address) })
	t.Run("a build that would break an incident", func(t *testing.T) { t.Parallel(); wouldBreak(t, address) })
}

// survives: an incident waits for votes with one build, which is replaced; it ends
// with the next, and with the third, which nobody promotes.
func survives(t *testing.T, address string) {
	r := clusterRig(t, address, "survives")
	l := startLab(t, r, deployScenario)
	digest, err := playbook.Digest([]byte(votedPlaybook))
	require.NoError(t, err)
	folk, people := newVoters(t, r, voter{name: "ann", roles: []string{"commander"}}, voter{name: "bob", roles: []string{"security"}})
	r.configure("providers: {awsiam: {lab: " + l.account + "}}\nceilings: {playbook_digests: [\"" + digest + "\"]}\n" + people)
	pb := r.write("playbook.yaml", votedPlaybook)
	vote := func(id, question, who string) {
		t.Helper()
		v := r.until(id, "the question "+question, func(v view.Incident) bool { _, ok := open(v, question); return ok })
		a, _ := open(v, question)
		o := r.rekey("", "incident", "approve", id, "--approval", a.ID, "--wave", a.WaveHash, "--identity", folk[who].identity)
		require.Zero(t, o.code, o.errOut)
	}

	// The first build needs nobody.
	r.serve()
	one := r.worker("build-1")
	one.says("this build is current")
	require.NotContains(t, one.logged(), "this build waits")
	id := r.report(l.info.Aliases["ONE"], "--playbook", pb)
	r.until(id, "a question", func(v view.Incident) bool { _, ok := open(v, "strategy"); return ok })
	c := r.dial(address, "survives")
	require.Equal(t, "build-1", buildOf(t, c, workflows.IncidentID(id)))

	// A second build stands beside it and gets nothing.
	require.Equal(t, 1, r.promote("build-2").code, "it does not poll yet")
	two := r.worker("build-2")
	two.says("this build waits")
	b := r.builds()
	require.Equal(t, "build-1", b.Current)
	require.Len(t, b.Builds, 2)
	o := r.promote("build-2")
	require.Zero(t, o.code, o.errOut)
	done := decode[cli.PromoteResult](t, o.out)
	require.Equal(t, "build-1", done.Was)
	require.Equal(t, "build-2", done.Builds.Current)
	require.Empty(t, done.Pinned)
	require.GreaterOrEqual(t, done.Replayed, 2, "an incident and a register at least")
	for _, s := range done.Builds.Builds {
		require.Equal(t, s.Build == "build-2", s.Needed, "%+v", s)
	}
	require.Contains(t, r.rekey("", "worker", "builds").out, "may be stopped")

	// New incidents start there, old ones go on there: while the account is still held
	// by the old build, and after it was stopped.
	other := r.report(l.info.Aliases["TWO"], "--playbook", pb)
	r.until(other, "a question", func(v view.Incident) bool { _, ok := open(v, "strategy"); return ok })
	require.Equal(t, "build-2", buildOf(t, c, workflows.IncidentID(other)))
	if two.holds() {
		t.Log("the account had moved to the new build before")
	}
	vote(id, "strategy", "ann")
	disabled := func() bool {
		return slices.ContainsFunc(l.oracle(t).Calls, func(c control.Call) bool { return c.Action == "iam:UpdateAccessKey" && c.Effect })
	}
	require.Eventually(t, disabled, patience, 100*time.Millisecond, "the wave has called nobody")
	require.Equal(t, "build-2", buildOf(t, c, workflows.IncidentID(id)))
	one.end()

	// The current build is gone and nobody promotes the next: it takes over by itself.
	two.end()
	gone := time.Now()
	three := r.worker("build-3")
	require.Eventually(t, func() bool { return r.builds().Current == "build-3" }, patience, time.Second, "nobody took over")
	t.Logf("ended in order: the next build was started and is current after %v", time.Since(gone).Round(100*time.Millisecond))
	three.says("this build has taken over")
	vote(other, "strategy", "bob")
	for _, x := range []string{id, other} {
		vote(x, "irreversible", "ann")
		vote(x, "irreversible", "bob")
	}
	for _, x := range []string{id, other} {
		v := r.until(x, "an end", func(v view.Incident) bool { return v.Times.Sealed != "" })
		require.Equal(t, "all-clear", v.State)
	}
	for _, k := range l.oracle(t).Keys {
		require.False(t, k.Alive && (k.ID == l.info.Aliases["ONE"] || k.ID == l.info.Aliases["TWO"]), "%s lives", k.ID)
	}
}

// patient is an incident as another version would run it: other steps, and a last one
// when it is told.
func patient(ctx workflow.Context, _ workflows.IncidentInput) error {
	if err := workflow.Sleep(ctx, time.Millisecond); err != nil {
		return err
	}
	workflow.GetSignalChannel(ctx, workflows.SignalReport).Receive(ctx, nil)
	return workflow.Sleep(ctx, time.Millisecond)
}

// wouldBreak: an incident runs with steps that the new build does not know. It is
// left where it is, everything else moves, and whoever stops the old build is told.
func wouldBreak(t *testing.T, address string) {
	const incident = "inc-0123456789ab"
	r := clusterRig(t, address, "breaks")
	l := startLab(t, r, deployScenario)
	r.configure("providers: {awsiam: {lab: " + l.account + "}}\n")
	r.serve()
	c := r.dial(address, "breaks")
	old := func() worker.Worker {
		w := worker.New(c, workflows.TaskQueue, worker.Options{DeploymentOptions: worker.DeploymentOptions{
			UseVersioning: true, Version: worker.WorkerDeploymentVersion{DeploymentName: "rekey", BuildID: "old"},
			DefaultVersioningBehavior: workflow.VersioningBehaviorAutoUpgrade,
		}})
		w.RegisterWorkflowWithOptions(patient, workflow.RegisterOptions{Name: workflows.TypeIncident})
		require.NoError(t, w.Start())
		return w
	}
	w := old()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	require.Eventually(t, func() bool {
		_, err := c.WorkerDeploymentClient().GetHandle("rekey").SetCurrentVersion(ctx, client.WorkerDeploymentSetCurrentVersionOptions{BuildID: "old"})
		return err == nil
	}, patience, 100*time.Millisecond)
	run, err := c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: workflows.IncidentID(incident), TaskQueue: workflows.TaskQueue}, workflows.TypeIncident, workflows.IncidentInput{ID: incident})
	require.NoError(t, err)
	require.Eventually(t, func() bool { // its timer has fired
		d, err := c.DescribeWorkflowExecution(ctx, workflows.IncidentID(incident), "")
		return err == nil && d.GetWorkflowExecutionInfo().GetHistoryLength() >= 9
	}, patience, 50*time.Millisecond)

	p := r.worker("new")
	p.says("this build waits")
	e := refused(t, r.promote("new"), 1, "breaks")
	require.Contains(t, e.Message, workflows.IncidentID(incident))
	require.Contains(t, e.Do, "--keep-old")
	require.Equal(t, "old", r.builds().Current, "nothing was changed")

	o := r.promote("new", "--keep-old")
	require.Zero(t, o.code, o.out+o.errOut)
	done := decode[cli.PromoteResult](t, o.out)
	require.Equal(t, []string{workflows.IncidentID(incident)}, done.Pinned)
	require.Equal(t, "new", done.Builds.Current)
	for _, s := range done.Builds.Builds {
		require.True(t, s.Needed, "%+v", s)
	}
	id := r.report(l.info.Aliases["ONE"])
	r.until(id, "a plan", func(v view.Incident) bool { return len(v.Items) > 0 && v.Phase != "scope" })
	require.Equal(t, "new", buildOf(t, c, workflows.IncidentID(id)))

	// The old build is stopped too early. What it would have done waits, and doctor
	// says who is missing.
	w.Stop()
	require.NoError(t, c.SignalWorkflow(ctx, workflows.IncidentID(incident), "", workflows.SignalReport, workflows.Report{}))
	require.Eventually(t, func() bool {
		o := r.rekey("", "doctor", "--only", "temporal", "--json")
		return slices.ContainsFunc(decode[cli.DoctorResult](t, o.out).Checks, func(c cli.DoctorCheck) bool {
			return c.ID == "temporal.cluster.builds.old" && c.State == "fault" && strings.Contains(c.Detail, workflows.IncidentID(incident)) && strings.Contains(c.Do, "start a worker of build old")
		})
	}, patience, time.Second, "doctor does not tell")
	w = old()
	defer w.Stop()
	require.NoError(t, run.Get(ctx, nil), "it ends with its own build")
	// A build that knows it needs the old one no more.
	require.Eventually(t, func() bool {
		for _, s := range r.builds().Builds {
			if s.Build == "old" && s.Needed {
				return false
			}
		}
		return true
	}, patience, time.Second)
}

// testEngine is rekey under the name of a build that a test has given it.
func testEngine(e cli.Engine) cli.Engine {
	e.Build = os.Getenv(asBuild)
	return e
}
