package workflows_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"

	"rekey/activities"
)

// provider is a scripted AWS: keys with a state, and answers that go wrong where a
// story says so.
type provider struct {
	w    *world
	mu   sync.Mutex
	keys map[string]*state
	// calls are what reached the provider: "Disable AKIA-1".
	calls []call
	// script is what the next calls of a verb do instead of succeeding.
	script map[activities.Verb][]fault
	// always is what every call of a verb does.
	always map[activities.Verb]fault
	// slow is a verb whose first call is answered only when the second has come.
	slow   activities.Verb
	second chan struct{}
	// slots is how many keys a principal may have; 0: no limit.
	slots  int
	made   int
	digest int // changes when what a sweep reads changes
}

type call struct {
	what string
	verb activities.Verb
	at   time.Time
	pass activities.Pass
}

// state is one key at the provider.
type state struct {
	exists, active bool
	denied         bool
	// survives: the key goes on working under these verbs, whatever they answer.
	survives []activities.Verb
	// noControl: probes get no positive control.
	noControl bool
	// saw is what probes see whatever the state is.
	saw      string
	uses     []activities.Use
	newUses  []activities.Use // of the replacement, once it is there
	findings []activities.Finding
	hits     []activities.Use
	unseen   []activities.Unseen
	admin    bool
}

// fault is one call that goes wrong. applied: it took effect all the same.
type fault struct {
	class   activities.Class
	outcome activities.Outcome
	detail  string
	perm    string
	after   time.Duration
	applied bool
	lost    bool // the worker dies
	waited  bool // no worker takes it up
}

func newProvider(w *world) *provider {
	return &provider{w: w, keys: map[string]*state{}, script: map[activities.Verb][]fault{}, always: map[activities.Verb]fault{}, second: make(chan struct{})}
}

// key gives the state of a key, made active when first asked for.
func (p *provider) key(id string) *state {
	s, ok := p.keys[id]
	if !ok {
		s = &state{exists: true, active: true}
		p.keys[id] = s
	}
	return s
}

// did lists the calls of some verbs; without verbs the mutating ones.
func (p *provider) did(verbs ...activities.Verb) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := []string{}
	for _, c := range p.calls {
		if slices.Contains(verbs, c.verb) || (len(verbs) == 0 && c.verb.Mutates()) {
			out = append(out, c.what)
		}
	}
	return out
}

// all gives the calls so far: a last activity may still run when a story has ended.
func (p *provider) all() []call {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.calls)
}

// when gives the time of the first call.
func (p *provider) when(what string) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.calls {
		if c.what == what {
			return c.at
		}
	}
	return time.Time{}
}

func (p *provider) activity(v activities.Verb) func(context.Context, activities.Pass) (activities.PassResult, error) {
	return func(_ context.Context, in activities.Pass) (activities.PassResult, error) {
		now := p.w.env.Now() // before our own lock: the environment has one too
		p.mu.Lock()
		defer p.mu.Unlock()
		var out activities.PassResult
		for _, req := range in.Items {
			what := fmt.Sprintf("%s %s", v, req.Key.ID)
			if req.Mode != "" {
				what += " " + req.Mode
			}
			p.calls = append(p.calls, call{what: what, verb: v, at: now, pass: in})
			a := activities.Attempt{FP: req.Key.FP, Verb: v, N: in.Attempt, At: now, Outcome: activities.Done}
			f, wrong := p.next(v)
			if !wrong || f.applied {
				p.apply(v, req, &a)
			}
			if wrong {
				if f.waited {
					return out, temporal.NewTimeoutError(enums.TIMEOUT_TYPE_SCHEDULE_TO_START, nil)
				}
				if f.lost {
					return out, temporal.NewTimeoutError(enums.TIMEOUT_TYPE_HEARTBEAT, nil)
				}
				a.Outcome, a.Class, a.Detail, a.Permission, a.AfterMs = f.outcome, f.class, f.detail, f.perm, f.after.Milliseconds()
			}
			out.Items = append(out.Items, a)
		}
		p.late(v)
		return out, nil
	}
}

