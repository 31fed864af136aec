package judge

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/internal/audit"
	"rekey/internal/audit/audittest"
	"rekey/internal/canon"
	"rekey/internal/cli"
	"rekey/internal/event"
	"rekey/internal/lab/control"
	"rekey/internal/lab/scenario"
	"rekey/internal/view"
)

const (
	incidentID = "inc-0123456789ab"
	oldKey     = "AKIAOLD"
	newKey     = "AKIANEW"
	otherKey   = "AKIAOTHER"
	fpOld      = "fp1_old"
	waveHash   = "sha256:wave1"
)

var t0 = time.Date(2026, 11, 21, 3, 0, 0, 0, time.UTC)

func at(minute int) control.Time {
	return control.Time{Time: t0.Add(time.Duration(minute) * time.Minute)}
}

func when(minute int) string { return canon.Time(at(minute).Time) }

type attrs = map[string]string

func ev(minute int, typ string, set func(*event.Event)) event.Event {
	e := event.Event{V: 1, Incident: incidentID, Type: typ, Time: when(minute), Actor: "worker", FP: fpOld, Redaction: event.Internal}
	if set != nil {
		set(&e)
	}
	return e
}

func call(minute int, verb string) []event.Event {
	set := func(e *event.Event) { e.Verb, e.Token, e.Attempt = verb, "t-"+verb, 1 }
	return []event.Event{ev(minute, event.EventCallAttempted, set), ev(minute, event.EventCallConfirmed, func(e *event.Event) {
		set(e)
		e.Result = "done"
	})}
}

func vote(minute int, id, kind, actor string) event.Event {
	return ev(minute, event.EventApprovalGiven, func(e *event.Event) {
		e.FP, e.Approval, e.Actor, e.Result, e.WaveHash = "", id, actor, kind, waveHash
	})
}

func ended(minute int, result string) event.Event {
	return ev(minute, event.EventItem, func(e *event.Event) { e.Result, e.Attrs = result, attrs{"new_key_id": newKey} })
}

