package lab

import (
	"maps"
	"slices"
	"strings"
	"time"

	"rekey/internal/lab/awssim"
	"rekey/internal/lab/control"
)

// ledger counts what the engine did, as the calls come: what it says is there at once however many
// keys there are. Each call by itself is in the effect log.
type ledger struct {
	calls, during, inFlight int64
	verbs                   map[string]*control.VerbCount
	keys                    map[string]*effects
	early                   []control.Call // the first that came during a back-off
}

// effects are how often a verb took effect on one key.
type effects struct{ disable, restore, revoke uint16 }

// shownEarly bounds the calls that a ledger shows of a back-off: one is enough to find the fault.
const shownEarly = 20

func newLedger() ledger {
	return ledger{verbs: map[string]*control.VerbCount{}, keys: map[string]*effects{}}
}

func (l *ledger) add(r *awssim.Record) {
	switch r.Stop {
	case awssim.StopDuring:
		if l.during++; len(l.early) < shownEarly {
			l.early = append(l.early, callOf(r))
		}
	case awssim.StopInFlight:
		l.inFlight++
	}
	if r.ReadOnly {
		return
	}
	l.calls++
	v := l.verbs[r.Verb]
	if v == nil {
		v = &control.VerbCount{Results: map[string]int64{}, First: control.Time{Time: r.At}}
		l.verbs[r.Verb] = v
	}
	v.Calls++
	v.Results[r.Result()]++
	v.Last = control.Time{Time: r.At}
	if r.Lost {
		v.Lost++
	}
	if !effective(r) {
		return
	}
	v.Effects++
	if r.TargetKey == "" {
		return
	}
	k := l.keys[r.TargetKey]
	if k == nil {
		k = &effects{}
		l.keys[r.TargetKey] = k
	}
	switch r.Verb {
	case "Disable":
		k.disable++
	case "Restore":
		k.restore++
	case "Revoke":
		k.revoke++
	}
}

// effective tells whether a call changed something.
func effective(r *awssim.Record) bool { return r.Code == "" && !r.Same }

// callOf is a call as the oracle shows it.
func callOf(r *awssim.Record) control.Call {
	return control.Call{Seq: r.Seq, Verb: r.Verb, Action: r.Service + ":" + r.Action, Key: r.TargetKey, Target: targetOf(r), Caller: r.KeyID, Agent: r.UserAgent,
		RequestID: r.RequestID, At: control.Time{Time: r.At}, Result: r.Result(), Effect: effective(r), Lost: r.Lost, Stop: r.Stop}
}

// ledger puts the counts together with the state of the keys.
func (w *world) ledger() control.Ledger {
	l := &w.seen.ledger
	out := control.Ledger{Now: control.Time{Time: w.now()}, Calls: l.calls, Verbs: map[string]control.VerbCount{}, Keys: map[string]control.KeyCount{},
		Backoff: w.backoff(), Kills: len(w.st.Kills), Repeated: []control.KeyLedger{}}
	for name, v := range l.verbs {
		c := *v
		c.Results = maps.Clone(v.Results)
		out.Verbs[name] = c
	}
	for id, k := range w.sim.State().Keys {
		if w.own(id) {
			continue
		}
		c := out.Keys[k.MintedBy]
		c.Total++
		switch k.Status {
		case awssim.Active:
			c.Active++
		case awssim.Inactive:
			c.Inactive++
		default:
			c.Deleted++
		}
		if w.sim.Alive(id) {
			c.Alive++
		}
		out.Keys[k.MintedBy] = c
	}
	for id, e := range l.keys {
		if e.revoke > 1 || e.disable > 1+e.restore {
			out.Repeated = append(out.Repeated, w.keyLedger(id))
		}
	}
	slices.SortFunc(out.Repeated, func(a, b control.KeyLedger) int { return strings.Compare(a.Key, b.Key) })
	return out
}

func (w *world) backoff() control.Backoff {
	l := &w.seen.ledger
	return control.Backoff{During: l.during, InFlight: l.inFlight, First: append([]control.Call{}, l.early...)}
}

// keyLedger tells what took effect on one key.
func (w *world) keyLedger(id string) control.KeyLedger {
	out := control.KeyLedger{Key: id, Alias: w.alias(id)}
	if e := w.seen.ledger.keys[id]; e != nil {
		out.Disable, out.Restore, out.Revoke = int(e.disable), int(e.restore), int(e.revoke)
	}
	if k := w.sim.State().Keys[id]; k != nil {
		out.State, out.Alive, out.MintedBy = strings.ToLower(k.Status), w.sim.Alive(id), k.MintedBy
	}
	return out
}

// syncEvery is how often the logs are put on disk: what a power cut may take.
const syncEvery = time.Second
