package devserver

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
)

// BenchmarkStart reports what the engine itself costs with full sync: from the call that starts a workflow to the
// first line of its first activity, and to the end of a workflow of n activities in a row. Run it with
// `go test -run - -bench Start -benchtime 200x ./internal/devserver`.
func BenchmarkStart(b *testing.B) {
	s := start(b, options(b, b.TempDir()))
	c := dial(b, s.DialOptions("rekey"))
	startWorker(b, c)
	for _, eager := range []bool{false, true} {
		for _, n := range []int{1, 5} {
			b.Run(fmt.Sprintf("activities=%d/eager=%t/one-after-another", n, eager), func(b *testing.B) {
				var first, whole []time.Duration
				for i := range b.N {
					f, w := once(b, c, fmt.Sprintf("bench-%d-%t-%d-%d", n, eager, b.N, i), n, eager)
					first, whole = append(first, f), append(whole, w)
				}
				report(b, "first", first)
				report(b, "end", whole)
			})
		}
	}
	for _, eager := range []bool{false, true} {
		b.Run(fmt.Sprintf("activities=1/eager=%t/16-at-once", eager), func(b *testing.B) { together(b, c, eager) })
	}
}

func together(b *testing.B, c client.Client, eager bool) {
	var mu sync.Mutex
	var first []time.Duration
	for i := range b.N {
		var all sync.WaitGroup
		for j := range 16 {
			all.Go(func() {
				f, _ := once(b, c, fmt.Sprintf("bench-16-%t-%d-%d-%d", eager, b.N, i, j), 1, eager)
				mu.Lock()
				first = append(first, f)
				mu.Unlock()
			})
		}
		all.Wait()
	}
	report(b, "first", first)
}

func once(b *testing.B, c client.Client, id string, n int, eager bool) (first, whole time.Duration) {
	began := time.Now()
	run, err := c.ExecuteWorkflow(context.Background(), client.StartWorkflowOptions{ID: id, TaskQueue: queue, EnableEagerStart: eager}, "steps", n)
	require.NoError(b, err)
	var at int64
	require.NoError(b, run.Get(context.Background(), &at))
	return time.Unix(0, at).Sub(began), time.Since(began)
}

func report(b *testing.B, name string, all []time.Duration) {
	slices.Sort(all)
	b.ReportMetric(float64(all[len(all)/2].Microseconds())/1000, name+"-p50-ms")
	b.ReportMetric(float64(all[len(all)*99/100].Microseconds())/1000, name+"-p99-ms")
}
