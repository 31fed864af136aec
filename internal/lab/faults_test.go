package lab_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/cloudtrail"
	trailtypes "github.com/aws/aws-sdk-go-v2/service/cloudtrail/types"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/stretchr/testify/require"

	"rekey/internal/lab/control"
	"rekey/internal/lab/labtest"
)

func TestThrottleByVerbAndRetryAfter(t *testing.T) {
	l := drill(t, `faults: [{what: throttle, at: {verb: Inspect, nth: 3}, status: 429, retry_after: 30s, times: 2}]`, "")
	c := iamFor(l, l.Engine)
	var got []string
	for range 6 {
		_, err := c.ListAccessKeys(t.Context(), &iam.ListAccessKeysInput{UserName: aws.String("ci")})
		got = append(got, code(err))
		var resp *awshttp.ResponseError
		if errors.As(err, &resp) {
			require.Equal(t, 429, resp.HTTPStatusCode())
			require.Equal(t, "30", resp.Response.Header.Get("Retry-After"))
		}
	}
	require.Equal(t, []string{"", "", "Throttling", "Throttling", "", ""}, got)
}

func TestRateLimit(t *testing.T) {
	text := strings.Replace(drillText("", ""), "propagation: 4s", "propagation: 4s, limits: {iam: 5/m}", 1)
	l := labtest.Start(t, labtest.Scenario(t, text))
	c := iamFor(l, l.Engine)
	refused := 0
	ask := func() {
		_, err := c.ListAccessKeys(t.Context(), &iam.ListAccessKeysInput{UserName: aws.String("ci")})
		if code(err) == "Throttling" {
			refused++
		} else {
			require.NoError(t, err)
		}
	}
	for range 8 {
		ask()
	}
	require.Equal(t, 3, refused)
	require.Empty(t, who(t, l, l.Engine), "sts has its own limit")
	advance(t, l, time.Minute)
	refused = 0
	for range 5 {
		ask()
	}
	require.Zero(t, refused, "a minute of world time fills it again")
}

