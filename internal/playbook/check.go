package playbook

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	"golang.org/x/mod/semver"

	"rekey/playbooks"
)

// A checker reads a decoded playbook and adds problems to its document. It checks
// only what could be decoded: a value that was reported already is empty here and
// not reported twice.
type checker struct {
	*document
	pb *playbooks.Playbook
}

var nameForm = regexp.MustCompile(`^[a-z][a-z0-9]*(-[a-z0-9]+)*$`)

// has tells whether the file gives path, whatever its value.
func (c *checker) has(path string) bool { return c.at[path] != nil }

// broken tells whether the value at path has been reported already.
func (c *checker) broken(path string) bool {
	return slices.ContainsFunc(c.problems, func(p Problem) bool { return p.Path == path })
}

func (c *checker) head(folder string) {
	pb := c.pb
	if c.has("apiVersion") && pb.APIVersion != playbooks.APIVersion {
		c.problem(codeFormat, "apiVersion", fmt.Sprintf("unknown version %q", pb.APIVersion), "write "+playbooks.APIVersion)
	}
	if c.has("kind") && pb.Kind != playbooks.Kind {
		c.problem(codeFormat, "kind", fmt.Sprintf("unknown kind %q", pb.Kind), "write "+playbooks.Kind)
	}
	switch {
	case !c.has("name") || c.broken("name"):
	case !nameForm.MatchString(pb.Name) || len(pb.Name) > 64:
		c.problem(codeName, "name", fmt.Sprintf("%q is not a name", pb.Name), "lower case letters, digits and dashes, beginning with a letter")
	case folder != "" && pb.Name != folder:
		c.problem(codeName, "name", fmt.Sprintf("the folder is %q", folder), fmt.Sprintf("write %q", folder))
	}
	if c.has("version") && !c.broken("version") && (semver.Canonical("v"+pb.Version)+semver.Build("v"+pb.Version)) != "v"+pb.Version {
		c.problem(codeVersion, "version", fmt.Sprintf("%q is not a semantic version", pb.Version), "write it like 1.0.0")
	}
}

// values checks lists of words, numbers, lengths of time, rates and networks.
func (c *checker) values() {
	pb := c.pb
	word(c, codeValue, "start", pb.Start, playbooks.Starts())
	for i, s := range pb.Severity {
		word(c, codeValue, fmt.Sprintf("severity[%d].level", i), s.Level, playbooks.Levels())
	}
	words(c, codeValue, "scope.sources", pb.Scope.Sources, playbooks.Sources())
	c.number("scope.depth", pb.Scope.Depth, 1, 64)
	c.positive("scope.lookback", pb.Scope.Lookback)
	c.positive("scope.timeout", pb.Scope.Timeout)

	for i, r := range pb.Decide {
		at := fmt.Sprintf("decide[%d].strategy", i)
		word(c, codeStrategy, at, r.Strategy, playbooks.StrategyNames())
	}
	for _, n := range pb.StrategyNames() {
		at := "strategies." + string(n)
		if !slices.Contains(playbooks.StrategyNames(), n) {
			c.problemAtKey(codeStrategy, at, fmt.Sprintf("unknown strategy %q", n), suggest(string(n), texts(playbooks.StrategyNames())))
			continue
		}
		words(c, codeStep, at+".steps", pb.Strategies[n].Steps, playbooks.Steps(), playbooks.StepProbe, playbooks.StepEndSessions, playbooks.StepNotice)
		c.positive(at+".cutoff", pb.Strategies[n].Cutoff)
		c.positive(at+".quiet", pb.Strategies[n].Quiet)
	}
	words(c, codeRung, "ladder.automatic", pb.Ladder.Automatic, playbooks.Rungs())
	words(c, codeRung, "ladder.approved", pb.Ladder.Approved, playbooks.Rungs())

	for _, n := range pb.RateNames() {
		if _, _, err := pb.Rates[n].Parse(); err != nil && !c.broken("rates."+n) {
			c.problem(codeRate, "rates."+n, fmt.Sprintf("%q: %v", pb.Rates[n], err), "")
		}
	}
	for i, n := range pb.Notices {
		at := fmt.Sprintf("notices[%d]", i)
		word(c, codeValue, at+".audience", n.Audience, []string{playbooks.AudienceOwner, playbooks.AudienceCustomer})
		word(c, codeValue, at+".template", n.Template, playbooks.Templates())
		words(c, codeValue, at+".channel", n.Channel, []string{"email", "webhook", "slack"})
		if n.Gate != "" {
			word(c, codeValue, at+".gate", n.Gate, []string{playbooks.GateWarnBeforeCut})
		}
		if n.Deadlines != "" {
			word(c, codeValue, at+".deadlines", n.Deadlines, []string{playbooks.DeadlinesContracts})
		}
	}
	c.networks("harden.allow_from", pb.Harden.AllowFrom)
	c.networks("reissue.narrow.deny_unless_source_ip", pb.Reissue.Narrow.DenyUnlessSourceIP)
	c.positive("harden.lifetime", pb.Harden.Lifetime)
	if s := pb.Harden.Scope; s != "" {
		span, ok := strings.CutPrefix(s, "used-")
		if d, err := playbooks.ParseDuration(span); !ok || err != nil || d <= 0 {
			c.problem(codeValue, "harden.scope", fmt.Sprintf("unknown scope %q", s), "write it like used-90d")
		}
	}
	c.number("verify.k", pb.Verify.K, 1, 100)
	c.number("verify.vantage", pb.Verify.Vantage, 1, 16)
	c.positive("verify.span", pb.Verify.Span)
	c.positive("watch.for", pb.Watch.For)
	if g := pb.Record.GitHub; g != nil && c.has("record.github.repo") && !repoForm.MatchString(g.Repo) {
		c.problem(codeValue, "record.github.repo", fmt.Sprintf("%q is not a repository", g.Repo), "write it as owner/name")
	}
}

var repoForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9._-]+$`)

// rules checks conditions and the order of decide and severity.
func (c *checker) rules() {
	env, err := newEnv()
	if err != nil { // the table of facts is part of this build and has its own test
		c.problem(codeRuleType, "", err.Error(), "report this as a bug in rekey")
		return
	}
	pb := c.pb
	if c.has("match.when") {
		c.condition(env, "match", pb.Match.When, []string{"item.", "scope."})
	}
	ids := map[string]bool{}
	for i, r := range pb.Decide {
		at := fmt.Sprintf("decide[%d]", i)
		c.condition(env, at, r.When, nil)
		switch {
		case !c.has(at+".id") || c.broken(at+".id"):
		case !nameForm.MatchString(r.ID):
			c.problem(codeName, at+".id", fmt.Sprintf("%q is not a name", r.ID), "lower case letters, digits and dashes, beginning with a letter")
		case ids[r.ID]:
			c.problem(codeRepeated, at+".id", fmt.Sprintf("a second rule %q", r.ID), "give it a name of its own")
		}
		ids[r.ID] = true
	}
	for i, s := range pb.Severity {
		c.condition(env, fmt.Sprintf("severity[%d]", i), s.When, nil)
	}
	if pb.ContainOnReport != nil {
		c.condition(env, "contain_on_report", pb.ContainOnReport.When, []string{"scope."})
	}
	c.last(codeLastRule, "decide", len(pb.Decide), func(i int) string { return pb.Decide[i].When })
	c.last(codeLastSeverity, "severity", len(pb.Severity), func(i int) string { return pb.Severity[i].When })
}

// condition checks one `when`. early are the beginnings of facts that are not known
// yet when it is asked.
func (c *checker) condition(env *cel.Env, path, when string, early []string) {
	at := path + ".when"
	if !c.has(at) || c.broken(at) {
		return
	}
	_, reads, faults := compile(env, when)
	if parsed, iss := env.Parse(when); iss.Err() == nil {
		for _, f := range neverEqual(parsed.NativeRep()) {
			line, col := c.within(c.at[at], f.offset)
			c.warnAt(line, col, f.code, path, f.msg, f.fix)
		}
	}
	for _, f := range faults {
		line, col := c.within(c.at[at], f.offset)
		c.add(line, col, f.code, path, f.msg, f.fix)
	}
	for _, r := range reads {
		for _, e := range early {
			if strings.HasPrefix(r.name, e) {
				line, col := c.within(c.at[at], r.offset)
				c.add(line, col, codeTooEarly, path, fmt.Sprintf("%q is not known yet when this is asked", r.name), "use another fact")
			}
		}
	}
}

// last checks that a list of conditions ends with true, and has it only there.
func (c *checker) last(code Code, path string, n int, when func(int) string) {
	if !c.has(path) || c.broken(path) {
		return
	}
	if n == 0 {
		c.problem(code, path, "the list is empty", `add an entry with when: "true"`)
		return
	}
	for i := range n - 1 {
		if strings.TrimSpace(when(i)) == "true" {
			c.problem(codeUnreachable, fmt.Sprintf("%s[%d]", path, i+1), fmt.Sprintf("never reached: entry %d is always true", i), "move it up, or remove it")
			return
		}
	}
	if strings.TrimSpace(when(n-1)) != "true" {
		c.problem(code, fmt.Sprintf("%s[%d]", path, n-1), "the last entry must be true for everything", `add one with when: "true"`)
	}
}

// word checks one value of a list of words.
func word[T ~string](c *checker, code Code, path string, got T, want []T) {
	if !c.has(path) || c.broken(path) || slices.Contains(want, got) {
		return
	}
	c.problem(code, path, fmt.Sprintf("unknown %s %q", singular(lastKey(path)), got), suggest(string(got), texts(want)))
}

// words checks a list of words: known, and none twice except those of again.
func words[T ~string](c *checker, code Code, path string, got, want []T, again ...T) {
	if !c.has(path) || c.broken(path) {
		return
	}
	if len(got) == 0 {
		c.problem(codeMissing, path, "the list is empty", "one of "+strings.Join(texts(want), ", "))
	}
	for i, g := range got {
		at := fmt.Sprintf("%s[%d]", path, i)
		if c.broken(at) {
			continue
		}
		if !slices.Contains(want, g) {
			c.problem(code, at, fmt.Sprintf("unknown %s %q", singular(lastKey(path)), g), suggest(string(g), texts(want)))
		} else if slices.Contains(got[:i], g) && !slices.Contains(again, g) {
			c.problem(codeRepeated, at, fmt.Sprintf("%q is in the list already", g), "keep one")
		}
	}
}

func texts[T ~string](in []T) []string {
	out := make([]string, len(in))
	for i, v := range in {
		out[i] = string(v)
	}
	return out
}

func lastKey(path string) string { return path[strings.LastIndex(path, ".")+1:] }

func singular(key string) string {
	switch key {
	case "automatic", "approved":
		return "rung"
	case "escalate_to":
		return "role"
	}
	return strings.TrimSuffix(key, "s")
}

func (c *checker) number(path string, got, low, high int) {
	if c.has(path) && !c.broken(path) && (got < low || got > high) {
		c.problem(codeNumber, path, fmt.Sprintf("%d is out of range", got), fmt.Sprintf("%d to %d", low, high))
	}
}

func (c *checker) positive(path string, got playbooks.Duration) {
	if c.has(path) && !c.broken(path) && got <= 0 {
		c.problem(codeDuration, path, "the time is zero", "write 30s, 15m, 72h or 90d")
	}
}

// Networks for documentation (RFC 5737, RFC 3849): nobody sends from them.
var documentation = []netip.Prefix{
	netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("198.51.100.0/24"),
	netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("2001:db8::/32"),
}

func (c *checker) networks(path string, list []string) {
	for i, s := range list {
		at := fmt.Sprintf("%s[%d]", path, i)
		p, err := netip.ParsePrefix(s)
		switch {
		case c.broken(at):
		case err != nil:
			c.problem(codeNetwork, at, fmt.Sprintf("%q is not a network", s), "write it like 198.18.0.0/15")
		case p.Masked() != p:
			c.problem(codeNetwork, at, fmt.Sprintf("%q has host bits", s), "write "+p.Masked().String())
		case p.Bits() == 0:
			c.problem(codeLockout, at, fmt.Sprintf("%q is everybody: the list limits nothing", s), "write your own egress ranges, or leave the list out")
		case slices.ContainsFunc(documentation, p.Overlaps):
			c.warn(codeLockout, at, fmt.Sprintf("%q is a range for documentation: a Deny outside it locks everybody out", s), "write your own egress ranges, or leave the list out")
		}
	}
}
