package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/activities"
	"rekey/internal/blob"
	"rekey/internal/page"
	"rekey/playbooks"
	"rekey/workflows"
)

// blobs is a blob store in memory; after the writes that left allows, its disk is full.
type blobs struct {
	mu   sync.Mutex
	m    map[string][]byte
	left int
}

func newBlobs() *blobs { return &blobs{m: map[string][]byte{}, left: -1} }

func (b *blobs) Get(_ context.Context, hash string) ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	v, ok := b.m[hash]
	if !ok {
		return nil, &blob.NotFoundError{Hash: hash}
	}
	return v, nil
}

func (b *blobs) Put(_ context.Context, v []byte) (string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.left == 0 {
		return "", errors.New("disk full")
	}
	b.left--
	b.m[blob.Hash(v)] = slices.Clone(v)
	return blob.Hash(v), nil
}

func (b *blobs) Has(_ context.Context, hash string) (bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, ok := b.m[hash]
	return ok, nil
}

func waveFacts() page.Facts {
	return page.Facts{
		Incident: "inc-1", Prefix: "wave/1", Strategy: playbooks.DisableAndWatch, K: 1,
		Steps: map[playbooks.StrategyName][]playbooks.Step{
			playbooks.DisableAndWatch: {playbooks.StepDisable, playbooks.StepProbe, playbooks.StepWaitQuiet, playbooks.StepRevoke},
			playbooks.RevokeNow:       {playbooks.StepDisable, playbooks.StepProbe, playbooks.StepRevoke},
		},
		Kinds: map[string]page.Kind{"awsiam/k": {API: []activities.Verb{activities.Inspect, activities.Disable, activities.Probe, activities.Revoke}}},
		Quiet: time.Hour,
	}
}

func massRow(n int, account string) page.Row {
	return page.Row{FP: fmt.Sprintf("fp1_%06d", n), Provider: "awsiam", Account: account, Kind: "k", ID: fmt.Sprintf("id-%d", n)}
}

// mass is an engine with n rows in a list, every third in another account.
func mass(t testing.TB, n int) (*Engine, *blobs, page.List) {
	t.Helper()
	b := newBlobs()
	e := New(Options{Blobs: b})
	w := e.pages().Writer()
	for i := range n {
		require.NoError(t, w.Add(t.Context(), massRow(i, []string{"prod", "prod", "test"}[i%3])))
	}
	l, err := w.Close(t.Context())
	require.NoError(t, err)
	return e, b, l
}

func pin(t testing.TB, e *Engine, f page.Facts) string {
	t.Helper()
	h, err := e.Pin(t.Context(), f)
	require.NoError(t, err)
	return h
}

func sorted(t testing.TB, e *Engine, in page.SortInput) page.SortResult {
	t.Helper()
	out, err := e.Sort(t.Context(), in)
	require.NoError(t, err)
	return out
}

// shape says of each group how many rows it has and what they need.
func shape(groups []page.Group) []string {
	var out []string
	for _, g := range groups {
		s := fmt.Sprintf("%d %s %s", g.N, g.Account, g.Next.Verb)
		if g.Next.Gate != "" {
			s += " behind " + g.Next.Gate
		}
		if !g.Next.Due.IsZero() {
			s += " at " + g.Next.Due.Format("15:04:05")
		}
		out = append(out, s)
	}
	return out
}

func pagesOf(groups []page.Group) []string {
	var out []string
	for _, g := range groups {
		out = append(out, g.Hash)
	}
	return out
}

// change gives the pages of groups with every row changed.
func change(t testing.TB, e *Engine, groups []page.Group, f func(*page.Row)) []string {
	t.Helper()
	var out []string
	for _, g := range groups {
		rows, err := e.pages().Rows(t.Context(), g.Hash)
		require.NoError(t, err)
		for i := range rows {
			f(&rows[i])
		}
		ref, err := e.pages().Put(t.Context(), rows)
		require.NoError(t, err)
		out = append(out, ref.Hash)
	}
	return out
}

func TestPinGivesTheSameHashForTheSameFacts(t *testing.T) {
	e, b, _ := mass(t, 0)
	h := pin(t, e, waveFacts())
	require.Equal(t, h, pin(t, e, waveFacts()))
	f, err := e.facts(t.Context(), h)
	require.NoError(t, err)
	require.Equal(t, waveFacts(), *f)
	_, err = e.facts(t.Context(), blob.Hash([]byte("else")))
	require.ErrorContains(t, err, "not in the store")
	bad, err := b.Put(t.Context(), []byte("{"))
	require.NoError(t, err)
	_, err = e.Sort(t.Context(), page.SortInput{Facts: bad})
	require.ErrorContains(t, err, "facts of the wave")
}

