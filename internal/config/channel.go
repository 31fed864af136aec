package config

import (
	"maps"
	"strconv"

	"rekey/activities"
	"rekey/internal/secret"
)

// Channel gives a channel what channels.<code> says, in the shape of a provider's
// account; false when it is not configured. Settings have the names of the file;
// Credential reads "<name>_file" at each call, so that a rotated credential needs
// no restart.
func (c *Config) Channel(code string) (activities.Account, bool) {
	switch code {
	case "slack":
		s := c.Channels.Slack
		return channel(code, s.CAFile, s.AllowPrivate, map[string]string{"team": s.Team, "base_url": s.BaseURL}, map[string]string{
			"bot_token_file": s.BotTokenFile, "signing_secret_file": s.SigningSecretFile, "app_token_file": s.AppTokenFile,
		}), s.Configured()
	case "github":
		g := c.Channels.GitHub
		settings := map[string]string{"base_url": g.BaseURL}
		if g.AppID != 0 {
			settings["app_id"], settings["installation_id"] = strconv.Itoa(g.AppID), strconv.Itoa(g.InstallationID)
		}
		return channel(code, g.CAFile, g.AllowPrivate, settings, map[string]string{"token_file": g.TokenFile, "private_key_file": g.PrivateKeyFile}), g.Configured()
	case "email":
		e := c.Channels.Email
		return channel(code, e.CAFile, e.AllowPrivate, map[string]string{
			"host": e.Host, "port": strconv.Itoa(e.Port), "tls": e.TLS, "from": e.From, "user": e.User,
		}, map[string]string{"password_file": e.PasswordFile}), e.Configured()
	case "webhook":
		w := c.Channels.Webhook
		return channel(code, w.CAFile, w.AllowPrivate, nil, map[string]string{"signing_key_file": w.SigningKeyFile}), w.Configured()
	}
	return activities.Account{}, false
}

// ConfiguredChannels lists the channels that can be used, sorted.
func (c *Config) ConfiguredChannels() []string {
	var out []string
	for _, code := range []string{"email", "github", "slack", "webhook"} {
		if _, ok := c.Channel(code); ok {
			out = append(out, code)
		}
	}
	return out
}

func channel(code, ca string, private bool, settings, files map[string]string) activities.Account {
	given := map[string]string{}
	for k, v := range settings {
		if v != "" {
			given[k] = v
		}
	}
	references := maps.Clone(files)
	maps.DeleteFunc(references, func(_, path string) bool { return path == "" })
	at := "channels." + code + "."
	return activities.Account{
		Name: code, Settings: given, AllowPrivate: private, CAFile: ca,
		Credential: func(name string) (secret.Value, error) { return credential(at, references, name) },
	}
}
