package postgres

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"rekey/activities"
	"rekey/internal/filestore"
	"rekey/internal/httpx"
	"rekey/internal/secret"
)

const (
	// verbTime bounds one verb, shorter than what its runner gives it.
	verbTime = 18 * time.Second
	// maxMessage bounds one message of the server: the largest is a row of a catalogue.
	maxMessage = 16 << 20
	// defaultAuth are the ways to authenticate that we go along with, in the words of
	// libpq's require_auth: a password in clear or as MD5 is given to nobody. "none"
	// lets us see that a server asks for nothing at all.
	defaultAuth = "scram-sha-256,none"
	// direct is the one vantage point: the server itself.
	direct = "direct"
)

// A Client is one cluster. It is safe for concurrent use and holds no credential and
// no connection: each verb reads the credential from where the configuration says
// and logs in, so that a rotated file counts at once.
type Client struct {
	account activities.Account
	deps    activities.Deps
	origin  string
	config  *pgx.ConnConfig // without user and password
	tls     bool
	timeout time.Duration
	store   *filestore.Store
	// marker is the application_name of our sessions. It names this process, so that
	// nobody hides behind a fixed name.
	marker string
	clock  clock
}

// An endpoint is what base_url says.
type endpoint struct {
	host, port, database string
	tls                  bool
}

func parseURL(a activities.Account) (endpoint, error) {
	u, err := url.Parse(a.Settings["base_url"])
	if err != nil || u.Hostname() == "" || u.Scheme != "postgres" && u.Scheme != "postgresql" || u.User != nil || u.Fragment != "" ||
		strings.ContainsAny(u.Host, ",") || strings.Contains(strings.TrimPrefix(u.Path, "/"), "/") {
		return endpoint{}, errors.New("base_url must be postgres://HOST:PORT/DATABASE, of the server itself and without user and password")
	}
	q := u.Query()
	mode := q.Get("sslmode")
	q.Del("sslmode")
	if len(q) > 0 {
		return endpoint{}, errors.New("base_url takes sslmode and no other parameter")
	}
	e := endpoint{host: u.Hostname(), port: u.Port(), database: strings.TrimPrefix(u.Path, "/"), tls: true}
	switch {
	case mode == "disable" && a.AllowPrivate:
		e.tls = false
	case mode == "disable":
		return endpoint{}, errors.New("sslmode=disable is for servers on this host or network: use verify-full, or set allow_private")
	case mode != "" && mode != "verify-full":
		return endpoint{}, errors.New("sslmode must be verify-full: anything less gives the password to whoever answers")
	}
	if e.port == "" {
		e.port = "5432"
	}
	if e.database == "" {
		e.database = "postgres"
	}
	return e, nil
}

// Origin says where secrets of roles of this account may be sent: base_url's host
// and port, as "postgres://host:port".
func Origin(a activities.Account) (string, error) {
	e, err := parseURL(a)
	if err != nil {
		return "", err
	}
	return strings.ToLower("postgres://" + hostPort(e.host, e.port)), nil
}

func hostPort(host, port string) string {
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return host + ":" + port
}

func open(a activities.Account, d activities.Deps) (any, error) {
	fail := func(err error) (any, error) { return nil, fmt.Errorf("postgres account %s: %w", a.Name, err) }
	e, err := parseURL(a)
	if err != nil {
		return fail(err)
	}
	origin, err := Origin(a)
	if err != nil {
		return fail(err)
	}
	if a.Settings["user"] == "" {
		return fail(errors.New("settings.user is missing: the role that rekey logs in as"))
	}
	c := &Client{account: a, deps: d, origin: origin, tls: e.tls, timeout: verbTime}
	if s := a.Settings["timeout"]; s != "" {
		c.timeout, err = time.ParseDuration(s)
		if err != nil || c.timeout <= 0 {
			return fail(errors.New("timeout must be a positive duration such as 10s"))
		}
		c.timeout = min(c.timeout, verbTime)
	}
	if dir := a.Settings["store_dir"]; dir != "" {
		if c.store, err = filestore.Open(dir, a.Settings["store_mode"]); err != nil {
			return fail(fmt.Errorf("store_dir: %w", err))
		}
	}
	var nonce [4]byte
	_, _ = rand.Read(nonce[:]) // never fails, crypto/rand
	c.marker = markerPrefix + hex.EncodeToString(nonce[:])
	if c.config, err = c.connConfig(e); err != nil {
		return fail(err)
	}
	return c, nil
}

// markerPrefix begins the application_name of our sessions.
const markerPrefix = "rekey/1 "

