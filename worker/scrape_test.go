package worker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/internal/canon"
	"rekey/internal/metrics"
	"rekey/internal/server"
	"rekey/internal/view"
)

// someIncidents answers for incidents, or not.
type someIncidents struct {
	mu    sync.Mutex
	open  []view.Summary
	show  map[string]view.Incident
	fail  error
	asked []string
}

func (s *someIncidents) List(_ context.Context, f server.Filter) (view.List, error) {
	if s.fail != nil {
		return view.List{}, s.fail
	}
	at := 0
	if f.After != "" {
		_, _ = fmt.Sscan(f.After, &at)
	}
	end := min(at+f.Size, len(s.open))
	l := view.List{Incidents: s.open[at:end]}
	if end < len(s.open) {
		l.Next = fmt.Sprint(end)
	}
	return l, nil
}

func (s *someIncidents) Show(_ context.Context, id string) (view.Incident, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, id)
	v, ok := s.show[id]
	if !ok {
		return v, errors.New("no answer")
	}
	return v, nil
}

func at(n int) time.Time { return time.Date(2026, 11, 22, 3, n, 0, 0, time.UTC) }

func reading(s *someIncidents) (*stateReader, *metrics.State) {
	var last metrics.State
	r := &stateReader{incidents: s, put: func(st metrics.State) { last = st }, now: func() time.Time { return at(30) }, world: func(context.Context) time.Time { return at(30) }}
	return r, &last
}

func TestGaugesAreWhatIncidentsSay(t *testing.T) {
	v := view.Incident{State: "waiting", Notices: view.Notices{Queued: 2, Sent: 1}, Records: []view.Record{{Channel: "slack", Behind: 4}, {Channel: "github"}}}
	v.Items = []view.Item{{Death: view.Death{State: "dead"}, EndState: "revoked-verified"}, {Death: view.Death{State: "proving"}}}
	v.Totals = view.Totals{Items: 2, Open: 1, ByEndState: map[string]int{"revoked-verified": 1}}
	v.Approvals = []view.Approval{
		{State: "granted", Asked: canon.Time(at(1))}, {State: "open", Asked: canon.Time(at(20))}, {State: "open", Asked: canon.Time(at(10))},
	}
	s := &someIncidents{
		open: []view.Summary{{ID: "inc-a", Phase: "act", Severity: "critical", Open: 1}, {ID: "inc-b", Phase: "plan", Open: 4}},
		show: map[string]view.Incident{"inc-a": v},
	}
	r, last := reading(s)
	r.read(t.Context())
	require.Equal(t, map[metrics.Incident]int{
		{Phase: "act", State: "waiting", Severity: "critical"}: 1,
		{Phase: "plan", State: "unknown", Severity: "unknown"}: 1,
	}, last.Incidents, "one that does not answer is counted as unknown")
	require.Equal(t, map[string]int{"revoked-verified": 1, "proving": 1, "unknown": 4}, last.Items)
	require.Equal(t, at(10), last.OldestApproval)
	require.Equal(t, 1, last.Unread)
	require.Equal(t, 2, last.Notices["queued"])
	require.Equal(t, map[string]int{"slack": 4, "github": 0}, last.Behind, "a channel that is not behind is shown as 0")
	require.Equal(t, at(30), last.At)
}

// In a lab the world's clock is not ours; the age of a question is the world's.
func TestAnApprovalAgesByTheWorldsClock(t *testing.T) {
	s := &someIncidents{open: []view.Summary{{ID: "inc-a"}}, show: map[string]view.Incident{
		"inc-a": {State: "waiting", Approvals: []view.Approval{{State: "open", Asked: canon.Time(at(10).Add(-24 * time.Hour))}}},
	}}
	r, last := reading(s)
	r.world = func(context.Context) time.Time { return at(30).Add(-24 * time.Hour) }
	r.read(t.Context())
	require.Equal(t, at(10), last.OldestApproval)
}

func TestItemsBeyondThoseShownAreCounted(t *testing.T) {
	v := view.Incident{State: "open", Truncated: true, Totals: view.Totals{Items: 1000, Open: 900, ByEndState: map[string]int{"revoked-verified": 100}}}
	for range view.ShownItems {
		v.Items = append(v.Items, view.Item{Death: view.Death{State: "alive"}})
	}
	s := &someIncidents{open: []view.Summary{{ID: "inc-a"}}, show: map[string]view.Incident{"inc-a": v}}
	r, last := reading(s)
	r.read(t.Context())
	require.Equal(t, map[string]int{"alive": view.ShownItems, "unknown": 900 - view.ShownItems, "revoked-verified": 100}, last.Items)
}

// The load on workflows is bounded however many incidents are open, and each comes
// to its turn.
func TestABoundedNumberIsAskedInTurn(t *testing.T) {
	s := &someIncidents{show: map[string]view.Incident{}}
	for n := range 3 * askEach {
		id := fmt.Sprintf("inc-%04d", n)
		s.open = append(s.open, view.Summary{ID: id, Phase: "act", Severity: "high"})
		s.show[id] = view.Incident{State: "open"}
	}
	r, last := reading(s)
	now := at(0)
	r.now = func() time.Time { return now }
	for round := range 3 {
		s.asked = nil
		now = at(round)
		r.read(t.Context())
		require.Len(t, s.asked, askEach)
	}
	require.Zero(t, last.Unread, "after three rounds each has been asked")
	require.Equal(t, 3*askEach, last.Incidents[metrics.Incident{Phase: "act", State: "open", Severity: "high"}])

	s.show = nil // nobody answers any more
	now = at(20)
	r.read(t.Context())
	require.Equal(t, 3*askEach, last.Unread, "an old answer is no answer")
	s.open = nil
	r.read(t.Context())
	require.Empty(t, last.Incidents)
	require.Empty(t, r.known, "closed incidents are forgotten")
}

// A gauge that falls to zero because nobody could look would be a lie.
func TestAFailedReadingChangesNothing(t *testing.T) {
	s := &someIncidents{fail: errors.New("down")}
	put := false
	r := &stateReader{incidents: s, put: func(metrics.State) { put = true }, now: time.Now, world: func(context.Context) time.Time { return time.Now() }}
	r.read(t.Context())
	require.False(t, put)
}

func TestNoticesAreCountedByEveryState(t *testing.T) {
	v := view.Incident{
		Notices:     view.Notices{Queued: 1, Sent: 2, Delivered: 3, Bounced: 4, Acknowledged: 5, Unclear: 6},
		NoticesSent: []view.Notice{{State: "superseded"}, {State: "superseded"}, {State: "unclear"}},
	}
	require.Equal(t, map[string]int{"queued": 1, "sent": 2, "delivered": 3, "bounced": 4, "acknowledged": 5, "unclear": 6, "superseded": 2}, answerOf(v).notices)
}
