package server_test

import (
	"context"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/internal/health"
	"rekey/internal/server"
)

// A server that stops is not ready first, and still takes what is sent to it
// meanwhile: a load balancer needs a moment to see it.
func TestAStoppingServerIsUnreadyBeforeItIsGone(t *testing.T) {
	w := newWorld(t)
	checks := &health.Checks{}
	w.Server = mustServer(t, w, func(o *server.Options) { o.Health, o.Drain = checks, time.Hour })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- w.Serve(ctx, l) }()
	url := "http://" + l.Addr().String()
	status := func(path string) int {
		resp, err := http.Get(url + path)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		return resp.StatusCode
	}
	require.Equal(t, http.StatusOK, status("/readyz"))
	stop()
	require.Eventually(t, func() bool { return status("/readyz") == http.StatusServiceUnavailable }, time.Minute, 5*time.Millisecond)
	require.Equal(t, http.StatusOK, status("/healthz"), "requests are answered all the same")
	require.NoError(t, l.Close()) // ends the wait of this test
	require.Error(t, <-served)
}

// Who watches counts what is refused, by the pattern of the route and never by what
// the caller made up.
func TestRefusalsAreToldByRoute(t *testing.T) {
	w := newWorld(t)
	var told [][2]string
	w.Server = mustServer(t, w, func(o *server.Options) {
		o.OnRefuse = func(route, why string) { told = append(told, [2]string{route, why}) }
	})
	w.call(t, "GET", "/api/v1/incidents/"+known+"/made-up", nil)
	w.call(t, "GET", "/api/v1/incidents", nil, func(r *http.Request) { r.Header.Set("Authorization", "Bearer wrong") })
	w.call(t, "GET", "/healthz", nil, func(r *http.Request) { r.Host = "evil.example.com" })
	require.Equal(t, [][2]string{{"/api/", "not-found"}, {"GET /api/v1/incidents", "unauthorized"}, {"", "bad-host"}}, told)
}
