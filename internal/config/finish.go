package config

import (
	"fmt"
	"net"
	neturl "net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// finish makes the paths absolute that came from variables, flags and defaults,
// and checks what one key alone cannot show.
func (c *Config) finish(where string) error {
	if where == "" {
		where = "configuration"
	} else {
		where = filepath.Base(where)
	}
	if err := c.absolutePaths(); err != nil {
		return err
	}
	var problems []Problem
	bad := func(key, format string, args ...any) {
		problems = append(problems, Problem{where, key, fmt.Sprintf(format, args...)})
	}
	c.checkListen(bad)
	c.checkBlobs(bad)
	c.checkPeople(bad)
	c.checkCeilings(bad)
	c.checkSecretFiles(bad)
	for _, code := range sortedKeys(c.Providers) {
		for _, account := range sortedKeys(c.Providers[code]) {
			c.Providers[code][account].check("providers."+code+"."+account, bad)
		}
	}
	if c.Temporal.Retention.Std() < 720*time.Hour {
		c.warn("temporal.retention is %s: closed runs must stay at least 720h, so that every bundle is sealed from them", c.Temporal.Retention)
	}
	if (c.Temporal.TLS.CertFile == "") != (c.Temporal.TLS.KeyFile == "") {
		bad("temporal.tls", "cert_file and key_file are needed together")
	}
	if e := c.Channels.Email; e.Host != "" && e.From == "" {
		bad("channels.email.from", "missing: give the address notices come from")
	}
	c.checkChannels(bad)
	c.warnRests()
	if c.Record.Slack.Channel != "" && !c.Channels.Slack.Configured() {
		bad("record.slack", "channels.slack is not configured: give its bot_token_file, or take this out")
	}
	if c.Record.GitHub.Repo != "" && !c.Channels.GitHub.Configured() {
		bad("record.github", "channels.github is not configured: give its token_file or App, or take this out")
	}
	if len(problems) > 0 {
		return &InvalidError{problems}
	}
	return nil
}

// warnRests tells of what Slack rests on but no report can be about.
func (c *Config) warnRests() {
	for _, on := range c.Channels.Slack.RestsOn {
		provider, account, ok := strings.Cut(on, "/")
		if _, there := c.Providers[provider][account]; ok && !there {
			c.warn("channels.slack.rests_on: %s is no account of providers.%s: as long as it is not, only a key with that very id takes Slack's votes away", on, provider)
		}
	}
}

// checkChannels finds what is given by halves.
func (c *Config) checkChannels(bad func(string, string, ...any)) {
	if s := c.Channels.Slack; s.Configured() {
		if s.Team == "" {
			bad("channels.slack.team", "missing: give the workspace's id (T…), so that requests of other workspaces are refused")
		}
	} else if s.SigningSecretFile != "" || s.AppTokenFile != "" {
		bad("channels.slack.bot_token_file", "missing: rekey answers and posts with the app's bot token (xoxb-…)")
	}
	if r := c.Channels.Slack.Readers; len(r.UserGroups)+len(r.EmailDomains) > 0 {
		for _, name := range sortedKeys(c.People) {
			if c.People[name].Slack == "" {
				c.warn("people.%s has no slack: as one of channels.slack.readers they could report there under another name, and then approve what they reported", name)
			}
		}
	}
	g := c.Channels.GitHub
	if g.TokenFile != "" && g.AppID != 0 {
		bad("channels.github", "token_file and app_id are both given: keep one")
	}
	if app := g.AppID != 0; app != (g.InstallationID != 0) || app != (g.PrivateKeyFile != "") {
		bad("channels.github", "app_id, installation_id and private_key_file are needed together")
	}
	if c.Telemetry.Percent > 100 {
		bad("telemetry.percent", "at most 100")
	}
}

func (c *Config) warn(format string, args ...any) {
	c.Warnings = append(c.Warnings, fmt.Sprintf(format, args...))
}

// absolutePaths goes over every value of the tree that is a path. Those of the
// file are absolute already.
func (c *Config) absolutePaths() error {
	cwd, err := os.Getwd()
	if err != nil {
		return fmt.Errorf("configuration: the current directory is gone: change to another one: %w", err)
	}
	fix := func(p *string) { *p = absolute(*p, cwd) }
	for _, p := range []*string{
		&c.Data, &c.Listen.TLS.CertFile, &c.Listen.TLS.KeyFile,
		&c.Temporal.TLS.CAFile, &c.Temporal.TLS.CertFile, &c.Temporal.TLS.KeyFile, &c.Temporal.APIKeyFile,
		&c.Blobs.AccessKeyFile, &c.Blobs.SecretKeyFile, &c.Blobs.CAFile, &c.Sealed.IdentityFile, &c.Sealed.PassphraseFile,
		&c.Codec.KeysDir, &c.Audit.KeyFile, &c.Holds.File,
		&c.Channels.Email.PasswordFile, &c.Channels.Email.CAFile, &c.Channels.Webhook.SigningKeyFile, &c.Channels.Webhook.CAFile,
		&c.Channels.Slack.BotTokenFile, &c.Channels.Slack.SigningSecretFile, &c.Channels.Slack.AppTokenFile, &c.Channels.Slack.CAFile,
		&c.Channels.GitHub.TokenFile, &c.Channels.GitHub.PrivateKeyFile, &c.Channels.GitHub.CAFile,
		&c.Telemetry.CAFile, &c.Telemetry.HeadersFile,
	} {
		fix(p)
	}
	for i := range c.Estate.Files {
		fix(&c.Estate.Files[i])
	}
	for i := range c.Customers.Files {
		fix(&c.Customers.Files[i])
	}
	for i := range c.Playbooks.Files {
		fix(&c.Playbooks.Files[i])
	}
	for name, p := range c.People {
		fix(&p.CLIKeyFile)
		c.People[name] = p
	}
	for _, accounts := range c.Providers {
		for name, a := range accounts {
			fix(&a.CAFile)
			for k, v := range a.Credentials {
				if strings.HasSuffix(k, "_file") {
					a.Credentials[k] = absolute(v, cwd)
				}
			}
			accounts[name] = a
		}
	}
	return nil
}

// Loopback tells whether only this machine can reach an address (host:port).
func Loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = address
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return host == "localhost" || (ip != nil && ip.IsLoopback())
}

