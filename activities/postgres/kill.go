package postgres

import (
	"context"
	"fmt"
	"slices"
	"time"

	"rekey/activities"
)

var (
	_ activities.Disabler     = (*Client)(nil)
	_ activities.Revoker      = (*Client)(nil)
	_ activities.SessionEnder = (*Client)(nil)
)

// Disable takes LOGIN from the role: no way to authenticate lets it in any more,
// password or not (https://www.postgresql.org/docs/current/sql-createrole.html). What
// it owns and what was granted to it stays, for those who have it by membership.
// Sessions that are open go on: EndSessions is the next step, always.
func (c *Client) Disable(ctx context.Context, ref activities.Ref) (activities.Result, error) {
	ctx, cancel, l := c.begin(ctx)
	defer cancel()
	if f := c.untouchable(opNoLogin, ref.Key); f != nil {
		return activities.Result{}, f
	}
	s, f := c.login(ctx, l, opNoLogin, true, "")
	if f != nil {
		return activities.Result{}, f
	}
	defer s.close()
	r, f := c.target(ctx, s, opNoLogin, ref.Key)
	switch {
	case f != nil:
		return activities.Result{}, f
	case r == nil:
		return l.result(activities.AlreadyGone, "no such role"), nil
	case r.retired():
		return l.result(activities.AlreadyGone, "the role was retired before"), nil
	case !r.Login:
		return l.result(activities.Done, "it had no LOGIN"), nil
	}
	if f := s.do(ctx, opNoLogin, repeats, "ALTER ROLE "+ident(r.Name)+" NOLOGIN"); is(f, codeNoObject) {
		return l.result(activities.AlreadyGone, "no such role"), nil
	} else if f != nil {
		return activities.Result{}, s.superuser(f, *r)
	}
	return l.result(activities.Done, ""), nil
}

// superuser names the right that a change of a superuser needs.
func (s *session) superuser(f *activities.Fault, r role) *activities.Fault {
	if f.Class == activities.ClassDenied && r.Super {
		f.Permission = rightSuper
	}
	return f
}

// Revoke destroys the password for ever. A role on which nothing rests is dropped. Any
// other is retired: PASSWORD NULL, NOLOGIN, VALID UNTIL '-infinity'. It stays as the
// holder of its rights, because a replacement made by Issue has them by membership,
// and because what it owns would have to go to somebody. A retired role lets nobody
// in, and not with a new password either until somebody gives it a new end as well.
func (c *Client) Revoke(ctx context.Context, ref activities.Ref) (activities.Result, error) {
	ctx, cancel, l := c.begin(ctx)
	defer cancel()
	if f := c.untouchable(opRetire, ref.Key); f != nil {
		return activities.Result{}, f
	}
	s, f := c.login(ctx, l, opRetire, true, "")
	if f != nil {
		return activities.Result{}, f
	}
	defer s.close()
	r, f := c.target(ctx, s, opRetire, ref.Key)
	switch {
	case f != nil:
		return activities.Result{}, f
	case r == nil:
		return l.result(activities.AlreadyGone, "no such role"), nil
	case r.retired():
		return l.result(activities.AlreadyGone, "the role was retired before"), nil
	}
	free, f := s.unused(ctx, *r)
	if f != nil {
		return activities.Result{}, f
	}
	if free {
		switch f := s.do(ctx, opDrop, repeats, "DROP ROLE "+ident(r.Name)); {
		case f == nil:
			return l.result(activities.Done, "dropped: nothing rested on it"), nil
		case is(f, codeNoObject):
			return l.result(activities.AlreadyGone, "no such role"), nil
		case !is(f, codeDependents): // something came meanwhile: retire it
			return activities.Result{}, s.superuser(f, *r)
		}
	}
	f = s.do(ctx, opRetire, repeats, "ALTER ROLE "+ident(r.Name)+" NOLOGIN PASSWORD NULL VALID UNTIL '-infinity'")
	if is(f, codeNoObject) {
		return l.result(activities.AlreadyGone, "no such role"), nil
	}
	if f != nil {
		return activities.Result{}, s.superuser(f, *r)
	}
	return l.result(activities.Done, "retired: it has no password and no LOGIN, and stays as the holder of its rights"), nil
}

// unused tells whether nothing would be lost with the role: nothing in any database
// depends on it, nobody is its member but ourselves (who makes a role is one since
// PostgreSQL 16), and no session of it is open, which would go on without a name.
func (s *session) unused(ctx context.Context, r role) (bool, *activities.Fault) {
	return one[bool](ctx, s, opRoles, `SELECT NOT EXISTS (SELECT 1 FROM pg_catalog.pg_shdepend WHERE refclassid = 'pg_authid'::regclass AND refobjid = $1)
		AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_auth_members m JOIN pg_catalog.pg_roles r ON r.oid = m.member
			WHERE r.rolname <> current_user AND (m.roleid = $1 OR m.grantor = $1 AND m.member <> $1))
		AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_stat_activity WHERE usesysid = $1)`, r.OID)
}

