package workflows

import (
	"fmt"
	"slices"
	"strings"

	"go.temporal.io/sdk/workflow"

	"rekey/internal/event"
	"rekey/internal/statement"
	"rekey/internal/view"
	"rekey/playbooks"
)

// doResolve ends a needs-human step, or asks for an end state of items. An end
// state that leaves a risk takes the votes of irreversible verbs.
func (r *incident) doResolve(ctx workflow.Context, s statement.Statement, _ string) (Decision, *refusal) {
	switch s.As {
	case endAccepted, endNever, endCustomer:
		return r.resolveItems(ctx, s)
	case "", "done", "by-hand", "adopted", "waived", "override-cutoff":
	case sendAgain:
		if _, ok := noticesOf(s.Task); !ok {
			return Decision{}, &refusal{view.CodeInvalid, "only a notice that is unclear can be sent again", "give the step of the notice with --task"}
		}
	default:
		return Decision{}, &refusal{view.CodeInvalid, fmt.Sprintf("a step cannot be resolved as %q", s.As), "done, by-hand, adopted, waived, accepted-risk, never-existed-proven or customer-action-open"}
	}
	if s.Task == "" {
		switch s.As {
		case "adopted":
			return r.tell(ctx, s, cmdAttest)
		case "override-cutoff":
			if _, no := pickRole(r.person(s.Actor), s.Role, []string{"commander", "security"}); no != nil {
				return Decision{}, no // it breaks who has not moved
			}
			return r.tell(ctx, s, cmdOverride)
		default:
			return Decision{}, &refusal{view.CodeInvalid, "say which step is resolved", "`rekey incident show " + r.in.ID + "` lists the open steps; give --task"}
		}
	}
	i := slices.IndexFunc(r.st.Humans, func(h view.Human) bool { return h.ID == s.Task })
	if i < 0 {
		return Decision{}, &refusal{view.CodeNotFound, fmt.Sprintf("no step %q", s.Task), "`rekey incident show " + r.in.ID + "` lists the open steps"}
	}
	h := &r.st.Humans[i]
	if h.State != "open" {
		return Decision{}, &refusal{view.CodeNotFound, "step " + h.ID + " is " + h.State + " already", "nothing to do"}
	}
	if h.FP != "" && r.st.Left[h.FP] == h.ID {
		return Decision{}, &refusal{view.CodeInvalid, "step " + h.ID + " stands for the item itself: it is over when the item has an end state", "resolve --as accepted-risk, never-existed-proven or, where it is a customer's, customer-action-open"}
	}
	h.State, h.By = "done", s.Actor
	record(ctx, r.clk.Now(ctx), event.Event{Type: event.EventHumanDone, Actor: s.Actor, Auth: s.Method, FP: h.FP, Result: s.As, Attrs: map[string]string{"task": h.ID, "what": h.What, "says": s.Text}})
	var wave, n int
	if _, err := fmt.Sscanf(h.ID, "h%d-%d", &wave, &n); err == nil && wave > 0 {
		r.command(ctx, wave, WaveCommand{Kind: cmdResolved, Task: h.ID, As: s.As, Actor: s.Actor, Text: s.Text})
	}
	if n, ok := noticesOf(h.ID); ok {
		r.noticeCommand(ctx, n, WaveCommand{Kind: cmdResolved, Task: h.ID, As: s.As, Actor: s.Actor, Text: s.Text})
	}
	return Decision{ID: h.ID, State: h.State}, nil
}

// tell passes a person's word about items on to their waves: that the dependents
// have moved, or that the cut-off is now.
func (r *incident) tell(ctx workflow.Context, s statement.Statement, kind string) (Decision, *refusal) {
	fps, no := r.itemsOf(ctx, s)
	if no != nil {
		return Decision{}, no
	}
	if len(fps) == 0 {
		return Decision{}, &refusal{view.CodeInvalid, "say which items it is about", "give --item"}
	}
	var many []string // rows, and names of many
	for _, fp := range fps {
		if isName(fp) || r.item(fp) == nil {
			many = append(many, fp)
			continue
		}
		if w := r.waveN(r.viewOf(fp).Wave); w == nil || w.State != waveRunning {
			return Decision{}, &refusal{view.CodeNotFound, "no wave moves " + r.viewOf(fp).Short, "`rekey incident show " + r.in.ID + "` says where it stands"}
		}
	}
	r.tellMass(ctx, many, WaveCommand{Kind: kind, As: s.As, Actor: s.Actor, Text: s.Text})
	for _, fp := range fps {
		if slices.Contains(many, fp) {
			continue
		}
		r.command(ctx, r.viewOf(fp).Wave, WaveCommand{Kind: kind, FPs: []string{fp}, Actor: s.Actor, Text: s.Text})
	}
	record(ctx, r.clk.Now(ctx), event.Event{Type: event.EventHumanDone, Actor: s.Actor, Auth: s.Method, Result: s.As, Attrs: map[string]string{"items": strings.Join(shorts(fps), ","), "says": s.Text}})
	return Decision{State: s.As}, nil
}

