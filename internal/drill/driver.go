package drill

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"

	"rekey/internal/api"
	"rekey/internal/codec"
	"rekey/internal/codec/keyring"
	"rekey/internal/lab/scenario"
	"rekey/internal/people"
	"rekey/internal/statement"
	"rekey/internal/temporalx"
	"rekey/internal/view"
	"rekey/workflows"
)

// driver moves the world.
type driver struct {
	w         *world
	api       *caller
	temporal  client.Client
	ids       map[string]string // actor -> identity file
	incident  string
	now, end  time.Time
	tick      int64
	opened    map[string]time.Time // approval -> first seen
	acted     map[string]bool      // person/approval
	phase     string
	told      map[string]bool
	stallFrom time.Time
	view      view.Incident // as of the last look
	why       string        // what did not come to rest at the last look
	busy      string        // the workflow that was busy then
	short     int           // looks since that asked it alone
}

// stallLimit is how long (by the wall clock) nothing may become quiet before the
// drill is an error: a restart with its heartbeat time-out takes some ten seconds, on a
// machine that works on thirty other things a minute.
const stallLimit = 3 * time.Minute

func newDriver(w *world, ids map[string]string) *driver {
	t0 := w.d.T0(time.Time{})
	horizon := time.Duration(w.d.Clock.Horizon)
	if horizon == 0 {
		horizon = 96 * time.Hour
	}
	return &driver{
		w: w, api: newAPI(w.http, filepath.Join(w.dir, "data")), ids: ids, now: t0, end: t0.Add(horizon),
		opened: map[string]time.Time{}, acted: map[string]bool{}, told: map[string]bool{}, stallFrom: time.Now(),
	}
}

// connect waits for rekey and opens the driver's own Temporal client: the clock
// of workflows is read and moved there.
func (d *driver) connect(ctx context.Context) error {
	d.w.mu.Lock()
	done := d.w.done
	d.w.mu.Unlock()
	if err := d.w.until(ctx, done, func() bool { return d.api.ready(ctx) }); err != nil {
		return fmt.Errorf("rekey did not start, see %s: %w", filepath.Join(d.w.dir, "engine.log"), err)
	}
	data := filepath.Join(d.w.dir, "data")
	keys, err := keyring.Open(keyring.Options{Dir: filepath.Join(data, "keys", "codec")})
	if err != nil {
		return err
	}
	token, err := temporalx.ReadToken(data)
	if err != nil {
		return err
	}
	d.temporal, err = temporalx.Dial(ctx, temporalx.Options{
		Address: d.w.temporal, Namespace: Namespace, Token: token, Identity: "rekey-drill-driver",
		DataConverter: codec.NewDataConverter(keys), FailureConverter: codec.NewFailureConverter(keys),
	})
	return err
}

// report makes the scenario's report.
func (d *driver) report(ctx context.Context) error {
	rep := d.w.d.Trigger.Report
	req := api.ReportRequest{
		Provider: rep.Provider, Kind: rep.Kind, Account: d.w.account, KeyID: d.w.id(rep.Key), Source: rep.Source, Confidence: rep.Confidence,
		Severity: rep.Severity, Reason: rep.Reason, PlaybookName: rep.Playbook, Nonce: fmt.Sprintf("drill-%s-%d-1", d.w.d.Name, d.w.d.Seed),
	}
	if strings.Contains(rep.Playbook, "/") {
		text, err := os.ReadFile(rep.Playbook)
		if err != nil {
			return fmt.Errorf("the scenario's playbook: %w", err)
		}
		req.Playbook, req.PlaybookName = string(text), ""
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
		return fmt.Errorf("the report was not taken: %w", err)
	}
	d.incident = res.Incident
	d.w.say("%s  reported %s (%s) as %s", d.stamp(), rep.Key, d.w.id(rep.Key), res.Incident)
	return nil
}

