package engine

import (
	"rekey/activities"
	"rekey/internal/plan"
	"rekey/playbooks"
	"rekey/workflows"
)

// callsAtOnce is how many calls of one account a pass has under way
// (docs/design/0017): what bounds a provider without a limit.
const callsAtOnce = 32

// reserve is the part of a budget that containment alone may use, as in
// activities/batch.
const reserve = 0.2

// A budget is one limit of one account.
type budget struct{ provider, account, api string }

// A load is the calls that rows need, by the budget that they count against.
type load struct {
	// kills are those of containment, which may use a whole budget; rest is all others.
	kills, rest map[budget]int
	// waits is the longest time that a row takes beside its turn: propagation, proof,
	// quiet time, and its calls one after the other.
	waits int64
}

func newLoad() *load { return &load{kills: map[budget]int{}, rest: map[budget]int{}} }

// add counts the calls of a row: a proof is as many rounds as the playbook wants, and
// one more after the last kill.
func (l *load) add(it plan.Item, k workflows.KindFacts, pb *playbooks.Playbook, waits int64) {
	for _, c := range it.Calls {
		step := playbooks.Step(c.Verb)
		v := activities.Verb(step.Verb())
		if c.Support != string(activities.ByAPI) {
			continue
		}
		b := budget{it.Key.Provider, it.Key.Account, k.Verbs[v].API}
		switch {
		case v == activities.Disable, v == activities.EndSessions, v == activities.Deny:
			l.kills[b]++
		case step == playbooks.StepProbe:
			l.rest[b] += max(pb.Verify.K, 1) + 1
		default:
			l.rest[b]++
		}
	}
	l.waits = max(l.waits, waits)
}

// join adds another load.
func (l *load) join(o *load) {
	for b, n := range o.kills {
		l.kills[b] += n
	}
	for b, n := range o.rest {
		l.rest[b] += n
	}
	l.waits = max(l.waits, o.waits)
}

// turns is how long the calls on an account take, in ms: N/R of its tightest limit, or
// what can be under way at once. rates are calls a second by provider/account/api.
func (l *load) turns(rates map[string]float64, provider, account string) int64 {
	var longest float64
	calls := 0
	for b := range l.budgets() {
		if b.provider != provider || b.account != account {
			continue
		}
		kills, rest := float64(l.kills[b]), float64(l.rest[b])
		calls += l.kills[b] + l.rest[b]
		if r := rates[provider+"/"+account+"/"+b.api]; r > 0 {
			longest = max(longest, (kills+rest)/r, rest/(r*(1-reserve)))
		}
	}
	return max(int64(longest*1000), int64(calls)*callMs/callsAtOnce)
}

// eta is how long all of it takes, in ms: accounts work beside each other.
func (l *load) eta(rates map[string]float64) int64 {
	var longest int64
	for b := range l.budgets() {
		longest = max(longest, l.turns(rates, b.provider, b.account))
	}
	return longest + l.waits
}

func (l *load) budgets() map[budget]bool {
	out := map[budget]bool{}
	for b := range l.kills {
		out[b] = true
	}
	for b := range l.rest {
		out[b] = true
	}
	return out
}
