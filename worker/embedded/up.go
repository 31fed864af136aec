// Package embedded runs rekey with Temporal inside: one process, one directory,
// nothing to install. Only the binary imports it, because it links the server.
package embedded

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"rekey/internal/cli"
	"rekey/internal/config"
	"rekey/internal/devserver"
	"rekey/worker"
)

// stopLimit bounds the end of the embedded server after Ctrl-C.
const stopLimit = 15 * time.Second

// Up starts Temporal, its UI, the worker and the HTTP server, and runs them until
// ctx ends. Before anything polls, every open history is replayed; a build that
// would break one is refused.
func Up(ctx context.Context, o cli.UpOptions, io cli.IOStreams) (err error) {
	began := time.Now()
	cfg, err := worker.LoadConfig(o.Common, map[string]string{
		"listen.http": o.ListenHTTP, "listen.temporal": o.ListenTemporal, "listen.ui": o.ListenUI, "listen.metrics": o.ListenMetrics,
	})
	if err != nil {
		return err
	}
	for _, w := range cfg.Warnings {
		fmt.Fprintln(io.Err, "warning:", w)
	}
	l, err := worker.Listen(ctx, cfg.Listen.HTTP, "listen.http")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = l.Close()
		}
	}()
	m, err := worker.Listen(ctx, cfg.Listen.Metrics, "listen.metrics")
	if err != nil {
		return err
	}
	defer func() { _ = m.Close() }() // closed already where it was served
	if o.Lab || o.Scenario != "" {
		stop, err := startLab(ctx, cfg, o.Scenario, io)
		if err != nil {
			return err
		}
		defer stop()
	}
	namespace := cfg.Temporal.Namespace
	if os.Getenv("REKEY_LAB_CONTROL") != "" {
		namespace = "rekey-drill"
	}
	srv, err := devserver.Start(ctx, devserver.Options{
		DataDir: cfg.Data, Frontend: cfg.Listen.Temporal, UI: cfg.Listen.UI, Namespaces: []string{namespace},
		AllowRemote: cfg.Listen.AllowClear, Retention: cfg.Temporal.Retention.Std(),
		CodecEndpoint: worker.BaseURL(cfg, l) + "/codec", CodecCredentials: true,
	})
	if err != nil {
		return err
	}
	defer func() {
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopLimit)
		defer cancel()
		err = errors.Join(err, srv.Stop(stop))
	}()
	r, err := worker.Open(cfg, worker.NewLog(io.Err, o.Level, o.Format), true)
	if err != nil {
		return err
	}
	flush, err := r.StartTracing("rekey-up")
	if err != nil {
		return err
	}
	defer flush(ctx)
	c, err := r.Dial(ctx, srv.DialOptions(namespace))
	if err != nil {
		return err
	}
	defer c.Close()
	open, err := r.ReplayOpen(ctx, c)
	if err != nil {
		return err
	}
	if r.Lab != nil {
		if err := r.Lab.Register(ctx, os.Getpid()); err != nil {
			return fmt.Errorf("the lab does not answer: %w", err)
		}
	}
	run, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-srv.Failed():
			cancel(srv.FailedError())
		case <-run.Done():
		}
	}()
	err = r.Run(run, c, m,
		func(ctx context.Context) error { return r.RunWorker(ctx, c) },
		func(ctx context.Context) error {
			return r.RunServer(ctx, c, l, srv.UIURL(), func(login string) { banner(io, cfg, srv, l, m, login, open, time.Since(began)) })
		})
	if cause := context.Cause(run); cause != nil && !errors.Is(cause, context.Canceled) {
		err = errors.Join(err, cause)
	}
	return err
}

func banner(io cli.IOStreams, cfg *config.Config, srv *devserver.Server, l, m net.Listener, login string, open int, took time.Duration) {
	fmt.Fprintf(io.Err, "rekey is up after %d ms, data in %s\n", took.Milliseconds(), cfg.Data)
	fmt.Fprintf(io.Err, "  API          %s\n", worker.BaseURL(cfg, l))
	fmt.Fprintf(io.Err, "  Temporal     %s\n", srv.Address())
	if srv.UIURL() != "" {
		fmt.Fprintf(io.Err, "  Temporal UI  %s\n", srv.UIURL())
		fmt.Fprintf(io.Err, "  readable     %s  (opens the UI with payloads decoded; once, within 10 minutes)\n", login)
	}
	fmt.Fprintf(io.Err, "  metrics      http://%s/metrics\n", m.Addr())
	if open > 0 {
		fmt.Fprintf(io.Err, "  %d open workflows go on\n", open)
	}
	fmt.Fprintln(io.Err, "Report a key with `rekey report`; stop with Ctrl-C, and start again: nothing is lost.")
}
