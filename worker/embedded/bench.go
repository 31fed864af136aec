package embedded

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"go.temporal.io/sdk/client"

	"rekey/internal/api"
	"rekey/internal/cli"
	"rekey/internal/config"
	"rekey/internal/devserver"
	"rekey/internal/intake"
	"rekey/internal/server"
	"rekey/worker"
	"rekey/workflows"
)

// Budgets of design section 13, in milliseconds.
const (
	budgetP50     = 100
	budgetP99     = 500
	budgetManyP99 = 2000
	budgetUp      = 3000
)

const (
	// atOnce is how many reports come in together in the second series.
	atOnce = 16
	// benchAccounts share the load: each has its own budget at the provider, and
	// what is measured is the engine, not a vendor's limit.
	benchAccounts = 8
	// benchStarts is how often `rekey up` is started.
	benchStarts = 5
	// containLimit is when a containment call is given up; restLimit is how long an
	// incident may take to wait for votes.
	containLimit = 30 * time.Second
	restLimit    = 30 * time.Second
)

// Bench measures the budgets of design section 13 that this build has: from a
// report to the first containment call, and the start of `rekey up`. Everything
// is in a directory of its own that is removed; the provider is a lab in this
// process, so no real one is reached. Environment variables REKEY_* are ignored.
func Bench(ctx context.Context, o cli.BenchOptions, io cli.IOStreams) (res cli.BenchResult, err error) {
	res.Schema = cli.SchemaBench
	machine := worker.Machine()
	for _, kv := range os.Environ() { // the measurement has its own configuration, and nobody's lab
		if name, _, _ := strings.Cut(kv, "="); strings.HasPrefix(name, "REKEY_") {
			if err := os.Unsetenv(name); err != nil {
				return res, err
			}
		}
	}
	root := o.Data
	if root == "" {
		root = os.TempDir()
	}
	dir, err := os.MkdirTemp(root, "rekey-bench-")
	if err != nil {
		return res, cli.Failed("bench", "give a directory that exists and can be written with --data", "the measurement needs a directory: %v", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	for _, n := range o.Scale {
		figures, err := measureScale(ctx, filepath.Join(dir, fmt.Sprint(n)), n, io)
		if err != nil {
			return res, err
		}
		res.Figures = append(res.Figures, figures...)
	}
	if len(o.Scale) > 0 {
		return cli.BenchResult{Schema: res.Schema, Figures: append([]cli.Figure{{Name: "measured", Value: int64(len(o.Scale)), Unit: "incidents", Note: machine + ", data in " + root}}, res.Figures...)}, nil
	}
	res.Figures = append(res.Figures, cli.Figure{
		Name: "measured", Value: int64(o.Incidents + rounds(o.Incidents)*atOnce), Unit: "incidents", Note: machine + ", data in " + root,
	})

	fmt.Fprintf(io.Err, "starts of rekey up: %d\n", benchStarts)
	up, err := measureUp(ctx, filepath.Join(dir, "up"))
	if err != nil {
		return res, err
	}
	res.Figures = append(res.Figures, up...)

	b, stop, err := startBench(ctx, filepath.Join(dir, "engine"), o)
	if err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	fmt.Fprintf(io.Err, "incidents one after another: %d\n", o.Incidents)
	one, err := b.oneByOne(ctx, o.Incidents)
	if err != nil {
		return res, err
	}
	fmt.Fprintf(io.Err, "incidents %d at once, %d times\n", atOnce, b.rounds)
	many, err := b.together(ctx)
	if err != nil {
		return res, err
	}
	if err := b.verify(ctx); err != nil {
		return res, err
	}
	if n := b.restless; n > 0 {
		fmt.Fprintf(io.Err, "%d incidents were not at rest when the next report came\n", n)
	}
	return cli.BenchResult{Schema: res.Schema, Figures: append(res.Figures, figures(one, many)...)}, nil
}

// figures tells both ways to read "report accepted": since the report was handed
// in, and since its sender was told that it is durable.
func figures(one, many series) []cli.Figure {
	const how = "reports go through intake in this process as source_kind provider (no HTTP trigger has it yet); arrival of UpdateAccessKey at the lab; nothing subtracted"
	var out []cli.Figure
	add := func(what string, t worker.Timings, p50, p99 int64, note string) {
		for _, f := range []struct {
			name   string
			at     time.Duration
			budget int64
		}{{"p50", t.Percentile(50), p50}, {"p99", t.Percentile(99), p99}, {"max", t.Max(), 0}} {
			out = append(out, cli.Figure{Name: what + ", " + f.name, Value: worker.Ms(f.at), Unit: "ms", Budget: f.budget, Note: note})
			note = ""
		}
	}
	add("accepted to containment, one after another", one.accepted, budgetP50, budgetP99, how)
	add("handed in to containment, one after another", one.handed, budgetP50, budgetP99, "includes the claim at the register and the durable start")
	many16 := fmt.Sprintf("%d at once", atOnce)
	add("accepted to containment, "+many16, many.accepted, 0, budgetManyP99, fmt.Sprintf("over %d accounts, so that no provider limit is in it", benchAccounts))
	add("handed in to containment, "+many16, many.handed, 0, budgetManyP99, "")
	return out
}

// rounds is how often [atOnce] reports come in together.
func rounds(incidents int) int { return max(1, incidents/atOnce) }

// A series is one kind of measurement.
type series struct{ handed, accepted worker.Timings }

// A bench is the whole of rekey in this process, with a lab as its provider.
type bench struct {
	intake   *intake.Intake
	client   client.Client
	show     server.Temporal
	lab      *benchLab
	rounds   int
	next     int // incidents taken so far
	restless int
}

// startBench starts what `rekey up` starts, against the lab.
func startBench(ctx context.Context, dir string, o cli.BenchOptions) (_ *bench, _ func() error, err error) {
	var undo []func() error
	stop := func() error {
		var errs []error
		for i := len(undo) - 1; i >= 0; i-- {
			errs = append(errs, undo[i]())
		}
		return errors.Join(errs...)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, stop())
		}
	}()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, err
	}
	b := &bench{rounds: rounds(o.Incidents)}
	run, cancel := context.WithCancel(ctx)
	b.lab = &benchLab{items: o.Items}
	undo = append(undo, func() error { cancel(); return b.lab.stop() })
	if err := b.lab.start(run, dir, o.Incidents+b.rounds*atOnce); err != nil {
		return nil, nil, err
	}
	cfg, err := benchConfig(dir, b.lab)
	if err != nil {
		return nil, nil, err
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", cfg.Listen.HTTP)
	if err != nil {
		return nil, nil, err
	}
	undo = append(undo, func() error {
		if err := l.Close(); !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	})
	srv, err := devserver.Start(ctx, devserver.Options{
		DataDir: cfg.Data, Frontend: cfg.Listen.Temporal, UI: cfg.Listen.UI, Namespaces: []string{cfg.Temporal.Namespace},
		CodecEndpoint: "http://" + l.Addr().String() + "/codec", CodecCredentials: true,
	})
	if err != nil {
		return nil, nil, err
	}
	undo = append(undo, func() error {
		limit, done := context.WithTimeout(context.WithoutCancel(ctx), stopLimit)
		defer done()
		return srv.Stop(limit)
	})
	r, err := worker.Open(cfg, worker.NewLog(os.Stderr, "error", ""), true)
	if err != nil {
		return nil, nil, err
	}
	if b.client, err = r.Dial(ctx, srv.DialOptions(r.Namespace())); err != nil {
		return nil, nil, err
	}
	undo = append(undo, func() error { b.client.Close(); return nil })
	b.show = server.Temporal{Client: b.client, Namespace: r.Namespace()}
	if b.intake, err = r.NewIntake(b.client, "", ""); err != nil {
		return nil, nil, err
	}
	m, err := worker.Listen(ctx, cfg.Listen.Metrics, "listen.metrics")
	if err != nil {
		return nil, nil, err
	}
	parts, end := context.WithCancel(ctx)
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- r.Run(parts, b.client, m,
			func(ctx context.Context) error {
				return r.RunWorker(ctx, b.client)
			},
			func(ctx context.Context) error {
				return r.RunServer(ctx, b.client, l, srv.UIURL(), func(string) { close(ready) })
			})
	}()
	undo = append(undo, func() error { end(); return <-ended })
	select {
	case <-ready:
		return b, stop, nil
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
}