// goodWorld is a drill in which every invariant but G3, G7 and G9, which have no
// subject, holds: one key is disabled, proven dead, replaced, destroyed; one extra
// replacement was lost on the way and destroyed.
func goodWorld(t *testing.T) Input {
	t.Helper()
	secret := newSecret(t)
	in := Input{
		Drill: &scenario.Drill{
			Name: "test", Expect: []scenario.Expectation{{ID: "dead", Expr: `final.items.all(i, i.end_state == "revoked-verified")`}},
			Controls: map[string]scenario.Control{
				"trust":   {Off: "probe-old", MustViolate: []string{"G1"}},
				"both":    {Off: "x", MustViolate: []string{"dead", "G5"}},
				"quarrel": {Off: "x", MustViolate: []string{"G1", "G6"}},
			},
		},
		Final: view.Incident{
			Schema: view.SchemaIncident, ID: incidentID, State: "all-clear", Totals: view.Totals{Items: 1},
			Plan: &view.Plan{Waves: []view.Wave{{N: 1, Hash: waveHash, Strategy: "revoke-now", Items: 1}}},
			Approvals: []view.Approval{
				{ID: "a1", For: "irreversible", WaveHash: waveHash, Wave: 1, State: "granted", Needed: 2, Items: []string{fpOld}},
			},
			Items: []view.Item{{
				FP: fpOld, Short: "old", Provider: "awsiam", Account: "lab", Kind: "user-access-key", KeyID: oldKey, Strategy: "revoke-now", Wave: 1,
				Death: view.Death{State: "dead", Rung: "key", Grade: "A"}, Adoption: view.Adoption{State: "adopted", NewKeyID: newKey}, EndState: "revoked-verified",
			}},
			Bundle: &view.Bundle{Final: true},
		},
		Oracle: control.Oracle{
			Now: at(60),
			Keys: []control.Key{
				{ID: oldKey, Alias: "AK-OLD", User: "ci", State: "deleted", MintedBy: "scenario"},
				{ID: newKey, User: "ci", State: "active", Alive: true, MintedBy: "engine"},
				{ID: "AKIALOST", User: "ci", State: "deleted", MintedBy: "engine"},
				{ID: otherKey, Alias: "svc-1", User: "svc-1", State: "active", Alive: true, MintedBy: "scenario"},
			},
			Uses: []control.Use{
				{Key: oldKey, At: at(-10), Last: at(1), N: 11, Call: "ec2:DescribeInstances", Result: "ok", Label: "malicious", Source: "attacker"},
				{Key: oldKey, At: at(2), Last: at(50), N: 48, Call: "ec2:DescribeInstances", Result: "denied", Label: "malicious", Source: "attacker"},
				{Key: newKey, At: at(20), Last: at(50), N: 3, Call: "ec2:DescribeInstances", Result: "ok", Label: "legit"},
			},
			Calls: []control.Call{
				{Verb: "Disable", Key: oldKey, At: at(2), Result: "ok", Effect: true},
				{Verb: "Issue", Key: "AKIALOST", At: at(10), Result: "ok", Effect: true, Lost: true},
				{Verb: "Revoke", Key: "AKIALOST", At: at(11), Result: "ok", Effect: true},
				{Verb: "Issue", Key: newKey, At: at(12), Result: "ok", Effect: true},
				{Verb: "Distribute", Target: "platform/aws", At: at(13), Result: "ok", Effect: true},
				{Verb: "Revoke", Key: oldKey, At: at(20), Result: "ok", Effect: true},
				{Verb: "Revoke", Key: oldKey, At: at(21), Result: "failed"},
			},
			Stores: []control.Store{{Name: "platform/aws", KeyID: newKey, Versions: 2}},
		},
		Secrets: [][]byte{secret},
	}
	in.Events = slices.Concat(
		call(2, "Disable"),
		[]event.Event{
			ev(5, event.EventProbe, func(e *event.Event) { e.Result = "dead" }),
			ev(11, event.EventReconciled, func(e *event.Event) { e.Attrs = attrs{"settled": "true", "killed": "AKIALOST"} }),
			ev(12, event.EventReissued, func(e *event.Event) { e.Attrs = attrs{"new_key_id": newKey} }),
			ev(15, event.EventApprovalAsked, func(e *event.Event) {
				e.FP, e.Approval, e.Result, e.WaveHash, e.Attrs = "", "a1", "irreversible", waveHash, attrs{"needed": "2"}
			}),
			vote(16, "a1", "irreversible", "oncall-1"), vote(18, "a1", "irreversible", "oncall-2"),
		},
		call(20, "Revoke"), []event.Event{ended(30, "revoked-verified")},
	)
	in.Bundle = sealed(t, in)
	in.Data = t.TempDir()
	write(t, filepath.Join(in.Data, "temporal.db"), bytes.Repeat([]byte("page"), 5000))
	write(t, filepath.Join(in.Data, "sealed", incidentID, "k.sealed"), []byte("age-encryption.org/v1 ..."))
	in.Logs = []string{filepath.Join(t.TempDir(), "engine.log")}
	write(t, in.Logs[0], []byte("level=INFO msg=ready\n"))
	return in
}

// newSecret makes a secret with letters that JSON and URLs escape.
func newSecret(t *testing.T) []byte {
	t.Helper()
	raw := make([]byte, 27)
	_, err := rand.Read(raw)
	require.NoError(t, err)
	return append([]byte(base64.StdEncoding.EncodeToString(raw)), "/+&<"...)
}

func sealed(t *testing.T, in Input) []byte {
	t.Helper()
	signer, err := audit.NewSigner("drill.invalid/rekey")
	require.NoError(t, err)
	events := slices.Clone(in.Events)
	for i := range events {
		events[i].Seq = int64(i + 1)
	}
	var out bytes.Buffer
	_, err = audit.Write(&out, audittest.Content(events, in.Final), signer)
	require.NoError(t, err)
	return out.Bytes()
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
	require.NoError(t, os.WriteFile(path, data, 0o600))
}

func states(v Verdict) map[string]string {
	out := map[string]string{}
	for _, i := range v.Invariants {
		out[i.ID] = i.State
	}
	return out
}

func invariantOf(t *testing.T, v Verdict, id string) cli.Invariant {
	t.Helper()
	i := slices.IndexFunc(v.Invariants, func(i cli.Invariant) bool { return i.ID == id })
	require.GreaterOrEqual(t, i, 0, id)
	return v.Invariants[i]
}
