package workflows

import (
	"fmt"
	"slices"
	"time"

	"go.temporal.io/sdk/workflow"

	"rekey/activities"
	"rekey/internal/canon"
	"rekey/internal/event"
	"rekey/internal/view"
)

// WatchInput starts a watch, or its next run.
type WatchInput struct {
	Incident  string           `json:"incident"`
	Settings  Settings         `json:"settings"`
	Keys      []activities.Key `json:"keys"`
	Workflows []string         `json:"workflows"`
	// Since is when the watch began.
	Since time.Time `json:"since"`
	// Dead is when a key was first refused for good, by fingerprint; Read up to when
	// its uses were read.
	Dead map[string]time.Time `json:"dead,omitempty"`
	Read map[string]time.Time `json:"read,omitempty"`
	// Seen is the last use told of a group, by fingerprint, source and agent.
	Seen     map[string]time.Time `json:"seen,omitempty"`
	Until    time.Time            `json:"until"`
	Now      time.Time            `json:"now"`
	ClockSeq int64                `json:"clock_seq,omitempty"`
	Polls    int                  `json:"polls,omitempty"`
	// Alarms are those raised about a key, by fingerprint.
	Alarms map[string]Alarms `json:"alarms,omitempty"`
	// Hits are the last ones, Total is how many there were.
	Hits  []Hit `json:"hits,omitempty"`
	Total int   `json:"total,omitempty"`
	// Chapters are the kept histories of the incident, and of this watch's own runs.
	Chapters []Chapter `json:"chapters,omitempty"`
}

// WatchMore adds dead keys to a watch that runs.
type WatchMore struct {
	Keys      []activities.Key     `json:"keys"`
	Dead      map[string]time.Time `json:"dead,omitempty"`
	Workflows []string             `json:"workflows"`
	Until     time.Time            `json:"until"`
}

// A Hit is a use of a dead key.
type Hit struct {
	FP      string    `json:"fp"`
	Source  string    `json:"source"`
	At      time.Time `json:"at"`
	Count   int64     `json:"count"`
	Refused bool      `json:"refused"`
}

// shownHits bounds the hits that the state carries; each is an event besides.
const shownHits = 50

// Alarms are how often and when last an alarm about a key was raised.
type Alarms struct {
	N    int       `json:"n"`
	Last time.Time `json:"last"`
}

// alarmPause is the least time between the first two alarms of one key: meanwhile
// the incident is busy killing it again. It doubles, at most alarmSteps times, so
// that a key which nothing kills does not open the incident for ever. Every use is
// an event all the same.
const (
	alarmPause = time.Hour
	alarmSteps = 4
)

// trailLag is how late a provider publishes a use: CloudTrail says typically within
// 5, in the event history within 15 minutes. Every look goes back that far, and
// further for safety, so that no late record is missed.
// https://docs.aws.amazon.com/awscloudtrail/latest/userguide/how-cloudtrail-works.html
const trailLag = time.Hour

// watchPause is the time to the next look. Providers publish uses minutes after
// they happen, so looking more often finds nothing sooner; an old incident is
// looked at hourly.
func watchPause(age time.Duration) time.Duration {
	switch {
	case age < time.Hour:
		return 5 * time.Minute
	case age < 24*time.Hour:
		return 15 * time.Minute
	}
	return time.Hour
}

