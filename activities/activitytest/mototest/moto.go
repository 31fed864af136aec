// Package mototest runs moto, a foreign implementation of the AWS APIs, with
// authentication switched on, for tests that must not believe our own fakes.
//
// What moto does not have is part of what is tested: CloudTrail look-ups answer
// 500, policy conditions are ignored, inactive keys still work for other services
// than its authentication covers. See testbeds.md.
package mototest

import (
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/stretchr/testify/require"

	"rekey/activities/activitytest/porttest"
)

// AccountID is moto's account.
const AccountID = "123456789012"

// Region is the region of its clients.
const Region = "us-east-1"

// A Server is a running moto.
type Server struct {
	URL string
	// AdminID and AdminSecret are a credential that may do everything.
	AdminID, AdminSecret string
	IAM                  *iam.Client
	Secrets              *secretsmanager.Client
}

// Start runs moto for the length of the test. Where moto is absent the test is
// skipped, or fails when REKEY_REQUIRE_SERVERS=1.
func Start(t testing.TB) *Server {
	t.Helper()
	if err := exec.Command("python3", "-c", "import moto.server").Run(); err != nil {
		if os.Getenv("REKEY_REQUIRE_SERVERS") == "1" {
			t.Fatal("needs moto: pip install 'moto[server]'")
		}
		t.Skip("skipped: needs moto (pip install 'moto[server]')")
	}
	port := porttest.Free(t, 1)[0]
	cmd := exec.Command("python3", "-m", "moto.server", "-H", "127.0.0.1", "-p", port)
	cmd.Dir = t.TempDir() // the recorder writes into its working directory
	cmd.Env = append(os.Environ(), "INITIAL_NO_AUTH_ACTION_COUNT=1000000", "MOTO_RECORDER_FILEPATH="+filepath.Join(t.TempDir(), "recording"))
	require.NoError(t, cmd.Start())
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-exited
	})
	s := &Server{URL: "http://127.0.0.1:" + port}
	s.await(t, exited)
	s.IAM = iam.NewFromConfig(s.Config("bootstrap", "bootstrap"))
	s.AdminID, s.AdminSecret = s.User(t, "rekey-engine", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`)
	s.IAM = iam.NewFromConfig(s.Config(s.AdminID, s.AdminSecret))
	s.Secrets = secretsmanager.NewFromConfig(s.Config(s.AdminID, s.AdminSecret))
	s.authenticate(t)
	return s
}

// Config signs as the given key.
func (s *Server) Config(id, key string) aws.Config {
	return aws.Config{
		Region: Region, BaseEndpoint: aws.String(s.URL),
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: id, SecretAccessKey: key}, nil
		}),
	}
}

// User makes a user with one key and, if not empty, an inline policy.
func (s *Server) User(t testing.TB, name, policy string) (id, key string) {
	t.Helper()
	ctx := t.Context()
	_, err := s.IAM.CreateUser(ctx, &iam.CreateUserInput{UserName: &name})
	require.NoError(t, err)
	if policy != "" {
		_, err = s.IAM.PutUserPolicy(ctx, &iam.PutUserPolicyInput{UserName: &name, PolicyName: aws.String("own"), PolicyDocument: &policy})
		require.NoError(t, err)
	}
	return s.Key(t, name)
}

// Key makes another key of the user.
func (s *Server) Key(t testing.TB, user string) (id, key string) {
	t.Helper()
	out, err := s.IAM.CreateAccessKey(t.Context(), &iam.CreateAccessKeyInput{UserName: &user})
	require.NoError(t, err)
	return aws.ToString(out.AccessKey.AccessKeyId), aws.ToString(out.AccessKey.SecretAccessKey)
}

// Works tells whether the key authenticates, asked with the SDK alone.
func (s *Server) Works(t testing.TB, id, key string) bool {
	t.Helper()
	_, err := sts.NewFromConfig(s.Config(id, key)).GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{})
	return err == nil
}

func (s *Server) await(t testing.TB, exited <-chan error) {
	t.Helper()
	deadline := time.Now().Add(60 * time.Second)
	for {
		resp, err := http.Get(s.URL + "/moto-api/")
		if err == nil {
			_ = resp.Body.Close()
			return
		}
		select {
		case err := <-exited:
			t.Fatalf("moto ended at once: %v", err)
		case <-time.After(100 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatal("moto did not come up within a minute")
		}
	}
}

// authenticate switches authentication on from the next call.
func (s *Server) authenticate(t testing.TB) {
	t.Helper()
	s.authenticateAfter(t, "0")
}

// Trust switches authentication off: moto 5.2.1 works out another signature than AWS
// for calls of S3 that have a query.
func (s *Server) Trust(t testing.TB) {
	t.Helper()
	s.authenticateAfter(t, "1000000000")
}

// authenticateAfter lets so many calls through first.
func (s *Server) authenticateAfter(t testing.TB, calls string) {
	t.Helper()
	resp, err := http.Post(s.URL+"/moto-api/reset-auth", "text/plain", strings.NewReader(calls))
	require.NoError(t, err)
	_ = resp.Body.Close()
	require.Equal(t, http.StatusOK, resp.StatusCode)
}
