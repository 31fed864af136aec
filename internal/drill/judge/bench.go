package judge

import (
	"slices"
	"time"

	"rekey/internal/cli"
	"rekey/internal/event"
	"rekey/internal/lab/control"
	"rekey/internal/view"
)

// bench is the evidence, laid out so that it can be asked.
type bench struct {
	in        Input
	incidents []view.Incident
	items     []item
	byKey     map[string]item
	keys      map[string]control.Key     // what the provider has, by id
	sessions  map[string]control.Session // by id
	byFP      map[string][]event.Event   // in the order of time
	events    []event.Event              // in the order of time
	effects   cli.Effects
}

// item is an item together with the incident it belongs to.
type item struct {
	view.Item
	incident *view.Incident
}

func newBench(in Input) *bench {
	b := &bench{
		in: in, incidents: append([]view.Incident{in.Final}, in.Others...), byKey: map[string]item{},
		keys: map[string]control.Key{}, sessions: map[string]control.Session{}, byFP: map[string][]event.Event{},
	}
	for i := range b.incidents {
		inc := &b.incidents[i]
		for _, it := range inc.Items {
			one := item{it, inc}
			b.items = append(b.items, one)
			if it.KeyID != "" {
				b.byKey[it.KeyID] = one
			}
		}
	}
	for _, k := range in.Oracle.Keys {
		b.keys[k.ID] = k
	}
	for _, s := range in.Oracle.Sessions {
		b.sessions[s.ID] = s
	}
	// A bundle that extends another keeps the sealed order, so that an event of a
	// history that was read late stands behind later ones.
	b.events = slices.Clone(in.Events)
	slices.SortStableFunc(b.events, func(x, y event.Event) int { return instant(x.Time).Compare(instant(y.Time)) })
	for _, e := range b.events {
		if e.FP != "" {
			b.byFP[e.FP] = append(b.byFP[e.FP], e)
		}
	}
	b.effects.Calls = int64(len(in.Oracle.Calls))
	return b
}

// instant reads a time of a view or an event; what is none is the zero time.
func instant(s string) time.Time {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return time.Time{}
	}
	return t
}

// name is how an item is called in a detail.
func (i item) name() string {
	switch {
	case i.KeyID != "":
		return i.KeyID
	case i.Short != "":
		return i.Short
	}
	return i.FP
}

// End states (design section 2).
const (
	endRevoked  = "revoked-verified"
	endExpired  = "expired-verified"
	endNever    = "never-existed-proven"
	endAccepted = "accepted-risk"
	endCustomer = "customer-action-open"
)

func isEnd(state string) bool {
	switch state {
	case endRevoked, endExpired, endNever, endAccepted, endCustomer:
		return true
	}
	return false
}

// verified tells whether an end state says that the key is dead.
func verified(state string) bool { return state == endRevoked || state == endExpired }

// provenDead is the result of the probe.result event that ends a series of probes.
const provenDead = "dead"

// newKeys are the ids of the keys that the incidents say they issued, each once.
func (b *bench) newKeys() []string {
	var out []string
	add := func(id string) {
		if id != "" && !slices.Contains(out, id) {
			out = append(out, id)
		}
	}
	for _, it := range b.items {
		add(it.Adoption.NewKeyID)
	}
	for _, e := range b.events {
		if e.Type == event.EventReissued || e.Type == event.EventItem {
			add(e.Attrs["new_key_id"])
		}
	}
	return out
}
