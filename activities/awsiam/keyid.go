package awsiam

import (
	"encoding/base32"
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// Kinds of credential.
const (
	// KindUser is a long-term key of an IAM user (or of root): AKIA.
	KindUser = "user-access-key"
	// KindSession is a temporary credential of STS: ASIA.
	KindSession = "sts-session"
)

// pattern recognises a key id in text. Source: gitleaks config/gitleaks.toml,
// rule aws-access-token, cut to the two prefixes that rekey handles; 16 or more
// characters of the base32 alphabet follow (IAM User Guide, "Unique identifiers").
const (
	patternUser    = `\bAKIA[A-Z0-9]{16}\b`
	patternSession = `\bASIA[A-Z0-9]{16}\b`
)

// secretPatterns are what a redactor must take out of text: a secret key has 40
// characters without prefix or checksum, so only its usual surroundings tell it
// from a hash. A session token is recognised by its name too.
var secretPatterns = []string{
	`(?i)(?:aws)?_?secret_?(?:access)?_?key["']?\s*[:=]\s*["']?([A-Za-z0-9/+]{40})\b`,
	`(?i)(?:aws)?_?session_?token["']?\s*[:=]\s*["']?([A-Za-z0-9/+=]{80,})`,
	// Both halves next to each other, as in credentials.csv and in pastes.
	`\b(?:AKIA|ASIA)[A-Z0-9]{16}["']?[\s,:;|]+["']?([A-Za-z0-9/+]{40})(?:[^A-Za-z0-9/+=]|$)`,
}

var (
	idForm     = regexp.MustCompile(`^[A-Z0-9]{20}$`)
	secretForm = regexp.MustCompile(`^[A-Za-z0-9/+]{40}$`)
	otherForms = map[string]string{
		"AIDA": "an IAM user's id", "AROA": "a role's id", "AGPA": "a group's id", "ANPA": "a managed policy's id",
		"AIPA": "an instance profile's id", "ASCA": "a certificate's id", "ABIA": "an STS bearer token's id", "ACCA": "a context credential's id",
	}
)

// CheckID tells which kind the key id is, or says in a sentence what is wrong
// with it. What looks like a secret is refused without being repeated. Source of
// the prefixes: IAM User Guide, "Unique identifiers",
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html.
func CheckID(id string) (string, error) {
	if strings.Contains(id, "=") || secretForm.MatchString(strings.TrimSpace(id)) || len(id) > 24 {
		return "", errors.New("that looks like a secret; give the key id, pass the secret by --secret-stdin")
	}
	if id != strings.TrimSpace(id) {
		return "", errors.New("the key id has spaces around it; give it without them")
	}
	if len(id) >= 4 && !strings.HasPrefix(id, "AKIA") && !strings.HasPrefix(id, "ASIA") {
		if what, ok := otherForms[id[:4]]; ok && idForm.MatchString(id) {
			return "", fmt.Errorf("%s is %s, not a key; a key id begins with AKIA or ASIA", id, what)
		}
	}
	switch {
	case !idForm.MatchString(id):
		return "", fmt.Errorf("an AWS key id is AKIA or ASIA and 16 capital letters or digits, 20 characters; this has %d", len(id))
	case strings.HasPrefix(id, "AKIA"):
		return KindUser, nil
	case strings.HasPrefix(id, "ASIA"):
		return KindSession, nil
	}
	return "", errors.New("an AWS key id begins with AKIA (a user's key) or ASIA (an STS session)")
}

// AccountOf reads the account number out of a key id, without any call. ok is
// false for ids of the older form, which do not carry it. Source: trufflehog
// pkg/detectors/aws/utils.go, GetAccountNumFromID: base32 of what follows the
// prefix, the first six bytes, 40 bits of them from bit 7.
func AccountOf(id string) (account string, ok bool) {
	if _, err := CheckID(id); err != nil || id[4] == 'I' || id[4] == 'J' {
		return "", false
	}
	raw, err := base32.StdEncoding.DecodeString(id[4:])
	if err != nil {
		return "", false
	}
	var z uint64
	for _, b := range raw[:6] {
		z = z<<8 | uint64(b)
	}
	return fmt.Sprintf("%012d", z&0x7fffffffff80>>7), true
}
