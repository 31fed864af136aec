package redact

import (
	"bytes"
	"net/url"
	"regexp"
)

// Generic patterns hold whatever providers are configured.
//
//   - Private keys: RFC 7468 textual encodings, with newlines real or escaped; a
//     block without its end goes to the end of the text.
//   - AWS secret access keys: 40 characters of base64, told from other text by an
//     access key id near by, by their name, or, alone, by capitals, small letters and
//     digits without order: people paste them bare
//     (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html).
//   - GitHub tokens:
//     https://github.blog/engineering/platform-security/behind-githubs-new-authentication-token-formats/.
//     Slack tokens: https://docs.slack.dev/authentication/tokens/.
//   - What is called a password, secret, token or API key, where the value looks
//     generated: letters with digits, or punctuation inside.
//   - Bearer tokens: RFC 6750 section 2.1; other Authorization schemes by the
//     header's name. JWTs: RFC 7519.
//   - User information in URLs: RFC 3986 section 3.2.1.
//   - age identities: https://age-encryption.org/v1.
//
// A pattern added here names its hints.
func Generic() []Pattern {
	return []Pattern{
		{Name: "private-key", hints: []string{"private key"}, Regexp: regexp.MustCompile(`(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----|\z)`)},
		{Name: "age-identity", hints: []string{"age-secret-key"}, Regexp: regexp.MustCompile(`(?i)AGE-SECRET-KEY-(?:PQ-)?1[0-9A-Z]{20,}`)},
		{Name: "aws-secret", hints: []string{"akia", "asia", "abia", "acca"}, Regexp: regexp.MustCompile(`[A-Za-z0-9/+]{40,}`), Validate: awsSecret, near: awsKeyID},
		{Name: "aws-secret", hints: []string{"secret"}, Regexp: regexp.MustCompile(`(?i)(?:aws_?)?secret_?(?:access_?)?key["'\\]*\s*[:=>]+\s*["'\\]*(?P<secret>[A-Za-z0-9/+]{40})`)},
		{Name: "aws-secret", Regexp: regexp.MustCompile(`[A-Za-z0-9/+]{40,}`), Validate: bareSecret},
		{Name: "aws-secret", hints: []string{"%2f", "%2b"}, Regexp: regexp.MustCompile(`(?:[A-Za-z0-9/+]|%2[BbFf]){40,}`), Validate: encoded(bareSecret)},
		{Name: "aws-secret", hints: []string{"%2f", "%2b"}, Regexp: regexp.MustCompile(`(?:[A-Za-z0-9/+]|%2[BbFf]){40,}`), Validate: encoded(awsSecret), near: awsKeyID},
		{Name: "github-token", hints: []string{"ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"}, Regexp: regexp.MustCompile(`(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{22,})`)},
		{Name: "slack-token", hints: []string{"xox", "xapp-"}, Regexp: regexp.MustCompile(`(?:xox[a-z](?:\.xox[a-z])?|xapp)-[A-Za-z0-9-]{10,}`)},
		{Name: "named-secret", hints: []string{"pass", "pwd", "secret", "token", "key"}, Regexp: regexp.MustCompile(`(?i)(?:password|passwd|passphrase|pwd|secret|token|api[_-]?key)["'\\]*\s*[:=]\s*["'\\]*(?P<secret>[^\s"'\\,;<>\[\]]{8,})`), Validate: generated},
		{Name: "aws-session-token", hints: []string{"token"}, Regexp: regexp.MustCompile(`(?i)(?:aws_?session_?token|session_?token|x-amz-security-token)["'\\]*\s*[:=>]+\s*["'\\]*(?P<secret>[A-Za-z0-9/+=%_-]{16,})`)},
		{Name: "authorization", hints: []string{"authorization"}, Regexp: regexp.MustCompile(`(?i)authorization["'\\]*\s*[:=]\s*["'\\]*(?:basic|token|digest|negotiate|apikey|bearer)\s+(?P<secret>[^\s"'\\\[]{4,})`)},
		{Name: "bearer", hints: []string{"bearer"}, Regexp: regexp.MustCompile(`(?i)\bbearer\s+(?P<secret>[A-Za-z0-9._~+/-]{8,}=*)`), Validate: notAWord},
		{Name: "jwt", hints: []string{"eyj"}, Regexp: regexp.MustCompile(`\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]*`)},
		{Name: "url-userinfo", hints: []string{"@"}, Regexp: regexp.MustCompile(`[A-Za-z][A-Za-z0-9+.-]*:(?://|\\/\\/)(?P<secret>[^\s/\\?#"'<>]+)@`)},
	}
}

