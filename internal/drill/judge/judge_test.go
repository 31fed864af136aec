package judge

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"rekey/internal/cli"
	"rekey/internal/event"
	"rekey/internal/lab/control"
	"rekey/internal/lab/scenario"
	"rekey/internal/view"
)

func goodStates() map[string]string {
	return map[string]string{
		"G1": Held, "G2": Held, "G3": NotApplicable, "G4": Held, "G5": Held, "G6": Held, "G7": NotApplicable, "G8": Held, "G9": NotApplicable, "G10": Held,
	}
}

func TestAGoodWorldPasses(t *testing.T) {
	v := Judge(goodWorld(t))
	require.Equal(t, Passed, v.Result, "%+v", v)
	require.Equal(t, goodStates(), states(v))
	require.Equal(t, []cli.Expectation{{ID: "dead", Held: true}}, v.Expectations)
	require.Equal(t, cli.Effects{Calls: 7}, v.Effects)
	require.Nil(t, v.Control)
	for i, g := range scenario.Invariants() {
		require.Equal(t, g.ID, v.Invariants[i].ID, "the order of the catalogue")
		require.Equal(t, v.Invariants[i].State == NotApplicable, v.Invariants[i].Checked == 0, g.ID)
	}
	require.EqualValues(t, 1, invariantOf(t, v, "G1").Checked, "of the 48 refused uses only the last is known to be after the proof")
}

