package workflows

import (
	"fmt"
	"time"

	"go.temporal.io/sdk/workflow"

	"rekey/activities"
	"rekey/internal/event"
	"rekey/internal/view"
	"rekey/playbooks"
)

// ladder is the order of the rungs above Disable (design section 3).
var ladder = []playbooks.Rung{
	playbooks.RungKey, playbooks.RungSessions, playbooks.RungPrincipal, playbooks.RungParentDeny, playbooks.RungNetworkBind,
}

// climb goes up the ladder while the key is alive. It gives true when a rung
// killed it. Only a clear "alive" climbs: unclear answers never do.
func (it *item) climb(ctx workflow.Context) (bool, error) {
	w := it.w
	for _, rung := range ladder {
		if it.past(rung) {
			continue
		}
		planned, ok := it.plan.Rung(string(rung))
		if !ok {
			continue // the playbook or the provider has no such rung
		}
		yes, err := it.mayClimb(ctx, rung, planned.Approved, planned.Price)
		if err != nil || it.accepted != nil {
			return false, err
		}
		if !yes {
			break
		}
		if err := it.unheld(ctx); err != nil {
			return false, err
		}
		record(ctx, w.clk.Now(ctx), event.Event{Type: event.EventLadder, FP: it.v.FP, Result: string(rung), Attrs: map[string]string{"price": planned.Price, "last_alive": it.v.Death.LastAlive}})
		it.v.Death.Rung = string(rung)
		it.publish(ctx)
		done, err := it.pull(ctx, rung)
		if err != nil || it.accepted != nil {
			return false, err
		}
		if !done {
			continue
		}
		it.killed = w.clk.Now(ctx)
		v, err := it.prove(ctx, it.deathMode())
		if err != nil {
			return false, err
		}
		if v == provenDead {
			return true, nil
		}
		if v != stillAlive {
			return false, nil // not clear: the caller asks again, and does not climb
		}
	}
	_, _, err := w.human(ctx, it, view.Human{
		What:  fmt.Sprintf("%s is still alive after every rung that may be climbed: open a ticket with %s, or allow a higher rung; resolve when it is refused", it.v.Short, it.ref.Key.Provider),
		Owner: string(playbooks.RoleCommander),
	}, time.Time{}, nil)
	it.killed = w.clk.Now(ctx)
	return false, err
}

// past tells whether a rung was climbed before.
func (it *item) past(rung playbooks.Rung) bool {
	at := -1
	want := 0
	for i, r := range ladder {
		if string(r) == it.v.Death.Rung {
			at = i
		}
		if r == rung {
			want = i
		}
	}
	return want <= at
}

// mayClimb asks for the votes that a rung needs. The key rung destroys the key, so
// it needs those of irreversible verbs.
func (it *item) mayClimb(ctx workflow.Context, rung playbooks.Rung, automatic bool, price string) (bool, error) {
	if rung == playbooks.RungKey {
		return true, nil // revoke asks for itself
	}
	if automatic && !rung.NeedsVote() {
		return true, nil
	}
	return it.w.ask(ctx, it, Ask{
		For: playbooks.ApproveRung, Rung: string(rung),
		What: fmt.Sprintf("climb to %s for %s: %s", rung, it.v.Short, price),
	})
}

// pull does what a rung is. It gives false when the rung does not exist here.
func (it *item) pull(ctx workflow.Context, rung playbooks.Rung) (bool, error) {
	w := it.w
	switch rung {
	case playbooks.RungKey:
		was := it.revoked
		err := it.revoke(ctx)
		return it.revoked && !was, err
	case playbooks.RungSessions:
		if !w.hasVerb(it, activities.EndSessions) {
			return false, nil
		}
		_, err := it.must(ctx, activities.EndSessions, activities.Request{Ref: it.ref, Before: w.clk.Now(ctx), Roles: it.plan.Roles})
		return true, err
	case playbooks.RungPrincipal:
		if !w.hasVerb(it, activities.Deny) {
			return false, nil
		}
		_, err := it.must(ctx, activities.Deny, activities.Request{Ref: it.ref})
		return true, err
	case playbooks.RungNetworkBind:
		if !w.hasVerb(it, activities.Bind) || len(it.plan.Harden) == 0 {
			return false, nil
		}
		_, err := it.must(ctx, activities.Bind, activities.Request{Ref: it.ref, Allow: it.plan.Harden})
		return true, err
	case playbooks.RungParentDeny:
		_, ok, err := w.human(ctx, it, view.Human{
			What:  fmt.Sprintf("deny %s from above (organisation policy): rekey has no right there. Resolve when it is done", it.v.Short),
			Owner: string(playbooks.RoleAdmin),
		}, time.Time{}, nil)
		return ok, err
	}
	return false, nil
}
