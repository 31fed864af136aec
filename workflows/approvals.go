package workflows

import (
	"slices"
	"time"

	"go.temporal.io/sdk/workflow"

	"rekey/internal/canon"
	"rekey/internal/event"
	"rekey/internal/statement"
	"rekey/internal/view"
	"rekey/playbooks"
)

// open asks people. The ceilings of rekey.yaml hold for everything that cannot be
// undone, whatever the playbook says; a.Needed is the least that the question
// itself takes.
func (r *incident) open(ctx workflow.Context, need playbooks.Approval, a Approval) {
	a.ID = "a" + itoa(len(r.st.Approvals)+1)
	a.State, a.Needed = "open", max(need.Quorum, a.Needed, 1)
	for _, role := range need.Roles {
		a.Roles = append(a.Roles, string(role))
	}
	for _, role := range need.EscalateTo {
		a.EscalateTo = append(a.EscalateTo, string(role))
	}
	switch a.For {
	case playbooks.ApproveRestore, approveFalseAlarm:
		if !r.set.Solo {
			a.Needed = max(a.Needed, 2) // design section 3: these take two people
		}
		a.Needed = max(a.Needed, r.set.Quorum)
		a.Outside = r.set.OutsideChat
	case playbooks.ApproveIrreversible, approveAccept:
		a.Needed = max(a.Needed, r.set.Quorum)
		a.Outside = r.set.OutsideChat
	case playbooks.ApproveRung:
		a.Outside = r.set.OutsideChat
	}
	if r.set.Solo {
		a.Needed = 1 // a team of one may fill every role (contracts section 2)
	}
	if len(a.Roles) == 0 {
		a.Roles = []string{string(playbooks.RoleCommander), string(playbooks.RoleSecurity)}
	}
	window := need.Expires.Std()
	if window <= 0 {
		window = approvalDefault
	}
	a.Window = window.Milliseconds()
	a.Asked = r.clk.Now(ctx)
	a.Expires = a.Asked.Add(window)
	r.st.Approvals = append(r.st.Approvals, a)
	r.changed = true
	record(ctx, r.clk.Now(ctx), event.Event{Type: event.EventApprovalAsked, Approval: a.ID, WaveHash: a.WaveHash, Result: a.For, Attrs: map[string]string{
		"what": a.What, "needed": itoa(a.Needed), "expires": canon.Time(a.Expires), "strategy": a.Strategy,
	}})
	r.upsert(ctx)
}

// Approvals that people open by a statement.
const (
	approveAccept     = "accept-risk"
	approveFalseAlarm = "false-alarm"
	approveStart      = "start"
)

// approvalFor finds a question that is not voided.
func (r *incident) approvalFor(name, hash, ask string) *Approval {
	for i := range r.st.Approvals {
		a := &r.st.Approvals[i]
		if a.For == name && a.WaveHash == hash && a.Ask == ask && a.State != "voided" {
			return a
		}
	}
	return nil
}

// expire escalates what nobody decided in time. An approval never proceeds and
// never drops by itself (design section 3).
func (r *incident) expire(ctx workflow.Context) {
	now := r.clk.Now(ctx)
	for i := range r.st.Approvals {
		a := &r.st.Approvals[i]
		if a.State != "open" || now.Before(a.Expires) {
			continue
		}
		a.Level++
		for _, role := range a.EscalateTo {
			if !slices.Contains(a.Roles, role) {
				a.Roles = append(a.Roles, role)
			}
		}
		a.Expires = now.Add(time.Duration(a.Window) * time.Millisecond)
		record(ctx, now, event.Event{Type: event.EventApprovalExpired, Approval: a.ID, WaveHash: a.WaveHash, Result: "escalated", Attrs: map[string]string{
			"level": itoa(a.Level), "expires": canon.Time(a.Expires),
		}})
	}
	for i := range r.st.Holds {
		h := &r.st.Holds[i]
		if h.State != "open" || h.Until.IsZero() || now.Before(h.Until) {
			continue
		}
		h.State = "expired"
		record(ctx, now, event.Event{Type: event.EventHoldExpired, Actor: h.By, Attrs: map[string]string{"hold": h.ID, "why": h.Why}})
		h.Task = r.human(ctx, view.Human{What: "hold " + h.ID + " (" + h.Why + ") has expired: its items stay where they are until somebody releases them", Owner: h.By}).ID
	}
	for _, v := range r.st.Views {
		until := parseTime(v.Until)
		if v.EndState != endAccepted || until.IsZero() || now.Before(until) || r.st.Lapsed[v.FP] {
			continue
		}
		if r.st.Lapsed == nil {
			r.st.Lapsed = map[string]bool{}
		}
		r.st.Lapsed[v.FP] = true
		r.human(ctx, view.Human{FP: v.FP, What: "the risk of " + v.Short + " was accepted until " + v.Until + ": accept it again with a new end, or report the key again", Owner: v.Approver})
	}
}

