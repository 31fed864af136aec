// Package page draws the reference of the command line from the commands
// themselves, so that a page cannot promise what the program does not.
package page

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"rekey/internal/cli"
)

// All gives every page, name -> Markdown. The same commands give the same bytes.
func All() (map[string][]byte, error) {
	root := cli.Root(cli.IOStreams{}, whole())
	root.DisableAutoGenTag = true
	out := map[string][]byte{}
	return out, add(out, root)
}

func add(out map[string][]byte, cmd *cobra.Command) error {
	var b bytes.Buffer
	switch {
	case cmd.IsAdditionalHelpTopicCommand():
		fmt.Fprintf(&b, "## %s\n\n%s\n\n```\n%s\n```\n", cmd.CommandPath(), cmd.Short, strings.TrimSpace(cmd.Long))
	case cmd.IsAvailableCommand() || !cmd.HasParent():
		cmd.DisableAutoGenTag = true
		if err := doc.GenMarkdownCustom(cmd, &b, func(name string) string { return name }); err != nil {
			return fmt.Errorf("page of %s: %w", cmd.CommandPath(), err)
		}
	default:
		return nil
	}
	out[strings.ReplaceAll(cmd.CommandPath(), " ", "_")+".md"] = b.Bytes()
	for _, c := range cmd.Commands() {
		if err := add(out, c); err != nil {
			return err
		}
	}
	return nil
}

// whole is an engine with all parts, so that every command is there. Nothing here
// runs one.
func whole() cli.Engine {
	return cli.Engine{
		Up:     func(context.Context, cli.UpOptions, cli.IOStreams) error { return nil },
		Worker: func(context.Context, cli.WorkerOptions, cli.IOStreams) error { return nil },
		Serve:  func(context.Context, cli.ServeOptions, cli.IOStreams) error { return nil },
		Lab:    func(context.Context, cli.LabOptions, cli.IOStreams) error { return nil },
		Plan: func(context.Context, cli.PlanOptions, cli.IOStreams) (cli.PlanResult, error) {
			return cli.PlanResult{}, nil
		},
		Check: func(context.Context, cli.CheckOptions, cli.IOStreams) (cli.CheckResult, error) {
			return cli.CheckResult{}, nil
		},
		Drill: func(context.Context, cli.DrillOptions, cli.IOStreams) (cli.DrillSession, error) {
			return cli.DrillSession{}, nil
		},
		Bench: func(context.Context, cli.BenchOptions, cli.IOStreams) (cli.BenchResult, error) {
			return cli.BenchResult{}, nil
		},
		Doctor: func(context.Context, cli.DoctorOptions, cli.IOStreams) (cli.DoctorResult, error) {
			return cli.DoctorResult{}, nil
		},
		Promote: func(context.Context, cli.PromoteOptions, cli.IOStreams) (cli.PromoteResult, error) {
			return cli.PromoteResult{}, nil
		},
		Builds: func(context.Context, cli.BuildsOptions, cli.IOStreams) (cli.BuildsResult, error) {
			return cli.BuildsResult{}, nil
		},
	}
}
