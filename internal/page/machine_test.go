package page_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/activities"
	"rekey/internal/page"
	"rekey/playbooks"
)

// Whatever happens to them, rows end by proof, or wait for what is named. The rules are
// in rules_test.go.
func TestRowsOnTheirWay(t *testing.T) {
	stories := uint64(24)
	if testing.Short() {
		stories = 6
	}
	ends, gates, calls := map[string]int{}, map[string]int{}, 0
	for seed := range stories {
		t.Run(fmt.Sprintf("story %d", seed), func(t *testing.T) {
			s := anyStory(t, seed, 60)
			s.play()
			for _, r := range s.rows {
				s.ended(r)
				ends[r.row.End]++
				if g := r.row.Next.Gate; g != "" {
					gates[g]++
				}
				calls += len(r.calls)
			}
			s.counted()
		})
	}
	t.Logf("%d calls, ends %v, gates %v", calls, ends, gates)
	require.Greater(t, ends["revoked-verified"], int(stories)*20, "the stories are about rows that end")
}

// counted checks that no sorting loses or counts anything twice.
func (s *story) counted() {
	var rows []page.Row
	for _, r := range s.rows {
		rows = append(rows, r.row)
	}
	want := page.Count(rows)
	var got page.Tally
	open := 0
	for _, g := range page.Sort(slices.Clone(rows)) {
		require.LessOrEqual(s.t, len(g), page.Size)
		require.True(s.t, slices.IsSortedFunc(g, func(a, b page.Row) int { return strings.Compare(a.FP, b.FP) }))
		for i := range g {
			require.Equal(s.t, g[0].Next, g[i].Next, "rows of a group need the same")
			require.Equal(s.t, g[0].Account, g[i].Account)
			if g[i].End == "" {
				open++
			}
		}
		got.Add(page.Count(g))
	}
	require.Equal(s.t, asText(want), asText(got))
	require.Equal(s.t, open, got.Open())
	require.Equal(s.t, len(rows), got.Items)
}

func asText(t page.Tally) string { return fmt.Sprintf("%+v", t) }

// What becomes of a row does not depend on the page it is in.
func TestPagesDoNotMatter(t *testing.T) {
	for seed := range uint64(6) {
		var want []string
		for _, size := range []int{1, 7, 500} {
			s := anyStory(t, seed, 40)
			s.size = size
			s.play()
			var got []string
			for _, r := range s.rows {
				got = append(got, asJSON(t, r.row))
			}
			if want == nil {
				want = got
			}
			require.Equal(t, want, got, "pages of %d rows", size)
		}
	}
}

// An order that is obeyed again, because the answer of a sorting was lost, changes
// nothing any more.
func TestSortingTwiceIsSortingOnce(t *testing.T) {
	for seed := range uint64(20) {
		s := anyStory(t, seed, 20)
		s.play()
		for _, r := range s.rows {
			for range 20 {
				o := anyOrder(r)
				if o.Kind == page.OrderResolve {
					continue // it is about what was asked before
				}
				a := clone(r.row)
				s.f.Obey(&a, []page.Order{o.Order}, s.now)
				b := clone(a)
				s.f.Obey(&b, []page.Order{o.Order}, s.now)
				require.Equal(t, asJSON(t, a), asJSON(t, b), o.Kind)
			}
		}
	}
}

// quiet is one row of a kind with everything, without faults.
func quiet(t *testing.T, name playbooks.StrategyName, change func(*story, *subject)) *story {
	s := &story{t: t, size: 500, voted: t0.Add(time.Second)}
	s.f = &page.Facts{
		Incident: "inc-1", Prefix: "wave/1", Strategy: name, K: 3, Span: 30 * time.Second, Vantages: 2, Quiet: time.Hour, Gated: true,
		Kinds: map[string]page.Kind{"awsiam/kind0": {API: slices.Clone(all), Propagation: 15 * time.Second, SessionsOutlive: true, Places: map[string][]string{"prod": {"eu", "us", "ap"}}}},
	}
	if name == playbooks.ReissueFirst {
		s.f.Cutoff = t0.Add(72 * time.Hour)
	}
	r := anySubject(s, 1, 1)
	r.row = page.Row{
		Provider: "awsiam", Account: "prod", Kind: "kind0", FP: "fp1_0000", ID: "AK1", Secret: "sealed/1", Owner: "team", Adopt: true,
		Dependents: []page.Dependent{{ID: "d0"}}, Stores: []page.Store{{Target: "awssm", Name: "s0"}, {Target: "awssm", Name: "s1"}},
	}
	r.moves, r.faults, r.survives, r.foreign, r.badNew, r.orders, r.revived, r.prop = []time.Duration{90 * time.Second}, 0, nil, false, false, nil, time.Time{}, 15*time.Second
	clear(r.always)
	clear(r.blind)
	r.wrong, r.brisk = 0, true
	if change != nil {
		change(s, r)
	}
	s.rows = []*subject{r}
	return s
}

