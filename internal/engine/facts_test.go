package engine

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/activities"
	"rekey/internal/plan"
	"rekey/playbooks"
	"rekey/workflows"
)

// What could not be read is unknown, never zero: a key that nobody was seen using
// in a log that nobody could read is not idle.
func TestScopeFacts(t *testing.T) {
	const (
		mal, mal24, unk, dep, dark = "scope.malicious_use", "scope.malicious_use_24h", "scope.unknown_use_24h", "scope.dependents_seen_30d", "scope.dark_days_30d"
		none                       = "unknown"
	)
	uses := func(u ...activities.Use) func(*workflows.Scoped) {
		return func(s *workflows.Scoped) { s.Reading.Uses = u }
	}
	bad := func(ago time.Duration, n int64) activities.Use {
		u := use("new", ago, n)
		u.Malicious = true
		return u
	}
	refused := use("new", time.Hour, 4)
	refused.Refused = 4
	unseen := func(source string, u ...activities.Use) func(*workflows.Scoped) {
		return func(s *workflows.Scoped) {
			s.Reading.Uses, s.Reading.Unseen = u, []activities.Unseen{{Source: source}}
		}
	}
	darkFor := func(w ...activities.Window) func(*workflows.Scoped) {
		return func(s *workflows.Scoped) { s.Reading.Dark = w }
	}
	for name, row := range map[string]struct {
		change   func(*workflows.Scoped)
		declared int64
		want     map[string]string
	}{
		"read, and nothing seen":          {func(*workflows.Scoped) {}, 0, map[string]string{mal: "0", mal24: "0", unk: "0", dep: "0", dark: "0"}},
		"never read":                      {func(s *workflows.Scoped) { s.Reading = nil }, 0, map[string]string{mal: none, mal24: none, unk: none, dep: none, dark: "30"}},
		"never read, declared malicious":  {func(s *workflows.Scoped) { s.Reading = nil }, 2, map[string]string{mal: "2", mal24: "2", unk: none, dep: none}},
		"the log of uses is shut":         {unseen("cloudtrail"), 0, map[string]string{mal: none, unk: none, dep: none, dark: "30"}},
		"half a log: what was seen holds": {unseen("uses", bad(time.Hour, 3)), 0, map[string]string{mal: "3", mal24: "3", unk: none, dep: none, dark: "30"}},
		"another source is shut":          {unseen("iam"), 0, map[string]string{mal: "0", dep: "0", dark: "0"}},
		"malicious today and before":      {uses(bad(time.Hour, 2), bad(24*time.Hour, 5)), 0, map[string]string{mal: "7", mal24: "2", unk: "0", dep: "0"}},
		"seen and declared":               {uses(bad(time.Hour, 2)), 3, map[string]string{mal: "5", mal24: "5"}},
		"one that is known":               {uses(use("known", time.Hour, 9)), 0, map[string]string{unk: "0", dep: "1"}},
		"known, and long ago":             {uses(use("known", 30*24*time.Hour, 9)), 0, map[string]string{dep: "0"}},
		"nobody explains it":              {uses(use("unknown", time.Hour, 4)), 0, map[string]string{unk: "4", dep: none}},
		"nobody explains it, last week":   {uses(use("new", 7*24*time.Hour, 4)), 0, map[string]string{unk: "0", dep: none}},
		"all of it refused":               {uses(refused), 0, map[string]string{unk: "4", dep: "0"}},
		"unexplained, of nobody":          {func(s *workflows.Scoped) { s.OwnerKind = "none"; uses(use("new", time.Hour, 4))(s) }, 0, map[string]string{dep: "0"}},
		"told of, not seen":               {func(s *workflows.Scoped) { s.Dependents = []plan.Dependent{{ID: "a"}, {ID: "b"}} }, 0, map[string]string{dep: "2"}},
		"told of, log shut":               {func(s *workflows.Scoped) { s.Reading, s.Dependents = nil, []plan.Dependent{{ID: "a"}} }, 0, map[string]string{dep: "1"}},
		"an hour of dark is a day":        {darkFor(activities.Window{From: now.Add(-2 * time.Hour), To: now.Add(-time.Hour)}), 0, map[string]string{dark: "1"}},
		"dark before the 30 days":         {darkFor(activities.Window{From: now.Add(-90 * day), To: now.Add(-30 * day)}), 0, map[string]string{dark: "0"}},
		"dark across the border":          {darkFor(activities.Window{From: now.Add(-90 * day), To: now.Add(-28 * day)}), 0, map[string]string{dark: "2"}},
		"dark into the future":            {darkFor(activities.Window{From: now.Add(-day), To: now.Add(9 * day)}), 0, map[string]string{dark: "1"}},
		"never more than 30":              {darkFor(activities.Window{From: now.Add(-90 * day), To: now}, activities.Window{From: now.Add(-9 * day), To: now}), 0, map[string]string{dark: "30"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := scoped("a")
			row.change(&s)
			var f playbooks.Facts
			var c census
			c.add(s.Customers)
			c.add([]string{"c1", "c2"})
			c.add([]string{"c2"})
			scopeFacts(&f, s, c.whole(), now, row.declared)
			for fact, want := range row.want {
				require.Equal(t, want, f.Get(fact).String(), fact)
			}
			require.Equal(t, "3", f.Get("scope.items").String())
			require.Equal(t, "2", f.Get("scope.customers").String(), "one who has two keys is told once")
			require.Equal(t, "unknown", f.Get("scope.attacker_reads_store").String())
		})
	}
}
