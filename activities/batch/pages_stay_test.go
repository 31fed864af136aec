package batch_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"

	"rekey/activities"
	"rekey/activities/batch"
	"rekey/internal/page"
	"rekey/playbooks"
)

// TestABackOffIsObeyedByTheWholePass: no call begins after the provider said "wait",
// and the rest comes back at once.
func TestABackOffIsObeyedByTheWholePass(t *testing.T) {
	g := newRig(t, 500)
	var told atomic.Bool
	var late atomic.Int64
	var begun atomic.Int64
	g.v.during = func(string, string) {
		begun.Add(1)
		if told.Load() {
			late.Add(1)
		}
	}
	g.v.fault = func(op, key string, _ int) *answer {
		if key == keyID(100) && g.v.calls[op] <= 500 {
			return &answer{err: &activities.Fault{Class: activities.ClassThrottled, Op: op, After: 30 * time.Second}}
		}
		return nil
	}
	w, _ := g.worker("a", func(o *batch.Options) {
		o.Observe = func(ctx context.Context, _ activities.Pass, _ activities.Key) (context.Context, func(activities.Attempt)) {
			return ctx, func(a activities.Attempt) { told.Store(told.Load() || a.Class == activities.ClassThrottled) }
		}
	})
	rows := g.rowsFor(activities.Revoke, 500)
	out, err := w.Pages(activities.Revoke)(t.Context(), g.pass("p1", activities.Revoke, g.put(rows)))
	require.NoError(t, err)
	require.LessOrEqual(t, late.Load(), int64(36), "only what was let through before")
	made := g.v.count("Revoke")
	require.Less(t, made, 500)
	require.Equal(t, made, out.Made)
	require.Zero(t, out.Left)
	until := g.time().Add(30 * time.Second)
	waiting := 0
	var again []string
	for _, gr := range out.Groups {
		if gr.Next.Verb != activities.Revoke {
			continue
		}
		waiting += gr.N
		again = append(again, gr.Hash)
		require.Equal(t, until, gr.Next.Due.Time)
		require.Equal(t, "told to wait by awsiam", gr.Next.Why)
	}
	require.Equal(t, 500-made+1, waiting)
	for i, r := range g.get(out.Groups) {
		switch {
		case g.v.each["Revoke "+r.ID] == 0:
			require.Zero(t, r.Tries, "nothing was tried")
			require.Equal(t, page.GateVotes, r.Next.Gate, "row %d keeps its gate", i)
		case r.ID == keyID(100):
			require.Equal(t, 1, r.Throttled)
		default:
			require.True(t, r.Revoked)
		}
	}
	t.Run("no call before its end, by nobody", func(t *testing.T) {
		g.now.Add(29)
		p := g.pass("p2", activities.Revoke, again...)
		p.Now = until // the workflow's clock is ahead
		out, err := w.Pages(activities.Revoke)(t.Context(), p)
		require.NoError(t, err)
		require.Zero(t, out.Made)
		out, err = w.Pages(activities.Disable)(t.Context(), g.pass("p3", activities.Disable, g.put(g.rowsFor(activities.Disable, 5))))
		require.NoError(t, err)
		require.Zero(t, out.Made, "not even containment")
		require.Equal(t, made, g.v.count("Revoke"))
	})
	t.Run("and then all of them", func(t *testing.T) {
		g.now.Add(1)
		g.v.fault = nil
		out, err := w.Pages(activities.Revoke)(t.Context(), g.pass("p4", activities.Revoke, again...))
		require.NoError(t, err)
		require.Equal(t, waiting, out.Made)
	})
}

