package config_test

import (
	"crypto/rand"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"rekey/internal/config"
)

// TestBadFiles: each row is a file that a tired person wrote. %s stands for a
// canary that looks like a secret and must never be shown.
func TestBadFiles(t *testing.T) {
	for name, tt := range map[string]struct{ file, want string }{
		"unknown key, near":             {"lisen: {http: 127.0.0.1:1}", `rekey.yaml:1:1: lisen: unknown key (did you mean "listen"?)`},
		"unknown key, far":              {"codec: {zzz: 1}", `rekey.yaml:1:9: codec.zzz: unknown key: here may stand current, keys_dir`},
		"unknown key, deep":             {"providers:\n  awsiam:\n    prod:\n      acount_id: 1", `rekey.yaml:4:7: providers.awsiam.prod.acount_id: unknown key (did you mean "account_id"?)`},
		"key twice":                     {"data: a\ndata: b", `rekey.yaml:2:1: data: given twice: keep one`},
		"not YAML":                      {"data: [a\nlisten: b", `rekey.yaml:1: not valid YAML here: check indentation (spaces, no tabs), colons and quotes`},
		"tab":                           {"listen:\n\thttp: x", `rekey.yaml:2: not valid YAML here: check indentation (spaces, no tabs), colons and quotes`},
		"two documents":                 {"data: a\n---\ndata: b", "rekey.yaml: more than one document: keep one, without a second `---`"},
		"a list at the top":             {"- a", "rekey.yaml:1:1: want `key: value` lines at the top level"},
		"anchor":                        {"data: &x a", "rekey.yaml:1:7: data: anchors and aliases are not taken here: write the value out"},
		"value for a group":             {"listen: 8443", "rekey.yaml:1:9: listen: want keys below it, not a value"},
		"value for names":               {"people: alice", "rekey.yaml:1:9: people: want a person by name below it, not a value"},
		"group for a value":             {"data: {a: b}", "rekey.yaml:1:7: data: want one value, not a list or keys below it"},
		"value for a list":              {"estate: {files: estate.yaml}", "rekey.yaml:1:17: estate.files: want a list, such as [a, b]"},
		"list in a list":                {"estate: {files: [[a]]}", "rekey.yaml:1:18: estate.files[0]: want one value"},
		"secret as a key":               {"providers: {awsiam: {prod: {credentials: {secret_access_key: \"%s\"}}}}", "rekey.yaml:1:43: providers.awsiam.prod.credentials.secret_access_key: a secret is never in this file: give `secret_access_key_file: PATH` (mode 0600) or `secret_access_key_env: NAME`; treat the value as exposed"},
		"secret as a setting":           {"providers: {awsiam: {prod: {settings: {api_token: \"%s\"}}}}", "rekey.yaml: providers.awsiam.prod.settings.api_token: a secret is never in this file: give it under credentials as `api_token_file: PATH` or `api_token_env: NAME`; treat the value as exposed"},
		"secret for a file":             {"temporal: {api_key: \"%s\"}", "rekey.yaml:1:12: temporal.api_key: a secret is never in this file: give `api_key_file: PATH` (mode 0600); treat the value as exposed"},
		"password of mail":              {"channels: {email: {password: \"%s\"}}", "rekey.yaml:1:20: channels.email.password: a secret is never in this file: give `password_file: PATH` (mode 0600); treat the value as exposed"},
		"token at the top":              {"token: \"%s\"", "rekey.yaml:1:1: token: a secret is never in this file: keys that need one end in _file or _env; treat the value as exposed"},
		"secret as variable":            {"providers: {awsiam: {prod: {credentials: {secret_access_key_env: \"%s/+\"}}}}", "rekey.yaml:1:66: providers.awsiam.prod.credentials.secret_access_key_env: not the name of an environment variable; if this is the secret itself, take it out of this file and treat it as exposed"},
		"password in a URL":             {"providers: {awsiam: {prod: {base_url: \"https://me:%s@host\"}}}", "rekey.yaml:1:39: providers.awsiam.prod.base_url: a user name or password is in the URL: take it out and give credentials as *_file or *_env; treat the value as exposed"},
		"file and variable":             {"providers: {awsiam: {prod: {credentials: {id_file: /x, id_env: X}}}}", "rekey.yaml: providers.awsiam.prod.credentials.id: given as id_file and as id_env: keep one"},
		"password in a PostgreSQL URL":  {"providers: {postgres: {main: {base_url: \"postgres://me:%s@host/db\"}}}", "rekey.yaml:1:41: providers.postgres.main.base_url: a user name or password is in the URL: take it out and give settings.user and credentials.password_file; treat a password as exposed"},
		"parameter in a PostgreSQL URL": {"providers: {postgres: {main: {base_url: \"postgres://host/db?options=x\"}}}", "rekey.yaml:1:41: providers.postgres.main.base_url: a PostgreSQL URL takes sslmode and no other parameter"},
		"URL without scheme":            {"providers: {awsiam: {prod: {base_url: localhost}}}", "rekey.yaml:1:39: providers.awsiam.prod.base_url: not a URL: write it like https://host or http://127.0.0.1:5000"},
		"rate":                          {"providers: {awsiam: {prod: {rate: {iam: fast}}}}", "rekey.yaml:1:41: providers.awsiam.prod.rate.iam: not a rate: write a whole number per s, m or h, like 15/s"},
		"truth":                         {"providers: {awsiam: {prod: {allow_private: yes}}}", "rekey.yaml:1:44: providers.awsiam.prod.allow_private: not a truth value: write true or false"},
		"CA file missing":               {"providers: {awsiam: {prod: {ca_file: /nowhere/ca.pem}}}", "rekey.yaml: providers.awsiam.prod.ca_file: /nowhere/ca.pem cannot be read: check the path and its permissions"},
		"name in upper case":            {"people: {Alice: {roles: [viewer]}}", "rekey.yaml:1:10: people: not a name for a person: lower-case letters, digits, dash and underscore, at most 64"},
		"bad role":                      {"people: {alice: {roles: [comander]}}", `rekey.yaml:1:26: people.alice.roles[0]: "comander" is not known here (did you mean "commander"?)`},
		"no roles":                      {"people: {alice: {github: alice}}", "rekey.yaml: people.alice.roles: missing: give at least one of viewer, reporter, responder, approver, commander, security, product, legal, auditor, maintainer, admin"},
		"nothing of a person":           {"people: {alice: }", "rekey.yaml:1:10: people.alice: nothing is below it: give it its keys, or take it out"},
		"two votes for one":             {"people: {a: {roles: [viewer], slack: T0123/U0777}, b: {roles: [viewer], slack: T0123/U0777}}", "rekey.yaml: people.b.slack: the same as of a: one record per person, or one person would have two votes"},
		"Slack display name":            {"people: {a: {roles: [viewer], slack: alice}}", "rekey.yaml:1:38: people.a.slack: not a Slack identity: write team/user ids, such as T0123/U024BE7LH; display names can be changed by anyone"},
		"OIDC without issuer":           {"people: {a: {roles: [viewer], oidc: alice}}", "rekey.yaml:1:37: people.a.oidc: not an OIDC identity: write issuer|subject, such as https://idp.example.com|248289"},
		"ceiling of a source":           {"ceilings: {sources: {github: contian}}", `rekey.yaml:1:30: ceilings.sources.github: "contian" is not known here (did you mean "contain"?)`},
		"unknown ceiling":               {"ceilings: {breakers: {per_source_per_hour: 3}}", `rekey.yaml:1:12: ceilings.breakers: unknown key (did you mean "breaker"?)`},
		"quorum of none":                {"ceilings: {irreversible: {quorum: 0}}", "rekey.yaml:1:35: ceilings.irreversible.quorum: not a whole number of at least 1"},
		"quorum negative":               {"ceilings: {irreversible: {quorum: -1}}", "rekey.yaml:1:35: ceilings.irreversible.quorum: not a whole number"},
		"more outside than all":         {"ceilings: {irreversible: {quorum: 1, outside_slack: 2}}", "rekey.yaml: ceilings.irreversible.outside_slack: 2 is more than the quorum of 1: write at most that"},
		"breaker":                       {"ceilings: {breaker: {per_account_per_hour: many}}", "rekey.yaml:1:44: ceilings.breaker.per_account_per_hour: not a limit: write a number, a percentage of the live keys, or both, such as min(10, 1%)"},
		"pattern":                       {"ceilings: {never_auto: [\"a/[\"]}", "rekey.yaml:1:25: ceilings.never_auto[0]: not a pattern: write provider/account/kind or provider/account/principal, with * where anything may stand, such as awsiam/prod/root"},
		"playbook digest":               {"ceilings: {playbook_digests: [abc]}", "rekey.yaml:1:31: ceilings.playbook_digests[0]: not a digest: write sha256: and 64 hex digits, as `rekey playbook validate` prints them"},
		"command by name":               {"ceilings: {commands: {x: [curl]}}", "rekey.yaml: ceilings.commands.x: want a list of an absolute path and fixed arguments, such as [/usr/local/bin/cmd, --quiet]"},
		"bad listen address":            {"listen: {http: 8443}", "rekey.yaml:1:16: listen.http: not an address: write host:port, such as 127.0.0.1:8443"},
		"bad port":                      {"listen: {http: 127.0.0.1:99999}", "rekey.yaml:1:16: listen.http: the port is not a number from 0 to 65535"},
		"no host":                       {"listen: {http: \":8443\"}", "rekey.yaml:1:16: listen.http: no host: write 127.0.0.1 for this machine only, or 0.0.0.0 for every network, before the port"},
		"open without TLS":              {"listen: {http: 0.0.0.0:8443}", "rekey.yaml: listen.http: other machines can reach 0.0.0.0:8443, and tokens would cross the network in clear: give listen.tls.cert_file and key_file, or say listen.allow_clear: true when TLS ends in a proxy before it"},
		"open Temporal":                 {"listen: {temporal: 0.0.0.0:7233}", "rekey.yaml: listen.temporal: other machines can reach 0.0.0.0:7233, which has no TLS: use 127.0.0.1, or say listen.allow_clear: true when the network is private"},
		"one port for two":              {"listen: {http: 127.0.0.1:8233}", "rekey.yaml: listen.ui: the same address as listen.http: give each its own port"},
		"half of TLS":                   {"listen: {tls: {cert_file: a.pem}}", "rekey.yaml: listen.tls: cert_file and key_file are needed together"},
		"duration":                      {"temporal: {retention: 30}", "rekey.yaml:1:23: temporal.retention: not a duration: write it like 30s, 15m, 72h or 90d"},
		"blob store":                    {"blobs: {type: ftp}", "rekey.yaml:1:15: blobs.type: the value is not known here: write one of dir, s3"},
		"bucket without type":           {"blobs: {bucket: acme}", "rekey.yaml: blobs.bucket: is for a bucket: say blobs.type: s3, or take it out"},
		"half a bucket":                 {"blobs: {type: s3, bucket: acme-rekey}", "rekey.yaml: blobs.access_key_file: missing: a file with the access key id that may use the bucket\nrekey.yaml: blobs.secret_key_file: missing: a file with the secret access key\nrekey.yaml: blobs.region: missing: give the bucket's AWS region, or the endpoint of another server"},
		"name of a bucket":              {"blobs: {type: s3, bucket: Acme_1}", "rekey.yaml:1:27: blobs.bucket: not the name of a bucket: 3 to 63 lower-case letters, digits, dots and dashes"},
		"prefix":                        {"blobs: {prefix: ../x}", "rekey.yaml:1:17: blobs.prefix: not a prefix: names of letters, digits, dot, dash and underscore, parted by slashes, such as rekey/prod"},
		"bucket in clear":               {"blobs: {type: s3, bucket: acme, endpoint: \"http://s3.example.com\", access_key_file: a, secret_key_file: b}", "rekey.yaml: blobs.endpoint: without TLS it is for servers in the own network: use https, or say blobs.allow_private: true"},
		"a short grace":                 {"blobs: {grace: 24h}", "rekey.yaml: blobs.grace: 24h is too short: give at least 72h0m0s; a running pass may have stored what no history names yet"},
		"origin":                        {"audit: {origin: my company}", "rekey.yaml:1:17: audit.origin: not an origin: write a name without spaces and plus signs, such as example.com/rekey"},
		"mail without sender":           {"channels: {email: {host: smtp.example.com}}", "rekey.yaml: channels.email.from: missing: give the address notices come from"},
		"two faults at once":            {"lisen: 1\ndata: [a]", "rekey.yaml:1:1: lisen: unknown key (did you mean \"listen\"?)\nrekey.yaml:2:7: data: want one value, not a list or keys below it"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := alone(t)
			canary := make([]byte, 20)
			_, _ = rand.Read(canary)
			text := strings.ReplaceAll(tt.file, "%s", hex.EncodeToString(canary))
			write(t, filepath.Join(dir, "rekey.yaml"), text)
			_, err := config.Load(nil)
			require.EqualError(t, err, tt.want)
			require.NotContains(t, err.Error(), hex.EncodeToString(canary))
			var invalid *config.InvalidError
			require.ErrorAs(t, err, &invalid)
		})
	}
}

