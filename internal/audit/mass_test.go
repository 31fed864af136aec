package audit_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/internal/audit"
	"rekey/internal/audit/audittest"
	"rekey/internal/canon"
	"rekey/internal/page"
)

// pageStore keeps pages as the engine writes them.
type pageStore struct {
	m    map[string][]byte
	gets int
}

func (s *pageStore) put(t testing.TB, b []byte, err error) string {
	t.Helper()
	require.NoError(t, err)
	s.m[canon.Hash(b)] = b
	return canon.Hash(b)
}

func (s *pageStore) get(hash string) ([]byte, error) {
	s.gets++
	b, ok := s.m[hash]
	if !ok {
		return nil, errors.New("not in the store")
	}
	return b, nil
}

// list puts rows into pages of size and lists them.
func (s *pageStore) list(t testing.TB, size int, rows ...page.Row) string {
	t.Helper()
	l := page.List{Pages: []page.Ref{}, Schema: page.ListSchema}
	for from := 0; from < len(rows); from += size {
		part := rows[from:min(from+size, len(rows))]
		b, err := page.Encode(part)
		l.Pages = append(l.Pages, page.RefOf(s.put(t, b, err), part))
		l.Items += len(part)
	}
	b, err := canon.JSON(l)
	return s.put(t, b, err)
}

func massRow(n int, strategy, end, grade string) page.Row {
	r := page.Row{FP: fmt.Sprintf("fp1_%064d", n), Provider: "awsiam", Account: "prod", Kind: "user-access-key", ID: fmt.Sprintf("AKIA%012d", n), Strategy: strategy, Rule: "idle", End: end, Grade: grade, Owner: "team"}
	if grade != "" {
		r.Death, r.NewKey, r.Adoption, r.Rung = "dead", "AKIANEW", "adopted", "key"
		r.EndAt = page.At{Time: time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)}
	}
	return r
}

// largeContent is a bundle's content with 500 rows that ended, 30 that people ended
// together, and 20 that are open.
func largeContent(t testing.TB) (audit.Content, *pageStore) {
	t.Helper()
	s := &pageStore{m: map[string][]byte{}}
	var ended, left, open []page.Row
	for n := range 500 {
		ended = append(ended, massRow(n, "revoke-now", "revoked-verified", []string{"A", "B"}[n%2]))
	}
	for n := range 30 {
		left = append(left, massRow(1000+n, "notify-only", "", ""))
	}
	for n := range 20 {
		open = append(open, massRow(2000+n, "hold", "", ""))
	}
	c := audit.Content{Incident: "inc-1", State: "contained", Events: audittest.Many("inc-1", 40), Page: s.get}
	lists := []string{s.list(t, 100, ended...), s.list(t, 100, left...), s.list(t, 100, open...)}
	c.Events[7].Type, c.Events[7].FP, c.Events[7].Result, c.Events[7].Evidence = audit.EventItem, "", "customer-action-open", []string{lists[1]}
	pages, err := audit.PagesOf(lists, s.get)
	require.NoError(t, err)
	require.Len(t, pages, 3+5+1+1)
	c.Stored = pages
	return c, s
}

