package worker

import (
	"context"
	"slices"
	"sync"
	"time"

	"rekey/internal/canon"
	"rekey/internal/metrics"
	"rekey/internal/server"
	"rekey/internal/view"
)

// A reading of the open incidents: how often, how long at most, how many are asked
// each time, and how long an answer stands for one that is not asked again yet.
const (
	readEvery   = 20 * time.Second
	readLimit   = 15 * time.Second
	askLimit    = 3 * time.Second
	askAtOnce   = 4
	askEach     = 60
	listAtMost  = 5000
	answerLasts = 10 * time.Minute
)

// A stateReader reads what the gauges of incidents, items, approvals and notices
// show, beside the scrapes. Phase and severity come from one listing; what only the
// incident itself knows is asked of a bounded number each time, in turn.
type stateReader struct {
	incidents interface {
		List(ctx context.Context, f server.Filter) (view.List, error)
		Show(ctx context.Context, id string) (view.Incident, error)
	}
	put   func(metrics.State)
	now   func() time.Time
	world func(context.Context) time.Time

	known map[string]answer
}

// An answer is what an incident said last.
type answer struct {
	at       time.Time
	state    string
	items    map[string]int
	notices  map[string]int
	behind   map[string]int // lines by channel
	approval time.Time
}

// run reads until ctx ends.
func (s *stateReader) run(ctx context.Context) {
	for {
		s.read(ctx)
		select {
		case <-ctx.Done():
			return
		case <-time.After(readEvery):
		}
	}
}

// read is one reading. Where the listing fails, the state before stands, and its
// age grows: a gauge that falls to zero because nobody could look would be a lie.
func (s *stateReader) read(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, readLimit)
	defer cancel()
	var open []view.Summary
	f := server.Filter{State: "open", Size: 500}
	for {
		l, err := s.incidents.List(ctx, f)
		if err != nil {
			return
		}
		open = append(open, l.Incidents...)
		if f.After = l.Next; f.After == "" || len(open) >= listAtMost {
			break
		}
	}
	s.ask(ctx, open)
	s.put(s.state(ctx, open))
}

// ask asks those whose answer is the oldest.
func (s *stateReader) ask(ctx context.Context, open []view.Summary) {
	ids := make([]string, 0, len(open))
	for _, i := range open {
		ids = append(ids, i.ID)
	}
	kept := map[string]answer{}
	for _, id := range ids {
		if a, ok := s.known[id]; ok {
			kept[id] = a
		}
	}
	s.known = kept // closed incidents are forgotten
	slices.SortStableFunc(ids, func(a, b string) int { return kept[a].at.Compare(kept[b].at) })
	var mu sync.Mutex
	var wg sync.WaitGroup
	slots := make(chan struct{}, askAtOnce)
	for _, id := range ids[:min(len(ids), askEach)] {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			ctx, cancel := context.WithTimeout(ctx, askLimit)
			defer cancel()
			v, err := s.incidents.Show(ctx, id)
			if err != nil {
				return
			}
			a := answerOf(v)
			a.at = s.now()
			mu.Lock()
			defer mu.Unlock()
			s.known[id] = a
		})
	}
	wg.Wait()
}

func answerOf(v view.Incident) answer {
	a := answer{state: v.State, items: map[string]int{}, behind: map[string]int{}, notices: map[string]int{
		"queued": v.Notices.Queued, "sent": v.Notices.Sent, "delivered": v.Notices.Delivered, "bounced": v.Notices.Bounced, "acknowledged": v.Notices.Acknowledged,
		"unclear": v.Notices.Unclear,
	}}
	for _, n := range v.NoticesSent {
		if n.State == "superseded" { // counted nowhere else: it was never sent
			a.notices[n.State]++
		}
	}
	for _, r := range v.Records {
		a.behind[r.Channel] += int(r.Behind)
	}
	for _, it := range v.Items {
		if it.EndState == "" {
			a.items[it.Death.State]++
		}
	}
	shown := len(v.Items)
	for end, n := range v.Totals.ByEndState {
		a.items[end] += n
	}
	if v.Truncated { // of those beyond the first 200 it is known only that they are open
		for _, it := range v.Items {
			if it.EndState != "" {
				shown--
			}
		}
		a.items[metrics.Unknown] += max(v.Totals.Open-shown, 0)
	}
	for _, ap := range v.Approvals {
		asked, err := time.Parse(canon.TimeLayout, ap.Asked)
		if err == nil && ap.State == "open" && (a.approval.IsZero() || asked.Before(a.approval)) {
			a.approval = asked
		}
	}
	return a
}

// state is what the open incidents come to.
func (s *stateReader) state(ctx context.Context, open []view.Summary) metrics.State {
	now := s.now()
	// The world's time of an approval against the world's time: in a lab both are
	// the lab's.
	ahead := s.world(ctx).Sub(now)
	out := metrics.State{At: now, Incidents: map[metrics.Incident]int{}, Items: map[string]int{}, Notices: map[string]int{}, Behind: map[string]int{}}
	for _, i := range open {
		g := metrics.Incident{Phase: or(i.Phase, metrics.Unknown), State: metrics.Unknown, Severity: or(i.Severity, metrics.Unknown)}
		a, ok := s.known[i.ID]
		if !ok || now.Sub(a.at) > answerLasts {
			out.Unread++
			out.Items[metrics.Unknown] += i.Open
			out.Incidents[g]++
			continue
		}
		g.State = a.state
		out.Incidents[g]++
		for k, n := range a.items {
			out.Items[k] += n
		}
		for k, n := range a.notices {
			out.Notices[k] += n
		}
		for k, n := range a.behind {
			out.Behind[k] += n
		}
		if at := a.approval.Add(-ahead); !a.approval.IsZero() && (out.OldestApproval.IsZero() || at.Before(out.OldestApproval)) {
			out.OldestApproval = at
		}
	}
	return out
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
