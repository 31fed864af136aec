package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"rekey/activities/activitytest/pgtest"
	"rekey/activities/postgres"
	"rekey/internal/view"
)

// An application queries all the while. It reads who it is from the file that rekey
// writes, for each new connection, as the guide of the provider asks for.
type application struct {
	pool   *pgxpool.Pool
	cancel context.CancelFunc
	done   chan struct{}

	mu sync.Mutex
	// queries and failures count; worst is the most failures of one query before it
	// was answered; users are who it was answered as.
	queries, failures, worst int
	users                    map[string]int
	actors                   map[string]int
}

func startApplication(t *testing.T, file, ca string) *application {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	read := func() (*pgx.ConnConfig, error) {
		var k struct{ URL string }
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(b, &k); err != nil {
			return nil, err
		}
		return pgx.ParseConfig(k.URL + "&sslrootcert=" + url.QueryEscape(ca) + "&application_name=payments-api")
	}
	first, err := read()
	require.NoError(t, err)
	cfg, err := pgxpool.ParseConfig(first.ConnString())
	require.NoError(t, err)
	cfg.MaxConns, cfg.MaxConnLifetime, cfg.HealthCheckPeriod = 4, 2*time.Second, 500*time.Millisecond
	cfg.BeforeConnect = func(_ context.Context, c *pgx.ConnConfig) error {
		now, err := read()
		if err == nil {
			c.User, c.Password = now.User, now.Password
		}
		return err
	}
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	require.NoError(t, err)
	a := &application{pool: pool, cancel: cancel, done: make(chan struct{}), users: map[string]int{}, actors: map[string]int{}}
	go a.run(ctx)
	t.Cleanup(a.stop)
	require.Eventually(t, func() bool { a.mu.Lock(); defer a.mu.Unlock(); return a.queries > 0 }, patience, 10*time.Millisecond)
	return a
}

