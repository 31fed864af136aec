package workflows

import (
	"slices"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"rekey/activities/notify"
	"rekey/internal/canon"
	"rekey/internal/view"
)

// Told is what an incident's story has told, and to whom. It is absent where nobody
// follows the incident: then none of this costs an event.
type Told struct {
	// N is the number of the last line. It goes on when the incident is reopened.
	N int64 `json:"n"`
	// Lines are those that some record does not have yet.
	Lines []notify.Line `json:"lines,omitempty"`
	// Card is the hash of the card as it was when the story was told last.
	Card    string   `json:"card,omitempty"`
	Over    bool     `json:"over,omitempty"`
	Marks   Marks    `json:"marks"`
	Follows []Follow `json:"follows"` // by channel, sorted
}

// A Follow is a channel in which the incident is followed.
type Follow struct {
	Channel string   `json:"channel"`
	Target  string   `json:"target"`
	Labels  []string `json:"labels,omitempty"`
	// Started: a record runs, as far as the incident knows. Sent, Card and Over are
	// what the server took for it last.
	Started bool   `json:"started,omitempty"`
	Sent    int64  `json:"sent,omitempty"`
	Card    string `json:"card,omitempty"`
	Over    bool   `json:"over,omitempty"`
	// Before is the run that followed an earlier life; State is what the record said
	// last.
	Before string      `json:"before,omitempty"`
	State  RecordState `json:"state,omitzero"`
}

// followed lists where the pinned playbook has the incident written down, as far as
// the channel was configured when it started.
func followed(set *Settings) []Follow {
	var out []Follow
	if g := set.Playbook.Record.GitHub; g != nil && slices.Contains(set.Channels, "github") {
		out = append(out, Follow{Channel: "github", Target: g.Repo, Labels: g.Labels})
	}
	if s := set.Playbook.Record.Slack; s != nil && slices.Contains(set.Channels, "slack") {
		out = append(out, Follow{Channel: "slack", Target: s.Channel})
	}
	return out
}

// newTold begins a story, or goes on with that of an earlier life in the same
// places.
func newTold(set *Settings, reopened *Reopened) *Told {
	fs := followed(set)
	if len(fs) == 0 {
		return nil
	}
	t := &Told{Follows: fs}
	if reopened == nil {
		return t
	}
	for _, old := range reopened.Records {
		t.N = max(t.N, old.Lines)
		for i := range t.Follows {
			f := &t.Follows[i]
			if f.Channel != old.Channel {
				continue
			}
			f.Before = old.Run
			if old.ID != "" {
				f.State.Place = &notify.Place{Channel: old.Channel, Where: old.Where, ID: old.ID, URL: old.URL}
			}
		}
	}
	for i := range t.Follows {
		t.Follows[i].Sent = t.N
	}
	return t
}

// follow starts what tells the story. Every part of it waits for itself alone:
// nothing that contains a key waits for a place where people read about it.
func (r *incident) follow(ctx workflow.Context) {
	if r.st.Told == nil {
		return
	}
	r.stir = true
	workflow.Go(ctx, r.takeRecords)
	workflow.Go(ctx, r.narrator)
	for i := range r.st.Told.Follows {
		workflow.Go(ctx, func(ctx workflow.Context) { r.pushStory(ctx, &r.st.Told.Follows[i]) })
	}
}

// owes tells whether a record lacks something that was told.
func (r *incident) owes(f *Follow) bool {
	t := r.st.Told
	return t.Card != "" && (f.Sent < t.N || f.Card != t.Card || f.Over != t.Over)
}

// pushStory keeps one record up to date: one message in flight at a time, and what
// came meanwhile goes with the next one.
func (r *incident) pushStory(ctx workflow.Context, f *Follow) {
	for failed := 0; ; {
		if workflow.Await(ctx, func() bool { return r.owes(f) }) != nil {
			return
		}
		if err := r.sendStory(ctx, f); err == nil {
			failed = 0
			continue
		}
		failed++
		if workflow.Sleep(ctx, backoff(failed)) != nil {
			return
		}
	}
}

// sendStory hands a record what it lacks, and starts it where none runs. What the
// server has taken is never lost; what it took twice is dropped by its number.
func (r *incident) sendStory(ctx workflow.Context, f *Follow) error {
	defer r.clk.working()()
	t := r.st.Told
	s := Story{Life: r.life(), Over: t.Over}
	for _, l := range t.Lines {
		if l.N > f.Sent {
			s.Lines = append(s.Lines, l)
		}
	}
	if f.Card != t.Card || !f.Started {
		if r.told == nil { // said by the run before this one
			card := r.card()
			r.told = &card
		}
		s.Card = r.told
	}
	n, hash := t.N, t.Card
	if err := r.handStory(ctx, f, s); err != nil {
		return err
	}
	f.Sent, f.Card, f.Over = n, hash, s.Over
	least := f.Sent
	for _, o := range t.Follows {
		least = min(least, o.Sent)
	}
	t.Lines = slices.DeleteFunc(t.Lines, func(l notify.Line) bool { return l.N <= least })
	return nil
}

