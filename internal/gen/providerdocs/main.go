// Command providerdocs writes docs/providers/<code>.md from the descriptors, so
// that a page cannot promise what the code does not. Run it at the root of the
// module: go run ./internal/gen/providerdocs. A test in activities/all fails when
// a page is stale.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"rekey/activities/all"
	"rekey/internal/gen/providerdocs/page"
)

func main() {
	if err := write(filepath.Join("docs", "providers")); err != nil {
		fmt.Fprintln(os.Stderr, "providerdocs:", err)
		os.Exit(1)
	}
}

func write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // documentation is public
		return err
	}
	for _, p := range all.Providers() {
		notes, err := page.Notes(dir, p.Descriptor.Code)
		if err != nil {
			return err
		}
		if err := os.WriteFile(page.Path(dir, p.Descriptor.Code), []byte(page.Render(p.Descriptor, notes)), 0o644); err != nil { //nolint:gosec // documentation
			return err
		}
	}
	return nil
}
