package playbook

import (
	"fmt"
	"slices"
	"strings"

	"rekey/playbooks"
)

// danger refuses playbooks that are well formed and would do harm (design section
// 7).
func (c *checker) danger() {
	for _, n := range c.used() {
		c.steps(n)
	}
	c.ladder()
	for i, s := range c.pb.Reissue.Stores {
		at := fmt.Sprintf("reissue.stores[%d].name", i)
		if c.broken(at) {
			continue
		}
		for _, name := range playbooks.PlaceholdersIn(s.Name) {
			if !slices.Contains(playbooks.Placeholders(), name) {
				c.problem(codePlaceholder, at, fmt.Sprintf("nothing binds {{%s}}", name), suggest(name, playbooks.Placeholders()))
			}
		}
		// What is left of a placeholder that was not closed would be part of the name.
		left, err := playbooks.Bind(s.Name, func(string) (string, bool) { return "x", true })
		if err == nil && strings.ContainsAny(left, "{}") {
			c.problem(codePlaceholder, at, fmt.Sprintf("%q has a brace that is not part of a placeholder", s.Name), "write it like {{item.owner}}/aws")
		}
	}
	c.unused()
}

// used lists the strategies of decide, each once.
func (c *checker) used() []playbooks.StrategyName {
	var out []playbooks.StrategyName
	for _, r := range c.pb.Decide {
		if slices.Contains(playbooks.StrategyNames(), r.Strategy) && !slices.Contains(out, r.Strategy) {
			out = append(out, r.Strategy)
		}
	}
	return out
}

// order says that a step must come after another.
type order struct {
	step, after playbooks.Step
	why         string
}

// orders hold in every strategy that has the step.
var orders = []order{
	{playbooks.StepDistribute, playbooks.StepIssue, "there is nothing to distribute"},
	{playbooks.StepProbeNew, playbooks.StepIssue, "there is no new key to probe"},
	{playbooks.StepWaitCutover, playbooks.StepDistribute, "nobody can cut over before the new key is there"},
}

// ordersOf hold in one strategy: without them it is another one under its name.
var ordersOf = map[playbooks.StrategyName][]order{
	playbooks.ReissueFirst: {
		{playbooks.StepDisable, playbooks.StepWaitCutover, "dependents would break before they have the new key"},
		{playbooks.StepRevoke, playbooks.StepWaitCutover, "dependents would break before they have the new key"},
	},
	playbooks.DisableAndWatch: {
		{playbooks.StepRevoke, playbooks.StepWaitQuiet, "a complaint would come too late"},
		{playbooks.StepWaitQuiet, playbooks.StepDisable, "there is nothing to complain about yet"},
	},
	playbooks.Barrier: {
		{playbooks.StepDisable, playbooks.StepIsolate, "a watcher would see the first kill and react"},
		{playbooks.StepRevoke, playbooks.StepIsolate, "a watcher would see the first kill and react"},
		{playbooks.StepWaitAllDead, playbooks.StepProbe, "nothing is proven dead yet"},
		{playbooks.StepIssue, playbooks.StepWaitAllDead, "a key that still lives could read the new one"},
	},
}

