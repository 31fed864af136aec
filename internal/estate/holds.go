package estate

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"go.yaml.in/yaml/v3"

	"rekey/workflows"
)

// hold is one entry of holds.yaml.
type hold struct {
	Key   string    `yaml:"key"`
	By    string    `yaml:"by"`
	Why   string    `yaml:"why"`
	Until time.Time `yaml:"until"`
}

// Holds reads the standing holds: a file of `holds: [{key, by, why, until}]`. No
// path means no holds; a file that is named and cannot be read is an error,
// because what it holds must not move.
func Holds(path string) ([]workflows.StandingHold, error) {
	if path == "" {
		return nil, nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("holds: %w", err)
	}
	var f struct {
		Holds []hold `yaml:"holds"`
	}
	d := yaml.NewDecoder(bytes.NewReader(b))
	d.KnownFields(true)
	if err := d.Decode(&f); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("holds %s: %w", filepath.Base(path), err)
	}
	out := make([]workflows.StandingHold, 0, len(f.Holds))
	for i, h := range f.Holds {
		if h.Key == "" || h.By == "" || h.Why == "" {
			return nil, fmt.Errorf("holds %s: holds[%d]: key, by and why are needed", filepath.Base(path), i)
		}
		out = append(out, workflows.StandingHold{KeyID: h.Key, By: h.By, Why: h.Why, Until: h.Until})
	}
	return out, nil
}
