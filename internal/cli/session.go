package cli

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"rekey/internal/config"
	"rekey/internal/fsx"
	"rekey/internal/people"
)

// settings is what rekey.yaml, variables and flags say to the command line.
type settings struct{ *config.Config }

func (a *app) settings() (settings, error) {
	fs := pflag.NewFlagSet("rekey", pflag.ContinueOnError)
	for name, value := range map[string]string{"config": a.config, "data": a.data} {
		fs.String(name, "", "")
		if value == "" {
			continue
		}
		if err := fs.Set(name, value); err != nil {
			return settings{}, err
		}
	}
	cfg, err := config.Load(fs)
	if err != nil {
		return settings{}, err
	}
	return settings{cfg}, nil
}

// accounts lists the configured accounts of a provider.
func (s settings) accounts(code string) []string {
	if out := sortedKeys(s.Providers[code]); len(out) > 0 {
		return out
	}
	return []string{}
}

// server is the URL of the rekey server: flag, variable, or where this
// configuration listens.
func (a *app) serverURL(s settings) string {
	if a.server != "" {
		return a.server
	}
	if v := a.io.env("REKEY_SERVER"); v != "" {
		return v
	}
	host, port, err := net.SplitHostPort(s.Listen.HTTP)
	if err != nil {
		return "http://" + s.Listen.HTTP
	}
	if ip := net.ParseIP(host); host == "" || (ip != nil && ip.IsUnspecified()) {
		host = "127.0.0.1"
	}
	scheme := "http"
	if s.Listen.TLS.CertFile != "" {
		scheme = "https"
	}
	return scheme + "://" + net.JoinHostPort(host, port)
}

// client makes the client of the server, with the token of the data directory or
// of the file in REKEY_TOKEN_FILE.
func (a *app) client() (*client, error) {
	s, err := a.settings()
	if err != nil {
		return nil, err
	}
	var roots *tlsRoots
	if s.Listen.TLS.CertFile != "" {
		if roots, err = trust(s.Listen.TLS.CertFile); err != nil {
			return nil, err
		}
	}
	c, err := newClient(a.serverURL(s), "", roots)
	if err != nil {
		return nil, err
	}
	c.token, err = a.token(s)
	if errors.Is(err, fs.ErrNotExist) {
		do := fmt.Sprintf("start it with `rekey up`; its token is looked for in %s, name another directory with --data", s.Data)
		return nil, &Error{Code: CodeUnreachable, Message: "rekey is not running at " + c.base.Host + ", or it was started elsewhere", Do: do, Err: err}
	}
	return c, err
}

func (a *app) token(s settings) (string, error) {
	file := a.io.env("REKEY_TOKEN_FILE")
	if file == "" {
		return people.ReadToken(s.Data)
	}
	raw, err := fsx.ReadPrivate(file, 4<<10)
	if err != nil {
		return "", Usage("check REKEY_TOKEN_FILE", "%s", err)
	}
	return strings.TrimSpace(string(raw)), nil
}

// tlsRoots are the authorities to trust besides the system's.
type tlsRoots struct{ pool *x509.CertPool }

func (r *tlsRoots) config() *tls.Config {
	return &tls.Config{RootCAs: r.pool, MinVersion: tls.VersionTLS12}
}

// trust trusts the server's own certificate, for installations without a public
// authority.
func trust(file string) (*tlsRoots, error) {
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	pem, err := os.ReadFile(file)
	if err != nil || !pool.AppendCertsFromPEM(pem) {
		return nil, Usage("check listen.tls.cert_file", "the server's certificate cannot be read")
	}
	return &tlsRoots{pool}, nil
}

// An identity is a person with the key to sign as them.
type identity struct {
	actor string
	roles []string // empty: unknown
	key   []byte   // ed25519.PrivateKey
}

// identity loads the voter's private key and finds whose it is.
func (a *app) identity(file, actor string) (identity, error) {
	s, err := a.settings()
	if err != nil {
		return identity{}, err
	}
	named := file != ""
	if file == "" {
		file = a.io.env("REKEY_IDENTITY")
		named = file != ""
	}
	if file == "" {
		file = people.LocalKeyFile(s.Data)
	}
	key, err := people.LoadIdentity(file)
	if errors.Is(err, fs.ErrNotExist) {
		do := "give your own key with --identity FILE; the local user has one only where rekey.yaml names no people"
		if named {
			do = "check the path, or make a key with `rekey identity new FILE`"
		}
		return identity{}, Usage(do, "there is no key at %s", file)
	}
	if err != nil {
		return identity{}, Usage("give a private key that only you can read", "%s", err)
	}
	id := identity{actor: actor, key: key}
	for _, name := range sortedKeys(s.People) {
		p := s.People[name]
		if p.CLIKeyFile == "" {
			continue
		}
		pub, err := people.LoadPublic(p.CLIKeyFile)
		if err == nil && slices.Equal(pub, people.Public(key)) {
			id.roles = p.Roles
			id.actor = or(id.actor, name)
			return id, nil
		}
	}
	switch {
	case id.actor != "":
	case len(s.People) > 0:
		return identity{}, Usage("name your public key in rekey.yaml under people.<you>.cli_key_file, or say who you are to the server with --actor", "no person of rekey.yaml has this key")
	default:
		id.actor = people.LocalActor()
	}
	return id, nil
}
