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
