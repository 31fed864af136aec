package health_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"rekey/internal/health"
	"rekey/internal/view"
)

func get(t *testing.T, c *health.Checks, method, path string) *httptest.ResponseRecorder {
	t.Helper()
	rec := httptest.NewRecorder()
	page := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("rekey_build_info 1\n")) })
	c.Handler(page).ServeHTTP(rec, httptest.NewRequest(method, path, nil))
	return rec
}

func code(t *testing.T, rec *httptest.ResponseRecorder) view.ErrorBody {
	t.Helper()
	var e view.Error
	require.NoError(t, json.Unmarshal(rec.Body.Bytes(), &e))
	return e.Error
}

func TestReadySaysWhichPartIsMissing(t *testing.T) {
	var down error
	c := &health.Checks{}
	c.Add("temporal", func(context.Context) error { return down })
	c.Add("keys", func(context.Context) error { return nil })
	rec := get(t, c, "GET", "/readyz")
	require.Equal(t, http.StatusOK, rec.Code)
	require.JSONEq(t, `{"status":"ready","checks":["temporal","keys"]}`, rec.Body.String())

	down = health.Not("temporal", "Temporal does not answer", "start it")
	rec = get(t, c, "GET", "/readyz")
	require.Equal(t, http.StatusServiceUnavailable, rec.Code)
	require.Equal(t, view.ErrorBody{Code: "temporal", Message: "Temporal does not answer", Do: "start it"}, code(t, rec))
	require.NotEmpty(t, rec.Header().Get("Retry-After"))
	require.Equal(t, http.StatusOK, get(t, c, "GET", "/healthz").Code, "it is alive all the same")
}

// A vendor's or server's text is not for whoever can reach the port.
func TestReadyShowsNoForeignText(t *testing.T) {
	c := &health.Checks{}
	c.Add("temporal", func(context.Context) error { return errors.New("dial tcp 10.1.2.3: refused, token=abc") })
	rec := get(t, c, "GET", "/readyz")
	require.Equal(t, http.StatusServiceUnavailable, rec.Code)
	require.NotContains(t, rec.Body.String(), "10.1.2.3")
	require.NotEmpty(t, code(t, rec).Do)
}

func TestAStoppingProcessIsNotReady(t *testing.T) {
	c := &health.Checks{}
	asked := false
	c.Add("temporal", func(context.Context) error { asked = true; return nil })
	c.Stop()
	rec := get(t, c, "GET", "/readyz")
	require.Equal(t, "stopping", code(t, rec).Code)
	require.False(t, asked, "nobody is asked on the way out")
	require.Equal(t, http.StatusOK, get(t, c, "GET", "/healthz").Code)
}

// A part that hangs is a part that is missing: who asks gets an answer.
func TestAHangingCheckEndsWithTheRequest(t *testing.T) {
	c := &health.Checks{}
	c.Add("temporal", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := c.Ready(ctx)
	require.ErrorContains(t, err, "temporal")
}

func TestThePortTakesReadingRequestsOnly(t *testing.T) {
	c := &health.Checks{}
	require.Equal(t, http.StatusOK, get(t, c, "GET", "/metrics").Code)
	require.Equal(t, http.StatusOK, get(t, c, "HEAD", "/healthz").Code)
	require.Equal(t, http.StatusMethodNotAllowed, get(t, c, "POST", "/metrics").Code)
	require.Equal(t, http.StatusNotFound, get(t, c, "GET", "/debug/pprof/").Code)
}
