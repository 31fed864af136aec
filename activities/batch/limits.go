package batch

import (
	"context"
	"strings"
	"sync"
	"time"

	"rekey/activities"
)

// Limits are the budgets of provider accounts in this process: how many calls a
// second, and how many at once. One process at a time calls an account (see [Lease]),
// so they hold across all incidents and workers; what an account was told to wait for
// goes from holder to holder by [Limits.Stops] and [Limits.Take].
//
// Who is next: containment before all else, then in each class the incident that had
// least (see [queue]). Containment has a reserve of each budget, so it does not wait
// for other traffic; in a flood of containment one call in [turn] is another one.
type Limits struct {
	mu       sync.Mutex
	seq      uint64
	accounts map[accountID]*account
	// slots is how many calls are under way at once in an account. Containment may
	// have an eighth more, readings of unknown length have half.
	slots int
}

// slots is how many calls one account takes at once by default.
const slots = 32

// turn is which call in a row is not containment, when others wait too.
const turn = 16

type accountID struct{ provider, name string }

// An account is what its calls share.
type account struct {
	id      accountID
	budgets map[string]*budget // by API
	caps    map[Cap]*capped
	busy    int // calls under way
	long    int // of which Inspect and Sweep
	wake    *time.Timer
}

// A budget is that of one API of an account.
type budget struct {
	*bucket           // nil: no limit is known
	stopped time.Time // world's time until which it may not be called
	urgent  *queue
	rest    *queue
	row     int // containment calls in a row while others waited
}

type capped struct {
	*bucket
	waiting int
}

// A Want is one call that asks for its place.
type Want struct {
	Provider, Account, API string
	Incident               string
	Verb                   activities.Verb
	// First: containment, whatever the verb.
	First bool
	// Alone: a call by itself, which goes before its incident's passes over pages.
	Alone bool
	// Calls is how many requests it makes; 0 counts as 1.
	Calls int
	// Caps are what the incident's playbook allows, see [Caps].
	Caps []Cap
}

func (w *Want) urgent() bool {
	return w.First || w.Verb == activities.Disable || w.Verb == activities.EndSessions || w.Verb == activities.Deny
}

func (w *Want) calls() int { return max(w.Calls, 1) }

// need is how many tokens must be there. Containment needs one and may overdraw; the
// rest leaves the reserve alone, unless it is its turn.
func (w *Want) need(reserve bool) float64 {
	switch n := float64(min(w.calls(), mostCalls)); {
	case w.urgent():
		return 1
	case reserve:
		return n + reserved
	default:
		return n
	}
}

// long tells whether nobody knows how long the call takes.
func (w *Want) long() bool { return w.Verb == activities.Inspect || w.Verb == activities.Sweep }

// A StoppedError says that the account was told to wait: nothing may be called before
// Until (world's time).
type StoppedError struct{ Until time.Time }

func (e *StoppedError) Error() string {
	return "the account was told to wait until " + e.Until.UTC().Format(time.RFC3339)
}

// NewLimits makes budgets; perSecond is by "provider/account/api". What is not
// named there has no rate.
func NewLimits(perSecond map[string]float64) *Limits {
	l := &Limits{accounts: map[accountID]*account{}, slots: slots}
	now := time.Now()
	for key, rate := range perSecond {
		if parts := strings.SplitN(key, "/", 3); len(parts) == 3 && rate > 0 {
			l.account(parts[0], parts[1]).budget(parts[2]).bucket = newBucket(rate, now)
		}
	}
	return l
}

// AtOnce sets how many calls of an account are under way at once. It is called before
// the first of them.
func (l *Limits) AtOnce(n int) *Limits {
	l.slots = max(n, 1)
	return l
}

// Width is how many calls of an account may be under way at once.
func (l *Limits) Width() int { return l.slots + l.extra() }

// extra is how many calls more containment may have under way than the rest.
func (l *Limits) extra() int { return max(l.slots/8, 1) }

// account and budget make what is not there yet: there are as many as rekey.yaml has
// accounts, and descriptors APIs. l.mu is held.
func (l *Limits) account(provider, name string) *account {
	id := accountID{provider, name}
	a, ok := l.accounts[id]
	if !ok {
		a = &account{id: id, budgets: map[string]*budget{}, caps: map[Cap]*capped{}}
		l.accounts[id] = a
	}
	return a
}