// TestAPassDoesNotStayForever has a slow budget: the pass comes back with what it got,
// and its stay is worth its events.
func TestAPassDoesNotStayForever(t *testing.T) {
	for _, row := range []struct {
		rate       float64
		took, room time.Duration
		made       int
	}{
		{1e6, 0, 0, 500},
		{50, 10 * time.Second, 0, 500},
		{10, 20 * time.Second, 0, 200},                                  // Least, and a hundred rows are done by then
		{1, 100 * time.Second, 0, 100},                                  // a hundred rows
		{0.2, 2 * time.Minute, 0, 26},                                   // Most
		{10, 15 * time.Second, 45 * time.Second, 150},                   // the activity ends before
		{1, 4*time.Minute + 30*time.Second, 5 * time.Minute, 100 /* */}, // … and not
	} {
		t.Run(fmt.Sprintf("%v a second, %s", row.rate, row.room), func(t *testing.T) {
			g := newRig(t, 500)
			rows := g.rowsFor(activities.Revoke, 500)
			p := g.pass("p1", activities.Revoke, g.put(rows))
			synctest.Test(t, func(t *testing.T) {
				g.limit = batch.NewLimits(map[string]float64{"awsiam/prod/iam": row.rate})
				w, _ := g.worker("a")
				ctx := t.Context()
				if row.room > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, row.room)
					defer cancel()
				}
				began := time.Now()
				out, err := w.Pages(activities.Revoke)(ctx, p)
				require.NoError(t, err)
				took := time.Since(began)
				if row.room < 4*time.Minute {
					require.InDelta(t, row.took.Seconds(), took.Seconds(), 3.1, "a full bucket is three calls")
				}
				require.InDelta(t, row.made, out.Made, 8)
				require.Equal(t, 500, out.Made+out.Left)
				for _, gr := range out.Groups {
					if gr.Next.Verb == activities.Revoke {
						require.Equal(t, rows[0].Next, gr.Next, "they are due now, as before")
					}
				}
			})
		})
	}
}

// TestACrowdMakesRoom: where many passes stay, none stays long, because containment may
// wait for a place of the worker.
func TestACrowdMakesRoom(t *testing.T) {
	const many = 40
	g := newRig(t, many*20)
	rows := g.rowsFor(activities.Revoke, many*20)
	var passes []page.Pass
	for i := range many {
		passes = append(passes, g.pass(fmt.Sprintf("p%d", i), activities.Revoke, g.put(rows[i*20:i*20+20])))
	}
	synctest.Test(t, func(t *testing.T) {
		g.limit = batch.NewLimits(map[string]float64{"awsiam/prod/iam": 1})
		w, _ := g.worker("a")
		began := time.Now()
		var wg sync.WaitGroup
		var made atomic.Int64
		var took sync.Map
		for i, p := range passes {
			wg.Go(func() {
				out, err := w.Pages(activities.Revoke)(t.Context(), p)
				require.NoError(t, err)
				made.Add(int64(out.Made))
				took.Store(i, time.Since(began))
			})
		}
		wg.Wait()
		quick := 0
		took.Range(func(_, d any) bool {
			if d.(time.Duration) <= 21*time.Second {
				quick++
			}
			return true
		})
		require.GreaterOrEqual(t, quick, many-32, "those beyond the crowd")
	})
}

// TestContainmentIsNotStuckBehindACampaign: a new incident's Disable goes out while
// passes of another fill the account's budget and places.
func TestContainmentIsNotStuckBehindACampaign(t *testing.T) {
	g := newRig(t, 2001)
	rows := g.rowsFor(activities.Revoke, 2000)
	var passes []page.Pass
	for i := range 4 {
		passes = append(passes, g.pass(fmt.Sprintf("p%d", i), activities.Revoke, g.put(rows[i*500:i*500+500])))
	}
	synctest.Test(t, func(t *testing.T) {
		g.limit = batch.NewLimits(map[string]float64{"awsiam/prod/iam": 10})
		w, _ := g.worker("a")
		var wg sync.WaitGroup
		for _, p := range passes {
			wg.Go(func() {
				_, err := w.Pages(activities.Revoke)(t.Context(), p)
				require.NoError(t, err)
			})
		}
		time.Sleep(10 * time.Second)
		began := time.Now()
		k := activities.Key{FP: "fp1_new", Provider: "awsiam", Account: "prod", Kind: "user-access-key", ID: keyID(2000)}
		out, err := w.Activity(activities.Disable)(t.Context(), activities.Pass{
			Incident: "inc-2", ID: "contain/1", Verb: activities.Disable, Provider: "awsiam", Account: "prod", Attempt: 1,
			Items: []activities.Request{{Ref: activities.Ref{Incident: "inc-2", Token: "t", Attempt: 1, Key: k}}},
		})
		require.NoError(t, err)
		require.Equal(t, activities.Done, out.Items[0].Outcome)
		require.Zero(t, time.Since(began))
		wg.Wait()
	})
}

