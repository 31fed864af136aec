package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/converter"
	"google.golang.org/protobuf/types/known/timestamppb"

	"rekey/internal/audit"
	"rekey/internal/canon"
	"rekey/internal/derive"
	"rekey/internal/event"
	"rekey/internal/page"
	"rekey/internal/view"
	"rekey/workflows"
)

// histories gives one run in which so many things were recorded.
type histories struct{ events int }

func (h *histories) Runs(context.Context, string, []string, []workflows.Chapter) ([]derive.Run, []string, error) {
	r := derive.Run{Workflow: "incident/inc-1", ID: "run", History: &historypb.History{}}
	for n := range h.events {
		data, err := converter.GetDefaultDataConverter().ToPayloads(workflows.Recorded{ID: workflows.MarkerRecord, Event: event.Event{
			V: event.SchemaVersion, Type: event.EventPhase, Phase: "act", Actor: "worker", Time: canon.Time(now.Add(time.Duration(n) * time.Second)),
		}})
		if err != nil {
			return nil, nil, err
		}
		r.History.Events = append(r.History.Events, &historypb.HistoryEvent{
			EventId: int64(n + 1), EventType: enumspb.EVENT_TYPE_MARKER_RECORDED, EventTime: timestamppb.New(now),
			Attributes: &historypb.HistoryEvent_MarkerRecordedEventAttributes{MarkerRecordedEventAttributes: &historypb.MarkerRecordedEventAttributes{
				MarkerName: "SideEffect", Details: map[string]*commonpb.Payloads{"data": data},
			}},
		})
	}
	return []derive.Run{r}, nil, nil
}

func (h *histories) Keep(context.Context, string, string, string) (workflows.Chapter, error) {
	return workflows.Chapter{}, nil
}

func (h *histories) KeepRun(context.Context, string, derive.Run) (workflows.Chapter, error) {
	return workflows.Chapter{}, nil
}

// sealing is an engine that seals bundles, and rows that have ended.
func sealing(t testing.TB, rows int) (*Engine, *blobs, *histories, string) {
	t.Helper()
	b := newBlobs()
	signer, err := audit.NewSigner("example.com/rekey")
	require.NoError(t, err)
	h := &histories{events: 5}
	e := New(Options{Blobs: b, Bundles: t.TempDir(), Histories: h, Signer: signer})
	w := e.pages().Writer()
	for n := range rows {
		r := massRow(n, "prod")
		r.End, r.Death, r.Grade, r.Strategy = "revoked-verified", "dead", "B", "revoke-now"
		require.NoError(t, w.Add(t.Context(), r))
	}
	l, err := w.Close(t.Context())
	require.NoError(t, err)
	return e, b, h, l.Hash
}

func open(t testing.TB, path string) *audit.Bundle {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	res := audit.Verify(bytes.NewReader(b), int64(len(b)), audit.Options{})
	require.Equal(t, audit.Verified, res.Result, res.Faults)
	o, err := audit.Open(bytes.NewReader(b), int64(len(b)))
	require.NoError(t, err)
	return o
}

func massOfBundle(t testing.TB, b *audit.Bundle) *audit.Mass {
	t.Helper()
	m, err := b.Mass(nil)
	require.NoError(t, err)
	return m
}

func TestSealPutsTheRowsIntoTheBundle(t *testing.T) {
	e, b, h, list := sealing(t, 1200)
	in := workflows.SealInput{Incident: "inc-1", View: view.Incident{ID: "inc-1", State: "contained"}, Lists: []string{list}}
	out, err := e.Seal(t.Context(), in)
	require.NoError(t, err)
	require.EqualValues(t, 5, out.Events)
	first := open(t, out.Path)
	require.Equal(t, 1200, massOfBundle(t, first).Items)
	page, err := first.File("report.html")
	require.NoError(t, err)
	require.Contains(t, string(page), "1200 in 3 pages, 1200 proven dead, 0 open")
	var outside []audit.Outside
	text, err := first.File("outside.json")
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, &outside))
	require.Contains(t, string(text), "pages of rows between their passes")
	again, err := e.Seal(t.Context(), in)
	require.NoError(t, err)
	require.EqualValues(t, 5, again.Events, "sealing again adds nothing but that it extends")

	// At the end of the watch the store may have let the pages go: they are in the bundle.
	h.events = 6
	clear(b.m)
	last, err := e.Seal(t.Context(), workflows.SealInput{Incident: "inc-1", View: view.Incident{ID: "inc-1"}, Extend: true, Final: true})
	require.NoError(t, err)
	require.EqualValues(t, 6, last.Events)
	final := open(t, last.Path)
	require.True(t, final.Final())
	require.Equal(t, massOfBundle(t, first), massOfBundle(t, final))
	var v view.Incident
	require.NoError(t, json.Unmarshal(final.View(), &v))
	require.Equal(t, "contained", v.State, "the view of the bundle before")
}

