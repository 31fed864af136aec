package report

import (
	"fmt"
	"math"
	"slices"
	"time"

	"rekey/internal/audit"
)

// drawing is the timeline as shapes in SVG units.
type drawing struct {
	Width, Height float64
	Left, Right   float64
	AxisY         float64
	Phases        []bar
	Rows          []row
	Rules         []rule
	Ticks         []tick
	Votes         []mark
	VoteY         float64
	PhaseY        float64
	More          int
}

type bar struct {
	X, Y, W, H   float64
	Class, Title string
	Label        string
	LabelX       float64
}

type row struct {
	Y           float64
	Label, Kind string
	Bars        []bar
	Marks       []mark
}

// mark is drawn by its Shape: tick, cross, ring, diamond, vote.
type mark struct {
	X, Y         float64
	Shape, Class string
	Title        string
}

type rule struct {
	X, Y1, Y2 float64
	Class     string
	Label     string
	LabelY    float64
	Anchor    string
}

type tick struct {
	X             float64
	Label, Offset string
}

const (
	drawWidth = 1180.0
	drawLeft  = 210.0
	drawRight = 1160.0
	rowHeight = 46.0
	rowsTop   = 96.0
	drawRows  = 40
)

// scale maps time to x so that seconds around the kill and hours of waiting are both
// visible: each gap between two neighbouring moments gets the logarithm of its
// length. The axis says so, and its labels are true times.
type scale struct {
	at []time.Time
	x  []float64
}

func newScale(times []time.Time) scale {
	slices.SortFunc(times, time.Time.Compare)
	times = slices.CompactFunc(times, time.Time.Equal)
	s := scale{at: times, x: make([]float64, len(times))}
	total := 0.0
	for i := 1; i < len(times); i++ {
		total += math.Log1p(times[i].Sub(times[i-1]).Seconds() / 4)
		s.x[i] = total
	}
	for i := range s.x {
		if total > 0 {
			s.x[i] /= total
		}
		s.x[i] = drawLeft + s.x[i]*(drawRight-drawLeft)
	}
	return s
}

// of gives x; between two moments it interpolates, outside it stays at the edge.
func (s scale) of(t time.Time) float64 {
	i, found := slices.BinarySearchFunc(s.at, t, time.Time.Compare)
	switch {
	case len(s.at) == 0 || i == 0:
		return drawLeft
	case found:
		return round(s.x[i])
	case i == len(s.at):
		return drawRight
	}
	span := s.at[i].Sub(s.at[i-1]).Seconds()
	return round(s.x[i-1] + (s.x[i]-s.x[i-1])*t.Sub(s.at[i-1]).Seconds()/span)
}

func round(x float64) float64 { return math.Round(x*10) / 10 }

func draw(s *audit.Story) drawing {
	items := s.Items
	d := drawing{Width: drawWidth, Left: drawLeft, Right: drawRight, PhaseY: 30, VoteY: 76}
	if len(items) > drawRows {
		items, d.More = items[:drawRows], len(items)-drawRows
	}
	x := newScale(moments(s, items))
	d.AxisY = rowsTop + rowHeight*float64(len(items)) + 8
	d.Height = d.AxisY + 44
	for i, p := range s.Phases {
		class := "phase even"
		if i%2 == 1 {
			class = "phase odd"
		}
		b := bar{X: x.of(p.From), Y: d.PhaseY, W: round(max(x.of(p.To)-x.of(p.From), 1)), H: 24, Class: class, Title: fmt.Sprintf("%s: %s, %s", p.Phase, clock(p.From), duration(p.To.Sub(p.From)))}
		if b.W > float64(len(p.Phase))*6.6+6 {
			b.Label, b.LabelX = p.Phase, round(b.X+b.W/2)
		}
		d.Phases = append(d.Phases, b)
	}
	for _, v := range s.Votes {
		class := "good"
		if v.What != "granted" {
			class = "bad"
		}
		d.Votes = append(d.Votes, mark{x.of(v.At), d.VoteY, "vote", class, fmt.Sprintf("%s by %s, %s", v.What, v.Who, clock(v.At))})
	}
	for i, item := range items {
		d.Rows = append(d.Rows, drawItem(item, x, rowsTop+rowHeight*float64(i), s.Last))
	}
	d.rule(x, s.Reported, "report", "reported")
	if !s.Contained.IsZero() {
		d.rule(x, s.Contained, "contained", "every item settled")
	}
	d.ticks(x, s)
	return d
}

