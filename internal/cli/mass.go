package cli

import (
	"fmt"
	"time"

	"rekey/internal/view"
)

// provenDead counts the items whose old key is proven dead, rows of pages among them.
func provenDead(v view.Incident) int {
	n := deadCount(v)
	if v.Mass != nil {
		n += v.Mass.Dead
	}
	return n
}

// partly tells whether of some items it is not known how they stand: the view holds the
// first ones only, and no counts of the others.
func partly(v view.Incident) bool {
	return v.Truncated && (v.Mass == nil || len(v.Items)+v.Mass.Items < v.Totals.Items)
}

// massLines are the waves over rows, and the rows that no wave moves.
func massLines(v view.Incident, now time.Time) []string {
	m := v.Mass
	if m == nil {
		return nil
	}
	t := table{}
	for _, w := range m.Waves {
		t.add(fmt.Sprintf("wave %d", w.N), count(w.Items, "item", "items"), fmt.Sprintf("%d proven dead", w.Dead), fmt.Sprintf("%d open", w.Open), massETA(w, now))
	}
	for _, l := range m.Left {
		t.add(l.Strategy, count(l.Items, "item", "items"), or(l.EndState, "open"), l.Task, "")
	}
	out := t.lines("  ")
	if m.Reading > 0 {
		out = append(out, "  "+count(m.Reading, "item is", "items are")+" still being read")
	}
	return append(out, fmt.Sprintf("  %s in pages, one by one: rekey incident items %s --all", count(m.Items, "item", "items"), v.ID))
}

// massETA says what the plan gives a wave that is under way.
func massETA(w view.MassWave, now time.Time) string {
	from, err := time.Parse(time.RFC3339, w.Started)
	if w.ETAMs == 0 || w.Open == 0 || err != nil {
		return ""
	}
	left := time.Duration(w.ETAMs)*time.Millisecond - now.Sub(from)
	if left < 0 {
		return span(-left) + " longer than planned"
	}
	return "about " + span(left) + " by the plan"
}

// A pace is how fast the items of an incident get ahead, as it was seen. It says what
// is left at that pace, and admits when nothing moves.
type pace struct{ seen []moment }

// A moment is how many were proven dead and how many ended.
type moment struct {
	at          time.Time
	dead, ended int
}

const (
	// paceSpan is over how long the pace is taken.
	paceSpan = 2 * time.Minute
	// paceLeast is how long one must have looked before a pace is named.
	paceLeast = 5 * time.Second
	// paceStill is after how long without any progress that is said instead.
	paceStill = time.Minute
)

// see takes a reading.
func (p *pace) see(v view.Incident, now time.Time) {
	if v.Mass == nil {
		return
	}
	m := moment{now, provenDead(v), v.Totals.Items - v.Totals.Open}
	if n := len(p.seen); n > 0 && p.seen[n-1].dead == m.dead && p.seen[n-1].ended == m.ended && n > 1 && p.seen[n-2].dead == m.dead && p.seen[n-2].ended == m.ended {
		p.seen[n-1] = m // it stands still: the begin of that and now are enough
	} else {
		p.seen = append(p.seen, m)
	}
	for len(p.seen) > 2 && now.Sub(p.seen[1].at) >= paceSpan {
		p.seen = p.seen[1:]
	}
}

// says gives one line about the mass, "" where there is none or all have ended.
func (p *pace) says(v view.Incident) string {
	if v.Mass == nil || v.Totals.Open == 0 || len(p.seen) == 0 {
		return ""
	}
	dead, total := provenDead(v), v.Totals.Items
	ended := total - v.Totals.Open
	first, last := p.seen[0], p.seen[len(p.seen)-1]
	took := last.at.Sub(first.at)
	part, verb, gone := dead, "proven dead", last.dead-first.dead
	if gone <= 0 && last.ended > first.ended || dead >= total {
		part, verb, gone = ended, "in an end state", last.ended-first.ended
	}
	text := fmt.Sprintf("%d of %d %s", part, total, verb)
	switch {
	case gone > 0 && took >= paceLeast:
		rate := float64(gone) / took.Seconds()
		left := time.Duration(float64(total-part) / rate * float64(time.Second))
		return fmt.Sprintf("%s, %s: about %s for the rest at this pace", text, perTime(rate), span(left))
	case gone <= 0 && p.still() >= paceStill:
		return fmt.Sprintf("%s, no progress for %s", text, span(p.still()))
	}
	return text
}

// still is for how long nothing has got ahead.
func (p *pace) still() time.Duration {
	last := p.seen[len(p.seen)-1]
	from := last
	for i := len(p.seen) - 1; i >= 0 && p.seen[i].dead == last.dead && p.seen[i].ended == last.ended; i-- {
		from = p.seen[i]
	}
	return last.at.Sub(from.at)
}

// perTime writes a rate in the unit in which it is one or more.
func perTime(perSecond float64) string {
	switch {
	case perSecond >= 1:
		return fmt.Sprintf("%.0f a second", perSecond)
	case perSecond*60 >= 1:
		return fmt.Sprintf("%.0f a minute", perSecond*60)
	}
	return fmt.Sprintf("%.0f an hour", perSecond*3600)
}
