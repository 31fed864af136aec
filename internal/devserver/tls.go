package devserver

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"time"

	"go.temporal.io/server/common/rpc/encryption"
)

// internalName is the name in the certificate of the internal services; it resolves nowhere.
const internalName = "rekey-temporal-internal"

// internalTLS gives the services of this process a certificate that is made at start, never leaves memory, and is the
// only one they accept from each other. The frontend has no TLS: it is on loopback and takes a token.
type internalTLS struct {
	server, client *tls.Config
}

func newInternalTLS(now time.Time) (*internalTLS, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("internal certificate: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: internalName},
		DNSNames:              []string{internalName},
		NotBefore:             now.Add(-24 * time.Hour),
		NotAfter:              now.AddDate(20, 0, 0), // as long as any process runs
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("internal certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("internal certificate: %w", err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	pair := []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}}
	return &internalTLS{
		server: &tls.Config{MinVersion: tls.VersionTLS13, Certificates: pair, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool},
		client: &tls.Config{MinVersion: tls.VersionTLS13, Certificates: pair, RootCAs: pool, ServerName: internalName},
	}, nil
}

var _ encryption.TLSConfigProvider = (*internalTLS)(nil)

// GetInternodeServerConfig implements encryption.TLSConfigProvider.
func (t *internalTLS) GetInternodeServerConfig() (*tls.Config, error) { return t.server.Clone(), nil }

// GetInternodeClientConfig implements encryption.TLSConfigProvider.
func (t *internalTLS) GetInternodeClientConfig() (*tls.Config, error) { return t.client.Clone(), nil }

// GetFrontendServerConfig implements encryption.TLSConfigProvider.
func (t *internalTLS) GetFrontendServerConfig() (*tls.Config, error) { return nil, nil }

// GetFrontendClientConfig implements encryption.TLSConfigProvider.
func (t *internalTLS) GetFrontendClientConfig() (*tls.Config, error) { return nil, nil }

// GetRemoteClusterClientConfig implements encryption.TLSConfigProvider.
func (t *internalTLS) GetRemoteClusterClientConfig(string) (*tls.Config, error) { return nil, nil }

// GetExpiringCerts implements encryption.TLSConfigProvider.
func (t *internalTLS) GetExpiringCerts(time.Duration) (encryption.CertExpirationMap, encryption.CertExpirationMap, error) {
	return nil, nil, nil
}
