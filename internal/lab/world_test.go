package lab_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/cloudtrail"
	trailtypes "github.com/aws/aws-sdk-go-v2/service/cloudtrail/types"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
	"github.com/stretchr/testify/require"

	"rekey/internal/lab"
	"rekey/internal/lab/control"
	"rekey/internal/lab/labtest"
)

// drill is a scenario with holes for what a test wants to add.
func drill(t *testing.T, faults, attacker string) *labtest.Lab {
	t.Helper()
	return labtest.Start(t, labtest.Scenario(t, drillText(faults, attacker)))
}

func drillText(faults, attacker string) string {
	return `
apiVersion: rekey/v1
kind: Drill
name: world
seed: 3
clock: {t0: 2019-08-20T00:00:00Z, horizon: 96h}
estate:
  providers: {awsiam/lab: {propagation: 4s}}
  keys:
    - {id: AK-OLD, user: legacy-admin, policy: AdministratorAccess, issued: T0-718d, last_legit_use: T0-687d}
    - {id: AK-CI, user: ci, policy: ReadOnlyAccess, issued: T0-60d, last_legit_use: T0-1h, owner: platform}
  copies: [{key: AK-OLD, where: ami/AMI-7, registered: false, relaunch: T0+6h}]
  dependents: [{id: nightly, keys: [AK-CI], owner: platform, cutover: dual}]
trigger: {at: T0, report: {provider: awsiam, key: AK-OLD, source: outsider}}
` + faults + "\n" + attacker + `
expect: [{id: any, expr: "true"}]
`
}

func iamFor(l *labtest.Lab, s control.Secret) *iam.Client { return iam.NewFromConfig(config(l, s)) }

func config(l *labtest.Lab, s control.Secret) aws.Config {
	return aws.Config{Region: l.Region, BaseEndpoint: aws.String(l.BaseURL), RetryMaxAttempts: 1, HTTPClient: l.HTTP,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: s.KeyID, SecretAccessKey: s.SecretKey, SessionToken: s.SessionToken}, nil
		})}
}

func code(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	if err != nil {
		return "no answer"
	}
	return ""
}

func advance(t *testing.T, l *labtest.Lab, d time.Duration) {
	t.Helper()
	_, err := l.Control.Advance(t.Context(), d)
	require.NoError(t, err)
}

func disable(t *testing.T, l *labtest.Lab, user, key string) {
	t.Helper()
	_, err := iamFor(l, l.Engine).UpdateAccessKey(t.Context(), &iam.UpdateAccessKeyInput{UserName: aws.String(user), AccessKeyId: aws.String(l.Aliases[key]), Status: iamtypes.StatusTypeInactive})
	require.NoError(t, err)
}

func who(t *testing.T, l *labtest.Lab, s control.Secret) string {
	t.Helper()
	_, err := sts.NewFromConfig(config(l, s)).GetCallerIdentity(t.Context(), nil)
	return code(err)
}

const knowsOld = "attacker: {knows: [AK-OLD], every: 60s, reacts: [{on: first-change, do: CreateAccessKey}]}"

func TestAttackerMintsInsideThePropagationOfTheFirstChange(t *testing.T) {
	l := drill(t, "", knowsOld)
	disable(t, l, "legacy-admin", "AK-OLD")
	advance(t, l, time.Second)
	require.Len(t, l.Oracle(t).Keys, 2, "it needs a moment")
	advance(t, l, time.Second)
	var minted control.Key
	for _, k := range l.Oracle(t).Keys {
		if k.MintedBy == "malicious" {
			minted = k
		}
	}
	require.Equal(t, "legacy-admin", minted.User, "the dying key still made another")
	advance(t, l, 2*time.Minute)
	o := l.Oracle(t)
	results := map[string]string{}
	for _, u := range o.Uses {
		if u.Label == "malicious" && u.Call == "ec2:DescribeInstances" {
			results[u.Key] = u.Result
		}
	}
	require.Equal(t, map[string]string{l.Aliases["AK-OLD"]: "denied", minted.ID: "ok"}, results)

	_, err := iamFor(l, l.Engine).DeleteAccessKey(t.Context(), &iam.DeleteAccessKeyInput{UserName: aws.String("legacy-admin"), AccessKeyId: aws.String(minted.ID)})
	require.NoError(t, err)
	advance(t, l, 10*time.Minute)
	made := 0
	for _, k := range l.Oracle(t).Keys {
		if k.MintedBy == "malicious" {
			made++
			require.False(t, k.Alive)
		}
	}
	require.Equal(t, 1, made, "it reacts to the first change only")
}

