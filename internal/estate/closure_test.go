package estate_test

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"rekey/activities"
	"rekey/internal/estate"
	"rekey/internal/estate/estatetest"
	"rekey/workflows"
)

// given is an item as a report has it.
func given(t testing.TB, e *estate.Estate, id string, places ...string) estate.From {
	t.Helper()
	key := activities.Key{Provider: "lab", Account: "prod", Kind: "key", ID: id}
	if k, ok := e.Key(id); ok {
		key.Provider, key.Account, key.Kind = k.Provider, k.Account, k.Kind
		if k.SPKI != "" {
			key.FP = "spki_" + k.SPKI
		}
	}
	if key.FP == "" {
		var err error
		key.FP, err = fingers(t).Public(key.Provider, key.Account, key.Kind, id)
		require.NoError(t, err)
	}
	return estate.From{Item: workflows.Scoped{Key: key, Basis: "report", Why: "reported by test"}, Places: places}
}

// closure gives what is yielded, and holds it to what is always so.
func closure(t testing.TB, e *estate.Estate, steps int, from ...estate.From) ([]workflows.Scoped, estate.Summary) {
	t.Helper()
	var out []workflows.Scoped
	sum, err := e.Closure(from, steps, now, func(s workflows.Scoped) bool {
		out = append(out, s)
		return true
	})
	require.NoError(t, err)
	for i := 1; i < len(out); i++ {
		require.Less(t, out[i-1].Key.FP, out[i].Key.FP, "in order, each once")
	}
	require.Len(t, out, sum.Observed)
	require.GreaterOrEqual(t, sum.Reachable, sum.Observed)
	return out, sum
}

func names(items []workflows.Scoped) []string {
	var out []string
	for _, s := range items {
		out = append(out, s.Key.ID)
	}
	slices.Sort(out)
	return out
}

func TestClosureAgainstAnOracle(t *testing.T) {
	seeds := 60
	if testing.Short() {
		seeds = 10
	}
	reached, most := 0, 0
	for seed := range uint64(seeds) {
		n, m := tangled(t, seed)
		reached, most = reached+n, max(most, m)
	}
	require.Greater(t, reached, 20*seeds, "graphs in which nothing leads anywhere prove nothing")
	require.Greater(t, most, 3, "some ways are long")
}

// tangled compares one random estate and says how many items were reached, and in how
// many steps the farthest.
func tangled(t *testing.T, seed uint64) (reached, farthest int) {
	t.Helper()
	gen := estatetest.Tangled(60, seed)
	e := written(t, gen, "estate.jsonl")
	r := rand.New(rand.NewPCG(seed, 99))
	o := &oracle{f: gen.File(), now: now, seen: map[string][]string{}}
	var from []estate.From
	for range 1 + r.IntN(3) {
		id := gen.ID(r.IntN(66)) // some are not listed
		if slices.ContainsFunc(o.from, func(other string) bool { return o.item(other) == o.item(id) }) {
			continue
		}
		var places []string
		for _, p := range []string{fmt.Sprintf("snapshot/s-%d", r.IntN(4)), fmt.Sprintf("host/h-%d-%d@2026-01-%02dT00:00:00Z", r.IntN(2), r.IntN(10), 1+r.IntN(28)), "slack/T1/C1"} {
			if r.IntN(3) == 0 {
				places = append(places, p)
			}
		}
		o.from, o.seen[id] = append(o.from, id), places
		from = append(from, given(t, e, id, places...))
	}
	want := o.steps()
	limit := r.IntN(6) - 1
	got, sum := closure(t, e, limit, from...)
	again, _ := closure(t, e, limit, from...)
	require.Equal(t, got, again, "the same each time")
	slices.Reverse(from)
	turned, _ := closure(t, e, limit, from...)
	require.Equal(t, got, turned, "in whatever order the items are given")

	ids := map[string]string{} // item -> id
	short := map[string]string{}
	for _, s := range got {
		ids[o.item(s.Key.ID)], short[s.Key.Short()] = s.Key.ID, o.item(s.Key.ID)
	}
	count := map[string]int{}
	observed := len(from)
	for item, steps := range want {
		if steps == 0 {
			require.Contains(t, ids, item)
			continue
		}
		state := o.state(item)
		within := limit < 0 || steps <= limit
		if state == "live" || within {
			count[state]++
		}
		farthest = max(farthest, steps)
		inside := state == "live" && within
		require.Equal(t, inside, ids[item] != "", "seed %d: %s is %s, %d steps away", seed, item, state, steps)
		if inside {
			observed++
		}
	}
	require.Equal(t, observed, sum.Observed, "seed %d", seed)
	require.Equal(t, len(from)+count["live"], sum.Reachable, "seed %d", seed)
	require.Equal(t, count["retired"], sum.Retired, "seed %d", seed)
	require.Equal(t, count["unlisted"], sum.Unlisted, "seed %d", seed)

	for _, s := range got {
		item := o.item(s.Key.ID)
		require.NotEmpty(t, ids[item], "seed %d", seed)
		if want[item] == 0 {
			require.Equal(t, "report", s.Basis)
			require.Zero(t, s.Depth)
			continue
		}
		require.Equal(t, "estate", s.Basis)
		require.Equal(t, want[item], s.Depth, "seed %d: a shortest way to %s", seed, item)
		o.checkWhy(t, e, s, want)
	}
	return len(got), farthest
}