// Without faults a row costs exactly these calls.
func TestFewestCalls(t *testing.T) {
	const proof = "eu us eu us eu us" // three rounds from two places
	tests := map[string]struct {
		strategy playbooks.StrategyName
		change   func(*story, *subject)
		calls    string
	}{
		"revoke-now":                               {playbooks.RevokeNow, nil, "Disable EndSessions " + proof + " Issue Distribute Distribute new Revoke eu us look look look"},
		"revoke-now, nobody needs a replacement":   {playbooks.RevokeNow, alone, "Disable EndSessions " + proof + " Revoke eu us"},
		"revoke-now without the secret":            {playbooks.RevokeNow, func(s *story, r *subject) { alone(s, r); r.row.Secret = "" }, "Disable EndSessions state state state Revoke state"},
		"revoke-now without Disable":               {playbooks.RevokeNow, func(s *story, r *subject) { alone(s, r); s.without(activities.Disable) }, "Revoke EndSessions " + proof + " eu us"},
		"reissue-first":                            {playbooks.ReissueFirst, func(s *story, r *subject) { s.f.Gated = false }, "Issue Distribute Distribute look look look Disable EndSessions " + proof + " Revoke eu us"},
		"disable-and-watch":                        {playbooks.DisableAndWatch, alone, "Disable EndSessions " + proof + " Revoke eu us"},
		"the probe of the old key is switched off": {playbooks.RevokeNow, func(s *story, r *subject) { alone(s, r); s.f.Trust = true }, "Disable EndSessions Revoke"},
		"k = 1 and no propagation": {playbooks.RevokeNow, func(s *story, r *subject) {
			alone(s, r)
			r.prop, s.f.K, s.f.Span, s.f.Vantages = 0, 1, 0, 1
			s.f.Kinds["awsiam/kind0"] = page.Kind{API: all}
		}, "Disable probe Revoke probe"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := quiet(t, tt.strategy, tt.change)
			s.play()
			r := s.rows[0]
			require.True(t, r.row.Next.Over(), "%+v", r.row.Next)
			require.Equal(t, "revoked-verified", r.row.End)
			require.Equal(t, tt.calls, said(r))
		})
	}
}

