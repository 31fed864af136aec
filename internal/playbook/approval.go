package playbook

import (
	"fmt"
	"slices"
	"time"

	"rekey/activities"
	"rekey/playbooks"
)

// Longest break-glass and longest time until its review (design section 3).
const (
	breakGlassWindow = playbooks.Duration(15 * time.Minute)
	breakGlassReview = playbooks.Duration(24 * time.Hour)
)

// peopleOnly are the approvals that policy never gives (design section 3 and
// section 14).
var peopleOnly = []string{
	playbooks.ApproveIrreversible, playbooks.ApproveRung, playbooks.ApproveRestore, playbooks.ApproveBreakGlass,
}

// onlookers may look or report, so a vote of theirs is none (contracts section 1:
// e-mail and Slack groups give no more than these).
var onlookers = []playbooks.Role{playbooks.RoleViewer, playbooks.RoleReporter, playbooks.RoleAuditor}

// approvals checks who must agree.
func (c *checker) approvals() {
	for _, name := range c.pb.ApprovalNames() {
		c.approval(name, c.pb.Approvals[name])
	}
	if !c.has("approvals") || c.broken("approvals") {
		return
	}
	_, hasIrreversible := c.pb.Approvals[playbooks.ApproveIrreversible]
	asked := map[playbooks.StrategyName]bool{}
	for i, r := range c.pb.Decide {
		at := fmt.Sprintf("decide[%d]", i)
		if !r.Strategy.Moves() || asked[r.Strategy] {
			continue
		}
		asked[r.Strategy] = true
		if _, given := c.pb.Approvals[string(r.Strategy)]; given {
			continue // its own problems are told there
		}
		msg := fmt.Sprintf("nobody is named to approve %s", r.Strategy)
		if hasIrreversible {
			c.warn(codeNoApproval, at, msg+": the votes of approvals.irreversible apply", fmt.Sprintf("add approvals.%s", r.Strategy))
			continue
		}
		c.problem(codeNoApproval, at, msg, fmt.Sprintf("add approvals.%s", r.Strategy))
	}
	if _, ok := c.pb.Approvals[playbooks.ApproveRung]; !ok && len(c.pb.Ladder.Approved) > 0 {
		c.problem(codeNoApproval, "ladder.approved", "nobody is named to approve these rungs", "add approvals.rung")
	}
}

// restore warns where a complaint could be answered by a Restore that nobody is named
// to approve. A provider without the verb has none to approve.
func (c *checker) restore(info ProviderInfo) {
	if _, ok := c.pb.Approvals[playbooks.ApproveRestore]; ok {
		return
	}
	if info != nil {
		if d, ok := info.Descriptor(c.pb.Match.Provider); ok && !slices.ContainsFunc(d.Kinds, func(k activities.KindInfo) bool {
			_, has := k.Verbs[activities.Restore]
			return has
		}) {
			return
		}
	}
	for i, r := range c.pb.Decide {
		if slices.Contains(c.pb.Strategy(r.Strategy).Steps, playbooks.StepWaitQuiet) {
			c.warn(codeNoApproval, fmt.Sprintf("decide[%d]", i), "it waits for complaints, and nobody is named to approve a Restore", "add approvals.restore")
			return
		}
	}
}

func (c *checker) approval(name string, a playbooks.Approval) {
	at := "approvals." + name
	if !slices.Contains(playbooks.ApprovalNames(), name) {
		c.problemAtKey(codeApprovalName, at, fmt.Sprintf("nothing is approved under %q", name), suggest(name, playbooks.ApprovalNames()))
		return
	}
	if c.broken(at) {
		return
	}
	for _, list := range []struct {
		key   string
		roles []playbooks.Role
	}{{"roles", a.Roles}, {"escalate_to", a.EscalateTo}} {
		words(c, codeRole, at+"."+list.key, list.roles, playbooks.Roles())
		for i, r := range list.roles {
			if slices.Contains(onlookers, r) {
				c.problem(codeVoter, fmt.Sprintf("%s.%s[%d]", at, list.key, i), fmt.Sprintf("%q may look or report, not vote", r), "name a role that may decide")
			}
		}
	}
	c.positive(at+".expires", a.Expires)
	if a.Policy {
		switch {
		case slices.Contains(peopleOnly, name):
			c.problem(codePolicy, at+".policy", fmt.Sprintf("%s is never approved by policy", name), "name roles and a quorum")
		case len(a.Roles) > 0 || a.Quorum > 0:
			c.problem(codePolicy, at+".policy", "policy: true together with votes", "keep one of them")
		}
		return
	}
	if len(a.Roles) == 0 && !c.has(at+".roles") {
		c.problem(codeQuorum, at, "nobody may vote", "add roles")
	}
	if name == playbooks.ApproveBreakGlass {
		c.breakGlass(at, a)
		return
	}
	if a.Quorum < 1 && !c.broken(at+".quorum") {
		c.problem(codeQuorum, at, "the quorum must be 1 or more", "add quorum: 2")
	}
	if !c.has(at + ".expires") {
		c.problem(codeExpiry, at, "the votes never expire", "add expires: 30m")
	}
	if a.OnExpiry != playbooks.OnExpiryEscalate && !c.broken(at+".on_expiry") {
		c.problem(codeEscalation, at, "an expired approval must escalate: it never goes ahead and is never dropped", "add on_expiry: escalate")
	}
	if len(a.EscalateTo) == 0 && !c.has(at+".escalate_to") {
		c.problem(codeEscalation, at, "nobody is named to escalate to", "add escalate_to: [admin]")
	}
}

func (c *checker) breakGlass(at string, a playbooks.Approval) {
	if (a.Window <= 0 || a.Window > breakGlassWindow) && !c.broken(at+".window") {
		c.problem(codeBreakGlass, at, "break-glass lasts at most 15m", "add window: 15m")
	}
	if (a.ReviewWithin <= 0 || a.ReviewWithin > breakGlassReview) && !c.broken(at+".review_within") {
		c.problem(codeBreakGlass, at, "somebody else reviews break-glass within 24h", "add review_within: 24h")
	}
}
