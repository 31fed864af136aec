package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"go.temporal.io/sdk/client"

	"rekey/internal/codec"
	"rekey/internal/engine"
	"rekey/internal/fsx"
	"rekey/internal/page/pagestore"
	"rekey/internal/people"
	"rekey/internal/plan"
	"rekey/internal/server"
	"rekey/workflows"
)

// session is how long a browser may read payloads after its login link was used.
const session = 8 * time.Hour

// NewServer makes the HTTP server over a Temporal client, and what has to run beside
// it. ui is the Temporal UI's URL, "" for none; url is the server's own.
func (r *Runtime) NewServer(c client.Client, e *engine.Engine, ui, url string) (*server.Server, func(context.Context), error) {
	token, err := people.LoadOrCreateToken(r.Config.Data)
	if err != nil {
		return nil, nil, err
	}
	in, err := r.NewIntake(c, ui, url)
	if err != nil {
		return nil, nil, err
	}
	listen := r.Config.Listen.TLS
	secure, err := server.LoadTLS(listen.CertFile, listen.KeyFile)
	if err != nil {
		return nil, nil, err
	}
	incidents := server.Temporal{Client: c, Namespace: r.Namespace()}
	o := server.Options{
		Token: token, Actor: people.Reporter(r.Config), Reports: in, Incidents: incidents, Redact: r.Redact, Log: r.Log, Now: time.Now,
		Exporter: exporter{e, incidents}, Rows: server.NewRows(incidents, pagestore.New(r.Blobs), time.Now), Hosts: r.hosts(), TLS: secure,
		Health: r.Health, Drain: r.drain, OnRefuse: r.Metrics.Refuse, Trace: r.trace.Request,
	}
	if ui != "" {
		sessions, err := codec.NewSessions(time.Now, session, secure != nil)
		if err != nil {
			return nil, nil, err
		}
		o.Sessions, o.UI = sessions, ui
		o.Codec = codec.Handler(codec.Options{
			Codec: codec.New(r.Keys), Origin: ui, Authenticate: func(req *http.Request) (string, bool) { return sessions.Authenticate(req) },
			OnRead: func(actor string, n int) { r.Log.Info("payloads read", "actor", actor, "count", n) },
		})
	}
	var beside func(context.Context)
	if o.Mounted, beside, err = r.mounted(in, incidents, url); err != nil {
		return nil, nil, err
	}
	s, err := server.New(o)
	return s, beside, err
}

// exporter makes a fresh bundle of an incident as it stands.
type exporter struct {
	engine    *engine.Engine
	incidents server.Temporal
}

func (x exporter) Export(ctx context.Context, incident string) (io.ReadCloser, error) {
	v, err := x.incidents.Show(ctx, incident)
	if errors.Is(err, server.ErrUnknown) {
		// Temporal has forgotten it: what was sealed last is all there is, and whole.
		f, err := os.Open(engine.BundlePath(x.engine.Bundles, incident))
		if err != nil {
			return nil, server.ErrUnknown
		}
		return f, nil
	}
	if err != nil {
		return nil, err
	}
	in := workflows.SealInput{Incident: incident, View: v, Workflows: []string{workflows.IncidentID(incident)}, Now: time.Now().UTC()}
	p, err := x.incidents.Plan(ctx, incident)
	if err != nil && !errors.Is(err, server.ErrUnknown) {
		return nil, err
	}
	in.Plans = []plan.Plan{p}
	if v.Plan != nil { // it also names waves of rows that were pulled
		for _, w := range v.Plan.Waves {
			in.Workflows = append(in.Workflows, workflows.WaveID(incident, w.N))
		}
	}
	if err := x.rows(ctx, &in); err != nil {
		return nil, err
	}
	in.Workflows = append(in.Workflows, workflows.WatchID(incident))
	for _, f := range v.Records {
		in.Workflows = append(in.Workflows, workflows.RecordID(incident, f.Channel))
	}
	return x.written(ctx, in)
}

// rows names the lists of an incident's rows as they stand. Those of a wave that runs
// are put together for the export.
func (x exporter) rows(ctx context.Context, in *workflows.SealInput) error {
	st, err := x.incidents.Pages(ctx, in.Incident)
	if err != nil {
		return err
	}
	in.Workflows = append(in.Workflows, st.Scopes...)
	for _, l := range st.Lists {
		in.Lists = append(in.Lists, l.List)
	}
	for _, wave := range st.Waves {
		groups, err := x.incidents.Groups(ctx, wave)
		if err != nil {
			return err
		}
		pack := workflows.ListInput{Incident: in.Incident}
		for _, g := range groups {
			pack.Pack = append(pack.Pack, g.Hash)
		}
		l, err := x.engine.List(ctx, pack)
		if err != nil {
			return err
		}
		in.Lists = append(in.Lists, l.Hash)
	}
	return nil
}

// written makes the bundle in a file without a name, which goes when it is closed.
func (x exporter) written(ctx context.Context, in workflows.SealInput) (io.ReadCloser, error) {
	f, err := os.CreateTemp(x.engine.Bundles, fsx.TempPattern)
	if err != nil {
		return nil, fmt.Errorf("export: %w", err)
	}
	_ = os.Remove(f.Name()) // an unfinished file is skipped by whoever lists the directory
	if _, err = x.engine.Export(ctx, in, f); err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}
