package workflows

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"rekey/activities"
	"rekey/activities/notify"
	"rekey/internal/canon"
	"rekey/internal/view"
)

// Marks are what the story has told of an incident's state. The story is the
// difference between the state and its marks, so no line is told twice, and nobody
// who changes the state has to remember that somebody reads about it.
type Marks struct {
	Opened    bool   `json:"opened,omitempty"`
	Reports   int    `json:"reports,omitempty"`
	Repeats   int    `json:"repeats,omitempty"`
	Contain   string `json:"contain,omitempty"`
	Severity  string `json:"severity,omitempty"`
	Phase     string `json:"phase,omitempty"`
	Scope     int    `json:"scope,omitempty"`
	Plan      int    `json:"plan,omitempty"`
	Notes     int    `json:"notes,omitempty"`
	Refusal   string `json:"refusal,omitempty"` // the last one
	Contained bool   `json:"contained,omitempty"`
	Closed    bool   `json:"closed,omitempty"`
	Bundle    string `json:"bundle,omitempty"`
	// Asks, Humans and Holds stand in the order of the state's own lists.
	Asks   []AskMark `json:"asks,omitempty"`
	Humans []string  `json:"humans,omitempty"`
	Holds  []string  `json:"holds,omitempty"`
	// Items are those proven dead or ended, by fingerprint.
	Items map[string]ItemMark `json:"items,omitempty"`
	// Notices are the states told of messages to owners and customers, by id.
	Notices map[string]string `json:"notices,omitempty"`
	// Lines counts the lines of a kind that named one thing.
	Lines map[string]int `json:"lines,omitempty"`
}

// An AskMark is what was told of a question.
type AskMark struct {
	State string   `json:"state"`
	Level int      `json:"level,omitempty"`
	Votes []string `json:"votes,omitempty"`
}

// An ItemMark is what was told of an item.
type ItemMark struct {
	Dead bool   `json:"dead,omitempty"`
	End  string `json:"end,omitempty"`
	// Adoption of its replacement, as far as a line tells it.
	Adoption string `json:"adoption,omitempty"`
}

func (m *Marks) clone() Marks {
	out := *m
	out.Asks = slices.Clone(m.Asks)
	for i := range out.Asks {
		out.Asks[i].Votes = slices.Clone(m.Asks[i].Votes)
	}
	out.Humans, out.Holds = slices.Clone(m.Humans), slices.Clone(m.Holds)
	out.Items, out.Lines, out.Notices = maps.Clone(m.Items), maps.Clone(m.Lines), maps.Clone(m.Notices)
	return out
}

// mostLines is how many lines of a kind name one thing each. What comes beyond is
// counted in one line, or an incident of many items would be a wall that nobody
// reads; the card and the bundle have them all.
func mostLines(kind string) int {
	switch kind {
	case notify.KindDead, notify.KindEnd:
		return 20
	case notify.KindNote:
		return 100
	}
	return 40
}

// beyond says what the lines are that are only counted.
var beyond = map[string]string{
	notify.KindDead: "more items proven dead", notify.KindEnd: "more items ended", notify.KindAsk: "more questions wait for votes",
	notify.KindVote: "more votes and their results", notify.KindRefused: "more statements refused", notify.KindHuman: "more steps of people",
	notify.KindHold: "more changes of holds", notify.KindNote: "more notes", notify.KindPhase: "more changes of phase, severity or containment", notify.KindScope: "more changes of the scope",
	notify.KindPlan: "more plans", notify.KindNotice: "more notices", notify.KindAdopt: "more replacements",
}

// A said is a line with how soon it is to be told, and what it is counted under
// when it is one of many.
type said struct {
	notify.Line
	pace  pace
	group string
}

// narration collects lines.
type narration struct{ lines []said }

func (n *narration) add(kind, group, format string, args ...any) *said {
	n.lines = append(n.lines, said{Line: notify.Line{Kind: kind, Text: clip(fmt.Sprintf(format, args...), textMost)}, pace: paceLine, group: group})
	return &n.lines[len(n.lines)-1]
}

func (n *narration) urgent(kind, group, format string, args ...any) {
	l := n.add(kind, group, format, args...)
	l.Urgent, l.pace = true, paceUrgent
}

// textMost bounds one line, phraseMost a phrase of somebody in it.
const (
	textMost   = 900
	phraseMost = 300
)

