package e2e

import (
	"archive/zip"
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

	"rekey/internal/devserver"
	"rekey/internal/temporalx"
	"rekey/internal/view"
	"rekey/workflows"
)

// TestWhatTemporalForgetsIsInTheBundle does what retention does: it deletes closed
// runs behind the back of a running incident. The bundle that is made afterwards
// still has their histories and verifies; without the archive it says what is
// missing.
func TestWhatTemporalForgetsIsInTheBundle(t *testing.T) {
	t.Parallel()
	r, l := onLab(t, idleScenario)
	r.configure("ceilings: {irreversible: {quorum: 1, outside_slack: 0}}\n")
	r.up()
	key := l.info.Aliases["IDLE"]
	id := r.report(key)
	r.until(id, "the key disabled", func(v view.Incident) bool { return disabled(v) != nil })
	o := r.rekey("", "incident", "resolve", id, "--item", key, "--as", "accepted-risk", "--until", "30d", "--reason", "a test key")
	require.Zero(t, o.code, o.errOut)
	r.until(id, "a sealed bundle", func(v view.Incident) bool { return v.Times.Sealed != "" })
	index := filepath.Join(r.data(), "blobs", "chapters", id)
	require.Eventually(t, func() bool { return len(found(t, index)) > 0 }, patience, 100*time.Millisecond, "the wave was archived when it ended")

	before := filepath.Join(r.dir, "before.zip")
	require.Zero(t, r.rekey("", "audit", "export", id, "-o", before).code)
	wave := workflows.WaveID(id, 1)
	require.True(t, has(t, before, wave))
	r.stop()
	forget(t, r, wave)

	r.up()
	after := filepath.Join(r.dir, "after.zip")
	o = r.rekey("", "audit", "export", id, "-o", after)
	require.Zero(t, o.code, o.errOut)
	require.True(t, has(t, after, wave), "Temporal has it no more, the bundle has")
	require.Equal(t, chapter(t, before, wave), chapter(t, after, wave), "byte for byte")
	o = r.rekey("", "audit", "verify", after)
	require.Zero(t, o.code, o.out+o.errOut)
	require.NotContains(t, outside(t, after), "retention has taken")
	r.stop()

	// Without the chapter it is a gap, and the bundle says so.
	for _, path := range found(t, index) {
		require.NoError(t, os.Remove(path))
	}
	blobs, err := filepath.Glob(filepath.Join(r.data(), "blobs", "sha256", "*", "*"))
	require.NoError(t, err)
	for _, b := range blobs {
		require.NoError(t, os.Remove(b))
	}
	r.up()
	gap := filepath.Join(r.dir, "gap.zip")
	require.Zero(t, r.rekey("", "audit", "export", id, "-o", gap).code)
	require.False(t, has(t, gap, wave))
	require.Zero(t, r.rekey("", "audit", "verify", gap).code)
}

func found(t *testing.T, index string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(index, "*.json"))
	require.NoError(t, err)
	return files
}

// forget deletes the latest run of a workflow, as retention does.
func forget(t *testing.T, r *rig, workflow string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	srv, err := devserver.Start(ctx, devserver.Options{DataDir: r.data(), Frontend: "127.0.0.1:0"})
	require.NoError(t, err)
	defer func() { require.NoError(t, srv.Stop(context.WithoutCancel(ctx))) }()
	c, err := temporalx.Dial(ctx, srv.DialOptions("rekey"))
	require.NoError(t, err)
	defer c.Close()
	d, err := c.DescribeWorkflowExecution(ctx, workflow, "")
	require.NoError(t, err)
	_, err = c.WorkflowService().DeleteWorkflowExecution(ctx, &workflowservice.DeleteWorkflowExecutionRequest{
		Namespace: "rekey", WorkflowExecution: &commonpb.WorkflowExecution{WorkflowId: workflow, RunId: d.GetWorkflowExecutionInfo().GetExecution().GetRunId()},
	})
	require.NoError(t, err)
	require.Eventually(t, func() bool { return forgotten(ctx, c, workflow) }, patience, 50*time.Millisecond)
}

func forgotten(ctx context.Context, c client.Client, workflow string) bool {
	_, err := c.DescribeWorkflowExecution(ctx, workflow, "")
	_, gone := err.(*serviceerror.NotFound) //nolint:errorlint // as the SDK gives it
	return gone
}

// chapter gives the history of a workflow's run in a bundle, nil where it is not.
func chapter(t *testing.T, bundle, workflow string) []byte {
	t.Helper()
	z, err := zip.OpenReader(bundle)
	require.NoError(t, err)
	defer func() { _ = z.Close() }()
	for _, f := range z.File {
		if strings.HasPrefix(f.Name, "chapters/"+strings.ReplaceAll(workflow, "/", "-")+"-") {
			b, err := readAll(f)
			require.NoError(t, err)
			return b
		}
	}
	return nil
}

func has(t *testing.T, bundle, workflow string) bool { return chapter(t, bundle, workflow) != nil }

func outside(t *testing.T, bundle string) string {
	t.Helper()
	z, err := zip.OpenReader(bundle)
	require.NoError(t, err)
	defer func() { _ = z.Close() }()
	i := slices.IndexFunc(z.File, func(f *zip.File) bool { return strings.HasPrefix(f.Name, "outside") })
	require.GreaterOrEqual(t, i, 0)
	b, err := readAll(z.File[i])
	require.NoError(t, err)
	return string(b)
}

func readAll(f *zip.File) ([]byte, error) {
	r, err := f.Open()
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }()
	return io.ReadAll(r)
}
