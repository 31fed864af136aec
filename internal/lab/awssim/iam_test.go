package awssim_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/stretchr/testify/require"

	"rekey/internal/lab/labtest"
)

const (
	denyAll = `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"*","Resource":"*"}]}`
	trust   = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:root"},"Action":"sts:AssumeRole"}]}`
	readARN = "arn:aws:iam::aws:policy/ReadOnlyAccess"
)

func TestUsers(t *testing.T) {
	l := labtest.Start(t, labtest.Scenario(t, estate))
	c := clientsFor(l, l.Engine).iam
	ctx, name := t.Context(), aws.String("temp")
	made, err := c.CreateUser(ctx, &iam.CreateUserInput{UserName: name})
	require.NoError(t, err)
	require.Equal(t, "arn:aws:iam::111122223333:user/temp", *made.User.Arn)
	_, err = c.CreateUser(ctx, &iam.CreateUserInput{UserName: name})
	refused(t, err, "EntityAlreadyExists", 409)
	got, err := c.GetUser(ctx, &iam.GetUserInput{UserName: name})
	require.NoError(t, err)
	require.Equal(t, made.User.UserId, got.User.UserId)

	_, err = c.PutUserPolicy(ctx, &iam.PutUserPolicyInput{UserName: name, PolicyName: aws.String("stop"), PolicyDocument: aws.String(denyAll)})
	require.NoError(t, err)
	_, err = c.PutUserPolicy(ctx, &iam.PutUserPolicyInput{UserName: name, PolicyName: aws.String("bad"), PolicyDocument: aws.String(`{"Statement":[{}]}`)})
	refused(t, err, "MalformedPolicyDocument", 400)
	names, err := c.ListUserPolicies(ctx, &iam.ListUserPoliciesInput{UserName: name})
	require.NoError(t, err)
	require.Equal(t, []string{"stop"}, names.PolicyNames)
	doc, err := c.GetUserPolicy(ctx, &iam.GetUserPolicyInput{UserName: name, PolicyName: aws.String("stop")})
	require.NoError(t, err)
	plain, err := url.QueryUnescape(*doc.PolicyDocument)
	require.NoError(t, err)
	require.Equal(t, denyAll, plain)
	require.NotEqual(t, denyAll, *doc.PolicyDocument, "documents come URL-encoded")

	attach := &iam.AttachUserPolicyInput{UserName: name, PolicyArn: aws.String(readARN)}
	for range 2 { // idempotent
		_, err = c.AttachUserPolicy(ctx, attach)
		require.NoError(t, err)
	}
	_, err = c.AttachUserPolicy(ctx, &iam.AttachUserPolicyInput{UserName: name, PolicyArn: aws.String("arn:aws:iam::aws:policy/NoSuch")})
	refused(t, err, "NoSuchEntity", 404)
	attached, err := c.ListAttachedUserPolicies(ctx, &iam.ListAttachedUserPoliciesInput{UserName: name})
	require.NoError(t, err)
	require.Len(t, attached.AttachedPolicies, 1)
	require.Equal(t, "ReadOnlyAccess", *attached.AttachedPolicies[0].PolicyName)
	pol, err := c.GetPolicy(ctx, &iam.GetPolicyInput{PolicyArn: attached.AttachedPolicies[0].PolicyArn})
	require.NoError(t, err)
	version, err := c.GetPolicyVersion(ctx, &iam.GetPolicyVersionInput{PolicyArn: pol.Policy.Arn, VersionId: pol.Policy.DefaultVersionId})
	require.NoError(t, err)
	require.Contains(t, *version.PolicyVersion.Document, "%22Action%22")
	_, err = c.GetPolicy(ctx, &iam.GetPolicyInput{PolicyArn: aws.String("arn:aws:iam::aws:policy/NoSuch")})
	refused(t, err, "NoSuchEntity", 404)
	_, err = c.GetPolicyVersion(ctx, &iam.GetPolicyVersionInput{PolicyArn: pol.Policy.Arn, VersionId: aws.String("v9")})
	refused(t, err, "NoSuchEntity", 404)
	_, err = c.DeleteUser(ctx, &iam.DeleteUserInput{UserName: name})
	refused(t, err, "DeleteConflict", 409)
	_, err = c.DetachUserPolicy(ctx, &iam.DetachUserPolicyInput{UserName: name, PolicyArn: aws.String(readARN)})
	require.NoError(t, err)
	_, err = c.DetachUserPolicy(ctx, &iam.DetachUserPolicyInput{UserName: name, PolicyArn: aws.String(readARN)})
	refused(t, err, "NoSuchEntity", 404)
	_, err = c.DeleteUserPolicy(ctx, &iam.DeleteUserPolicyInput{UserName: name, PolicyName: aws.String("stop")})
	require.NoError(t, err)
	_, err = c.DeleteUserPolicy(ctx, &iam.DeleteUserPolicyInput{UserName: name, PolicyName: aws.String("stop")})
	refused(t, err, "NoSuchEntity", 404)

	groups, err := c.ListGroupsForUser(ctx, &iam.ListGroupsForUserInput{UserName: name})
	require.NoError(t, err)
	require.Empty(t, groups.Groups)
	mfa, err := c.ListMFADevices(ctx, &iam.ListMFADevicesInput{UserName: name})
	require.NoError(t, err)
	require.Empty(t, mfa.MFADevices)
	ssh, err := c.ListSSHPublicKeys(ctx, &iam.ListSSHPublicKeysInput{UserName: name})
	require.NoError(t, err)
	require.Empty(t, ssh.SSHPublicKeys)
	creds, err := c.ListServiceSpecificCredentials(ctx, &iam.ListServiceSpecificCredentialsInput{UserName: name})
	require.NoError(t, err)
	require.Empty(t, creds.ServiceSpecificCredentials)
	certs, err := c.ListSigningCertificates(ctx, &iam.ListSigningCertificatesInput{UserName: name})
	require.NoError(t, err)
	require.Empty(t, certs.Certificates)
	_, err = c.GetLoginProfile(ctx, &iam.GetLoginProfileInput{UserName: name})
	refused(t, err, "NoSuchEntity", 404)
	_, err = c.DeleteLoginProfile(ctx, &iam.DeleteLoginProfileInput{UserName: name})
	refused(t, err, "NoSuchEntity", 404)
	_, err = c.DeleteUser(ctx, &iam.DeleteUserInput{UserName: name})
	require.NoError(t, err)
	_, err = c.GetUser(ctx, &iam.GetUserInput{UserName: name})
	refused(t, err, "NoSuchEntity", 404)
}

