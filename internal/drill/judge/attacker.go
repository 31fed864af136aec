package judge

import (
	"slices"
	"time"

	"rekey/internal/event"
	"rekey/internal/lab/control"
)

// malicious is the label of the attacker's uses.
const malicious = "malicious"

// authOnly are calls that answer whoever can sign, whatever is denied to them: they
// do not tell whether a Deny works. "No permissions are required to perform this
// operation. If an administrator attaches a policy to your identity that explicitly
// denies access [...] you can still perform this operation."
// https://docs.aws.amazon.com/STS/latest/APIReference/API_GetCallerIdentity.html
var authOnly = []string{"sts:GetCallerIdentity"}

// span is a time during which a key is said to be dead. A zero end: to this day.
type span struct{ from, to time.Time }

func (s span) has(t time.Time) bool {
	return t.After(s.from) && (s.to.IsZero() || !t.After(s.to))
}

// deadSpans are when an item was said to be dead: from its first proof (or, with
// ended, only from its end state) until it was restored or taken up again.
func (b *bench) deadSpans(fp string, ended bool) []span {
	var out []span
	open := false
	for _, e := range b.byFP[fp] {
		at := instant(e.Time)
		begins := e.Type == event.EventItem && verified(e.Result) || !ended && e.Type == event.EventProbe && e.Result == provenDead
		// A restored key is alive by decision; an item that is reported again is open.
		ends := e.Type == event.EventCallAttempted && e.Verb == "Restore" || e.Type == event.EventItem && !isEnd(e.Result)
		switch {
		case begins && !open:
			out, open = append(out, span{from: at}), true
		case ends && open:
			out[len(out)-1].to, open = at, false
		}
	}
	return out
}

// attackerSuccess is G1: no attacker success after an item is marked verified. An
// item answers for its own key from the proof of death on; from its end state on it
// answers too for sessions derived from it, and for keys the attacker made on its
// principal, as far as these are not items of their own.
func (b *bench) attackerSuccess() ruling {
	r := ruling{absent: "nobody tried a key that was said to be dead"}
	type hit struct {
		key   string
		n     int64
		call  string
		first time.Time
	}
	hits := map[string]*hit{}
	var order []string
	for _, u := range b.in.Oracle.Uses {
		if u.Label != malicious {
			continue
		}
		owner, own, ok := b.answers(u.Key)
		if !ok {
			continue
		}
		tries := int64(0)
		for _, s := range b.deadSpans(owner.FP, !own) {
			tries += within(u, s)
		}
		if tries == 0 || slices.Contains(authOnly, u.Call) && b.diedByDeny(owner, own) {
			continue
		}
		r.checked += tries
		if u.Result != "ok" {
			continue
		}
		h := hits[u.Key]
		if h == nil {
			h = &hit{key: u.Key, call: u.Call, first: u.Last.Time}
			hits[u.Key] = h
			order = append(order, u.Key)
		}
		h.n += tries
		b.effects.AttackerSuccessesAfterVerified += tries
	}
	for _, key := range order {
		h := hits[key]
		owner, own, _ := b.answers(key)
		what := key
		if !own {
			what = key + " (derived from " + owner.name() + ")"
		}
		r.fault("%s: at least %d uses by the attacker succeeded after it was said to be dead, such as %s at %s", what, h.n, h.call, h.first.UTC().Format(time.RFC3339))
	}
	return r
}

// within counts the uses of an entry that are known to lie in the span. Of those
// between the first and the last only the number is known, so they count when both
// ends are inside.
func within(u control.Use, s span) int64 {
	first, last := s.has(u.At.Time), s.has(u.Last.Time)
	switch {
	case first && last:
		return int64(max(u.N, 1))
	case first || last:
		return 1
	}
	return 0
}

// answers gives the item that a credential in the attacker's hands belongs to. own:
// it is the item's key itself.
func (b *bench) answers(key string) (it item, own, ok bool) {
	if it, ok = b.byKey[key]; ok {
		return it, true, true
	}
	for seen := 0; seen <= len(b.sessions); seen++ {
		s, isSession := b.sessions[key]
		if !isSession {
			break
		}
		key = s.Parent
		if it, ok = b.byKey[key]; ok {
			return it, false, true
		}
	}
	k, known := b.keys[key]
	if !known || k.MintedBy != malicious {
		return item{}, false, false
	}
	// Any item of the principal may have made it: it is over when the last one is.
	var last time.Time
	for _, one := range b.items {
		if one.KeyID == "" || b.keys[one.KeyID].User != k.User {
			continue
		}
		spans := b.deadSpans(one.FP, true)
		if len(spans) == 0 {
			return item{}, false, false
		}
		if from := spans[len(spans)-1].from; !ok || from.After(last) {
			it, ok, last = one, true, from
		}
	}
	return it, false, ok
}

// diedByDeny tells whether the item was killed by refusing its principal everything,
// not by taking the key away. Sessions can be ended in no other way.
func (b *bench) diedByDeny(it item, own bool) bool {
	if _, session := b.sessions[it.KeyID]; session || !own {
		return true
	}
	switch it.Death.Rung {
	case "", "key":
		return false
	}
	return true
}
