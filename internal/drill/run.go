package drill

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"rekey/drills"
	"rekey/internal/audit"
	"rekey/internal/cli"
	"rekey/internal/drill/judge"
	"rekey/internal/fsx"
	"rekey/internal/lab/scenario"
	"rekey/internal/secret"
	"rekey/internal/view"
)

// Run plays a drill and judges it.
func Run(ctx context.Context, o cli.DrillOptions, io cli.IOStreams) (cli.DrillSession, error) {
	source, d, err := load(o)
	if err != nil {
		return cli.DrillSession{}, err
	}
	if err := d.Unsupported(map[string]bool{scenario.PartLab: true}); err != nil {
		return cli.DrillSession{}, cli.Usage("take the fault out, or use a build that has it", "%v", err)
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
	w, err := newWorld(dir, d, o.Scale, off, say)
	if err != nil {
		return cli.DrillSession{}, err
	}
	began := time.Now()
	stopLab, err := w.startLab(ctx, source)
	if err != nil {
		return cli.DrillSession{}, err
	}
	p := &played{world: w, stopLab: stopLab, began: began, opts: o}
	res, err := p.play(ctx)
	if err != nil {
		p.stop()
		return cli.DrillSession{}, fmt.Errorf("drill %s: %w (files in %s)", d.Name, err, dir)
	}
	if !o.Keep {
		p.stop()
		return cli.DrillSession{Result: res}, nil
	}
	return cli.DrillSession{Result: res, Keep: func(ctx context.Context) error {
		<-ctx.Done()
		p.stop()
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

// played is a drill that runs, or has run.
type played struct {
	world   *world
	stopLab func()
	began   time.Time
	opts    cli.DrillOptions
	cancel  context.CancelFunc
}

func (p *played) stop() {
	if p.cancel != nil {
		p.cancel()
	}
	p.world.stopEngine()
	p.stopLab()
}

func (p *played) play(ctx context.Context) (cli.DrillResult, error) {
	w := p.world
	ids, err := w.configure()
	if err != nil {
		return cli.DrillResult{}, err
	}
	if err := w.startEngine(ctx); err != nil {
		return cli.DrillResult{}, err
	}
	sup, cancel := context.WithCancel(ctx)
	p.cancel = cancel
	go w.supervise(sup)
	d := newDriver(w, ids)
	if err := d.connect(ctx); err != nil {
		return cli.DrillResult{}, err
	}
	defer d.temporal.Close()
	if err := d.report(ctx); err != nil {
		return cli.DrillResult{}, err
	}
	if err := d.play(ctx); err != nil {
		return cli.DrillResult{}, err
	}
	return p.judge(ctx, d)
}

// judge collects what everybody has to say: rekey its view and its bundle, the lab
// the truth.
func (p *played) judge(ctx context.Context, d *driver) (cli.DrillResult, error) {
	w := p.world
	final, err := d.api.show(ctx, d.incident)
	if err != nil {
		return cli.DrillResult{}, err
	}
	var bundle []byte
	if err := d.api.do(ctx, http.MethodGet, "/api/v1/incidents/"+d.incident+"/bundle", nil, &bundle); err != nil {
		return cli.DrillResult{}, fmt.Errorf("bundle: %w", err)
	}
	path := filepath.Join(w.dir, d.incident+".zip")
	if err := fsx.WriteAtomic(path, bundle); err != nil {
		return cli.DrillResult{}, err
	}
	rd := bytes.NewReader(bundle)
	opened, err := audit.Open(rd, rd.Size())
	if err != nil {
		return cli.DrillResult{}, fmt.Errorf("bundle: %w", err)
	}
	events, _, err := opened.Events()
	if err != nil {
		return cli.DrillResult{}, err
	}
	page, err := opened.File("report.html")
	if err != nil {
		return cli.DrillResult{}, err
	}
	html := filepath.Join(w.dir, d.incident+".html")
	if err := fsx.WriteAtomic(html, page); err != nil {
		return cli.DrillResult{}, err
	}
	oracle, err := w.lab.Oracle(ctx)
	if err != nil {
		return cli.DrillResult{}, fmt.Errorf("oracle: %w", err)
	}
	in := judge.Input{
		Drill: w.d, Control: p.opts.Control, Final: final, Events: events, Oracle: oracle, Bundle: bundle,
		Data: filepath.Join(w.dir, "data"), Logs: []string{filepath.Join(w.dir, "engine.log"), filepath.Join(w.dir, "lab.log")},
	}
	for _, k := range oracle.Keys {
		name := k.Alias
		if name == "" {
			name = k.ID
		}
		if s, err := w.lab.Secret(ctx, name); err == nil {
			v := secret.New([]byte(s.SecretKey))
			in.Secrets = append(in.Secrets, v.Reveal())
		}
	}
	v := judge.Judge(in)
	return p.result(d, v, final, path, html), nil
}

func (p *played) result(d *driver, v judge.Verdict, final view.Incident, bundle, html string) cli.DrillResult {
	w := p.world
	w.mu.Lock()
	kills := w.kills
	w.mu.Unlock()
	res := cli.DrillResult{
		Schema: cli.SchemaDrill, Drill: w.d.Name, Seed: w.d.Seed, Scale: w.scale, Result: v.Result, Control: v.Control,
		Incidents: []string{d.incident}, VirtualMs: d.now.Sub(w.d.T0(time.Time{})).Milliseconds(), WallMs: time.Since(p.began).Milliseconds(),
		Expectations: v.Expectations, Invariants: v.Invariants, Effects: v.Effects, Kills: kills,
		Data: w.dir, Bundle: bundle, Report: html, TemporalUI: "rekey up --config " + w.config(),
	}
	if p.opts.Keep {
		res.TemporalUI = final.Links["temporal"]
	}
	return res
}