func TestAttackerFailsAfterThePropagation(t *testing.T) {
	l := drill(t, `faults: [{what: attacker-mints, key: AK-OLD, at: T0+10s}]`, "")
	disable(t, l, "legacy-admin", "AK-OLD")
	advance(t, l, time.Minute)
	require.Len(t, l.Oracle(t).Keys, 2, "the key was dead for six seconds")
}

func TestAliveAfter200UntilPrincipal(t *testing.T) {
	l := drill(t, `faults: [{what: alive-after-200, key: AK-OLD, until_rung: principal}]`, "")
	old := l.Secret(t, "AK-OLD")
	disable(t, l, "legacy-admin", "AK-OLD")
	advance(t, l, time.Hour)
	list, err := iamFor(l, l.Engine).ListAccessKeys(t.Context(), &iam.ListAccessKeysInput{UserName: aws.String("legacy-admin")})
	require.NoError(t, err)
	require.Equal(t, iamtypes.StatusTypeInactive, list.AccessKeyMetadata[0].Status, "the provider says inactive")
	require.Empty(t, who(t, l, old), "and the key works")
	_, err = iamFor(l, l.Engine).DeleteAccessKey(t.Context(), &iam.DeleteAccessKeyInput{UserName: aws.String("legacy-admin"), AccessKeyId: aws.String(old.KeyID)})
	require.NoError(t, err)
	advance(t, l, time.Hour)
	require.Empty(t, who(t, l, old), "deleted, and works")
	put := func(name, doc string) {
		_, err := iamFor(l, l.Engine).PutUserPolicy(t.Context(), &iam.PutUserPolicyInput{UserName: aws.String("legacy-admin"), PolicyName: aws.String(name), PolicyDocument: aws.String(doc)})
		require.NoError(t, err)
		advance(t, l, 5*time.Second)
	}
	put("sessions", `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"*","Resource":"*","Condition":{"DateLessThan":{"aws:TokenIssueTime":"2019-08-20T03:00:00Z"}}}]}`)
	require.Empty(t, who(t, l, old), "the rung sessions is not enough")
	put("principal", `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"*","Resource":"*"}]}`)
	require.Equal(t, "InvalidClientTokenId", who(t, l, old))
	for _, k := range l.Oracle(t).Keys {
		require.Equal(t, k.ID != old.KeyID, k.Alive, k.ID)
	}
}

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

func TestHiddenCopyIsSeenWithItsPlace(t *testing.T) {
	l := drill(t, "", "")
	disable(t, l, "legacy-admin", "AK-OLD")
	advance(t, l, 5*time.Hour)
	for _, u := range l.Oracle(t).Uses {
		require.NotEqual(t, "ami/AMI-7", u.Source)
	}
	advance(t, l, 2*time.Hour)
	var denied bool
	for _, u := range l.Oracle(t).Uses {
		denied = denied || u.Source == "ami/AMI-7" && u.Result == "denied" && u.Alias == "AK-OLD"
	}
	require.True(t, denied)
	out, err := cloudtrail.NewFromConfig(config(l, l.Engine)).LookupEvents(t.Context(), &cloudtrail.LookupEventsInput{LookupAttributes: []trailtypes.LookupAttribute{
		{AttributeKey: trailtypes.LookupAttributeKeyAccessKeyId, AttributeValue: aws.String(l.Aliases["AK-OLD"])}}})
	require.NoError(t, err)
	require.Contains(t, *out.Events[0].CloudTrailEvent, "app/ami/AMI-7")
	require.Contains(t, *out.Events[0].CloudTrailEvent, `"errorCode":"InvalidClientTokenId"`)
}

