package batch_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/activities"
	"rekey/activities/batch"
	"rekey/playbooks"
)

// want is a call by itself.
func want(incident string, v activities.Verb) batch.Want {
	return batch.Want{Provider: "awsiam", Account: "prod", API: "iam", Incident: incident, Verb: v}
}

// world is the world's time of tests in which it stands still.
func world() time.Time { return time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC) }

// A tally notes when calls were let through, by incident.
type tally struct {
	mu sync.Mutex
	at map[string][]time.Time
}

func (a *tally) add(who string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.at == nil {
		a.at = map[string][]time.Time{}
	}
	a.at[who] = append(a.at[who], time.Now())
}

func (a *tally) of(who string) []time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.at[who])
}

// calls makes n calls, width at once, each taking a while; it returns when ctx ends or
// all were made.
func calls(ctx context.Context, l *batch.Limits, w batch.Want, n, width int, takes time.Duration, seen *tally) {
	var wg sync.WaitGroup
	todo := make(chan struct{}, n)
	for range n {
		todo <- struct{}{}
	}
	close(todo)
	for range width {
		wg.Go(func() {
			for range todo {
				p, err := l.Acquire(ctx, w, world())
				if err != nil {
					return
				}
				seen.add(w.Incident)
				time.Sleep(takes)
				p.Done()
			}
		})
	}
	wg.Wait()
}

func TestNCallsUnderARateTakeNOverR(t *testing.T) {
	for name, row := range map[string]struct {
		n      int
		perMin float64
		takes  time.Duration
	}{
		"5,000 at 600 a minute":     {5000, 600, 300 * time.Millisecond},
		"5,000 at 6,000 a minute":   {5000, 6000, 90 * time.Millisecond},
		"200 at 60 a minute":        {200, 60, 2 * time.Second},
		"20,000 at 600 a second":    {20000, 36000, 10 * time.Millisecond},
		"as slow as its own limits": {500, 600, time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				per := row.perMin / 60
				l := batch.NewLimits(map[string]float64{"awsiam/prod/iam": per})
				var seen tally
				began := time.Now()
				calls(t.Context(), l, want("inc-1", activities.Revoke), row.n, 36, row.takes, &seen)
				floor := time.Duration(float64(row.n) / per * float64(time.Second))
				require.LessOrEqual(t, time.Since(began), floor+floor/10)
				at := seen.of("inc-1")
				require.Len(t, at, row.n)
				// Never more than the rate and a small burst, in any span.
				for _, span := range []time.Duration{time.Second, 10 * time.Second, time.Minute} {
					most := int(per*span.Seconds()+per/10) + 4
					first := 0
					for i := range at {
						for at[i].Sub(at[first]) >= span {
							first++
						}
						require.LessOrEqual(t, i-first+1, most, "%s from call %d", span, first)
					}
				}
			})
		})
	}
}

// TestNOverRHoldsOverAHandover has the first holder die in the middle, with what it had
// under way; the next one takes over when the lease has gone.
func TestNOverRHoldsOverAHandover(t *testing.T) {
	for drained, gap := range map[bool]time.Duration{true: 0, false: 6 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			const n, per = 5000, 10.0
			budget := map[string]float64{"awsiam/prod/iam": per}
			var seen tally
			began := time.Now()
			ctx, kill := context.WithTimeout(t.Context(), 200*time.Second)
			defer kill()
			calls(ctx, batch.NewLimits(budget), want("a", activities.Revoke), n, 36, 200*time.Millisecond, &seen)
			time.Sleep(gap)
			next := batch.NewLimits(budget)
			next.Take("awsiam", "prod", nil, drained)
			calls(t.Context(), next, want("b", activities.Revoke), n-len(seen.of("a")), 36, 200*time.Millisecond, &seen)
			require.LessOrEqual(t, time.Since(began).Seconds(), 1.1*n/per)
			all := append(seen.of("a"), seen.of("b")...)
			for i := 20; i < len(all); i++ {
				require.GreaterOrEqual(t, all[i].Sub(all[i-20]), 1600*time.Millisecond, "a handover is no second burst")
			}
		})
	}
}

