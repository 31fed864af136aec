package postgres

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"rekey/activities"
)

var _ activities.Prober = (*Client)(nil)

func portText(p uint16) string { return strconv.FormatUint(uint64(p), 10) }

// Probe asks once, with one log-in and never a second: extensions lock accounts. Mode
// auth logs in with the sealed password over a connection of its own; mode action runs
// SELECT session_user there too, which is refused to a role whose session cannot be
// had; mode state reads pg_roles with our own role. Without a password auth becomes
// state, and the result says so.
//
// PostgreSQL answers 28P01 to a wrong password, to an expired one and to a role that is
// not there, and 28000 to NOLOGIN and to pg_hba.conf alike. So a refusal is read
// together with pg_roles, by a log-in of our own from the same place, which is the
// control: where the role is gone, has no LOGIN or is past its end, it is a refusal;
// where it may log in, 28P01 means that the password is not the role's
// (ProbeMismatch), and 28000 that this place is not let in, which proves nothing.
func (c *Client) Probe(ctx context.Context, req activities.ProbeRequest) (activities.ProbeResult, error) {
	ctx, cancel, l := c.begin(ctx)
	defer cancel()
	key, handle := req.Key, req.Secret
	if req.Handle != "" {
		handle = req.Handle
	}
	if req.NewKeyID != "" {
		key.ID = req.NewKeyID
	}
	if f := mine(opProbe, key); f != nil {
		return activities.ProbeResult{}, f
	}
	if req.Vantage != "" && req.Vantage != direct {
		return activities.ProbeResult{}, invalid(opProbe, "there is one vantage point, %q: the server itself", direct)
	}
	mode := req.Mode
	if !slices.Contains([]string{activities.ProbeAuth, activities.ProbeAction, activities.ProbeState}, mode) {
		return activities.ProbeResult{}, invalid(opProbe, "unknown mode %q", mode)
	}
	var creds pair
	if mode != activities.ProbeState {
		sealed := false
		if handle != "" {
			var f *activities.Fault
			if creds, sealed, f = c.unseal(ctx, opProbe, req.Incident, handle, key.ID, "probe"); f != nil {
				return activities.ProbeResult{}, f
			}
		}
		switch {
		case !sealed && mode == activities.ProbeAction:
			return activities.ProbeResult{}, invalid(opProbe, "an action can be tried only with the password, and none is sealed")
		case !sealed:
			mode = activities.ProbeState
		}
	}
	out := activities.ProbeResult{Mode: mode, Vantage: req.Vantage}
	var f *activities.Fault
	if mode == activities.ProbeState {
		f = c.probeState(ctx, l, key.ID, &out)
	} else {
		f = c.probeLogin(ctx, l, creds, &out)
	}
	if f != nil {
		return activities.ProbeResult{}, f
	}
	out.Evidence = l.evidence
	return out, nil
}

// probeLogin makes the one attempt and reads its answer.
func (c *Client) probeLogin(ctx context.Context, l *log, creds pair, out *activities.ProbeResult) *activities.Fault {
	code, who, err := c.attempt(ctx, creds)
	switch {
	case err == nil && who == creds.User:
		out.Saw = activities.ProbeAlive
		l.note(ctx, opProbe, 0)
		return nil
	case err == nil:
		out.Saw, out.Detail = activities.ProbeUnclear, "the answer names another role"
		return nil
	case code == codeNoDatabase || code == codeDenied && who == loggedIn:
		// The password was accepted before the database was looked at.
		out.Saw, out.Detail = activities.ProbeAlive, "SQLSTATE "+code+": it authenticated"
		return nil
	case code == codePassword || code == codeAuth:
		return c.judge(ctx, l, creds, code, out)
	}
	f := classifyConnect(ctx, opProbe, err)
	if f.Class == activities.ClassThrottled || ctx.Err() != nil {
		return f
	}
	out.Saw, out.Detail = activities.ProbeUnclear, f.Detail
	return nil
}

// loggedIn stands for the name of whoever a server let in without telling.
const loggedIn = "\x00"

