package awssim_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudtrail"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/stretchr/testify/require"

	"rekey/internal/lab/awssim"
	"rekey/internal/lab/control"
	"rekey/internal/lab/labtest"
)

func TestWhoMayCall(t *testing.T) {
	l := labtest.Start(t, labtest.Scenario(t, estate))
	engine := clientsFor(l, l.Engine)
	old := l.Secret(t, "AK-OLD")

	t.Run("a good key is who it is", func(t *testing.T) {
		out, err := clientsFor(l, old).sts.GetCallerIdentity(t.Context(), nil)
		require.NoError(t, err)
		require.Equal(t, "arn:aws:iam::111122223333:user/legacy-admin", *out.Arn)
		require.Equal(t, l.Account, *out.Account)
		require.Regexp(t, `^AIDA[A-Z2-7]{17}$`, *out.UserId)
	})
	t.Run("a wrong secret proves that the key lives", func(t *testing.T) {
		c := clientsFor(l, wrongSecret(old))
		_, err := c.sts.GetCallerIdentity(t.Context(), nil)
		refused(t, err, "SignatureDoesNotMatch", 403)
		_, err = c.trail.LookupEvents(t.Context(), nil)
		refused(t, err, "InvalidSignatureException", 400)
	})
	t.Run("an unknown key", func(t *testing.T) {
		c := clientsFor(l, control.Secret{KeyID: "AKIAIOSFODNN7EXAMPLE", SecretKey: old.SecretKey})
		_, err := c.sts.GetCallerIdentity(t.Context(), nil)
		refused(t, err, "InvalidClientTokenId", 403)
		_, err = c.iam.ListUsers(t.Context(), nil)
		refused(t, err, "InvalidClientTokenId", 403)
		_, err = c.secrets.ListSecretVersionIds(t.Context(), &secretsmanager.ListSecretVersionIdsInput{SecretId: aws.String("x")})
		refused(t, err, "UnrecognizedClientException", 400)
	})
	t.Run("inactive, then deleted: the same answer, and a second delete finds nothing", func(t *testing.T) {
		made, err := engine.iam.CreateAccessKey(t.Context(), &iam.CreateAccessKeyInput{UserName: aws.String("ci")})
		require.NoError(t, err)
		mine := clientsFor(l, control.Secret{KeyID: *made.AccessKey.AccessKeyId, SecretKey: *made.AccessKey.SecretAccessKey})
		_, err = mine.sts.GetCallerIdentity(t.Context(), nil)
		refused(t, err, "InvalidClientTokenId", 403) // not yet usable
		advance(t, l, 4*time.Second)
		_, err = mine.sts.GetCallerIdentity(t.Context(), nil)
		require.NoError(t, err)
		_, err = engine.iam.UpdateAccessKey(t.Context(), &iam.UpdateAccessKeyInput{UserName: aws.String("ci"), AccessKeyId: made.AccessKey.AccessKeyId, Status: iamtypes.StatusTypeInactive})
		require.NoError(t, err)
		_, err = mine.sts.GetCallerIdentity(t.Context(), nil)
		require.NoError(t, err, "the change has not propagated")
		advance(t, l, 4*time.Second)
		_, err = mine.sts.GetCallerIdentity(t.Context(), nil)
		refused(t, err, "InvalidClientTokenId", 403)
		del := &iam.DeleteAccessKeyInput{UserName: aws.String("ci"), AccessKeyId: made.AccessKey.AccessKeyId}
		_, err = engine.iam.DeleteAccessKey(t.Context(), del)
		require.NoError(t, err)
		advance(t, l, 4*time.Second)
		_, err = mine.sts.GetCallerIdentity(t.Context(), nil)
		refused(t, err, "InvalidClientTokenId", 403)
		_, err = engine.iam.DeleteAccessKey(t.Context(), del)
		refused(t, err, "NoSuchEntity", 404)
	})
	t.Run("rights: a reader may not write, nobody can take GetCallerIdentity away", func(t *testing.T) {
		ci := clientsFor(l, l.Secret(t, "AK-CI"))
		_, err := ci.iam.ListUsers(t.Context(), nil)
		require.NoError(t, err)
		_, err = ci.iam.CreateAccessKey(t.Context(), nil)
		refused(t, err, "AccessDenied", 403)
		_, err = ci.secrets.GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{SecretId: aws.String("x")})
		refused(t, err, "AccessDeniedException", 400)
		_, err = engine.iam.PutUserPolicy(t.Context(), &iam.PutUserPolicyInput{UserName: aws.String("ci"), PolicyName: aws.String("stop"),
			PolicyDocument: aws.String(`{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"*","Resource":"*"}]}`)})
		require.NoError(t, err)
		advance(t, l, 4*time.Second)
		_, err = ci.iam.ListUsers(t.Context(), nil)
		refused(t, err, "AccessDenied", 403)
		_, err = ci.sts.GetCallerIdentity(t.Context(), nil)
		require.NoError(t, err)
	})
	t.Run("unsigned, misdirected and unknown requests", func(t *testing.T) {
		for _, tt := range []struct {
			header map[string]string
			body   string
			status int
			code   string
		}{
			{nil, "Action=ListUsers&Version=2010-05-08", 403, "MissingAuthenticationToken"},
			{map[string]string{"Authorization": "Basic x"}, "Action=ListUsers&Version=2010-05-08", 400, "IncompleteSignature"},
			{nil, "Action=ListUsers&Version=1999-01-01", 400, "InvalidAction"},
			{map[string]string{"X-Amz-Target": "DynamoDB_20120810.ListTables"}, "{}", 400, "UnknownOperationException"},
		} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, l.BaseURL+"/", strings.NewReader(tt.body))
			require.NoError(t, err)
			for k, v := range tt.header {
				req.Header.Set(k, v)
			}
			resp, err := http.DefaultClient.Do(req)
			require.NoError(t, err)
			body, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			require.Equal(t, tt.status, resp.StatusCode)
			require.Contains(t, string(body), tt.code)
			require.NotEmpty(t, resp.Header.Get("X-Amzn-Requestid"))
		}
	})
}

