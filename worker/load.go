package worker

import (
	"fmt"
	"maps"
	"slices"

	"github.com/spf13/pflag"

	"rekey/internal/cli"
	"rekey/internal/config"
	"rekey/internal/estate"
	"rekey/internal/people"
)

// LoadConfig reads the configuration with the flags of a command over it, and the
// files that it names. Empty values are not flags that were given.
func LoadConfig(c cli.Common, flags map[string]string) (*config.Config, error) {
	cfg, err := loadFile(c, flags)
	if err != nil {
		return nil, err
	}
	if err := invalid(named(cfg)); err != nil {
		return nil, err
	}
	return cfg, nil
}

// loadFile is LoadConfig without the files that it names.
func loadFile(c cli.Common, flags map[string]string) (*config.Config, error) {
	fs := pflag.NewFlagSet("rekey", pflag.ContinueOnError)
	all := map[string]string{"config": c.Config, "data": c.Data}
	for k, v := range flags {
		all[config.FlagName(k)] = v
	}
	for name, v := range all {
		fs.String(name, "", "")
		if v == "" {
			continue
		}
		if err := fs.Set(name, v); err != nil {
			return nil, err
		}
	}
	cfg, err := config.Load(fs)
	return cfg, invalid(err)
}

// named reads the files that the configuration names, so that a mistake in one of
// them is found before anything starts.
func named(cfg *config.Config) error {
	for _, name := range slices.Sorted(maps.Keys(cfg.People)) {
		if file := cfg.People[name].CLIKeyFile; file != "" {
			if _, err := people.LoadPublic(file); err != nil {
				return fmt.Errorf("people.%s.cli_key_file: %w", name, err)
			}
		}
	}
	_, err := estate.Load(cfg.Estate.Files, cfg.Customers.Files, nil)
	return err
}

func invalid(err error) error {
	if err == nil {
		return nil
	}
	return &cli.Error{Code: cli.CodeUsage, Message: err.Error(), Do: "mend the configuration; nothing was started", Err: err}
}
