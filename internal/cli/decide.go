package cli

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rekey/internal/people"
	"rekey/internal/statement"
	"rekey/internal/view"
	"rekey/playbooks"
)

// validity is how long a statement may be used: long enough for a slow network,
// too short to be kept.
const validity = 10 * time.Minute

// maxText bounds a reason or a note.
const maxText = 4000

// decision is what `approve` and the other deciding commands are answered
// (workflows.Decision).
type decision struct {
	Approval string `json:"approval,omitempty"`
	State    string `json:"state,omitempty"`
	Votes    int    `json:"votes,omitempty"`
	Needed   int    `json:"needed,omitempty"`
	Note     string `json:"note,omitempty"`
	ID       string `json:"id,omitempty"`
}

// deciding are the flags that every deciding command has.
type deciding struct {
	identity, actor, role, reason string
}

func (d *deciding) flags(cmd *cobra.Command, withReason string) {
	f := cmd.Flags()
	f.StringVar(&d.identity, "identity", "", "file of your private key (default: REKEY_IDENTITY, then the local user's)")
	f.StringVar(&d.actor, "actor", "", "your name at the server (default: whose key it is in rekey.yaml)")
	f.StringVar(&d.role, "role", "", "role in which you decide (default: one that counts)")
	if withReason != "" {
		f.StringVar(&d.reason, "reason", "", withReason)
	}
}

// decide signs s as the person of d and sends it.
func (a *app) decide(ctx context.Context, c *client, d deciding, s statement.Statement) error {
	if a.looksSecret(s.Text) {
		return secretInArguments()
	}
	if len(s.Text) > maxText {
		return Usage("say it in at most 4000 bytes; longer texts go into evidence files of a report", "the text is too long")
	}
	id, err := a.identity(d.identity, d.actor)
	if err != nil {
		return err
	}
	defer clear(id.key)
	now := a.io.Now().UTC().Truncate(time.Millisecond)
	s.Actor, s.Method, s.Nonce, s.Issued, s.Expires = id.actor, people.MethodCLIKey, rand.Text(), now, now.Add(validity)
	s.Role = or(d.role, s.Role)
	signed, err := statement.Sign(s, id.key)
	if err != nil {
		return err
	}
	var answer decision
	raw, err := c.post(ctx, incidentPath(s.Incident, "/statements"), signed, &answer)
	if err != nil {
		return err
	}
	if a.asJSON {
		return writeRaw(a.io.Out, raw, false)
	}
	cleanAll(&answer)
	fmt.Fprintln(a.io.Out, decidedText(s, answer))
	return nil
}

// decidedText says what became of a decision.
func decidedText(s statement.Statement, d decision) string {
	out := s.Action + " by " + s.Actor
	if s.Role != "" {
		out += " as " + s.Role
	}
	out += ": accepted"
	if d.Approval != "" {
		out += fmt.Sprintf("; approval %s is %s", d.Approval, or(d.State, "open"))
		if d.Needed > 0 {
			out += fmt.Sprintf(", %d of %s", d.Votes, count(d.Needed, "vote", "votes"))
		}
	} else if d.State != "" {
		out += "; " + d.State
	}
	if d.ID != "" {
		out += " (" + d.ID + ")"
	}
	if d.Note != "" {
		out += ": " + line(d.Note)
	}
	return out
}

// incident reads the incident that a decision is about.
func (a *app) incident(ctx context.Context, id string) (*client, view.Incident, error) {
	var v view.Incident
	if err := incidentID(id); err != nil {
		return nil, v, err
	}
	c, err := a.client()
	if err != nil {
		return nil, v, err
	}
	_, err = c.get(ctx, incidentPath(id), nil, &v)
	return c, v, err
}

// about are the flags of commands that name items.
type about struct {
	deciding
	items []string
	until string
}

func (f *about) flags(cmd *cobra.Command, reason, until string) {
	f.deciding.flags(cmd, reason)
	cmd.Flags().StringArrayVar(&f.items, "item", nil, "item, by its short id, fingerprint or key id; may be given again")
	if until != "" {
		cmd.Flags().StringVar(&f.until, "until", "", until)
	}
}

