package postgres

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"rekey/activities"
	"rekey/internal/secret"
)

var (
	_ activities.Issuer     = (*Client)(nil)
	_ activities.Reconciler = (*Client)(nil)
)

// tokenSpace is the name space of the UUIDs below; fixed for ever, because a
// reconciliation after an upgrade must find what the old version made.
var tokenSpace = uuid.MustParse("0d3bb7f4-9a3e-5c55-8f0e-2a4f5d1c7be1")

// tokenID is the UUIDv5 (RFC 9562 section 5.5) of an idempotency token.
func tokenID(token string) string { return uuid.NewSHA1(tokenSpace, []byte(token)).String() }

// successor is the name of the role that an effect makes for a principal: the same
// effect finds it again. A long principal is cut at a letter.
func successor(principal, token string) string {
	sum := sha256.Sum256([]byte(tokenID(token)))
	suffix := "_rk" + hex.EncodeToString(sum[:4])
	base := principal
	for len(base)+len(suffix) > maxName {
		_, n := utf8.DecodeLastRuneInString(base)
		base = base[:len(base)-n]
	}
	return base + suffix
}

// Issue makes a second log-in role beside the one that is out and seals its password
// under Handle. The new role is a member of the principal and acts as it from its
// first statement (ALTER ROLE … SET role), so that its rights, the owner of what it
// makes and row policies are those of the old one; the old role goes on until Disable.
//
// The order makes it safe to repeat: the password is sealed first, then one
// transaction makes the role, under a name that the effect's token gives, with a
// verifier computed here. So a lost answer leaves nothing or a role whose password is
// sealed, and the same call again finds it. The password itself is in no statement.
//
// A member of the principal that Before does not name must be settled first. A
// superuser and a role with REPLICATION have rights that no membership gives: those
// need a person.
func (c *Client) Issue(ctx context.Context, req activities.IssueRequest) (activities.IssueResult, error) {
	ctx, cancel, l := c.begin(ctx)
	defer cancel()
	if f := c.issuable(req); f != nil {
		return activities.IssueResult{}, f
	}
	s, f := c.login(ctx, l, opCreate, true, "")
	if f != nil {
		return activities.IssueResult{}, f
	}
	defer s.close()
	head, f := c.headOf(ctx, s, req.Key)
	if f != nil {
		return activities.IssueResult{}, f
	}
	switch {
	case head == nil:
		return activities.IssueResult{Result: l.result(activities.NeedsHuman, "no such role: choose a new principal")}, nil
	case head.Super || head.Replication:
		return activities.IssueResult{Result: l.result(activities.NeedsHuman, "a superuser's or replication role's rights do not pass by membership: make its replacement by hand")}, nil
	}
	name := successor(head.Name, req.Token)
	group, f := s.group(ctx, head.Name)
	if f != nil {
		return activities.IssueResult{}, f
	}
	if fresh := strangers(group, req.Before, name); len(fresh) > 0 {
		return activities.IssueResult{}, unclear(opCreate, "the principal has a member that was not there before; reconcile first")
	}
	found, f := s.find(ctx, name)
	if f != nil {
		return activities.IssueResult{}, f
	}
	if found != nil {
		if f := s.isSuccessor(ctx, *found, *head, req.Token); f != nil {
			return activities.IssueResult{}, f
		}
	}
	p, had, f := c.sealed(ctx, req, name)
	if f != nil {
		return activities.IssueResult{}, f
	}
	out := activities.IssueResult{New: activities.KeyState{ID: name, Active: true}, Handle: req.Handle}
	switch {
	case found != nil && had:
		out.Result, out.New = l.result(activities.Done, "made by an earlier attempt"), found.state()
		return out, nil
	case found != nil: // what was sealed for it is lost, so nobody has its password
		f = s.newPassword(ctx, name, p.Password)
	default:
		f = s.create(ctx, *head, name, req.Token, p.Password)
	}
	if f != nil {
		return activities.IssueResult{}, f
	}
	out.Result = l.result(activities.Done, "")
	return out, nil
}

func (c *Client) issuable(req activities.IssueRequest) *activities.Fault {
	if req.Token == "" || req.Handle == "" {
		return invalid(opCreate, "a new role needs an idempotency token and a handle")
	}
	if f := mine(opCreate, req.Key); f != nil {
		return f
	}
	return c.untouchable(opCreate, req.Key)
}

// headOf is the principal of the key, by the role where it is there, by what was read
// before where it is not.
func (c *Client) headOf(ctx context.Context, s *session, k activities.Key) (*role, *activities.Fault) {
	r, f := s.find(ctx, k.ID)
	if f != nil {
		return nil, f
	}
	principal := k.Principal
	if r != nil {
		if principal, f = s.principalOf(ctx, *r); f != nil {
			return nil, f
		}
	}
	if principal == "" || r != nil && principal == r.Name {
		return r, nil
	}
	return s.find(ctx, principal)
}