// reissue makes a new key and puts it into the dependent's store.
func reissue(t *testing.T, l *labtest.Lab) string {
	t.Helper()
	made, err := iamFor(l, l.Engine).CreateAccessKey(t.Context(), &iam.CreateAccessKeyInput{UserName: aws.String("ci")})
	require.NoError(t, err)
	_, err = secretsmanager.NewFromConfig(config(l, l.Engine)).PutSecretValue(t.Context(), &secretsmanager.PutSecretValueInput{SecretId: aws.String("platform/aws"),
		ClientRequestToken: aws.String("00000000-0000-4000-8000-000000000001"),
		SecretString:       aws.String(`{"AccessKeyId":"` + *made.AccessKey.AccessKeyId + `","SecretAccessKey":"` + *made.AccessKey.SecretAccessKey + `"}`)})
	require.NoError(t, err)
	return *made.AccessKey.AccessKeyId
}

func TestDependentsCutOver(t *testing.T) {
	for name, tt := range map[string]struct {
		cutover string
		restart bool
		faults  string
		adopts  bool
		outage  bool
	}{
		"dual reads its store before each use": {cutover: "dual", adopts: true},
		"hot looks again after a refusal":      {cutover: "hot", adopts: true},
		"restart without one stays":            {cutover: "restart", outage: true},
		"restart with one moves":               {cutover: "restart", restart: true, adopts: true},
		"a stale cache holds the old key":      {cutover: "dual", faults: "faults: [{what: stale-cache, dependent: nightly, for: 1h}]", adopts: true, outage: true},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Replace(drillText(tt.faults, ""), "cutover: dual", "cutover: "+tt.cutover, 1)
			l := labtest.Start(t, labtest.Scenario(t, text))
			advance(t, l, 15*time.Minute)
			issued := reissue(t, l)
			if tt.restart {
				require.NoError(t, l.Control.Restart(t.Context(), "nightly"))
			}
			if tt.cutover != "hot" {
				advance(t, l, 15*time.Minute)
			} else {
				advance(t, l, 10*time.Second)
			}
			disable(t, l, "ci", "AK-CI")
			advance(t, l, 2*time.Hour)
			d := l.Oracle(t).Dependents[0]
			require.Equal(t, tt.adopts, d.OnKey == issued, d)
			require.Equal(t, tt.outage, d.OutageMS > 0, d)
			require.Equal(t, tt.outage, d.Failures > 0, d)
		})
	}
}

func TestClock(t *testing.T) {
	l := drill(t, "", knowsOld)
	c, err := l.Control.Now(t.Context())
	require.NoError(t, err)
	require.Equal(t, "virtual", c.Mode)
	require.Equal(t, "2019-08-20T00:01:00Z", c.NextEvent.Format(time.RFC3339))
	again, err := l.Control.Now(t.Context())
	require.NoError(t, err)
	require.Equal(t, c.Now, again.Now, "it moves only when told")
	to := c.Now.Add(14 * 24 * time.Hour)
	c, err = l.Control.MoveTo(t.Context(), to)
	require.NoError(t, err)
	require.Equal(t, to, c.Now.Time)
	c, err = l.Control.MoveTo(t.Context(), to.Add(-time.Hour))
	require.NoError(t, err)
	require.Equal(t, to, c.Now.Time, "time does not run backwards")
	n := 0
	for _, u := range l.Oracle(t).Uses {
		if u.Label == "malicious" && u.Call == "sts:GetCallerIdentity" {
			n += u.N
		}
	}
	require.Equal(t, 14*24*60, n, "every minute of two weeks")
	_, err = l.Control.Advance(t.Context(), -time.Second)
	require.ErrorContains(t, err, "backwards")
}

// TestClientsFollowTheClock: the SDK corrects its signing date by the Date header, here world
// time; a client that learnt it earlier still gets in after the world moved on by days.
func TestClientsFollowTheClock(t *testing.T) {
	l := drill(t, "", "")
	cfg := config(l, l.Engine)
	cfg.RetryMaxAttempts = 0 // the SDK's default behaviour
	c := iam.NewFromConfig(cfg)
	for range 3 {
		_, err := c.ListUsers(t.Context(), nil)
		require.NoError(t, err)
		advance(t, l, 72*time.Hour)
	}
	for _, u := range l.Oracle(t).Uses {
		require.False(t, u.Label == "engine" && u.Result != "ok", u)
	}
}

