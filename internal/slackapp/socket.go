package slackapp

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	"github.com/slack-go/slack"
	"github.com/slack-go/slack/socketmode"

	"rekey/internal/httpx"
)

// Bounds of Socket Mode (https://docs.slack.dev/apis/events-api/using-socket-mode).
const (
	maxEnvelope = 1 << 20
	maxPause    = time.Minute
	// writeBuffer is above the largest answer: Slack does not put fragments together.
	writeBuffer = 32 << 10
)

// errForeign: apps.connections.open sent us to a host that is not Slack's.
var errForeign = errors.New("slackapp: Socket Mode would connect to a host that is not Slack's")

// socket keeps a connection to Slack until ctx ends. Slack refreshes it every few
// hours, and gives each request to one of the connections that are open: any replica
// may get it.
func (a *App) socket(ctx context.Context) {
	pause := time.Second
	for ctx.Err() == nil {
		began := time.Now()
		err := a.connect(ctx)
		if ctx.Err() != nil {
			return
		}
		a.counts.add("socket-lost")
		a.Log.Error("Socket Mode has ended and is opened again; check channels.slack.app_token_file (xapp-…, scope connections:write)", "code", vendorCode(err))
		if time.Since(began) > maxPause {
			pause = time.Second
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		pause = min(2*pause, maxPause)
	}
}

// connect serves connections until one fails for good.
func (a *App) connect(ctx context.Context) error {
	token, err := a.Account.Credential("app_token")
	if err != nil {
		a.Log.Error("the Slack app token cannot be read", "error", err)
		return err
	}
	defer token.Destroy()
	raw := token.Reveal()
	defer clear(raw)
	api, err := a.client(slack.OptionAppLevelToken(string(raw)))
	if err != nil {
		return err
	}
	dialer, err := a.dialer()
	if err != nil {
		return err
	}
	silent := slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	sm := socketmode.New(api, socketmode.OptionDialer(dialer), socketmode.OptionReadLimit(maxEnvelope), socketmode.OptionLog(silent))
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- sm.RunContext(ctx) }()
	var handling sync.WaitGroup
	defer handling.Wait()
	defer cancel()
	for {
		select {
		case err := <-done:
			return err
		case ev := <-sm.Events:
			switch ev.Type {
			case socketmode.EventTypeSlashCommand, socketmode.EventTypeInteractive:
				handling.Go(func() { a.envelope(ctx, sm, ev) })
			case socketmode.EventTypeConnected:
				a.Log.Info("Socket Mode is connected")
			case socketmode.EventTypeConnectionError, socketmode.EventTypeIncomingError, socketmode.EventTypeErrorWriteFailed, socketmode.EventTypeErrorBadMessage:
				a.Log.Warn("Socket Mode", "event", string(ev.Type)) // what came with it may be a message
			}
		}
	}
}

// envelope takes one request. It is acknowledged as soon as it is durable, and
// answered by its response_url: an acknowledgement that is lost with its connection
// would take the answer with it. One that could not be kept is not acknowledged, so
// that Slack tells its author.
func (a *App) envelope(ctx context.Context, sm *socketmode.Client, ev socketmode.Event) {
	var req request
	ours, ok := true, false
	if ev.Type == socketmode.EventTypeSlashCommand {
		req, ok = fromJSON(ev.Request.Payload)
	} else {
		req, ours, ok = fromInteraction(ev.Request.Payload)
	}
	switch {
	case !ok:
		a.refuseEnvelope("malformed")
	case req.Team != a.Config.Channels.Slack.Team:
		a.refuseEnvelope("wrong-team")
	case ours:
		if _, _, err := a.accept(req, ev.Request.Payload, false); err != nil {
			return
		}
	}
	if err := sm.AckCtx(ctx, ev.Request.EnvelopeID, nil); err != nil {
		a.Log.Warn("a Slack request was taken and could not be acknowledged; a repeat is known")
	}
}

func (a *App) refuseEnvelope(why string) {
	a.counts.add(why)
	a.Log.Warn("slack request refused", "reason", why)
}

// fromJSON is [fromForm] for the payload of an envelope.
func fromJSON(raw []byte) (request, bool) {
	var fields map[string]any
	if err := json.Unmarshal(raw, &fields); err != nil {
		return request{}, false
	}
	form := url.Values{}
	for k, v := range fields {
		switch v := v.(type) {
		case string:
			form.Set(k, v)
		case bool:
			form.Set(k, fmt.Sprint(v))
		}
	}
	return fromForm(form)
}

// dialer connects to Slack's hosts alone, encrypted; to those of base_url where that
// is set, as it says.
func (a *App) dialer() (*websocket.Dialer, error) {
	guarded := httpx.Dialer(a.Account.AllowPrivate)
	trusted, err := httpx.TLS(a.Account.CAFile)
	if err != nil {
		return nil, err
	}
	ours := func(address string) bool {
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			return false
		}
		if a.api != nil && address == withPort(a.api) {
			return true
		}
		return port == "443" && strings.HasSuffix("."+host, ".slack.com")
	}
	return &websocket.Dialer{
		HandshakeTimeout: 10 * time.Second, WriteBufferSize: writeBuffer,
		NetDialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			if a.api == nil || a.api.Scheme != "http" || !ours(address) {
				return nil, errForeign
			}
			return guarded.DialContext(ctx, network, address)
		},
		NetDialTLSContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			if !ours(address) {
				return nil, errForeign
			}
			conn, err := guarded.DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			config := trusted.Clone()
			config.ServerName, _, _ = net.SplitHostPort(address) // it was split before
			secure := tls.Client(conn, config)
			if err := secure.HandshakeContext(ctx); err != nil {
				return nil, errors.Join(err, conn.Close())
			}
			return secure, nil
		},
	}, nil
}

func withPort(u *url.URL) string {
	port := u.Port()
	switch {
	case port != "":
	case u.Scheme == "http":
		port = "80"
	default:
		port = "443"
	}
	return net.JoinHostPort(u.Hostname(), port)
}
