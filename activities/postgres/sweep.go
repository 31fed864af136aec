package postgres

import (
	"context"
	"fmt"
	"slices"
	"time"

	"rekey/activities"
	"rekey/internal/canon"
)

var _ activities.Sweeper = (*Client)(nil)

// A residue is one object that acts with a role's rights, or gives them away, without
// its password.
type residue struct {
	Database string
	What     string
	Name     string
	Owner    string
}

// String is the residue in one line.
func (r residue) String() string {
	return fmt.Sprintf("%s %s in %s, of %s", r.What, clean(r.Name), r.Database, r.Owner)
}

// inEach reads the residue of one database. PostgreSQL keeps neither time nor creator
// of an object; the owner is who it is attributed to.
const inEach = `SELECT current_database()::text, what, name, owner FROM (
	SELECT 'security definer function' AS what, p.oid::regprocedure::text AS name, p.proowner AS o FROM pg_catalog.pg_proc p WHERE p.prosecdef
	UNION ALL SELECT 'event trigger', evtname::text, evtowner FROM pg_catalog.pg_event_trigger
	UNION ALL SELECT 'foreign server', srvname::text, srvowner FROM pg_catalog.pg_foreign_server
	UNION ALL SELECT 'user mapping', srvname::text || ' for ' || coalesce(usename::text, 'public'), umuser FROM pg_catalog.pg_user_mappings
	UNION ALL SELECT 'publication', pubname::text, pubowner FROM pg_catalog.pg_publication
	UNION ALL SELECT 'untrusted language', lanname::text, lanowner FROM pg_catalog.pg_language WHERE lanispl AND NOT lanpltrusted
) x CROSS JOIN LATERAL (SELECT pg_catalog.pg_get_userbyid(o)::text AS owner) y WHERE owner = ANY ($1) ORDER BY 2, 3 LIMIT 5000`

// inCluster reads what all databases share. pg_subscription holds connection strings,
// and which of its columns others may read differs by version, so it can be left out.
func inCluster(subscriptions bool) string {
	sql := `SELECT database, what, name, owner FROM (
	SELECT coalesce(database::text, 'the cluster') AS database, 'prepared transaction' AS what, gid::text AS name, owner::text AS owner FROM pg_catalog.pg_prepared_xacts
	UNION ALL SELECT 'the cluster', 'replication slot', r.slot_name::text, coalesce(a.usename::text, '') FROM pg_catalog.pg_replication_slots r LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = r.active_pid
	UNION ALL SELECT 'the cluster', 'role made a member by it', m.rolname || ' of ' || g.rolname, k.rolname::text FROM pg_catalog.pg_auth_members x
		JOIN pg_catalog.pg_roles m ON m.oid = x.member JOIN pg_catalog.pg_roles g ON g.oid = x.roleid JOIN pg_catalog.pg_roles k ON k.oid = x.grantor
`
	if subscriptions {
		sql += `	UNION ALL SELECT d.datname::text, 'subscription', s.subname::text, pg_catalog.pg_get_userbyid(s.subowner)::text FROM pg_catalog.pg_subscription s JOIN pg_catalog.pg_database d ON d.oid = s.subdbid
`
	}
	return sql + `) y WHERE owner = ANY ($1) ORDER BY 1, 2, 3 LIMIT 5000`
}

// inCron reads the jobs of pg_cron, whose table is in one database
// (https://github.com/citusdata/pg_cron).
const inCron = `SELECT j.database::text, 'scheduled job', j.jobid::text, j.username::text FROM cron.job j WHERE j.username = ANY ($1) ORDER BY j.jobid LIMIT 5000`

// residue reads what there is of the owners, in the cluster and in every database that
// we can look into; what we cannot is missed.
func (c *Client) residue(ctx context.Context, s *session, owners []string) ([]residue, []activities.Unseen, *activities.Fault) {
	var missed []activities.Unseen
	out, f := rows[residue](ctx, s, opSweep, inCluster(true), owners)
	if f != nil && f.Class == activities.ClassDenied {
		missed = append(missed, activities.Unseen{Source: "postgres:subscriptions", Why: f.Detail, Permission: rightSuper})
		out, f = rows[residue](ctx, s, opSweep, inCluster(false), owners)
	}
	if f != nil {
		return nil, nil, f
	}
	type database struct {
		Name string
		Open bool
		Here bool
	}
	all, f := rows[database](ctx, s, opSweep, `SELECT datname::text, datallowconn AND has_database_privilege(oid, 'CONNECT'), datname = current_database()
		FROM pg_catalog.pg_database WHERE NOT datistemplate ORDER BY 3 DESC, 1`)
	if f != nil {
		return nil, nil, f
	}
	for n, d := range all {
		source := "postgres:" + d.Name
		if !d.Open || n >= maxDatabases {
			missed = append(missed, activities.Unseen{Source: source, Why: "we may not look into this database, or there are too many", Permission: "CONNECT on database " + d.Name})
			continue
		}
		in := s
		if !d.Here {
			if in, f = c.login(ctx, s.l, opSweep, false, d.Name); f != nil {
				if ctx.Err() != nil {
					return nil, nil, f
				}
				missed = append(missed, unseen(source, f))
				continue
			}
		}
		found, f := in.inDatabase(ctx, owners)
		if !d.Here {
			in.close()
		}
		if f != nil && ctx.Err() != nil {
			return nil, nil, f
		}
		if f != nil {
			missed = append(missed, unseen(source, f))
		}
		out = append(out, found...)
	}
	slices.SortFunc(out, byName)
	return slices.Compact(out), missed, nil
}