// What a fault costs, where items are not moved in the same way (workflows has the test
// of those that are).
func TestCallsAfterFaults(t *testing.T) {
	unclear, late := fault{class: activities.ClassUnclear}, fault{class: activities.ClassUnclear, applied: true}
	noControl := fault{probe: &activities.ProbeResult{Saw: activities.ProbeRefused}}
	alive := fault{probe: &activities.ProbeResult{Saw: activities.ProbeAlive, Control: true}}
	refused := fault{probe: &activities.ProbeResult{Saw: activities.ProbeRefused, Control: true}}
	mismatch := fault{probe: &activities.ProbeResult{Saw: activities.ProbeMismatch, Control: true}}
	const proof, lives = "eu us eu us eu us", "still alive after the provider's yes"
	tests := map[string]struct {
		verb    activities.Verb
		faults  []fault
		without activities.Verb
		calls   string
		pulled  string
	}{
		"Revoke stands for Disable, and did not happen": {activities.Revoke, []fault{unclear, unclear, unclear}, activities.Disable, "Revoke Revoke Revoke EndSessions eu eu Revoke " + proof + " eu us", ""},
		"Revoke stands for Disable, and happened":       {activities.Revoke, []fault{late, late, late}, activities.Disable, "Revoke Revoke Revoke EndSessions " + proof + " Revoke eu us", ""},
		"Revoke is unclear for long":                    {activities.Revoke, slices.Repeat([]fault{unclear}, 9), "", "Disable EndSessions " + proof + strings.Repeat(" Revoke", 10) + " eu us", ""},
		"one vantage point sees nothing once":           {activities.Probe, []fault{refused, noControl}, "", "Disable EndSessions eu us " + proof + " Revoke eu us", ""},
		"blind here, let in there":                      {activities.Probe, []fault{noControl, alive}, "", "Disable EndSessions eu us " + proof + " Revoke eu us", ""},
		"refused twice, then let in: it begins anew":    {activities.Probe, []fault{refused, refused, refused, refused, alive}, "", "Disable EndSessions eu us eu us eu", lives},
		"let in with another secret":                    {activities.Probe, slices.Repeat([]fault{mismatch}, 2), "", "Disable EndSessions eu eu", lives},
		"the look after Revoke is not clear":            {activities.Probe, append(slices.Repeat([]fault{refused}, 6), slices.Repeat([]fault{noControl}, 6)...), "", "Disable EndSessions " + proof + " Revoke eu us eu us eu us", ""},
		"the look after Revoke is clear at last":        {activities.Probe, append(slices.Repeat([]fault{refused}, 6), slices.Repeat([]fault{noControl}, 4)...), "", "Disable EndSessions " + proof + " Revoke eu us eu us eu us", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := quiet(t, playbooks.RevokeNow, func(s *story, r *subject) {
				alone(s, r)
				r.script = map[activities.Verb][]fault{tt.verb: tt.faults}
				s.without(tt.without)
			})
			s.play()
			r := s.rows[0]
			require.Equal(t, tt.calls, said(r))
			if tt.pulled != "" {
				require.Equal(t, page.Next{Gate: page.GatePull, Why: tt.pulled}, r.row.Next)
				return
			}
			require.Equal(t, "revoked-verified", r.row.End)
		})
	}
}

// What was refused before the key was let in does not count: not inside the propagation
// either, where that is no reason to climb.
func TestLetInAmongRefusals(t *testing.T) {
	s := quiet(t, playbooks.RevokeNow, func(s *story, r *subject) {
		alone(s, r)
		s.f.K = 4 // a round each 10 s
		refused := fault{probe: &activities.ProbeResult{Saw: activities.ProbeRefused, Control: true}}
		r.script = map[activities.Verb][]fault{activities.Probe: {refused, refused, {probe: &activities.ProbeResult{Saw: activities.ProbeAlive, Control: true}}}}
	})
	s.play()
	require.Equal(t, "Disable EndSessions eu us eu eu us eu us eu us eu us Revoke eu us", said(s.rows[0]))
}

// An Issue without a key is no Issue.
func TestIssueWithoutAKey(t *testing.T) {
	for name, a := range map[string]activities.Attempt{
		"no key":  {Outcome: activities.Done},
		"not yet": {Outcome: activities.DoneAsync, Issue: &activities.IssueResult{New: activities.KeyState{ID: "NEW"}}},
	} {
		t.Run(name, func(t *testing.T) {
			s := quiet(t, playbooks.ReissueFirst, nil)
			r := &s.rows[0].row
			s.f.Begin(r, t0)
			s.f.Advance(r, activities.Attempt{Outcome: activities.Unclear, Class: activities.ClassUnclear, At: t0}, "p1", t0)
			s.f.Advance(r, a, "p2", t0)
			require.Equal(t, page.GatePull, r.Next.Gate)
			require.Empty(t, r.NewKey)
			require.Equal(t, "p1", r.Effect, "whoever has it next finds what was made")
			token := r.EffectToken
			require.NotEmpty(t, token)
			later := *s.f
			later.Prefix, r.Next = "wave/9.second-life", page.Next{Verb: activities.Issue}
			require.Equal(t, token, later.Request(r, t0).Token, "under the name of the lost one")
		})
	}
}

