package drill

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"go.temporal.io/api/serviceerror"

	"rekey/internal/api"
	"rekey/internal/lab/scenario"
	"rekey/internal/view"
	"rekey/workflows"
)

// A Script is one incident of a session.
type Script struct {
	// Reports are made one after another before the clock moves; the first opens the
	// incident.
	Reports []scenario.Report
	// Until ends it; nil: at End.
	Until func(v view.Incident, now time.Time) bool
	// End is when it is over at the latest, in the world's time.
	End time.Time
}

// driver moves the world while one incident is played.
type driver struct {
	*Session
	script    Script
	incident  string
	late      []late               // reports that come in its course
	opened    map[string]time.Time // approval or step -> first seen
	acted     map[string]bool      // person/approval
	phase     string
	told      map[string]bool
	counts    string
	scopes    int // workflows that read pages, as far as they were seen
	stallFrom time.Time
	moved     string        // what showed last that something happens
	view      view.Incident // as of the last look
	why       string        // what did not come to rest at the last look
}

// late is a report that is made at a time.
type late struct {
	at     time.Time
	what   string
	report scenario.Report
	made   bool
}

// stallLimit is how long (by the wall clock) nothing may happen at all, and nothing
// become quiet, before the drill is an error: a restart with its heartbeat time-out
// takes some ten seconds, on a machine that works on thirty other things a minute.
const stallLimit = 3 * time.Minute

func (s *Session) newDriver(sc Script) *driver {
	d := &driver{
		Session: s, script: sc, opened: map[string]time.Time{}, acted: map[string]bool{}, told: map[string]bool{}, stallFrom: time.Now(),
	}
	for _, f := range s.w.d.Faults {
		if f.Report != nil && (f.What == "scope-change" || f.What == "second-trigger") {
			d.late = append(d.late, late{at: f.At.Time.Resolve(s.t0), what: f.What, report: *f.Report})
		}
	}
	return d
}

// Play plays one incident to its end.
func (s *Session) Play(ctx context.Context, sc Script) (*Played, error) {
	d := s.newDriver(sc)
	for _, rep := range sc.Reports {
		if err := d.report(ctx, rep); err != nil {
			return nil, err
		}
	}
	if err := d.play(ctx); err != nil {
		return nil, err
	}
	return d.result(ctx)
}

// report makes a report of the scenario. All of a drill are about one incident.
func (d *driver) report(ctx context.Context, rep scenario.Report) error {
	d.reports++
	req := api.ReportRequest{
		Provider: rep.Provider, Kind: rep.Kind, Account: d.w.account, KeyID: d.w.id(rep.Key), Source: rep.Source, Confidence: rep.Confidence,
		Severity: rep.Severity, Reason: rep.Reason, Exposure: rep.Exposure, PlaybookName: rep.Playbook, Nonce: fmt.Sprintf("drill-%s-%d-%d", d.w.d.Name, d.w.d.Seed, d.reports),
	}
	switch {
	case strings.Contains(rep.Playbook, "/"):
		text, err := os.ReadFile(rep.Playbook)
		if err != nil {
			return fmt.Errorf("the scenario's playbook: %w", err)
		}
		req.Playbook, req.PlaybookName = string(text), ""
	case rep.Playbook == "":
		req.Playbook = d.w.d.Playbook
	}
	for _, name := range rep.Evidence {
		req.Evidence = append(req.Evidence, api.EvidenceFile{Name: name, Data: base64.StdEncoding.EncodeToString([]byte("sample given by " + rep.Source + ": " + name + "\n"))})
	}
	if rep.Secret {
		s, err := d.w.lab.Secret(ctx, rep.Key)
		if err != nil {
			return fmt.Errorf("the lab gives no secret of %s: %w", rep.Key, err)
		}
		req.Secret = base64.StdEncoding.EncodeToString([]byte(s.SecretKey))
	}
	var res api.ReportResponse
	if err := d.api.do(ctx, http.MethodPost, "/api/v1/reports", req, &res); err != nil {
		return fmt.Errorf("the report of %s was not taken: %w", rep.Key, err)
	}
	d.w.say("%s  reported %s (%s) as %s", d.stamp(), rep.Key, d.w.id(rep.Key), res.Incident)
	if d.incident != "" && d.incident != res.Incident {
		return fmt.Errorf("the report of %s opened a second incident %s: a drill plays one, so report a key that is in its scope by then", rep.Key, res.Incident)
	}
	d.incident = res.Incident
	return nil
}