func TestContainmentDoesNotWaitForOtherTraffic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := batch.NewLimits(map[string]float64{"awsiam/prod/iam": 1, "awsiam/other/iam": 1})
		ctx, cancel := context.WithCancel(t.Context())
		var seen tally
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				calls(ctx, l, want(fmt.Sprintf("campaign-%d", i), activities.Probe), 1000, 50, time.Second, &seen)
			})
		}
		time.Sleep(100 * time.Second)
		for i, v := range []activities.Verb{activities.Disable, activities.EndSessions, activities.Deny} {
			began := time.Now()
			p, err := l.Acquire(t.Context(), want("new", v), world())
			require.NoError(t, err)
			require.Zero(t, time.Since(began), "%s: a token was kept for it", v)
			p.Done()
			p, err = l.Acquire(t.Context(), want("new", v), world())
			require.NoError(t, err)
			require.LessOrEqual(t, time.Since(began), time.Second+time.Millisecond, "%s: and the next token is its own", v)
			p.Done()
			time.Sleep(time.Duration(i+1) * 10 * time.Second)
		}
		first := want("new", activities.Probe)
		first.First = true
		began := time.Now()
		_, err := l.Acquire(t.Context(), first, world())
		require.NoError(t, err)
		require.Zero(t, time.Since(began), "a pass that goes first is containment")
		other := want("new", activities.Probe)
		other.Account = "other"
		_, err = l.Acquire(t.Context(), other, world())
		require.NoError(t, err)
		require.Zero(t, time.Since(began), "another account has a budget of its own")
		cancel()
		wg.Wait()
	})
}

func TestContainmentHasPlacesWhenAllAreTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := batch.NewLimits(nil)
		var seen tally
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				calls(t.Context(), l, want(fmt.Sprintf("inc-%d", i), activities.Revoke), 16, 16, time.Minute, &seen)
			})
		}
		synctest.Wait()
		n := 0
		for i := range 8 {
			n += len(seen.of(fmt.Sprintf("inc-%d", i)))
		}
		require.Equal(t, 32, n, "calls of one account at once")
		began := time.Now()
		p, err := l.Acquire(t.Context(), want("new", activities.Disable), world())
		require.NoError(t, err)
		require.Zero(t, time.Since(began))
		p.Done()
		p.Done() // twice is once
		wg.Wait()
		require.Equal(t, 4*time.Minute, time.Since(began), "128 calls, 32 at once, a minute each")
	})
}

// TestLongReadingsLeavePlaces: nobody knows how long an Inspect takes.
func TestLongReadingsLeavePlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := batch.NewLimits(nil)
		var seen tally
		var wg sync.WaitGroup
		wg.Go(func() { calls(t.Context(), l, want("scope", activities.Inspect), 64, 64, time.Hour, &seen) })
		synctest.Wait()
		require.Len(t, seen.of("scope"), 16)
		began := time.Now()
		calls(t.Context(), l, want("wave", activities.Probe), 16, 16, time.Second, &seen)
		require.Equal(t, time.Second, time.Since(began))
		wg.Wait()
	})
}

func TestIncidentsShareAnAccountFairly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := batch.NewLimits(map[string]float64{"awsiam/prod/iam": 65})
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Second)
		defer cancel()
		var seen tally
		var wg sync.WaitGroup
		wg.Go(func() { calls(ctx, l, want("huge", activities.Revoke), 100000, 200, time.Millisecond, &seen) })
		synctest.Wait()
		for i := range 64 {
			wg.Go(func() {
				calls(ctx, l, want(fmt.Sprintf("inc-%d", i), activities.Revoke), 1000, 1+i%8, time.Millisecond, &seen)
			})
		}
		wg.Wait()
		for i := range 64 {
			require.InDelta(t, 100, len(seen.of(fmt.Sprintf("inc-%d", i))), 2, "a sixty-fifth of 65 a second, over 100 s")
		}
		require.InDelta(t, 100, len(seen.of("huge")), 12, "and no more for who asks for more")
	})
}

// TestANewIncidentIsNotBehindACampaign: also its calls that are not containment.
func TestANewIncidentIsNotBehindACampaign(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := batch.NewLimits(map[string]float64{"awsiam/prod/iam": 10})
		ctx, cancel := context.WithCancel(t.Context())
		var seen tally
		var wg sync.WaitGroup
		wg.Go(func() { calls(ctx, l, want("campaign", activities.Revoke), 100000, 400, time.Millisecond, &seen) })
		time.Sleep(time.Minute)
		began := time.Now()
		calls(t.Context(), l, want("new", activities.Probe), 5, 1, 0, &seen)
		require.LessOrEqual(t, time.Since(began), 1100*time.Millisecond, "every second call is its own")
		cancel()
		wg.Wait()
	})
}

// TestACallByItselfGoesBeforeThePages of its own incident.
func TestACallByItselfGoesBeforeThePages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := batch.NewLimits(map[string]float64{"awsiam/prod/iam": 1})
		ctx, cancel := context.WithCancel(t.Context())
		var seen tally
		var wg sync.WaitGroup
		wg.Go(func() { calls(ctx, l, want("inc", activities.Disable), 1000, 100, 0, &seen) })
		time.Sleep(10 * time.Second)
		alone := want("inc", activities.Disable)
		alone.Alone = true
		began := time.Now()
		_, err := l.Acquire(t.Context(), alone, world())
		require.NoError(t, err)
		require.LessOrEqual(t, time.Since(began), time.Second)
		cancel()
		wg.Wait()
	})
}

func TestAFloodOfContainmentLeavesATurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := batch.NewLimits(map[string]float64{"awsiam/prod/iam": 16})
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Second)
		defer cancel()
		var seen tally
		var wg sync.WaitGroup
		wg.Go(func() { calls(ctx, l, want("flood", activities.Disable), 100000, 200, 0, &seen) })
		wg.Go(func() { calls(ctx, l, want("other", activities.Probe), 1000, 10, 0, &seen) })
		wg.Wait()
		require.InDelta(t, 100, len(seen.of("other")), 4, "one call in sixteen")
		require.InDelta(t, 1500, len(seen.of("flood")), 10)
	})
}

func TestAStopIsObeyedByAllAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := batch.NewLimits(map[string]float64{"awsiam/prod/iam": 10, "awsiam/prod/sts": 10})
		first, err := l.Acquire(t.Context(), want("inc-0", activities.Revoke), world())
		require.NoError(t, err)
		var wg sync.WaitGroup
		told := make(chan time.Time, 1000)
		began := time.Now()
		for i := range 1000 {
			wg.Go(func() {
				v := activities.Revoke
				if i%2 == 0 {
					v = activities.Disable
				}
				for {
					_, err := l.Acquire(t.Context(), want(fmt.Sprintf("inc-%d", i%50), v), world())
					if err != nil {
						told <- err.(*batch.StoppedError).Until //nolint:errorlint,forcetypeassert // any other fails the test
						return
					}
				}
			})
		}
		synctest.Wait()
		until := world().Add(30 * time.Second)
		first.Stop(until)
		wg.Wait()
		require.Zero(t, time.Since(began), "nobody sleeps through a back-off")
		close(told)
		n := 0
		for at := range told {
			require.Equal(t, until, at)
			n++
		}
		require.Equal(t, 1000, n)
		sts := want("inc-0", activities.Probe)
		sts.API = "sts"
		_, err = l.Acquire(t.Context(), sts, world())
		require.NoError(t, err, "another API was not told to wait")
		l.Stop("awsiam", "prod", "iam", world().Add(time.Second))
		_, err = l.Acquire(t.Context(), want("x", activities.Disable), until.Add(-time.Nanosecond))
		require.Error(t, err, "a shorter wait ends no longer one")
		require.Equal(t, map[string]time.Time{"iam": until}, l.Stops("awsiam", "prod", world()))
		time.Sleep(time.Second)
		_, err = l.Acquire(t.Context(), want("x", activities.Disable), until)
		require.NoError(t, err)
	})
}

// TestAProviderThatAllowsLessIsGivenLess: "too many requests" within the rate.
func TestAProviderThatAllowsLessIsGivenLess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := batch.NewLimits(map[string]float64{"awsiam/prod/iam": 100})
		allowed := func(now time.Time) (float64, string) {
			s := l.Spent(now)
			require.Len(t, s, 1)
			return s[0].Allowed, s[0].Why
		}
		var places []*batch.Place
		for range 3 {
			p, err := l.Acquire(t.Context(), want("inc", activities.Revoke), world())
			require.NoError(t, err)
			places = append(places, p)
		}
		time.Sleep(time.Second)
		now := world()
		for _, p := range places { // they were under way together
			p.Stop(now.Add(time.Second))
			p.Done()
		}
		rate, why := allowed(now)
		require.Equal(t, batch.WhyStopped, why)
		require.Zero(t, rate)
		now = now.Add(time.Second)
		rate, why = allowed(now)
		require.Equal(t, batch.WhyThrottled, why)
		require.InDelta(t, 50, rate, 1, "halved once")

		var seen tally
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		calls2(ctx, l, now, &seen)
		require.InDelta(t, 520, len(seen.of("inc")), 30, "ten seconds of half the rate, rising by a hundred-and-twentieth a second")
		for range 10 { // it goes on saying so: never to nothing
			time.Sleep(time.Second)
			now = now.Add(10 * time.Second)
			p, err := l.Acquire(t.Context(), want("inc", activities.Revoke), now)
			require.NoError(t, err)
			p.Stop(now.Add(time.Second))
			p.Done()
		}
		rate, _ = allowed(now.Add(time.Minute))
		require.InDelta(t, 100.0/16, rate, 1)
		time.Sleep(2 * time.Minute)
		rate, why = allowed(now.Add(time.Minute))
		require.Equal(t, batch.WhyConfigured, why, "it has recovered")
		require.InDelta(t, 100, rate, 1e-9)
	})
}

func calls2(ctx context.Context, l *batch.Limits, now time.Time, seen *tally) {
	for {
		p, err := l.Acquire(ctx, want("inc", activities.Revoke), now)
		if err != nil {
			return
		}
		seen.add("inc")
		p.Done()
	}
}

