package postgres

import (
	"context"
	"strings"
	"sync"
	"time"

	"rekey/activities"
)

var _ activities.SelfChecker = (*Client)(nil)

const opSelf = "pg:read own rights"

// clock is how far the server's clock was ahead of ours.
type clock struct {
	mu    sync.Mutex
	ahead time.Duration
	known bool
}

// Identity logs in as each of our roles and gives their names.
func (c *Client) Identity(ctx context.Context) (string, error) {
	ctx, cancel, l := c.begin(ctx)
	defer cancel()
	names := []string{c.account.Settings["user"]}
	if w := c.account.Settings["write_user"]; w != "" {
		names = append(names, w)
	}
	for n := range names {
		s, f := c.login(ctx, l, opSelf, n == 1, "")
		if f != nil {
			return "", f
		}
		before := time.Now()
		at, f := one[time.Time](ctx, s, opSelf, "SELECT clock_timestamp()")
		after := time.Now()
		s.close()
		if f != nil {
			return "", f
		}
		c.clock.mu.Lock()
		c.clock.ahead, c.clock.known = at.Sub(before.Add(after.Sub(before)/2)), true
		c.clock.mu.Unlock()
	}
	return strings.Join(names, " and ") + " at " + strings.TrimPrefix(c.origin, "postgres://"), nil
}

// Skew implements activities.SelfChecker.
func (c *Client) Skew() (time.Duration, bool) {
	c.clock.mu.Lock()
	defer c.clock.mu.Unlock()
	return c.clock.ahead, c.clock.known
}

// May reads our rights from the catalogue. From PostgreSQL 16 on CREATEROLE is needed
// together with ADMIN OPTION on each role, which depends on the role and is not told
// here.
func (c *Client) May(ctx context.Context, permissions []string) map[string]string {
	ctx, cancel, l := c.begin(ctx)
	defer cancel()
	asks := map[string]struct {
		writes bool
		sql    string
	}{
		rightStats:      {false, `SELECT pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')`},
		rightHBA:        {false, `SELECT has_table_privilege('pg_catalog.pg_hba_file_rules', 'SELECT') AND has_function_privilege('pg_catalog.pg_hba_file_rules()', 'EXECUTE')`},
		rightCreateRole: {true, `SELECT rolcreaterole OR rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user`},
		rightSignal:     {true, `SELECT pg_has_role(current_user, 'pg_signal_backend', 'USAGE') AND pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')`},
	}
	sessions := map[bool]*session{}
	for _, writes := range []bool{false, true} {
		if s, f := c.login(ctx, l, opSelf, writes, ""); f == nil {
			sessions[writes] = s
			defer s.close()
		}
	}
	out := map[string]string{}
	for _, p := range permissions {
		out[p] = activities.RightUnknown
		if p == rightStore {
			out[p] = activities.RightAllowed
			if c.storeState() != "" {
				out[p] = activities.RightDenied
			}
			continue
		}
		ask, ok := asks[p]
		if s := sessions[ask.writes]; ok && s != nil {
			switch has, f := one[bool](ctx, s, opSelf, ask.sql); {
			case f == nil && has:
				out[p] = activities.RightAllowed
			case f == nil:
				out[p] = activities.RightDenied
			}
		}
	}
	return out
}
