package worker

import (
	"context"
	"io"
	"log/slog"
	"strings"

	"rekey/internal/secret"
	"rekey/internal/trace"
)

// LogFormats are the values of --log-format.
func LogFormats() []string { return []string{"text", "json"} }

// NewLog writes structured lines to w: level debug, info, warn (also for "") or
// error, format text (also for "") or json. Each line names the incident it is
// about where that is known, and its trace.
func NewLog(w io.Writer, level, format string) *slog.Logger {
	var l slog.Level
	if level == "" || l.UnmarshalText([]byte(level)) != nil {
		l = slog.LevelWarn
	}
	o := &slog.HandlerOptions{Level: l}
	var h slog.Handler = slog.NewTextHandler(w, o)
	if format == "json" {
		h = slog.NewJSONHandler(w, o)
	}
	return slog.New(lines{Handler: h})
}

// lines adds to a line what its reader looks for: the incident of a Temporal
// workflow, which the SDK's lines name as WorkflowID only, and the trace.
type lines struct {
	slog.Handler
	named bool // the incident stands in an attribute already
}

// The SDK's names (go.temporal.io/sdk/internal, internal_logging_tags.go) and ours.
const (
	tagWorkflow = "WorkflowID"
	tagIncident = "incident"
)

func (h lines) Handle(ctx context.Context, rec slog.Record) error {
	var id string
	named := h.named
	rec.Attrs(func(a slog.Attr) bool {
		named = named || a.Key == tagIncident
		if a.Key == tagWorkflow {
			id = incidentOf(a.Value.String())
		}
		return true
	})
	traceID, spanID := trace.IDs(ctx)
	if (id == "" || named) && traceID == "" {
		return h.Handler.Handle(ctx, rec)
	}
	rec = rec.Clone()
	if id != "" && !named {
		rec.AddAttrs(slog.String(tagIncident, id))
	}
	if traceID != "" {
		rec.AddAttrs(slog.String("trace", traceID), slog.String("span", spanID))
	}
	return h.Handler.Handle(ctx, rec)
}

func (h lines) WithAttrs(attrs []slog.Attr) slog.Handler {
	named := h.named
	for _, a := range attrs {
		named = named || a.Key == tagIncident
	}
	if !named {
		for _, a := range attrs {
			if a.Key == tagWorkflow {
				if id := incidentOf(a.Value.String()); id != "" {
					attrs, named = append(attrs[:len(attrs):len(attrs)], slog.String(tagIncident, id)), true
				}
			}
		}
	}
	return lines{h.Handler.WithAttrs(attrs), named}
}

func (h lines) WithGroup(name string) slog.Handler {
	return lines{h.Handler.WithGroup(name), h.named}
}

// incidentOf is the incident of a workflow id, "" for other workflows.
func incidentOf(workflow string) string {
	rest, ok := strings.CutPrefix(workflow, "incident/")
	if !ok {
		return ""
	}
	id, _, _ := strings.Cut(rest, "/")
	if !secret.ValidIncident(id) {
		return ""
	}
	return id
}
