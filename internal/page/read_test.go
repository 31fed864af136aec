package page_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/activities"
	"rekey/internal/page"
	"rekey/internal/view"
)

func TestReadingOfTheScope(t *testing.T) {
	read := activities.Attempt{Outcome: activities.Done, Inspect: &activities.InspectResult{Principal: "ci", Roles: []string{"deploy"}, Owner: "é\u2028"}}
	throttled := activities.Attempt{Outcome: activities.Unclear, Class: activities.ClassThrottled, AfterMs: 90_000}
	slow := activities.Attempt{Outcome: activities.Unclear, Class: activities.ClassThrottled}
	transient := activities.Attempt{Outcome: activities.Unclear, Class: activities.ClassTransient, Detail: "no route"}
	unclear := activities.Attempt{Outcome: activities.Unclear, Class: activities.ClassUnclear, Detail: "no answer"}
	half := unclear
	half.Inspect = &activities.InspectResult{Principal: "half", Unseen: []activities.Unseen{{Source: "uses", Why: "no answer"}}}
	denied := activities.Attempt{Outcome: activities.Denied, Class: activities.ClassDenied, Detail: "denied", Permission: "iam:ListAccessKeys"}
	tests := map[string]struct {
		answers   []activities.Attempt
		principal string
		unseen    string
		took      time.Duration
	}{
		"read at once":                     {answers: []activities.Attempt{read}, principal: "ci"},
		"not before it may":                {answers: []activities.Attempt{throttled, throttled, read}, principal: "ci", took: 3 * time.Minute},
		"slower and slower":                {answers: []activities.Attempt{slow, slow, slow, read}, principal: "ci", took: 14 * time.Second},
		"a failure is repeated":            {answers: []activities.Attempt{transient, unclear, read}, principal: "ci", took: 6 * time.Second},
		"what fails for long is unseen":    {answers: []activities.Attempt{transient, unclear, transient}, unseen: "no route", took: 6 * time.Second},
		"half a reading is better than no": {answers: []activities.Attempt{half, half, half}, principal: "half", unseen: "no answer", took: 6 * time.Second},
		"denied: it says by which right":   {answers: []activities.Attempt{denied}, unseen: "denied"},
	}
	f := page.Facts{Scope: true, Since: t0.Add(-time.Hour), Compromised: []string{"AK1"}, Kinds: map[string]page.Kind{"awsiam/key": {API: all}}}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := page.Row{FP: "fp1_1", Provider: "awsiam", Kind: "key", ID: "AK1", Held: true}
			now := t0
			f.Begin(&r, now)
			for i, a := range tt.answers {
				require.Equal(t, activities.Inspect, r.Next.Verb)
				require.Empty(t, r.Next.Gate)
				require.Nil(t, r.Reading)
				f.Obey(&r, []page.Order{{Kind: page.OrderHold, All: true}}, now) // reading moves nothing
				if r.Next.Due.After(now) {
					now = r.Next.Due.Time
				}
				require.True(t, f.Ready(&r, now))
				req := f.Request(&r, now)
				require.Equal(t, f.Since, req.Since)
				require.Equal(t, f.Compromised, req.Compromised)
				require.Equal(t, i+1, req.Attempt)
				f.Advance(&r, a, "scope/1/p1", now)
			}
			require.True(t, r.Next.Over())
			require.Equal(t, tt.took, now.Sub(t0))
			require.Equal(t, tt.principal, r.Principal)
			b, err := page.Encode([]page.Row{r})
			require.NoError(t, err)
			back, err := page.Decode(b)
			require.NoError(t, err)
			res, err := back[0].Read()
			require.NoError(t, err)
			last := tt.answers[len(tt.answers)-1]
			if last.Inspect != nil {
				require.Equal(t, last.Inspect, res)
			} else {
				require.Contains(t, res.Unseen, activities.Unseen{Source: "uses", Why: tt.unseen, Permission: last.Permission})
			}
		})
	}
	t.Run("a kind that cannot be read", func(t *testing.T) {
		r := page.Row{FP: "fp1_1", Provider: "awsiam", Kind: "other"}
		f.Begin(&r, t0)
		require.True(t, r.Next.Over())
		res, err := r.Read()
		require.NoError(t, err)
		require.Equal(t, "uses", res.Unseen[0].Source)
	})
}

func TestAnOpenRowHasAnOwner(t *testing.T) {
	r := page.Row{FP: "fp1_0123456789abcdef", Next: page.Next{Gate: page.GateVotes, Why: page.WhyVotes}}
	require.Equal(t, view.Open{Why: page.WhyVotes, Owner: "commander"}, r.View(3, 3).Open)
	r.Owner = "platform"
	require.Equal(t, "platform", r.View(3, 3).Open.Owner)
	r.Next = page.Next{}
	require.Zero(t, r.View(3, 3).Open)
}

func TestWhatATimeAloneChanges(t *testing.T) {
	due := page.At{Time: t0}
	for name, tt := range map[string]struct {
		next  page.Next
		timed bool
	}{
		"through":                      {page.Next{}, false},
		"a call":                       {page.Next{Verb: activities.Disable}, false},
		"a call later":                 {page.Next{Verb: activities.Disable, Due: due}, false},
		"a wait":                       {page.Next{Due: due, Why: page.WhyQuiet}, true},
		"votes":                        {page.Next{Verb: activities.Revoke, Gate: page.GateVotes, Due: due}, false},
		"held":                         {page.Next{Verb: activities.Revoke, Gate: page.GateHeld}, false},
		"told until the cut-off":       {page.Next{Gate: page.GateNotice, Due: due}, true},
		"told, without a cut-off":      {page.Next{Gate: page.GateNotice}, false},
		"a right until the cut-off":    {page.Next{Verb: activities.Issue, Gate: page.GateHuman, Due: due}, true},
		"a right, however long":        {page.Next{Verb: activities.Disable, Gate: page.GateHuman}, false},
		"they are moved by themselves": {page.Next{Gate: page.GatePull}, false},
	} {
		require.Equal(t, tt.timed, tt.next.Timed(), name)
	}
}