func (a *application) run(ctx context.Context) {
	defer close(a.done)
	for ctx.Err() == nil {
		for failed := 0; ctx.Err() == nil; failed++ {
			var session, current string
			err := a.pool.QueryRow(ctx, "INSERT INTO payments VALUES (1) RETURNING session_user::text, current_user::text").Scan(&session, &current)
			if ctx.Err() != nil {
				break
			}
			a.mu.Lock()
			if err == nil {
				a.queries++
				a.users[session]++
				a.actors[current]++
				a.worst = max(a.worst, failed)
			} else {
				a.failures++
			}
			a.mu.Unlock()
			if err == nil {
				break
			}
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (a *application) stop() {
	a.cancel()
	<-a.done
	a.pool.Close()
}

// TestReportOnPostgres replaces the leaked password of a role that an application uses
// all the while, on a server that logs every statement.
func TestReportOnPostgres(t *testing.T) {
	t.Parallel()
	pg := pgtest.Start(t, pgtest.Options{TLS: true})
	leaked, readPassword, writePassword := pgtest.Password(), pgtest.Password(), pgtest.Password()
	d := postgres.Provider().Descriptor
	for line := range strings.SplitSeq(d.ReadPolicy+"\n"+d.WritePolicy, "\n") {
		if line != "" && !strings.HasPrefix(line, "--") && !strings.HasPrefix(line, `\`) {
			pg.Exec(t, line)
		}
	}
	// Set by the driver's own superuser, as an administrator's \password would: the log
	// is looked at from here on.
	quietly(t, pg, fmt.Sprintf("ALTER ROLE rekey_read PASSWORD '%s'; ALTER ROLE rekey_write PASSWORD '%s'; CREATE ROLE app LOGIN PASSWORD '%s'", readPassword, writePassword, leaked))
	pg.Exec(t, "GRANT CREATE ON SCHEMA public TO app", "CREATE TABLE payments (n int)", "ALTER TABLE payments OWNER TO app")

	r := newRig(t, "")
	store := filepath.Join(r.dir, "store")
	require.NoError(t, os.MkdirAll(filepath.Join(store, "payments"), 0o700))
	base := fmt.Sprintf("postgres://localhost:%s/postgres?sslmode=verify-full", pg.Port)
	file := r.write("store/payments/app.json", fmt.Sprintf(`{"url": "postgres://app:%s@%s"}`, leaked, strings.TrimPrefix(base, "postgres://")))
	people, yaml := newVoters(t, r, voter{name: "ann", roles: []string{"commander"}}, voter{name: "bob", roles: []string{"security"}})
	r.configure(yaml)
	r.configure(fmt.Sprintf(`providers:
  postgres:
    main: {base_url: %q, ca_file: %q, allow_private: true, settings: {user: rekey_read, write_user: rekey_write, store_dir: %q}, credentials: {password_file: %s, write_password_file: %s}}
estate: {files: [%s]}
`, base, pg.CAFile, store, r.write("read", readPassword+"\n"), r.write("write", writePassword+"\n"),
		r.write("estate.yaml", `keys: [{id: app, provider: postgres, account: main, kind: role-password, owner: payments}]
dependents: [{id: payments-api, keys: [app], owner: payments, outage_budget: 30m, cutover: dual, proof: last-used}]
`)))
	app := startApplication(t, file, pg.CAFile)
	thief, err := pg.Connect(t, "app", leaked, "postgres")
	require.NoError(t, err)
	r.up()

	done := make(chan outcome, 1)
	go func() {
		done <- r.rekey(leaked+"\n", "report", "postgres", "app", "--secret-stdin", "--playbook", "postgres-role", "--reason", "in a public repository", "--confidence", "confirmed", "--wait", "--timeout", patience.String(), "--interval", "200ms", "--json")
	}()
	id := r.first()
	vote := func(name string) {
		t.Helper()
		v := r.until(id, "the question for "+name, func(v view.Incident) bool { _, ok := open(v, name); return ok })
		q, _ := open(v, name)
		for _, who := range []string{"ann", "bob"} {
			o := r.rekey("", "incident", "approve", id, "--wave", q.WaveHash, "--approval", q.ID, "--identity", people[who].identity, "--json")
			require.Zero(t, o.code, o.out+o.errOut)
		}
	}
	vote("strategy")
	// The owner is told before anything is cut; by then the application has moved.
	v := r.until(id, "the notice to the owner", func(v view.Incident) bool { return len(v.NeedsHuman) > 0 })
	require.True(t, pg.Works(t, "app", leaked), "nothing is cut yet")
	require.Eventually(t, func() bool { return sessionsOf(t, pg, "app") == 1 }, patience, 100*time.Millisecond, "only the thief is left on the old role")
	o := r.rekey("", "incident", "resolve", id, "--task", v.NeedsHuman[0].ID, "--as", "done", "--reason", "told", "--identity", people["ann"].identity, "--json")
	require.Zero(t, o.code, o.out+o.errOut)
	vote("irreversible")
	var got outcome
	select {
	case got = <-done:
	case <-time.After(patience):
		require.FailNow(t, "--wait does not end", r.rekey("", "incident", "show", id).out)
	}
	require.Zero(t, got.code, "%s\n%s", got.out, got.errOut)
	end := decode[view.Incident](t, got.out)
	require.Equal(t, "all-clear", end.State)
	require.Len(t, end.Items, 1)
	it := end.Items[0]
	require.Equal(t, "revoked-verified", it.EndState)
	require.Equal(t, "A", it.Death.Grade, "the old password itself was refused, with a control")
	require.Equal(t, "adopted", it.Adoption.State)
	require.Equal(t, 1, it.Adoption.CutOver, "the application was seen on the new role")

	// The old password is refused, and so is the thief's open session.
	require.False(t, pg.Works(t, "app", leaked))
	require.True(t, pg.Works(t, pgtest.Superuser, pg.Password), "the control")
	_, err = thief.Exec(t.Context(), "SELECT 1")
	require.Error(t, err)
	require.Zero(t, sessionsOf(t, pg, "app"))
	var current struct{ User, Password string }
	raw, err := os.ReadFile(file)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(raw, &current))
	require.Equal(t, it.Adoption.NewKeyID, current.User)
	require.True(t, pg.Works(t, current.User, current.Password))
	require.NotContains(t, string(raw), leaked)

	app.stop()
	require.LessOrEqual(t, app.worst, 1, "no query failed beyond one reconnect (%d of %d failed)", app.failures, app.queries)
	require.Positive(t, app.users["app"], "it began on the old role")
	require.Positive(t, app.users[current.User], "and ended on the new one")
	require.Equal(t, map[string]int{"app": app.queries}, app.actors, "the new role acts as the old one")
	t.Logf("%d queries, %d failed, at most %d in a row", app.queries, app.failures, app.worst)

	// Nothing secret is where it can be read.
	secrets := map[string]string{"leaked": leaked, "new": current.Password, "read": readPassword, "write": writePassword}
	log := pg.Log(t)
	require.Contains(t, log, "CREATE ROLE", "log_statement=all shows what was done")
	bundle := filepath.Join(r.dir, "incident.zip")
	require.Zero(t, r.rekey("", "audit", "export", id, "-o", bundle).code)
	whole, err := os.ReadFile(bundle)
	require.NoError(t, err)
	for what, s := range secrets {
		require.NotContains(t, log, s, "%s in the server's log", what)
		require.NotContains(t, r.logged(), s, "%s in rekey's log", what)
		require.NotContains(t, string(whole), s, "%s in the bundle", what)
		require.NotContains(t, got.out+got.errOut, s, "%s in the output", what)
	}
	r.stop() // verify needs no server
	o = r.rekey("", "audit", "verify", bundle, "--key", filepath.Join(r.data(), "keys", "audit", "audit.pub"), "--json")
	require.Zero(t, o.code, o.out+o.errOut)
	require.Contains(t, o.out, `"verified"`)
}

// quietly runs statements that the server does not log.
func quietly(t *testing.T, pg *pgtest.Server, sql string) {
	t.Helper()
	c := pg.Admin(t, "postgres")
	_, err := c.Exec(t.Context(), "SET log_statement = 'none'")
	require.NoError(t, err)
	_, err = c.Exec(t.Context(), sql)
	require.NoError(t, err)
	require.NoError(t, c.Close(t.Context()))
}

func sessionsOf(t *testing.T, pg *pgtest.Server, role string) int {
	t.Helper()
	c := pg.Admin(t, "postgres")
	var n int
	require.NoError(t, c.QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE usename = $1", role).Scan(&n))
	require.NoError(t, c.Close(t.Context()))
	return n
}
