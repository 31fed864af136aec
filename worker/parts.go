package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"

	"go.temporal.io/sdk/client"
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
	o.Identity = "rekey-" + r.Epoch
	return temporalx.Dial(ctx, o)
}

// RunWorker polls until ctx ends, then lets running passes finish.
func (r *Runtime) RunWorker(ctx context.Context, c client.Client, dead func(string) bool) error {
	w := r.NewWorker(c, r.NewEngine(c), dead)
	if err := w.Start(); err != nil {
		return fmt.Errorf("worker: %w", err)
	}
	<-ctx.Done()
	w.Stop()
	return nil
}

// BaseURL is where this machine's people reach the HTTP server.
func BaseURL(cfg *config.Config, l net.Listener) string {
	if cfg.Listen.TLS.CertFile != "" {
		return "https://" + l.Addr().String()
	}
	return "http://" + l.Addr().String()
}

// RunServer answers HTTP on l until ctx ends.
func (r *Runtime) RunServer(ctx context.Context, c client.Client, l net.Listener, ui string, ready func(login string)) error {
	base := BaseURL(r.Config, l)
	s, err := r.NewServer(c, r.NewEngine(c), ui, base)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	if ready != nil {
		login := ""
		if ui != "" {
			login = s.CodecLogin(base)
		}
		ready(login)
	}
	if err := s.Serve(ctx, l); err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("HTTP server: %w", err)
	}
	return nil
}

// Both runs worker and server until ctx ends or one of them fails.
func (r *Runtime) Both(ctx context.Context, c client.Client, l net.Listener, ui string, dead func(string) bool, ready func(login string)) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return r.RunWorker(ctx, c, dead) })
	g.Go(func() error { return r.RunServer(ctx, c, l, ui, ready) })
	return g.Wait()
}