func TestQuotaCountsInactiveKeys(t *testing.T) {
	l := labtest.Start(t, labtest.Scenario(t, estate))
	c := clientsFor(l, l.Engine).iam
	in := &iam.CreateAccessKeyInput{UserName: aws.String("legacy-admin")}
	second, err := c.CreateAccessKey(t.Context(), in)
	require.NoError(t, err)
	account, ok := awssim.AccountOf(*second.AccessKey.AccessKeyId)
	require.True(t, ok)
	require.Equal(t, l.Account, account, "the account decodes offline")
	_, err = c.UpdateAccessKey(t.Context(), &iam.UpdateAccessKeyInput{UserName: in.UserName, AccessKeyId: second.AccessKey.AccessKeyId, Status: iamtypes.StatusTypeInactive})
	require.NoError(t, err)
	_, err = c.CreateAccessKey(t.Context(), in)
	refused(t, err, "LimitExceeded", 409)
	list, err := c.ListAccessKeys(t.Context(), &iam.ListAccessKeysInput{UserName: in.UserName})
	require.NoError(t, err)
	require.Len(t, list.AccessKeyMetadata, 2)
	require.Equal(t, iamtypes.StatusTypeInactive, list.AccessKeyMetadata[1].Status)
	_, err = c.DeleteAccessKey(t.Context(), &iam.DeleteAccessKeyInput{UserName: in.UserName, AccessKeyId: second.AccessKey.AccessKeyId})
	require.NoError(t, err)
	_, err = c.CreateAccessKey(t.Context(), in)
	require.NoError(t, err, "a deleted key gives its place back")
}

