package workflows

import (
	"fmt"
	"strings"
	"time"

	"go.temporal.io/sdk/workflow"

	"rekey/internal/view"
	"rekey/playbooks"
)

// harden asks the owner of a replaced item for what the playbook proposes:
// networks, lifetime, a smaller scope. This build leaves the doing to people, and
// keeps the incident from all-clear until it is done or declined.
func (it *item) harden(ctx workflow.Context) error {
	what := hardening(it.w.pb)
	if what == "" || it.newKey == "" || it.accepted != nil {
		return nil
	}
	_, _, err := it.w.human(ctx, it, view.Human{
		What: fmt.Sprintf("harden the replacement %s of %s: %s; or decline it with a reason and a date; then resolve", it.newKey, it.v.Short, what),
	}, time.Time{})
	return err
}

// hardening says what a playbook proposes for a replacement, "" for nothing.
func hardening(pb *playbooks.Playbook) string {
	h, narrow := pb.Harden, pb.Reissue.Narrow
	var parts []string
	if nets := append(append([]string{}, h.AllowFrom...), narrow.DenyUnlessSourceIP...); len(nets) > 0 {
		parts = append(parts, "allow it from "+strings.Join(nets, ", ")+" only")
	}
	if !h.Lifetime.IsZero() {
		parts = append(parts, "cap its life at "+h.Lifetime.String())
	}
	if h.Scope != "" {
		parts = append(parts, "cut its permissions ("+h.Scope+")")
	}
	return strings.Join(parts, "; ")
}
