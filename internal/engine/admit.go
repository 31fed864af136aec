package engine

import (
	"context"
	"fmt"
	"path"
	"strings"

	"rekey/activities"
	"rekey/internal/config"
	"rekey/internal/playbook"
	"rekey/internal/view"
	"rekey/playbooks"
	"rekey/workflows"
)

// Admit judges a first report: its severity as far as it is known, and whether the
// reported key may be disabled before its scope is known. All conditions of design
// section 3 must hold; each is given back with its reason. The last two are looked
// at only when all others hold: possession tries the secret once, and the breaker
// takes a place.
func (e *Engine) Admit(ctx context.Context, in workflows.AdmitInput) (workflows.AdmitResult, error) {
	eval, err := playbook.NewEvaluator(&in.Playbook)
	if err != nil {
		return workflows.AdmitResult{}, err
	}
	rep := in.Report
	item := workflows.Scoped{Key: rep.Key, Exposure: rep.Exposure, Basis: "report"}
	e.Estate.Describe(&item, in.Now)
	facts := reportFacts(rep)
	itemFacts(&facts, item, in.Now, false)
	level, _ := eval.Severity(facts)
	out := workflows.AdmitResult{Severity: string(level), Contain: view.Contain{Conditions: []view.Condition{}}}
	hold := func(id string, held bool, why string) bool {
		out.Contain.Conditions = append(out.Contain.Conditions, view.Condition{ID: id, Held: held, Why: why})
		return held
	}
	ok := hold("ceiling", rep.Ceiling == config.CeilingContain, fmt.Sprintf("source %q may %s", rep.Source, rep.Ceiling))
	ok = hold("ours", e.ours(rep, item), e.whyOurs(rep, item)) && ok
	ok = hold("subject", rep.Subject == "" || rep.Subject == "key", "a host, CI or worm is isolated first; the report is about "+orKey(rep.Subject)) && ok
	dep, why := e.dependentsFit(item)
	ok = hold("dependents", dep, why) && ok

	possession := rep.SourceKind == "provider"
	how := "the provider itself reports it"
	switch {
	case possession:
	case rep.Secret == "":
		how = "no secret was given, and the source is not the provider"
	case !ok:
		how = "not asked: another condition does not hold"
	default:
		possession, how = e.possess(ctx, rep)
	}
	ok = hold("possession", possession, how) && ok
	facts.Set("report.possession", playbooks.BoolFact(possession))
	v := eval.Contain(facts)
	ok = hold("playbook", v.Allowed, v.Why) && ok
	if ok {
		room, why, err := e.Breaker.Take(ctx, rep, in.Incident, e.Estate.Live(rep.Key.Provider, rep.Key.Account, in.Now), in.Now)
		if err != nil {
			return out, err
		}
		ok = hold("breaker", room, why)
	} else {
		hold("breaker", false, "not asked: another condition does not hold")
	}
	out.Contain.Allowed = ok
	return out, nil
}

func orKey(s string) string {
	if s == "" {
		return "a key"
	}
	return "a " + s
}

// ours tells whether the key may be touched at all before people looked: it is in
// a configured account, not a customer's, not on the never-auto list.
func (e *Engine) ours(rep workflows.Report, item workflows.Scoped) bool {
	return e.notOurs(rep, item) == ""
}

func (e *Engine) whyOurs(rep workflows.Report, item workflows.Scoped) string {
	if why := e.notOurs(rep, item); why != "" {
		return why
	}
	return "in a configured account, known to the estate, not on the never-auto list"
}

func (e *Engine) notOurs(rep workflows.Report, item workflows.Scoped) string {
	k := rep.Key
	if _, ok := e.Config.Providers[k.Provider][k.Account]; !ok {
		return "account " + k.Provider + "/" + k.Account + " is not configured"
	}
	if _, ok := e.Estate.Key(k.ID); !ok {
		return "the estate does not know the key"
	}
	if len(item.Customers) > 0 || item.OwnerKind == "customer" {
		return "it is a customer's"
	}
	for _, pattern := range e.Config.Ceilings.NeverAuto {
		for _, name := range []string{k.Provider + "/" + k.Account + "/" + k.ID, k.Provider + "/" + k.Account + "/" + k.Principal, item.Owner + "/" + k.ID} {
			if ok, err := path.Match(pattern, name); err == nil && ok {
				return "it is on the never-auto list as " + pattern
			}
		}
		if owner, found := strings.CutSuffix(pattern, "/*"); found && owner == item.Owner {
			return "its owner is on the never-auto list as " + pattern
		}
	}
	return ""
}

// dependentsFit tells whether those who use the key can bear a sudden Disable, as
// the estate knows them now. "None known" of a key the estate does not know is
// unknown, and unknown asks.
func (e *Engine) dependentsFit(item workflows.Scoped) (bool, string) {
	if _, ok := e.Estate.Key(item.Key.ID); !ok {
		return false, "unknown: the estate does not know the key"
	}
	info, _ := e.kind(item.Key)
	outage := 4 * info.Propagation.Milliseconds()
	for _, d := range item.Dependents {
		if d.BudgetMs < outage {
			return false, fmt.Sprintf("%s bears %d ms without the key, and a Disable may take %d ms", d.ID, d.BudgetMs, outage)
		}
	}
	return true, fmt.Sprintf("%d dependents, all within their outage budget", len(item.Dependents))
}

// possess tries the reported secret once, by the provider's harmless read.
func (e *Engine) possess(ctx context.Context, rep workflows.Report) (bool, string) {
	client, err := e.Client(rep.Key.Provider, rep.Key.Account)
	if err != nil {
		return false, "the account cannot be opened"
	}
	p, ok := client.(activities.Prober)
	if !ok {
		return false, "the provider has no Probe"
	}
	res, err := p.Probe(ctx, activities.ProbeRequest{
		Ref:  activities.Ref{Incident: rep.Statement.Statement.Incident, Token: rep.ID + "/possession", Key: rep.Key, Secret: rep.Secret},
		Mode: activities.ProbeAuth,
	})
	if err != nil {
		return false, "the secret could not be tried"
	}
	if res.Saw == activities.ProbeAlive {
		return true, "the secret given is the key's"
	}
	return false, "the secret given does not work with the key: " + res.Saw
}
