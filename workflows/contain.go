package workflows

import (
	"fmt"
	"slices"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"rekey/activities"
	"rekey/internal/event"
	"rekey/internal/view"
)

// admit judges the first report and, where every condition of design section 3
// holds, disables the reported key before its scope is known.
func (r *incident) admit(ctx workflow.Context, rep Report) error {
	res, err := r.judge(ctx, rep, AdmitInput{Incident: r.in.ID, Report: rep, Playbook: *r.pb, Now: r.clk.Now(ctx)})
	if err != nil {
		return err
	}
	r.raise(ctx, res.Severity)
	if res.Contain.Allowed && r.heldID(ctx, rep.Key.ID) {
		res.Contain.Allowed = false
		res.Contain.Conditions = append(res.Contain.Conditions, view.Condition{ID: "hold", Why: "a standing hold names the key"})
	}
	r.st.Contain = &res.Contain
	attrs := map[string]string{}
	for _, c := range res.Contain.Conditions {
		attrs[c.ID] = fmt.Sprintf("%t: %s", c.Held, c.Why)
	}
	result := "proposed"
	if res.Contain.Allowed {
		result = "allowed"
	}
	record(ctx, r.clk.Now(ctx), event.Event{Type: event.EventContain, Actor: "policy:contain_on_report", FP: rep.Key.FP, Result: result, Attrs: attrs})
	if !res.Contain.Allowed {
		return nil
	}
	key := rep.Key
	if key.Principal == "" {
		key.Principal = res.Principal
	}
	r.contain(ctx, key, rep.Secret)
	return nil
}

// judge runs Admit. Where it may try a reported secret it calls the provider, so it
// runs in the process that holds the account. When nobody there takes it up it runs
// anywhere: without the account, possession counts as not shown.
func (r *incident) judge(ctx workflow.Context, rep Report, in AdmitInput) (AdmitResult, error) {
	const what = "may the key be disabled at once?"
	if rep.Secret != "" && rep.SourceKind != "provider" && rep.Ceiling == "contain" && r.pb.ContainOnReport != nil {
		done := r.clk.working()
		var out AdmitResult
		err := workflow.ExecuteActivity(trialOptions(ctx, rep.Key, what), ActivityAdmit, in).Get(ctx, &out)
		done()
		if err == nil || temporal.IsCanceledError(err) || ctx.Err() != nil {
			return out, err
		}
	}
	return engineCall[AdmitResult](ctx, r.clk, engine, ActivityAdmit, what, in)
}

// contain disables a key beside the scope, which never waits for it: a provider
// that does not answer must not keep the plan from people. A wave that takes the
// key over makes the call itself.
func (r *incident) contain(ctx workflow.Context, key activities.Key, secret string) {
	r.containing = true
	workflow.Go(ctx, func(ctx workflow.Context) {
		e := r.call.effect(activities.Disable, key)
		a, err := r.call.repeat(ctx, activities.Disable, e, activities.Request{Ref: activities.Ref{Key: key, Secret: secret}}, func(a activities.Attempt) {
			if e.unserved {
				r.human(ctx, view.Human{FP: key.FP, What: fmt.Sprintf("Disable of %s waits: %s", key.Short(), a.Detail)})
			}
		}, func() bool {
			return r.inWave(key.FP) || slices.Contains(r.heldFPs(), key.FP)
		})
		r.containing = false
		if err != nil {
			return // cancelled
		}
		r.st.Contain.Outcome = string(a.Outcome)
		if a.Outcome.Reached() || a.Outcome == activities.DoneAsync {
			r.st.Disabled[key.FP] = true
			if v := r.viewOf(key.FP); v.Death.State == "alive" {
				v.Death.State = "disabled"
			}
		}
		r.changed = true
	})
}

// redo takes up an item again that had ended as dead and is reported anew: what
// was proven then is proven again, by a wave of its own.
func (r *incident) redo(ctx workflow.Context, rep Report) {
	i, ok := r.findView(rep.Key.FP)
	if !ok {
		return
	}
	v := &r.st.Views[i]
	if v.EndState != endRevoked && v.EndState != endExpired {
		return
	}
	if r.st.Again == nil {
		r.st.Again = map[string]int{}
	}
	r.st.Again[v.FP]++
	delete(r.st.Disabled, v.FP)
	for n := range r.st.Waves {
		if w := &r.st.Waves[n]; w.has(v.FP) {
			w.Redone = append(w.Redone, v.FP)
		}
	}
	record(ctx, r.clk.Now(ctx), event.Event{Type: event.EventItem, Actor: rep.Actor, FP: v.FP, Result: "reported again", Attrs: map[string]string{"was": v.EndState, "report": rep.ID}})
	v.EndState, v.Wave, v.Step = "", 0, ""
	v.Death = view.Death{State: "alive", Needed: v.Death.Needed}
}