// benchConfig is a rekey.yaml as a user would write it to have the provider's own
// alerts contain at once, with breakers that a bench does not trip.
func benchConfig(dir string, l *benchLab) (*config.Config, error) {
	id, key := filepath.Join(dir, "engine-id"), filepath.Join(dir, "engine-key")
	engine := l.server.Engine()
	files := map[string]string{id: engine.KeyID, key: engine.SecretKey, filepath.Join(dir, "estate.yaml"): l.estate()}
	for path, text := range files {
		if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
			return nil, err
		}
	}
	var y strings.Builder
	fmt.Fprintf(&y, "data: %q\n", filepath.Join(dir, "data"))
	y.WriteString("listen: {http: \"127.0.0.1:0\", temporal: \"127.0.0.1:0\", ui: \"127.0.0.1:0\", metrics: \"127.0.0.1:0\"}\n")
	y.WriteString("ceilings:\n  sources: {default: propose, aws: contain}\n  breaker: {per_source_per_hour: 1000000, per_account_per_hour: \"100%\"}\n")
	y.WriteString("estate: {files: [estate.yaml]}\nproviders:\n  awsiam:\n")
	for n := range benchAccounts {
		fmt.Fprintf(&y, "    %s: {account_id: %q, regions: [us-east-1], base_url: %q, allow_private: true, credentials: {access_key_id_file: %q, secret_access_key_file: %q}}\n",
			accountName(n), l.account, l.url, id, key)
	}
	return config.Parse([]byte(y.String()), dir)
}