// Votes are asked for once: a Revoke that was tried is tried again, but not before it may.
func TestRevokeIsTriedAgainWithoutVotes(t *testing.T) {
	s := quiet(t, playbooks.RevokeNow, alone)
	r := &s.rows[0].row
	s.f.Begin(r, t0)
	s.f.Trust = true
	for _, v := range []activities.Verb{activities.Disable, activities.EndSessions} {
		require.Equal(t, v, r.Next.Verb)
		s.f.Advance(r, activities.Attempt{Outcome: activities.Done, At: t0}, "p", t0)
	}
	require.Equal(t, page.Next{Verb: activities.Revoke, Gate: page.GateVotes, Why: page.WhyVotes}, r.Next)
	s.f.Advance(r, activities.Attempt{Outcome: activities.Unclear, Class: activities.ClassThrottled, AfterMs: 60_000, At: t0}, "p", t0)
	for range 2 {
		require.Empty(t, r.Next.Gate)
		require.Equal(t, t0.Add(time.Minute), r.Next.Due.Time)
		s.f.Obey(r, []page.Order{{Kind: page.OrderHold, All: true}}, t0)
		require.Equal(t, page.GateHeld, r.Next.Gate)
		require.Zero(t, r.Next.Due, "its time opens no hold")
		s.f.Obey(r, []page.Order{{Kind: page.OrderRelease, All: true}}, t0)
	}
}

// What a person did by hand is not done again by a call, and is proven like a call.
func TestByHand(t *testing.T) {
	tests := map[string]struct {
		strategy playbooks.StrategyName
		verb     activities.Verb
		calls    string
	}{
		"Disable":     {playbooks.RevokeNow, activities.Disable, "Disable EndSessions eu us eu us eu us Issue Distribute Distribute new Revoke eu us"},
		"EndSessions": {playbooks.RevokeNow, activities.EndSessions, "Disable EndSessions eu us eu us eu us Issue Distribute Distribute new Revoke eu us"},
		"Issue":       {playbooks.RevokeNow, activities.Issue, "Disable EndSessions eu us eu us eu us Issue Revoke eu us"},
		"Distribute":  {playbooks.RevokeNow, activities.Distribute, "Disable EndSessions eu us eu us eu us Issue Distribute new Revoke eu us"},
		"Revoke":      {playbooks.RevokeNow, activities.Revoke, "Disable EndSessions eu us eu us eu us Issue Distribute Distribute new Revoke eu us"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := quiet(t, tt.strategy, nil)
			r := s.rows[0]
			r.denied[tt.verb] = true
			s.now = t0
			s.f.Begin(&r.row, t0)
			for r.row.End == "" {
				switch n := r.row.Next; {
				case n.Gate == page.GateHuman:
					s.now = s.now.Add(time.Hour)
					r.denied[tt.verb] = false
					if kills(tt.verb) {
						r.kill(tt.verb, s.now)
					}
					s.f.Obey(&r.row, []page.Order{{Kind: page.OrderResolve, All: true, Why: n.Why, As: "by-hand", Actor: "alice"}}, s.now)
				default:
					if n.Due.After(s.now) {
						s.now = n.Due.Time
					}
					s.voted = t0
					s.call(r, r.row)
				}
			}
			require.Equal(t, tt.calls, said(r))
			require.Equal(t, 1, r.row.Calls["denied"])
			if tt.verb != activities.Issue {
				require.Equal(t, 1, r.row.Calls["assumed"])
			}
		})
	}
}

// Who is asked to tell owners, and says that it is done, has told them.
func TestResolvedNoticesAreTold(t *testing.T) {
	s := quiet(t, playbooks.ReissueFirst, func(_ *story, r *subject) { r.row.Adopt = false })
	r := &s.rows[0].row
	s.f.Begin(r, t0)
	require.Equal(t, page.Next{Gate: page.GateNotice, Due: page.At{Time: s.f.Cutoff}, Why: page.WhyNotice}, r.Next)
	s.f.Obey(r, []page.Order{{Kind: page.OrderResolve, All: true, Why: "another step"}}, t0)
	require.Equal(t, page.GateNotice, r.Next.Gate)
	require.Equal(t, 1, s.f.Obey(r, []page.Order{{Kind: page.OrderResolve, All: true, Why: page.WhyNotice}}, t0))
	require.Equal(t, page.Next{Verb: activities.Disable}, r.Next)
}