func TestRealClockRuns(t *testing.T) {
	text := strings.Replace(drillText("", ""), "clock: {t0: 2019-08-20T00:00:00Z, horizon: 96h}", "clock: {mode: real}", 1)
	l := labtest.Start(t, labtest.Scenario(t, text))
	c, err := l.Control.Now(t.Context())
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), c.Now.Time, 5*time.Second)
	require.Eventually(t, func() bool {
		later, err := l.Control.Now(t.Context())
		return err == nil && later.Now.After(c.Now.Time)
	}, 5*time.Second, time.Millisecond)
	_, err = l.Control.Advance(t.Context(), time.Hour)
	require.ErrorContains(t, err, "real")
}

func TestResumes(t *testing.T) {
	dir := t.TempDir()
	d := labtest.Scenario(t, drillText(`faults: [{what: throttle, at: {verb: Inspect, nth: 3}, times: 2}]`, knowsOld))
	l := labtest.Resume(t, d, dir)
	advance(t, l, 15*time.Minute)
	issued := reissue(t, l)
	disable(t, l, "legacy-admin", "AK-OLD")
	list := func(l *labtest.Lab) string {
		_, err := iamFor(l, l.Engine).ListUsers(t.Context(), nil)
		return code(err)
	}
	require.Equal(t, []string{"", "", "Throttling"}, []string{list(l), list(l), list(l)})
	before, old, issuedSecret := l.Oracle(t), l.Secret(t, "AK-OLD"), l.Secret(t, issued)
	_, err := lab.New(lab.Options{Dir: dir, Scenario: d})
	require.ErrorContains(t, err, "in use")

	// A killed lab never writes its snapshot: take the files as they are now.
	killed := t.TempDir()
	require.NoError(t, os.CopyFS(killed, os.DirFS(dir)))
	for name, at := range map[string]string{"stopped": dir, "killed": killed} {
		t.Run(name, func(t *testing.T) {
			if name == "stopped" {
				l.Stop(t)
			} else { // and its last line may be torn
				f, err := os.OpenFile(filepath.Join(at, "lab", "trail.jsonl"), os.O_APPEND|os.O_WRONLY, 0o600)
				require.NoError(t, err)
				_, err = f.WriteString(`{"seq":99`)
				require.NoError(t, err)
				require.NoError(t, f.Close())
			}
			l := labtest.Resume(t, d, at)
			require.Equal(t, before, l.Oracle(t))
			require.Equal(t, old, l.Secret(t, "AK-OLD"))
			require.Equal(t, issuedSecret, l.Secret(t, issued))
			require.Equal(t, []string{"Throttling", ""}, []string{list(l), list(l)}, "the fault goes on where it was")
			require.Empty(t, who(t, l, old), "what had not propagated still has not")
			advance(t, l, 4*time.Second)
			require.Equal(t, "InvalidClientTokenId", who(t, l, old))
			require.Len(t, l.Oracle(t).Keys, 4, "the planned reaction came")
		})
	}
}

func TestNoSecretInFiles(t *testing.T) {
	l := drill(t, "", knowsOld)
	advance(t, l, 15*time.Minute)
	issued := reissue(t, l)
	secrets := []string{l.Engine.SecretKey, l.Secret(t, "AK-OLD").SecretKey, l.Secret(t, issued).SecretKey}
	l.Stop(t)
	files, err := filepath.Glob(filepath.Join(l.Dir, "lab", "*"))
	require.NoError(t, err)
	require.Greater(t, len(files), 5)
	for _, f := range files {
		info, err := os.Stat(f)
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm(), f)
		data, err := os.ReadFile(f)
		require.NoError(t, err)
		for _, s := range secrets {
			require.NotContains(t, string(data), s, f)
		}
	}
}

func TestControlWantsTheToken(t *testing.T) {
	d := labtest.Scenario(t, drillText("", ""))
	s, err := lab.New(lab.Options{Dir: t.TempDir(), Scenario: d})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	_, err = control.New("http://"+s.Addrs().Control, "wrong").Oracle(ctx)
	require.ErrorContains(t, err, "401")
	_, err = control.New("http://"+s.Addrs().Provider, s.Token()).Oracle(ctx)
	require.Error(t, err, "the provider's listener is not the control API")
	cancel()
	require.NoError(t, <-done)
	_, err = lab.New(lab.Options{Dir: t.TempDir(), Scenario: d, Listen: "0.0.0.0:0"})
	require.ErrorContains(t, err, "loopback")
}
