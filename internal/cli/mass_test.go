package cli

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/internal/view"
)

// large is an incident of one item and 100,000 rows.
func large(dead, ended int) view.Incident {
	v := view.Incident{
		ID: "inc-7f3a9c2e41d0", State: "open", Phase: "act", Severity: "critical", Truncated: true,
		Items:  []view.Item{{FP: "fp1_a", Short: "a41c09be77d2", KeyID: "AKIA1", Death: view.Death{State: "dead"}, EndState: "revoked-verified"}},
		Totals: view.Totals{Items: 100_001, Open: 100_000 - ended, ByEndState: map[string]int{}},
		Mass: &view.Mass{
			Items: 100_000, Open: 100_000 - ended, Dead: dead, ByDeath: map[string]int{"dead": dead, "disabled": 7}, ByAdoption: map[string]int{"adopted": 300, "not-wanted": 20, "waiting": 700},
			Waves: []view.MassWave{{N: 3, Items: 25_000, Open: 25_000 - ended, Dead: dead, ETAMs: 3_600_000, Started: "2026-11-21T03:00:00.000Z"}},
			Left:  []view.MassLeft{{Strategy: "notify-only", Items: 400, Task: "h0-1"}, {Strategy: "hold", Items: 3, EndState: "accepted-risk"}},
		},
	}
	return v
}

func TestALargeIncidentIsCountedAsAWhole(t *testing.T) {
	v := large(40_000, 0)
	require.Equal(t, "NOT CONTAINED: 40001 of 100001 keys proven dead", verdict(v))
	require.Equal(t, measure{40_001, 100_001, "proven dead"}, measureOf(v, "act"))
	require.Equal(t, measure{300, 1000, "adopted"}, measureOf(v, "verify"))
	require.Equal(t, measure{1, 100_001, "in an end state"}, measureOf(v, "close"))
	require.Equal(t, measure{100_000, 100_000, "read"}, measureOf(v, "scope"))
	v.Mass.Reading = 30_000
	require.Equal(t, measure{70_000, 100_000, "read"}, measureOf(v, "scope"))
	text := states(v, false)
	require.Contains(t, text, "40001 dead, 7 disabled, 59993 alive")
	require.Contains(t, text, "300 adopted, 700 waiting, 20 not-wanted")
	require.NotContains(t, text, "the first")

	v.Mass = nil
	require.Equal(t, measure{}, measureOf(v, "act"), "without counts nothing is known of the others")
	require.Contains(t, verdict(v), "100000 of 100001 items open")
	require.Contains(t, states(v, false), "the first 1 items")
}

func TestShowOfALargeIncident(t *testing.T) {
	at := time.Date(2026, 11, 21, 3, 20, 0, 0, time.UTC)
	text := shower{p: false, now: at, v: large(20_000, 5_000)}.text()
	require.Contains(t, text, "Items (100001)")
	for _, want := range []string{"wave 3", "25000 items", "20000 proven dead", "20000 open", "about 40m by the plan", "notify-only", "400 items", "h0-1", "accepted-risk", "100000 items in pages, one by one: rekey incident items inc-7f3a9c2e41d0 --all"} {
		require.Contains(t, text, want)
	}
	v := large(20_000, 5_000)
	v.Mass.Reading = 2
	text = shower{p: false, now: at.Add(time.Hour), v: v}.text()
	require.Contains(t, text, "20m longer than planned")
	require.Contains(t, text, "2 items are still being read")
}

func TestPace(t *testing.T) {
	at := time.Date(2026, 11, 21, 3, 0, 0, 0, time.UTC)
	var p pace
	see := func(after time.Duration, dead, ended int) string {
		v := large(dead, ended)
		p.see(v, at.Add(after))
		return p.says(v)
	}
	require.Equal(t, "1 of 100001 proven dead", see(0, 0, 0))
	require.Equal(t, "101 of 100001 proven dead", see(2*time.Second, 100, 0), "two seconds tell no pace")
	require.Equal(t, "1001 of 100001 proven dead, 100 a second: about 16m30s for the rest at this pace", see(10*time.Second, 1000, 0))
	for s := 11; s <= 70; s++ {
		require.Contains(t, see(time.Duration(s)*time.Second, 1000, 0), "proven dead, ", "the pace goes down as time goes")
	}
	for s := 71; s <= 200; s++ {
		see(time.Duration(s)*time.Second, 1000, 0)
	}
	require.Equal(t, "1001 of 100001 proven dead, no progress for 3m10s", see(200*time.Second, 1000, 0))
	require.LessOrEqual(t, len(p.seen), 4, "standing still is remembered by its begin and now")
	require.Equal(t, "1002 of 100001 proven dead, 29 an hour: about 143d5h for the rest at this pace", see(325*time.Second, 1001, 0))

	p = pace{}
	see(0, 100_000, 10)
	require.Equal(t, "3001 of 100001 in an end state, 50 a second: about 32m26s for the rest at this pace", see(time.Minute, 100_000, 3000), "when all are dead it is ends that count")
	v := large(100_000, 100_000)
	p.see(v, at.Add(2*time.Minute))
	require.Empty(t, p.says(v))
	v.Mass = nil
	require.Empty(t, p.says(v), "a small incident is shown item by item")
	require.Empty(t, (&pace{}).says(large(0, 0)))
}

func TestWatchSaysThePaceOfALargeIncident(t *testing.T) {
	var out bytes.Buffer
	at := time.Date(2026, 11, 21, 3, 0, 0, 0, time.UTC)
	io := IOStreams{Now: func() time.Time { return at }}
	l := &lineProgress{io: io, out: &out}
	for n := range 70 {
		require.NoError(t, l.show(large(n*100, 0), nil))
		at = at.Add(time.Second)
	}
	require.Equal(t, 3, strings.Count(out.String(), "proven dead"), "at the begin, and twice a minute: %s", out.String())
	require.Contains(t, out.String(), "100 a second")
	lines := frame(large(500, 0), at, false, 120, 40, "501 of 100001 proven dead")
	require.Contains(t, strings.Join(lines, "\n"), "501 of 100001 proven dead")
}

// Of a large incident the command line does not read every page to find a key: the
// incident knows its rows, and names that stand for many.
func TestItemsOfALargeIncidentAreNamedAsTheyAre(t *testing.T) {
	got, err := resolveItems(context.Background(), nil, large(0, 0), []string{"a41c09be77d2", "wave/3", "all", "AKIAOTHER"})
	require.NoError(t, err)
	require.Equal(t, []string{"fp1_a", "wave/3", "all", "AKIAOTHER"}, got)
}
