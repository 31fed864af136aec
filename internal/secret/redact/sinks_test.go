package redact_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/internal/secret"
	"rekey/internal/secret/redact"
)

type deep struct {
	Name  string
	Inner *deep
	List  []string
	Map   map[string]any
	Raw   []byte
	Big   int64
}

type stringer string

func (s stringer) String() string { return string(s) }

type lazy string

func (l lazy) LogValue() slog.Value { return slog.GroupValue(slog.String("inner", string(l))) }

type nilPanics struct{ s string }

func (n *nilPanics) String() string { return n.s }

func TestLogsAtAnyDepth(t *testing.T) {
	for range 20 {
		s := random(t, 40)
		r := redactor(t, redact.Options{})
		_, err := r.Add("k", secret.New([]byte(s)))
		require.NoError(t, err)
		var b bytes.Buffer
		opts := &slog.HandlerOptions{AddSource: true, Level: slog.LevelDebug}
		for _, h := range []slog.Handler{slog.NewTextHandler(&b, opts), slog.NewJSONHandler(&b, opts)} {
			log := slog.New(r.Handler(h)).With("with", s, s, "as key").WithGroup("g" + s)
			log.Info("message "+s, "str", s, "err", fmt.Errorf("x: %w", errors.New(s)), "bytes", []byte(s), "stringer", stringer(s), "lazy", lazy(s),
				"deep", deep{Name: s, Inner: &deep{Name: s, Raw: []byte("pp" + s)}, List: []string{s}, Map: map[string]any{s: s}, Big: 1<<62 + 1},
				"ptr", &deep{Name: s}, "secret", struct{ V secret.Value }{secret.New([]byte(s))}, "any", []any{s, map[string]string{"a": s}},
				slog.Group("group", slog.Group("group", "v", s)), "n", 7, "t", time.Unix(0, 0).UTC(), "nil", nil, "chan", make(chan int), "np", (*nilPanics)(nil))
		}
		out := b.String()
		require.NotContains(t, out, s)
		require.NotContains(t, out, s[10:30])
		require.Contains(t, out, "message [redacted:k]")
		require.Contains(t, out, `"n":7`)
		require.Contains(t, out, "4611686018427387905", "integers stay what they are")
		require.Contains(t, out, "sinks_test.go", "the source is the caller's")
		require.NotContains(t, out, "PANIC")
	}
	require.False(t, redactor(t, redact.Options{}).Handler(slog.NewTextHandler(&bytes.Buffer{}, nil)).Enabled(context.Background(), slog.LevelDebug))
}

func TestAPairAcrossFieldsOfOneValue(t *testing.T) {
	s := random(t, 40)
	var b bytes.Buffer
	log := slog.New(redactor(t, redact.Options{}).Handler(slog.NewJSONHandler(&b, nil)))
	log.Info("answer", "body", map[string]string{"id": "AKIAIOSFODNN7EXAMPLE", "x": s})
	require.NotContains(t, b.String(), s)
	require.Contains(t, b.String(), "AKIAIOSFODNN7EXAMPLE")
}

// counting records each write, to see that nothing is emitted early.
type counting struct {
	bytes.Buffer
	err error
}

func (c *counting) Write(b []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	return c.Buffer.Write(b)
}

func TestASecretSplitOverWrites(t *testing.T) {
	s, key := random(t, 40), pemKey(t)
	text := "line one\nkey " + s + " end\n" + key + "tail without newline " + s
	r := redactor(t, redact.Options{})
	_, err := r.Add("k", secret.New([]byte(s)))
	require.NoError(t, err)
	want := r.String(text)
	require.NotContains(t, want, s)
	for size := 1; size <= len(text); size++ {
		var out counting
		w := r.Writer(&out)
		for rest := text; rest != ""; {
			n := min(size, len(rest))
			got, err := w.Write([]byte(rest[:n]))
			require.NoError(t, err)
			require.Equal(t, n, got)
			rest = rest[n:]
		}
		require.NoError(t, w.Flush())
		require.NoError(t, w.Flush())
		require.Equal(t, want, out.String(), "written %d bytes at a time", size)
	}
}

func TestAWriterHoldsBackOnlySoMuch(t *testing.T) {
	s := random(t, 40)
	r := redactor(t, redact.Options{})
	_, err := r.Add("k", secret.New([]byte(s)))
	require.NoError(t, err)
	var out counting
	w := r.Writer(&out)
	unit := strings.Repeat("x", 1000) + s
	for range 600 {
		_, err := w.Write([]byte(unit))
		require.NoError(t, err)
	}
	require.NotZero(t, out.Len(), "a text without newlines does not fill the memory")
	require.NoError(t, w.Flush())
	require.NotContains(t, out.String(), s[:20])
	require.NotContains(t, out.String(), s[20:])
	require.Equal(t, 600, strings.Count(out.String(), "[redacted:k]"))

	out.err = errors.New("closed")
	_, err = w.Write([]byte("line\n"))
	require.ErrorIs(t, err, out.err)
}
