package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"github.com/stretchr/testify/require"

	"rekey/internal/view"
)

// scripted reads an incident of a script, so that drawings and scripts show the same.
func scripted(t *testing.T, script, name string) view.Incident {
	t.Helper()
	ar, err := txtar.ParseFile(filepath.Join("testdata", "script", script))
	require.NoError(t, err)
	for _, f := range ar.Files {
		if f.Name == name {
			var v view.Incident
			require.NoError(t, json.Unmarshal(f.Data, &v))
			return v
		}
	}
	t.Fatalf("no file %s in %s", name, script)
	return view.Incident{}
}

// Whatever the size of the terminal: nothing is wider or higher than it, the verdict
// is there, and a command is whole or not there at all.
func TestFrameFitsEveryTerminal(t *testing.T) {
	v := scripted(t, "watch.txtar", "api/incidents/inc-7f3a9c2e41d0.1.json")
	for _, colour := range []palette{false, true} {
		for _, size := range [][2]int{{200, 60}, {100, 40}, {80, 24}, {60, 22}, {40, 12}, {30, 5}, {20, 3}} {
			lines := frame(v, now(), colour, size[0], size[1])
			require.LessOrEqual(t, len(lines), max(size[1]-1, 1), "%v", size)
			for i, l := range lines {
				if strings.HasPrefix(l, commandIndent) && columns(l) > size[0] {
					continue // one word wider than the terminal cannot be broken
				}
				if size[0] >= 60 {
					require.LessOrEqual(t, columns(l), size[0], "%v line %d: %q", size, i, l)
				}
			}
			require.False(t, strings.HasSuffix(lines[len(lines)-1], continued), "%v ends in half a command", size)
			require.Contains(t, lines[0], v.ID)
		}
	}
	narrow := strings.Join(frame(v, now(), false, 60, 30), "\n")
	require.Contains(t, narrow, "      $ rekey incident approve inc-7f3a9c2e41d0 --wave \\\n          3f9a0c41d2e8b756\n", "it can be copied as it stands")
	require.Contains(t, narrow, "it\n    waits for 1 vote", "the verdict is never cut")
	low := strings.Join(frame(v, now(), false, 100, 22), "\n")
	require.Contains(t, low, "$ rekey incident approve", "what waits for a person goes before the bars")
	require.NotContains(t, low, "preserve")
}

func TestDrawnOverAfterResize(t *testing.T) {
	v := scripted(t, "watch.txtar", "api/incidents/inc-7f3a9c2e41d0.1.json")
	width := 100
	var out strings.Builder
	d := &drawnProgress{io: IOStreams{Now: now, Size: func() (int, int) { return width, 40 }}, out: &out}
	require.NoError(t, d.show(v, nil))
	require.NotContains(t, out.String(), eraseAll, "the first frame leaves what is above it alone")
	rows := d.rows
	out.Reset()
	require.NoError(t, d.show(v, nil))
	require.Equal(t, rows-1, strings.Count(out.String(), "\n"))
	require.Contains(t, out.String(), fmt.Sprintf("\x1b[%dA", rows-1), "up to its first line")
	width = 70
	out.Reset()
	require.NoError(t, d.show(v, nil))
	require.Contains(t, out.String(), eraseAll, "a frame that has wrapped has no place: start anew")
}

func TestCleanText(t *testing.T) {
	for in, want := range map[string]string{
		"plain\ttext\n":      "plain\ttext\n",
		"\x1b]0;owned\x07":   "?]0;owned?",
		"a\u202egnp.exe":     "a?gnp.exe",
		"\u0085next":         "?next",
		"Grüße, 東京":          "Grüße, 東京",
		"bad \xff utf-8":     "bad ? utf-8",
		"\r\x1b[2Krewritten": "??[2Krewritten",
	} {
		require.Equal(t, want, clean(in))
	}
	v := view.Incident{ID: "\x1b", Links: map[string]string{"a": "\x1b"}, Items: []view.Item{{Outcomes: []view.Outcome{{Detail: "\x1b"}}}}, Bundle: &view.Bundle{Path: "\x1b"}}
	cleanAll(&v)
	require.Equal(t, []string{"?", "?", "?", "?"}, []string{v.ID, v.Links["a"], v.Items[0].Outcomes[0].Detail, v.Bundle.Path}, "no field is forgotten")
}

func TestClientIsBounded(t *testing.T) {
	var posts, gets atomic.Int64
	var other *httptest.Server
	stolen := make(chan string, 10)
	other = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { stolen <- r.Header.Get("Authorization") }))
	defer other.Close()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/api/v1/redirect":
			http.Redirect(w, r, other.URL, http.StatusFound)
		case "/api/v1/huge":
			_, _ = io.CopyN(w, endless{}, maxAnswer+2)
		case "/api/v1/cut":
			if r.Method == http.MethodPost {
				posts.Add(1)
			} else {
				gets.Add(1)
			}
			panic(http.ErrAbortHandler)
		}
	}))
	s.Config.ErrorLog = nil
	defer s.Close()
	c, err := newClient(s.URL, "token", nil)
	require.NoError(t, err)
	c.pause = func(context.Context, int) error { return nil }
	ctx := context.Background()
	var out map[string]any

	_, err = c.get(ctx, "/redirect", nil, &out)
	require.Error(t, err)
	require.Empty(t, stolen, "the token goes to no other host")

	_, err = c.get(ctx, "/huge", nil, &out)
	require.ErrorContains(t, err, "larger than 64 MiB")

	_, err = c.get(ctx, "/cut", url.Values{}, &out)
	require.Equal(t, CodeUnreachable, asError(err).Code)
	require.EqualValues(t, tries, gets.Load(), "a reading call is repeated")
	_, err = c.post(ctx, "/cut", map[string]string{}, &out)
	require.Equal(t, CodeUnreachable, asError(err).Code)
	require.ErrorContains(t, err, "it may have been accepted")
	require.EqualValues(t, 1, posts.Load(), "a call that decides is made once")
}

type endless struct{}

func (endless) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = ' '
	}
	return len(b), nil
}

// A secret typed at a terminal is asked for without an echo.
func TestSecretFromTerminal(t *testing.T) {
	var err strings.Builder
	a := &app{io: IOStreams{InTTY: true, Err: &err, ReadPassword: func() ([]byte, error) { return []byte("typed"), nil }}}
	v, e := a.readSecret(reportFlags{secretStdin: true})
	require.NoError(t, e)
	require.Equal(t, "typed", string(v.Reveal()))
	require.NotContains(t, err.String(), "typed")

	a.io.ReadPassword = func() ([]byte, error) { return nil, errors.New("no terminal") }
	_, e = a.readSecret(reportFlags{secretStdin: true})
	require.Equal(t, ExitUsage, asError(e).exit())

	_, e = a.readSecret(reportFlags{secretFile: writeFile(t, strings.Repeat("x", maxSecret+1))})
	require.Equal(t, ExitUsage, asError(e).exit())
}

func writeFile(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
	return name
}

func TestSpan(t *testing.T) {
	for n, want := range map[int64]string{0: "0ms", 999: "999ms", 41000: "41s", 90000: "1m30s", 120000: "2m", 3600000: "1h", 90000000: "25h", 345600000: "4d", 349200000: "4d1h"} {
		require.Equal(t, want, ms(n))
	}
}
