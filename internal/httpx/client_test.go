package httpx_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/activities"
	"rekey/internal/httpx"
)

func get(t *testing.T, c *http.Client, url string) (*http.Response, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, bytes.NewReader([]byte("x")))
	require.NoError(t, err)
	resp, err := c.Do(req)
	if err == nil {
		t.Cleanup(func() { _ = resp.Body.Close() })
	}
	return resp, err
}

func client(t *testing.T, o httpx.Options) *http.Client {
	t.Helper()
	c, err := httpx.New(o)
	require.NoError(t, err)
	t.Cleanup(c.CloseIdleConnections)
	return c
}

func TestPrivateAddressesAreRefused(t *testing.T) {
	called := false
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { called = true }))
	defer srv.Close()

	_, err := get(t, client(t, httpx.Options{}), srv.URL)
	require.ErrorIs(t, err, httpx.ErrAddress)
	u, err := url.Parse(srv.URL)
	require.NoError(t, err)
	_, err = get(t, client(t, httpx.Options{}), "http://localhost:"+u.Port())
	require.ErrorIs(t, err, httpx.ErrAddress, "a name does not hide the address")
	require.False(t, called)

	_, err = get(t, client(t, httpx.Options{AllowPrivate: true}), srv.URL)
	require.NoError(t, err)
	require.True(t, called)
}

func TestPublic(t *testing.T) {
	for addr, want := range map[string]bool{
		"8.8.8.8": true, "52.94.225.248": true, "2600:1f18::1": true,
		"127.0.0.1": false, "10.1.2.3": false, "172.16.0.1": false, "192.168.1.1": false,
		"169.254.169.254": false, "fd00:ec2::254": false, "fe80::1%eth0": false, "::1": false, "::": false,
		"0.0.0.0": false, "0.1.2.3": false, "100.100.100.200": false, "::ffff:10.0.0.1": false,
		"64:ff9b::a00:1": false, "2002:a00:1::": false, "224.0.0.1": false, "255.255.255.255": false,
		"198.18.0.1": false, "240.0.0.1": false, "ff02::1": false, "::7f00:1": false,
	} {
		require.Equal(t, want, httpx.Public(netip.MustParseAddr(addr)), addr)
	}
	require.False(t, httpx.Public(netip.Addr{}))
}

func TestRedirectsStayOnTheHost(t *testing.T) {
	elsewhere := false
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere = true }))
	defer other.Close()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/away":
			http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
		case "/home":
			http.Redirect(w, r, "/end", http.StatusTemporaryRedirect)
		case "/loop":
			http.Redirect(w, r, "/loop", http.StatusTemporaryRedirect)
		}
	}))
	defer srv.Close()
	c := client(t, httpx.Options{AllowPrivate: true})

	_, err := get(t, c, srv.URL+"/away")
	require.ErrorIs(t, err, httpx.ErrRedirect)
	require.False(t, elsewhere)
	_, err = get(t, c, srv.URL+"/loop")
	require.ErrorIs(t, err, httpx.ErrRedirect)
	resp, err := get(t, c, srv.URL+"/home")
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, resp.StatusCode)
}

func TestBodiesAreBounded(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/chunked" {
			w.WriteHeader(http.StatusOK)
			w.(http.Flusher).Flush()
		}
		_, _ = w.Write(bytes.Repeat([]byte("a"), 1000))
	}))
	defer srv.Close()

	tests := map[string]struct {
		path string
		max  int64
		ok   bool
	}{
		"fits exactly":              {"/chunked", 1000, true},
		"one too many, no length":   {"/chunked", 999, false},
		"one too many, announced":   {"/", 999, false},
		"far too many, no length":   {"/chunked", 10, false},
		"fits exactly, with length": {"/", 1000, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			resp, err := get(t, client(t, httpx.Options{AllowPrivate: true, MaxBody: tt.max}), srv.URL+tt.path)
			var body []byte
			if err == nil {
				body, err = io.ReadAll(resp.Body)
			}
			if tt.ok {
				require.NoError(t, err)
				require.Len(t, body, 1000)
				return
			}
			require.ErrorIs(t, err, httpx.ErrTooLarge)
			require.LessOrEqual(t, int64(len(body)), tt.max)
		})
	}
}

func TestSilentServersTimeOut(t *testing.T) {
	done := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-done:
		case <-r.Context().Done():
		}
	}))
	defer srv.Close()
	defer close(done)
	_, err := get(t, client(t, httpx.Options{AllowPrivate: true, Timeout: 50 * time.Millisecond}), srv.URL)
	var timeout interface{ Timeout() bool }
	require.True(t, errors.As(err, &timeout) && timeout.Timeout(), "%v", err)
}

func TestEnvironmentProxyIsNotUsed(t *testing.T) {
	proxied := false
	proxy := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { proxied = true }))
	defer proxy.Close()
	t.Setenv("HTTP_PROXY", proxy.URL)
	t.Setenv("http_proxy", proxy.URL)
	c := client(t, httpx.Options{})
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://rekey.invalid/", nil)
	require.NoError(t, err)
	resp, err := c.Do(req)
	if err == nil {
		_ = resp.Body.Close()
	}
	require.Error(t, err, "a name that does not exist answers only through a proxy")
	require.False(t, proxied)
}

func TestOwnAuthority(t *testing.T) {
	srv := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer srv.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(ca, pemOf(srv.Certificate()), 0o600))

	_, err := get(t, client(t, httpx.Options{AllowPrivate: true}), srv.URL)
	require.ErrorAs(t, err, new(x509.UnknownAuthorityError))
	_, err = get(t, client(t, httpx.Options{AllowPrivate: true, CAFile: ca}), srv.URL)
	require.NoError(t, err)

	_, err = httpx.New(httpx.Options{CAFile: filepath.Join(t.TempDir(), "none.pem")})
	require.ErrorContains(t, err, "ca_file")
	empty := filepath.Join(t.TempDir(), "empty.pem")
	require.NoError(t, os.WriteFile(empty, []byte("no certificate"), 0o600))
	_, err = httpx.New(httpx.Options{CAFile: empty})
	require.ErrorContains(t, err, "holds no PEM certificate")
}

func TestForAccount(t *testing.T) {
	c, err := httpx.ForAccount(activities.Account{Name: "prod"})
	require.NoError(t, err)
	require.Equal(t, httpx.DefaultTimeout, c.Timeout)
	c, err = httpx.ForAccount(activities.Account{Name: "prod", Settings: map[string]string{"timeout": "3s"}})
	require.NoError(t, err)
	require.Equal(t, 3*time.Second, c.Timeout)
	for _, bad := range []string{"soon", "-1s", "0s"} {
		_, err = httpx.ForAccount(activities.Account{Name: "prod", Settings: map[string]string{"timeout": bad}})
		require.ErrorContains(t, err, "account prod: timeout")
	}
}

func pemOf(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}