// inDatabase reads one database.
func (s *session) inDatabase(ctx context.Context, owners []string) ([]residue, *activities.Fault) {
	out, f := rows[residue](ctx, s, opSweep, inEach, owners)
	if f != nil {
		return nil, f
	}
	cron, f := one[bool](ctx, s, opSweep, `SELECT to_regclass('cron.job') IS NOT NULL`)
	if f != nil || !cron {
		return out, f
	}
	jobs, f := rows[residue](ctx, s, opSweep, inCron, owners)
	return append(out, jobs...), f
}

// Sweep lists what acts with the role's rights, or hands them on, without its password:
// functions that run as their owner, event triggers, foreign servers and user mappings,
// publications and subscriptions, replication slots, prepared transactions, jobs of
// pg_cron, untrusted languages, and memberships that the role itself granted. A log-in
// role that a key in scope made a member of the principal is a key of its own.
//
// PostgreSQL keeps neither time nor creator: everything is attributed by its owner or
// grantor, and what a role made and gave away is not seen. Each object is a question to
// a person, once. Sessions that are open are Hits. UsesOnly reads these alone.
func (c *Client) Sweep(ctx context.Context, req activities.SweepRequest) (activities.SweepResult, error) {
	ctx, cancel, l := c.begin(ctx)
	defer cancel()
	s, f := c.login(ctx, l, opSweep, false, "")
	if f != nil {
		return activities.SweepResult{}, f
	}
	defer s.close()
	r, f := c.target(ctx, s, opSweep, req.Key)
	if f != nil {
		return activities.SweepResult{}, f
	}
	now := req.Now.UTC()
	if now.IsZero() {
		now = c.now(ctx)
	}
	out := activities.SweepResult{}
	if r != nil {
		found, f := s.sittings(ctx, *r)
		switch {
		case f != nil && (ctx.Err() != nil || f.Retryable()):
			return activities.SweepResult{}, f
		case f != nil:
			out.Unseen = append(out.Unseen, unseen("uses", f))
		}
		for _, t := range found {
			u := t.use()
			u.Label, u.Why = activities.UseUnknown, "an open session of a role that should be dead"
			if u.Last.After(req.Since) {
				out.Hits = append(out.Hits, u)
			}
		}
	}
	if req.UsesOnly {
		out.Unseen = append(out.Unseen, activities.Unseen{Source: "postgres:log-ins", Why: "log-ins that are refused are in the server's log file only"})
		out.Evidence = l.evidence
		return out, nil
	}
	if f := c.sweep(ctx, s, r, req, now, &out); f != nil {
		return activities.SweepResult{}, f
	}
	out.Evidence = l.evidence
	return out, nil
}

// sweep reads the set, its digest and what of it is a finding.
func (c *Client) sweep(ctx context.Context, s *session, r *role, req activities.SweepRequest, now time.Time, out *activities.SweepResult) *activities.Fault {
	owners := []string{req.Key.ID}
	for _, id := range req.Compromised {
		if !slices.Contains(owners, id) {
			owners = append(owners, id)
		}
	}
	principal := req.Key.Principal
	var group []role
	var f *activities.Fault
	if r != nil {
		if principal, f = s.principalOf(ctx, *r); f != nil {
			return f
		}
	}
	if principal != "" {
		if group, f = s.group(ctx, principal); f != nil {
			return f
		}
	}
	held, missed, f := c.residue(ctx, s, owners)
	if f != nil {
		return f
	}
	out.Unseen = append(out.Unseen, missed...)
	by, f := s.grantors(ctx, principal)
	if f != nil {
		return f
	}
	set := make([]string, 0, len(held)+len(group))
	for _, h := range held {
		set = append(set, h.Database+"\x00"+h.What+"\x00"+h.Name+"\x00"+h.Owner)
		out.Findings = append(out.Findings, activities.Finding{
			What: "other", ID: h.What + " " + clean(h.Name) + " in " + h.Database, At: now, By: h.Owner,
			Why: "it works with the rights of " + h.Owner + " and needs no password; PostgreSQL does not say when it was made",
		})
	}
	for _, m := range group {
		set = append(set, fmt.Sprintf("role\x00%s\x00%v\x00%s", m.Name, m.active(), m.Until))
		grantor := by[m.Name]
		if m.Name == req.Key.ID || slices.Contains(req.Ours, m.Name) || slices.Contains(req.Compromised, m.Name) || !slices.Contains(owners, grantor) {
			continue
		}
		out.Findings = append(out.Findings, activities.Finding{
			What: "key", ID: m.Name, At: now, By: grantor, Why: "made a member of " + principal + " by " + grantor,
			Key: &activities.Key{Provider: Code, Account: c.account.Name, Kind: Kind, ID: m.Name, Principal: principal},
		})
	}
	digest, err := canon.HashOf(set)
	if err != nil {
		return invalid(opSweep, "the set cannot be encoded")
	}
	out.Digest = digest
	return nil
}

// grantors tells for each direct member of a role who made it one.
func (s *session) grantors(ctx context.Context, principal string) (map[string]string, *activities.Fault) {
	type granted struct{ Member, By string }
	found, f := rows[granted](ctx, s, opSweep, `SELECT m.rolname::text, coalesce(k.rolname::text, '') FROM pg_catalog.pg_auth_members x
		JOIN pg_catalog.pg_roles g ON g.oid = x.roleid JOIN pg_catalog.pg_roles m ON m.oid = x.member
		LEFT JOIN pg_catalog.pg_roles k ON k.oid = x.grantor WHERE g.rolname = $1`, principal)
	out := map[string]string{}
	for _, g := range found {
		out[g.Member] = g.By
	}
	return out, f
}
