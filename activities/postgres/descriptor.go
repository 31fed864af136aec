// Package postgres kills, replaces and watches the passwords of PostgreSQL's log-in
// roles, and the sessions that outlive them.
//
// # How it is built
//
// Open makes no call; every verb logs in by itself, as settings.user to read and as
// settings.write_user to change something. Statements go by the extended protocol, one
// at a time, with names quoted by pgx.Identifier; failures are classed by SQLSTATE in
// one place (faults.go), and nothing that the server says is kept. A password is in no
// statement: roles are made with a verifier computed here (scram.go).
//
// One role has one password, so a replacement is a second role beside the first: a
// member of it that acts as it (issue.go). Changing the password of the same role would
// cut every user in the same moment, and an old and a new key of one name cannot be
// proven dead and adopted apart; so that way is not offered. Restore is not either:
// VALID UNTIL ends new log-ins by password alone, and a session begun before goes on,
// so no end would hold while rekey is down.
package postgres

import (
	_ "embed"

	"rekey/activities"
)

// Code is the provider's code. It is written into histories: never rename it.
const Code = "postgres"

// apiSQL is the one rate limit: log-ins.
const apiSQL = "sql"

// Rights of our own roles, as the policies name them.
const (
	rightStats      = "pg_read_all_stats"
	rightHBA        = "SELECT on pg_hba_file_rules"
	rightCreateRole = "CREATEROLE"
	rightSignal     = "pg_signal_backend"
	rightSuper      = "SUPERUSER"
	rightStore      = "write access to store_dir"
)

//go:embed policy-read.sql
var readPolicy string

//go:embed policy-write.sql
var writePolicy string

// Provider describes PostgreSQL and opens its clusters.
//
// An account is one cluster. Settings: base_url
// (postgres://HOST:PORT/DATABASE?sslmode=verify-full, the server itself), user (whom we
// log in as), write_user (whom for changes; default user), store_dir and store_mode
// (where Distribute writes files), auth (libpq's require_auth, default
// "scram-sha-256,none"), timeout (Go duration of one verb). Credentials: password,
// write_password, client_cert, client_key.
func Provider() activities.Provider {
	return activities.Provider{Descriptor: descriptor(), Open: open, Origin: Origin}
}

func descriptor() activities.Descriptor {
	return activities.Descriptor{
		Code: Code,
		Name: "PostgreSQL",
		Docs: "https://www.postgresql.org/docs/current/user-manag.html",
		Kinds: []activities.KindInfo{{
			Kind: Kind, Recogniser: "the role in a PostgreSQL connection string", Pattern: pattern,
			Propagation: propagation, SessionsOutlive: true,
			ProbeWithoutSecret: true, IDSuffices: true, ProbeAction: "SELECT session_user",
			Verbs: verbs(),
		}},
		// PostgreSQL has no rate limit; a log-in is a process of the server, so few at a time.
		Limits:      []activities.Limit{{API: apiSQL, Rate: "20/s", Per: "cluster", Value: 20}},
		ReadPolicy:  readPolicy,
		WritePolicy: writePolicy,
		Secrets:     secretPatterns,
		CheckID:     CheckID,
		FreeForm:    true,
		Stores:      []string{StoreFile},
		RungVerbs:   map[string]activities.Verb{"sessions": activities.EndSessions},
	}
}

func verbs() map[activities.Verb]activities.VerbInfo {
	reading := []string{rightStats}
	return map[activities.Verb]activities.VerbInfo{
		activities.Inspect: {
			Support: activities.ByAPI, Reversible: true, Idempotent: true, Proof: activities.ForeignServer, API: apiSQL,
			Permissions: []string{rightStats, rightHBA}, Calls: []string{opRoles, opSessions},
		},
		activities.Disable: {
			Support: activities.ByAPI, Reversible: true, Idempotent: true, Proof: activities.ForeignServer, API: apiSQL,
			Permissions: []string{rightCreateRole}, Calls: []string{opNoLogin},
		},
		activities.Revoke: {
			Support: activities.ByAPI, Idempotent: true, Proof: activities.ForeignServer, API: apiSQL,
			Permissions: []string{rightCreateRole}, Calls: []string{opDrop, opRetire},
		},
		activities.EndSessions: {
			Support: activities.ByAPI, Reversible: false, Idempotent: true, Proof: activities.ForeignServer, API: apiSQL,
			Permissions: []string{rightSignal}, Calls: []string{opTerminate},
		},
		activities.Issue: {
			Support: activities.ByAPI, Proof: activities.ForeignServer, API: apiSQL,
			Permissions: []string{rightCreateRole}, Calls: []string{opRoles, opCreate},
		},
		activities.Distribute: {
			Support: activities.ByAPI, Idempotent: true, Proof: activities.ForeignServer, API: apiSQL,
			Permissions: []string{rightStore}, Calls: []string{opWrite},
		},
		activities.Probe: {
			Support: activities.ByAPI, Reversible: true, Idempotent: true, Proof: activities.ForeignServer, API: apiSQL,
			Calls: []string{opProbe, opRoles}, // pg_roles is open to every role
		},
		activities.Sweep: {
			Support: activities.ByAPI, Reversible: true, Idempotent: true, Proof: activities.ForeignServer, API: apiSQL,
			Permissions: reading, Calls: []string{opRoles, opSessions},
		},
	}
}