// play moves the world until the script's end.
func (d *driver) play(ctx context.Context) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		next, quiet, err := d.look(ctx)
		if err != nil || !quiet {
			if d.stalled(ctx) {
				return fmt.Errorf("nothing happened for %s at %s: %w", stallLimit, d.stamp(), errors.Join(err, errors.New(d.why+", see engine.log")))
			}
			select {
			case <-ctx.Done():
			case <-time.After(15 * time.Millisecond):
			}
			continue
		}
		d.stallFrom = time.Now()
		acted, due, err := d.people(ctx)
		if err != nil {
			continue // rekey is down for a moment: the next look tells
		}
		made, later, err := d.reportLate(ctx)
		if err != nil {
			return err
		}
		if acted || made {
			continue
		}
		if d.script.Until != nil && d.script.Until(d.view, d.now) {
			return nil
		}
		for _, t := range []time.Time{due, later} {
			if !t.IsZero() && (next.IsZero() || t.Before(next)) {
				next = t
			}
		}
		if next.IsZero() || next.After(d.script.End) {
			next = d.script.End
		}
		if !d.now.Before(d.script.End) {
			return nil
		}
		if err := d.move(ctx, next); err != nil {
			d.w.say("%s  clock: %v", d.stamp(), err)
		}
	}
}

// stalled tells whether nothing has happened for long: no workflow became quiet, and
// the lab got no call either. A pass over many rows is busy for minutes.
func (d *driver) stalled(ctx context.Context) bool {
	if time.Since(d.stallFrom) < stallLimit {
		return false
	}
	clock, err := d.w.lab.Now(ctx)
	if err != nil {
		return true
	}
	moved := fmt.Sprint(clock.Calls)
	if moved == d.moved {
		return true
	}
	d.moved, d.stallFrom = moved, time.Now()
	return false
}

// reportLate makes the reports that are due, and tells when the next one is.
func (d *driver) reportLate(ctx context.Context) (made bool, next time.Time, err error) {
	for i := range d.late {
		l := &d.late[i]
		switch {
		case l.made:
		case d.now.Before(l.at):
			if next.IsZero() || l.at.Before(next) {
				next = l.at
			}
		default:
			d.w.say("%s  %s", d.stamp(), l.what)
			if err := d.report(ctx, l.report); err != nil {
				return made, next, err
			}
			l.made, made = true, true
		}
	}
	return made, next, nil
}

// move sets the world's clock, the lab first: what happens there meanwhile is in
// its log before rekey wakes.
func (d *driver) move(ctx context.Context, to time.Time) error {
	if to.After(d.now) {
		if _, err := d.w.lab.MoveTo(ctx, to); err != nil {
			return fmt.Errorf("lab: %w", err)
		}
		d.now = to
	}
	d.tick++
	return d.each(d.open(), func(id string) error {
		if err := d.signal(ctx, id); err != nil && !gone(err) {
			return fmt.Errorf("tick %s: %w", id, err)
		}
		return nil
	})
}

func (d *driver) signal(ctx context.Context, id string) error {
	return d.temporal.SignalWorkflow(ctx, id, "", workflows.SignalClock, workflows.ClockTick{Now: d.now, Seq: d.tick})
}

