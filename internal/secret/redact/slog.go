package redact

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
)

// Handler wraps a slog.Handler: messages, keys and values at any depth are
// redacted before they reach it. Values that are not plain (structs, maps,
// errors) become what their JSON or text shows, so that nothing is rendered after
// the redaction.
func (r *Redactor) Handler(next slog.Handler) slog.Handler { return handler{r, next} }

type handler struct {
	r    *Redactor
	next slog.Handler
}

func (h handler) Enabled(ctx context.Context, l slog.Level) bool { return h.next.Enabled(ctx, l) }

func (h handler) Handle(ctx context.Context, rec slog.Record) error {
	clean := slog.NewRecord(rec.Time, rec.Level, h.r.String(rec.Message), rec.PC)
	rec.Attrs(func(a slog.Attr) bool {
		clean.AddAttrs(h.attr(a))
		return true
	})
	return h.next.Handle(ctx, clean)
}

func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	clean := make([]slog.Attr, len(attrs))
	for i, a := range attrs {
		clean[i] = h.attr(a)
	}
	return handler{h.r, h.next.WithAttrs(clean)}
}

func (h handler) WithGroup(name string) slog.Handler {
	return handler{h.r, h.next.WithGroup(h.r.String(name))}
}

func (h handler) attr(a slog.Attr) slog.Attr {
	v := a.Value.Resolve()
	out := slog.Attr{Key: h.r.String(a.Key)}
	switch v.Kind() {
	case slog.KindString:
		out.Value = slog.StringValue(h.r.String(v.String()))
	case slog.KindGroup:
		group := v.Group()
		clean := make([]slog.Attr, len(group))
		for i, a := range group {
			clean[i] = h.attr(a)
		}
		out.Value = slog.GroupValue(clean...)
	case slog.KindAny:
		out.Value = h.any(v.Any())
	default: // bool, numbers, times: nothing to hide in
		out.Value = v
	}
	return out
}

func (h handler) any(v any) (out slog.Value) {
	defer func() {
		if recover() != nil { // a nil pointer whose method does not expect it
			out = slog.StringValue(fmt.Sprintf("%T that cannot be shown", v))
		}
	}()
	switch v := v.(type) {
	case nil:
		return slog.AnyValue(nil)
	case error:
		return slog.StringValue(h.r.String(v.Error()))
	case []byte:
		return slog.StringValue(h.r.String(string(v)))
	case fmt.Stringer:
		return slog.StringValue(h.r.String(v.String()))
	}
	b, err := json.Marshal(v)
	if err != nil { // as with a secret.Value inside
		return slog.StringValue(h.r.String(fmt.Sprintf("%+v", v)))
	}
	var tree any
	d := json.NewDecoder(bytes.NewReader(h.r.replace(b)))
	d.UseNumber()
	if err := d.Decode(&tree); err != nil {
		return slog.StringValue(h.r.String(string(b)))
	}
	return slog.AnyValue(h.tree(tree))
}

// tree redacts leaf by leaf what the JSON as a whole did not show.
func (h handler) tree(v any) any {
	switch v := v.(type) {
	case string:
		return h.r.String(v)
	case []any:
		for i := range v {
			v[i] = h.tree(v[i])
		}
	case map[string]any:
		clean := make(map[string]any, len(v))
		for k, e := range v {
			clean[h.r.String(k)] = h.tree(e)
		}
		return clean
	}
	return v
}
