package engine

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"rekey/activities"
	"rekey/workflows"
)

// keyFacts of an id in the estate of this file.
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
