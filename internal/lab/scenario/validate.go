package scenario

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

var (
	namePattern   = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)
	userPattern   = regexp.MustCompile(`^[A-Za-z0-9+=,.@_-]{1,64}$`) // IAM user names
	accountID     = regexp.MustCompile(`^\d{12}$`)
	actionPattern = regexp.MustCompile(`^([a-z0-9-]+:)?[A-Z][A-Za-z0-9]+$`)
)

// Policies the lab has documents for.
var Policies = []string{"AdministratorAccess", "ReadOnlyAccess", "PowerUserAccess", "IAMFullAccess", "AmazonS3ReadOnlyAccess", "none"}

// Reactions are what an attacker can do.
var Reactions = []string{"CreateAccessKey", "CreateUser", "CreateRole", "GetSessionToken", "GetFederationToken", "UpdateAccessKey", "PutRule"}

func (d *decoder) reject(path, format string, args ...any) {
	p, ok := d.places[path]
	for at := path; !ok && at != ""; {
		cut := strings.LastIndexAny(at, ".[")
		at = at[:max(cut, 0)]
		p, ok = d.places[at]
	}
	if !ok {
		p = place{1, 1}
	}
	d.problems = append(d.problems, Problem{d.file, p.line, p.column, path, fmt.Sprintf(format, args...)})
}

func (d *decoder) oneOf(path, got string, words ...string) {
	if got != "" && !slices.Contains(words, got) {
		d.reject(path, "unknown word %q%s", got, didYouMean(got, words))
	}
}

func (d *decoder) required(path, got string) {
	if got == "" {
		d.reject(path, "is missing")
	}
}

// validate checks what types cannot say: words, references, uniqueness, order of times.
func (d *decoder) validate(dr *Drill) {
	if dr.APIVersion != "rekey/v1" {
		d.reject("apiVersion", "is %q; this build reads rekey/v1", dr.APIVersion)
	}
	if dr.Kind != "Drill" {
		d.reject("kind", "is %q; a drill file says Drill", dr.Kind)
	}
	if !namePattern.MatchString(dr.Name) {
		d.reject("name", "%q: use lower-case letters, digits and hyphens", dr.Name)
	}
	d.oneOf("clock.mode", dr.Clock.Mode, "virtual", "real")
	if dr.Clock.Mode != "real" && dr.Clock.T0.IsZero() {
		d.reject("clock.t0", "is missing: a virtual clock starts somewhere")
	}
	if dr.Clock.Horizon < 0 || (dr.Clock.Horizon == 0 && dr.Clock.Mode != "real") {
		d.reject("clock.horizon", "must be longer than nothing")
	}
	keys := d.estate(dr)
	d.trigger(dr, keys)
	for i, p := range dr.People {
		at := fmt.Sprintf("people[%d]", i)
		d.required(at+".actor", p.Actor)
		d.required(at+".do", p.Do)
		d.oneOf(at+".do", p.Do, "approve", "deny", "silent", "release", "resolve", "restore", "close")
		d.oneOf(at+".on", p.On, "approval", "needs-human", "hold", "contained")
		d.required(at+".on", p.On)
		if p.First != nil && !actionPattern.MatchString(p.First.Call) {
			d.reject(at+".first.call", "%q: write events:DeleteRule", p.First.Call)
		}
		if p.Do != "resolve" && (p.As != "" || p.First != nil) {
			d.reject(at, "as and first belong to do: resolve")
		}
		for j, r := range p.Roles {
			d.oneOf(fmt.Sprintf("%s.roles[%d]", at, j), r, "viewer", "reporter", "responder", "approver", "commander", "security", "product", "legal", "auditor", "maintainer", "admin")
		}
		if p.After < 0 {
			d.reject(at+".after", "cannot be negative")
		}
	}
	d.faults(dr, keys)
	d.attacker(dr, keys)
	d.judgement(dr)
}