func TestABundleHoldsTheRowsOfALargeIncident(t *testing.T) {
	signed := signer(t)
	c, s := largeContent(t)
	s.gets = 0
	b, _ := seal(t, c, signed)
	require.Equal(t, 2*len(c.Stored), s.gets, "each page is measured, then written: none is kept")
	res := verify(b, signed.Key)
	require.Equal(t, audit.Verified, res.Result, res.Faults)
	require.Contains(t, res.Proved, "pages match their hashes")

	again, _ := seal(t, c, signed)
	require.Equal(t, b, again)
	in := c
	in.Pages, in.Stored = map[string][]byte{}, append(c.Stored[:2:2], c.Stored...)
	for _, hash := range c.Stored[3:] {
		in.Pages[hash] = s.m[hash]
	}
	same, _ := seal(t, in, signed)
	require.Equal(t, b, same, "the bundle does not tell where its pages came from; one that is named twice is in it once")

	o, err := audit.Open(bytes.NewReader(b), int64(len(b)))
	require.NoError(t, err)
	events, _, err := o.Events()
	require.NoError(t, err)
	m, err := o.Mass(events)
	require.NoError(t, err)
	require.Equal(t, 550, m.Items)
	require.Equal(t, 500, m.Dead)
	require.Equal(t, 20, m.Open)
	require.Equal(t, map[string]int{"revoked-verified": 500, "customer-action-open": 30}, m.ByEndState, "with what people decided of a list")
	require.Equal(t, map[string]int{"A": 250, "B": 250}, m.ByGrade)
	require.Equal(t, map[string]int{"revoke-now": 500, "notify-only": 30, "hold": 20}, m.ByStrategy)
	require.Equal(t, map[string]int{"adopted": 500}, m.ByAdoption)
	require.Equal(t, 7, m.Pages)
	require.Len(t, m.First, audit.MassShown)
	direct, err := audit.ReadMass([]string{m.Lists[2], m.Lists[0], m.Lists[1], m.Lists[0]}, events, s.get)
	require.NoError(t, err)
	require.Equal(t, m, direct, "the same from the store, in any order")
	for _, r := range m.First {
		if r.Grade != "" {
			require.Equal(t, audit.Row{
				FP: r.FP, Provider: "awsiam", Account: "prod", Kind: "user-access-key", KeyID: r.KeyID, Owner: "team", Strategy: "revoke-now", Rule: "idle",
				Death: "dead", Grade: r.Grade, Rung: "key", Adoption: "adopted", NewKeyID: "AKIANEW", End: "revoked-verified", Ended: "2026-03-10T12:00:00.000Z",
			}, r, "by the names that a page has")
			require.NotEmpty(t, r.KeyID)
		}
	}
}

func TestAChangedRowIsFound(t *testing.T) {
	signed := signer(t)
	c, s := largeContent(t)
	b, _ := seal(t, c, signed)
	var hash string
	for h, p := range s.m {
		if bytes.Contains(p, []byte("AKIA000000000003")) {
			hash = h
		}
	}
	changed := bytes.Replace(b, []byte(`"grade":"A"`), []byte(`"grade":"B"`), 1)
	require.NotEqual(t, b, changed)
	res := verify(changed, signed.Key)
	require.Equal(t, audit.Failed, res.Result)
	require.Equal(t, audit.PageChanged, res.Faults[0].Code)
	require.True(t, strings.HasPrefix(res.Faults[0].File, "pages/"))

	changed = bytes.Replace(b, []byte("AKIA000000000003"), []byte("AKIA000000000009"), 1)
	res = verify(changed, signed.Key)
	require.Equal(t, audit.PageChanged, res.Faults[0].Code)
	require.Equal(t, audit.PageName(hash), res.Faults[0].File)
}

func TestAPageThatIsNotWhatItsHashSaysIsNotSealed(t *testing.T) {
	signed := signer(t)
	c, s := largeContent(t)
	gone := c
	gone.Page = func(hash string) ([]byte, error) {
		if hash == c.Stored[4] {
			return nil, errors.New("blob is gone")
		}
		return s.get(hash)
	}
	_, err := audit.Write(&bytes.Buffer{}, gone, signed)
	require.ErrorContains(t, err, "blob is gone")
	for _, from := range []int{1, 2} { // when it is measured, when it is written
		reads := map[string]int{}
		other := c
		other.Page = func(hash string) ([]byte, error) {
			if reads[hash]++; hash == c.Stored[4] && reads[hash] >= from {
				b, err := s.get(hash)
				return bytes.Replace(b, []byte("AKIA"), []byte("BKIA"), 1), err
			}
			return s.get(hash)
		}
		_, err = audit.Write(&bytes.Buffer{}, other, signed)
		require.ErrorContains(t, err, c.Stored[4])
	}
}

