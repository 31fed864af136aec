package batch

import (
	"slices"
	"time"
)

// A waiter is one call that waits for its place.
type waiter struct {
	want Want
	caps []*bucket // of its playbook
	seq  uint64
	got  chan grant
}

// A grant is the end of a wait: a place, or the time (world's) before which the
// account may not be called.
type grant struct {
	place *Place
	until time.Time
}

// A queue is the waiting calls of one budget, fair among incidents: who had least
// is next (start-time fair queueing, Goyal, Vin and Cheng 1996), so that each of n
// incidents gets its n-th part however many calls it has waiting, and one that comes
// anew is not behind the many calls of another.
type queue struct {
	flows map[string]*flow
	// at is the virtual time: the tag of the call that was let through last.
	at      float64
	waiting int
}

// A flow is the waiting calls of one incident.
type flow struct {
	tag     float64
	waiting []*waiter // those alone first, each kind in its order
}

func newQueue() *queue { return &queue{flows: map[string]*flow{}} }

func (q *queue) push(w *waiter) {
	f, ok := q.flows[w.want.Incident]
	if !ok {
		f = &flow{}
		q.flows[w.want.Incident] = f
		f.tag = q.at - 1
	} else if len(f.waiting) == 0 {
		f.tag = max(f.tag, q.at-1) // what it has had in the last round counts
	}
	i := len(f.waiting)
	if w.want.Alone {
		for i > 0 && !f.waiting[i-1].want.Alone {
			i--
		}
	}
	f.waiting = slices.Insert(f.waiting, i, w)
	q.waiting++
}

// pop takes the next call that may be made: of the incident that had least, its first
// one that ok lets through.
func (q *queue) pop(ok func(*waiter) bool) *waiter {
	var best *flow
	at := 0
	for _, f := range q.flows {
		if len(f.waiting) == 0 || best != nil && (f.tag > best.tag || f.tag == best.tag && f.waiting[0].seq > best.waiting[0].seq) {
			continue
		}
		if i := slices.IndexFunc(f.waiting, ok); i >= 0 {
			best, at = f, i
		}
	}
	if best == nil {
		return nil
	}
	w := best.waiting[at]
	best.waiting = slices.Delete(best.waiting, at, at+1)
	q.at = max(q.at, best.tag)
	best.tag += float64(w.want.calls())
	q.left()
	return w
}

// drop takes a call out that waits no more; false when it was let through already.
func (q *queue) drop(w *waiter) bool {
	f, ok := q.flows[w.want.Incident]
	if !ok {
		return false
	}
	i := slices.Index(f.waiting, w)
	if i < 0 {
		return false
	}
	f.waiting = slices.Delete(f.waiting, i, i+1)
	q.left()
	return true
}

// left counts one call less, and forgets incidents that a new one would not differ
// from.
func (q *queue) left() {
	if q.waiting--; q.waiting == 0 {
		clear(q.flows)
		q.at = 0
		return
	}
	const many = 64
	if len(q.flows) < many {
		return
	}
	for name, f := range q.flows {
		if len(f.waiting) == 0 && f.tag <= q.at-1 {
			delete(q.flows, name)
		}
	}
}

// all takes every call out.
func (q *queue) all() []*waiter {
	var out []*waiter
	for _, f := range q.flows {
		out = append(out, f.waiting...)
	}
	clear(q.flows)
	q.at, q.waiting = 0, 0
	return out
}