// TestEveryCallIsOfItsOwnIncident: 64 incidents at once on one account, each with its
// own key.
func TestEveryCallIsOfItsOwnIncident(t *testing.T) {
	const n = 64
	g := newRig(t, n)
	g.limit = batch.NewLimits(map[string]float64{"awsiam/prod/iam": 1e6})
	seen := sync.Map{}
	w, _ := g.worker("a", func(o *batch.Options) {
		o.Observe = func(ctx context.Context, p activities.Pass, k activities.Key) (context.Context, func(activities.Attempt)) {
			seen.Store(p.Incident+" "+k.ID, true)
			return ctx, func(activities.Attempt) {}
		}
	})
	rows := g.rowsFor(activities.Disable, n)
	var wg sync.WaitGroup
	for i := range n {
		g.facts.Incident = fmt.Sprintf("inc-%d", i)
		p := g.pass("p1", activities.Disable, g.put(rows[i:i+1]))
		p.Incident = g.facts.Incident
		wg.Go(func() {
			out, err := w.Pages(activities.Disable)(context.Background(), p)
			require.NoError(t, err)
			require.Equal(t, 1, out.Made)
		})
	}
	wg.Wait()
	for i := range n {
		_, ok := seen.Load(fmt.Sprintf("inc-%d %s", i, keyID(i)))
		require.True(t, ok, i)
		require.Equal(t, 1, g.v.each["Disable "+keyID(i)])
	}
}

func TestThePlaybooksRateBoundsAPass(t *testing.T) {
	g := newRig(t, 100)
	g.facts.Rates = map[string]playbooks.Rate{"awsiam.write": "5/s"}
	rows := g.rowsFor(activities.Revoke, 100)
	p := g.pass("p1", activities.Revoke, g.put(rows))
	synctest.Test(t, func(t *testing.T) {
		g.limit = batch.NewLimits(map[string]float64{"awsiam/prod/iam": 1000})
		w, _ := g.worker("a")
		began := time.Now()
		out, err := w.Pages(activities.Revoke)(t.Context(), p)
		require.NoError(t, err)
		require.Equal(t, 100, out.Made)
		require.InDelta(t, 20, time.Since(began).Seconds(), 1.1)
	})
	synctest.Test(t, func(t *testing.T) { // and a call by itself
		g.limit = batch.NewLimits(map[string]float64{"awsiam/prod/iam": 1000})
		w, _ := g.worker("b")
		began := time.Now()
		for i := range 20 {
			k := activities.Key{FP: fmt.Sprint("fp", i), Provider: "awsiam", Account: "prod", Kind: "user-access-key", ID: keyID(i)}
			_, err := w.Activity(activities.Revoke)(t.Context(), activities.Pass{
				Incident: "inc-3", ID: fmt.Sprint("r/", i), Verb: activities.Revoke, Provider: "awsiam", Account: "prod", Attempt: 1,
				Rates: map[string]string{"awsiam.write": "1/s"}, Items: []activities.Request{{Ref: activities.Ref{Key: k, Attempt: 1}}},
			})
			require.NoError(t, err)
		}
		require.InDelta(t, 20, time.Since(began).Seconds(), 3.1)
	})
}

