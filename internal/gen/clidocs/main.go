// Command clidocs writes docs/cli from the commands. It is run by go generate in
// internal/cli; a test there fails while the pages are stale.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"rekey/internal/gen/clidocs/page"
)

func main() {
	dir := flag.String("out", filepath.Join("docs", "cli"), "directory of the pages")
	flag.Parse()
	if err := write(*dir); err != nil {
		fmt.Fprintln(os.Stderr, "clidocs:", err)
		os.Exit(1)
	}
}

// write replaces every page; a page of a command that is gone goes too.
func write(dir string) error {
	pages, err := page.All()
	if err != nil {
		return err
	}
	old, err := filepath.Glob(filepath.Join(dir, "rekey*.md"))
	if err != nil {
		return err
	}
	for _, name := range old {
		if _, ok := pages[filepath.Base(name)]; !ok {
			if err := os.Remove(name); err != nil {
				return err
			}
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // documentation
		return err
	}
	for name, text := range pages {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil { //nolint:gosec // documentation
			return err
		}
	}
	return nil
}
