package report

import (
	"fmt"
	"html/template"
	"slices"
	"strings"
	"time"

	"rekey/internal/audit"
	"rekey/internal/view"
	"rekey/playbooks"
)

// page is what the template draws.
type page struct {
	Style   template.CSS
	Policy  string
	ID      string
	Verdict verdict
	View    view.Incident
	HasView bool
	Story   *audit.Story
	Cards   []card
	Drawing drawing
	Items   []itemRow
	More    int
	Mass    *massView
	Votes   []voteRow
	Told    []toldRow
	Places  []*placeRow
	Open    []openRow
	Calls   []callRow
	Notes   []noteRow
	Gaps    []gapRow
	Events  []audit.Event
	Total   int
	Hidden  int64
	Options Options
}

type verdict struct {
	Class string // contained, all-clear, open
	Word  string
	Text  string
}

type card struct{ Name, Value, Text string }

type itemRow struct {
	Key, Short, Kind, Where, Owner, Strategy, Rule string
	EndState, Class                                string
	Grade, Rung, NewKey                            string
	Since, Dead, Revoked                           time.Time
	SinceKnown                                     bool
	Exposure                                       string
	Refusals                                       int
}

type voteRow struct {
	At                           time.Time
	What, Class, Who, Role, Auth string
	For, Wave, Note              string
}

type toldRow struct {
	Who, Channel, Audience, Version, State, Class string
	At                                            time.Time
}

type openRow struct{ What, Why, Owner, Due string }

type callRow struct {
	Verb                   string
	Attempts, Retries      int
	Outcomes, Reconciled   string
	firstSeen, reconcileds int
	outcomes               map[string]int
}

type noteRow struct {
	At        time.Time
	Who, Text string
}

type gapRow struct{ What, From, To, Why string }

func newPage(events []audit.Event, inc view.Incident, opts Options) page {
	s := audit.Tell(events)
	p := page{ID: inc.ID, View: inc, HasView: inc.ID != "", Story: s, Total: len(events), Hidden: opts.Hidden, Options: opts}
	if p.ID == "" {
		p.ID = s.Incident
	}
	if p.Options.File == "" {
		p.Options.File = p.ID + ".zip"
	}
	p.Events = events[:min(len(events), 10*MaxRows)]
	p.items(s, inc)
	p.Mass = newMass(opts.Mass)
	p.read(events)
	p.open(inc)
	p.judge(s, inc)
	p.Cards = cards(s, opts.Mass)
	p.Drawing = draw(s)
	return p
}

// judge gives the sentence that is read first. The state comes from the record; what
// the events do not show as proven is never called so.
func (p *page) judge(s *audit.Story, inc view.Incident) {
	state := s.State
	if state == "" && inc.State != "" {
		state = inc.State
	}
	dead, open, all := 0, 0, len(s.Items)
	if m := p.Options.Mass; m != nil {
		dead, open, all = m.Dead, m.Open+m.ByEndState["customer-action-open"], all+m.Items
	}
	for _, item := range s.Items {
		if !item.Dead.IsZero() {
			dead++
		}
		if item.EndState == "" || item.EndState == "customer-action-open" {
			open++
		}
	}
	text := fmt.Sprintf("%d of %s proven dead.", dead, count(all, "item is", "items are"))
	if dead == all && dead > 0 {
		text = "Every item is proven dead."
		if dead == 1 {
			text = "The one item is proven dead."
		}
	}
	if n := len(p.Open); n > 0 {
		text += " " + count(n, "thing is", "things are") + " still open, listed below with owner and date."
	}
	switch {
	case state == "all-clear" && open == 0:
		p.Verdict = verdict{"all-clear", "All clear", text}
	case state == "contained" || state == "all-clear":
		p.Verdict = verdict{"contained", "Contained", text}
	default:
		p.Verdict = verdict{"open", "Open", text}
	}
}