// clip makes one line of a text, of at most n runes.
func clip(s string, n int) string {
	s = strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f {
			return ' '
		}
		return c
	}, s)
	s = strings.Join(strings.Fields(s), " ")
	if runes := []rune(s); len(runes) > n {
		return string(runes[:n-1]) + "…"
	}
	return s
}

// narrate gives what the state has beyond the marks, and moves the marks there. The
// same state and marks give the same lines.
func (r *incident) narrate(m *Marks) []said {
	if len(r.st.Reports) == 0 {
		return nil
	}
	n := &narration{}
	r.tellReports(n, m)
	r.tellFacts(n, m)
	r.tellAsks(n, m)
	r.tellRefusals(n, m)
	r.tellPeople(n, m)
	r.tellItems(n, m)
	r.tellNotices(n, m)
	r.tellNotes(n, m)
	r.tellEnd(n, m)
	return few(n.lines, m)
}

// few counts what is beyond the number of lines that name one thing, in one line
// per kind.
func few(lines []said, m *Marks) []said {
	out := make([]said, 0, len(lines))
	more := map[string][]said{}
	var kinds []string
	for _, l := range lines {
		if _, ok := beyond[l.Kind]; !ok {
			out = append(out, l)
			continue
		}
		if m.Lines == nil {
			m.Lines = map[string]int{}
		}
		if m.Lines[l.Kind] < mostLines(l.Kind) {
			m.Lines[l.Kind]++
			out = append(out, l)
			continue
		}
		if len(more[l.Kind]) == 0 {
			kinds = append(kinds, l.Kind)
		}
		more[l.Kind] = append(more[l.Kind], l)
	}
	for _, kind := range kinds {
		groups := map[string]int{}
		for _, l := range more[kind] {
			groups[l.group]++
		}
		names := make([]string, 0, len(groups))
		for _, g := range counts(groups) {
			names = append(names, fmt.Sprintf("%s %d", g.Name, g.N))
		}
		out = append(out, said{Line: notify.Line{Kind: kind, Text: fmt.Sprintf("%d %s (%s)", len(more[kind]), beyond[kind], strings.Join(names, ", "))}, pace: paceBulk})
	}
	return out
}

func (r *incident) tellReports(n *narration, m *Marks) {
	for ; m.Reports < len(r.st.Reports); m.Reports++ {
		rep := r.st.Reports[m.Reports]
		what := fmt.Sprintf("%s reported %s through %s, confidence %s", rep.Actor, keyName(rep.Key), rep.Source, or(rep.Confidence, "not said"))
		if rep.Reason != "" {
			what += ": " + clip(rep.Reason, phraseMost)
		}
		switch {
		case m.Opened:
			n.add(notify.KindNote, "reports", "Further report %s: %s", rep.ID, what)
		case r.in.Reopened != nil:
			n.urgent(notify.KindReopened, "", "Reopened: %s. The bundle of before: %s", what, or(r.in.Reopened.Digest, "none"))
		default:
			n.urgent(notify.KindOpened, "", "Opened: %s. Playbook %s %s", what, r.pb.Name, r.pb.Version)
		}
		m.Opened = true
	}
	if more := r.st.repeats() - m.Repeats; more > 0 {
		n.add(notify.KindNote, "reports", "%d further reports say nothing new", more).pace = paceBulk
		m.Repeats += more
	}
}

func (r *incident) tellFacts(n *narration, m *Marks) {
	st := r.st
	if st.Severity != m.Severity {
		if m.Severity != "" {
			n.urgent(notify.KindPhase, "severity", "Severity is now %s (was %s)", st.Severity, m.Severity)
		}
		m.Severity = st.Severity
	}
	if c := st.Contain; c != nil {
		how := "the playbook's rule does not allow it"
		if c.Allowed {
			how = "allowed; " + or(c.Outcome, "under way")
		}
		if how != m.Contain {
			m.Contain = how
			if c.Allowed {
				n.add(notify.KindPhase, "containment", "Disable on report: %s", how)
			}
		}
	}
	if st.ScopeVersion != m.Scope {
		m.Scope = st.ScopeVersion
		n.add(notify.KindScope, "versions", "Scope version %d: %s, %d could be reached%s", st.ScopeVersion, plural(len(st.Items), "item"), max(st.Reachable, len(st.Items)), gaps(len(st.Unseen), len(st.Dark)))
	}
	if p := st.Plan; p != nil && st.PlanVersion != m.Plan {
		m.Plan = st.PlanVersion
		text := fmt.Sprintf("Plan version %d: %s, %s", st.PlanVersion, plural(len(p.Waves), "wave"), plural(p.Calls, "call"))
		for i, w := range p.Waves {
			const shown = 5
			if i == shown {
				text += fmt.Sprintf("; %d more", len(p.Waves)-shown)
				break
			}
			text += fmt.Sprintf("; wave %d: %s of %s", w.N, w.Strategy, plural(len(w.Items), "item"))
		}
		bs, more := breaksOf(p, nil)
		n.add(notify.KindPlan, "versions", "%s. %s", text, breaksText(bs, more))
	}
	if st.Phase != m.Phase {
		if m.Phase != "" {
			n.add(notify.KindPhase, "phases", "Phase %s", st.Phase)
		}
		m.Phase = st.Phase
	}
}