// play moves the world until its horizon.
func (d *driver) play(ctx context.Context) error {
	const shortest, longest = 10 * time.Millisecond, 80 * time.Millisecond // between two looks
	pause := shortest
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		next, quiet, err := d.look(ctx)
		if err != nil || !quiet {
			if time.Since(d.stallFrom) > stallLimit {
				return fmt.Errorf("nothing came to rest for %s at %s: %w", stallLimit, d.stamp(), errors.Join(err, errors.New(d.why+", see engine.log")))
			}
			select {
			case <-ctx.Done():
			case <-time.After(pause):
			}
			pause = min(pause*3/2, longest)
			continue
		}
		d.stallFrom, pause = time.Now(), shortest
		acted, due, err := d.people(ctx)
		if err != nil {
			continue // rekey is down for a moment: the next look tells
		}
		if acted {
			continue
		}
		if !due.IsZero() && (next.IsZero() || due.Before(next)) {
			next = due
		}
		if next.IsZero() || next.After(d.end) {
			next = d.end
		}
		if !d.now.Before(d.end) {
			return nil
		}
		if err := d.move(ctx, next); err != nil {
			d.w.say("%s  clock: %v", d.stamp(), err)
		}
	}
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
	for _, id := range d.open() {
		if err := d.temporal.SignalWorkflow(ctx, id, "", workflows.SignalClock, workflows.ClockTick{Now: d.now, Seq: d.tick}); err != nil && !gone(err) {
			return fmt.Errorf("tick %s: %w", id, err)
		}
	}
	return nil
}

// open lists the workflows of the incident that run, as its last view says.
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
	if id := d.busy; id != "" && d.short < 2 { // it alone tells that nothing rests yet
		if st, err := d.clock(ctx, id); err == nil && st.Busy {
			d.short++
			return next, false, nil
		}
	}
	d.busy, d.short = "", 0
	if d.view, err = d.api.show(ctx, d.incident); err != nil {
		return next, false, err
	}
	if err := d.tell(ctx); err != nil {
		return next, false, err
	}
	var last map[string]workflows.ClockState
	for range 2 {
		states := map[string]workflows.ClockState{}
		for _, id := range d.open() {
			st, err := d.clock(ctx, id)
			if err != nil {
				return next, false, err
			}
			if st.Busy {
				d.busy, d.why = id, id+" is busy"
				return next, false, nil
			}
			if st.Now.Before(d.now) {
				// It was started, or restarted, since the last tick.
				d.why = id + " has not seen the last tick"
				return next, false, d.temporal.SignalWorkflow(ctx, id, "", workflows.SignalClock, workflows.ClockTick{Now: d.now, Seq: d.tick})
			}
			states[id] = st
			if !st.Wake.IsZero() && (next.IsZero() || st.Wake.Before(next)) {
				next = st.Wake
			}
		}
		if last != nil && !same(last, states) {
			d.why = "states still change"
			return next, false, nil
		}
		last = states
	}
	// What was started meanwhile was not asked yet.
	before := d.open()
	if d.view, err = d.api.show(ctx, d.incident); err != nil {
		return next, false, err
	}
	if !slices.Equal(before, d.open()) {
		d.why = "workflows start and end"
		return next, false, nil
	}
	return next, true, nil
}

