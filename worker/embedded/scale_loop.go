package embedded

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"rekey/activities"
	"rekey/internal/config"
	"rekey/internal/drill"
	"rekey/internal/lab/control"
	"rekey/worker"
)

// loopAtOnce is how many calls of an account are under way at once, in the loop as in
// rekey's runner.
const loopAtOnce = 32

// loop makes the calls of a campaign with the provider's own client and nothing else.
func (c *campaign) loop(ctx context.Context) (out campaignRun, err error) {
	if err := c.startLab(ctx); err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, stop(c.lab)) }()
	if err := c.configure(); err != nil {
		return out, err
	}
	text, err := os.ReadFile(filepath.Join(c.dir, "rekey.yaml"))
	if err != nil {
		return out, err
	}
	cfg, err := config.Parse(text, c.dir)
	if err != nil {
		return out, err
	}
	r, err := worker.Open(cfg, worker.NewLog(os.Stderr, "error", ""), true)
	if err != nil {
		return out, err
	}
	client, err := r.Client("awsiam", "lab")
	if err != nil {
		return out, err
	}
	var calls atomic.Int64
	began := time.Now()
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(loopAtOnce)
	for i, id := range c.ids {
		g.Go(func() error {
			n, err := kill(ctx, client, activities.Ref{
				Incident: "bench", Token: fmt.Sprintf("bench/%d", i), Attempt: 1,
				Key: activities.Key{FP: fmt.Sprintf("fp1_%064d", i), Provider: "awsiam", Account: "lab", Kind: "user-access-key", ID: id, Principal: fmt.Sprintf("bench-%d", i)},
			}, i == 0)
			calls.Add(n)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return out, err
	}
	return campaignRun{took: time.Since(began), calls: int(calls.Load())}, nil
}

// kill makes the calls of one key in their order.
func kill(ctx context.Context, client any, ref activities.Ref, origin bool) (int64, error) {
	if origin {
		ref.Key.Principal = "origin"
	}
	probe := func() error {
		res, err := client.(activities.Prober).Probe(ctx, activities.ProbeRequest{Ref: ref, Mode: activities.ProbeState})
		if err == nil && res.Saw != activities.ProbeRefused {
			err = fmt.Errorf("%s is %s", ref.Key.ID, res.Saw)
		}
		return err
	}
	for n, do := range []func() error{
		func() error {
			_, err := client.(activities.Inspector).Inspect(ctx, activities.InspectRequest{Ref: ref, Since: time.Now().Add(-24 * time.Hour), Now: time.Now()})
			return err
		},
		func() error { _, err := client.(activities.Disabler).Disable(ctx, ref); return err },
		func() error {
			_, err := client.(activities.SessionEnder).EndSessions(ctx, activities.EndSessionsRequest{Ref: ref, Before: time.Now()})
			return err
		},
		probe,
		func() error { _, err := client.(activities.Revoker).Revoke(ctx, ref); return err },
		probe,
	} {
		if err := do(); err != nil {
			return int64(n), fmt.Errorf("call %d of the bare loop: %w", n+1, err)
		}
	}
	return 6, nil
}

// labInfo waits for a lab's process and asks it who it is.
func labInfo(ctx context.Context, dir string) (control.Info, string, error) {
	for {
		var addrs drill.Addrs
		b, err := os.ReadFile(filepath.Join(dir, "lab", drill.AddrsFile))
		if err == nil && json.Unmarshal(b, &addrs) == nil {
			token, err := os.ReadFile(filepath.Join(dir, "lab", control.TokenFile))
			if err == nil {
				if info, err := control.New(addrs.Control, strings.TrimSpace(string(token))).Info(ctx); err == nil {
					return info, addrs.Control, nil
				}
			}
		}
		select {
		case <-ctx.Done():
			return control.Info{}, "", fmt.Errorf("the lab did not start, see %s: %w", filepath.Join(dir, "lab.log"), ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// ready waits until rekey's API answers.
func ready(ctx context.Context, addr string) error {
	limit, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	here := &http.Client{Timeout: 5 * time.Second} // rekey itself, on the loopback address that it was given
	for {
		req, err := http.NewRequestWithContext(limit, http.MethodGet, "http://"+addr+"/readyz", nil)
		if err != nil {
			return err
		}
		if res, err := here.Do(req); err == nil {
			_ = res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-limit.Done():
			return limit.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// freeAddrs picks loopback addresses that are free now.
func freeAddrs(n int) ([]string, error) {
	var out []string
	for range n {
		l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer func() { _ = l.Close() }()
		out = append(out, l.Addr().String())
	}
	return out, nil
}
