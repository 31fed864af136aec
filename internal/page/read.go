package page

import (
	"encoding/json"
	"fmt"
	"time"

	"rekey/activities"
	"rekey/internal/canon"
)

// looks are the waits between two looks at who uses the replacement. They grow: a wait
// of three days costs some eighty looks, not thousands; after [dailyFrom] looks it is
// one a day.
var looks = []time.Duration{time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 15 * time.Minute, 30 * time.Minute, time.Hour}

const dailyFrom = 80

// looked takes a reading of who uses the replacement. Uses carry no names: one
// dependent is proven by any use that is not ours, n by n different callers.
func (r *Row) looked(a activities.Attempt, now time.Time) {
	r.fresh()
	r.Looks++
	pause := looks[min(r.Looks, len(looks))-1]
	if r.Looks > dailyFrom {
		pause = 24 * time.Hour
	}
	if a.Class == activities.ClassThrottled {
		pause = max(pause, time.Duration(a.AfterMs)*time.Millisecond)
	}
	r.wait(pause, "", now)
	if a.Inspect == nil {
		return // not read: the next look tells
	}
	callers := map[string]bool{}
	for _, u := range a.Inspect.Uses {
		if u.Last.After(r.Placed.Time) && u.Count > u.Refused {
			callers[u.Source+" "+u.Agent] = true
		}
	}
	r.CutOver = min(len(callers), len(r.Dependents))
	if r.CutOver >= len(r.Dependents) {
		r.Adoption = adopted
	}
}

// inspect has the row read. What the provider has no way to read is unseen: "uses" is
// the source whose absence makes every fact about use unknown.
func (f *Facts) inspect(r *Row) {
	if f.kind(r).has(activities.Inspect) {
		r.Next = Next{Verb: activities.Inspect}
		return
	}
	r.unread([]activities.Unseen{{Source: "uses", Why: "the provider has no Inspect for " + r.Kind}})
}

// read takes a reading of the scope.
func (f *Facts) read(r *Row, a activities.Attempt, now time.Time) {
	r.Tries++
	switch {
	case a.Class == activities.ClassThrottled:
		r.throttled(a, now)
	case r.Failures < settle-1 && (a.Class == activities.ClassTransient || a.Class == activities.ClassUnclear):
		r.Failures++
		r.wait(backoff(r.Failures), "repeated after a failure", now)
	case a.Inspect == nil:
		r.unread([]activities.Unseen{{Source: r.Provider, Why: a.Detail, Permission: a.Permission}, {Source: "uses", Why: a.Detail, Permission: a.Permission}})
		return
	default:
		if a.Inspect.Principal != "" {
			r.Principal = a.Inspect.Principal
		}
		r.Roles = a.Inspect.Roles
		r.keep(*a.Inspect)
		return
	}
	r.Next = Next{Verb: activities.Inspect, Due: r.After, Why: r.AfterWhy}
}

// unread notes what of the row could not be read, and that it is not asked again.
func (r *Row) unread(why []activities.Unseen) { r.keep(activities.InspectResult{Unseen: why}) }

// keep takes a reading of the scope; the row waits for the plan then.
func (r *Row) keep(res activities.InspectResult) {
	if b, err := canon.JSON(res); err == nil {
		r.Reading = b
	}
	r.fresh()
	r.Next = Next{}
}

// Read gives the reading of the scope, nil when there is none.
func (r *Row) Read() (*activities.InspectResult, error) {
	if len(r.Reading) == 0 {
		return nil, nil
	}
	var res activities.InspectResult
	if err := json.Unmarshal(r.Reading, &res); err != nil {
		return nil, fmt.Errorf("page: reading of %s: %w", r.Key().Short(), err)
	}
	return &res, nil
}
