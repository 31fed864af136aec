package awssim

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestACallThatWasUnderWayIsNoViolation: with many callers at once some have sent theirs before they
// can have read that they must wait.
func TestACallThatWasUnderWayIsNoViolation(t *testing.T) {
	world := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	s := New(Options{Now: func() time.Time { return world }, Limits: map[string]Rate{"iam.write": {Count: 1, Per: time.Hour, RetryAfter: 30 * time.Second, Status: 429}}})
	mutating := func(arrived time.Time) *call {
		return &call{sim: s, now: world, service: "iam", action: "DeleteAccessKey", network: true, arrived: arrived}
	}
	first := mutating(time.Now())
	require.Nil(t, s.overLimit(first))
	second := mutating(time.Now())
	err := s.overLimit(second)
	require.NotNil(t, err)
	require.Equal(t, 30*time.Second, err.RetryAfter)
	require.Empty(t, second.stop, "nobody had been told before")
	s.limits.told(second, err)
	told := s.limits.stops["iam.write"].told

	for name, tt := range map[string]struct {
		arrived time.Time
		after   time.Duration // of world time
		read    bool
		stop    string
		refused bool
	}{
		"sent before the answer":        {arrived: told.Add(-time.Second), stop: StopInFlight, refused: true},
		"sent right after it":           {arrived: told.Add(inFlight / 2), stop: StopInFlight, refused: true},
		"sent although it could know":   {arrived: told.Add(inFlight), stop: StopDuring, refused: true},
		"still within the time":         {arrived: told.Add(time.Second), after: 30*time.Second - time.Millisecond, stop: StopDuring, refused: true},
		"reading is not limited":        {arrived: told.Add(time.Second), read: true},
		"the time is over, the rate is": {arrived: told.Add(time.Second), after: 30 * time.Second, refused: true},
	} {
		t.Run(name, func(t *testing.T) {
			c := mutating(tt.arrived)
			c.now, c.op.read = world.Add(tt.after), tt.read
			err := s.overLimit(c)
			require.Equal(t, tt.refused, err != nil)
			require.Equal(t, tt.stop, c.stop)
			if c.stop != "" {
				require.Equal(t, 30*time.Second-tt.after, err.RetryAfter, "it is not made longer")
				s.limits.told(c, err)
				require.Equal(t, told, s.limits.stops["iam.write"].told)
			}
		})
	}
}
