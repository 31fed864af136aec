package wire_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/activities"
	"rekey/activities/notify/wire"
	"rekey/internal/httpx"
)

// call makes one request and gives what its exchange says of a failure.
func call(t *testing.T, ctx context.Context, o httpx.Options, method, url string, eff wire.Effect) (*activities.Fault, bool, *wire.Exchange) {
	t.Helper()
	base, err := httpx.New(o)
	require.NoError(t, err)
	c := wire.Client(base, func(r *http.Request) error {
		r.Header.Set("Authorization", "Bearer abc")
		return nil
	})
	defer c.CloseIdleConnections()
	ctx, x := wire.With(ctx)
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader("x"))
	require.NoError(t, err)
	resp, err := c.Do(req)
	if err == nil {
		_, _ = io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode/100 == 2 {
			return nil, false, x
		}
	}
	f := x.Fault("op", "X-Id")
	return f, x.Broken(ctx, f, eff, err), x
}

func TestLostAnswers(t *testing.T) {
	open := httpx.Options{AllowPrivate: true}
	hangs := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Id", "req-1")
		_, _ = io.ReadAll(r.Body) // without it the server does not notice that the client is gone
		switch r.URL.Path {
		case "/drop":
			panic(http.ErrAbortHandler)
		case "/page":
			_, _ = io.WriteString(w, "<html>please sign in</html>")
		case "/cut":
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, `{"ok":`)
		case "/moved":
			http.Redirect(w, r, "/fine", http.StatusMovedPermanently)
		case "/same":
			http.Redirect(w, r, "/fine", http.StatusTemporaryRedirect)
		case "/refused":
			w.Header().Set("X-Id", "bad id\t")
			w.WriteHeader(http.StatusForbidden)
		case "/hang":
			close(hangs)
			<-r.Context().Done()
		default:
			_, _ = io.WriteString(w, `{"auth":"`+r.Header.Get("Authorization")+`"}`)
		}
	}))
	defer srv.Close()
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	defer secure.Close()

	tests := map[string]struct {
		url  string
		eff  wire.Effect
		want activities.Class
		says string
	}{
		"dropped read":             {srv.URL + "/drop", wire.Reads, activities.ClassTransient, "no answer came"},
		"dropped update":           {srv.URL + "/drop", wire.Repeats, activities.ClassTransient, "no answer came"},
		"dropped create":           {srv.URL + "/drop", wire.Creates, activities.ClassUnclear, "no answer came"},
		"a proxy's page":           {srv.URL + "/page", wire.Creates, activities.ClassUnclear, "proxy"},
		"cut answer":               {srv.URL + "/cut", wire.Creates, activities.ClassUnclear, "no answer came"},
		"method would change":      {srv.URL + "/moved", wire.Repeats, activities.ClassInvalid, "elsewhere"},
		"nobody there":             {gone.URL, wire.Creates, activities.ClassTransient, "no connection"},
		"certificate is not known": {secure.URL, wire.Creates, activities.ClassTransient, "ca_file"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			f, broken, _ := call(t, t.Context(), open, http.MethodPatch, tt.url, tt.eff)
			require.True(t, broken)
			require.Equal(t, tt.want, f.Class)
			require.Contains(t, f.Detail, tt.says)
			require.NotContains(t, f.Error(), "127.0.0.1")
		})
	}
	f, broken, _ := call(t, t.Context(), open, http.MethodPost, srv.URL+"/same", wire.Creates)
	require.Nil(t, f, "a redirect that keeps the method is followed")
	require.False(t, broken)
	f, broken, _ = call(t, t.Context(), httpx.Options{}, http.MethodPost, srv.URL, wire.Creates)
	require.True(t, broken)
	require.Equal(t, activities.ClassInvalid, f.Class)
	f, broken, x := call(t, t.Context(), open, http.MethodPost, srv.URL+"/refused", wire.Creates)
	require.False(t, broken, "an answer is for the channel to judge")
	require.Equal(t, http.StatusForbidden, f.Status)
	require.Empty(t, f.RequestID)
	require.True(t, x.Dated)
	require.Less(t, x.Skew.Abs(), time.Minute)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	f, _, _ = call(t, ctx, open, http.MethodPost, srv.URL, wire.Creates)
	require.Equal(t, activities.ClassTransient, f.Class, "it was never sent")
	ctx, cancel = context.WithCancel(t.Context())
	go func() { <-hangs; cancel() }()
	f, _, _ = call(t, ctx, open, http.MethodPost, srv.URL+"/hang", wire.Creates)
	require.Equal(t, activities.ClassUnclear, f.Class)
	require.Equal(t, "cancelled before the answer came", f.Detail)
}

func TestAfter(t *testing.T) {
	for in, want := range map[string]time.Duration{"": 0, "30": 30 * time.Second, "-5": 0, "999999": time.Hour, "soon": 0} {
		require.Equal(t, want, (&wire.Exchange{Header: http.Header{"Retry-After": {in}}}).After(), in)
	}
	x := &wire.Exchange{Header: http.Header{"Retry-After": {time.Now().Add(20 * time.Minute).UTC().Format(http.TimeFormat)}}}
	require.InDelta(t, 20*time.Minute, x.After(), float64(2*time.Minute))
}
