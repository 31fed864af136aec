package awsiam_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/stretchr/testify/require"

	"rekey/activities"
	"rekey/activities/activitytest"
	"rekey/activities/activitytest/mototest"
	"rekey/activities/awsiam"
	"rekey/internal/secret"
)

const incident = "inc-0123456789ab"

// A bench is a client of a foreign server with a sealed store.
type bench struct {
	*awsiam.Client
	store *activitytest.Store
	moto  *mototest.Server
}

func onMoto(t *testing.T) bench {
	t.Helper()
	m := mototest.Start(t)
	store := activitytest.NewStore()
	return bench{store: store, moto: m, Client: open(t, account(m.URL, mototest.AccountID, m.AdminID, m.AdminSecret), store)}
}

func (b bench) ref(id, user string) activities.Ref {
	return activities.Ref{
		Incident: incident, Token: incident + "/" + id, Attempt: 1,
		Key: activities.Key{Provider: awsiam.Code, Account: "test", Kind: awsiam.KindUser, ID: id, Principal: user},
	}
}

// sealed seals the secret as intake does and gives the handle.
func (b bench) sealed(t *testing.T, id, key string) string {
	t.Helper()
	handle := "report/" + id
	require.NoError(t, b.store.Seal(t.Context(), secret.Ref{Incident: incident, Handle: handle, Provider: awsiam.Code, Origin: b.moto.URL}, secret.New([]byte(key))))
	return handle
}

func (b bench) probe(t *testing.T, ref activities.Ref, mode string) activities.ProbeResult {
	t.Helper()
	res, err := b.Probe(t.Context(), activities.ProbeRequest{Ref: ref, Mode: mode})
	require.NoError(t, err)
	require.NotEmpty(t, res.Evidence)
	return res
}

func TestMotoLifeOfAKey(t *testing.T) {
	b := onMoto(t)
	ctx := t.Context()
	id, key := b.moto.User(t, "ci", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["iam:GetUser","sts:*"],"Resource":"*"}]}`)
	ref := b.ref(id, "")
	ref.Secret = b.sealed(t, id, key)

	got := b.probe(t, ref, activities.ProbeAuth)
	require.Equal(t, activities.ProbeAlive, got.Saw)
	require.Equal(t, activities.ProbeAlive, b.probe(t, ref, activities.ProbeAction).Saw)
	require.Equal(t, activities.ProbeAlive, b.probe(t, ref, activities.ProbeState).Saw)

	res, err := b.Disable(ctx, ref)
	require.NoError(t, err)
	require.Equal(t, activities.Done, res.Outcome)
	keys, err := b.ListKeys(ctx, ref)
	require.NoError(t, err)
	require.Len(t, keys, 1)
	require.False(t, keys[0].Active)
	require.Equal(t, activities.ProbeRefused, b.probe(t, ref, activities.ProbeState).Saw)
	res, err = b.Disable(ctx, ref)
	require.NoError(t, err)
	require.Equal(t, activities.Done, res.Outcome, "disabling twice")

	for _, want := range []activities.Outcome{activities.Done, activities.AlreadyGone} {
		res, err = b.Revoke(ctx, ref)
		require.NoError(t, err)
		require.Equal(t, want, res.Outcome)
	}
	res, err = b.Disable(ctx, ref)
	require.NoError(t, err)
	require.Equal(t, activities.AlreadyGone, res.Outcome, "disabling what is gone")

	got = b.probe(t, ref, activities.ProbeAuth)
	require.Equal(t, activities.ProbeRefused, got.Saw, "moto nests <Errors><Error>: the SDK alone reads UnknownError")
	require.Equal(t, "InvalidClientTokenId", got.Detail)
	require.True(t, got.Control)
	require.False(t, b.moto.Works(t, id, key))
}

func TestMotoWrongSecretIsNoProof(t *testing.T) {
	b := onMoto(t)
	id, key := b.moto.User(t, "ci", "")
	ref := b.ref(id, "ci")
	wrong := []byte(key)
	for i := range wrong {
		wrong[i] = wrong[len(wrong)-1-i]
	}
	ref.Secret = b.sealed(t, id, string(wrong))
	got := b.probe(t, ref, activities.ProbeAuth)
	require.Equal(t, activities.ProbeMismatch, got.Saw)
	require.True(t, got.Control)
}

func TestMotoDenyStopsThePrincipalAndLifts(t *testing.T) {
	b := onMoto(t)
	ctx := t.Context()
	id, key := b.moto.User(t, "ci", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`)
	ref := b.ref(id, "ci")
	ref.Secret = b.sealed(t, id, key)
	require.Equal(t, activities.ProbeAlive, b.probe(t, ref, activities.ProbeAction).Saw)

	for range 2 {
		res, err := b.Deny(ctx, activities.DenyRequest{Ref: ref})
		require.NoError(t, err)
		require.Equal(t, activities.Done, res.Outcome)
	}
	got := b.probe(t, ref, activities.ProbeAction)
	require.Equal(t, activities.ProbeRefused, got.Saw)
	require.True(t, got.Control)

	for _, want := range []activities.Outcome{activities.Done, activities.AlreadyGone} {
		res, err := b.Deny(ctx, activities.DenyRequest{Ref: ref, Lift: true})
		require.NoError(t, err)
		require.Equal(t, want, res.Outcome)
	}
	require.Equal(t, activities.ProbeAlive, b.probe(t, ref, activities.ProbeAction).Saw)
	own, err := b.moto.IAM.GetUserPolicy(ctx, &iam.GetUserPolicyInput{UserName: aws.String("ci"), PolicyName: aws.String("own")})
	require.NoError(t, err, "what is not ours stays")
	require.NotEmpty(t, aws.ToString(own.PolicyDocument))
}

