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
				a := clone(t, r.row)
				s.f.Obey(&a, []page.Order{o.Order}, s.now)
				b := clone(t, a)
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