// strangers are members of the group that before does not name and this effect did not
// make.
func strangers(group []role, before []activities.KeyState, own string) []activities.KeyState {
	var out []activities.KeyState
	for _, r := range group {
		if r.Name != own && !slices.ContainsFunc(before, func(b activities.KeyState) bool { return b.ID == r.Name }) {
			out = append(out, r.state())
		}
	}
	return out
}

// isSuccessor makes sure that a role of the right name is what this effect made, and
// not somebody's trap: its mark, its membership, and no right beyond it.
func (s *session) isSuccessor(ctx context.Context, r, head role, token string) *activities.Fault {
	effect, principal, ok := madeFor(r.Comment)
	if !ok || effect != tokenID(token) || principal != head.Name || r.Super || r.CreateRole || r.Replication || r.BypassRLS {
		return unclear(opCreate, "the role %s is there and is not what rekey would have made: look at it, then drop it", r.Name)
	}
	only, f := one[bool](ctx, s, opRoles, `SELECT count(*) > 0 AND bool_and(roleid = $2) FROM pg_catalog.pg_auth_members WHERE member = $1`, r.OID, head.OID)
	if f != nil {
		return f
	}
	if !only {
		return unclear(opCreate, "the role %s has other memberships than rekey would have given: look at it, then drop it", r.Name)
	}
	return nil
}

// sealed gives the pair under the handle, making and sealing one where there is none;
// had tells that it was there. Two attempts at once agree on the one that was first.
func (c *Client) sealed(ctx context.Context, req activities.IssueRequest, name string) (p pair, had bool, f *activities.Fault) {
	p, had, f = c.unseal(ctx, opCreate, req.Incident, req.Handle, name, "reconcile")
	if f != nil || had {
		return p, had, f
	}
	p = pair{User: name, Password: newPassword()}
	switch err := c.seal(ctx, req.Incident, req.Handle, p); {
	case err == nil:
		return p, false, nil
	case errors.Is(err, secret.ErrDiffers):
		p, had, f = c.unseal(ctx, opCreate, req.Incident, req.Handle, name, "reconcile")
		if f == nil && !had {
			f = &activities.Fault{Class: activities.ClassTransient, Op: opCreate, Detail: "the sealed store changed under our hands"}
		}
		return p, had, f
	}
	return pair{}, false, &activities.Fault{Class: activities.ClassTransient, Op: opCreate, Detail: "the new password could not be sealed, so no role was made; see rekey doctor about the sealed store"}
}

func (s *session) newPassword(ctx context.Context, name, password string) *activities.Fault {
	v, err := verifier(password)
	if err != nil {
		return invalid(opCreate, "the verifier of the new password cannot be computed")
	}
	return s.do(ctx, opCreate, repeats, "ALTER ROLE "+ident(name)+" LOGIN PASSWORD "+literal(v))
}

// create makes the role in one transaction.
func (s *session) create(ctx context.Context, head role, name, token, password string) *activities.Fault {
	v, err := verifier(password)
	if err != nil {
		return invalid(opCreate, "the verifier of the new password cannot be computed")
	}
	settings, f := s.settings(ctx, head)
	if f != nil {
		return f
	}
	make := "CREATE ROLE " + ident(name) + " LOGIN INHERIT PASSWORD " + literal(v)
	if head.Limit >= 0 {
		make += fmt.Sprintf(" CONNECTION LIMIT %d", head.Limit)
	}
	if head.Until != "" && !head.Expired && head.Until != "infinity" {
		make += " VALID UNTIL " + literal(head.Until)
	}
	f = s.tx(ctx, opCreate, repeats, func() *activities.Fault {
		for _, sql := range []string{
			make,
			"COMMENT ON ROLE " + ident(name) + " IS " + literal(mark(token, head.Name)),
			"GRANT " + ident(head.Name) + " TO " + ident(name),
			"ALTER ROLE " + ident(name) + " SET role TO " + literal(head.Name),
		} {
			if f := s.do(ctx, opCreate, repeats, sql); f != nil {
				return f
			}
		}
		for _, set := range settings {
			if f := s.copySetting(ctx, name, set); f != nil {
				return f
			}
		}
		return nil
	})
	if is(f, codeDuplicate) { // another attempt was first: the next one finds it
		f.Class = activities.ClassUnclear
	}
	return f
}

// A setting is one parameter of a role, in one database or in all.
type setting struct {
	Database string // "" for all
	Text     string // name=value
}

