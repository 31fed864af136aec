package worker

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"time"

	"rekey/internal/cli"
	"rekey/internal/config"
	"rekey/internal/httpx"
	"rekey/internal/inbox"
	"rekey/internal/intake"
	"rekey/internal/server"
	"rekey/internal/slackapp"
	"rekey/internal/upload"
	"rekey/internal/view"
)

// hosts are the names under which the HTTP server is called.
func (r *Runtime) hosts() []string {
	out := slices.Clone(r.Config.Listen.Hosts)
	if u, err := url.Parse(r.Config.Listen.URL); err == nil && u.Hostname() != "" {
		out = append(out, u.Hostname())
	}
	return out
}

// public is where people's browsers reach this server; "" when they do not.
func (r *Runtime) public(own string) string {
	if u := r.Config.Listen.URL; u != "" {
		return u
	}
	if u, err := url.Parse(own); err == nil && config.Loopback(u.Host) {
		return own
	}
	return ""
}

// mounted are the handlers that authenticate by themselves, and what runs beside the
// server for them.
func (r *Runtime) mounted(in *intake.Intake, incidents server.Temporal, own string) (map[string]http.Handler, func(context.Context), error) {
	account, ok := r.Config.Channel("slack")
	s := r.Config.Channels.Slack
	if !ok || (s.SigningSecretFile == "" && s.AppTokenFile == "") {
		return nil, func(context.Context) {}, nil
	}
	box, err := inbox.Open(filepath.Join(r.Config.Data, "inbox"), r.Keys)
	if err != nil {
		return nil, nil, err
	}
	client, err := httpx.ForAccount(account)
	if err != nil {
		return nil, nil, err
	}
	mounted := map[string]http.Handler{}
	links, err := r.links(in, own)
	if err != nil {
		return nil, nil, err
	}
	var link func(context.Context, slackapp.UploadLink) (string, error)
	if links != nil {
		mounted["/upload/"] = links.Handler()
		link = func(ctx context.Context, l slackapp.UploadLink) (string, error) {
			return links.Make(ctx, upload.Link{Provider: l.Key.Provider, Kind: l.Key.Kind, Account: l.Key.Account, KeyID: l.Key.KeyID, Who: l.Who})
		}
	}
	app, err := slackapp.New(slackapp.Options{
		Config: r.Config, Account: account, Reports: in, Incidents: incidents, Providers: r.Descriptors(), Signer: r.server,
		Inbox: box, Redact: r.Redact, HTTP: client, Log: r.Log, Now: time.Now, Preview: r.preview, Upload: link,
		OnRefuse: func(why string) { r.Metrics.Refuse("/slack/", why) },
	})
	if err != nil {
		return nil, nil, err
	}
	if s.SigningSecretFile != "" {
		mounted["/slack/"] = app.Handler()
	}
	return mounted, app.Run, nil
}

// links takes uploads of secrets; nil where no browser reaches this server.
func (r *Runtime) links(in *intake.Intake, own string) (*upload.Links, error) {
	base := r.public(own)
	if base == "" {
		return nil, nil
	}
	box, err := inbox.Open(filepath.Join(r.Config.Data, "uploads"), r.Keys)
	if err != nil {
		return nil, err
	}
	return upload.New(upload.Options{Box: box, Reports: in, Providers: r.Descriptors(), URL: base, Log: r.Log, Now: time.Now})
}

// preview plans for a key that somebody asks about in chat.
func (r *Runtime) preview(ctx context.Context, q slackapp.KeyQuestion) (slackapp.Preview, error) {
	res, err := r.planKey(ctx, cli.PlanOptions{Provider: q.Provider, Kind: q.Kind, Account: q.Account, KeyID: q.KeyID})
	var said *cli.Error
	switch {
	case errors.As(err, &said):
		return slackapp.Preview{}, &server.Refused{Body: view.ErrorBody{Code: view.CodeInvalid, Message: said.Message, Do: said.Do}}
	case err != nil:
		return slackapp.Preview{}, err
	}
	return slackapp.Preview{Plan: res.Plan, Severity: res.Severity, Owner: res.Owner, LastUsed: res.LastUsed, Held: res.Held, Unseen: res.Unseen}, nil
}
