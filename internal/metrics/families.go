package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"rekey/activities"
)

// A Name of a metric. Dashboards and alerts are written against these: a name and
// its labels are never changed, only added to.
type Name string

// The metrics.
const (
	Incidents      Name = "rekey_incidents"
	Items          Name = "rekey_items"
	TimeToContain  Name = "rekey_time_to_contain_seconds"
	Calls          Name = "rekey_provider_calls_total"
	CallSeconds    Name = "rekey_provider_call_seconds"
	Faults         Name = "rekey_provider_faults_total"
	RateUsed       Name = "rekey_rate_budget_used_ratio"
	RateAllowed    Name = "rekey_rate_allowed_per_second"
	RateWaiting    Name = "rekey_rate_waiting_calls"
	OldestApproval Name = "rekey_oldest_open_approval_seconds"
	Notices        Name = "rekey_notices"
	LeaseHeld      Name = "rekey_lease_held"
	RecordBehind   Name = "rekey_record_behind"
	Refused        Name = "rekey_refused_requests_total"
	SecretReads    Name = "rekey_sealed_secret_reads_total"
	DeadKeyWorked  Name = "rekey_dead_key_worked_total"
	StateAge       Name = "rekey_state_age_seconds"
	StateUnread    Name = "rekey_state_unread_incidents"
	Retention      Name = "rekey_retention_seconds"
	Unarchived     Name = "rekey_unarchived_runs"
	UnarchivedAge  Name = "rekey_unarchived_run_age_seconds"
	BuildInfo      Name = "rekey_build_info"
)

// A Family is one metric as docs/operations.md lists it.
type Family struct {
	Name   Name
	Type   string // counter, gauge, histogram
	Labels []string
	Help   string
	// From tells which process has it: worker, serve or both (`rekey up` is both).
	From string
}

// Families are all metrics of rekey's own, in the order of the documentation.
func Families() []Family {
	return []Family{
		{Incidents, "gauge", []string{"phase", "state", "severity"}, "Open incidents. state is unknown where an incident did not answer.", "serve"},
		{Items, "gauge", []string{"state"}, "Items of open incidents by end state, or by the state of the old key while there is none.", "serve"},
		{OldestApproval, "gauge", nil, "Age of the oldest open approval, 0 when none is open.", "serve"},
		{Notices, "gauge", []string{"state"}, "Notices of open incidents by state.", "serve"},
		{StateAge, "gauge", nil, "How long ago incidents, items, approvals and notices were read last.", "serve"},
		{StateUnread, "gauge", nil, "Open incidents that did not answer the last reading, or were too many to ask.", "serve"},
		{TimeToContain, "histogram", nil, "From the first report of an incident to its containment, taken once for each.", "worker"},
		{Calls, "counter", []string{"provider", "account", "verb", "outcome"}, "Calls of providers, every attempt.", "worker"},
		{CallSeconds, "histogram", []string{"provider", "account", "verb"}, "How long calls of providers took.", "worker"},
		{Faults, "counter", []string{"provider", "account", "class"}, "Calls of providers that failed, by class: transient, throttled, unclear, denied, invalid.", "worker"},
		{RateUsed, "gauge", []string{"provider", "account", "api"}, "Part of an account's rate budget that was used in the last seconds, 0 to 1.", "worker"},
		{RateAllowed, "gauge", []string{"provider", "account", "api", "why"}, "Calls a second that an account's API is given now. why: configured; throttled, the provider refused calls within that rate; stopped, it said to wait.", "worker"},
		{RateWaiting, "gauge", []string{"provider", "account", "api"}, "Calls that wait for their turn at an account's API.", "worker"},
		{LeaseHeld, "gauge", []string{"provider", "account"}, "1 where this process may call the account, else 0. The sum over all workers is 1 or, between two, 0.", "worker"},
		{DeadKeyWorked, "counter", []string{"provider", "account"}, "Times that the tripwire saw a dead key let in. The register reopens the incident each time.", "worker"},
		{SecretReads, "counter", []string{"purpose"}, "Reads of sealed secrets, granted or not.", "both"},
		{RecordBehind, "gauge", []string{"channel"}, "Lines about open incidents that a channel which follows them (Slack, GitHub) does not show yet.", "serve"},
		{Refused, "counter", []string{"route", "why"}, "Requests that the HTTP server refused.", "serve"},
		{Retention, "gauge", nil, "How long Temporal keeps closed runs, 0 until it was read.", "worker"},
		{Unarchived, "gauge", nil, "Closed runs of incidents whose history is not in the blob store yet.", "worker"},
		{UnarchivedAge, "gauge", nil, "How long ago the oldest run that is not archived closed, 0 when none. Near rekey_retention_seconds its history is about to be lost.", "worker"},
		{BuildInfo, "gauge", []string{"version", "go"}, "1, with the version of this build.", "both"},
	}
}

func family(n Name) Family {
	for _, f := range Families() {
		if f.Name == n {
			return f
		}
	}
	return Family{Name: n}
}

func labels(n Name) []string { return family(n).Labels }

func counter(n Name) prometheus.CounterOpts {
	return prometheus.CounterOpts{Name: string(n), Help: family(n).Help}
}

func gauge(n Name) prometheus.GaugeOpts {
	return prometheus.GaugeOpts{Name: string(n), Help: family(n).Help}
}

func histogram(n Name, buckets []float64) prometheus.HistogramOpts {
	return prometheus.HistogramOpts{Name: string(n), Help: family(n).Help, Buckets: buckets}
}

func describe(n Name) *prometheus.Desc {
	return prometheus.NewDesc(string(n), family(n).Help, labels(n), nil)
}

func verbs() []string {
	var out []string
	for _, v := range activities.Verbs() {
		out = append(out, string(v))
	}
	return out
}

func outcomes() []string {
	var out []string
	for _, o := range []activities.Outcome{
		activities.Done, activities.DoneAsync, activities.AlreadyGone, activities.Assumed, activities.Denied,
		activities.NeedsHuman, activities.Unsupported, activities.Unclear,
	} {
		out = append(out, string(o))
	}
	return out
}

func classes() []string {
	var out []string
	for _, c := range []activities.Class{
		activities.ClassTransient, activities.ClassThrottled, activities.ClassUnclear, activities.ClassDenied, activities.ClassInvalid,
	} {
		out = append(out, string(c))
	}
	return out
}