// attempt logs in and asks who it is. It gives the server's code where it refused.
func (c *Client) attempt(ctx context.Context, creds pair) (code, who string, err error) {
	cfg := c.config.Copy()
	cfg.User, cfg.Password = creds.User, creds.Password
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		var pg *pgconn.PgError
		if errors.As(err, &pg) && sqlstate(pg.Code) {
			if pg.Code == codeDenied {
				who = loggedIn // CONNECT on the database is checked after the password
			}
			return pg.Code, who, err
		}
		return "", "", err
	}
	defer func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(end)
	}()
	if err = conn.QueryRow(ctx, "SELECT session_user::text").Scan(&who); err != nil {
		return "", "", err
	}
	return "", who, nil
}

// judge reads a refusal together with what the catalogue says.
func (c *Client) judge(ctx context.Context, l *log, creds pair, code string, out *activities.ProbeResult) *activities.Fault {
	said := "SQLSTATE " + code
	s, f := c.login(ctx, l, opProbe, false, "")
	if f != nil {
		if f.Class == activities.ClassThrottled || ctx.Err() != nil {
			return f
		}
		out.Saw, out.Detail = activities.ProbeUnclear, said+", and our own role is not let in either"
		return nil
	}
	defer s.close()
	r, f := s.find(ctx, creds.User)
	if f != nil {
		if ctx.Err() != nil {
			return f
		}
		out.Saw, out.Detail = activities.ProbeUnclear, said+", and the catalogue cannot be read"
		return nil
	}
	out.Control = true
	switch {
	case r == nil:
		out.Saw, out.Detail = activities.ProbeRefused, said+": no such role"
	case !r.Login:
		out.Saw, out.Detail = activities.ProbeRefused, said+": the role has no LOGIN"
	case r.Expired:
		out.Saw, out.Detail = activities.ProbeRefused, said+": past VALID UNTIL"
	case code == codeAuth:
		out.Saw, out.Detail = activities.ProbeUnclear, said+": the role may log in, and pg_hba.conf does not let it in from here"
	case s.hasPassword(ctx, *r, creds.Password):
		out.Saw, out.Detail = activities.ProbeUnclear, said+": the role may log in and this is its password"
	default:
		out.Saw, out.Detail = activities.ProbeMismatch, said+": the role may log in, with another password"
	}
	return nil
}

// hasPassword compares with the server's verifier, where we may read it.
func (s *session) hasPassword(ctx context.Context, r role, password string) bool {
	if may, f := one[bool](ctx, s, opRoles, `SELECT has_column_privilege('pg_catalog.pg_authid', 'rolpassword', 'SELECT')`); f != nil || !may {
		return false
	}
	stored, f := one[string](ctx, s, opVerifier, `SELECT coalesce(rolpassword, '') FROM pg_catalog.pg_authid WHERE oid = $1`, r.OID)
	if f != nil {
		return false
	}
	match, _ := matches(stored, password)
	return match
}

// probeState reads what the catalogue says. Our own log-in having worked is the control.
func (c *Client) probeState(ctx context.Context, l *log, name string, out *activities.ProbeResult) *activities.Fault {
	s, f := c.login(ctx, l, opRoles, false, "")
	var r *role
	if f == nil {
		defer s.close()
		r, f = s.find(ctx, name)
	}
	switch {
	case f == nil && r == nil:
		out.Saw, out.Control, out.Detail = activities.ProbeRefused, true, "no such role"
	case f == nil && r.Login && !r.Expired:
		out.Saw, out.Control, out.Detail = activities.ProbeAlive, true, "LOGIN"
	case f == nil && r.Login:
		// VALID UNTIL ends passwords alone; a certificate or trust still lets it in.
		out.Saw, out.Control, out.Detail = activities.ProbeRefused, true, "past VALID UNTIL"
	case f == nil:
		out.Saw, out.Control, out.Detail = activities.ProbeRefused, true, "NOLOGIN"
	case f.Class == activities.ClassUnclear || f.Class == activities.ClassTransient && ctx.Err() == nil:
		out.Saw, out.Detail = activities.ProbeUnclear, f.Detail
	default:
		return f
	}
	return nil
}