// Watch is the workflow of the tripwire on an incident's dead keys. It outlives
// the incident; what it sees extends the same log. A use that was refused is
// recorded; one that succeeded reopens the incident through a report. At the end
// of the window it looks a last time and seals the last bundle.
func Watch(ctx workflow.Context, in WatchInput) error {
	clk, err := newClock(ctx, in.Settings.Virtual, in.Now, in.ClockSeq)
	if err != nil {
		return err
	}
	if in.Seen == nil {
		in.Seen = map[string]time.Time{}
	}
	if in.Read == nil {
		in.Read = map[string]time.Time{}
	}
	if in.Dead == nil {
		in.Dead = map[string]time.Time{}
	}
	t := &tripwire{in: &in, clk: clk, more: workflow.GetSignalChannel(ctx, SignalMore), stop: workflow.GetSignalChannel(ctx, SignalStop)}
	t.call = &caller{incident: in.Incident, prefix: fmt.Sprintf("watch/%d", in.Polls), clk: clk, off: func(string) bool { return false }, rates: in.Settings.Playbook.RatesOf}
	workflow.Go(ctx, t.listen)
	workflow.Go(ctx, func(ctx workflow.Context) {
		t.stopped = take(ctx, t.stop, nil) || t.stopped
	})
	chapters := archiver{incident: in.Incident, clk: clk, chapters: &in.Chapters}
	if before := workflow.GetInfo(ctx).ContinuedExecutionRunID; before != "" {
		chapters.keep(ctx, WatchID(in.Incident), before)
	}
	for {
		// The keys as they stand: more may come while this look waits.
		for _, key := range append([]activities.Key{}, in.Keys...) {
			if err := t.look(ctx, key); err != nil {
				return err
			}
		}
		in.Polls++
		workflow.SetCurrentDetails(ctx, fmt.Sprintf("%d dead keys watched until %s; %d looks, %d hits", len(in.Keys), canon.Time(in.Until), in.Polls, in.Total))
		if t.over(ctx) {
			break
		}
		if workflow.GetInfo(ctx).GetContinueAsNewSuggested() {
			if err := chapters.done(ctx); err != nil {
				return err
			}
			t.drain(ctx)
			in.Now, in.ClockSeq = clk.Now(ctx), clk.seq
			return workflow.NewContinueAsNewError(ctx, TypeWatch, in)
		}
		next := clk.Now(ctx).Add(watchPause(clk.Now(ctx).Sub(in.Since)))
		if next.After(in.Until) {
			next = in.Until
		}
		keys := len(in.Keys)
		if _, err := clk.Wait(ctx, next, "next look at the dead keys", func() bool { return t.stopped || len(in.Keys) > keys }); err != nil {
			return err
		}
	}
	if err := chapters.done(ctx); err != nil {
		return err
	}
	record(ctx, clk.Now(ctx), event.Event{Type: event.EventClosed, Result: "watch ended", Attrs: map[string]string{"looks": itoa(in.Polls), "hits": itoa(in.Total)}})
	_, err = engineCall[SealResult](ctx, clk, seal, ActivitySeal, "seal the last bundle", SealInput{
		Incident: in.Incident, Final: true, View: view.Incident{ID: in.Incident}, Extend: true,
		Workflows: append([]string{IncidentID(in.Incident), WatchID(in.Incident)}, in.Workflows...), Now: clk.Now(ctx), Chapters: in.Chapters,
	})
	if err != nil {
		return err
	}
	before := len(in.Keys)
	t.drain(ctx)
	if len(in.Keys) > before && !t.stopped { // they came while the last bundle was sealed
		in.Now, in.ClockSeq = clk.Now(ctx), clk.seq
		return workflow.NewContinueAsNewError(ctx, TypeWatch, in)
	}
	return nil
}

// tripwire is a running watch.
type tripwire struct {
	in      *WatchInput
	clk     *clock
	call    *caller
	more    workflow.ReceiveChannel
	stop    workflow.ReceiveChannel
	stopped bool
}

func (t *tripwire) over(ctx workflow.Context) bool {
	return t.stopped || !t.clk.Now(ctx).Before(t.in.Until)
}

func (t *tripwire) listen(ctx workflow.Context) {
	for {
		var m WatchMore
		if !take(ctx, t.more, &m) {
			return
		}
		t.add(m)
	}
}

func (t *tripwire) drain(ctx workflow.Context) {
	for {
		var m WatchMore
		if !t.more.ReceiveAsync(&m) {
			break
		}
		t.add(m)
	}
	t.stopped = t.stop.ReceiveAsync(nil) || t.stopped
	t.clk.drain(ctx)
}

