package build

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRevisionNamesOnlyCleanTrees(t *testing.T) {
	const rev = "0123456789abcdef0123456789abcdef01234567"
	for name, c := range map[string]struct {
		settings map[string]string
		want     string
	}{
		"clean":             {map[string]string{"vcs.revision": rev, "vcs.modified": "false"}, "rev-0123456789ab"},
		"changed":           {map[string]string{"vcs.revision": rev, "vcs.modified": "true"}, ""},
		"nobody knows":      {map[string]string{"vcs.revision": rev}, ""},
		"not from a tree":   {map[string]string{}, ""},
		"no whole revision": {map[string]string{"vcs.revision": "01", "vcs.modified": "false"}, ""},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, c.want, revision(c.settings)) })
	}
}

func TestFilesOfDifferentContentHaveDifferentNames(t *testing.T) {
	write := func(name, text string) string {
		path := filepath.Join(t.TempDir(), name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	one, same, other := file(write("one", "a")), file(write("same", "a")), file(write("other", "b"))
	require.Regexp(t, `^bin-[0-9a-f]{12}$`, one)
	require.Equal(t, one, same, "where the file lies is no part of it")
	require.NotEqual(t, one, other)
	require.Empty(t, file(filepath.Join(t.TempDir(), "none")))
	require.NotEmpty(t, ID(), "this very test has a name")
}
