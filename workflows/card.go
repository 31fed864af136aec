package workflows

import (
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	"rekey/activities"
	"rekey/activities/notify"
	"rekey/internal/plan"
	"rekey/internal/statement"
	"rekey/internal/view"
	"rekey/playbooks"
)

// How much of an incident a card shows: half a page, whatever its size.
const (
	cardItems  = 10
	cardAsks   = 8
	cardTasks  = 8
	cardBreaks = 8
)

// card is the incident on half a page. It holds no time of now: the same state
// gives the same card.
func (r *incident) card() notify.Card {
	st := r.st
	c := notify.Card{
		Incident: r.in.ID, Title: clip(r.pb.Title, phraseMost), Phase: st.Phase, State: st.State, Severity: st.Severity,
		Opened: st.Opened, Contained: st.Contained, Closed: st.Closed, UI: r.ui(),
		Chat:  slices.Contains(r.set.Channels, statement.MethodSlack) && r.restsOn(statement.MethodSlack) == "",
		Scope: notify.Scope{Version: st.ScopeVersion, Items: r.size(), Open: r.openCount(), Reachable: max(st.Reachable, r.size()), Unseen: len(st.Unseen), Dark: len(st.Dark)},
	}
	if len(st.Reports) > 0 {
		c.Key, c.Reporter = keyName(st.Reports[0].Key), st.Reports[0].Actor
		if c.Opened.IsZero() {
			c.Opened = st.Reports[0].Received
		}
	}
	if st.Bundle != nil {
		c.Bundle = st.Bundle.Digest
	}
	if st.Plan != nil {
		c.Breaks, _ = breaksOf(st.Plan, nil)
	}
	c.Notices = r.cardNotices()
	r.cardItems(&c)
	for _, a := range st.Approvals {
		if a.State != "open" {
			continue
		}
		if len(c.Asks) == cardAsks {
			c.MoreAsks++
			continue
		}
		c.Asks = append(c.Asks, r.ask(a))
	}
	for _, h := range st.Humans {
		if h.State != "open" {
			continue
		}
		if len(c.Tasks) == cardTasks {
			c.MoreTasks++
			continue
		}
		c.Tasks = append(c.Tasks, notify.Task{ID: h.ID, What: clip(h.What, phraseMost), Owner: h.Owner, Due: parseTime(h.Due)})
	}
	return c
}

// cardItems counts the items and shows the first few: those that are open first.
func (r *incident) cardItems(c *notify.Card) {
	steps, ends, dead := map[string]int{}, map[string]int{}, map[string]int{}
	var open, ended []view.Item
	for _, s := range r.st.Items {
		v := r.peek(s.Key.FP)
		if v.Death.State == "dead" {
			dead[or(v.Death.Grade, "-")]++
		}
		if v.EndState != "" {
			ends[v.EndState]++
			ended = append(ended, v)
			continue
		}
		step := v.Step
		switch {
		case v.Open.Why == whyHeld:
			step = "held"
		case step == "":
			step = "waiting"
		}
		steps[step]++
		open = append(open, v)
	}
	c.Steps, c.Ends, c.Dead = counts(steps), counts(ends), counts(dead)
	for _, v := range append(open, ended...) {
		if len(c.Items) == cardItems {
			c.More++
			continue
		}
		it := notify.Item{
			Short: v.Short, Key: v.Provider + "/" + v.Account + " " + or(v.KeyID, v.Kind), Strategy: v.Strategy, Step: v.Step,
			Death: v.Death.State, Grade: v.Death.Grade, Adoption: v.Adoption.State, End: v.EndState,
		}
		if v.EndState == "" && v.Open.Why != "" {
			it.Waits = clip(v.Open.Why, phraseMost)
			if v.Open.Owner != "" {
				it.Waits += " (" + v.Open.Owner + ")"
			}
		}
		c.Items = append(c.Items, it)
	}
}