func TestMotoEndSessionsNeverMovesBack(t *testing.T) {
	b := onMoto(t)
	ctx := t.Context()
	id, _ := b.moto.User(t, "ci", "")
	_, err := b.moto.IAM.CreateRole(ctx, &iam.CreateRoleInput{RoleName: aws.String("deploy"), AssumeRolePolicyDocument: aws.String(`{"Version":"2012-10-17","Statement":[]}`)})
	require.NoError(t, err)
	border := time.Date(2026, 11, 21, 3, 0, 0, 0, time.UTC)
	read := func() (user, role string) {
		name := aws.String("rekey-" + incident + "-sessions")
		u, err := b.moto.IAM.GetUserPolicy(ctx, &iam.GetUserPolicyInput{UserName: aws.String("ci"), PolicyName: name})
		require.NoError(t, err)
		r, err := b.moto.IAM.GetRolePolicy(ctx, &iam.GetRolePolicyInput{RoleName: aws.String("deploy"), PolicyName: name})
		require.NoError(t, err)
		return aws.ToString(u.PolicyDocument), aws.ToString(r.PolicyDocument)
	}
	end := func(before time.Time) activities.Result {
		res, err := b.EndSessions(ctx, activities.EndSessionsRequest{Ref: b.ref(id, "ci"), Before: before, Roles: []string{"deploy", "role/deploy", "vanished"}})
		require.NoError(t, err)
		return res
	}
	res := end(border)
	require.Equal(t, activities.Done, res.Outcome)
	require.Equal(t, "gone: role/vanished", res.Detail)
	user, role := read()
	require.Contains(t, user, "2026-11-21T03%3A00%3A00Z")
	require.Equal(t, user, role)

	end(border.Add(-time.Hour))
	again, _ := read()
	require.Equal(t, user, again, "the border does not move back")
	end(border.Add(time.Hour))
	later, _ := read()
	require.Contains(t, later, "2026-11-21T04%3A00%3A00Z")
}

func TestMotoRestoreInstallsItsEndFirst(t *testing.T) {
	b := onMoto(t)
	ctx := t.Context()
	id, _ := b.moto.User(t, "ci", "")
	ref := b.ref(id, "ci")
	_, err := b.Disable(ctx, ref)
	require.NoError(t, err)
	until := time.Now().Add(time.Hour)
	res, err := b.Restore(ctx, activities.RestoreRequest{Ref: ref, Until: until})
	require.NoError(t, err)
	require.Equal(t, activities.Done, res.Outcome)
	var ops []string
	for _, e := range res.Evidence {
		ops = append(ops, e.Op)
	}
	require.Equal(t, []string{"iam:PutUserPolicy", "iam:GetUserPolicy", "iam:UpdateAccessKey"}, ops)
	keys, err := b.ListKeys(ctx, ref)
	require.NoError(t, err)
	require.True(t, keys[0].Active)

	_, err = b.Restore(ctx, activities.RestoreRequest{Ref: ref, Until: time.Now().Add(-time.Minute)})
	require.ErrorContains(t, err, "is past")
}

