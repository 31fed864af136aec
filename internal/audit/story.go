package audit

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Story is what the events of one incident tell, in the order and the figures
// that people ask for (domain capability C43). It comes from the events alone: the
// same bundle gives the same figures everywhere.
type Story struct {
	Incident string
	First    time.Time
	// Last is the last event but those of the channels that follow the incident.
	Last time.Time
	// Reported is when rekey got the first report.
	Reported time.Time
	// FirstCall is the first containment call that the provider confirmed.
	FirstCall time.Time
	// Contained is when the last item's old key was proven dead or, where its end
	// state is another, when it reached that. Zero while an item is open.
	Contained time.Time
	// Closed is the last incident.closed; State its result.
	Closed time.Time
	State  string
	Phases []PhaseSpan
	Items  []*ItemStory
	Votes  []Mark
	// Calls counts the last words on calls by outcome; Retries are attempts after
	// the first of the same effect.
	Calls    map[string]int
	Retries  int
	Refusals int
	Gaps     int
	Sealings []Mark
	// Passes counts the passes over rows of pages: of a large incident, most items have
	// no events of their own.
	Passes int
}

// A PhaseSpan is a phase and how long it lasted; To is the end of the record for
// the last one.
type PhaseSpan struct {
	Phase    string
	From, To time.Time
}

// A Mark is a moment: what is its result or kind, Who an actor, place or vantage.
type Mark struct {
	At   time.Time
	What string
	Who  string
}

// ItemStory is the life of one item. Times that are not known are zero.
type ItemStory struct {
	FP       string
	KeyID    string
	Provider string
	Account  string
	Kind     string
	Strategy string
	// Exposed is the earliest time from which the key was in foreign hands, as far
	// as anybody said; else the report.
	Exposed      time.Time
	ExposedKnown bool
	Reported     time.Time
	Disabled     time.Time
	// FirstRefused is the first refusal after the last answer "alive".
	FirstRefused time.Time
	LastAlive    time.Time
	Dead         time.Time
	Revoked      time.Time
	Ended        time.Time
	EndState     string
	Grade        string
	Rung         string
	NewKeyID     string
	Probes       []Mark
	Hits         []Mark
	Calls        int
	Retries      int
}

// Exposure is how long the old key was in foreign hands and alive; ok is false
// while it is not dead.
func (i *ItemStory) Exposure() (time.Duration, bool) {
	if i.Dead.IsZero() {
		return 0, false
	}
	return max(i.Dead.Sub(i.Exposed), 0), true
}

// Exposure is the span from the earliest exposure to the last proof of death.
func (s *Story) Exposure() (from, to time.Time, ok bool) {
	for _, item := range s.Items {
		if from.IsZero() || item.Exposed.Before(from) {
			from = item.Exposed
		}
		if item.Dead.IsZero() {
			return from, time.Time{}, false
		}
		if item.Dead.After(to) {
			to = item.Dead
		}
	}
	return from, to, len(s.Items) > 0
}

// TimeToContain is from the first report to [Story.Contained].
func (s *Story) TimeToContain() (time.Duration, bool) {
	if s.Contained.IsZero() || s.Reported.IsZero() {
		return 0, false
	}
	return max(s.Contained.Sub(s.Reported), 0), true
}

// TimeToFirstCall is from the first report to the first containment call that was
// confirmed.
func (s *Story) TimeToFirstCall() (time.Duration, bool) {
	if s.FirstCall.IsZero() || s.Reported.IsZero() {
		return 0, false
	}
	return max(s.FirstCall.Sub(s.Reported), 0), true
}

// Tell reads the events, in order. Times that cannot be read count as the time of
// the event before, so that one bad event does not spoil the rest.
func Tell(events []Event) *Story {
	t := &teller{story: &Story{Calls: map[string]int{}}, items: map[string]*ItemStory{}}
	for i := range events {
		t.event(&events[i])
	}
	return t.finish()
}

type teller struct {
	story   *Story
	settled time.Time // the first incident.closed of this life
	items   map[string]*ItemStory
	now     time.Time
	exposed time.Time // by a report that names no item
}

