package workflows

import (
	"slices"
	"sort"

	"go.temporal.io/sdk/workflow"

	"rekey/internal/plan"
)

// heldFPs lists the items that a hold names, of this incident or of rekey.yaml. An
// expired hold still holds: only a person releases.
func (r *incident) heldFPs(ctx workflow.Context) []string {
	var out []string
	for _, h := range r.st.Holds {
		if h.State != "released" {
			out = append(out, h.Items...)
		}
	}
	now := r.clk.Now(ctx)
	for _, h := range r.set.Holds {
		if !h.Until.IsZero() && now.After(h.Until) {
			continue
		}
		for _, s := range r.st.Items {
			if s.Key.ID == h.KeyID {
				out = append(out, s.Key.FP)
			}
		}
	}
	sort.Strings(out)
	return slices.Compact(out)
}

func (r *incident) allHeld(ctx workflow.Context, w plan.Wave) bool {
	held := r.heldFPs(ctx)
	for _, it := range w.Items {
		if !slices.Contains(held, it.Key.FP) {
			return false
		}
	}
	return len(w.Items) > 0
}

// holder says who holds an item.
func (r *incident) holder(fp string) string {
	for _, h := range r.st.Holds {
		if h.State != "released" && slices.Contains(h.Items, fp) {
			return h.By
		}
	}
	if s := r.item(fp); s != nil {
		for _, h := range r.set.Holds {
			if h.KeyID == s.Key.ID {
				return h.By
			}
		}
	}
	return "commander"
}

// tellHolds passes a hold or release on to the waves that move the items.
func (r *incident) tellHolds(ctx workflow.Context, fps []string, kind string) {
	for _, w := range r.st.Waves {
		if w.State != "running" {
			continue
		}
		var mine []string
		for _, it := range w.Wave.Items {
			if slices.Contains(fps, it.Key.FP) {
				mine = append(mine, it.Key.FP)
			}
		}
		if len(mine) > 0 {
			r.command(ctx, w.Wave.N, WaveCommand{Kind: kind, FPs: mine})
		}
	}
}
