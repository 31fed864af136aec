package worker

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"rekey/activities/activitytest/pgtest"
	"rekey/activities/postgres"
	"rekey/internal/cli"
)

// TestCheckOfPostgres: a provider that looks at itself is asked, and what it lacks is
// named by verb.
func TestCheckOfPostgres(t *testing.T) {
	pg := pgtest.Start(t, pgtest.Options{})
	password := pgtest.Password()
	d := postgres.Provider().Descriptor
	for line := range strings.SplitSeq(d.ReadPolicy+"\n"+d.WritePolicy, "\n") {
		if line != "" && !strings.HasPrefix(line, "--") && !strings.HasPrefix(line, `\`) {
			pg.Exec(t, line)
		}
	}
	pg.Exec(t, "ALTER ROLE rekey_read PASSWORD '"+password+"'", "ALTER ROLE rekey_write PASSWORD '"+password+"'")
	dir := t.TempDir()
	store := filepath.Join(dir, "store")
	require.NoError(t, os.Mkdir(store, 0o700))
	file := filepath.Join(dir, "password")
	require.NoError(t, os.WriteFile(file, []byte(password), 0o600))
	line := func(name, more string) string {
		return fmt.Sprintf("    %s: {base_url: \"postgres://%s:%s/postgres?sslmode=disable\", allow_private: true, settings: {user: rekey_read, write_user: rekey_write%s}, credentials: {password_file: %s, write_password_file: %s}}\n",
			name, pg.Host, pg.Port, more, file, file)
	}
	c := settings(t, dir, "providers:\n  postgres:\n"+line("main", ", store_dir: "+store)+line("poor", ""))
	check := func(account string) cli.AccountCheck {
		t.Helper()
		res, err := Check(t.Context(), cli.CheckOptions{Common: c, Provider: "postgres", Account: account}, cli.IOStreams{})
		require.NoError(t, err)
		require.Len(t, res.Accounts, 1)
		require.NotContains(t, fmt.Sprint(res), password)
		return res.Accounts[0]
	}
	main := check("main")
	require.Empty(t, main.Problems)
	require.Equal(t, "rekey_read and rekey_write at "+pg.Host+":"+pg.Port, main.Identity)
	for _, v := range main.Verbs {
		require.Equal(t, "allowed", v.State, v.Verb)
	}
	pg.Exec(t, "REVOKE pg_signal_backend FROM rekey_write", "REVOKE pg_read_all_stats FROM rekey_read")
	missing := map[string][]string{}
	for _, v := range check("poor").Verbs {
		missing[v.Verb] = v.Missing
	}
	require.Equal(t, []string{"pg_read_all_stats"}, missing["Inspect"])
	require.Equal(t, []string{"pg_signal_backend"}, missing["EndSessions"])
	require.Equal(t, []string{"write access to store_dir"}, missing["Distribute"])
	require.Empty(t, missing["Disable"])

	pg.Exec(t, "ALTER ROLE rekey_write NOLOGIN")
	refused := check("main")
	require.Len(t, refused.Problems, 1)
	require.Contains(t, refused.Problems[0].Message, "our own role is refused")
	require.Contains(t, refused.Problems[0].Do, "mend our credential")
}
