package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// app is one run of the command line.
type app struct {
	io     IOStreams
	engine Engine

	config, data, server string
	asJSON               bool
}

// Groups of commands, in the order of the help.
const (
	groupStart  = "start"
	groupRun    = "run"
	groupLook   = "look"
	groupRecord = "record"
	groupKeep   = "keep"
)

// Run runs one command and gives its exit code.
func Run(ctx context.Context, args []string, io IOStreams, engine Engine) int {
	a := &app{io: io, engine: engine}
	root := a.root()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	return finish(io, a.asJSON || wantsJSON(args), err)
}

// wantsJSON looks for --json where the flags could not be parsed.
func wantsJSON(args []string) bool {
	if i := slices.Index(args, "--"); i >= 0 {
		args = args[:i]
	}
	return slices.Contains(args, "--json") || slices.Contains(args, "--json=true")
}

// Root gives the whole tree of commands, for the generated documentation.
func Root(io IOStreams, engine Engine) *cobra.Command {
	return (&app{io: io, engine: engine}).root()
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "rekey",
		Short: "A key is out: what to do, in what order, and how to prove it is over",
		Long: `rekey answers one question for the person on call: this key is out; what do we
do, in what order, and how do we prove it is over?

First steps:
  rekey drill run imperva-2018      play a real incident against the built-in lab
  rekey plan awsiam AKIA...         what would be done about a key; changes nothing
  rekey up                          start rekey on this machine`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs,
		RunE:          parent,
	}
	root.SetIn(a.io.In)
	root.SetOut(a.io.Out)
	root.SetErr(a.io.Err)
	root.SetFlagErrorFunc(flagError)
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetUsageTemplate(usageTemplate)
	root.SetHelpTemplate(helpTemplate)
	f := root.PersistentFlags()
	f.StringVar(&a.config, "config", "", "rekey.yaml to use (default: REKEY_CONFIG, ./rekey.yaml, $XDG_CONFIG_HOME/rekey/rekey.yaml)")
	f.StringVar(&a.data, "data", "", "data directory (default: as configured)")
	f.StringVar(&a.server, "server", "", "URL of the rekey server (default: as configured, http://127.0.0.1:8443)")
	f.BoolVar(&a.asJSON, "json", false, "write JSON to stdout, errors too")
	root.InitDefaultHelpFlag()

	groups := map[string]string{
		groupStart:  "An incident:",
		groupLook:   "Look and learn (no server needed):",
		groupRecord: "The record:",
		groupRun:    "Run rekey:",
		groupKeep:   "Keep it in order:",
	}
	for _, c := range []struct {
		group string
		cmd   *cobra.Command
	}{
		{groupStart, a.reportCommand()},
		{groupStart, a.incidentCommand()},
		{groupLook, a.planCommand()},
		{groupLook, a.drillCommand()},
		{groupLook, a.playbookCommand()},
		{groupLook, a.providerCommand()},
		{groupLook, a.labCommand()},
		{groupRecord, a.auditCommand()},
		{groupRun, a.upCommand()},
		{groupRun, a.serveCommand()},
		{groupRun, a.workerCommand()},
		{groupKeep, a.doctorCommand()},
		{groupKeep, a.customersCommand()},
		{groupKeep, a.healthzCommand()},
		{groupKeep, a.keysCommand()},
		{groupKeep, a.identityCommand()},
		{groupKeep, a.benchCommand()},
		{groupKeep, a.completionCommand()},
		{groupKeep, a.versionCommand()},
	} {
		if c.cmd != nil {
			if !root.ContainsGroup(c.group) {
				root.AddGroup(&cobra.Group{ID: c.group, Title: groups[c.group]})
			}
			c.cmd.GroupID = c.group
			root.AddCommand(c.cmd)
		}
	}
	root.AddCommand(topics()...)
	root.SetHelpCommand(helpCommand())
	return root
}

// parent is what a command does that only holds others: it shows its help, or
// refuses a word that is none of its commands.
func parent(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help()
	}
	var names []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, append([]string{c.Name()}, c.Aliases...)...)
		}
	}
	return Usage(suggest(args[0], names, "run `"+cmd.CommandPath()+" --help` for the commands there are"),
		"unknown command %s for `%s`", shown(args[0]), cmd.CommandPath())
}

