package judge

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"rekey/internal/event"
	"rekey/internal/view"
)

// unknownQuorum is how many votes an approval needs that does not say how many: the
// ceiling for what cannot be undone (contracts section 1).
const unknownQuorum = 2

// approval is one question to people, with what was answered.
type approval struct {
	incident, id, kind string
	needed             int
	hashes             []string
	wave               int
	items              []string // fingerprints
	grants             []grant
	// ended is when it stopped to be one: denied or voided.
	ended time.Time
}

type grant struct {
	actor string
	at    time.Time
}

// approvedBefore is G10: no high-tier action without a valid approval or a record of
// broken glass. High-tier are what cannot be undone (Revoke), the rungs that stop
// more than the key (Deny; Bind as a rung) and Restore. A policy's approval is no
// vote; broken glass is for containment only (design section 3).
func (b *bench) approvedBefore() ruling {
	r := ruling{absent: "no high-tier action"}
	approvals := b.approvals()
	said := map[string]bool{}
	judge := func(it item, verb string, at time.Time) {
		kind, _ := b.tier(it.FP, verb)
		if reason := b.approvedAt(approvals, it, verb, kind, at); reason != "" && !said[it.FP+verb] {
			said[it.FP+verb] = true
			r.fault("%s of %s at %s: %s", verb, it.name(), at.UTC().Format("2006-01-02T15:04:05.000Z"), reason)
		}
	}
	attempted := map[string]bool{}
	for _, e := range b.events {
		if e.Type != event.EventCallAttempted {
			continue
		}
		if _, high := b.tier(e.FP, e.Verb); !high {
			continue
		}
		r.checked++
		attempted[e.FP+e.Verb], attempted[e.Verb] = true, true
		judge(b.itemOf(e.FP), e.Verb, b.answered(e))
	}
	// What the lab saw and the record does not tell had nobody's approval.
	for _, c := range b.in.Oracle.Calls {
		if !c.Effect {
			continue
		}
		it, scoped := b.byKey[c.Key]
		switch {
		case c.Verb == "Revoke" && scoped && b.keys[c.Key].MintedBy != mintedByEngine:
			if !attempted[it.FP+"Revoke"] {
				r.checked++
				r.fault("Revoke of %s is not on record", c.Key)
				continue
			}
			judge(it, "Revoke", c.At.Time)
		case c.Verb == "Deny" && !attempted["Deny"]:
			r.checked++
			r.fault("Deny on %s is not on record", c.Target)
		}
	}
	return r
}

// tier gives the approval that a verb needs, and whether it needs one at all.
func (b *bench) tier(fp, verb string) (kind string, high bool) {
	switch verb {
	case "Revoke":
		return "irreversible", true
	case "Restore":
		return "restore", true
	case "Deny":
		return "rung", true
	case "Bind":
		climbed := slices.ContainsFunc(b.byFP[fp], func(e event.Event) bool { return e.Type == event.EventLadder && e.Result == "network-bind" })
		return "rung", climbed
	}
	return "", false
}

func (b *bench) itemOf(fp string) item {
	for _, it := range b.items {
		if it.FP == fp {
			return it
		}
	}
	return item{Item: view.Item{FP: fp}, incident: &b.incidents[0]}
}

// answered is when the call of an attempt was over: that is when its effect was
// there at the latest, and the record of an attempt of an older build reckons its
// beginning back from there, to before a vote of the same moment of the world. For
// Revoke the lab's own time is held against the votes besides.
func (b *bench) answered(e event.Event) time.Time {
	for _, a := range b.byFP[e.FP] {
		if (a.Type == event.EventCallConfirmed || a.Type == event.EventCallFailed) && a.Verb == e.Verb && a.Token == e.Token && a.Attempt == e.Attempt && a.Origin.Workflow == e.Origin.Workflow {
			if at := instant(a.Time); at.After(instant(e.Time)) {
				return at
			}
		}
	}
	return instant(e.Time)
}

