package config

import (
	"rekey/playbooks"
)

// Config is everything rekey is told. It holds no secret, only where secrets are.
// All paths are absolute.
type Config struct {
	// File is the rekey.yaml that was read, "" when there was none.
	File string `mapstructure:"-"`
	// Warnings are what is allowed and probably not meant.
	Warnings []string `mapstructure:"-"`

	Data      string                        `mapstructure:"data"`
	Listen    Listen                        `mapstructure:"listen"`
	Temporal  Temporal                      `mapstructure:"temporal"`
	Blobs     Blobs                         `mapstructure:"blobs"`
	Sealed    Sealed                        `mapstructure:"sealed"`
	Codec     Codec                         `mapstructure:"codec"`
	Audit     Audit                         `mapstructure:"audit"`
	People    map[string]Person             `mapstructure:"people"`
	Ceilings  Ceilings                      `mapstructure:"ceilings"`
	Providers map[string]map[string]Account `mapstructure:"providers"`
	Estate    Files                         `mapstructure:"estate"`
	Customers Files                         `mapstructure:"customers"`
	Holds     Holds                         `mapstructure:"holds"`
	Channels  Channels                      `mapstructure:"channels"`
	Telemetry Telemetry                     `mapstructure:"telemetry"`
	Playbooks Files                         `mapstructure:"playbooks"`
	Record    Record                        `mapstructure:"record"`
}

// Listen are the addresses of `rekey up`, host:port.
type Listen struct {
	HTTP     string `mapstructure:"http"`
	Temporal string `mapstructure:"temporal"`
	UI       string `mapstructure:"ui"`
	Metrics  string `mapstructure:"metrics"`
	TLS      TLS    `mapstructure:"tls"`
	// Hosts are the names under which browsers and clients may reach the HTTP
	// server, besides loopback and the address it listens on.
	Hosts []string `mapstructure:"hosts"`
	// URL is where people's browsers reach the HTTP server, "https://rekey.example.com";
	// empty: they do not, unless it listens on loopback.
	URL string `mapstructure:"url"`
	// AllowClear says that the network is private (a container network, or TLS
	// ends in a proxy before rekey), so that addresses other machines can reach
	// may be served without TLS.
	AllowClear bool `mapstructure:"allow_clear"`
}

// TLS names PEM files.
type TLS struct {
	CAFile   string `mapstructure:"ca_file"`
	CertFile string `mapstructure:"cert_file"`
	KeyFile  string `mapstructure:"key_file"`
}

// Temporal is the external cluster of worker and serve.
type Temporal struct {
	Address   string             `mapstructure:"address"`
	Namespace string             `mapstructure:"namespace"`
	Retention playbooks.Duration `mapstructure:"retention"`
	// Versioning: workers of a cluster register with the name of their build, and
	// incidents move to another build only when it was shown to know their steps.
	Versioning bool   `mapstructure:"versioning"`
	TLS        TLS    `mapstructure:"tls"`
	APIKeyFile string `mapstructure:"api_key_file"`
	// UI is where browsers reach the cluster's Temporal UI; empty: there is none.
	// Pages of that very origin may have payloads decoded by `rekey serve`.
	UI string `mapstructure:"ui"`
}

// Blobs is where pages, journals and evidence are: a directory below DATA, or a bucket.
type Blobs struct {
	Type string `mapstructure:"type"` // BlobsDir, BlobsS3
	// Endpoint is the URL of an S3-compatible server; empty: AWS's of Region.
	Endpoint string `mapstructure:"endpoint"`
	Bucket   string `mapstructure:"bucket"`
	Region   string `mapstructure:"region"`
	// Prefix is before all keys, for a bucket with other things in it.
	Prefix        string `mapstructure:"prefix"`
	AccessKeyFile string `mapstructure:"access_key_file"`
	SecretKeyFile string `mapstructure:"secret_key_file"`
	CAFile        string `mapstructure:"ca_file"`
	// AllowPrivate lets the server be on this machine or in the own network.
	AllowPrivate bool `mapstructure:"allow_private"`
	// Grace is how old a blob must be before the collector may take it.
	Grace playbooks.Duration `mapstructure:"grace"`
}

// Kinds of blob stores.
const (
	BlobsDir = "dir"
	BlobsS3  = "s3"
)