// until reads a time or a span from now.
func until(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t.UTC().Truncate(time.Millisecond), nil
	}
	d, err := playbooks.ParseDuration(text)
	if err != nil || d <= 0 {
		return time.Time{}, Usage("write a time such as 2026-11-21T12:00:00Z, or a span such as 2h or 7d", "--until is not a time")
	}
	return now.UTC().Add(d.Std()).Truncate(time.Millisecond), nil
}

// onItems resolves the items and sends s.
func (a *app) onItems(ctx context.Context, id string, f about, s statement.Statement) error {
	c, v, err := a.incident(ctx, id)
	if err != nil {
		return err
	}
	s.Incident, s.Text = id, f.reason
	if s.Until, err = until(f.until, a.io.Now()); err != nil {
		return err
	}
	if s.Items, err = resolveItems(ctx, c, v, f.items); err != nil {
		return err
	}
	return a.decide(ctx, c, f.deciding, s)
}

// resolveItems finds the fingerprints that names stand for, in the first page of
// items and then in the others.
func resolveItems(ctx context.Context, c *client, v view.Incident, names []string) ([]string, error) {
	found := make([]string, len(names))
	match := func(items []view.Item) error {
		for i, name := range names {
			for _, it := range items {
				if name != it.FP && name != it.Short && name != it.KeyID {
					continue
				}
				if found[i] != "" && found[i] != it.FP {
					return Usage("use its fingerprint", "item %d names more than one item", i+1)
				}
				found[i] = it.FP
			}
		}
		return nil
	}
	if err := match(v.Items); err != nil {
		return nil, err
	}
	if v.Mass != nil {
		// The incident looks its rows up itself, and knows names that stand for many.
		for i := range found {
			found[i] = or(found[i], names[i])
		}
		return found, nil
	}
	for after, more := "", v.Truncated; more && slices.Contains(found, ""); more = after != "" {
		var page view.Items
		if _, err := c.get(ctx, incidentPath(v.ID, "/items"), url.Values{"after": {after}}, &page); err != nil {
			return nil, err
		}
		if err := match(page.Items); err != nil {
			return nil, err
		}
		after = page.Next
	}
	if i := slices.Index(found, ""); i >= 0 {
		return nil, Failed(view.CodeNotFound, "`rekey incident items "+v.ID+"` lists them", "%s has no item %s", v.ID, shown(names[i]))
	}
	return found, nil
}

func needItems(f about, reason bool) error {
	if len(f.items) == 0 {
		return Usage("`rekey incident items` lists them", "--item is missing")
	}
	if reason && f.reason == "" {
		return Usage("say why, for the record", "--reason is missing")
	}
	return nil
}

func (a *app) holdCommand() *cobra.Command {
	var f about
	cmd := &cobra.Command{
		Use:     "hold ID --item ITEM --until TIME --reason TEXT",
		Short:   "Hold items: they do not move until then, or until released",
		Example: example("rekey incident hold inc-7f3a9c2e41d0 --item a41c09be77d2 --until 2h --reason 'payroll runs now'"),
		Args:    exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := needItems(f, true); err != nil {
				return err
			}
			if f.until == "" {
				return Usage("give a time or a span such as 2h", "--until is missing: a hold always ends")
			}
			return a.onItems(cmd.Context(), args[0], f, statement.Statement{Action: statement.Hold})
		},
	}
	f.flags(cmd, "why they must not move", "end of the hold: a time, or a span such as 2h")
	return cmd
}

func (a *app) releaseCommand() *cobra.Command {
	var f about
	var hold string
	cmd := &cobra.Command{
		Use:     "release ID --item ITEM|--hold HOLD",
		Short:   "Release held items",
		Example: example("rekey incident release inc-7f3a9c2e41d0 --item a41c09be77d2", "rekey incident release inc-7f3a9c2e41d0 --hold hold1"),
		Args:    exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if hold == "" {
				if err := needItems(f, false); err != nil {
					return err
				}
			}
			return a.onItems(cmd.Context(), args[0], f, statement.Statement{Action: statement.Release, Task: hold})
		},
	}
	cmd.Flags().StringVar(&hold, "hold", "", "the whole hold, by its id")
	f.flags(cmd, "why, for the record", "")
	return cmd
}

