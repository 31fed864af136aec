// Package pgtest runs a throw-away PostgreSQL, for tests that must not believe our
// own fakes. The server listens on a free port of loopback only, asks for passwords
// by SCRAM-SHA-256, and logs every statement into a file that the test reads, so
// that a test can prove what a log does not hold.
//
// To give a server another property, add it to [Options].
package pgtest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"rekey/activities/activitytest/porttest"
)

// Superuser is the name of the server's superuser.
const Superuser = "postgres"

// Options says what kind of server a test needs. The zero value is a fast server
// for a hundred connections without TLS.
type Options struct {
	// TLS gives the server a certificate for 127.0.0.1 and localhost by an authority
	// of its own ([Server.CAFile]); connections without TLS stay possible unless HBA
	// forbids them.
	TLS bool
	// MaxConnections is how many the server takes; 0: 100.
	MaxConnections int
	// Durable leaves fsync and its like on. Without it what was committed survives a
	// crash of the server, not one of the machine.
	Durable bool
	// Settings are further lines of postgresql.conf, name to value as it stands
	// there ("'pg_cron'").
	Settings map[string]string
	// HBA replaces the lines of pg_hba.conf. Empty: SCRAM-SHA-256 for all on loopback.
	HBA []string
}

// A Server is a running PostgreSQL.
type Server struct {
	Host, Port string
	// Password is the superuser's, made for this server.
	Password string
	// CAFile is the authority of the server's certificate, when it has one.
	CAFile string

	dir, log, bin string
	as            *syscall.Credential
	authority     *authority
	run           *running
}

type running struct {
	cmd    *exec.Cmd
	exited chan struct{}
}

// Start runs a server for the length of the test. Where PostgreSQL is absent the
// test is skipped, or fails when REKEY_REQUIRE_SERVERS=1.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	bin := Binaries()
	if bin == "" {
		if os.Getenv("REKEY_REQUIRE_SERVERS") == "1" {
			t.Fatal("needs postgres: apt-get install postgresql")
		}
		t.Skip("skipped: needs postgres (apt-get install postgresql)")
	}
	s := &Server{Host: "127.0.0.1", Port: porttest.Free(t, 1)[0], Password: Password(), bin: bin, as: unprivileged(t)}
	dir, err := os.MkdirTemp("", "rekey-pg-") //nolint:usetesting // t.TempDir's parents are closed to the server's user
	require.NoError(t, err)
	s.dir = dir
	t.Cleanup(func() {
		s.Stop(t)
		require.NoError(t, os.RemoveAll(dir))
	})
	s.initialise(t, o)
	s.log = filepath.Join(dir, "server.log")
	s.start(t)
	return s
}

// Binaries is the folder of initdb and postgres: of the first in PATH, else of
// Debian's newest package. It is empty where there is none.
func Binaries() string {
	if p, err := exec.LookPath("initdb"); err == nil {
		if p, err = filepath.EvalSymlinks(p); err == nil {
			if _, err = os.Stat(filepath.Join(filepath.Dir(p), "postgres")); err == nil {
				return filepath.Dir(p)
			}
		}
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	version := func(p string) int { n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(p)))); return n }
	slices.SortFunc(found, func(a, b string) int { return version(b) - version(a) })
	if len(found) == 0 {
		return ""
	}
	return filepath.Dir(found[0])
}

// Password is a fresh random password.
func Password() string {
	b := make([]byte, 24)
	_, _ = rand.Read(b) // never fails, crypto/rand
	return hex.EncodeToString(b)
}

// URL is a connection string for a role. An empty password is left out.
func (s *Server) URL(role, password, database string) string {
	u := url.URL{Scheme: "postgres", Host: net.JoinHostPort(s.Host, s.Port), Path: "/" + database, User: url.User(role)}
	if password != "" {
		u.User = url.UserPassword(role, password)
	}
	q := url.Values{"sslmode": {"disable"}}
	if s.CAFile != "" {
		q = url.Values{"sslmode": {"verify-full"}, "sslrootcert": {s.CAFile}}
	}
	u.RawQuery = q.Encode()
	return u.String()
}

// Connect logs in; the connection is closed at the end of the test.
func (s *Server) Connect(t testing.TB, role, password, database string) (*pgx.Conn, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c, err := pgx.Connect(ctx, s.URL(role, password, database))
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = c.Close(context.Background()) })
	return c, nil
}

// Admin logs the superuser in to the database.
func (s *Server) Admin(t testing.TB, database string) *pgx.Conn {
	t.Helper()
	c, err := s.Connect(t, Superuser, s.Password, database)
	require.NoError(t, err)
	return c
}

// Exec runs statements as the superuser in the database postgres.
func (s *Server) Exec(t testing.TB, statements ...string) {
	t.Helper()
	c := s.Admin(t, "postgres")
	for _, sql := range statements {
		_, err := c.Exec(t.Context(), sql)
		require.NoError(t, err, sql)
	}
	require.NoError(t, c.Close(t.Context()))
}

// Works tells whether the password lets the role in, asked with the driver alone.
func (s *Server) Works(t testing.TB, role, password string) bool {
	t.Helper()
	c, err := s.Connect(t, role, password, "postgres")
	if err == nil {
		_ = c.Close(context.Background())
	}
	return err == nil
}

// Log is what the server has logged so far.
func (s *Server) Log(t testing.TB) string {
	t.Helper()
	b, err := os.ReadFile(s.log)
	require.NoError(t, err)
	return string(b)
}

