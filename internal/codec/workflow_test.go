package codec_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	"rekey/internal/codec"
)

// A workflow's arguments, results, versions, side effects, queries and errors all
// pass the SDK's own code paths without meeting a plaintext payload.
func TestAWorkflowRunsBehindTheCodec(t *testing.T) {
	k := ring(t, t.TempDir())
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestWorkflowEnvironment()
	env.SetDataConverter(codec.NewDataConverter(k))
	env.SetFailureConverter(codec.NewFailureConverter(k))
	act := func(_ context.Context, in state) (state, error) {
		if in.Count == 0 {
			return state{}, temporal.NewNonRetryableApplicationError("count is zero", "invalid", nil, in)
		}
		in.Count++
		return in, nil
	}
	env.RegisterActivityWithOptions(act, activity.RegisterOptions{Name: "act"})
	wf := func(ctx workflow.Context, in state) (*state, error) {
		ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: 1e9, Summary: "a summary"})
		workflow.SetCurrentDetails(ctx, "current **details**")
		if err := workflow.SetQueryHandler(ctx, "name", func() (string, error) { return in.Name, nil }); err != nil {
			return nil, err
		}
		if v := workflow.GetVersion(ctx, "change", workflow.DefaultVersion, 3); v != 3 {
			return nil, temporal.NewApplicationError("version", "test")
		}
		var side string
		if err := workflow.SideEffect(ctx, func(workflow.Context) any { return "side" }).Get(&side); err != nil || side != "side" {
			return nil, temporal.NewApplicationError("side effect", "test", err)
		}
		var out state
		if err := workflow.ExecuteActivity(ctx, "act", in).Get(ctx, &out); err != nil {
			return nil, err
		}
		err := workflow.ExecuteActivity(ctx, "act", state{Name: "none"}).Get(ctx, nil)
		var app *temporal.ApplicationError
		var detail state
		if !temporal.IsApplicationError(err) {
			return nil, temporal.NewApplicationError("no error", "test")
		}
		if !errors.As(err, &app) || app.Details(&detail) != nil || detail.Name != "none" || app.Message() != "count is zero" {
			return nil, temporal.NewApplicationError("error lost its details", "test")
		}
		return &out, nil
	}
	env.RegisterWorkflowWithOptions(wf, workflow.RegisterOptions{Name: "wf"})
	env.ExecuteWorkflow("wf", state{Name: "n", Count: 1})
	require.NoError(t, env.GetWorkflowError())
	var out state
	require.NoError(t, env.GetWorkflowResult(&out))
	require.Equal(t, state{Name: "n", Count: 2}, out)
	q, err := env.QueryWorkflow("name")
	require.NoError(t, err)
	var name string
	require.NoError(t, q.Get(&name))
	require.Equal(t, "n", name)
}
