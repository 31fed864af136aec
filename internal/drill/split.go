package drill

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"time"

	"rekey/internal/fsx"
	"rekey/internal/loopback"
	"rekey/internal/temporalx"
)

// Split has rekey run as its parts: Temporal's own server, `rekey serve` and `rekey
// worker`, each a process of its own that can die alone.
type Split struct {
	// TemporalServer is Temporal's server (go build go.temporal.io/server/cmd/server).
	TemporalServer string
}

// RoleTemporal is the process of Temporal's server, for armed kills. The worker is
// control.RoleEngine.
const RoleTemporal = "temporal"

// temporalConfig is Temporal's own server in one process on SQLite files, after
// config/development-sqlite-file.yaml of go.temporal.io/server, with ports of its own.
const temporalConfig = `log: {stdout: true, level: error}
persistence:
  defaultStore: main
  visibilityStore: visibility
  numHistoryShards: 4
  datastores:
    main: {sql: {pluginName: sqlite, databaseName: %[11]s, connectAddr: localhost, connectProtocol: tcp, connectAttributes: {mode: rwc, setup: "true", journal_mode: wal, synchronous: "2"}, maxConns: 1, maxIdleConns: 1, maxConnLifetime: 1h}}
    visibility: {sql: {pluginName: sqlite, databaseName: %[12]s, connectAddr: localhost, connectProtocol: tcp, connectAttributes: {mode: rwc, setup: "true", journal_mode: wal, synchronous: "2"}, maxConns: 1, maxIdleConns: 1, maxConnLifetime: 1h}}
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

// startSplit starts Temporal's server, prepares its namespace, then starts serve and
// worker.
func (w *world) startSplit(ctx context.Context) error {
	dir := filepath.Join(w.dir, "temporal")
	if err := fsx.MkdirPrivate(filepath.Join(dir, "config")); err != nil {
		return err
	}
	ports, err := loopback.Ports(9)
	if err != nil {
		return err
	}
	var args []any
	for _, p := range ports {
		args = append(args, strconv.Itoa(p))
	}
	dynamic := filepath.Join(dir, "config", "dynamic.yaml")
	args = append(args, dynamic, filepath.Join(dir, "main.db"), filepath.Join(dir, "visibility.db"))
	// The same as the embedded server sets: see internal/devserver.
	if err := fsx.WriteAtomic(dynamic, []byte("history.timerProcessorMaxTimeShift:\n  - value: 10ms\n")); err != nil {
		return err
	}
	if err := fsx.WriteAtomic(filepath.Join(dir, "config", "split.yaml"), fmt.Appendf(nil, temporalConfig, args...)); err != nil {
		return err
	}
	w.temporal = loopback.Address(ports[0])
	if err := w.start(ctx, &proc{name: "temporal", role: RoleTemporal, exe: w.split.TemporalServer, args: []string{"--root", dir, "--env", "split", "--allow-no-auth", "start"}}); err != nil {
		return err
	}
	if err := w.prepare(ctx); err != nil {
		return fmt.Errorf("Temporal's server, see %s: %w", filepath.Join(w.dir, "temporal.log"), err)
	}
	cluster := []string{"--config", w.config(), "--temporal", w.temporal, "--namespace", Namespace, "--log-level", "info", "--listen-metrics", "127.0.0.1:0"}
	if err := w.start(ctx, &proc{name: "serve", exe: w.exe, args: append([]string{"serve"}, cluster...)}); err != nil {
		return err
	}
	return w.start(ctx, &proc{name: "worker", exe: w.exe, args: append([]string{"worker"}, cluster...)})
}

// prepare waits for Temporal's server and makes the namespace.
func (w *world) prepare(ctx context.Context) error {
	limit := time.Now().Add(2 * readyLimit)
	for {
		err := func() error {
			c, err := temporalx.Dial(ctx, temporalx.Options{Address: w.temporal, Namespace: Namespace})
			if err != nil {
				return err
			}
			defer c.Close()
			if _, err := temporalx.EnsureNamespace(ctx, c, Namespace, 72*time.Hour); err != nil {
				return err
			}
			_, err = temporalx.EnsureSearchAttributes(ctx, c, Namespace)
			return err
		}()
		if err == nil || ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
		if time.Now().After(limit) {
			return err
		}
		time.Sleep(100 * time.Millisecond)
	}
}
