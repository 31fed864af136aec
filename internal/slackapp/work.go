package slackapp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"rekey/internal/intake"
	"rekey/internal/server"
)

// later says that nothing was decided and why; the request stays in the inbox.
type later struct{ told *answer }

func (l *later) Error() string { return "later" }

// life is how long a request is worth doing. What only reads is asked again by its
// author; a vote must not count long after it was meant.
func (r *request) life(c command) time.Duration {
	if r.Kind != kindCommand {
		return voteLife
	}
	switch c.verb {
	case verbReport:
		return reportLife
	case verbApprove, verbDeny, verbHold, verbRelease:
		return voteLife
	}
	return 0
}

// work does one entry of the inbox and answers. It may be called again for the same
// entry, by any process, until the entry is done.
func (a *App) work(name string, d *delivery) {
	if d != nil {
		defer close(d.none)
	}
	e, err := a.Inbox.Take(name)
	if err != nil {
		a.Log.Error("a request in the Slack inbox cannot be opened", "entry", name, "error", err)
		return
	}
	if e == nil {
		return
	}
	defer e.Close()
	req := request{ID: name}
	if err := json.Unmarshal(e.Content, &req); err != nil || len(name) < 64 {
		a.Log.Error("a request in the Slack inbox cannot be read", "entry", name)
		return
	}
	c, ans, err := a.attempt(&req)
	defer destroy(c.secrets)
	if a.ctx.Err() != nil {
		return // the process ends; the next one does it
	}
	var wait *later
	if errors.As(err, &wait) {
		ans = wait.told
		if age := a.Now().Sub(req.At); age < req.life(c.command) {
			a.waits(&req, c, d, ans)
			return
		}
		if req.life(c.command) > 0 {
			ans.add("It was *not done*, and rekey has stopped trying. Please do it again.")
		}
	}
	if ans == nil { // a modal asks further
		ans = new(answer)
	}
	if ans.code != "" {
		a.counts.add(ans.code)
		a.Log.Warn("slack refused", "reason", ans.code, "user", req.Team+"/"+req.User, "command", c.verb, "incident", c.incident)
	}
	if len(ans.lines) > 0 && !d.inTime(ans) {
		a.respond(&req, ans)
	}
	if err := e.Done(); err != nil {
		a.Log.Error("a Slack request could not be marked as done; it may be answered again", "entry", name, "error", err)
	}
}

// attempt understands and does a request. A request on which rekey fails is answered
// and over: it must not take the process down, and then the next one that finds it.
func (a *App) attempt(req *request) (c asked, ans *answer, err error) {
	defer func() {
		if p := recover(); p != nil {
			// The value may hold anything: only its type is logged.
			a.Log.Error("panic in a Slack request", "type", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
			ans, err = refusal("internal", "rekey failed on this request.").add("Look at the server's log, and use the command line. What became of it: `%s list`.", Command), nil
		}
	}()
	c = a.command(req)
	limit := attempt
	if c.verb == verbPlan {
		limit = planAttempt
	}
	ctx, cancel := context.WithTimeout(a.ctx, limit)
	defer cancel()
	ans, err = a.run(ctx, req, c)
	return c, ans, err
}

// waits tells the author, once, that the request is kept.
func (a *App) waits(req *request, c asked, d *delivery, why *answer) {
	first, err := a.Inbox.First(req.ID, "told")
	if err != nil {
		a.Log.Error("the Slack inbox cannot be written", "error", err)
	}
	if !first {
		return
	}
	a.Log.Warn("a Slack request waits", "user", req.Team+"/"+req.User, "command", c.verb)
	until := req.life(c.command)
	if c.verb == verbReport {
		why.add("Your report is *kept* and will be taken as soon as that is mended; you need not send it again.")
	} else {
		why.add("What you asked is *kept for %d minutes* and done as soon as that is mended. In a hurry, use the command line: `rekey incident`.", int(until.Minutes()))
	}
	if !d.inTime(why) {
		a.respond(req, why)
	}
}

// down turns what went wrong behind the scenes into an answer, or into [later].
func (a *App) down(err error) (*answer, error) {
	var refused *server.Refused
	var rejected *intake.Refusal
	switch {
	case errors.As(err, &refused):
		return refusal(refused.Body.Code, "%s.", refused.Body.Message).add("%s.", refused.Body.Do), nil
	case errors.As(err, &rejected) && rejected.Kind != intake.Unavailable:
		return refusal(rejected.Body.Code, "Not taken: %s.", rejected.Body.Message).add("%s.", rejected.Body.Do), nil
	}
	a.Log.Error("a Slack request could not be done", "error", a.Redact.String(err.Error()))
	return nil, &later{say("rekey's engine (Temporal or the worker) does not answer at the moment.")}
}
