package workflows

import (
	"fmt"
	"slices"
	"time"

	"go.temporal.io/sdk/workflow"

	"rekey/activities"
	"rekey/internal/event"
	"rekey/internal/plan"
	"rekey/internal/view"
	"rekey/playbooks"
)

// ladder is the order of the rungs above Disable (design section 3).
var ladder = []playbooks.Rung{
	playbooks.RungKey, playbooks.RungSessions, playbooks.RungPrincipal, playbooks.RungParentDeny, playbooks.RungNetworkBind,
}

// climb pulls the next rung of the ladder. Only a clear "alive" climbs: unclear
// answers never do. At the top, or where people said no, a person takes over with
// the vendor.
func (it *item) climb(ctx workflow.Context) error {
	w := it.w
	for i, rung := range ladder {
		if i <= it.rung {
			continue
		}
		planned, ok := it.plan.Rung(string(rung))
		if !ok {
			continue // the playbook or the provider has no such rung
		}
		yes, err := it.mayClimb(ctx, rung, planned)
		if err != nil || it.accepted != nil {
			return err
		}
		if !yes {
			break
		}
		if err := it.unheld(ctx); err != nil || it.accepted != nil {
			return err
		}
		done, err := it.pull(ctx, rung, planned)
		if err != nil || it.accepted != nil {
			return err
		}
		if done {
			return nil
		}
	}
	_, _, err := w.human(ctx, it, view.Human{
		What:  fmt.Sprintf("%s is still alive after every rung that may be climbed: open a ticket with %s, or resolve to be asked again about a higher rung; resolve when it is refused", it.v.Short, it.ref.Key.Provider),
		Owner: string(playbooks.RoleCommander),
	}, time.Time{})
	it.killed = w.clk.Now(ctx)
	return err
}

// mayClimb asks for the votes that a rung needs. The key rung destroys the key, so
// it needs those of irreversible verbs, which revoke asks for itself.
func (it *item) mayClimb(ctx workflow.Context, rung playbooks.Rung, planned plan.Rung) (bool, error) {
	if rung == playbooks.RungKey || (planned.Approved && !rung.NeedsVote()) {
		return true, nil
	}
	round := "rung/" + string(rung)
	yes, err := it.w.ask(ctx, it, Ask{
		For: playbooks.ApproveRung, Rung: string(rung), Round: it.rounds[round],
		What: fmt.Sprintf("climb to %s for %s: %s", rung, it.v.Short, planned.Price),
	})
	if err == nil && !yes {
		it.rounds[round]++
	}
	return yes, err
}

// pull does what a rung is and puts it on record. It gives false when the rung
// strikes nothing here.
func (it *item) pull(ctx workflow.Context, rung playbooks.Rung, planned plan.Rung) (bool, error) {
	w := it.w
	done := false
	var err error
	switch rung {
	case playbooks.RungKey:
		was := it.revoked
		err = it.revoke(ctx)
		done = it.revoked && !was
	case playbooks.RungSessions:
		if w.hasVerb(it, activities.EndSessions) {
			done, err = it.strike(ctx, activities.EndSessions, activities.Request{Ref: it.ref, Before: w.clk.Now(ctx), Roles: it.plan.Roles})
		}
	case playbooks.RungPrincipal:
		if w.hasVerb(it, activities.Deny) {
			done, err = it.strike(ctx, activities.Deny, activities.Request{Ref: it.ref})
		}
	case playbooks.RungNetworkBind:
		if w.hasVerb(it, activities.Bind) && len(it.plan.Harden) > 0 {
			done, err = it.strike(ctx, activities.Bind, activities.Request{Ref: it.ref, Allow: it.plan.Harden})
		}
	case playbooks.RungParentDeny:
		_, done, err = w.human(ctx, it, view.Human{
			What:  fmt.Sprintf("deny %s from above (organisation policy): rekey has no right there. Resolve when it is done", it.v.Short),
			Owner: string(playbooks.RoleAdmin),
		}, time.Time{})
	}
	if err != nil || !done {
		return false, err
	}
	it.rung = slices.Index(ladder, rung)
	it.killed = w.clk.Now(ctx)
	it.v.Death.Rung = string(rung)
	record(ctx, w.clk.Now(ctx), event.Event{Type: event.EventLadder, FP: it.v.FP, Result: string(rung), Attrs: map[string]string{"price": planned.Price, "last_alive": it.v.Death.LastAlive}})
	it.publish(ctx)
	return true, nil
}

// strike makes the call of a rung. What it did, the probe after it tells.
func (it *item) strike(ctx workflow.Context, v activities.Verb, req activities.Request) (bool, error) {
	_, err := it.must(ctx, v, req)
	return err == nil && !it.leaves(), err
}

// denySessions stands for EndSessions where the provider has none though sessions
// outlive the key: the principal, or what is above it, is denied, with the votes
// of that rung. Where no rung is planned a person does it.
func (it *item) denySessions(ctx workflow.Context) error {
	for _, rung := range []playbooks.Rung{playbooks.RungPrincipal, playbooks.RungParentDeny} {
		planned, ok := it.plan.Rung(string(rung))
		if !ok || slices.Index(ladder, rung) <= it.rung {
			continue
		}
		yes, err := it.mayClimb(ctx, rung, planned)
		if err != nil || it.leaves() {
			return err
		}
		if !yes {
			break
		}
		done, err := it.pull(ctx, rung, planned)
		if err != nil || done || it.leaves() {
			return err
		}
	}
	if it.rung >= slices.Index(ladder, playbooks.RungPrincipal) {
		return nil
	}
	_, _, err := it.w.human(ctx, it, view.Human{
		What:  fmt.Sprintf("sessions of %s outlive it and %s cannot end them: end them by hand, then resolve", it.v.Short, it.ref.Key.Provider),
		Owner: string(playbooks.RoleCommander),
	}, time.Time{})
	return err
}

// aboveSessions tells whether a rung was pulled under which any new key of the
// same principal would be refused too.
func (it *item) aboveSessions() bool {
	return it.rung > slices.Index(ladder, playbooks.RungSessions)
}
