package batch_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/activities"
	"rekey/activities/batch"
	"rekey/internal/page"
)

// goOn makes passes of a verb over rows, as the workflow does: a pass that gave no
// result is made again under its id, rows that need the verb again are put into
// further ones.
func (g *rig) goOn(v activities.Verb, rows []page.Row, worker func(attempt int) *batch.Runner) []page.Row {
	g.t.Helper()
	todo, attempt := rows, 0
	var done []page.Row
	for n := 1; len(todo) > 0; n++ {
		require.Less(g.t, n, 40, "it never ends")
		p := g.pass(fmt.Sprintf("%s/p%d", v, n), v, g.put(todo))
		var out page.PassResult
		for {
			attempt++
			p.Attempt++
			require.Less(g.t, attempt, 400, "it never ends")
			var err error
			if out, err = worker(attempt).Pages(v)(context.Background(), p); err == nil {
				break
			}
			require.ErrorIs(g.t, err, errDead)
		}
		todo = nil
		late := g.time()
		for _, r := range g.get(out.Groups) {
			if r.Next.Verb != v || r.Next.Gate != "" {
				done = append(done, r)
				continue
			}
			todo = append(todo, r)
			if r.Next.Due.After(late) {
				late = r.Next.Due.Time
			}
		}
		g.now.Add(int64(late.Sub(g.time()) / time.Second))
	}
	slices.SortFunc(done, func(a, b page.Row) int { return strings.Compare(a.FP, b.FP) })
	return done
}

// TestKilledAnywhere kills worker after worker, at an edge of a random row, and lets
// the next one go on: an idempotent call happens twice at most for each death, and of
// each create exactly one key is alive.
func TestKilledAnywhere(t *testing.T) {
	const n = 60
	for _, v := range []activities.Verb{activities.Disable, activities.Issue, activities.Distribute, activities.Probe} {
		for seed := range uint64(12) {
			t.Run(fmt.Sprintf("%s seed %d", v, seed), func(t *testing.T) {
				rnd := rand.New(rand.NewPCG(seed, 7))
				g := newRig(t, n)
				rows := g.rowsFor(v, n)
				var mu sync.Mutex
				deaths := 1 + rnd.IntN(4)
				left := 1 + rnd.IntN(3*n)
				g.edge = func(p *process, _ string, _ activities.Verb, _ string) {
					mu.Lock()
					defer mu.Unlock()
					if left--; left == 0 && deaths > 0 {
						deaths--
						left = 1 + rnd.IntN(3*n)
						p.dead.Store(true)
					}
				}
				was := deaths
				if v == activities.Issue && seed%3 == 0 {
					// And some creates have no answer besides.
					g.v.fault = func(op, _ string, nth int) *answer {
						if op == "Issue" && nth == 1 && rnd.IntN(4) == 0 {
							return &answer{err: &activities.Fault{Class: activities.ClassUnclear, Op: op}, applied: rnd.IntN(2) == 0}
						}
						return nil
					}
				}
				done := g.goOn(v, rows, func(attempt int) *batch.Runner {
					w, _ := g.worker(fmt.Sprintf("e%d", attempt))
					return w
				})
				require.Len(t, done, n, "nothing is lost")
				for i, r := range done {
					key := keyID(i)
					require.Equal(t, key, r.ID)
					switch v {
					case activities.Issue:
						require.Len(t, g.v.alive(key), 2, "the old key and one replacement of %s", key)
						require.Equal(t, r.NewKey, g.v.alive(key)[1])
						require.Empty(t, r.Effect)
					default:
						require.LessOrEqual(t, g.v.each[string(v)+" "+key], 1+was)
					}
				}
			})
		}
	}
}

// volatile are journals of which a loss of power leaves what was synced.
type volatile struct {
	mu     sync.Mutex
	recs   map[string][][]byte
	synced map[string]int
	p      *process
}

func (m *volatile) loss() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, n := range m.synced {
		m.recs[name] = m.recs[name][:n:n]
	}
	for name := range m.recs {
		if _, ok := m.synced[name]; !ok {
			delete(m.recs, name)
		}
	}
}

func (m *volatile) Open(_ context.Context, name string, _ uint64) (batch.Journal, error) {
	return &volatileJournal{m, name, m.p}, nil
}

type volatileJournal struct {
	m    *volatile
	name string
	p    *process
}

