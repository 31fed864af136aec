package killer

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"

	"rekey/internal/lab/control"
)

// A Plan is what a seed decides.
type Plan struct {
	Seed  uint64 `json:"seed"`
	Shape string `json:"shape"`
	// Verb, Edge and Nth are where the kill strikes: at an edge of the nth call of a
	// verb in this incident.
	Verb   string `json:"verb"`
	Edge   string `json:"edge"`
	Nth    int    `json:"nth"`
	Victim string `json:"victim"`
}

func (p Plan) String() string {
	return fmt.Sprintf("seed %d: %s, kill %s %s of %s call %d", p.Seed, p.Shape, p.Victim, p.Edge, p.Verb, p.Nth)
}

// Shapes of incidents.
const (
	// Pair is two keys with a dependent each: one is cut first, one is replaced first.
	Pair = "pair"
	// Stubborn is the pair, and a third key that works on after the provider's yes until
	// its principal is denied everything.
	Stubborn = "stubborn"
)

// shape is how often each verb is called in an incident that nothing disturbs.
type shape struct {
	name  string
	calls map[string]int
}

func shapes() []shape {
	return []shape{
		{Pair, map[string]int{"Disable": 2, "EndSessions": 2, "Issue": 2, "Distribute": 2, "Revoke": 2}},
		{Stubborn, map[string]int{"Disable": 3, "EndSessions": 4, "Issue": 2, "Distribute": 2, "Revoke": 3, "Deny": 1}},
	}
}

// verbs in a fixed order: a seed means the same for ever.
var verbs = []string{"Disable", "EndSessions", "Issue", "Distribute", "Revoke", "Deny"}

// edges of a call.
var edges = []string{control.BeforeCall, control.AfterCall, control.AfterRecord}

// Of derives the plan of a seed. victims are the roles that the layout of processes
// has, in a fixed order; `rekey up` has one.
func Of(seed uint64, victims ...string) Plan {
	rng := rand.New(rand.NewPCG(seed, 0x72656b6579)) //nolint:gosec // chance that can be repeated is the point
	all := shapes()
	// Two of three are pairs: a stubborn key costs the time of a ladder.
	s := all[0]
	if rng.IntN(3) == 2 {
		s = all[1]
	}
	var has []string
	for _, v := range verbs {
		if s.calls[v] > 0 {
			has = append(has, v)
		}
	}
	p := Plan{Seed: seed, Shape: s.name, Verb: has[rng.IntN(len(has))], Edge: edges[rng.IntN(len(edges))]}
	p.Nth = 1 + rng.IntN(s.calls[p.Verb])
	p.Victim = victims[rng.IntN(len(victims))]
	return p
}

// Seeds reads `17`, or `1:1000`.
func Seeds(text string) (from, to uint64, err error) {
	a, b, both := strings.Cut(text, ":")
	if from, err = strconv.ParseUint(a, 10, 64); err == nil && both {
		to, err = strconv.ParseUint(b, 10, 64)
	} else {
		to = from
	}
	if err != nil || to < from {
		return 0, 0, fmt.Errorf("%q: write a seed, or the first and the last as in 1:1000", text)
	}
	return from, to, nil
}
