package drill

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"rekey/drills"
	"rekey/internal/cli"
	"rekey/internal/drill/judge"
	"rekey/internal/fsx"
	"rekey/internal/lab/scenario"
	"rekey/internal/secret"
)

// Run plays a drill and judges it.
func Run(ctx context.Context, o cli.DrillOptions, io cli.IOStreams) (cli.DrillSession, error) {
	source, d, err := load(o)
	if err != nil {
		return cli.DrillSession{}, err
	}
	if err := d.Unsupported(map[string]bool{scenario.PartLab: true, scenario.PartDriver: true}); err != nil {
		return cli.DrillSession{}, cli.Usage("take the fault out, or use a build that has it", "%v", err)
	}
	if err := playable(d); err != nil {
		return cli.DrillSession{}, cli.Usage("take the person out, or use a build that plays it", "%v", err)
	}
	off := ""
	if o.Control != "" {
		c, ok := d.Controls[o.Control]
		if !ok {
			return cli.DrillSession{}, cli.Usage("`rekey drill list` shows the controls of each drill", "drill %s has no control %q", d.Name, o.Control)
		}
		off = c.Off
	}
	if o.Seed != 0 {
		d.Seed = o.Seed
	}
	dir, err := directory(o, d.Name)
	if err != nil {
		return cli.DrillSession{}, err
	}
	say := func(format string, args ...any) { fmt.Fprintf(io.Err, format+"\n", args...) }
	say("drill %s, seed %d, in %s", d.Name, d.Seed, dir)
	began := time.Now()
	s, err := Open(ctx, SessionOptions{Dir: dir, Drill: d, Source: source, Scale: o.Scale, Off: off, Say: say})
	var res cli.DrillResult
	if err == nil {
		res, err = s.drill(ctx, o, began)
	}
	if err != nil {
		s.Stop()
		return cli.DrillSession{}, fmt.Errorf("drill %s: %w (files in %s)", d.Name, err, dir)
	}
	if !o.Keep {
		s.Stop()
		return cli.DrillSession{Result: res}, nil
	}
	return cli.DrillSession{Result: res, Keep: func(ctx context.Context) error {
		<-ctx.Done()
		s.Stop()
		return nil
	}}, nil
}

func load(o cli.DrillOptions) ([]byte, *scenario.Drill, error) {
	if !o.File && slices.Contains(drills.Names(), o.Drill) {
		src, err := drills.Source(o.Drill)
		if err != nil {
			return nil, nil, err
		}
		d, err := drills.Load(o.Drill)
		return src, d, err
	}
	src, err := os.ReadFile(filepath.Clean(o.Drill))
	if err != nil {
		return nil, nil, cli.Usage("`rekey drill list` names those that are there; or give a file", "no drill %q", o.Drill)
	}
	d, err := scenario.Load(o.Drill, src)
	if err != nil {
		return nil, nil, cli.Usage("mend the file", "%v", err)
	}
	return src, d, nil
}

func directory(o cli.DrillOptions, name string) (string, error) {
	if o.Data == "" {
		return os.MkdirTemp("", "rekey-drill-"+name+"-")
	}
	dir, err := filepath.Abs(filepath.Join(o.Data, "drill-"+name+"-"+time.Now().UTC().Format("20060102-150405.000")))
	if err != nil {
		return "", err
	}
	return dir, fsx.MkdirPrivate(dir)
}

// drill plays the session's scenario and judges it: by what rekey shows and has
// sealed, and by what the lab has seen.
func (s *Session) drill(ctx context.Context, o cli.DrillOptions, began time.Time) (cli.DrillResult, error) {
	d := s.w.d
	horizon := time.Duration(d.Clock.Horizon)
	if horizon == 0 {
		horizon = 96 * time.Hour
	}
	p, err := s.Play(ctx, Script{Reports: append([]scenario.Report{d.Trigger.Report}, d.Trigger.Also...), End: s.t0.Add(horizon)})
	if err != nil {
		return cli.DrillResult{}, err
	}
	oracle, err := s.w.lab.Oracle(ctx)
	if err != nil {
		return cli.DrillResult{}, fmt.Errorf("oracle: %w", err)
	}
	in := judge.Input{
		Drill: d, Control: o.Control, Final: p.Final, Events: p.Events, Oracle: oracle, Bundle: p.Bundle,
		Data: filepath.Join(s.w.dir, "data"), Logs: s.Logs(),
	}
	for _, k := range oracle.Keys {
		if got, err := s.w.lab.Secret(ctx, k.ID); err == nil {
			v := secret.New([]byte(got.SecretKey))
			in.Secrets = append(in.Secrets, v.Reveal())
		}
	}
	v := judge.Judge(in)
	res := cli.DrillResult{
		Schema: cli.SchemaDrill, Drill: d.Name, Seed: d.Seed, Scale: s.w.scale, Result: v.Result, Control: v.Control,
		Incidents: []string{p.ID}, VirtualMs: s.now.Sub(s.t0).Milliseconds(), WallMs: time.Since(began).Milliseconds(),
		Expectations: v.Expectations, Invariants: v.Invariants, Effects: v.Effects, Kills: s.Starts(),
		Data: s.w.dir, Bundle: p.BundlePath, Report: p.Report, TemporalUI: "rekey up --config " + s.w.config(),
	}
	if o.Keep {
		res.TemporalUI = p.Final.Links["temporal"]
	}
	return res, nil
}