// helpCommand shows the help of a command or topic, and refuses one there is none of.
func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "help [COMMAND|TOPIC]",
		Short:   "Show the help of a command or topic",
		Example: example("rekey help incident approve", "rekey help exit-codes"),
		GroupID: groupKeep,
		Args:    cobra.ArbitraryArgs,
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
			var out []cobra.Completion
			if at, rest, err := cmd.Root().Find(args); err == nil && len(rest) == 0 {
				for _, c := range at.Commands() {
					if c.IsAvailableCommand() || c.IsAdditionalHelpTopicCommand() {
						out = append(out, cobra.CompletionWithDesc(c.Name(), c.Short))
					}
				}
			}
			return out, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			at, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				var names []string
				for _, c := range at.Commands() {
					names = append(names, c.Name())
				}
				word := args[len(args)-max(len(rest), 1)]
				return Usage(suggest(word, names, "run `rekey help` for what there is"), "no help for %s", shown(word))
			}
			return at.Help()
		},
	}
}

// family makes a command that only holds others; none: no command.
func family(use, short, example string, children ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Example: example, Args: cobra.ArbitraryArgs, RunE: parent}
	for _, c := range children {
		if c != nil {
			cmd.AddCommand(c)
		}
	}
	return cmd
}

// deadline bounds calls that ask the server one thing.
const deadline = 30 * time.Second

// exactly asks for the arguments that names lists; one in brackets is optional. A
// surplus argument is never shown: it may be a secret.
func exactly(names ...string) cobra.PositionalArgs {
	least := len(names)
	for _, n := range names {
		if strings.HasPrefix(n, "[") {
			least--
		}
	}
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < least {
			return Usage("usage: "+cmd.UseLine(), "%s is missing", names[len(args)])
		}
		if len(args) > len(names) {
			return Usage("usage: "+cmd.UseLine(), "%d arguments, and `%s` takes %s", len(args), cmd.CommandPath(), atMost(names))
		}
		return nil
	}
}

func atMost(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, " ")
}

const usageTemplate = `Usage:
  {{if .HasAvailableSubCommands}}{{.CommandPath}} COMMAND{{else}}{{.UseLine}}{{end}}
{{- if .HasExample}}

Examples:
{{.Example}}{{end}}
{{- if .HasAvailableSubCommands}}{{$cmds := .Commands}}
{{- if eq (len .Groups) 0}}

Commands:
{{- range $cmds}}{{if .IsAvailableCommand}}
  {{rpad .Name .NamePadding}} {{.Short}}{{end}}{{end}}
{{- else}}
{{- range $group := .Groups}}

{{.Title}}
{{- range $cmds}}{{if and (eq .GroupID $group.ID) .IsAvailableCommand}}
  {{rpad .Name .NamePadding}} {{.Short}}{{end}}{{end}}{{end}}{{end}}{{end}}
{{- if .HasAvailableLocalFlags}}

Flags:
{{.LocalFlags.FlagUsages | trimTrailingWhitespaces}}{{end}}
{{- if .HasAvailableInheritedFlags}}

Everywhere:
{{.InheritedFlags.FlagUsages | trimTrailingWhitespaces}}{{end}}
{{- if .HasHelpSubCommands}}

More help:
{{- $root := .CommandPath}}
{{- range .Commands}}{{if .IsAdditionalHelpTopicCommand}}
  {{$root}} help {{rpad .Name .NamePadding}} {{.Short}}{{end}}{{end}}{{end}}
{{- if .HasAvailableSubCommands}}

"{{.CommandPath}} COMMAND --help" tells more of a command.{{end}}
`

const helpTemplate = `{{with (or .Long .Short)}}{{. | trimTrailingWhitespaces}}

{{end}}{{if or .Runnable .HasSubCommands}}{{.UsageString}}{{end}}`

// example indents the lines of an example as cobra wants them.
func example(lines ...string) string { return "  " + strings.Join(lines, "\n  ") }

func (a *app) common() Common { return Common{Config: a.config, Data: a.data} }

func (a *app) tell(format string, args ...any) { fmt.Fprintf(a.io.Err, format+"\n", args...) }
