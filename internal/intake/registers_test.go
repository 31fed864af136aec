package intake_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/mocks"

	"rekey/internal/intake"
	"rekey/workflows"
)

// registerOf plays registers: each claim is answered by the next of the answers.
func registerOf(t *testing.T, answers ...any) (client.Client, *[]workflows.Claim, *[]string) {
	t.Helper()
	c := mocks.NewClient(t)
	c.On("NewWithStartWorkflowOperation", mock.Anything, workflows.TypeRegister, mock.Anything).Return(nil)
	var claims []workflows.Claim
	var asked []string
	for _, a := range answers {
		h := mocks.NewWorkflowUpdateHandle(t)
		err, _ := a.(error)
		if res, ok := a.(workflows.ClaimResult); ok {
			h.On("Get", mock.Anything, mock.Anything).Run(func(a mock.Arguments) { *a.Get(1).(*workflows.ClaimResult) = res }).Return(nil)
		}
		c.On("UpdateWithStartWorkflow", mock.Anything, mock.Anything).Run(func(a mock.Arguments) {
			u := a.Get(1).(client.UpdateWithStartWorkflowOptions).UpdateOptions
			claims, asked = append(claims, u.Args[0].(workflows.Claim)), append(asked, u.WorkflowID)
		}).Return(h, err).Once()
	}
	return c, &claims, &asked
}

func TestClaimGoesOnInTheNextVolume(t *testing.T) {
	c, claims, asked := registerOf(t,
		workflows.ClaimResult{Owners: map[string]string{"fp1_ab1": "inc-1"}, Left: []string{"fp1_ab2", "fp1_ab3"}, Next: 1},
		workflows.ClaimResult{Owners: map[string]string{"fp1_ab2": "inc-2"}, Left: []string{"fp1_ab3"}, Next: 2, New: 0},
		workflows.ClaimResult{Owners: map[string]string{"fp1_ab3": "inc-3"}, New: 1},
	)
	got, err := intake.Temporal{Client: c}.Claim(t.Context(), "register/ab", workflows.Claim{FPs: []string{"fp1_ab1", "fp1_ab2", "fp1_ab3"}, Incident: "inc-3"})
	require.NoError(t, err)
	require.Equal(t, workflows.ClaimResult{Owners: map[string]string{"fp1_ab1": "inc-1", "fp1_ab2": "inc-2", "fp1_ab3": "inc-3"}, New: 1}, got)
	require.Equal(t, []string{"register/ab", "register/ab.1", "register/ab.2"}, *asked)
	require.Equal(t, []string{"fp1_ab3"}, (*claims)[2].FPs)

	c, _, _ = registerOf(t, workflows.ClaimResult{Left: []string{"fp1_ab2"}})
	_, err = intake.Temporal{Client: c}.Claim(t.Context(), "register/ab", workflows.Claim{FPs: []string{"fp1_ab2"}, Incident: "inc-3"})
	require.ErrorContains(t, err, "back to volume 0")
}

// A register that is busy, or between two runs, is asked again with the same claim.
func TestClaimIsAskedAgain(t *testing.T) {
	answer := workflows.ClaimResult{Owners: map[string]string{"fp1_ab1": "inc-1"}}
	c, claims, _ := registerOf(t,
		serviceerror.NewResourceExhausted(0, "workflow operation can not be applied because workflow is closing"),
		serviceerror.NewNotFound("workflow execution already completed"), serviceerror.NewAborted("closing"), serviceerror.NewUnavailable("shard moved"), answer)
	claim := workflows.Claim{FPs: []string{"fp1_ab1"}, Incident: "inc-2"}
	got, err := intake.Temporal{Client: c}.Claim(t.Context(), "register/ab", claim)
	require.NoError(t, err)
	require.Equal(t, answer, got)
	require.Len(t, *claims, 5)
	for _, again := range *claims {
		require.Equal(t, claim, again)
	}

	c, _, _ = registerOf(t, serviceerror.NewInvalidArgument("no"))
	_, err = intake.Temporal{Client: c}.Claim(t.Context(), "register/ab", claim)
	require.Error(t, err, "what stays wrong is said at once")

	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	c, _, _ = registerOf(t, serviceerror.NewUnavailable("down"))
	_, err = intake.Temporal{Client: c}.Claim(ctx, "register/ab", claim)
	require.ErrorContains(t, err, "down", "the reason, not that time is up")
}
