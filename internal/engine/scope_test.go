package engine

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"rekey/activities"
	"rekey/workflows"
)

// seed is an item an id in the estate of this file.
func seed(t *testing.T, id string) workflows.Scoped {
	t.Helper()
	fp, err := fingers(t).Public("awsiam", "prod", "k", id)
	require.NoError(t, err)
	return workflows.Scoped{Key: activities.Key{FP: fp, Provider: "awsiam", Account: "prod", Kind: "k", ID: id}, Basis: "report"}
}

func keysYAML(parents map[string]string, ids ...string) string {
	out := "keys:\n"
	for _, id := range ids {
		out += fmt.Sprintf("  - {id: %s, provider: awsiam, account: prod, kind: k, owner: o, parent: %q}\n", id, parents[id])
	}
	return out
}

func TestExpand(t *testing.T) {
	chain := keysYAML(map[string]string{"B": "A", "C": "B", "D": "C"}, "A", "B", "C", "D")
	cycle := keysYAML(map[string]string{"A": "C", "B": "A", "C": "B"}, "A", "B", "C")
	self := keysYAML(map[string]string{"A": "A"}, "A")
	place := keysYAML(nil, "A", "B") + "copies:\n  - {key: A, where: v, registered: true}\n  - {key: B, where: v, registered: true}\n"
	for name, row := range map[string]struct {
		estate    string
		from      []string
		ids       []string
		reachable int
	}{
		"one step, and all that lies behind": {chain, []string{"A"}, []string{"A", "B"}, 4},
		"the next round":                     {chain, []string{"A", "B"}, []string{"A", "B", "C"}, 4},
		"the end of the chain":               {chain, []string{"D"}, []string{"D"}, 1},
		"a cycle ends":                       {cycle, []string{"A"}, []string{"A", "B"}, 3},
		"a whole cycle is closed":            {cycle, []string{"A", "B", "C"}, []string{"A", "B", "C"}, 3},
		"its own parent":                     {self, []string{"A"}, []string{"A"}, 1},
		"two kept at one place":              {place, []string{"B"}, []string{"A", "B"}, 2},
		"unknown to the estate":              {chain, []string{"Z"}, []string{"Z"}, 1},
		"nothing":                            {chain, nil, nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			e := New(Options{Estate: estateOf(t, row.estate, "[]")})
			var in workflows.ExpandInput
			given := map[string]bool{}
			for _, id := range row.from {
				in.Items = append(in.Items, seed(t, id))
				given[id] = true
			}
			out, err := e.Expand(context.Background(), in)
			require.NoError(t, err)
			var ids []string
			for i, s := range out.Items {
				ids = append(ids, s.Key.ID)
				if i > 0 {
					require.Less(t, out.Items[i-1].Key.FP, s.Key.FP, "sorted, each once")
				}
				if s.Key.ID != "Z" {
					require.Equal(t, "o", s.Owner, "described, found ones too")
				}
				if given[s.Key.ID] {
					require.Equal(t, "report", s.Basis)
				} else {
					require.Equal(t, "estate", s.Basis)
					require.Equal(t, 1, s.Depth)
					require.NotEmpty(t, s.Why)
				}
			}
			require.ElementsMatch(t, row.ids, ids)
			require.Equal(t, row.reachable, out.Reachable)
		})
	}
}

// large asks an estate for the mass that items lead to.
func large(t *testing.T, e *Engine, most, depth int, known []string, from ...workflows.Scoped) workflows.ExpandResult {
	t.Helper()
	in := workflows.ExpandInput{Items: from, Large: most, Depth: depth, Known: known}
	out, err := e.Expand(context.Background(), in)
	require.NoError(t, err)
	again, err := e.Expand(context.Background(), in)
	require.NoError(t, err)
	require.Equal(t, out, again)
	return out
}

func idsOf(t *testing.T, e *Engine, part *workflows.MassPart) []string {
	t.Helper()
	if part == nil {
		return nil
	}
	rows := rowsOf(t, e, part.List)
	require.Len(t, rows, part.N)
	var ids []string
	for i, r := range rows {
		require.Equal(t, "estate", r.Basis)
		require.NotEmpty(t, r.Why)
		if i > 0 {
			require.Less(t, rows[i-1].FP, r.FP)
		}
		ids = append(ids, r.ID)
	}
	return ids
}

