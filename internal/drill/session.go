package drill

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"go.temporal.io/sdk/client"

	"rekey/internal/codec"
	"rekey/internal/codec/keyring"
	"rekey/internal/lab/control"
	"rekey/internal/lab/scenario"
	"rekey/internal/temporalx"
)

// A Session is a world in which incidents are played, one after another: a lab and
// rekey, each a process of its own, on one clock that the session moves.
type Session struct {
	w        *world
	api      *caller
	temporal client.Client
	ids      map[string]string // actor -> identity file
	// t0 is when the world began, now what its clock shows.
	t0, now time.Time
	tick    int64
	names   map[string]string // provider's key id -> scenario's name
	reports int
	stopLab func()
	cancel  context.CancelFunc
}

// SessionOptions are what a session is made of.
type SessionOptions struct {
	// Dir holds everything of it; it exists and is empty.
	Dir string
	// Drill is the scenario, Source its text: the lab reads it again.
	Drill  *scenario.Drill
	Source []byte
	Scale  int // 0: 1
	// Split has rekey run as its parts; nil: as one process.
	Split *Split
	// Off names a rule of rekey that is switched off.
	Off string
	// Say takes what happens, for people.
	Say func(format string, args ...any)
}

// Open starts the lab, then rekey, and connects to both. Rekey is started again
// whenever it ends. Whatever Open returns, Stop ends it.
func Open(ctx context.Context, o SessionOptions) (*Session, error) {
	s := &Session{t0: o.Drill.T0(time.Time{})}
	s.now = s.t0
	var err error
	if s.w, err = newWorld(o.Dir, o.Drill, o.Scale, o.Off, o.Say); err != nil {
		return s, err
	}
	s.w.split = o.Split
	if s.stopLab, err = s.w.startLab(ctx, o.Source); err != nil {
		return s, err
	}
	s.names = make(map[string]string, len(s.w.info.Aliases))
	for name, id := range s.w.info.Aliases {
		s.names[id] = name
	}
	if s.ids, err = s.w.configure(); err != nil {
		return s, err
	}
	sup, cancel := context.WithCancel(ctx)
	s.cancel = cancel
	if err := s.w.startEngine(sup); err != nil {
		return s, err
	}
	return s, s.connect(ctx)
}

// connect waits for rekey and opens the session's own Temporal client: the clock
// of workflows is read and moved there.
func (s *Session) connect(ctx context.Context) error {
	data := filepath.Join(s.w.dir, "data")
	s.api = newAPI(s.w.http, data)
	first := s.w.procs[len(s.w.procs)-1]
	if err := s.w.until(ctx, first.done, func() bool { return s.api.ready(ctx) }); err != nil {
		return fmt.Errorf("rekey did not start, see %s: %w", filepath.Join(s.w.dir, first.name+".log"), err)
	}
	keys, err := keyring.Open(keyring.Options{Dir: filepath.Join(data, "keys", "codec")})
	if err != nil {
		return err
	}
	token := "" // Temporal's own server asks nobody here
	if s.w.split == nil {
		if token, err = temporalx.ReadToken(data); err != nil {
			return err
		}
	}
	s.temporal, err = temporalx.Dial(ctx, temporalx.Options{
		Address: s.w.temporal, Namespace: Namespace, Token: token, Identity: "rekey-drill-driver",
		DataConverter: codec.NewDataConverter(keys), FailureConverter: codec.NewFailureConverter(keys),
	})
	return err
}

// Stop ends rekey in order, then the lab.
func (s *Session) Stop() {
	if s.temporal != nil {
		s.temporal.Close()
	}
	if s.cancel != nil {
		s.cancel()
	}
	if s.w == nil {
		return
	}
	s.w.stopEngine()
	if s.stopLab != nil {
		s.stopLab()
	}
}

// Lab is the lab's control API.
func (s *Session) Lab() *control.Client { return s.w.lab }

// ID is the provider's id of a key of the scenario.
func (s *Session) ID(name string) string { return s.w.id(name) }

// Now is the world's time.
func (s *Session) Now() time.Time { return s.now }

// Starts counts how often rekey was started again.
func (s *Session) Starts() int {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	return s.w.kills
}

// Dir is where everything of the session is.
func (s *Session) Dir() string { return s.w.dir }

// Logs are the files that its processes wrote what they say to.
func (s *Session) Logs() []string {
	logs := []string{filepath.Join(s.w.dir, "lab.log")}
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	for _, p := range s.w.procs {
		logs = append(logs, filepath.Join(s.w.dir, p.name+".log"))
	}
	return logs
}

// stamp is the world's time since it began.
func (s *Session) stamp() string {
	t := s.now.Sub(s.t0).Round(time.Second)
	return fmt.Sprintf("T0+%02d:%02d:%02d", int(t.Hours()), int(t.Minutes())%60, int(t.Seconds())%60)
}
