package page_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/activities"
	"rekey/internal/page"
	"rekey/playbooks"
)

var t0 = time.Date(2026, 11, 21, 3, 0, 0, 0, time.UTC)

// horizon is how long a story is watched: after it nothing is decided any more that was
// not decided before.
const horizon = 40 * 24 * time.Hour

// An order and when a row comes to hear of it.
type order struct {
	at time.Time
	page.Order
	mends func(*subject)
}

// A story is one wave over rows, from its begin to where nothing moves any more.
type story struct {
	t    *testing.T
	f    *page.Facts
	rows []*subject
	now  time.Time
	size int // rows of a page
	// voted is when the votes for Revoke are there; zero: never.
	voted time.Time
}

// play runs the story in its own time: rows whose call is due are put into pages, and
// come back with what they need next.
func (s *story) play() {
	s.now = t0
	for _, r := range s.rows {
		s.decided(r, func() { s.f.Begin(&r.row, s.now) })
	}
	for rounds := 0; ; rounds++ {
		if rounds > 20_000 {
			s.fail(slices.MaxFunc(s.rows, func(a, b *subject) int { return len(a.calls) - len(b.calls) }), "the story never ends")
		}
		s.orders()
		if s.passes() {
			continue
		}
		next := s.next()
		if next.IsZero() || next.Sub(t0) > horizon {
			return
		}
		s.now = next
	}
}

// rest tells whether a row can be told something. One whose calls fail for ever is left
// alone after some hundred.
func (s *story) rest(r *subject) bool { return !r.back.After(s.now) && !r.tired() }

func (s *subject) tired() bool { return len(s.always) > 0 && len(s.calls) > 300 }

// orders has rows at rest obey what they were told, and looks again at those whose time
// has come.
func (s *story) orders() {
	for _, r := range s.rows {
		if !s.rest(r) {
			continue
		}
		if n := r.row.Next; n.Timed() && !s.now.Before(n.Due.Time) {
			s.decided(r, func() { s.f.Wake(&r.row, s.now) })
		}
		for len(r.orders) > 0 && !r.orders[0].at.After(s.now) {
			o := r.orders[0]
			r.orders = r.orders[1:]
			before := r.row
			if o.mends != nil {
				o.mends(r)
			}
			s.decided(r, func() { s.f.Obey(&r.row, []page.Order{o.Order}, s.now) })
			s.obeyed(r, before, o.Order)
		}
		s.people(r)
		s.cutOff(r)
	}
}

// people does what a row waits for, some time later.
func (s *story) people(r *subject) {
	n := r.row.Next
	if slices.ContainsFunc(r.orders, func(o order) bool { return o.mends != nil }) {
		return // somebody is at it
	}
	o := order{at: s.now.Add(r.span(5 * time.Hour)).Add(time.Second), mends: func(*subject) {}}
	o.FPs = []string{r.row.FP}
	switch {
	case n.Gate == page.GateNotice && r.chance(0.5):
		o.Kind = page.OrderTold
	case n.Gate == page.GateHuman && n.Why == page.WhyProof:
		o.Kind, o.As, o.Actor, o.Text = page.OrderAccept, "accepted-risk", "alice", "cannot be asked"
	case n.Why == page.WhyAdopt && r.chance(0.2):
		o.Kind, o.As = page.OrderResolve, []string{"", "adopted", "waived"}[r.rng.IntN(3)]
	case n.Gate == page.GateHuman && n.Why != page.WhyAdopt:
		v, by := n.Verb, ""
		if r.chance(0.3) {
			by = "by-hand"
		}
		o.Kind, o.Why, o.As, o.Actor = page.OrderResolve, n.Why, by, "alice"
		o.mends = func(r *subject) {
			r.denied[v], r.blind = false, map[string]bool{}
			if by != "" && (v == activities.Disable || v == activities.Revoke) {
				r.kill(v, s.now)
			}
		}
	default:
		return
	}
	r.orders = append(r.orders, o)
	slices.SortStableFunc(r.orders, func(a, b order) int { return a.at.Compare(b.at) })
}

// open tells whether the row's gate is open.
func (s *story) open(n page.Next) bool {
	return n.Gate == "" || n.Gate == page.GateVotes && !s.voted.IsZero() && !s.now.Before(s.voted)
}

// passes makes the calls that are due.
func (s *story) passes() bool {
	var due []page.Row
	for _, r := range s.rows {
		n := r.row.Next
		if !s.rest(r) || n.Verb == "" || !s.open(n) || s.now.Before(n.Due.Time) {
			continue
		}
		if !r.brisk && r.chance(0.03) {
			r.back = s.now.Add(r.span(20 * time.Minute)) // the account has no room for it
			continue
		}
		due = append(due, r.row)
	}
	for _, group := range page.Sort(due) {
		for rows := range slices.Chunk(group, s.size) {
			b, err := page.Encode(slices.Clone(rows))
			require.NoError(s.t, err)
			back, err := page.Decode(b)
			require.NoError(s.t, err)
			again, err := page.Encode(slices.Clone(back))
			require.NoError(s.t, err)
			require.Equal(s.t, string(b), string(again), "a page gives back what was put into it")
			for _, row := range back {
				s.call(s.of(row.FP), row)
			}
		}
	}
	return len(due) > 0
}

