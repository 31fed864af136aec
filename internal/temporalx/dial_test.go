package temporalx

import (
	"context"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	enumspb "go.temporal.io/api/enums/v1"
)

// frontend answers just enough for Dial, and remembers the credential it was given.
type frontend struct {
	workflowservice.UnimplementedWorkflowServiceServer
	operatorservice.UnimplementedOperatorServiceServer
	refuse     error
	attributes map[string]enumspb.IndexedValueType
	seen       chan string
}

func (f *frontend) GetSystemInfo(ctx context.Context, _ *workflowservice.GetSystemInfoRequest) (*workflowservice.GetSystemInfoResponse, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	f.seen <- strings.Join(md.Get("authorization"), ",")
	return &workflowservice.GetSystemInfoResponse{}, f.refuse
}

func (f *frontend) ListSearchAttributes(context.Context, *operatorservice.ListSearchAttributesRequest) (*operatorservice.ListSearchAttributesResponse, error) {
	return &operatorservice.ListSearchAttributesResponse{CustomAttributes: f.attributes}, nil
}

func (f *frontend) AddSearchAttributes(context.Context, *operatorservice.AddSearchAttributesRequest) (*operatorservice.AddSearchAttributesResponse, error) {
	return nil, f.refuse
}

func serve(t *testing.T, f *frontend) string {
	t.Helper()
	f.seen = make(chan string, 16)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := grpc.NewServer()
	workflowservice.RegisterWorkflowServiceServer(s, f)
	operatorservice.RegisterOperatorServiceServer(s, f)
	go func() { _ = s.Serve(l) }()
	t.Cleanup(s.Stop)
	return l.Addr().String()
}

func TestDialSendsTheToken(t *testing.T) {
	f := &frontend{}
	c, err := Dial(context.Background(), Options{Address: serve(t, f), Namespace: "rekey", Token: "of-this-test"})
	require.NoError(t, err)
	defer c.Close()
	require.Equal(t, "Bearer of-this-test", <-f.seen)
}

func TestDialNamesWhatIsWrong(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	nobody := closed.Addr().String()
	require.NoError(t, closed.Close())

	rows := map[string]struct {
		o    Options
		want []string
	}{
		"nobody listens":       {Options{Address: nobody}, []string{"Temporal unreachable at " + nobody, "rekey up", "temporal.address"}},
		"refused":              {Options{Address: serve(t, &frontend{refuse: status.Error(codes.PermissionDenied, "vendor text")})}, []string{"refused our credential", "temporal.api_key_file"}},
		"no address":           {Options{}, []string{"temporal.address is empty"}},
		"token in clear":       {Options{Address: "temporal.example.com:7233", Token: "t"}, []string{"in clear", "temporal.tls"}},
		"token and API key":    {Options{Address: nobody, Token: "t", APIKeyFile: "f"}, []string{"both a token and temporal.api_key_file"}},
		"API key file missing": {Options{Address: nobody, APIKeyFile: filepath.Join(dir, "none")}, []string{"temporal.api_key_file"}},
		"API key file empty":   {Options{Address: nobody, APIKeyFile: file("empty", "\n")}, []string{"is empty"}},
		"CA is no PEM":         {Options{Address: nobody, TLS: TLS{CAFile: file("ca", "x")}}, []string{"temporal.tls.ca_file", "no PEM"}},
		"certificate alone":    {Options{Address: nobody, TLS: TLS{CertFile: file("cert", "x")}}, []string{"needed together"}},
		"certificate is no PEM": {
			Options{Address: nobody, TLS: TLS{CertFile: file("cert2", "x"), KeyFile: file("key2", "do-not-quote-me")}}, []string{"not a readable PEM"},
		},
	}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			row.o.Timeout = time.Second
			_, err := Dial(context.Background(), row.o)
			require.Error(t, err)
			for _, want := range row.want {
				require.ErrorContains(t, err, want)
			}
			require.NotContains(t, err.Error(), "vendor text")
			require.NotContains(t, err.Error(), "do-not-quote-me")
		})
	}
}

// An API key is only sent over TLS: a plaintext listener must not get to see it.
func TestAPIKeyNeverInClear(t *testing.T) {
	key := filepath.Join(t.TempDir(), "key")
	require.NoError(t, os.WriteFile(key, []byte("of-this-test"), 0o600))
	f := &frontend{}
	_, err := Dial(context.Background(), Options{Address: serve(t, f), APIKeyFile: key, Timeout: 500 * time.Millisecond})
	var u *UnreachableError
	require.ErrorAs(t, err, &u)
	require.Empty(t, f.seen)
}

func TestSearchAttributesThatCannotBeRegistered(t *testing.T) {
	wrong := SearchAttributes()
	wrong["RekeyOpenItems"] = enumspb.INDEXED_VALUE_TYPE_KEYWORD
	rows := map[string]struct {
		f    *frontend
		want []string
	}{
		"another type": {&frontend{attributes: wrong}, []string{"RekeyOpenItems is Keyword, not Int", "another namespace"}},
		"not allowed": {
			&frontend{attributes: map[string]enumspb.IndexedValueType{"RekeyPhase": enumspb.INDEXED_VALUE_TYPE_KEYWORD}},
			[]string{"temporal operator search-attribute create --namespace rekey", "--name RekeyProvider --type KeywordList"},
		},
	}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			c, err := Dial(context.Background(), Options{Address: serve(t, row.f), Namespace: "rekey"})
			require.NoError(t, err)
			defer c.Close()
			row.f.refuse = status.Error(codes.PermissionDenied, "vendor text")
			_, err = EnsureSearchAttributes(context.Background(), c, "rekey")
			for _, want := range row.want {
				require.ErrorContains(t, err, want)
			}
			require.NotContains(t, err.Error(), "vendor text")
			require.NotContains(t, err.Error(), "--name RekeyPhase")
		})
	}
}

func TestReadToken(t *testing.T) {
	dir := t.TempDir()
	_, err := ReadToken(dir)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, "rekey up")
	require.NoError(t, os.MkdirAll(filepath.Dir(TokenFile(dir)), 0o700))
	require.NoError(t, os.WriteFile(TokenFile(dir), []byte(strings.Repeat("a", 43)+"\n"), 0o600))
	token, err := ReadToken(dir)
	require.NoError(t, err)
	require.Equal(t, strings.Repeat("a", 43), token)
	require.NoError(t, os.Chmod(TokenFile(dir), 0o640))
	_, err = ReadToken(dir)
	require.ErrorContains(t, err, "chmod 600")
	require.NoError(t, os.WriteFile(TokenFile(dir), []byte("short"), 0o600))
	require.NoError(t, os.Chmod(TokenFile(dir), 0o600))
	_, err = ReadToken(dir)
	require.ErrorContains(t, err, "delete it")
	require.NotErrorIs(t, err, fs.ErrNotExist)
}

func TestIsLoopback(t *testing.T) {
	for address, want := range map[string]bool{
		"127.0.0.1:7233": true, "localhost:7233": true, "[::1]:7233": true, "127.8.9.1": true, "localhost": true,
		"0.0.0.0:7233": false, "10.0.0.1:7233": false, "temporal:7233": false, "localhost.example.com:1": false, "": false,
	} {
		require.Equal(t, want, IsLoopback(address), address)
	}
}
