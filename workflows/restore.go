package workflows

import (
	"slices"
	"time"

	"go.temporal.io/sdk/workflow"

	"rekey/activities"
	"rekey/internal/canon"
	"rekey/internal/statement"
	"rekey/internal/view"
	"rekey/playbooks"
)

// doRestore opens the question whether a disabled key may work again for a while.
// It takes two people, once per item, and is refused while abuse is fresh.
func (r *incident) doRestore(ctx workflow.Context, s statement.Statement, _ string) (Decision, *refusal) {
	const longest = 60 * time.Minute // capability C37
	need := r.pb.Approvals[playbooks.ApproveRestore]
	fps, no := r.itemsOf(ctx, s)
	if no != nil {
		return Decision{}, no
	}
	now := r.clk.Now(ctx)
	if len(fps) != 1 || !s.Until.After(now) || s.Until.After(now.Add(longest)) {
		return Decision{}, &refusal{view.CodeInvalid, "Restore takes one item and an end within 60 minutes", "give one --item and --until"}
	}
	v := r.viewOf(fps[0])
	it := r.item(fps[0])
	info, ok := r.set.Kinds[it.Key.Provider+"/"+it.Key.Kind].Verbs[activities.Restore]
	w := r.waveN(v.Wave)
	switch {
	case !ok || info.Support != activities.ByAPI:
		return Decision{}, &refusal{view.CodeInvalid, "the provider cannot end a Restore by itself, so it is not offered", "issue a new key instead"}
	case w == nil || w.State != waveRunning || w.Wave.Strategy != playbooks.DisableAndWatch || v.Step != string(playbooks.StepWaitQuiet):
		return Decision{}, &refusal{view.CodeInvalid, "only a key in its quiet time can be restored", "issue a new key instead"}
	case r.freshAbuse(fps[0], now):
		return Decision{}, &refusal{view.CodeInvalid, "abuse was seen within 24 h", "issue a new key instead"}
	}
	for i := range r.st.Approvals {
		if a := &r.st.Approvals[i]; a.For == playbooks.ApproveRestore && slices.Equal(a.Items, fps) {
			return Decision{}, &refusal{view.CodeInvalid, "Restore is offered once per item, as " + a.ID, "vote on it, or issue a new key"}
		}
	}
	if _, no := pickRole(r.person(s.Actor), s.Role, roleNames(need.Roles)); no != nil {
		return Decision{}, no
	}
	r.open(ctx, need, Approval{For: playbooks.ApproveRestore, Wave: v.Wave, WaveHash: w.Wave.Hash, What: "enable " + v.Short + " until " + canon.Time(s.Until), Items: fps, Until: s.Until, By: s.Actor, Text: s.Text})
	return r.castFirst(ctx, s)
}

func (r *incident) freshAbuse(fp string, now time.Time) bool {
	s := r.item(fp)
	if s == nil || s.Reading == nil {
		return false
	}
	return slices.ContainsFunc(s.Reading.Uses, func(u activities.Use) bool { return u.Malicious && now.Sub(u.Last) < 24*time.Hour })
}
