package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/activities/activitytest/porttest"
	"rekey/internal/temporalx"
)

// temporalConfig is Temporal's own server in one process on SQLite in memory, after
// config/development-sqlite.yaml of go.temporal.io/server, with ports of its own.
const temporalConfig = `log: {stdout: true, level: error}
persistence:
  defaultStore: main
  visibilityStore: visibility
  numHistoryShards: 4
  datastores:
    main: {sql: {pluginName: sqlite, databaseName: main, connectAddr: localhost, connectProtocol: tcp, connectAttributes: {mode: memory, cache: private}, maxConns: 1, maxIdleConns: 1, maxConnLifetime: 1h}}
    visibility: {sql: {pluginName: sqlite, databaseName: visibility, connectAddr: localhost, connectProtocol: tcp, connectAttributes: {mode: memory, cache: private}, maxConns: 1, maxIdleConns: 1, maxConnLifetime: 1h}}
global:
  membership: {maxJoinDuration: 30s, broadcastAddress: 127.0.0.1}
services:
  frontend: {rpc: {grpcPort: %[1]s, membershipPort: %[2]s, httpPort: %[3]s, bindOnLocalHost: true}}
  matching: {rpc: {grpcPort: %[4]s, membershipPort: %[5]s, bindOnLocalHost: true}}
  history: {rpc: {grpcPort: %[6]s, membershipPort: %[7]s, bindOnLocalHost: true}}
  worker: {rpc: {grpcPort: %[8]s, membershipPort: %[9]s, bindOnLocalHost: true}}
clusterMetadata:
  enableGlobalNamespace: false
  failoverVersionIncrement: 10
  masterClusterName: active
  currentClusterName: active
  clusterInformation:
    active: {enabled: true, initialFailoverVersion: 1, rpcName: frontend, rpcAddress: "127.0.0.1:%[1]s", httpAddress: "127.0.0.1:%[3]s"}
dcRedirectionPolicy: {policy: noop}
dynamicConfigClient: {filepath: %[10]s, pollInterval: 10s}
`

// temporalServer is Temporal's own server, built once for all tests: linking it takes
// both cores for many seconds.
var temporalServer = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "rekey-e2e-")
	if err != nil {
		return "", err
	}
	server := filepath.Join(dir, "temporal-server")
	if out, err := exec.Command("go", "build", "-o", server, "go.temporal.io/server/cmd/server").CombinedOutput(); err != nil {
		return server, fmt.Errorf("%w: %s", err, out)
	}
	return server, nil
})

// startTemporal runs Temporal's own server and prepares the namespace; it gives the
// address of its frontend.
func startTemporal(t *testing.T, dir, namespace string) string {
	t.Helper()
	built.Store(true)
	server, err := temporalServer()
	require.NoError(t, err)
	config := filepath.Join(dir, "config")
	require.NoError(t, os.MkdirAll(config, 0o700))
	dynamic := filepath.Join(config, "dynamic.yaml")
	require.NoError(t, os.WriteFile(dynamic, []byte("{}\n"), 0o600))
	var args []any
	for _, port := range porttest.Free(t, 9) {
		args = append(args, port)
	}
	text := fmt.Sprintf(temporalConfig, append(args, dynamic)...)
	require.NoError(t, os.WriteFile(filepath.Join(config, "e2e.yaml"), []byte(text), 0o600))
	cmd := exec.Command(server, "--root", dir, "--env", "e2e", "--allow-no-auth", "start")
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("log of Temporal:\n%s", tail(log.String()))
		}
	})
	address := "127.0.0.1:" + args[0].(string)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	require.Eventually(t, func() bool {
		c, err := temporalx.Dial(ctx, temporalx.Options{Address: address, Namespace: namespace})
		if err != nil {
			return false
		}
		defer c.Close()
		if _, err := temporalx.EnsureNamespace(ctx, c, namespace, 72*time.Hour); err != nil {
			return false
		}
		_, err = temporalx.EnsureSearchAttributes(ctx, c, namespace)
		return err == nil
	}, patience, 200*time.Millisecond, "Temporal is not ready")
	return address
}

// tail is the end of a log.
func tail(s string) string {
	const most = 12000
	return s[max(0, len(s)-most):]
}