func TestSessionsOutliveTheKeyUntilAPolicyStopsThem(t *testing.T) {
	l := labtest.Start(t, labtest.Scenario(t, estate))
	engine := clientsFor(l, l.Engine)
	old := clientsFor(l, l.Secret(t, "AK-OLD"))
	got, err := old.sts.GetSessionToken(t.Context(), nil)
	require.NoError(t, err)
	require.Regexp(t, `^ASIA[A-Z2-7]{16}$`, *got.Credentials.AccessKeyId)
	session := control.Secret{KeyID: *got.Credentials.AccessKeyId, SecretKey: *got.Credentials.SecretAccessKey, SessionToken: *got.Credentials.SessionToken}
	fed, err := old.sts.GetFederationToken(t.Context(), &sts.GetFederationTokenInput{Name: aws.String("ops"), DurationSeconds: aws.Int32(900),
		Policy: aws.String(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"cloudtrail:*","Resource":"*"}]}`)})
	require.NoError(t, err)
	federated := control.Secret{KeyID: *fed.Credentials.AccessKeyId, SecretKey: *fed.Credentials.SecretAccessKey, SessionToken: *fed.Credentials.SessionToken}

	_, err = engine.iam.DeleteAccessKey(t.Context(), &iam.DeleteAccessKeyInput{UserName: aws.String("legacy-admin"), AccessKeyId: aws.String(l.Aliases["AK-OLD"])})
	require.NoError(t, err)
	advance(t, l, time.Minute)
	s := clientsFor(l, session)
	_, err = s.trail.LookupEvents(t.Context(), nil)
	require.NoError(t, err, "the key is gone, its session is not")
	_, err = s.iam.ListUsers(t.Context(), nil)
	refused(t, err, "InvalidClientTokenId", 403) // no IAM without MFA
	_, err = clientsFor(l, federated).trail.LookupEvents(t.Context(), nil)
	require.NoError(t, err)
	_, err = clientsFor(l, federated).secrets.DescribeSecret(t.Context(), &secretsmanager.DescribeSecretInput{SecretId: aws.String("x")})
	refused(t, err, "AccessDeniedException", 400) // the session policy cuts it down
	tampered := session
	tampered.SessionToken = federated.SessionToken
	_, err = clientsFor(l, tampered).sts.GetCallerIdentity(t.Context(), nil)
	refused(t, err, "InvalidClientTokenId", 403)

	now, err := l.Control.WorldNow(t.Context())
	require.NoError(t, err)
	_, err = engine.iam.PutUserPolicy(t.Context(), &iam.PutUserPolicyInput{UserName: aws.String("legacy-admin"), PolicyName: aws.String("AWSRevokeOlderSessions"),
		PolicyDocument: aws.String(`{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":["*"],"Resource":["*"],"Condition":{"DateLessThan":{"aws:TokenIssueTime":"` + now.Format(time.RFC3339) + `"}}}]}`)})
	require.NoError(t, err)
	_, err = s.trail.LookupEvents(t.Context(), nil)
	require.NoError(t, err, "not propagated yet")
	advance(t, l, 5*time.Second)
	_, err = s.trail.LookupEvents(t.Context(), nil)
	refused(t, err, "AccessDeniedException", 400)
	_, err = s.sts.GetCallerIdentity(t.Context(), nil)
	require.NoError(t, err, "authentication alone still answers")
	for _, o := range l.Oracle(t).Sessions {
		require.False(t, o.Usable, o.ID)
	}
	advance(t, l, 24*time.Hour)
	_, err = s.sts.GetCallerIdentity(t.Context(), nil)
	refused(t, err, "ExpiredToken", 403)
	var effects []control.Call
	for _, c := range l.Oracle(t).Calls {
		if c.Verb == "EndSessions" {
			effects = append(effects, c)
		}
	}
	require.Len(t, effects, 1)
}

func TestAssumeRoleWithSessionPolicy(t *testing.T) {
	l := labtest.Start(t, labtest.Scenario(t, estate))
	in := &sts.AssumeRoleInput{RoleArn: aws.String("arn:aws:iam::111122223333:role/rekey-responder"), RoleSessionName: aws.String("batch-1"), DurationSeconds: aws.Int32(900),
		Policy: aws.String(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iam:UpdateAccessKey","Resource":"arn:aws:iam::111122223333:user/ci"}]}`)}
	out, err := clientsFor(l, l.Engine).sts.AssumeRole(t.Context(), in)
	require.NoError(t, err)
	c := clientsFor(l, control.Secret{KeyID: *out.Credentials.AccessKeyId, SecretKey: *out.Credentials.SecretAccessKey, SessionToken: *out.Credentials.SessionToken})
	update := func(user, key string) error {
		_, err := c.iam.UpdateAccessKey(t.Context(), &iam.UpdateAccessKeyInput{UserName: aws.String(user), AccessKeyId: aws.String(l.Aliases[key]), Status: iamtypes.StatusTypeInactive})
		return err
	}
	require.NoError(t, update("ci", "AK-CI"))
	refused(t, update("legacy-admin", "AK-OLD"), "AccessDenied", 403)
	_, err = clientsFor(l, l.Secret(t, "AK-OLD")).sts.AssumeRole(t.Context(), in)
	refused(t, err, "AccessDenied", 403) // an administrator, but the role does not trust it
	calls := l.Oracle(t).Calls
	require.Equal(t, "Disable", calls[len(calls)-2].Verb, "a session of the engine is the engine")
}

func TestCloudTrail(t *testing.T) {
	l := labtest.Start(t, labtest.Scenario(t, estate))
	engine := clientsFor(l, l.Engine)
	old := clientsFor(l, l.Secret(t, "AK-OLD"))
	made, err := old.iam.CreateAccessKey(t.Context(), &iam.CreateAccessKeyInput{UserName: aws.String("svc-1")})
	require.NoError(t, err)
	_, err = old.iam.GetUser(t.Context(), &iam.GetUserInput{UserName: aws.String("nobody")})
	refused(t, err, "NoSuchEntity", 404)
	byKey := func(id string) []cloudtrail.LookupEventsOutput {
		var pages []cloudtrail.LookupEventsOutput
		in := &cloudtrail.LookupEventsInput{LookupAttributes: lookup("AccessKeyId", id), MaxResults: aws.Int32(2)}
		for {
			out, err := engine.trail.LookupEvents(t.Context(), in)
			require.NoError(t, err)
			pages = append(pages, *out)
			if out.NextToken == nil {
				return pages
			}
			in.NextToken = out.NextToken
		}
	}
	pages := byKey(l.Aliases["AK-OLD"])
	var events []map[string]any
	var raw strings.Builder
	for _, p := range pages {
		require.LessOrEqual(t, len(p.Events), 2)
		for _, e := range p.Events {
			var body map[string]any
			require.NoError(t, json.Unmarshal([]byte(*e.CloudTrailEvent), &body))
			events = append(events, body)
			raw.WriteString(*e.CloudTrailEvent)
		}
	}
	require.NotContains(t, raw.String(), *made.AccessKey.SecretAccessKey)
	require.NotContains(t, raw.String(), l.Secret(t, "AK-OLD").SecretKey)
	names := []string{}
	for _, e := range events {
		names = append(names, e["eventName"].(string))
	}
	require.Equal(t, []string{"GetUser", "CreateAccessKey", "ListUsers", "CreateSnapshot", "DescribeInstances"}, names, "newest first")
	require.Equal(t, "NoSuchEntity", events[0]["errorCode"])
	element := events[1]["responseElements"].(map[string]any)["accessKey"].(map[string]any)
	require.Equal(t, *made.AccessKey.AccessKeyId, element["accessKeyId"])
	require.Equal(t, "svc-1", events[1]["requestParameters"].(map[string]any)["userName"])
	require.Equal(t, "198.51.100.1", events[3]["sourceIPAddress"])
	require.Equal(t, "ec2.amazonaws.com", events[3]["eventSource"])
	require.Equal(t, l.Aliases["AK-OLD"], events[3]["userIdentity"].(map[string]any)["accessKeyId"])

	_, err = engine.trail.LookupEvents(t.Context(), &cloudtrail.LookupEventsInput{LookupAttributes: append(lookup("EventName", "x"), lookup("ReadOnly", "true")...)})
	refused(t, err, "InvalidLookupAttributesException", 400)
	_, err = engine.trail.LookupEvents(t.Context(), &cloudtrail.LookupEventsInput{NextToken: aws.String("forged")})
	refused(t, err, "InvalidNextTokenException", 400)
	advance(t, l, 89*24*time.Hour)
	require.Len(t, byKey(l.Aliases["AK-OLD"])[0].Events, 2)
	advance(t, l, 2*24*time.Hour)
	require.Empty(t, byKey(l.Aliases["AK-OLD"])[0].Events, "older than the retention")
}
