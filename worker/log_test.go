package worker

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"rekey/internal/secret/redact"
)

// logged runs f with a logger as a process has it and gives its lines.
func logged(t *testing.T, level string, f func(*slog.Logger)) []map[string]any {
	t.Helper()
	var out bytes.Buffer
	r, err := redact.New(redact.Options{Patterns: redact.Generic()})
	require.NoError(t, err)
	f(slog.New(r.Handler(NewLog(&out, level, "json").Handler())))
	var lines []map[string]any
	for d := json.NewDecoder(&out); d.More(); {
		var line map[string]any
		require.NoError(t, d.Decode(&line))
		lines = append(lines, line)
	}
	return lines
}

func TestALineNamesItsIncident(t *testing.T) {
	const id = "inc-7f3a9c2e41d0"
	got := logged(t, "info", func(l *slog.Logger) {
		l.Info("of the SDK", "WorkflowID", "incident/"+id+"/wave/3")
		l.With("WorkflowID", "incident/"+id).Info("of the SDK, with")
		l.Info("ours", "incident", id, "WorkflowID", "incident/"+id)
		l.With("incident", id).Info("ours, with", "WorkflowID", "incident/"+id)
		l.Info("a register", "WorkflowID", "register/3f")
		l.Info("not an incident's", "WorkflowID", "incident/../../etc")
	})
	require.Len(t, got, 6)
	for i, line := range got[:4] {
		require.Equal(t, id, line["incident"], "line %d", i)
	}
	for _, line := range got[4:] {
		require.NotContains(t, line, "incident")
	}
}

func TestLevelAndFormatAreObeyed(t *testing.T) {
	say := func(l *slog.Logger) { l.Debug("d"); l.Info("i"); l.Warn("w"); l.Error("e") }
	require.Len(t, logged(t, "debug", say), 4)
	require.Len(t, logged(t, "error", say), 1)
	require.Len(t, logged(t, "", say), 2, "warn is the default")
	var text bytes.Buffer
	NewLog(&text, "warn", "text").Warn("w", "a", 1)
	require.Contains(t, text.String(), "level=WARN msg=w a=1")
}

// Whatever the format, the redactor is before it.
func TestJSONLinesAreRedacted(t *testing.T) {
	secret := "ghp_" + "0123456789abcdefghijABCDEFGHIJ012345"
	got := logged(t, "info", func(l *slog.Logger) { l.Info("token "+secret, "header", secret) })
	b, err := json.Marshal(got)
	require.NoError(t, err)
	require.NotContains(t, string(b), secret)
}
