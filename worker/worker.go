package worker

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/interceptor"
	sdk "go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"rekey/activities"
	"rekey/activities/batch"
	"rekey/internal/api"
	"rekey/internal/canon"
	"rekey/internal/codec"
	"rekey/internal/derive"
	"rekey/internal/engine"
	"rekey/internal/estate"
	"rekey/internal/intake"
	"rekey/workflows"
)

// graceful is how long a stopping worker waits for running passes: longer than one
// provider call may take.
const graceful = 25 * time.Second

// NewWorker makes the Temporal worker: all workflows, all verbs of all providers,
// and the engine's own activities. dead tells whether a process of another epoch
// cannot be alive any more.
func (r *Runtime) NewWorker(c client.Client, e *engine.Engine, dead func(epoch string) bool) sdk.Worker {
	w := sdk.New(c, workflows.TaskQueue, sdk.Options{
		Interceptors:      []interceptor.WorkerInterceptor{&faults{redact: r.Redact}},
		WorkerStopTimeout: graceful,
		// Provider calls wait for the network: many at once cost little.
		MaxConcurrentActivityExecutionSize: 64,
	})
	Register(w)
	run := batch.New(batch.Options{
		Client: r.Client, Kind: r.Kind, Journals: batch.BlobJournals{Dir: r.Blobs}, Limits: r.limits(), Now: r.Now,
		Fingerprint: func(k activities.Key) (string, error) { return r.Finger.Public(k.Provider, k.Account, k.Kind, k.ID) },
		Epoch:       r.Epoch, Dead: dead, Edge: r.edge(), Observe: r.observe, Log: r.Log,
	})
	for _, p := range r.all.Providers() {
		for _, v := range activities.Verbs() {
			w.RegisterActivityWithOptions(run.Activity(v), activity.RegisterOptions{Name: activities.Name(p.Descriptor.Code, v)})
		}
	}
	for name, f := range e.Activities() {
		w.RegisterActivityWithOptions(f, activity.RegisterOptions{Name: name})
	}
	return w
}

// A Registry takes workflows: a worker, or a replayer.
type Registry interface {
	RegisterWorkflowWithOptions(w any, o workflow.RegisterOptions)
}

// Register registers every workflow under the name that histories have.
func Register(r Registry) {
	r.RegisterWorkflowWithOptions(workflows.Incident, workflow.RegisterOptions{Name: workflows.TypeIncident})
	r.RegisterWorkflowWithOptions(workflows.Wave, workflow.RegisterOptions{Name: workflows.TypeWave})
	r.RegisterWorkflowWithOptions(workflows.Watch, workflow.RegisterOptions{Name: workflows.TypeWatch})
	r.RegisterWorkflowWithOptions(workflows.Register, workflow.RegisterOptions{Name: workflows.TypeRegister})
}

// NewEngine makes the engine's own activities over a Temporal client.
func (r *Runtime) NewEngine(c client.Client) *engine.Engine {
	t := intake.Temporal{Client: c}
	return engine.New(engine.Options{
		Config: r.Config, Estate: r.Estate, Blobs: r.Blobs, Secrets: r.Sealed, Finger: r.Finger, Providers: r.Descriptors(),
		Client: r.Client, Breaker: &engine.Breaker{Journals: batch.BlobJournals{Dir: r.Blobs}, Ceiling: r.Config.Ceilings.Breaker},
		Claim: t.Claim, Alarm: r.alarm(c),
		Histories: derive.Source{Client: c, Codec: codec.New(r.Keys)},
		Signer:    r.Signer, Bundles: filepath.Join(r.Config.Data, "bundles"), Contained: r.Metrics.Contained, Log: r.Log,
	})
}

// alarm reports a dead key that worked: the register knows its incident, which
// goes on or is reopened. The nonce is the hit's, so a repeat is the same report.
func (r *Runtime) alarm(c client.Client) func(context.Context, workflows.AlarmInput) error {
	return func(ctx context.Context, a workflows.AlarmInput) error {
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
