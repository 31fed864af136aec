package postgres_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"rekey/activities"
	"rekey/activities/activitytest/pgtest"
	"rekey/activities/postgres"
)

func decode(t *testing.T, text string, to any) {
	t.Helper()
	require.NoError(t, json.Unmarshal([]byte(text), to))
}

func decodeBare(text string, to *string) { *to = text }

func fault(t *testing.T, err error) *activities.Fault {
	t.Helper()
	var f *activities.Fault
	require.ErrorAs(t, err, &f)
	return f
}

func inspect(t *testing.T, b bench) {
	ref, password := b.role(t, "seen", "CREATE ROLE seen_group", "GRANT seen_group TO seen WITH ADMIN OPTION",
		"CREATE ROLE seen_member LOGIN IN ROLE seen", "CREATE TABLE seen_table (n int)", "ALTER TABLE seen_table OWNER TO seen",
		"CREATE FUNCTION seen_definer() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'", "ALTER FUNCTION seen_definer() OWNER TO seen")
	b.Exec(t, "CREATE DATABASE elsewhere OWNER seen", "CREATE DATABASE closed", "REVOKE CONNECT ON DATABASE closed FROM PUBLIC")
	conn, err := pgx.Connect(t.Context(), b.URL("seen", password, "postgres")+"&application_name=payments-api")
	require.NoError(t, err)
	now := time.Now()
	got, err := b.Inspect(t.Context(), activities.InspectRequest{Ref: ref, Since: now.Add(-time.Hour), Now: now})
	require.NoError(t, err)
	require.True(t, *got.Exists)
	require.True(t, *got.Active)
	require.False(t, *got.Admin)
	require.Equal(t, "seen", got.Principal)
	require.Equal(t, []string{"seen_group"}, got.Roles)
	require.Equal(t, []activities.KeyState{{ID: "seen_member", Active: true}}, got.Siblings)
	all := strings.Join(got.Policies, "\n")
	for _, want := range []string{"member of seen_group with admin option", "its member seen_member", "owns 2 objects in postgres", "owns 1 objects in the cluster", "security definer function public.seen_definer() in postgres, of seen"} {
		require.Contains(t, all, want)
	}
	require.Len(t, got.Uses, 1)
	u := got.Uses[0]
	require.Equal(t, []any{"127.0.0.1", "payments-api", int64(1), activities.UseUnknown}, []any{u.Source, u.Agent, u.Count, u.Label})
	require.Contains(t, u.Calls, "without TLS")
	require.Equal(t, []activities.Window{{From: now.Add(-time.Hour).UTC(), To: now.UTC(), Source: "postgres"}}, got.Dark, "no log of log-ins")
	var sources []string
	for _, s := range got.Unseen {
		sources = append(sources, s.Source)
	}
	require.Contains(t, sources, "postgres:closed")
	require.Contains(t, sources, "uses", "earlier uses are unseen, never none")

	for label, known := range map[string]activities.Caller{
		activities.UseKnown: {Network: "127.0.0.0/8", Agent: "payments", Who: "payments-api"}, activities.UseNew: {Network: "192.0.2.0/24", Agent: "payments"},
	} {
		got, err = b.Inspect(t.Context(), activities.InspectRequest{Ref: ref, Now: now, Known: []activities.Caller{known}})
		require.NoError(t, err)
		require.Equal(t, label, got.Uses[0].Label)
	}
	require.NoError(t, conn.Close(t.Context()))

	for _, power := range []string{"ALTER ROLE seen CREATEROLE", "ALTER ROLE seen NOCREATEROLE; GRANT pg_execute_server_program TO seen_group", "REVOKE pg_execute_server_program FROM seen_group; CREATE ROLE seen_root SUPERUSER; GRANT seen_root TO seen_group"} {
		for sql := range strings.SplitSeq(power, "; ") {
			b.Exec(t, sql)
		}
		got, err = b.Inspect(t.Context(), activities.InspectRequest{Ref: ref, Now: now})
		require.NoError(t, err)
		require.True(t, *got.Admin, power)
	}
	absent := ref
	absent.Key.ID = "never_was"
	got, err = b.Inspect(t.Context(), activities.InspectRequest{Ref: absent, Now: now})
	require.NoError(t, err)
	require.False(t, *got.Exists)

	// Without the right to see sessions, uses are unseen and not none.
	b.Exec(t, "REVOKE pg_read_all_stats FROM rekey_read", "REVOKE EXECUTE ON FUNCTION pg_hba_file_rules() FROM rekey_read")
	defer b.Exec(t, "GRANT pg_read_all_stats TO rekey_read", "GRANT EXECUTE ON FUNCTION pg_hba_file_rules() TO rekey_read")
	got, err = b.Inspect(t.Context(), activities.InspectRequest{Ref: ref, Now: now})
	require.NoError(t, err)
	missing := map[string]string{}
	for _, s := range got.Unseen {
		missing[s.Source] += s.Permission
	}
	require.Equal(t, "pg_read_all_stats", missing["uses"])
	require.Equal(t, "SELECT on pg_hba_file_rules", missing["postgres:pg_hba.conf"])
}

