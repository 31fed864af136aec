package intake_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/internal/api"
	"rekey/internal/intake"
	"rekey/workflows"
)

// A storm of reports of few keys asks each register once, and reaches each incident
// in few messages; every report is in its incident once.
func TestStorm(t *testing.T) {
	const keys, each = 5, 200
	w := newWorld(t, oneAccount, nil)
	w.engine.slow = time.Millisecond
	var mu sync.Mutex
	taken := map[string]string{} // report -> incident
	var all sync.WaitGroup
	for n := range keys * each {
		all.Go(func() {
			req := request(func(r *api.ReportRequest) {
				r.KeyID, r.Nonce = fmt.Sprintf("AKIAIOSFODNN7EXAM%03d", n%keys), fmt.Sprintf("storm-%06d", n)
			})
			for range 1 + n%2 { // every second one is sent twice
				answer, err := w.Report(context.Background(), alice, req)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				taken[answer.Report] = answer.Incident
				mu.Unlock()
			}
		})
	}
	all.Wait()
	require.Len(t, taken, keys*each)
	require.Len(t, w.engine.runs, keys)
	claims := len(w.engine.claims)
	require.Less(t, claims, keys*20, "whose a key is, is asked a few times: until its incident runs")
	for id, run := range w.engine.runs {
		require.Equal(t, 1, run.starts)
		require.Len(t, run.reports, each)
		for _, rep := range run.reports {
			require.Equal(t, id, taken[rep.ID])
		}
		most := 0
		for _, n := range run.signals {
			most = max(most, n)
		}
		require.Greater(t, most, 1, "reports go together")
		require.LessOrEqual(t, most, 50)
	}
}

// Where an incident does not run any more, it is asked again whose the key is before
// anything is reopened.
func TestAKeyThatMovedIsNotReportedToWhereItWas(t *testing.T) {
	w := newWorld(t, oneAccount, nil)
	first := w.report(t, request())
	fp := w.engine.runs[first.Incident].reports[0].Key.FP
	w.engine.owners[fp] = "inc-bbbbbbbbbbbb"
	second := w.report(t, request(func(r *api.ReportRequest) { r.Nonce = "nonce-0002" }))
	require.Equal(t, first.Incident, second.Incident, "as long as it runs it is told, and tells the other one")

	w.engine.close(first.Incident, intake.Closed{Reopened: workflows.Reopened{Run: "run-1"}})
	third := w.report(t, request(func(r *api.ReportRequest) { r.Nonce = "nonce-0003" }))
	require.Equal(t, "inc-bbbbbbbbbbbb", third.Incident)
	require.NotNil(t, w.engine.runs[first.Incident].closed)
}

// One that gives up waiting takes no other report with it.
func TestACallerThatLeaves(t *testing.T) {
	w := newWorld(t, oneAccount, nil)
	first := w.report(t, request())
	w.engine.slow = 20 * time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for n := range 20 {
		all.Go(func() {
			c := t.Context()
			if n%2 == 0 {
				c = ctx
			}
			_, err := w.Report(c, alice, request(func(r *api.ReportRequest) { r.Nonce = fmt.Sprintf("leaves-%03d", n) }))
			if n%2 == 1 && err != nil || err != nil && !errors.Is(err, context.Canceled) {
				t.Error(n, err)
			}
		})
	}
	cancel()
	all.Wait()
	require.GreaterOrEqual(t, len(w.engine.runs[first.Incident].reports), 11)
}
