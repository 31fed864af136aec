package postgres

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"rekey/activities"
	"rekey/internal/canon"
)

var _ activities.Inspector = (*Client)(nil)

const (
	// lastAttempt is the attempt from which on a part that fails is listed as unseen
	// instead of asked for again.
	lastAttempt = 3
	// maxGroups bounds the groups of uses, maxNames the names of one list.
	maxGroups = 500
	maxNames  = 500
	// maxDatabases bounds how many databases one reading looks into.
	maxDatabases = 32
)

// powerful are the predefined roles that reach the operating system or read and write
// everything, https://www.postgresql.org/docs/current/predefined-roles.html.
const powerful = `'pg_execute_server_program', 'pg_write_server_files', 'pg_read_server_files', 'pg_write_all_data', 'pg_read_all_data', 'pg_create_subscription'`

// An inspection collects one InspectResult.
type inspection struct {
	c        *Client
	s        *session
	req      activities.InspectRequest
	now      time.Time
	patience bool
	out      activities.InspectResult
	role     *role
}

// Inspect reads the role, its rights, its group, what it owns in each database that
// we can reach, and its open sessions. It changes nothing. PostgreSQL keeps no log of
// log-ins in its catalogue: who used the role before is in the server's log file only,
// so the whole look-back is a dark window, only open sessions are uses, and earlier uses
// are unseen: nothing here ever says that nobody used a role. Parts that
// cannot be read are in Unseen with the missing right.
func (c *Client) Inspect(ctx context.Context, req activities.InspectRequest) (activities.InspectResult, error) {
	ctx, cancel, l := c.begin(ctx)
	defer cancel()
	s, f := c.login(ctx, l, opInspect, false, "")
	if f != nil {
		return activities.InspectResult{}, f
	}
	defer s.close()
	r, f := c.target(ctx, s, opInspect, req.Key)
	if f != nil {
		return activities.InspectResult{}, f
	}
	now := req.Now.UTC()
	if now.IsZero() {
		now = c.now(ctx)
	}
	i := &inspection{c: c, s: s, req: req, now: now, patience: req.Attempt < lastAttempt, role: r}
	i.out.Principal = req.Key.Principal
	exists := r != nil
	i.out.Exists = &exists
	if r != nil {
		for _, part := range []struct {
			source string
			read   func(context.Context) *activities.Fault
		}{
			{"postgres", i.basics}, {"postgres:grants", i.rights}, {"postgres:owned", i.owned}, {"uses", i.uses}, {"postgres:pg_hba.conf", i.hba},
		} {
			f := part.read(ctx)
			if f == nil {
				continue
			}
			if ctx.Err() != nil || i.patience && f.Retryable() {
				return activities.InspectResult{}, f
			}
			i.out.Unseen = append(i.out.Unseen, unseen(part.source, f))
		}
	}
	i.dark()
	slices.Sort(i.out.Policies)
	i.out.Policies = slices.Compact(i.out.Policies)
	slices.Sort(i.out.Roles)
	digest, err := canon.HashOf(i.out)
	if err != nil {
		return activities.InspectResult{}, invalid(opInspect, "the reading cannot be encoded")
	}
	i.out.Digest, i.out.Evidence = digest, l.evidence
	return i.out, nil
}

// dark says what PostgreSQL cannot tell.
func (i *inspection) dark() {
	from := i.req.Since.UTC()
	if from.IsZero() || from.After(i.now) {
		from = i.now.Add(-30 * 24 * time.Hour)
	}
	if i.role == nil {
		return
	}
	i.out.Dark = append(i.out.Dark, activities.Window{From: from, To: i.now, Source: "postgres"})
	i.out.Unseen = append(i.out.Unseen, activities.Unseen{Source: "uses",
		Why: "PostgreSQL keeps no record of log-ins: who used the role before now is in the server's log file only (log_connections)"})
}

// basics reads what the role is and who else can act as its principal.
func (i *inspection) basics(ctx context.Context) *activities.Fault {
	r := i.role
	active := r.active()
	i.out.Active = &active
	principal, f := i.s.principalOf(ctx, *r)
	if f != nil {
		return f
	}
	i.out.Principal = principal
	for what, has := range map[string]bool{
		"SUPERUSER": r.Super, "CREATEROLE": r.CreateRole, "CREATEDB": r.CreateDB, "REPLICATION": r.Replication, "BYPASSRLS": r.BypassRLS,
	} {
		if has {
			i.out.Policies = append(i.out.Policies, "attribute "+what)
		}
	}
	if r.Until != "" {
		i.out.Policies = append(i.out.Policies, "valid until "+r.Until)
	}
	if r.Limit >= 0 {
		i.out.Policies = append(i.out.Policies, fmt.Sprintf("connection limit %d", r.Limit))
	}
	group, f := i.s.group(ctx, principal)
	if f != nil {
		return f
	}
	for _, m := range group {
		if m.Name != r.Name {
			i.out.Siblings = append(i.out.Siblings, m.state())
		}
	}
	return nil
}

