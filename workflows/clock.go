package workflows

import (
	"sort"
	"time"

	"go.temporal.io/sdk/workflow"
)

// clock is the one way in which workflows wait. In production it is Temporal's
// timers. In a drill the world's time is moved from outside by [SignalClock] when
// nothing is running, and a wait ends when that time is reached.
type clock struct {
	virtual bool
	now     time.Time
	seq     int64
	nextID  int
	wakes   map[int]wake
	busy    int
}

type wake struct {
	at  time.Time
	why string
}

// newClock starts the clock; from is the world's time when virtual, seq the last
// tick that an earlier run saw. It registers the clock's query and, when virtual,
// listens for ticks.
func newClock(ctx workflow.Context, virtual bool, from time.Time, seq int64) (*clock, error) {
	c := &clock{virtual: virtual, now: from, seq: seq, wakes: map[int]wake{}}
	if virtual {
		ch := workflow.GetSignalChannel(ctx, SignalClock)
		workflow.Go(ctx, func(ctx workflow.Context) {
			for {
				var tick ClockTick
				if !take(ctx, ch, &tick) {
					return
				}
				c.take(tick)
			}
		})
	}
	return c, workflow.SetQueryHandlerWithOptions(ctx, QueryClock, c.state, workflow.QueryHandlerOptions{
		Description: "what a drill's driver must know: the next wake-up, and whether something runs",
	})
}

// take waits for the next signal and leaves it in its channel until this very
// moment. Receive does not: a signal goes over to the coroutine that is blocked in it
// when it arrives, and the main coroutine, which runs first, may continue as new
// before that one has its turn. What was handed over is lost then: the drain at the
// end of a run finds only what is still in the channel.
func take(ctx workflow.Context, ch workflow.ReceiveChannel, to any) bool {
	for !ch.ReceiveAsync(to) {
		if err := workflow.Await(ctx, func() bool { return ch.Len() > 0 }); err != nil {
			return false
		}
	}
	return true
}

func (c *clock) take(tick ClockTick) {
	c.seq = max(c.seq, tick.Seq)
	if tick.Now.After(c.now) {
		c.now = tick.Now
	}
}

// drain takes the ticks that nobody has read before a run ends.
func (c *clock) drain(ctx workflow.Context) {
	if !c.virtual {
		return
	}
	ch := workflow.GetSignalChannel(ctx, SignalClock)
	for {
		var tick ClockTick
		if !ch.ReceiveAsync(&tick) {
			return
		}
		c.take(tick)
	}
}

// Now is the world's time.
func (c *clock) Now(ctx workflow.Context) time.Time {
	if c.virtual {
		return c.now
	}
	return workflow.Now(ctx).UTC()
}

// Wait waits until cond holds or the time is reached, and tells whether cond
// holds. A zero time waits for cond alone; a nil cond for the time alone. why is
// shown to people.
func (c *clock) Wait(ctx workflow.Context, until time.Time, why string, cond func() bool) (bool, error) {
	if cond == nil {
		cond = func() bool { return false }
	}
	id := c.nextID
	c.nextID++
	c.wakes[id] = wake{at: until, why: why}
	defer delete(c.wakes, id)

	if c.virtual {
		err := workflow.Await(ctx, func() bool {
			return cond() || (!until.IsZero() && !c.now.Before(until))
		})
		return cond(), err
	}
	if until.IsZero() {
		err := workflow.Await(ctx, cond)
		return cond(), err
	}
	for {
		left := until.Sub(workflow.Now(ctx))
		if left <= 0 || cond() {
			return cond(), nil
		}
		// The SDK leaves the timer of an await whose condition came true in the
		// history until it fires. Hundreds of day-long ones would wake the workflow
		// for nothing.
		timer, cancel := workflow.WithCancel(ctx)
		ok, err := workflow.AwaitWithOptions(timer, workflow.AwaitOptions{
			Timeout:      min(left, maxWait),
			TimerOptions: workflow.TimerOptions{Summary: summary(why)},
		}, cond)
		cancel()
		if err != nil || ok {
			return ok, err
		}
	}
}

// Sleep waits for d.
func (c *clock) Sleep(ctx workflow.Context, d time.Duration, why string) error {
	_, err := c.Wait(ctx, c.Now(ctx).Add(d), why, nil)
	return err
}

// working marks that something runs until the returned function is called: a
// drill's time must not move meanwhile.
func (c *clock) working() func() {
	c.busy++
	return func() { c.busy-- }
}

func (c *clock) state() (ClockState, error) {
	st := ClockState{Now: c.now, Busy: c.busy > 0, Seq: c.seq}
	ids := make([]int, 0, len(c.wakes))
	//workflowcheck:ignore
	for id := range c.wakes { // sorted below
		ids = append(ids, id)
	}
	sort.Ints(ids)
	for _, id := range ids {
		w := c.wakes[id]
		if w.at.IsZero() {
			continue
		}
		if st.Wake.IsZero() || w.at.Before(st.Wake) {
			st.Wake, st.Waiting = w.at, w.why
		}
	}
	return st, nil
}
