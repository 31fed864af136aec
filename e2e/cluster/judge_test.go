package cluster

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/internal/view"
)

// judge holds the end of an incident, and what the provider's own log says of its
// keys, to design section 4: idempotent verbs have one effect, and of the keys that
// were made for an item exactly one is alive.
func (c *cluster) judge(t *testing.T, v view.Incident, mine []string) {
	t.Helper()
	require.Equal(t, items, v.Totals.Items)
	require.Equal(t, map[string]int{"revoked-verified": items}, v.Totals.ByEndState, "%v", v.NeedsHuman)
	require.Zero(t, v.Totals.Open)

	o := c.oracle(t)
	effects := map[string]map[string]int{} // action -> key -> calls that changed something
	for _, call := range o.Calls {
		if call.Effect && call.Key != "" {
			if effects[call.Action] == nil {
				effects[call.Action] = map[string]int{}
			}
			effects[call.Action][call.Key]++
		}
	}
	users := usersOf(o, mine)
	require.Len(t, users, items)
	survivors := map[string]string{} // user -> key
	for _, k := range o.Keys {
		switch {
		case slices.Contains(mine, k.ID):
			require.False(t, k.Alive, "%s is alive", k.Alias)
			require.Equal(t, "deleted", k.State, k.Alias)
			require.Equal(t, 1, effects[disable][k.ID], "%s was disabled more than once, or never", k.Alias)
			require.Equal(t, 1, effects[remove][k.ID], "%s was deleted more than once, or never", k.Alias)
		case users[k.User] && k.Alive:
			require.Empty(t, survivors[k.User], "two keys of %s are alive", k.User)
			require.Equal(t, "engine", k.MintedBy)
			survivors[k.User] = k.ID
		case users[k.User]:
			require.Equal(t, "deleted", k.State, "a second key that was made for %s is left behind", k.User)
			require.Equal(t, 1, effects[remove][k.ID])
		}
	}
	require.Len(t, survivors, items, "an item has no replacement")
	for _, h := range v.NeedsHuman {
		require.Equal(t, "lapsed", h.State, "nobody did anything: %s", h.What)
	}
	shown := map[string]bool{}
	for _, i := range v.Items {
		require.Equal(t, "dead", i.Death.State)
		require.NotEmpty(t, i.Death.Grade)
		require.Equal(t, "adopted", i.Adoption.State)
		require.Equal(t, 1, i.Adoption.CutOver, "its dependent was not seen on the new key")
		shown[i.Adoption.NewKeyID] = true
	}
	for user, id := range survivors {
		require.True(t, shown[id], "the key that %s is left with is not the one that the incident names", user)
	}
	for _, d := range o.Dependents {
		if slices.ContainsFunc(mine, func(id string) bool { return d.OnKey == id }) {
			t.Errorf("%s still uses a dead key", d.ID)
		}
	}
}

// silence is the longest time without an effect at the provider that began between
// two moments.
func (c *cluster) silence(t *testing.T, mine []string, from, until time.Time) time.Duration {
	t.Helper()
	o := c.oracle(t)
	users := usersOf(o, mine)
	longest, last := time.Duration(0), from
	for _, call := range o.Calls {
		if !call.Effect || !slices.Contains(mine, call.Key) && !users[call.Target] || !call.At.After(last) {
			continue
		}
		if last.Before(until) {
			longest = max(longest, call.At.Sub(last))
		}
		last = call.At.Time
	}
	return longest
}

// counted tells how many calls had an effect, and how many creates were undone.
func (c *cluster) counted(t *testing.T, mine []string) (calls, undone int) {
	t.Helper()
	o := c.oracle(t)
	users := usersOf(o, mine)
	for _, call := range o.Calls {
		if call.Effect && (slices.Contains(mine, call.Key) || users[call.Target]) {
			calls++
		}
	}
	for _, k := range o.Keys {
		if users[k.User] && !slices.Contains(mine, k.ID) && k.State == "deleted" {
			undone++
		}
	}
	return calls, undone
}