// cardNotices counts the messages to owners and customers by state. What a later
// version took the place of was told to nobody.
func (r *incident) cardNotices() []notify.Count {
	n := map[string]int{}
	for _, v := range r.st.NoticeViews {
		if v.State != noticeSuperseded {
			n[v.State]++
		}
	}
	if len(n) == 0 {
		return nil
	}
	return counts(n)
}

func counts(m map[string]int) []notify.Count {
	out := make([]notify.Count, 0, len(m))
	//workflowcheck:ignore
	for name, n := range m { // sorted below
		out = append(out, notify.Count{Name: name, N: n})
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out
}

// ask is an open question with its price: the calls that a yes allows, and whom
// they interrupt.
func (r *incident) ask(a Approval) notify.Ask {
	out := notify.Ask{
		Approval: a.ID, For: a.For, What: clip(a.What, phraseMost), Wave: a.Wave, WaveHash: a.WaveHash, Strategy: a.Strategy, Items: len(a.Items),
		Roles: slices.Clone(a.Roles), Needed: a.Needed, Outside: a.outside(), Expires: a.Expires,
	}
	for _, v := range a.Votes {
		out.Votes = append(out.Votes, notify.Vote{Actor: v.Actor, Role: v.Role, Vote: v.Vote, Auth: v.Auth})
	}
	out.Calls, out.Breaks = r.price(a)
	return out
}

// price counts the calls that a question is about, and names whom they interrupt.
func (r *incident) price(a Approval) (int, []notify.Break) {
	p := r.st.Plan
	if p == nil {
		return 0, nil
	}
	if a.For == approveStart {
		bs, _ := breaksOf(p, nil)
		return p.Calls, bs
	}
	w, ok := p.Wave(a.WaveHash)
	if run := r.wave(a.WaveHash); !ok && run != nil {
		w, ok = run.Wave, true
	}
	if !ok {
		return 0, nil
	}
	rung := ""
	if parts := strings.Split(a.Ask, "/"); a.For == playbooks.ApproveRung && len(parts) > 1 {
		rung = parts[1]
	}
	calls := 0
	uses := map[string]bool{}
	for _, it := range w.Items {
		if !slices.Contains(a.Items, it.Key.FP) {
			continue
		}
		made := it.Calls
		if rg, ok := it.Rung(rung); ok && rung != "" {
			made = rg.Calls
		}
		for _, c := range made {
			switch {
			case a.For == playbooks.ApproveIrreversible && c.Verb != string(activities.Revoke):
			case a.For == playbooks.ApproveRestore && c.Verb != string(activities.Restore):
			default:
				calls++
			}
		}
		for _, d := range it.Dependents {
			uses[d.ID] = true
		}
	}
	if a.For == playbooks.ApproveRestore {
		return max(calls, len(a.Items)), nil // it is not part of the plan, and breaks nobody
	}
	bs, _ := breaksOf(p, uses)
	return calls, bs
}

// breaksOf gives the first dependents that a plan interrupts, all of them or some,
// and how many there are besides.
func breaksOf(p *plan.Plan, some map[string]bool) (out []notify.Break, more int) {
	for _, b := range p.Breaks {
		if some != nil && !some[b.Dependent] {
			continue
		}
		if len(out) == cardBreaks {
			more++
			continue
		}
		out = append(out, notify.Break{Dependent: b.Dependent, Owner: b.Owner, Outage: time.Duration(b.OutageMs) * time.Millisecond, Budget: time.Duration(b.BudgetMs) * time.Millisecond})
	}
	return out, more
}

func breaksText(bs []notify.Break, more int) string {
	if len(bs) == 0 {
		return "Nobody is known to break"
	}
	parts := make([]string, 0, len(bs))
	for _, b := range bs {
		s := b.Dependent
		if b.Owner != "" {
			s += " of " + b.Owner
		}
		s += fmt.Sprintf(" for %s", b.Outage)
		if b.Budget > 0 {
			s += fmt.Sprintf(" (budget %s)", b.Budget)
		}
		parts = append(parts, s)
	}
	if more > 0 {
		parts = append(parts, fmt.Sprintf("%d more", more))
	}
	return "Breaks " + strings.Join(parts, ", ")
}
