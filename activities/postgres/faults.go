package postgres

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"rekey/activities"
	"rekey/internal/httpx"
)

// An effect says what a repeated statement does; the class of a lost answer depends
// on it.
type effect int

const (
	reads   effect = iota // changes nothing
	repeats               // changes something; twice is as good as once
)

// busyWait is how long to leave a server alone that takes no more connections. It
// does not say itself.
const busyWait = 5 * time.Second

// SQLSTATE codes that we tell apart,
// https://www.postgresql.org/docs/current/errcodes-appendix.html.
const (
	codePassword    = "28P01" // invalid_password: of a role that is not there too
	codeAuth        = "28000" // invalid_authorization_specification: NOLOGIN, and pg_hba.conf
	codeDenied      = "42501" // insufficient_privilege
	codeTooMany     = "53300" // too_many_connections: of the server or of the role
	codeNoObject    = "42704" // undefined_object
	codeNoDatabase  = "3D000" // invalid_catalog_name
	codeDuplicate   = "42710" // duplicate_object
	codeDependents  = "2BP01" // dependent_objects_still_exist
	codeReadOnly    = "25006" // read_only_sql_transaction: a standby
	codeNoFunction  = "42883" // undefined_function
	codeNoTable     = "42P01" // undefined_table
	codeNotYet      = "57P03" // cannot_connect_now
	codeCancelled   = "57014" // query_canceled: statement_timeout
	codeLock        = "55P03" // lock_not_available
	codeInternal    = "XX000" // internal_error; also "tuple concurrently updated"
	codeUnsupported = "0A000" // feature_not_supported
)

// details are the words of a fault by its code; nothing of the server's message is
// ever kept, because it may repeat what was sent.
var details = map[string]string{
	codeNoObject: "no such role", codeNoDatabase: "no such database", codeDuplicate: "a role of that name is there already",
	codeDependents: "objects still depend on the role", codeReadOnly: "the server takes no changes: is it a standby?",
	codeNotYet: "the server is starting up, shutting down or recovering", codeCancelled: "the statement took too long and was taken back",
	codeLock: "a lock could not be had in time", codeTooMany: "the server takes no more connections",
}

// classify turns what happened to a statement into its Fault. err is dropped: it may
// hold the server's text or the statement.
func classify(ctx context.Context, op string, eff effect, err error) *activities.Fault {
	f := &activities.Fault{Op: op, Class: activities.ClassUnclear}
	var own *activities.Fault
	if errors.As(err, &own) {
		return own
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) && sqlstate(pg.Code) {
		return byCode(f, eff, pg.Code)
	}
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		f.Class, f.Detail = lost(eff), "an answer without the row that was asked for"
	case pgconn.SafeToRetry(err) && ctx.Err() != nil:
		f.Class, f.Detail = activities.ClassTransient, "cancelled before the statement was sent"
	case pgconn.SafeToRetry(err):
		f.Class, f.Detail = activities.ClassTransient, "the connection was lost before the statement was sent"
	case ctx.Err() != nil:
		f.Class, f.Detail = lost(eff), "cancelled before the answer came"
	default:
		f.Class, f.Detail = lost(eff), "the connection was lost, or the answer cannot be read as PostgreSQL's"
	}
	return f
}

// classifyConnect is classify for a log-in of ours: nothing was asked for yet.
func classifyConnect(ctx context.Context, op string, err error) *activities.Fault {
	f := &activities.Fault{Op: op, Class: activities.ClassTransient}
	var pg *pgconn.PgError
	switch {
	case errors.As(err, &pg) && (pg.Code == codePassword || pg.Code == codeAuth):
		f.Class, f.Detail, f.Permission = activities.ClassDenied, "our own role is refused (SQLSTATE "+pg.Code+"): check its credential, LOGIN and pg_hba.conf", "LOGIN of rekey's role"
	case errors.As(err, &pg) && sqlstate(pg.Code):
		return byCode(f, reads, pg.Code)
	case errors.Is(err, httpx.ErrAddress):
		f.Class, f.Detail = activities.ClassInvalid, httpx.ErrAddress.Error()
	case ctx.Err() != nil:
		f.Detail = "cancelled before there was a connection"
	case untrusted(err):
		f.Detail = "the server's certificate is not trusted; set ca_file if it is your own authority's"
	default:
		f.Detail = "no connection to the server"
	}
	return f
}

// byCode classes an answer of the server. A statement that failed left nothing
// behind: PostgreSQL takes it back as a whole.
func byCode(f *activities.Fault, eff effect, code string) *activities.Fault {
	f.Detail = "SQLSTATE " + code
	if d, ok := details[code]; ok {
		f.Detail = d + " (SQLSTATE " + code + ")"
	}
	switch {
	case code == codeTooMany:
		f.Class, f.After = activities.ClassThrottled, busyWait
	case code == codeDenied:
		f.Class, f.Detail, f.Permission = activities.ClassDenied, "our own role may not do this (SQLSTATE "+code+")", permission(f.Op)
	case code == codePassword, code == codeAuth:
		f.Class, f.Permission = activities.ClassDenied, "LOGIN of rekey's role"
	case code == codeCancelled, code == codeLock, code == codeNotYet, code == "55006":
		f.Class = activities.ClassTransient
	case code[:2] == "40", code[:2] == "53", code == codeInternal:
		f.Class = activities.ClassTransient
	case code[:2] == "57", code[:2] == "08", code[:2] == "58":
		f.Class = lost(eff) // the session was ended: perhaps after the commit
	case code == "55P02", code[:2] == "42", code[:2] == "22", code[:2] == "23", code[:2] == "3D", code[:2] == "2B", code == codeReadOnly, code == codeUnsupported:
		f.Class = activities.ClassInvalid
	default:
		f.Class = activities.ClassUnclear
	}
	return f
}

// permission is the right that an operation needs.
func permission(op string) string {
	switch op {
	case opTerminate:
		return rightSignal
	case opSessions:
		return rightStats
	case opRoles, opInspect, opSweep, opSelf, opProbe:
		return "SELECT on the system catalogue"
	case opVerifier:
		return rightSuper
	}
	return rightCreateRole
}

// lost is the class of a statement whose answer did not come: a read can be asked
// again, anything else may have happened.
func lost(eff effect) activities.Class {
	if eff == reads {
		return activities.ClassTransient
	}
	return activities.ClassUnclear
}

// sqlstate tells whether a code has the form of one: five digits and capitals (SQL
// standard); what a stranger sends instead is not repeated.
func sqlstate(code string) bool {
	if len(code) != 5 {
		return false
	}
	for _, c := range []byte(code) {
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') {
			return false
		}
	}
	return true
}

// is tells whether f is the answer with that code.
func is(f *activities.Fault, code string) bool {
	return f != nil && (f.Detail == "SQLSTATE "+code || f.Detail == details[code]+" (SQLSTATE "+code+")")
}

func untrusted(err error) bool {
	var verify *tls.CertificateVerificationError
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	return errors.As(err, &verify) || errors.As(err, &authority) || errors.As(err, &host)
}

func invalid(op, format string, args ...any) *activities.Fault {
	return &activities.Fault{Class: activities.ClassInvalid, Op: op, Detail: fmt.Sprintf(format, args...)}
}

func unclear(op, format string, args ...any) *activities.Fault {
	return &activities.Fault{Class: activities.ClassUnclear, Op: op, Detail: fmt.Sprintf(format, args...)}
}

// unseen is a part that could not be read.
func unseen(source string, f *activities.Fault) activities.Unseen {
	return activities.Unseen{Source: source, Why: f.Detail, Permission: f.Permission}
}