func sweep(t *testing.T, b bench) {
	ref, password := b.role(t, "swept", "CREATE ROLE swept_other LOGIN")
	look := func(more func(*activities.SweepRequest)) activities.SweepResult {
		req := activities.SweepRequest{Ref: ref, Since: time.Now().Add(-time.Minute), Now: time.Now(), Compromised: []string{"swept"}}
		if more != nil {
			more(&req)
		}
		got, err := b.Sweep(t.Context(), req)
		require.NoError(t, err)
		return got
	}
	clean := look(nil)
	require.Empty(t, clean.Findings)
	require.NotEmpty(t, clean.Digest)
	require.Equal(t, clean.Digest, look(nil).Digest, "the same set gives the same digest")

	b.Exec(t, "CREATE FUNCTION back_door() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'", "ALTER FUNCTION back_door() OWNER TO swept",
		"CREATE ROLE swept_group", "GRANT swept_group TO swept WITH ADMIN OPTION", "CREATE PUBLICATION swept_pub", "GRANT CREATE ON DATABASE postgres TO swept", "ALTER PUBLICATION swept_pub OWNER TO swept",
		"CREATE FOREIGN DATA WRAPPER swept_fdw", "CREATE SERVER swept_server FOREIGN DATA WRAPPER swept_fdw", "CREATE USER MAPPING FOR swept SERVER swept_server")
	c, err := b.Connect(t, "swept", password, "postgres")
	require.NoError(t, err)
	_, err = c.Exec(t.Context(), "GRANT swept_group TO swept_other")
	require.NoError(t, err)
	// Up to PostgreSQL 15 a role may make others members of itself.
	_, err = c.Exec(t.Context(), "GRANT swept TO swept_other")
	self := err == nil
	got := look(nil)
	require.NotEqual(t, clean.Digest, got.Digest)
	found := map[string]activities.Finding{}
	for _, f := range got.Findings {
		found[f.ID] = f
	}
	for _, want := range []string{
		"security definer function public.back_door() in postgres", "publication swept_pub in postgres",
		"user mapping swept_server for swept in postgres", "role made a member by it swept_other of swept_group in the cluster",
	} {
		require.Contains(t, found, want)
		require.Equal(t, "swept", found[want].By)
	}
	if self {
		require.Equal(t, &activities.Key{Provider: postgres.Code, Account: "test", Kind: postgres.Kind, ID: "swept_other", Principal: "swept"}, found["swept_other"].Key)
	}
	require.Len(t, got.Hits, 1)
	require.NoError(t, c.Close(t.Context()))
	only := look(func(r *activities.SweepRequest) { r.UsesOnly = true })
	require.Empty(t, only.Digest)
	require.Empty(t, only.Findings)
	require.NotEmpty(t, only.Unseen)
}

func oddNames(t *testing.T, b bench) {
	for _, name := range []string{`a"b'c`, "Ümlaut rölle", `x; DROP TABLE y`, "x", strings.Repeat("längst", 9)} {
		ref, _ := b.role(t, name)
		require.Equal(t, activities.ProbeAlive, b.probe(t, ref, activities.ProbeAuth).Saw, name)
		made := b.issue(t, ref, "new/"+name)
		require.LessOrEqual(t, len(made.New.ID), 63)
		next := ref
		next.Key.ID, next.Secret = made.New.ID, "new/"+name
		require.Equal(t, activities.ProbeAlive, b.probe(t, next, activities.ProbeAction).Saw, name)
		_, err := b.Disable(t.Context(), ref)
		require.NoError(t, err)
		_, err = b.EndSessions(t.Context(), activities.EndSessionsRequest{Ref: ref, Before: time.Now()})
		require.NoError(t, err)
		_, err = b.Revoke(t.Context(), ref)
		require.NoError(t, err)
		require.Equal(t, activities.ProbeRefused, b.probe(t, ref, activities.ProbeAuth).Saw, name)
		_, err = b.Sweep(t.Context(), activities.SweepRequest{Ref: ref, Now: time.Now()})
		require.NoError(t, err)
	}
}

