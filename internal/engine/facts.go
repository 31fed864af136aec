package engine

import (
	"time"

	"rekey/activities"
	"rekey/internal/estate"
	"rekey/playbooks"
	"rekey/workflows"
)

// reportFacts are what is known from the report alone. Possession is unknown until
// the secret was tried.
func reportFacts(rep workflows.Report) playbooks.Facts {
	var f playbooks.Facts
	str := func(name, v string) {
		if v != "" {
			f.Set(name, playbooks.StrFact(v))
		}
	}
	str("report.confidence", rep.Confidence)
	str("report.source", rep.Source)
	str("report.source_kind", rep.SourceKind)
	str("report.provider", rep.Key.Provider)
	str("report.kind", rep.Key.Kind)
	subject := rep.Subject
	if subject == "" {
		subject = "key"
	}
	str("report.subject", subject)
	return f
}

// itemFacts are what is known of one item.
func itemFacts(f *playbooks.Facts, s workflows.Scoped, now time.Time, held bool) {
	str := func(name, v string) {
		if v != "" {
			f.Set(name, playbooks.StrFact(v))
		}
	}
	str("item.provider", s.Key.Provider)
	str("item.account", s.Key.Account)
	str("item.kind", s.Key.Kind)
	f.Set("item.held", playbooks.BoolFact(held))
	str("item.owner", s.Owner)
	str("item.owner_kind", s.OwnerKind)
	str("item.exposure", s.Exposure)
	f.Set("item.reported", playbooks.BoolFact(s.Basis == "report"))
	f.Set("item.unattributed", playbooks.BoolFact(s.Unattributed))
	f.Set("item.created_by_compromised", playbooks.BoolFact(s.CreatedByCompromised))
	if len(s.Customers) > 0 {
		f.Set("item.owner_kind", playbooks.StrFact("customer"))
	}
	if s.Reading == nil {
		return
	}
	if s.Reading.Admin != nil {
		f.Set("item.admin", playbooks.BoolFact(*s.Reading.Admin))
	}
	if !s.Reading.Created.IsZero() {
		f.Set("item.age_days", playbooks.IntFact(estate.Age(s.Reading.Created, now)))
	}
	if s.Reading.Exists != nil && !usesUnseen(s.Reading) {
		f.Set("item.never_used", playbooks.BoolFact(s.Reading.Last.IsZero() && len(s.Reading.Uses) == 0))
	}
}

// A whole is what all items of a scope are together.
type whole struct{ items, customers int }

// A census counts a whole: a customer who has two keys is told once.
type census struct {
	items     int
	customers map[string]struct{}
}

func (c *census) add(customers []string) {
	c.items++
	for _, ref := range customers {
		if c.customers == nil {
			c.customers = map[string]struct{}{}
		}
		c.customers[ref] = struct{}{}
	}
}

func (c *census) whole() whole { return whole{c.items, len(c.customers)} }

// scopeFacts are what is known of the use of one item. What a log that could not
// be read would have shown is unknown, never zero.
func scopeFacts(f *playbooks.Facts, s workflows.Scoped, all whole, now time.Time, declared int64) {
	f.Set("scope.items", playbooks.IntFact(int64(all.items)))
	f.Set("scope.customers", playbooks.IntFact(int64(all.customers)))
	if s.StoreDirty != nil {
		f.Set("scope.attacker_reads_store", playbooks.BoolFact(*s.StoreDirty))
	}
	var malicious, malicious24, unknown24, known, unexplained int64
	if s.Reading != nil {
		for _, u := range s.Reading.Uses {
			recent := now.Sub(u.Last) < day
			month := now.Sub(u.Last) < 30*day
			switch {
			case u.Malicious:
				malicious += u.Count
				if recent {
					malicious24 += u.Count
				}
				continue
			case u.Label == activities.UseKnown && month:
				known++
			case month && u.Count > u.Refused:
				unexplained++
			}
			if u.Label != activities.UseKnown && recent {
				unknown24 += u.Count
			}
		}
	}
	malicious += declared
	malicious24 += declared
	blind := s.Reading == nil || usesUnseen(s.Reading)
	set := func(name string, v int64) {
		if v > 0 || !blind {
			f.Set(name, playbooks.IntFact(v))
		}
	}
	set("scope.malicious_use", malicious)
	set("scope.malicious_use_24h", malicious24)
	set("scope.unknown_use_24h", unknown24)
	// Who is told to use it counts though nobody was seen. A use that nothing
	// explains is a dependent or a thief: nobody knows, so it is neither counted nor
	// ruled out, unless the estate says that the key is nobody's.
	if n := max(known, int64(len(s.Dependents))); n > 0 || unexplained == 0 || s.OwnerKind == "none" {
		set("scope.dependents_seen_30d", n)
	}
	f.Set("scope.dark_days_30d", playbooks.IntFact(darkDays(s.Reading, now)))
}

// usesUnseen tells whether the log of uses could not be read.
func usesUnseen(r *activities.InspectResult) bool {
	for _, u := range r.Unseen {
		switch u.Source {
		case "cloudtrail", "uses":
			return true
		}
	}
	return false
}

// darkDays counts the days of the last 30 without a log.
func darkDays(r *activities.InspectResult, now time.Time) int64 {
	if r == nil || usesUnseen(r) {
		return 30
	}
	from := now.Add(-30 * day)
	var dark time.Duration
	for _, w := range r.Dark {
		a, b := w.From, w.To
		if a.Before(from) {
			a = from
		}
		if b.After(now) {
			b = now
		}
		if b.After(a) {
			dark += b.Sub(a)
		}
	}
	return min(30, int64((dark+day-1)/day))
}
