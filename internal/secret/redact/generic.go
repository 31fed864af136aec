package redact

import (
	"bytes"
	"regexp"
)

// Generic patterns hold whatever providers are configured.
//
//   - Private keys: RFC 7468 textual encodings, with newlines real or escaped; a
//     block without its end goes to the end of the text.
//   - AWS secret access keys: 40 characters of base64, told from other text by an
//     access key id near by or by their name
//     (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html).
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