// Sealed is the sealed store. Empty IdentityFile: DATA/keys/age.txt, generated.
type Sealed struct {
	Type           string `mapstructure:"type"`
	IdentityFile   string `mapstructure:"identity_file"`
	PassphraseFile string `mapstructure:"passphrase_file"`
}

// Codec is the keyring of the payload codec. Empty KeysDir: below DATA.
type Codec struct {
	KeysDir string `mapstructure:"keys_dir"`
	Current string `mapstructure:"current"`
}

// Audit names and signs bundles. Empty KeyFile: below DATA.
type Audit struct {
	Origin  string `mapstructure:"origin"`
	KeyFile string `mapstructure:"key_file"`
}

// Person is one record per person: one vote whatever the channel.
type Person struct {
	Roles      []string `mapstructure:"roles"`
	Slack      string   `mapstructure:"slack"`
	OIDC       string   `mapstructure:"oidc"`
	CLIKeyFile string   `mapstructure:"cli_key_file"`
	GitHub     string   `mapstructure:"github"`
	// Local is the user of rekey's machine who is this person: what they report with
	// the cli-token is then theirs, and they cannot approve it as somebody else.
	Local string `mapstructure:"local"`
}

// Ceilings are what playbooks and sources can only tighten.
type Ceilings struct {
	Sources         map[string]string `mapstructure:"sources"`
	NeverAuto       []string          `mapstructure:"never_auto"`
	Breaker         Breaker           `mapstructure:"breaker"`
	Irreversible    Irreversible      `mapstructure:"irreversible"`
	Playbooks       string            `mapstructure:"playbooks"`
	PlaybookDigests []string          `mapstructure:"playbook_digests"`
	// Commands that rekey may run: absolute path, then fixed arguments.
	Commands map[string][]string `mapstructure:"commands"`
}

// Breaker stops contain on report when there is too much of it.
type Breaker struct {
	PerSource  int        `mapstructure:"per_source_per_hour"`
	PerAccount PerAccount `mapstructure:"per_account_per_hour"`
}

// PerAccount is a number of keys and a percentage of an account's live keys; the
// smaller one holds.
type PerAccount struct {
	// Keys is -1 when only the percentage is given.
	Keys int
	// Percent is 100 when only the number is given.
	Percent int
}

// UnmarshalText reads "10", "1%" or "min(10, 1%)".
func (p *PerAccount) UnmarshalText(b []byte) error {
	v, err := parsePerAccount(string(b))
	if err == nil {
		*p = v
	}
	return err
}

// Of is the limit for an account with live keys: whole keys, and at least one as
// long as neither part of it is zero.
func (p PerAccount) Of(live int) int {
	share := live * p.Percent / 100
	if share == 0 && p.Percent > 0 && live > 0 {
		share = 1
	}
	if p.Keys < 0 {
		return share
	}
	return min(p.Keys, share)
}

// Irreversible are the votes that Revoke and accept-risk need at least.
type Irreversible struct {
	Quorum       int `mapstructure:"quorum"`
	OutsideSlack int `mapstructure:"outside_slack"`
}

// Files are paths of what rekey is told.
type Files struct {
	Files []string `mapstructure:"files"`
}

// Holds is the file of the standing holds.
type Holds struct {
	File string `mapstructure:"file"`
}

// Channels through which people are told.
type Channels struct {
	Email   Email   `mapstructure:"email"`
	Webhook Webhook `mapstructure:"webhook"`
	Slack   Slack   `mapstructure:"slack"`
	GitHub  GitHub  `mapstructure:"github"`
}

// Email is SMTP; empty Host: not configured.
type Email struct {
	Host         string `mapstructure:"host"`
	Port         int    `mapstructure:"port"`
	TLS          string `mapstructure:"tls"`
	From         string `mapstructure:"from"`
	User         string `mapstructure:"user"`
	PasswordFile string `mapstructure:"password_file"`
	CAFile       string `mapstructure:"ca_file"`
	// AllowPrivate lets the server be on this machine or in the own network.
	AllowPrivate bool `mapstructure:"allow_private"`
}

// Webhook is signed by the key in SigningKeyFile.
type Webhook struct {
	SigningKeyFile string `mapstructure:"signing_key_file"`
	CAFile         string `mapstructure:"ca_file"`
	AllowPrivate   bool   `mapstructure:"allow_private"`
}

