package worker

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/interceptor"
	sdk "go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"rekey/activities"
	"rekey/activities/batch"
	"rekey/internal/api"
	"rekey/internal/archive"
	"rekey/internal/canon"
	"rekey/internal/codec"
	"rekey/internal/derive"
	"rekey/internal/engine"
	"rekey/internal/estate"
	"rekey/internal/intake"
	"rekey/internal/page"
	"rekey/workflows"
)

// graceful is how long a stopping worker waits for running passes: longer than one
// provider call may take.
const graceful = 25 * time.Second

// handOver is how long the holder of an account waits for its running passes
// before it gives the lease up: less than graceful, so that the hold ends in order.
const handOver = 20 * time.Second

// slots is how many activities run at once on a queue. Provider calls wait for the
// network: many at once cost little.
const slots = 64

// parts are what the Temporal workers of one process share.
type parts struct {
	r      *Runtime
	client client.Client
	engine *engine.Engine
	limits *batch.Limits
	run    *batch.Runner
}

// newParts makes the activities. lease is nil where this process holds the whole
// installation by the lock on its data directory.
func (r *Runtime) newParts(c client.Client, lease func(provider, account string) (batch.Lease, error)) *parts {
	p := &parts{r: r, client: c, engine: r.NewEngine(c), limits: r.limits()}
	p.run = batch.New(batch.Options{
		Client: r.Client, Kind: r.Kind, Journals: batch.BlobJournals{Journals: r.Blobs}, Blobs: r.Blobs, Limits: p.limits, Now: r.Now,
		Fingerprint: func(k activities.Key) (string, error) { return r.Finger.Public(k.Provider, k.Account, k.Kind, k.ID) },
		Lease:       lease, Epoch: r.Epoch,
		// Whoever calls an account has its lease, or the lock. Another process that
		// called it before has lost it, and ends its calls before it does.
		Dead: func(epoch string) bool { return epoch != r.Epoch },
		Edge: r.edge(), Observe: r.observe, Log: r.Log,
	})
	p.measure(lease)
	return p
}

func (p *parts) options(o sdk.Options) sdk.Options {
	o.Interceptors = []interceptor.WorkerInterceptor{&faults{redact: p.r.Redact}}
	return o
}

// shared makes the worker of the shared queue: all workflows and the engine's own
// activities. Passes too: those that a build before accounts had queues left
// waiting there.
func (p *parts) shared() sdk.Worker {
	w := sdk.New(p.client, workflows.TaskQueue, p.options(sdk.Options{
		WorkerStopTimeout: graceful, MaxConcurrentActivityExecutionSize: slots, DeploymentOptions: deploymentOptions(p.r.build),
	}))
	Register(w)
	p.passes(w)
	for name, f := range p.engine.Activities() {
		w.RegisterActivityWithOptions(f, activity.RegisterOptions{Name: name})
	}
	for name, f := range p.r.newTeller().activities() {
		w.RegisterActivityWithOptions(f, activity.RegisterOptions{Name: name})
	}
	w.RegisterActivityWithOptions(p.r.sending().Send, activity.RegisterOptions{Name: workflows.ActivitySend})
	return w
}

// account makes the worker of an account's queue: the passes, and the engine's step
// that may try a reported secret.
func (p *parts) account(provider, account string) sdk.Worker {
	w := sdk.New(p.client, workflows.AccountQueue(provider, account), p.options(sdk.Options{
		DisableWorkflowWorker: true, WorkerStopTimeout: handOver, MaxConcurrentActivityExecutionSize: slots,
	}))
	p.passes(w)
	w.RegisterActivityWithOptions(p.engine.Activities()[workflows.ActivityAdmit], activity.RegisterOptions{Name: workflows.ActivityAdmit})
	return w
}

func (p *parts) passes(w sdk.Worker) {
	for _, provider := range p.r.all.Providers() {
		for _, v := range activities.Verbs() {
			w.RegisterActivityWithOptions(p.run.Activity(v), activity.RegisterOptions{Name: activities.Name(provider.Descriptor.Code, v)})
			w.RegisterActivityWithOptions(p.run.Pages(v), activity.RegisterOptions{Name: page.Name(provider.Descriptor.Code, v)})
		}
	}
}

// served is an account as it is named in rekey.yaml.
type served struct{ provider, name string }

// accounts are the configured ones that a provider of this build has, sorted.
func (r *Runtime) accounts() []served {
	var out []served
	for _, d := range r.Descriptors() {
		for _, name := range r.Config.Accounts(d.Code) {
			out = append(out, served{d.Code, name})
		}
	}
	slices.SortFunc(out, func(a, b served) int {
		return cmp.Or(cmp.Compare(a.provider, b.provider), cmp.Compare(a.name, b.name))
	})
	return out
}

