package slackapp

import (
	"context"
	"errors"
	"strings"

	"rekey/activities/notify"
	"rekey/internal/secret"
	"rekey/internal/server"
	"rekey/internal/view"
)

// asked is a request as it was understood: what to do, the secrets that were typed,
// and what was wrong with it.
type asked struct {
	command
	secrets []secret.Value
	mistake *hint
}

// command understands a request. Secrets are taken out before anything else reads the
// text. Destroy asked.secrets.
func (a *App) command(req *request) asked {
	plain, secrets := a.find.seen(visible(req.Text))
	out := asked{secrets: secrets}
	if req.Kind != kindCommand {
		incident, approval, hash, ok := notify.ParseButton(req.Value)
		out.command = command{verb: verbApprove, incident: incident, approval: approval, hash: hash, reason: strings.TrimSpace(plain)}
		if req.Action == notify.ActionDeny {
			out.verb = verbDeny
		}
		if !ok {
			out.mistake = &hint{"this button is not one of this version of rekey; type", usageOf(out.verb).form}
		}
		return out
	}
	c, err := parse(plain)
	out.command = c
	if w := new(wrong); errors.As(err, &w) {
		out.mistake = &w.hint
	}
	return out
}

// run does what was asked. The error is *later.
func (a *App) run(ctx context.Context, req *request, c asked) (*answer, error) {
	if req.Kind == kindButton && c.verb == verbDeny && c.mistake == nil && a.people[req.Team+"/"+req.User] != "" {
		return a.askWhy(ctx, req, c), nil // a trigger_id lives 3 s: nothing slow before
	}
	w, no, err := a.identify(ctx, req)
	if no != nil || err != nil {
		return no, err
	}
	switch {
	case len(c.secrets) > 0 && (c.mistake != nil || c.verb != verbReport):
		return a.secretTyped(c), nil
	case c.mistake != nil:
		return refusal("usage", "Sorry, %s:", c.mistake.say).add("`%s %s`", Command, c.mistake.form), nil
	}
	switch c.verb {
	case verbHelp:
		return help(w), nil
	case verbReport:
		return a.report(ctx, req, w, c)
	case verbUpload:
		return a.upload(ctx, w, c)
	case verbStatus:
		return a.status(ctx, c)
	case verbList:
		return a.list(ctx, c)
	case verbPlan:
		if c.incident != "" {
			return a.planOf(ctx, c)
		}
		return a.preview(ctx, c)
	}
	return a.decide(ctx, req, w, c)
}

func help(w who) *answer {
	out := say("*rekey* answers to the response to leaked keys. What you can type:")
	for _, u := range usages() {
		out.add("`%s %s`", Command, u.form)
		out.add("    %s", u.what)
	}
	out.add("*Never paste a secret here*: a key's public id is enough; `%s upload` gives a link for the secret.", Command)
	if w.person == "" {
		out.add("You may read and report. To vote, a person is named under `people` in rekey.yaml.")
	} else {
		out.add("You are *%s* (%s).", w.person, strings.Join(w.roles, ", "))
	}
	return out
}

// unknown offers the incidents there are.
func (a *App) unknown(ctx context.Context) *answer {
	out := refusal(view.CodeNotFound, "There is no such incident.")
	l, err := a.Incidents.List(ctx, server.Filter{State: "open", Size: 5})
	if err != nil || len(l.Incidents) == 0 {
		return out.add("`%s list all` shows those there are.", Command)
	}
	out.add("Open are:")
	for _, s := range l.Incidents {
		out.add("`%s` %s, %s", s.ID, s.Severity, s.Phase)
	}
	return out
}

// problem is [App.down] where an incident was asked for.
func (a *App) problem(ctx context.Context, err error) (*answer, error) {
	if errors.Is(err, server.ErrUnknown) {
		return a.unknown(ctx), nil
	}
	return a.down(err)
}
