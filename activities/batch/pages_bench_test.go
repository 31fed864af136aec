package batch_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/activities"
	"rekey/activities/batch"
	"rekey/internal/page"
)

// spent reports calls a second, and what of the processor one call takes: the figure
// that holds on a busy machine too.
func spent(b *testing.B, calls int) func() {
	used := func() time.Duration {
		var u syscall.Rusage
		require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	before := used()
	return func() {
		b.ReportMetric(float64(b.N*calls)/b.Elapsed().Seconds(), "calls/s")
		b.ReportMetric(float64((used()-before).Microseconds())/float64(b.N*calls), "cpu-µs/call")
	}
}

// BenchmarkPass makes one pass over 500 rows against a provider that answers at once:
// what the runner itself costs.
func BenchmarkPass(b *testing.B) {
	for _, v := range []activities.Verb{activities.Disable, activities.Probe, activities.Revoke, activities.Issue} {
		b.Run(string(v), func(b *testing.B) {
			g := newRig(b, page.Size)
			hash := g.put(g.rowsFor(v, page.Size))
			w, _ := g.worker("a")
			p := g.pass("p", v, hash)
			b.ReportAllocs()
			done := spent(b, page.Size)
			b.ResetTimer()
			for n := range b.N {
				p.ID = fmt.Sprintf("wave/1/p%d", n)
				out, err := w.Pages(v)(context.Background(), p)
				require.NoError(b, err)
				require.Equal(b, page.Size, out.Made)
			}
			done()
		})
	}
}

// remote is a provider behind HTTP: a form post per call, as the real ones have.
type remote struct {
	*vendor
	url string
	c   *http.Client
}

func (r remote) post(ctx context.Context, action, key string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url, strings.NewReader("Action="+action+"&AccessKeyId="+key))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	res, err := r.c.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = res.Body.Close() }()
	_, err = io.Copy(io.Discard, res.Body)
	return res.Header.Get("X-Request-Id"), err
}

func (r remote) Disable(ctx context.Context, ref activities.Ref) (activities.Result, error) {
	id, err := r.post(ctx, "UpdateAccessKey", ref.Key.ID)
	return activities.Result{Outcome: activities.Done, Evidence: []activities.Evidence{{Op: "iam:UpdateAccessKey", At: time.Now(), RequestID: id, Status: 200}}}, err
}

func (r remote) Revoke(ctx context.Context, ref activities.Ref) (activities.Result, error) {
	return r.Disable(ctx, ref)
}

func (r remote) Probe(ctx context.Context, ref activities.ProbeRequest) (activities.ProbeResult, error) {
	_, err := r.post(ctx, "GetAccessKeyLastUsed", ref.Key.ID)
	return activities.ProbeResult{Saw: activities.ProbeRefused, Control: true}, err
}

func serveRemote(b *testing.B) remote {
	b.Helper()
	var n atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("X-Request-Id", fmt.Sprint(n.Add(1)))
		_, _ = io.WriteString(w, "<ok/>")
	}))
	b.Cleanup(srv.Close)
	return remote{url: srv.URL, c: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}}
}

// BenchmarkBareLoop is what passes are held against: the same calls, 32 at once, and
// nothing else. The ratio of BenchmarkPasses to it is a budget of design section 13.
func BenchmarkBareLoop(b *testing.B) {
	r := serveRemote(b)
	done := spent(b, 4*3*page.Size)
	for b.Loop() {
		var next atomic.Int64
		var wg sync.WaitGroup
		for range 32 {
			wg.Go(func() {
				for i := next.Add(1); i <= 4*3*page.Size; i = next.Add(1) {
					if _, err := r.post(context.Background(), "UpdateAccessKey", keyID(int(i))); err != nil {
						b.Error(err)
					}
				}
			})
		}
		wg.Wait()
	}
	done()
}

// BenchmarkPasses makes the same calls as passes: 2,000 rows, Disable, Probe and Revoke,
// four passes at once.
func BenchmarkPasses(b *testing.B) {
	r := serveRemote(b)
	g := newRig(b, 0)
	w, _ := g.worker("a", func(o *batch.Options) {
		o.Client = func(string, string) (any, error) { return r, nil }
	})
	verbs := []activities.Verb{activities.Disable, activities.Probe, activities.Revoke}
	passes := map[activities.Verb][]page.Pass{}
	for _, v := range verbs {
		rows := g.rowsFor(v, 4*page.Size)
		for i := range 4 {
			passes[v] = append(passes[v], g.pass("p", v, g.put(rows[i*page.Size:(i+1)*page.Size])))
		}
	}
	n := 0
	done := spent(b, 4*3*page.Size)
	for b.Loop() {
		for _, v := range verbs {
			var wg sync.WaitGroup
			for _, p := range passes[v] {
				n++
				p.ID = fmt.Sprintf("wave/1/p%d", n)
				wg.Go(func() {
					out, err := w.Pages(v)(context.Background(), p)
					if err != nil || out.Made != page.Size {
						b.Error(err, out.Made)
					}
				})
			}
			wg.Wait()
		}
	}
	done()
}

// BenchmarkAcquire is what the gate of an account costs a call, with 64 incidents.
func BenchmarkAcquire(b *testing.B) {
	l := batch.NewLimits(map[string]float64{"awsiam/prod/iam": 1e9})
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			for n := i; n < b.N; n += 64 {
				p, err := l.Acquire(context.Background(), want(fmt.Sprint("inc-", i), activities.Revoke), world())
				if err != nil {
					b.Error(err)
					return
				}
				p.Done()
			}
		})
	}
	wg.Wait()
}
