package worker

import (
	"io"
	"log/slog"

	"github.com/spf13/pflag"

	"rekey/internal/cli"
	"rekey/internal/config"
)

// LoadConfig reads the configuration with the flags of a command over it; empty
// values are not flags that were given.
func LoadConfig(c cli.Common, flags map[string]string) (*config.Config, error) {
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
	if err != nil {
		return nil, &cli.Error{Code: cli.CodeUsage, Message: err.Error(), Do: "mend the configuration; nothing was started", Err: err}
	}
	return cfg, nil
}

// NewLog writes structured lines to w.
func NewLog(w io.Writer, level string) *slog.Logger {
	var l slog.Level
	if level == "" || l.UnmarshalText([]byte(level)) != nil {
		l = slog.LevelWarn
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: l}))
}
