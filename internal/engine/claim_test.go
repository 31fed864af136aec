package engine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"rekey/workflows"
)

// registers are registers in memory, which can fail, and which see when two updates
// of one register overlap.
type registers struct {
	mu      sync.Mutex
	owners  map[string]string
	updates map[string]int
	busy    map[string]bool
	largest int
	overlap bool
	all     bool // an answer names all, as those of a build before do
	fail    func(n int) error
	n       int
}

func newRegisters() *registers {
	return &registers{owners: map[string]string{}, updates: map[string]int{}, busy: map[string]bool{}}
}

func (r *registers) claim(ctx context.Context, register string, c workflows.Claim) (workflows.ClaimResult, error) {
	r.mu.Lock()
	r.overlap = r.overlap || r.busy[register]
	r.busy[register] = true
	r.n++
	n := r.n
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		r.busy[register] = false
		r.mu.Unlock()
	}()
	out := workflows.ClaimResult{Owners: map[string]string{}}
	if ctx.Err() != nil {
		return out, ctx.Err()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.updates[register]++
	r.largest = max(r.largest, len(c.FPs))
	for _, fp := range c.FPs {
		if workflows.RegisterID(fp) != register {
			return out, fmt.Errorf("%s is not of %s", fp, register)
		}
		if r.owners[fp] == "" {
			r.owners[fp] = c.Incident
			out.New++
		}
		if owner := r.owners[fp]; r.all || !c.Conflicts || owner != c.Incident {
			out.Owners[fp] = owner
		}
	}
	if r.fail != nil { // the answer is lost: what it did is done
		if err := r.fail(n); err != nil {
			return workflows.ClaimResult{}, err
		}
	}
	return out, nil
}

func fpNumber(n int) string {
	sum := sha256.Sum256(fmt.Append(nil, n))
	return "fp1_" + hex.EncodeToString(sum[:])
}

func fpNumbers(from, to int) []string {
	var out []string
	for n := from; n < to; n++ {
		out = append(out, fpNumber(n))
	}
	return out
}

func TestClaimManyGroupsByRegister(t *testing.T) {
	const many = 100_000
	r := newRegisters()
	e := New(Options{Claim: r.claim})
	first, err := e.claimMany(t.Context(), "inc-1", fpNumbers(0, 1000))
	require.NoError(t, err)
	require.Empty(t, first)
	r.updates = map[string]int{}

	fps := fpNumbers(0, many)
	fps[17] = ""
	conflicts, err := e.claimMany(t.Context(), "inc-2", fps)
	require.NoError(t, err)
	want := map[string]string{}
	for n := range 1000 {
		if n != 17 {
			want[fpNumber(n)] = "inc-1"
		}
	}
	require.Equal(t, want, conflicts, "the answer names the conflicts alone")
	require.Len(t, r.owners, many)
	updates := 0
	for _, n := range r.updates {
		updates += n
	}
	require.Len(t, r.updates, 256)
	require.LessOrEqual(t, updates, 2*256+many/claimChunk)
	require.LessOrEqual(t, r.largest, claimChunk)
	require.False(t, r.overlap, "a register takes ten updates at a time: one caller needs one")

	again, err := e.claimMany(t.Context(), "inc-2", fps)
	require.NoError(t, err)
	require.Equal(t, conflicts, again)
	require.Len(t, r.owners, many)
}

func TestClaimManyFailsAndIsCompletedByTheSameCall(t *testing.T) {
	r := newRegisters()
	r.fail = func(n int) error {
		if n == 40 {
			return errors.New("the answer was lost")
		}
		return nil
	}
	e := New(Options{Claim: r.claim})
	fps := fpNumbers(0, 5000)
	_, err := e.claimMany(t.Context(), "inc-1", fps)
	require.ErrorContains(t, err, "the answer was lost")
	require.Less(t, len(r.owners), len(fps), "it gives up early")
	r.fail = nil
	conflicts, err := e.claimMany(t.Context(), "inc-1", fps)
	require.NoError(t, err)
	require.Empty(t, conflicts)
	require.Len(t, r.owners, len(fps))

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = e.claimMany(ctx, "inc-2", fps)
	require.ErrorIs(t, err, context.Canceled)
}

func TestClaimKeysNamesConflicts(t *testing.T) {
	for _, all := range []bool{false, true} {
		r := newRegisters()
		r.all = all
		e := New(Options{Claim: r.claim})
		one, two := fpNumber(1), fpNumber(2)
		_, err := e.ClaimKeys(t.Context(), workflows.ClaimInput{Incident: "inc-1", FPs: []string{one}})
		require.NoError(t, err)
		res, err := e.ClaimKeys(t.Context(), workflows.ClaimInput{Incident: "inc-2", FPs: []string{one, two}})
		require.NoError(t, err)
		require.Equal(t, map[string]string{one: "inc-1"}, maps.Clone(res.Owners))
	}
}
