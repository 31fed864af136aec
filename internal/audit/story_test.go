package audit_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/internal/audit"
	"rekey/internal/audit/audittest"
)

// TestTell holds the figures against the sample, whose times are written there.
func TestTell(t *testing.T) {
	events, _ := audittest.Sample()
	s := audit.Tell(events)
	after := func(d time.Duration) time.Time { return audittest.T0().Add(d) }

	require.Equal(t, after(0), s.Reported)
	require.Equal(t, after(41*time.Second+350*time.Millisecond), s.FirstCall)
	require.Equal(t, "contained", s.State)
	require.Equal(t, 2, s.Refusals)
	require.Equal(t, 1, s.Gaps)
	require.Equal(t, 1, s.Retries)
	require.Equal(t, map[string]int{"done": 9, "done-async": 2, "unclear": 1}, s.Calls)
	require.Len(t, s.Votes, 4)
	require.Len(t, s.Items, 4)

	deploy := s.Items[0]
	require.Equal(t, "AKIAIOSFODNN7EXAMPLE", deploy.KeyID)
	require.Equal(t, after(41*time.Second+350*time.Millisecond), deploy.Disabled)
	require.Equal(t, after(50*time.Second), deploy.LastAlive)
	require.Equal(t, after(65*time.Second), deploy.FirstRefused)
	require.Equal(t, after(115*time.Second), deploy.Dead)
	require.Equal(t, after(31*time.Minute+20*time.Second+420*time.Millisecond), deploy.Revoked)
	require.Equal(t, "A", deploy.Grade)
	require.Len(t, deploy.Hits, 3)
	exposure, ok := deploy.Exposure()
	require.True(t, ok)
	require.Equal(t, 47*time.Minute+20*time.Second+115*time.Second, exposure)

	d, ok := s.TimeToContain()
	require.True(t, ok)
	require.Equal(t, 2*time.Hour+8*time.Minute, d, "the customer's item was settled last")
	_, _, ok = s.Exposure()
	require.False(t, ok, "the customer's key is not dead")
}

func TestTellOddities(t *testing.T) {
	at := func(sec int) string {
		return audittest.T0().Add(time.Duration(sec) * time.Second).Format("2006-01-02T15:04:05.000Z")
	}
	t.Run("nothing", func(t *testing.T) {
		s := audit.Tell(nil)
		_, ok := s.TimeToContain()
		require.False(t, ok)
	})
	t.Run("alive again undoes the proof", func(t *testing.T) {
		s := audit.Tell([]audit.Event{
			{Type: audit.EventTrigger, Time: at(0), FP: "f"},
			{Type: audit.EventProbe, Time: at(1), FP: "f", Result: audit.ProbeDead},
			{Type: audit.EventProbe, Time: at(2), FP: "f", Result: "alive"},
		})
		require.Zero(t, s.Items[0].Dead)
		require.Zero(t, s.Contained)
	})
	t.Run("probes of the new key do not count", func(t *testing.T) {
		s := audit.Tell([]audit.Event{{Type: audit.EventProbe, Time: at(1), FP: "f", Result: "alive", Attrs: map[string]string{"subject": "new"}}})
		require.Zero(t, s.Items[0].LastAlive)
	})
	t.Run("so does Restore, and the end of the watch is no state", func(t *testing.T) {
		s := audit.Tell([]audit.Event{
			{Type: audit.EventProbe, Time: at(1), FP: "f", Result: audit.ProbeDead},
			{Type: audit.EventClosed, Time: at(2), Result: "contained"},
			{Type: audit.EventCallConfirmed, Time: at(3), FP: "f", Verb: "Restore", Result: "done"},
			{Type: audit.EventClosed, Time: at(4), Result: "watch ended"},
		})
		require.Zero(t, s.Items[0].Dead)
		require.Equal(t, "contained", s.State)
	})
	t.Run("an answer after death and reissue is about the new key", func(t *testing.T) {
		s := audit.Tell([]audit.Event{
			{Type: audit.EventProbe, Time: at(1), FP: "f", Result: audit.ProbeDead},
			{Type: audit.EventReissued, Time: at(2), FP: "f", Attrs: map[string]string{"new_key_id": "n"}},
			{Type: audit.EventProbe, Time: at(3), FP: "f", Result: "alive"},
		})
		require.Equal(t, audittest.T0().Add(time.Second), s.Items[0].Dead)
	})
	t.Run("promotion", func(t *testing.T) {
		s := audit.Tell([]audit.Event{
			{Type: audit.EventDecision, Time: at(1), FP: "f", Result: "reissue-first"},
			{Type: audit.EventDecision, Time: at(2), FP: "f", Result: "promoted"},
		})
		require.Equal(t, "revoke-now", s.Items[0].Strategy)
	})
	t.Run("a proof that is not marked is dated by its last refusal", func(t *testing.T) {
		s := audit.Tell([]audit.Event{
			{Type: audit.EventProbe, Time: at(1), FP: "f", Result: "refused"},
			{Type: audit.EventProbe, Time: at(2), FP: "f", Result: "refused"},
			{Type: audit.EventItem, Time: at(9), FP: "f", Result: "revoked-verified"},
		})
		require.Equal(t, audittest.T0().Add(2*time.Second), s.Items[0].Dead)
	})
	t.Run("a channel that catches up later makes no phase longer", func(t *testing.T) {
		s := audit.Tell([]audit.Event{
			{Type: audit.EventPhase, Phase: "seal", Time: at(1)},
			{Type: audit.EventClosed, Time: at(2), Result: "contained"},
			{Type: audit.EventRecordTold, Time: at(900)},
			{Type: audit.EventRecordCaught, Time: at(900)},
			{Type: audit.EventRecordBehind, Time: at(901)},
		})
		require.Equal(t, audittest.T0().Add(2*time.Second), s.Last)
		require.Equal(t, s.Last, s.Phases[0].To)
		require.Equal(t, audittest.T0().Add(time.Second), audit.Tell([]audit.Event{{Type: audit.EventRecordTold, Time: at(1)}}).Last)
	})
	t.Run("times that are none", func(t *testing.T) {
		s := audit.Tell([]audit.Event{{Type: audit.EventTrigger, Time: "soon", FP: "f"}, {Type: audit.EventPhase, Time: "<b>"}})
		require.Len(t, s.Items, 1)
	})
}

