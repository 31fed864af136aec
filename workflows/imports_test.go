package workflows_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestImports holds workflow code to design section 5: it imports activities,
// playbooks and plain types, and never a provider, a network, a file system, a
// configuration, a logger or the rule engine. What the SDK itself needs is not
// asked about: the list is of our own packages and of what they import directly.
func TestImports(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "-f", `{{if not .Standard}}{{.ImportPath}}:{{range .Imports}} {{.}}{{end}}{{end}}`, "rekey/workflows").Output()
	require.NoError(t, err)
	ours := map[string][]string{}
	for line := range strings.Lines(string(out)) {
		pkg, imports, _ := strings.Cut(strings.TrimSpace(line), ":")
		if pkg == "rekey" || strings.HasPrefix(pkg, "rekey/") {
			ours[pkg] = strings.Fields(imports)
		}
	}
	require.NotEmpty(t, ours["rekey/workflows"])
	plain := map[string]bool{
		"rekey/workflows": true, "rekey/activities": true, "rekey/activities/notify": true, "rekey/playbooks": true, "rekey/internal/canon": true, "rekey/internal/event": true,
		"rekey/internal/page": true, "rekey/internal/plan": true, "rekey/internal/secret": true, "rekey/internal/statement": true, "rekey/internal/view": true,
	}
	never := []string{"os", "os/", "net", "net/http", "log/slog", "math/rand", "crypto/rand", "github.com/spf13/viper", "cel.dev/", "go.temporal.io/server", "go.temporal.io/sdk/activity", "go.temporal.io/sdk/client", "go.temporal.io/sdk/worker"}
	// What plain types need of these: a provider is opened with an HTTP client, and a
	// secret's value refuses to be logged. Neither is reached by a workflow, which
	// workflowcheck sees to.
	known := map[string]bool{"rekey/activities net/http": true, "rekey/internal/secret log/slog": true}
	for pkg, imports := range ours {
		require.True(t, plain[pkg], "%s is not a package for workflow code", pkg)
		for _, imp := range imports {
			for _, bad := range never {
				if imp == bad || (strings.HasSuffix(bad, "/") && strings.HasPrefix(imp, bad)) {
					require.True(t, known[pkg+" "+imp], "%s imports %s", pkg, imp)
				}
			}
		}
	}
}