func (j *volatileJournal) Append(_ context.Context, rec []byte, durable bool) error {
	j.m.mu.Lock()
	defer j.m.mu.Unlock()
	if j.p.dead.Load() {
		return errDead
	}
	j.m.recs[j.name] = append(j.m.recs[j.name], slices.Clone(rec))
	if durable {
		j.m.synced[j.name] = len(j.m.recs[j.name])
	}
	return nil
}

func (j *volatileJournal) Records(context.Context) ([][]byte, error) {
	j.m.mu.Lock()
	defer j.m.mu.Unlock()
	return slices.Clone(j.m.recs[j.name]), nil
}

func (j *volatileJournal) Seal(context.Context) (string, error) {
	if j.p.dead.Load() {
		return "", errDead
	}
	return "sha256:journal", nil
}
func (j *volatileJournal) Close() error { return nil }

// TestAPowerLossDoublesNothing: the last group of the journal is gone with the power.
func TestAPowerLossDoublesNothing(t *testing.T) {
	const n = 40
	for _, v := range []activities.Verb{activities.Issue, activities.Disable} {
		for seed := range uint64(10) {
			rnd := rand.New(rand.NewPCG(seed, 11))
			g := newRig(t, n)
			rows := g.rowsFor(v, n)
			j := &volatile{recs: map[string][][]byte{}, synced: map[string]int{}}
			var left atomic.Int64
			left.Store(1 + rnd.Int64N(3*n))
			g.edge = func(p *process, _ string, _ activities.Verb, _ string) {
				if left.Add(-1) == 0 {
					p.dead.Store(true)
					j.loss()
				}
			}
			done := g.goOn(v, rows, func(attempt int) *batch.Runner {
				w, p := g.worker(fmt.Sprintf("e%d", attempt))
				j.p = p
				o := w.Options
				o.Journals = j
				return batch.New(o)
			})
			require.Len(t, done, n)
			for i := range n {
				if v == activities.Issue {
					require.Len(t, g.v.alive(keyID(i)), 2, "seed %d", seed)
				} else {
					require.LessOrEqual(t, g.v.each["Disable "+keyID(i)], 2, "seed %d", seed)
				}
			}
		}
	}
}

// TestOverlappingAttempts: the first attempt is still running when the second begins,
// in the same process; its calls are under way, and rows are left.
func TestOverlappingAttempts(t *testing.T) {
	const n = 120
	g := newRig(t, n)
	rows := g.rowsFor(activities.Issue, n)
	var under sync.WaitGroup
	under.Add(20)
	var once atomic.Int64
	open := make(chan struct{})
	g.v.during = func(op, _ string) {
		if op == "Issue" && once.Add(1) <= 20 {
			under.Done()
			<-open // the answers come when the second attempt is under way
		}
	}
	g.dead = func(string) bool { return false }
	w, _ := g.worker("a")
	p := g.pass("p1", activities.Issue, g.put(rows))
	first := make(chan error, 1)
	go func() {
		_, err := w.Pages(activities.Issue)(context.Background(), p)
		first <- err
	}()
	under.Wait()
	p2 := p
	p2.Attempt = 2
	go func() {
		// The second one takes up the rows that nobody has; then the first one's answers come.
		for g.v.count("Issue") < 40 {
			time.Sleep(time.Millisecond)
		}
		close(open)
	}()
	out, err := w.Pages(activities.Issue)(t.Context(), p2)
	require.NoError(t, err)
	require.ErrorContains(t, <-first, "a later attempt", "the first one makes no more calls")
	require.Equal(t, map[string]int{"done": n}, out.Outcomes)
	require.Less(t, out.Made, n, "what the first one had under way was taken from it")
	for i := range n {
		require.Equal(t, 1, g.v.each["Issue "+keyID(i)], "each create was made once")
	}
	require.Zero(t, g.v.count("ReconcileIssue"), "and there was nothing to settle")
}

// TestTheFirstAttemptIsOutlived: its process may be alive, and a call of it under way.
func TestTheFirstAttemptIsOutlived(t *testing.T) {
	g := newRig(t, 3)
	rows := g.rowsFor(activities.Issue, 3)
	g.edge = func(p *process, edge string, _ activities.Verb, key string) {
		if edge == batch.EdgeAfter && key == keyID(1) {
			p.dead.Store(true)
		}
	}
	w, _ := g.worker("a")
	p := g.pass("p1", activities.Issue, g.put(rows))
	_, err := w.Pages(activities.Issue)(t.Context(), p)
	require.ErrorIs(t, err, errDead)
	g.edge = nil
	g.dead = func(string) bool { return false }
	w, _ = g.worker("b")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	_, err = w.Pages(activities.Issue)(ctx, p)
	require.Error(t, err, "its time, or the pass's, ended first: the pass is made again")
	require.Zero(t, g.v.count("ReconcileIssue"), "its call may still be running")
}

