package page_test

import (
	"bytes"
	"compress/flate"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"rekey/activities"
	"rekey/internal/canon"
	"rekey/internal/page"
	"rekey/playbooks"
)

// typical is a full page of rows in the middle of reissue-first: replaced, cut, and being
// proven dead.
func typical(tb testing.TB) ([]page.Row, *page.Facts) {
	f := &page.Facts{
		Incident: "inc-7f3a9c2e41d0", Prefix: "wave/3", Strategy: playbooks.ReissueFirst, K: 3, Span: 30 * time.Second, Vantages: 1, Cutoff: t0.Add(72 * time.Hour),
		Steps: map[playbooks.StrategyName][]page.Step{playbooks.ReissueFirst: playbooks.ReissueFirst.StandardSteps()},
		Kinds: map[string]page.Kind{"awsiam/user-access-key": {API: all, Propagation: 15 * time.Second, SessionsOutlive: true, Places: map[string][]string{"prod": {"eu-central-1"}}}},
	}
	rng := rand.New(rand.NewPCG(3, 4))
	rows := make([]page.Row, page.Size)
	for i := range rows {
		id := fmt.Sprintf("%016X", rng.Uint64())
		r := page.Row{
			Provider: "awsiam", Account: "prod", Kind: "user-access-key", FP: fmt.Sprintf("fp1_%016x%016x%016x%016x", rng.Uint64(), rng.Uint64(), rng.Uint64(), rng.Uint64()),
			ID: "AKIA" + id, Principal: fmt.Sprintf("svc-%04d", i), Owner: fmt.Sprintf("team-%02d", i%40), OwnerKind: "team", Basis: "estate", Why: "same account", Depth: 1, Rule: "live", Adopt: true,
			Dependents: []page.Dependent{{ID: fmt.Sprintf("app-%04d", i), Owner: fmt.Sprintf("team-%02d", i%40), BudgetMs: 1_800_000, Cutover: "dual", Proof: "last-used"}},
			Stores:     []page.Store{{Target: "awssm", Name: fmt.Sprintf("team-%02d/aws", i%40)}},
		}
		now := t0
		f.Begin(&r, now)
		for r.Refusals < 2 {
			v := r.Next.Verb
			now = now.Add(time.Second)
			if r.Next.Due.After(now) {
				now = r.Next.Due.Time
			}
			a := activities.Attempt{FP: r.FP, Verb: v, N: 1, At: now, Outcome: activities.Done}
			if v.Mutates() {
				a.RequestID = fmt.Sprintf("%08x-%04x-%04x-%04x-%012x", rng.Uint32(), rng.IntN(1<<16), rng.IntN(1<<16), rng.IntN(1<<16), rng.Uint64N(1<<48))
			}
			switch v {
			case activities.Issue:
				a.Issue = &activities.IssueResult{New: activities.KeyState{ID: "AKIB" + id}, Handle: f.Request(&r, now).Handle}
			case activities.Inspect:
				a.Inspect = &activities.InspectResult{Uses: []activities.Use{{Last: now, Count: 1, Source: "10.0.0.1"}}}
			case activities.Probe:
				a.Probe = &activities.ProbeResult{Saw: activities.ProbeRefused, Control: true}
			}
			f.Advance(&r, a, "wave/3/"+string(v)+"/p1", now)
		}
		rows[i] = r
	}
	return rows, f
}

func BenchmarkEncode(b *testing.B) {
	rows, _ := typical(b)
	raw, err := page.Encode(rows)
	if err != nil {
		b.Fatal(err)
	}
	var packed bytes.Buffer
	w, err := flate.NewWriter(&packed, flate.DefaultCompression)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := w.Write(raw); err != nil {
		b.Fatal(err)
	}
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
	size := func(b *testing.B) {
		b.ReportMetric(float64(len(raw))/float64(len(rows)), "B/row")
		b.ReportMetric(float64(packed.Len())/float64(len(rows)), "packed-B/row")
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(rows)), "ns/row")
	}
	b.Run("page", func(b *testing.B) {
		for b.Loop() {
			if _, err := page.Encode(rows); err != nil {
				b.Fatal(err)
			}
		}
		size(b)
	})
	b.Run("canon.JSON", func(b *testing.B) {
		for b.Loop() {
			if _, err := canon.JSON(page.Page{Rows: rows, Schema: page.Schema}); err != nil {
				b.Fatal(err)
			}
		}
		size(b)
	})
	b.Run("json.Marshal", func(b *testing.B) {
		for b.Loop() {
			if _, err := json.Marshal(page.Page{Rows: rows, Schema: page.Schema}); err != nil {
				b.Fatal(err)
			}
		}
		size(b)
	})
	b.Run("decode", func(b *testing.B) {
		for b.Loop() {
			if _, err := page.Decode(raw); err != nil {
				b.Fatal(err)
			}
		}
		size(b)
	})
}

func BenchmarkAdvance(b *testing.B) {
	rows, f := typical(b)
	now := t0.Add(time.Hour)
	a := activities.Attempt{Verb: activities.Probe, At: now, Outcome: activities.Done, Probe: &activities.ProbeResult{Saw: activities.ProbeRefused, Control: true}}
	i := 0
	for b.Loop() {
		r := rows[i%len(rows)]
		f.Request(&r, now)
		f.Advance(&r, a, "wave/3/Probe/p9", now)
		i++
	}
}
