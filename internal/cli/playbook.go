package cli

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"rekey/internal/playbook"
)

func (a *app) playbookCommand() *cobra.Command {
	return family("playbook", "Look at playbooks and check your own", example(
		"rekey playbook list", "rekey playbook show aws-access-key", "rekey playbook validate ./playbook.yaml"),
		a.playbookListCommand(), a.playbookShowCommand(), a.playbookValidateCommand(), a.playbookSchemaCommand(), a.playbookGraphCommand())
}

func (a *app) loadPlaybook(nameOrPath string) (*playbook.Loaded, error) {
	l, err := playbook.Load(nameOrPath, playbook.WithProviders(a.descriptors()))
	if err != nil {
		return nil, Usage("`rekey playbook list` shows the shipped ones", "%s", err)
	}
	return l, nil
}

func completePlaybook(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return playbook.Shipped(), cobra.ShellCompDirectiveDefault
}

// playbookLine is one playbook of `playbook list --json`.
type playbookLine struct {
	Name     string   `json:"name"`
	Title    string   `json:"title"`
	Version  string   `json:"version"`
	Digest   string   `json:"digest"`
	Provider string   `json:"provider"`
	Kinds    []string `json:"kinds"`
	Start    string   `json:"start"`
}

func lineOf(l *playbook.Loaded) playbookLine {
	p := l.Playbook
	return playbookLine{p.Name, p.Title, p.Version, l.Digest, p.Match.Provider, p.Match.Kinds, string(p.Start)}
}

func (a *app) playbookListCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List the playbooks that ship with rekey",
		Example: example("rekey playbook list", "rekey playbook list --json"),
		Args:    exactly(),
		RunE: func(*cobra.Command, []string) error {
			list := []playbookLine{}
			for _, name := range playbook.Shipped() {
				l, err := a.loadPlaybook(name)
				if err != nil {
					return err
				}
				list = append(list, lineOf(l))
			}
			if a.asJSON {
				writeJSON(a.io.Out, object{{"schema", "rekey.playbooks/v1"}, {"playbooks", list}, {"next", ""}})
				return nil
			}
			t := table{}
			t.add("PLAYBOOK", "VERSION", "FOR", "TITLE")
			for _, l := range list {
				t.add(l.Name, l.Version, l.Provider+"/"+strings.Join(l.Kinds, ","), l.Title)
			}
			fmt.Fprintln(a.io.Out, strings.Join(t.lines(""), "\n"))
			return nil
		},
	}
}

func (a *app) playbookShowCommand() *cobra.Command {
	var readme bool
	cmd := &cobra.Command{
		Use:               "show NAME|FILE",
		Short:             "Show a playbook",
		Example:           example("rekey playbook show aws-access-key", "rekey playbook show aws-access-key --readme"),
		Args:              exactly("NAME|FILE"),
		ValidArgsFunction: completePlaybook,
		RunE: func(_ *cobra.Command, args []string) error {
			l, err := a.loadPlaybook(args[0])
			if err != nil {
				return err
			}
			switch {
			case readme:
				text, err := playbook.Readme(l.Playbook.Name)
				if err != nil {
					return Usage("only shipped playbooks have one", "%s", err)
				}
				_, err = a.io.Out.Write(text)
				return err
			case a.asJSON:
				writeJSON(a.io.Out, object{{"schema", "rekey.playbook/v1"}, {"file", l.File}, {"digest", l.Digest}, {"playbook", l.Playbook}})
			default:
				_, err = a.io.Out.Write(l.Source)
				a.tell("%s %s, %s", l.Playbook.Name, l.Playbook.Version, l.Digest)
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&readme, "readme", false, "show its README instead")
	return cmd
}

func (a *app) playbookValidateCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "validate NAME|FILE...",
		Short: "Check playbooks: form, rules and danger",
		Long: `validate names file, line, column and the fix of every mistake, and looks for
danger: a revoke without evidence or without a probe after it, an irreversible step
without a gate. Exit code 2 when one of the playbooks may not be used.`,
		Example:           example("rekey playbook validate ./playbook.yaml", "rekey playbook validate playbooks/*/playbook.yaml --json"),
		Args:              cobra.ArbitraryArgs,
		ValidArgsFunction: completePlaybook,
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return Usage("name a shipped playbook or a file", "NAME|FILE is missing")
			}
			problems, valid := playbook.Problems{}, []validLine{}
			for _, name := range args {
				found, line, err := a.validate(name)
				if err != nil {
					return err
				}
				problems = append(problems, found...)
				if line != nil {
					valid = append(valid, *line)
				}
			}
			if a.asJSON {
				result := "valid"
				if problems.Failed() {
					result = "invalid"
				}
				writeJSON(a.io.Out, object{{"schema", "rekey.validation/v1"}, {"result", result}, {"problems", problems}, {"playbooks", valid}})
			} else {
				for _, p := range problems {
					fmt.Fprintln(a.io.Out, clean(p.String()))
				}
				for _, v := range valid {
					fmt.Fprintf(a.io.Out, "%s: %s %s %s\n", clean(v.File), v.Name, v.Version, v.Digest)
				}
				if !problems.Failed() {
					a.tell("%s valid", count(len(args), "playbook is", "playbooks are"))
				}
			}
			if problems.Failed() {
				return said(CodeUsage, "invalid playbook")
			}
			return nil
		},
	}
}

