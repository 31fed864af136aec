package worker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"go.temporal.io/sdk/client"

	"rekey/internal/cli"
	"rekey/internal/config"
	"rekey/internal/temporalx"
	"rekey/workflows"
)

// Cluster runs a worker against an external Temporal cluster.
func Cluster(ctx context.Context, o cli.WorkerOptions, io cli.IOStreams) error {
	r, c, stop, err := openCluster(ctx, "rekey-worker", o.Common, o.ClusterOptions, map[string]string{"listen.metrics": o.ListenMetrics}, o.Logging, io)
	if err != nil {
		return err
	}
	defer stop()
	m, err := Listen(ctx, r.Config.Listen.Metrics, "listen.metrics")
	if err != nil {
		return err
	}
	if r.Config.Temporal.Versioning {
		if r.build = o.Build; r.build == "" {
			return cli.Failed("no-build", "set temporal.versioning: false in rekey.yaml", "the name of this build cannot be told")
		}
	}
	if r.Lab != nil {
		if err := r.Lab.Register(ctx, os.Getpid()); err != nil {
			return fmt.Errorf("the lab does not answer: %w", err)
		}
	}
	// Workflows on the queue of holds go on with any build at once; the others wait
	// until this build is current, and are replayed then.
	if _, err := r.replayAll(ctx, c, "ExecutionStatus = 'Running' AND TaskQueue = '"+workflows.HoldQueue+"'"); err != nil {
		return err
	}
	fmt.Fprintf(io.Err, "rekey worker: %s, namespace %s, build %s\n", r.Config.Temporal.Address, r.Namespace(), buildName(r.build))
	d := r.newDeploy(c, r.build)
	return r.Run(ctx, c, m, func(ctx context.Context) error {
		err := r.RunShared(ctx, c)
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sayLeave)
		defer cancel()
		if err := d.fleet.leave(ctx, r.build, r.identity()); err != nil {
			r.Log.Warn("the next build may wait a minute longer: that this worker ends could not be written down", "err", err)
		}
		return err
	}, func(ctx context.Context) error { d.attend(ctx); return nil })
}

// Serve runs the HTTP server against an external Temporal cluster.
func Serve(ctx context.Context, o cli.ServeOptions, io cli.IOStreams) error {
	r, c, stop, err := openCluster(ctx, "rekey-serve", o.Common, o.ClusterOptions, map[string]string{"listen.http": o.ListenHTTP, "listen.metrics": o.ListenMetrics}, o.Logging, io)
	if err != nil {
		return err
	}
	defer stop()
	r.drain = drain
	m, err := Listen(ctx, r.Config.Listen.Metrics, "listen.metrics")
	if err != nil {
		return err
	}
	l, err := Listen(ctx, r.Config.Listen.HTTP, "listen.http")
	if err != nil {
		return errors.Join(err, m.Close())
	}
	fmt.Fprintf(io.Err, "rekey serve: http://%s, Temporal %s, namespace %s\n", l.Addr(), r.Config.Temporal.Address, r.Namespace())
	return r.Run(ctx, c, m, func(ctx context.Context) error {
		return r.RunServer(ctx, c, l, strings.TrimSuffix(r.Config.Temporal.UI, "/"), func(login string) {
			if login != "" {
				fmt.Fprintf(io.Err, "rekey serve: readable Temporal UI: %s (once, within 10 minutes; a new one at each start)\n", login)
			}
		})
	})
}

// sayLeave bounds the last word of a worker that ends.
const sayLeave = 3 * time.Second

// drain is how long a server that stops goes on taking requests, so that a load
// balancer that asks /readyz every second sends no more of them. With the 10 s that
// open requests have it stays below the 15 s before a container is killed.
const drain = 3 * time.Second

// openCluster opens an installation and its cluster; stop ends both.
func openCluster(ctx context.Context, service string, co cli.Common, cl cli.ClusterOptions, flags map[string]string, lg cli.Logging, io cli.IOStreams) (_ *Runtime, _ client.Client, stop func(), err error) {
	flags["temporal.address"], flags["temporal.namespace"] = cl.Address, cl.Namespace
	cfg, err := LoadConfig(co, flags)
	if err != nil {
		return nil, nil, nil, err
	}
	override(cfg, cl)
	r, err := Open(cfg, NewLog(io.Err, lg.Level, lg.Format), true)
	if err != nil {
		return nil, nil, nil, err
	}
	flush, err := r.StartTracing(service)
	if err != nil {
		return nil, nil, nil, err
	}
	c, err := r.Dial(ctx, temporalx.Options{
		Address: cfg.Temporal.Address, APIKeyFile: cfg.Temporal.APIKeyFile,
		TLS: temporalx.TLS{CAFile: cfg.Temporal.TLS.CAFile, CertFile: cfg.Temporal.TLS.CertFile, KeyFile: cfg.Temporal.TLS.KeyFile},
	})
	if err != nil {
		return nil, nil, nil, err
	}
	if have, err := temporalx.Retention(ctx, c, r.Namespace()); err == nil && have < temporalx.MinimumRetention {
		fmt.Fprintf(io.Err, "warning: namespace %s deletes closed runs after %s; %s is the least for bundles to be sealed in time: run `rekey doctor --fix`\n", r.Namespace(), hours(have), hours(temporalx.MinimumRetention))
	}
	missing, err := temporalx.MissingSearchAttributes(ctx, c, r.Namespace())
	if err != nil {
		c.Close()
		return nil, nil, nil, fmt.Errorf("search attributes of namespace %s: %w", r.Namespace(), err)
	}
	if len(missing) > 0 {
		if _, err := temporalx.EnsureSearchAttributes(ctx, c, r.Namespace()); err != nil {
			c.Close()
			return nil, nil, nil, fmt.Errorf("namespace %s lacks the search attributes %v, and they cannot be registered: %w", r.Namespace(), missing, err)
		}
	}
	return r, c, func() { c.Close(); flush(ctx) }, nil
}

func override(cfg *config.Config, cl cli.ClusterOptions) {
	set := func(to *string, v string) {
		if v != "" {
			*to = v
		}
	}
	set(&cfg.Temporal.TLS.CAFile, cl.TLSCA)
	set(&cfg.Temporal.TLS.CertFile, cl.TLSCert)
	set(&cfg.Temporal.TLS.KeyFile, cl.TLSKey)
	set(&cfg.Temporal.APIKeyFile, cl.APIKeyFile)
}

// Listen opens a port, or says which one is taken and what to change.
func Listen(ctx context.Context, address, key string) (net.Listener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, cli.Failed("port-taken", "set "+key+" in rekey.yaml, or --"+config.FlagName(key), "%s (%s) cannot be listened on: %v", address, key, err)
	}
	return l, nil
}