func TestRoles(t *testing.T) {
	l := labtest.Start(t, labtest.Scenario(t, estate))
	c := clientsFor(l, l.Engine).iam
	ctx, name := t.Context(), aws.String("backdoor")
	_, err := c.CreateRole(ctx, &iam.CreateRoleInput{RoleName: name, AssumeRolePolicyDocument: aws.String(trust)})
	require.NoError(t, err)
	_, err = c.PutRolePolicy(ctx, &iam.PutRolePolicyInput{RoleName: name, PolicyName: aws.String("stop"), PolicyDocument: aws.String(denyAll)})
	require.NoError(t, err)
	_, err = c.AttachRolePolicy(ctx, &iam.AttachRolePolicyInput{RoleName: name, PolicyArn: aws.String(readARN)})
	require.NoError(t, err)
	names, err := c.ListRolePolicies(ctx, &iam.ListRolePoliciesInput{RoleName: name})
	require.NoError(t, err)
	require.Equal(t, []string{"stop"}, names.PolicyNames)
	doc, err := c.GetRolePolicy(ctx, &iam.GetRolePolicyInput{RoleName: name, PolicyName: aws.String("stop")})
	require.NoError(t, err)
	require.Contains(t, *doc.PolicyDocument, "%22Deny%22")
	attached, err := c.ListAttachedRolePolicies(ctx, &iam.ListAttachedRolePoliciesInput{RoleName: name})
	require.NoError(t, err)
	require.Len(t, attached.AttachedPolicies, 1)
	none := strings.Replace(trust, "Allow", "Deny", 1)
	_, err = c.UpdateAssumeRolePolicy(ctx, &iam.UpdateAssumeRolePolicyInput{RoleName: name, PolicyDocument: aws.String(none)})
	require.NoError(t, err)
	got, err := c.GetRole(ctx, &iam.GetRoleInput{RoleName: name})
	require.NoError(t, err)
	require.Contains(t, *got.Role.AssumeRolePolicyDocument, "Deny")
	roles, err := c.ListRoles(ctx, nil)
	require.NoError(t, err)
	require.Len(t, roles.Roles, 2)
	_, err = c.DeleteRole(ctx, &iam.DeleteRoleInput{RoleName: name})
	refused(t, err, "DeleteConflict", 409)
	_, err = c.DetachRolePolicy(ctx, &iam.DetachRolePolicyInput{RoleName: name, PolicyArn: aws.String(readARN)})
	require.NoError(t, err)
	_, err = c.DeleteRolePolicy(ctx, &iam.DeleteRolePolicyInput{RoleName: name, PolicyName: aws.String("stop")})
	require.NoError(t, err)
	_, err = c.DeleteRole(ctx, &iam.DeleteRoleInput{RoleName: name})
	require.NoError(t, err)
	_, err = c.GetRole(ctx, &iam.GetRoleInput{RoleName: name})
	refused(t, err, "NoSuchEntity", 404)
}

