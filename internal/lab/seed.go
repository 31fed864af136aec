package lab

import (
	"fmt"
	"slices"
	"time"

	"rekey/internal/lab/awssim"
	"rekey/internal/lab/scenario"
)

// seed makes the world as it is at T0, with the past its log shows.
func (w *world) seed() error {
	d := w.drill
	w.seedOnly = true
	defer func() { w.seedOnly = false }()
	w.st = persisted{Now: w.t0, T0: w.t0, WallT0: time.Now(), Scenario: d.Name, Aliases: map[string]string{}, Faults: make([]*faultState, len(d.Faults))}
	for i := range w.st.Faults {
		w.st.Faults[i] = &faultState{}
	}
	year := 365 * 24 * time.Hour
	engineKey, err := w.sim.AddEngine(engineUser, engineRole, w.t0.Add(-year))
	if err != nil {
		return err
	}
	w.st.EngineKey, w.st.Aliases["engine"] = engineKey, engineKey
	for _, k := range d.AllKeys(w.scale) {
		if _, twice := w.st.Aliases[k.ID]; twice {
			return fmt.Errorf("at scale %d key %s is made twice: entries of generate with from do not grow", w.scale, k.ID)
		}
		issued := w.t0.Add(-year)
		if !k.Issued.IsZero() {
			issued = k.Issued.Resolve(w.t0)
		}
		var policies []string
		if k.Policy != "" && k.Policy != "none" {
			policies = append(policies, k.Policy)
		}
		if err := w.sim.AddUser(k.User, issued, policies...); err != nil {
			return fmt.Errorf("key %s: %w", k.ID, err)
		}
		status := awssim.Active
		if k.Status == "inactive" {
			status = awssim.Inactive
		}
		w.st.Aliases[k.ID] = w.sim.AddKey(k.User, issued, status)
	}
	if slices.ContainsFunc(d.People, func(p scenario.Person) bool { return p.First != nil }) {
		if err := w.sim.AddUser(operatorUser, w.t0.Add(-year), "AdministratorAccess"); err != nil {
			return err
		}
		w.st.OperatorKey = w.sim.AddKey(operatorUser, w.t0.Add(-year), awssim.Active)
	}
	dependents := d.AllDependents(w.scale, w.t0)
	if err := w.seedConsumers(dependents); err != nil {
		return err
	}
	w.seedAttacker()
	w.seedPast(dependents)
	w.st.Now = w.t0
	return nil
}

const consumerAgent = "aws-sdk-go-v2/1.30.3 os/linux lang/go#1.22 app/"

func (w *world) seedConsumers(dependents []scenario.Dependent) error {
	stores := map[string]string{}
	for i, dep := range dependents {
		for j, key := range dep.Keys {
			c := &consumer{ID: dep.ID, Dependent: true, Source: "dependent/" + dep.ID, Label: "legit", IP: fmt.Sprintf("203.0.113.%d", 20+i%200), ASN: 64496,
				Agent: consumerAgent + dep.ID, Calls: dep.Calls, Every: dep.Every.D(), Left: -1, KeyID: w.st.Aliases[key], Cutover: dep.Cutover}
			if len(c.Calls) == 0 {
				c.Calls = harmless()
			}
			if c.Every == 0 {
				c.Every = 10 * time.Minute
			}
			// Not all at the same moment, and not at T0 itself: a fixed share of the period by place.
			c.Next = w.t0.Add((c.Every * time.Duration(1+i%7) / 8).Truncate(time.Millisecond))
			if !dep.Moves.IsZero() {
				c.Moves = dep.Moves.Resolve(w.t0)
			}
			if j == 0 {
				c.Store = dep.Store
				if c.Store == "" {
					c.Store = dep.Owner + "/aws"
				}
				if had, ok := stores[c.Store]; ok && had != key {
					return fmt.Errorf("dependent %s: store %s holds key %s already, not %s: give it a store of its own", dep.ID, c.Store, had, key)
				} else if !ok {
					stores[c.Store] = key
					if err := w.sim.AddStore(c.Store, c.KeyID, w.t0.Add(-24*time.Hour)); err != nil {
						return err
					}
				}
			}
			w.consumers = append(w.consumers, c)
		}
	}
	for i, c := range w.drill.Estate.Copies {
		if !c.Relaunch.IsZero() {
			w.place(c.Where, c.Key, c.Relaunch.Resolve(w.t0), i)
		}
	}
	for _, u := range w.drill.Estate.Uses {
		if at := u.At.Resolve(w.t0); !at.Before(w.t0) {
			w.consumers = append(w.consumers, &consumer{ID: "use/" + u.Key, Source: sourceOf(u), Label: labelOf(u), IP: ipOf(u), ASN: u.ASN,
				Agent: consumerAgent + "use", Calls: u.Calls, Every: u.Every.D(), Next: at, Left: max(u.Times, 1), KeyID: w.st.Aliases[u.Key]})
		}
	}
	for i, f := range w.drill.Faults {
		at := w.t0
		if !f.At.Time.IsZero() {
			at = f.At.Time.Resolve(w.t0)
		}
		switch f.What {
		case "hidden-copy", "undocumented-dependent":
			c := w.place(f.Where, f.Key, at, 100+i)
			if f.For > 0 {
				c.Until = at.Add(f.For.D())
			}
		case "stale-cache":
			for _, c := range w.consumers {
				if c.Dependent && c.ID == f.Dependent {
					c.Stale = f.For.D()
				}
			}
		}
	}
	return nil
}

