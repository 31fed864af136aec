// Package drills holds the drills rekey ships with. To add one, put a `<name>.yaml` here whose
// `name` is its file name; TestEveryDrillLoads checks it.
package drills

import (
	"embed"
	"io/fs"
	"strings"

	"rekey/internal/lab/scenario"
)

//go:embed *.yaml
var files embed.FS

// Names lists the drills in alphabetical order.
func Names() []string {
	entries, err := fs.Glob(files, "*.yaml")
	if err != nil {
		panic(err) // the pattern is constant
	}
	for i, e := range entries {
		entries[i] = strings.TrimSuffix(e, ".yaml")
	}
	return entries
}

// Load gives a shipped drill by name. The error is fs.ErrNotExist for a name there is none of.
func Load(name string) (*scenario.Drill, error) {
	data, err := Source(name)
	if err != nil {
		return nil, err
	}
	return scenario.Load("drills/"+name+".yaml", data)
}

// Source gives the text of a shipped drill.
func Source(name string) ([]byte, error) { return files.ReadFile(name + ".yaml") }