// validLine is a playbook that may be used; Digest is what
// ceilings.playbook_digests pins.
type validLine struct {
	File    string `json:"file"`
	Name    string `json:"name"`
	Version string `json:"version"`
	Digest  string `json:"digest"`
}

// validate lists everything that is wrong with a playbook, and what it is when it
// may be used.
func (a *app) validate(nameOrPath string) (playbook.Problems, *validLine, error) {
	if !strings.ContainsAny(nameOrPath, `/\.`) {
		l, err := a.loadPlaybook(nameOrPath)
		if err != nil {
			return nil, nil, err
		}
		return l.Warnings, &validLine{nameOrPath, l.Playbook.Name, l.Playbook.Version, l.Digest}, nil
	}
	file, opts := playbook.Locate(nameOrPath)
	src, err := readBounded(file, maxEvidence)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil, nil, Usage("check the path", "there is no file %s", clean(file))
		}
		return nil, nil, Usage("check the file", "%s", err)
	}
	pb, problems := playbook.Parse(file, src, append(opts, playbook.WithProviders(a.descriptors()))...)
	for i := range problems {
		problems[i].Message, problems[i].Fix = withoutSecrets(problems[i].Message), withoutSecrets(problems[i].Fix)
	}
	if pb == nil || problems.Failed() {
		return problems, nil, nil
	}
	digest, err := playbook.DigestOf(pb)
	if err != nil {
		return nil, nil, err
	}
	return problems, &validLine{file, pb.Name, pb.Version, digest}, nil
}

func (a *app) playbookSchemaCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "schema",
		Short:   "Write the JSON Schema of playbooks, for editors",
		Example: example("rekey playbook schema > playbook.schema.json"),
		Args:    exactly(),
		RunE: func(*cobra.Command, []string) error {
			s, err := playbook.Schema()
			if err != nil {
				return err
			}
			_, err = a.io.Out.Write(append([]byte(strings.TrimRight(string(s), "\n")), '\n'))
			return err
		},
	}
}

func (a *app) playbookGraphCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "graph NAME|FILE",
		Short:             "Write a playbook as a Mermaid graph",
		Example:           example("rekey playbook graph aws-access-key > aws-access-key.mmd"),
		Args:              exactly("NAME|FILE"),
		ValidArgsFunction: completePlaybook,
		RunE: func(_ *cobra.Command, args []string) error {
			l, err := a.loadPlaybook(args[0])
			if err != nil {
				return err
			}
			fmt.Fprintln(a.io.Out, strings.TrimRight(playbook.Mermaid(l.Playbook), "\n"))
			return nil
		},
	}
}
