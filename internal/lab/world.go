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

	effects   *journal
	trail     *trailFile
	mark      int64            // of the last effect written
	unsnap    int              // effects since the last snapshot
	dirty     bool             // world.json is behind
	failed    error            // the lab can no longer write: it refuses to go on
	lostTrail []*awssim.Record // effects that the trail file lacks
	seedOnly  bool             // while the past is being made
}

// persisted is what world.json holds.
type persisted struct {
	Now       time.Time         `json:"now"`
	T0        time.Time         `json:"t0"`
	WallT0    time.Time         `json:"wall_t0"` // when T0 was, for mode real
	Scenario  string            `json:"scenario"`
	Aliases   map[string]string `json:"aliases"`
	EngineKey string            `json:"engine_key"`
	Consumers []*consumer       `json:"consumers"`
	Attacker  *attacker         `json:"attacker,omitempty"`
	Faults    []*faultState     `json:"faults"`
	Kills     []control.Kill    `json:"kills,omitempty"`
}

const (
	engineUser = "rekey-engine"
	engineRole = "rekey-responder"
	// snapshotEvery bounds how many effects a restart replays.
	snapshotEvery = 2000
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
	for _, c := range w.st.Consumers {
		consider(c.Next)
	}
	if a := w.st.Attacker; a != nil {
		consider(a.Next)
		for _, r := range a.Planned {
			consider(r.At)
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
	if a := w.st.Attacker; a != nil {
		w.runPlanned(a, at)
		if !a.Next.IsZero() && !a.Next.After(at) {
			a.Next = a.Next.Add(a.Every)
			w.attackRound(a)
		}
	}
	for _, c := range w.st.Consumers {
		if !c.Next.IsZero() && !c.Next.After(at) {
			w.consume(c)
		}
	}
}

// record is the simulator's hook: every finished call comes here, with the lock held.
func (w *world) record(r *awssim.Record, puts []awssim.Put) {
	w.seen.record(r, w.alias)
	if err := w.trail.append(r); err != nil {
		w.fail(err)
	}
	if r.ReadOnly {
		return
	}
	if len(puts) > 0 || r.Label == "engine" {
		mark, err := w.effects.append(Effect{Record: r, Result: r.Result(), Puts: puts})
		if err != nil {
			w.fail(err)
		}
		w.mark = mark
		w.unsnap++
	}
	if !w.seedOnly && r.Code == "" {
		w.noticeChange(r)
	}
}

func (w *world) fail(err error) {
	if w.failed == nil {
		w.failed = err
		w.log.Error("the lab can no longer write its files", "err", err)
	}
}

// save hands the trail to the kernel and writes world.json where it changed, and the snapshot when enough has happened since the last one.
func (w *world) save() error {
	if w.failed != nil {
		return w.failed
	}
	if err := w.trail.flush(); err != nil {
		return err
	}
	if w.unsnap >= snapshotEvery {
		return w.saveSnapshot()
	}
	if !w.dirty {
		return nil
	}
	return w.saveWorld()
}

func (w *world) saveWorld() error {
	data, err := json.Marshal(w.st)
	if err != nil {
		return err
	}
	w.dirty = false
	return replace(filepath.Join(w.dir, "world.json"), data, false)
}

// saveSnapshot: the snapshot names its own sequence number, so a crash between the two files is harmless.
func (w *world) saveSnapshot() error {
	data, err := w.sim.Snapshot()
	if err != nil {
		return err
	}
	if err := replace(filepath.Join(w.dir, "snapshot.json"), data, true); err != nil {
		return err
	}
	w.unsnap = 0
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
	snap, err := os.ReadFile(filepath.Join(w.dir, "snapshot.json"))
	if err != nil {
		return false, err
	}
	if err := w.sim.Restore(snap); err != nil {
		return false, err
	}
	base, logged := w.sim.Seq(), int64(0)
	err = readLines(filepath.Join(w.dir, "trail.jsonl"), func(line []byte) error {
		var r awssim.Record
		if err := json.Unmarshal(line, &r); err != nil {
			return err
		}
		logged = max(logged, r.Seq)
		w.replay(&r)
		return nil
	})
	if err != nil {
		return false, err
	}
	err = readLines(filepath.Join(w.dir, "effects.jsonl"), func(line []byte) error {
		var e Effect
		if err := json.Unmarshal(line, &e); err != nil {
			return err
		}
		if e.Seq > logged { // killed between the two files
			w.replay(e.Record)
			w.lostTrail = append(w.lostTrail, e.Record)
		}
		if e.Seq <= base {
			return nil
		}
		return w.sim.Replay(e.At, e.Puts)
	})
	return true, err
}

func (w *world) replay(r *awssim.Record) {
	w.sim.ReplayRecord(r)
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
