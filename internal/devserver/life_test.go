package devserver

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/workflowservice/v1"

	"rekey/internal/temporalx"
)

// A clean stop, then a start in the same process: the workflow goes on, and so do namespace, retention and cluster id.
func TestStopAndStartGoesOn(t *testing.T) {
	old := syscall.Umask(0) // the widest: modes must not depend on it
	defer syscall.Umask(old)
	dir := filepath.Join(t.TempDir(), "a b?#%41", "data") // a path that needs escaping in SQLite's URI
	o := options(t, dir)
	o.Namespaces = []string{"rekey", "rekey-drill"}
	o.Logger = nil
	began := time.Now()
	first := start(t, o)
	t.Logf("ready on a new directory in %s", time.Since(began))

	c, err := temporalx.Dial(context.Background(), first.DialOptions("rekey"))
	require.NoError(t, err)
	stopWorker := startWorker(t, c)
	run := begin(t, c, "restart")
	info, err := c.WorkflowService().GetClusterInfo(context.Background(), &workflowservice.GetClusterInfoRequest{})
	require.NoError(t, err)
	for name, mode := range modes(t, dir) {
		want := os.FileMode(0o600)
		if name == "." || name == "keys" {
			want = 0o700
		}
		require.Equal(t, want, mode, name)
	}
	require.Contains(t, modes(t, dir), "temporal.db-wal")
	require.Contains(t, modes(t, dir), "temporal.log")

	stopWorker()
	c.Close()
	began = time.Now()
	require.NoError(t, first.Stop(context.Background()))
	t.Logf("stopped in %s", time.Since(began))
	wal, err := os.Stat(filepath.Join(dir, "temporal.db-wal"))
	if err == nil {
		require.Zero(t, wal.Size(), "a stopped server is one file to copy")
	}

	began = time.Now()
	second := start(t, o)
	t.Logf("ready again in %s", time.Since(began))
	require.Equal(t, first.Token(), second.Token())
	c = dial(t, second.DialOptions("rekey"))
	again, err := c.WorkflowService().GetClusterInfo(context.Background(), &workflowservice.GetClusterInfoRequest{})
	require.NoError(t, err)
	require.Equal(t, info.GetClusterId(), again.GetClusterId())
	for _, namespace := range o.Namespaces {
		d, err := c.WorkflowService().DescribeNamespace(context.Background(), &workflowservice.DescribeNamespaceRequest{Namespace: namespace})
		require.NoError(t, err)
		require.Equal(t, 720*time.Hour, d.GetConfig().GetWorkflowExecutionRetentionTtl().AsDuration())
	}
	startWorker(t, c)
	finish(t, c, run.GetID(), run.GetRunID())
	select {
	case <-second.Failed():
		t.Fatal(second.FailedError())
	default:
	}
}

// The directory is replaced between two starts of one process, as a restore would: the second start must see the new
// file, not the handle that Temporal keeps of the old one.
func TestReplacedDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	o := options(t, dir)
	first := start(t, o)
	c := dial(t, first.DialOptions("rekey"))
	a, err := c.WorkflowService().GetClusterInfo(context.Background(), &workflowservice.GetClusterInfoRequest{})
	require.NoError(t, err)
	require.NoError(t, first.Stop(context.Background()))
	require.NoError(t, os.RemoveAll(dir))

	second := start(t, o)
	require.NotEqual(t, first.Token(), second.Token())
	b, err := dial(t, second.DialOptions("rekey")).WorkflowService().GetClusterInfo(context.Background(), &workflowservice.GetClusterInfoRequest{})
	require.NoError(t, err)
	require.NotEqual(t, a.GetClusterId(), b.GetClusterId())
}

// kill -9 of the whole server while a workflow waits: a second process goes on within five seconds.
func TestKillMinus9GoesOn(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childEnv+"="+dir)
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	t.Cleanup(func() { _ = child.Process.Kill(); _ = child.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	address, ok := strings.CutPrefix(strings.TrimSpace(line), "ready ")
	require.True(t, ok, line)

	// The data directory belongs to the child now.
	_, err = Start(context.Background(), options(t, dir))
	require.ErrorContains(t, err, "in use by process "+strconv.Itoa(child.Process.Pid))

	token, err := temporalx.ReadToken(dir)
	require.NoError(t, err)
	c, err := temporalx.Dial(context.Background(), temporalx.Options{Address: address, Namespace: "rekey", Token: token})
	require.NoError(t, err)
	stopWorker := startWorker(t, c)
	run := begin(t, c, "killed")
	require.NoError(t, child.Process.Kill())
	_ = child.Wait()
	stopWorker()
	c.Close()

	began := time.Now()
	s := start(t, options(t, dir))
	ready := time.Since(began)
	c = dial(t, s.DialOptions("rekey"))
	startWorker(t, c)
	finish(t, c, run.GetID(), run.GetRunID())
	t.Logf("after kill -9: ready in %s, finished in %s", ready, time.Since(began))
}
