package workflows_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/activities"
	"rekey/internal/page"
	"rekey/internal/statement"
	"rekey/internal/view"
	"rekey/playbooks"
	"rekey/workflows"
)

// A fate is what became of a key, whoever moved it.
type fate struct {
	End, Death, Grade, Rung, Adoption, NewKey string
	Receipts, CutOver                         int
	Calls                                     []string // those that change something, as they reached the provider
	Outcomes                                  []string
}

func fateOf(v view.Item, calls []string) fate {
	f := fate{
		End: v.EndState, Death: v.Death.State, Grade: v.Death.Grade, Rung: v.Death.Rung, Adoption: v.Adoption.State, NewKey: v.Adoption.NewKeyID,
		Receipts: v.Adoption.Receipts, CutOver: v.Adoption.CutOver, Calls: calls,
	}
	for _, o := range v.Outcomes {
		// A row is not told of before it is clear whether it is destroyed; an item is
		// looked at once more between the third and the fourth Revoke.
		if o.Verb+o.Outcome != "Revokeunclear" {
			f.Outcomes = append(f.Outcomes, o.Verb+" "+o.Outcome)
		}
	}
	return f
}

// A same is one story that is told of an item and of a row.
type same struct {
	strategy   playbooks.StrategyName
	dependents int  // of which each moves to the replacement after some hours
	stay       int  // … and these never do
	bare       bool // the report has no secret
	slots      int
	gone       bool // somebody has destroyed the key before
	survives   []activities.Verb
	script     map[activities.Verb][]fault
	orders     map[time.Duration]string
	// pulled: the row leaves its page where the item goes on by itself.
	pulled string
}

// item tells it of an item.
func (s same) item(t *testing.T) fate {
	w := newWorld(t)
	s.world(w)
	w.reported(time.Second, "r1", "AKIA-1", s.report)
	w.approving("strategy", "irreversible", "rung")
	w.resolving()
	for i := range s.dependents { // not w.moves: it may be over before
		w.env.RegisterDelayedCallback(func() {
			w.provider.mu.Lock()
			defer w.provider.mu.Unlock()
			k := w.provider.key("AKIA-1")
			k.newUses = append(k.newUses, activities.Use{Last: w.env.Now(), Count: 3, Source: fmt.Sprint("10.0.0.", i)})
		}, time.Duration(i+2)*time.Hour)
	}
	for d, o := range s.orders {
		items := func(as string) func(*statement.Statement) {
			return func(st *statement.Statement) {
				st.As, st.Items, st.Text, st.Until = as, []string{"AKIA-1"}, "because", w.env.Now().Add(time.Hour)
			}
		}
		switch o {
		case page.OrderPromote:
			w.abused(d, "AKIA-1")
			w.reported(d+time.Second, "r2", "AKIA-1")
		case page.OrderOverride:
			w.at(d, func() { w.update(w.say(statement.Resolve, "alice", items("override-cutoff"))) })
		case page.OrderAttest:
			w.at(d, func() { w.update(w.say(statement.Resolve, "alice", items("adopted"))) })
		case page.OrderHold:
			w.at(d, func() { w.update(w.say(statement.Hold, "alice", items(""))) })
		case page.OrderRelease:
			w.at(d, func() { w.update(w.say(statement.Release, "alice", items(""))) })
		}
	}
	v := w.run()
	return fateOf(of(t, v, "AKIA-1"), w.provider.did())
}

func (s same) report(r *workflows.Report) {
	if !s.bare {
		withSecret(r)
	}
}

// world sets up what both have: the provider, and what makes the playbook decide for the
// strategy.
func (s same) world(w *world) {
	k := w.provider.key("AKIA-1")
	k.survives, w.provider.slots = s.survives, s.slots
	for v, fs := range s.script {
		w.provider.script[v] = slices.Clone(fs)
	}
	if s.gone {
		k.exists, k.active = false, false
	}
	var names []string
	for i := range s.dependents + s.stay {
		names = append(names, fmt.Sprint("d", i))
	}
	if len(names) > 0 {
		w.used("AKIA-1", names...)
	}
	switch {
	case s.strategy == playbooks.DisableAndWatch:
		k.unseen = []activities.Unseen{{Source: "cloudtrail", Why: "denied"}} // "idle" needs to know the last 30 days
	case s.strategy == playbooks.RevokeNow && len(names) > 0:
		w.abused(0, "AKIA-1")
	}
}