const (
	// quiet is how long no session may come back before they count as ended: a pool
	// reconnects at once.
	quiet = 400 * time.Millisecond
	round = 100 * time.Millisecond
)

// EndSessions ends the sessions of the role with pg_terminate_backend, again and again
// until none came back for a moment. While the role may still log in, only sessions
// begun before Before are ended; once it may not, all. A session is told by who
// authenticated, so SET ROLE hides nobody, and others who act as the role by
// membership go on. Our own session is never ended.
//
// Ending the sessions of a superuser takes a superuser
// (https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-ADMIN-SIGNAL).
// Prepared transactions are no sessions; Sweep lists them.
func (c *Client) EndSessions(ctx context.Context, req activities.EndSessionsRequest) (activities.Result, error) {
	ctx, cancel, l := c.begin(ctx)
	defer cancel()
	if req.Before.IsZero() {
		return activities.Result{}, invalid(opTerminate, "say before which time sessions end")
	}
	if f := c.untouchable(opTerminate, req.Key); f != nil {
		return activities.Result{}, f
	}
	s, f := c.login(ctx, l, opTerminate, true, "")
	if f != nil {
		return activities.Result{}, f
	}
	defer s.close()
	r, f := c.target(ctx, s, opTerminate, req.Key)
	if f != nil {
		return activities.Result{}, f
	}
	if r == nil {
		return c.nameless(ctx, s)
	}
	ended := map[int32]bool{}
	var since time.Time
	for {
		pids, f := s.terminate(ctx, *r, req.Before)
		if f != nil {
			return activities.Result{}, s.superuser(f, *r)
		}
		now := time.Now()
		for _, pid := range pids {
			ended[pid], since = true, time.Time{}
		}
		if len(pids) == 0 && since.IsZero() {
			since = now
		}
		if len(pids) == 0 && now.Sub(since) >= quiet {
			return l.result(activities.Done, fmt.Sprintf("%d sessions ended", len(ended))), nil
		}
		if !settle(ctx, round) {
			return activities.Result{}, unclear(opTerminate, "%d sessions were told to end, and some still run or come back", len(ended))
		}
	}
}

// terminate tells the sessions of the role to end and gives those that were there.
func (s *session) terminate(ctx context.Context, r role, before time.Time) ([]int32, *activities.Fault) {
	type told struct {
		PID    int32
		Young  bool // begun after before, of a role that may log in
		Hidden bool // we may not see when it began
		Told   bool
	}
	// Workers of a parallel query end with their leader. Who may not see a session's
	// details reads NULL there, never a wrong value.
	found, f := rows[told](ctx, s, opTerminate, `SELECT pid, young, hidden, CASE WHEN NOT young AND NOT hidden THEN pg_catalog.pg_terminate_backend(pid) ELSE false END FROM (
		SELECT a.pid, r.rolcanlogin AND coalesce(a.backend_start > $2, false) AS young, r.rolcanlogin AND a.backend_start IS NULL AS hidden
		FROM pg_catalog.pg_stat_activity a JOIN pg_catalog.pg_roles r ON r.oid = a.usesysid
		WHERE a.usesysid = $1 AND a.pid <> pg_catalog.pg_backend_pid() AND a.backend_type IS DISTINCT FROM 'parallel worker') x`, r.OID, before)
	if f != nil {
		if f.Class == activities.ClassUnclear {
			f.Class = activities.ClassTransient // ending what has ended is no harm
		}
		return nil, f
	}
	found = slices.DeleteFunc(found, func(t told) bool { return t.Young })
	if slices.ContainsFunc(found, func(t told) bool { return t.Hidden }) {
		return nil, &activities.Fault{Class: activities.ClassDenied, Op: opTerminate, Detail: "our role may not see when sessions of other roles began", Permission: rightStats}
	}
	n := len(s.l.evidence) - 1
	if len(found) == 0 && n > 0 && s.l.evidence[n-1].Op == opTerminate {
		s.l.evidence = s.l.evidence[:n] // the rounds that found nothing are one
	}
	out := make([]int32, 0, len(found))
	for _, t := range found {
		out = append(out, t.PID)
	}
	return out, nil
}

// nameless is the end of sessions of a role that is not there: sessions outlive their
// role, and of a dropped role nobody can tell any more which were its.
func (c *Client) nameless(ctx context.Context, s *session) (activities.Result, error) {
	n, f := one[int64](ctx, s, opSessions, `SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE usesysid IS NOT NULL AND usename IS NULL`)
	if f != nil {
		return activities.Result{}, f
	}
	if n > 0 {
		return s.l.result(activities.NeedsHuman, fmt.Sprintf("no such role, and %d sessions of dropped roles are open: end them (pg_stat_activity, usename is null)", n)), nil
	}
	return s.l.result(activities.AlreadyGone, "no such role, and no session without one"), nil
}
