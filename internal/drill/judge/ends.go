package judge

import (
	"slices"

	"rekey/internal/event"
)

// endStates is G5: every scoped item ends in exactly one end state, and the record
// says the same as the view. An accepted risk has a person and a date (design
// section 2).
func (b *bench) endStates() ruling {
	r := ruling{absent: "nothing is in scope"}
	for _, inc := range b.incidents {
		if missing := inc.Totals.Items - len(inc.Items); missing > 0 {
			r.fault("%d of %d items of %s were not shown to the judge", missing, inc.Totals.Items, inc.ID)
		}
	}
	for _, it := range b.items {
		r.checked++
		recorded := b.recordedEnds(it.FP)
		switch {
		case it.EndState == "":
			r.fault("%s is in no end state", it.name())
		case !isEnd(it.EndState):
			r.fault("%s ended as %q, which is no end state", it.name(), it.EndState)
		case len(recorded) > 1:
			r.fault("%s is in %d end states on record: %v", it.name(), len(recorded), recorded)
		case len(recorded) == 1 && recorded[0] != it.EndState:
			r.fault("%s ended as %s, the record says %s", it.name(), it.EndState, recorded[0])
		case len(recorded) == 0 && !(verified(it.EndState) && len(b.deadSpans(it.FP, false)) > 0):
			// An item whose replacement is not adopted yet is proven dead on record; its
			// end-state event comes when both obligations are met.
			r.fault("%s ended as %s, and no record says so", it.name(), it.EndState)
		case it.EndState == endAccepted && (it.Approver == "" || it.Until == ""):
			r.fault("%s is an accepted risk without a person and a date", it.name())
		}
	}
	return r
}

// recordedEnds are the different end states that the record gives an item since it
// was last taken up.
func (b *bench) recordedEnds(fp string) []string {
	var out []string
	for _, e := range b.byFP[fp] {
		switch {
		case e.Type != event.EventItem:
		case !isEnd(e.Result):
			out = nil // reported again
		case !slices.Contains(out, e.Result):
			out = append(out, e.Result)
		}
	}
	return out
}

// gateWarn is the gate between a notice and the cut (contracts section 2).
const gateWarn = "warn-before-cut"

// warnedBeforeCut is G7: a customer was warned before its key was cut, or an
// override of the gate is on record.
func (b *bench) warnedBeforeCut() ruling {
	if len(b.in.Customers) == 0 {
		return ruling{absent: "no customers"}
	}
	r := ruling{absent: "no customer's key was cut"}
	for _, it := range b.items {
		ref := b.customerOf(it)
		if ref == "" {
			continue
		}
		call, cut := b.cut(it.KeyID)
		if !cut {
			continue
		}
		r.checked++
		warned := slices.ContainsFunc(b.events, func(e event.Event) bool {
			return !instant(e.Time).After(call.At.Time) && warns(e, it.FP, ref)
		})
		if !warned {
			r.fault("%s of customer %s was cut at %s without a warning or an override on record", it.name(), ref, call.At.UTC().Format("2006-01-02T15:04:05.000Z"))
		}
	}
	return r
}

// customerOf is the customer whose key an item is. Customers name keys by the
// provider's id or by the scenario's.
func (b *bench) customerOf(it item) string {
	if it.KeyID == "" {
		return ""
	}
	for _, c := range b.in.Customers {
		if slices.Contains(c.Keys, it.KeyID) || b.keys[it.KeyID].Alias != "" && slices.Contains(c.Keys, b.keys[it.KeyID].Alias) {
			return c.Ref
		}
	}
	return ""
}

// warns tells whether the event opens the gate of the item, or says that its
// customer has the notice.
func warns(e event.Event, fp, ref string) bool {
	switch e.Type {
	case event.EventGate:
		return e.FP == fp && (e.Attrs["gate"] == gateWarn || e.Attrs["for"] == gateWarn)
	case event.EventNotice:
		arrived := e.Result == "delivered" || e.Result == "acknowledged"
		return arrived && (e.FP == fp || e.FP == "" && e.Attrs["recipient"] == ref)
	}
	return false
}

// obligations is G9: all obligations are listed with their clocks.
func (b *bench) obligations() ruling {
	r := ruling{absent: "no obligations"}
	for _, inc := range b.incidents {
		for _, o := range inc.Obligations {
			r.checked++
			switch {
			case o.ID == "" || o.What == "":
				r.fault("an obligation of %s has no name", inc.ID)
			case instant(o.Due).IsZero():
				r.fault("obligation %s of %s has no clock", o.ID, inc.ID)
			}
		}
	}
	return r
}