func TestInjectedFaults(t *testing.T) {
	list := func(t *testing.T, l *labtest.Lab) error {
		_, err := iamFor(l, l.Engine).ListUsers(t.Context(), nil)
		return err
	}
	for name, tt := range map[string]struct {
		faults string
		check  func(*testing.T, *labtest.Lab)
	}{
		"burst-503 for a span": {`[{what: burst-503, at: T0, for: 1m, retry_after: 5s}]`, func(t *testing.T, l *labtest.Lab) {
			require.Equal(t, "ServiceUnavailable", code(list(t, l)))
			advance(t, l, time.Minute)
			require.NoError(t, list(t, l))
		}},
		"not-found": {`[{what: not-found, at: {verb: Disable}}]`, func(t *testing.T, l *labtest.Lab) {
			in := &iam.UpdateAccessKeyInput{UserName: aws.String("ci"), AccessKeyId: aws.String(l.Aliases["AK-CI"]), Status: iamtypes.StatusTypeInactive}
			_, err := iamFor(l, l.Engine).UpdateAccessKey(t.Context(), in)
			require.Equal(t, "NoSuchEntity", code(err))
			_, err = iamFor(l, l.Engine).UpdateAccessKey(t.Context(), in)
			require.NoError(t, err)
		}},
		"throttle from a phase on": {`[{what: throttle, at: {phase: verify}, times: 1}]`, func(t *testing.T, l *labtest.Lab) {
			require.NoError(t, list(t, l))
			require.NoError(t, l.Control.EnterPhase(t.Context(), "verify"))
			require.Equal(t, "Throttling", code(list(t, l)))
			require.NoError(t, list(t, l))
		}},
		"alive until bound to a network": {`[{what: alive-after-200, key: AK-OLD, until_rung: network-bind}]`, func(t *testing.T, l *labtest.Lab) {
			disable(t, l, "legacy-admin", "AK-OLD")
			advance(t, l, time.Minute)
			require.Empty(t, who(t, l, l.Secret(t, "AK-OLD")))
			_, err := iamFor(l, l.Engine).PutUserPolicy(t.Context(), &iam.PutUserPolicyInput{UserName: aws.String("legacy-admin"), PolicyName: aws.String("bind"), PolicyDocument: aws.String(
				`{"Statement":[{"Effect":"Deny","Action":"*","Resource":"*","Condition":{"NotIpAddress":{"aws:SourceIp":"203.0.113.0/24"},"Bool":{"aws:ViaAWSService":"false"}}}]}`)})
			require.NoError(t, err)
			advance(t, l, time.Minute)
			require.Equal(t, "InvalidClientTokenId", who(t, l, l.Secret(t, "AK-OLD")))
		}},
		"list-missing": {`[{what: list-missing, action: ListUsers}]`, func(t *testing.T, l *labtest.Lab) {
			require.Equal(t, "NotImplemented", code(list(t, l)))
			_, err := iamFor(l, l.Engine).ListRoles(t.Context(), nil)
			require.NoError(t, err)
		}},
		"pagination-cut": {`[{what: pagination-cut, action: ListUsers, times: 1}]`, func(t *testing.T, l *labtest.Lab) {
			cut, err := iamFor(l, l.Engine).ListUsers(t.Context(), nil)
			require.NoError(t, err)
			require.False(t, cut.IsTruncated)
			whole, err := iamFor(l, l.Engine).ListUsers(t.Context(), nil)
			require.NoError(t, err)
			require.Less(t, len(cut.Users), len(whole.Users))
		}},
		"lost-answer: the effect is made": {`[{what: lost-answer, at: {verb: Issue}}]`, func(t *testing.T, l *labtest.Lab) {
			_, err := iamFor(l, l.Engine).CreateAccessKey(t.Context(), &iam.CreateAccessKeyInput{UserName: aws.String("ci")})
			require.Equal(t, "no answer", code(err))
			o := l.Oracle(t)
			require.Len(t, o.Keys, 3)
			require.True(t, o.Calls[len(o.Calls)-1].Lost)
			require.True(t, o.Calls[len(o.Calls)-1].Effect)
		}},
		"latency": {`[{what: latency, for: 300ms, action: ListUsers}]`, func(t *testing.T, l *labtest.Lab) {
			started := time.Now()
			require.NoError(t, list(t, l))
			require.GreaterOrEqual(t, time.Since(started), 300*time.Millisecond)
		}},
		"propagation": {`[{what: propagation, for: 10m}]`, func(t *testing.T, l *labtest.Lab) {
			disable(t, l, "legacy-admin", "AK-OLD")
			advance(t, l, 9*time.Minute)
			require.Empty(t, who(t, l, l.Secret(t, "AK-OLD")))
			advance(t, l, time.Minute)
			require.Equal(t, "InvalidClientTokenId", who(t, l, l.Secret(t, "AK-OLD")))
		}},
		"wrong-account-credential": {`[{what: wrong-account-credential, account: "999988887777"}]`, func(t *testing.T, l *labtest.Lab) {
			id, err := sts.NewFromConfig(config(l, l.Engine)).GetCallerIdentity(t.Context(), nil)
			require.NoError(t, err)
			require.Equal(t, "999988887777", *id.Account)
			require.Equal(t, "NoSuchEntity", code(list(t, l)))
		}},
		"clock-skew and log-gap": {`[{what: clock-skew, by: -90s}, {what: log-gap, from: T0-4h, to: T0-30m}]`, func(t *testing.T, l *labtest.Lab) {
			require.NoError(t, list(t, l))
			out, err := cloudtrail.NewFromConfig(config(l, l.Engine)).LookupEvents(t.Context(), &cloudtrail.LookupEventsInput{})
			require.NoError(t, err)
			require.Len(t, out.Events, 1, "what AK-CI did in the gap is not there")
			require.Equal(t, "2019-08-19T23:58:30Z", out.Events[0].EventTime.Format(time.RFC3339))
		}},
		"residual-session": {`[{what: residual-session, key: AK-OLD, do: GetFederationToken}]`, func(t *testing.T, l *labtest.Lab) {
			o := l.Oracle(t)
			require.Len(t, o.Sessions, 1)
			require.True(t, o.Sessions[0].Usable)
			require.Equal(t, l.Aliases["AK-OLD"], o.Sessions[0].Parent)
		}},
		"planted-persistence": {`[{what: planted-persistence, key: AK-OLD, do: CreateUser, at: T0-5d}]`, func(t *testing.T, l *labtest.Lab) {
			var planted control.Key
			for _, k := range l.Oracle(t).Keys {
				if k.MintedBy == "malicious" {
					planted = k
				}
			}
			require.Equal(t, "support-1", planted.User)
			require.Equal(t, "2019-08-15T00:00:00Z", planted.Created.Format(time.RFC3339))
			require.True(t, planted.Alive)
			out, err := cloudtrail.NewFromConfig(config(l, l.Engine)).LookupEvents(t.Context(), &cloudtrail.LookupEventsInput{LookupAttributes: []trailtypes.LookupAttribute{
				{AttributeKey: trailtypes.LookupAttributeKeyAccessKeyId, AttributeValue: aws.String(l.Aliases["AK-OLD"])}}})
			require.NoError(t, err)
			require.Equal(t, "CreateAccessKey", *out.Events[0].EventName, "and its making is in the log")
		}},
		"hidden-copy and undocumented-dependent": {`[{what: hidden-copy, key: AK-CI, where: host/H-9, at: T0+1h}, {what: undocumented-dependent, key: AK-CI, where: lambda/L-1}]`, func(t *testing.T, l *labtest.Lab) {
			advance(t, l, 65*time.Minute)
			n := map[string]int{}
			for _, u := range l.Oracle(t).Uses {
				if u.Call == "ec2:DescribeInstances" && u.Alias == "AK-CI" {
					n[u.Source] += u.N
				}
			}
			require.Equal(t, 1, n["host/H-9"])
			require.Equal(t, 7, n["lambda/L-1"])
		}},
	} {
		t.Run(name, func(t *testing.T) { tt.check(t, drill(t, "faults: "+tt.faults, "")) })
	}
}