// late keeps the first call of the slow verb without an answer until the second has
// come. The caller holds the lock.
func (p *provider) late(v activities.Verb) {
	if v != p.slow {
		return
	}
	n := 0
	for _, c := range p.calls {
		if c.verb == v {
			n++
		}
	}
	switch n {
	case 1:
		p.mu.Unlock()
		<-p.second
		p.mu.Lock()
	case 2:
		close(p.second)
	}
}

func (p *provider) next(v activities.Verb) (fault, bool) {
	if f, ok := p.always[v]; ok {
		return f, true
	}
	if len(p.script[v]) == 0 {
		return fault{}, false
	}
	f := p.script[v][0]
	p.script[v] = p.script[v][1:]
	return f, true
}

func (p *provider) apply(v activities.Verb, req activities.Request, a *activities.Attempt) {
	k := p.key(req.Key.ID)
	kills := !slices.Contains(k.survives, v)
	switch v {
	case activities.Inspect:
		p.inspect(k, req, a)
	case activities.Disable:
		if !k.exists {
			a.Outcome = activities.AlreadyGone
		}
		k.active = k.active && !kills
	case activities.Restore:
		k.active = true
	case activities.Revoke:
		if !k.exists {
			a.Outcome = activities.AlreadyGone
		}
		k.exists, k.active = false, k.active && !kills
	case activities.Deny, activities.EndSessions, activities.Bind:
		if kills && v != activities.EndSessions {
			k.denied = true
		}
	case activities.Issue:
		p.issue(req, a)
	case activities.Distribute:
		a.Distribute = &activities.DistributeResult{Version: "v1"}
	case activities.Probe:
		a.Probe = &activities.ProbeResult{Saw: p.saw(k, req), Control: !k.noControl, Mode: req.Mode, Vantage: req.Vantage}
	case activities.Sweep:
		a.Sweep = &activities.SweepResult{Digest: fmt.Sprintf("d%d", p.digest)}
		for _, u := range k.hits {
			if !u.Last.Before(req.Since) {
				a.Sweep.Hits = append(a.Sweep.Hits, u)
			}
		}
		for _, f := range k.findings {
			if _, made := p.keys[f.ID]; made || !strings.HasPrefix(f.ID, "NEW-") {
				a.Sweep.Findings = append(a.Sweep.Findings, f)
			}
		}
	}
}

func (p *provider) inspect(k *state, req activities.Request, a *activities.Attempt) {
	admin := k.admin
	exists, active := k.exists, k.active // copies: the answer is read after the key has moved on
	res := &activities.InspectResult{Principal: req.Key.Principal, Exists: &exists, Active: &active, Admin: &admin, Uses: slices.Clone(k.uses), Unseen: slices.Clone(k.unseen), Digest: "sha256:reading"}
	if res.Principal == "" {
		res.Principal = "user-" + req.Key.ID
	}
	if strings.HasPrefix(req.Key.ID, "NEW-") {
		res.Uses = p.key(strings.TrimPrefix(req.Key.ID, "NEW-")).newUses
	}
	a.Inspect = res
}

func (p *provider) issue(req activities.Request, a *activities.Attempt) {
	old := p.key(req.Key.ID)
	if p.slots > 0 && old.exists && p.slots < 2 {
		a.Outcome, a.Detail = activities.NeedsHuman, activities.SlotNeeded
		return
	}
	p.made++
	id := "NEW-" + req.Key.ID
	p.key(id)
	a.Issue = &activities.IssueResult{Result: activities.Result{Outcome: activities.Done}, New: activities.KeyState{ID: id, Active: true}, Handle: req.Handle}
}

func (p *provider) saw(k *state, req activities.Request) string {
	switch {
	case req.NewKeyID != "":
		return activities.ProbeAlive
	case k.saw != "":
		return k.saw
	case !k.active:
		return activities.ProbeRefused
	case req.Mode == activities.ProbeAction && k.denied:
		return activities.ProbeRefused
	}
	return activities.ProbeAlive
}
