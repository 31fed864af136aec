package postgres_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"rekey/activities"
	"rekey/activities/activitytest"
	"rekey/activities/activitytest/pgtest"
	"rekey/activities/postgres"
	"rekey/internal/httpx"
	"rekey/internal/secret"
)

// A bench is a client of a real server with a sealed store.
type bench struct {
	engine
	*postgres.Client
	store  *activitytest.Store
	origin string
}

func newBench(t *testing.T, o pgtest.Options) bench {
	t.Helper()
	e := newEngine(t, o)
	at := fmt.Sprintf("postgres://%s:%s/postgres?sslmode=disable", e.Host, e.Port)
	b := bench{engine: e, store: activitytest.NewStore(), origin: originOf(t, at)}
	b.Client = openClient(t, account(t, at, e), b.store)
	return b
}

func openClient(t *testing.T, a activities.Account, store *activitytest.Store) *postgres.Client {
	t.Helper()
	c, err := postgres.Provider().Open(a, activities.Deps{Secrets: store, Agent: "rekey/test", Now: func(context.Context) time.Time { return time.Now() }})
	require.NoError(t, err)
	return c.(*postgres.Client)
}

// role makes a log-in role and a Ref that has its password sealed.
func (b bench) role(t *testing.T, name string, more ...string) (activities.Ref, string) {
	t.Helper()
	password := pgtest.Password()
	quoted := pgx.Identifier{name}.Sanitize()
	b.Exec(t, append([]string{fmt.Sprintf("CREATE ROLE %s LOGIN PASSWORD '%s'", quoted, password)}, more...)...)
	seal(t, b.store, b.origin, "report/"+name, password)
	return activities.Ref{
		Incident: incident, Token: "token/" + name, Attempt: 1, Secret: "report/" + name,
		Key: activities.Key{Provider: postgres.Code, Account: "test", Kind: postgres.Kind, ID: name},
	}, password
}

func (b bench) probe(t *testing.T, ref activities.Ref, mode string) activities.ProbeResult {
	t.Helper()
	res, err := b.Probe(t.Context(), activities.ProbeRequest{Ref: ref, Mode: mode})
	require.NoError(t, err)
	return res
}

func (b bench) issue(t *testing.T, ref activities.Ref, handle string) activities.IssueResult {
	t.Helper()
	before, err := b.ListKeys(t.Context(), ref)
	require.NoError(t, err)
	res, err := b.Issue(t.Context(), activities.IssueRequest{Ref: ref, Handle: handle, Before: before})
	require.NoError(t, err)
	require.Equal(t, activities.Done, res.Outcome, res.Detail)
	return res
}

func (b bench) opened(t *testing.T, handle string) string {
	t.Helper()
	v, err := b.store.Open(t.Context(), secret.Ref{Incident: incident, Handle: handle, Provider: postgres.Code, Origin: b.origin}, "test")
	require.NoError(t, err)
	return string(v.Reveal())
}

// TestServer runs on one server; each part uses roles of its own.
func TestServer(t *testing.T) {
	b := newBench(t, pgtest.Options{})
	for name, part := range map[string]func(*testing.T, bench){
		"life of a role":              lifeOfARole,
		"replacement acts as the old": replacement,
		"no password in the log":      noPasswordInTheLog,
		"sessions":                    sessions,
		"probes":                      probes,
		"inspect":                     inspect,
		"sweep":                       sweep,
		"odd names":                   oddNames,
		"what cannot be replaced":     irreplaceable,
		"our own roles":               ourOwn,
		"distribute":                  distribute,
		"reconcile":                   reconcile,
	} {
		t.Run(name, func(t *testing.T) { part(t, b) })
	}
}

func lifeOfARole(t *testing.T, b bench) {
	ref, password := b.role(t, "life")
	require.Equal(t, activities.ProbeAlive, b.probe(t, ref, activities.ProbeAuth).Saw)
	require.Equal(t, activities.ProbeAlive, b.probe(t, ref, activities.ProbeAction).Saw)
	require.Equal(t, activities.ProbeAlive, b.probe(t, ref, activities.ProbeState).Saw)
	for range 2 {
		res, err := b.Disable(t.Context(), ref)
		require.NoError(t, err)
		require.Equal(t, activities.Done, res.Outcome)
	}
	got := b.probe(t, ref, activities.ProbeAuth)
	require.Equal(t, activities.ProbeRefused, got.Saw)
	require.True(t, got.Control)
	require.Equal(t, "SQLSTATE 28000: the role has no LOGIN", got.Detail)
	require.Equal(t, activities.ProbeRefused, b.probe(t, ref, activities.ProbeState).Saw)
	require.False(t, b.Works(t, "life", password))
	for _, want := range []activities.Outcome{activities.Done, activities.AlreadyGone} {
		res, err := b.Revoke(t.Context(), ref)
		require.NoError(t, err)
		require.Equal(t, want, res.Outcome)
	}
	var there bool
	require.NoError(t, b.Admin(t, "postgres").QueryRow(t.Context(), "SELECT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'life')").Scan(&there))
	require.False(t, there, "nothing rested on it: dropped")
	got = b.probe(t, ref, activities.ProbeAuth)
	require.Equal(t, activities.ProbeRefused, got.Saw)
	require.Equal(t, "SQLSTATE 28P01: no such role", got.Detail)
}