func (r *incident) handStory(ctx workflow.Context, f *Follow, s Story) error {
	if !f.Started {
		exec, err := r.spawn(ctx, RecordID(r.in.ID, f.Channel), "follows the incident in "+f.Channel, TypeRecord, RecordInput{
			Incident: r.in.ID, Channel: f.Channel, Target: f.Target, Labels: f.Labels, Virtual: r.set.Virtual, Now: r.clk.Now(ctx),
			First: &s, Place: f.State.Place, Again: r.in.Reopened != nil, Before: f.Before,
		})
		switch {
		case err == nil:
			f.Started, f.State.Run = true, exec.RunID
			return nil
		case !temporal.IsWorkflowExecutionAlreadyStartedError(err):
			return err
		}
		// The record of an earlier life, or of the run before this one, still goes on.
		f.Started = true
	}
	err := workflow.SignalExternalWorkflow(ctx, RecordID(r.in.ID, f.Channel), "", SignalStory, s).Get(ctx, nil)
	if err != nil {
		f.Started, f.Before = false, f.State.Run // it has ended: start another one
	}
	return err
}

// takeRecords receives how the records stand.
func (r *incident) takeRecords(ctx workflow.Context) {
	ch := workflow.GetSignalChannel(ctx, SignalRecord)
	for {
		var s RecordState
		if !ch.Receive(ctx, &s) {
			return
		}
		r.takeRecord(s)
	}
}

func (r *incident) takeRecord(s RecordState) {
	if r.st.Told == nil {
		return
	}
	r.chapters.pin(s.Chapters)
	s.Chapters = nil
	for i := range r.st.Told.Follows {
		f := &r.st.Told.Follows[i]
		if f.Channel != s.Channel {
			continue
		}
		if s.Place == nil {
			s.Place = f.State.Place
		}
		f.State = s
	}
}

// narrator tells what is new, when it is new enough: what wants a person at once,
// the rest together with more of its kind. In a drill nothing is gathered: time
// stands still there until nothing runs.
func (r *incident) narrator(ctx workflow.Context) {
	t := r.st.Told
	for {
		if workflow.Await(ctx, func() bool { return r.stir }) != nil {
			return
		}
		since := r.clk.Now(ctx)
		for {
			r.stir = false
			p := r.news()
			if p == paceNone {
				break
			}
			due := since.Add(p.gather())
			if p == paceUrgent || r.ending || r.clk.virtual || !r.clk.Now(ctx).Before(due) {
				r.say(ctx)
				break
			}
			_, err := r.clk.Wait(ctx, due, "more to tell with it", func() bool {
				if !r.stir {
					return false
				}
				r.stir = false
				return r.ending || r.news() > p
			})
			if err != nil {
				return
			}
		}
		if r.ending && !t.Over && r.news() == paceNone {
			t.Over = true
		}
	}
}

// news tells how pressing what is new is.
func (r *incident) news() pace {
	next := r.st.Told.Marks.clone()
	p := paceNone
	for _, l := range r.narrate(&next) {
		p = max(p, l.pace)
	}
	if p == paceNone {
		if h, err := canon.HashOf(r.card()); err == nil && h != r.st.Told.Card {
			p = paceCard
		}
	}
	return p
}

// say tells it.
func (r *incident) say(ctx workflow.Context) {
	t := r.st.Told
	now := r.clk.Now(ctx)
	for _, l := range r.narrate(&t.Marks) {
		t.N++
		l.N, l.At = t.N, now
		t.Lines = append(t.Lines, l.Line)
	}
	card := r.card()
	if h, err := canon.HashOf(card); err == nil {
		t.Card, r.told = h, &card
	}
}

// farewell tells the last of the story before the incident ends. It waits for the
// server to take it, and for no vendor.
func (r *incident) farewell(ctx workflow.Context) error {
	t := r.st.Told
	if t == nil {
		return nil
	}
	r.ending, r.stir = true, true
	return workflow.Await(ctx, func() bool {
		return t.Over && !slices.ContainsFunc(t.Follows, func(f Follow) bool { return r.owes(&f) })
	})
}

// recordsView says where the incident is followed.
func (r *incident) recordsView() []view.Record {
	t := r.st.Told
	if t == nil {
		return nil
	}
	out := make([]view.Record, 0, len(t.Follows))
	for _, f := range t.Follows {
		v := view.Record{Channel: f.Channel, State: f.State.State, Lines: t.N, Why: f.State.Why, Since: canon.Time(f.State.Since), Run: f.State.Run}
		if v.State == "" {
			v.State = recordOpening
		}
		if p := f.State.Place; p != nil {
			v.Where, v.ID, v.URL = p.Where, p.ID, p.URL
		}
		if v.State == recordBehind || v.State == recordOpening {
			v.Behind = t.N - min(f.State.Told, t.N)
		}
		out = append(out, v)
	}
	return out
}

// recordIDs are the workflows whose histories say what was told when.
func (r *incident) recordIDs() []string {
	if r.st.Told == nil {
		return nil
	}
	var out []string
	for _, f := range r.st.Told.Follows {
		out = append(out, RecordID(r.in.ID, f.Channel))
	}
	return out
}

// pace is how long something may wait for more of its kind.
type pace int

const (
	paceNone pace = iota
	paceBulk
	paceCard
	paceLine
	paceUrgent
)

func (p pace) gather() time.Duration {
	switch p {
	case paceBulk:
		return gatherBulk
	case paceCard:
		return gatherCard
	}
	return gatherLines
}
