package slackapp

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/slack-go/slack"
)

// hooks is where Slack's response_urls are
// (https://docs.slack.dev/interactivity/handling-user-interaction#message_responses).
const hooks = "hooks.slack.com"

// A response_url may be used 5 times within 30 minutes (same page).
const (
	urlLife = 30 * time.Minute
	tries   = 3
)

// allowed tells whether an answer may be sent to a URL that came with a request: to
// Slack, or to the server that base_url puts in its place. Anything else would make
// rekey fetch what an outsider names.
func (a *App) allowed(raw string) bool {
	u, err := url.Parse(raw)
	if err != nil || u.User != nil || u.Opaque != "" {
		return false
	}
	if u.Scheme == "https" && u.Host == hooks {
		return true
	}
	return a.api != nil && u.Scheme == a.api.Scheme && u.Host == a.api.Host
}

// respond answers a request that was acknowledged already: by its response_url, or in
// a direct message when that has lapsed and something was decided. It tries a few
// times; that an answer was lost undoes nothing.
func (a *App) respond(req *request, ans *answer) {
	body := a.message(ans)
	fresh := a.Now().Sub(req.At) < urlLife
	switch {
	case req.Respond == "":
	case !a.allowed(req.Respond):
		a.counts.add("foreign-url")
		a.Log.Warn("slack answer not sent: its response_url is not Slack's", "user", req.Team+"/"+req.User)
	case fresh:
		for i := range tries {
			if i > 0 && !a.pause(time.Duration(i)*time.Second) {
				return
			}
			sent, again := a.post(req.Respond, body)
			if sent {
				return
			}
			if !again {
				break
			}
		}
	}
	if err := a.whisper(req, ans); err != nil {
		a.counts.add("answer-lost")
		a.Log.Error("an answer to a Slack request was not delivered; what it says was done all the same", "user", req.Team+"/"+req.User)
	}
}

func (a *App) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-a.ctx.Done():
		return false
	}
}

func (a *App) post(to string, body []byte) (sent, again bool) {
	ctx, cancel := context.WithTimeout(a.ctx, 10*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(body))
	if err != nil {
		return false, false
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := a.HTTP.Do(r)
	if err != nil {
		return false, true
	}
	defer func() { _ = resp.Body.Close() }()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) // so that the connection is used again
	if resp.StatusCode/100 == 2 {
		return true, false
	}
	return false, resp.StatusCode >= http.StatusInternalServerError || resp.StatusCode == http.StatusTooManyRequests
}

// whisper sends a direct message from the app.
func (a *App) whisper(req *request, ans *answer) error {
	api, err := a.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(a.ctx, 10*time.Second)
	defer cancel()
	_, _, err = api.PostMessageContext(ctx, req.User, slack.MsgOptionBlocks(a.blocks(ans)...), slack.MsgOptionText(notification, false),
		slack.MsgOptionDisableLinkUnfurl(), slack.MsgOptionDisableMediaUnfurl())
	return err
}