// TestCreatesGoOnInTheirJournals: rows of several passes whose creates had no answer
// are in one pass, and each is settled by what its own journal says.
func TestCreatesGoOnInTheirJournals(t *testing.T) {
	g := newRig(t, 30)
	rows := g.rowsFor(activities.Issue, 30)
	g.v.fault = func(op, key string, nth int) *answer {
		if op == "Issue" && nth == 1 && key < keyID(20) {
			return &answer{err: &activities.Fault{Class: activities.ClassUnclear, Op: op}, applied: key < keyID(10)}
		}
		return nil
	}
	w, _ := g.worker("a")
	var groups []page.Group
	for i := range 3 {
		out, err := w.Pages(activities.Issue)(t.Context(), g.pass(fmt.Sprintf("p%d", i), activities.Issue, g.put(rows[i*10:i*10+10])))
		require.NoError(t, err)
		groups = append(groups, out.Groups...)
	}
	all := g.get(groups)
	require.Equal(t, "inc-1/wave/1/p0", all[0].Effect)
	require.Equal(t, "inc-1/wave/1/p1", all[15].Effect)
	require.Empty(t, all[25].Effect)
	g.now.Add(10)
	settled, err := w.Pages(activities.Issue)(t.Context(), g.pass("p3", activities.Issue, g.put(all[:20])))
	require.NoError(t, err)
	require.Equal(t, 20, g.v.count("ReconcileIssue"))
	require.Equal(t, map[string]int{"unclear": 20}, settled.Outcomes)
	recs := g.records(settled.Journal)
	require.Len(t, recs, 20, "what this pass did is in its own journal too")
	killed := 0
	for _, r := range recs {
		killed += len(r.Result.Reconcile.Killed)
	}
	require.Equal(t, 10, killed)
	done := g.goOn(activities.Issue, g.get(settled.Groups), func(int) *batch.Runner { return w })
	for i := range done {
		require.Equal(t, []string{keyID(i), done[i].NewKey}, g.v.alive(keyID(i)))
	}
	require.Equal(t, 30, g.v.count("ListKeys"), "the list before the first create serves all")
}

// TestALostCreateIsNotForgottenWhenTheBudgetIsGone: the first attempt dies with creates
// under way, and the second may not call: the next pass must find them.
func TestALostCreateIsNotForgottenWhenTheBudgetIsGone(t *testing.T) {
	for name, stop := range map[string]bool{"told to wait": true, "its settling is denied": false} {
		t.Run(name, func(t *testing.T) {
			g := newRig(t, 10)
			rows := g.rowsFor(activities.Issue, 10)
			g.edge = func(p *process, edge string, _ activities.Verb, _ string) {
				if edge == batch.EdgeAfter {
					p.dead.Store(true)
				}
			}
			w, _ := g.worker("a")
			p := g.pass("p1", activities.Issue, g.put(rows))
			_, err := w.Pages(activities.Issue)(t.Context(), p)
			require.ErrorIs(t, err, errDead)
			made := g.v.count("Issue")
			require.Positive(t, made)
			g.edge = nil
			if stop {
				g.limit.Stop("awsiam", "prod", "iam", g.time().Add(time.Minute))
			} else {
				g.v.fault = func(op, _ string, _ int) *answer {
					if op == "ReconcileIssue" || op == "ListKeys" {
						return &answer{err: &activities.Fault{Class: activities.ClassDenied, Op: op, Permission: "iam:ListAccessKeys"}}
					}
					return nil
				}
			}
			w, _ = g.worker("b")
			out, err := w.Pages(activities.Issue)(t.Context(), p)
			require.NoError(t, err)
			require.Equal(t, made, g.v.count("Issue"))
			rows = g.get(out.Groups)
			for _, r := range rows {
				require.Equal(t, g.v.each["Issue "+r.ID] > 0, r.Effect != "", r.ID)
			}
			g.v.fault = nil
			g.now.Add(61)
			for i := range rows { // and a person grants the right
				g.facts.Obey(&rows[i], []page.Order{{Kind: page.OrderResolve, All: true}}, g.time())
			}
			for i, r := range g.goOn(activities.Issue, rows, func(int) *batch.Runner { return w }) {
				require.Equal(t, []string{keyID(i), r.NewKey}, g.v.alive(keyID(i)))
			}
		})
	}
}

