package judge

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"rekey/internal/event"
	"rekey/internal/lab/control"
	"rekey/internal/view"
)

func TestHighTierActionsNeedVotes(t *testing.T) {
	// The good world: Revoke at 20 after votes of oncall-1 at 16 and oncall-2 at 18.
	without := func(in *Input, typ string) {
		in.Events = slices.DeleteFunc(in.Events, func(e event.Event) bool { return e.Type == typ })
	}
	votes := func(in *Input, es ...event.Event) {
		without(in, event.EventApprovalGiven)
		in.Events = append(in.Events, es...)
	}
	rung := func(in *Input) {
		in.Final.Approvals = append(in.Final.Approvals, view.Approval{ID: "a2", For: "rung", Wave: 1, WaveHash: waveHash, Needed: 2})
	}
	tests := map[string]struct {
		bend    func(in *Input)
		state   string
		checked int64
		detail  string
	}{
		"two votes before the call": {state: Held, checked: 1},
		"one vote": {
			bend:  func(in *Input) { votes(in, vote(16, "a1", "irreversible", "oncall-1")) },
			state: Violated, checked: 1, detail: "1 of 2 votes of approval a1",
		},
		"the same person twice": {
			bend: func(in *Input) {
				votes(in, vote(16, "a1", "irreversible", "oncall-1"), vote(17, "a1", "irreversible", "oncall-1"))
			},
			state: Violated, checked: 1, detail: "1 of 2 votes",
		},
		"the second vote comes too late": {
			bend: func(in *Input) {
				votes(in, vote(16, "a1", "irreversible", "oncall-1"), vote(21, "a1", "irreversible", "oncall-2"))
			},
			state: Violated, checked: 1, detail: "1 of 2 votes",
		},
		"a vote in the same moment of the world as the call": {
			bend: func(in *Input) {
				votes(in, vote(16, "a1", "irreversible", "oncall-1"), vote(20, "a1", "irreversible", "oncall-2"))
				i := slices.IndexFunc(in.Events, func(e event.Event) bool { return e.Type == event.EventCallAttempted && e.Verb == "Revoke" })
				in.Events[i].Time = when(19) // reckoned back
			},
			state: Held, checked: 1,
		},
		"a policy is nobody": {
			bend: func(in *Input) {
				votes(in, vote(16, "a1", "irreversible", "oncall-1"), vote(17, "a1", "irreversible", "policy:abuse"))
			},
			state: Violated, checked: 1,
		},
		"policy approved the strategy only": {
			bend: func(in *Input) {
				in.Final.Approvals = nil
				without(in, event.EventApprovalAsked)
				votes(in, vote(1, "", "revoke-now", "policy:abuse"))
			},
			state: Violated, checked: 1, detail: "nobody was asked",
		},
		"a team of one": {
			bend: func(in *Input) {
				votes(in, vote(16, "a1", "irreversible", "oncall-1"))
				without(in, event.EventApprovalAsked)
				in.Final.Approvals[0].Needed = 1
			},
			state: Held, checked: 1,
		},
		"the view may not lower what was asked": {
			bend: func(in *Input) {
				votes(in, vote(16, "a1", "irreversible", "oncall-1"))
				in.Final.Approvals[0].Needed = 1
			},
			state: Violated, checked: 1,
		},
		"votes about another wave": {
			bend: func(in *Input) {
				in.Final.Approvals[0].Items = []string{"fp1_other"}
			},
			state: Violated, checked: 1, detail: "nobody was asked",
		},
		"votes about another question": {
			bend: func(in *Input) {
				in.Final.Approvals[0].For = "strategy"
				without(in, event.EventApprovalAsked)
			},
			state: Violated, checked: 1,
		},
		"only the record is left": {
			bend:  func(in *Input) { in.Final.Approvals = nil },
			state: Held, checked: 1,
		},
		"votes on record of a question nobody knows the quorum of": {
			bend: func(in *Input) {
				in.Final.Approvals = nil
				without(in, event.EventApprovalAsked)
				votes(in, vote(16, "a1", "irreversible", "oncall-1"))
			},
			state: Violated, checked: 1, detail: "1 of 2 votes",
		},
		"votes that the view claims and the record does not": {
			bend: func(in *Input) {
				votes(in)
				in.Final.Approvals[0].Votes = []view.Vote{{Actor: "oncall-1", Vote: "approve", At: when(16)}, {Actor: "oncall-2", Vote: "approve", At: when(18)}}
			},
			state: Violated, checked: 1, detail: "0 of 2 votes",
		},
		"voted down": {
			bend: func(in *Input) {
				in.Events = append(in.Events, ev(19, event.EventApprovalDenied, func(e *event.Event) { e.FP, e.Approval, e.Actor = "", "a1", "oncall-3" }))
			},
			state: Violated, checked: 1, detail: "denied or voided",
		},
		"another incident's votes": {
			bend: func(in *Input) {
				for i := range in.Events {
					if in.Events[i].Type == event.EventApprovalGiven {
						in.Events[i].Incident = "inc-2"
					}
				}
			},
			state: Violated, checked: 1,
		},
		"Revoke off the record": {
			bend: func(in *Input) {
				in.Events = slices.DeleteFunc(in.Events, func(e event.Event) bool { return e.Verb == "Revoke" })
			},
			state: Violated, checked: 1, detail: "Revoke of " + oldKey + " is not on record",
		},
		"the lab saw it before the record says": {
			bend:  func(in *Input) { in.Oracle.Calls[5].At = at(17) },
			state: Violated, checked: 1, detail: "1 of 2 votes",
		},
		"Deny with votes": {
			bend: func(in *Input) {
				rung(in)
				in.Events = append(in.Events, vote(6, "a2", "rung", "oncall-1"), vote(6, "a2", "rung", "oncall-2"))
				in.Events = append(in.Events, call(7, "Deny")...)
			},
			state: Held, checked: 2,
		},
		"Deny on the votes for Revoke": {
			bend:  func(in *Input) { in.Events = append(in.Events, call(25, "Deny")...) },
			state: Violated, checked: 2, detail: "Deny of " + oldKey,
		},
		"Deny by broken glass": {
			bend: func(in *Input) {
				in.Events = append(in.Events, ev(24, event.EventBreakGlass, func(e *event.Event) { e.FP, e.WaveHash, e.Actor = "", waveHash, "oncall-1" }))
				in.Events = append(in.Events, call(25, "Deny")...)
			},
			state: Held, checked: 2,
		},
		"Revoke by broken glass": {
			bend: func(in *Input) {
				votes(in)
				in.Events = append(in.Events, ev(15, event.EventBreakGlass, func(e *event.Event) { e.WaveHash, e.Actor = waveHash, "oncall-1" }))
			},
			state: Violated, checked: 1,
		},
		"Deny off the record": {
			bend: func(in *Input) {
				in.Oracle.Calls = append(in.Oracle.Calls, control.Call{Verb: "Deny", Target: "ci", Effect: true, At: at(7)})
			},
			state: Violated, checked: 2, detail: "Deny on ci is not on record",
		},
		"Bind to harden is no rung": {
			bend:  func(in *Input) { in.Events = append(in.Events, call(40, "Bind")...) },
			state: Held, checked: 1,
		},
		"Bind as a rung without votes": {
			bend: func(in *Input) {
				in.Events = append(in.Events, ev(7, event.EventLadder, func(e *event.Event) { e.Result = "network-bind" }))
				in.Events = append(in.Events, call(7, "Bind")...)
			},
			state: Violated, checked: 2, detail: "Bind of " + oldKey,
		},
		"Restore without votes": {
			bend:  func(in *Input) { in.Events = append(in.Events, call(7, "Restore")...) },
			state: Violated, checked: 2, detail: "Restore of " + oldKey,
		},
		"nothing of the kind": {
			bend: func(in *Input) {
				in.Events = slices.DeleteFunc(in.Events, func(e event.Event) bool { return e.Verb == "Revoke" })
				in.Oracle.Calls = in.Oracle.Calls[:5]
			},
			state: NotApplicable,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			in := goodWorld(t)
			if tt.bend != nil {
				tt.bend(&in)
			}
			got := newBench(in).approvedBefore().as("G10")
			require.Equal(t, tt.state, got.State, got.Detail)
			require.Equal(t, tt.checked, got.Checked, got.Detail)
			require.Contains(t, got.Detail, tt.detail)
		})
	}
}
