package worker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	sdk "go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"rekey/internal/cli"
	"rekey/internal/temporalx"
	"rekey/workflows"
)

// deploymentName is the worker deployment of a namespace. A build is a version of it.
const deploymentName = "rekey"

// pollFresh is how long ago a worker that lives has begun its last poll at most: one
// poll lasts a minute (matching.longPollExpirationInterval of Temporal's server).
const pollFresh = 75 * time.Second

// deploymentOptions has a worker register as a build. Everything goes on with the
// current build unless it is pinned: who decides is `rekey worker promote`, not the
// workflow's code. The empty build: no version, as in `rekey up`.
func deploymentOptions(build string) sdk.DeploymentOptions {
	if build == "" {
		return sdk.DeploymentOptions{}
	}
	return sdk.DeploymentOptions{
		UseVersioning: true, Version: sdk.WorkerDeploymentVersion{DeploymentName: deploymentName, BuildID: build},
		DefaultVersioningBehavior: workflow.VersioningBehaviorAutoUpgrade,
	}
}

// A fleet is what Temporal knows of the builds that poll. The empty build stands for
// workers without a version.
type fleet struct {
	c         client.Client
	namespace string
	now       func() time.Time
}

// current gives the build with which workflows start and go on, and the token that
// guards a change of it (nil where there is no deployment yet).
func (f fleet) current(ctx context.Context) (string, []byte, error) {
	d, err := f.c.WorkerDeploymentClient().GetHandle(deploymentName).Describe(ctx, client.WorkerDeploymentDescribeOptions{})
	var none *serviceerror.NotFound
	var old *serviceerror.Unimplemented
	switch {
	case errors.As(err, &none), errors.As(err, &old): // no version has ever polled, or the server knows of none
		return "", nil, nil
	case err != nil:
		return "", nil, fmt.Errorf("worker deployment %s: %w", deploymentName, err)
	case d.Info.RoutingConfig.CurrentVersion == nil:
		return "", d.ConflictToken, nil
	}
	return d.Info.RoutingConfig.CurrentVersion.BuildID, d.ConflictToken, nil
}

// left begins the name of what a worker that ends in order writes to its version.
const left = "left-"

// leave tells that the process has polled its last: Temporal lists it for minutes,
// and the next build need not wait for that. It writes nothing secret, and takes back
// what processes have written that are not listed any more.
func (f fleet) leave(ctx context.Context, build, identity string) error {
	if build == "" {
		return nil // there is no version to write it to
	}
	q, err := f.c.DescribeTaskQueue(ctx, workflows.TaskQueue, enumspb.TASK_QUEUE_TYPE_WORKFLOW)
	if err != nil {
		return err
	}
	listed := map[string]bool{}
	for _, p := range q.GetPollers() {
		listed[left+p.GetIdentity()] = true
	}
	var old []string
	for name := range f.gone(ctx, build) {
		if !listed[name] {
			old = append(old, name)
		}
	}
	_, err = f.c.WorkerDeploymentClient().GetHandle(deploymentName).UpdateVersionMetadata(ctx, client.WorkerDeploymentUpdateVersionMetadataOptions{
		Version:        sdk.WorkerDeploymentVersion{DeploymentName: deploymentName, BuildID: build},
		MetadataUpdate: client.WorkerDeploymentMetadataUpdate{UpsertEntries: map[string]any{left + identity: true}, RemoveEntries: old},
	})
	return err
}

// gone are the processes of a build that ended in order, as [fleet.leave] writes them.
// Where that cannot be read they count as polling until Temporal has forgotten them.
func (f fleet) gone(ctx context.Context, build string) map[string]bool {
	out := map[string]bool{}
	d, err := f.c.WorkerDeploymentClient().GetHandle(deploymentName).DescribeVersion(ctx, client.WorkerDeploymentDescribeVersionOptions{BuildID: build})
	if err != nil {
		return out
	}
	for name := range d.Info.Metadata {
		if strings.HasPrefix(name, left) {
			out[name] = true
		}
	}
	return out
}

