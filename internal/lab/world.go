package lab

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"rekey/internal/lab/awssim"
	"rekey/internal/lab/control"
	"rekey/internal/lab/scenario"
)

// world is everything below one lock: clock, account, actors, faults and what was seen.
type world struct {
	mu    sync.Mutex
	drill *scenario.Drill
	scale int
	dir   string
	log   *slog.Logger
	t0    time.Time
	real  bool

	st    persisted
	names map[string]string // provider key id -> scenario name
	sim   *awssim.Sim
	seen  observer

	consumers []*consumer // in the order of the scenario
	agenda    agenda
	changed   []*consumer // those that the file of consumers lacks
	stored    *lines      // the file of consumers
	lines     int         // of that file

	effects  *lines
	trail    *lines
	line     []byte // the record being written
	dirty    bool   // world.json is behind
	failed   error  // the lab can no longer write: it refuses to go on
	seedOnly bool   // while the past is being made
}

// persisted is what world.json holds.
type persisted struct {
	Now       time.Time         `json:"now"`
	T0        time.Time         `json:"t0"`
	WallT0    time.Time         `json:"wall_t0"` // when T0 was, for mode real
	Scenario  string            `json:"scenario"`
	Aliases   map[string]string `json:"-"` // written once, see saveAliases
	EngineKey string            `json:"engine_key"`
	// OperatorKey is what people use who do something at the provider by hand.
	OperatorKey string         `json:"operator_key,omitempty"`
	Jobs        []*job         `json:"jobs,omitempty"`
	Attacker    *attacker      `json:"attacker,omitempty"`
	Faults      []*faultState  `json:"faults"`
	Kills       []control.Kill `json:"kills,omitempty"`
	Armed       []*armed       `json:"armed,omitempty"`
}

const (
	engineUser = "rekey-engine"
	engineRole = "rekey-responder"
	// operatorUser is the administrator as whom people act.
	operatorUser = "operator"

	snapshotFile = "snapshot.jsonl"
)

func (w *world) now() time.Time { return w.st.Now }

// settle brings world time up to the wall clock in mode real, running what fell due.
func (w *world) settle() {
	if !w.real {
		return
	}
	if now := w.t0.Add(time.Since(w.st.WallT0).Truncate(time.Millisecond)); now.After(w.st.Now) {
		w.moveTo(now)
	}
}