func replacement(t *testing.T, b bench) {
	ref, old := b.role(t, "shop", "CREATE TABLE goods (n int)", "ALTER TABLE goods OWNER TO shop", "GRANT CREATE ON SCHEMA public TO shop",
		`ALTER ROLE shop SET search_path TO "$user", public`, "ALTER ROLE shop SET work_mem TO '12MB'", "ALTER ROLE shop IN DATABASE postgres SET datestyle TO 'SQL, DMY'",
		"ALTER ROLE shop SET log_min_messages TO 'error'", "ALTER ROLE shop CONNECTION LIMIT 7")
	made := b.issue(t, ref, "new/shop")
	again := b.issue(t, ref, "new/shop")
	require.Equal(t, made.New.ID, again.New.ID)
	require.Regexp(t, `^shop_rk[0-9a-f]{8}$`, made.New.ID)
	require.True(t, b.Works(t, "shop", old), "the old one goes on")
	var pair struct{ User, Password string }
	decode(t, b.opened(t, "new/shop"), &pair)
	require.Equal(t, made.New.ID, pair.User)

	c, err := b.Connect(t, pair.User, pair.Password, "postgres")
	require.NoError(t, err)
	var session, current, path, mem, style string
	require.NoError(t, c.QueryRow(t.Context(), "SELECT session_user, current_user, current_setting('search_path'), current_setting('work_mem'), current_setting('datestyle')").
		Scan(&session, &current, &path, &mem, &style))
	require.Equal(t, []string{made.New.ID, "shop", `"$user", public`, "12MB", "SQL, DMY"}, []string{session, current, path, mem, style})
	for _, sql := range []string{"INSERT INTO goods VALUES (1)", "ALTER TABLE goods ADD COLUMN m int", "CREATE TABLE made_by_new (n int)", "DISCARD ALL", "SELECT * FROM goods"} {
		_, err = c.Exec(t.Context(), sql)
		require.NoError(t, err, sql)
	}
	var owner string
	require.NoError(t, c.QueryRow(t.Context(), "SELECT tableowner FROM pg_tables WHERE tablename = 'made_by_new'").Scan(&owner))
	require.Equal(t, "shop", owner, "what the new one makes belongs to the principal")

	// The old one ends; the new one has its rights all the same.
	res, err := b.Revoke(t.Context(), ref)
	require.NoError(t, err)
	require.Equal(t, activities.Done, res.Outcome)
	require.Contains(t, res.Detail, "retired")
	require.False(t, b.Works(t, "shop", old))
	b.Exec(t, "ALTER ROLE shop LOGIN PASSWORD '"+old+"'")
	require.False(t, b.Works(t, "shop", old), "a retired role lets nobody in with a new password either")
	b.Exec(t, "ALTER ROLE shop NOLOGIN PASSWORD NULL")
	_, err = c.Exec(t.Context(), "INSERT INTO goods VALUES (2)")
	require.NoError(t, err)

	// The replacement leaks too: its own replacement is of the same principal, and it
	// can be dropped.
	second := ref
	second.Key.ID, second.Token, second.Secret = made.New.ID, "token/shop/2", "new/shop"
	next := b.issue(t, second, "new/shop2")
	require.NotEqual(t, made.New.ID, next.New.ID)
	require.NoError(t, c.Close(t.Context()))
	require.Eventually(t, func() bool {
		res, err = b.Revoke(t.Context(), second)
		return err == nil
	}, time.Minute, 100*time.Millisecond)
	require.Equal(t, "dropped: nothing rested on it", res.Detail)
	decode(t, b.opened(t, "new/shop2"), &pair)
	c, err = b.Connect(t, pair.User, pair.Password, "postgres")
	require.NoError(t, err)
	_, err = c.Exec(t.Context(), "INSERT INTO goods VALUES (3)")
	require.NoError(t, err)
	require.NoError(t, c.Close(t.Context()))
}