func TestReadMassRefusesWhatIsNoPage(t *testing.T) {
	s := &pageStore{m: map[string][]byte{}}
	m, err := audit.ReadMass(nil, nil, s.get)
	require.NoError(t, err)
	require.Nil(t, m)
	text := func(b string) string { return s.put(t, []byte(b), nil) }
	for name, list := range map[string]string{
		"gone":                 "sha256:00",
		"not a list":           text(`{"rows":[],"schema":"rekey.page/v1"}`),
		"a later list":         text(`{"items":0,"pages":[],"schema":"rekey.page-list/v2"}`),
		"no JSON":              text(`{`),
		"a page is gone":       text(`{"items":1,"pages":[{"hash":"sha256:01","n":1}],"schema":"rekey.page-list/v1"}`),
		"a page of what knows": text(`{"items":1,"pages":[{"hash":"` + text(`{"rows":[],"schema":"other"}`) + `","n":1}],"schema":"rekey.page-list/v1"}`),
	} {
		_, err := audit.ReadMass([]string{list}, nil, s.get)
		require.Error(t, err, name)
	}
}

func TestStatsCountRows(t *testing.T) {
	signed := signer(t)
	c, _ := largeContent(t)
	b, _ := seal(t, c, signed)
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "inc-1.zip"), b, 0o600))
	res, err := audit.Stats(dir)
	require.NoError(t, err)
	require.Empty(t, res.Unreadable)
	alone := audit.StatsOf(c.Events)
	got := res.Bundles[0]
	require.Equal(t, alone.Items+550, got.Items)
	require.Equal(t, alone.OpenItems+20, got.OpenItems)
	require.Equal(t, 500, got.ByEndState["revoked-verified"])
	require.Equal(t, 250, got.ByGrade["B"])
}

// Rows have no events of their own: their calls are counted in passes, and that all are
// settled is what the incident says when it closes.
func TestTheStoryOfALargeIncident(t *testing.T) {
	at := func(s int) string { return canon.Time(audittest.T0().Add(time.Duration(s) * time.Second)) }
	events := []audit.Event{
		{Type: audit.EventTrigger, Time: at(0), FP: "fp1_a"},
		{Type: audit.EventPass, Time: at(5), Verb: "Inspect", Attempt: 1, Attrs: map[string]string{"outcome done": "500"}},
		{Type: audit.EventPass, Time: at(9), Verb: "Disable", Attempt: 2, Attrs: map[string]string{"outcome done": "480", "outcome unclear": "20", "failed throttled": "7", "rows": "500"}},
		{Type: audit.EventProbe, Time: at(20), FP: "fp1_a", Result: audit.ProbeDead},
		{Type: audit.EventItem, Time: at(21), FP: "fp1_a", Result: "revoked-verified"},
	}
	s := audit.Tell(events)
	require.Equal(t, map[string]int{"done": 980, "unclear": 20}, s.Calls)
	require.Equal(t, 1, s.Retries)
	require.Equal(t, 2, s.Passes)
	_, ok := s.TimeToContain()
	require.False(t, ok, "the one item is settled, the rows are not")
	first, ok := s.TimeToFirstCall()
	require.True(t, ok)
	require.Equal(t, 9*time.Second, first)
	events = append(events,
		audit.Event{Type: audit.EventClosed, Time: at(90), Result: "contained"},
		audit.Event{Type: audit.EventClosed, Time: at(900), Result: "all-clear"})
	contained, ok := audit.Tell(events).TimeToContain()
	require.True(t, ok)
	require.Equal(t, 90*time.Second, contained)
	events = append(events, audit.Event{Type: audit.EventReopened, Time: at(950)})
	_, ok = audit.Tell(events).TimeToContain()
	require.False(t, ok)
}
