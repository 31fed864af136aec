package metrics_test

import (
	"fmt"
	"io"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"

	"rekey/activities"
	"rekey/internal/metrics"
)

// t0 is the time of a test.
func t0() time.Time { return time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC) }

func newSet() *metrics.Set {
	return metrics.New(metrics.Options{Version: "v0.2.0", Now: t0})
}

// full has a value of every family.
func full() *metrics.Set {
	s := newSet()
	s.Call("awsiam", "prod", activities.Disable, activities.Unclear, activities.ClassTransient, time.Second)
	s.Contained("inc-1", time.Minute)
	s.Refuse("POST /api/v1/reports", "unauthorized")
	s.SecretRead("probe")
	s.Worked("awsiam", "prod")
	s.Budgets(func() []metrics.Budget {
		return []metrics.Budget{{Provider: "awsiam", Account: "prod", API: "iam", Used: 0.5, Allowed: 7.5, Why: "throttled", Waiting: 12}}
	})
	s.Leases(func() []metrics.Lease { return []metrics.Lease{{Provider: "awsiam", Account: "prod", Held: true}} })
	s.Guarded(metrics.Guard{Retention: 30 * 24 * time.Hour, Unarchived: 1, Oldest: time.Hour})
	s.Put(metrics.State{
		At:             t0().Add(-10 * time.Second),
		Incidents:      map[metrics.Incident]int{{Phase: "act", State: "open", Severity: "critical"}: 2},
		Items:          map[string]int{"dead": 3},
		Notices:        map[string]int{"queued": 4},
		Behind:         map[string]int{"slack": 3},
		OldestApproval: t0().Add(-time.Minute),
	})
	return s
}

func gather(t *testing.T, s *metrics.Set) map[string]*dto.MetricFamily {
	t.Helper()
	fs, err := s.Gatherer().Gather()
	require.NoError(t, err)
	out := map[string]*dto.MetricFamily{}
	for _, f := range fs {
		out[f.GetName()] = f
	}
	return out
}

func text(t *testing.T, s *metrics.Set) string {
	t.Helper()
	rec := httptest.NewRecorder()
	s.Handler().ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
	b, err := io.ReadAll(rec.Body)
	require.NoError(t, err)
	return string(b)
}

// The list that the documentation and the dashboards are made from is what is
// really served: names, types and labels.
func TestTheFamiliesAreWhatIsServed(t *testing.T) {
	got := gather(t, full())
	for _, f := range metrics.Families() {
		require.Contains(t, got, string(f.Name))
		fam := got[string(f.Name)]
		require.Equal(t, strings.ToUpper(f.Type), fam.GetType().String(), f.Name)
		require.Equal(t, f.Help, fam.GetHelp(), f.Name)
		var names []string
		for _, l := range fam.GetMetric()[0].GetLabel() {
			names = append(names, l.GetName())
		}
		want := slices.Sorted(slices.Values(f.Labels))
		require.Equal(t, want, slices.Sorted(slices.Values(names)), f.Name)
		delete(got, string(f.Name))
	}
	for name := range got {
		require.Regexp(t, regexp.MustCompile(`^(go|process|promhttp)_`), name, "a metric of rekey is in Families")
	}
}

