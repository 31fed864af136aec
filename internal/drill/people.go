package drill

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"rekey/internal/lab/control"
	"rekey/internal/lab/scenario"
	"rekey/internal/people"
	"rekey/internal/statement"
	"rekey/internal/view"
	"rekey/workflows"
)

// playable refuses a drill with people who do what this driver does not play.
func playable(d *scenario.Drill) error {
	for i, p := range d.People {
		switch p.On + " " + p.Do {
		case "approval approve", "approval deny", "approval silent", "needs-human resolve", "needs-human silent":
		default:
			return fmt.Errorf("people[%d]: nobody plays `on: %s, do: %s` in this build", i, p.On, p.Do)
		}
	}
	return nil
}

// people lets everybody do what the scenario says they do, and tells when the next
// of them is due.
func (d *driver) people(ctx context.Context) (acted bool, due time.Time, err error) {
	// turn calls do when a person's time has come for a question, once.
	turn := func(p scenario.Person, id string, do func() error) error {
		key := p.Actor + "/" + id
		if d.acted[key] || p.Do == "silent" {
			return nil
		}
		if at := d.opened[id].Add(p.After.D()); d.now.Before(at) {
			if due.IsZero() || at.Before(due) {
				due = at
			}
			return nil
		}
		if err := do(); err != nil {
			return err
		}
		d.acted[key], acted = true, true
		return nil
	}
	for _, a := range d.view.Approvals {
		if a.State != "open" {
			continue
		}
		if d.first(a.ID) {
			d.w.say("%s  vote %s asked (%d of %v): %s", d.stamp(), a.ID, a.Needed, a.Roles, shorten(a.What))
		}
		for _, p := range d.w.d.People {
			role := common(p.Roles, a.Roles)
			if p.On != "approval" || role == "" || !strings.Contains(a.What, p.Match) {
				continue
			}
			if err := turn(p, a.ID, func() error { return d.vote(ctx, p, role, a) }); err != nil {
				return acted, due, err
			}
		}
	}
	for _, h := range d.view.NeedsHuman {
		if h.State != "open" {
			continue
		}
		if d.first(h.ID) {
			d.w.say("%s  a person is asked (%s): %s", d.stamp(), h.Owner, shorten(h.What))
		}
		for _, p := range d.w.d.People {
			if p.On != "needs-human" || !strings.Contains(h.What, p.Match) {
				continue
			}
			if err := turn(p, h.ID, func() error { return d.resolve(ctx, p, h) }); err != nil {
				return acted, due, err
			}
		}
	}
	return acted, due, nil
}

// first tells whether a question is new, and notes when it was seen.
func (d *driver) first(id string) bool {
	if _, ok := d.opened[id]; ok {
		return false
	}
	d.opened[id] = d.now
	return true
}

// shorten cuts what is said of many items to a line.
func shorten(s string) string {
	const most = 160
	if len(s) <= most {
		return s
	}
	return s[:most] + "…"
}

func (d *driver) vote(ctx context.Context, p scenario.Person, role string, a view.Approval) error {
	dec, done, err := d.state(ctx, statement.Statement{Action: p.Do, Actor: p.Actor, Role: role, WaveHash: a.WaveHash, Approval: a.ID, Text: "drill"}, a.ID)
	if err == nil && done {
		d.w.say("%s  %s (%s) %ss %s: %d of %d", d.stamp(), p.Actor, role, p.Do, a.ID, dec.Votes, dec.Needed)
	}
	return err
}

// resolve does what a step asks for: at the provider first, where the scenario says
// what, then by the person's word.
func (d *driver) resolve(ctx context.Context, p scenario.Person, h view.Human) error {
	if p.First != nil && !d.acted["first/"+h.ID] {
		if err := d.w.lab.Act(ctx, control.Act{Call: p.First.Call, With: p.First.With, Source: "person/" + p.Actor}); err != nil {
			return fmt.Errorf("%s at the provider: %w", p.First.Call, err)
		}
		d.acted["first/"+h.ID] = true
		d.w.say("%s  %s does %s at the provider", d.stamp(), p.Actor, p.First.Call)
	}
	_, done, err := d.state(ctx, statement.Statement{Action: statement.Resolve, Actor: p.Actor, Task: h.ID, As: p.As, Text: "drill"}, h.ID)
	if err == nil && done {
		d.w.say("%s  %s resolves %s", d.stamp(), p.Actor, h.ID)
	}
	return err
}

// state hands a person's statement in. A refusal is told and is no error: done is
// false.
func (d *driver) state(ctx context.Context, s statement.Statement, about string) (dec workflows.Decision, done bool, err error) {
	key, err := people.LoadIdentity(d.ids[s.Actor])
	if err != nil {
		return dec, false, err
	}
	s.Incident, s.Method = d.incident, people.MethodCLIKey
	s.Nonce = fmt.Sprintf("%s-%s-%s-%d", s.Actor, about, s.Action, time.Now().UnixNano())
	s.Issued, s.Expires = d.now, d.now.Add(10*time.Minute)
	signed, err := statement.Sign(s, key)
	if err != nil {
		return dec, false, err
	}
	err = d.api.do(ctx, http.MethodPost, "/api/v1/incidents/"+d.incident+"/statements", signed, &dec)
	if body, no := refused(err); no {
		d.w.say("%s  %s may not %s %s: %s", d.stamp(), s.Actor, s.Action, about, body.Message)
		return dec, false, nil
	}
	return dec, err == nil, err
}

func common(a, b []string) string {
	for _, r := range a {
		if slices.Contains(b, r) {
			return r
		}
	}
	return ""
}
