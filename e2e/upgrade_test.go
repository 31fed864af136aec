package e2e

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"rekey/internal/codec"
	"rekey/internal/codec/keyring"
	"rekey/internal/devserver"
	"rekey/internal/temporalx"
	"rekey/workflows"
)

// otherBuild is an incident as another version would run it: other steps.
func otherBuild(ctx workflow.Context, _ workflows.IncidentInput) error {
	if err := workflow.Sleep(ctx, time.Millisecond); err != nil {
		return err
	}
	return workflow.Sleep(ctx, time.Hour)
}

// TestUpRefusesToBreakAnIncident leaves an incident of another build open in a data
// directory: rekey up must name it and poll nothing.
func TestUpRefusesToBreakAnIncident(t *testing.T) {
	t.Parallel()
	r := newRig(t, "")
	r.up() // makes keys and database
	r.stop()

	const incident = "inc-0123456789ab"
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	srv, err := devserver.Start(ctx, devserver.Options{DataDir: r.data(), Frontend: "127.0.0.1:0"})
	require.NoError(t, err)
	keys, err := keyring.Open(keyring.Options{Dir: r.data() + "/keys/codec"})
	require.NoError(t, err)
	o := srv.DialOptions("rekey")
	o.DataConverter, o.FailureConverter = codec.NewDataConverter(keys), codec.NewFailureConverter(keys)
	c, err := temporalx.Dial(ctx, o)
	require.NoError(t, err)
	w := worker.New(c, workflows.TaskQueue, worker.Options{})
	w.RegisterWorkflowWithOptions(otherBuild, workflow.RegisterOptions{Name: workflows.TypeIncident})
	require.NoError(t, w.Start())
	_, err = c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: workflows.IncidentID(incident), TaskQueue: workflows.TaskQueue}, workflows.TypeIncident, workflows.IncidentInput{ID: incident})
	require.NoError(t, err)
	require.Eventually(t, func() bool { // both timers are in its history
		d, err := c.DescribeWorkflowExecution(ctx, workflows.IncidentID(incident), "")
		return err == nil && d.GetWorkflowExecutionInfo().GetHistoryLength() >= 10
	}, patience, 20*time.Millisecond)
	w.Stop()
	c.Close()
	require.NoError(t, srv.Stop(ctx))

	cmd := r.command(ctx, "up")
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	require.Error(t, cmd.Run(), "it must not run: %s", said.String())
	require.Equal(t, 1, cmd.ProcessState.ExitCode())
	require.Contains(t, said.String(), "would break incident/"+incident)
	require.NotContains(t, said.String(), "rekey is up")
}
