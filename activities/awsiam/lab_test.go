package awsiam_test

import (
	"context"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/stretchr/testify/require"

	"rekey/activities"
	"rekey/activities/activitytest"
	"rekey/activities/awsiam"
	"rekey/internal/lab/labtest"
	"rekey/internal/secret"
)

const labDrill = `
apiVersion: rekey/v1
kind: Drill
name: awsiam-provider
seed: 1
clock: {t0: 2026-11-21T03:00:00Z, horizon: 96h}
estate:
  providers: {awsiam/lab: {limits: {iam: 1000/s}, propagation: 4s, quotas: {keys_per_user: 2}}}
  keys:
    - {id: AK-OLD, user: legacy-admin, policy: AdministratorAccess, issued: T0-718d, last_legit_use: T0-687d, owner: ""}
  logs: {retention: 90d}
trigger: {at: T0, report: {provider: awsiam, kind: user-access-key, key: AK-OLD, source: outsider, confidence: confirmed}}
expect: [{id: dead, expr: "final.items.size() > 0"}]
people:
  - {actor: oncall-1, roles: [commander], on: approval, after: 2m, do: approve}
`

// A labBench plays a thief with the plain SDK and the engine with awsiam.
type labBench struct {
	*awsiam.Client
	lab   *labtest.Lab
	store *activitytest.Store
	ref   activities.Ref
	thief aws.Config
}

func onLab(t *testing.T) labBench {
	t.Helper()
	l := labtest.Start(t, labtest.Scenario(t, labDrill))
	leaked := l.Secret(t, "AK-OLD")
	id := l.Aliases["AK-OLD"]
	b := labBench{lab: l, store: activitytest.NewStore()}
	require.NoError(t, b.store.Seal(t.Context(), secret.Ref{Incident: incident, Handle: "report/1", Provider: awsiam.Code, Origin: l.BaseURL}, secret.New([]byte(leaked.SecretKey))))
	a := account(l.BaseURL, l.Account, l.Engine.KeyID, l.Engine.SecretKey)
	a.Regions = []string{"us-east-1", "eu-central-1"}
	d := deps(b.store)
	d.Now = func(ctx context.Context) time.Time {
		now, err := l.Control.WorldNow(ctx)
		require.NoError(t, err)
		return now
	}
	c, err := awsiam.Provider().Open(a, d)
	require.NoError(t, err)
	b.Client = c.(*awsiam.Client)
	b.ref = activities.Ref{Incident: incident, Token: incident + "/1", Attempt: 1, Secret: "report/1",
		Key: activities.Key{Provider: awsiam.Code, Account: "test", Kind: awsiam.KindUser, ID: id, Principal: "legacy-admin"}}
	b.thief = config(l.BaseURL, id, leaked.SecretKey, "")
	return b
}

func config(url, id, key, token string) aws.Config {
	return aws.Config{Region: "us-east-1", BaseEndpoint: &url, AppID: "AMI-7", Retryer: func() aws.Retryer { return aws.NopRetryer{} },
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: id, SecretAccessKey: key, SessionToken: token}, nil
		})}
}

func (b labBench) now(t *testing.T) time.Time {
	t.Helper()
	now, err := b.lab.Control.WorldNow(t.Context())
	require.NoError(t, err)
	return now
}

func (b labBench) pass(t *testing.T, d time.Duration) {
	t.Helper()
	_, err := b.lab.Control.Advance(t.Context(), d)
	require.NoError(t, err)
}

func (b labBench) probe(t *testing.T, mode string) activities.ProbeResult {
	t.Helper()
	res, err := b.Probe(t.Context(), activities.ProbeRequest{Ref: b.ref, Mode: mode, Vantage: "eu-central-1"})
	require.NoError(t, err)
	return res
}

// role makes a role that the account's users may assume.
func (b labBench) role(t *testing.T) *sts.AssumeRoleInput {
	t.Helper()
	admin := iam.NewFromConfig(config(b.lab.BaseURL, b.lab.Engine.KeyID, b.lab.Engine.SecretKey, ""))
	out, err := admin.CreateRole(t.Context(), &iam.CreateRoleInput{RoleName: aws.String("deploy"), AssumeRolePolicyDocument: aws.String(
		`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::` + b.lab.Account + `:root"},"Action":"sts:AssumeRole"}]}`)})
	require.NoError(t, err)
	_, err = admin.AttachRolePolicy(t.Context(), &iam.AttachRolePolicyInput{RoleName: aws.String("deploy"), PolicyArn: aws.String("arn:aws:iam::aws:policy/AdministratorAccess")})
	require.NoError(t, err)
	b.pass(t, 20*time.Second)
	return &sts.AssumeRoleInput{RoleArn: out.Role.Arn, RoleSessionName: aws.String("thief")}
}