// approvedAt says why a call at that time was not approved; "" when it was.
func (b *bench) approvedAt(all []*approval, it item, verb, kind string, at time.Time) string {
	best := ""
	for _, a := range all {
		if a.kind != kind || a.incident != it.incident.ID || !a.covers(it) {
			continue
		}
		if !a.ended.IsZero() && !a.ended.After(at) {
			best = "approval " + a.id + " was denied or voided"
			continue
		}
		var voters []string
		for _, g := range a.grants {
			if !g.at.After(at) && !slices.Contains(voters, g.actor) {
				voters = append(voters, g.actor)
			}
		}
		needed := a.needed
		if needed == 0 {
			needed = unknownQuorum
		}
		if len(voters) >= needed {
			return ""
		}
		best = fmt.Sprintf("%d of %d votes of approval %s were there", len(voters), needed, a.id)
	}
	if verb == "Deny" || verb == "Bind" {
		broken := slices.ContainsFunc(b.events, func(e event.Event) bool {
			return e.Type == event.EventBreakGlass && !instant(e.Time).After(at) && b.incidentOf(e) == it.incident.ID &&
				(e.FP == it.FP || e.FP == "" && e.WaveHash != "" && slices.Contains(it.hashes(), e.WaveHash))
		})
		if broken {
			return ""
		}
	}
	if best == "" {
		return "nobody was asked"
	}
	return best
}

// hashes are the hashes of the item's wave.
func (i item) hashes() []string {
	var out []string
	if i.incident.Plan != nil {
		for _, w := range i.incident.Plan.Waves {
			if w.N == i.Wave {
				out = append(out, w.Hash)
			}
		}
	}
	return out
}

// covers tells whether the question was about the item: by name, else by wave.
func (a *approval) covers(it item) bool {
	if len(a.items) > 0 {
		return slices.Contains(a.items, it.FP)
	}
	if a.wave > 0 && a.wave == it.Wave {
		return true
	}
	return slices.ContainsFunc(it.hashes(), func(h string) bool { return slices.Contains(a.hashes, h) })
}

// approvals puts together what the view says of a question (whom it is about) and
// what the record says of its answers. Votes count from the record only.
func (b *bench) approvals() []*approval {
	byID := map[[2]string]*approval{}
	var out []*approval
	get := func(incident, id string) *approval {
		a := byID[[2]string{incident, id}]
		if a == nil {
			a = &approval{incident: incident, id: id}
			byID[[2]string{incident, id}] = a
			out = append(out, a)
		}
		return a
	}
	for _, inc := range b.incidents {
		for _, v := range inc.Approvals {
			a := get(inc.ID, v.ID)
			a.kind, a.needed, a.wave, a.items = v.For, v.Needed, v.Wave, v.Items
			a.hashes = append(a.hashes, v.WaveHash)
		}
	}
	for _, e := range b.events {
		if e.Approval == "" {
			continue
		}
		a := get(b.incidentOf(e), e.Approval)
		switch e.Type {
		case event.EventApprovalAsked:
			a.kind = e.Result
			if n, err := strconv.Atoi(e.Attrs["needed"]); err == nil {
				a.needed = max(a.needed, n)
			}
		case event.EventApprovalGiven:
			if a.kind == "" {
				a.kind = e.Result
			}
			if !strings.HasPrefix(e.Actor, "policy:") {
				a.grants = append(a.grants, grant{e.Actor, instant(e.Time)})
			}
		case event.EventApprovalDenied, event.EventApprovalVoided:
			a.ended = instant(e.Time)
		default:
			continue
		}
		if e.WaveHash != "" {
			a.hashes = append(a.hashes, e.WaveHash)
		}
	}
	return out
}

// incidentOf is the incident of an event; one that does not say belongs to the
// first.
func (b *bench) incidentOf(e event.Event) string {
	if e.Incident == "" {
		return b.in.Final.ID
	}
	return e.Incident
}