func noPasswordInTheLog(t *testing.T, b bench) {
	ref, _ := b.role(t, "quiet")
	b.issue(t, ref, "new/quiet")
	var pair struct{ User, Password string }
	decode(t, b.opened(t, "new/quiet"), &pair)
	log := b.Log(t)
	require.Contains(t, log, `CREATE ROLE "`+pair.User+`" LOGIN INHERIT PASSWORD 'SCRAM-SHA-256$4096:`)
	require.NotContains(t, log, pair.Password)
	require.True(t, b.Works(t, pair.User, pair.Password))
}

func sessions(t *testing.T, b bench) {
	ref, password := b.role(t, "busy")
	other, _ := b.role(t, "bystander")
	_ = other
	c, err := b.Connect(t, "busy", password, "postgres")
	require.NoError(t, err)
	admin := b.Admin(t, "postgres")
	_, err = admin.Exec(t.Context(), "SET ROLE busy") // acts as it, and is not it
	require.NoError(t, err)

	before := time.Now().Add(-time.Hour)
	res, err := b.EndSessions(t.Context(), activities.EndSessionsRequest{Ref: ref, Before: before})
	require.NoError(t, err)
	require.Equal(t, "0 sessions ended", res.Detail, "it may log in, and its session is younger")
	_, err = c.Exec(t.Context(), "SELECT 1")
	require.NoError(t, err)

	// A pool that reconnects at once loses.
	ctx, cancel := context.WithCancel(t.Context())
	pool := make(chan struct{})
	go func() {
		defer close(pool)
		for ctx.Err() == nil {
			if p, err := pgx.Connect(ctx, b.URL("busy", password, "postgres")); err == nil {
				_, _ = p.Exec(ctx, "SELECT pg_sleep(30)")
				_ = p.Close(context.Background())
			}
		}
	}()
	require.Eventually(t, func() bool { return b.count(t, "busy") >= 2 }, time.Minute, 20*time.Millisecond)
	_, err = b.Disable(t.Context(), ref)
	require.NoError(t, err)
	for range 2 {
		res, err = b.EndSessions(t.Context(), activities.EndSessionsRequest{Ref: ref, Before: before})
		require.NoError(t, err)
		require.Equal(t, activities.Done, res.Outcome)
		require.Zero(t, b.count(t, "busy"))
	}
	cancel()
	<-pool
	_, err = c.Exec(t.Context(), "SELECT 1")
	require.Error(t, err)
	_, err = admin.Exec(t.Context(), "SELECT 1")
	require.NoError(t, err, "who acts as the role by SET ROLE goes on")

	// A superuser's sessions take a superuser.
	root, rootPassword := b.role(t, "chief", "ALTER ROLE chief SUPERUSER")
	_, err = b.Connect(t, "chief", rootPassword, "postgres")
	require.NoError(t, err)
	_, err = b.EndSessions(t.Context(), activities.EndSessionsRequest{Ref: root, Before: time.Now().Add(time.Hour)})
	f := fault(t, err)
	require.Equal(t, activities.ClassDenied, f.Class)
	require.Equal(t, "SUPERUSER", f.Permission)
	_, err = b.Disable(t.Context(), root)
	require.Equal(t, "SUPERUSER", fault(t, err).Permission)

	// A role that was dropped under its session.
	gone, gonePassword := b.role(t, "gone")
	_, err = b.Connect(t, "gone", gonePassword, "postgres")
	require.NoError(t, err)
	b.Exec(t, "DROP ROLE gone")
	res, err = b.EndSessions(t.Context(), activities.EndSessionsRequest{Ref: gone, Before: time.Now()})
	require.NoError(t, err)
	require.Equal(t, activities.NeedsHuman, res.Outcome)
	require.Contains(t, res.Detail, "1 sessions of dropped roles")
}

