// Package smtptest runs mail servers that others wrote, for tests of what sends
// mail: emersion/go-smtp in this process, with faults, and aiosmtpd as a process.
package smtptest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
	"github.com/stretchr/testify/require"
)

// A Mail is one that the server took.
type Mail struct {
	From, To string
	Data     []byte
}

// Faults say what a server does wrong. The zero value takes every mail.
type Faults struct {
	// Mail, Rcpt and Data answer the command; Data after the whole message.
	Mail, Rcpt, Data *smtp.SMTPError
	// Lose takes the message and closes the connection before the answer.
	Lose bool
	// Break closes the connection in the middle of the message.
	Break bool
}

// A Server is a running go-smtp. It is safe for concurrent use.
type Server struct {
	Host, Port string
	CAFile     string // of the TLS modes

	mu     sync.Mutex
	faults Faults
	mails  []Mail
	user   string
	pass   string
}

// Modes of [Start].
const (
	Clear    = "none"
	StartTLS = "starttls"
	Implicit = "implicit"
)

// Start runs a server for the length of the test. With a user, mail is taken after
// login only.
func Start(t testing.TB, mode, user, pass string) *Server {
	t.Helper()
	s := &Server{user: user, pass: pass}
	srv := smtp.NewServer(s)
	srv.Domain = "mx.example.org"
	srv.ReadTimeout, srv.WriteTimeout = 10*time.Second, 10*time.Second
	srv.ErrorLog = quiet{}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s.Host, s.Port, err = net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	if mode != Clear {
		var conf *tls.Config
		s.CAFile, conf = certificate(t)
		srv.TLSConfig = conf
		if mode == Implicit {
			l = tls.NewListener(l, conf)
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(l) // ends when the test closes it
	}()
	t.Cleanup(func() {
		_, _ = srv.Close(), l.Close() // Serve may not have begun
		<-done
	})
	return s
}

// Set changes what goes wrong from now on.
func (s *Server) Set(f Faults) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = f
}

// Mails are those taken so far.
func (s *Server) Mails() []Mail {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Mail{}, s.mails...)
}

// NewSession implements smtp.Backend.
func (s *Server) NewSession(c *smtp.Conn) (smtp.Session, error) {
	return &session{s: s, conn: c}, nil
}

type session struct {
	s        *Server
	conn     *smtp.Conn
	from, to string
	in       bool
}

func (x *session) faults() Faults {
	x.s.mu.Lock()
	defer x.s.mu.Unlock()
	return x.s.faults
}

// AuthMechanisms implements smtp.AuthSession.
func (x *session) AuthMechanisms() []string {
	if x.s.user == "" {
		return nil
	}
	return []string{sasl.Plain}
}

// Auth implements smtp.AuthSession.
func (x *session) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, pass string) error {
		if user != x.s.user || pass != x.s.pass {
			return smtp.ErrAuthFailed
		}
		x.in = true
		return nil
	}), nil
}

// Mail implements smtp.Session.
func (x *session) Mail(from string, _ *smtp.MailOptions) error {
	if f := x.faults().Mail; f != nil {
		return f
	}
	if x.s.user != "" && !x.in {
		return smtp.ErrAuthRequired
	}
	x.from = from
	return nil
}

// Rcpt implements smtp.Session.
func (x *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	if f := x.faults().Rcpt; f != nil {
		return f
	}
	x.to = to
	return nil
}

// Data implements smtp.Session.
func (x *session) Data(r io.Reader) error {
	f := x.faults()
	if f.Break {
		return x.conn.Conn().Close()
	}
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if f.Data != nil {
		return f.Data
	}
	x.s.mu.Lock()
	x.s.mails = append(x.s.mails, Mail{From: x.from, To: x.to, Data: b})
	x.s.mu.Unlock()
	if f.Lose {
		return x.conn.Conn().Close()
	}
	return nil
}

// Reset implements smtp.Session.
func (x *session) Reset() { x.from, x.to = "", "" }

// Logout implements smtp.Session.
func (x *session) Logout() error { return nil }

type quiet struct{}

func (quiet) Printf(string, ...any) {}
func (quiet) Println(...any)        {}

// certificate makes an authority for 127.0.0.1 alone, and gives its file.
func certificate(t testing.TB) (string, *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "mail of a test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	return file, &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}
