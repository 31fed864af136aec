package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/stretchr/testify/require"

	"rekey/activities/activitytest/mototest"
	"rekey/internal/view"
)

// revokeNow is a playbook of one rule: the key is cut at once, and only its
// destruction needs votes.
const revokeNow = `apiVersion: rekey/v1
kind: Playbook
name: cut-now
title: Cut at once
version: 1.0.0
match: {provider: awsiam, kinds: [user-access-key], when: "true"}
start: auto
severity: [{level: high, when: "true"}]
scope: {depth: 2, sources: [provider, estate], lookback: 90d, timeout: 1m}
decide: [{id: always, strategy: revoke-now, when: "true"}]
strategies:
  revoke-now: {steps: [Disable, EndSessions, Probe, Issue, Distribute, ProbeNew, Revoke]}
ladder: {automatic: [key, sessions], approved: [principal]}
approvals:
  revoke-now:   {policy: true}
  irreversible: {roles: [commander, security], quorum: 2, expires: 1h, on_expiry: escalate, escalate_to: [admin]}
  rung:         {roles: [commander, security], quorum: 2, expires: 30m, on_expiry: escalate, escalate_to: [admin]}
reissue: {stores: [{target: awssm, name: "{{item.owner}}/aws"}]}
verify: {k: 3, span: 30s, vantage: 2, sweep: true}
watch: {for: 1d}
`

// A cloud is moto with a small company in it, made by the AWS CLI where that is
// installed: a foreign client on a foreign server.
type cloud struct {
	*mototest.Server
	keyID, secret string // of the user payments-ci, the key that is out
	bystander     string // a key that nobody reported
}

func newCloud(t *testing.T) cloud {
	t.Helper()
	_, err := exec.LookPath("aws")
	needServer(t, err == nil, "the AWS CLI (pip install awscli)")
	c := cloud{Server: mototest.Start(t)}
	c.aws(t, "iam", "create-user", "--user-name", "payments-ci")
	c.aws(t, "iam", "put-user-policy", "--user-name", "payments-ci", "--policy-name", "deploy", "--policy-document",
		`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["iam:GetUser","s3:*"],"Resource":"*"}]}`)
	c.aws(t, "iam", "create-role", "--role-name", "deployer", "--assume-role-policy-document",
		`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::`+mototest.AccountID+`:user/payments-ci"},"Action":"sts:AssumeRole"}]}`)
	c.aws(t, "secretsmanager", "create-secret", "--name", "payments/aws", "--secret-string", "not yet")
	c.keyID, c.secret = c.key(t, "payments-ci")
	c.aws(t, "iam", "create-user", "--user-name", "bystander")
	c.bystander, _ = c.key(t, "bystander")
	return c
}

// key has the CLI make a key.
func (c cloud) key(t *testing.T, user string) (id, key string) {
	t.Helper()
	out := c.aws(t, "iam", "create-access-key", "--user-name", user)
	var made struct {
		AccessKey struct{ AccessKeyID, SecretAccessKey string }
	}
	require.NoError(t, json.Unmarshal(out, &made))
	return made.AccessKey.AccessKeyID, made.AccessKey.SecretAccessKey
}

func (c cloud) aws(t *testing.T, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "aws", append([]string{"--endpoint-url", c.URL, "--output", "json", "--region", mototest.Region}, args...)...)
	cmd.Env = append(os.Environ(), "AWS_ACCESS_KEY_ID="+c.AdminID, "AWS_SECRET_ACCESS_KEY="+c.AdminSecret, "AWS_EC2_METADATA_DISABLED=true", "AWS_PAGER=", "AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null")
	var errOut bytes.Buffer
	cmd.Stderr = &errOut
	out, err := cmd.Output()
	require.NoError(t, err, "aws %s: %s", strings.Join(args, " "), errOut.String())
	return out
}