// Slack is the app of one workspace; empty BotTokenFile: not configured.
type Slack struct {
	// Team is the workspace's id, "T0123". Requests of other teams are refused.
	Team         string `mapstructure:"team"`
	BotTokenFile string `mapstructure:"bot_token_file"` // xoxb-…
	// SigningSecretFile is needed for requests over HTTP, AppTokenFile (xapp-…) for
	// Socket Mode. With both, both are served.
	SigningSecretFile string `mapstructure:"signing_secret_file"`
	AppTokenFile      string `mapstructure:"app_token_file"`
	// RestsOn are keys whose loss means that Slack cannot be believed, such as those of
	// the identity provider behind its login: key ids, providers, or provider/account.
	// With one of them in scope of an incident, Slack carries no decisions there.
	RestsOn []string `mapstructure:"rests_on"`
	// Readers may read and report without being a person of `people`.
	Readers SlackReaders `mapstructure:"readers"`
	// BaseURL replaces https://slack.com/api/, for tests and proxies.
	BaseURL      string `mapstructure:"base_url"`
	CAFile       string `mapstructure:"ca_file"`
	AllowPrivate bool   `mapstructure:"allow_private"`
}

// SlackReaders give the roles viewer and reporter, never more (contracts section 1).
type SlackReaders struct {
	UserGroups   []string `mapstructure:"user_groups"`   // ids, "S0123"
	EmailDomains []string `mapstructure:"email_domains"` // of confirmed profile addresses
}

// GitHub is where incidents are recorded as issues: a token, or an App. Empty
// TokenFile and AppID: not configured.
type GitHub struct {
	TokenFile      string `mapstructure:"token_file"`
	AppID          int    `mapstructure:"app_id"`
	InstallationID int    `mapstructure:"installation_id"`
	PrivateKeyFile string `mapstructure:"private_key_file"`
	// BaseURL is that of a GitHub Enterprise Server, https://HOST/api/v3/; empty:
	// github.com.
	BaseURL      string `mapstructure:"base_url"`
	CAFile       string `mapstructure:"ca_file"`
	AllowPrivate bool   `mapstructure:"allow_private"`
}

// Configured tells whether incidents can be recorded and people can answer there.
func (s Slack) Configured() bool { return s.BotTokenFile != "" }

// Configured tells whether incidents can be recorded there.
func (g GitHub) Configured() bool { return g.TokenFile != "" || g.AppID != 0 }

// Configured tells whether mail can be sent.
func (e Email) Configured() bool { return e.Host != "" }

// Configured tells whether webhooks can be sent.
func (w Webhook) Configured() bool { return w.SigningKeyFile != "" }

// Record is where incidents are followed when their playbook does not say: a shipped
// playbook knows no channel and no repository of yours.
type Record struct {
	Slack struct {
		Channel string `mapstructure:"channel"` // "#incidents", or an id
	} `mapstructure:"slack"`
	GitHub struct {
		Repo   string   `mapstructure:"repo"` // owner/name
		Labels []string `mapstructure:"labels"`
	} `mapstructure:"github"`
}

// Telemetry is where traces go; empty OTLPEndpoint: nowhere.
type Telemetry struct {
	// OTLPEndpoint is the URL of an OpenTelemetry collector (OTLP over HTTP).
	OTLPEndpoint string `mapstructure:"otlp_endpoint"`
	CAFile       string `mapstructure:"ca_file"`
	// HeadersFile holds "name: value" lines sent with each export, such as a token.
	HeadersFile string `mapstructure:"headers_file"`
	// Percent of traces that are kept.
	Percent int `mapstructure:"percent"`
}

// SourceCeiling is what reports of a source may cause at most: its own ceiling,
// or that of `default`, or propose.
func (c *Config) SourceCeiling(source string) string {
	if v := c.Ceilings.Sources[source]; v != "" {
		return v
	}
	if v := c.Ceilings.Sources["default"]; v != "" {
		return v
	}
	return CeilingPropose
}

// Solo tells whether one person answers for everything: at most one is named
// (none: the local user) and the quorum for irreversible verbs is 1. Their own
// vote then counts and is recorded as self-approved (contracts section 2).
func (c *Config) Solo() bool {
	return len(c.People) <= 1 && c.Ceilings.Irreversible.Quorum == 1
}
