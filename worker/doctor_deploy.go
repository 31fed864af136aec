package worker

import (
	"context"
	"maps"
	"slices"
	"strings"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"

	"rekey/workflows"
)

// deployed tells which builds run incidents, and whether one is missing.
func (d *doctor) deployed(ctx context.Context, id string, c client.Client) {
	id += ".builds"
	f := fleet{c, d.cfg.Temporal.Namespace, d.now}
	all, err := f.builds(ctx, "")
	if err != nil {
		d.fault(id, "may our credential read worker deployments? ask the cluster's administrator", "which builds run incidents cannot be told")
		return
	}
	var polling []string
	none := true
	for _, b := range all.Builds {
		if b.Workers > 0 {
			none = false
			if !b.Current {
				polling = append(polling, buildName(b.Build))
			}
		}
	}
	for _, b := range all.Builds {
		name := buildName(b.Build)
		switch {
		case b.Current && b.Workers > 0 && b.Build == "":
			d.ok(id, "workers have no version: incidents go on with whichever polls")
		case b.Current && b.Workers > 0:
			d.ok(id, "incidents start and go on with build %s (%d poll)", name, b.Workers)
		case b.Current && b.Build == "" && none:
			// said by workers
		case b.Current && len(polling) > 0:
			d.fault(id, "a worker of another build takes over within 2 minutes; its log says why where it does not. `rekey worker promote`, run with that build, does it at once",
				"no worker of the current build %s polls, and incidents wait for it; there polls %s", name, strings.Join(polling, ", "))
		case b.Current && d.waiting(ctx, c):
			d.fault(id, "start `rekey worker`: another build takes over by itself when it knows the open incidents", "no worker of the current build %s polls: incidents stand still", name)
		case b.Current:
			d.skipped(id, "no worker of the current build %s polls, and no incident waits for one", name)
		case len(b.Pinned) > 0 && b.Workers == 0:
			d.fault(id+"."+name, "start a worker of build "+name+" again, or promote a build that knows them (`rekey worker promote`)",
				"nobody runs build %s, and it alone may go on with %s", name, some(b.Pinned))
		case len(b.Pinned) > 0:
			d.ok(id+"."+name, "build %s polls too: keep it until %s have ended", name, some(b.Pinned))
		default:
			d.ok(id+"."+name, "build %s polls too and nothing needs it: its workers may be stopped, or promoted", name)
		}
	}
}

// held tells which accounts nobody calls. A worker polls an account's queue while it
// holds the account; in `rekey up` it polls all of them.
func (d *doctor) held(ctx context.Context, id string, c client.Client) {
	id += ".accounts"
	f := fleet{c, d.cfg.Temporal.Namespace, d.now}
	workers, err := f.pollers(ctx, workflows.TaskQueue, enumspb.TASK_QUEUE_TYPE_ACTIVITY)
	if err != nil || len(workers) == 0 {
		return // said by workers
	}
	var held, alone []string
	for _, provider := range slices.Sorted(maps.Keys(d.cfg.Providers)) {
		for _, account := range d.cfg.Accounts(provider) {
			polls, err := f.pollers(ctx, workflows.AccountQueue(provider, account), enumspb.TASK_QUEUE_TYPE_ACTIVITY)
			switch {
			case err != nil:
				d.fault(id, "may our credential read task queues? ask the cluster's administrator", "who holds account %s/%s cannot be told", provider, account)
				return
			case len(polls) == 0:
				alone = append(alone, provider+"/"+account)
			default:
				held = append(held, provider+"/"+account)
			}
		}
	}
	switch {
	case len(alone) > 0:
		d.fault(id, "have the workers this account in their rekey.yaml, and can they open it? Their log says \"cannot hold an account\" and why; a worker that was just started holds it within seconds",
			"nobody holds %s: calls to it wait", some(alone))
	case len(held) > 0:
		d.ok(id, "%d of %d accounts are held by a worker", len(held), len(held))
	}
}