// keys gives the keys of a user and whether each is active, as moto has them.
func (c cloud) keys(t *testing.T, user string) map[string]string {
	t.Helper()
	out, err := c.IAM.ListAccessKeys(t.Context(), &iam.ListAccessKeysInput{UserName: &user})
	require.NoError(t, err)
	keys := map[string]string{}
	for _, k := range out.AccessKeyMetadata {
		keys[aws.ToString(k.AccessKeyId)] = string(k.Status)
	}
	return keys
}

// onMoto is a rig whose only provider is moto and whose estate knows the key.
func onMoto(t *testing.T, c cloud) *rig {
	t.Helper()
	r := newRig(t, "", "E2E_AWS_SECRET="+c.AdminSecret)
	r.configure(fmt.Sprintf(`providers:
  awsiam:
    prod: {account_id: %q, regions: [us-east-1, eu-central-1], base_url: %q, allow_private: true, credentials: {access_key_id_file: %s, secret_access_key_env: E2E_AWS_SECRET}}
estate: {files: [%s]}
`, mototest.AccountID, c.URL, r.write("engine-id", c.AdminID+"\n"),
		r.write("estate.yaml", fmt.Sprintf("keys: [{id: %s, provider: awsiam, account: prod, kind: user-access-key, owner: payments}]\n", c.keyID))))
	return r
}

// TestPlanOnMotoChangesNothing is the first thing a careful person does.
func TestPlanOnMotoChangesNothing(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	r := onMoto(t, c)
	before := c.keys(t, "payments-ci")
	c.Record(t)

	o := r.rekey("", "plan", "awsiam", c.keyID, "--json")
	require.Zero(t, o.code, o.errOut)
	var p struct {
		Owner  string `json:"owner"`
		Key    struct{ Principal string }
		Plan   struct{ Calls int }
		Unseen []view.Unseen `json:"unseen"`
	}
	require.NoError(t, json.Unmarshal([]byte(o.out), &p))
	require.Equal(t, "payments", p.Owner)
	require.Equal(t, "payments-ci", p.Key.Principal)
	require.Positive(t, p.Plan.Calls)
	require.NotEmpty(t, p.Unseen, "moto has no CloudTrail look-ups, and rekey says so")
	text := r.rekey("", "plan", "awsiam/user-access-key", c.keyID)
	require.Zero(t, text.code, text.errOut)
	require.Contains(t, text.out, "payments")
	require.Contains(t, text.out, "Not seen")

	calls := c.Recorded(t)
	require.NotEmpty(t, calls)
	for _, call := range calls {
		require.True(t, call.Reads(), "%s:%s changes something", call.Service, call.Action)
	}
	require.Equal(t, before, c.keys(t, "payments-ci"))
	_, err := os.Stat(filepath.Join(r.data(), "temporal.db"))
	require.ErrorIs(t, err, os.ErrNotExist, "plan needs no server")
}