// each calls f for every id, some at once: an incident of many small waves has many
// workflows.
func (d *driver) each(ids []string, f func(id string) error) error {
	const atOnce = 8
	errs := make([]error, len(ids))
	room := make(chan struct{}, atOnce)
	var wg sync.WaitGroup
	for i, id := range ids {
		room <- struct{}{}
		wg.Go(func() {
			defer func() { <-room }()
			errs[i] = f(id)
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// open lists the workflows of the incident that run, as its last view says, and those
// that read its pages.
func (d *driver) open() []string {
	var out []string
	if d.view.State != "all-clear" {
		out = append(out, workflows.IncidentID(d.incident))
	}
	if d.view.Times.WatchUntil != "" {
		out = append(out, workflows.WatchID(d.incident))
	}
	if d.view.Plan != nil {
		for _, w := range d.view.Plan.Waves {
			if w.State == "running" {
				out = append(out, workflows.WaveID(d.incident, w.N))
			}
		}
	}
	for n := range d.scopes {
		out = append(out, workflows.ScopeID(d.incident, n+1))
	}
	return out
}

// gone tells that a workflow has ended since the last view.
func gone(err error) bool {
	var missing *serviceerror.NotFound
	return errors.As(err, &missing)
}

// look asks every open workflow whether it rests, and when it wants to be woken.
// It asks twice: a message between two workflows that was under way the first time
// has arrived by the second.
func (d *driver) look(ctx context.Context) (next time.Time, quiet bool, err error) {
	if d.view, err = d.api.show(ctx, d.incident); err != nil {
		return next, false, err
	}
	if err := d.tell(ctx); err != nil {
		return next, false, err
	}
	if err := d.findScopes(ctx); err != nil {
		return next, false, err
	}
	var last map[string]workflows.ClockState
	for range 2 {
		states, quiet, err := d.ask(ctx)
		if err != nil || !quiet {
			return next, false, err
		}
		if last != nil && !same(last, states) {
			d.why = "states still change"
			return next, false, nil
		}
		last = states
	}
	for _, st := range last {
		if !st.Wake.IsZero() && (next.IsZero() || st.Wake.Before(next)) {
			next = st.Wake
		}
	}
	// What was started meanwhile was not asked yet.
	before := d.open()
	if d.view, err = d.api.show(ctx, d.incident); err != nil {
		return next, false, err
	}
	if err := d.findScopes(ctx); err != nil {
		return next, false, err
	}
	if !slices.Equal(before, d.open()) {
		d.why = "workflows start and end"
		return next, false, nil
	}
	return next, true, nil
}

// ask asks every open workflow for its clock, some at once.
func (d *driver) ask(ctx context.Context) (map[string]workflows.ClockState, bool, error) {
	var mu sync.Mutex
	states := map[string]workflows.ClockState{}
	quiet := true
	err := d.each(d.open(), func(id string) error {
		ask, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		ans, err := d.temporal.QueryWorkflow(ask, id, "", workflows.QueryClock)
		if err != nil {
			return err
		}
		var st workflows.ClockState
		if err := ans.Get(&st); err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		states[id] = st
		switch {
		case st.Busy:
			d.why, quiet = id+" is busy", false
		case st.Now.Before(d.now):
			// It was started, or restarted, since the last tick; or it has ended and will
			// never see one.
			if err := d.signal(ctx, id); err != nil && !gone(err) {
				return err
			} else if err == nil {
				d.why, quiet = id+" has not seen the last tick", false
				return nil
			}
			delete(states, id)
		}
		return nil
	})
	return states, quiet, err
}

// findScopes looks for workflows that read the pages of a large incident: they are
// numbered, and nothing in the view tells of them.
func (d *driver) findScopes(ctx context.Context) error {
	for {
		_, err := d.temporal.DescribeWorkflowExecution(ctx, workflows.ScopeID(d.incident, d.scopes+1), "")
		if gone(err) {
			return nil
		}
		if err != nil {
			return err
		}
		d.scopes++
	}
}

func same(a, b map[string]workflows.ClockState) bool {
	if len(a) != len(b) {
		return false
	}
	for id, s := range a {
		t, ok := b[id]
		if !ok || !s.Wake.Equal(t.Wake) || s.Busy != t.Busy || s.Seq != t.Seq {
			return false
		}
	}
	return true
}
