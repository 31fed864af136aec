package pgtest_test

import (
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"rekey/activities/activitytest/pgtest"
)

func TestServer(t *testing.T) {
	s := pgtest.Start(t, pgtest.Options{MaxConnections: 20})
	require.True(t, s.Works(t, pgtest.Superuser, s.Password))
	require.False(t, s.Works(t, pgtest.Superuser, pgtest.Password()), "a password counts")
	s.Exec(t, `CREATE ROLE app LOGIN PASSWORD 'seen in the log'`, `CREATE TABLE kept (n int)`)
	require.Contains(t, s.Log(t), "seen in the log", "the log tells what a careless client shows")
	var n string
	require.NoError(t, s.Admin(t, "postgres").QueryRow(t.Context(), "SHOW max_connections").Scan(&n))
	require.Equal(t, "20", n)

	s.Crash(t)
	require.False(t, s.Works(t, pgtest.Superuser, s.Password))
	s.Restart(t)
	s.Exec(t, "DROP TABLE kept")
	s.SetHBA(t, "host all all 127.0.0.1/32 reject")
	require.Eventually(t, func() bool { return !s.Works(t, pgtest.Superuser, s.Password) }, time.Minute, 50*time.Millisecond)
}

func TestServerWithTLS(t *testing.T) {
	s := pgtest.Start(t, pgtest.Options{TLS: true, HBA: []string{
		"hostssl all app 127.0.0.1/32 cert", "hostssl all all 127.0.0.1/32 scram-sha-256",
	}})
	s.Exec(t, `CREATE ROLE app LOGIN`)
	var on bool
	require.NoError(t, s.Admin(t, "postgres").QueryRow(t.Context(), "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").Scan(&on))
	require.True(t, on)
	require.False(t, s.Works(t, "app", ""))
	cert, key := s.ClientCert(t, "app")
	c, err := pgx.Connect(t.Context(), s.URL("app", "", "postgres")+"&sslcert="+cert+"&sslkey="+key)
	require.NoError(t, err)
	require.NoError(t, c.Close(t.Context()))
	_, err = os.Stat(s.CAFile)
	require.NoError(t, err)
}