// settings reads the parameters that are set for a role: they belong to the role that
// logs in and are not passed on by membership.
func (s *session) settings(ctx context.Context, r role) ([]setting, *activities.Fault) {
	return rows[setting](ctx, s, opRoles, `SELECT coalesce(d.datname::text, ''), unnest(c.setconfig) FROM pg_catalog.pg_db_role_setting c
		LEFT JOIN pg_catalog.pg_database d ON d.oid = c.setdatabase WHERE c.setrole = $1 ORDER BY 1, 2`, r.OID)
}

// listQuoted are the parameters whose value is a list of names, each with quotes of its
// own, so that the value as a whole must not be quoted (variable_is_guc_list_quote in
// PostgreSQL's src/bin/pg_dump/dumputils.c).
var listQuoted = map[string]bool{
	"search_path": true, "temp_tablespaces": true, "local_preload_libraries": true, "session_preload_libraries": true,
}

// copySetting gives the new role one parameter of the old. One that our role may not
// set, or that cannot be set any more, is left out: what is missing shows when the two
// roles' settings are compared, and an Issue that fails for it would help nobody.
func (s *session) copySetting(ctx context.Context, name string, set setting) *activities.Fault {
	key, value, ok := strings.Cut(set.Text, "=")
	if !ok || key == "session_authorization" {
		return nil
	}
	alter := "ALTER ROLE " + ident(name)
	if set.Database != "" {
		alter += " IN DATABASE " + ident(set.Database)
	}
	bare, parts := key, strings.Split(key, ".")
	for i := range parts {
		parts[i] = ident(parts[i])
	}
	key = strings.Join(parts, ".")
	if f := s.do(ctx, opCreate, reads, "SAVEPOINT setting"); f != nil {
		return f
	}
	var f *activities.Fault
	if listQuoted[bare] {
		if _, f = one[string](ctx, s, opCreate, "SELECT pg_catalog.set_config($1, $2, true)", bare, value); f == nil {
			f = s.do(ctx, opCreate, repeats, alter+" SET "+key+" FROM CURRENT")
		}
		if f == nil { // ours stays pg_catalog
			f = s.do(ctx, opCreate, reads, "SET LOCAL "+key+" TO DEFAULT")
		}
	} else {
		f = s.do(ctx, opCreate, repeats, alter+" SET "+key+" TO "+literal(value))
	}
	switch {
	case f == nil:
		return s.do(ctx, opCreate, reads, "RELEASE SAVEPOINT setting")
	case f.Class == activities.ClassDenied || f.Class == activities.ClassInvalid:
		return s.do(ctx, opCreate, reads, "ROLLBACK TO SAVEPOINT setting")
	}
	return f
}

// ReconcileIssue settles a lost Issue. The role that the token names, with the
// effect's mark, is ours: it is Kept where its password is sealed under the handle,
// else it is dropped. A member of the principal that was not there before and is not
// ours is Unattributed: PostgreSQL keeps no word of who made it, so it is left alone.
// It is settled at once, because a statement that is still under way can only end in
// the same role.
func (c *Client) ReconcileIssue(ctx context.Context, req activities.ReconcileRequest) (activities.ReconcileResult, error) {
	ctx, cancel, l := c.begin(ctx)
	defer cancel()
	out := activities.ReconcileResult{}
	if f := c.issuable(req.IssueRequest); f != nil {
		return out, f
	}
	s, f := c.login(ctx, l, opCreate, true, "")
	if f != nil {
		return out, f
	}
	defer s.close()
	done := func(detail string) (activities.ReconcileResult, error) {
		out.Settled, out.Detail, out.Evidence = true, detail, l.evidence
		return out, nil
	}
	head, f := c.headOf(ctx, s, req.Key)
	if f != nil {
		return out, f
	}
	if head == nil {
		return done("no such role")
	}
	name := successor(head.Name, req.Token)
	group, f := s.group(ctx, head.Name)
	if f != nil {
		return out, f
	}
	out.Unattributed = strangers(group, req.Before, name)
	found, f := s.find(ctx, name)
	if f != nil {
		return out, f
	}
	if found == nil {
		return done("")
	}
	if s.isSuccessor(ctx, *found, *head, req.Token) != nil {
		out.Unattributed = append(out.Unattributed, found.state())
		return done("a role of the name that rekey would give is not what rekey would make")
	}
	_, sealed, f := c.unseal(ctx, opCreate, req.Incident, req.Handle, name, "reconcile")
	if f != nil {
		return out, f
	}
	state := found.state()
	if sealed {
		out.Kept = &state
		return done("")
	}
	if f := s.do(ctx, opDrop, repeats, "DROP ROLE "+ident(name)); f != nil && !is(f, codeNoObject) {
		return out, f
	}
	out.Killed = append(out.Killed, state)
	return done("")
}

// propagation is how long a change of a role takes to be seen: the server itself sees
// it with the commit. A pooler that caches passwords in front of it may take longer;
// the page of this provider says what to do there.
const propagation = time.Second