// A Registry takes workflows: a worker, or a replayer.
type Registry interface {
	RegisterWorkflowWithOptions(w any, o workflow.RegisterOptions)
}

// Register registers every workflow under the name that histories have.
func Register(r Registry) {
	r.RegisterWorkflowWithOptions(workflows.Incident, workflow.RegisterOptions{Name: workflows.TypeIncident})
	r.RegisterWorkflowWithOptions(workflows.Wave, workflow.RegisterOptions{Name: workflows.TypeWave})
	r.RegisterWorkflowWithOptions(workflows.Scope, workflow.RegisterOptions{Name: workflows.TypeScope})
	r.RegisterWorkflowWithOptions(workflows.Watch, workflow.RegisterOptions{Name: workflows.TypeWatch})
	r.RegisterWorkflowWithOptions(workflows.Notices, workflow.RegisterOptions{Name: workflows.TypeNotices})
	r.RegisterWorkflowWithOptions(workflows.Register, workflow.RegisterOptions{Name: workflows.TypeRegister})
	r.RegisterWorkflowWithOptions(workflows.Account, workflow.RegisterOptions{Name: workflows.TypeAccount})
	r.RegisterWorkflowWithOptions(workflows.Record, workflow.RegisterOptions{Name: workflows.TypeRecord})
}

// NewEngine makes the engine's own activities over a Temporal client.
func (r *Runtime) NewEngine(c client.Client) *engine.Engine {
	t := intake.Temporal{Client: c}
	return engine.New(engine.Options{
		Config: r.Config, Estate: r.Estate, Blobs: r.Blobs, Secrets: r.Sealed, Finger: r.Finger, Providers: r.Descriptors(),
		Client: r.Client, Breaker: &engine.Breaker{Journals: batch.BlobJournals{Journals: r.Blobs}, Ceiling: r.Config.Ceilings.Breaker},
		Claim: t.Claim, Alarm: r.alarm(c),
		Histories: r.archive(c),
		Contacts:  r.keptContacts,
		Rates:     r.rates(),
		Signer:    r.Signer, Bundles: filepath.Join(r.Config.Data, "bundles"), Contained: r.Metrics.Contained, Log: r.Log,
	})
}

// archive keeps histories beside the blobs, which workers share.
func (r *Runtime) archive(c client.Client) *archive.Archive {
	return archive.New(r.Blobs, derive.Source{Client: c, Codec: codec.New(r.Keys)})
}

// alarm reports a dead key that worked: the register knows its incident, which
// goes on or is reopened. The nonce is the hit's, so a repeat is the same report.
func (r *Runtime) alarm(c client.Client) func(context.Context, workflows.AlarmInput) error {
	return func(ctx context.Context, a workflows.AlarmInput) error {
		r.Metrics.Worked(a.Key.Provider, a.Key.Account)
		in, err := r.NewIntake(c, "", "")
		if err != nil {
			return err
		}
		_, err = in.Report(ctx, intake.Caller{Actor: "rekey:watch", Source: "tripwire", SourceKind: "tripwire"}, api.ReportRequest{
			Provider: a.Key.Provider, Kind: a.Key.Kind, Account: a.Key.Account, KeyID: a.Key.ID, Confidence: "confirmed", Claimed: a.Hit.At,
			Reason: "the dead key worked, from " + a.Hit.Source,
			Nonce:  fmt.Sprintf("tripwire-%s-%s-%d", a.Incident, a.Key.Short(), a.Hit.At.UnixMilli()),
		})
		return err
	}
}

// NewIntake makes the way in for reports. ui and url are for links.
func (r *Runtime) NewIntake(c client.Client, ui, url string) (*intake.Intake, error) {
	return intake.New(intake.Options{
		Config: r.Config, Providers: r.Descriptors(), Voters: r.Voters, Signer: r.server, Fingerprints: r.Finger, Sealed: r.Sealed, Blobs: r.Blobs,
		Engine: intake.Temporal{Client: c, Bundle: r.lastBundle}, Origin: r.origin, Redact: r.Redact, Holds: r.holds,
		Now: func() time.Time { return r.Now(context.Background()) }, Log: r.Log,
		Lab: r.Lab != nil, Virtual: r.Virtual(), Off: r.Off(), UI: ui, Namespace: r.Namespace(), URL: url,
	})
}

// lastBundle is the digest of an incident's bundle, "" when there is none.
func (r *Runtime) lastBundle(incident string) string {
	b, err := os.ReadFile(engine.BundlePath(filepath.Join(r.Config.Data, "bundles"), incident))
	if err != nil {
		return ""
	}
	return canon.Hash(b)
}

// holds reads the standing holds each time an incident starts.
func (r *Runtime) holds() ([]workflows.StandingHold, error) {
	return estate.Holds(r.Config.Holds.File)
}