// rights reads memberships in both directions, and tells whether they make an
// administrator.
func (i *inspection) rights(ctx context.Context) *activities.Fault {
	r := i.role
	type grant struct {
		Role  string
		Admin bool
		Super bool
		Power bool
	}
	// Everything that the role reaches by membership, whether inherited or by SET ROLE.
	up, f := rows[grant](ctx, i.s, opInspect, `WITH RECURSIVE up(oid, admin) AS (
			SELECT roleid, admin_option FROM pg_catalog.pg_auth_members WHERE member = $1
			UNION SELECT m.roleid, m.admin_option FROM pg_catalog.pg_auth_members m JOIN up ON m.member = up.oid)
		SELECT g.rolname::text, bool_or(up.admin), bool_or(g.rolsuper OR g.rolcreaterole OR g.rolbypassrls), bool_or(g.rolname IN (`+powerful+`))
		FROM up JOIN pg_catalog.pg_roles g ON g.oid = up.oid GROUP BY 1 ORDER BY 1`, r.OID)
	if f != nil {
		return f
	}
	admin := r.Super || r.CreateRole || r.Replication || r.BypassRLS
	for _, g := range up {
		admin = admin || g.Super || g.Power
		i.out.Roles = append(i.out.Roles, g.Role)
		label := "member of " + g.Role
		if g.Admin {
			label += " with admin option"
		}
		i.out.Policies = append(i.out.Policies, label)
	}
	i.out.Admin = &admin
	members, f := i.s.members(ctx, r.OID)
	if f != nil {
		return f
	}
	for n, m := range members {
		if n == maxNames {
			i.out.Policies = append(i.out.Policies, fmt.Sprintf("its members: %d in all", len(members)))
			break
		}
		i.out.Policies = append(i.out.Policies, "its member "+m.Name)
	}
	return nil
}

// owned reads what the role owns and was granted, by database, from the catalogue that
// all databases share; and, where we can look in, what there acts with its rights.
func (i *inspection) owned(ctx context.Context) *activities.Fault {
	type count struct {
		Database      string
		Owned, Grants int64
	}
	found, f := rows[count](ctx, i.s, opInspect, `SELECT coalesce(d.datname::text, 'the cluster'), count(*) FILTER (WHERE s.deptype = 'o'), count(*) FILTER (WHERE s.deptype = 'a')
		FROM pg_catalog.pg_shdepend s LEFT JOIN pg_catalog.pg_database d ON d.oid = s.dbid
		WHERE s.refclassid = 'pg_authid'::regclass AND s.refobjid = $1 GROUP BY 1 ORDER BY 1`, i.role.OID)
	if f != nil {
		return f
	}
	for _, n := range found {
		i.out.Policies = append(i.out.Policies, fmt.Sprintf("owns %d objects in %s", n.Owned, n.Database), fmt.Sprintf("grants on %d objects in %s", n.Grants, n.Database))
	}
	held, missed, f := i.c.residue(ctx, i.s, []string{i.role.Name})
	if f != nil {
		return f
	}
	i.out.Unseen = append(i.out.Unseen, missed...)
	for _, h := range held {
		i.out.Policies = append(i.out.Policies, h.String())
	}
	return nil
}

// A sitting is the sessions of a role from one address with one name.
type sitting struct {
	Source, App string
	Count       int64
	First, Last time.Time
	States      string
	Clear       int64 // sessions without TLS
	Sender      int64 // replication
}

// sittings reads the open sessions of a role, without our own.
func (s *session) sittings(ctx context.Context, r role) ([]sitting, *activities.Fault) {
	may, f := one[bool](ctx, s, opSessions, `SELECT pg_catalog.pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')`)
	if f != nil {
		return nil, f
	}
	if !may {
		return nil, &activities.Fault{Class: activities.ClassDenied, Op: opSessions, Detail: "our role may not see other roles' sessions", Permission: rightStats}
	}
	return rows[sitting](ctx, s, opSessions, `SELECT coalesce(host(a.client_addr), 'local'), coalesce(a.application_name, ''), count(*),
		min(a.backend_start), max(greatest(a.backend_start, a.query_start, a.state_change)), coalesce(string_agg(DISTINCT a.state, ',' ORDER BY a.state), ''),
		count(*) FILTER (WHERE NOT coalesce(t.ssl, false) AND a.client_addr IS NOT NULL), count(*) FILTER (WHERE a.backend_type = 'walsender')
		FROM pg_catalog.pg_stat_activity a LEFT JOIN pg_catalog.pg_stat_ssl t ON t.pid = a.pid
		WHERE a.usesysid = $1 AND a.backend_type <> 'parallel worker'
		AND NOT (a.application_name = $2 AND a.backend_start > now() - interval '30 seconds')
		GROUP BY 1, 2 ORDER BY 5 DESC, 1, 2 LIMIT $3`, r.OID, s.c.marker, maxGroups)
}