func TestNoReconcileOverPagesMakesDuplicates(t *testing.T) {
	g := newRig(t, 10)
	g.facts.NoReconcile = true
	rows := g.rowsFor(activities.Issue, 10)
	g.v.fault = func(op, _ string, nth int) *answer {
		if op == "Issue" && nth == 1 {
			return &answer{err: &activities.Fault{Class: activities.ClassUnclear, Op: op}, applied: true}
		}
		return nil
	}
	w, _ := g.worker("a")
	for i := range g.goOn(activities.Issue, rows, func(int) *batch.Runner { return w }) {
		require.Len(t, g.v.alive(keyID(i)), 3, "the negative control: the lost key lives on beside its twin")
	}
}

func TestAFullDiskLosesNothing(t *testing.T) {
	for _, v := range []activities.Verb{activities.Issue, activities.Disable} {
		for _, when := range []string{batch.EdgeBefore, batch.EdgeAfter, batch.EdgeRecord} {
			t.Run(string(v)+" "+when, func(t *testing.T) {
				const n = 50
				g := newRig(t, n)
				rows := g.rowsFor(v, n)
				var left atomic.Int64
				left.Store(n / 2)
				g.edge = func(_ *process, edge string, _ activities.Verb, _ string) {
					if edge == when && left.Add(-1) == 0 {
						g.full.Store(true)
					}
				}
				w, _ := g.worker("a")
				p := g.pass("p1", v, g.put(rows))
				_, err := w.Pages(v)(t.Context(), p)
				require.ErrorContains(t, err, "no space left")
				g.full.Store(false)
				g.edge = nil
				g.dead = func(string) bool { return true } // do not wait for calls that are over
				w, _ = g.worker("b")
				p.Attempt = 2
				out, err := w.Pages(v)(t.Context(), p)
				require.NoError(t, err)
				done := g.goOn(v, g.get(out.Groups), func(int) *batch.Runner { return w })
				require.Len(t, done, n)
				for i := range n {
					if v == activities.Issue {
						require.Len(t, g.v.alive(keyID(i)), 2)
					} else {
						require.LessOrEqual(t, g.v.each[string(v)+" "+keyID(i)], 2)
					}
				}
			})
		}
	}
	t.Run("when the pages are written", func(t *testing.T) {
		g := newRig(t, 50)
		w, _ := g.worker("a")
		p := g.pass("p1", activities.Disable, g.put(g.rows(50)))
		g.v.during = func(string, string) {
			if g.v.count("Disable") == 49 {
				g.full.Store(true)
			}
		}
		_, err := w.Pages(activities.Disable)(t.Context(), p)
		require.ErrorContains(t, err, "no space left")
		g.v.during = nil
		g.full.Store(false)
		before := g.v.count("Disable")
		out, err := w.Pages(activities.Disable)(t.Context(), p)
		require.NoError(t, err)
		require.LessOrEqual(t, g.v.count("Disable")-before, 36, "only what was under way is called again")
		require.Equal(t, 50, out.Groups[0].N)
	})
}

// TestCancelledInTheMiddle: what was called is on record.
func TestCancelledInTheMiddle(t *testing.T) {
	g := newRig(t, 400)
	g.limit.AtOnce(1)
	ctx, cancel := context.WithCancelCause(t.Context())
	g.v.during = func(string, string) {
		if g.v.count("Disable") >= 100 {
			cancel(errors.New("the activity is lost"))
			time.Sleep(5 * time.Millisecond) // as a provider far away
		}
	}
	w, _ := g.worker("a")
	p := g.pass("p1", activities.Disable, g.put(g.rows(400)))
	_, err := w.Pages(activities.Disable)(ctx, p)
	require.Error(t, err)
	made := g.v.count("Disable")
	require.Less(t, made, 400)
	g.v.during = nil
	out, err := w.Pages(activities.Disable)(t.Context(), p)
	require.NoError(t, err)
	require.LessOrEqual(t, g.v.count("Disable"), 400+2, "at most what was under way is called again")
	require.Positive(t, out.Made)
	require.Equal(t, 400, out.Groups[0].N)
}