func (c *Config) checkListen(bad func(string, string, ...any)) {
	l := c.Listen
	if (l.TLS.CertFile == "") != (l.TLS.KeyFile == "") {
		bad("listen.tls", "cert_file and key_file are needed together")
	}
	if !Loopback(l.HTTP) && l.TLS.CertFile == "" && !l.AllowClear {
		bad("listen.http", "other machines can reach %s, and tokens would cross the network in clear: give listen.tls.cert_file and key_file, or say listen.allow_clear: true when TLS ends in a proxy before it", l.HTTP)
	}
	for _, e := range []struct{ key, address string }{{"listen.temporal", l.Temporal}, {"listen.ui", l.UI}, {"listen.metrics", l.Metrics}} {
		if !Loopback(e.address) && !l.AllowClear {
			bad(e.key, "other machines can reach %s, which has no TLS: use 127.0.0.1, or say listen.allow_clear: true when the network is private", e.address)
		}
	}
	if u, err := neturl.Parse(l.URL); l.URL != "" && (err != nil || strings.Trim(u.Path, "/") != "" || (u.Scheme != "https" && !Loopback(u.Host))) {
		bad("listen.url", "give scheme and host alone, such as https://rekey.example.com; http only for this machine: secrets are uploaded there")
	}
	if l.AllowClear {
		c.warn("listen.allow_clear is on: whoever can read the network before rekey can read its tokens")
	}
	if !Loopback(l.HTTP) && len(l.Hosts) == 0 {
		c.warn("listen.hosts is empty: browsers and clients must use the very address %s", l.HTTP)
	}
	seen := map[string]string{}
	for _, e := range []struct{ key, address string }{{"listen.http", l.HTTP}, {"listen.temporal", l.Temporal}, {"listen.ui", l.UI}, {"listen.metrics", l.Metrics}} {
		if strings.HasSuffix(e.address, ":0") {
			continue
		}
		if other, ok := seen[e.address]; ok {
			bad(e.key, "the same address as %s: give each its own port", other)
		}
		seen[e.address] = e.key
	}
}

