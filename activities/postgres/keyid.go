package postgres

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Kind is the one kind of credential: the password of a login role.
const Kind = "role-password"

// maxName is the longest name in bytes, NAMEDATALEN-1
// (https://www.postgresql.org/docs/current/sql-syntax-lexical.html#SQL-SYNTAX-IDENTIFIERS).
const maxName = 63

// pattern finds the role in a connection string; the group is the role. Source:
// gitleaks and trufflehog (pkg/detectors/postgres) look for the same form.
const pattern = `\bpostgres(?:ql)?://([A-Za-z_][A-Za-z0-9_.$-]{0,62}):[^@\s"'<>]+@`

// secretPatterns are what a redactor must take out of text: the password of a
// connection string, of PGPASSWORD, of key=value strings, and of a line of a password
// file (https://www.postgresql.org/docs/current/libpq-pgpass.html).
var secretPatterns = []string{
	`(?i)\bpostgres(?:ql)?(?:\+[a-z0-9]+)?://[^:@/\s"']*:([^@\s"'<>]+)@`,
	`(?i)\bPGPASSWORD["']?\s*[:=]\s*["']?([^\s"';,]+)`,
	`(?i)\b(?:host|dbname|user)\s*=\s*\S+[^\n]*?\bpassword\s*=\s*'?([^\s']+)`,
	`(?m)^(?:[A-Za-z0-9._-]+|\*):(?:[0-9]{4,5}|\*):[^:\n]+:[^:\n]+:(\S+)\s*$`,
	`(?i)\b(?:PASSWORD)\s+'((?:[^']|''){6,})'`,
	`(SCRAM-SHA-256\$[0-9]+:[A-Za-z0-9+/=]+\$[A-Za-z0-9+/=]+:[A-Za-z0-9+/=]+)`,
}

// dense is text as long as a random secret without any of the characters that people
// put between words.
var dense = regexp.MustCompile(`^(?:[A-Za-z0-9+/=]{32,}|[A-Fa-f0-9]{24,})$`)

// CheckID tells that the key id is a role's name, or says in a sentence what is wrong
// with it. What looks like a secret is refused without being repeated.
func CheckID(id string) (string, error) {
	switch {
	case id == "":
		return "", errors.New("the role's name is missing")
	case strings.Contains(id, "://") || strings.Contains(strings.ToLower(id), "password="):
		return "", errors.New("that looks like a connection string; give the role's name alone, pass the password by --secret-stdin")
	case dense.MatchString(id):
		return "", errors.New("that looks like a secret; give the role's name, pass the password by --secret-stdin")
	case len(id) > maxName:
		return "", fmt.Errorf("a role's name has at most %d bytes; this has %d", maxName, len(id))
	case !utf8.ValidString(id) || strings.ContainsFunc(id, unicode.IsControl):
		return "", errors.New("a role's name is text without control characters")
	case strings.TrimSpace(id) != id:
		return "", errors.New("the role's name has spaces around it; give it without them")
	case strings.HasPrefix(id, "pg_"):
		return "", fmt.Errorf("%s is one of PostgreSQL's own roles, which nobody logs in as", id)
	case id == "none" || id == "public":
		return "", fmt.Errorf("%s is a word of SQL, not a role", id)
	}
	return Kind, nil
}
