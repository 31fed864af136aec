// Command playbookdocs writes the two generated pages about playbooks. It is run by
// go generate in internal/playbook; a test there fails while they are out of date.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"rekey/internal/playbook"
)

func main() {
	dir := filepath.Join("..", "..", "docs")
	if len(os.Args) > 1 {
		dir = os.Args[1]
	}
	for name, text := range map[string]string{
		"playbook-problems.md": playbook.ProblemsPage(),
		"playbook-facts.md":    playbook.FactsPage(),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil { //nolint:gosec // documentation is public
			fmt.Fprintln(os.Stderr, "playbookdocs:", err)
			os.Exit(1)
		}
	}
}
