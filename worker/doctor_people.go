package worker

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"rekey/activities"
	"rekey/activities/all"
	"rekey/internal/people"
	"rekey/internal/playbook"
	"rekey/playbooks"
)

func descriptors() ([]activities.Descriptor, error) {
	registry, err := all.Default()
	if err != nil {
		return nil, err
	}
	var out []activities.Descriptor
	for _, p := range registry.Providers() {
		out = append(out, p.Descriptor)
	}
	return out, nil
}

// soloAdvice is what a team of one writes (contracts section 2).
const soloAdvice = "name more people in rekey.yaml; a team of one says so: ceilings: {irreversible: {quorum: 1, outside_slack: 0}}"

// voting are the roles that votes are asked of, and those of the local user until
// rekey.yaml names people (contracts section 0).
func voting() []string { return []string{"commander", "security", "approver", "admin"} }

// people holds the voters' keys and what the playbooks ask of them together. A
// question that can never be answered stops an incident for good.
func (d *doctor) people() {
	roles := map[string][]string{} // of those who can vote, by name
	owner := map[string]string{}
	outside := map[string]bool{} // those of them who can vote outside of chat
	for _, name := range slices.Sorted(maps.Keys(d.cfg.People)) {
		p, id := d.cfg.People[name], "people."+name
		if p.CLIKeyFile == "" && !slices.ContainsFunc(p.Roles, func(r string) bool { return slices.Contains(voting(), r) }) {
			d.ok(id, "%s, which need no key", strings.Join(p.Roles, ", "))
			continue
		}
		if p.CLIKeyFile == "" && p.Slack != "" && d.cfg.Channels.Slack.Configured() {
			roles[name] = p.Roles
			d.ok(id, "%s, in Slack only: no key, so none of the votes that must come from outside of it", strings.Join(p.Roles, ", "))
			continue
		}
		if p.CLIKeyFile == "" {
			d.fault(id, "give people."+name+".cli_key_file; `rekey login` makes the key", "%s has no key and cannot vote", name)
			continue
		}
		pub, err := people.LoadPublic(p.CLIKeyFile)
		if err != nil {
			d.fault(id, "rekey does not start before this is mended", "%s", err)
			continue
		}
		key := people.Encode(pub)
		if other, twice := owner[key]; twice {
			d.fault(id, "give each person a key of their own", "%s has the key of %s: one person would have two votes", name, other)
			continue
		}
		owner[key], roles[name], outside[name] = name, p.Roles, true
		d.ok(id, "%s", strings.Join(p.Roles, ", "))
	}
	if len(d.cfg.People) == 0 {
		roles[people.LocalActor()], outside[people.LocalActor()] = voting(), true
	}
	d.quorum(roles)
	d.outside(outside)
}

// outside asks whether the votes that must not come through chat can be cast: a
// stolen Slack account must not decide what cannot be undone.
func (d *doctor) outside(can map[string]bool) {
	const id = "people.outside-slack"
	need := d.cfg.Ceilings.Irreversible.OutsideSlack
	if len(can) < need {
		d.fault(id, "give people a key with `rekey login` and name it as cli_key_file, or set ceilings.irreversible.outside_slack in rekey.yaml",
			"irreversible steps need %d votes from outside of Slack and %d can cast one: they can never be approved", need, len(can))
		return
	}
	d.ok(id, "%d can vote outside of Slack, %d must", len(can), need)
}

// quorum asks of every shipped playbook, as the ceilings tighten it, whether its
// approvals can be reached.
func (d *doctor) quorum(roles map[string][]string) {
	const id = "people.quorum"
	least := d.cfg.Ceilings.Irreversible.Quorum
	if d.cfg.Solo() && len(roles) == 1 {
		d.ok(id, "a team of one: the only vote counts, and is recorded as self-approved")
		return
	}
	var short []string
	tight := false
	for _, name := range playbook.Shipped() {
		l, err := playbook.Load(name)
		if err != nil {
			continue // said by playbooks
		}
		for _, what := range slices.Sorted(maps.Keys(l.Playbook.Approvals)) {
			a := l.Playbook.Approvals[what]
			need := a.Quorum
			if slices.Contains([]string{playbooks.ApproveIrreversible, playbooks.ApproveRung, playbooks.ApproveRestore}, what) {
				need = max(need, least)
			}
			if a.Policy || need == 0 {
				continue
			}
			can := 0
			for _, has := range roles {
				if slices.ContainsFunc(a.Roles, func(r playbooks.Role) bool { return slices.Contains(has, string(r)) }) {
					can++
				}
			}
			if can < need {
				short = append(short, fmt.Sprintf("%s/%s needs %d and %d can vote", name, what, need, can))
			}
			tight = tight || can == need
		}
	}
	switch {
	case len(short) > 0:
		d.fault(id, soloAdvice, "these can never be approved: %s", strings.Join(short, "; "))
	case tight:
		d.ok(id, "%d can vote, which is just enough: who reports a key may not vote on it, so one more is prudent", len(roles))
	default:
		d.ok(id, "%d can vote, enough for every playbook", len(roles))
	}
}