// row tells it of a row, by the shortest driver there is: each call as soon as it is due,
// votes at once, people within a minute.
func (s same) row(t *testing.T) (fate, page.Row) {
	w := newWorld(t)
	s.world(w)
	f := page.Facts{
		Incident: incidentID, Prefix: "wave/1", Strategy: s.strategy, Kinds: map[string]page.Kind{}, K: w.set.Playbook.Verify.K, Span: w.set.Playbook.Verify.Span.Std(),
		Vantages: w.set.Playbook.Verify.Vantage, Quiet: w.set.Playbook.Strategy(s.strategy).Quiet.Std(), Gated: true,
	}
	k := awsKind()
	f.Kinds["awsiam/user-access-key"] = page.Kind{API: activities.Verbs(), Propagation: 15 * time.Second, SessionsOutlive: k.SessionsOutlive, Places: k.Vantages}
	if s.strategy == playbooks.ReissueFirst {
		f.Cutoff = t0.Add(72 * time.Hour)
	}
	var r page.Row
	r.SetKey(key("AKIA-1"))
	if !s.bare {
		r.Secret = "reported/r1"
	}
	for i := range s.dependents + s.stay {
		r.Adopt, r.Owner, r.Stores = true, "platform", []page.Store{{Target: "awssm", Name: "platform/aws"}}
		r.Dependents = append(r.Dependents, page.Dependent{ID: fmt.Sprint("d", i)})
	}
	now, told := t0, map[time.Duration]bool{}
	f.Begin(&r, now)
	for n := 0; !r.Next.Over() && r.Next.Gate != page.GatePull; n++ {
		require.Less(t, n, 500, "it goes round and round: %+v", r.Next)
		w.provider.key("AKIA-1").newUses = nil
		for i := range s.dependents {
			if at := t0.Add(time.Duration(i+2) * time.Hour); !now.Before(at) {
				w.provider.key("AKIA-1").newUses = append(w.provider.key("AKIA-1").newUses, activities.Use{Last: at, Count: 3, Source: fmt.Sprint("10.0.0.", i)})
			}
		}
		next, person := r.Next.Due.Time, r.Next.Gate == page.GateHuman || r.Next.Gate == page.GateNotice || r.Next.Why == page.WhyAdopt && r.Looks > 0
		if person {
			next = now.Add(time.Minute)
		}
		for d, o := range s.orders {
			switch at := t0.Add(d); {
			case told[d]:
			case !now.Before(at):
				told[d] = true
				f.Obey(&r, []page.Order{{Kind: o, All: true}}, now)
				next = now
			case next.IsZero() && r.Next.Gate == page.GateHeld, next.After(at):
				next = at
			}
		}
		if next.After(now) {
			now = next
			if f.Wake(&r, now); person {
				f.Obey(&r, []page.Order{{Kind: page.OrderResolve, All: true, Actor: "alice"}}, now)
			}
			continue
		}
		if gate := r.Next.Gate; r.Next.Verb != "" && (gate == "" || gate == page.GateVotes) {
			id := fmt.Sprint("wave/1/p", n)
			res, err := w.provider.activity(r.Next.Verb)(context.Background(), activities.Pass{ID: r.Journal(id), Verb: r.Next.Verb, Attempt: r.Tries + 1, Items: []activities.Request{f.Request(&r, now)}})
			require.NoError(t, err)
			a := res.Items[0]
			a.At = now
			f.Advance(&r, a, id, now)
		}
	}
	return fateOf(r.View(1, f.K), w.provider.did()), r
}