func (c *checker) steps(n playbooks.StrategyName) {
	given := c.pb.Strategies[n].Steps
	steps := c.pb.Strategy(n).Steps
	at := func(i int) string {
		if len(given) == 0 {
			return c.ruleWith(n)
		}
		return fmt.Sprintf("strategies.%s.steps[%d]", n, i)
	}
	index := func(s playbooks.Step) int { return slices.Index(steps, s) }

	for i, s := range steps {
		for _, o := range append(slices.Clone(orders), ordersOf[n]...) {
			if o.step == s && (index(o.after) < 0 || index(o.after) > i) {
				c.problem(codeOrder, at(i), fmt.Sprintf("%s without %s before it: %s", s, o.after, o.why), fmt.Sprintf("put %s before %s", o.after, s))
			}
		}
	}
	c.proof(steps, at)

	if i := index(playbooks.StepRevoke); i >= 0 {
		if !slices.Contains(c.pb.Scope.Sources, playbooks.SourceProvider) && c.has("scope.sources") && !c.broken("scope.sources") {
			c.problem(codeEvidence, "scope.sources", fmt.Sprintf("%s destroys a key of which nothing was read from its provider first", n), "add provider")
		}
		if a := c.pb.Approvals[playbooks.ApproveIrreversible]; !slices.Contains(c.pb.ApprovalNames(), playbooks.ApproveIrreversible) || a.Policy {
			c.problem(codeNoGate, at(i), "Revoke cannot be undone and has no gate", "add approvals.irreversible with a quorum")
		}
	}
	s := c.pb.Strategies[n]
	where := "strategies." + string(n)
	if !c.has(where) {
		where = c.ruleWith(n)
	}
	if index(playbooks.StepWaitCutover) >= 0 && s.Cutoff <= 0 && !c.broken(where+".cutoff") {
		c.problem(codeCutoff, where, "WaitCutover has no end: the thief stays for as long as one dependent sleeps", "add cutoff: 72h")
	}
	if index(playbooks.StepWaitQuiet) >= 0 && s.Quiet <= 0 && !c.broken(where+".quiet") {
		c.problem(codeQuiet, where, "WaitQuiet has no time", "add quiet: 24h")
	}
	if n == playbooks.DisableAndWatch && index(playbooks.StepRevoke) >= 0 && index(playbooks.StepWaitQuiet) < 0 {
		c.problem(codeQuiet, where, "disable-and-watch does not watch", "put WaitQuiet before Revoke")
	}
	if n == playbooks.ReissueFirst && index(playbooks.StepWaitCutover) < 0 {
		c.problem(codeCutoff, where, "reissue-first does not wait for its dependents", "put WaitCutover before Disable")
	}
}

// proof checks that every kill is followed by a probe of the old key. A Revoke of a
// key whose Disable was probed already needs none: it was proven dead, and what is
// destroyed is deader.
func (c *checker) proof(steps []playbooks.Step, at func(int) string) {
	disabled := false // a Disable that was probed
	for i, s := range steps {
		probed := slices.Contains(steps[i+1:], playbooks.StepProbe)
		switch s {
		case playbooks.StepDisable:
			if !probed {
				c.problem(codeNoProbe, at(i), "Disable is not followed by Probe: an answer of 200 proves nothing", "put Probe behind it")
			}
			disabled = probed && !slices.Contains(steps[i+1:i+1+slices.Index(steps[i+1:], playbooks.StepProbe)], playbooks.StepRevoke)
		case playbooks.StepRevoke:
			if !probed && !disabled {
				c.problem(codeNoProbe, at(i), "Revoke is not followed by Probe: an answer of 200 proves nothing", "put Probe behind it")
			}
		}
	}
}

// ruleWith is the path of the first rule that uses a strategy.
func (c *checker) ruleWith(n playbooks.StrategyName) string {
	i := slices.IndexFunc(c.pb.Decide, func(r playbooks.Rule) bool { return r.Strategy == n })
	return fmt.Sprintf("decide[%d]", i)
}

func (c *checker) ladder() {
	l := c.pb.Ladder
	for i, r := range l.Automatic {
		if r.NeedsVote() {
			c.problem(codeRungVote, fmt.Sprintf("ladder.automatic[%d]", i), fmt.Sprintf("%s stops more than the key and is never climbed by policy", r), "move it to ladder.approved")
		}
	}
	for i, r := range l.Approved {
		if slices.Contains(l.Automatic, r) {
			c.problem(codeRung, fmt.Sprintf("ladder.approved[%d]", i), fmt.Sprintf("%q is under automatic as well", r), "keep one")
		}
	}
	if slices.Contains(l.Automatic, playbooks.RungKey) && !slices.Contains(c.pb.ApprovalNames(), playbooks.ApproveIrreversible) && c.has("approvals") {
		c.problem(codeNoGate, fmt.Sprintf("ladder.automatic[%d]", slices.Index(l.Automatic, playbooks.RungKey)),
			"rung key is a Revoke, which cannot be undone and has no gate", "add approvals.irreversible with a quorum")
	}
}

// unused warns of entries that no rule leads to.
func (c *checker) unused() {
	used := c.used()
	for _, n := range c.pb.StrategyNames() {
		if slices.Contains(playbooks.StrategyNames(), n) && !slices.Contains(used, n) {
			c.warn(codeIdle, "strategies."+string(n), "no rule uses this strategy", "remove it, or add the rule")
		}
	}
	for _, name := range c.pb.ApprovalNames() {
		n := playbooks.StrategyName(name)
		if n.Moves() && !slices.Contains(used, n) {
			c.warn(codeIdle, "approvals."+name, "no rule uses this strategy", "remove it, or add the rule")
		}
	}
}