func TestInvariants(t *testing.T) {
	item := func(in *Input) *view.Item { return &in.Final.Items[0] }
	use := func(in *Input, u control.Use) { in.Oracle.Uses = append(in.Oracle.Uses, u) }
	add := func(in *Input, es ...event.Event) { in.Events = append(in.Events, es...) }
	drop := func(in *Input, typ string) {
		in.Events = slices.DeleteFunc(in.Events, func(e event.Event) bool { return e.Type == typ })
	}
	success := func(key string, minute int, call string) control.Use {
		return control.Use{Key: key, At: at(minute), Last: at(minute), N: 1, Call: call, Result: "ok", Label: "malicious"}
	}
	session := func(in *Input, parent string) {
		in.Oracle.Sessions = append(in.Oracle.Sessions, control.Session{ID: "ASIA1", Parent: parent})
	}
	type state = map[string]string
	tests := map[string]struct {
		bend    func(t *testing.T, in *Input)
		want    state  // besides goodStates
		in      string // the invariant whose detail says
		detail  string
		effects func(*cli.Effects) // besides Calls
	}{
		"G1: the key works after its end": {
			bend: func(_ *testing.T, in *Input) { use(in, success(oldKey, 40, "ec2:DescribeInstances")) },
			want: state{"G1": Violated}, in: "G1", detail: oldKey + ": at least 1 uses by the attacker succeeded",
			effects: func(e *cli.Effects) { e.AttackerSuccessesAfterVerified = 1 },
		},
		"G1: the key works between proof and end": {
			bend: func(_ *testing.T, in *Input) { use(in, success(oldKey, 6, "sts:GetCallerIdentity")) },
			want: state{"G1": Violated}, effects: func(e *cli.Effects) { e.AttackerSuccessesAfterVerified = 1 },
		},
		"G1: a run of successes that ends after the proof": {
			bend: func(_ *testing.T, in *Input) { in.Oracle.Uses[0].Last = at(7) },
			want: state{"G1": Violated}, effects: func(e *cli.Effects) { e.AttackerSuccessesAfterVerified = 1 },
		},
		"G1: a run of successes after the proof counts in full": {
			bend: func(_ *testing.T, in *Input) { in.Oracle.Uses[0].At, in.Oracle.Uses[0].Last = at(6), at(17) },
			want: state{"G1": Violated}, effects: func(e *cli.Effects) { e.AttackerSuccessesAfterVerified = 11 },
		},
		"G1: at the moment of the proof is before it": {
			bend: func(_ *testing.T, in *Input) { in.Oracle.Uses[0].Last = at(5) },
		},
		"G1: a legitimate success is none of the attacker's": {
			bend: func(_ *testing.T, in *Input) {
				u := success(oldKey, 40, "ec2:DescribeInstances")
				u.Label = "legit"
				use(in, u)
			},
		},
		"G1: a restored key works by decision": {
			bend: func(_ *testing.T, in *Input) {
				in.Final.Approvals = append(in.Final.Approvals, view.Approval{ID: "a2", For: "restore", Needed: 2, Items: []string{fpOld}})
				add(in, vote(5, "a2", "restore", "oncall-1"), vote(5, "a2", "restore", "oncall-2"))
				add(in, call(6, "Restore")...)
				use(in, success(oldKey, 8, "ec2:DescribeInstances"))
			},
		},
		"G1: an item that is reported again is open": {
			bend: func(_ *testing.T, in *Input) {
				add(in, ended(35, "reported again"), ended(45, "revoked-verified"))
				use(in, success(oldKey, 40, "ec2:DescribeInstances"))
			},
		},
		"G1: a session outlives the verified key": {
			bend: func(_ *testing.T, in *Input) {
				session(in, oldKey)
				use(in, success("ASIA1", 40, "ec2:DescribeInstances"))
			},
			want: state{"G1": Violated}, in: "G1", detail: "ASIA1 (derived from " + oldKey + ")",
			effects: func(e *cli.Effects) { e.AttackerSuccessesAfterVerified = 1 },
		},
		"G1: a session that is only allowed to say who it is was ended": {
			bend: func(_ *testing.T, in *Input) {
				session(in, oldKey)
				use(in, success("ASIA1", 40, "sts:GetCallerIdentity"))
			},
		},
		"G1: a session of somebody else": {
			bend: func(_ *testing.T, in *Input) {
				session(in, otherKey)
				use(in, success("ASIA1", 40, "ec2:DescribeInstances"))
			},
		},
		"G1: a key the attacker made on the principal was missed": {
			bend: func(_ *testing.T, in *Input) {
				in.Oracle.Keys = append(in.Oracle.Keys, control.Key{ID: "AKIAEVIL", User: "ci", Alive: true, MintedBy: "malicious"})
				use(in, success("AKIAEVIL", 40, "ec2:DescribeInstances"))
			},
			want: state{"G1": Violated}, effects: func(e *cli.Effects) { e.AttackerSuccessesAfterVerified = 1 },
		},
		"G1: death by Deny leaves authentication": {
			bend: func(_ *testing.T, in *Input) {
				item(in).Death.Rung = "principal"
				use(in, success(oldKey, 40, "sts:GetCallerIdentity"))
			},
		},
		"G1: death by Deny leaves nothing else": {
			bend: func(_ *testing.T, in *Input) {
				item(in).Death.Rung = "principal"
				use(in, success(oldKey, 40, "ec2:DescribeInstances"))
			},
			want: state{"G1": Violated}, effects: func(e *cli.Effects) { e.AttackerSuccessesAfterVerified = 1 },
		},
		"G1: without an attacker there is nothing to see": {
			bend: func(_ *testing.T, in *Input) { in.Oracle.Uses = in.Oracle.Uses[2:] },
			want: state{"G1": NotApplicable},
		},

		"G2: the replacement is in scope": {
			bend: func(_ *testing.T, in *Input) {
				in.Final.Items = append(in.Final.Items, view.Item{FP: "fp1_new", Short: "new", KeyID: newKey, EndState: "customer-action-open", Adoption: view.Adoption{State: "not-wanted"}})
				add(in, ev(31, event.EventItem, func(e *event.Event) { e.FP, e.Result = "fp1_new", "customer-action-open" }))
			},
			want: state{"G2": Violated}, in: "G2", detail: newKey,
		},
		"G2: the attacker's key is adopted": {
			bend: func(_ *testing.T, in *Input) { in.Oracle.Keys[1].MintedBy = "malicious" },
			want: state{"G2": Violated, "G6": Violated}, in: "G2", detail: "made by the attacker",
		},
		"G2: nothing was reissued": {
			bend: func(_ *testing.T, in *Input) {
				item(in).Adoption = view.Adoption{State: "not-wanted"}
				drop(in, event.EventReissued)
				in.Events[len(in.Events)-1].Attrs = nil
				in.Oracle.Keys = slices.Delete(in.Oracle.Keys, 1, 2)
			},
			want: state{"G2": NotApplicable},
		},

		"G3: the new secret is in a clean zone": {
			bend: func(_ *testing.T, in *Input) {
				in.Drill.Estate.Copies = []scenario.Copy{{Key: "AK-OLD", Where: "host/H1", Store: "awssm/other/aws", Zone: "dirty"}}
			},
			want: state{"G3": Held},
		},
		"G3: the new secret is in a dirty zone": {
			bend: func(_ *testing.T, in *Input) {
				in.Drill.Estate.Copies = []scenario.Copy{{Key: "AK-OLD", Where: "host/H1", Store: "awssm/platform/aws", Zone: "dirty"}}
			},
			want: state{"G3": Violated}, in: "G3", detail: "platform/aws",
		},
		"G3: a dirty zone and nothing new": {
			bend: func(_ *testing.T, in *Input) {
				in.Drill.Estate.Copies = []scenario.Copy{{Key: "AK-OLD", Where: "platform/aws", Zone: "dirty"}}
				in.Oracle.Calls = slices.Delete(in.Oracle.Calls, 4, 5)
				in.Oracle.Stores[0].KeyID = oldKey
			},
			want: state{"G3": NotApplicable}, effects: func(e *cli.Effects) { e.Calls = 6 },
		},

		"G5: an item is open": {
			bend: func(_ *testing.T, in *Input) { item(in).EndState = "" },
			want: state{"G5": Violated}, in: "G5", detail: oldKey + " is in no end state",
		},
		"G5: an end state that is none": {
			bend: func(_ *testing.T, in *Input) { item(in).EndState = "skipped" },
			want: state{"G5": Violated}, in: "G5", detail: "skipped",
		},
		"G5: two end states": {
			bend: func(_ *testing.T, in *Input) { add(in, ended(40, "accepted-risk")) },
			want: state{"G5": Violated}, in: "G5", detail: "2 end states",
		},
		"G5: view and record differ": {
			bend: func(_ *testing.T, in *Input) { item(in).EndState = "never-existed-proven" },
			want: state{"G5": Violated}, in: "G5", detail: "the record says revoked-verified",
		},
		"G5: reported again, and ended otherwise": {
			bend: func(_ *testing.T, in *Input) {
				add(in, ended(35, "reported again"), ended(45, "never-existed-proven"))
				item(in).EndState = "never-existed-proven"
			},
			want: state{"G1": NotApplicable}, // nobody is known to have tried between the proof and the second report
		},
		"G5: the record is read in the order of time": {
			bend: func(_ *testing.T, in *Input) {
				add(in, ended(45, "never-existed-proven"), ended(35, "reported again"))
				item(in).EndState = "never-existed-proven"
			},
			want: state{"G1": NotApplicable}, // nobody is known to have tried between the proof and the second report
		},
		"G5: dead on record, its replacement still on the way": {
			bend: func(_ *testing.T, in *Input) { drop(in, event.EventItem) },
		},
		"G5: not on record at all": {
			bend: func(_ *testing.T, in *Input) { drop(in, event.EventItem); drop(in, event.EventProbe) },
			want: state{"G5": Violated, "G1": NotApplicable}, in: "G5", detail: "no record",
		},
		"G5: a risk accepted for ever": {
			bend: func(_ *testing.T, in *Input) {
				item(in).EndState, item(in).Approver = "accepted-risk", "oncall-1"
				in.Events[len(in.Events)-1].Result = "accepted-risk"
			},
			want: state{"G5": Violated}, in: "G5", detail: "a person and a date",
		},
		"G5: a risk accepted by a person until a date": {
			bend: func(_ *testing.T, in *Input) {
				item(in).EndState, item(in).Approver, item(in).Until = "accepted-risk", "oncall-1", when(9999)
				in.Events[len(in.Events)-1].Result = "accepted-risk"
			},
		},
		"G5: items were cut off": {
			bend: func(_ *testing.T, in *Input) { in.Final.Totals.Items = 2 },
			want: state{"G5": Violated}, in: "G5", detail: "1 of 2 items",
		},
		"G5: nothing in scope": {
			bend: func(_ *testing.T, in *Input) {
				in.Final.Items, in.Final.Totals.Items = nil, 0
				in.Events, in.Oracle.Calls = nil, nil
				in.Oracle.Keys = in.Oracle.Keys[3:]
			},
			want:    state{"G1": NotApplicable, "G2": NotApplicable, "G5": NotApplicable, "G6": NotApplicable, "G10": NotApplicable},
			effects: func(e *cli.Effects) { e.Calls = 0 },
		},

		"G6: Disable took effect twice": {
			bend: func(_ *testing.T, in *Input) { in.Oracle.Calls = append(in.Oracle.Calls, in.Oracle.Calls[0]) },
			want: state{"G6": Violated}, in: "G6", detail: "Disable took effect 2 times on " + oldKey,
			effects: func(e *cli.Effects) { e.Calls, e.Duplicate = 8, 1 },
		},
		"G6: Revoke took effect twice": {
			bend: func(_ *testing.T, in *Input) { in.Oracle.Calls[6].Effect = true },
			want: state{"G6": Violated}, effects: func(e *cli.Effects) { e.Duplicate = 1 },
		},
		"G6: Disable again after Restore": {
			bend: func(_ *testing.T, in *Input) {
				in.Oracle.Calls = append(in.Oracle.Calls, control.Call{Verb: "Restore", Key: oldKey, Effect: true, At: at(6)}, in.Oracle.Calls[0])
			},
			effects: func(e *cli.Effects) { e.Calls = 9 },
		},
		"G6: a lost replacement is alive": {
			bend: func(_ *testing.T, in *Input) { in.Oracle.Keys[2].Alive = true },
			want: state{"G6": Violated}, in: "G6", detail: "AKIALOST was made by rekey, replaces nothing, and is alive",
			effects: func(e *cli.Effects) { e.Orphans = 1 },
		},
		"G6: a lost replacement is dead, not on record": {
			bend: func(_ *testing.T, in *Input) { drop(in, event.EventReconciled) },
			want: state{"G6": Violated}, in: "G6", detail: "duplicate", effects: func(e *cli.Effects) { e.Duplicate = 1 },
		},
		"G6: a lost replacement is found as if it were a stranger's": {
			bend: func(_ *testing.T, in *Input) {
				drop(in, event.EventReconciled)
				add(in, ev(11, event.EventReconciled, func(e *event.Event) { e.Attrs = attrs{"unattributed": "AKIALOST"} }))
			},
			want: state{"G6": Violated}, effects: func(e *cli.Effects) { e.Duplicate = 1 },
		},
		"G6: several killed on record": {
			bend: func(_ *testing.T, in *Input) {
				in.Oracle.Keys = append(in.Oracle.Keys, control.Key{ID: "AKIALOST2", User: "ci", State: "deleted", MintedBy: "engine"})
				add(in, ev(11, event.EventReconciled, func(e *event.Event) { e.Attrs = attrs{"killed": "AKIALOST, AKIALOST2"} }))
			},
		},
		"G6: the replacement did not survive": {
			bend: func(_ *testing.T, in *Input) { in.Oracle.Keys[1].Alive = false },
			want: state{"G6": Violated}, in: "G6", detail: "did not survive",
		},
		"G6: the replacement was waived and taken away": {
			bend: func(_ *testing.T, in *Input) {
				in.Oracle.Keys[1].Alive = false
				item(in).Adoption.State = "waived"
			},
		},
		"G6: the replacement does not exist": {
			bend: func(_ *testing.T, in *Input) { in.Oracle.Keys = slices.Delete(in.Oracle.Keys, 1, 2) },
			want: state{"G6": Violated}, in: "G6", detail: "no key that rekey made",
		},
		"G6: one replacement for two items": {
			bend: func(_ *testing.T, in *Input) {
				in.Final.Items = append(in.Final.Items, view.Item{FP: "fp1_2", KeyID: otherKey, EndState: "customer-action-open", Adoption: view.Adoption{State: "adopted", NewKeyID: newKey}})
				add(in, ev(31, event.EventItem, func(e *event.Event) { e.FP, e.Result = "fp1_2", "customer-action-open" }))
			},
			want: state{"G6": Violated}, in: "G6", detail: "replaces both " + oldKey + " and " + otherKey,
		},
		"G6: another incident of the drill adopted it": {
			bend: func(_ *testing.T, in *Input) {
				in.Oracle.Keys = append(in.Oracle.Keys, control.Key{ID: "AKIANEW2", User: "svc-1", Alive: true, MintedBy: "engine"})
				in.Others = []view.Incident{{ID: "inc-2", Totals: view.Totals{Items: 1}, Items: []view.Item{
					{FP: "fp1_2", KeyID: otherKey, EndState: "revoked-verified", Adoption: view.Adoption{State: "adopted", NewKeyID: "AKIANEW2"}},
				}}}
				add(in, ev(31, event.EventItem, func(e *event.Event) { e.Incident, e.FP, e.Result = "inc-2", "fp1_2", "revoked-verified" }))
			},
		},

		"G7: warned before the cut": {
			bend: func(_ *testing.T, in *Input) {
				in.Customers = []Customer{{Ref: "C033", Keys: []string{"AK-OLD"}}}
				add(in, ev(1, event.EventGate, func(e *event.Event) { e.Attrs = attrs{"gate": "warn-before-cut"} }))
			},
			want: state{"G7": Held},
		},
		"G7: the notice was delivered before the cut": {
			bend: func(_ *testing.T, in *Input) {
				in.Customers = []Customer{{Ref: "C033", Keys: []string{oldKey}}}
				add(in, ev(1, event.EventNotice, func(e *event.Event) { e.FP, e.Result, e.Attrs = "", "delivered", attrs{"recipient": "C033"} }))
			},
			want: state{"G7": Held},
		},
		"G7: warned too late": {
			bend: func(_ *testing.T, in *Input) {
				in.Customers = []Customer{{Ref: "C033", Keys: []string{oldKey}}}
				add(in, ev(3, event.EventGate, func(e *event.Event) { e.Attrs = attrs{"gate": "warn-before-cut"} }))
			},
			want: state{"G7": Violated}, in: "G7", detail: "customer C033 was cut",
		},
		"G7: another gate is no warning": {
			bend: func(_ *testing.T, in *Input) {
				in.Customers = []Customer{{Ref: "C033", Keys: []string{oldKey}}}
				add(in, ev(1, event.EventGate, func(e *event.Event) { e.Attrs = attrs{"gate": "cut-over"} }))
			},
			want: state{"G7": Violated},
		},
		"G7: the notice bounced": {
			bend: func(_ *testing.T, in *Input) {
				in.Customers = []Customer{{Ref: "C033", Keys: []string{oldKey}}}
				add(in, ev(1, event.EventNotice, func(e *event.Event) { e.Result = "bounced" }))
			},
			want: state{"G7": Violated},
		},
		"G7: a customer whose key stays": {
			bend: func(_ *testing.T, in *Input) { in.Customers = []Customer{{Ref: "C033", Keys: []string{otherKey}}} },
		},

		"G8: the bundle was changed": {
			bend: func(_ *testing.T, in *Input) { in.Bundle[len(in.Bundle)/2] ^= 1 },
			want: state{"G8": Violated}, in: "G8", detail: "does not verify",
		},
		"G8: the bundle is no bundle": {
			bend: func(_ *testing.T, in *Input) { in.Bundle = []byte("gone") },
			want: state{"G8": Violated, "G4": Violated}, in: "G4", detail: "cannot be opened",
		},
		"G8: the bundle is of another incident": {
			bend: func(t *testing.T, in *Input) {
				other := *in
				other.Events = slices.Clone(in.Events)
				for i := range other.Events {
					other.Events[i].Incident = "inc-ffffffffffff"
				}
				in.Bundle = sealed(t, other)
			},
			want: state{"G8": Violated}, in: "G8", detail: "inc-ffffffffffff",
		},
		"G8: closed without a bundle": {
			bend: func(_ *testing.T, in *Input) { in.Bundle = nil },
			want: state{"G8": Violated}, in: "G8", detail: "there is no bundle",
		},
		"G8: not yet closed": {
			bend: func(_ *testing.T, in *Input) { in.Bundle, in.Final.Bundle, in.Final.State = nil, nil, "waiting" },
			want: state{"G8": NotApplicable},
		},

		"G9: an obligation with its clock": {
			bend: func(_ *testing.T, in *Input) {
				in.Final.Obligations = []view.Obligation{{ID: "o1", What: "tell the authority", Due: when(72 * 60)}}
			},
			want: state{"G9": Held},
		},
		"G9: an obligation without a clock": {
			bend: func(_ *testing.T, in *Input) {
				in.Final.Obligations = []view.Obligation{{ID: "o1", What: "tell the authority"}}
			},
			want: state{"G9": Violated}, in: "G9", detail: "o1 of " + incidentID + " has no clock",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			in := goodWorld(t)
			if tt.bend != nil {
				tt.bend(t, &in)
			}
			want := goodStates()
			violated := false
			for id, s := range tt.want {
				want[id] = s
				violated = violated || s == Violated
			}
			v := Judge(in)
			require.Equal(t, want, states(v), "%+v", v.Invariants)
			if violated {
				require.Equal(t, Failed, v.Result)
			}
			if tt.in != "" {
				require.Contains(t, invariantOf(t, v, tt.in).Detail, tt.detail)
			}
			effects := cli.Effects{Calls: 7}
			if tt.effects != nil {
				tt.effects(&effects)
			}
			require.Equal(t, effects, v.Effects)
			require.Equal(t, v, Judge(in), "judged twice")
		})
	}
}
