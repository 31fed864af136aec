package slackapp_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// stalled opens a connection that says how much it will send, and sends less.
func stalled(t *testing.T, address string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", address)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	_, err = fmt.Fprintf(c, "POST /slack/commands HTTP/1.1\r\nHost: rekey\r\nContent-Length: 1000\r\n\r\ncommand=")
	require.NoError(t, err)
	return c
}

func answerOf(t *testing.T, c net.Conn) (int, string) {
	t.Helper()
	require.NoError(t, c.SetReadDeadline(time.Now().Add(time.Minute)))
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	require.NoError(t, err)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(body)
}

// TestWhoSendsSlowlyIsLetGo: nobody is authenticated before the whole body is there.
func TestWhoSendsSlowlyIsLetGo(t *testing.T) {
	w := newWorld(t)
	w.Bodies(2, 50*time.Millisecond)
	s := httptest.NewServer(w.Handler())
	t.Cleanup(s.Close)
	code, body := answerOf(t, stalled(t, s.Listener.Addr().String()))
	require.Equal(t, http.StatusRequestTimeout, code)
	require.Contains(t, body, `"slow"`)
	require.Equal(t, int64(1), w.Refusals()["slow"])
}

// TestSlackIsHeardAmongConnectionsThatStall: the oldest of too many makes room.
func TestSlackIsHeardAmongConnectionsThatStall(t *testing.T) {
	w := newWorld(t)
	const most = 4
	w.Bodies(most, time.Hour)
	s := httptest.NewServer(w.Handler())
	t.Cleanup(s.Close)
	var conns []net.Conn
	for range most {
		conns = append(conns, stalled(t, s.Listener.Addr().String()))
	}
	require.Eventually(t, func() bool { return w.Reading() == most }, time.Minute, time.Millisecond)

	c := w.slash(alice, "list")
	resp, err := http.DefaultClient.Do(w.signed(c, s.URL))
	require.NoError(t, err)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusOK, resp.StatusCode, string(body))
	require.Contains(t, textOf(t, string(body)), known)
	require.Eventually(t, func() bool { return w.Refusals()["crowded"] == 1 }, time.Minute, time.Millisecond, "one of them was let go")
	require.Equal(t, most-1, w.Reading(), "and no more than that")
	for _, c := range conns {
		require.NoError(t, c.Close())
	}
	require.Eventually(t, func() bool { return w.Reading() == 0 }, time.Minute, time.Millisecond, "a place is given back")
}