func (s *story) of(fp string) *subject {
	i, _ := slices.BinarySearchFunc(s.rows, fp, func(r *subject, fp string) int { return strings.Compare(r.row.FP, fp) })
	return s.rows[i]
}

// call makes the call of one row. What Advance gives must not depend on anything but its
// inputs, so it is asked twice.
func (s *story) call(r *subject, row page.Row) {
	r.row = row
	if !s.f.Ready(&r.row, s.now) {
		require.NotEqual(s.t, row.Next, r.row.Next)
		return
	}
	s.legal(r)
	r.passes++
	id := fmt.Sprintf("wave/1/p%d", r.passes)
	a := r.pass(s.f, id, s.now)
	r.back = a.At
	again := clone(r.row)
	s.decided(r, func() { s.f.Advance(&r.row, a, id, s.now) })
	s.f.Advance(&again, a, id, s.now)
	require.True(s.t, reflect.DeepEqual(r.row, again), "the same answer gives the same row")
	s.answered(r, row)
}

// next is when something happens.
func (s *story) next() time.Time {
	var next time.Time
	at := func(t time.Time) {
		if t.After(s.now) && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	at(s.voted)
	for _, r := range s.rows {
		if r.tired() {
			continue
		}
		at(r.back)
		if n := r.row.Next; n.Verb != "" && s.open(n) || n.Timed() {
			at(n.Due.Time)
		}
		if len(r.orders) > 0 {
			at(r.orders[0].at)
		}
	}
	return next
}

func asJSON(t *testing.T, r page.Row) string {
	b, err := json.Marshal(r)
	require.NoError(t, err)
	return string(b)
}

// clone copies a row with what Advance and Obey change in it.
func clone(r page.Row) page.Row {
	r.Calls, r.Outcomes = maps.Clone(r.Calls), slices.Clone(r.Outcomes)
	return r
}

// all are the verbs that a kind may have.
var all = []activities.Verb{activities.Inspect, activities.Disable, activities.Revoke, activities.EndSessions, activities.Issue, activities.Distribute, activities.Probe}

// own are steps that a playbook may have instead of the standard ones.
var own = map[playbooks.StrategyName][][]page.Step{
	playbooks.RevokeNow: {
		{playbooks.StepDisable, playbooks.StepEndSessions, playbooks.StepProbe},
		{playbooks.StepDisable, playbooks.StepProbe, playbooks.StepEndSessions, playbooks.StepRevoke},
		{playbooks.StepNotice, playbooks.StepDisable, playbooks.StepProbe, playbooks.StepIssue, playbooks.StepDistribute, playbooks.StepWaitCutover, playbooks.StepRevoke},
	},
	playbooks.ReissueFirst: {
		{playbooks.StepIssue, playbooks.StepDistribute, playbooks.StepProbeNew, playbooks.StepWaitCutover, playbooks.StepNotice, playbooks.StepDisable, playbooks.StepEndSessions, playbooks.StepProbe},
		{playbooks.StepIssue, playbooks.StepDistribute, playbooks.StepDisable, playbooks.StepProbe, playbooks.StepWaitCutover, playbooks.StepNotice, playbooks.StepRevoke},
	},
	playbooks.DisableAndWatch: {
		{playbooks.StepDisable, playbooks.StepEndSessions, playbooks.StepProbe, playbooks.StepWaitQuiet},
		{playbooks.StepIssue, playbooks.StepDistribute, playbooks.StepNotice, playbooks.StepWaitCutover, playbooks.StepDisable, playbooks.StepProbe, playbooks.StepWaitQuiet, playbooks.StepRevoke},
	},
}

// anyStory makes a wave with n rows of some kinds, with everything that can happen to
// them.
func anyStory(t *testing.T, seed uint64, n int) *story {
	rng := rand.New(rand.NewPCG(seed, 17))
	pick := func(ds ...time.Duration) time.Duration { return ds[rng.IntN(len(ds))] }
	strategies := []playbooks.StrategyName{playbooks.RevokeNow, playbooks.ReissueFirst, playbooks.DisableAndWatch}
	s := &story{t: t, size: 1 + rng.IntN(50)}
	s.f = &page.Facts{
		Incident: "inc-1", Prefix: "wave/1", Strategy: strategies[rng.IntN(3)], Kinds: map[string]page.Kind{}, K: 1 + rng.IntN(4), Span: pick(0, time.Second, 30*time.Second, 2*time.Minute),
		Vantages: rng.IntN(4), Quiet: pick(time.Minute, 24*time.Hour), Gated: rng.IntN(2) == 0,
	}
	s.f.Steps = map[playbooks.StrategyName][]page.Step{}
	for _, name := range strategies {
		switch n := rng.IntN(4); {
		case n == 0: // what is not there has the standard steps
		case n == 1:
			s.f.Steps[name] = own[name][rng.IntN(len(own[name]))]
		default:
			s.f.Steps[name] = name.StandardSteps()
		}
	}
	if s.f.Strategy == playbooks.ReissueFirst {
		s.f.Cutoff = t0.Add(pick(10*time.Minute, 6*time.Hour, 72*time.Hour)).Add(time.Duration(rng.IntN(1e9)))
	}
	if rng.IntN(8) > 0 {
		s.voted = t0.Add(pick(0, time.Minute, 30*time.Hour))
	}
	for i := range 3 {
		k := page.Kind{
			Propagation: pick(0, 4*time.Second, 15*time.Second, 90*time.Second), SessionsOutlive: rng.IntN(2) == 0,
			Places: map[string][]string{"prod": []string{"eu", "us", "ap"}[:rng.IntN(4)]},
		}
		for _, v := range all {
			switch rng.IntN(30) {
			case 0:
			case 1:
				k.Human = append(k.Human, v)
			default:
				k.API = append(k.API, v)
			}
		}
		s.f.Kinds[fmt.Sprintf("awsiam/kind%d", i)] = k
	}
	for i := range n {
		s.rows = append(s.rows, anySubject(s, seed, i))
	}
	slices.SortFunc(s.rows, func(a, b *subject) int { return strings.Compare(a.row.FP, b.row.FP) })
	return s
}

func anySubject(s *story, seed uint64, i int) *subject {
	rng := rand.New(rand.NewPCG(seed, uint64(i)+1000))
	r := &subject{
		rng: rng, stores: map[string]string{}, always: map[activities.Verb]activities.Class{}, denied: map[activities.Verb]bool{},
		blind: map[string]bool{}, journals: map[string][]record{},
	}
	r.row = page.Row{
		Provider: "awsiam", Account: "prod", Kind: fmt.Sprintf("kind%d", rng.IntN(3)), FP: fmt.Sprintf("fp1_%016x%04d", rng.Uint64(), i), ID: fmt.Sprintf("AK%d", i),
		Strategy: string(s.f.Strategy), Adopt: r.chance(0.7), Roles: []string{"deploy"},
	}
	r.prop = s.f.Kinds["awsiam/"+r.row.Kind].Propagation
	if r.chance(0.5) {
		r.row.Secret = "sealed/" + r.row.ID
	}
	if r.chance(0.7) {
		r.row.Owner = "team"
	}
	if r.row.Adopt {
		for d := range rng.IntN(4) {
			r.row.Dependents = append(r.row.Dependents, page.Dependent{ID: fmt.Sprint("d", d)})
			move := r.span(96 * time.Hour)
			if r.chance(0.2) {
				move = -1
			}
			r.moves = append(r.moves, move)
		}
		for d := range (1 + rng.IntN(8)) / 3 {
			r.row.Stores = append(r.row.Stores, page.Store{Target: "awssm", Name: fmt.Sprint("s", d)})
		}
	}
	if r.chance(0.6) {
		r.wrong, r.faults = []float64{0.05, 0.3, 0.9}[rng.IntN(3)], 1+rng.IntN(25)
	}
	if r.chance(0.1) {
		r.survives = [][]activities.Verb{{activities.Disable}, {activities.Disable, activities.Revoke}}[rng.IntN(2)]
	}
	if r.chance(0.05) {
		r.always[all[rng.IntN(len(all))]] = []activities.Class{activities.ClassTransient, activities.ClassThrottled, activities.ClassUnclear}[rng.IntN(3)]
	}
	if r.chance(0.05) {
		r.blind[[]string{"*", "eu", "us", ""}[rng.IntN(4)]] = true
	}
	if r.chance(0.1) {
		r.revived = t0.Add(r.span(30 * time.Hour))
	}
	r.foreign, r.badNew = r.chance(0.15), r.chance(0.05)
	for range max(0, rng.IntN(7)-3) {
		r.orders = append(r.orders, anyOrder(r))
	}
	slices.SortStableFunc(r.orders, func(a, b order) int { return a.at.Compare(b.at) })
	return r
}

func anyOrder(r *subject) order {
	o := order{at: t0.Add(r.span([]time.Duration{2 * time.Minute, 2 * time.Hour, 80 * time.Hour}[r.rng.IntN(3)]))}
	o.FPs = []string{r.row.FP}
	if r.chance(0.1) {
		o.FPs, o.All = nil, true
	}
	kinds := []string{page.OrderHold, page.OrderHold, page.OrderRelease, page.OrderRelease, page.OrderRelease, page.OrderPromote, page.OrderPromote, page.OrderAttest, page.OrderTold, page.OrderOverride, page.OrderForget, page.OrderResolve, page.OrderPull, page.OrderAccept}
	switch o.Kind = kinds[r.rng.IntN(len(kinds))]; o.Kind {
	case page.OrderAccept:
		o.As, o.Actor, o.Text, o.Until = "accepted-risk", "alice", "retired next week", o.at.Add(48*time.Hour)
	case page.OrderPull:
		o.Text = "reported by itself"
	}
	return o
}
