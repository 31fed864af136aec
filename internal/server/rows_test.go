package server_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/internal/page"
	"rekey/internal/server"
	"rekey/internal/view"
	"rekey/workflows"
)

// pageWorld is where the rows of an incident are, and counts what is read.
type pageWorld struct {
	state  workflows.PagesState
	groups map[string][]page.Group
	lists  map[string]page.List
	pages  map[string][]page.Row
	asked  int
	reads  map[string]int
	down   error
	now    time.Time
}

func newPageWorld() *pageWorld {
	return &pageWorld{groups: map[string][]page.Group{}, lists: map[string]page.List{}, pages: map[string][]page.Row{}, reads: map[string]int{}, now: time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)}
}

func (w *pageWorld) Pages(context.Context, string) (workflows.PagesState, error) {
	w.asked++
	return w.state, w.down
}
func (w *pageWorld) Groups(_ context.Context, wave string) ([]page.Group, error) {
	return w.groups[wave], w.down
}
func (w *pageWorld) List(_ context.Context, hash string) (page.List, error) {
	l, ok := w.lists[hash]
	if !ok {
		return l, errors.New("no such list")
	}
	return l, nil
}
func (w *pageWorld) Rows(_ context.Context, hash string) ([]page.Row, error) {
	w.reads[hash]++
	rows, ok := w.pages[hash]
	if !ok {
		return nil, errors.New("no such page")
	}
	return rows, nil
}

func rowFP(n int) string { return fmt.Sprintf("fp1_%064x", n) }

func (w *pageWorld) page(set func(*page.Row), ns ...int) page.Ref {
	var rows []page.Row
	for _, n := range ns {
		r := page.Row{FP: rowFP(n), Provider: "awsiam", Account: "prod", Kind: "k", ID: fmt.Sprint(n)}
		if set != nil {
			set(&r)
		}
		rows = append(rows, r)
	}
	hash := fmt.Sprintf("page-%d", len(w.pages))
	w.pages[hash] = rows
	return page.RefOf(hash, rows)
}

func (w *pageWorld) list(l workflows.PagesList, pages ...page.Ref) {
	l.List = fmt.Sprintf("list-%d", len(w.lists))
	w.lists[l.List] = page.List{Pages: pages}
	w.state.Lists = append(w.state.Lists, l)
}

func (w *pageWorld) wave(n int, pages ...page.Ref) {
	id := workflows.WaveID(known, n)
	w.state.Waves = append(w.state.Waves, id)
	for _, p := range pages {
		w.groups[id] = append(w.groups[id], page.Group{Ref: p})
	}
}

func (w *pageWorld) rows() *server.PagedRows {
	return server.NewRows(w, w, func() time.Time { return w.now })
}

func after(t *testing.T, p *server.PagedRows, fp string, n int) []view.Item {
	t.Helper()
	items, err := p.After(t.Context(), known, fp, n)
	require.NoError(t, err)
	return items
}

func ids(items []view.Item) []string {
	out := []string{}
	for _, it := range items {
		out = append(out, it.KeyID)
	}
	return out
}

func every(from, to, step int) (out []int) {
	for n := from; n < to; n += step {
		out = append(out, n)
	}
	return out
}

func TestRowsComeInOrderOutOfAllPages(t *testing.T) {
	w := newPageWorld()
	w.list(workflows.PagesList{Wave: 1}, w.page(nil, every(0, 900, 3)...), w.page(nil, every(900, 1500, 3)...))
	w.wave(2, w.page(nil, every(1, 1500, 6)...), w.page(nil, every(4, 1500, 6)...)) // both from end to end
	w.list(workflows.PagesList{Open: "waits for its wave"}, w.page(nil, every(2, 1500, 3)...))
	p := w.rows()
	var all []string
	for fp := ""; ; {
		items := after(t, p, fp, 200)
		all = append(all, ids(items)...)
		if len(items) < 200 {
			break
		}
		fp = items[len(items)-1].FP
	}
	require.Len(t, all, 1500)
	for n, id := range all {
		require.Equal(t, fmt.Sprint(n), id)
	}
	require.Equal(t, 1, w.asked, "who goes on sees what they began with")
	for hash, n := range w.reads {
		require.Equal(t, 1, n, hash)
	}
	require.Empty(t, after(t, p, rowFP(9999), 10))
	require.Empty(t, after(t, p, "", 0))
}

func TestRowsReadNoMorePagesThanTheyNeed(t *testing.T) {
	w := newPageWorld()
	var refs []page.Ref
	for n := range 100 {
		refs = append(refs, w.page(nil, every(n*500, n*500+500, 1)...))
	}
	w.list(workflows.PagesList{Wave: 1}, refs...)
	p := w.rows()
	require.Len(t, after(t, p, "", 200), 200)
	require.Len(t, w.reads, 1)
	require.Equal(t, []string{"25000", "25001"}, ids(after(t, p, rowFP(24_999), 2)))
	require.Len(t, w.reads, 2)
	for fp := ""; ; { // all of them, and no more than some are held
		items := after(t, p, fp, 500)
		if len(items) == 0 {
			break
		}
		fp = items[len(items)-1].FP
	}
	clear(w.reads)
	after(t, p, rowFP(10), 1)
	require.Len(t, w.reads, 1, "the first pages were let go")
}