func TestExpandGivesAMassAsRows(t *testing.T) {
	chain := keysYAML(map[string]string{"B": "A", "C": "B", "D": "C", "E": "D", "F": "E", "A": "F"}, "A", "B", "C", "D", "E", "F") +
		"dependents:\n  - {id: app, keys: [B], owner: team, outage_budget: 60s, cutover: dual, proof: probe}\n" +
		"copies:\n  - {key: B, where: host/1, store: awssm, zone: dirty}\n"
	e := New(Options{Estate: estateOf(t, chain, `[{"ref":"c1","name":"n","keys":["B"]}]`), Blobs: newBlobs()})
	a := seed(t, "A")

	out := large(t, e, 2, 3, nil, a)
	require.ElementsMatch(t, []string{"B", "C", "D"}, idsOf(t, e, out.Mass), "so many steps and no further")
	require.Equal(t, 6, out.Reachable, "what lies behind is counted")
	require.Len(t, out.Items, 1)
	require.Equal(t, "o", out.Items[0].Owner, "the given ones are described")
	for _, r := range rowsOf(t, e, out.Mass.List) {
		require.Equal(t, map[string]int{"B": 1, "C": 2, "D": 3}[r.ID], r.Depth)
		require.Equal(t, "o", r.Owner)
		require.Equal(t, "team", r.OwnerKind)
		if r.ID == "B" {
			require.Equal(t, []string{"c1"}, r.Customers)
			require.Equal(t, []string{"host/1"}, r.Copies)
			require.True(t, *r.StoreDirty)
			require.Equal(t, "app", r.PlanDependents()[0].ID)
			require.EqualValues(t, 60_000, r.PlanDependents()[0].BudgetMs)
		}
	}

	few := large(t, e, 4, 3, nil, a)
	require.Nil(t, few.Mass, "four are not more than four")
	require.Len(t, few.Items, 2, "one step, as ever")
	require.Equal(t, 6, few.Reachable)

	known := []string{out.Mass.List}
	same := large(t, e, 2, 3, known, a)
	require.Nil(t, same.Mass, "nothing is new")
	require.Len(t, same.Items, 1)
	deeper := large(t, e, 2, 4, known, a)
	require.Equal(t, []string{"E"}, idsOf(t, e, deeper.Mass))
	require.Nil(t, large(t, e, 9, 3, known, a).Mass, "all together are few")
	require.NotNil(t, large(t, e, 3, 4, known, a).Mass, "rows that are known count")

	pulled := seed(t, "D")
	pulled.Basis, pulled.Depth = "estate", 3
	require.Nil(t, large(t, e, 2, 3, known, a, pulled).Mass, "a row that has become an item leads no further than it did")
	pulled.Basis = "sweep"
	found := large(t, e, 2, 3, nil, a, pulled)
	require.ElementsMatch(t, []string{"B", "C", "E", "F"}, idsOf(t, e, found.Mass), "one that came from elsewhere does; given ones are no rows")
}

func TestExpandOfAMassSurvivesAFullDisk(t *testing.T) {
	b := newBlobs()
	e := New(Options{Estate: estateOf(t, keysYAML(map[string]string{"B": "A", "C": "B"}, "A", "B", "C"), "[]"), Blobs: b})
	in := workflows.ExpandInput{Items: []workflows.Scoped{seed(t, "A")}, Large: 1, Depth: 5}
	b.left = 1
	_, err := e.Expand(context.Background(), in)
	require.ErrorContains(t, err, "disk full")
	b.left = -1
	out, err := e.Expand(context.Background(), in)
	require.NoError(t, err)
	require.Equal(t, 2, out.Mass.N)
	in.Known = []string{"sha256:00"}
	_, err = e.Expand(context.Background(), in)
	require.Error(t, err)
}

func TestExpandGoesToPlacesThatReportsName(t *testing.T) {
	text := keysYAML(map[string]string{"D": "C"}, "A", "B", "C", "D") + `copies:
  - {key: B, where: db, from: 2026-01-01, until: 2026-02-01}
  - {key: C, where: db, from: 2026-02-01}
snapshots:
  - {id: S, of: db, at: 2026-01-31}
places:
  - {where: db, known_from: 2026-02-10}
`
	e := New(Options{Estate: estateOf(t, text, "[]")})
	a := seed(t, "A")
	in := workflows.ExpandInput{Items: []workflows.Scoped{a}, Now: now, Reported: map[string][]string{a.Key.FP: {"snapshot/S", "db@2026-02-05", "snapshot/T"}}}
	one, err := e.Expand(context.Background(), in)
	require.NoError(t, err)
	var ids []string
	for _, s := range one.Items {
		ids = append(ids, s.Key.ID)
	}
	require.ElementsMatch(t, []string{"A", "B", "C"}, ids)
	require.Equal(t, 4, one.Reachable)
	require.Equal(t, []activities.Unseen{{Source: "estate", Why: "what snapshot/T held is unknown: no `snapshots` entry of the estate files names it"}}, one.Unseen)
	require.Len(t, one.Dark, 1)
	in.Depth, in.Items = 3, one.Items
	again, err := e.Expand(context.Background(), in)
	require.NoError(t, err)
	require.Equal(t, one.Unseen, again.Unseen)
	require.Equal(t, one.Dark, again.Dark, "the same in each round")
	require.Len(t, again.Items, 4)

	e = New(Options{Estate: estateOf(t, text, "[]"), Blobs: newBlobs()})
	in.Items, in.Large, in.Depth = []workflows.Scoped{a}, 1, 2
	rows, err := e.Expand(context.Background(), in)
	require.NoError(t, err)
	require.ElementsMatch(t, []string{"B", "C", "D"}, idsOf(t, e, rows.Mass))
	require.Equal(t, one.Unseen, rows.Unseen)
	require.Equal(t, one.Dark, rows.Dark)
}