func (a *app) restoreCommand() *cobra.Command {
	var f about
	cmd := &cobra.Command{
		Use:   "restore ID --item ITEM --until TIME --reason TEXT",
		Short: "Ask to enable a disabled key for a bounded time",
		Long: `restore asks for, or votes for, enabling a disabled key until a time. It takes two
people, happens once per item and is refused while abuse is fresh. Its end is
installed at the provider first, so that it ends even if rekey is down.`,
		Example: example("rekey incident restore inc-7f3a9c2e41d0 --item a41c09be77d2 --until 30m --reason 'checkout is down'"),
		Args:    exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := needItems(f, true); err != nil {
				return err
			}
			if f.until == "" {
				return Usage("give a time or a span such as 30m", "--until is missing: a restored key always ends")
			}
			return a.onItems(cmd.Context(), args[0], f, statement.Statement{Action: statement.Restore})
		},
	}
	f.flags(cmd, "why it is needed", "when it ends: a time, or a span such as 30m")
	return cmd
}

// resolutions are the values of --as: how a step ended, or an end state that
// people decide.
func resolutions() []string {
	return []string{"done", "by-hand", "adopted", "waived", "send-again", "override-cutoff", "accepted-risk", "never-existed-proven", "customer-action-open"}
}

func (a *app) resolveCommand() *cobra.Command {
	var f about
	var task, as string
	cmd := &cobra.Command{
		Use:   "resolve ID --task TASK|--item ITEM --as WORD",
		Short: "End a step that a person did, or settle items",
		Example: example("rekey incident resolve inc-7f3a9c2e41d0 --task h1 --as done --reason 'deleted by hand'",
			"rekey incident resolve inc-7f3a9c2e41d0 --item a41c09be77d2 --as accepted-risk --until 30d --reason 'read-only, owner agrees'"),
		Args: exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case as == "":
				return Usage("one of "+strings.Join(resolutions(), ", "), "--as is missing")
			case task == "" && len(f.items) == 0:
				return Usage("`rekey incident show` lists what waits", "--task or --item is missing")
			case as == "accepted-risk" && f.until == "":
				return Usage("give a time or a span such as 30d", "--until is missing: a risk is accepted until a time")
			case f.reason == "":
				return Usage("say what was done, for the record", "--reason is missing")
			}
			return a.onItems(cmd.Context(), args[0], f, statement.Statement{Action: statement.Resolve, Task: task, As: as})
		},
	}
	f.flags(cmd, "what was done, or why", "end of an accepted risk: a time, or a span such as 30d")
	cmd.Flags().StringVar(&task, "task", "", "step that waits for a person")
	choice(cmd, &as, "as", "what it is now", resolutions()...)
	return cmd
}

func (a *app) noteCommand() *cobra.Command {
	var f deciding
	cmd := &cobra.Command{
		Use:     "note ID [TEXT]",
		Short:   "Add a note to the record; without TEXT it is read from standard input",
		Example: example("rekey incident note inc-7f3a9c2e41d0 'called the vendor, ticket 4711'", "rekey incident note inc-7f3a9c2e41d0 < timeline.txt"),
		Args:    exactly("ID", "[TEXT]"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := incidentID(args[0]); err != nil {
				return err
			}
			text := ""
			if len(args) == 2 {
				text = args[1]
			} else {
				raw, err := io.ReadAll(io.LimitReader(a.io.In, maxText+1))
				if err != nil {
					return Usage("check the pipe", "the note cannot be read")
				}
				text = string(bytes.TrimSpace(raw))
			}
			if text == "" {
				return Usage("give TEXT, or pipe it in", "the note is empty")
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			return a.decide(cmd.Context(), c, f, statement.Statement{Action: statement.Note, Incident: args[0], Text: text})
		},
	}
	f.flags(cmd, "")
	return cmd
}

func (a *app) closeCommand() *cobra.Command {
	var f deciding
	cmd := &cobra.Command{
		Use:     "close ID --reason TEXT",
		Short:   "Close an incident whose open items all have an owner, or as a false alarm",
		Example: example("rekey incident close inc-7f3a9c2e41d0 --reason 'test key, never issued'"),
		Args:    exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := incidentID(args[0]); err != nil {
				return err
			}
			if f.reason == "" {
				return Usage("say why, for the record", "--reason is missing")
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			return a.decide(cmd.Context(), c, f, statement.Statement{Action: statement.Close, Incident: args[0], Text: f.reason})
		},
	}
	f.flags(cmd, "why it is over")
	return cmd
}
