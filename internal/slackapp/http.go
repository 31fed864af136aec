package slackapp

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/slack-go/slack"

	"rekey/internal/inbox"
	"rekey/internal/view"
)

// Bounds of a request's body. An interaction carries the whole card with it, and
// percent-encoding doubles JSON; a command carries what a person typed.
const (
	maxCommandBody     = 64 << 10
	maxInteractionBody = 256 << 10
)

// Handler answers POST /slack/commands and /slack/interactions. It authenticates by
// itself: mount it outside of any other guard. Without a signing secret every
// request is refused.
func (a *App) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /slack/commands", func(w http.ResponseWriter, r *http.Request) { a.take(w, r, kindCommand, maxCommandBody) })
	mux.HandleFunc("POST /slack/interactions", func(w http.ResponseWriter, r *http.Request) { a.take(w, r, kindButton, maxInteractionBody) })
	return mux
}

// take is the order of the checks: size and speed, signature over the raw body, time, form,
// workspace, repeat. Nothing before the inbox has an effect.
func (a *App) take(w http.ResponseWriter, r *http.Request, kind string, limit int64) {
	body, err := a.bodies.read(w, r, limit)
	switch {
	case errors.As(err, new(*http.MaxBytesError)):
		a.no(w, http.StatusRequestEntityTooLarge, "oversized", "the request is too large", "send less")
		return
	case errors.Is(err, errSlowBody):
		a.no(w, http.StatusRequestTimeout, "slow", "the request did not come within 3 seconds", "send it again, at once")
		return
	case errors.Is(err, errCrowded):
		a.no(w, http.StatusServiceUnavailable, "crowded", "too many requests are under way", "try again; if that does not help, see who connects to /slack, and put a proxy in front that lets in Slack alone")
		return
	case err != nil:
		a.no(w, http.StatusBadRequest, "malformed", "the request cannot be read", "send it again")
		return
	}
	if !a.authentic(w, r.Header, body) {
		return
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		a.no(w, http.StatusBadRequest, "malformed", "this is no request of Slack's form", "send it as Slack does")
		return
	}
	raw := body
	var req request
	ours, ok := true, false
	if kind == kindCommand {
		req, ok = fromForm(form)
	} else {
		raw = []byte(form.Get("payload"))
		req, ours, ok = fromInteraction(raw)
	}
	switch {
	case !ok:
		a.no(w, http.StatusBadRequest, "malformed", "this is no request of Slack's form", "send it as Slack does")
		return
	case req.Team != a.Config.Channels.Slack.Team:
		a.no(w, http.StatusForbidden, "wrong-team", "this is another workspace", "channels.slack.team in rekey.yaml names the one that is served")
		return
	case !ours:
		w.WriteHeader(http.StatusOK)
		return
	}
	d, ack, err := a.accept(req, raw, true)
	if err != nil {
		a.no(w, http.StatusServiceUnavailable, "inbox", "rekey could not keep the request", "nothing was started; look at the disk of the data directory, then try again")
		return
	}
	defer d.acknowledged()
	if ack == nil {
		w.WriteHeader(http.StatusOK)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(ack) // whether it arrived is told by nobody
}

// authentic checks Slack's signature
// (https://docs.slack.dev/authentication/verifying-requests-from-slack).
func (a *App) authentic(w http.ResponseWriter, h http.Header, body []byte) bool {
	const do = "channels.slack.signing_secret_file must hold the signing secret of this very app (Basic Information, App Credentials)"
	key, err := a.Account.Credential("signing_secret")
	if err != nil {
		a.Log.Error("the signing secret cannot be read", "error", err)
		a.no(w, http.StatusServiceUnavailable, "not-configured", "requests over HTTP are not configured", do)
		return false
	}
	defer key.Destroy()
	at, err := strconv.ParseInt(h.Get("X-Slack-Request-Timestamp"), 10, 64)
	if err != nil {
		a.no(w, http.StatusUnauthorized, "bad-signature", "the request is not signed by Slack", do)
		return false
	}
	const window = 5 * time.Minute
	if d := a.Now().Sub(time.Unix(at, 0)); d > window || d < -window {
		a.no(w, http.StatusUnauthorized, "stale", "the request's time is more than 5 minutes off", "compare this machine's clock with the world's")
		return false
	}
	raw := key.Reveal()
	defer clear(raw)
	v, err := slack.NewSecretsVerifier(h, string(raw))
	if err == nil {
		_, err = v.Write(body)
	}
	if err == nil {
		err = v.Ensure()
	}
	if err != nil {
		a.no(w, http.StatusUnauthorized, "bad-signature", "the request is not signed by Slack", do)
		return false
	}
	return true
}

// no refuses a request that is not even taken. It repeats nothing of it.
func (a *App) no(w http.ResponseWriter, status int, code, message, do string) {
	a.counts.add(code)
	a.Log.Warn("slack request refused", "reason", code)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	body, err := json.Marshal(view.Error{Error: view.ErrorBody{Code: code, Message: message, Do: do}})
	if err == nil {
		_, _ = w.Write(body)
	}
}

// accept keeps a request and starts it. ack is what to acknowledge with, nil for an
// empty body; d.acknowledged is to be called when that was sent. With wait, what is
// done quickly is answered by the acknowledgement.
func (a *App) accept(req request, raw []byte, wait bool) (d *delivery, ack []byte, err error) {
	req.ID, req.At = keyOf(req.Kind, raw), a.Now().UTC().Truncate(time.Millisecond)
	content, err := json.Marshal(req)
	if err != nil {
		return nil, nil, err
	}
	defer clear(content)
	switch err := a.Inbox.Put(req.ID, content); {
	case errors.Is(err, inbox.ErrTwice):
		a.counts.add("replayed")
		a.Log.Warn("slack request refused", "reason", "replayed", "user", req.Team+"/"+req.User)
		if req.Kind == kindCommand {
			ack = a.message(refusal("replayed", "rekey has taken this very request before; nothing was done twice."))
		}
		return nil, ack, nil
	case err != nil:
		a.Log.Error("a Slack request could not be kept", "error", err)
		return nil, nil, err
	}
	working := func() []byte {
		if req.Kind != kindCommand {
			return nil // Slack shows no answer to a click; it goes to the response_url
		}
		return a.message(say("Working on it…"))
	}
	select {
	case a.busy <- struct{}{}:
	default:
		return nil, working(), nil // the next sweep takes it
	}
	if req.Kind != kindCommand || !wait {
		a.start(req.ID, nil, a.busy)
		return nil, nil, nil
	}
	d = newDelivery()
	a.start(req.ID, d, a.busy)
	timer := time.NewTimer(a.quick)
	defer timer.Stop()
	select {
	case ans := <-d.answer:
		return d, a.message(ans), nil
	case <-d.none: // taken by another replica
	case <-timer.C:
	}
	close(d.late)
	return nil, working(), nil
}

// A delivery hands an answer to the acknowledgement, when it comes in time. Only when
// that is sent is the request done.
type delivery struct {
	answer chan *answer
	late   chan struct{} // closed: answer by the response_url
	none   chan struct{} // closed: no answer will come this way
	sent   chan struct{} // closed: the acknowledgement is out
}

func newDelivery() *delivery {
	return &delivery{answer: make(chan *answer), late: make(chan struct{}), none: make(chan struct{}), sent: make(chan struct{})}
}

func (d *delivery) acknowledged() {
	if d != nil {
		close(d.sent)
	}
}

// inTime gives ans to the acknowledgement; false when it is out already.
func (d *delivery) inTime(ans *answer) bool {
	if d == nil {
		return false
	}
	select {
	case d.answer <- ans:
		<-d.sent
		return true
	case <-d.late:
		return false
	}
}
