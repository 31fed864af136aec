package config

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/go-viper/mapstructure/v2"
	"github.com/spf13/pflag"
	"github.com/spf13/viper"
)

// Load finds rekey.yaml (flag --config, REKEY_CONFIG, ./rekey.yaml,
// $XDG_CONFIG_HOME/rekey/rekey.yaml), reads it, and lays variables and then the
// flags of fs over it. No file is no error, unless one was named. fs may be nil;
// see [BindFlags]. Everything wrong is in one *InvalidError. It reads no secret
// and makes nothing.
func Load(fs *pflag.FlagSet) (*Config, error) {
	name, err := locate(fs)
	if err != nil {
		return nil, err
	}
	f := &file{values: map[string]any{}}
	if name != "" {
		if f, err = readFile(name); err != nil {
			return nil, err
		}
	}
	return build(f, fs)
}

// Parse is Load of a text without variables' search and without flags; dir is
// what relative paths stand under. Variables still override.
func Parse(raw []byte, dir string) (*Config, error) {
	f, err := parseFile("rekey.yaml", filepath.Join(dir, "rekey.yaml"), raw)
	if err != nil {
		return nil, err
	}
	f.path = ""
	return build(f, nil)
}

// locate gives the file to read, "" when there is none.
func locate(fs *pflag.FlagSet) (string, error) {
	if fs != nil {
		if f := fs.Lookup("config"); f != nil && f.Value.String() != "" {
			return f.Value.String(), nil
		}
	}
	if v := os.Getenv("REKEY_CONFIG"); v != "" {
		return v, nil
	}
	candidates := []string{"rekey.yaml"}
	if dir, err := os.UserConfigDir(); err == nil {
		candidates = append(candidates, filepath.Join(dir, "rekey", "rekey.yaml"))
	}
	for _, c := range candidates {
		switch _, err := os.Stat(c); {
		case err == nil:
			return c, nil
		case !os.IsNotExist(err):
			return "", &InvalidError{[]Problem{{Where: c, Text: "cannot be looked at: check the permissions of its directory, or name a file with --config"}}}
		}
	}
	return "", nil
}

// flagKeys are the keys that have a flag of their own.
var flagKeys = map[string]string{
	"data":               "directory of everything rekey keeps",
	"listen.http":        "address of the HTTP server",
	"listen.temporal":    "address of the embedded Temporal frontend",
	"listen.ui":          "address of the Temporal UI",
	"listen.metrics":     "address of the metrics endpoint",
	"temporal.address":   "address of an external Temporal frontend",
	"temporal.namespace": "Temporal namespace",
}

// FlagName is the flag of a key: "listen.http" is --listen-http.
func FlagName(key string) string { return strings.NewReplacer(".", "-", "_", "-").Replace(key) }

// BindFlags defines --config and the flags of the keys given ("listen.http" is
// --listen-http), or of every key that has one. A flag that fs has already is
// left alone; [Load] takes its value all the same.
func BindFlags(fs *pflag.FlagSet, keys ...string) {
	if fs.Lookup("config") == nil {
		fs.String("config", "", "configuration file (default ./rekey.yaml, then $XDG_CONFIG_HOME/rekey/rekey.yaml)")
	}
	if len(keys) == 0 {
		keys = sortedKeys(flagKeys)
	}
	for _, key := range keys {
		if fs.Lookup(FlagName(key)) == nil {
			fs.String(FlagName(key), "", flagKeys[key])
		}
	}
}

func build(f *file, fs *pflag.FlagSet) (*Config, error) {
	tree := schema()
	v := viper.New()
	tree.each("", func(key string, val *value) {
		if val.def != nil {
			v.SetDefault(key, val.def)
		}
	})
	if err := v.MergeConfigMap(f.values); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	var problems []Problem
	check := func(where, key, raw string, val *value) {
		for _, one := range split(raw, val) {
			if err := val.valid(one); err != nil {
				problems = append(problems, Problem{where, key, err.Error()})
			}
		}
	}
	known := v.AllKeys()
	tree.each("", func(key string, _ *value) { known = append(known, key) })
	set, strange := environment(tree, known)
	for _, key := range sortedKeys(set) {
		if err := v.BindEnv(key, set[key]); err != nil {
			return nil, fmt.Errorf("configuration: %w", err)
		}
		if val := tree.find(key); val != nil {
			check(set[key], key, os.Getenv(set[key]), val)
		}
	}
	for key := range flagKeys {
		if fs == nil {
			break
		}
		if flag := fs.Lookup(FlagName(key)); flag != nil && flag.Changed {
			if err := v.BindPFlag(key, flag); err != nil {
				return nil, fmt.Errorf("configuration: %w", err)
			}
			check("--"+flag.Name, key, flag.Value.String(), tree.find(key))
		}
	}
	if len(problems) > 0 {
		slices.SortFunc(problems, func(a, b Problem) int { return strings.Compare(a.Where, b.Where) })
		return nil, &InvalidError{problems}
	}
	c := &Config{File: f.path}
	if err := v.UnmarshalExact(c, viper.DecodeHook(mapstructure.ComposeDecodeHookFunc(
		mapstructure.TextUnmarshallerHookFunc(), mapstructure.StringToSliceHookFunc(",")))); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	named := c.namedVariables()
	for _, s := range strange {
		if named[s] {
			continue
		}
		c.Warnings = append(c.Warnings, s+" is set and names no key of rekey.yaml, nor does a *_env key name it: check its spelling, or ignore this if it is your own")
	}
	return c, c.finish(f.path)
}

func split(raw string, v *value) []string {
	if v.kind == list || v.kind == manyPaths {
		return strings.Split(raw, ",")
	}
	return []string{raw}
}

// namedVariables are those that a *_env key of an account reads.
func (c *Config) namedVariables() map[string]bool {
	out := map[string]bool{}
	for _, accounts := range c.Providers {
		for _, a := range accounts {
			for key, name := range a.Credentials {
				if strings.HasSuffix(key, "_env") {
					out[name] = true
				}
			}
		}
	}
	return out
}
