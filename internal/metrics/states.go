package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// states emits the gauges whose series come and go: each scrape shows exactly what
// the last reading found.
type states Set

// Describe implements prometheus.Collector.
func (s *states) Describe(ch chan<- *prometheus.Desc) {
	for _, n := range []Name{Incidents, Items, OldestApproval, Notices, StateAge, StateUnread, RateUsed, RateAllowed, RateWaiting, LeaseHeld, RecordBehind, Retention, Unarchived, UnarchivedAge} {
		ch <- describe(n)
	}
}

// Collect implements prometheus.Collector.
func (s *states) Collect(ch chan<- prometheus.Metric) {
	s.mu.Lock()
	state, budgets, leases, guard := s.state, s.budgets, s.leases, s.guard
	s.mu.Unlock()
	emit := func(n Name, v float64, values ...string) {
		ch <- prometheus.MustNewConstMetric(describe(n), prometheus.GaugeValue, v, values...)
	}
	if state != nil {
		s.collectState(*state, emit)
	}
	if budgets != nil {
		sums := map[[3]string]Budget{}
		for _, b := range budgets() {
			sums[[3]string{(*Set)(s).bounded("provider", b.Provider), (*Set)(s).bounded("account", b.Account), (*Set)(s).bounded("api", b.API)}] = b
		}
		for k, b := range sums {
			emit(RateUsed, min(max(b.Used, 0), 1), k[0], k[1], k[2])
			emit(RateAllowed, b.Allowed, k[0], k[1], k[2], word(b.Why, rateReasons()))
			emit(RateWaiting, float64(b.Waiting), k[0], k[1], k[2])
		}
	}
	if leases != nil {
		held := map[[2]string]float64{}
		for _, l := range leases() {
			k := [2]string{(*Set)(s).bounded("provider", l.Provider), (*Set)(s).bounded("account", l.Account)}
			held[k] = max(held[k], map[bool]float64{true: 1}[l.Held])
		}
		for k, v := range held {
			emit(LeaseHeld, v, k[0], k[1])
		}
	}
	if guard.Retention > 0 {
		emit(Retention, guard.Retention.Seconds())
		emit(Unarchived, float64(guard.Unarchived))
		emit(UnarchivedAge, guard.Oldest.Seconds())
	}
}

func (s *states) collectState(state State, emit func(n Name, v float64, values ...string)) {
	now := s.now()
	groups := map[Incident]int{}
	for g, n := range state.Incidents {
		groups[Incident{word(g.Phase, phases()), word(g.State, incidentStates()), word(g.Severity, severities())}] += n
	}
	for g, n := range groups {
		emit(Incidents, float64(n), g.Phase, g.State, g.Severity)
	}
	grouped := func(name Name, in map[string]int, words []string) {
		out := map[string]int{}
		for k, n := range in {
			out[word(k, words)] += n
		}
		for k, n := range out {
			emit(name, float64(n), k)
		}
	}
	grouped(Items, state.Items, itemStates())
	grouped(Notices, state.Notices, noticeStates())
	behind := map[string]int{}
	for channel, n := range state.Behind {
		behind[(*Set)(s).bounded("channel", channel)] += n
	}
	for channel, n := range behind {
		emit(RecordBehind, float64(n), channel)
	}
	age := time.Duration(0)
	if !state.OldestApproval.IsZero() {
		age = max(now.Sub(state.OldestApproval), 0)
	}
	emit(OldestApproval, age.Seconds())
	emit(StateAge, max(now.Sub(state.At), 0).Seconds())
	emit(StateUnread, float64(state.Unread))
}

// Unknown is the state of what did not answer.
const Unknown = "unknown"

// phases, states and severities are the words of contracts section 4.
func phases() []string {
	return []string{"preserve", "scope", "plan", "approve", "act", "notify", "verify", "harden", "close", "seal", "watch", Unknown}
}

func incidentStates() []string { return []string{"open", "waiting", "contained", "all-clear", Unknown} }

func rateReasons() []string { return []string{"configured", "throttled", "stopped"} }

func severities() []string { return []string{"critical", "high", "medium", "low", Unknown} }

func itemStates() []string {
	return []string{
		"alive", "disabled", "proving", "dead", "unclear", "human",
		"revoked-verified", "expired-verified", "never-existed-proven", "accepted-risk", "customer-action-open", Unknown,
	}
}

func noticeStates() []string {
	return []string{"queued", "sent", "delivered", "bounced", "acknowledged", "unclear", "superseded"}
}
