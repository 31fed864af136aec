package workflows_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	"rekey/internal/codec"
	"rekey/internal/codec/keyring"
	"rekey/workflows"
)

// fpOf is the n-th fingerprint of a register.
func fpOf(first byte, n int) string {
	sum := sha256.Sum256(fmt.Append(nil, n))
	sum[0] = first
	return "fp1_" + hex.EncodeToString(sum[:])
}

func fpsOf(first byte, from, to int) []string {
	var out []string
	for n := from; n < to; n++ {
		out = append(out, fpOf(first, n))
	}
	return out
}

// aRegister is one run of a register.
type aRegister struct {
	t      testing.TB
	env    *testsuite.TestWorkflowEnvironment
	claims int
}

func newRegister(t testing.TB) *aRegister {
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(quiet{})
	r := &aRegister{t: t, env: suite.NewTestWorkflowEnvironment()}
	r.env.SetTestTimeout(time.Minute)
	r.env.RegisterWorkflowWithOptions(workflows.Register, workflow.RegisterOptions{Name: workflows.TypeRegister})
	return r
}

type claimed struct {
	res      workflows.ClaimResult
	rejected error
}

// claim sends a claim, a second after the one before.
func (r *aRegister) claim(c workflows.Claim) *claimed {
	out := &claimed{}
	r.claims++
	id := fmt.Sprintf("c%d", r.claims)
	r.env.RegisterDelayedCallback(func() {
		r.env.UpdateWorkflow(workflows.UpdateClaim, id, &testsuite.TestUpdateCallback{
			OnReject: func(err error) { out.rejected = err }, OnAccept: func() {},
			OnComplete: func(res any, err error) {
				require.NoError(r.t, err)
				out.res = res.(workflows.ClaimResult)
			},
		}, c)
	}, time.Duration(r.claims)*time.Second)
	return out
}

// run plays it until it continues as new, and gives the next input.
func (r *aRegister) run(in workflows.RegisterInput) workflows.RegisterInput {
	r.env.RegisterDelayedCallback(func() { r.env.SetContinueAsNewSuggested(true) }, time.Duration(r.claims)*time.Second+time.Millisecond)
	r.claim(workflows.Claim{Incident: "only wakes it"})
	r.env.ExecuteWorkflow(workflows.TypeRegister, in)
	var can *workflow.ContinueAsNewError
	require.ErrorAs(r.t, r.env.GetWorkflowError(), &can)
	var next workflows.RegisterInput
	require.NoError(r.t, converter.GetDefaultDataConverter().FromPayloads(can.Input, &next))
	return next
}

func owners(c workflows.Claims, fps ...string) map[string]string {
	out := map[string]string{}
	for _, fp := range fps {
		if owner, ok := c.Owner(fp); ok {
			out[fp] = owner
		}
	}
	return out
}

func TestRegister(t *testing.T) {
	w := newRegister(t)
	a, b, c := fpOf(0xaa, 1), fpOf(0xaa, 2), "spki_"+fpOf(0xaa, 1)[4:]
	first := w.claim(workflows.Claim{FPs: []string{a, b, a}, Incident: "inc-1"})
	second := w.claim(workflows.Claim{FPs: []string{b, c}, Incident: "inc-2"})
	again := w.claim(workflows.Claim{FPs: []string{a}, Incident: "inc-1"})
	brief := w.claim(workflows.Claim{FPs: []string{a, b, c, fpOf(0xaa, 3)}, Incident: "inc-2", Conflicts: true})
	moved := w.claim(workflows.Claim{FPs: []string{a, c}, Incident: "inc-9", From: "inc-1"})
	empty := w.claim(workflows.Claim{Incident: "inc-1"})
	blank := w.claim(workflows.Claim{FPs: []string{""}, Incident: "inc-1"})
	many := w.claim(workflows.Claim{FPs: fpsOf(0xaa, 0, workflows.ClaimMost+1), Incident: "inc-1"})
	next := w.run(workflows.RegisterInput{})

	require.Equal(t, workflows.ClaimResult{Owners: map[string]string{a: "inc-1", b: "inc-1"}, New: 2}, first.res)
	require.Equal(t, workflows.ClaimResult{Owners: map[string]string{b: "inc-1", c: "inc-2"}, New: 1}, second.res, "who came first has it; a public key is not the key of the same digits")
	require.Equal(t, workflows.ClaimResult{Owners: map[string]string{a: "inc-1"}}, again.res)
	require.Equal(t, workflows.ClaimResult{Owners: map[string]string{a: "inc-1", b: "inc-1"}, New: 1}, brief.res, "own ones are not named")
	require.Equal(t, map[string]string{a: "inc-9", c: "inc-2"}, moved.res.Owners, "only what inc-1 owns moves")
	require.Error(t, empty.rejected)
	require.Error(t, blank.rejected)
	require.ErrorContains(t, many.rejected, "at most 1000")
	require.Equal(t, map[string]string{a: "inc-9", b: "inc-1", c: "inc-2"}, owners(next.Claims, a, b, c, fpOf(0xaa, 4)))

	// The next run knows all of it, and what it carries on is the same.
	w = newRegister(t)
	after := w.claim(workflows.Claim{FPs: []string{a, b, c}, Incident: "inc-3"})
	w.claim(workflows.Claim{FPs: []string{fpOf(0xaa, 3)}, Incident: "inc-3"})
	require.Equal(t, next.Claims, w.run(next).Claims)
	require.Equal(t, workflows.ClaimResult{Owners: map[string]string{a: "inc-9", b: "inc-1", c: "inc-2"}}, after.res)
}

