package engine

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"rekey/internal/page"
	"rekey/playbooks"
	"rekey/workflows"
)

func TestUnfoldGivesTheCallsAndRungsOfAnItem(t *testing.T) {
	e := newEngine(t, &prober{}, &journals{})
	row := page.Row{FP: "fp1_00aa", Provider: "awsiam", Account: "prod", Kind: "user-access-key", ID: "AKIA1", Principal: "svc", Adopt: true, Owner: "web", Stores: []page.Store{{Target: "awssm", Name: "web/aws"}}}
	in := workflows.UnfoldInput{Incident: "inc-1", Rows: []page.Row{row}, Strategy: playbooks.RevokeNow, Playbook: shipped(t), Digest: "sha256:d", Kinds: kinds(), From: 2}
	w, err := e.Unfold(context.Background(), in)
	require.NoError(t, err)
	require.Len(t, w.Items, 1)
	it := w.Items[0]
	require.Equal(t, row.Key(), it.Key)
	require.NotEmpty(t, it.Calls)
	rungs := []string{}
	for _, r := range it.Rungs {
		rungs = append(rungs, r.Name)
	}
	require.Equal(t, []string{"key", "sessions", "principal", "parent-deny", "network-bind"}, rungs)
	require.Equal(t, "web/aws", it.Stores[0].Name, "as planned, not bound anew")
	require.Contains(t, w.Gates, "from-wave-2", "so that its hash is never another wave's")

	in.From = 3
	other, err := e.Unfold(context.Background(), in)
	require.NoError(t, err)
	require.NotEqual(t, w.Hash, other.Hash)
}

func TestFindLooksRowsUpByEveryName(t *testing.T) {
	b := newBlobs()
	e := New(Options{Blobs: b})
	var rows []page.Row
	for n := range 1200 {
		rows = append(rows, massRow(n, "prod"))
	}
	wr := e.pages().Writer()
	for _, r := range rows {
		require.NoError(t, wr.Add(context.Background(), r))
	}
	l, err := wr.Close(context.Background())
	require.NoError(t, err)
	got, err := e.Find(context.Background(), workflows.FindInput{Names: []string{rows[0].FP, rows[1199].ID, "nobody", rows[700].Key().Short()}, Lists: []string{l.Hash}})
	require.NoError(t, err)
	require.Equal(t, rows[0].ID, got.Rows[rows[0].FP].ID)
	require.Equal(t, rows[1199].FP, got.Rows["id-1199"].FP)
	require.Contains(t, got.Rows, rows[700].Key().Short())
	require.NotContains(t, got.Rows, "nobody")
	require.Equal(t, l.Hash, got.In["id-1199"])

	_, err = e.Find(context.Background(), workflows.FindInput{Names: []string{"x"}, Lists: []string{"sha256:00"}})
	require.Error(t, err, "a list that cannot be read is no answer")
}