func TestOpenFilesAreRefused(t *testing.T) {
	dir := alone(t)
	path := write(t, filepath.Join(dir, "rekey.yaml"), "data: a")
	require.NoError(t, os.Chmod(path, 0o666))
	_, err := config.Load(nil)
	require.EqualError(t, err, "rekey.yaml: everyone on this machine may write it (mode 0666), and with it raise every ceiling: run `chmod o-w rekey.yaml`")

	secret := write(t, filepath.Join(dir, "aws.secret"), "x")
	require.NoError(t, os.Chmod(secret, 0o644))
	path = write(t, filepath.Join(dir, "two.yaml"), "providers: {awsiam: {prod: {credentials: {secret_access_key_file: aws.secret}}}}")
	t.Setenv("REKEY_CONFIG", path)
	_, err = config.Load(nil)
	require.EqualError(t, err, "two.yaml: providers.awsiam.prod.credentials.secret_access_key_file: "+secret+" may be read by others (mode 0644): run `chmod 600 "+secret+"`; in containers give the secret mode 0400")
}

func TestAccount(t *testing.T) {
	dir := alone(t)
	canary := make([]byte, 20)
	_, _ = rand.Read(canary)
	want := hex.EncodeToString(canary)
	secretFile := write(t, filepath.Join(dir, "aws.secret"), want+"\n")
	c, err := config.Parse([]byte(`
providers:
  awsiam:
    prod:
      account_id: 012345678901
      regions: [eu-central-1]
      base_url: http://127.0.0.1:5000
      allow_private: true
      settings: {read_role: reader}
      rate: {cloudtrail: 2/s}
      credentials: {access_key_id_env: TEST_AWS_ID, secret_access_key_file: aws.secret, gone_file: gone}
`), dir)
	require.NoError(t, err)
	a, err := c.Account("awsiam", "prod")
	require.NoError(t, err)
	require.Equal(t, "prod", a.Name)
	require.Equal(t, map[string]string{"account_id": "012345678901", "base_url": "http://127.0.0.1:5000", "read_role": "reader", "rate.cloudtrail": "2/s"}, a.Settings,
		"an account id keeps its leading zero without quotes")
	require.True(t, a.AllowPrivate)
	require.Equal(t, []string{"prod"}, c.Accounts("awsiam"))

	v, err := a.Credential("secret_access_key")
	require.NoError(t, err)
	require.Equal(t, want, string(v.Reveal()))

	_, err = a.Credential("access_key_id")
	require.EqualError(t, err, "providers.awsiam.prod.credentials.access_key_id_env (TEST_AWS_ID) is empty: put the credential there")
	t.Setenv("TEST_AWS_ID", "AKIAIOSFODNN7EXAMPLE")
	v, err = a.Credential("access_key_id")
	require.NoError(t, err, "read at the call, not at load")
	require.Equal(t, "AKIAIOSFODNN7EXAMPLE", string(v.Reveal()))

	_, err = a.Credential("gone")
	require.EqualError(t, err, "providers.awsiam.prod.credentials.gone_file: "+filepath.Join(dir, "gone")+" does not exist: put the credential there, mode 0600")
	_, err = a.Credential("session_token")
	require.EqualError(t, err, "providers.awsiam.prod.credentials.session_token: not configured: give session_token_file: PATH or session_token_env: NAME")
	require.NoError(t, os.Chmod(secretFile, 0o640))
	_, err = a.Credential("secret_access_key")
	require.ErrorContains(t, err, "is open to others")
	require.NotContains(t, err.Error(), want)

	_, err = c.Account("awsiam", "pord")
	require.EqualError(t, err, `no account "pord" of provider "awsiam" is configured: did you mean "prod"?`)
	_, err = c.Account("github", "acme")
	require.EqualError(t, err, `no account "acme" of provider "github" is configured: add providers.github.acme to rekey.yaml`)
}

func TestEmptyFilesAreDefaults(t *testing.T) {
	alone(t)
	want, err := config.Load(nil)
	require.NoError(t, err)
	for _, text := range []string{"", "\n", "# a comment\n", "---\n", "null\n", "{}\n", "listen:\n", "people: {}\n", "data: \"\"\n"} {
		c, err := config.Parse([]byte(text), t.TempDir())
		require.NoError(t, err, "%q", text)
		require.Equal(t, want.Data, c.Data, "%q", text)
		require.Equal(t, want.Listen, c.Listen, "%q", text)
	}
}

// FuzzParse: no text makes the loader panic, and what it takes it can finish.
func FuzzParse(f *testing.F) {
	for _, s := range []string{config.Example(), "a: [", "people: {a: {roles: [viewer]}}", "? {a: b}\n: c", "- - -", "data: !!binary aGk=", "<<: {data: x}", "\xff"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := config.Parse(raw, t.TempDir())
		require.True(t, (c == nil) || c.Data != "")
		if err == nil {
			require.NotEmpty(t, c.Listen.HTTP)
		}
	})
}