// clock asks a workflow what it waits for.
func (d *driver) clock(ctx context.Context, id string) (workflows.ClockState, error) {
	ask, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var st workflows.ClockState
	ans, err := d.temporal.QueryWorkflow(ask, id, "", workflows.QueryClock)
	if err == nil {
		err = ans.Get(&st)
	}
	return st, err
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

// people lets everybody do what the scenario says they do, and tells when the next
// of them is due.
func (d *driver) people(ctx context.Context) (acted bool, due time.Time, err error) {
	for _, a := range d.view.Approvals {
		if a.State != "open" {
			continue
		}
		if _, ok := d.opened[a.ID]; !ok {
			d.opened[a.ID] = d.now
			d.w.say("%s  vote %s asked (%d of %v): %s", d.stamp(), a.ID, a.Needed, a.Roles, a.What)
		}
		for _, p := range d.w.d.People {
			key := p.Actor + "/" + a.ID
			role := common(p.Roles, a.Roles)
			if p.On != "approval" || d.acted[key] || role == "" {
				continue
			}
			at := d.opened[a.ID].Add(time.Duration(p.After))
			if d.now.Before(at) {
				if due.IsZero() || at.Before(due) {
					due = at
				}
				continue
			}
			if err := d.vote(ctx, p, role, a); err != nil {
				return acted, due, err
			}
			d.acted[key], acted = true, true
		}
	}
	return acted, due, nil
}

func (d *driver) vote(ctx context.Context, p scenario.Person, role string, a view.Approval) error {
	action := p.Do
	if action == "" {
		action = statement.Approve
	}
	key, err := people.LoadIdentity(d.ids[p.Actor])
	if err != nil {
		return err
	}
	signed, err := d.sign(key, statement.Statement{Action: action, Actor: p.Actor, Role: role, WaveHash: a.WaveHash, Approval: a.ID, Text: "drill"})
	if err != nil {
		return err
	}
	var dec workflows.Decision
	err = d.api.do(ctx, http.MethodPost, "/api/v1/incidents/"+d.incident+"/statements", signed, &dec)
	if body, no := refused(err); no {
		d.w.say("%s  %s may not %s %s: %s", d.stamp(), p.Actor, action, a.ID, body.Message)
		return nil
	}
	if err != nil {
		return err
	}
	d.w.say("%s  %s (%s) %ss %s: %d of %d", d.stamp(), p.Actor, role, action, a.ID, dec.Votes, dec.Needed)
	return nil
}

func (d *driver) sign(key ed25519.PrivateKey, s statement.Statement) (statement.Signed, error) {
	s.Incident, s.Method = d.incident, people.MethodCLIKey
	s.Nonce = fmt.Sprintf("%s-%s-%s-%d", s.Actor, s.Approval, s.Action, time.Now().UnixNano())
	s.Issued, s.Expires = d.now, d.now.Add(10*time.Minute)
	return statement.Sign(s, key)
}

func common(a, b []string) string {
	for _, r := range a {
		if slices.Contains(b, r) {
			return r
		}
	}
	return ""
}

// tell narrates what changed, and tells the lab which phase it is.
func (d *driver) tell(ctx context.Context) error {
	v := d.view
	if v.Phase != d.phase {
		d.phase = v.Phase
		d.w.say("%s  phase %s: %d items in scope, %d open", d.stamp(), v.Phase, v.Totals.Items, v.Totals.Open)
		if err := d.w.lab.EnterPhase(ctx, v.Phase); err != nil {
			return fmt.Errorf("lab: %w", err)
		}
	}
	once := func(key, format string, args ...any) {
		if !d.told[key] {
			d.told[key] = true
			d.w.say("%s  "+format, append([]any{d.stamp()}, args...)...)
		}
	}
	for _, it := range v.Items {
		if it.Rule != "" {
			once(it.FP+"/rule/"+it.Rule, "%s: %s (rule %s)", d.name(it), it.Strategy, it.Rule)
		}
		if it.Death.LastAlive != "" && it.Death.State == "alive" {
			once(it.FP+"/alive/"+it.Death.Rung, "%s is STILL ALIVE after the provider's yes", d.name(it))
		}
		if it.Death.Rung != "" {
			once(it.FP+"/rung/"+it.Death.Rung, "%s: rung %s", d.name(it), it.Death.Rung)
		}
		if it.Death.State == "dead" {
			once(it.FP+"/dead/"+it.Death.Rung, "%s proven dead: %d refusals, grade %s", d.name(it), it.Death.Refusals, it.Death.Grade)
		}
		if it.Adoption.NewKeyID != "" {
			once(it.FP+"/new", "%s: replacement %s", d.name(it), it.Adoption.NewKeyID)
		}
		if it.Adoption.State == "adopted" {
			once(it.FP+"/adopted", "%s: replacement adopted by %d of %d dependents", d.name(it), it.Adoption.CutOver, it.Adoption.Dependents)
		}
		if it.EndState != "" {
			once(it.FP+"/end", "%s: %s", d.name(it), it.EndState)
		}
	}
	for _, h := range v.NeedsHuman {
		if h.State == "open" {
			once("human/"+h.ID, "a person is asked (%s): %s", h.Owner, h.What)
		}
	}
	return nil
}

// name calls an item as the scenario does.
func (d *driver) name(it view.Item) string {
	for alias, id := range d.w.info.Aliases {
		if id == it.KeyID {
			return alias
		}
	}
	return "attacker's " + it.Short
}

// stamp is the world's time since the trigger.
func (d *driver) stamp() string {
	t := d.now.Sub(d.w.d.T0(time.Time{})).Round(time.Second)
	return fmt.Sprintf("T0+%02d:%02d:%02d", int(t.Hours()), int(t.Minutes())%60, int(t.Seconds())%60)
}
