package cli_test

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"

	"rekey/internal/cli"
	"rekey/internal/gen/clidocs/page"
)

func TestPagesAreFresh(t *testing.T) {
	pages, err := page.All()
	require.NoError(t, err)
	dir := filepath.Join("..", "..", "docs", "cli")
	files, err := filepath.Glob(filepath.Join(dir, "rekey*.md"))
	require.NoError(t, err)
	require.Len(t, files, len(pages), "pages of commands that are gone, or missing: go generate ./internal/cli")
	for name, want := range pages {
		got, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		require.Equal(t, string(want), string(got), "%s is stale: go generate ./internal/cli", name)
	}
}

// A newcomer reads the examples first: every command that does something has one,
// and each example is of that command.
func TestEveryCommandHasAnExample(t *testing.T) {
	streams := cli.IOStreams{Out: io.Discard, Err: io.Discard, Env: func(string) (string, bool) { return "", false }, Now: time.Now}
	root := cli.Root(streams, cli.Engine{Up: func(context.Context, cli.UpOptions, cli.IOStreams) error { return nil }})
	seen := 0
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		if c.HasParent() && !c.IsAdditionalHelpTopicCommand() {
			seen++
			require.NotEmpty(t, c.Short, c.CommandPath())
			require.Contains(t, c.Example, c.CommandPath(), "an example of %s", c.CommandPath())
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(root)
	require.Greater(t, seen, 30)
}
