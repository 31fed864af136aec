package killer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"rekey/internal/canon"
	"rekey/internal/drill"
	"rekey/internal/drill/judge"
	"rekey/internal/lab/control"
	"rekey/internal/lab/scenario"
	"rekey/internal/secret"
	"rekey/internal/view"
)

// Options say which seeds are played, and how.
type Options struct {
	From, To uint64
	// Dir holds a directory for each installation, and the file of results.
	Dir string
	// Parallel installations at once; 0: one. Each is mostly waiting for time-outs that
	// are real, such as that of a lost heartbeat.
	Parallel int
	// Each is how many incidents one installation has in a row; 0: 20.
	Each int
	// Split plays with rekey's parts as processes of their own, of which the seed picks
	// one or both.
	Split *drill.Split
	// Off names a rule of rekey that is switched off.
	Off string
	// Keep the directories of installations in which everything went well.
	Keep bool
	// Say takes what happens, for people.
	Say func(format string, args ...any)
}

// Results of a seed.
const (
	Passed = "passed"
	Failed = "failed"
	// Missed: the incident ended before the call at which the kill should have struck.
	Missed = "missed"
	// Broken: the run could not be judged, rekey did not come to an end.
	Broken = "broken"
)

// Outcome is a line of the file of results.
type Outcome struct {
	Plan
	Result string `json:"result"`
	// Wrong is what is not as it must be.
	Wrong     []string `json:"wrong,omitempty"`
	WallMs    int64    `json:"wall_ms"`
	VirtualMs int64    `json:"virtual_ms"`
	// Dir is the installation, kept where something went wrong, and N the place of the
	// incident in it.
	Dir string `json:"dir"`
	N   int    `json:"n"`
}

// both stands for every process that has a role.
const both = "both"

// victims are whom a seed may pick. In `rekey up` Temporal, server and worker are one
// process.
func (o Options) victims() []string {
	if o.Split == nil {
		return []string{control.RoleEngine}
	}
	return []string{control.RoleEngine, drill.RoleTemporal, both}
}

func roles(victim string) []string {
	if victim == both {
		return []string{control.RoleEngine, drill.RoleTemporal}
	}
	return []string{victim}
}

// Play plays the seeds that the file of results does not have yet, and gives the
// summary of all that it has then. It stops at ctx's end, between two incidents of each
// installation where it can; what was begun and not judged is played again next time.
func Play(ctx context.Context, o Options) (Summary, error) {
	if o.Say == nil {
		o.Say = func(string, ...any) {}
	}
	r, err := openResults(filepath.Join(o.Dir, "results.jsonl"))
	if err != nil {
		return Summary{}, err
	}
	var todo []uint64
	for seed := o.From; ; seed++ {
		if !r.has(seed) {
			todo = append(todo, seed)
		}
		if seed == o.To {
			break
		}
	}
	q := &queue{seeds: todo}
	errs := make([]error, max(o.Parallel, 1))
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() { errs[i] = (&player{o: o, q: q, r: r, name: fmt.Sprintf("%c", 'a'+i)}).run(ctx) })
	}
	wg.Wait()
	return r.summary(o.From, o.To), errors.Join(errors.Join(errs...), r.close())
}

// queue hands seeds out.
type queue struct {
	mu    sync.Mutex
	seeds []uint64
}

func (q *queue) take(n int) []uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	n = min(n, len(q.seeds))
	out := append([]uint64{}, q.seeds[:n]...)
	q.seeds = q.seeds[n:]
	return out
}

func (q *queue) putBack(seeds []uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.seeds = append(append([]uint64{}, seeds...), q.seeds...)
}

// player has one installation at a time.
type player struct {
	o    Options
	q    *queue
	r    *results
	name string
	made int
}

func (p *player) run(ctx context.Context) error {
	each := p.o.Each
	if each == 0 {
		each = 20
	}
	for ctx.Err() == nil {
		seeds := p.q.take(each)
		if len(seeds) == 0 {
			return nil
		}
		done, err := p.installation(ctx, seeds)
		p.q.putBack(seeds[done:])
		if err != nil && ctx.Err() == nil {
			return err
		}
	}
	return ctx.Err()
}