// nextEvent gives the earliest time at which the world does something by itself.
func (w *world) nextEvent() time.Time {
	var next time.Time
	consider := func(t time.Time) {
		if !t.IsZero() && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	if len(w.agenda) > 0 {
		consider(w.agenda[0].Next)
	}
	if a := w.st.Attacker; a != nil {
		consider(a.Next)
		for _, r := range a.Planned {
			consider(r.At)
		}
	}
	for _, j := range w.st.Jobs {
		if !j.Over {
			consider(j.Due)
		}
	}
	return next
}

// moveTo runs everything that falls due up to a time, in order, and sets the clock to it.
func (w *world) moveTo(to time.Time) {
	for {
		next := w.nextEvent()
		if next.IsZero() || next.After(to) {
			break
		}
		if next.After(w.st.Now) {
			w.st.Now = next
		}
		w.step(next)
	}
	if to.After(w.st.Now) {
		w.st.Now = to
	}
}

// step does everything that is due at a time: first reactions (they are the fastest), then the
// attacker's round, then consumers in the order of the scenario.
func (w *world) step(at time.Time) {
	w.runJobs(at)
	if a := w.st.Attacker; a != nil {
		w.runPlanned(a, at)
		if !a.Next.IsZero() && !a.Next.After(at) {
			a.Next = a.Next.Add(a.Every)
			w.attackRound(a)
		}
	}
	for c := w.due(at); c != nil; c = w.due(at) {
		w.consume(c)
		w.again(c)
	}
}

func (w *world) fail(err error) {
	if w.failed == nil {
		w.failed = err
		w.log.Error("the lab can no longer write its files", "err", err)
	}
}

// save writes down what changed of the world besides its logs; those flush hands to the kernel.
func (w *world) save() error {
	if w.failed != nil {
		return w.failed
	}
	if err := w.saveConsumers(); err != nil {
		return err
	}
	if !w.dirty {
		return nil
	}
	return w.saveWorld()
}

// flush makes what was logged up to now safe from the end of the process. The effects go first: of
// a call that is in one log only, resume makes up the trail.
func (w *world) flush(effects, trail int64) error {
	if err := w.effects.flush(effects); err != nil {
		return err
	}
	return w.trail.flush(trail)
}

func (w *world) saveWorld() error {
	data, err := json.Marshal(w.st)
	if err != nil {
		return err
	}
	w.dirty = false
	return replace(filepath.Join(w.dir, "world.json"), data, false)
}

// saveSnapshot: the snapshot names its own sequence number, so a crash between the files is
// harmless. It is written at the start and at the end only: what happens in between a restart reads
// from the effect log, which it must read anyway.
func (w *world) saveSnapshot() error {
	if err := replaceBy(filepath.Join(w.dir, snapshotFile), true, w.sim.Snapshot); err != nil {
		return err
	}
	w.changed = w.changed[:0]
	for _, c := range w.consumers {
		c.moved = false
	}
	if err := w.rewriteConsumers(); err != nil {
		return err
	}
	return w.saveWorld()
}

// resume loads a lab that ran before; false where there is none.
func (w *world) resume() (bool, error) {
	data, err := os.ReadFile(filepath.Join(w.dir, "world.json"))
	if os.IsNotExist(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if err := json.Unmarshal(data, &w.st); err != nil {
		return false, fmt.Errorf("world.json: %w", err)
	}
	data, err = os.ReadFile(filepath.Join(w.dir, "aliases.json"))
	if err != nil {
		return false, err
	}
	if err := json.Unmarshal(data, &w.st.Aliases); err != nil {
		return false, fmt.Errorf("aliases.json: %w", err)
	}
	if w.st.Scenario != w.drill.Name {
		return false, fmt.Errorf("%s holds the lab of drill %s, not %s: use another directory", w.dir, w.st.Scenario, w.drill.Name)
	}
	if len(w.st.Faults) != len(w.drill.Faults) {
		return false, fmt.Errorf("%s was made from another version of drill %s: use another directory", w.dir, w.drill.Name)
	}
	w.t0 = w.st.T0
	if err := w.restore(); err != nil {
		return false, err
	}
	if err := w.loadConsumers(); err != nil {
		return false, err
	}
	return true, w.replayLogs()
}

func (w *world) restore() error {
	snap, err := os.Open(filepath.Join(w.dir, snapshotFile))
	if err != nil {
		return err
	}
	defer func() { _ = snap.Close() }()
	return w.sim.Restore(snap)
}

// replayLogs goes through both logs: the trail for what was seen, the effects for what has changed
// since the snapshot. An effect that the trail lacks, because the lab was killed between the two
// files, is put into it.
func (w *world) replayLogs() error {
	base, logged := w.sim.Seq(), int64(0)
	trail := filepath.Join(w.dir, "trail.jsonl")
	err := readLines(trail, func(line []byte, at int64) error {
		r := &awssim.Record{}
		if err := json.Unmarshal(line, r); err != nil {
			return err
		}
		logged = max(logged, r.Seq)
		w.replay(r, at)
		return nil
	})
	if err != nil {
		return err
	}
	if w.trail, err = openLines(trail); err != nil {
		return err
	}
	return readLines(filepath.Join(w.dir, "effects.jsonl"), func(line []byte, _ int64) error {
		var e Effect
		if err := json.Unmarshal(line, &e); err != nil {
			return err
		}
		if e.Seq > logged {
			w.replay(e.Record, w.trail.append(e.AppendJSON(nil)))
		}
		if e.Seq <= base {
			return nil
		}
		return w.sim.Replay(e.At, e.Puts)
	})
}

func (w *world) replay(r *awssim.Record, at int64) {
	w.sim.ReplayRecord(r, at)
	w.seen.record(r, w.alias)
	w.catchClock(r.At)
}

// saveAliases writes the names once, before world.json says that there is a world.
func (w *world) saveAliases() error {
	data, err := json.Marshal(w.st.Aliases)
	if err != nil {
		return err
	}
	return replace(filepath.Join(w.dir, "aliases.json"), data, true)
}

// catchClock: world.json may be older than what was logged; time does not run backwards.
func (w *world) catchClock(at time.Time) {
	if at.After(w.st.Now) {
		w.st.Now = at
	}
}

// alias gives the scenario's name of a provider key id.
func (w *world) alias(keyID string) string {
	if len(w.names) != len(w.st.Aliases) {
		w.names = make(map[string]string, len(w.st.Aliases))
		for name, id := range w.st.Aliases {
			w.names[id] = name
		}
	}
	return w.names[keyID]
}

// keyID turns a scenario name or a provider key id into the latter.
func (w *world) keyID(name string) string {
	if id, ok := w.st.Aliases[name]; ok {
		return id
	}
	return name
}

func (w *world) propagation() time.Duration {
	for i, f := range w.drill.Faults {
		if f.What == "propagation" && w.started(i) {
			return f.For.D()
		}
	}
	return w.provider().Propagation.D()
}

// provider gives the one provider account of the scenario.
func (w *world) provider() scenario.Provider {
	for _, p := range w.drill.Estate.Providers {
		return p
	}
	return scenario.Provider{}
}
