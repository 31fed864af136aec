package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"rekey/drills"
	"rekey/internal/lab/scenario"
)

func (a *app) drillCommand() *cobra.Command {
	return family("drill", "Play an incident against the lab and judge it", example(
		"rekey drill list", "rekey drill run imperva-2018", "rekey drill run ./mine.yaml --json"),
		a.drillListCommand(), a.drillRunCommand())
}

// drillLine is one drill of `drill list --json`.
type drillLine struct {
	Name     string   `json:"name"`
	Title    string   `json:"title,omitempty"`
	Keys     int      `json:"keys"`
	Faults   int      `json:"faults"`
	Controls []string `json:"controls"`
}

func (a *app) drillListCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List the drills that ship with rekey",
		Example: example("rekey drill list", "rekey drill list --json"),
		Args:    exactly(),
		RunE: func(*cobra.Command, []string) error {
			list := []drillLine{}
			for _, name := range drills.Names() {
				d, err := drills.Load(name)
				if err != nil {
					return err
				}
				list = append(list, drillLine{name, d.Title, len(d.Estate.Keys) + len(d.GeneratedKeys(1)), len(d.Faults), sortedKeys(d.Controls)})
			}
			if a.asJSON {
				writeJSON(a.io.Out, object{{"schema", "rekey.drills/v1"}, {"drills", list}, {"next", ""}})
				return nil
			}
			t := table{}
			t.add("DRILL", "KEYS", "FAULTS", "CONTROLS", "TITLE")
			for _, d := range list {
				t.add(d.Name, fmt.Sprint(d.Keys), fmt.Sprint(d.Faults), or(strings.Join(d.Controls, " "), "-"), d.Title)
			}
			fmt.Fprintln(a.io.Out, strings.Join(t.lines(""), "\n"))
			return nil
		},
	}
}

func (a *app) drillRunCommand() *cobra.Command {
	if a.engine.Drill == nil {
		return nil
	}
	o := DrillOptions{}
	cmd := &cobra.Command{
		Use:   "run NAME|FILE",
		Short: "Run a drill on a real engine against the lab",
		Long: `run starts an engine and a lab of its own, plays the drill with its faults and its
attacker, and judges it: the drill's expectations, the invariants G1 to G10, and the
effects that the lab counted. No real provider can be reached.

With --control a rule of rekey is switched off; the drill must then fail, which
shows that it can.`,
		Example: example("rekey drill run imperva-2018", "rekey drill run imperva-2018 --control trust-http-200", "rekey drill run ./mine.yaml --scale 10 --keep"),
		Args:    exactly("NAME|FILE"),
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return drills.Names(), cobra.ShellCompDirectiveDefault
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Common, o.Drill, o.File = a.common(), args[0], strings.ContainsAny(args[0], `/\.`)
			if o.Scale < 1 {
				return Usage("give at least 1", "--scale multiplies")
			}
			if err := checkDrill(o); err != nil {
				return err
			}
			s, err := a.engine.Drill(cmd.Context(), o, a.io)
			if err != nil {
				return err
			}
			a.renderDrill(s.Result)
			if s.Keep != nil {
				a.tell("It goes on until Ctrl-C: %s", s.Result.TemporalUI)
				if err := s.Keep(cmd.Context()); err != nil {
					return err
				}
			}
			if s.Result.Result != "passed" {
				return said(CodeDrillFailed, "the drill "+s.Result.Result)
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Control, "control", "", "switch off the rule of this negative control")
	f.IntVar(&o.Scale, "scale", 1, "multiply the generated keys")
	f.Int64Var(&o.Seed, "seed", 0, "seed instead of the drill's own")
	f.BoolVar(&o.Keep, "keep", false, "leave engine and lab running afterwards, to look at")
	return cmd
}

// checkDrill refuses a drill that cannot run before anything is started.
func checkDrill(o DrillOptions) error {
	load := drills.Load
	if o.File {
		load = scenario.LoadFile
	} else if !slices.Contains(drills.Names(), o.Drill) {
		return Usage(suggest(o.Drill, drills.Names(), "`rekey drill list` shows them; a file is given as ./FILE"), "no drill %s", shown(o.Drill))
	}
	d, err := load(o.Drill)
	if err != nil {
		return Usage("mend the drill", "%s", err)
	}
	if o.Control != "" {
		names := sortedKeys(d.Controls)
		if !slices.Contains(names, o.Control) {
			return Usage(suggest(o.Control, names, "it has "+or(strings.Join(names, ", "), "none")), "%s has no control %s", d.Name, shown(o.Control))
		}
	}
	return nil
}

func (a *app) renderDrill(r DrillResult) {
	r.Schema = SchemaDrill
	if a.asJSON {
		writeJSON(a.io.Out, r)
		return
	}
	cleanAll(&r)
	p := palette(a.io.colour(a.io.OutTTY))
	word := strings.ToUpper(r.Result)
	if r.Result == "passed" {
		word = p.green(word)
	} else {
		word = p.red(word)
	}
	out := []string{fmt.Sprintf("%s  %s  (seed %d, scale %d; %s of the world in %s)", p.bold(r.Drill), word, r.Seed, r.Scale, ms(r.VirtualMs), ms(r.WallMs))}
	if c := r.Control; c != nil {
		caught := p.red("NOT CAUGHT")
		if c.Caught {
			caught = p.green("caught")
		}
		out = append(out, fmt.Sprintf("  control %s: %s; must violate %s, violated %s", c.Name, caught, strings.Join(c.MustViolate, " "), or(strings.Join(c.Violated, " "), "none")))
	}
	t := table{}
	for _, e := range r.Expectations {
		t.add(heldWord(p, e.Held), e.ID, line(e.Detail))
	}
	for _, i := range r.Invariants {
		state := i.State
		switch state {
		case "held":
			state = p.green(state)
		case "violated":
			state = p.red(state)
		}
		t.add(state, i.ID, strings.TrimSpace(fmt.Sprintf("%s  %s", checked(i.Checked), line(i.Detail))))
	}
	out = append(out, t.lines("  ")...)
	e := r.Effects
	out = append(out, fmt.Sprintf("  %s, %d duplicate, %d orphans, %d attacker successes after verified, %s",
		count(int(e.Calls), "call", "calls"), e.Duplicate, e.Orphans, e.AttackerSuccessesAfterVerified, count(r.Kills, "kill", "kills")))
	files := table{}
	for _, f := range [][2]string{{"incidents", strings.Join(r.Incidents, " ")}, {"bundle", r.Bundle}, {"report", r.Report}, {"data", r.Data}, {"temporal", r.TemporalUI}} {
		if f[1] != "" {
			files.add(f[0], f[1])
		}
	}
	out = append(out, files.lines("  ")...)
	fmt.Fprintln(a.io.Out, strings.Join(out, "\n"))
}

func checked(n int64) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("%d checked", n)
}

func heldWord(p palette, held bool) string {
	if held {
		return p.green("held")
	}
	return p.red("failed")
}