func cards(s *audit.Story, m *audit.Mass) []card {
	var out []card
	longest, worst := time.Duration(-1), (*audit.ItemStory)(nil)
	through, refused := 0, 0
	dead := 0
	for _, item := range s.Items {
		if d, ok := item.Exposure(); ok {
			dead++
			if d > longest {
				longest, worst = d, item
			}
		}
		for _, h := range item.Hits {
			switch {
			case h.What == audit.HitRefused:
				refused++
			case !item.Dead.IsZero() && h.At.After(item.Dead):
				through++
			}
		}
	}
	if worst != nil {
		text := "longest, " + name(worst)
		if !worst.ExposedKnown {
			text += "; counted from the report, as nobody said since when"
		}
		out = append(out, card{"Exposed to proven dead", duration(longest), text})
	}
	if d, ok := s.TimeToFirstCall(); ok {
		out = append(out, card{"Report to first containment", duration(d), "until the provider confirmed it"})
	}
	if d, ok := s.TimeToContain(); ok {
		out = append(out, card{"Report to contained", duration(d), "the last item was settled"})
	} else {
		out = append(out, card{"Report to contained", "–", "not every item is settled"})
	}
	items := len(s.Items)
	if m != nil {
		items, dead = items+m.Items, dead+m.Dead
	}
	out = append(out, card{"Items", fmt.Sprint(items), fmt.Sprintf("%d proven dead", dead)})
	text := "none seen"
	if refused > 0 {
		text = fmt.Sprintf("%d refused in all", refused)
	}
	return append(out, card{"Uses that got through after death", fmt.Sprint(through), text})
}

// items joins what the events prove with what the view names.
func (p *page) items(s *audit.Story, inc view.Incident) {
	seen := map[string]view.Item{}
	for _, item := range inc.Items {
		seen[item.FP] = item
	}
	for i, item := range s.Items {
		if i >= MaxRows {
			p.More = len(s.Items) - MaxRows
			return
		}
		v := seen[item.FP]
		row := itemRow{
			Key: first(item.KeyID, v.KeyID), Short: short(item.FP), Kind: first(item.Kind, v.Kind),
			Where: strings.Trim(first(item.Provider, v.Provider)+"/"+first(item.Account, v.Account), "/"),
			Owner: v.Owner, Strategy: first(item.Strategy, v.Strategy), Rule: v.Rule,
			EndState: item.EndState, Grade: item.Grade, Rung: item.Rung, NewKey: first(item.NewKeyID, v.Adoption.NewKeyID),
			Since: item.Exposed, SinceKnown: item.ExposedKnown, Dead: item.Dead, Revoked: item.Revoked,
		}
		for _, probe := range item.Probes {
			if probe.What == "refused" {
				row.Refusals++
			}
		}
		if d, ok := item.Exposure(); ok {
			row.Exposure = duration(d)
		}
		row.Class = endClass(item.EndState)
		p.Items = append(p.Items, row)
	}
}

// read fills the tables that come from single events.
func (p *page) read(events []audit.Event) {
	calls := map[string]*callRow{}
	for i := range events {
		e := &events[i]
		at, err := time.Parse(time.RFC3339, e.Time)
		if err != nil {
			at = p.Story.First
		}
		switch e.Type {
		case audit.EventApprovalAsked, audit.EventApprovalGiven, audit.EventApprovalDenied, audit.EventApprovalExpired, audit.EventApprovalVoided, audit.EventBreakGlass, audit.EventRefused, audit.EventHoldSet, audit.EventHoldReleased, audit.EventHoldExpired, audit.EventContain:
			p.vote(e, at)
		case audit.EventNotice:
			p.told(e, at)
		case audit.EventGate:
			if e.Attrs[audit.AttrGate] == playbooks.GateWarnBeforeCut {
				p.told(e, at)
			}
		case audit.EventRecordTold, audit.EventRecordBehind, audit.EventRecordCaught:
			p.followed(e, at)
		case audit.EventGap:
			p.Gaps = append(p.Gaps, gapRow{first(e.Attrs[audit.AttrWhat], e.Attrs[audit.AttrWorkflow]), e.Attrs[audit.AttrFrom], e.Attrs[audit.AttrTo], first(e.Attrs[audit.AttrWhy], e.Result)})
		case audit.EventNote, audit.EventHumanDone:
			p.Notes = append(p.Notes, noteRow{at, e.Actor, strings.Trim(first(e.Attrs[audit.AttrText], e.Attrs[audit.AttrWhat], e.Result)+": "+e.Attrs[audit.AttrSays], ": ")})
		case audit.EventCallAttempted, audit.EventCallConfirmed, audit.EventCallFailed, audit.EventReconciled, audit.EventProbe, audit.EventPass:
			if e.Verb != "" {
				tally(calls, e)
			}
		}
	}
	for _, c := range calls {
		c.Outcomes = words(c.outcomes)
		if c.reconcileds > 0 {
			c.Reconciled = count(c.reconcileds, "lost answer settled", "lost answers settled")
		}
		p.Calls = append(p.Calls, *c)
	}
	slices.SortFunc(p.Calls, func(a, b callRow) int { return a.firstSeen - b.firstSeen })
	slices.SortStableFunc(p.Votes, func(a, b voteRow) int { return a.At.Compare(b.At) })
}