// A round of probes that a hold has cut in two proves nothing: its halves are hours apart.
func TestAHoldInsideARound(t *testing.T) {
	s := quiet(t, playbooks.RevokeNow, alone)
	r := s.rows[0]
	s.now = t0
	s.f.Begin(&r.row, t0)
	for said(r) != "Disable EndSessions eu" {
		if r.row.Next.Due.After(s.now) {
			s.now = r.row.Next.Due.Time
		}
		s.call(r, r.row)
	}
	s.f.Obey(&r.row, []page.Order{{Kind: page.OrderHold, All: true}}, s.now)
	s.now = s.now.Add(5 * time.Hour)
	s.f.Obey(&r.row, []page.Order{{Kind: page.OrderRelease, All: true}}, s.now)
	require.Equal(t, "eu", r.row.Next.Vantage)
	require.Zero(t, r.row.Refusals)
}

// A provider that cannot be asked is told to a person after a quarter of an hour of rounds
// without a clear answer, not of time since the last one.
func TestUnclearProbesForLong(t *testing.T) {
	s := quiet(t, playbooks.DisableAndWatch, func(s *story, r *subject) {
		alone(s, r)
		s.f.Quiet = 10 * time.Hour
		r.script = map[activities.Verb][]fault{activities.Probe: append(slices.Repeat([]fault{{class: activities.ClassTransient}}, 200), fault{class: activities.ClassUnclear})}
	})
	f, r := s.f, s.rows[0]
	s.now = t0
	f.Begin(&r.row, t0)
	for r.row.Next.Gate == "" {
		if r.row.Next.Due.After(s.now) {
			s.now = r.row.Next.Due.Time
		}
		s.call(r, r.row)
	}
	require.Equal(t, page.GateHuman, r.row.Next.Gate)
	require.Contains(t, r.row.Next.Why, "mend the path to awsiam")
	first := r.calls[2].at
	require.GreaterOrEqual(t, s.now.Sub(first), 15*time.Minute)
	require.Less(t, s.now.Sub(first), 17*time.Minute)
	n := len(r.calls)
	// A hold does not open the step, and its end does not either.
	f.Obey(&r.row, []page.Order{{Kind: page.OrderHold, All: true}}, s.now)
	require.Equal(t, page.GateHeld, r.row.Next.Gate)
	f.Obey(&r.row, []page.Order{{Kind: page.OrderRelease, All: true}}, s.now)
	require.Equal(t, page.GateHuman, r.row.Next.Gate)
	clear(r.script)
	f.Obey(&r.row, []page.Order{{Kind: page.OrderResolve, All: true, Why: r.row.Next.Why}}, s.now)
	for r.row.Death != "dead" {
		if r.row.Next.Due.After(s.now) {
			s.now = r.row.Next.Due.Time
		}
		s.call(r, r.row)
	}
	require.Len(t, r.calls, n+6)
	// Hours later one look without an answer is no reason for a person.
	s.now = r.row.Next.Due.Time
	f.Wake(&r.row, s.now)
	require.Equal(t, activities.Revoke, r.row.Next.Verb)
	s.voted = t0
	s.call(r, r.row)
	s.now = r.row.Next.Due.Time
	r.script[activities.Probe] = []fault{{class: activities.ClassUnclear}}
	s.call(r, r.row)
	s.call(r, r.row)
	require.Equal(t, activities.Probe, r.row.Next.Verb)
	require.Empty(t, r.row.Next.Gate)
}

func alone(_ *story, r *subject) {
	r.row.Adopt, r.row.Dependents, r.row.Stores, r.row.Owner, r.moves = false, nil, nil, "", nil
}

func (s *story) without(verbs ...activities.Verb) {
	k := s.f.Kinds["awsiam/kind0"]
	k.API = slices.DeleteFunc(slices.Clone(k.API), func(v activities.Verb) bool { return slices.Contains(verbs, v) })
	s.f.Kinds["awsiam/kind0"] = k
}

// said puts the calls of a row into words.
func said(r *subject) string {
	var out []string
	for _, c := range r.calls {
		switch {
		case c.verb == activities.Inspect:
			out = append(out, "look")
		case c.mode == page.ModeNew:
			out = append(out, "new")
		case c.mode == activities.ProbeState:
			out = append(out, "state")
		case c.verb == activities.Probe && c.vantage == "":
			out = append(out, "probe")
		case c.verb == activities.Probe:
			out = append(out, c.vantage)
		default:
			out = append(out, string(c.verb))
		}
	}
	return strings.Join(out, " ")
}