// TestAPassThatIsAskedBackLetsItsCallsEnd: the workflow cancels it because people want
// its rows at rest.
func TestAPassThatIsAskedBackLetsItsCallsEnd(t *testing.T) {
	g := newRig(t, 500)
	ctx, cancel := context.WithCancelCause(t.Context())
	var n atomic.Int64
	g.v.during = func(string, string) {
		if n.Add(1) == 100 {
			cancel(temporal.NewCanceledError())
			time.Sleep(50 * time.Millisecond)
		}
	}
	g.limit = batch.NewLimits(map[string]float64{"awsiam/prod/iam": 500})
	w, _ := g.worker("a")
	out, err := w.Pages(activities.Revoke)(ctx, g.pass("p1", activities.Revoke, g.put(g.rowsFor(activities.Revoke, 500))))
	require.NoError(t, err)
	require.GreaterOrEqual(t, out.Made, 100)
	require.Positive(t, out.Left)
	require.Equal(t, map[string]int{"done": out.Made}, out.Outcomes, "no call was cut off")
	require.Equal(t, 500, out.Made+out.Left)
}

// TestInTemporal runs a pass as an activity: it beats, and comes back when its worker
// stops.
func TestInTemporal(t *testing.T) {
	g := newRig(t, 500)
	g.limit = batch.NewLimits(map[string]float64{"awsiam/prod/iam": 100})
	w, _ := g.worker("a")
	env := (&testsuite.WorkflowTestSuite{}).NewTestActivityEnvironment()
	stop := make(chan struct{})
	env.SetWorkerOptions(worker.Options{})
	env.SetWorkerStopChannel(stop)
	var beats atomic.Int64
	env.SetOnActivityHeartbeatListener(func(_ *activity.Info, details converter.EncodedValues) {
		require.False(t, details.HasValues(), "a beat carries no outcome")
		if beats.Add(1) == 1 {
			close(stop)
		}
	})
	env.RegisterActivityWithOptions(w.Pages(activities.Revoke), activity.RegisterOptions{Name: page.Name("awsiam", activities.Revoke)})
	val, err := env.ExecuteActivity(page.Name("awsiam", activities.Revoke), g.pass("p1", activities.Revoke, g.put(g.rowsFor(activities.Revoke, 500))))
	require.NoError(t, err)
	var out page.PassResult
	require.NoError(t, val.Get(&out))
	require.Positive(t, beats.Load())
	require.Positive(t, out.Left)
	require.Equal(t, g.v.count("Revoke"), out.Made)
}

// TestALeaseThatEndsCutsThePass: its calls are cancelled, and the next holder settles
// what they did.
func TestALeaseThatEndsCutsThePass(t *testing.T) {
	g := newRig(t, 40)
	first := newLease(5)
	var n atomic.Int64
	block := make(chan struct{})
	g.v.during = func(op, _ string) {
		if op == "Issue" && n.Add(1) > 10 {
			<-block
		}
	}
	under := func(epoch string, l *lease) *batch.Runner {
		w, _ := g.worker(epoch, func(o *batch.Options) {
			o.Lease = func(string, string) (batch.Lease, error) { return l, nil }
		})
		return w
	}
	p := g.pass("p1", activities.Issue, g.put(g.rowsFor(activities.Issue, 40)))
	done := make(chan error, 1)
	old := under("a", first)
	go func() {
		_, err := old.Pages(activities.Issue)(context.Background(), p)
		done <- err
	}()
	require.Eventually(t, func() bool { return n.Load() > 10 }, time.Minute, time.Millisecond)
	first.end()
	close(block)
	require.ErrorContains(t, <-done, "lease")
	next := under("b", newLease(9))
	p.Attempt = 2
	out, err := next.Pages(activities.Issue)(t.Context(), p)
	require.NoError(t, err)
	for i, r := range g.goOn(activities.Issue, g.get(out.Groups), func(int) *batch.Runner { return next }) {
		require.Len(t, g.v.alive(keyID(i)), 2, r.ID)
	}
	_, err = old.Pages(activities.Issue)(t.Context(), p)
	require.Error(t, err, "the former holder may not even look")
	none, _ := g.worker("c", func(o *batch.Options) {
		o.Lease = func(string, string) (batch.Lease, error) { return nil, errors.New("not held here") }
	})
	_, err = none.Pages(activities.Issue)(t.Context(), p)
	var app *temporal.ApplicationError
	require.ErrorAs(t, err, &app)
	require.Equal(t, batch.NoLease, app.Type())
}