func (t *teller) event(e *Event) {
	s := t.story
	if at, err := time.Parse(time.RFC3339, e.Time); err == nil {
		t.now = at
	}
	if s.First.IsZero() {
		s.First, s.Incident = t.now, e.Incident
	}
	if t.now.After(s.Last) && (s.Last.IsZero() || !ofRecord(e.Type)) {
		s.Last = t.now
	}
	if e.FP != "" {
		t.itemEvent(e)
	}
	switch e.Type {
	case EventTrigger:
		if s.Reported.IsZero() {
			s.Reported = t.now
		}
		if at, ok := attrTime(e, AttrExposed); ok && e.FP == "" {
			t.exposed = earlier(t.exposed, at)
		}
	case EventPhase:
		if n := len(s.Phases); n > 0 {
			s.Phases[n-1].To = t.now
		}
		s.Phases = append(s.Phases, PhaseSpan{Phase: e.Phase, From: t.now})
	case EventApprovalGiven, EventApprovalDenied, EventBreakGlass:
		s.Votes = append(s.Votes, Mark{t.now, strings.TrimPrefix(e.Type, "approval."), e.Actor})
	case EventRefused:
		s.Refusals++
	case EventGap:
		s.Gaps++
	case EventClosed:
		if e.Result == "contained" || e.Result == "all-clear" { // else the watch ended
			s.Closed, s.State = t.now, e.Result
			set(&t.settled, t.now)
		}
	case EventReopened:
		s.Closed, s.State = time.Time{}, ""
		t.settled = time.Time{}
	case EventSealed:
		s.Sealings = append(s.Sealings, Mark{t.now, e.Result, e.Actor})
	case EventCallConfirmed, EventCallFailed:
		if e.Result != "" {
			s.Calls[e.Result]++
		}
	case EventPass:
		t.pass(e)
	}
}

// pass counts the calls of a pass over rows.
func (t *teller) pass(e *Event) {
	t.story.Passes++
	if e.Attempt > 1 {
		t.story.Retries++
	}
	for key, value := range e.Attrs {
		name, ok := strings.CutPrefix(key, AttrOutcome)
		n, err := strconv.Atoi(value)
		if !ok || err != nil || n <= 0 {
			continue
		}
		t.story.Calls[name] += n
		if (name == "done" || name == "already-gone") && slices.Contains([]string{"Disable", "EndSessions", "Deny", "Bind", "Revoke"}, e.Verb) {
			set(&t.story.FirstCall, t.now)
		}
	}
}

func (t *teller) itemEvent(e *Event) {
	item := t.items[e.FP]
	if item == nil {
		item = &ItemStory{FP: e.FP}
		t.items[e.FP] = item
		t.story.Items = append(t.story.Items, item)
	}
	for key, field := range map[string]*string{
		AttrKeyID: &item.KeyID, AttrProvider: &item.Provider, AttrAccount: &item.Account, AttrKind: &item.Kind,
		AttrNewKeyID: &item.NewKeyID, AttrGrade: &item.Grade, AttrRung: &item.Rung,
	} {
		if value := e.Attrs[key]; value != "" {
			*field = value
		}
	}
	if at, ok := attrTime(e, AttrExposed); ok {
		item.Exposed = earlier(item.Exposed, at)
	}
	switch e.Type {
	case EventTrigger:
		if item.Reported.IsZero() {
			item.Reported = t.now
		}
		if at, err := time.Parse(time.RFC3339, e.SourceTime); err == nil {
			item.Exposed = earlier(item.Exposed, at)
		}
	case EventDecision:
		item.Strategy = e.Result
		if e.Result == "promoted" {
			item.Strategy = "revoke-now"
		}
	case EventLadder:
		item.Rung = e.Result
	case EventCallAttempted:
		item.Calls++
		if e.Attempt > 1 {
			item.Retries++
			t.story.Retries++
		}
	case EventCallConfirmed:
		t.confirmed(item, e)
	case EventProbe:
		t.probe(item, e)
	case EventTripwire:
		at := t.now
		if source, err := time.Parse(time.RFC3339, e.SourceTime); err == nil {
			at = source
		}
		item.Hits = append(item.Hits, Mark{at, e.Result, strings.TrimSpace(e.Attrs[AttrSource] + " " + e.Attrs[AttrCaller])})
	case EventItem:
		item.EndState, item.Ended = e.Result, t.now
	}
}