func TestMotoIssueAndDistribute(t *testing.T) {
	b := onMoto(t)
	ctx := t.Context()
	id, _ := b.moto.User(t, "ci", "")
	ref := b.ref(id, "ci")
	before, err := b.ListKeys(ctx, ref)
	require.NoError(t, err)
	req := activities.IssueRequest{Ref: ref, Handle: "new/1", Before: before}

	res, err := b.Issue(ctx, req)
	require.NoError(t, err)
	require.Equal(t, activities.Done, res.Outcome)
	require.NotEqual(t, id, res.New.ID)
	again, err := b.Issue(ctx, req)
	require.NoError(t, err)
	require.Equal(t, res.New.ID, again.New.ID, "the same effect makes no second key")
	rec, err := b.ReconcileIssue(ctx, activities.ReconcileRequest{IssueRequest: req, Started: time.Now(), Now: time.Now()})
	require.NoError(t, err)
	require.True(t, rec.Settled)
	require.Equal(t, res.New.ID, rec.Kept.ID)

	full := req
	full.Handle, full.Token = "new/2", "another"
	full.Before, err = b.ListKeys(ctx, ref)
	require.NoError(t, err)
	none, err := b.Issue(ctx, full)
	require.NoError(t, err)
	require.Equal(t, activities.NeedsHuman, none.Outcome)
	require.Equal(t, awsiam.DetailSlot, none.Detail)

	old, err := b.moto.Secrets.CreateSecret(ctx, &secretsmanager.CreateSecretInput{Name: aws.String("ci/aws"), SecretString: aws.String("old value")})
	require.NoError(t, err)
	dreq := activities.DistributeRequest{Ref: ref, Handle: "new/1", NewKeyID: res.New.ID, Target: "awssm", Name: "ci/aws"}
	var versions []string
	for range 2 {
		d, err := b.Distribute(ctx, dreq)
		require.NoError(t, err)
		require.Equal(t, activities.Done, d.Outcome, d.Detail)
		versions = append(versions, d.Version)
	}
	require.Equal(t, versions[0], versions[1])
	require.NotEqual(t, aws.ToString(old.VersionId), versions[0])
	val, err := b.moto.Secrets.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: aws.String("ci/aws")})
	require.NoError(t, err)
	var pair map[string]string
	require.NoError(t, json.Unmarshal([]byte(aws.ToString(val.SecretString)), &pair))
	require.Equal(t, res.New.ID, pair["access_key_id"])
	require.True(t, b.moto.Works(t, pair["access_key_id"], pair["secret_access_key"]), "dependents read a key that works")
	desc, err := b.moto.Secrets.DescribeSecret(ctx, &secretsmanager.DescribeSecretInput{SecretId: aws.String("ci/aws")})
	require.NoError(t, err)
	for v, stages := range desc.VersionIdsToStages {
		require.NotContains(t, stages, "AWSPREVIOUS", v)
	}
	p, err := b.Probe(ctx, activities.ProbeRequest{Ref: ref, Mode: activities.ProbeAuth, Handle: "new/1", NewKeyID: res.New.ID})
	require.NoError(t, err)
	require.Equal(t, activities.ProbeAlive, p.Saw)

	dreq.Name = "nowhere"
	_, err = b.Distribute(ctx, dreq)
	require.ErrorContains(t, err, "there is no secret nowhere")
}

func TestMotoUnattributedKeysAreNotTouched(t *testing.T) {
	b := onMoto(t)
	ctx := t.Context()
	id, _ := b.moto.User(t, "ci", "")
	ref := b.ref(id, "ci")
	before, err := b.ListKeys(ctx, ref)
	require.NoError(t, err)
	stranger, key := b.moto.Key(t, "ci")
	req := activities.IssueRequest{Ref: ref, Handle: "new/1", Before: before}
	_, err = b.Issue(ctx, req)
	require.Equal(t, activities.ClassUnclear, activities.AsFault("", err).Class)
	rec, err := b.ReconcileIssue(ctx, activities.ReconcileRequest{IssueRequest: req, Started: time.Now(), Now: time.Now()})
	require.NoError(t, err)
	require.Empty(t, rec.Killed)
	require.Len(t, rec.Unattributed, 1)
	require.Equal(t, stranger, rec.Unattributed[0].ID)
	require.True(t, b.moto.Works(t, stranger, key))
}