func TestListingsComeInPages(t *testing.T) {
	l := labtest.Start(t, labtest.Scenario(t, estate))
	c := clientsFor(l, l.Engine).iam
	seen := map[string]bool{}
	users := iam.NewListUsersPaginator(c, &iam.ListUsersInput{})
	pages := 0
	for ; users.HasMorePages(); pages++ {
		out, err := users.NextPage(t.Context())
		require.NoError(t, err)
		for _, u := range out.Users {
			require.False(t, seen[*u.UserName])
			seen[*u.UserName] = true
		}
	}
	require.Len(t, seen, 123)
	require.Equal(t, 2, pages)

	details := map[string]iamtypes.UserDetail{}
	documents, roles := 0, 0
	all := iam.NewGetAccountAuthorizationDetailsPaginator(c, &iam.GetAccountAuthorizationDetailsInput{MaxItems: aws.Int32(50)})
	for pages = 0; all.HasMorePages(); pages++ {
		out, err := all.NextPage(t.Context())
		require.NoError(t, err)
		for _, u := range out.UserDetailList {
			details[*u.UserName] = u
		}
		roles += len(out.RoleDetailList)
		for _, p := range out.Policies {
			require.Contains(t, *p.PolicyVersionList[0].Document, "%22Statement%22")
			documents++
		}
	}
	require.Equal(t, 3, pages)
	require.Len(t, details, 123)
	require.Equal(t, "AdministratorAccess", *details["legacy-admin"].AttachedManagedPolicies[0].PolicyName)
	require.Equal(t, 1, roles)
	require.Equal(t, 2, documents)
	only, err := c.GetAccountAuthorizationDetails(t.Context(), &iam.GetAccountAuthorizationDetailsInput{Filter: []iamtypes.EntityType{iamtypes.EntityTypeRole}})
	require.NoError(t, err)
	require.Empty(t, only.UserDetailList)
	require.Len(t, only.RoleDetailList, 1)
	_, err = c.ListUsers(t.Context(), &iam.ListUsersInput{Marker: aws.String("forged")})
	refused(t, err, "ValidationError", 400)
}

func TestLastUsed(t *testing.T) {
	l := labtest.Start(t, labtest.Scenario(t, estate))
	c := clientsFor(l, l.Engine)
	used := func(name string) *iam.GetAccessKeyLastUsedOutput {
		out, err := c.iam.GetAccessKeyLastUsed(t.Context(), &iam.GetAccessKeyLastUsedInput{AccessKeyId: aws.String(l.Aliases[name])})
		require.NoError(t, err)
		return out
	}
	never := used("AK-CI")
	require.Equal(t, "ci", *never.UserName)
	require.Nil(t, never.AccessKeyLastUsed.LastUsedDate)
	require.Equal(t, "N/A", *never.AccessKeyLastUsed.ServiceName)
	past := used("AK-OLD")
	require.Equal(t, "2026-11-19T03:00:01Z", past.AccessKeyLastUsed.LastUsedDate.Format("2006-01-02T15:04:05Z07:00"))
	require.Equal(t, "iam", *past.AccessKeyLastUsed.ServiceName)
	_, err := clientsFor(l, wrongSecret(l.Secret(t, "AK-CI"))).sts.GetCallerIdentity(t.Context(), nil)
	refused(t, err, "SignatureDoesNotMatch", 403)
	require.Nil(t, used("AK-CI").AccessKeyLastUsed.LastUsedDate, "a wrong secret is no use")
	_, err = clientsFor(l, l.Secret(t, "AK-CI")).sts.GetCallerIdentity(t.Context(), nil)
	require.NoError(t, err)
	require.Equal(t, "sts", *used("AK-CI").AccessKeyLastUsed.ServiceName)
	_, err = c.iam.GetAccessKeyLastUsed(t.Context(), &iam.GetAccessKeyLastUsedInput{AccessKeyId: aws.String("AKIAIOSFODNN7EXAMPLE")})
	refused(t, err, "NoSuchEntity", 404)
	info, err := c.sts.GetAccessKeyInfo(t.Context(), &sts.GetAccessKeyInfoInput{AccessKeyId: aws.String(l.Aliases["AK-OLD"])})
	require.NoError(t, err)
	require.Equal(t, l.Account, *info.Account)
}

