package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	sdk "go.temporal.io/sdk/worker"

	"rekey/internal/cli"
	"rekey/workflows"
)

const (
	// settle is how long after a promotion the open histories are looked at again: a
	// task that the former build had begun ends or times out within 10 s (the default
	// of a workflow task).
	settle = 12 * time.Second
	// How often a worker looks whether its build is current: while it is, while it
	// waits, until it is registered, and after a failure.
	lookCurrent, lookWaiting, lookRegistering, lookFailed = 15 * time.Second, 3 * time.Second, time.Second, 30 * time.Second
)

// onShared are the workflows that run on the shared queue. Those that keep leases
// run on a queue of their own, whose workers have no version: a hold lasts for
// hours, and whoever holds an account must get the passes of every build.
const onShared = "ExecutionStatus = 'Running' AND TaskQueue = '" + workflows.TaskQueue + "'"

// A deploy moves open workflows to a build.
type deploy struct {
	r      *Runtime
	fleet  fleet
	build  string
	settle time.Duration
}

func (r *Runtime) newDeploy(c client.Client, build string) *deploy {
	return &deploy{r: r, fleet: fleet{c, r.Namespace(), time.Now}, build: build, settle: settle}
}

// An open is an open workflow as this build sees it.
type open struct {
	id, run string
	breaks  bool
	// last is the build that ran it last, pinned the one it is pinned to, if any.
	last, pinned string
}

// look replays everything that is open on the shared queue with this build. A
// failure to read is an error: what was not seen is not known to be safe.
func (d *deploy) look(ctx context.Context) ([]open, error) {
	pins := map[string]string{}
	all, err := d.fleet.pinned(ctx)
	if err != nil {
		return nil, err
	}
	for build, ids := range all {
		for _, id := range ids {
			pins[id] = build
		}
	}
	var out []open
	_, err = d.r.eachOpen(ctx, d.fleet.c, onShared, func(id, run string, err error) error {
		o := open{id: id, run: run, breaks: err != nil, pinned: pins[id]}
		if o.breaks {
			x, err := d.fleet.c.DescribeWorkflowExecution(ctx, id, run)
			if err != nil {
				return fmt.Errorf("%s: %w", id, err)
			}
			v := x.GetWorkflowExecutionInfo().GetVersioningInfo()
			o.last = v.GetDeploymentVersion().GetBuildId()
			if p := v.GetVersioningOverride().GetPinned().GetVersion().GetBuildId(); p != "" {
				o.pinned = p // visibility may lag behind
			}
		}
		out = append(out, o)
		return nil
	})
	return out, err
}

// family is what must run with one build: the workflows of an incident speak to each
// other. Others are alone.
func family(id string) string {
	if p := strings.SplitN(id, "/", 3); len(p) == 3 && p[0] == "incident" {
		return p[0] + "/" + p[1]
	}
	return id
}

// sort divides what is open: keep names for each workflow of a family that breaks the
// build it has to stay with, free are those pinned elsewhere that need it no more.
// lost are broken and nobody knows who can run them.
func (d *deploy) sort(all []open) (keep map[string]string, free, lost []open) {
	with := map[string]string{} // family -> build
	for _, o := range all {
		if !o.breaks {
			continue
		}
		build := o.pinned
		if build == "" {
			build = o.last
		}
		if build == "" || build == d.build {
			lost = append(lost, o)
			continue
		}
		with[family(o.id)] = build
	}
	keep = map[string]string{}
	for _, o := range all {
		build, kept := with[family(o.id)]
		switch {
		case kept && o.pinned != build:
			keep[o.id] = build
		case !kept && !o.breaks && o.pinned != "" && o.pinned != d.build:
			free = append(free, o)
		}
	}
	return keep, free, lost
}

func broken(all []open) []string {
	var out []string
	for _, o := range all {
		if o.breaks && o.pinned == "" {
			out = append(out, o.id)
		}
	}
	slices.Sort(out)
	return out
}

// promote makes d.build current. Without keep it changes nothing where the build
// would break an open workflow that is not pinned. It may run twice, and in several
// processes at once.
func (d *deploy) promote(ctx context.Context, keep bool) (cli.PromoteResult, error) {
	res := cli.PromoteResult{Schema: cli.SchemaPromote, Pinned: []string{}, Freed: []string{}}
	polling, err := d.fleet.pollers(ctx, workflows.TaskQueue, enumspb.TASK_QUEUE_TYPE_WORKFLOW)
	if err != nil {
		return res, err
	}
	if polling[d.build] == 0 {
		return res, cli.Failed("no-worker", "start `rekey worker` of this very build first, then promote it", "no worker of build %s polls: incidents would stand still", buildName(d.build))
	}
	was, token, err := d.fleet.current(ctx)
	if err != nil {
		return res, err
	}
	res.Was = was
	all, err := d.look(ctx)
	if err != nil {
		return res, err
	}
	res.Replayed = len(all)
	pins, free, lost := d.sort(all)
	if len(lost) > 0 {
		return res, cli.Failed("breaks", "let the workers that run it go on until it has ended, or install a build that knows its steps", "this build would break %s, which cannot be pinned: workers without a version, or this very build, ran it last. Nothing was changed", lost[0].id)
	}
	if b := broken(all); len(b) > 0 && !keep {
		return res, cli.Failed("breaks", "with --keep-old these incidents stay with the build that knows them and everything else moves; its workers must go on until they have ended", "this build would break %s: other steps. Nothing was changed", some(b))
	}
	if err := d.pin(ctx, pins, &res); err != nil {
		return res, err
	}
	if was != d.build {
		if err := d.set(ctx, token); err != nil {
			return res, err
		}
	}
	for _, o := range free {
		if err := d.override(ctx, o.id, nil); err != nil {
			return res, err
		}
		res.Freed = append(res.Freed, o.id)
	}
	pause := d.settle // for tasks that the former build had begun
	if len(all) == 0 {
		pause = 0
	}
	select {
	case <-ctx.Done():
		return res, ctx.Err()
	case <-time.After(pause):
	}
	if all, err = d.look(ctx); err != nil {
		return res, err
	}
	if pins, _, lost = d.sort(all); len(lost) > 0 {
		return res, cli.Failed("breaks", "start the former build again and promote it, or install one that knows both", "%s took a step meanwhile that this build does not know. Build %s is current; nothing else is lost", lost[0].id, buildName(d.build))
	}
	if err := d.pin(ctx, pins, &res); err != nil {
		return res, err
	}
	res.Builds, err = d.fleet.builds(ctx, d.build)
	return res, err
}