func gaps(unseen, dark int) string {
	s := ""
	if unseen > 0 {
		s += ", " + plural(unseen, "source") + " not seen"
	}
	if dark > 0 {
		s += ", " + plural(dark, "span") + " without logs"
	}
	return s
}

func (r *incident) tellAsks(n *narration, m *Marks) {
	for i, a := range r.st.Approvals {
		if i == len(m.Asks) {
			m.Asks = append(m.Asks, AskMark{State: "open", Level: a.Level})
			ask := r.ask(a)
			text := fmt.Sprintf("%s: %s of %s wanted for %s%s: %s. %s. %s", a.ID, plural(a.Needed, "vote"), strings.Join(a.Roles, ", "), a.For, ofWave(a), clip(a.What, phraseMost), plural(ask.Calls, "call"), breaksText(ask.Breaks, 0))
			if ask.Outside > 0 {
				text += fmt.Sprintf(". %s from outside of chat", plural(ask.Outside, "vote"))
			}
			n.urgent(notify.KindAsk, a.For, "%s. By %s. Hash %s", text, canon.Time(a.Expires), a.WaveHash)
		}
		k := &m.Asks[i]
		for j, v := range a.Votes {
			if j == len(k.Votes) {
				k.Votes = append(k.Votes, "")
			}
			if k.Votes[j] == v.Vote {
				continue
			}
			was := k.Votes[j]
			k.Votes[j] = v.Vote
			switch {
			case v.Vote == voteVoided && was == "":
				// Nobody was told that it was given.
			case v.Vote == voteVoided:
				n.urgent(notify.KindVote, v.Vote, "The vote of %s on %s (%s) does not count any more: %s. They may vote again another way", v.Actor, a.ID, v.Auth, v.Note)
			default:
				yes, outside := a.votes()
				n.add(notify.KindVote, v.Vote, "%s votes to %s %s as %s (%s): %d of %d%s", v.Actor, v.Vote, a.ID, v.Role, v.Auth, yes, a.Needed, outsideText(outside, a.outside()))
			}
		}
		if k.State != a.State {
			k.State = a.State
			switch a.State {
			case "granted":
				n.add(notify.KindVote, a.State, "%s is granted: %s%s", a.ID, a.For, ofWave(a))
			case "denied":
				n.urgent(notify.KindVote, a.State, "%s is denied: %s%s", a.ID, a.For, ofWave(a))
			default:
				n.add(notify.KindVote, a.State, "%s is %s: it is not asked any more, and its votes do not count", a.ID, a.State)
			}
		}
		if k.Level != a.Level {
			k.Level = a.Level
			n.urgent(notify.KindAsk, "escalated", "%s was not decided in time and waits for %s now, by %s", a.ID, strings.Join(a.Roles, ", "), canon.Time(a.Expires))
		}
	}
}

func outsideText(have, need int) string {
	if need == 0 {
		return ""
	}
	return fmt.Sprintf(", %d of %d from outside of chat", have, need)
}

// tellRefusals tells every statement that was not accepted since the last one that
// was told. The list in the state is cut from the front.
func (r *incident) tellRefusals(n *narration, m *Marks) {
	id := func(v view.Refusal) string { return v.At + " " + v.Actor + " " + v.Action + " " + v.Code }
	from := 0
	for i := len(r.st.Refusals) - 1; i >= 0; i-- {
		if id(r.st.Refusals[i]) == m.Refusal {
			from = i + 1
			break
		}
	}
	for _, v := range r.st.Refusals[from:] {
		n.add(notify.KindRefused, v.Code, "%s: %s of %s refused: %s", v.Code, v.Action, clip(v.Actor, phraseMost), clip(v.Why, phraseMost))
		m.Refusal = id(v)
	}
}