func (d *decoder) estate(dr *Drill) *ids {
	e := &dr.Estate
	for name, p := range e.Providers {
		at := "estate.providers." + name
		if provider, account, ok := strings.Cut(name, "/"); !ok || provider != "awsiam" || account == "" {
			d.reject(at, "%q: the lab plays awsiam/<account>", name)
		}
		if p.AccountID != "" && !accountID.MatchString(p.AccountID) {
			d.reject(at+".account_id", "%q: twelve digits", p.AccountID)
		}
		for api := range p.Limits {
			limit := at + ".limits." + api
			service, action, _ := strings.Cut(strings.TrimSuffix(api, ".write"), ":")
			d.oneOf(at+".limits", service, "iam", "sts", "cloudtrail", "secretsmanager")
			if action != "" && (!actionPattern.MatchString(action) || strings.HasSuffix(api, ".write")) {
				d.reject(at+".limits", "%q: write iam, iam.write or iam:ListUsers", api)
			}
			if p.Limits[api].Rate.Count < 1 {
				d.reject(limit+".rate", "is missing: write 60/m")
			}
			if p.Limits[api].RetryAfter < 0 {
				d.reject(limit+".retry_after", "cannot be negative")
			}
			if st := p.Limits[api].Status; st != 0 && (st < 400 || st > 599) {
				d.reject(limit+".status", "%d is not an error status", st)
			}
		}
		if p.Propagation < 0 {
			d.reject(at+".propagation", "cannot be negative")
		}
		if p.Quotas.KeysPerUser < 0 {
			d.reject(at+".quotas.keys_per_user", "cannot be negative")
		}
		if p.EngineIP != "" {
			if _, err := netip.ParseAddr(p.EngineIP); err != nil {
				d.reject(at+".engine_ip", "%q is not an IP address", p.EngineIP)
			}
		}
	}
	if len(e.Providers) > 1 {
		d.reject("estate.providers", "this lab plays one provider account")
	}
	known := &ids{drill: dr, named: map[string]bool{}}
	perUser := map[string]int{}
	quota := 2
	for _, p := range e.Providers {
		if p.Quotas.KeysPerUser > 0 {
			quota = p.Quotas.KeysPerUser
		}
	}
	for i, k := range e.Keys {
		at := fmt.Sprintf("estate.keys[%d]", i)
		d.required(at+".id", k.ID)
		if known.named[k.ID] {
			d.reject(at+".id", "%q is used twice", k.ID)
		}
		known.named[k.ID] = true
		if !userPattern.MatchString(k.User) {
			d.reject(at+".user", "%q is not an IAM user name", k.User)
		}
		d.oneOf(at+".policy", k.Policy, Policies...)
		d.oneOf(at+".status", k.Status, "active", "inactive")
		d.oneOf(at+".state", k.State, "exposed", "unrelated")
		if !k.Issued.IsZero() && !k.LastLegitUse.IsZero() {
			t0 := dr.Clock.T0.Time
			if k.LastLegitUse.Resolve(t0).Before(k.Issued.Resolve(t0)) {
				d.reject(at+".last_legit_use", "is before the key was issued")
			}
		}
		if perUser[k.User]++; perUser[k.User] > quota {
			d.reject(at+".user", "%q would have more than %d keys", k.User, quota)
		}
	}
	for i, k := range e.Keys {
		if k.Parent != "" {
			d.refersKey(fmt.Sprintf("estate.keys[%d].parent", i), k.Parent, known)
		}
	}
	for i, c := range e.Copies {
		at := fmt.Sprintf("estate.copies[%d]", i)
		d.refersKey(at+".key", c.Key, known)
		d.required(at+".where", c.Where)
		d.oneOf(at+".zone", c.Zone, "clean", "dirty")
		if c.Registered && !c.Relaunch.IsZero() {
			d.reject(at+".relaunch", "only an unregistered copy comes back by itself")
		}
	}
	d.dependents(e, known)
	d.generate(e, known)
	for i, u := range e.Uses {
		at := fmt.Sprintf("estate.uses[%d]", i)
		d.refersKey(at+".key", u.Key, known)
		if u.At.IsZero() {
			d.reject(at+".at", "is missing")
		}
		d.oneOf(at+".label", u.Label, "legit", "malicious")
		if len(u.Calls) == 0 {
			d.reject(at+".calls", "is missing: name the calls made")
		}
		for j, c := range u.Calls {
			if !actionPattern.MatchString(c) {
				d.reject(fmt.Sprintf("%s.calls[%d]", at, j), "%q: write CreateSnapshot or iam:ListUsers", c)
			}
		}
		if u.SourceIP != "" {
			if _, err := netip.ParseAddr(u.SourceIP); err != nil {
				d.reject(at+".source_ip", "%q is not an IP address", u.SourceIP)
			}
		}
		if (u.Times > 1) != (u.Every > 0) {
			d.reject(at, "times (above 1) and every go together")
		}
	}
	if e.Logs.Retention < 0 {
		d.reject("estate.logs.retention", "cannot be negative")
	}
	return known
}