func (d *deploy) set(ctx context.Context, token []byte) error {
	_, err := d.fleet.c.WorkerDeploymentClient().GetHandle(deploymentName).SetCurrentVersion(ctx, client.WorkerDeploymentSetCurrentVersionOptions{BuildID: d.build, ConflictToken: token})
	var other *serviceerror.FailedPrecondition
	if errors.As(err, &other) {
		// Another process may have done the very same.
		if now, _, err := d.fleet.current(ctx); err == nil && now == d.build {
			return nil
		}
		return cli.Failed("changed", "run it again", "Temporal refused to make build %s current: another change came between, or its workers do not poll every queue yet", buildName(d.build))
	}
	return err
}

func (d *deploy) pin(ctx context.Context, pins map[string]string, res *cli.PromoteResult) error {
	for id, build := range pins {
		if err := d.override(ctx, id, &client.PinnedVersioningOverride{Version: sdk.WorkerDeploymentVersion{DeploymentName: deploymentName, BuildID: build}}); err != nil {
			return err
		}
		res.Pinned = append(res.Pinned, id)
	}
	slices.Sort(res.Pinned)
	return nil
}

// override pins a workflow, its next runs and the children it starts; nil frees it.
func (d *deploy) override(ctx context.Context, id string, o client.VersioningOverride) error {
	_, err := d.fleet.c.UpdateWorkflowExecutionOptions(ctx, client.UpdateWorkflowExecutionOptionsRequest{
		WorkflowId:                      id,
		WorkflowExecutionOptionsChanges: client.WorkflowExecutionOptionsChanges{VersioningOverride: &client.VersioningOverrideChange{Value: o}},
	})
	var gone *serviceerror.NotFound
	if errors.As(err, &gone) {
		return nil // it has ended
	}
	if err != nil {
		return fmt.Errorf("pin %s: %w", id, err)
	}
	return nil
}

// attend keeps an eye on the current build until ctx ends, so that nobody has to do
// anything where nothing can go wrong: on the first start, and when the current
// build is gone. While another build polls it waits to be promoted.
func (d *deploy) attend(ctx context.Context) {
	said := ""
	say := func(level slog.Level, msg string, args ...any) {
		if line := fmt.Sprint(msg, args); line != said {
			said = line
			d.r.Log.Log(ctx, level, msg, args...)
		}
	}
	for {
		wait, err := d.once(ctx, say)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			wait = lookFailed
			say(slog.LevelError, "this build cannot take over", "build", buildName(d.build), "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

func (d *deploy) once(ctx context.Context, say func(slog.Level, string, ...any)) (time.Duration, error) {
	current, _, err := d.fleet.current(ctx)
	if err != nil {
		return 0, err
	}
	if current == d.build {
		say(slog.LevelInfo, "this build is current", "build", buildName(d.build))
		return lookCurrent, nil
	}
	polling, err := d.fleet.pollers(ctx, workflows.TaskQueue, enumspb.TASK_QUEUE_TYPE_WORKFLOW)
	if err != nil {
		return 0, err
	}
	switch {
	case polling[d.build] == 0:
		return lookRegistering, nil
	case polling[current] > 0:
		say(slog.LevelWarn, "this build waits: incidents go on with another one that still polls. `rekey worker promote` moves them now; without it they are moved when that one is gone", "build", buildName(d.build), "current", buildName(current))
		return lookWaiting, nil
	}
	res, err := d.promote(ctx, true)
	if err != nil {
		return 0, err
	}
	say(slog.LevelWarn, "this build has taken over", "build", buildName(d.build), "was", buildName(current), "replayed", res.Replayed, "freed", len(res.Freed))
	if len(res.Pinned) > 0 {
		d.r.Log.Error("incidents stand still: this build would break them. Start the build that knows them again (`rekey worker builds`)", "pinned", some(res.Pinned))
	}
	return lookCurrent, nil
}

// Promote is `rekey worker promote`.
func Promote(ctx context.Context, o cli.PromoteOptions, io cli.IOStreams) (cli.PromoteResult, error) {
	r, c, stop, err := openCluster(ctx, "rekey-promote", o.Common, o.ClusterOptions, map[string]string{}, cli.Logging{}, io)
	if err != nil {
		return cli.PromoteResult{}, err
	}
	defer stop()
	build := o.Build
	if !r.Config.Temporal.Versioning {
		build = ""
	}
	return r.newDeploy(c, build).promote(ctx, o.KeepOld)
}

// buildName is how a build is written.
func buildName(build string) string {
	if build == "" {
		return "(without a name)"
	}
	return build
}