func accountName(n int) string { return fmt.Sprintf("bench-%d", n%benchAccounts) }

// oneByOne reports n keys; the next report comes when the incident before is at
// rest and waits for votes.
func (b *bench) oneByOne(ctx context.Context, n int) (series, error) {
	var s series
	for range n {
		t, err := b.one(ctx, b.take(1)[0])
		if err != nil {
			return s, err
		}
		s.add(t)
		b.settle(ctx, t.incident)
	}
	return s, nil
}

// together reports [atOnce] keys at the same moment, again and again.
func (b *bench) together(ctx context.Context) (series, error) {
	var s series
	for range b.rounds {
		keys := b.take(atOnce)
		got, errs := make([]timing, len(keys)), make([]error, len(keys))
		start := make(chan struct{})
		var wg sync.WaitGroup
		for i, n := range keys {
			wg.Go(func() {
				<-start
				got[i], errs[i] = b.one(ctx, n)
			})
		}
		close(start)
		wg.Wait()
		if err := errors.Join(errs...); err != nil {
			return s, err
		}
		for _, t := range got {
			s.add(t)
			b.settle(ctx, t.incident)
		}
	}
	return s, nil
}

// take gives the numbers of keys that were not reported yet.
func (b *bench) take(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = b.next
		b.next++
	}
	return out
}

type timing struct {
	incident         string
	handed, accepted time.Duration
}

func (s *series) add(t timing) {
	s.handed = append(s.handed, t.handed)
	s.accepted = append(s.accepted, t.accepted)
}

// one reports one key as its provider would and waits for the containment call.
func (b *bench) one(ctx context.Context, n int) (timing, error) {
	key := b.lab.reported(n)
	handed := time.Now()
	res, err := b.intake.Report(ctx, intake.Caller{Actor: "aws", Source: "aws", SourceKind: "provider"}, api.ReportRequest{
		Provider: "awsiam", Kind: "user-access-key", Account: accountName(n), KeyID: key, Confidence: "confirmed", Nonce: fmt.Sprintf("bench-%08d", n),
	})
	accepted := time.Now()
	if err != nil {
		return timing{}, fmt.Errorf("report %d: %w", n, err)
	}
	limit := time.NewTimer(containLimit)
	defer limit.Stop()
	select {
	case at := <-b.lab.contained(key):
		// The call may overtake the answer to the report.
		return timing{incident: res.Incident, handed: at.Sub(handed), accepted: max(0, at.Sub(accepted))}, nil
	case <-ctx.Done():
		return timing{}, ctx.Err()
	case <-limit.C:
		return timing{}, cli.Failed("bench", "this is a fault of the build, not of the machine: report it", "no containment call for %s within %s: %s", res.Incident, containLimit, b.why(ctx, res.Incident))
	}
}

// why tells which condition kept an incident from being contained.
func (b *bench) why(ctx context.Context, incident string) string {
	v, err := b.show.Show(ctx, incident)
	if err != nil || v.Contain == nil {
		return "the incident does not say why"
	}
	var no []string
	for _, c := range v.Contain.Conditions {
		if !c.Held {
			no = append(no, c.ID+" ("+c.Why+")")
		}
	}
	if len(no) == 0 {
		return "every condition held; the Disable ended " + v.Contain.Outcome
	}
	return "not allowed: " + strings.Join(no, ", ")
}

// settle waits until an incident has nothing to do but wait for people.
func (b *bench) settle(ctx context.Context, incident string) {
	ctx, cancel := context.WithTimeout(ctx, restLimit)
	defer cancel()
	for {
		d, err := b.client.DescribeWorkflowExecution(ctx, workflows.IncidentID(incident), "")
		if err == nil && len(d.GetPendingActivities()) == 0 && d.GetPendingWorkflowTask() == nil {
			return
		}
		select {
		case <-ctx.Done():
			b.restless++
			return
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// verify holds the figures to the lab's own log: every reported key is inactive by
// exactly one change, and no other key was touched.
func (b *bench) verify(ctx context.Context) error {
	oracle, err := b.lab.server.Client().Oracle(ctx)
	if err != nil {
		return err
	}
	changes := map[string]int{}
	for _, c := range oracle.Calls {
		if c.Verb == "Disable" && c.Effect {
			changes[c.Key]++
		}
	}
	want := map[string]bool{}
	for n := range b.next {
		want[b.lab.reported(n)] = true
	}
	for _, k := range oracle.Keys {
		if want[k.ID] != (k.State == "inactive") || want[k.ID] != (changes[k.ID] == 1) {
			return fmt.Errorf("the figures are worth nothing: key %s is %s after %d changes, reported: %t", k.Alias, k.State, changes[k.ID], want[k.ID])
		}
	}
	return nil
}