func TestMotoInspectSaysWhatItCannotSee(t *testing.T) {
	b := onMoto(t)
	ctx := t.Context()
	id, _ := b.moto.User(t, "legacy-admin", "")
	sibling, _ := b.moto.Key(t, "legacy-admin")
	_, err := b.moto.IAM.TagUser(ctx, &iam.TagUserInput{UserName: aws.String("legacy-admin"), Tags: tags("owner", "platform")})
	require.NoError(t, err)
	_, err = b.moto.IAM.CreateGroup(ctx, &iam.CreateGroupInput{GroupName: aws.String("admins")})
	require.NoError(t, err)
	_, err = b.moto.IAM.AddUserToGroup(ctx, &iam.AddUserToGroupInput{GroupName: aws.String("admins"), UserName: aws.String("legacy-admin")})
	require.NoError(t, err)
	_, err = b.moto.IAM.PutGroupPolicy(ctx, &iam.PutGroupPolicyInput{GroupName: aws.String("admins"), PolicyName: aws.String("all"),
		PolicyDocument: aws.String(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"iam:Put*","Resource":"*"}}`)})
	require.NoError(t, err)

	now := time.Now()
	res, err := b.Inspect(ctx, activities.InspectRequest{Ref: b.ref(id, ""), Since: now.Add(-90 * 24 * time.Hour), Now: now})
	require.NoError(t, err)
	require.Equal(t, "legacy-admin", res.Principal)
	require.Equal(t, "platform", res.Owner)
	require.True(t, *res.Exists)
	require.True(t, *res.Active)
	require.True(t, *res.Admin, "iam:Put* on * makes an administrator")
	require.Equal(t, []string{"group/admins/all"}, res.Policies)
	require.Len(t, res.Siblings, 1)
	require.Equal(t, sibling, res.Siblings[0].ID)
	require.Contains(t, res.Unseen, activities.Unseen{Source: "cloudtrail/us-east-1", Why: "not implemented by this endpoint"})
	require.NotEmpty(t, res.Dark, "no logs are a dark window, never an idle key")
	require.Regexp(t, `^sha256:[0-9a-f]{64}$`, res.Digest)
	again, err := b.Inspect(ctx, activities.InspectRequest{Ref: b.ref(id, ""), Since: now.Add(-90 * 24 * time.Hour), Now: now})
	require.NoError(t, err)
	require.Equal(t, res.Digest, again.Digest)
}

func TestMotoSweepFindsWhatWasLeft(t *testing.T) {
	b := onMoto(t)
	ctx := t.Context()
	since := time.Now().Add(-time.Minute)
	id, _ := b.moto.User(t, "ci", "")
	req := activities.SweepRequest{Ref: b.ref(id, "ci"), Since: since, Now: time.Now()}
	first, err := b.Sweep(ctx, req)
	require.NoError(t, err)
	require.Empty(t, first.Findings)

	_, err = b.EndSessions(ctx, activities.EndSessionsRequest{Ref: req.Ref, Before: since})
	require.NoError(t, err)
	second, err := b.Sweep(ctx, req)
	require.NoError(t, err)
	require.Equal(t, first.Digest, second.Digest, "our own Deny is no residue")

	planted, _ := b.moto.Key(t, "ci")
	_, err = b.moto.IAM.CreateLoginProfile(ctx, &iam.CreateLoginProfileInput{UserName: aws.String("ci"), Password: aws.String("Aa1!" + planted)})
	require.NoError(t, err)
	third, err := b.Sweep(ctx, req)
	require.NoError(t, err)
	require.NotEqual(t, second.Digest, third.Digest)
	var found []string
	for _, f := range third.Findings {
		found = append(found, f.What+" "+f.ID)
	}
	require.ElementsMatch(t, []string{"key " + planted, "login ci"}, found)

	req.Ours = []string{planted}
	blind, err := b.Sweep(ctx, activities.SweepRequest{Ref: req.Ref, Since: since, Now: time.Now(), UsesOnly: true})
	require.NoError(t, err, "moto has no CloudTrail look-ups: a watch there sees nothing, and says so")
	require.NotEmpty(t, blind.Unseen)
	require.Empty(t, blind.Hits)

	fourth, err := b.Sweep(ctx, req)
	require.NoError(t, err)
	require.Len(t, fourth.Findings, 1)
}
