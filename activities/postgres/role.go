package postgres

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"rekey/activities"
)

// Operations, as they stand in plans, evidence and faults.
const (
	opRoles     = "pg:read roles"
	opSessions  = "pg:read sessions"
	opVerifier  = "pg:read pg_authid"
	opNoLogin   = "pg:ALTER ROLE NOLOGIN"
	opRetire    = "pg:ALTER ROLE PASSWORD NULL"
	opDrop      = "pg:DROP ROLE"
	opTerminate = "pg:pg_terminate_backend"
	opCreate    = "pg:CREATE ROLE"
	opProbe     = "pg:login"
	opWrite     = "file:write"
	opInspect   = "pg:Inspect"
	opSweep     = "pg:Sweep"
)

// A role is one row of pg_roles with what we need of it.
type role struct {
	OID         uint32
	Name        string
	Login       bool
	Super       bool
	CreateRole  bool
	CreateDB    bool
	Replication bool
	BypassRLS   bool
	Limit       int
	Until       string // rolvaliduntil as text, "" for none
	Expired     bool
	Forever     bool // valid until -infinity: the mark of a role that rekey retired
	Comment     string
	Me          bool // the role of our own session
}

const roleColumns = `SELECT oid, rolname::text, rolcanlogin, rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls,
	rolconnlimit, coalesce(rolvaliduntil::text, ''), coalesce(rolvaliduntil <= now(), false), coalesce(rolvaliduntil = '-infinity', false),
	coalesce(shobj_description(oid, 'pg_authid'), ''), rolname = session_user FROM pg_catalog.pg_roles `

// retired tells whether Revoke has been here: no log-in, and no password can be valid.
func (r role) retired() bool { return !r.Login && r.Forever }

// active tells whether its password lets it in.
func (r role) active() bool { return r.Login && !r.Expired }

func (r role) state() activities.KeyState { return activities.KeyState{ID: r.Name, Active: r.active()} }

// find reads a role; nil when there is none of that name.
func (s *session) find(ctx context.Context, name string) (*role, *activities.Fault) {
	found, f := rows[role](ctx, s, opRoles, roleColumns+"WHERE rolname = $1", name)
	if f != nil || len(found) == 0 {
		return nil, f
	}
	return &found[0], nil
}

// members reads the roles that are direct members of a role.
func (s *session) members(ctx context.Context, oid uint32) ([]role, *activities.Fault) {
	return rows[role](ctx, s, opRoles, roleColumns+"WHERE oid IN (SELECT member FROM pg_catalog.pg_auth_members WHERE roleid = $1) ORDER BY rolname", oid)
}

// memberOf tells whether a role is a direct member of another.
func (s *session) memberOf(ctx context.Context, member, of string) (bool, *activities.Fault) {
	return one[bool](ctx, s, opRoles, `SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_auth_members m
		JOIN pg_catalog.pg_roles g ON g.oid = m.roleid JOIN pg_catalog.pg_roles r ON r.oid = m.member
		WHERE g.rolname = $1 AND r.rolname = $2)`, of, member)
}

// markStart begins the comment by which a role that rekey made names its effect and
// its principal.
const markStart = "rekey effect="

func mark(token, principal string) string {
	return markStart + tokenID(token) + " principal=" + principal
}

// madeFor reads a mark; ok is false for a comment of anybody else.
func madeFor(comment string) (effect, principal string, ok bool) {
	rest, ok := strings.CutPrefix(comment, markStart)
	if !ok {
		return "", "", false
	}
	effect, principal, ok = strings.Cut(rest, " principal=")
	return effect, principal, ok && principal != ""
}

// principalOf is the role whose rights the key has: of a replacement that rekey made
// the role it stands for, of any other role itself. A mark counts only together with
// the membership, so that a comment alone gives nobody rights.
func (s *session) principalOf(ctx context.Context, r role) (string, *activities.Fault) {
	_, principal, ok := madeFor(r.Comment)
	if !ok {
		return r.Name, nil
	}
	member, f := s.memberOf(ctx, r.Name, principal)
	if f != nil {
		return "", f
	}
	if !member {
		return r.Name, nil
	}
	return principal, nil
}

// group reads the roles that can act as the principal: itself and the log-in roles
// that are its members, without those that are retired.
func (s *session) group(ctx context.Context, principal string) ([]role, *activities.Fault) {
	head, f := s.find(ctx, principal)
	if f != nil || head == nil {
		return nil, f
	}
	members, f := s.members(ctx, head.OID)
	if f != nil {
		return nil, f
	}
	var out []role
	for _, r := range append([]role{*head}, members...) {
		_, _, made := madeFor(r.Comment)
		if s.c.ours(r.Name) { // a member only so that it may give and take (PostgreSQL 16)
			continue
		}
		if !r.retired() && (r.Login || made || r.Name == principal) {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b role) int { return cmp.Compare(a.Name, b.Name) })
	return out, nil
}

// target checks the key of a request and reads its role. A nil role without a fault
// is one that is not there.
func (c *Client) target(ctx context.Context, s *session, op string, k activities.Key) (*role, *activities.Fault) {
	if f := mine(op, k); f != nil {
		return nil, f
	}
	return s.find(ctx, k.ID)
}

// mine refuses a key that cannot be a role of this provider.
func mine(op string, k activities.Key) *activities.Fault {
	kind, err := CheckID(k.ID)
	if err != nil {
		return invalid(op, "malformed role name")
	}
	if k.Kind != "" && k.Kind != kind {
		return invalid(op, "a role is a %s, not a %s", kind, k.Kind)
	}
	return nil
}

// untouchable refuses what would cut the branch that we sit on.
func (c *Client) untouchable(op string, k activities.Key) *activities.Fault {
	if c.ours(k.ID) {
		return invalid(op, "%s is the role that rekey itself logs in as: give rekey another one first", k.ID)
	}
	return nil
}

var _ activities.Lister = (*Client)(nil)

// ListKeys lists the roles that can act as the principal of the key: the principal
// itself and the log-in roles that are its members. PostgreSQL keeps no time of
// creation.
func (c *Client) ListKeys(ctx context.Context, ref activities.Ref) ([]activities.KeyState, error) {
	ctx, cancel, l := c.begin(ctx)
	defer cancel()
	if f := mine(opRoles, ref.Key); f != nil {
		return nil, f
	}
	s, f := c.login(ctx, l, opRoles, false, "")
	if f != nil {
		return nil, f
	}
	defer s.close()
	principal := ref.Key.Principal
	r, f := s.find(ctx, ref.Key.ID)
	if f == nil && r != nil {
		principal, f = s.principalOf(ctx, *r)
	}
	if f != nil {
		return nil, f
	}
	out := []activities.KeyState{}
	if principal == "" {
		return out, nil
	}
	group, f := s.group(ctx, principal)
	if f != nil {
		return nil, f
	}
	for _, r := range group {
		out = append(out, r.state())
	}
	return out, nil
}

// settle waits a little, or until ctx ends.
func settle(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
