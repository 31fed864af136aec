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
	"rekey/internal/config"
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

// startLab runs a lab inside this process and makes it the only provider.
func startLab(ctx context.Context, cfg *config.Config, name string, io cli.IOStreams) (func(), error) {
	d, err := Scenario(name)
	if err != nil {
		return nil, err
	}
	s, err := lab.New(lab.Options{Dir: cfg.Data, Scenario: d})
	if err != nil {
		return nil, err
	}
	run, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.Run(run); err != nil && run.Err() == nil {
			fmt.Fprintln(io.Err, "lab ended:", err)
		}
	}()
	if err := UseLab(cfg, "http://"+s.Addrs().Provider, s.Engine()); err != nil {
		cancel()
		return nil, err
	}
	if err := os.Setenv(control.EnvURL, "http://"+s.Addrs().Control); err != nil {
		cancel()
		return nil, err
	}
	if err := os.Setenv(control.EnvToken, s.Token()); err != nil {
		cancel()
		return nil, err
	}
	fmt.Fprintf(io.Err, "lab %s plays the provider: nothing real is touched\n", d.Name)
	return func() { cancel(); <-done }, nil
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

// UseLab makes the lab's account the only one that is configured.
func UseLab(cfg *config.Config, base string, engine control.Secret) error {
	dir := filepath.Join(cfg.Data, "lab")
	if err := fsx.MkdirPrivate(dir); err != nil {
		return err
	}
	if err := writeCredential(dir, engine); err != nil {
		return err
	}
	id, key := filepath.Join(dir, "engine-id"), filepath.Join(dir, "engine-key")
	cfg.Providers = map[string]map[string]config.Account{"awsiam": {"lab": {
		AccountID: lab.AccountID, Regions: []string{"us-east-1", "eu-central-1"}, BaseURL: base, AllowPrivate: true,
		Credentials: map[string]string{"access_key_id_file": id, "secret_access_key_file": key},
	}}}
	return nil
}
