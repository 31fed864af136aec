package page

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/activities"
	"rekey/playbooks"
)

// What was not called is not counted, waits until the account may be called, and keeps
// its gate.
func TestLaterCountsNothing(t *testing.T) {
	now := time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)
	kinds := map[string]Kind{"awsiam/k": {API: []activities.Verb{activities.Disable, activities.Revoke, activities.Inspect}}}
	f := &Facts{Incident: "inc-1", Strategy: playbooks.RevokeNow, Kinds: kinds}
	r := Row{FP: "fp1_a", Provider: "awsiam", Account: "prod", Kind: "k"}
	f.Begin(&r, now)
	f.Later(&r, now.Add(1500*time.Millisecond), now)
	require.Equal(t, Next{Verb: activities.Disable, Due: At{now.Add(2 * time.Second)}, Why: "told to wait by awsiam"}, r.Next)
	require.Zero(t, r.Tries+r.Throttled)
	require.Empty(t, r.Calls)

	r.Disabled, r.Death, r.Confirmed = true, dead, true
	f.decide(&r, now)
	require.Equal(t, GateVotes, r.Next.Gate)
	f.Later(&r, now.Add(time.Minute), now)
	require.Equal(t, Next{Verb: activities.Revoke, Gate: GateVotes, Due: At{now.Add(time.Minute)}, Why: "told to wait by awsiam"}, r.Next)

	f = &Facts{Incident: "inc-1", Scope: true, Kinds: kinds}
	r = Row{FP: "fp1_a", Provider: "awsiam", Account: "prod", Kind: "k"}
	f.Begin(&r, now)
	f.Later(&r, now.Add(time.Minute), now)
	require.Equal(t, Next{Verb: activities.Inspect, Due: At{now.Add(time.Minute)}, Why: "told to wait by awsiam"}, r.Next)
}

// A create that may have been made is noted once: in its first journal, with its first
// token.
func TestPendingIsTheFirst(t *testing.T) {
	f := &Facts{Incident: "inc-1", Prefix: "wave/1"}
	r := Row{FP: "fp1_a", Next: Next{Verb: activities.Issue}}
	f.Pending(&r, "inc-1/p1")
	require.Equal(t, "inc-1/p1", r.Effect)
	require.Equal(t, "inc-1/wave/1/Issue/fp1_a", r.EffectToken)
	f.Prefix = "wave/2"
	f.Pending(&r, "inc-1/p2")
	require.Equal(t, "inc-1/p1", r.Effect)
	require.Equal(t, "inc-1/wave/1/Issue/fp1_a", f.Request(&r, time.Time{}).Token)
}

func TestFactsOfAnotherBuildAreRefused(t *testing.T) {
	f, err := DecodeFacts([]byte(`{"incident":"inc-1","prefix":"p","kinds":{},"k":3,"span_ns":0,"vantages":1,"rates":{"awsiam.write":"10/s"}}`))
	require.NoError(t, err)
	require.Equal(t, 3, f.K)
	require.Equal(t, playbooks.Rate("10/s"), f.Rates["awsiam.write"])
	for _, bad := range []string{`{"incident":"inc-1","never_revoke":true}`, `[]`, ``, `{} {}`} {
		_, err := DecodeFacts([]byte(bad))
		require.ErrorIs(t, err, ErrSchema, bad)
	}
}