func TestSortBegins(t *testing.T) {
	e, _, l := mass(t, 2000)
	in := page.SortInput{Incident: "inc-1", Facts: pin(t, e, waveFacts()), List: l.Hash, Begin: true, Now: now}
	out := sorted(t, e, in)
	require.Equal(t, []string{"500 prod Disable", "500 prod Disable", "334 prod Disable", "500 test Disable", "166 test Disable"}, shape(out.Groups),
		"an account is a group by itself, and pages are full")
	require.Equal(t, out, sorted(t, e, in), "the same input gives the same pages")
	n := 0
	for _, g := range out.Groups {
		rows, err := e.pages().Rows(t.Context(), g.Hash)
		require.NoError(t, err)
		require.Equal(t, page.Count(rows).Items, g.Tally.Items)
		require.Equal(t, map[string]int{"alive": g.N}, g.Tally.Death)
		for _, r := range rows {
			require.Equal(t, g.Account, r.Account)
			require.Equal(t, "disable-and-watch", r.Strategy)
		}
		n += g.N
	}
	require.Equal(t, 2000, n)
}

func TestSortReadsTheScope(t *testing.T) {
	e, _, l := mass(t, 3)
	f := waveFacts()
	f.Scope = true
	out := sorted(t, e, page.SortInput{Facts: pin(t, e, f), List: l.Hash, Begin: true, Now: now})
	require.Equal(t, []string{"2 prod Inspect", "1 test Inspect"}, shape(out.Groups))
	f.Kinds["awsiam/k"] = page.Kind{API: []activities.Verb{activities.Disable}}
	out = sorted(t, e, page.SortInput{Facts: pin(t, e, f), List: l.Hash, Begin: true, Now: now})
	require.Equal(t, []string{"2 prod ", "1 test "}, shape(out.Groups), "nothing reads it, so nothing is waited for")
	rows, err := e.pages().Rows(t.Context(), out.Groups[0].Hash)
	require.NoError(t, err)
	read, err := rows[0].Read()
	require.NoError(t, err)
	require.True(t, usesUnseen(read))
}

func TestSortWakesWhatWaitedForATimeOnly(t *testing.T) {
	e, _, l := mass(t, 600)
	facts := pin(t, e, waveFacts())
	begun := sorted(t, e, page.SortInput{Facts: facts, List: l.Hash, Begin: true, Now: now})
	quiet := change(t, e, begun.Groups, func(r *page.Row) {
		r.Disabled, r.Death, r.StepN = true, "dead", 2
		r.Quiet = page.At{Time: now.Add(time.Hour)}
		r.Next = page.Next{Due: r.Quiet, Why: page.WhyQuiet}
	})
	out := sorted(t, e, page.SortInput{Facts: facts, Pages: quiet, Now: now.Add(59 * time.Minute)})
	require.Equal(t, []string{"400 prod  at 13:00:00", "200 test  at 13:00:00"}, shape(out.Groups))
	out = sorted(t, e, page.SortInput{Facts: facts, Pages: quiet, Now: now.Add(time.Hour)})
	require.Equal(t, []string{"400 prod Revoke behind votes", "200 test Revoke behind votes"}, shape(out.Groups))

	again := change(t, e, begun.Groups, func(r *page.Row) {
		r.Next.Due, r.Next.Why = page.At{Time: now}, "told to wait by awsiam"
	})
	out = sorted(t, e, page.SortInput{Facts: facts, Pages: again, Now: now.Add(time.Minute)})
	require.Equal(t, []string{"400 prod Disable at 12:00:00", "200 test Disable at 12:00:00"}, shape(out.Groups), "a call that is to be repeated stays as it is")

	f := waveFacts()
	f.Strategy, f.Gated, f.Cutoff = playbooks.ReissueFirst, true, now.Add(time.Hour)
	f.Steps[playbooks.ReissueFirst] = []playbooks.Step{playbooks.StepNotice, playbooks.StepDisable}
	warned := change(t, e, begun.Groups, func(r *page.Row) { r.Owner, r.StepN, r.Strategy = "team", 0, "" })
	facts = pin(t, e, f)
	out = sorted(t, e, page.SortInput{Facts: facts, Pages: warned, Begin: true, Now: now})
	require.Equal(t, []string{"400 prod  behind notice at 13:00:00", "200 test  behind notice at 13:00:00"}, shape(out.Groups))
	require.Equal(t, shape(out.Groups), shape(sorted(t, e, page.SortInput{Facts: facts, Pages: pagesOf(out.Groups), Now: now.Add(time.Minute)}).Groups))
	out = sorted(t, e, page.SortInput{Facts: facts, Pages: pagesOf(out.Groups), Now: now.Add(time.Hour)})
	require.Equal(t, []string{"400 prod Disable", "200 test Disable"}, shape(out.Groups), "the cut-off overtakes the notice")
}

