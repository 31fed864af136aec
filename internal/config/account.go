package config

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"rekey/activities"
	"rekey/internal/fsx"
	"rekey/internal/nearest"
	"rekey/internal/secret"
	"rekey/playbooks"
)

// Account is one configured account of a provider.
type Account struct {
	AccountID    string   `mapstructure:"account_id"`
	Regions      []string `mapstructure:"regions"`
	BaseURL      string   `mapstructure:"base_url"`
	CAFile       string   `mapstructure:"ca_file"`
	AllowPrivate bool     `mapstructure:"allow_private"`
	// Credentials are references: <name>_file or <name>_env.
	Credentials map[string]string `mapstructure:"credentials"`
	// Rate bounds calls by the name of the provider's limit.
	Rate map[string]playbooks.Rate `mapstructure:"rate"`
	// Settings are the provider's own, by name; its page lists them.
	Settings map[string]string `mapstructure:"settings"`
}

func (a Account) check(key string, bad func(string, string, ...any)) {
	for _, k := range sortedKeys(a.Credentials) {
		base, isFile := strings.CutSuffix(k, "_file")
		if _, both := a.Credentials[base+"_env"]; isFile && both {
			bad(key+".credentials."+base, "given as %s_file and as %s_env: keep one", base, base)
		}
	}
	if a.CAFile != "" {
		if _, err := os.Stat(a.CAFile); err != nil {
			bad(key+".ca_file", "%s cannot be read: check the path and its permissions", a.CAFile)
		}
	}
	for _, k := range sortedKeys(a.Settings) {
		if asksForSecret(k) {
			bad(key+".settings."+k, "a secret is never in this file: give it under credentials as `%s_file: PATH` or `%s_env: NAME`; treat the value as exposed", k, k)
		}
	}
}

// maxCredential bounds the file of one of our own credentials.
const maxCredential = 64 << 10

// Account gives a provider its account by name; its settings are account_id,
// base_url, those under settings, and each rate as "rate.<name>". The error names
// the nearest configured one. Credential reads file or variable at each call, so that a
// rotated credential needs no restart.
func (c *Config) Account(provider, account string) (activities.Account, error) {
	a, ok := c.Providers[provider][account]
	if !ok {
		names := slices.Sorted(maps.Keys(c.Providers[provider]))
		do := fmt.Sprintf("add providers.%s.%s to rekey.yaml", provider, account)
		if n := nearest.Word(account, names); n != "" {
			do = fmt.Sprintf("did you mean %q?", n)
		} else if len(names) > 0 {
			do = "configured: " + strings.Join(names, ", ")
		}
		return activities.Account{}, fmt.Errorf("no account %q of provider %q is configured: %s", account, provider, do)
	}
	settings := map[string]string{}
	maps.Copy(settings, a.Settings)
	for k, v := range map[string]string{"account_id": a.AccountID, "base_url": a.BaseURL} {
		if v != "" {
			settings[k] = v
		}
	}
	for k, v := range a.Rate {
		settings["rate."+k] = string(v)
	}
	at := "providers." + provider + "." + account + ".credentials."
	references := maps.Clone(a.Credentials)
	return activities.Account{
		Name: account, Settings: settings, Regions: slices.Clone(a.Regions), AllowPrivate: a.AllowPrivate, CAFile: a.CAFile,
		Credential: func(name string) (secret.Value, error) { return credential(at, references, name) },
	}, nil
}

// Accounts lists the configured accounts of a provider, sorted.
func (c *Config) Accounts(provider string) []string {
	return slices.Sorted(maps.Keys(c.Providers[provider]))
}

func credential(at string, references map[string]string, name string) (secret.Value, error) {
	if path := references[name+"_file"]; path != "" {
		raw, err := fsx.ReadPrivate(path, maxCredential)
		defer clear(raw)
		var open *fsx.PermissionError
		switch {
		case errors.As(err, &open):
			return secret.Value{}, fmt.Errorf("%s%s_file: %w", at, name, err)
		case errors.Is(err, fs.ErrNotExist):
			return secret.Value{}, fmt.Errorf("%s%s_file: %s does not exist: put the credential there, mode 0600", at, name, path)
		case err != nil:
			return secret.Value{}, fmt.Errorf("%s%s_file: %s cannot be read: check that it is a plain file of at most 64 KiB that rekey's user owns", at, name, path)
		}
		return nonEmpty(at+name+"_file", bytes.TrimRight(raw, "\r\n"))
	}
	if variable := references[name+"_env"]; variable != "" {
		return nonEmpty(at+name+"_env ("+variable+")", []byte(os.Getenv(variable)))
	}
	return secret.Value{}, fmt.Errorf("%s%s: not configured: give %s_file: PATH or %s_env: NAME", at, name, name, name)
}

func nonEmpty(where string, b []byte) (secret.Value, error) {
	if len(b) == 0 {
		return secret.Value{}, fmt.Errorf("%s is empty: put the credential there", where)
	}
	return secret.New(b), nil
}
