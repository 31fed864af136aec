package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func (a *app) planCommand() *cobra.Command {
	if a.engine.Plan == nil {
		return nil
	}
	var o PlanOptions
	var pb string
	cmd := &cobra.Command{
		Use:   "plan PROVIDER[/KIND] KEY-ID",
		Short: "Say what would be done about a key; changes nothing",
		Long: `plan reads the key at its provider and says what rekey would do about it: whose it
is, who uses it, who would break, every exact call in order, how long it takes, and
what could not be seen. It needs no server, opens no incident and changes nothing.`,
		Example: example("rekey plan awsiam AKIAIOSFODNN7EXAMPLE", "rekey plan awsiam/user-access-key AKIAIOSFODNN7EXAMPLE --account prod --json"),
		Args:    keyArgs, ValidArgsFunction: a.completeKey,
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := a.target(args[0], args[1])
			if err != nil {
				return err
			}
			o.Common, o.Provider, o.Kind, o.KeyID = a.common(), t.provider, t.kind, t.keyID
			if strings.ContainsAny(pb, `/\.`) {
				if _, _, err := a.reportPlaybook(pb); err != nil {
					return err
				}
				o.PlaybookFile = pb
			} else {
				o.PlaybookName = pb
			}
			r, err := a.engine.Plan(cmd.Context(), o, a.io)
			if err != nil {
				return err
			}
			r.Schema = SchemaPlan
			if a.asJSON {
				writeJSON(a.io.Out, r)
				return nil
			}
			cleanAll(&r)
			fmt.Fprintln(a.io.Out, strings.Join(planner{r, palette(a.io.colour(a.io.OutTTY)), a.io.Now()}.text(), "\n"))
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Account, "account", "", "configured account of the provider; empty: the only one")
	f.StringVar(&pb, "playbook", "", "playbook to use, by name or file, instead of the first that matches")
	copyFlag(cmd, &o.Copies)
	f.DurationVar(&o.Lookback, "lookback", 0, "how far back uses are read (default: as the playbook says)")
	choice(cmd, &o.Exposure, "exposure", "where it is out", "public", "internal", "unknown")
	return cmd
}

// planner writes a plan for a person.
type planner struct {
	r   PlanResult
	c   palette
	now time.Time
}

func (p planner) text() []string {
	r := p.r
	out := []string{p.c.bold(fmt.Sprintf("%s/%s %s", r.Key.Provider, r.Key.Account, or(r.Key.ID, r.Key.Kind)))}
	if r.Held != "" {
		out = append(out, p.c.red("  HELD: "+line(r.Held)))
	}
	t := table{}
	t.add("what", strings.TrimSpace(r.Key.Kind+" "+prefixed("of ", r.Key.Principal)))
	t.add("owner", strings.TrimSpace(or(r.Owner, "nobody is named")+" "+bracketed(r.OwnerKind)))
	t.add("state", p.state())
	t.add("severity", stateColour(p.c, or(r.Severity, "unknown")))
	t.add("playbook", or(r.Playbook, "none matches: a person would be asked"))
	out = append(out, t.lines("  ")...)
	out = append(out, p.uses()...)
	if len(r.Findings) > 0 {
		out = append(out, "", p.c.bold("It made"))
		t := table{}
		for _, f := range r.Findings {
			t.add(f.What, f.ID, ago(f.At, p.now), line(f.Why))
		}
		out = append(out, t.lines("  ")...)
	}
	if len(r.Items) > 1 {
		out = append(out, "", p.c.bold(fmt.Sprintf("In scope (%d)", len(r.Items))))
		t := table{}
		for _, k := range r.Items {
			t.add(k.Short(), k.Provider+"/"+k.Account, or(k.ID, k.Kind), k.Principal)
		}
		out = append(out, t.lines("  ")...)
	}
	out = append(out, "")
	out = append(out, planText(r.Plan, p.c)...)
	out = append(out, p.approvals()...)
	return append(out, p.unseen()...)
}

func prefixed(prefix, s string) string {
	if s == "" {
		return ""
	}
	return prefix + s
}

func bracketed(s string) string {
	if s == "" {
		return ""
	}
	return "(" + s + ")"
}

// state says what is known; an unknown fact is said to be unknown.
func (p planner) state() string {
	word := func(b *bool, yes, no, unknown string) string {
		switch {
		case b == nil:
			return unknown
		case *b:
			return yes
		}
		return no
	}
	r := p.r
	if r.Exists != nil && !*r.Exists {
		return "does not exist"
	}
	facts := []string{word(r.Active, "active", "inactive", "active: unknown"), word(r.Admin, "administrator", "no administrator", "rights: unknown")}
	if r.Created != "" {
		facts = append(facts, "created "+ago(r.Created, p.now))
	}
	if r.LastUsed != "" {
		facts = append(facts, "last used "+ago(r.LastUsed, p.now))
	}
	return strings.Join(facts, ", ")
}

func (p planner) uses() []string {
	out := []string{"", p.c.bold("Used by")}
	if len(p.r.Uses) == 0 {
		return append(out, "  nobody, as far as could be seen")
	}
	t := table{}
	for _, u := range p.r.Uses {
		who := or(u.Who, or(u.Agent, "?"))
		refused := ""
		if u.Refused > 0 {
			refused = fmt.Sprintf(", %d refused", u.Refused)
		}
		label := u.Label
		if label == "new" {
			label = p.c.yellow(label)
		}
		t.add(label, who, "from "+u.Source, count(int(u.Count), "call", "calls")+refused, "last "+ago(u.Last, p.now), strings.Join(u.Calls, " "))
	}
	return append(out, t.lines("  ")...)
}

func (p planner) approvals() []string {
	if len(p.r.Approvals) == 0 {
		return nil
	}
	out := []string{"", p.c.bold("Must agree")}
	t := table{}
	for _, a := range p.r.Approvals {
		text := count(a.Quorum, "vote", "votes") + " of " + strings.Join(a.Roles, ", ")
		if a.Policy {
			text = "the policy " + a.Rule + "; nobody is asked"
		}
		t.add(fmt.Sprintf("wave %d", a.Wave), text)
	}
	return append(out, t.lines("  ")...)
}

func (p planner) unseen() []string {
	out := []string{"", p.c.bold("Not seen")}
	if len(p.r.Unseen)+len(p.r.Dark) == 0 {
		return append(out, "  nothing was left out")
	}
	for _, u := range p.r.Unseen {
		out = append(out, "  "+u.Source+": "+line(u.Why)+bracketedNeed(u.Permission))
	}
	for _, d := range p.r.Dark {
		out = append(out, fmt.Sprintf("  %s has no logs from %s to %s", d.Source, clock(d.From), clock(d.To)))
	}
	return out
}

func bracketedNeed(permission string) string {
	if permission == "" {
		return ""
	}
	return " (needs " + permission + ")"
}
