package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"rekey/internal/build"
)

// build is the name under which workers of this program register.
func (a *app) build() string { return or(a.engine.Build, build.ID()) }

// BuildsOptions are the flags of `rekey worker builds`.
type BuildsOptions struct {
	Common
	ClusterOptions
	// Build names this build.
	Build string
}

// SchemaBuilds is the schema of [BuildsResult].
const SchemaBuilds = "rekey.builds/v1"

// A BuildsResult is which builds run incidents, and which may be stopped.
type BuildsResult struct {
	Schema string `json:"schema"`
	// Build is that of the program that asked.
	Build string `json:"build"`
	// Current is the build with which incidents start and go on; empty: workers
	// without a name.
	Current string       `json:"current"`
	Builds  []BuildState `json:"builds"`
}

// A BuildState is one build that is current, polls, or is still needed.
type BuildState struct {
	Build   string `json:"build"` // empty: workers without a name
	Current bool   `json:"current"`
	// Workers is how many processes of it polled within 75 seconds.
	Workers int `json:"workers"`
	// Pinned are the open workflows that only this build may run.
	Pinned []string `json:"pinned"`
	// Needed: its workers may not be stopped.
	Needed bool `json:"needed"`
}

// PromoteOptions are the flags of `rekey worker promote`.
type PromoteOptions struct {
	BuildsOptions
	// KeepOld pins what this build would break to the build that knows it.
	KeepOld bool
}

// SchemaPromote is the schema of [PromoteResult].
const SchemaPromote = "rekey.promote/v1"

// A PromoteResult is what `rekey worker promote` did.
type PromoteResult struct {
	Schema string `json:"schema"`
	// Replayed is how many open workflows this build was shown to know.
	Replayed int `json:"replayed"`
	// Pinned are the open workflows that stay with another build, Freed those that no
	// longer have to.
	Pinned []string `json:"pinned"`
	Freed  []string `json:"freed"`
	// Was is the build that was current before.
	Was    string       `json:"was"`
	Builds BuildsResult `json:"builds"`
}

func (a *app) promoteCommand() *cobra.Command {
	if a.engine.Promote == nil {
		return nil
	}
	o := PromoteOptions{}
	cmd := &cobra.Command{
		Use:   "promote",
		Short: "Let incidents start and go on with this build",
		Long: `promote makes the build that this very program is the current one. It replays every
open incident first and changes nothing where this build would break one, naming it.
With --keep-old those incidents stay with the build that knows them, as a whole, and
everything else moves; they are moved by a later promote of a build that knows them.
12 seconds later it looks again, for what was under way meanwhile.

Run it with the new program while a worker of it polls. It is safe to repeat. To go
back, run it with the former program.`,
		Example: example("rekey worker promote", "rekey worker promote --keep-old", "rekey worker promote --json"),
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Common, o.Build = a.common(), a.build()
			if err := o.check(); err != nil {
				return err
			}
			r, err := a.engine.Promote(cmd.Context(), o, a.io)
			if err != nil {
				return err
			}
			r.Schema, r.Builds.Schema = SchemaPromote, SchemaBuilds
			if a.asJSON {
				writeJSON(a.io.Out, r)
				return nil
			}
			cleanAll(&r)
			fmt.Fprintf(a.io.Out, "build %s is current (before: %s); %s replayed\n", named(r.Builds.Current), named(r.Was), count(r.Replayed, "open workflow", "open workflows"))
			a.showBuilds(r.Builds)
			return nil
		},
	}
	clusterFlags(cmd, &o.ClusterOptions)
	cmd.Flags().BoolVar(&o.KeepOld, "keep-old", false, "leave the incidents that this build would break with the build that knows them")
	return cmd
}

func (a *app) buildsCommand() *cobra.Command {
	if a.engine.Builds == nil {
		return nil
	}
	o := BuildsOptions{}
	cmd := &cobra.Command{
		Use:     "builds",
		Short:   "Show which builds run incidents, and which may be stopped",
		Example: example("rekey worker builds", "rekey worker builds --json"),
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Common, o.Build = a.common(), a.build()
			if err := o.check(); err != nil {
				return err
			}
			r, err := a.engine.Builds(cmd.Context(), o, a.io)
			if err != nil {
				return err
			}
			r.Schema = SchemaBuilds
			if a.asJSON {
				writeJSON(a.io.Out, r)
				return nil
			}
			cleanAll(&r)
			a.showBuilds(r)
			return nil
		},
	}
	clusterFlags(cmd, &o.ClusterOptions)
	return cmd
}

func (a *app) showBuilds(r BuildsResult) {
	t := table{}
	t.add("BUILD", "WORKERS", "PINNED", "")
	for _, b := range r.Builds {
		t.add(named(b.Build), fmt.Sprint(b.Workers), fmt.Sprint(len(b.Pinned)), buildNote(b))
	}
	fmt.Fprintln(a.io.Out, strings.Join(t.lines(""), "\n"))
}

func buildNote(b BuildState) string {
	switch {
	case b.Current && b.Workers == 0:
		return "current, and nobody runs it: start it, or promote another"
	case b.Current:
		return "current"
	case b.Needed && b.Workers == 0:
		return "start it again: it alone may run " + strings.Join(b.Pinned, ", ")
	case b.Needed:
		return "keep it until these have ended: " + strings.Join(b.Pinned, ", ")
	}
	return "may be stopped"
}

// named is how a build is written.
func named(build string) string { return or(build, "(without a name)") }
