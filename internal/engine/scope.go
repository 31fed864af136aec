package engine

import (
	"context"
	"encoding/json"
	"fmt"

	"rekey/internal/canon"
	"rekey/workflows"
)

// Preserve keeps each reading and report as a blob, so that what was known before
// the first destructive call can be shown afterwards. The same reading is the same
// blob.
func (e *Engine) Preserve(ctx context.Context, in workflows.PreserveInput) (workflows.PreserveResult, error) {
	var out workflows.PreserveResult
	put := func(name string, v any) error {
		b, err := canon.JSON(v)
		if err != nil {
			return err
		}
		h, err := e.Blobs.Put(ctx, b)
		if err != nil {
			return fmt.Errorf("keep evidence: %w", err)
		}
		out.Evidence = append(out.Evidence, workflows.Evidence{Name: name, Hash: h, Size: int64(len(b))})
		return nil
	}
	for i, r := range in.Readings {
		if err := put("reading-"+in.Items[i].Short()+".json", map[string]any{"key": in.Items[i], "reading": json.RawMessage(must(canon.JSON(r)))}); err != nil {
			return out, err
		}
	}
	for _, r := range in.Reports {
		if err := put("report-"+r.ID+".json", r); err != nil {
			return out, err
		}
	}
	return out, nil
}

// must is for marshalling our own plain types, which cannot fail.
func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}