func TestSortObeysOrders(t *testing.T) {
	e, b, l := mass(t, 1500)
	facts := pin(t, e, waveFacts())
	begun := sorted(t, e, page.SortInput{Facts: facts, List: l.Hash, Begin: true, Now: now})
	var set []string
	for i := range 700 {
		set = append(set, massRow(i, "").FP)
	}
	hash, err := b.Put(t.Context(), []byte(strings.Join(set, "\n")+"\n"))
	require.NoError(t, err)
	in := page.SortInput{Facts: facts, Pages: pagesOf(begun.Groups), Now: now, Orders: []page.Order{
		// Fingerprints come as people gave them: not sorted, some twice.
		{Kind: page.OrderHold, FPs: []string{massRow(900, "").FP, massRow(3, "").FP, massRow(900, "").FP}, Set: hash},
		{Kind: page.OrderRelease, FPs: []string{massRow(5, "").FP}},
	}}
	out := sorted(t, e, in)
	require.Equal(t, 701, out.Matched, "each row once, however many orders name it")
	require.Equal(t, []string{"500 prod Disable", "32 prod Disable", "468 prod Disable behind held", "268 test Disable", "232 test Disable behind held"}, shape(out.Groups))
	require.Equal(t, []string{massRow(900, "").FP, massRow(3, "").FP, massRow(900, "").FP}, in.Orders[0].FPs, "the input is left as it is")
	require.Equal(t, out, sorted(t, e, in))

	in.Orders[0].Set = blob.Hash([]byte("nobody"))
	_, err = e.Sort(t.Context(), in)
	require.ErrorContains(t, err, "not in the store")
}

func TestSortPullsSome(t *testing.T) {
	e, _, l := mass(t, 10)
	facts := pin(t, e, waveFacts())
	begun := sorted(t, e, page.SortInput{Facts: facts, List: l.Hash, Begin: true, Now: now})
	in := page.SortInput{Facts: facts, Pages: pagesOf(begun.Groups), Now: now, Pull: 2, Orders: []page.Order{
		{Kind: page.OrderPull, Text: "look at it", FPs: []string{massRow(0, "").FP, massRow(1, "").FP, massRow(3, "").FP}},
	}}
	out := sorted(t, e, in)
	require.Len(t, out.Pulled, 2)
	require.Equal(t, []string{massRow(0, "").FP, massRow(1, "").FP}, []string{out.Pulled[0].FP, out.Pulled[1].FP})
	require.Equal(t, page.GatePull, out.Pulled[0].Next.Gate)
	require.Equal(t, []string{"4 prod Disable", "1 prod Disable behind pull", "3 test Disable"}, shape(out.Groups))
	in.Pull = 0
	require.Empty(t, sorted(t, e, in).Pulled)
}

// Small groups of many pages come together; each is written once, and what a crash
// leaves behind is written again.
func TestSortPutsSmallPagesTogether(t *testing.T) {
	e, b, l := mass(t, 900)
	facts := pin(t, e, waveFacts())
	rows, err := e.pages().Rows(t.Context(), l.Pages[0].Hash)
	require.NoError(t, err)
	more, err := e.pages().Rows(t.Context(), l.Pages[1].Hash)
	require.NoError(t, err)
	var small []string
	for chunk := range slices.Chunk(append(rows, more...), 7) {
		ref, err := e.pages().Put(t.Context(), chunk)
		require.NoError(t, err)
		small = append(small, ref.Hash)
	}
	in := page.SortInput{Facts: facts, Pages: small, Begin: true, Now: now}
	want := []string{"500 prod Disable", "100 prod Disable", "300 test Disable"}
	for left := range 3 {
		b.left = left
		_, err := e.Sort(t.Context(), in)
		require.ErrorContains(t, err, "disk full")
	}
	b.left = -1
	out := sorted(t, e, in)
	require.Equal(t, want, shape(out.Groups))
	var total page.Tally
	for _, g := range out.Groups {
		total.Add(g.Tally)
	}
	require.Equal(t, 900, total.Items)
}

func TestListReadsAndPacks(t *testing.T) {
	e, _, l := mass(t, 1200)
	read, err := e.List(t.Context(), workflows.ListInput{List: l.Hash})
	require.NoError(t, err)
	require.Equal(t, l, read)
	begun := sorted(t, e, page.SortInput{Facts: pin(t, e, waveFacts()), List: l.Hash, Begin: true, Now: now})
	packed, err := e.List(t.Context(), workflows.ListInput{Pack: pagesOf(begun.Groups)})
	require.NoError(t, err)
	require.Equal(t, 1200, packed.Items)
	require.Len(t, packed.Pages, 3)
	require.Equal(t, massRow(0, "").FP, packed.Pages[0].First)
	require.Equal(t, massRow(1199, "").FP, packed.Pages[2].Last)
}

func BenchmarkSort(b *testing.B) {
	for _, n := range []int{25_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			e, _, l := mass(b, n)
			in := page.SortInput{Facts: pin(b, e, waveFacts()), List: l.Hash, Begin: true, Now: now}
			b.ReportAllocs()
			for b.Loop() {
				sorted(b, e, in)
			}
		})
	}
}
