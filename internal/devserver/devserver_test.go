package devserver

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"rekey/internal/temporalx"
)

const (
	queue    = "devserver-test"
	childEnv = "REKEY_DEVSERVER_TEST_CHILD"
)

// TestMain runs this binary as a server of its own when asked to, so that a test can kill it.
func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		s, err := Start(context.Background(), Options{DataDir: dir, Frontend: "127.0.0.1:0"})
		if err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
		fmt.Println("ready", s.Address())
		stop := make(chan os.Signal, 1)
		signal.Notify(stop, syscall.SIGTERM)
		<-stop
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func options(t testing.TB, dir string) Options {
	t.Helper()
	return Options{DataDir: dir, Frontend: "127.0.0.1:0", UI: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler)}
}

func start(t testing.TB, o Options) *Server {
	t.Helper()
	s, err := Start(context.Background(), o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Stop(context.Background())) })
	return s
}

func dial(t testing.TB, o temporalx.Options) client.Client {
	t.Helper()
	c, err := temporalx.Dial(context.Background(), o)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

// startWorker polls until stop is called (again at the end of the test at the latest).
func startWorker(t testing.TB, c client.Client) (stop func()) {
	t.Helper()
	w := worker.New(c, queue, worker.Options{WorkerStopTimeout: time.Second})
	w.RegisterWorkflowWithOptions(twoHalves, workflow.RegisterOptions{Name: "two-halves"})
	w.RegisterWorkflowWithOptions(upsert, workflow.RegisterOptions{Name: "upsert"})
	w.RegisterWorkflowWithOptions(steps, workflow.RegisterOptions{Name: "steps"})
	w.RegisterActivityWithOptions(step, activity.RegisterOptions{Name: "step"})
	require.NoError(t, w.Start())
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			w.Stop()
		}
	}
	t.Cleanup(stop)
	return stop
}

func step(context.Context) (int64, error) { return time.Now().UnixNano(), nil }

func withStep(ctx workflow.Context) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: 10 * time.Second})
}

// steps runs n activities in a row and returns when the first one began (Unix nanoseconds).
func steps(ctx workflow.Context, n int) (int64, error) {
	var first int64
	for i := range n {
		var at int64
		if err := workflow.ExecuteActivity(withStep(ctx), "step").Get(ctx, &at); err != nil {
			return 0, err
		}
		if i == 0 {
			first = at
		}
	}
	return first, nil
}

// twoHalves does one activity, waits for the signal "go", and does another.
func twoHalves(ctx workflow.Context) (string, error) {
	if err := workflow.ExecuteActivity(withStep(ctx), "step").Get(ctx, nil); err != nil {
		return "", err
	}
	if err := workflow.SetQueryHandler(ctx, "half", func() (int, error) { return 1, nil }); err != nil {
		return "", err
	}
	workflow.GetSignalChannel(ctx, "go").Receive(ctx, nil)
	if err := workflow.ExecuteActivity(withStep(ctx), "step").Get(ctx, nil); err != nil {
		return "", err
	}
	return "both", nil
}

// upsert sets one keyword attribute and ends.
func upsert(ctx workflow.Context, name string) error {
	return workflow.UpsertTypedSearchAttributes(ctx, temporal.NewSearchAttributeKeyKeyword(name).ValueSet("act"))
}

// begin starts two-halves and returns when its first activity is in history.
func begin(t *testing.T, c client.Client, id string) client.WorkflowRun {
	t.Helper()
	run, err := c.ExecuteWorkflow(context.Background(), client.StartWorkflowOptions{ID: id, TaskQueue: queue}, "two-halves")
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		d, err := c.DescribeWorkflowExecution(context.Background(), id, "")
		return err == nil && d.WorkflowExecutionInfo.HistoryLength >= 10 && len(d.PendingActivities) == 0
	}, time.Minute, 10*time.Millisecond)
	return run
}

func finish(t *testing.T, c client.Client, id, runID string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	require.NoError(t, c.SignalWorkflow(ctx, id, runID, "go", nil))
	var got string
	require.NoError(t, c.GetWorkflow(ctx, id, runID).Get(ctx, &got))
	require.Equal(t, "both", got)
}

func modes(t *testing.T, dir string) map[string]os.FileMode {
	t.Helper()
	got := map[string]os.FileMode{}
	require.NoError(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		got[name] = info.Mode().Perm()
		return err
	}))
	return got
}