func (t *teller) confirmed(item *ItemStory, e *Event) {
	if e.Result != "done" && e.Result != "already-gone" {
		return
	}
	switch e.Verb {
	case "Revoke":
		set(&item.Revoked, t.now)
		set(&item.Disabled, t.now)
	case "Disable":
		set(&item.Disabled, t.now)
	case "EndSessions", "Deny", "Bind":
	case "Restore":
		item.Disabled, item.Dead, item.FirstRefused = time.Time{}, time.Time{}, time.Time{}
		return
	default:
		return
	}
	set(&t.story.FirstCall, t.now)
}

// probe reads single answers and the verdict on them. Answers about the new key are
// told by their subject or, where that is not given, by coming after the proof of
// the old one's death and the issue of the new one: the engine does not go on asking
// about a key that it has proven dead.
func (t *teller) probe(item *ItemStory, e *Event) {
	if e.Result == ProbeDead {
		item.Dead = t.now
		return
	}
	subject := e.Attrs[AttrSubject]
	if subject == SubjectNew || (subject == "" && !item.Dead.IsZero() && item.NewKeyID != "") {
		return
	}
	item.Probes = append(item.Probes, Mark{t.now, e.Result, e.Attrs[AttrVantage]})
	switch e.Result {
	case "alive", "mismatch":
		item.LastAlive = t.now
		item.FirstRefused, item.Dead = time.Time{}, time.Time{}
	case "refused":
		set(&item.FirstRefused, t.now)
	}
}

func (t *teller) finish() *Story {
	s := t.story
	if n := len(s.Phases); n > 0 {
		s.Phases[n-1].To = s.Last
	}
	if s.Reported.IsZero() {
		s.Reported = s.First
	}
	all := len(s.Items) > 0
	for _, item := range s.Items {
		set(&item.Reported, s.Reported)
		item.Exposed = earlier(item.Exposed, t.exposed)
		item.ExposedKnown = !item.Exposed.IsZero()
		set(&item.Exposed, item.Reported)
		proven := item.EndState == "revoked-verified" || item.EndState == "expired-verified" || item.EndState == "never-existed-proven"
		if item.Dead.IsZero() && proven {
			// The proof is not marked: its last refusal, or the verdict on it.
			item.Dead = item.Ended
			for _, p := range item.Probes {
				if p.What == "refused" && !p.At.After(item.Ended) {
					item.Dead = p.At
				}
			}
		}
		done := item.Dead
		if done.IsZero() {
			done = item.Ended
		}
		if done.IsZero() {
			all = false
		}
		if done.After(s.Contained) {
			s.Contained = done
		}
	}
	if s.Passes > 0 {
		// Rows have no events of their own: that all are settled is what the incident
		// says when it closes.
		all = !t.settled.IsZero() && (all || len(s.Items) == 0)
		if t.settled.After(s.Contained) {
			s.Contained = t.settled
		}
	}
	if !all {
		s.Contained = time.Time{}
	}
	slices.SortStableFunc(s.Items, func(a, b *ItemStory) int { return a.Reported.Compare(b.Reported) })
	return s
}

// ofRecord tells the events of the channels that follow an incident. One may catch
// up days after the end, which makes no phase longer.
func ofRecord(kind string) bool {
	return kind == EventRecordTold || kind == EventRecordBehind || kind == EventRecordCaught
}

func set(at *time.Time, to time.Time) {
	if at.IsZero() {
		*at = to
	}
}

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || (!b.IsZero() && b.Before(a)) {
		return b
	}
	return a
}

func attrTime(e *Event, key string) (time.Time, bool) {
	at, err := time.Parse(time.RFC3339, e.Attrs[key])
	return at, err == nil
}
