package workflows

import (
	"fmt"
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
	// Since is when the watch began, Seen up to when uses were read.
	Since time.Time            `json:"since"`
	Seen  map[string]time.Time `json:"seen,omitempty"`
	Until time.Time            `json:"until"`
	Now   time.Time            `json:"now"`
	Polls int                  `json:"polls,omitempty"`
	Hits  []Hit                `json:"hits,omitempty"`
}

// A Hit is a use of a dead key.
type Hit struct {
	FP      string    `json:"fp"`
	Source  string    `json:"source"`
	At      time.Time `json:"at"`
	Count   int64     `json:"count"`
	Refused bool      `json:"refused"`
}

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
// of the window it seals the last bundle.
func Watch(ctx workflow.Context, in WatchInput) error {
	clk, err := newClock(ctx, in.Settings.Virtual, in.Now)
	if err != nil {
		return err
	}
	if in.Seen == nil {
		in.Seen = map[string]time.Time{}
	}
	stop := false
	workflow.Go(ctx, func(ctx workflow.Context) {
		stop = workflow.GetSignalChannel(ctx, SignalStop).Receive(ctx, nil)
	})
	c := &caller{incident: in.Incident, prefix: fmt.Sprintf("watch/%d", in.Polls), clk: clk, off: func(string) bool { return false }}
	for !stop && clk.Now(ctx).Before(in.Until) {
		for _, key := range in.Keys {
			if err := look(ctx, &in, clk, c, key); err != nil {
				return err
			}
		}
		in.Polls++
		workflow.SetCurrentDetails(ctx, fmt.Sprintf("%d dead keys watched until %s; %d looks, %d hits", len(in.Keys), canon.Time(in.Until), in.Polls, len(in.Hits)))
		if workflow.GetInfo(ctx).GetContinueAsNewSuggested() {
			in.Now = clk.Now(ctx)
			return workflow.NewContinueAsNewError(ctx, TypeWatch, in)
		}
		next := clk.Now(ctx).Add(watchPause(clk.Now(ctx).Sub(in.Since)))
		if next.After(in.Until) {
			next = in.Until
		}
		if _, err := clk.Wait(ctx, next, "next look at the dead keys", func() bool { return stop }); err != nil {
			return err
		}
	}
	record(ctx, clk.Now(ctx), event.Event{Type: event.EventClosed, Result: "watch ended", Attrs: map[string]string{"looks": itoa(in.Polls), "hits": itoa(len(in.Hits))}})
	_, err = engineCall[SealResult](ctx, clk, seal, ActivitySeal, "seal the last bundle", SealInput{
		Incident: in.Incident, Final: true, View: view.Incident{ID: in.Incident}, Extend: true,
		Workflows: append([]string{IncidentID(in.Incident), WatchID(in.Incident)}, in.Workflows...), Now: clk.Now(ctx),
	})
	return err
}

// look reads the uses of one dead key since the last look.
func look(ctx workflow.Context, in *WatchInput, clk *clock, c *caller, key activities.Key) error {
	since, ok := in.Seen[key.FP]
	if !ok {
		since = in.Since
	}
	now := clk.Now(ctx)
	a, err := c.once(ctx, activities.Sweep, activities.Request{Ref: activities.Ref{Key: key}, Since: since, Now: now})
	if err != nil {
		return err
	}
	if a.Sweep == nil {
		return nil // not read: the next look starts from the same time
	}
	in.Seen[key.FP] = now
	for _, u := range a.Sweep.Hits {
		if !u.Last.After(since) {
			continue
		}
		h := Hit{FP: key.FP, Source: u.Source, At: u.Last, Count: u.Count, Refused: u.Refused >= u.Count}
		in.Hits = append(in.Hits, h)
		result := "refused"
		if !h.Refused {
			result = "succeeded"
		}
		record(ctx, now, event.Event{
			Type: event.EventTripwire, Actor: "provider:" + key.Provider, FP: key.FP, SourceTime: canon.Time(h.At), Result: result,
			Attrs: map[string]string{"source": h.Source, "count": fmt.Sprint(h.Count), "agent": u.Agent, "caller": u.Label},
		})
		if !h.Refused {
			if err := alarm(ctx, in, clk, key, h); err != nil {
				return err
			}
		}
	}
	return nil
}

// alarm reports a dead key that worked: the incident goes on, or is reopened by
// the engine.
func alarm(ctx workflow.Context, in *WatchInput, clk *clock, key activities.Key, h Hit) error {
	_, err := engineCall[struct{}](ctx, clk, engine, ActivityAlarm, "a dead key worked: reopen", AlarmInput{Incident: in.Incident, Key: key, Hit: h, Now: clk.Now(ctx)})
	return err
}