// told lists a notice, or what the gate before a cut opened on.
func (p *page) told(e *audit.Event, at time.Time) {
	if len(p.Told) < MaxRows {
		p.Told = append(p.Told, toldRow{first(e.Attrs[audit.AttrRecipient], "owner of "+short(e.FP)), first(e.Attrs[audit.AttrChannel], "–"), first(e.Attrs[audit.AttrAudience], e.Attrs[audit.AttrGate]),
			first(e.Attrs[audit.AttrVersion], "–"), first(e.Result, "rendered"), toldClass(e.Result), at})
	}
}

func tally(calls map[string]*callRow, e *audit.Event) {
	c := calls[e.Verb]
	if c == nil {
		c = &callRow{Verb: e.Verb, outcomes: map[string]int{}, firstSeen: len(calls)}
		calls[e.Verb] = c
	}
	switch e.Type {
	case audit.EventPass:
		c.pass(e)
	case audit.EventReconciled:
		c.reconcileds++
	case audit.EventCallAttempted:
		c.Attempts++
		if e.Attempt > 1 {
			c.Retries++
		}
	default:
		c.outcomes[e.Result]++
	}
}

func (p *page) vote(e *audit.Event, at time.Time) {
	if len(p.Votes) >= MaxRows {
		return
	}
	row := voteRow{At: at, What: e.Type, Who: e.Actor, Role: e.Attrs[audit.AttrRole], Auth: e.Auth, For: first(e.Attrs[audit.AttrAction], e.Result, e.Approval), Wave: shortHash(e.WaveHash), Note: first(e.Attrs[audit.AttrWhy], e.Attrs[audit.AttrNote])}
	switch e.Type {
	case audit.EventApprovalAsked:
		row.What = "asked"
	case audit.EventApprovalGiven:
		row.What, row.Class = "approved", "good"
	case audit.EventBreakGlass:
		row.What, row.Class = "break-glass", "bad"
	case audit.EventRefused:
		row.What, row.Class = "refused: "+e.Result, "bad"
	case audit.EventContain:
		row.What, row.For, row.Note = "contain on report: "+e.Result, short(e.FP), facts(e.Attrs)
	default:
		row.What, row.Class = strings.ReplaceAll(e.Type, ".", " "), "warn"
	}
	p.Votes = append(p.Votes, row)
}

// open lists what is not finished, each with who has it and until when.
func (p *page) open(inc view.Incident) {
	listed := map[string]bool{}
	for _, item := range inc.Items {
		if item.Open.Why != "" || item.EndState == "" {
			listed[item.FP] = true
			p.Open = append(p.Open, openRow{"item " + first(item.KeyID, item.Short), first(item.Open.Why, item.EndState, "not finished"), item.Open.Owner, item.Open.Due})
		}
		if item.EndState == "accepted-risk" && !listed[item.FP] {
			listed[item.FP] = true
			p.Open = append(p.Open, openRow{"item " + first(item.KeyID, item.Short), "risk accepted: " + item.Why, item.Approver, item.Until})
		}
	}
	for _, item := range p.Story.Items {
		if (item.EndState == "" || item.EndState == "customer-action-open") && !listed[item.FP] && len(p.Open) < MaxRows {
			p.Open = append(p.Open, openRow{"item " + name(item), first(item.EndState, "not finished"), "", ""})
		}
	}
	if p.Mass != nil && p.Mass.Open > 0 {
		p.Open = append(p.Open, openRow{count(p.Mass.Open, "item in pages", "items in pages"), "not finished; see Items in pages", "", ""})
	}
	for _, h := range inc.NeedsHuman {
		if h.State != "done" && h.State != "resolved" {
			p.Open = append(p.Open, openRow{"a person must act", h.What, h.Owner, h.Due})
		}
	}
	for _, a := range inc.Approvals {
		if a.State == "open" {
			p.Open = append(p.Open, openRow{"approval " + a.ID, a.For + " " + a.Strategy, strings.Join(a.Roles, ", "), a.Expires})
		}
	}
	for _, h := range inc.Holds {
		if h.State == "active" || h.State == "open" || h.State == "" {
			p.Open = append(p.Open, openRow{"hold " + h.ID, h.Why, h.By, h.Until})
		}
	}
	for _, o := range inc.Obligations {
		p.Open = append(p.Open, openRow{"obligation " + o.ID, o.What, "", o.Due})
	}
}