// connConfig is the whole configuration of a connection. What libpq's environment
// variables and files would add is taken out: only rekey.yaml counts.
func (c *Client) connConfig(e endpoint) (*pgx.ConnConfig, error) {
	u := url.URL{Scheme: "postgres", Host: hostPort(e.host, e.port), Path: "/" + e.database, User: url.UserPassword("nobody", "nobody"), RawQuery: "sslmode=disable"}
	auth := c.account.Settings["auth"]
	if auth == "" {
		auth = defaultAuth
	}
	u.RawQuery += "&require_auth=" + url.QueryEscape(auth)
	cfg, err := pgx.ParseConfig(u.String())
	if err != nil && c.account.Settings["auth"] != "" {
		return nil, errors.New("auth must be words of libpq's require_auth with commas between, such as scram-sha-256,md5")
	}
	if err != nil {
		return nil, errors.New("base_url cannot be used; is PGSERVICE set in the environment? take it away")
	}
	if e.tls {
		if cfg.TLSConfig, err = httpx.TLS(c.account.CAFile); err != nil {
			return nil, err
		}
		cfg.TLSConfig.ServerName = e.host
	}
	cfg.DialFunc = httpx.Dialer(c.account.AllowPrivate).DialContext
	cfg.Fallbacks, cfg.ValidateConnect, cfg.AfterConnect = nil, nil, nil
	cfg.KerberosSrvName, cfg.KerberosSpn = "", ""
	cfg.ConnectTimeout = min(c.timeout, 10*time.Second)
	ms := fmt.Sprint(min(c.timeout, 10*time.Second).Milliseconds())
	cfg.RuntimeParams = map[string]string{
		"application_name": c.marker, "search_path": "pg_catalog", "client_encoding": "UTF8", "timezone": "UTC", "datestyle": "ISO",
		"standard_conforming_strings": "on", "statement_timeout": ms, "lock_timeout": "5000", "idle_in_transaction_session_timeout": "15000",
	}
	cfg.DefaultQueryExecMode = pgx.QueryExecModeExec
	cfg.StatementCacheCapacity, cfg.DescriptionCacheCapacity = 0, 0
	cfg.OnNotice = func(*pgconn.PgConn, *pgconn.Notice) {}
	cfg.BuildFrontend = func(r io.Reader, w io.Writer) *pgproto3.Frontend {
		f := pgproto3.NewFrontend(r, w)
		f.SetMaxBodyLen(maxMessage)
		return f
	}
	return cfg, nil
}

// now is the world's clock.
func (c *Client) now(ctx context.Context) time.Time {
	if c.deps.Now == nil {
		return time.Now().UTC()
	}
	return c.deps.Now(ctx).UTC()
}

// A log collects the evidence of one verb.
type log struct {
	c        *Client
	evidence []activities.Evidence
}

func (l *log) result(o activities.Outcome, detail string) activities.Result {
	return activities.Result{Outcome: o, Detail: detail, Evidence: l.evidence}
}

// note keeps that a statement was answered; the process id is what the server's own
// log calls the session by.
func (l *log) note(ctx context.Context, op string, pid uint32) {
	l.evidence = append(l.evidence, activities.Evidence{Op: op, At: l.c.now(ctx), RequestID: fmt.Sprintf("pid %d", pid)})
}

// begin bounds one verb and starts its log.
func (c *Client) begin(ctx context.Context) (context.Context, context.CancelFunc, *log) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	return ctx, cancel, &log{c: c}
}

// A session is one connection of ours.
type session struct {
	c    *Client
	l    *log
	conn *pgx.Conn
}

// login logs in as rekey: to read as settings.user, to change something as
// settings.write_user where there is one.
func (c *Client) login(ctx context.Context, l *log, op string, writes bool, database string) (*session, *activities.Fault) {
	user, name := c.account.Settings["user"], "password"
	if w := c.account.Settings["write_user"]; w != "" && writes {
		user, name = w, "write_password"
	}
	password, f := c.ownPassword(op, name)
	if f != nil {
		return nil, f
	}
	conn, f := c.connect(ctx, op, user, password, database)
	if f != nil {
		return nil, f
	}
	s := &session{c: c, l: l, conn: conn}
	if f := s.hello(ctx, op, user); f != nil {
		s.close()
		return nil, f
	}
	l.note(ctx, "pg:login", conn.PgConn().PID())
	return s, nil
}

// hello makes sure that a server answers what it is asked. Whatever lets everybody in
// and finds nothing would read as a cluster in which every role is gone.
func (s *session) hello(ctx context.Context, op, user string) *activities.Fault {
	type answer struct{ Who, Said string }
	said, f := rows[answer](ctx, s, op, "SELECT session_user::text, $1::text", s.c.marker)
	if f != nil {
		return f
	}
	s.l.evidence = s.l.evidence[:len(s.l.evidence)-1]
	if len(said) != 1 || said[0].Who != user || said[0].Said != s.c.marker {
		return &activities.Fault{Class: activities.ClassTransient, Op: op, Detail: notPostgres}
	}
	return nil
}

// notPostgres is the detail of an answer that a PostgreSQL would not give.
const notPostgres = "the answer cannot be read as PostgreSQL's; is a proxy in between?"

