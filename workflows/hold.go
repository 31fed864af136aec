package workflows

import (
	"slices"
	"sort"
	"strings"

	"go.temporal.io/sdk/workflow"

	"rekey/internal/canon"
	"rekey/internal/event"
	"rekey/internal/statement"
	"rekey/internal/view"
)

// heldFPs lists the items that a hold names, of this incident or of rekey.yaml (see
// [incident.takeStandingHolds]). An expired hold still holds: only a person releases.
func (r *incident) heldFPs() []string {
	var out []string
	for _, h := range r.st.Holds {
		if h.State != "released" {
			out = append(out, h.Items...)
		}
	}
	sort.Strings(out)
	return slices.Compact(out)
}

// heldID tells whether a standing hold of rekey.yaml names a key.
func (r *incident) heldID(ctx workflow.Context, id string) bool {
	now := r.clk.Now(ctx)
	return slices.ContainsFunc(r.set.Holds, func(h StandingHold) bool {
		return h.KeyID == id && (h.Until.IsZero() || now.Before(h.Until))
	})
}

// takeStandingHolds makes a hold of the incident out of each standing one that
// names an item: from then on it expires, pages and is released like any other.
func (r *incident) takeStandingHolds(ctx workflow.Context) {
	for i, h := range r.set.Holds {
		id := "standing" + itoa(i+1)
		if slices.ContainsFunc(r.st.Holds, func(o HoldState) bool { return o.ID == id }) || !r.heldID(ctx, h.KeyID) {
			continue
		}
		for _, s := range r.st.Items {
			if s.Key.ID != h.KeyID {
				continue
			}
			r.st.Holds = append(r.st.Holds, HoldState{ID: id, Items: []string{s.Key.FP}, By: h.By, Why: h.Why, Until: h.Until, State: "open"})
			record(ctx, r.clk.Now(ctx), event.Event{Type: event.EventHoldSet, Actor: h.By, FP: s.Key.FP, Attrs: map[string]string{"hold": id, "items": s.Key.Short(), "why": h.Why, "until": canon.Time(h.Until)}})
			r.tellHolds(ctx, []string{s.Key.FP}, cmdHold)
			break
		}
	}
}

// takeRowHolds does the same for rows, once for each part of the mass that was read.
func (r *incident) takeRowHolds(ctx workflow.Context) error {
	m := r.st.Mass
	if m == nil || len(r.set.Holds) == 0 {
		return nil
	}
	read := 0
	for _, p := range m.Parts {
		if p.Read != "" {
			read++
		}
	}
	if read == m.HoldsOf {
		return nil
	}
	var names []string
	for i, h := range r.set.Holds {
		known := slices.ContainsFunc(r.st.Holds, func(o HoldState) bool { return o.ID == "standing"+itoa(i+1) })
		if !known && r.heldID(ctx, h.KeyID) {
			names = append(names, h.KeyID)
		}
	}
	found := FindResult{}
	if len(names) > 0 {
		var err error
		if found, err = r.find(ctx, names); err != nil {
			return err
		}
	}
	m.HoldsOf = read
	for i, h := range r.set.Holds {
		row, ok := found.Rows[h.KeyID]
		if !ok {
			continue
		}
		id := "standing" + itoa(i+1)
		r.st.Holds = append(r.st.Holds, HoldState{ID: id, Items: []string{row.FP}, By: h.By, Why: h.Why, Until: h.Until, State: "open"})
		record(ctx, r.clk.Now(ctx), event.Event{Type: event.EventHoldSet, Actor: h.By, FP: row.FP, Attrs: map[string]string{"hold": id, "items": row.Key().Short(), "why": h.Why, "until": canon.Time(h.Until)}})
		r.tellHolds(ctx, []string{row.FP}, cmdHold)
	}
	return nil
}

func (r *incident) allHeld(fps []string) bool {
	held := r.heldFPs()
	return len(fps) > 0 && !slices.ContainsFunc(fps, func(fp string) bool { return !slices.Contains(held, fp) })
}

// holder says who holds an item.
func (r *incident) holder(fp string) string {
	for _, h := range r.st.Holds {
		if h.State != "released" && slices.Contains(h.Items, fp) {
			return h.By
		}
	}
	return "commander"
}

// tellHolds passes a hold or release on to the waves that move the items.
func (r *incident) tellHolds(ctx workflow.Context, fps []string, kind string) {
	for _, w := range r.st.Waves {
		if w.State != waveRunning {
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
	r.tellMass(ctx, fps, WaveCommand{Kind: kind})
}

func (r *incident) doHold(ctx workflow.Context, s statement.Statement, _ string) (Decision, *refusal) {
	fps, no := r.itemsOf(ctx, s)
	if no != nil {
		return Decision{}, no
	}
	switch {
	case len(fps) == 0:
		return Decision{}, &refusal{view.CodeInvalid, "a hold names its items", "give --item"}
	case s.Text == "":
		return Decision{}, &refusal{view.CodeInvalid, "a hold needs a reason", "give --reason"}
	case !s.Until.After(r.clk.Now(ctx)):
		return Decision{}, &refusal{view.CodeInvalid, "a hold needs an end in the future", "give --until"}
	}
	h := HoldState{ID: "hold" + itoa(len(r.st.Holds)+1), Items: fps, By: s.Actor, Why: s.Text, Until: s.Until, State: "open"}
	r.st.Holds = append(r.st.Holds, h)
	r.tellHolds(ctx, fps, cmdHold)
	r.st.Replan = true
	record(ctx, r.clk.Now(ctx), event.Event{Type: event.EventHoldSet, Actor: s.Actor, Auth: s.Method, Attrs: map[string]string{"hold": h.ID, "items": strings.Join(shorts(fps), ","), "why": h.Why, "until": canon.Time(h.Until)}})
	return Decision{ID: h.ID, State: h.State}, nil
}

func (r *incident) doRelease(ctx workflow.Context, s statement.Statement, _ string) (Decision, *refusal) {
	fps, no := r.itemsOf(ctx, s)
	if no != nil {
		return Decision{}, no
	}
	found := false
	for i := range r.st.Holds {
		h := &r.st.Holds[i]
		if h.State == "released" || (s.Task != "" && h.ID != s.Task) {
			continue
		}
		if s.Task == "" && !slices.ContainsFunc(h.Items, func(fp string) bool { return slices.Contains(fps, fp) }) {
			continue
		}
		found = true
		h.State = "released"
		r.lapseTask(ctx, h.Task)
		fps = append(fps, h.Items...)
		record(ctx, r.clk.Now(ctx), event.Event{Type: event.EventHoldReleased, Actor: s.Actor, Auth: s.Method, Attrs: map[string]string{"hold": h.ID, "why": s.Text}})
	}
	if !found {
		return Decision{}, &refusal{view.CodeNotFound, "no such hold", "`rekey incident show " + r.in.ID + "` lists the holds"}
	}
	held := r.heldFPs()
	var free []string
	for _, fp := range fps {
		if !slices.Contains(held, fp) {
			free = append(free, fp)
		}
	}
	r.tellHolds(ctx, free, cmdRelease)
	r.st.Replan = true
	return Decision{State: "released"}, nil
}
