package awssim_test

import (
	"context"

	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/cloudtrail"
	trailtypes "github.com/aws/aws-sdk-go-v2/service/cloudtrail/types"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
	"github.com/stretchr/testify/require"

	"rekey/internal/lab/control"
	"rekey/internal/lab/labtest"
)

// estate is the account most tests use: an administrator whose key is out, and a reader.
const estate = `
apiVersion: rekey/v1
kind: Drill
name: account
seed: 7
clock: {t0: 2026-11-21T03:00:00Z, horizon: 96h}
estate:
  providers: {awsiam/lab: {propagation: 4s}}
  keys:
    - {id: AK-OLD, user: legacy-admin, policy: AdministratorAccess, issued: T0-700d, last_legit_use: T0-3d}
    - {id: AK-CI,  user: ci, policy: ReadOnlyAccess, issued: T0-60d}
  generate: [{kind: key, count: 120, user: "svc-{n}", state: unrelated}]
  uses: [{key: AK-OLD, at: T0-2d, asn: 64500, calls: [CreateSnapshot, iam:ListUsers], label: malicious}]
trigger: {at: T0, report: {provider: awsiam, key: AK-OLD, source: outsider}}
expect: [{id: any, expr: "true"}]
`

// config makes an SDK configuration for a credential, as any program would: no retries, so that a
// test sees each answer.
func config(l *labtest.Lab, s control.Secret) aws.Config {
	return aws.Config{Region: l.Region, BaseEndpoint: aws.String(l.BaseURL), RetryMaxAttempts: 1,
		HTTPClient: l.HTTP,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: s.KeyID, SecretAccessKey: s.SecretKey, SessionToken: s.SessionToken}, nil
		})}
}

type clients struct {
	iam     *iam.Client
	sts     *sts.Client
	trail   *cloudtrail.Client
	secrets *secretsmanager.Client
}

func clientsFor(l *labtest.Lab, s control.Secret) clients {
	c := config(l, s)
	return clients{iam.NewFromConfig(c), sts.NewFromConfig(c), cloudtrail.NewFromConfig(c), secretsmanager.NewFromConfig(c)}
}

// refused asserts the vendor's error code and status, as a client sees them.
func refused(t *testing.T, err error, code string, status int) {
	t.Helper()
	var api smithy.APIError
	require.ErrorAs(t, err, &api)
	require.Equal(t, code, api.ErrorCode(), api.ErrorMessage())
	var resp *awshttp.ResponseError
	require.ErrorAs(t, err, &resp, "no response in %v", err)
	require.Equal(t, status, resp.HTTPStatusCode())
	require.NotEmpty(t, resp.ServiceRequestID())
}

func advance(t *testing.T, l *labtest.Lab, d time.Duration) {
	t.Helper()
	_, err := l.Control.Advance(t.Context(), d)
	require.NoError(t, err)
}

// wrongSecret is a secret nobody was given, made at run time.
func wrongSecret(s control.Secret) control.Secret {
	b := []byte(s.SecretKey)
	for i, j := 0, len(b)-1; i < j; i, j = i+1, j-1 {
		b[i], b[j] = b[j], b[i]
	}
	s.SecretKey = string(b)
	return s
}

func lookup(key, value string) []trailtypes.LookupAttribute {
	return []trailtypes.LookupAttribute{{AttributeKey: trailtypes.LookupAttributeKey(key), AttributeValue: aws.String(value)}}
}