func (d *decoder) dependents(e *Estate, known *ids) {
	var seen []string
	for i, dep := range e.Dependents {
		at := fmt.Sprintf("estate.dependents[%d]", i)
		d.required(at+".id", dep.ID)
		if slices.Contains(seen, dep.ID) {
			d.reject(at+".id", "%q is used twice", dep.ID)
		}
		seen = append(seen, dep.ID)
		if len(dep.Keys) == 0 {
			d.reject(at+".keys", "is missing: a dependent uses at least one key")
		}
		for j, k := range dep.Keys {
			d.refersKey(fmt.Sprintf("%s.keys[%d]", at, j), k, known)
		}
		d.past(at, dep.Past)
		d.oneOf(at+".cutover", dep.Cutover, "dual", "hot", "restart")
		d.oneOf(at+".proof", dep.Proof, "last-used", "probe", "attest")
		if dep.Every < 0 || dep.OutageBudget < 0 {
			d.reject(at, "every and outage_budget cannot be negative")
		}
		if dep.Owner == "" && dep.Store == "" {
			d.reject(at+".owner", "is missing: its store is named after it (or give store)")
		}
		for j, c := range dep.Calls {
			if !actionPattern.MatchString(c) {
				d.reject(fmt.Sprintf("%s.calls[%d]", at, j), "%q: write iam:ListUsers", c)
			}
		}
	}
}

func (d *decoder) refers(path, kind, id string, known []string) {
	switch {
	case id == "":
		d.reject(path, "is missing: name a %s", kind)
	case !slices.Contains(known, id):
		d.reject(path, "no %s %q%s", kind, id, didYouMean(id, known))
	}
}

func (d *decoder) refersKey(path, id string, keys *ids) {
	if id == "" || !keys.has(id) {
		d.refers(path, "key", id, keys.list())
	}
}

func (d *decoder) trigger(dr *Drill, keys *ids) {
	d.report("trigger.report", &dr.Trigger.Report, keys)
	for i := range dr.Trigger.Also {
		d.report(fmt.Sprintf("trigger.also[%d]", i), &dr.Trigger.Also[i], keys)
	}
	if dr.Trigger.At.IsZero() {
		d.reject("trigger.at", "is missing: T0 for most drills")
	}
}

func (d *decoder) report(at string, r *Report, keys *ids) {
	d.required(at+".provider", r.Provider)
	d.oneOf(at+".provider", r.Provider, "awsiam")
	d.refersKey(at+".key", r.Key, keys)
	d.required(at+".source", r.Source)
	d.oneOf(at+".kind", r.Kind, "user-access-key", "sts-session")
	d.oneOf(at+".confidence", r.Confidence, "confirmed", "likely", "suspected", "sample")
	d.oneOf(at+".severity", r.Severity, "critical", "high", "medium", "low")
	d.oneOf(at+".exposure", r.Exposure, "public", "internal", "private")
}

func (d *decoder) faults(dr *Drill, keys *ids) {
	var words []string
	for _, w := range Catalogue() {
		words = append(words, w.What)
	}
	var dependents, actors []string
	for _, dep := range dr.AllDependents(1, dr.Clock.T0.Time) {
		dependents = append(dependents, dep.ID)
	}
	for _, p := range dr.People {
		actors = append(actors, p.Actor)
	}
	for i := range dr.Faults {
		f := &dr.Faults[i]
		at := fmt.Sprintf("faults[%d]", i)
		w, ok := word(f.What)
		if !ok {
			d.reject(at+".what", "unknown fault %q%s", f.What, didYouMean(f.What, words))
			continue
		}
		given := f.given()
		for _, need := range w.Needs {
			if !slices.Contains(given, need) {
				d.reject(at+"."+need, "is missing: %s needs it", f.What)
			}
		}
		for _, g := range given {
			if !slices.Contains(w.Needs, g) && !slices.Contains(w.Takes, g) {
				d.reject(at+"."+g, "%s does not take it", f.What)
			}
		}
		d.at(at+".at", f.At, w)
		if f.Key != "" {
			d.refersKey(at+".key", f.Key, keys)
		}
		if f.Dependent != "" {
			d.refers(at+".dependent", "dependent", f.Dependent, dependents)
		}
		if f.Actor != "" {
			d.refers(at+".actor", "person", f.Actor, actors)
		}
		if f.Report != nil && f.At.Time.IsZero() {
			d.reject(at+".at", "a report comes at a time")
		}
		if f.Report != nil {
			d.report(at+".report", f.Report, keys)
		}
		d.oneOf(at+".until_rung", f.UntilRung, RungKey, RungSessions, RungPrincipal, RungNetworkBind, RungNever)
		if f.Do != "" {
			d.oneOf(at+".do", f.Do, Reactions...)
		}
		if f.What == "planted-persistence" && (f.Do == "PutRule") != (f.Where != "" && !f.Due.IsZero()) {
			d.reject(at, "where and due belong to do: PutRule: the job's name, and when it runs")
		}
		if f.Status != 0 && (f.Status < 400 || f.Status > 599) {
			d.reject(at+".status", "%d is not an error status", f.Status)
		}
		if f.Times < 0 || f.For < 0 || f.RetryAfter < 0 {
			d.reject(at, "times, for and retry_after cannot be negative")
		}
		if f.Account != "" && !accountID.MatchString(f.Account) {
			d.reject(at+".account", "%q: twelve digits", f.Account)
		}
		if f.Action != "" && !actionPattern.MatchString(f.Action) {
			d.reject(at+".action", "%q: write ListAccessKeys or iam:ListAccessKeys", f.Action)
		}
		if !f.From.IsZero() && !f.To.IsZero() && !f.From.Resolve(dr.Clock.T0.Time).Before(f.To.Resolve(dr.Clock.T0.Time)) {
			d.reject(at+".to", "must be after from")
		}
	}
}

