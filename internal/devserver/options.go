package devserver

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strconv"
	"time"

	"rekey/internal/temporalx"
)

// DefaultRetention keeps closed runs for 30 days: bundles are sealed long before (contracts section 1).
const DefaultRetention = temporalx.MinimumRetention

// Options of an embedded server. Only DataDir is required.
type Options struct {
	// DataDir holds temporal.db, lock, temporal.log and keys/temporal-token. It is created with mode 0700.
	DataDir string
	// Frontend is host:port of the gRPC frontend, "127.0.0.1:7233" by default. Port 0 picks a free one.
	Frontend string
	// UI is host:port of the Temporal UI; empty: no UI. Port 0 picks a free one.
	UI string
	// AllowRemote permits addresses other machines can reach. The token then crosses the network in clear and the UI
	// has no login, so this is for a private container network only.
	AllowRemote bool
	// Namespaces to create; the first is the UI's default. Default: rekey.
	Namespaces []string
	// Retention of closed runs. An existing namespace's is raised to it, never lowered. Default: 720h.
	Retention time.Duration
	// CodecEndpoint is the URL that the UI in the browser asks to decode payloads; empty: none.
	CodecEndpoint string
	// CodecCredentials makes the browser send its cookies to CodecEndpoint.
	CodecCredentials bool
	// Token is the credential that callers must send. Default: the one in temporalx.TokenFile(DataDir), made at the
	// first start.
	Token string
	// Logger takes Temporal's own log, warnings and above. Default: DataDir/temporal.log.
	Logger *slog.Logger
}

func (o Options) withDefaults() (Options, error) {
	if o.DataDir == "" {
		return o, errors.New("the embedded Temporal server needs a data directory: set data (or --data)")
	}
	dir, err := filepath.Abs(o.DataDir)
	if err != nil {
		return o, fmt.Errorf("data directory: %w", err)
	}
	o.DataDir = dir
	if o.Frontend == "" {
		o.Frontend = "127.0.0.1:7233"
	}
	if len(o.Namespaces) == 0 {
		o.Namespaces = []string{"rekey"}
	}
	if o.Retention == 0 {
		o.Retention = DefaultRetention
	}
	if o.Frontend, err = o.address(o.Frontend, "listen.temporal"); err != nil {
		return o, err
	}
	if o.UI != "" {
		if o.UI, err = o.address(o.UI, "listen.ui"); err != nil {
			return o, err
		}
	}
	return o, nil
}

// address turns host:port into ip:port, because Temporal binds to IP addresses only.
func (o Options) address(address, key string) (string, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", fmt.Errorf("%s: %q is not host:port", key, address)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return "", fmt.Errorf("%s: %q is not a port number", key, port)
	}
	switch host {
	case "localhost":
		host = "127.0.0.1"
	case "":
		host = "0.0.0.0"
	}
	if net.ParseIP(host) == nil {
		return "", fmt.Errorf("%s: %q is not an IP address or localhost", key, host)
	}
	if !o.AllowRemote && !temporalx.IsLoopback(host) {
		return "", fmt.Errorf("%s: %s can be reached from other machines, but the embedded server speaks without TLS; use 127.0.0.1, or run a Temporal cluster with `rekey worker` and `rekey serve`", key, address)
	}
	return net.JoinHostPort(host, port), nil
}