// ownPassword reads one of our own passwords; "" where a client certificate is
// configured instead.
func (c *Client) ownPassword(op, name string) (string, *activities.Fault) {
	missing := func(why string) *activities.Fault {
		return &activities.Fault{Class: activities.ClassDenied, Op: op, Permission: "credentials." + name,
			Detail: fmt.Sprintf("no credential %s for account %s: %s", name, c.account.Name, why)}
	}
	if c.account.Credential == nil {
		return "", missing("set " + name + "_file under credentials in rekey.yaml")
	}
	v, err := c.account.Credential(name)
	if err != nil || v.Empty() {
		if _, cerr := c.account.Credential("client_cert"); cerr == nil {
			return "", nil
		}
		if err == nil {
			err = errors.New("it is empty")
		}
		return "", missing(err.Error())
	}
	defer v.Destroy()
	return reveal(v), nil
}

// connect logs in as anybody. A password goes into no error and no log: the driver's
// own text is dropped by classify.
func (c *Client) connect(ctx context.Context, op, user, password, database string) (*pgx.Conn, *activities.Fault) {
	cfg := c.config.Copy()
	cfg.User, cfg.Password = user, password
	if database != "" {
		cfg.Database = database
	}
	if cfg.TLSConfig != nil && c.account.Credential != nil && user != "" && c.ours(user) {
		if f := c.clientCert(op, cfg.TLSConfig); f != nil {
			return nil, f
		}
	}
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, classifyConnect(ctx, op, err)
	}
	return conn, nil
}

// ours tells whether a role is one that rekey logs in as.
func (c *Client) ours(role string) bool {
	return role == c.account.Settings["user"] || role == c.account.Settings["write_user"]
}

// clientCert presents our certificate, where one is configured.
func (c *Client) clientCert(op string, cfg *tls.Config) *activities.Fault {
	cert, err := c.account.Credential("client_cert")
	if err != nil {
		return nil // none is configured
	}
	key, err := c.account.Credential("client_key")
	if err != nil {
		return invalid(op, "client_cert is configured and client_key is not")
	}
	certPEM, keyPEM := cert.Reveal(), key.Reveal()
	defer clear(keyPEM)
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return invalid(op, "client_cert and client_key are not a certificate and its key in PEM")
	}
	cfg.Certificates = []tls.Certificate{pair}
	return nil
}

func reveal(v secret.Value) string {
	b := v.Reveal()
	defer clear(b)
	return string(b)
}

func (s *session) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = s.conn.Close(ctx)
}

// do runs one statement that gives no rows. It goes by the extended protocol, which
// takes one statement and no more
// (https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-EXT-QUERY),
// and what is in it from outside is quoted by ident or literal.
func (s *session) do(ctx context.Context, op string, eff effect, sql string) *activities.Fault {
	res := s.conn.PgConn().ExecParams(ctx, sql, nil, nil, nil, nil).Read()
	if res.Err != nil {
		return classify(ctx, op, eff, res.Err)
	}
	s.l.note(ctx, op, s.conn.PgConn().PID())
	return nil
}

// rows reads all rows of a query into T, whose fields are in the order of the columns.
func rows[T any](ctx context.Context, s *session, op, sql string, args ...any) ([]T, *activities.Fault) {
	r, err := s.conn.Query(ctx, sql, args...)
	if err != nil {
		return nil, classify(ctx, op, reads, err)
	}
	out, err := pgx.CollectRows(r, pgx.RowToStructByPos[T])
	if err != nil {
		return nil, classify(ctx, op, reads, err)
	}
	if tag := r.CommandTag(); !tag.Select() || tag.RowsAffected() != int64(len(out)) {
		return nil, &activities.Fault{Class: activities.ClassTransient, Op: op, Detail: notPostgres}
	}
	s.l.note(ctx, op, s.conn.PgConn().PID())
	return out, nil
}

// one reads the one value of a query.
func one[T any](ctx context.Context, s *session, op, sql string, args ...any) (T, *activities.Fault) {
	var out T
	if err := s.conn.QueryRow(ctx, sql, args...).Scan(&out); err != nil {
		return out, classify(ctx, op, reads, err)
	}
	return out, nil
}

// tx runs fn in a transaction: all of it or nothing.
func (s *session) tx(ctx context.Context, op string, eff effect, fn func() *activities.Fault) *activities.Fault {
	if f := s.do(ctx, op, reads, "BEGIN"); f != nil {
		return f
	}
	if f := fn(); f != nil {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = s.do(end, op, reads, "ROLLBACK")
		return f
	}
	return s.do(ctx, op, eff, "COMMIT")
}

// ident quotes a name.
func ident(name string) string { return pgx.Identifier{name}.Sanitize() }

// literal quotes a text for a statement that takes no parameters; settings of the
// session make a backslash an ordinary character.
func literal(s string) string {
	return "'" + strings.ReplaceAll(strings.ReplaceAll(s, "\x00", ""), "'", "''") + "'"
}
