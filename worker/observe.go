package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

	"rekey/activities"
	"rekey/activities/batch"
	"rekey/internal/health"
	"rekey/internal/metrics"
	"rekey/internal/server"
	"rekey/internal/trace"
	"rekey/workflows"
)

// Version is this build's, "devel" where it was not told.
func Version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "devel"
}

// StartTracing opens the traces of telemetry in rekey.yaml; without an endpoint it
// does nothing. service names this kind of process ("rekey-worker"). It is called
// before [Runtime.Dial]. The returned function sends what is queued.
func (r *Runtime) StartTracing(service string) (stop func(context.Context), err error) {
	t := r.Config.Telemetry
	r.trace, err = trace.Open(trace.Options{
		Endpoint: t.OTLPEndpoint, CAFile: t.CAFile, HeadersFile: t.HeadersFile, Percent: t.Percent,
		Service: service, Version: Version(), Instance: r.Epoch, Log: r.Log,
	})
	if err != nil {
		return nil, err
	}
	return r.trace.Close, nil
}

// observe counts and traces one call of a provider.
func (r *Runtime) observe(ctx context.Context, p activities.Pass, k activities.Key) (context.Context, func(activities.Attempt)) {
	began := time.Now()
	ctx, end := r.trace.Call(ctx, p.Incident, k, p.Verb)
	return ctx, func(a activities.Attempt) {
		end(a.Outcome, a.Class)
		took := time.Since(began)
		r.Metrics.Call(p.Provider, p.Account, p.Verb, a.Outcome, a.Class, took)
		level := slog.LevelInfo
		switch {
		case a.Failed():
			level = slog.LevelWarn
		case p.Page != "":
			level = slog.LevelDebug // one of hundreds: the pass has a line of its own
		}
		r.Log.Log(ctx, level, "provider call", "incident", p.Incident, "provider", p.Provider, "account", p.Account, "verb", string(p.Verb),
			"item", k.Short(), "outcome", string(a.Outcome), "class", string(a.Class), "request_id", a.RequestID, "took_ms", took.Milliseconds())
	}
}

// measure has the metrics ask for budgets and leases at each scrape. Without leases
// this process has the lock of the installation, which is the lease of every account.
func (p *parts) measure(lease func(provider, account string) (batch.Lease, error)) {
	p.r.Metrics.Budgets(func() []metrics.Budget {
		var out []metrics.Budget
		// In a lab the world's time takes a request, and a scrape must not wait.
		for _, b := range p.limits.Spent(time.Now()) {
			out = append(out, metrics.Budget{Provider: b.Provider, Account: b.Account, API: b.API, Used: b.Used, Allowed: b.Allowed, Why: b.Why, Waiting: b.Waiting})
		}
		return out
	})
	p.r.Metrics.Leases(func() []metrics.Lease {
		var out []metrics.Lease
		for _, a := range p.r.accounts() {
			held := lease == nil
			if !held {
				l, err := lease(a.provider, a.name)
				held = err == nil && l.Check() == nil
			}
			out = append(out, metrics.Lease{Provider: a.provider, Account: a.name, Held: held})
		}
		return out
	})
}

// Observe answers on listen.metrics with /metrics, /healthz and /readyz until ctx
// ends. It closes l. The address is loopback, or listen.allow_clear says that the
// network is private: the configuration refuses others.
func (r *Runtime) Observe(ctx context.Context, l net.Listener) error {
	srv := &http.Server{
		Handler: r.Health.Handler(r.Metrics.Handler()), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError), // its lines quote what clients sent
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	select {
	case err := <-done:
		return fmt.Errorf("metrics: %w", err)
	case <-ctx.Done():
	}
	err := srv.Close() // a scrape that is cut off is asked again
	if served := <-done; err == nil && !errors.Is(served, http.ErrServerClosed) {
		err = served
	}
	return err
}

// readStates feeds the gauges of open incidents until ctx ends. A drill moves its
// clock when nothing runs, and has nobody who looks: it is left alone.
func (r *Runtime) readStates(ctx context.Context, c client.Client) {
	if r.Virtual() {
		return
	}
	s := &stateReader{incidents: server.Temporal{Client: c, Namespace: r.Namespace()}, put: r.Metrics.Put, now: time.Now, world: r.Now}
	s.run(ctx)
}

// ready adds what every process needs to work: Temporal, and keys that the next
// start can read.
func (r *Runtime) ready(c client.Client) {
	r.Health.Add("temporal", func(ctx context.Context) error {
		// Of a cluster whose database is away the frontend still says that it is well,
		// and matching still knows its pollers. The namespace is read from the database.
		if _, err := c.WorkflowService().DescribeNamespace(ctx, &workflowservice.DescribeNamespaceRequest{Namespace: r.Namespace()}); err != nil {
			return health.Not("temporal", "Temporal does not answer, or cannot reach its database", "is the cluster up, and does temporal.address lead there? `rekey doctor` looks for the reason")
		}
		return nil
	})
	r.Health.Add("keys", func(context.Context) error { return r.keysReadable() })
}

// polling tells whether this very process polls for both kinds of tasks.
func (r *Runtime) polling(c client.Client) {
	r.Health.Add("polling", func(ctx context.Context) error {
		for _, kind := range []enumspb.TaskQueueType{enumspb.TASK_QUEUE_TYPE_WORKFLOW, enumspb.TASK_QUEUE_TYPE_ACTIVITY} {
			d, err := c.DescribeTaskQueue(ctx, workflows.TaskQueue, kind)
			if err != nil {
				return err
			}
			polls := false
			for _, p := range d.GetPollers() {
				polls = polls || p.GetIdentity() == r.identity()
			}
			if !polls {
				return health.Not("not-polling", "this worker does not poll for tasks yet", "wait; where it stays so, look at the worker's log")
			}
		}
		return nil
	})
}

// keysReadable opens each key file of the installation and reads nothing: the keys
// are in memory, and a process that could not be started again is not ready.
func (r *Runtime) keysReadable() error {
	codec := r.Config.Codec.KeysDir
	if codec == "" {
		codec = filepath.Join(r.Config.Data, "keys", "codec")
	}
	age := r.Config.Sealed.IdentityFile
	if age == "" {
		age = filepath.Join(r.Config.Data, "keys", "age.txt")
	}
	for _, file := range []string{installationKey(r.Config.Data), age, codec} {
		f, err := os.Open(file)
		if err == nil {
			err = f.Close()
		}
		if err != nil {
			return health.Not("keys", "a key of the installation cannot be read: "+filepath.Base(file), "restore it from backup, or mend its mode and owner; `rekey doctor` names it. This process goes on with what it has read, and could not be started again")
		}
	}
	return nil
}