func TestSecretsManager(t *testing.T) {
	l := labtest.Start(t, labtest.Scenario(t, estate))
	c := clientsFor(l, l.Engine).secrets
	ctx, id := t.Context(), aws.String("team/aws")
	token := func(n string) *string { return aws.String("00000000-0000-4000-8000-00000000000" + n) }
	_, err := c.DescribeSecret(ctx, &secretsmanager.DescribeSecretInput{SecretId: id})
	refused(t, err, "ResourceNotFoundException", 400)
	made, err := c.CreateSecret(ctx, &secretsmanager.CreateSecretInput{Name: id, SecretString: aws.String("one"), ClientRequestToken: token("1")})
	require.NoError(t, err)
	_, err = c.CreateSecret(ctx, &secretsmanager.CreateSecretInput{Name: id, SecretString: aws.String("one"), ClientRequestToken: token("1")})
	require.NoError(t, err, "the same again is no error")
	_, err = c.CreateSecret(ctx, &secretsmanager.CreateSecretInput{Name: id, SecretString: aws.String("x"), ClientRequestToken: token("9")})
	refused(t, err, "ResourceExistsException", 400)

	put := func(value, n string) error {
		_, err := c.PutSecretValue(ctx, &secretsmanager.PutSecretValueInput{SecretId: made.ARN, SecretString: aws.String(value), ClientRequestToken: token(n)})
		return err
	}
	require.NoError(t, put("two", "2"))
	require.NoError(t, put("two", "2"))
	refused(t, put("three", "2"), "ResourceExistsException", 400)
	get := func(stage, version *string) (string, error) {
		out, err := c.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: id, VersionStage: stage, VersionId: version})
		if err != nil {
			return "", err
		}
		return *out.SecretString, nil
	}
	for _, tt := range []struct {
		stage, version *string
		want           string
	}{{nil, nil, "two"}, {aws.String("AWSPREVIOUS"), nil, "one"}, {nil, token("1"), "one"}, {aws.String("AWSCURRENT"), token("2"), "two"}} {
		got, err := get(tt.stage, tt.version)
		require.NoError(t, err)
		require.Equal(t, tt.want, got)
	}
	_, err = get(aws.String("AWSCURRENT"), token("1"))
	refused(t, err, "ResourceNotFoundException", 400)

	d, err := c.DescribeSecret(ctx, &secretsmanager.DescribeSecretInput{SecretId: id})
	require.NoError(t, err)
	require.Equal(t, map[string][]string{*token("1"): {"AWSPREVIOUS"}, *token("2"): {"AWSCURRENT"}}, d.VersionIdsToStages)
	_, err = c.UpdateSecretVersionStage(ctx, &secretsmanager.UpdateSecretVersionStageInput{SecretId: id, VersionStage: aws.String("AWSCURRENT"), MoveToVersionId: token("1")})
	refused(t, err, "InvalidParameterException", 400)
	_, err = c.UpdateSecretVersionStage(ctx, &secretsmanager.UpdateSecretVersionStageInput{SecretId: id, VersionStage: aws.String("AWSPREVIOUS"), RemoveFromVersionId: token("1")})
	require.NoError(t, err)
	_, err = get(aws.String("AWSPREVIOUS"), nil)
	refused(t, err, "ResourceNotFoundException", 400)
	list, err := c.ListSecretVersionIds(ctx, &secretsmanager.ListSecretVersionIdsInput{SecretId: id})
	require.NoError(t, err)
	require.Len(t, list.Versions, 1)
	list, err = c.ListSecretVersionIds(ctx, &secretsmanager.ListSecretVersionIdsInput{SecretId: id, IncludeDeprecated: aws.Bool(true)})
	require.NoError(t, err)
	require.Len(t, list.Versions, 2)
}
