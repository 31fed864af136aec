package temporalx

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"time"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/log"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// TLS names the PEM files of the connection. All empty means plaintext, unless an API key is used.
type TLS struct {
	CAFile   string // roots that may sign the server; empty: the system's
	CertFile string // our client certificate; needs KeyFile
	KeyFile  string
}

// Options says which cluster to reach and as whom.
type Options struct {
	Address   string // host:port of the frontend
	Namespace string
	TLS       TLS
	// APIKeyFile holds a Temporal API key. It is read again for every call, so a rotated key needs no restart,
	// and it is only sent over TLS (https://docs.temporal.io/cloud/api-keys).
	APIKeyFile string
	// Token is the credential of the embedded server (devserver.Server.Token). Without TLS it is only sent to
	// loopback addresses.
	Token            string
	DataConverter    converter.DataConverter
	FailureConverter converter.FailureConverter
	Interceptors     []interceptor.ClientInterceptor
	Metrics          client.MetricsHandler // of the SDK; nil: none
	Logger           *slog.Logger          // nil: silent
	Identity         string                // shown in history in clear: never a person's name
	Timeout          time.Duration
}

// UnreachableError says why no connection was made. Its text is rekey's own; what the server or the network said
// is only reachable through Unwrap.
type UnreachableError struct {
	Address string
	Why     string
	Do      string
	cause   error
}

func (e *UnreachableError) Error() string {
	return fmt.Sprintf("Temporal unreachable at %s: %s; %s", e.Address, e.Why, e.Do)
}

// Unwrap returns the error of the SDK.
func (e *UnreachableError) Unwrap() error { return e.cause }

// Dial connects to the cluster and asks it for its capabilities once, so that a returned client has worked. It waits
// at most Options.Timeout (default 5 s). Errors: *UnreachableError when the cluster cannot be reached or refuses the
// credential; others name the option that is wrong, and nothing was sent then.
func Dial(ctx context.Context, o Options) (client.Client, error) {
	co, err := clientOptions(o)
	if err != nil {
		return nil, err
	}
	c, err := client.DialContext(ctx, co)
	if err != nil {
		return nil, unreachable(o.Address, err)
	}
	return c, nil
}

func clientOptions(o Options) (client.Options, error) {
	var none client.Options
	if o.Address == "" {
		return none, errors.New("temporal.address is empty: give host:port of the Temporal frontend")
	}
	if o.Token != "" && o.APIKeyFile != "" {
		return none, errors.New("both a token and temporal.api_key_file are set: the token is for the embedded server, the API key for a cluster; give one")
	}
	tlsConfig, err := o.TLS.config()
	if err != nil {
		return none, err
	}
	if o.APIKeyFile != "" && tlsConfig == nil {
		tlsConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if o.Token != "" && tlsConfig == nil && !IsLoopback(o.Address) {
		return none, fmt.Errorf("the token would cross the network in clear to %s: set temporal.tls, or use a loopback address", o.Address)
	}
	co := client.Options{
		HostPort:         o.Address,
		Namespace:        o.Namespace,
		DataConverter:    o.DataConverter,
		FailureConverter: o.FailureConverter,
		Interceptors:     o.Interceptors,
		MetricsHandler:   o.Metrics,
		Identity:         o.Identity,
		Logger:           log.NewStructuredLogger(orSilent(o.Logger)),
		ConnectionOptions: client.ConnectionOptions{
			TLS:                  tlsConfig,
			GetSystemInfoTimeout: o.Timeout,
			// Most of what is sent is ciphertext, which gzip cannot make smaller: it took 6 % of the time of `rekey up`.
			GrpcCompression: &client.GrpcCompressionNone{},
		},
	}
	switch {
	case o.Token != "":
		co.HeadersProvider = bearer(func() (string, error) { return o.Token, nil })
	case o.APIKeyFile != "":
		co.HeadersProvider = bearer(func() (string, error) { return readSecretFile(o.APIKeyFile) })
	}
	if co.HeadersProvider != nil {
		// Fails here, by name, rather than inside every call.
		if _, err := co.HeadersProvider.GetHeaders(context.Background()); err != nil {
			return none, err
		}
	}
	return co, nil
}

func (t TLS) config() (*tls.Config, error) {
	if t == (TLS{}) {
		return nil, nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, fmt.Errorf("temporal.tls.ca_file: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("temporal.tls.ca_file: no PEM certificate in %s", t.CAFile)
		}
	}
	if (t.CertFile == "") != (t.KeyFile == "") {
		return nil, errors.New("temporal.tls: cert_file and key_file are needed together")
	}
	if t.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
		if err != nil {
			// The cause may quote the file's contents.
			return nil, fmt.Errorf("temporal.tls: %s and %s are not a readable PEM certificate and its key", t.CertFile, t.KeyFile)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// bearer is a client.HeadersProvider.
type bearer func() (string, error)

// GetHeaders implements client.HeadersProvider.
func (b bearer) GetHeaders(context.Context) (map[string]string, error) {
	token, err := b()
	if err != nil {
		return nil, err
	}
	return map[string]string{"authorization": "Bearer " + token}, nil
}

func readSecretFile(name string) (string, error) {
	raw, err := os.ReadFile(name)
	if err != nil {
		return "", fmt.Errorf("temporal.api_key_file: %w", err)
	}
	key := strings.TrimSpace(string(raw))
	if key == "" {
		return "", fmt.Errorf("temporal.api_key_file: %s is empty", name)
	}
	return key, nil
}

// IsLoopback reports whether an address (host or host:port) can only be reached from this machine.
func IsLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = address
	}
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

func unreachable(address string, err error) error {
	u := &UnreachableError{Address: address, cause: err}
	switch code(err) {
	case codes.PermissionDenied, codes.Unauthenticated:
		u.Why = "it refused our credential"
		u.Do = "check temporal.api_key_file or the token of the data directory, and that both sides use the same one"
	case codes.DeadlineExceeded, codes.Unavailable:
		u.Why = "no Temporal frontend answers there"
		u.Do = "start it (`rekey up` embeds one), or check temporal.address, temporal.tls and the network"
	default:
		u.Why = "the answer was " + code(err).String()
		u.Do = "check that temporal.address is a Temporal frontend (gRPC port, usually 7233)"
	}
	return u
}

func code(err error) codes.Code {
	if errors.Is(err, context.DeadlineExceeded) {
		return codes.DeadlineExceeded
	}
	var se serviceerror.ServiceError
	if errors.As(err, &se) {
		return se.Status().Code()
	}
	return status.Code(err)
}

func orSilent(l *slog.Logger) *slog.Logger {
	if l != nil {
		return l
	}
	return slog.New(slog.DiscardHandler)
}