func TestStats(t *testing.T) {
	dir := t.TempDir()
	s := signer(t)
	events, seen := audittest.Sample()
	write := func(name string, b []byte) { require.NoError(t, os.WriteFile(filepath.Join(dir, name), b, 0o600)) }
	early, sealed := seal(t, audittest.Content(events[:40], seen), s)
	c := audittest.Content(events, seen)
	c.Previous = &audit.Previous{Digest: sealed.Digest, Checkpoint: sealed.Checkpoint}
	late, _ := seal(t, c, s)
	quick, _ := seal(t, audit.Content{Incident: "inc-quick", State: "all-clear", Events: quickEvents()}, s)
	forged := rezip(edit(unzip(t, quick), "events.jsonl", func(b []byte) []byte { return bytes.Replace(b, []byte(`"done"`), []byte(`"gone"`), 1) }))
	write("a.zip", early)
	write("b.zip", late)
	write("c.zip", quick)
	write("d.zip", []byte("no"))
	write("e.zip", forged)
	write("notes.txt", []byte("left alone"))

	res, err := audit.Stats(dir)
	require.NoError(t, err)
	require.Equal(t, []string{"d.zip"}, res.Unreadable)
	require.Len(t, res.Bundles, 4)
	require.Equal(t, audit.Failed, res.Bundles[3].Result, "shown, and not counted")
	require.Equal(t, audit.Verified, res.Bundles[1].Result)
	require.Nil(t, res.Bundles[0].TimeToContainMs, "the early bundle was not contained")
	require.Equal(t, int64(7680000), *res.Bundles[1].TimeToContainMs)
	require.Nil(t, res.Bundles[1].ExposureMs)
	require.Equal(t, int64(9000), *res.Bundles[2].TimeToContainMs)
	require.Equal(t, int64(69000), *res.Bundles[2].ExposureMs)

	require.Equal(t, 2, res.All.Incidents, "two bundles of one incident count once")
	require.Equal(t, 5, res.All.Items)
	require.Equal(t, map[string]int{"revoked-verified": 3, "expired-verified": 1, "customer-action-open": 1}, res.All.ByEndState)
	require.Equal(t, 2, res.All.Refusals)
	require.Equal(t, 10, res.All.CallsByOutcome["done"])
	require.Equal(t, audit.Spread{Count: 2, P50: 9000, P95: 7680000, Max: 7680000}, res.All.TimeToContain)
	require.Equal(t, audit.Spread{Count: 1, P50: 69000, P95: 69000, Max: 69000}, res.All.Exposure)

	_, err = audit.Stats(filepath.Join(dir, "nowhere"))
	require.Error(t, err)
}

// quickEvents is an incident of one key: reported, disabled after 2 s, dead after 9.
func quickEvents() []audit.Event {
	at := func(sec int) string {
		return audittest.T0().Add(time.Duration(sec) * time.Second).Format("2006-01-02T15:04:05.000Z")
	}
	events := []audit.Event{
		{Type: audit.EventTrigger, Time: at(0), Attrs: map[string]string{audit.AttrExposed: at(-60)}},
		{Type: audit.EventCallConfirmed, Time: at(2), FP: "fp1_0", Verb: "Disable", Result: "done"},
		{Type: audit.EventProbe, Time: at(9), FP: "fp1_0", Result: audit.ProbeDead},
		{Type: audit.EventItem, Time: at(30), FP: "fp1_0", Result: "revoked-verified"},
	}
	for i := range events {
		events[i].V, events[i].Seq, events[i].Incident, events[i].Redaction = audit.SchemaVersion, int64(i), "inc-quick", audit.Internal
	}
	return events
}