var whyForm = regexp.MustCompile(`^(?:made from (.+)|(?:kept at|in) (.+?)(?:, (\S+) as of (\S+)|( as of \S+)|)(?: \(since when is not on record\))?, (?:as (.+)|where a report saw a copy of (.+)|which (.+) opens))$`)

// checkWhy holds the reason to be a way that is there, from a key one step nearer.
func (o *oracle) checkWhy(t *testing.T, e *estate.Estate, s workflows.Scoped, steps map[string]int) {
	t.Helper()
	m := whyForm.FindStringSubmatch(s.Why)
	require.NotNil(t, m, "%q", s.Why)
	why, who := "made", m[1]
	for i, name := range []string{"kept", "named", "opened"} {
		if m[6+i] != "" {
			why, who = name, m[6+i]
		}
	}
	place := m[2]
	if m[5] != "" { // "kept at PLACE as of TIME"
		place += "@" + strings.TrimPrefix(m[5], " as of ")
	}
	before := o.everything()
	before = append(before, o.from...)
	for _, a := range before {
		a = o.item(a)
		if n, ok := steps[a]; !ok || n != s.Depth-1 {
			continue
		}
		name, listed := strings.CutSuffix(who, ", which is not listed")
		if listed && a != name || !listed && given(t, e, o.ids(a)[0]).Item.Key.Short() != who {
			continue
		}
		if slices.Contains(o.ways(a, o.item(s.Key.ID)), way{why, place}) {
			return
		}
	}
	require.Fail(t, "no such way", "%s: %s", s.Key.ID, s.Why)
}

// written loads an estate that is made.
func written(t testing.TB, gen estatetest.Estate, name string) *estate.Estate {
	t.Helper()
	estates, customers, err := gen.Files(t.TempDir(), name)
	require.NoError(t, err)
	e, err := estate.Load(estates, customers, fingers(t))
	require.NoError(t, err)
	return e
}