// Stop ends the server as `pg_ctl stop -m fast` does: sessions are cut, data is
// kept. Stopping what is stopped does nothing.
func (s *Server) Stop(t testing.TB) { s.end(t, syscall.SIGINT) }

// Crash ends the server at once, without a checkpoint.
func (s *Server) Crash(t testing.TB) { s.end(t, syscall.SIGQUIT) }

func (s *Server) end(t testing.TB, how syscall.Signal) {
	t.Helper()
	if s.run == nil {
		return
	}
	_ = s.run.cmd.Process.Signal(how)
	select {
	case <-s.run.exited:
	case <-time.After(30 * time.Second):
		_ = s.run.cmd.Process.Kill()
		<-s.run.exited
		t.Errorf("PostgreSQL did not end within 30 s of %v", how)
	}
	s.run = nil
}

// Restart stops the server where it runs and starts it on the same port and data.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	s.Stop(t)
	s.start(t)
}

// command runs one of PostgreSQL's programs as the unprivileged user.
func (s *Server) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, name), args...)
	cmd.Dir = s.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "TZ=UTC"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.as}
	return cmd
}

func (s *Server) initialise(t testing.TB, o Options) {
	t.Helper()
	s.give(t, s.dir)
	pw := filepath.Join(s.dir, "pw")
	s.write(t, pw, s.Password+"\n")
	data := filepath.Join(s.dir, "data")
	out, err := s.command("initdb", "-D", data, "-U", Superuser, "-E", "UTF8", "--locale=C", "--no-sync",
		"--auth=scram-sha-256", "--pwfile="+pw).CombinedOutput()
	require.NoError(t, err, "initdb: %s", out)
	require.NoError(t, os.Remove(pw))

	conf := map[string]string{
		"listen_addresses": "'" + s.Host + "'", "port": s.Port, "unix_socket_directories": "''",
		"max_connections": strconv.Itoa(max(o.MaxConnections, 100)), "password_encryption": "scram-sha-256",
		"log_statement": "all", "log_connections": "on", "log_disconnections": "on", "log_line_prefix": "'%m [%p] %u@%d %a '",
		"logging_collector": "off", "log_destination": "stderr", "timezone": "UTC", "jit": "off",
	}
	if o.MaxConnections > 0 {
		conf["max_connections"] = strconv.Itoa(o.MaxConnections)
	}
	if !o.Durable {
		conf["fsync"], conf["full_page_writes"] = "off", "off"
	}
	if o.TLS {
		s.certify(t)
		conf["ssl"], conf["ssl_cert_file"], conf["ssl_key_file"], conf["ssl_ca_file"] =
			"on", "'"+filepath.Join(s.dir, "server.pem")+"'", "'"+filepath.Join(s.dir, "server.key")+"'", "'"+s.CAFile+"'"
	}
	for k, v := range o.Settings {
		conf[k] = v
	}
	var lines strings.Builder
	for k, v := range conf {
		fmt.Fprintf(&lines, "%s = %s\n", k, v)
	}
	s.write(t, filepath.Join(data, "postgresql.auto.conf"), lines.String())
	hba := o.HBA
	if len(hba) == 0 {
		hba = []string{"host all all 127.0.0.1/32 scram-sha-256", "host replication all 127.0.0.1/32 scram-sha-256"}
	}
	s.write(t, filepath.Join(data, "pg_hba.conf"), strings.Join(hba, "\n")+"\n")
}

// SetHBA replaces the lines of pg_hba.conf and makes the server read them.
func (s *Server) SetHBA(t testing.TB, lines ...string) {
	t.Helper()
	s.write(t, filepath.Join(s.dir, "data", "pg_hba.conf"), strings.Join(lines, "\n")+"\n")
	require.NoError(t, s.run.cmd.Process.Signal(syscall.SIGHUP))
}

func (s *Server) start(t testing.TB) {
	t.Helper()
	log, err := os.OpenFile(s.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	require.NoError(t, err)
	defer func() { _ = log.Close() }()
	cmd := s.command("postgres", "-D", filepath.Join(s.dir, "data"))
	cmd.Stdout, cmd.Stderr = log, log
	require.NoError(t, cmd.Start())
	r := &running{cmd: cmd, exited: make(chan struct{})}
	go func() {
		_ = cmd.Wait()
		close(r.exited)
	}()
	s.run = r
	deadline := time.Now().Add(60 * time.Second)
	for !s.answers() {
		select {
		case <-r.exited:
			t.Fatalf("PostgreSQL ended at once:\n%s", s.Log(t))
		case <-time.After(50 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatalf("PostgreSQL did not come up within a minute:\n%s", s.Log(t))
		}
	}
}

func (s *Server) answers() bool {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	c, err := pgx.Connect(ctx, s.URL(Superuser, s.Password, "postgres"))
	if err != nil {
		return false
	}
	_ = c.Close(ctx)
	return true
}

func (s *Server) write(t testing.TB, path, content string) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	s.give(t, path)
}

func (s *Server) give(t testing.TB, path string) {
	t.Helper()
	if s.as != nil {
		require.NoError(t, os.Chown(path, int(s.as.Uid), int(s.as.Gid)))
	}
}

// unprivileged is whom the server runs as: PostgreSQL refuses to run as root.
func unprivileged(t testing.TB) *syscall.Credential {
	t.Helper()
	if os.Geteuid() != 0 {
		return nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uerr := strconv.ParseUint(u.Uid, 10, 32)
		gid, gerr := strconv.ParseUint(u.Gid, 10, 32)
		if uerr == nil && gerr == nil {
			return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		}
	}
	t.Fatal("PostgreSQL does not run as root, and there is no user postgres or nobody")
	return nil
}
