// Package metrics holds rekey's Prometheus metrics: their names, what they count
// and how they are kept. It has a registry of its own and no state in globals.
//
// A label names parts of the installation (a provider, a configured account, a
// route), never a key, an incident, a person or a customer: metrics leave the
// machine unencrypted and are kept for years. A value that is not one of the words
// a label takes is counted as "other", so that no caller can make series.
//
// What is counted where it happens (calls, refusals) is counted at once. What
// stands in workflows (incidents, items, votes) is read by a [Reader] beside the
// scrape and handed over as a [State]: a scrape never waits for Temporal.
package metrics

import (
	"net/http"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"rekey/activities"
)

// Other stands for every value of a label that is not one of its words.
const Other = "other"

// maxSeries bounds the values of a label whose words are not known beforehand
// (accounts, channels): far more than an installation has, far fewer than hurt.
const maxSeries = 500

// Options of a Set.
type Options struct {
	// Version of this build, for rekey_build_info.
	Version string
	// Now; nil: time.Now.
	Now func() time.Time
}

// A Set is the metrics of one process. Its methods are safe for concurrent use; a
// nil Set takes everything and keeps nothing, for parts that run without metrics.
type Set struct {
	registry *prometheus.Registry
	now      func() time.Time

	calls       *prometheus.CounterVec
	callSeconds *prometheus.HistogramVec
	faults      *prometheus.CounterVec
	contain     prometheus.Histogram
	refused     *prometheus.CounterVec
	reads       *prometheus.CounterVec
	worked      *prometheus.CounterVec

	mu      sync.Mutex
	known   map[string]map[string]bool // label -> values seen
	once    map[string]bool            // incidents whose time to contain was taken
	state   *State
	budgets func() []Budget
	leases  func() []Lease
	guard   Guard
}

// A Budget is what one API of an account has left of its rate.
type Budget struct {
	Provider, Account, API string
	Used                   float64 // 0 to 1
	Allowed                float64 // calls a second
	Why                    string  // for that: configured, throttled or stopped
	Waiting                int     // calls
}

// A Lease says whether this process may call an account.
type Lease struct {
	Provider, Account string
	Held              bool
}

// A Guard is what the retention guard saw last.
type Guard struct {
	// Retention of the namespace; 0: not read yet.
	Retention time.Duration
	// Unarchived are closed runs whose history is not in the blob store yet, and
	// Oldest is how long ago the oldest of them closed.
	Unarchived int
	Oldest     time.Duration
}

// A State is what the workflows say, as one reading of them found it.
type State struct {
	At time.Time
	// Incidents counts the open incidents.
	Incidents map[Incident]int
	// Items counts the items of open incidents by their state.
	Items map[string]int
	// OldestApproval is when the oldest open approval was asked for; zero: none.
	OldestApproval time.Time
	// Notices counts the notices of open incidents by state.
	Notices map[string]int
	// Behind counts the lines that a channel does not show yet, by channel.
	Behind map[string]int
	// Unread is how many open incidents did not answer, or were too many to ask.
	Unread int
}

// An Incident is one group of open incidents.
type Incident struct{ Phase, State, Severity string }

// New makes a Set.
func New(o Options) *Set {
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Set{
		registry: prometheus.NewRegistry(), now: o.Now,
		known: map[string]map[string]bool{}, once: map[string]bool{},
	}
	s.calls = prometheus.NewCounterVec(counter(Calls), labels(Calls))
	s.callSeconds = prometheus.NewHistogramVec(histogram(CallSeconds, callBuckets()), labels(CallSeconds))
	s.faults = prometheus.NewCounterVec(counter(Faults), labels(Faults))
	s.contain = prometheus.NewHistogram(histogram(TimeToContain, containBuckets()))
	s.refused = prometheus.NewCounterVec(counter(Refused), labels(Refused))
	s.reads = prometheus.NewCounterVec(counter(SecretReads), labels(SecretReads))
	s.worked = prometheus.NewCounterVec(counter(DeadKeyWorked), labels(DeadKeyWorked))
	info := prometheus.NewGaugeVec(gauge(BuildInfo), labels(BuildInfo))
	info.WithLabelValues(o.Version, runtime.Version()).Set(1)
	s.registry.MustRegister(s.calls, s.callSeconds, s.faults, s.contain, s.refused, s.reads, s.worked, info, (*states)(s),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return s
}

// callBuckets go from a fast answer to the limit of a call and the longest reading.
func callBuckets() []float64 {
	return []float64{0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 60, 300, 900}
}

// containBuckets go from contain on report (100 ms) to incidents that wait for
// their customers (30 days).
func containBuckets() []float64 {
	const minute, hour, day = 60, 3600, 86400
	return []float64{0.1, 0.5, 1, 5, 15, 30, minute, 5 * minute, 15 * minute, 30 * minute, hour, 2 * hour, 4 * hour, 8 * hour, day, 3 * day, 7 * day, 14 * day, 30 * day}
}

// Register adds a collector of another library, the Temporal SDK's.
func (s *Set) Register(c prometheus.Collector) error { return s.registry.Register(c) }

// Handler answers with everything in Prometheus' text format
// (https://prometheus.io/docs/instrumenting/exposition_formats/).
func (s *Set) Handler() http.Handler {
	const atOnce = 4
	return promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{MaxRequestsInFlight: atOnce, Timeout: 10 * time.Second})
}

