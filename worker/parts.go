package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"

	"go.temporal.io/sdk/client"
	sdk "go.temporal.io/sdk/worker"
	"golang.org/x/sync/errgroup"

	"rekey/internal/codec"
	"rekey/internal/config"
	"rekey/internal/temporalx"
)

// Dial opens the Temporal client that every part uses: encrypted payloads and
// failures, and no person in the identity.
func (r *Runtime) Dial(ctx context.Context, o temporalx.Options) (client.Client, error) {
	o.Namespace = r.Namespace()
	o.DataConverter = r.DataConverter()
	o.FailureConverter = codec.NewFailureConverter(r.Keys)
	o.Logger = slog.New(r.Log.Handler())
	o.Identity = r.identity()
	var err error
	if o.Interceptors, err = r.trace.Interceptors(); err != nil {
		return nil, err
	}
	if o.Metrics, err = r.Metrics.Temporal(); err != nil {
		return nil, err
	}
	return temporalx.Dial(ctx, o)
}

// identity names this process to Temporal.
func (r *Runtime) identity() string { return "rekey-" + r.Epoch }

// Run runs the parts of a process until ctx ends or one of them fails, and answers
// on listen.metrics until the last of them has ended. It closes l.
func (r *Runtime) Run(ctx context.Context, c client.Client, l net.Listener, parts ...func(context.Context) error) error {
	if err := r.readyBlobs(ctx); err != nil {
		return errors.Join(err, l.Close())
	}
	r.ready(c)
	observing, stop := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := r.Observe(observing, l); err != nil {
			r.Log.Error("the metrics are not served any more; incidents go on", "error", err) // no reason to stop them
		}
	}()
	g, ctx := errgroup.WithContext(ctx)
	for _, part := range parts {
		g.Go(func() error { return part(ctx) })
	}
	err := g.Wait()
	stop()
	<-done
	return err
}

// RunWorker polls until ctx ends. Then it is not ready any more and lets running
// passes finish. It is for the one process that holds the installation by the lock
// on its data directory: the lock is the lease of every account, and their queues
// are polled at once.
func (r *Runtime) RunWorker(ctx context.Context, c client.Client) error {
	p := r.newParts(c, nil)
	all := []sdk.Worker{p.shared()}
	for _, a := range r.accounts() {
		all = append(all, p.account(a.provider, a.name))
	}
	return r.poll(ctx, c, all)
}

// poll starts workers, and stops them together when ctx ends.
func (r *Runtime) poll(ctx context.Context, c client.Client, all []sdk.Worker) error {
	var running []sdk.Worker
	var err error
	for _, w := range all {
		if err = w.Start(); err != nil {
			err = fmt.Errorf("worker: %w", err)
			break
		}
		running = append(running, w)
	}
	if err == nil {
		r.polling(c)
		go r.guardRetention(ctx, c)
		<-ctx.Done()
		r.Health.Stop()
	}
	var wg sync.WaitGroup
	for _, w := range running {
		wg.Go(w.Stop)
	}
	wg.Wait()
	return err
}

// BaseURL is where this machine's people reach the HTTP server.
func BaseURL(cfg *config.Config, l net.Listener) string {
	if cfg.Listen.TLS.CertFile != "" {
		return "https://" + l.Addr().String()
	}
	return "http://" + l.Addr().String()
}

// browsers is where browsers reach the server: what listen.url says, else base.
func (r *Runtime) browsers(base string) string {
	if u := r.Config.Listen.URL; u != "" {
		return strings.TrimSuffix(u, "/")
	}
	return base
}

// RunServer answers HTTP on l until ctx ends.
func (r *Runtime) RunServer(ctx context.Context, c client.Client, l net.Listener, ui string, ready func(login string)) error {
	base := BaseURL(r.Config, l)
	s, run, err := r.NewServer(c, r.NewEngine(c), ui, base)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	// It outlives the server: a request that was taken while it stopped is kept.
	beside, stop := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() { defer close(done); run(beside) }()
	defer func() { stop(); <-done }()
	if ready != nil {
		login := ""
		if ui != "" {
			login = s.CodecLogin(r.browsers(base))
		}
		ready(login)
	}
	go r.readStates(ctx, c)
	if err := s.Serve(ctx, l); err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("HTTP server: %w", err)
	}
	return nil
}