var (
	awsKeyID = regexp.MustCompile(`\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}\b`)
	hexOnly  = regexp.MustCompile(`^[0-9a-f]+$`)
	word     = regexp.MustCompile(`^[A-Za-z][a-z]{0,18}[.,]?$`)
)

// awsSecret: exactly 40 characters, and no SHA-1.
func awsSecret(b []byte) bool { return len(b) == 40 && !hexOnly.Match(b) }

// notAWord keeps "bearer certificates" readable.
func notAWord(b []byte) bool { return !word.Match(bytes.TrimRight(b, "=")) }

// bareSecret: what nobody writes by chance in exactly 40 characters. A path or a
// name of that length has order: few different characters, or words. One secret in
// nine hundred has no digit; then small letters have to take turns with others, as they
// do in all but one in a hundred of these.
func bareSecret(b []byte) bool {
	return len(b) == 40 && bytes.ContainsAny(b, capitals) && bytes.ContainsAny(b, small) && different(b) >= 20 &&
		(bytes.ContainsAny(b, digits) || turns(b) >= 12) && !named.Match(b) && !path(b)
}

// encoded is a check of what stands escaped in a URL (RFC 3986 section 2.1): there / and
// + cut it into pieces.
func encoded(check func([]byte) bool) func([]byte) bool {
	return func(b []byte) bool {
		plain, err := url.PathUnescape(string(b))
		return err == nil && check([]byte(plain))
	}
}

const (
	digits   = "0123456789"
	capitals = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	small    = "abcdefghijklmnopqrstuvwxyz"
)

// named are words and numbers written together, each word with its capital.
var named = regexp.MustCompile(`^(?:[A-Z]?[a-z]{2,}|[0-9]+)+$`)

// path tells whether half of the text is names between slashes. Two short ones
// are in one secret of four thousand.
func path(b []byte) bool {
	n := 0
	names := segment.FindAll(b, -1)
	for _, s := range names {
		n += len(s)
	}
	return len(names) >= 2 && n >= 20
}

var segment = regexp.MustCompile(`/[a-z]{2,}`)

// turns counts how often a small letter follows what is none, or the other way round.
func turns(b []byte) (n int) {
	is := func(c byte) bool { return 'a' <= c && c <= 'z' }
	for i := 1; i < len(b); i++ {
		if is(b[i]) != is(b[i-1]) {
			n++
		}
	}
	return n
}

func different(b []byte) int {
	var seen [256]bool
	n := 0
	for _, c := range b {
		if !seen[c] {
			seen[c] = true
			n++
		}
	}
	return n
}

// generated keeps "token: revoked-verified" and "secret=key/1bf3c7f14a05" readable:
// words, handles and times are no secrets.
func generated(b []byte) bool {
	return !handle.Match(b) && bytes.ContainsAny(b, digits) && (bytes.ContainsAny(b, capitals) || bytes.ContainsAny(b, small)) && !timeLike.Match(b)
}

var (
	handle   = regexp.MustCompile(`^(?:[a-z]+/)+[0-9a-z./-]*$`)
	timeLike = regexp.MustCompile(`^\d{4}-\d\d-\d\dT`)
)
