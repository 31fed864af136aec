package houserules

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// skipped are folders that no commit holds.
var skipped = map[string]bool{".git": true, "bin": true, "dist": true, "node_modules": true}

// root is the root of the module.
func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join("..", ".."))
	require.NoError(t, err)
	require.FileExists(t, filepath.Join(dir, "go.mod"))
	return dir
}

// each calls f with every text file of the tree, by its path from the root.
func each(t *testing.T, f func(name, text string)) {
	t.Helper()
	dir := root(t)
	n := 0
	err := filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && skipped[d.Name()]:
			return filepath.SkipDir
		case !d.Type().IsRegular():
			return nil
		}
		b, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // another test's passing file
		}
		if err != nil {
			return err
		}
		if utf8.Valid(b) {
			name, err := filepath.Rel(dir, file)
			if err != nil {
				return err
			}
			n++
			f(filepath.ToSlash(name), string(b))
		}
		return nil
	})
	require.NoError(t, err)
	require.Greater(t, n, 100, "the tree was not walked")
}

func TestGoFiles(t *testing.T) {
	commented := map[string]bool{} // by folder: has a package comment
	each(t, func(name, text string) {
		if path.Ext(name) != ".go" {
			return
		}
		for _, l := range leftovers(text) {
			t.Errorf("%s: %s: do it, or open an issue", name, l)
		}
		if why := tooLong(name, text); why != "" {
			t.Errorf("%s: %s", name, why)
		}
		if strings.HasSuffix(name, "_test.go") {
			return
		}
		ok, err := hasPackageComment(name, text)
		if err != nil {
			t.Errorf("%v", err)
			return
		}
		commented[path.Dir(name)] = commented[path.Dir(name)] || ok
	})
	for dir, ok := range commented {
		if !ok {
			t.Errorf("%s: no package comment: say what it is and how to extend it", dir)
		}
	}
}

func TestNoKeyLiterals(t *testing.T) {
	each(t, func(name, text string) {
		for _, what := range keyLiterals(text) {
			t.Errorf("%s: %s: make test keys at run time; secret scanners read this repository", name, what)
		}
	})
}

func TestDesignNotes(t *testing.T) {
	headings := map[string]string{}
	each(t, func(name, text string) {
		if path.Dir(name) == "docs/design" {
			headings[path.Base(name)], _, _ = strings.Cut(text, "\n")
		}
	})
	require.NotEmpty(t, headings)
	require.Empty(t, noteFaults(headings))
}

// TestLinks holds every page to links that lead somewhere.
func TestLinks(t *testing.T) {
	dir := root(t)
	each(t, func(name, text string) {
		if path.Ext(name) != ".md" {
			return
		}
		for _, target := range localLinks(text) {
			if _, err := os.Stat(filepath.Join(dir, filepath.FromSlash(path.Join(path.Dir(name), target)))); err != nil {
				t.Errorf("%s: the link to %s leads nowhere", name, target)
			}
		}
	})
}

// TestCommands holds the pages that tell people what to type to commands and flags
// that exist. docs/cli is generated from the code, and a test in internal/cli keeps it
// so; it is the manual here.
func TestCommands(t *testing.T) {
	dir := root(t)
	makefile, err := os.ReadFile(filepath.Join(dir, "Makefile"))
	require.NoError(t, err)
	m := manual{
		page: func(command string) string {
			b, err := os.ReadFile(filepath.Join(dir, "docs", "cli", strings.ReplaceAll(command, " ", "_")+".md"))
			if err != nil {
				return ""
			}
			return string(b)
		},
		target: func(name string) bool { return strings.Contains(string(makefile), "\n"+name+":") },
		exists: func(name string) bool {
			_, err := os.Stat(filepath.Join(dir, filepath.FromSlash(name)))
			return err == nil
		},
	}
	require.NotEmpty(t, m.page("rekey"))
	pages := map[string][]string{}
	each(t, func(name, text string) {
		if path.Ext(name) == ".md" {
			pages[name] = codeLines(text)
			for _, line := range pages[name] {
				if why := commandFault(line, m); why != "" {
					t.Errorf("%s: %q: %s", name, line, why)
				}
			}
		}
	})
	if len(pages["README.md"]) == 0 {
		t.Fatal("README.md is absent or gives no command")
	}
	for _, command := range []string{"go test ./...", "go run ./cmd/rekey drill run imperva-2018"} {
		require.Contains(t, pages["README.md"], command, "CI runs what the README says")
	}
}

// TestDependencies follows imports through other packages, which the import rules of
// the linter cannot.
func TestDependencies(t *testing.T) {
	const server = "go.temporal.io/server/"
	tests := map[string]struct {
		pkg string
		// only are the packages of rekey it may reach; nil: any.
		only []string
		// never are prefixes of what it must not reach.
		never []string
	}{
		"a workflow is plain types and pure functions": {
			pkg: "./workflows",
			only: []string{
				"rekey/activities", "rekey/activities/notify", "rekey/internal/canon", "rekey/internal/event", "rekey/internal/page", "rekey/internal/plan", "rekey/internal/secret",
				"rekey/internal/statement", "rekey/internal/view", "rekey/playbooks", "rekey/workflows",
			},
			never: []string{server, "cel.dev/", "github.com/spf13/viper", "github.com/aws/"},
		},
		"the contract of providers stands alone": {
			pkg: "./activities", only: []string{"rekey/activities", "rekey/internal/secret"}, never: []string{"go.temporal.io/"},
		},
		"a provider runs without Temporal":           {pkg: "./activities/awsiam", never: []string{"go.temporal.io/"}},
		"the command line does not link the server":  {pkg: "./internal/cli", never: []string{server}},
		"the worker does not link the server":        {pkg: "./worker", never: []string{server}},
		"a bundle is verified without an engine":     {pkg: "./internal/audit", never: []string{"go.temporal.io/", "rekey/activities", "rekey/workflows", "net/http"}},
		"the lab shares no code with what it judges": {pkg: "./internal/lab", never: []string{"go.temporal.io/", "github.com/aws/", "rekey/activities", "rekey/workflows", "rekey/playbooks"}},
	}
	dir := root(t)
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command("go", "list", "-deps", tt.pkg)
			cmd.Dir = dir
			var stderr strings.Builder
			cmd.Stderr = &stderr
			out, err := cmd.Output()
			require.NoError(t, err, stderr.String())
			deps := strings.Fields(string(out))
			require.Greater(t, len(deps), 10)
			for _, fault := range reachFaults(deps, tt.only, tt.never) {
				t.Errorf("%s %s", tt.pkg, fault)
			}
		})
	}
}
