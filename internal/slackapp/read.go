package slackapp

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"rekey/activities/notify/text"
	"rekey/internal/plan"
	"rekey/internal/server"
	"rekey/internal/view"
)

// shown bounds what one list holds; the command line has all.
const shown = 12

func (a *App) status(ctx context.Context, c asked) (*answer, error) {
	v, err := a.Incidents.Show(ctx, c.incident)
	if err != nil {
		return a.problem(ctx, err)
	}
	dead := 0
	for _, it := range v.Items {
		if it.Death.State == "dead" {
			dead++
		}
	}
	if v.Mass != nil {
		dead += v.Mass.Dead
	}
	out := say("`%s` *%s*, %s, phase %s", v.ID, v.Severity, v.State, v.Phase)
	out.add("Items: %d, open %d, proven dead %d%s", v.Totals.Items, v.Totals.Open, dead, map[bool]string{true: " of those shown"}[v.Truncated && v.Mass == nil])
	if n := len(v.Scope.Unseen) + len(v.Scope.Dark); n > 0 {
		out.add("Scope is *not complete*: %d source(s) unseen, %d dark window(s)", len(v.Scope.Unseen), len(v.Scope.Dark))
	}
	for i, it := range v.Items {
		if i == shown {
			out.add("… and %d more items", v.Totals.Items-shown)
			break
		}
		out.add("• `%s` %s/%s %s: %s", it.Short, it.Provider, it.Account, it.KeyID, where(it))
	}
	breaks(out, v)
	asks(out, v)
	for _, h := range v.NeedsHuman {
		if h.State == "open" {
			out.add("*Waits for a person* (%s): %s; owner %s, due %s", h.ID, h.What, or(h.Owner, "nobody"), or(h.Due, "unknown"))
		}
	}
	for _, h := range v.Holds {
		if h.State != "released" {
			out.add("*On hold* `%s` by %s until %s: %s", h.ID, h.By, or(h.Until, "released"), h.Why)
		}
	}
	if v.Links["temporal"] != "" {
		out.link(v.Links["temporal"], "in the Temporal UI")
	}
	return out, nil
}

func asks(out *answer, v view.Incident) {
	for _, q := range v.Approvals {
		if q.State != "open" {
			continue
		}
		out.add("*Vote wanted %s*: %s; %d of %d votes, roles %s", q.ID, q.What, yes(q), q.Needed, strings.Join(q.Roles, ", "))
		out.add("  hash `%s`, expires %s", q.WaveHash, q.Expires)
		out.add("  `%s approve %s %s`", Command, v.ID, q.ID)
	}
}

func breaks(out *answer, v view.Incident) {
	if v.Plan == nil {
		return
	}
	for _, b := range v.Plan.Breaks {
		out.add("*Breaks* %s (owner %s) for %s", b.Dependent, or(b.Owner, "unknown"), text.Span(time.Duration(b.OutageMs)*time.Millisecond))
	}
}

func where(it view.Item) string {
	s := it.EndState
	if s == "" {
		s = strings.TrimSpace(it.Strategy + " " + it.Step)
		if it.Open.Why != "" {
			s += ", waits: " + it.Open.Why
		}
	}
	return s + ", old key " + it.Death.State + ", replacement " + it.Adoption.State
}

func or(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

func (a *App) list(ctx context.Context, c asked) (*answer, error) {
	l, err := a.Incidents.List(ctx, server.Filter{State: c.state, Size: 20})
	if err != nil {
		return a.down(err)
	}
	if len(l.Incidents) == 0 {
		return say("There is no %s incident.", or(c.state, "")), nil
	}
	out := say("*Incidents* (%s)", or(c.state, "all"))
	for _, s := range l.Incidents {
		out.add("• `%s` %s, %s, phase %s, %d open item(s), %s, since %s", s.ID, s.Severity, s.State, s.Phase, s.Open, s.Provider, s.Started)
	}
	if l.Next != "" {
		out.add("… and more: `rekey incident list`")
	}
	return out, nil
}

func (a *App) planOf(ctx context.Context, c asked) (*answer, error) {
	p, err := a.Incidents.Plan(ctx, c.incident)
	switch {
	case err != nil:
		return a.problem(ctx, err)
	case p.Hash == "":
		return say("This incident has no plan yet: its scope is still being read."), nil
	}
	out := say("*Plan* version %d of `%s`", p.Version, c.incident)
	waves(out, p)
	return out.add("`%s status %s` shows what can be voted on.", Command, c.incident), nil
}

func waves(out *answer, p plan.Plan) {
	out.add("%d call(s) in %d wave(s), about %s", p.Calls, len(p.Waves), text.Span(time.Duration(p.ETAMs)*time.Millisecond))
	for i, w := range p.Waves {
		if i == shown {
			out.add("… and %d more waves", len(p.Waves)-shown)
			break
		}
		out.add("*Wave %d*: %s of %d item(s)", w.N, string(w.Strategy), w.Size())
		out.add("  hash `%s`", w.Hash)
		out.add("  calls: %s", strings.Join(verbs(w), ", "))
		for _, g := range w.Gates {
			out.add("  gate: %s", g)
		}
	}
	if len(p.Breaks) == 0 {
		out.add("Breaks nobody that is known.")
	}
	for _, b := range p.Breaks {
		out.add("*Breaks* %s (owner %s) for %s: %s", b.Dependent, or(b.Owner, "unknown"), text.Span(time.Duration(b.OutageMs)*time.Millisecond), b.Why)
	}
}

// verbs are the vendor's calls of a wave, each once.
func verbs(w plan.Wave) []string {
	var out []string
	for _, it := range slices.Concat(w.Items, w.First) {
		for _, c := range it.Calls {
			for _, v := range c.Vendor {
				if !slices.Contains(out, v) {
					out = append(out, v)
				}
			}
		}
	}
	return out
}

// preview reads the provider, so that few of them run at once.
func (a *App) preview(ctx context.Context, c asked) (*answer, error) {
	if a.Preview == nil {
		return refusal("not-configured", "This server cannot look at keys that have no incident.").add("Use `rekey plan` where the provider's read identity is."), nil
	}
	select {
	case a.plans <- struct{}{}:
		defer func() { <-a.plans }()
	default:
		return refusal("busy", "Other plans are being made right now.").add("Try again in a minute."), nil
	}
	p, err := a.Preview(ctx, KeyQuestion{c.provider, c.kind, c.account, c.keyID})
	var refused *server.Refused
	switch {
	case errors.As(err, &refused):
		return refusal(refused.Body.Code, "Not possible: %s.", refused.Body.Message).add("%s.", refused.Body.Do), nil
	case err != nil:
		a.Log.Error("a plan could not be made", "error", a.Redact.String(err.Error()))
		return refusal("unreachable", "The provider could not be read.").add("Try `rekey plan` on the command line; its error says more."), nil
	}
	out := say("*What rekey would do* (nothing was done): severity %s, owner %s, last used %s", or(p.Severity, "unknown"), or(p.Owner, "unknown"), or(p.LastUsed, "unknown"))
	if p.Held != "" {
		out.add("*On hold*: %s", p.Held)
	}
	waves(out, p.Plan)
	for _, u := range p.Unseen {
		out.add("Not seen: %s: %s", u.Source, u.Why)
	}
	return out.add("To act on it: `%s`", fmt.Sprintf("%s report %s %s", Command, c.provider, c.keyID)), nil
}