// Gatherer gives the metrics to tests.
func (s *Set) Gatherer() prometheus.Gatherer { return s.registry }

// Call counts one call of a provider. Times of calls made again are counted again:
// each is a call.
func (s *Set) Call(provider, account string, v activities.Verb, o activities.Outcome, c activities.Class, took time.Duration) {
	if s == nil {
		return
	}
	provider, account = s.bounded("provider", provider), s.bounded("account", account)
	verb := word(string(v), verbs())
	s.calls.WithLabelValues(provider, account, verb, word(string(o), outcomes())).Inc()
	s.callSeconds.WithLabelValues(provider, account, verb).Observe(took.Seconds())
	if c != "" {
		s.faults.WithLabelValues(provider, account, word(string(c), classes())).Inc()
	}
}

// Contained takes the time from an incident's first report to its containment. The
// same id is taken once: sealing may run again. id is the incident and what tells
// its lives apart; it does not become a label. A time that is not positive says
// that the times are not known, and is not taken.
func (s *Set) Contained(id string, took time.Duration) {
	if s == nil || took <= 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.once[id] {
		return
	}
	const remembered = 100_000
	if len(s.once) >= remembered {
		s.once = map[string]bool{}
	}
	s.once[id] = true
	s.contain.Observe(took.Seconds())
}

// Refuse counts a request that was refused: route is its pattern, why a code of
// view.Error.
func (s *Set) Refuse(route, why string) {
	if s == nil {
		return
	}
	s.refused.WithLabelValues(s.bounded("route", route), s.bounded("why", why)).Inc()
}

// SecretRead counts a read of a sealed secret, granted or not.
func (s *Set) SecretRead(purpose string) {
	if s == nil {
		return
	}
	s.reads.WithLabelValues(s.bounded("purpose", purpose)).Inc()
}

// Worked counts a dead key that was let in. A report that is made again after a lost
// answer counts again.
func (s *Set) Worked(provider, account string) {
	if s == nil {
		return
	}
	s.worked.WithLabelValues(s.bounded("provider", provider), s.bounded("account", account)).Inc()
}

// Budgets has f asked for the rate budgets at every scrape; it must not block.
func (s *Set) Budgets(f func() []Budget) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.budgets = f
}

// Leases has f asked for the leases at every scrape; it must not block.
func (s *Set) Leases(f func() []Lease) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leases = f
}

// Guarded keeps what the retention guard saw.
func (s *Set) Guarded(g Guard) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.guard = g
}

// Put replaces what is known of the workflows. What the reading before had and
// this one has not is gone from the next scrape.
func (s *Set) Put(st State) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state = &st
}

// bounded lets the first maxSeries values of a label pass.
func (s *Set) bounded(label, value string) string {
	if value == "" {
		return Other
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := s.known[label]
	if seen == nil {
		seen = map[string]bool{}
		s.known[label] = seen
	}
	if !seen[value] {
		if len(seen) >= maxSeries {
			return Other
		}
		seen[value] = true
	}
	return value
}

// word is v where it is one of words, else Other.
func word(v string, words []string) string {
	if slices.Contains(words, v) {
		return v
	}
	return Other
}
