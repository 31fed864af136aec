package derive

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	commonpb "go.temporal.io/api/common/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/converter"

	"rekey/activities"
	"rekey/internal/event"
	"rekey/internal/page"
)

// isPagePass reads the input of a pass over pages.
func isPagePass(name string, in *commonpb.Payloads, dc converter.DataConverter, p *page.Pass) bool {
	provider, _, ok := strings.Cut(name, ".")
	if !ok || in == nil || dc.FromPayloads(in, p) != nil {
		return false
	}
	return p.Verb != "" && name == page.Name(provider, p.Verb)
}

// passed writes what a pass over pages did: one event for up to 500 rows. What became of
// each stands in the pages that it names, and call by call in its journal.
func (r *reader) passed(e *historypb.HistoryEvent, sched *historypb.HistoryEvent, p page.Pass, result *commonpb.Payloads) error {
	var res page.PassResult
	if err := r.dc.FromPayloads(result, &res); err != nil {
		return fmt.Errorf("result of a pass over pages: %w", err)
	}
	r.passTime(sched, p)
	rows := 0
	var out []string
	for _, g := range res.Groups {
		rows += g.N
		out = append(out, g.Hash)
	}
	ev := event.Event{
		Type: event.EventPass, Actor: "provider:" + p.Provider, Verb: string(p.Verb), Token: p.ID, Attempt: p.Attempt, Result: string(activities.Done),
		Attrs: attrs("provider", p.Provider, "account", p.Account, "rows", strconv.Itoa(rows), "made", strconv.Itoa(res.Made), "groups", strconv.Itoa(len(res.Groups)),
			"pages_in", strconv.Itoa(len(p.Pages)), "pages_out", strconv.Itoa(len(out)), "journal", res.Journal),
	}
	for name, n := range res.Outcomes {
		ev.Attrs["outcome "+name] = strconv.Itoa(n)
	}
	for class, n := range res.Failed {
		ev.Attrs["failed "+class] = strconv.Itoa(n)
	}
	if n := len(res.Findings) + res.More; n > 0 {
		ev.Attrs["findings"] = strconv.Itoa(n)
	}
	if res.Journal != "" {
		ev.Evidence = append(ev.Evidence, res.Journal)
	}
	ev.Evidence = append(append(ev.Evidence, p.Pages...), out...)
	r.add(e, e.GetEventTime().AsTime().Add(r.skew), ev)
	return nil
}

// passTime takes the world's time from the input of a pass.
func (r *reader) passTime(sched *historypb.HistoryEvent, p page.Pass) {
	if !p.Now.IsZero() {
		r.skew = p.Now.Sub(sched.GetEventTime().AsTime())
	}
}

// passLost writes that nobody knows what became of the calls of a pass. The journal
// tells the next attempt.
func (r *reader) passLost(e *historypb.HistoryEvent, sched *historypb.HistoryEvent, p page.Pass, why string) {
	r.passTime(sched, p)
	r.add(e, e.GetEventTime().AsTime().Add(r.skew), event.Event{
		Type: event.EventCallFailed, Verb: string(p.Verb), Token: p.ID, Attempt: p.Attempt, Result: "unknown", Evidence: slices.Clone(p.Pages),
		Attrs: attrs("provider", p.Provider, "account", p.Account, "pages_in", strconv.Itoa(len(p.Pages)), "why", why),
	})
}