func (c *Config) checkPeople(bad func(string, string, ...any)) {
	channels := map[string]string{}
	claim := func(who, key, value string) {
		if value == "" {
			return
		}
		if other, ok := channels[key+value]; ok {
			bad("people."+who+"."+key, "the same as of %s: one record per person, or one person would have two votes", other)
		}
		channels[key+value] = who
	}
	for _, who := range sortedKeys(c.People) {
		p := c.People[who]
		if len(p.Roles) == 0 {
			bad("people."+who+".roles", "missing: give at least one of %s", strings.Join(Roles(), ", "))
		}
		claim(who, "slack", p.Slack)
		claim(who, "oidc", p.OIDC)
		claim(who, "github", p.GitHub)
		claim(who, "cli_key_file", p.CLIKeyFile)
	}
	q, people := c.Ceilings.Irreversible.Quorum, max(1, len(c.People))
	if q > people {
		c.warn("ceilings.irreversible.quorum is %d and %d can vote: irreversible steps can never be approved; name more people, or say quorum: 1 and outside_slack: 0 for a team of one", q, people)
	}
}

func (c *Config) checkCeilings(bad func(string, string, ...any)) {
	i := c.Ceilings.Irreversible
	if i.OutsideSlack > i.Quorum {
		bad("ceilings.irreversible.outside_slack", "%d is more than the quorum of %d: write at most that", i.OutsideSlack, i.Quorum)
	}
	for _, name := range sortedKeys(c.Ceilings.Commands) {
		args := c.Ceilings.Commands[name]
		if len(args) == 0 || !filepath.IsAbs(args[0]) {
			bad("ceilings.commands."+name, "want a list of an absolute path and fixed arguments, such as [/usr/local/bin/cmd, --quiet]")
		}
	}
}

// checkSecretFiles refuses files of secrets that others may read. One that does
// not exist is told when it is needed: reading commands work without it.
func (c *Config) checkSecretFiles(bad func(string, string, ...any)) {
	files := map[string]string{
		"listen.tls.key_file":                c.Listen.TLS.KeyFile,
		"temporal.tls.key_file":              c.Temporal.TLS.KeyFile,
		"temporal.api_key_file":              c.Temporal.APIKeyFile,
		"blobs.access_key_file":              c.Blobs.AccessKeyFile,
		"blobs.secret_key_file":              c.Blobs.SecretKeyFile,
		"sealed.identity_file":               c.Sealed.IdentityFile,
		"sealed.passphrase_file":             c.Sealed.PassphraseFile,
		"audit.key_file":                     c.Audit.KeyFile,
		"channels.email.password_file":       c.Channels.Email.PasswordFile,
		"channels.webhook.signing_key_file":  c.Channels.Webhook.SigningKeyFile,
		"channels.slack.bot_token_file":      c.Channels.Slack.BotTokenFile,
		"channels.slack.signing_secret_file": c.Channels.Slack.SigningSecretFile,
		"channels.slack.app_token_file":      c.Channels.Slack.AppTokenFile,
		"channels.github.token_file":         c.Channels.GitHub.TokenFile,
		"channels.github.private_key_file":   c.Channels.GitHub.PrivateKeyFile,
		"telemetry.headers_file":             c.Telemetry.HeadersFile,
	}
	for code, accounts := range c.Providers {
		for account, a := range accounts {
			for k, v := range a.Credentials {
				if strings.HasSuffix(k, "_file") {
					files["providers."+code+"."+account+".credentials."+k] = v
				}
			}
		}
	}
	for _, key := range sortedKeys(files) {
		info, err := os.Stat(files[key])
		if files[key] == "" || err != nil {
			continue
		}
		if !info.Mode().IsRegular() {
			bad(key, "%s is not a regular file", files[key])
		} else if info.Mode().Perm()&0o077 != 0 {
			bad(key, "%s may be read by others (mode %04o): run `chmod 600 %s`; in containers give the secret mode 0400", files[key], info.Mode().Perm(), files[key])
		}
	}
}
