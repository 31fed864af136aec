package awssim

import (
	"net/http"
	"time"
)

// Rate is a limit of Count calls in Per. A caller above it is refused with Status (0: 400, as IAM
// does it) and, with RetryAfter, told to wait that long: until then it is refused whatever it calls
// of this API.
type Rate struct {
	Count      int
	Per        time.Duration
	RetryAfter time.Duration
	Status     int
}

// limits keeps the buckets of the account's APIs, and what its callers were told to wait for.
type limits struct {
	rates   map[string]Rate
	buckets map[string]*bucket
	stops   map[string]stop // by service, or service.write
}

// stop is a Retry-After: until when (world time), and when the answer that said so was made (wall
// time).
type stop struct {
	until time.Time
	told  time.Time
}

// inFlight is how long after such an answer a call may still arrive that was made before it was
// read: with many callers at once some are always under way.
const inFlight = 100 * time.Millisecond

// Stop values of a record.
const (
	StopInFlight = "in-flight" // made before the caller can have read that it must wait
	StopDuring   = "during"    // made although its caller was told to wait
)

func newLimits(rates map[string]Rate) limits {
	return limits{rates: rates, buckets: map[string]*bucket{}, stops: map[string]stop{}}
}

// bucket is a token bucket kept in world time and in wall time. A call is over the limit only
// where both are empty: with a virtual clock a client may pace itself by either.
type bucket struct{ world, wall meter }

type meter struct {
	tokens float64
	last   time.Time
}

func (m *meter) fill(now time.Time, r Rate) {
	if m.last.IsZero() {
		m.tokens = float64(r.Count)
	} else if d := now.Sub(m.last); d > 0 {
		m.tokens = min(float64(r.Count), m.tokens+float64(r.Count)*float64(d)/float64(r.Per))
	}
	m.last = now
}

// apis are the names under which a call may be limited.
func (c *call) apis() [3]string {
	out := [3]string{c.service, "", c.service + ":" + c.action}
	if !c.op.read {
		out[1] = c.service + ".write"
	}
	return out
}

// overLimit refuses a call that is one too many, and notes one that comes while its caller was told
// to wait.
func (s *Sim) overLimit(c *call) *APIError {
	if !c.network {
		return nil // the attacker has its own share; what is tested is whether the engine keeps to the limit
	}
	l := &s.limits
	for _, api := range c.apis() {
		if st, ok := l.stops[api]; ok && c.now.Before(st.until) {
			c.stop = StopDuring
			if c.arrived.Before(st.told.Add(inFlight)) {
				c.stop = StopInFlight
			}
			if r, limited := l.rates[api]; limited && r.RetryAfter > 0 {
				return r.refuse(st.until.Sub(c.now))
			}
		}
	}
	for _, api := range c.apis() {
		rate, ok := l.rates[api]
		if !ok {
			continue
		}
		b := l.buckets[api]
		if b == nil {
			b = &bucket{}
			l.buckets[api] = b
		}
		b.world.fill(c.now, rate)
		b.wall.fill(time.Now(), rate)
		if b.world.tokens < 1 && b.wall.tokens < 1 {
			return rate.refuse(rate.RetryAfter)
		}
		b.world.tokens = max(0, b.world.tokens-1)
		b.wall.tokens = max(0, b.wall.tokens-1)
	}
	return nil
}

func (r Rate) refuse(after time.Duration) *APIError {
	err := fail(http.StatusBadRequest, "Throttling", "Rate exceeded")
	if r.Status != 0 {
		err.Status = r.Status
	}
	err.RetryAfter = after
	return err
}

// told notes what an answer tells its caller to wait for: the whole service, or only what changes
// something where only that is limited.
func (l *limits) told(c *call, err *APIError) {
	if err.RetryAfter <= 0 || c.stop != "" {
		return // a stop is not made longer by calls against it
	}
	api := c.service
	if _, whole := l.rates[api]; !whole && !c.op.read {
		if _, write := l.rates[api+".write"]; write {
			api += ".write"
		}
	}
	until := c.now.Add(err.RetryAfter)
	if until.After(l.stops[api].until) {
		l.stops[api] = stop{until: until, told: time.Now()}
	}
}