// place makes a consumer nobody registered; its user agent carries the place as its app id.
func (w *world) place(where, key string, at time.Time, n int) *consumer {
	c := &consumer{ID: "copy/" + where, Source: where, Label: "legit", IP: fmt.Sprintf("192.0.2.%d", 10+n%200), ASN: 64497,
		Agent: "aws-sdk-go-v2/1 app/" + where, Calls: harmless(), Every: 10 * time.Minute, Next: at, Left: -1, KeyID: w.st.Aliases[key]}
	w.consumers = append(w.consumers, c)
	return c
}

func (w *world) seedAttacker() {
	a := &attacker{ASN: 64500}
	if sc := w.drill.Attacker; sc != nil {
		if sc.ASN != 0 {
			a.ASN = sc.ASN
		}
		for _, k := range sc.Knows {
			a.Knows = append(a.Knows, w.st.Aliases[k])
		}
		a.Every = sc.Every.D()
		if a.Every == 0 {
			a.Every = time.Minute
		}
		a.Next = w.t0.Add(a.Every)
		for _, r := range sc.Reacts {
			a.Reacts = append(a.Reacts, &reaction{Reaction: r})
		}
	}
	for _, f := range w.drill.Faults {
		if f.What != "attacker-mints" && f.What != "residual-session" && f.What != "planted-persistence" {
			continue
		}
		id := w.st.Aliases[f.Key]
		if !a.knows(id) {
			a.Knows = append(a.Knows, id)
		}
		do := f.Do
		if do == "" {
			do = map[string]string{"attacker-mints": "CreateAccessKey", "residual-session": "GetSessionToken"}[f.What]
		}
		if f.What == "attacker-mints" && f.At.Time.IsZero() {
			a.Reacts = append(a.Reacts, &reaction{Reaction: scenario.Reaction{On: "first-change", Do: do}, Key: id})
			continue
		}
		at := w.t0.Add(-time.Hour)
		if !f.At.Time.IsZero() {
			at = f.At.Time.Resolve(w.t0)
		}
		for range max(f.Times, 1) {
			a.Planned = append(a.Planned, &plannedAct{At: at, Do: do, Key: id, Life: f.For.D(), Job: f.Where})
			at = at.Add(time.Minute)
		}
		if do == "PutRule" {
			w.st.Jobs = append(w.st.Jobs, &job{Name: f.Where, Due: f.Due.Resolve(w.t0), User: w.sim.State().Keys[id].User})
		}
	}
	if len(a.Knows) > 0 {
		w.st.Attacker = a
	}
}

// pastUses is how many uses of a dependent before T0 are in the log.
const pastUses = 12

// seedPast makes what the log shows of the time before T0, in order of time.
func (w *world) seedPast(dependents []scenario.Dependent) {
	type past struct {
		at time.Time
		do func()
	}
	var all []past
	use := func(a awssim.Actor, call string, at time.Time) {
		service, action := splitCall(call)
		all = append(all, past{at, func() { w.sim.PastCall(a, service, action, at) }})
	}
	lastUse := map[string]time.Time{}
	for _, k := range w.drill.Estate.Keys {
		if !k.LastLegitUse.IsZero() {
			lastUse[k.ID] = k.LastLegitUse.Resolve(w.t0)
		}
	}
	seen := map[string]bool{}
	next := 0 // consumers of dependents come first, in this very order
	for _, dep := range dependents {
		for _, key := range dep.Keys {
			c := w.consumers[next]
			next++
			every, times := dep.Past.Every.D(), dep.Past.Times
			if times == 0 {
				every, times = c.Every, pastUses
			}
			end, ok := lastUse[key]
			if !ok {
				end = w.t0.Add(-every)
			}
			seen[key] = true
			for n := range times {
				for _, call := range c.Calls {
					use(awssim.Actor{KeyID: c.KeyID, SourceIP: c.IP, ASN: c.ASN, UserAgent: c.Agent, Label: "legit", Source: c.Source}, call, end.Add(-time.Duration(n)*every))
				}
			}
		}
	}
	for _, k := range w.drill.Estate.Keys {
		if at, ok := lastUse[k.ID]; ok && !seen[k.ID] {
			use(awssim.Actor{KeyID: w.st.Aliases[k.ID], SourceIP: "203.0.113.19", ASN: 64496, UserAgent: consumerAgent + k.User, Label: "legit", Source: "owner/" + k.User}, "DescribeInstances", at)
		}
	}
	for _, u := range w.drill.Estate.Uses {
		at := u.At.Resolve(w.t0)
		for n := range max(u.Times, 1) {
			for i, call := range u.Calls {
				t := at.Add(time.Duration(n)*u.Every.D() + time.Duration(i)*time.Second)
				if at.Before(w.t0) && t.Before(w.t0) {
					use(awssim.Actor{KeyID: w.st.Aliases[u.Key], SourceIP: ipOf(u), ASN: u.ASN, UserAgent: "Boto3/1.9.210 Python/3.7.4 Linux", Label: labelOf(u), Source: sourceOf(u)}, call, t)
				}
			}
		}
	}
	if a := w.st.Attacker; a != nil {
		var later []*plannedAct
		for _, p := range a.Planned {
			if !p.At.Before(w.t0) {
				later = append(later, p)
				continue
			}
			all = append(all, past{p.At, func() { w.act(a, p) }})
		}
		a.Planned = later
	}
	slices.SortStableFunc(all, func(a, b past) int { return a.at.Compare(b.at) })
	for _, p := range all {
		w.st.Now = p.at
		p.do()
	}
}

func sourceOf(u scenario.Use) string {
	if u.Source != "" {
		return u.Source
	}
	if u.Label == "malicious" {
		return "attacker"
	}
	return "use"
}

func labelOf(u scenario.Use) string {
	if u.Label == "" {
		return "legit"
	}
	return u.Label
}

func ipOf(u scenario.Use) string {
	if u.SourceIP != "" {
		return u.SourceIP
	}
	return addressOf(u.ASN)
}