// uses reads the open sessions and labels them against the known callers.
func (i *inspection) uses(ctx context.Context) *activities.Fault {
	found, f := i.s.sittings(ctx, *i.role)
	if f != nil {
		return f
	}
	for _, t := range found {
		u := t.use()
		u.Label, u.Who, u.Why = label(i.req.Known, t)
		if t.Last.After(i.out.Last) {
			i.out.Last = t.Last.UTC()
		}
		i.out.Uses = append(i.out.Uses, u)
	}
	return nil
}

func (t sitting) use() activities.Use {
	u := activities.Use{First: t.First.UTC(), Last: t.Last.UTC(), Count: t.Count, Source: clean(t.Source), Agent: clean(t.App), Calls: []string{"session"}}
	for state := range strings.SplitSeq(t.States, ",") {
		if state != "" {
			u.Calls = append(u.Calls, "session:"+state)
		}
	}
	if t.Sender > 0 {
		u.Calls = append(u.Calls, "replication")
	}
	if t.Clear > 0 {
		u.Calls = append(u.Calls, "without TLS")
	}
	return u
}

// label tells one group of sessions from the known callers. An application_name is the
// client's own word, so by itself it makes nobody known who comes from elsewhere.
func label(known []activities.Caller, t sitting) (label, who, why string) {
	if len(known) == 0 {
		return activities.UseUnknown, "", "nothing says what is normal for this role: an open session, and no record of earlier ones"
	}
	for _, k := range known {
		byNetwork := k.Network != "" && within(k.Network, t.Source)
		byAgent := k.Agent != "" && strings.HasPrefix(t.App, k.Agent)
		switch {
		case k.Network == "" && k.Agent == "":
		case byNetwork && (byAgent || k.Agent == ""):
			return activities.UseKnown, k.Who, "matches a known caller"
		case byAgent && k.Network == "":
			return activities.UseKnown, k.Who, "has the application name of a known caller, which anybody can give"
		}
	}
	return activities.UseNew, "", "matches no known caller"
}

// hba looks for lines of pg_hba.conf under which the password is not what lets the role
// in (PostgreSQL 10 and later; the view needs a right of its own).
func (i *inspection) hba(ctx context.Context) *activities.Fault {
	type line struct {
		Number int32
		Method string
		Type   string
		Named  bool
	}
	found, f := rows[line](ctx, i.s, opInspect, `SELECT coalesce(line_number, 0), coalesce(auth_method, ''), coalesce(type, ''), $1 = ANY (user_name)
		FROM pg_catalog.pg_hba_file_rules WHERE error IS NULL AND ($1 = ANY (user_name) OR 'all' = ANY (user_name)) ORDER BY 1 LIMIT $2`, i.role.Name, maxNames)
	if f != nil {
		if f.Class == activities.ClassDenied {
			f.Permission = rightHBA
		}
		return f
	}
	for _, l := range found {
		at := fmt.Sprintf("line %d of pg_hba.conf", l.Number)
		switch l.Method {
		case "trust", "peer", "ident", "cert", "gss", "sspi":
			i.out.Policies = append(i.out.Policies, fmt.Sprintf("%s: %s lets it in by %s, without the password", at, l.Type, clean(l.Method)))
		case "ldap", "pam", "radius", "bsd", "oauth":
			i.out.Policies = append(i.out.Policies, fmt.Sprintf("%s: %s asks somebody else for the password (%s)", at, l.Type, clean(l.Method)))
		}
		if l.Named {
			i.out.Policies = append(i.out.Policies, at+" names the role: a replacement is not let in by it")
		}
	}
	return nil
}

func within(network, source string) bool {
	p, err := netip.ParsePrefix(network)
	if err != nil {
		return false
	}
	a, err := netip.ParseAddr(source)
	return err == nil && p.Contains(a.Unmap())
}

// clean keeps what a client may say short and printable.
func clean(s string) string {
	const most = 64
	out := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, s)
	for n := range out {
		if n > most {
			return out[:n]
		}
	}
	return out
}

// byName orders residue.
func byName(a, b residue) int {
	return cmp.Or(cmp.Compare(a.Database, b.Database), cmp.Compare(a.What, b.What), cmp.Compare(a.Name, b.Name))
}