func TestTheTextSaysWhatWasCounted(t *testing.T) {
	out := text(t, full())
	for _, line := range []string{
		`rekey_incidents{phase="act",severity="critical",state="open"} 2`,
		`rekey_items{state="dead"} 3`,
		`rekey_oldest_open_approval_seconds 60`,
		`rekey_state_age_seconds 10`,
		`rekey_notices{state="queued"} 4`,
		`rekey_provider_calls_total{account="prod",outcome="unclear",provider="awsiam",verb="Disable"} 1`,
		`rekey_provider_faults_total{account="prod",class="transient",provider="awsiam"} 1`,
		`rekey_rate_budget_used_ratio{account="prod",api="iam",provider="awsiam"} 0.5`,
		`rekey_rate_allowed_per_second{account="prod",api="iam",provider="awsiam",why="throttled"} 7.5`,
		`rekey_rate_waiting_calls{account="prod",api="iam",provider="awsiam"} 12`,
		`rekey_lease_held{account="prod",provider="awsiam"} 1`,
		`rekey_record_behind{channel="slack"} 3`,
		`rekey_refused_requests_total{route="POST /api/v1/reports",why="unauthorized"} 1`,
		`rekey_sealed_secret_reads_total{purpose="probe"} 1`,
		`rekey_time_to_contain_seconds_count 1`,
		`rekey_unarchived_runs 1`,
		`rekey_retention_seconds 2.592e+06`,
	} {
		require.Contains(t, out, line+"\n")
	}
}

func TestAnIncidentIsContainedOnce(t *testing.T) {
	s := newSet()
	for range 3 {
		s.Contained("inc-1", time.Minute)
	}
	s.Contained("inc-2", 0) // not known
	s.Contained("inc-3", -time.Second)
	require.Contains(t, text(t, s), "rekey_time_to_contain_seconds_count 1\n")
}

// A gauge that the last reading does not have must be gone, or a closed incident
// would burn on a dashboard for ever.
func TestWhatIsGoneIsNotShown(t *testing.T) {
	s := full()
	s.Put(metrics.State{At: t0()})
	got := gather(t, s)
	require.NotContains(t, got, "rekey_incidents")
	require.NotContains(t, got, "rekey_items")
	require.Zero(t, got["rekey_oldest_open_approval_seconds"].GetMetric()[0].GetGauge().GetValue())
}

// A gauge that was never read is absent, not zero: "no incident" and "nobody
// looked" are different answers.
func TestNothingIsMadeUpBeforeTheFirstReading(t *testing.T) {
	got := gather(t, newSet())
	for _, n := range []metrics.Name{metrics.Incidents, metrics.OldestApproval, metrics.StateAge, metrics.Retention, metrics.Unarchived} {
		require.NotContains(t, got, string(n))
	}
}

// What comes from outside cannot make series without end, and a word that is none
// of a label's is not repeated.
func TestCardinalityIsBounded(t *testing.T) {
	s := newSet()
	for i := range 5000 {
		s.Refuse(fmt.Sprintf("GET /made-up/%d", i), "not-found")
		s.SecretRead(fmt.Sprint("purpose-", i))
		s.Call("awsiam", fmt.Sprint("account-", i), activities.Probe, activities.Done, "", time.Millisecond)
	}
	s.Call("awsiam", "account-1", "DROP TABLE", "haha", "strange", time.Millisecond)
	s.Put(metrics.State{At: t0(), Incidents: map[metrics.Incident]int{{Phase: "AKIA", State: "x", Severity: "y"}: 1, {Phase: "AKIB", State: "x", Severity: "y"}: 1}, Items: map[string]int{"z": 1}})
	got := gather(t, s)
	for _, n := range []metrics.Name{metrics.Refused, metrics.SecretReads, metrics.Calls} {
		require.LessOrEqual(t, len(got[string(n)].GetMetric()), 502, n)
	}
	out := text(t, s)
	require.NotContains(t, out, "DROP")
	require.NotContains(t, out, "haha")
	require.NotContains(t, out, "AKIA")
	require.Contains(t, out, `rekey_incidents{phase="other",severity="other",state="other"} 2`)
}

func TestPartsWithoutMetricsNeedNoQuestion(t *testing.T) {
	var s *metrics.Set
	require.NotPanics(t, func() {
		s.Call("p", "a", activities.Disable, activities.Done, "", 0)
		s.Contained("x", 1)
		s.Refuse("r", "w")
		s.SecretRead("p")
		s.Budgets(nil)
		s.Leases(nil)
		s.Guarded(metrics.Guard{})
		s.Put(metrics.State{})
	})
}