// tellPeople tells the steps of people and the holds.
func (r *incident) tellPeople(n *narration, m *Marks) {
	for i, h := range r.st.Humans {
		if i == len(m.Humans) {
			m.Humans = append(m.Humans, "")
		}
		was := m.Humans[i]
		if was == h.State {
			continue
		}
		m.Humans[i] = h.State
		switch {
		case h.State == "open":
			n.urgent(notify.KindHuman, h.State, "%s, for %s by %s: %s", h.ID, h.Owner, h.Due, clip(h.What, phraseMost))
		case was == "":
			// It came and went between two looks.
		case h.State == "done":
			n.add(notify.KindHuman, h.State, "%s is done, says %s: %s", h.ID, or(h.By, "somebody"), clip(h.What, phraseMost))
		default:
			n.add(notify.KindHuman, h.State, "%s is not needed any more: %s", h.ID, clip(h.What, phraseMost))
		}
	}
	for i, h := range r.st.Holds {
		if i == len(m.Holds) {
			m.Holds = append(m.Holds, "")
		}
		if m.Holds[i] == h.State {
			continue
		}
		m.Holds[i] = h.State
		switch h.State {
		case "open":
			until := canon.Time(h.Until)
			n.add(notify.KindHold, h.State, "%s: %s holds %s until %s: %s", h.ID, or(h.By, "rekey.yaml"), r.names(h.Items), or(until, "it is released"), clip(h.Why, phraseMost))
		default:
			n.add(notify.KindHold, h.State, "%s is %s: %s", h.ID, h.State, r.names(h.Items))
		}
	}
}

func (r *incident) tellNotes(n *narration, m *Marks) {
	for ; m.Notes < len(r.st.Notes); m.Notes++ {
		v := r.st.Notes[m.Notes]
		n.add(notify.KindNote, "notes", "%s notes: %s", v.Actor, clip(v.Text, textMost))
	}
}

func (r *incident) tellEnd(n *narration, m *Marks) {
	st := r.st
	if is := !st.Contained.IsZero(); is != m.Contained {
		m.Contained = is
		if is {
			n.urgent(notify.KindContain, "", "Contained at %s: %s", canon.Time(st.Contained), balanceText(r.balance()))
		} else {
			n.urgent(notify.KindContain, "", "Not contained any more: %d of %s are not in an end state", len(r.openItems()), plural(len(st.Items), "item"))
		}
	}
	if is := !st.Closed.IsZero(); is != m.Closed {
		m.Closed = is
		n.urgent(notify.KindClosed, "", "Closed as %s at %s: %s", st.State, canon.Time(st.Closed), balanceText(r.balance()))
	}
	if b := st.Bundle; b != nil && b.Digest != m.Bundle {
		m.Bundle = b.Digest
		more := "; a later one will extend it"
		if b.Final {
			more = ""
		}
		n.add(notify.KindSealed, "", "Bundle sealed: %s%s", b.Digest, more)
	}
}

func balanceText(b map[string]string) string {
	out := []string{b["items"] + " item(s)"}
	for _, end := range []string{endRevoked, endExpired, endNever, endAccepted, endCustomer} {
		if b[end] != "" {
			out = append(out, end+" "+b[end])
		}
	}
	return strings.Join(out, ", ")
}

// keyName names a key for people: where it is, its public id, its short fingerprint.
func keyName(k activities.Key) string {
	name := k.Provider + "/" + k.Account + " " + k.Kind
	if k.ID != "" {
		name += " " + k.ID
	}
	return name + " (" + k.Short() + ")"
}

// names gives some items by their short fingerprints.
func (r *incident) names(fps []string) string {
	const shown = 5
	out := shorts(fps[:min(len(fps), shown)])
	if len(fps) > shown {
		out = append(out, fmt.Sprintf("%d more", len(fps)-shown))
	}
	return strings.Join(out, ", ")
}

func ofWave(a Approval) string {
	if a.Wave == 0 {
		return ""
	}
	return " of wave " + itoa(a.Wave)
}

func plural(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