func irreplaceable(t *testing.T, b bench) {
	for name, sql := range map[string]string{"root2": "SUPERUSER", "copier": "REPLICATION"} {
		ref, _ := b.role(t, name, "ALTER ROLE "+name+" "+sql)
		res, err := b.Issue(t.Context(), activities.IssueRequest{Ref: ref, Handle: "new/" + name, Before: []activities.KeyState{{ID: name}}})
		require.NoError(t, err)
		require.Equal(t, activities.NeedsHuman, res.Outcome)
	}
	ref, _ := b.role(t, "absent")
	b.Exec(t, "DROP ROLE absent")
	res, err := b.Issue(t.Context(), activities.IssueRequest{Ref: ref, Handle: "new/absent"})
	require.NoError(t, err)
	require.Equal(t, activities.NeedsHuman, res.Outcome)
}

func ourOwn(t *testing.T, b bench) {
	ref := activities.Ref{Incident: incident, Token: "t", Key: activities.Key{ID: "rekey_write"}}
	for _, call := range []func() error{
		func() error { _, err := b.Disable(t.Context(), ref); return err },
		func() error { _, err := b.Revoke(t.Context(), ref); return err },
		func() error {
			_, err := b.EndSessions(t.Context(), activities.EndSessionsRequest{Ref: ref, Before: time.Now()})
			return err
		},
		func() error {
			_, err := b.Issue(t.Context(), activities.IssueRequest{Ref: ref, Handle: "h"})
			return err
		},
	} {
		f := fault(t, call())
		require.Equal(t, activities.ClassInvalid, f.Class)
		require.Contains(t, f.Detail, "rekey itself logs in")
	}
}

func reconcile(t *testing.T, b bench) {
	ref, _ := b.role(t, "lost")
	before, err := b.ListKeys(t.Context(), ref)
	require.NoError(t, err)
	req := activities.IssueRequest{Ref: ref, Handle: "new/lost", Before: before}
	made, err := b.Issue(t.Context(), req)
	require.NoError(t, err)
	// The sealed password is lost: the role is ours by its mark, and goes.
	forgotten := req
	forgotten.Handle = "new/forgotten"
	rec, err := b.ReconcileIssue(t.Context(), activities.ReconcileRequest{IssueRequest: forgotten, Started: time.Now(), Now: time.Now()})
	require.NoError(t, err)
	require.True(t, rec.Settled)
	require.Len(t, rec.Killed, 1)
	require.Equal(t, made.New.ID, rec.Killed[0].ID)
	// Somebody waits for us under the name that we would give.
	b.Exec(t, "CREATE ROLE "+made.New.ID+" LOGIN PASSWORD '"+pgtest.Password()+"' IN ROLE lost")
	_, err = b.Issue(t.Context(), forgotten)
	require.Equal(t, activities.ClassUnclear, fault(t, err).Class)
	rec, err = b.ReconcileIssue(t.Context(), activities.ReconcileRequest{IssueRequest: forgotten, Started: time.Now(), Now: time.Now()})
	require.NoError(t, err)
	require.Empty(t, rec.Killed)
	require.Len(t, rec.Unattributed, 1)
}

func TestCheckID(t *testing.T) {
	for _, good := range []string{"app", "x", "Ümlaut rölle", `a"b`, "app_rk0a1b2c3d", "payments-api.prod"} {
		kind, err := postgres.CheckID(good)
		require.NoError(t, err, good)
		require.Equal(t, postgres.Kind, kind)
	}
	for _, bad := range []string{"", " app", "app\n", "pg_monitor", "public", "postgres://app:x@db/app", "host=db password=x", strings.Repeat("a", 64), pgtest.Password(), "a\x00b", "\xff"} {
		_, err := postgres.CheckID(bad)
		require.Error(t, err, bad)
		if len(bad) > 20 {
			require.NotContains(t, err.Error(), bad)
		}
	}
}