func (a *account) budget(api string) *budget {
	b, ok := a.budgets[api]
	if !ok {
		b = &budget{urgent: newQueue(), rest: newQueue()}
		a.budgets[api] = b
	}
	return b
}

// A Place is the right to make one call now.
type Place struct {
	l    *Limits
	a    *account
	b    *budget
	long bool
	from time.Time
	done bool
}

// Acquire waits for a call's place until ctx ends. It fails with *StoppedError, at
// once, while the account was told to wait: nobody sleeps through a back-off, the
// workflow comes back. now is the world's time. The place must be given back.
func (l *Limits) Acquire(ctx context.Context, want Want, now time.Time) (*Place, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	l.mu.Lock()
	a := l.account(want.Provider, want.Account)
	b := a.budget(want.API)
	if b.stopped.After(now) {
		until := b.stopped
		l.mu.Unlock()
		return nil, &StoppedError{until}
	}
	l.seq++
	w := &waiter{want: want, seq: l.seq, got: make(chan grant, 1)}
	for _, c := range want.Caps {
		w.caps = append(w.caps, a.capped(c).bucket)
	}
	b.queue(w).push(w)
	a.waits(w, 1)
	l.pump(a)
	l.mu.Unlock()
	select {
	case g := <-w.got:
		return g.place, g.err()
	default:
	}
	select {
	case g := <-w.got:
		return g.place, g.err()
	case <-ctx.Done():
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if b.queue(w).drop(w) {
		a.waits(w, -1)
		return nil, ctx.Err()
	}
	g := <-w.got // it was let through at the same moment
	return g.place, g.err()
}

func (g grant) err() error {
	if g.place == nil {
		return &StoppedError{g.until}
	}
	return nil
}

func (b *budget) queue(w *waiter) *queue {
	if w.want.urgent() {
		return b.urgent
	}
	return b.rest
}

// pump lets through what may go. l.mu is held.
func (l *Limits) pump(a *account) {
	now := time.Now()
	for _, b := range a.budgets {
		if b.bucket != nil {
			b.fill(now)
		}
	}
	for _, c := range a.caps {
		c.fill(now)
	}
	for {
		w, b := l.next(a)
		if w == nil {
			break
		}
		n := w.want.calls()
		if b.bucket != nil {
			b.take(n)
		}
		for _, c := range w.caps {
			c.take(n)
		}
		a.busy++
		if w.want.long() {
			a.long++
		}
		a.waits(w, -1)
		w.got <- grant{place: &Place{l: l, a: a, b: b, long: w.want.long(), from: now}}
	}
	l.arm(a)
}

// next takes the call that goes next. The order of budgets is random: none has
// always the first pick of what is free.
func (l *Limits) next(a *account) (*waiter, *budget) {
	for _, b := range a.budgets {
		if b.row < turn-1 || b.rest.waiting == 0 {
			continue
		}
		if w := l.pop(a, b, b.rest, false); w != nil {
			b.row = 0
			return w, b
		}
	}
	for _, b := range a.budgets {
		if w := l.pop(a, b, b.urgent, false); w != nil {
			if b.row++; b.rest.waiting == 0 {
				b.row = 0
			}
			return w, b
		}
	}
	for _, b := range a.budgets {
		if w := l.pop(a, b, b.rest, true); w != nil {
			b.row = 0
			return w, b
		}
	}
	return nil, nil
}

func (l *Limits) pop(a *account, b *budget, q *queue, reserve bool) *waiter {
	if q.waiting == 0 {
		return nil
	}
	return q.pop(func(w *waiter) bool {
		need := w.want.need(reserve)
		if b.bucket != nil && !b.ready(need) {
			return false
		}
		free := l.slots
		if w.want.urgent() {
			free += l.extra()
		}
		if a.busy >= free || w.want.long() && a.long >= max(l.slots/2, 1) {
			return false
		}
		for _, c := range w.caps {
			if !c.ready(need) {
				return false
			}
		}
		return true
	})
}

// arm wakes the account when the next token is back that somebody may wait for. Who
// needs more of them waits on.
func (l *Limits) arm(a *account) {
	var next time.Duration
	look := func(b *bucket) {
		for need := 1.0; need <= mostCalls+reserved; need++ {
			if d := b.wait(need); d > 0 {
				if next == 0 || d < next {
					next = d
				}
				return
			}
		}
	}
	waiting := false
	for _, b := range a.budgets {
		if b.urgent.waiting+b.rest.waiting == 0 {
			continue
		}
		waiting = true
		if b.bucket != nil {
			look(b.bucket)
		}
	}
	for _, c := range a.caps {
		if c.waiting > 0 {
			look(c.bucket)
		}
	}
	switch {
	case !waiting || next == 0: // nobody waits, or for the end of a call only
		if a.wake != nil {
			a.wake.Stop()
		}
	case a.wake == nil:
		a.wake = time.AfterFunc(next, func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.pump(a)
		})
	default:
		a.wake.Reset(next)
	}
}

