package engine

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"rekey/activities"
	"rekey/internal/page"
	"rekey/workflows"
)

// claimed is an engine with n rows in a list, and the registers that it asks.
func claimed(t *testing.T, n int) (*Engine, *registers, page.List) {
	t.Helper()
	e, _, l := mass(t, n)
	reg := newRegisters()
	e.Claim = reg.claim
	return e, reg, l
}

func TestClaimPagesClaimsEveryRow(t *testing.T) {
	e, reg, l := claimed(t, 1300)
	out, err := e.ClaimPages(t.Context(), workflows.ClaimPagesInput{Incident: "inc-1", List: l.Hash})
	require.NoError(t, err)
	require.Equal(t, workflows.ClaimPagesResult{List: l.Hash, N: 1300}, out, "with no conflict the list is as it was")
	require.Len(t, reg.owners, 1300)
	for _, owner := range reg.owners {
		require.Equal(t, "inc-1", owner)
	}
	again, err := e.ClaimPages(t.Context(), workflows.ClaimPagesInput{Incident: "inc-1", List: l.Hash})
	require.NoError(t, err)
	require.Equal(t, out, again)
}

func TestClaimPagesTakesRowsOfOthersOut(t *testing.T) {
	e, reg, l := claimed(t, 1300)
	rows := rowsOf(t, e, l.Hash)
	rows[4].Reading, rows[4].Owner = []byte(`{"digest":"d"}`), "team"
	var fresh []page.Row
	for i := range rows {
		if i%10 == 4 {
			reg.owners[rows[i].FP] = "inc-2"
		}
		fresh = append(fresh, rows[i])
	}
	w := e.pages().Writer()
	for _, r := range fresh {
		require.NoError(t, w.Add(t.Context(), r))
	}
	l, err := w.Close(t.Context())
	require.NoError(t, err)
	in := workflows.ClaimPagesInput{Incident: "inc-1", List: l.Hash}
	out, err := e.ClaimPages(t.Context(), in)
	require.NoError(t, err)
	require.Equal(t, 1170, out.N)
	require.Len(t, out.Conflicts, workflows.MostConflicts)
	require.Equal(t, 130-workflows.MostConflicts, out.More)
	first := out.Conflicts[0]
	require.Equal(t, rows[4].Key(), first.Key)
	require.Equal(t, "inc-2", first.Conflict)
	require.Equal(t, "team", first.Owner)
	require.Equal(t, &activities.InspectResult{Digest: "d"}, first.Reading, "what was read is not read again")
	left := rowsOf(t, e, out.List)
	require.Len(t, left, 1170)
	for _, r := range left {
		require.NotEqual(t, "inc-2", reg.owners[r.FP])
	}
	again, err := e.ClaimPages(t.Context(), in)
	require.NoError(t, err)
	require.Equal(t, out, again)
	other, err := e.ClaimPages(t.Context(), workflows.ClaimPagesInput{Incident: "inc-3", List: l.Hash})
	require.NoError(t, err)
	require.Zero(t, other.N)
	require.NotEmpty(t, other.List, "an empty list is a list")
}

func TestClaimPagesGoesOnAfterAFailure(t *testing.T) {
	e, reg, l := claimed(t, 900)
	reg.owners[massRow(899, "").FP] = "inc-2"
	reg.fail = func(n int) error {
		if n == 2 {
			return errors.New("the answer is lost")
		}
		return nil
	}
	in := workflows.ClaimPagesInput{Incident: "inc-1", List: l.Hash}
	_, err := e.ClaimPages(t.Context(), in)
	require.ErrorContains(t, err, "the answer is lost")
	out, err := e.ClaimPages(t.Context(), in)
	require.NoError(t, err)
	require.Equal(t, 899, out.N)
	require.Equal(t, "inc-2", out.Conflicts[0].Conflict)
	in.List = "sha256:00"
	_, err = e.ClaimPages(t.Context(), in)
	require.Error(t, err)
}
