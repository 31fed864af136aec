package lab_test

import (
	"context"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"rekey/internal/lab"
	"rekey/internal/lab/control"
	"rekey/internal/lab/labtest"
)

// TestHelperEngine is not a test: it is the engine that is killed.
func TestHelperEngine(t *testing.T) {
	client := control.FromEnv()
	if os.Getenv("REKEY_LAB_TEST_ENGINE") == "" || client == nil {
		t.Skip("only as a child of TestWorkerKill")
	}
	require.NoError(t, client.Register(t.Context(), os.Getpid()))
	for n := 1; ; n++ {
		for _, edge := range []string{control.BeforeCall, control.AfterCall, control.AfterRecord} {
			if err := client.Hook(t.Context(), control.Edge{Verb: "Revoke", Edge: edge, Key: strconv.Itoa(n), Incident: "inc-000000000001"}); err != nil {
				os.Exit(3)
			}
		}
	}
}

func TestWorkerKill(t *testing.T) {
	dir := t.TempDir()
	d := labtest.Scenario(t, drillText(`faults: [{what: worker-kill, at: {verb: Revoke, nth: 2, edge: after-call-before-record}}]`, ""))
	s, err := lab.New(lab.Options{Dir: dir, Scenario: d})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	engine := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestHelperEngine$", "-test.timeout=30s")
	engine.Env = append(os.Environ(), "REKEY_LAB_TEST_ENGINE=1", control.EnvURL+"=http://"+s.Addrs().Control, control.EnvToken+"="+s.Token())
	var exit *exec.ExitError
	require.ErrorAs(t, engine.Run(), &exit)
	require.Equal(t, "signal: killed", exit.String())
	o, err := s.Client().Oracle(ctx)
	require.NoError(t, err)
	require.Len(t, o.Kills, 1)
	kill := o.Kills[0]
	require.Equal(t, engine.ProcessState.Pid(), kill.PID)
	require.Equal(t, control.Edge{Verb: "Revoke", Edge: control.AfterCall, Key: "2", Incident: "inc-000000000001"},
		control.Edge{Verb: kill.Verb, Edge: kill.Edge, Key: kill.Key, Incident: kill.Incident})
	require.NoError(t, s.Client().Hook(ctx, control.Edge{Verb: "Revoke", Edge: control.AfterCall}), "it strikes once")
	require.ErrorContains(t, s.Client().Hook(ctx, control.Edge{Verb: "Revoke", Edge: "nowhere"}), "unknown edge")
	require.Error(t, s.Client().Register(ctx, 1))
	cancel()
	require.NoError(t, <-done)
}

// TestArmedKills: a kill that is asked for strikes once, at the call that is named, and only whom it
// names; where that is another process the engine goes on.
func TestArmedKills(t *testing.T) {
	l := drill(t, "", "")
	sleeper := func(role string) *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), "sleep", "600")
		require.NoError(t, cmd.Start())
		t.Cleanup(func() { _ = cmd.Process.Kill() })
		require.NoError(t, l.Control.RegisterAs(t.Context(), role, cmd.Process.Pid))
		return cmd
	}
	server, worker := sleeper("server"), sleeper(control.RoleEngine)
	at := control.Edge{Verb: "Issue", Edge: control.BeforeCall, Key: "k"}
	require.NoError(t, l.Control.Arm(t.Context(), control.Arm{Verb: "Issue", Edge: control.BeforeCall, Nth: 2, Victims: []string{"server"}}))
	require.NoError(t, l.Control.Hook(t.Context(), at))
	require.NoError(t, l.Control.Hook(t.Context(), control.Edge{Verb: "Issue", Edge: control.AfterCall}))
	require.NoError(t, server.Process.Signal(syscall.Signal(0)), "not yet")
	require.NoError(t, l.Control.Hook(t.Context(), at), "the engine goes on")
	var exit *exec.ExitError
	require.ErrorAs(t, server.Wait(), &exit)
	require.NoError(t, worker.Process.Signal(syscall.Signal(0)))
	require.NoError(t, l.Control.Hook(t.Context(), at), "it strikes once")
	kills := l.Oracle(t).Kills
	require.Len(t, kills, 1)
	require.Equal(t, []string{"server", "Issue", "k"}, []string{kills[0].Role, kills[0].Verb, kills[0].Key})

	require.NoError(t, l.Control.Arm(t.Context(), control.Arm{Verb: "Issue", Edge: control.BeforeCall, Nth: 1, Victims: []string{"nobody"}}))
	require.ErrorContains(t, l.Control.Hook(t.Context(), at), "no process is registered as nobody")
	require.NoError(t, l.Control.Arm(t.Context(), control.Arm{Verb: "Issue", Edge: control.BeforeCall, Nth: 1, Victims: []string{"server"}}))
	left, err := l.Control.Disarm(t.Context())
	require.NoError(t, err)
	require.Equal(t, 1, left)
	require.NoError(t, l.Control.Hook(t.Context(), at))
	for _, a := range []control.Arm{{Verb: "Issue", Edge: "nowhere", Nth: 1, Victims: []string{"server"}}, {Verb: "Issue", Edge: control.AfterCall, Victims: []string{"server"}}, {Verb: "Issue", Edge: control.AfterCall, Nth: 1}} {
		require.Error(t, l.Control.Arm(t.Context(), a))
	}
}
