package worker

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"time"

	"go.temporal.io/sdk/client"

	"rekey/internal/codec"
	"rekey/internal/engine"
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
		Exporter: exporter{e, incidents}, Hosts: r.hosts(), TLS: secure,
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
	for _, w := range p.Waves {
		in.Workflows = append(in.Workflows, workflows.WaveID(incident, w.N))
	}
	in.Workflows = append(in.Workflows, workflows.WatchID(incident))
	for _, f := range v.Records {
		in.Workflows = append(in.Workflows, workflows.RecordID(incident, f.Channel))
	}
	b, _, _, err := x.engine.Export(ctx, in)
	if err != nil {
		return nil, err
	}
	return io.NopCloser(bytes.NewReader(b)), nil
}
