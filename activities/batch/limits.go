package batch

import (
	"context"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"rekey/activities"
)

// Limits are the budgets of provider accounts in this worker. There is one worker
// process in this build, so they hold across all incidents.
type Limits struct {
	mu      sync.Mutex
	rates   map[string]float64 // provider/account/api -> calls a second
	buckets map[string]*rate.Limiter
	stopped map[string]time.Time // world's time
}

// reserve is the part of a budget that only containment may use: everything else
// takes from a smaller bucket first, containment from the whole one.
const reserve = 0.2

// NewLimits makes budgets; perSecond is by "provider/account/api". What is not
// named there is not limited.
func NewLimits(perSecond map[string]float64) *Limits {
	return &Limits{rates: perSecond, buckets: map[string]*rate.Limiter{}, stopped: map[string]time.Time{}}
}

// Wait takes one call out of the budget. It gives a positive duration instead
// when the account was told to wait: a pass does not sleep through a back-off, it
// says so and the workflow comes back.
func (l *Limits) Wait(ctx context.Context, provider, account, api string, v activities.Verb, now time.Time) (time.Duration, error) {
	key := provider + "/" + account + "/" + api
	l.mu.Lock()
	if until, ok := l.stopped[key]; ok {
		if left := until.Sub(now); left > 0 {
			l.mu.Unlock()
			return left, nil
		}
		delete(l.stopped, key)
	}
	all, rest := l.bucket(key, 1), l.bucket(key+"/rest", 1-reserve)
	l.mu.Unlock()
	if all == nil {
		return 0, nil
	}
	if v != activities.Disable && v != activities.EndSessions && v != activities.Deny {
		if err := rest.Wait(ctx); err != nil {
			return 0, err
		}
	}
	return 0, all.Wait(ctx)
}

// bucket gives a share of an API's budget, nil where it has none. l.mu is held.
func (l *Limits) bucket(name string, share float64) *rate.Limiter {
	per, ok := l.rates[strings.TrimSuffix(name, "/rest")]
	if !ok || per <= 0 {
		return nil
	}
	b, ok := l.buckets[name]
	if !ok {
		b = rate.NewLimiter(rate.Limit(per*share), max(1, int(per*share)))
		l.buckets[name] = b
	}
	return b
}

// Stop stops an account's API until a time: a Retry-After is obeyed by every call
// that has not been made yet.
func (l *Limits) Stop(provider, account, api string, until time.Time) {
	key := provider + "/" + account + "/" + api
	l.mu.Lock()
	defer l.mu.Unlock()
	if until.After(l.stopped[key]) {
		l.stopped[key] = until
	}
}