func TestLabTraceOfAThief(t *testing.T) {
	b := onLab(t)
	ctx := t.Context()
	stolen := iam.NewFromConfig(b.thief)
	_, err := stolen.CreateUser(ctx, &iam.CreateUserInput{UserName: aws.String("backdoor")})
	require.NoError(t, err)
	planted, err := stolen.CreateAccessKey(ctx, &iam.CreateAccessKeyInput{UserName: aws.String("backdoor")})
	require.NoError(t, err)
	session, err := sts.NewFromConfig(b.thief).AssumeRole(ctx, b.role(t))
	require.NoError(t, err)
	derived := config(b.lab.BaseURL, *session.Credentials.AccessKeyId, *session.Credentials.SecretAccessKey, *session.Credentials.SessionToken)
	_, err = iam.NewFromConfig(derived).CreateUser(ctx, &iam.CreateUserInput{UserName: aws.String("second")})
	require.NoError(t, err)
	b.pass(t, time.Hour) // the trail is late

	now := b.now(t)
	res, err := b.Inspect(ctx, activities.InspectRequest{Ref: b.ref, Since: now.Add(-90 * 24 * time.Hour), Now: now, Compromised: []string{b.ref.Key.ID}})
	require.NoError(t, err)
	require.True(t, *res.Admin)
	require.Empty(t, res.Unseen)
	require.Len(t, res.Dark, 1, "the key is older than the logs: %v", res.Dark)
	found := map[string]activities.Finding{}
	for _, f := range res.Findings {
		found[f.What+" "+f.ID] = f
	}
	require.Contains(t, found, "user backdoor")
	require.Contains(t, found, "user second", "made by a session of the key")
	require.Equal(t, []string{"deploy"}, res.Roles)
	require.Contains(t, found, "key "+*planted.AccessKey.AccessKeyId)
	require.Contains(t, found, "session "+*session.Credentials.AccessKeyId)
	require.Equal(t, "backdoor", found["key "+*planted.AccessKey.AccessKeyId].Key.Principal)
	for _, u := range res.Uses {
		require.NotEqual(t, activities.UseKnown, u.Label, "malicious use called clean: %+v", u)
	}
	require.Equal(t, res.Digest, again(t, b, now).Digest)

	sweep, err := b.Sweep(ctx, activities.SweepRequest{Ref: b.ref, Since: now.Add(-2 * time.Hour), Now: now, Compromised: []string{b.ref.Key.ID}})
	require.NoError(t, err)
	swept := map[string]bool{}
	for _, f := range sweep.Findings {
		swept[f.What+" "+f.ID] = true
	}
	require.True(t, swept["key "+*planted.AccessKey.AccessKeyId])
	require.True(t, swept["user backdoor"])
	require.Equal(t, "AMI-7", sweep.Hits[0].Source)
}

func again(t *testing.T, b labBench, now time.Time) activities.InspectResult {
	t.Helper()
	res, err := b.Inspect(t.Context(), activities.InspectRequest{Ref: b.ref, Since: now.Add(-90 * 24 * time.Hour), Now: now, Compromised: []string{b.ref.Key.ID}})
	require.NoError(t, err)
	return res
}

func TestLabKillAndProve(t *testing.T) {
	b := onLab(t)
	ctx := t.Context()
	session, err := sts.NewFromConfig(b.thief).AssumeRole(ctx, b.role(t))
	require.NoError(t, err)
	derived := iam.NewFromConfig(config(b.lab.BaseURL, *session.Credentials.AccessKeyId, *session.Credentials.SecretAccessKey, *session.Credentials.SessionToken))
	require.Equal(t, activities.ProbeAlive, b.probe(t, activities.ProbeAuth).Saw)

	_, err = b.Disable(ctx, b.ref)
	require.NoError(t, err)
	b.pass(t, 20*time.Second)
	got := b.probe(t, activities.ProbeAuth)
	require.Equal(t, activities.ProbeRefused, got.Saw)
	require.True(t, got.Control)
	require.Equal(t, activities.ProbeRefused, b.probe(t, activities.ProbeState).Saw)

	_, err = derived.ListUsers(ctx, &iam.ListUsersInput{})
	require.NoError(t, err, "sessions outlive the key")
	res, err := b.EndSessions(ctx, activities.EndSessionsRequest{Ref: b.ref, Before: b.now(t), Roles: []string{"deploy"}})
	require.NoError(t, err)
	require.Equal(t, activities.Done, res.Outcome)
	b.pass(t, 20*time.Second)
	_, err = derived.ListUsers(ctx, &iam.ListUsersInput{})
	require.Error(t, err, "and end by their issue time")

	for _, want := range []activities.Outcome{activities.Done, activities.AlreadyGone} {
		res, err := b.Revoke(ctx, b.ref)
		require.NoError(t, err)
		require.Equal(t, want, res.Outcome)
		b.pass(t, 20*time.Second)
	}
}

