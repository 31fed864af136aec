package batch

import (
	"context"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"rekey/activities"
)

// Limits are the budgets of provider accounts in this process. One process at a
// time calls an account (see [Lease]), so they hold across all incidents and
// workers; what an account was told to wait for goes from holder to holder by
// [Limits.Stops] and [Limits.Take].
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

// Used tells by provider, account and API how much of each budget is used at now
// (world's time): 0 to 1, and 1 while the account was told to wait.
func (l *Limits) Used(now time.Time) map[[3]string]float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := map[[3]string]float64{}
	for key := range l.rates {
		parts := strings.SplitN(key, "/", 3)
		if len(parts) < 3 {
			continue
		}
		used := 0.0
		if b := l.bucket(key, 1); b != nil {
			used = min(max(1-b.Tokens()/float64(b.Burst()), 0), 1)
		}
		if l.stopped[key].After(now) {
			used = 1
		}
		out[[3]string(parts)] = used
	}
	return out
}

// Stops are what an account was told to wait for, by API, as far as it is not over
// at now (world's time).
func (l *Limits) Stops(provider, account string, now time.Time) map[string]time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := map[string]time.Time{}
	for key, until := range l.stopped {
		if api, ok := strings.CutPrefix(key, provider+"/"+account+"/"); ok && until.After(now) {
			out[api] = until
		}
	}
	return out
}

// Take takes an account over from another holder: its stops are obeyed here too,
// and when the other ended a moment ago (drained) the budget begins empty, because
// the other may have used what a full one allows at once.
func (l *Limits) Take(provider, account string, stops map[string]time.Time, drained bool) {
	for api, until := range stops {
		l.Stop(provider, account, api, until)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for name := range l.rates {
		if !strings.HasPrefix(name, provider+"/"+account+"/") {
			continue
		}
		for b, share := range map[string]float64{name: 1, name + "/rest": 1 - reserve} {
			delete(l.buckets, b)
			if full := l.bucket(b, share); full != nil && drained {
				full.AllowN(time.Now(), full.Burst())
			}
		}
	}
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
