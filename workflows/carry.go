package workflows

import (
	"fmt"
	"slices"
	"strings"

	"go.temporal.io/sdk/workflow"

	"rekey/activities"
	"rekey/internal/event"
	"rekey/internal/statement"
	"rekey/internal/view"
)

// voteVoided is what a vote becomes when the way it came is not trusted any more.
// Its author may vote again another way.
const voteVoided = "voided"

// overChat is what the server may sign for a person whom chat authenticated.
// Everything else takes a key of their own: chat is one stolen session away from
// anybody, and what it may do must be undone by one vote outside of it (design
// section 14).
var overChat = []string{statement.Approve, statement.Deny, statement.Hold, statement.Release, statement.Note}

// carries tells whether a statement may come by its method. What rekey is cleaning
// up cannot vote on how (design section 3): with the channel itself in scope only
// notes are taken from it.
func (r *incident) carries(action, method string) *refusal {
	do := "use `rekey incident " + action + " " + r.in.ID + "` with your own key"
	if method == statement.MethodSlack && !slices.Contains(overChat, action) {
		return &refusal{view.CodeWrongChannel, action + " is not taken from chat", do}
	}
	if fp := r.restsOn(method); fp != "" && action != statement.Note {
		return &refusal{view.CodeWrongChannel, fmt.Sprintf("%s is in scope of this incident (item %s), so it carries no decisions", method, activities.Key{FP: fp}.Short()), do + ", or another way that is not in scope"}
	}
	return nil
}

// restsOn finds the item in scope that a way to vote rests on, "" when there is
// none: a key of the channel's own provider, or one that [Settings.VoteRests] names.
// One that was proven dead counts all the same: what it could do before is done.
// One that never existed does not.
func (r *incident) restsOn(method string) string {
	names := append([]string{}, r.set.VoteRests[method]...)
	if method == statement.MethodSlack {
		names = append(names, statement.MethodSlack) // the provider has the channel's name
	}
	if len(names) == 0 {
		return ""
	}
	keys := make([]activities.Key, 0, len(r.st.Items)+len(r.st.Reports))
	for _, s := range r.st.Items {
		keys = append(keys, s.Key)
	}
	for _, rep := range r.st.Reports {
		keys = append(keys, rep.Key) // scope may take minutes
	}
	for _, k := range keys {
		if (slices.Contains(names, k.Provider) || slices.Contains(names, k.Provider+"/"+k.Account) || (k.ID != "" && slices.Contains(names, k.ID))) &&
			r.peek(k.FP).EndState != endNever {
			return k.FP
		}
	}
	return ""
}

// voidVotes takes back what was voted by a way that has come into scope, in
// questions that are still open. A question that was granted stays so: what it
// allowed is under way.
func (r *incident) voidVotes(ctx workflow.Context) {
	for i := range r.st.Approvals {
		a := &r.st.Approvals[i]
		if a.State != "open" {
			continue
		}
		for j := range a.Votes {
			v := &a.Votes[j]
			fp := ""
			if v.Vote != voteVoided {
				fp = r.restsOn(v.Auth)
			}
			if fp == "" {
				continue
			}
			was := v.Vote
			v.Vote, v.Note = voteVoided, strings.TrimPrefix(v.Note+"; "+v.Auth+" is in scope", "; ")
			record(ctx, r.clk.Now(ctx), event.Event{Type: event.EventApprovalVoided, Actor: v.Actor, Auth: v.Auth, FP: fp, Approval: a.ID, WaveHash: a.WaveHash, Result: "vote", Attrs: map[string]string{"was": was, "why": v.Auth + " is in scope"}})
		}
	}
}

// votes counts those in favour, and of them those from outside of chat.
func (a Approval) votes() (yes, outside int) {
	for _, v := range a.Votes {
		if v.Vote != "approve" {
			continue
		}
		yes++
		if v.Auth != statement.MethodSlack {
			outside++
		}
	}
	return yes, outside
}

// outside is how many votes must come from outside of chat.
func (a Approval) outside() int { return min(a.Outside, a.Needed) }
