package cli

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"rekey/internal/plan"
	"rekey/internal/view"
)

func (a *app) incidentCommand() *cobra.Command {
	return family("incident", "Look at incidents and decide", example(
		"rekey incident list",
		"rekey incident show inc-7f3a9c2e41d0",
		"rekey incident watch inc-7f3a9c2e41d0",
		"rekey incident approve inc-7f3a9c2e41d0 --wave 3f9a0c41d2e8b756"),
		a.listCommand(), a.showCommand(), a.incidentPlanCommand(), a.itemsCommand(), a.watchCommand(),
		a.approveCommand(), a.denyCommand(), a.holdCommand(), a.releaseCommand(), a.restoreCommand(),
		a.resolveCommand(), a.noteCommand(), a.closeCommand(), a.incidentReportCommand())
}

func incidentPath(id string, rest ...string) string {
	return "/incidents/" + url.PathEscape(id) + strings.Join(rest, "")
}

// incidentID refuses what cannot be an incident before anything is asked.
func incidentID(id string) error {
	const digits = 12
	hex, ok := strings.CutPrefix(id, "inc-")
	if !ok || len(hex) != digits || strings.Trim(hex, "0123456789abcdef") != "" {
		return Usage("`rekey incident list` shows the ids there are", "an incident id is inc- and 12 hex digits")
	}
	return nil
}

func (a *app) listCommand() *cobra.Command {
	var state, after string
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List incidents, newest first",
		Example: example("rekey incident list", "rekey incident list --state open --json"),
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			query := url.Values{}
			if state != "" {
				query.Set("state", state)
			}
			if after != "" {
				query.Set("after", after)
			}
			var l view.List
			raw, err := c.get(cmd.Context(), "/incidents", query, &l)
			if err != nil {
				return err
			}
			if a.asJSON {
				return writeRaw(a.io.Out, raw, false)
			}
			cleanAll(&l)
			a.renderList(l)
			return nil
		},
	}
	choice(cmd, &state, "state", "only those in this state", "open", "waiting", "contained", "all-clear")
	cmd.Flags().StringVar(&after, "after", "", "go on after this cursor")
	return cmd
}

func (a *app) renderList(l view.List) {
	if len(l.Incidents) == 0 {
		a.tell("No incidents. Report a key with `rekey report PROVIDER KEY-ID`.")
		return
	}
	p := palette(a.io.colour(a.io.OutTTY))
	t := table{}
	t.add("INCIDENT", "SEVERITY", "STATE", "PHASE", "OPEN", "STARTED", "PROVIDER")
	t.style = func(column int, cell string) string {
		if column == 1 || column == 2 {
			return stateColour(p, cell)
		}
		return cell
	}
	for _, s := range l.Incidents {
		t.add(s.ID, s.Severity, s.State, s.Phase, fmt.Sprint(s.Open), clock(s.Started), s.Provider)
	}
	fmt.Fprintln(a.io.Out, strings.Join(t.lines(""), "\n"))
	if l.Next != "" {
		a.tell("More: rekey incident list --after %s", l.Next)
	}
}

func stateColour(p palette, word string) string {
	switch word {
	case "critical", "alive", "waiting", "human":
		return p.red(word)
	case "high", "open", "unclear", "proving", "disabled":
		return p.yellow(word)
	case "contained", "all-clear", "dead", "revoked-verified", "expired-verified", "never-existed-proven", "adopted":
		return p.green(word)
	}
	return word
}

func (a *app) showCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "show ID",
		Short:   "Show an incident: the verdict, what waits for whom, every item",
		Example: example("rekey incident show inc-7f3a9c2e41d0", "rekey incident show inc-7f3a9c2e41d0 --json"),
		Args:    exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := incidentID(args[0]); err != nil {
				return err
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			var v view.Incident
			raw, err := c.get(cmd.Context(), incidentPath(args[0]), nil, &v)
			if err != nil {
				return err
			}
			if a.asJSON {
				return writeRaw(a.io.Out, raw, false)
			}
			a.renderShow(v)
			return nil
		},
	}
}

func (a *app) renderShow(v view.Incident) {
	cleanAll(&v)
	s := shower{p: palette(a.io.colour(a.io.OutTTY)), now: a.io.Now(), v: v}
	fmt.Fprintln(a.io.Out, s.text())
}

func (a *app) incidentPlanCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "plan ID",
		Short:   "Show the plan of an incident: every wave and every call",
		Example: example("rekey incident plan inc-7f3a9c2e41d0"),
		Args:    exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := incidentID(args[0]); err != nil {
				return err
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			var p plan.Plan
			raw, err := c.get(cmd.Context(), incidentPath(args[0], "/plan"), nil, &p)
			if err != nil {
				return err
			}
			if a.asJSON {
				return writeRaw(a.io.Out, raw, false)
			}
			cleanAll(&p)
			fmt.Fprintln(a.io.Out, strings.Join(planText(p, palette(a.io.colour(a.io.OutTTY))), "\n"))
			return nil
		},
	}
}

func (a *app) itemsCommand() *cobra.Command {
	var after string
	var all bool
	cmd := &cobra.Command{
		Use:     "items ID",
		Short:   "List the items of an incident",
		Example: example("rekey incident items inc-7f3a9c2e41d0", "rekey incident items inc-7f3a9c2e41d0 --all --json"),
		Args:    exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := incidentID(args[0]); err != nil {
				return err
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			for first := true; ; first = false {
				var page view.Items
				query := url.Values{}
				if after != "" {
					query.Set("after", after)
				}
				raw, err := c.get(cmd.Context(), incidentPath(args[0], "/items"), query, &page)
				if err != nil {
					return err
				}
				if a.asJSON {
					if err := writeRaw(a.io.Out, raw, all); err != nil {
						return err
					}
				} else {
					cleanAll(&page)
					for _, l := range itemLines(page.Items, palette(a.io.colour(a.io.OutTTY)), "", first) {
						fmt.Fprintln(a.io.Out, l)
					}
				}
				if page.Next == "" {
					return nil
				}
				if !all {
					a.tell("More: rekey incident items %s --after %s", args[0], page.Next)
					return nil
				}
				after = page.Next
			}
		},
	}
	cmd.Flags().StringVar(&after, "after", "", "go on after this cursor")
	cmd.Flags().BoolVar(&all, "all", false, "read every page; with --json one page a line")
	return cmd
}