func TestSealLeavesTheBundleBeforeWhenAPageIsGone(t *testing.T) {
	e, b, _, list := sealing(t, 700)
	in := workflows.SealInput{Incident: "inc-1", View: view.Incident{ID: "inc-1", State: "contained"}, Lists: []string{list}}
	out, err := e.Seal(t.Context(), in)
	require.NoError(t, err)
	before, err := os.ReadFile(out.Path)
	require.NoError(t, err)
	l, err := e.pages().List(t.Context(), list)
	require.NoError(t, err)
	kept := b.m[l.Pages[1].Hash]
	delete(b.m, l.Pages[1].Hash)
	_, err = e.Seal(t.Context(), in)
	require.ErrorContains(t, err, "not in the store")
	after, err := os.ReadFile(out.Path)
	require.NoError(t, err)
	require.Equal(t, before, after)
	names, err := filepath.Glob(filepath.Join(e.Bundles, "*"))
	require.NoError(t, err)
	require.Len(t, names, 1, "nothing half-written is left")
	b.m[l.Pages[1].Hash] = kept
	_, err = e.Seal(t.Context(), in)
	require.NoError(t, err)
}

func TestExportWritesAndKeepsNothing(t *testing.T) {
	e, _, _, list := sealing(t, 10)
	var b bytes.Buffer
	sealed, err := e.Export(t.Context(), workflows.SealInput{Incident: "inc-1", View: view.Incident{ID: "inc-1", State: "open"}, Lists: []string{list}}, &b)
	require.NoError(t, err)
	require.Equal(t, audit.Verified, audit.Verify(bytes.NewReader(b.Bytes()), sealed.Bytes, audit.Options{}).Result)
	names, err := filepath.Glob(filepath.Join(e.Bundles, "*"))
	require.NoError(t, err)
	require.Empty(t, names)
	_, err = e.Export(t.Context(), workflows.SealInput{Incident: "inc-1"}, broken{})
	require.ErrorContains(t, err, "disk full")
}

func TestSealRefusesABrokenBundleBefore(t *testing.T) {
	e, _, _, _ := sealing(t, 0)
	require.NoError(t, os.WriteFile(BundlePath(e.Bundles, "inc-1"), []byte("x"), 0o600))
	_, err := e.Seal(t.Context(), workflows.SealInput{Incident: "inc-1"})
	require.ErrorContains(t, err, "move inc-1.zip away")
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("disk full") }

// BenchmarkSeal writes and verifies the bundle of 100,000 rows.
func BenchmarkSeal(b *testing.B) {
	e, _, h, _ := sealing(b, 0)
	h.events = 2000
	w := e.pages().Writer()
	for n := range 100_000 {
		r := massRow(n, "prod")
		r.End, r.Death, r.Grade, r.Strategy, r.Owner = "revoked-verified", "dead", "B", "revoke-now", "team"
		for range 5 {
			r.Outcomes = append(r.Outcomes, page.Outcome{At: page.At{Time: now}, Attempt: 1, Outcome: "done", RequestID: "7a62c49f-347e-4fc4-9331-000000000000", Verb: "Disable"})
		}
		require.NoError(b, w.Add(b.Context(), r))
	}
	l, err := w.Close(b.Context())
	require.NoError(b, err)
	for b.Loop() {
		out, err := e.Seal(b.Context(), workflows.SealInput{Incident: "inc-1", View: view.Incident{ID: "inc-1", State: "contained"}, Lists: []string{l.Hash}})
		require.NoError(b, err)
		f, err := os.Open(out.Path)
		require.NoError(b, err)
		size, err := f.Seek(0, io.SeekEnd)
		require.NoError(b, err)
		require.Equal(b, audit.Verified, audit.Verify(f, size, audit.Options{}).Result)
		b.ReportMetric(float64(size)/(1<<20), "MiB")
		require.NoError(b, f.Close())
		require.NoError(b, os.Remove(out.Path))
	}
}
