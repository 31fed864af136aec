package workflows_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestRevokeNowByPolicyToAllClear(t *testing.T) {
	w := newWorld(t)
	w.reported(0, "r1", "AKIA-1", withSecret)
	w.approving("irreversible")
	v := w.run()

	it := of(t, v, "AKIA-1")
	require.Equal(t, "all-clear", v.State)
	require.Equal(t, "revoked-verified", it.EndState)
	require.Equal(t, "revoke-now", it.Strategy)
	require.Equal(t, "idle", it.Rule)
	require.Equal(t, "A", it.Death.Grade)
	require.Equal(t, "not-wanted", it.Adoption.State, "nobody uses it: no replacement")
	require.Equal(t, []string{"Disable AKIA-1", "EndSessions AKIA-1", "Revoke AKIA-1"}, w.provider.did())
	require.Equal(t, 1, w.forgets, "the sealed secret is destroyed at proof of death")
	require.Len(t, w.seals, 1)
	require.True(t, w.seals[0].Final)
	require.NotEmpty(t, v.Times.WatchUntil)
	require.Equal(t, 90*24*time.Hour, mustTime(t, v.Times.WatchUntil).Sub(mustTime(t, v.Times.Closed)))
}

func mustTime(t *testing.T, s string) time.Time {
	t.Helper()
	at, err := time.Parse("2006-01-02T15:04:05.000Z", s)
	require.NoError(t, err)
	return at
}