// installation plays seeds in one data directory, until one of them does not pass. It
// tells how many have a result.
func (p *player) installation(ctx context.Context, seeds []uint64) (done int, err error) {
	plans := make([]Plan, len(seeds))
	for i, seed := range seeds {
		plans[i] = Of(seed, p.o.victims()...)
	}
	p.made++
	dir, err := os.MkdirTemp(p.o.Dir, fmt.Sprintf("%s%03d-", p.name, p.made))
	if err != nil {
		return 0, err
	}
	d, source, err := load(dir, plans)
	if err != nil {
		return 0, err
	}
	quiet := func(string, ...any) {}
	log, err := os.OpenFile(filepath.Join(dir, "driver.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err == nil {
		defer func() { _ = log.Close() }()
		quiet = func(format string, args ...any) {
			_, _ = fmt.Fprintf(log, time.Now().UTC().Format("15:04:05.000 ")+format+"\n", args...)
		}
	}
	s, err := drill.Open(ctx, drill.SessionOptions{Dir: dir, Drill: d, Source: source, Split: p.o.Split, Off: p.o.Off, Say: quiet})
	stopped := false
	stop := func() {
		if !stopped {
			stopped = true
			s.Stop()
		}
	}
	defer stop()
	if err != nil {
		return 0, fmt.Errorf("%s: %w", dir, err)
	}
	well := true
	for i, plan := range plans {
		quiet("--- %s", plan)
		out, err := play(ctx, s, d, plan, i+1)
		if err != nil {
			return done, err // not judged
		}
		p.o.Say("%-7s %s (%.1f s, %s of the world)%s", out.Result, plan, float64(out.WallMs)/1000, time.Duration(out.VirtualMs)*time.Millisecond, lines(out.Wrong))
		if err := p.r.add(out); err != nil {
			return done, err
		}
		done++
		if out.Result == Failed || out.Result == Broken {
			well = false
			break
		}
	}
	secrets, err := secretsOf(ctx, s)
	if err != nil {
		return done, err
	}
	logs := append(s.Logs(), filepath.Join(dir, "driver.log"))
	stop()
	if wrong := closing(d, dir, secrets, logs); wrong != "" {
		well = false
		p.o.Say("failed  %s: G4: %s", dir, wrong)
		if err := p.r.addClosing(dir, wrong); err != nil {
			return done, err
		}
	}
	if well && !p.o.Keep {
		return done, os.RemoveAll(dir)
	}
	return done, nil
}

// play plays one seed and judges it. An error means that there is nothing to judge
// because the run was stopped, or the lab is gone.
func play(ctx context.Context, s *drill.Session, d *scenario.Drill, p Plan, n int) (Outcome, error) {
	began, from := time.Now(), s.Now()
	out := Outcome{Plan: p, Dir: s.Dir(), N: n}
	if err := s.Lab().Arm(ctx, control.Arm{Verb: p.Verb, Edge: p.Edge, Nth: p.Nth, Victims: roles(p.Victim)}); err != nil {
		return out, err
	}
	played, err := s.Play(ctx, drill.Script{Reports: []scenario.Report{report(p, n)}, Until: over, End: from.Add(longest)})
	if ctx.Err() != nil {
		return out, ctx.Err()
	}
	left, derr := s.Lab().Disarm(ctx)
	if derr != nil {
		return out, derr
	}
	oracle, oerr := s.Lab().Oracle(ctx)
	if oerr != nil {
		return out, oerr
	}
	out.WallMs, out.VirtualMs = time.Since(began).Milliseconds(), s.Now().Sub(from).Milliseconds()
	if err != nil {
		out.Result, out.Wrong = Broken, []string{err.Error()}
		return out, nil //nolint:nilerr // that the story did not end is the outcome
	}
	out.Wrong = wronged(p, n, played, oracle, s.ID, d)
	switch {
	case len(out.Wrong) > 0:
		out.Result = Failed
	case left > 0:
		out.Result = Missed
	default:
		out.Result = Passed
	}
	return out, nil
}

// longest is how much of the world's time an incident may take. It needs half an hour.
const longest = 24 * time.Hour

// over tells whether an incident is: nothing is open, the watch has ended and its
// bundle is the last.
func over(v view.Incident, now time.Time) bool {
	until, err := time.Parse(canon.TimeLayout, v.Times.WatchUntil)
	return err == nil && v.State == "all-clear" && v.Bundle != nil && v.Bundle.Final && !now.Before(until)
}

// secretsOf are the secrets of all keys of a world.
func secretsOf(ctx context.Context, s *drill.Session) ([][]byte, error) {
	o, err := s.Lab().Oracle(ctx)
	if err != nil {
		return nil, err
	}
	var out [][]byte
	for _, k := range o.Keys {
		if got, err := s.Lab().Secret(ctx, k.ID); err == nil {
			v := secret.New([]byte(got.SecretKey))
			out = append(out, v.Reveal())
		}
	}
	return out, nil
}

// closing searches an installation that has ended for secrets (G4), however often it
// was killed.
func closing(d *scenario.Drill, dir string, secrets [][]byte, logs []string) string {
	v := judge.Judge(judge.Input{Drill: d, Data: filepath.Join(dir, "data"), Secrets: secrets, Logs: logs})
	for _, i := range v.Invariants {
		if i.ID == "G4" && i.State == judge.Violated {
			return i.Detail
		}
	}
	return ""
}

func lines(list []string) string {
	out := ""
	for _, s := range list {
		out += "\n          " + s
	}
	return out
}