func TestPlaybooksOnlyLower(t *testing.T) {
	rates := map[string]string{"awsiam.write": "5/s", "awsiam.read": "30/m", "awsiam.iam": "50/s", "awsiam.cloudtrail": "1/s", "postgres.write": "1/h"}
	names := func(v activities.Verb, api string) (out []string) {
		for _, c := range batch.Caps(rates, "awsiam", v, api) {
			out = append(out, c.Name+" "+string(c.Rate))
		}
		return out
	}
	require.Equal(t, []string{"awsiam.iam 50/s", "awsiam.write 5/s"}, names(activities.Disable, "iam"))
	require.Equal(t, []string{"awsiam.read 30/m"}, names(activities.Probe, "sts"))
	require.Equal(t, []string{"awsiam.cloudtrail 1/s", "awsiam.read 30/m"}, names(activities.Inspect, "cloudtrail:LookupEvents"))
	require.Empty(t, batch.Caps(nil, "awsiam", activities.Disable, "iam"))

	synctest.Test(t, func(t *testing.T) {
		l := batch.NewLimits(map[string]float64{"awsiam/prod/iam": 100})
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Second)
		defer cancel()
		capped := func(incident string, v activities.Verb) batch.Want {
			w := want(incident, v)
			w.Caps = batch.Caps(map[string]string{"awsiam.write": "5/s"}, "awsiam", v, "iam")
			return w
		}
		var seen tally
		var wg sync.WaitGroup
		for _, w := range []batch.Want{capped("a", activities.Revoke), capped("b", activities.Revoke), want("free", activities.Revoke)} {
			wg.Go(func() { calls(ctx, l, w, 100000, 10, 0, &seen) })
		}
		wg.Wait()
		require.InDelta(t, 250, len(seen.of("a")), 10, "incidents whose playbooks say the same share it")
		require.InDelta(t, 250, len(seen.of("b")), 10)
		require.InDelta(t, 9500, len(seen.of("free")), 50, "it holds nobody else up")

		ctx, cancel = context.WithTimeout(t.Context(), 100*time.Second)
		defer cancel()
		calls(ctx, l, capped("c", activities.Disable), 100000, 10, 0, &seen)
		require.InDelta(t, 500, len(seen.of("c")), 10, "containment is a write too")
		w := want("d", activities.Revoke)
		w.Caps = []batch.Cap{{Name: "awsiam.write", Rate: playbooks.Rate("1000000/s")}}
		ctx, cancel = context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		calls(ctx, l, w, 100000, 10, 0, &seen)
		require.InDelta(t, 1000, len(seen.of("d")), 20, "a playbook raises nothing")
	})
}

func TestWhoLeavesTheQueueLeavesNothingBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := batch.NewLimits(map[string]float64{"awsiam/prod/iam": 1})
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		var seen tally
		var wg sync.WaitGroup
		for i := range 500 {
			wg.Go(func() { calls(ctx, l, want(fmt.Sprintf("inc-%d", i), activities.Probe), 1, 1, 0, &seen) })
		}
		synctest.Wait()
		require.Equal(t, 500-2, l.Spent(world())[0].Waiting, "what a full bucket lets through at once is gone")
		wg.Wait()
		require.Zero(t, l.Spent(world())[0].Waiting)
		time.Sleep(10 * time.Second)
		began := time.Now()
		_, err := l.Acquire(t.Context(), want("after", activities.Probe), world())
		require.NoError(t, err)
		require.Zero(t, time.Since(began), "their tokens are not gone with them")
	})
}

func TestSpentTellsWhatIsLeftOfABudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := batch.NewLimits(map[string]float64{"awsiam/prod/iam": 10, "awsiam/prod/cloudtrail": 10, "broken": 1})
		used := func(now time.Time) map[string]float64 {
			out := map[string]float64{}
			for _, s := range l.Spent(now) {
				require.Equal(t, "awsiam/prod", s.Provider+"/"+s.Account)
				out[s.API] = s.Used
			}
			return out
		}
		require.Equal(t, map[string]float64{"iam": 0, "cloudtrail": 0}, used(world()))
		var seen tally
		calls(t.Context(), l, want("inc", activities.Revoke), 1000, 4, 0, &seen)
		require.InDelta(t, 1, used(world())["iam"], 0.02)
		require.Zero(t, used(world())["cloudtrail"])
		time.Sleep(time.Minute)
		require.InDelta(t, 0, used(world())["iam"], 0.02)
		l.Stop("awsiam", "prod", "cloudtrail", world().Add(time.Minute))
		require.InDelta(t, 1, used(world())["cloudtrail"], 1e-9, "told to wait: nothing is left")
		require.Zero(t, used(world().Add(2 * time.Minute))["cloudtrail"])
	})
}
