package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"sort"

	"rekey/internal/canon"
	"rekey/workflows"
)

// Expand adds to the items what the estate says of them, and the keys that they
// lead to in one step. Reachable counts everything that lies behind them.
func (e *Engine) Expand(_ context.Context, in workflows.ExpandInput) (workflows.ExpandResult, error) {
	out := workflows.ExpandResult{}
	have := map[string]bool{}
	for _, s := range in.Items {
		have[s.Key.FP] = true
	}
	for _, s := range in.Items {
		e.Estate.Describe(&s)
		out.Items = append(out.Items, s)
		next, err := e.Estate.Reach(s)
		if err != nil {
			return out, err
		}
		for _, n := range next {
			if have[n.Key.FP] {
				continue
			}
			have[n.Key.FP] = true
			e.Estate.Describe(&n)
			out.Items = append(out.Items, n)
		}
	}
	reach, err := e.closure(out.Items)
	if err != nil {
		return out, err
	}
	out.Reachable = reach
	sort.Slice(out.Items, func(i, j int) bool { return out.Items[i].Key.FP < out.Items[j].Key.FP })
	return out, nil
}

// closure counts the keys that can be reached from the items in any number of
// steps. Cycles are safe.
func (e *Engine) closure(items []workflows.Scoped) (int, error) {
	seen := map[string]bool{}
	queue := append([]workflows.Scoped{}, items...)
	for len(queue) > 0 {
		s := queue[0]
		queue = queue[1:]
		if seen[s.Key.FP] {
			continue
		}
		seen[s.Key.FP] = true
		next, err := e.Estate.Reach(s)
		if err != nil {
			return 0, err
		}
		queue = append(queue, next...)
	}
	return len(seen), nil
}

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