// TestReportOnMoto answers a leaked key of a server that rekey's authors did not
// write: from the report to a bundle that verifies.
func TestReportOnMoto(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	r := onMoto(t, c)
	people, yaml := newVoters(t, r, voter{name: "ann", roles: []string{"commander"}}, voter{name: "bob", roles: []string{"security"}})
	r.configure(yaml)
	file := r.write("playbook.yaml", revokeNow)

	checked := r.rekey("", "playbook", "validate", file, "--json")
	require.Zero(t, checked.code, checked.out+checked.errOut)
	var valid struct {
		Playbooks []struct{ Digest string }
	}
	require.NoError(t, json.Unmarshal([]byte(checked.out), &valid), checked.out)
	require.Len(t, valid.Playbooks, 1)
	r.configure(fmt.Sprintf("ceilings: {playbook_digests: [%q]}\n", valid.Playbooks[0].Digest))
	r.up()
	c.Record(t)

	type answer struct{ outcome }
	done := make(chan answer, 1)
	go func() {
		done <- answer{r.rekey(c.secret+"\n", "report", "awsiam", c.keyID, "--secret-stdin", "--playbook", file, "--reason", "in a public repository", "--confidence", "confirmed", "--wait", "--timeout", patience.String(), "--interval", "200ms", "--json")}
	}()
	id := r.first()
	// An inactive key works on in moto. rekey notices, because it asks the key
	// itself, and asks for the votes for Revoke before its time.
	v := r.until(id, "the question for Revoke", func(v view.Incident) bool { _, ok := open(v, "irreversible"); return ok })
	require.Equal(t, "Inactive", c.keys(t, "payments-ci")[c.keyID])
	require.NotEmpty(t, v.Items[0].Death.LastAlive, "the probe saw that it lives")
	require.NotEqual(t, "dead", v.Items[0].Death.State)
	q, _ := open(v, "irreversible")
	for _, name := range []string{"ann", "bob"} {
		o := r.rekey("", "incident", "approve", id, "--wave", q.WaveHash, "--approval", q.ID, "--identity", people[name].identity, "--json")
		require.Zero(t, o.code, o.out+o.errOut)
	}
	var got answer
	select {
	case got = <-done:
	case <-time.After(patience):
		require.FailNow(t, "--wait does not end", r.rekey("", "incident", "show", id).out)
	}
	require.Zero(t, got.code, "%s\n%s", got.out, got.errOut)
	end := decode[view.Incident](t, got.out)
	require.Equal(t, "all-clear", end.State)
	require.Len(t, end.Items, 1)
	it := end.Items[0]
	require.Equal(t, "revoked-verified", it.EndState)
	require.Equal(t, "dead", it.Death.State)
	require.Equal(t, "A", it.Death.Grade, "the old key itself was refused, with a control")
	require.Equal(t, "key", it.Death.Rung)
	require.Equal(t, "adopted", it.Adoption.State)

	require.False(t, c.Works(t, c.keyID, c.secret))
	keys := c.keys(t, "payments-ci")
	require.Len(t, keys, 1, "exactly one key stays")
	require.Equal(t, "Active", keys[it.Adoption.NewKeyID])
	value, err := c.Secrets.GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{SecretId: aws.String("payments/aws")})
	require.NoError(t, err)
	var pair map[string]string
	require.NoError(t, json.Unmarshal([]byte(aws.ToString(value.SecretString)), &pair))
	require.Equal(t, it.Adoption.NewKeyID, pair["access_key_id"])
	require.True(t, c.Works(t, pair["access_key_id"], pair["secret_access_key"]))
	require.Equal(t, map[string]string{c.bystander: "Active"}, c.keys(t, "bystander"))
	actions := map[string]int{}
	for _, call := range c.Recorded(t) {
		if !call.Reads() && call.KeyID == c.AdminID {
			actions[call.Action]++
		}
	}
	require.Equal(t, 1, actions["CreateAccessKey"])
	require.Equal(t, 1, actions["DeleteAccessKey"])

	bundle := filepath.Join(r.dir, "incident.zip")
	require.Zero(t, r.rekey("", "audit", "export", id, "-o", bundle).code)
	keep(t, bundle)
	r.stop() // verify needs no server
	o := r.rekey("", "audit", "verify", bundle, "--key", filepath.Join(r.data(), "keys", "audit", "audit.pub"), "--json")
	require.Zero(t, o.code, o.out+o.errOut)
	raw, err := os.ReadFile(bundle)
	require.NoError(t, err)
	require.Contains(t, o.out, `"verified"`)
	for _, at := range []int{len(raw) / 3, len(raw) / 2, len(raw) * 2 / 3} {
		changed := bytes.Clone(raw)
		changed[at] ^= 1
		require.NoError(t, os.WriteFile(bundle, changed, 0o600))
		o = r.rekey("", "audit", "verify", bundle, "--json")
		require.Equal(t, 4, o.code, "byte %d: %s", at, o.out)
		require.Contains(t, o.out, `"failed"`)
	}
}