// resolveItems opens the vote about an end state that people decide.
func (r *incident) resolveItems(ctx workflow.Context, s statement.Statement) (Decision, *refusal) {
	fps, no := r.itemsOf(ctx, s)
	if no != nil {
		return Decision{}, no
	}
	if len(fps) == 0 && s.Task != "" {
		for _, h := range r.st.Humans {
			if h.ID == s.Task && h.FP != "" {
				fps = []string{h.FP}
			}
		}
		if name := r.leftOf(s.Task); name != "" {
			fps = []string{name}
		}
	}
	switch {
	case len(fps) == 0:
		return Decision{}, &refusal{view.CodeInvalid, "say which items end as " + s.As, "give --item"}
	case strings.TrimSpace(s.Text) == "":
		return Decision{}, &refusal{view.CodeInvalid, "an end by decision needs a reason", "give --reason"}
	case s.As == endAccepted && !s.Until.After(r.clk.Now(ctx)):
		return Decision{}, &refusal{view.CodeInvalid, "a risk is accepted until a time", "give --until"}
	}
	if s.As == endCustomer {
		return r.toCustomer(ctx, s, fps)
	}
	need := r.pb.Approvals[playbooks.ApproveIrreversible]
	if _, no := pickRole(r.person(s.Actor), s.Role, roleNames(need.Roles)); no != nil {
		return Decision{}, no
	}
	hash := ""
	if r.st.Plan != nil {
		hash = r.st.Plan.Hash
	}
	name := approveAccept
	if s.As == endNever {
		name = approveFalseAlarm
	}
	r.open(ctx, need, Approval{For: name, WaveHash: hash, What: fmt.Sprintf("%d item(s) end as %s: %s", len(fps), s.As, s.Text), Items: fps, As: s.As, Until: s.Until, Text: s.Text, By: s.Actor})
	return r.castFirst(ctx, s)
}

// toCustomer hands items that are not ours to their owner: an open end state with
// a name to it.
func (r *incident) toCustomer(ctx workflow.Context, s statement.Statement, fps []string) (Decision, *refusal) {
	for _, fp := range fps {
		if fp == leftItems+string(playbooks.NotifyOnly) {
			continue
		}
		if isName(fp) || r.item(fp) == nil {
			return Decision{}, &refusal{view.CodeInvalid, shorts([]string{fp})[0] + " is ours: a customer cannot end it", "revoke it, or accept the risk"}
		}
		v := r.viewOf(fp)
		if v.Strategy != string(playbooks.NotifyOnly) {
			return Decision{}, &refusal{view.CodeInvalid, v.Short + " is ours: a customer cannot end it", "revoke it, or accept the risk"}
		}
	}
	r.acceptItems(ctx, Approval{Items: fps, As: endCustomer, By: s.Actor, Text: s.Text, Until: s.Until})
	return Decision{State: endCustomer}, nil
}

// doClose asks whether the incident can be closed by hand: it is refused while
// anything is open (capability C36).
func (r *incident) doClose(ctx workflow.Context, s statement.Statement, _ string) (Decision, *refusal) {
	open := r.openItems()
	if len(open) > 0 {
		return Decision{}, &refusal{view.CodeInvalid, fmt.Sprintf("%d of %d items are not in a proven end state: %s", len(open), len(r.st.Items), strings.Join(shorts(open), ", ")), "`rekey incident show " + r.in.ID + "` says what each waits for"}
	}
	if n := r.openCount(); n > 0 {
		return Decision{}, &refusal{view.CodeInvalid, fmt.Sprintf("%d of %d items are not in a proven end state", n, r.size()), "`rekey incident items " + r.in.ID + "` says what each waits for"}
	}
	for _, h := range r.st.Humans {
		if h.State == "open" {
			return Decision{}, &refusal{view.CodeInvalid, "step " + h.ID + " is open: " + h.What, "resolve it first"}
		}
	}
	if !r.wavesEnded() {
		return Decision{}, &refusal{view.CodeInvalid, "a wave still waits for the adoption of a replacement", "resolve --as adopted or waived"}
	}
	r.st.Closing = true
	record(ctx, r.clk.Now(ctx), event.Event{Type: event.EventNote, Actor: s.Actor, Auth: s.Method, Attrs: map[string]string{"text": "asks to close: " + s.Text}})
	return Decision{State: "closing"}, nil
}