func (b bench) count(t *testing.T, role string) int {
	t.Helper()
	c := b.Admin(t, "postgres")
	var n int
	require.NoError(t, c.QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE usename = $1", role).Scan(&n))
	require.NoError(t, c.Close(t.Context()))
	return n
}

func probes(t *testing.T, b bench) {
	ref, _ := b.role(t, "asked")
	for name, tt := range map[string]struct {
		sql     string
		saw     string
		control bool
	}{
		"another password":     {"ALTER ROLE asked PASSWORD 'another'", activities.ProbeMismatch, true},
		"no password":          {"ALTER ROLE asked PASSWORD NULL", activities.ProbeMismatch, true},
		"expired":              {"ALTER ROLE asked VALID UNTIL '2001-01-01'", activities.ProbeRefused, true},
		"no log-in":            {"ALTER ROLE asked NOLOGIN", activities.ProbeRefused, true},
		"no connection left":   {"ALTER ROLE asked CONNECTION LIMIT 0", "", false},
		"no right to database": {"REVOKE CONNECT ON DATABASE postgres FROM PUBLIC; GRANT CONNECT ON DATABASE postgres TO rekey_read, rekey_write", activities.ProbeAlive, false},
	} {
		t.Run(name, func(t *testing.T) {
			admin := b.Admin(t, "postgres")
			_, err := admin.Exec(t.Context(), tt.sql)
			require.NoError(t, err)
			res, err := b.Probe(t.Context(), activities.ProbeRequest{Ref: ref, Mode: activities.ProbeAuth, Vantage: "direct"})
			if tt.saw == "" {
				require.Equal(t, activities.ClassThrottled, fault(t, err).Class)
			} else {
				require.NoError(t, err)
				require.Equal(t, tt.saw, res.Saw, res.Detail)
				require.Equal(t, tt.control, res.Control)
			}
			_, err = admin.Exec(t.Context(), "ALTER ROLE asked LOGIN CONNECTION LIMIT -1 VALID UNTIL 'infinity'; GRANT CONNECT ON DATABASE postgres TO PUBLIC")
			require.NoError(t, err)
			var pw string
			decodeBare(b.opened(t, ref.Secret), &pw)
			_, err = admin.Exec(t.Context(), "ALTER ROLE asked PASSWORD '"+pw+"'")
			require.NoError(t, err)
			require.NoError(t, admin.Close(t.Context()))
			require.Equal(t, activities.ProbeAlive, b.probe(t, ref, activities.ProbeAuth).Saw)
		})
	}
	_, err := b.Probe(t.Context(), activities.ProbeRequest{Ref: ref, Mode: activities.ProbeAuth, Vantage: "eu-central-1"})
	require.Equal(t, activities.ClassInvalid, fault(t, err).Class)
	without := ref
	without.Secret = ""
	require.Equal(t, activities.ProbeState, b.probe(t, without, activities.ProbeAuth).Mode)
}

// TestRefusedByHBA: a place that is not let in proves nothing, and a server that asks
// for no password is seen to let everybody in.
func TestRefusedByHBA(t *testing.T) {
	b := newBench(t, pgtest.Options{})
	ref, password := b.role(t, "walled")
	b.role(t, "open")
	open := ref
	open.Key.ID, open.Secret = "open", "report/open"
	b.SetHBA(t, "host all walled 127.0.0.1/32 reject", "host all open 127.0.0.1/32 trust", "host all all 127.0.0.1/32 scram-sha-256")
	require.Eventually(t, func() bool { return !b.Works(t, "walled", password) }, time.Minute, 50*time.Millisecond)
	got := b.probe(t, ref, activities.ProbeAuth)
	require.Equal(t, activities.ProbeUnclear, got.Saw, got.Detail)
	b.Exec(t, "ALTER ROLE open PASSWORD 'another'")
	require.Equal(t, activities.ProbeAlive, b.probe(t, open, activities.ProbeAuth).Saw)
	res, err := b.Inspect(t.Context(), activities.InspectRequest{Ref: open, Now: time.Now()})
	require.NoError(t, err)
	require.Contains(t, strings.Join(res.Policies, "\n"), "lets it in by trust, without the password")
	require.Contains(t, strings.Join(res.Policies, "\n"), "names the role: a replacement is not let in by it")
	_, err = b.Disable(t.Context(), open)
	require.NoError(t, err)
	require.Equal(t, activities.ProbeRefused, b.probe(t, open, activities.ProbeAuth).Saw, "NOLOGIN ends trust too")

	b.Stop(t)
	got = b.probe(t, ref, activities.ProbeAuth)
	require.Equal(t, activities.ProbeUnclear, got.Saw, "a server that is down proves nothing")
	_, err = b.Disable(t.Context(), ref)
	require.Equal(t, activities.ClassTransient, fault(t, err).Class)
}

// TestTLS: the certificate and its name are checked, and private addresses are refused.
func TestTLS(t *testing.T) {
	e := newEngine(t, pgtest.Options{TLS: true})
	at := func(host string) string { return fmt.Sprintf("postgres://%s:%s/postgres", host, e.Port) }
	list := func(change func(*activities.Account)) error {
		a := account(t, at("localhost"), e)
		change(&a)
		_, err := openClient(t, a, activitytest.NewStore()).ListKeys(t.Context(), activities.Ref{Key: activities.Key{ID: "app"}})
		return err
	}
	require.NoError(t, list(func(a *activities.Account) { a.CAFile = e.CAFile }))
	require.Contains(t, fault(t, list(func(*activities.Account) {})).Detail, "certificate is not trusted")
	require.Equal(t, httpx.ErrAddress.Error(), fault(t, list(func(a *activities.Account) { a.CAFile, a.AllowPrivate = e.CAFile, false })).Detail)
}

func TestSettings(t *testing.T) {
	for name, tt := range map[string]struct {
		set  map[string]string
		want string
	}{
		"no URL":          {map[string]string{"base_url": ""}, "base_url must be"},
		"HTTP":            {map[string]string{"base_url": "https://db"}, "base_url must be"},
		"password in URL": {map[string]string{"base_url": "postgres://me:x@db/app"}, "base_url must be"},
		"two hosts":       {map[string]string{"base_url": "postgres://a,b/app"}, "base_url must be"},
		"parameter":       {map[string]string{"base_url": "postgres://db/app?options=-c"}, "no other parameter"},
		"no TLS":          {map[string]string{"base_url": "postgres://db/app?sslmode=disable"}, "sslmode=disable is for"},
		"weak TLS":        {map[string]string{"base_url": "postgres://db/app?sslmode=require"}, "must be verify-full"},
		"no user":         {map[string]string{"user": ""}, "settings.user is missing"},
		"store":           {map[string]string{"store_dir": "secrets"}, "absolute path"},
		"store's mode":    {map[string]string{"store_dir": "/x", "store_mode": "0666"}, "0600, or 0640"},
		"time-out":        {map[string]string{"timeout": "soon"}, "positive duration"},
		"way to log in":   {map[string]string{"auth": "hope"}, "require_auth"},
	} {
		t.Run(name, func(t *testing.T) {
			a := activities.Account{Name: "main", Settings: map[string]string{"base_url": "postgres://db/app", "user": "rekey"}}
			for k, v := range tt.set {
				a.Settings[k] = v
			}
			_, err := postgres.Provider().Open(a, activities.Deps{Secrets: activitytest.NewStore()})
			require.ErrorContains(t, err, tt.want)
			require.ErrorContains(t, err, "postgres account main")
		})
	}
	origin, err := postgres.Origin(activities.Account{Settings: map[string]string{"base_url": "postgres://DB.example.com/app"}})
	require.NoError(t, err)
	require.Equal(t, "postgres://db.example.com:5432", origin)
}

func distribute(t *testing.T, b bench) {
	ref, _ := b.role(t, "reader")
	made := b.issue(t, ref, "new/reader")
	put := func(name string) (activities.DistributeResult, error) {
		return b.Distribute(t.Context(), activities.DistributeRequest{Ref: ref, Handle: "new/reader", NewKeyID: made.New.ID, Target: postgres.StoreFile, Name: name})
	}
	first, err := put("team/reader")
	require.NoError(t, err)
	require.NotEmpty(t, first.Version)
	second, err := put("team/reader")
	require.NoError(t, err)
	require.Equal(t, first.Version, second.Version)
	require.Equal(t, "written by an earlier attempt", second.Detail)
	raw, err := os.ReadFile(filepath.Join(b.dir, "team", "reader.json"))
	require.NoError(t, err)
	var k struct{ User, Password, URL, Version, Port string }
	decode(t, string(raw), &k)
	require.Equal(t, first.Version, k.Version)
	c, err := pgx.Connect(t.Context(), k.URL)
	require.NoError(t, err)
	require.NoError(t, c.Close(t.Context()))
	line, err := os.ReadFile(filepath.Join(b.dir, "team", "reader.pgpass"))
	require.NoError(t, err)
	require.Equal(t, fmt.Sprintf("127.0.0.1:%s:*:%s:%s\n", b.Port, made.New.ID, k.Password), string(line))
	for _, bad := range []string{"../reader", "", "/etc/reader", "a/../../b"} {
		_, err = put(bad)
		require.Equal(t, activities.ClassInvalid, fault(t, err).Class, bad)
	}
	b.Exec(t, "ALTER ROLE "+made.New.ID+" NOLOGIN")
	_, err = put("team/reader")
	require.Contains(t, fault(t, err).Detail, "may not log in")
}