// pollers gives for each build how many processes poll a queue. Temporal lists those
// of the last minutes, also where they have ended.
func (f fleet) pollers(ctx context.Context, queue string, kind enumspb.TaskQueueType) (map[string]int, error) {
	q, err := f.c.DescribeTaskQueue(ctx, queue, kind)
	if err != nil {
		return nil, fmt.Errorf("task queue %s: %w", queue, err)
	}
	out := map[string]int{}
	gone := map[string]map[string]bool{}
	for _, p := range q.GetPollers() {
		if t := p.GetLastAccessTime(); t != nil && f.now().Sub(t.AsTime()) > pollFresh {
			continue
		}
		build := ""
		if o := p.GetDeploymentOptions(); o.GetWorkerVersioningMode() == enumspb.WORKER_VERSIONING_MODE_VERSIONED && o.GetDeploymentName() == deploymentName {
			build = o.GetBuildId()
			if gone[build] == nil {
				gone[build] = f.gone(ctx, build)
			}
		}
		if gone[build][left+p.GetIdentity()] {
			continue
		}
		out[build]++
	}
	return out, nil
}

// pinned gives the open workflows that only one build may run, by build.
func (f fleet) pinned(ctx context.Context) (map[string][]string, error) {
	out := map[string][]string{}
	var page []byte
	for {
		res, err := f.c.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{
			Namespace: f.namespace, Query: "ExecutionStatus = 'Running' AND TemporalWorkflowVersioningBehavior = 'Pinned'", NextPageToken: page,
		})
		if err != nil {
			return nil, fmt.Errorf("list pinned workflows: %w", err)
		}
		for _, e := range res.GetExecutions() {
			var version string
			p := e.GetSearchAttributes().GetIndexedFields()["TemporalWorkerDeploymentVersion"]
			if p == nil || converter.GetDefaultDataConverter().FromPayload(p, &version) != nil {
				continue
			}
			if build, ok := strings.CutPrefix(version, deploymentName+":"); ok {
				out[build] = append(out[build], e.GetExecution().GetWorkflowId())
			}
		}
		if page = res.GetNextPageToken(); len(page) == 0 {
			return out, nil
		}
	}
}

// builds tells of every build that is current, polls, or is still needed.
func (f fleet) builds(ctx context.Context, ours string) (cli.BuildsResult, error) {
	out := cli.BuildsResult{Schema: cli.SchemaBuilds, Build: ours, Builds: []cli.BuildState{}}
	current, _, err := f.current(ctx)
	if err != nil {
		return out, err
	}
	polling, err := f.pollers(ctx, workflows.TaskQueue, enumspb.TASK_QUEUE_TYPE_WORKFLOW)
	if err != nil {
		return out, err
	}
	pinned, err := f.pinned(ctx)
	if err != nil {
		return out, err
	}
	out.Current = current
	names := map[string]bool{current: true}
	for b := range polling {
		names[b] = true
	}
	for b := range pinned {
		names[b] = true
	}
	for _, b := range slices.Sorted(maps.Keys(names)) {
		s := cli.BuildState{Build: b, Current: b == current, Workers: polling[b], Pinned: append([]string{}, pinned[b]...)}
		slices.Sort(s.Pinned)
		s.Needed = s.Current || len(s.Pinned) > 0
		out.Builds = append(out.Builds, s)
	}
	return out, nil
}

// Builds is `rekey worker builds`: it reads, needs no key of the installation and
// makes none.
func Builds(ctx context.Context, o cli.BuildsOptions, _ cli.IOStreams) (cli.BuildsResult, error) {
	cfg, err := LoadConfig(o.Common, map[string]string{"temporal.address": o.Address, "temporal.namespace": o.Namespace})
	if err != nil {
		return cli.BuildsResult{}, err
	}
	override(cfg, o.ClusterOptions)
	c, err := temporalx.Dial(ctx, temporalx.Options{
		Address: cfg.Temporal.Address, Namespace: cfg.Temporal.Namespace, APIKeyFile: cfg.Temporal.APIKeyFile,
		TLS: temporalx.TLS{CAFile: cfg.Temporal.TLS.CAFile, CertFile: cfg.Temporal.TLS.CertFile, KeyFile: cfg.Temporal.TLS.KeyFile},
	})
	if err != nil {
		return cli.BuildsResult{}, err
	}
	defer c.Close()
	return fleet{c, cfg.Temporal.Namespace, time.Now}.builds(ctx, o.Build)
}