// Done gives the place back when the call has ended. It may be called twice.
func (p *Place) Done() {
	p.l.mu.Lock()
	defer p.l.mu.Unlock()
	if p.done {
		return
	}
	p.done = true
	p.a.busy--
	if p.long {
		p.a.long--
	}
	p.l.pump(p.a)
}

// Stop says that the provider answered this call with "too many requests": its API is
// stopped until a time (world's) for all, and goes slower for a while, because it was
// within its rate.
func (p *Place) Stop(until time.Time) {
	p.l.mu.Lock()
	defer p.l.mu.Unlock()
	p.l.stop(p.a, p.b, until)
	if p.b.bucket != nil {
		p.b.slow(p.from, time.Now())
	}
}

// Stop stops an account's API until a time (world's): a Retry-After is obeyed by every
// call that has not been made yet, also those that wait already.
func (l *Limits) Stop(provider, account, api string, until time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.account(provider, account)
	l.stop(a, a.budget(api), until)
}

func (l *Limits) stop(a *account, b *budget, until time.Time) {
	if until.After(b.stopped) {
		b.stopped = until
	}
	for _, q := range []*queue{b.urgent, b.rest} {
		for _, w := range q.all() {
			a.waits(w, -1)
			w.got <- grant{until: b.stopped}
		}
	}
	b.row = 0
	l.arm(a)
}

// Stops are what an account was told to wait for, by API, as far as it is not over
// at now (world's time).
func (l *Limits) Stops(provider, name string, now time.Time) map[string]time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := map[string]time.Time{}
	if a, ok := l.accounts[accountID{provider, name}]; ok {
		for api, b := range a.budgets {
			if b.stopped.After(now) {
				out[api] = b.stopped
			}
		}
	}
	return out
}

// Take takes an account over from another holder: its stops are obeyed here too,
// and when the other ended a moment ago (drained) the budget begins empty, because
// the other may have used what a full one allows at once.
func (l *Limits) Take(provider, name string, stops map[string]time.Time, drained bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.account(provider, name)
	now := time.Now()
	for _, b := range a.budgets {
		if b.bucket == nil {
			continue
		}
		b.bucket = newBucket(b.rate, now)
		if drained {
			b.tokens = 0
		}
	}
	for api, until := range stops {
		l.stop(a, a.budget(api), until)
	}
	l.pump(a)
}

// Why an API goes at the rate it does.
const (
	WhyConfigured = "configured" // by the descriptor and rekey.yaml
	WhyThrottled  = "throttled"  // the provider allows less than that
	WhyStopped    = "stopped"    // the provider said: wait
)

// A Spent is how one API's budget stands.
type Spent struct {
	Provider, Account, API string
	Used                   float64 // part of what is allowed that was used lately, 0 to 1
	Allowed                float64 // calls a second now
	Why                    string  // one of the Why… constants
	Waiting                int     // calls that wait
}

// Spent tells how every budget with a rate stands at now (world's time).
func (l *Limits) Spent(now time.Time) []Spent {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []Spent
	for id, a := range l.accounts {
		for api, b := range a.budgets {
			if b.bucket == nil {
				continue
			}
			s := Spent{Provider: id.provider, Account: id.name, API: api, Used: b.used(time.Now()), Why: WhyConfigured, Waiting: b.urgent.waiting + b.rest.waiting}
			s.Allowed = b.rate * b.share
			if b.share < 1 {
				s.Why = WhyThrottled
			}
			if b.stopped.After(now) {
				s.Used, s.Allowed, s.Why = 1, 0, WhyStopped
			}
			out = append(out, s)
		}
	}
	return out
}