// slow is journals on a disk that takes its time.
type slow struct {
	*memory
	takes func() time.Duration
}

func (s slow) Open(ctx context.Context, name string, term uint64) (batch.Journal, error) {
	j, err := s.memory.Open(ctx, name, term)
	return slowJournal{j, s}, err
}

type slowJournal struct {
	batch.Journal
	s slow
}

func (j slowJournal) Append(ctx context.Context, rec []byte, durable bool) error {
	if durable {
		time.Sleep(j.s.takes())
	}
	return j.Journal.Append(ctx, rec, durable)
}

// TestASlowDiskMakesNoCallOutliveItsDeadline: the next attempt reckons with it.
func TestASlowDiskMakesNoCallOutliveItsDeadline(t *testing.T) {
	g := newRig(t, 2)
	p := g.pass("p1", activities.Issue, g.put(g.rowsFor(activities.Issue, 2)))
	synctest.Test(t, func(t *testing.T) {
		mem := newMemory()
		var takes time.Duration
		var ends []time.Duration
		g.limit = batch.NewLimits(nil)
		w, _ := g.worker("a", func(o *batch.Options) {
			o.Journals = slow{mem, func() time.Duration { return takes }}
			o.Client = func(string, string) (any, error) { return deadlines{g.v, &ends}, nil }
		})
		takes = 5 * time.Second
		out, err := w.Pages(activities.Issue)(t.Context(), p)
		require.NoError(t, err)
		require.Equal(t, map[string]int{"done": 2}, out.Outcomes)
		for _, left := range ends {
			require.Equal(t, 15*time.Second, left, "20 s from when the intent was written")
		}
		takes = 15 * time.Second
		p.ID += "b"
		out, err = w.Pages(activities.Issue)(t.Context(), p)
		require.NoError(t, err)
		require.Equal(t, map[string]int{"transient": 2}, out.Failed)
		require.Equal(t, 2, g.v.count("Issue"), "no call was made")
		for _, r := range g.get(out.Groups) {
			require.Empty(t, r.Effect, "and none is looked for")
		}
	})
}

type deadlines struct {
	*vendor
	ends *[]time.Duration
}

func (d deadlines) Issue(ctx context.Context, r activities.IssueRequest) (activities.IssueResult, error) {
	at, _ := ctx.Deadline()
	d.mu.Lock()
	*d.ends = append(*d.ends, time.Until(at))
	d.mu.Unlock()
	return d.vendor.Issue(ctx, r)
}

// TestNothingGrowsOverTenThousandItems: goroutines, descriptors, open journals.
func TestNothingGrowsOverTenThousandItems(t *testing.T) {
	const n = 10_000
	g := newRig(t, n)
	rows := g.rowsFor(activities.Disable, n)
	var pages []string
	for i := 0; i < n; i += page.Size {
		pages = append(pages, g.put(rows[i:i+page.Size]))
	}
	w, _ := g.worker("a")
	files := func() int {
		e, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Skip("skipped: needs /proc")
		}
		return len(e)
	}
	one := func(i int) {
		out, err := w.Pages(activities.Disable)(context.Background(), g.pass(fmt.Sprint("p", i), activities.Disable, pages[i]))
		require.NoError(t, err)
		require.Equal(t, page.Size, out.Made)
	}
	one(0)
	before, open := runtime.NumGoroutine(), files()
	var wg sync.WaitGroup
	next := make(chan int, len(pages))
	for i := 1; i < len(pages); i++ {
		next <- i
	}
	close(next)
	for range 4 {
		wg.Go(func() {
			for i := range next {
				one(i)
			}
		})
	}
	wg.Wait()
	for range 1000 { // the last ones are just ending
		if runtime.NumGoroutine() <= before {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	require.LessOrEqual(t, runtime.NumGoroutine(), before, "goroutines")
	require.LessOrEqual(t, files(), open, "descriptors")
	require.Equal(t, n, g.v.count("Disable"))
}