// What is decided for an item by the workflow, call by call, and for a row by package
// page, is the same.
func TestRowsAndItemsAreMovedAlike(t *testing.T) {
	const hour = time.Hour
	unclear := fault{class: activities.ClassUnclear, outcome: activities.Unclear, detail: "no answer"}
	late := fault{class: activities.ClassUnclear, outcome: activities.Unclear, detail: "no answer", applied: true}
	transient := fault{class: activities.ClassTransient, outcome: activities.Unclear}
	throttled := fault{class: activities.ClassThrottled, outcome: activities.Unclear, after: 90 * time.Second}
	denied := func(p string) fault { return fault{class: activities.ClassDenied, outcome: activities.Denied, perm: p} }
	async := fault{outcome: activities.DoneAsync, applied: true}
	script := func(v activities.Verb, fs ...fault) map[activities.Verb][]fault {
		return map[activities.Verb][]fault{v: fs}
	}
	rn, rf, dw := playbooks.RevokeNow, playbooks.ReissueFirst, playbooks.DisableAndWatch
	tests := map[string]same{
		"revoke-now":                                 {strategy: rn},
		"revoke-now, by the provider's state":        {strategy: rn, bare: true},
		"revoke-now with a replacement":              {strategy: rn, dependents: 2},
		"revoke-now, a dependent stays":              {strategy: rn, dependents: 1, stay: 1},
		"revoke-now, the key is gone already":        {strategy: rn, gone: true},
		"revoke-now, the dead key gives its slot":    {strategy: rn, dependents: 1, slots: 1},
		"reissue-first":                              {strategy: rf, dependents: 2},
		"reissue-first, nobody moves":                {strategy: rf, stay: 1, orders: map[time.Duration]string{72 * hour: page.OrderForget}}, // the secret's life
		"reissue-first, overridden":                  {strategy: rf, stay: 1, orders: map[time.Duration]string{10 * hour: page.OrderOverride}},
		"reissue-first, attested":                    {strategy: rf, stay: 1, orders: map[time.Duration]string{10 * hour: page.OrderAttest}},
		"reissue-first, abuse is seen":               {strategy: rf, stay: 1, orders: map[time.Duration]string{10 * hour: page.OrderPromote}},
		"reissue-first, abuse is seen, they move":    {strategy: rf, dependents: 2, orders: map[time.Duration]string{90 * time.Minute: page.OrderPromote}},
		"reissue-first, held while they move":        {strategy: rf, dependents: 2, orders: map[time.Duration]string{90 * time.Minute: page.OrderHold, 20 * hour: page.OrderRelease}},
		"disable-and-watch":                          {strategy: dw},
		"disable-and-watch, held":                    {strategy: dw, orders: map[time.Duration]string{hour: page.OrderHold, 50 * hour: page.OrderRelease}},
		"disable-and-watch, abuse is seen":           {strategy: dw, orders: map[time.Duration]string{hour: page.OrderPromote}},
		"Disable is throttled":                       {strategy: rn, script: script(activities.Disable, throttled, throttled)},
		"Disable is transient":                       {strategy: rn, script: script(activities.Disable, transient, transient, transient)},
		"Disable is async":                           {strategy: rn, script: script(activities.Disable, async)},
		"Disable is unclear, and happened":           {strategy: rn, script: script(activities.Disable, late, late, late)},
		"Disable is unclear, and did not":            {strategy: rn, script: script(activities.Disable, unclear, unclear, unclear)},
		"Disable is denied":                          {strategy: rn, script: script(activities.Disable, denied("iam:UpdateAccessKey"))},
		"EndSessions is unclear":                     {strategy: rn, script: script(activities.EndSessions, late, late, late)},
		"EndSessions is denied twice":                {strategy: rn, script: script(activities.EndSessions, denied("iam:PutUserPolicy"), denied("iam:PutUserPolicy"))},
		"Revoke is unclear, and did not":             {strategy: rn, script: script(activities.Revoke, unclear, unclear, unclear)},
		"Revoke is unclear, and happened":            {strategy: rn, script: script(activities.Revoke, late, late, late)},
		"Revoke is denied":                           {strategy: rn, script: script(activities.Revoke, denied("iam:DeleteAccessKey"))},
		"Issue is unclear":                           {strategy: rf, dependents: 1, script: script(activities.Issue, unclear, unclear)},
		"Issue is denied":                            {strategy: rf, dependents: 1, script: script(activities.Issue, denied("iam:CreateAccessKey"))},
		"Issue is throttled, transient, and unclear": {strategy: rf, dependents: 1, script: script(activities.Issue, throttled, transient, unclear)},
		"Distribute is transient":                    {strategy: rf, dependents: 1, script: script(activities.Distribute, transient, transient)},
		"Distribute is denied":                       {strategy: rf, dependents: 1, script: script(activities.Distribute, denied("secretsmanager:PutSecretValue"))},
		"Probes are unclear for a while":             {strategy: rn, script: script(activities.Probe, unclear, transient, throttled, unclear)},
		"it outlives Disable":                        {strategy: rn, survives: []activities.Verb{activities.Disable}, pulled: "still alive after the provider's yes"},
		"Issue finds no slot while the key lives":    {strategy: rf, dependents: 1, slots: 1, orders: map[time.Duration]string{}, pulled: "Issue needs a person: slot-needed"},
		"Disable is invalid":                         {strategy: rn, script: script(activities.Disable, fault{class: activities.ClassInvalid, outcome: activities.NeedsHuman, detail: "cannot be"}), pulled: "Disable needs a person: cannot be"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, row := tt.row(t)
			if tt.pulled != "" {
				require.Equal(t, page.GatePull, row.Next.Gate)
				require.Equal(t, tt.pulled, row.Next.Why)
				return
			}
			want := tt.item(t)
			require.Equal(t, want, got)
			require.Equal(t, "revoked-verified", got.End)
			require.NotEmpty(t, strings.Join(got.Calls, ""))
		})
	}
}