func TestClosureStepByStep(t *testing.T) {
	e := load(t, world)
	for name, row := range map[string]struct {
		id   string
		want map[string]string
	}{
		"what is kept beside it, and its children, once each": {"A", map[string]string{"B": "kept at vault/shared, as ", "C": "kept at vault/shared, as "}},
		"a registered copy leads on":                          {"D", map[string]string{"A": "kept at laptop, as "}},
		"nothing":                                             {"E", nil},
		"an unknown key":                                      {"Z", nil},
	} {
		t.Run(name, func(t *testing.T) {
			from := given(t, e, row.id)
			from.Item.Depth = 2
			got, _ := closure(t, e, 1, from)
			require.Len(t, got, 1+len(row.want))
			for _, s := range got {
				if s.Key.ID == row.id {
					require.Equal(t, "report", s.Basis)
					continue
				}
				require.Equal(t, row.want[s.Key.ID]+from.Item.Key.Short(), s.Why)
				require.Equal(t, 3, s.Depth)
				require.Equal(t, "estate", s.Basis)
				require.Equal(t, given(t, e, s.Key.ID).Item.Key, s.Key)
			}
		})
	}
	children := load(t, "keys:\n  - {id: A, provider: p, account: a, kind: k}\n  - {id: B, provider: p, account: a, kind: k, parent: A}\n")
	got, _ := closure(t, children, 1, given(t, children, "A"))
	require.Len(t, got, 2)
	require.Contains(t, []string{got[0].Why, got[1].Why}, "made from "+given(t, children, "A").Item.Key.Short())
}

func TestClosureStopsAndCountsWhenAsked(t *testing.T) {
	e := written(t, estatetest.Whole(300, 1), "estate.yaml")
	from := []estate.From{given(t, e, estatetest.KeyID(7))}
	n := 0
	sum, err := e.Closure(from, estate.Unlimited, now, func(workflows.Scoped) bool { n++; return n < 5 })
	require.NoError(t, err)
	require.Equal(t, 5, n)
	require.Equal(t, 300, sum.Reachable)
	counted, err := e.Closure(from, estate.Unlimited, now, nil)
	require.NoError(t, err)
	require.Equal(t, sum, counted)
	none, sum := closure(t, e, estate.Unlimited)
	require.Empty(t, none)
	require.Equal(t, estate.Summary{}, sum)
	twice, _ := closure(t, e, 0, from[0], from[0])
	require.Len(t, twice, 1)

	unread, err := estate.Load(nil, nil, nil)
	require.NoError(t, err)
	_, err = unread.Closure(from, 1, now, nil)
	require.ErrorContains(t, err, "installation key")
}

func TestWhatIsNotListedIsSaid(t *testing.T) {
	e := load(t, `
keys:
  - {id: A, provider: lab, account: prod, kind: key}
  - {id: OLD, provider: lab, account: prod, kind: key, retired: 2026-01-01}
  - {id: CHILD, provider: lab, account: prod, kind: key, parent: OLD}
  - {id: BESIDE, provider: lab, account: prod, kind: key}
  - {id: BEHIND, provider: lab, account: prod, kind: key}
copies:
  - {key: A, where: v, registered: true}
  - {key: OLD, where: v, registered: true}
  - {key: OLD, where: w, registered: true}
  - {key: BESIDE, where: w, registered: true}
  - {key: STRANGER, where: v, registered: true}
  - {key: STRANGER, where: x, registered: true}
  - {key: BEHIND, where: x, registered: true}
`)
	got, sum := closure(t, e, estate.Unlimited, given(t, e, "A"))
	require.Equal(t, []string{"A", "BEHIND", "CHILD"}, names(got), "a retired key leads to what it made alone, one that may be live to everything")
	require.Equal(t, 1, sum.Retired)
	require.Equal(t, 1, sum.Unlisted)
	require.Equal(t, []activities.Unseen{
		{Source: "estate", Why: "1 keys that this leads to are retired, as the estate files say: no provider was asked about them"},
		{Source: "estate", Why: "1 keys that this leads to are not listed under keys of the estate files, and may be live (STRANGER): list them"},
	}, sum.Unseen)
	for _, s := range got {
		if s.Key.ID == "BEHIND" {
			require.Equal(t, "kept at x, as STRANGER, which is not listed", s.Why)
		}
	}
	old, _ := closure(t, e, 1, given(t, e, "OLD"))
	require.Equal(t, []string{"A", "BESIDE", "CHILD", "OLD"}, names(old), "a reported key is in question whatever the estate says")
}