// add takes further keys. A key that was revoked a second time is read from then
// on: what happened before is known.
func (t *tripwire) add(m WatchMore) {
	for _, k := range m.Keys {
		if !slices.ContainsFunc(t.in.Keys, func(o activities.Key) bool { return o.FP == k.FP }) {
			t.in.Keys = append(t.in.Keys, k)
		}
		if dead := m.Dead[k.FP]; dead.After(t.in.Dead[k.FP]) {
			t.in.Dead[k.FP] = dead
		}
	}
	for _, id := range m.Workflows {
		if !slices.Contains(t.in.Workflows, id) {
			t.in.Workflows = append(t.in.Workflows, id)
		}
	}
	if m.Until.After(t.in.Until) {
		t.in.Until = m.Until
	}
}

// look reads the uses of one dead key since the last look, and again those that
// may have been published late.
func (t *tripwire) look(ctx workflow.Context, key activities.Key) error {
	in := t.in
	dead, ok := in.Dead[key.FP]
	if !ok {
		dead = in.Since
	}
	since := in.Read[key.FP].Add(-trailLag)
	if since.Before(dead) {
		since = dead
	}
	now := t.clk.Now(ctx)
	a, err := t.call.once(ctx, activities.Sweep, activities.Request{Ref: activities.Ref{Key: key}, Since: since, Now: now, UsesOnly: true})
	if err != nil {
		return err
	}
	if a.Sweep == nil {
		return nil // not read: the next look starts from the same time
	}
	in.Read[key.FP] = now
	for _, u := range a.Sweep.Hits {
		group := key.FP + " " + u.Source + " " + u.Agent
		if !u.Last.After(dead) || !u.Last.After(in.Seen[group]) {
			continue
		}
		in.Seen[group] = u.Last
		if err := t.hit(ctx, key, u); err != nil {
			return err
		}
	}
	t.prune(since)
	return nil
}

// prune forgets groups whose last use no look will read again.
func (t *tripwire) prune(before time.Time) {
	const most = 200
	if len(t.in.Seen) <= most {
		return
	}
	// What is deleted does not depend on the order.
	//workflowcheck:ignore
	for group, last := range t.in.Seen {
		if last.Before(before) {
			delete(t.in.Seen, group)
		}
	}
}

// hit records a use of a dead key and raises the alarm for one that succeeded.
func (t *tripwire) hit(ctx workflow.Context, key activities.Key, u activities.Use) error {
	in := t.in
	h := Hit{FP: key.FP, Source: u.Source, At: u.Last, Count: u.Count, Refused: u.Refused >= u.Count}
	in.Total++
	if in.Hits = append(in.Hits, h); len(in.Hits) > shownHits {
		in.Hits = in.Hits[len(in.Hits)-shownHits:]
	}
	result := "refused"
	if !h.Refused {
		result = "succeeded"
	}
	record(ctx, t.clk.Now(ctx), event.Event{
		Type: event.EventTripwire, Actor: "provider:" + key.Provider, FP: key.FP, SourceTime: canon.Time(h.At), Result: result,
		Attrs: map[string]string{"source": h.Source, "count": fmt.Sprint(h.Count), "agent": u.Agent, "caller": u.Label},
	})
	now := t.clk.Now(ctx)
	was := in.Alarms[key.FP]
	if h.Refused || (was.N > 0 && now.Sub(was.Last) < alarmPause<<min(was.N-1, alarmSteps)) {
		return nil
	}
	if in.Alarms == nil {
		in.Alarms = map[string]Alarms{}
	}
	in.Alarms[key.FP] = Alarms{N: was.N + 1, Last: now}
	return t.alarm(ctx, key, h)
}

// alarm reports a dead key that worked: the incident goes on, or is reopened by
// the engine.
func (t *tripwire) alarm(ctx workflow.Context, key activities.Key, h Hit) error {
	_, err := engineCall[struct{}](ctx, t.clk, engine, ActivityAlarm, "a dead key worked: reopen", AlarmInput{Incident: t.in.Incident, Key: key, Hit: h, Now: t.clk.Now(ctx)})
	return err
}