// voidStale voids the questions about waves that the new plan no longer has. Only
// those: a wave with the same hash keeps its votes.
func (r *incident) voidStale(ctx workflow.Context) {
	for i := range r.st.Approvals {
		a := &r.st.Approvals[i]
		if a.State == "voided" || (a.For != "strategy" && a.For != approveStart) {
			continue
		}
		if a.For == approveStart {
			if a.WaveHash == r.st.Plan.Hash || a.State == "granted" {
				continue
			}
		} else if _, ok := r.st.Plan.Wave(a.WaveHash); ok || r.wave(a.WaveHash) != nil {
			continue
		}
		r.void(ctx, a)
	}
}

func (r *incident) void(ctx workflow.Context, a *Approval) {
	was := a.State
	a.State = "voided"
	e := event.Event{Type: event.EventApprovalVoided, Approval: a.ID, WaveHash: a.WaveHash, Result: was}
	if r.st.Plan != nil {
		e.PlanHash = r.st.Plan.Hash
	}
	record(ctx, r.clk.Now(ctx), e)
}

// vote counts a person's answer. The statement is checked already.
func (r *incident) vote(ctx workflow.Context, a *Approval, s statement.Statement, role, verdict string) {
	note := ""
	if r.isReporter(s.Actor) {
		note = "self-approved"
	}
	a.Votes = append(a.Votes, view.Vote{Actor: s.Actor, Role: role, Vote: verdict, At: canon.Time(r.clk.Now(ctx)), Auth: s.Method, Note: note})
	typ := event.EventApprovalGiven
	if verdict == "deny" {
		typ = event.EventApprovalDenied
	}
	record(ctx, r.clk.Now(ctx), event.Event{
		Type: typ, Actor: s.Actor, Auth: s.Method, Approval: a.ID, WaveHash: a.WaveHash, Result: a.For,
		Attrs: map[string]string{"role": role, "note": note, "reason": s.Text, "self_approved": map[bool]string{true: "true"}[note != ""]},
	})
	if verdict == "deny" {
		a.State = "denied"
		r.decided(ctx, *a)
		return
	}
	r.voidVotes(ctx)
	if yes, outside := a.votes(); yes >= a.Needed && outside >= a.outside() {
		a.State = "granted"
		r.decided(ctx, *a)
	}
}

// decided acts on the end of a question.
func (r *incident) decided(ctx workflow.Context, a Approval) {
	r.changed = true
	yes := a.State == "granted"
	switch a.For {
	case approveStart:
		r.st.Started = r.st.Started || yes
	case playbooks.ApproveIrreversible, playbooks.ApproveRung:
		kind := cmdDeny
		if yes {
			kind = cmdGrant
		}
		r.command(ctx, a.Wave, WaveCommand{Kind: kind, Ask: a.Ask})
	case playbooks.ApproveRestore:
		if yes {
			r.command(ctx, a.Wave, WaveCommand{Kind: cmdRestore, FPs: a.Items, Until: a.Until, Actor: a.By})
		}
	case approveAccept, approveFalseAlarm:
		if yes {
			r.acceptItems(ctx, a)
		}
		r.st.FalseAlarm = r.st.FalseAlarm || (yes && a.For == approveFalseAlarm)
		r.st.Replan = true // what has ended is planned no more
	case "strategy":
		if !yes {
			r.human(ctx, view.Human{What: "wave " + itoa(a.Wave) + " was voted down: decide how its items end (resolve --as accepted-risk), or report new evidence for a new plan"})
		}
	}
	r.upsert(ctx)
}

// acceptItems ends items as people decided. What a wave moves is ended by the wave,
// so that no call is under way behind the decision.
func (r *incident) acceptItems(ctx workflow.Context, a Approval) {
	for _, fp := range a.Items {
		if isName(fp) || r.item(fp) == nil {
			r.acceptRows(ctx, fp, a)
			continue
		}
		v := r.viewOf(fp)
		again := v.EndState == endAccepted && a.As == endAccepted // a new end for a risk that lapsed
		if v.EndState != "" && !again {
			continue
		}
		if again {
			delete(r.st.Lapsed, fp)
		}
		if w := r.waveN(v.Wave); w != nil && w.State == waveRunning && !again {
			r.command(ctx, w.Wave.N, WaveCommand{Kind: cmdAccept, FPs: []string{fp}, As: a.As, Actor: a.By, Text: a.Text, Until: a.Until})
			continue
		}
		v.EndState, v.Approver, v.Why, v.Until, v.Open = a.As, a.By, a.Text, canon.Time(a.Until), view.Open{}
		record(ctx, r.clk.Now(ctx), event.Event{Type: event.EventItem, Actor: a.By, FP: fp, Result: a.As, Approval: a.ID, Attrs: map[string]string{"why": a.Text, "until": canon.Time(a.Until)}})
		r.lapse(ctx, fp)
	}
}
