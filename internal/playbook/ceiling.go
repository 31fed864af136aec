package playbook

import (
	"fmt"
	"slices"

	"rekey/playbooks"
)

// Ceilings are the bounds of rekey.yaml that a playbook can only tighten (contracts
// section 1). The zero value bounds nothing.
type Ceilings struct {
	// Irreversible is the least that Revoke and accept-risk need. OutsideSlack bounds
	// votes, not playbooks: it is applied when votes are counted.
	Irreversible Quorum
	// Rates are the most calls per limit, by the playbook's names ("awsiam.write").
	Rates map[string]playbooks.Rate
	// Pinned: only playbooks whose digest is in Pins may run. Playbooks that ship with
	// this build are pinned by it.
	Pinned bool
	// Pins are digests by playbook name.
	Pins map[string][]string
}

// A Quorum is a number of votes, of which some outside Slack.
type Quorum struct {
	Quorum       int
	OutsideSlack int
}

// CheckCeilings tells where a playbook is looser than its ceilings. Problems carry
// the playbook's name as file and no position: the mistake may be in either file.
func CheckCeilings(pb *playbooks.Playbook, ceilings Ceilings) Problems {
	var ps Problems
	add := func(code Code, path, msg, fix string) {
		ps = append(ps, Problem{File: pb.Name, Line: 1, Col: 1, Code: code, Path: path, Message: msg, Fix: fix})
	}
	need := ceilings.Irreversible.Quorum
	// Revoke waits for these votes whatever approved the strategy, and a rung above
	// key is no less than a Revoke (design section 14).
	for _, name := range []string{playbooks.ApproveIrreversible, playbooks.ApproveRung, playbooks.ApproveRestore} {
		a, given := pb.Approvals[name]
		if given && a.Quorum < need {
			add(codeCeiling, "approvals."+name+".quorum", fmt.Sprintf("%d is less than ceilings.irreversible.quorum %d", a.Quorum, need), fmt.Sprintf("write %d or more", need))
		}
	}
	for _, name := range pb.RateNames() {
		most, ok := ceilings.Rates[name]
		if !ok {
			continue
		}
		got, per, err := pb.Rates[name].Parse()
		limit, limitPer, limitErr := most.Parse()
		if err != nil || limitErr != nil {
			add(codeRate, "rates."+name, "one of the rates cannot be read", "write 10/s")
			continue
		}
		// got/per > limit/limitPer without division: both sides are below 2^31 * 1 h.
		if got*int64(limitPer.Seconds()) > limit*int64(per.Seconds()) {
			add(codeCeiling, "rates."+name, fmt.Sprintf("%s is more than the ceiling %s", pb.Rates[name], most), fmt.Sprintf("write %s or less", most))
		}
	}
	if ceilings.Pinned {
		digest, err := DigestOf(pb)
		if err != nil || !(slices.Contains(ceilings.Pins[pb.Name], digest) || shipped(pb.Name, digest)) {
			add(codePin, "", "this version is not pinned in rekey.yaml", fmt.Sprintf("have %s pinned", digest))
		}
	}
	return ps
}
