package awsiam_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/stretchr/testify/require"

	"rekey/activities"
	"rekey/activities/awsiam"
	"rekey/internal/httpx"
	"rekey/internal/secret"
)

func account(url, id, keyID, key string) activities.Account {
	return activities.Account{
		Name: "test", AllowPrivate: true, Regions: []string{"us-east-1"},
		Settings: map[string]string{"account_id": id, "base_url": url, "timeout": "5s", "rate.cloudtrail": "1000/s"},
		Credential: func(name string) (secret.Value, error) {
			switch name {
			case "access_key_id":
				return secret.New([]byte(keyID)), nil
			case "secret_access_key":
				return secret.New([]byte(key)), nil
			}
			return secret.Value{}, errors.New("not configured")
		},
	}
}

func deps(store secret.Store) activities.Deps {
	return activities.Deps{
		Secrets: store, Agent: "rekey/test",
		HTTP: func(a activities.Account) (*http.Client, error) { return httpx.ForAccount(a) },
		Now:  func(context.Context) time.Time { return time.Now() },
	}
}

func open(t testing.TB, a activities.Account, store secret.Store) *awsiam.Client {
	t.Helper()
	c, err := awsiam.Provider().Open(a, deps(store))
	require.NoError(t, err)
	return c.(*awsiam.Client)
}

func tags(key, value string) []types.Tag {
	return []types.Tag{{Key: aws.String(key), Value: aws.String(value)}}
}
