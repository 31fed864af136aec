package batch_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/activities"
	"rekey/activities/batch"
)

func TestUsedTellsWhatIsLeftOfABudget(t *testing.T) {
	// So slow a rate that no token comes back while the test looks.
	l := batch.NewLimits(map[string]float64{"awsiam/prod/iam": 0.0001, "awsiam/prod/cloudtrail": 0.0001, "broken": 1})
	now := time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)
	iam, trail := [3]string{"awsiam", "prod", "iam"}, [3]string{"awsiam", "prod", "cloudtrail"}
	require.Equal(t, map[[3]string]float64{iam: 0, trail: 0}, l.Used(now))
	_, err := l.Wait(t.Context(), "awsiam", "prod", "iam", activities.Disable, now)
	require.NoError(t, err)
	require.InDelta(t, 1, l.Used(now)[iam], 0.01)
	require.Zero(t, l.Used(now)[trail])
	l.Stop("awsiam", "prod", "cloudtrail", now.Add(time.Minute))
	require.InDelta(t, 1, l.Used(now)[trail], 1e-9, "told to wait: nothing is left")
	require.Zero(t, l.Used(now.Add(2 * time.Minute))[trail])
}
