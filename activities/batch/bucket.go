package batch

import (
	"math"
	"time"
)

const (
	// burst is how much of a rate may be made up at once: what a busy machine came too
	// late for, and what a quiet account has saved. More would be more calls in a
	// second than the provider allows in one.
	burst = 100 * time.Millisecond
	// reserved is what the calls of a budget leave for a containment call that comes
	// next: it need not wait for a token.
	reserved = 1
	// mostCalls is for how many requests of one call a budget must have room before it
	// is made; what it makes beyond that is made up for afterwards.
	mostCalls = 2
	// slower is what remains of a rate when the provider answers "too many requests"
	// within it, leastShare the least of all, and recover how long it takes from
	// nothing to all (additive increase, multiplicative decrease: somebody else calls
	// the account too, or its limit is lower than its vendor says).
	slower     = 0.5
	leastShare = 1.0 / 16
	recovery   = 2 * time.Minute
)

// A bucket is one rate: tokens that come back with time.
type bucket struct {
	rate   float64 // calls a second, as configured
	share  float64 // of it that is used: less than 1 after the provider said it is too much
	tokens float64
	last   time.Time // of the refill
	lower  time.Time // when the share was lowered last
	load   float64   // calls of the last while, see used
}

func newBucket(rate float64, now time.Time) *bucket {
	b := &bucket{rate: rate, share: 1, last: now}
	b.tokens = b.most()
	return b
}

// most is how many tokens a bucket holds.
func (b *bucket) most() float64 { return mostCalls + reserved + b.rate*b.share*burst.Seconds() }

// loadSpan is over how long the use of a budget is told.
const loadSpan = 10 * time.Second

// fill adds what came back since the last look.
func (b *bucket) fill(now time.Time) {
	d := now.Sub(b.last)
	if d <= 0 {
		return
	}
	b.last = now
	was := b.share
	b.share = min(1, was+d.Seconds()/recovery.Seconds())
	b.tokens = min(b.most(), b.tokens+b.rate*(was+b.share)/2*d.Seconds())
	b.load *= math.Exp(-d.Seconds() / loadSpan.Seconds())
}

// almost makes up for what is lost in floating point: a timer that fires when the
// token is back must find it.
const almost = 1e-6

// ready tells whether need tokens are there.
func (b *bucket) ready(need float64) bool { return b.tokens+almost >= need }

// wait is how long until ready.
func (b *bucket) wait(need float64) time.Duration {
	lack := need - b.tokens
	if lack <= almost {
		return 0
	}
	return time.Duration(math.Ceil(lack / (b.rate * b.share) * float64(time.Second)))
}

func (b *bucket) take(n int) {
	b.tokens -= float64(n)
	b.load += float64(n)
}

// slow lowers the share, once for all calls that were under way together: those that
// began before it was lowered say nothing about the lower rate.
func (b *bucket) slow(began, now time.Time) {
	if began.Before(b.lower) {
		return
	}
	b.fill(now)
	b.share = max(leastShare, b.share*slower)
	b.tokens = min(b.tokens, b.most())
	b.lower = now
}

// used is which part of the rate was used lately, 0 to 1.
func (b *bucket) used(now time.Time) float64 {
	b.fill(now)
	return min(1, b.load/(b.rate*b.share*loadSpan.Seconds()))
}
