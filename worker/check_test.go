package worker

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"rekey/activities"
	"rekey/activities/awsiam"
	"rekey/internal/cli"
	"rekey/internal/lab/control"
	"rekey/internal/lab/labtest"
)

const selfDrill = `apiVersion: rekey/v1
kind: Drill
name: self
seed: 1
clock: {mode: real}
estate:
  providers: {awsiam/lab: {propagation: 0s}}
  keys:
    - {id: READER, user: reader, policy: ReadOnlyAccess}
    - {id: STRANGER, user: stranger, policy: AmazonS3ReadOnlyAccess}
    - {id: DEAD, user: dead, policy: AdministratorAccess, status: inactive}
trigger: {at: T0, report: {provider: awsiam, kind: user-access-key, key: READER, source: aws, confidence: confirmed}}
expect: [{id: any, expr: 'lab.keys.size() > 0'}]
`

// account writes a credential and gives the account's line of rekey.yaml.
func account(t *testing.T, dir, name, base, number string, s control.Secret) string {
	t.Helper()
	id, key := filepath.Join(dir, name+"-id"), filepath.Join(dir, name+"-key")
	require.NoError(t, os.WriteFile(id, []byte(s.KeyID+"\n"), 0o600))
	require.NoError(t, os.WriteFile(key, []byte(s.SecretKey+"\n"), 0o600))
	return fmt.Sprintf("    %s: {account_id: %q, regions: [us-east-1], base_url: %q, allow_private: true, credentials: {access_key_id_file: %s, secret_access_key_file: %s}}\n", name, number, base, id, key)
}

func settings(t *testing.T, dir, text string) cli.Common {
	t.Helper()
	file := filepath.Join(dir, "rekey.yaml")
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	return cli.Common{Config: file, Data: filepath.Join(dir, "data")}
}

func verbs(a cli.AccountCheck) map[string]cli.VerbCheck {
	out := map[string]cli.VerbCheck{}
	for _, v := range a.Verbs {
		out[v.Verb] = v
	}
	return out
}

func TestCheckTellsOurRightsAgainstTheLab(t *testing.T) {
	l := labtest.Start(t, labtest.Scenario(t, selfDrill))
	dir := t.TempDir()
	wrong := l.Secret(t, "READER")
	wrong.SecretKey = strings.Repeat("x", 40)
	c := settings(t, dir, "providers:\n  awsiam:\n"+
		account(t, dir, "engine", l.BaseURL, l.Account, l.Engine)+
		account(t, dir, "reader", l.BaseURL, l.Account, l.Secret(t, "READER"))+
		account(t, dir, "stranger", l.BaseURL, l.Account, l.Secret(t, "STRANGER"))+
		account(t, dir, "dead", l.BaseURL, l.Account, l.Secret(t, "DEAD"))+
		account(t, dir, "mismatch", l.BaseURL, l.Account, wrong)+
		account(t, dir, "other", l.BaseURL, "999900001111", l.Secret(t, "READER"))+
		account(t, dir, "gone", "http://127.0.0.1:1", l.Account, l.Secret(t, "READER")))
	before := l.Oracle(t)
	res, err := Check(t.Context(), cli.CheckOptions{Common: c}, cli.IOStreams{})
	require.NoError(t, err)
	got := map[string]cli.AccountCheck{}
	for _, a := range res.Accounts {
		got[a.Account] = a
	}
	require.Len(t, got, 7)

	require.Contains(t, got["engine"].Identity, ":user/rekey-engine")
	require.Empty(t, got["engine"].Problems)
	engine := verbs(got["engine"])
	require.Equal(t, "allowed", engine["Probe"].State)
	require.Equal(t, "unknown", engine["Disable"].State, "only doing it would tell")
	for verb, v := range engine {
		require.NotEqual(t, "denied", v.State, "%s: an administrator lacks %v", verb, v.Missing)
	}

	require.Contains(t, got["reader"].Identity, ":user/reader")
	require.Equal(t, "allowed", verbs(got["reader"])["Probe"].State)

	stranger := verbs(got["stranger"])
	require.Equal(t, "denied", stranger["Inspect"].State)
	require.Subset(t, stranger["Inspect"].Missing, []string{"iam:GetUser", "iam:ListAccessKeys", "cloudtrail:LookupEvents"})
	require.Equal(t, "denied", stranger["Disable"].State)
	require.Equal(t, []string{"iam:GetAccessKeyLastUsed"}, stranger["Disable"].Missing, "the right to change is not known, the right to look is missing")
	require.Equal(t, "denied", stranger["Distribute"].State)

	for name, say := range map[string]string{
		"dead": "does not accept", "mismatch": "signature is refused", "other": "configured as 999900001111", "gone": "cannot be reached",
	} {
		require.Len(t, got[name].Problems, 1, name)
		require.Contains(t, got[name].Problems[0].Message, say)
		require.NotEmpty(t, got[name].Problems[0].Do)
		for _, v := range got[name].Verbs {
			require.Equal(t, "unknown", v.State, "%s %s", name, v.Verb)
		}
	}

	after := l.Oracle(t)
	require.Equal(t, before.Keys, after.Keys, "nothing is changed")
	for _, c := range after.Calls { // the lab takes a call that it does not have for one that changes
		require.False(t, c.Effect, c.Action)
	}
	require.NotContains(t, fmt.Sprint(res), l.Engine.SecretKey)
}