// moments are the times that get room of their own.
func moments(s *audit.Story, items []*audit.ItemStory) []time.Time {
	times := []time.Time{}
	add := func(t time.Time) {
		if !t.IsZero() {
			times = append(times, t)
		}
	}
	add(s.First)
	add(s.Last)
	add(s.Reported)
	for _, p := range s.Phases {
		add(p.From)
	}
	for _, v := range s.Votes {
		add(v.At)
	}
	for _, item := range items {
		for _, t := range []time.Time{item.Exposed, item.Disabled, item.Dead, item.Revoked, item.Ended} {
			add(t)
		}
		for _, m := range append(slices.Clone(item.Probes), item.Hits...) {
			add(m.At)
		}
	}
	return times
}

// drawItem draws the life of the old key: alive, disabled, proven dead, revoked.
func drawItem(item *audit.ItemStory, x scale, y float64, last time.Time) row {
	r := row{Y: y, Label: name(item), Kind: first(item.EndState, "open")}
	if item.Kind != "" {
		r.Kind = item.Kind + " · " + r.Kind
	}
	type stretch struct {
		from, to    time.Time
		class, what string
	}
	// A border that never came, or came out of order, leaves its stretch out.
	borders := []struct {
		at    time.Time
		class string
		what  string
	}{
		{item.Exposed, "alive", "exposed and alive"},
		{item.Disabled, "disabled", "disabled, not yet proven dead"},
		{item.Dead, "dead", "proven dead"},
		{item.Revoked, "revoked", "revoked for good"},
	}
	var stretches []stretch
	for _, b := range borders {
		if b.at.IsZero() {
			continue
		}
		if n := len(stretches); n > 0 {
			if b.at.Before(stretches[n-1].from) {
				continue
			}
			stretches[n-1].to = b.at
		}
		stretches = append(stretches, stretch{b.at, last, b.class, b.what})
	}
	for _, s := range stretches {
		from, to := x.of(s.from), x.of(s.to)
		r.Bars = append(r.Bars, bar{X: from, Y: y + 4, W: round(max(to-from, 1.5)), H: 18, Class: "life " + s.class,
			Title: fmt.Sprintf("%s: %s since %s, %s", name(item), s.what, clock(s.from), duration(s.to.Sub(s.from)))})
	}
	for _, p := range item.Probes {
		shape, class := "ring", "unclear"
		switch p.What {
		case "refused":
			shape, class = "tick", "good"
		case "alive", "mismatch":
			shape, class = "cross", "bad"
		}
		r.Marks = append(r.Marks, mark{x.of(p.At), y + 29, shape, class, fmt.Sprintf("probe %s: %s, %s", p.Who, p.What, clock(p.At))})
	}
	for _, h := range item.Hits {
		class := "denied"
		if h.What != audit.HitRefused {
			class = "allowed"
		}
		r.Marks = append(r.Marks, mark{x.of(h.At), y + 13, "diamond", class, fmt.Sprintf("use by %s: %s, %s", h.Who, h.What, clock(h.At))})
	}
	return r
}

func (d *drawing) rule(x scale, at time.Time, class, label string) {
	r := rule{X: x.of(at), Y1: 18, Y2: d.AxisY, Class: class, Label: label, LabelY: 13, Anchor: "middle"}
	if r.X > drawRight-60 {
		r.Anchor = "end"
	}
	d.Rules = append(d.Rules, r)
}

// ticks labels the moments that are nearest to even distances, so that no two
// labels touch.
func (d *drawing) ticks(x scale, s *audit.Story) {
	lastX := -1000.0
	for i, at := range x.at {
		if x.x[i]-lastX < 92 {
			continue
		}
		sign, offset := "+", at.Sub(s.Reported)
		if offset < 0 {
			sign, offset = "−", -offset
		}
		label := at.UTC().Format("15:04:05")
		if i == 0 || at.UTC().YearDay() != x.at[i-1].UTC().YearDay() {
			label = at.UTC().Format("Jan 2 15:04")
		}
		d.Ticks = append(d.Ticks, tick{round(x.x[i]), label, sign + duration(offset)})
		lastX = x.x[i]
	}
}