func (d *decoder) at(path string, a At, w Word) {
	if a.IsZero() {
		return
	}
	kinds := 0
	for _, set := range []bool{!a.Time.IsZero(), a.Verb != "" || a.Nth != 0 || a.Edge != "", a.Phase != ""} {
		if set {
			kinds++
		}
	}
	if kinds > 1 {
		d.reject(path, "is either a time, a verb with nth, or a phase")
	}
	d.oneOf(path+".verb", a.Verb, verbs...)
	d.oneOf(path+".phase", a.Phase, phases...)
	d.oneOf(path+".edge", a.Edge, EdgeBeforeCall, EdgeAfterCall, EdgeAfterRecord)
	if a.Verb == "" && (a.Nth != 0 || a.Edge != "") {
		d.reject(path+".verb", "is missing: nth and edge count calls of a verb")
	}
	if a.Nth < 0 {
		d.reject(path+".nth", "counts from 1")
	}
	switch {
	case w.Edge && (a.Verb == "" || a.Edge == ""):
		d.reject(path, "%s strikes at {verb, nth, edge}", w.What)
	case !w.Edge && a.Edge != "":
		d.reject(path+".edge", "only worker-kill strikes at an edge")
	}
}

func (d *decoder) attacker(dr *Drill, keys *ids) {
	a := dr.Attacker
	if a == nil {
		return
	}
	if len(a.Knows) == 0 {
		d.reject("attacker.knows", "is missing: an attacker knows at least one key")
	}
	for i, k := range a.Knows {
		d.refersKey(fmt.Sprintf("attacker.knows[%d]", i), k, keys)
	}
	if a.Every < 0 {
		d.reject("attacker.every", "cannot be negative")
	}
	for i, r := range a.Reacts {
		at := fmt.Sprintf("attacker.reacts[%d]", i)
		d.required(at+".on", r.On)
		d.required(at+".do", r.Do)
		d.oneOf(at+".on", r.On, "first-change", "each-change", "first-refusal")
		d.oneOf(at+".do", r.Do, Reactions...)
	}
}

func (d *decoder) judgement(dr *Drill) {
	var ids []string
	for i, e := range dr.Expect {
		at := fmt.Sprintf("expect[%d]", i)
		d.required(at+".id", e.ID)
		d.required(at+".expr", e.Expr)
		if slices.Contains(ids, e.ID) {
			d.reject(at+".id", "%q is used twice", e.ID)
		}
		ids = append(ids, e.ID)
	}
	if len(dr.Expect) == 0 {
		d.reject("expect", "is missing: a drill that expects nothing proves nothing")
	}
	judged := slices.Clone(ids)
	for _, g := range Invariants() {
		judged = append(judged, g.ID)
	}
	for name, c := range dr.Controls {
		at := "controls." + name
		if !namePattern.MatchString(name) {
			d.reject(at, "%q: use lower-case letters, digits and hyphens", name)
		}
		d.required(at+".off", c.Off)
		if len(c.MustViolate) == 0 {
			d.reject(at+".must_violate", "is missing: say what must fail")
		}
		for i, v := range c.MustViolate {
			if !slices.Contains(judged, v) {
				d.reject(fmt.Sprintf("%s.must_violate[%d]", at, i), "no invariant or expectation %q%s", v, didYouMean(v, judged))
			}
		}
	}
}