func TestRowsSayWhatIsKnownOfThem(t *testing.T) {
	w := newPageWorld()
	dead := func(r *page.Row) { r.End, r.Death, r.Grade = "revoked-verified", "dead", "B" }
	w.list(workflows.PagesList{Wave: 1}, w.page(dead, 1))
	w.wave(2, w.page(func(r *page.Row) { r.Next = page.Next{Gate: page.GateVotes, Why: page.WhyVotes} }, 2))
	w.list(workflows.PagesList{Strategy: "notify-only", End: "customer-action-open", Open: "a person decides"}, w.page(nil, 3))
	w.list(workflows.PagesList{Open: "being read"}, w.page(nil, 4))
	items := after(t, w.rows(), "", 10)
	require.Equal(t, []string{"1", "2", "3", "4"}, ids(items))
	require.Equal(t, []int{1, 2, 0, 0}, []int{items[0].Wave, items[1].Wave, items[2].Wave, items[3].Wave})
	require.Equal(t, []string{"revoked-verified", "", "customer-action-open", ""}, []string{items[0].EndState, items[1].EndState, items[2].EndState, items[3].EndState})
	require.Equal(t, []string{"", page.WhyVotes, "", "being read"}, []string{items[0].Open.Why, items[1].Open.Why, items[2].Open.Why, items[3].Open.Why})
	require.Equal(t, "B", items[0].Death.Grade)
}

// A row that moves stands in two places for a moment: it is shown once, as it moves.
func TestRowsAreShownOnce(t *testing.T) {
	w := newPageWorld()
	w.list(workflows.PagesList{Open: "waits for its wave"}, w.page(nil, 1, 2, 3))
	w.wave(7, w.page(nil, 2))
	items := after(t, w.rows(), "", 10)
	require.Equal(t, []string{"1", "2", "3"}, ids(items))
	require.Equal(t, []int{0, 7, 0}, []int{items[0].Wave, items[1].Wave, items[2].Wave})
	require.Equal(t, []string{"1"}, ids(after(t, w.rows(), "", 1)))
}

func TestRowsAreLookedForAnewAfterAWhile(t *testing.T) {
	w := newPageWorld()
	w.list(workflows.PagesList{}, w.page(nil, 1, 2, 3))
	p := w.rows()
	after(t, p, "", 1)
	w.list(workflows.PagesList{}, w.page(nil, 4))
	require.Equal(t, []string{"2", "3"}, ids(after(t, p, rowFP(1), 5)))
	w.now = w.now.Add(time.Minute)
	require.Equal(t, []string{"2", "3", "4"}, ids(after(t, p, rowFP(1), 5)))
	w.list(workflows.PagesList{}, w.page(nil, 5))
	require.Equal(t, []string{"1", "2", "3", "4", "5"}, ids(after(t, p, "", 9)), "and whoever begins")
	w.down = errors.New("no worker")
	_, err := p.After(t.Context(), known, "", 9)
	require.ErrorContains(t, err, "no worker")
	w.down = nil
	w.state.Lists = append(w.state.Lists, workflows.PagesList{List: "gone"})
	_, err = p.After(t.Context(), known, "", 9)
	require.ErrorContains(t, err, "no such list")
}

func TestItemsGoOnWithRows(t *testing.T) {
	pw := newPageWorld()
	pw.list(workflows.PagesList{Wave: 1}, pw.page(nil, every(0, 450, 1)...))
	w := newWorld(t, func(o *server.Options) { o.Rows = pw.rows() })
	w.items = make([]view.Item, 250)
	for i := range w.items {
		w.items[i] = view.Item{FP: fmt.Sprint("item-", i), KeyID: fmt.Sprint("item-", i), Death: view.Death{Needed: 3}}
	}
	w.items[7].FP = rowFP(440) // it was pulled a moment ago
	var sizes []int
	var seen []string
	for cursor := ""; ; {
		got := itemPage(t, w, cursor)
		sizes = append(sizes, len(got.Items))
		for _, it := range got.Items {
			require.Equal(t, 3, it.Death.Needed)
			require.NotContains(t, seen, it.FP)
			seen = append(seen, it.FP)
		}
		if cursor = got.Next; cursor == "" {
			break
		}
	}
	require.Equal(t, []int{200, 200, 200, 99}, sizes)
	require.Len(t, seen, 250+449)
	require.True(t, slices.IsSorted(seen[250:]))

	// Exactly a page of items, and rows behind it.
	w.items = w.items[:200]
	got := itemPage(t, w, "")
	require.Len(t, got.Items, 200)
	require.Equal(t, "rows", got.Next)
	got = itemPage(t, w, "rows")
	require.Equal(t, rowFP(0), got.Items[0].FP)
	pw.down = errors.New("no worker")
	require.Equal(t, http.StatusServiceUnavailable, w.call(t, "GET", "/api/v1/incidents/"+known+"/items?after=rows", nil).Code)
}

func itemPage(t *testing.T, w *world, cursor string) (got view.Items) {
	t.Helper()
	rec := w.call(t, "GET", "/api/v1/incidents/"+known+"/items?after="+cursor, nil)
	require.Equal(t, http.StatusOK, rec.Code, rec.Body.String())
	require.NoError(t, json.Unmarshal(rec.Body.Bytes(), &got))
	require.Equal(t, "rekey.item/v1", got.Schema)
	return got
}
