package page

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"rekey/activities"
)

// Kinds of [Order].
const (
	OrderHold     = "hold"     // they must not move
	OrderRelease  = "release"  // they may
	OrderPromote  = "promote"  // abuse was seen: cut now
	OrderPull     = "pull"     // the incident moves them one by one
	OrderAccept   = "accept"   // they end as somebody decided: As, Actor, Text, Until
	OrderAttest   = "attest"   // a person says that their dependents have moved; As "waived": that they need not
	OrderTold     = "told"     // their owners were told
	OrderResolve  = "resolve"  // what a person had to mend is mended; As "by-hand": a person did it, "adopted", "waived"
	OrderOverride = "override" // the cut-off is now
	OrderForget   = "forget"   // the sealed secrets are destroyed
)

// An Order is what people or evidence say of rows that stand in a page.
type Order struct {
	Kind string `json:"kind"`
	// FPs names the rows, Set is the hash of a blob with further fingerprints, one a
	// line, sorted; All means every row.
	FPs []string `json:"fps,omitempty"`
	Set string   `json:"set,omitempty"`
	All bool     `json:"all,omitempty"`
	// Why limits resolve to rows that wait for this.
	Why   string    `json:"why,omitempty"`
	As    string    `json:"as,omitempty"`
	Actor string    `json:"actor,omitempty"`
	Text  string    `json:"text,omitempty"`
	Until time.Time `json:"until,omitzero"`
}

// strikes tells whether the order is about a row. FPs holds the set as well, sorted.
func (o *Order) strikes(r *Row) bool {
	if o.Why != "" && o.Why != r.Next.Why && o.Why != r.Stuck {
		return false
	}
	if o.All {
		return true
	}
	_, ok := slices.BinarySearch(o.FPs, r.FP)
	return ok
}

// Obey applies orders to a row in their order and decides anew what it needs. It gives
// the number of orders that were about it.
func (f *Facts) Obey(r *Row, orders []Order, now time.Time) int {
	n := 0
	for i := range orders {
		if o := &orders[i]; o.strikes(r) {
			n++
			f.obey(r, o, now)
		}
	}
	return n
}

func (f *Facts) obey(r *Row, o *Order, now time.Time) {
	switch o.Kind {
	case OrderHold:
		// A round of probes, and the wait for a new key, begin anew afterwards.
		r.Held, r.Round, r.Blurred, r.Since = true, 0, false, At{}
	case OrderRelease:
		r.Held = false
	case OrderPromote:
		r.Promoted = true
	case OrderPull:
		if r.End == "" || !r.Next.Over() {
			r.Next = Next{Verb: r.Next.Verb, Mode: r.Next.Mode, Gate: GatePull, Why: o.Text}
		}
	case OrderAccept:
		if r.End == "" {
			r.EndBy, r.EndWhy, r.EndUntil = o.Actor, o.Text, At{}
			if !o.Until.IsZero() {
				r.EndUntil = at(o.Until)
			}
			r.end(o.As, now)
			r.Next = Next{}
		}
	case OrderAttest:
		if r.Attested = true; o.As == waived {
			r.settle(waived)
		}
	case OrderTold:
		r.Told = true
	case OrderOverride:
		r.CutNow = true
	case OrderForget:
		// From now on the provider's state answers for the old key, and the use by
		// dependents for the new one.
		r.Secret, r.Handle, r.Round, r.Blurred = "", "", 0, false
	case OrderResolve:
		r.resolve(o, now)
	}
	f.reconsider(r, now)
}

// settle takes a person's word about the replacement.
func (r *Row) settle(as string) {
	if !r.settled() {
		r.Adoption = as
	}
}

// resolve takes the word of a person who was asked.
func (r *Row) resolve(o *Order, now time.Time) {
	v, told := r.Next.Verb, r.Next.Gate == GateNotice
	adopting := r.End == endRevoked && !r.settled()
	if r.Next.Gate == GatePull || r.Stuck == "" && r.Next.Gate != GateHuman && !told && !adopting {
		return
	}
	stuck := r.Stuck != ""
	r.Told = r.Told || told
	if !adopting {
		r.fresh()
	}
	switch {
	case o.As == adopted || o.As == waived:
		r.settle(o.As)
	case adopting || r.Next.Why == WhyAdopt:
		r.settle(adopted)
	case o.As != "by-hand" || !stuck || !v.Mutates():
	case v == activities.Issue:
		r.ByHand = true
	default:
		a := activities.Attempt{FP: r.FP, Verb: v, At: now, Outcome: activities.Assumed, Detail: "by hand, says " + o.Actor}
		r.saw(a)
		if v == activities.Distribute {
			r.Handed, r.Placed, r.Adoption = len(r.Stores), at(now), distributed
			return
		}
		r.struck(v, a, now)
	}
}

// Sort puts rows of one account into groups by what they need next; each group has at
// most Size rows. Rows and groups are in a stable order.
func Sort(rows []Row) [][]Row {
	slices.SortStableFunc(rows, func(a, b Row) int {
		return cmp.Or(strings.Compare(a.Group(), b.Group()), strings.Compare(a.FP, b.FP))
	})
	var out [][]Row
	for i := 0; i < len(rows); {
		j := i
		for j < len(rows) && j-i < Size && rows[j].Group() == rows[i].Group() {
			j++
		}
		out = append(out, rows[i:j:j])
		i = j
	}
	return out
}

// Group names the group of a row: those with the same name need the same next, of the
// same account.
func (r *Row) Group() string {
	n := &r.Next
	due := ""
	if !n.Due.IsZero() {
		due = n.Due.UTC().Format(time.RFC3339)
	}
	return strings.Join([]string{r.Provider, r.Account, due, n.Gate, string(n.Verb), n.Mode, n.Vantage, n.Why}, "\x00")
}
