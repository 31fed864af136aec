package workflows_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	"rekey/workflows"
)

func TestRegister(t *testing.T) {
	w := newWorld(t)
	type claimed struct {
		res      workflows.ClaimResult
		rejected error
	}
	claim := func(d time.Duration, c workflows.Claim) *claimed {
		out := &claimed{}
		w.at(d, func() {
			w.nonce++
			w.env.UpdateWorkflow(workflows.UpdateClaim, "c"+string(rune('a'+w.nonce)), &testsuite.TestUpdateCallback{
				OnReject: func(err error) { out.rejected = err }, OnAccept: func() {},
				OnComplete: func(res any, err error) {
					require.NoError(t, err)
					out.res = res.(workflows.ClaimResult)
				},
			}, c)
		})
		return out
	}
	first := claim(time.Second, workflows.Claim{FPs: []string{"fp1_aa1", "fp1_aa2"}, Incident: "inc-1"})
	second := claim(2*time.Second, workflows.Claim{FPs: []string{"fp1_aa2", "fp1_aa3"}, Incident: "inc-2"})
	again := claim(3*time.Second, workflows.Claim{FPs: []string{"fp1_aa1"}, Incident: "inc-1"})
	empty := claim(4*time.Second, workflows.Claim{Incident: "inc-1"})
	blank := claim(5*time.Second, workflows.Claim{FPs: []string{""}, Incident: "inc-1"})
	w.at(6*time.Second, func() { w.env.SetContinueAsNewSuggested(true) })
	claim(7*time.Second, workflows.Claim{FPs: []string{"fp1_aa1"}, Incident: "inc-3"}) // wakes it; the server hands it to the next run
	w.env.ExecuteWorkflow(workflows.TypeRegister, workflows.RegisterInput{})

	require.Equal(t, map[string]string{"fp1_aa1": "inc-1", "fp1_aa2": "inc-1"}, first.res.Owners)
	require.Equal(t, map[string]string{"fp1_aa2": "inc-1", "fp1_aa3": "inc-2"}, second.res.Owners, "who came first has it")
	require.Equal(t, "inc-1", again.res.Owners["fp1_aa1"])
	require.Error(t, empty.rejected)
	require.Error(t, blank.rejected)
	var can *workflow.ContinueAsNewError
	require.ErrorAs(t, w.env.GetWorkflowError(), &can)
	var next workflows.RegisterInput
	require.NoError(t, converter.GetDefaultDataConverter().FromPayloads(can.Input, &next))
	require.Equal(t, map[string]string{"fp1_aa1": "inc-1", "fp1_aa2": "inc-1", "fp1_aa3": "inc-2"}, next.Owners)
}

func TestRegisterID(t *testing.T) {
	require.Equal(t, "register/3f", workflows.RegisterID("fp1_3fabcd"))
	require.Equal(t, "register/00", workflows.RegisterID("x"))
}