func TestCheckOfOneAccount(t *testing.T) {
	l := labtest.Start(t, labtest.Scenario(t, selfDrill))
	dir := t.TempDir()
	c := settings(t, dir, "providers:\n  awsiam:\n"+
		account(t, dir, "engine", l.BaseURL, l.Account, l.Engine)+account(t, dir, "reader", l.BaseURL, l.Account, l.Secret(t, "READER")))
	res, err := Check(t.Context(), cli.CheckOptions{Common: c, Provider: "awsiam", Account: "reader"}, cli.IOStreams{})
	require.NoError(t, err)
	require.Len(t, res.Accounts, 1)
	require.Equal(t, "reader", res.Accounts[0].Account)

	_, err = Check(t.Context(), cli.CheckOptions{Common: c, Provider: "awsiam", Account: "raeder"}, cli.IOStreams{})
	var e *cli.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, cli.CodeUsage, e.Code)
	require.Contains(t, e.Message, `did you mean "reader"`)
}

func TestCheckNamesACredentialThatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	c := settings(t, dir, `providers:
  awsiam:
    prod: {account_id: "123456789012", credentials: {access_key_id_env: SELF_CHECK_UNSET, secret_access_key_file: /nonexistent/key}}
`)
	res, err := Check(t.Context(), cli.CheckOptions{Common: c}, cli.IOStreams{})
	require.NoError(t, err)
	require.Len(t, res.Accounts[0].Problems, 1)
	require.Regexp(t, `SELF_CHECK_UNSET|/nonexistent/key`, res.Accounts[0].Problems[0].Message)
}

func TestCheckKeepsNothingThatTheProviderSays(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusTeapot)
		_, _ = w.Write([]byte(`<ErrorResponse><Error><Code>VendorWord</Code><Message>vendor text</Message></Error></ErrorResponse>`))
	}))
	t.Cleanup(s.Close)
	dir := t.TempDir()
	c := settings(t, dir, "providers:\n  awsiam:\n"+account(t, dir, "prod", s.URL, "123456789012", control.Secret{KeyID: "AKIAIOSFODNN7EXAMPLE", SecretKey: strings.Repeat("k", 40)}))
	res, err := Check(t.Context(), cli.CheckOptions{Common: c}, cli.IOStreams{})
	require.NoError(t, err)
	require.Len(t, res.Accounts[0].Problems, 1)
	require.NotContains(t, strings.ToLower(fmt.Sprint(res)), "vendor")
}

// simulated plays AWS's own simulation, which the lab does not have.
func TestRightsToChangeComeFromTheSimulation(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		switch r.Form.Get("Action") {
		case "GetCallerIdentity":
			fmt.Fprint(w, `<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>arn:aws:sts::123456789012:assumed-role/rekey/host</Arn><Account>123456789012</Account></GetCallerIdentityResult></GetCallerIdentityResponse>`)
		case "SimulatePrincipalPolicy":
			if r.Form.Get("PolicySourceArn") != "arn:aws:iam::123456789012:role/rekey" {
				w.WriteHeader(http.StatusBadRequest)
				return
			}
			fmt.Fprint(w, `<SimulatePrincipalPolicyResponse><SimulatePrincipalPolicyResult><EvaluationResults>
<member><EvalActionName>iam:UpdateAccessKey</EvalActionName><EvalDecision>allowed</EvalDecision></member>
<member><EvalActionName>iam:DeleteAccessKey</EvalActionName><EvalDecision>implicitDeny</EvalDecision></member>
</EvaluationResults></SimulatePrincipalPolicyResult></SimulatePrincipalPolicyResponse>`)
		default:
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, `<ErrorResponse><Error><Code>NoSuchEntity</Code></Error></ErrorResponse>`)
		}
	}))
	t.Cleanup(s.Close)
	dir := t.TempDir()
	c := settings(t, dir, "providers:\n  awsiam:\n"+account(t, dir, "prod", s.URL, "123456789012", control.Secret{KeyID: "AKIAIOSFODNN7EXAMPLE", SecretKey: strings.Repeat("k", 40)}))
	res, err := Check(context.Background(), cli.CheckOptions{Common: c}, cli.IOStreams{})
	require.NoError(t, err)
	v := verbs(res.Accounts[0])
	require.Equal(t, "allowed", v["Disable"].State)
	require.Equal(t, cli.VerbCheck{Verb: "Revoke", State: "denied", Missing: []string{"iam:DeleteAccessKey"}}, v["Revoke"])
	require.Equal(t, "unknown", v["Deny"].State)
}

func TestEveryReadingPermissionOfAWSIsTried(t *testing.T) {
	reads := newAWSSelf(activities.Account{Settings: map[string]string{"account_id": "123456789012"}}, http.DefaultClient).reads()
	user := awsiam.Provider().Descriptor.Kinds[0]
	for _, v := range []activities.Verb{activities.Inspect, activities.Sweep} {
		for _, p := range user.Verbs[v].Permissions {
			require.Contains(t, reads, p)
		}
	}
	for p := range reads {
		action := p[strings.Index(p, ":")+1:]
		require.Regexp(t, `^(Get|List|Describe|Lookup)`, action, "a check only reads")
	}
}
