package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"rekey/internal/config"
	"rekey/playbooks"
)

// alone gives a test an empty directory, no user configuration and no variables.
func alone(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	t.Chdir(dir)
	t.Setenv("HOME", filepath.Join(dir, "home"))
	t.Setenv("XDG_CONFIG_HOME", filepath.Join(dir, "xdg"))
	for _, e := range os.Environ() {
		if len(e) > 6 && e[:6] == "REKEY_" {
			name := e[:indexByte(e, '=')]
			t.Setenv(name, "")
		}
	}
	return dir
}

func indexByte(s string, c byte) int {
	for i := range len(s) {
		if s[i] == c {
			return i
		}
	}
	return len(s)
}

func write(t *testing.T, path, text string) string {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

func TestExampleLoads(t *testing.T) {
	dir := alone(t)
	write(t, filepath.Join(dir, "rekey.yaml"), config.Example())
	c, err := config.Load(nil)
	require.NoError(t, err)
	require.Empty(t, c.Warnings)
	require.Equal(t, filepath.Join(dir, "rekey.yaml"), c.File)
	require.Equal(t, filepath.Join(dir, "home", ".local/state/rekey"), c.Data)
	require.Equal(t, config.Listen{
		HTTP: "127.0.0.1:8443", Temporal: "127.0.0.1:7233", UI: "127.0.0.1:8233", Metrics: "127.0.0.1:9464", Hosts: []string{},
	}, c.Listen)
	require.Equal(t, playbooks.Duration(720*time.Hour), c.Temporal.Retention)
	require.Equal(t, config.Person{
		Roles: []string{"commander", "security"}, Slack: "T0123/U024BE7LH", OIDC: "https://idp.example.com|248289",
		CLIKeyFile: "/etc/rekey/oncall-1.pub", GitHub: "oncall-1", Local: "oncall1",
	}, c.People["oncall-1"])
	require.Equal(t, config.Breaker{PerSource: 3, PerAccount: config.PerAccount{Keys: 10, Percent: 1}}, c.Ceilings.Breaker)
	require.Equal(t, config.Irreversible{Quorum: 2, OutsideSlack: 1}, c.Ceilings.Irreversible)
	require.Equal(t, config.Account{
		AccountID: "123456789012", Regions: []string{"eu-central-1", "us-east-1"},
		Credentials: map[string]string{"access_key_id_env": "AWS_ACCESS_KEY_ID", "secret_access_key_file": "/run/secrets/aws"},
		Rate:        map[string]playbooks.Rate{"iam": "15/s", "cloudtrail": "2/s"},
	}, c.Providers["awsiam"]["prod"])
	require.Equal(t, []string{filepath.Join(dir, "estate.yaml")}, c.Estate.Files)
	require.Equal(t, []string{filepath.Join(dir, "customers.json")}, c.Customers.Files)
	require.Equal(t, filepath.Join(dir, "holds.yaml"), c.Holds.File)
	require.Equal(t, 587, c.Channels.Email.Port)
	require.False(t, c.Solo())
	require.Equal(t, "contain", c.SourceCeiling("github"))
	require.Equal(t, "propose", c.SourceCeiling("anybody"))
}

func TestNoFileGivesDefaults(t *testing.T) {
	dir := alone(t)
	c, err := config.Load(nil)
	require.NoError(t, err)
	require.Empty(t, c.File)
	require.Equal(t, filepath.Join(dir, "home", ".local/state/rekey"), c.Data)
	require.Equal(t, "127.0.0.1:8443", c.Listen.HTTP)
	require.Equal(t, 2, c.Ceilings.Irreversible.Quorum)
	require.Equal(t, "propose", c.SourceCeiling("cli"))
	require.Len(t, c.Warnings, 1, "one local user can never make a quorum of 2, and is told so: %v", c.Warnings)
	require.Contains(t, c.Warnings[0], "quorum: 1")
}

func TestSearchOrder(t *testing.T) {
	dir := alone(t)
	origin := func(name string) string { return "audit: {origin: " + name + "}\n" }
	load := func(fs *pflag.FlagSet) string {
		c, err := config.Load(fs)
		require.NoError(t, err)
		return c.Audit.Origin
	}
	write(t, filepath.Join(dir, "xdg/rekey/rekey.yaml"), origin("xdg"))
	require.Equal(t, "xdg", load(nil))
	write(t, filepath.Join(dir, "rekey.yaml"), origin("here"))
	require.Equal(t, "here", load(nil))
	t.Setenv("REKEY_CONFIG", write(t, filepath.Join(dir, "other/env.yaml"), origin("variable")))
	require.Equal(t, "variable", load(nil))
	fs := pflag.NewFlagSet("rekey", pflag.ContinueOnError)
	config.BindFlags(fs)
	require.NoError(t, fs.Parse([]string{"--config", write(t, filepath.Join(dir, "flag.yaml"), origin("flag"))}))
	require.Equal(t, "flag", load(fs))

	t.Setenv("REKEY_CONFIG", filepath.Join(dir, "missing.yaml"))
	_, err := config.Load(nil)
	require.ErrorContains(t, err, "missing.yaml: cannot be read: check the path given with --config or REKEY_CONFIG")
}

func TestPrecedence(t *testing.T) {
	dir := alone(t)
	write(t, filepath.Join(dir, "rekey.yaml"), `
data: state
listen: {http: 127.0.0.1:1001, ui: 127.0.0.1:1002, hosts: [a.example]}
people:
  oncall-1: {roles: [viewer]}
  oncall-2: {roles: [viewer]}
`)
	fs := pflag.NewFlagSet("rekey", pflag.ContinueOnError)
	fs.String("data", "", "the command's own flag of that name")
	config.BindFlags(fs, "data", "listen.http")
	require.Nil(t, fs.Lookup("listen-ui"), "only what was asked for")

	c, err := config.Load(fs)
	require.NoError(t, err)
	require.Equal(t, filepath.Join(dir, "state"), c.Data, "the file's paths stand beside the file")
	require.Equal(t, "127.0.0.1:1001", c.Listen.HTTP)
	require.Equal(t, "127.0.0.1:7233", c.Listen.Temporal, "default")

	t.Setenv("REKEY_LISTEN_HTTP", "127.0.0.1:2001")
	t.Setenv("REKEY_LISTEN_UI", "127.0.0.1:2002")
	t.Setenv("REKEY_LISTEN_HOSTS", "b.example,c.example")
	t.Setenv("REKEY_CEILINGS_IRREVERSIBLE_QUORUM", "1")
	t.Setenv("REKEY_CEILINGS_IRREVERSIBLE_OUTSIDE_SLACK", "0")
	t.Setenv("REKEY_PEOPLE_ONCALL_1_ROLES", "commander,security")
	t.Setenv("REKEY_PROVIDERS_AWSIAM_LAB_BASE_URL", "http://127.0.0.1:5000")
	t.Setenv("REKEY_PROVIDERS_AWSIAM_LAB_ALLOW_PRIVATE", "true")
	t.Setenv("REKEY_PROVIDERS_AWSIAM_LAB_CREDENTIALS_ACCESS_KEY_ID_ENV", "REKEY_LAB_ID")
	t.Setenv("REKEY_PROVIDERS_AWSIAM_LAB_RATE_IAM", "5/s")
	t.Setenv("REKEY_CEILINGS_SOURCES_GITHUB", "contain")
	require.NoError(t, fs.Parse([]string{"--listen-http", "127.0.0.1:3001", "--data", "elsewhere"}))
	c, err = config.Load(fs)
	require.NoError(t, err)
	require.Equal(t, filepath.Join(dir, "elsewhere"), c.Data)
	require.Equal(t, "127.0.0.1:3001", c.Listen.HTTP, "flag over variable")
	require.Equal(t, "127.0.0.1:2002", c.Listen.UI, "variable over file")
	require.Equal(t, []string{"b.example", "c.example"}, c.Listen.Hosts)
	require.Equal(t, 1, c.Ceilings.Irreversible.Quorum)
	require.Equal(t, []string{"commander", "security"}, c.People["oncall-1"].Roles, "a name with a dash")
	require.Equal(t, config.Account{
		BaseURL: "http://127.0.0.1:5000", AllowPrivate: true,
		Credentials: map[string]string{"access_key_id_env": "REKEY_LAB_ID"}, Rate: map[string]playbooks.Rate{"iam": "5/s"},
	}, c.Providers["awsiam"]["lab"], "an account that only variables name")
	require.Equal(t, "contain", c.SourceCeiling("github"))
	require.Empty(t, c.Warnings)

	t.Setenv("REKEY_LAB_ID", "an id") // named by a *_env key above
	t.Setenv("REKEY_LISTEN_HTP", "127.0.0.1:1")
	c, err = config.Load(fs)
	require.NoError(t, err)
	require.Len(t, c.Warnings, 1)
	require.Contains(t, c.Warnings[0], "REKEY_LISTEN_HTP is set and names no key")
}

func TestVariablesAndFlagsAreCheckedLikeTheFile(t *testing.T) {
	alone(t)
	t.Setenv("REKEY_LISTEN_HTTP", "8443")
	t.Setenv("REKEY_CEILINGS_PLAYBOOKS", "any")
	t.Setenv("REKEY_PEOPLE_ALICE_ROLES", "viewer,comander")
	fs := pflag.NewFlagSet("rekey", pflag.ContinueOnError)
	config.BindFlags(fs)
	require.NoError(t, fs.Parse([]string{"--temporal-address", "nowhere"}))
	_, err := config.Load(fs)
	require.EqualError(t, err, `--temporal-address: temporal.address: not an address: write host:port, such as 127.0.0.1:8443
REKEY_CEILINGS_PLAYBOOKS: ceilings.playbooks: the value is not known here: write pinned
REKEY_LISTEN_HTTP: listen.http: not an address: write host:port, such as 127.0.0.1:8443
REKEY_PEOPLE_ALICE_ROLES: people.alice.roles: "comander" is not known here (did you mean "commander"?)`)
	var invalid *config.InvalidError
	require.ErrorAs(t, err, &invalid)
	require.Len(t, invalid.Problems, 4)
}

// What Slack rests on is taken as it is written; an account that is not configured
// is told of, because no report could be about it.
func TestWhatSlackRestsOn(t *testing.T) {
	const text = `
providers: {awsiam: {idp: {account_id: "123456789012"}}}
channels: {slack: {team: T0123, bot_token_file: /run/secrets/slack, rests_on: [awsiam/idp, AKIAIOSFODNN7EXAMPLE, postgres, awsiam/ipd]}}
`
	c, err := config.Parse([]byte(text), t.TempDir())
	require.NoError(t, err)
	require.Equal(t, []string{"awsiam/idp", "AKIAIOSFODNN7EXAMPLE", "postgres", "awsiam/ipd"}, c.Channels.Slack.RestsOn)
	require.Contains(t, strings.Join(c.Warnings, "\n"), "rests_on: awsiam/ipd is no account of providers.awsiam")
	require.NotContains(t, strings.Join(c.Warnings, "\n"), "rests_on: awsiam/idp")
	_, err = config.Parse([]byte("channels: {slack: {rests_on: ['awsiam/*']}}"), t.TempDir())
	require.ErrorContains(t, err, "no wildcards")
}

func TestSolo(t *testing.T) {
	one := "people: {alice: {roles: [commander]}}\n"
	for text, want := range map[string]bool{
		"ceilings: {irreversible: {quorum: 1, outside_slack: 0}}":       true,
		one + "ceilings: {irreversible: {quorum: 1, outside_slack: 0}}": true,
		one: false,
		"people: {alice: {roles: [commander]}, bob: {roles: [viewer]}}\nceilings: {irreversible: {quorum: 1, outside_slack: 0}}": false,
	} {
		c, err := config.Parse([]byte(text), t.TempDir())
		require.NoError(t, err, text)
		require.Equal(t, want, c.Solo(), text)
	}
}

func TestPerAccount(t *testing.T) {
	for _, tt := range []struct {
		text string
		live int
		want int
	}{
		{"min(10, 1%)", 50, 1}, {"min(10, 1%)", 300, 3}, {"min(10, 1%)", 5000, 10}, {"min(10, 1%)", 0, 0},
		{"5", 3, 3}, {"5", 100, 5}, {"0", 100, 0}, {"50%", 10, 5}, {"0%", 10, 0},
	} {
		var p config.PerAccount
		require.NoError(t, p.UnmarshalText([]byte(tt.text)))
		require.Equal(t, tt.want, p.Of(tt.live), "%s of %d", tt.text, tt.live)
	}
}

func TestAReaderWhoVotesUnderAnotherNameIsWarnedOf(t *testing.T) {
	c, err := config.Parse([]byte(`
people: {ann: {roles: [commander]}, bob: {roles: [security], slack: T0123/U0777}}
channels: {slack: {team: T0123, bot_token_file: bot, readers: {user_groups: [S0123]}}}
`), t.TempDir())
	require.NoError(t, err)
	require.Len(t, c.Warnings, 1)
	require.Contains(t, c.Warnings[0], "people.ann")
}