// What a build before carried is adopted, in one order whatever the map's.
func TestRegisterAdoptsTheOldState(t *testing.T) {
	in := workflows.RegisterInput{Owners: map[string]string{}}
	for n := range 300 {
		in.Owners[fpOf(0xaa, n)] = fmt.Sprintf("inc-%d", n%7)
	}
	var states []workflows.Claims
	for range 2 {
		w := newRegister(t)
		next := w.run(in)
		require.Empty(t, next.Owners)
		states = append(states, next.Claims)
	}
	require.Equal(t, states[0], states[1])
	for fp, incident := range in.Owners {
		owner, ok := states[0].Owner(fp)
		require.True(t, ok)
		require.Equal(t, incident, owner)
	}
}

// A full register keeps what it has and sends on what it has not, for ever.
func TestRegisterThatIsFullHasANextVolume(t *testing.T) {
	const most = 40_000
	w := newRegister(t)
	var last *claimed
	for from := 0; from < most; from += workflows.ClaimMost {
		last = w.claim(workflows.Claim{FPs: fpsOf(0x3f, from, from+workflows.ClaimMost), Incident: "inc-1", Conflicts: true})
	}
	mixed := w.claim(workflows.Claim{FPs: []string{fpOf(0x3f, 17), fpOf(0x3f, most)}, Incident: "inc-2"})
	next := w.run(workflows.RegisterInput{Volume: 1})
	require.Empty(t, last.res.Left)
	require.Equal(t, workflows.ClaimResult{
		Owners: map[string]string{fpOf(0x3f, 17): "inc-1"}, Left: []string{fpOf(0x3f, most)}, Next: 2,
	}, mixed.res)
	require.Equal(t, most, next.Claims.Len())
	require.Equal(t, 1, next.Volume)
	for _, n := range []int{0, 1, 999, 1000, 20_000, most - 1} {
		owner, _ := next.Claims.Owner(fpOf(0x3f, n))
		require.Equal(t, "inc-1", owner)
	}
}

func TestRegisterID(t *testing.T) {
	require.Equal(t, "register/3f", workflows.RegisterID(fpOf(0x3f, 1)))
	require.Equal(t, "register/3f", workflows.RegisterID("spki_3fabcd"))
	require.Equal(t, "register/00", workflows.RegisterID("x"))
	require.Equal(t, "register/00", workflows.RegisterID("fp1_../"))
	require.Equal(t, "register/3f", workflows.RegisterVolume("register/3f", 0))
	require.Equal(t, "register/3f.2", workflows.RegisterVolume("register/3f", 2))
}

// BenchmarkRegister tells what one of 256 registers carries when it continues as
// new, in bytes as they reach Temporal, where ten million keys are claimed: by
// incidents of a million keys, of a hundred, and of one. A payload may have 2 MB.
// The last case is a volume that is full, of incidents of one key.
func BenchmarkRegister(b *testing.B) {
	keys, err := keyring.Open(keyring.Options{Dir: b.TempDir(), Create: true, Now: time.Now})
	require.NoError(b, err)
	dc := codec.NewDataConverter(keys)
	const share = 10_000_000 / 256
	for _, tt := range []struct{ claims, each int }{{share, share / 10}, {share, 100}, {share, 1}, {40_000, 1}} {
		b.Run(fmt.Sprintf("claims=%d/incidents=%d", tt.claims, (tt.claims+tt.each-1)/tt.each), func(b *testing.B) {
			in := workflows.RegisterInput{Owners: map[string]string{}}
			for n := range tt.claims {
				fp := fpOf(0x3f, n)
				in.Owners[fp] = "inc-" + fpOf(0x3f, n-n%tt.each)[4:16]
			}
			w := newRegister(b)
			next := w.run(in)
			old, err := dc.ToPayload(in)
			oldSize := 0
			if err == nil {
				oldSize = len(old.GetData())
			}
			plain, err := json.Marshal(next)
			require.NoError(b, err)
			size := 0
			for b.Loop() {
				p, err := dc.ToPayload(next)
				require.NoError(b, err)
				size = len(p.GetData())
			}
			b.ReportMetric(float64(size), "payload-B")
			b.ReportMetric(float64(len(plain)), "json-B")
			b.ReportMetric(float64(oldSize), "as-map-B")
		})
	}
}
