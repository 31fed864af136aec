package embedded

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"rekey/drills"
	"rekey/internal/cli"
	"rekey/internal/drill"
	"rekey/internal/fsx"
	"rekey/internal/lab"
	"rekey/internal/lab/control"
	"rekey/internal/lab/scenario"
)

// Lab runs the simulated providers in a process of their own until ctx ends.
func Lab(ctx context.Context, o cli.LabOptions, io cli.IOStreams) error {
	d, err := Scenario(o.Scenario)
	if err != nil {
		return err
	}
	scale := 1
	if v, err := strconv.Atoi(os.Getenv(drill.EnvLabScale)); err == nil {
		scale = v
	}
	s, err := lab.New(lab.Options{Dir: o.Dir, Scenario: d, Listen: o.Listen, Scale: scale})
	if err != nil {
		return err
	}
	if err := announce(filepath.Join(o.Dir, "lab"), s); err != nil {
		return err
	}
	fmt.Fprintf(io.Err, "lab %s: provider http://%s, control http://%s, state and token in %s\n", d.Name, s.Addrs().Provider, s.Addrs().Control, filepath.Join(o.Dir, "lab"))
	return s.Run(ctx)
}

// Scenario finds a drill by its name or file.
func Scenario(name string) (*scenario.Drill, error) {
	if name == "" {
		name = "imperva-2018"
	}
	if slices.Contains(drills.Names(), name) {
		return drills.Load(name)
	}
	b, err := os.ReadFile(filepath.Clean(name))
	if err != nil {
		return nil, cli.Usage("`rekey drill list` names those that are there; or give a file", "no drill %q", name)
	}
	return scenario.Load(filepath.Base(name), b)
}

// announce writes where the lab listens, and the credential that it gives the
// engine, into files of its directory.
func announce(dir string, s *lab.Server) error {
	if err := writeCredential(dir, s.Engine()); err != nil {
		return err
	}
	b, err := json.Marshal(drill.Addrs{Provider: "http://" + s.Addrs().Provider, Control: "http://" + s.Addrs().Control, KeyID: s.Engine().KeyID})
	if err != nil {
		return err
	}
	return fsx.WriteAtomic(filepath.Join(dir, drill.AddrsFile), b)
}

func writeCredential(dir string, engine control.Secret) error {
	if err := fsx.WriteAtomic(filepath.Join(dir, "engine-id"), []byte(engine.KeyID+"\n")); err != nil {
		return err
	}
	return fsx.WriteAtomic(filepath.Join(dir, "engine-key"), []byte(engine.SecretKey+"\n"))
}
