package embedded

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"go.yaml.in/yaml/v3"

	"rekey/internal/cli"
	"rekey/internal/config"
	"rekey/internal/drill"
	"rekey/internal/fsx"
	"rekey/internal/lab"
	"rekey/internal/lab/control"
	"rekey/internal/lab/scenario"
)

// liveWorld is a scenario as a person plays it by hand. Nobody moves its clock, so
// it begins now and goes with the wall clock; and nothing kills the process that
// the person has in front of them.
func liveWorld(d *scenario.Drill) *scenario.Drill {
	live := *d
	live.Clock.Mode, live.Clock.T0 = "real", scenario.RFC3339{}
	live.Faults = slices.DeleteFunc(slices.Clone(d.Faults), func(f scenario.Fault) bool { return f.What == "worker-kill" })
	return &live
}

// startLab runs a lab inside this process, makes it the only provider, and says
// which keys there are to report.
func startLab(ctx context.Context, cfg *config.Config, name string, io cli.IOStreams) (func(), error) {
	d, err := Scenario(name)
	if err != nil {
		return nil, err
	}
	if exists(cfg.Data, "temporal.db") && !exists(cfg.Data, "lab") {
		return nil, cli.Usage("give the lab a directory of its own, such as --data ./lab-data", "%s holds a real installation", cfg.Data)
	}
	d = liveWorld(d)
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
	stop := func() { cancel(); <-done }
	if err := settleIn(ctx, cfg, s, d, io); err != nil {
		stop()
		return nil, err
	}
	return stop, nil
}

// settleIn tells rekey of the lab: its account, its estate, its control API.
func settleIn(ctx context.Context, cfg *config.Config, s *lab.Server, d *scenario.Drill, io cli.IOStreams) error {
	dir := filepath.Join(cfg.Data, "lab")
	if err := announce(dir, s); err != nil {
		return err
	}
	const provider, account = "awsiam", "lab"
	cfg.Providers = map[string]map[string]config.Account{provider: {account: {
		AccountID: lab.AccountID, Regions: []string{"us-east-1", "eu-central-1"}, BaseURL: "http://" + s.Addrs().Provider, AllowPrivate: true,
		Credentials: map[string]string{"access_key_id_file": filepath.Join(dir, "engine-id"), "secret_access_key_file": filepath.Join(dir, "engine-key")},
	}}}
	info, err := s.Client().Info(ctx)
	if err != nil {
		return fmt.Errorf("the lab does not answer: %w", err)
	}
	if len(cfg.Estate.Files) == 0 {
		b, err := yaml.Marshal(drill.Estate(d, 1, info.Aliases, provider, account))
		if err != nil {
			return err
		}
		path := filepath.Join(dir, "estate.yaml")
		if err := fsx.WriteAtomic(path, b); err != nil {
			return err
		}
		cfg.Estate.Files = []string{path}
	}
	for name, v := range map[string]string{control.EnvURL: "http://" + s.Addrs().Control, control.EnvToken: s.Token()} {
		if err := os.Setenv(name, v); err != nil {
			return err
		}
	}
	fmt.Fprintf(io.Err, "lab %s plays AWS since %s: nothing real is touched. Its keys, with their secrets in files beside:\n", d.Name, info.T0.Format(time.DateTime+"Z"))
	for _, k := range d.Estate.Keys {
		file := k.ID + ".secret"
		if !exists(dir, file) { // written once: the lab forgets the secret of a key that is deleted
			sec, err := s.Client().Secret(ctx, k.ID)
			if err != nil {
				return fmt.Errorf("the lab gives no secret of %s: %w", k.ID, err)
			}
			if err := fsx.WriteAtomic(filepath.Join(dir, file), []byte(sec.SecretKey+"\n")); err != nil {
				return err
			}
		}
		fmt.Fprintf(io.Err, "  %-8s  %s  user %-14s %s\n", k.ID, info.Aliases[k.ID], k.User, filepath.Join(dir, file))
	}
	return nil
}

func exists(dir, name string) bool {
	_, err := os.Stat(filepath.Join(dir, name))
	return err == nil
}