func TestLabRestoreEndsByItself(t *testing.T) {
	b := onLab(t)
	ctx := t.Context()
	_, err := b.Disable(ctx, b.ref)
	require.NoError(t, err)
	b.pass(t, 20*time.Second)
	_, err = b.Restore(ctx, activities.RestoreRequest{Ref: b.ref, Until: b.now(t).Add(time.Hour)})
	require.NoError(t, err)
	b.pass(t, 20*time.Second)
	require.Equal(t, activities.ProbeAlive, b.probe(t, activities.ProbeAction).Saw)
	b.pass(t, time.Hour)
	require.Equal(t, activities.ProbeRefused, b.probe(t, activities.ProbeAction).Saw, "nobody had to do anything")
}

func TestLabBindKeepsToTheNetwork(t *testing.T) {
	b := onLab(t)
	ctx := t.Context()
	for _, tt := range []struct {
		allow string
		saw   string
	}{{"203.0.113.0/24", activities.ProbeAlive}, {"198.51.100.0/24", activities.ProbeRefused}} {
		_, err := b.Bind(ctx, activities.BindRequest{Ref: b.ref, Allow: []string{tt.allow}})
		require.NoError(t, err)
		b.pass(t, 20*time.Second)
		require.Equal(t, tt.saw, b.probe(t, activities.ProbeAction).Saw, tt.allow)
	}
}

func TestLabLostCreateIsAttributed(t *testing.T) {
	b := onLab(t)
	ctx := t.Context()
	before, err := b.ListKeys(ctx, b.ref)
	require.NoError(t, err)
	b.store.Fail = context.DeadlineExceeded // sealing fails, and with it the deletion must not be needed twice
	req := activities.IssueRequest{Ref: b.ref, Handle: "new/1", Before: before}
	started := b.now(t)
	_, err = b.Issue(ctx, req)
	require.Error(t, err)
	b.store.Fail = nil
	b.pass(t, 20*time.Second)
	after, err := b.ListKeys(ctx, b.ref)
	require.NoError(t, err)
	require.Equal(t, before, after)

	// The thief makes one inside the same minutes: it is not ours to delete.
	stranger, err := iam.NewFromConfig(b.thief).CreateAccessKey(ctx, &iam.CreateAccessKeyInput{UserName: aws.String("legacy-admin")})
	require.NoError(t, err)
	b.pass(t, time.Hour)
	rec, err := b.ReconcileIssue(ctx, activities.ReconcileRequest{IssueRequest: req, Started: started, Now: b.now(t)})
	require.NoError(t, err)
	require.True(t, rec.Settled)
	require.Empty(t, rec.Killed)
	require.Len(t, rec.Unattributed, 1)
	require.Equal(t, *stranger.AccessKey.AccessKeyId, rec.Unattributed[0].ID)
}

// A reported session names no principal: the trail says whose it is.
func TestLabSessionIsEndedByItsOwnEvents(t *testing.T) {
	b := onLab(t)
	ctx := t.Context()
	session, err := sts.NewFromConfig(b.thief).AssumeRole(ctx, b.role(t))
	require.NoError(t, err)
	creds := session.Credentials
	derived := iam.NewFromConfig(config(b.lab.BaseURL, *creds.AccessKeyId, *creds.SecretAccessKey, *creds.SessionToken))
	_, err = derived.ListUsers(ctx, &iam.ListUsersInput{})
	require.NoError(t, err)
	b.pass(t, time.Hour)
	ref := activities.Ref{Incident: incident, Token: "t", Key: activities.Key{Provider: awsiam.Code, Account: "test", Kind: awsiam.KindSession, ID: *creds.AccessKeyId}}

	_, err = b.Disable(ctx, ref)
	require.ErrorContains(t, err, "end it with EndSessions or Deny")
	now := b.now(t)
	res, err := b.Inspect(ctx, activities.InspectRequest{Ref: ref, Since: now.Add(-90 * 24 * time.Hour), Now: now})
	require.NoError(t, err)
	require.Equal(t, "role/deploy", res.Principal)
	require.True(t, *res.Admin)
	require.Empty(t, res.Dark, "a session is younger than the logs")
	end, err := b.EndSessions(ctx, activities.EndSessionsRequest{Ref: ref, Before: now})
	require.NoError(t, err)
	require.Equal(t, activities.Done, end.Outcome)
	b.pass(t, 20*time.Second)
	_, err = derived.ListUsers(ctx, &iam.ListUsersInput{})
	require.Error(t, err)
}
