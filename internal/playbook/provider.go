package playbook

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"rekey/activities"
	"rekey/playbooks"
)

// ProviderInfo is what the validator asks about providers, so that it depends on
// none. activities/all has the list.
type ProviderInfo interface {
	// Providers lists the codes.
	Providers() []string
	// Descriptor describes a provider.
	Descriptor(code string) (activities.Descriptor, bool)
}

// Descriptors is a [ProviderInfo] over a list.
type Descriptors []activities.Descriptor

// Providers lists the codes in their order.
func (ds Descriptors) Providers() []string {
	out := make([]string, len(ds))
	for i, d := range ds {
		out[i] = d.Code
	}
	return out
}

// Descriptor finds one by its code.
func (ds Descriptors) Descriptor(code string) (activities.Descriptor, bool) {
	i := slices.IndexFunc(ds, func(d activities.Descriptor) bool { return d.Code == code })
	if i < 0 {
		return activities.Descriptor{}, false
	}
	return ds[i], true
}

// provider checks the playbook against what its provider is and has.
func (c *checker) provider(info ProviderInfo) {
	m := c.pb.Match
	if !c.has("match.provider") || c.broken("match.provider") {
		return
	}
	desc, ok := info.Descriptor(m.Provider)
	if !ok {
		c.problem(codeProvider, "match.provider", fmt.Sprintf("unknown provider %q", m.Provider), suggest(m.Provider, info.Providers()))
		return
	}
	var all []string
	for _, k := range desc.Kinds {
		all = append(all, k.Kind)
	}
	var kinds []activities.KindInfo
	for i, name := range m.Kinds {
		k, ok := desc.Kind(name)
		if !ok {
			if at := fmt.Sprintf("match.kinds[%d]", i); !c.broken(at) {
				c.problem(codeKeyKind, at, fmt.Sprintf("%s has no kind %q", m.Provider, name), suggest(name, all))
			}
			continue
		}
		kinds = append(kinds, k)
	}
	if len(m.Kinds) == 0 && c.has("match.kinds") && !c.broken("match.kinds") {
		c.problem(codeMissing, "match.kinds", "the list is empty", "one of "+strings.Join(all, ", "))
	}
	c.propagation(kinds)
	c.verbs(desc, kinds)
	for i, s := range c.pb.Reissue.Stores {
		at := fmt.Sprintf("reissue.stores[%d].target", i)
		if c.has(at) && !c.broken(at) && !slices.Contains(desc.Stores, s.Target) {
			c.problem(codeStore, at, fmt.Sprintf("%s has no store %q", m.Provider, s.Target), suggest(s.Target, desc.Stores))
		}
	}
	for _, name := range c.pb.RateNames() {
		if code, limit, ok := strings.Cut(name, "."); !ok || code != m.Provider || limit == "" {
			c.problemAtKey(codeRateName, "rates."+name, fmt.Sprintf("%q is not a limit of %s", name, m.Provider), "write it like "+m.Provider+".write")
		}
	}
}

// propagation: refusals that span less than twice the time a change needs to be
// seen everywhere may all be one early answer (design section 6, Probe).
func (c *checker) propagation(kinds []activities.KindInfo) {
	var slowest time.Duration
	for _, k := range kinds {
		slowest = max(slowest, k.Propagation)
	}
	need := playbooks.Duration(2 * slowest)
	if c.pb.Verify.Span > 0 && c.pb.Verify.Span < need {
		c.problem(codeSpan, "verify.span", fmt.Sprintf("%s is less than twice the propagation of %s", c.pb.Verify.Span, playbooks.Duration(slowest)), fmt.Sprintf("write %s or more", need))
	}
}

// verbs warns of steps that none of the kinds can do, and asks for the gate where
// Revoke would take the place of a Disable that is missing (contracts section 6).
func (c *checker) verbs(desc activities.Descriptor, kinds []activities.KindInfo) {
	if len(kinds) == 0 {
		return
	}
	support := func(v activities.Verb) (any, reversible bool) {
		for _, k := range kinds {
			info, ok := k.Verbs[v]
			any, reversible = any || ok, reversible || (ok && info.Reversible)
		}
		return any, reversible
	}
	told := map[string]bool{}
	for _, n := range c.used() {
		for i, s := range c.pb.Strategy(n).Steps {
			v := activities.Verb(s.Verb())
			if v == "" || told[string(v)] {
				continue
			}
			if has, _ := support(v); !has {
				told[string(v)] = true
				at := fmt.Sprintf("strategies.%s.steps[%d]", n, i)
				if !c.has(at) {
					at = c.ruleWith(n)
				}
				c.warn(codeVerb, at, fmt.Sprintf("%s cannot do %s: contracts section 6 says what happens instead", desc.Code, v), "remove it if that is not wanted")
				if v == activities.Disable && !slices.Contains(c.pb.ApprovalNames(), playbooks.ApproveIrreversible) {
					c.problem(codeNoGate, at, "Revoke takes the place of Disable and has no gate", "add approvals.irreversible with a quorum")
				}
			}
		}
	}
	if has, reversible := support(activities.Disable); c.pb.ContainOnReport != nil && (!has || !reversible) {
		c.warn(codeVerb, "contain_on_report", fmt.Sprintf("%s has no reversible Disable: containment on report will not run", desc.Code), "remove it")
	}
}
