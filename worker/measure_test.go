package worker

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestPercentileIsAMeasuredValue(t *testing.T) {
	hundred := make(Timings, 0, 100)
	for i := 100; i >= 1; i-- {
		hundred = append(hundred, time.Duration(i)*time.Millisecond)
	}
	for name, c := range map[string]struct {
		in   Timings
		p    int
		want time.Duration
	}{
		"nothing measured":                     {nil, 99, 0},
		"one value is every percentile":        {Timings{7}, 1, 7},
		"the middle of an odd count":           {Timings{3, 1, 2}, 50, 2},
		"of two the lower one is the median":   {Timings{2, 1}, 50, 1},
		"p99 of a hundred leaves one above":    {hundred, 99, 99 * time.Millisecond},
		"p99 of fewer than a hundred is worst": {hundred[:50], 99, 100 * time.Millisecond},
		"p100 is the longest":                  {hundred, 100, 100 * time.Millisecond},
		"beyond the scale is held to it":       {hundred, 250, 100 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, c.want, c.in.Percentile(c.p)) })
	}
	require.Equal(t, 100*time.Millisecond, hundred[0], "the measurements keep their order")
	require.Equal(t, 100*time.Millisecond, hundred.Max())
}

func TestMillisecondsAreRoundedUp(t *testing.T) {
	for in, want := range map[time.Duration]int64{
		0: 0, -time.Second: 0, 1: 1, time.Millisecond: 1, time.Millisecond + 1: 2, 99*time.Millisecond + 999*time.Microsecond: 100,
	} {
		require.Equal(t, want, Ms(in), in.String())
	}
}

func TestMachineSaysWhatWasMeasuredOn(t *testing.T) {
	require.Regexp(t, `\d+ cores, .*go1\.`, Machine())
}
