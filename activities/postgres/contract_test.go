package postgres_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/activities"
	"rekey/activities/activitytest"
	"rekey/activities/activitytest/pgtest"
	"rekey/activities/postgres"
	"rekey/internal/secret"
)

const incident = "inc-0123456789ab"

// account logs in as the two roles of engine.
func account(t *testing.T, at string, e engine) activities.Account {
	t.Helper()
	return activities.Account{
		Name: "test", AllowPrivate: true,
		Settings: map[string]string{
			"base_url": at, "user": "rekey_read", "write_user": "rekey_write", "store_dir": e.dir, "timeout": "5s",
		},
		Credential: func(name string) (secret.Value, error) {
			switch name {
			case "password":
				return secret.New([]byte(e.read)), nil
			case "write_password":
				return secret.New([]byte(e.write)), nil
			}
			return secret.Value{}, fmt.Errorf("no credential %s", name)
		},
	}
}

// An engine is rekey's own roles, with the rights of the shipped policies.
type engine struct {
	*pgtest.Server
	read, write string
	dir         string
}

func newEngine(t *testing.T, o pgtest.Options) engine {
	t.Helper()
	e := engine{Server: pgtest.Start(t, o), read: pgtest.Password(), write: pgtest.Password(), dir: t.TempDir()}
	d := postgres.Provider().Descriptor
	for _, policy := range []string{d.ReadPolicy, d.WritePolicy} {
		for line := range strings.SplitSeq(policy, "\n") {
			if line == "" || strings.HasPrefix(line, "--") || strings.HasPrefix(line, `\`) {
				continue
			}
			e.Exec(t, line)
		}
	}
	e.Exec(t, "ALTER ROLE rekey_read PASSWORD '"+e.read+"'", "ALTER ROLE rekey_write PASSWORD '"+e.write+"'")
	return e
}

// TestContract holds the provider to the promises of every provider, before a real
// server: see activitytest.Run.
func TestContract(t *testing.T) {
	e := newEngine(t, pgtest.Options{MaxConnections: 60})
	n := 0
	activitytest.Run(t, activitytest.Subject{
		Provider: postgres.Provider(),
		Front:    func(t *testing.T) activitytest.Front { return pgtest.NewFront(t, e.Server) },
		Wait:     5 * time.Second,
		Account: func(at string) activities.Account {
			a := account(t, at, e)
			a.Settings["timeout"] = "1500ms"
			return a
		},
		World: func(t *testing.T, store *activitytest.Store, at string) activitytest.World {
			n++
			name := fmt.Sprintf("app%d", n)
			password := activitytest.Canary()
			e.Exec(t, fmt.Sprintf("CREATE ROLE %s LOGIN PASSWORD '%s'", name, password))
			origin := originOf(t, at)
			seal(t, store, origin, "report/old", password)
			// A second role that is handed out by the requests of Distribute.
			e.Exec(t, fmt.Sprintf("CREATE ROLE %s_spare LOGIN PASSWORD '%s'", name, password))
			seal(t, store, origin, "new/spare", string(mustJSON(t, map[string]string{"user": name + "_spare", "password": password})))
			ref := activities.Ref{
				Incident: incident, Token: "token/" + name, Attempt: 3, Secret: "report/old",
				Key: activities.Key{Provider: postgres.Code, Account: "test", Kind: postgres.Kind, ID: name},
			}
			return activitytest.World{
				Ref:  ref,
				Keys: func() []activities.KeyState { return e.keys(t, name) },
				AddKey: func() string {
					e.Exec(t, fmt.Sprintf("CREATE ROLE %s_thief LOGIN PASSWORD '%s' IN ROLE %s", name, password, name))
					return name + "_thief"
				},
			}
		},
		Calls: func(w activitytest.World) map[activities.Verb]activitytest.Call {
			return calls(w.Ref, w.Keys())
		},
	})
}

// keys are the roles with a password that are the principal or its members, as the
// server has them.
func (e engine) keys(t *testing.T, principal string) []activities.KeyState {
	t.Helper()
	c := e.Admin(t, "postgres")
	rows, err := c.Query(t.Context(), `SELECT rolname::text, rolcanlogin FROM pg_authid WHERE rolpassword IS NOT NULL AND (rolname = $1
		OR oid IN (SELECT member FROM pg_auth_members WHERE roleid = (SELECT oid FROM pg_authid WHERE rolname = $1))) ORDER BY 1`, principal)
	require.NoError(t, err)
	out := []activities.KeyState{}
	for rows.Next() {
		var k activities.KeyState
		require.NoError(t, rows.Scan(&k.ID, &k.Active))
		out = append(out, k)
	}
	require.NoError(t, rows.Err())
	require.NoError(t, c.Close(t.Context()))
	return out
}

func calls(ref activities.Ref, before []activities.KeyState) map[activities.Verb]activitytest.Call {
	now := time.Now()
	return map[activities.Verb]activitytest.Call{
		activities.Inspect: func(ctx context.Context, c any) (any, error) {
			return c.(activities.Inspector).Inspect(ctx, activities.InspectRequest{Ref: ref, Since: now.Add(-time.Hour), Now: now})
		},
		activities.Disable: func(ctx context.Context, c any) (any, error) { return c.(activities.Disabler).Disable(ctx, ref) },
		activities.Revoke:  func(ctx context.Context, c any) (any, error) { return c.(activities.Revoker).Revoke(ctx, ref) },
		activities.EndSessions: func(ctx context.Context, c any) (any, error) {
			return c.(activities.SessionEnder).EndSessions(ctx, activities.EndSessionsRequest{Ref: ref, Before: now})
		},
		activities.Issue: func(ctx context.Context, c any) (any, error) {
			return c.(activities.Issuer).Issue(ctx, activities.IssueRequest{Ref: ref, Handle: "harness/new", Before: before})
		},
		activities.Distribute: func(ctx context.Context, c any) (any, error) {
			return c.(activities.Distributor).Distribute(ctx, activities.DistributeRequest{
				Ref: ref, Handle: "new/spare", NewKeyID: ref.Key.ID + "_spare", Target: postgres.StoreFile, Name: "app/" + ref.Key.ID})
		},
		activities.Probe: func(ctx context.Context, c any) (any, error) {
			return c.(activities.Prober).Probe(ctx, activities.ProbeRequest{Ref: ref, Mode: activities.ProbeAuth})
		},
		activities.Sweep: func(ctx context.Context, c any) (any, error) {
			return c.(activities.Sweeper).Sweep(ctx, activities.SweepRequest{Ref: ref, Since: now.Add(-time.Hour), Now: now})
		},
	}
}

func originOf(t *testing.T, at string) string {
	t.Helper()
	u, err := url.Parse(at)
	require.NoError(t, err)
	return "postgres://" + u.Host
}

func seal(t *testing.T, store *activitytest.Store, origin, handle, value string) {
	t.Helper()
	require.NoError(t, store.Seal(t.Context(), secret.Ref{Incident: incident, Handle: handle, Provider: postgres.Code, Origin: origin}, secret.New([]byte(value))))
}

func mustJSON(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	require.NoError(t, err)
	return b
}
