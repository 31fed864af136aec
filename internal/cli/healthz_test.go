package cli_test

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"rekey/internal/cli"
)

func TestHealthz(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"status":"ok"}`)) })
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = w.Write([]byte(`{"error":{"code":"temporal","message":"Temporal does not answer","do":"start it"}}`))
	})
	mux.HandleFunc("/away", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/healthz", http.StatusFound) })
	s := httptest.NewServer(mux)
	closed := httptest.NewServer(mux)
	closed.Close()
	for _, c := range []struct {
		name      string
		args      []string
		code      int
		out, told string
	}{
		{"well", []string{"--url", s.URL + "/healthz"}, 0, "ok\n", ""},
		{"by the configuration", nil, 0, "ok\n", ""},
		{"as JSON", []string{"--url", s.URL + "/healthz", "--json"}, 0, `"status": "ok"`, ""},
		{"not ready says why and what to do", []string{"--url", s.URL + "/readyz"}, 1, "", "Temporal does not answer"},
		{"a redirect is no answer", []string{"--url", s.URL + "/away"}, 1, "", "answered 302"},
		{"nobody there", []string{"--url", closed.URL + "/healthz"}, 1, "", "nothing answers at"},
		{"no URL", []string{"--url", "file:///etc/passwd"}, 2, "", "not a URL to ask"},
		{"a surplus word", []string{"please"}, 2, "", "takes none"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("REKEY_LISTEN_METRICS", s.Listener.Addr().String())
			t.Setenv("REKEY_DATA", t.TempDir())
			t.Setenv("XDG_CONFIG_HOME", t.TempDir())
			var out, told bytes.Buffer
			code := cli.Run(context.Background(), append([]string{"healthz"}, c.args...), cli.IOStreams{Out: &out, Err: &told}, cli.Engine{})
			require.Equal(t, c.code, code, told.String())
			require.Contains(t, out.String(), c.out)
			require.Contains(t, told.String(), c.told)
		})
	}
}
