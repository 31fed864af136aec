package redact_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"rekey/internal/secret"
	"rekey/internal/secret/redact"
)

func redactor(t testing.TB, o redact.Options) *redact.Redactor {
	t.Helper()
	r, err := redact.New(o)
	require.NoError(t, err)
	return r
}

// random gives n characters that look like an AWS secret, with what needs escaping.
func random(t testing.TB, n int) string {
	t.Helper()
	b := make([]byte, n)
	_, err := rand.Read(b)
	require.NoError(t, err)
	s := []byte(base64.StdEncoding.EncodeToString(b)[:n])
	s[n/4], s[n/2] = '/', '+'
	return string(s)
}

func pemKey(t testing.TB) string {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(k)
	require.NoError(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

func TestAKnownValueGoesInEveryCopy(t *testing.T) {
	for range 20 {
		s := random(t, 36) // no shape that is known besides
		r := redactor(t, redact.Options{})
		forget, err := r.Add("known", secret.New([]byte(s)))
		require.NoError(t, err)
		js, err := json.Marshal(s)
		require.NoError(t, err)
		jsInJS, err := json.Marshal(string(js))
		require.NoError(t, err)
		allPercent := ""
		for _, c := range []byte(s) {
			allPercent += fmt.Sprintf("%%%02x", c)
		}
		copies := map[string]string{
			"plain": s, "twice": s + s, "in a word": "x" + s + "y",
			"query": url.QueryEscape(s), "path": url.PathEscape(s), "lower percent": strings.ToLower(url.QueryEscape("/")) + strings.ReplaceAll(s, "/", "%2f"),
			"half escaped": strings.Replace(s, "+", "%2B", 1), "every byte": allPercent, "double": strings.ReplaceAll(url.QueryEscape(s), "%", "%25"),
			"json": string(js), "json in json": string(jsInJS), "json slash": strings.ReplaceAll(s, "/", `\/`), "json unicode": strings.ReplaceAll(s, "+", `\u002B`),
			"html": strings.ReplaceAll(s, "+", "&#43;"), "html hex": strings.ReplaceAll(s, "/", "&#x2F;"),
			"hex": hex.EncodeToString([]byte(s)), "HEX": strings.ToUpper(hex.EncodeToString([]byte(s))),
		}
		for shift := range 3 {
			for tail := range 3 {
				whole := []byte(strings.Repeat("p", shift) + s + strings.Repeat("t", tail))
				for name, e := range map[string]*base64.Encoding{"std": base64.StdEncoding, "url": base64.URLEncoding, "rawstd": base64.RawStdEncoding, "rawurl": base64.RawURLEncoding} {
					copies[fmt.Sprint("base64 ", name, shift, tail)] = e.EncodeToString(whole)
				}
			}
		}
		for name, text := range copies {
			out := r.String("before " + text + " after")
			require.Contains(t, out, "[redacted:known]", name)
			require.True(t, strings.HasPrefix(out, "before ") && strings.HasSuffix(out, " after"), "%s: %s", name, out)
			// what is left beside the marks is less than 4 characters each side, the
			// bits of base64 that neighbours share
			left := strings.ReplaceAll(strings.TrimSuffix(strings.TrimPrefix(out, "before "), " after"), "[redacted:known]", "")
			require.LessOrEqual(t, len(left), 9, "%s leaves %q", name, left)
		}
		require.Equal(t, "nothing here", r.String("nothing here"))
		forget()
		forget()
		require.Equal(t, s, r.String(s), "forgotten")
	}
}

func TestKnownValuesOfOddForms(t *testing.T) {
	key := pemKey(t)
	binary := string([]byte{0, 0xff, 0x1b, '[', 0x80, 'a', 0xc3, 0x28, 7})
	for name, s := range map[string]string{"with newline": "hunter-2-hunter\n", "unicode": "pässwörd€", "quotes": `a"b\c<d>&e`, "short": "hunt"} {
		r := redactor(t, redact.Options{Strip: true})
		_, err := r.Add("v", secret.New([]byte(s)))
		require.NoError(t, err)
		js, err := json.Marshal(strings.TrimSpace(s))
		require.NoError(t, err)
		for _, text := range []string{s, strings.TrimSpace(s), string(js), url.QueryEscape(s)} {
			require.Contains(t, r.String("x="+text+"."), "[redacted:v]", "%s as %q", name, text)
		}
	}
	r := redactor(t, redact.Options{Strip: true})
	_, err := r.Add("bin", secret.New([]byte(binary)))
	require.NoError(t, err)
	require.Equal(t, "a [redacted:bin] b", r.String("a "+binary+" b"), "before control characters are stripped")
	_, err = r.Add("pem", secret.New([]byte(key)))
	require.NoError(t, err)
	line := strings.Split(key, "\n")[1]
	require.Equal(t, "[redacted:pem]", r.String(line), "one line of a longer value")
	_, err = r.Add("x", secret.New([]byte("abc")))
	require.ErrorIs(t, err, redact.ErrTooShort)
	_, err = r.Add("no]name", secret.New([]byte("abcdef")))
	require.Error(t, err)
}

func TestGenericPatterns(t *testing.T) {
	const id = "AKIAIOSFODNN7EXAMPLE"
	s, tok, key := random(t, 40), strings.NewReplacer("/", "x", "+", "y").Replace(random(t, 30))+"7", pemKey(t)
	escaped, err := json.Marshal(key)
	require.NoError(t, err)
	r := redactor(t, redact.Options{})
	for name, c := range map[string]struct{ text, hidden, keeps string }{
		"secret after its id":    {id + "," + s, s, id},
		"secret before its id":   {`{"s":"` + s + `","id":"` + id + `"}`, s, id},
		"credentials file":       {"aws_secret_access_key = " + s, s, "aws_secret_access_key"},
		"json by name":           {`{"SecretAccessKey":"` + s + `"}`, s, "SecretAccessKey"},
		"escaped json by name":   {`"{\"SecretAccessKey\": \"` + s + `\"}"`, s, "SecretAccessKey"},
		"session token":          {"x-amz-security-token: " + tok, tok, "x-amz"},
		"pem":                    {"a\n" + key + "b", strings.Split(key, "\n")[1], "a\n"},
		"pem in json":            {string(escaped), strings.Split(key, "\n")[1], `"`},
		"pem without end":        {"x " + key[:len(key)/2], strings.Split(key, "\n")[1][:30], "x "},
		"bearer":                 {"Authorization: Bearer " + tok, tok, "Authorization"},
		"bearer elsewhere":       {"curl -H 'bearer " + tok + "'", tok, "curl"},
		"basic":                  {`"Authorization": "Basic ` + tok + `"`, tok, "Authorization"},
		"user and password":      {"Get https://user:hunter2@host/x: EOF", "hunter2", "@host/x: EOF"},
		"token as user":          {"https://" + tok + "@github.com/a/b", tok, "github.com/a/b"},
		"password with at":       {"postgres://u:p@ss@db:5432/x", "ss@", "@db:5432"},
		"escaped url":            {`https:\/\/u:hunter2@host`, "hunter2", "@host"},
		"jwt":                    {"t=eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0." + tok, tok, "t="},
		"age identity":           {"AGE-SECRET-KEY-1" + strings.ToUpper(tok), strings.ToUpper(tok), ""},
		"secret alone":           {"found " + s + " in a paste", s, "in a paste"},
		"secret in a url":        {"https://x.example/?k=" + url.QueryEscape(s), s[11:19], "x.example"},
		"github":                 {"x ghp_" + strings.Repeat("a1B2", 9), strings.Repeat("a1B2", 9), "x "},
		"github fine-grained":    {"x github_pat_" + tok, tok, "x "},
		"slack":                  {"x xoxb-1234567890-" + strings.ReplaceAll(tok, "_", "x"), tok, "x "},
		"named password":         {"the password: Tr0ub4dor&3 was used", "Tr0ub4dor&3", "was used"},
		"named in json":          {`{"api_key":"` + tok + `"}`, tok, "api_key"},
		"half redacted userinfo": {"https://[redacted:x]:hunter2@host", "hunter2", "@host"},
	} {
		out := r.String(c.text)
		require.NotContains(t, out, c.hidden, name)
		require.Contains(t, out, "[redacted:", name)
		require.Contains(t, out, c.keeps, name)
		require.Equal(t, out, r.String(out), "%s: twice is once", name)
	}
	for _, harmless := range []string{
		id + " disabled by deploy of da39a3ee5e6b4b0d3255bfef95601890afd80709",
		"bearer certificates, and the bearer token",
		"https://docs.aws.amazon.com/IAM/latest/UserGuide/reference.html#x@y",
		"mail security@example.com now",
		"/home/Runner/work/project2/modules/api/x",
		"/srv/Backup/home/alice/notes/kQ7/tmp/xyz",
		"ListAWSAccountAliasesForOrganizationUnit",
		"secret=key/1bf3c7f14a05 token: revoked-verified",
		"SecurityIncidentResponseRunbookVersion12",
		"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
	} {
		require.Equal(t, harmless, r.String(harmless))
	}
}

// draw makes a secret of 40 characters as AWS does, until it is of the kind asked for.
func draw(t *testing.T, kind func(string) bool) string {
	t.Helper()
	for range 1_000_000 {
		b := make([]byte, 30)
		_, err := rand.Read(b)
		require.NoError(t, err)
		if s := base64.StdEncoding.EncodeToString(b); kind(s) {
			return s
		}
	}
	require.FailNow(t, "no secret is so")
	return ""
}

// smallRuns counts the runs of small letters.
func smallRuns(s string) int { return len(regexp.MustCompile(`[a-z]+`).FindAllString(s, -1)) }

// TestASecretAloneIsSeenWhateverItIsMadeOf: rare ones too, which have no digit, or two
// names between slashes.
func TestASecretAloneIsSeenWhateverItIsMadeOf(t *testing.T) {
	twoNames := regexp.MustCompile(`(?:/[a-z]{2,}){2}`)
	r := redactor(t, redact.Options{})
	for name, kind := range map[string]func(string) bool{
		"any":            func(string) bool { return true },
		"without digits": func(s string) bool { return !strings.ContainsAny(s, "0123456789") && smallRuns(s) >= 7 },
		"like a path":    func(s string) bool { return twoNames.MatchString(s) && strings.Count(s, "/") == 2 },
	} {
		for range 20 {
			s := draw(t, kind)
			require.NotContains(t, r.String("found "+s+" in a paste"), s, name)
			escaped := url.QueryEscape(s)
			require.NotContains(t, r.String("https://x.example/?k="+escaped+"&n=1"), escaped, name)
		}
	}
}

// TestAnEscapedSecretBesideItsIDNeedsNoOrder: beside the id 40 characters are enough.
func TestAnEscapedSecretBesideItsIDNeedsNoOrder(t *testing.T) {
	r := redactor(t, redact.Options{})
	hidden := strings.Repeat("a", 20) + "%2F" + strings.Repeat("b", 19)
	require.NotContains(t, r.String("AKIAIOSFODNN7EXAMPLE "+hidden), hidden)
	require.Contains(t, r.String("x "+hidden), hidden, "without an id it is no secret")
}

func TestPatternsOfProviders(t *testing.T) {
	even := func(b []byte) bool { return len(b)%2 == 0 }
	r := redactor(t, redact.Options{Patterns: []redact.Pattern{
		{Name: "acme/key", Regexp: regexp.MustCompile(`acme_[a-z]+`), Validate: even},
		{Name: "pin", Regexp: regexp.MustCompile(`pin=(?P<secret>\d+)`)},
	}})
	require.Equal(t, "[redacted:acme/key] acme_ab pin=[redacted:pin]", r.String("acme_abc acme_ab pin=1234"))
	for _, bad := range []redact.Pattern{{Name: "x]"}, {Name: "x"}, {Name: "x", Regexp: regexp.MustCompile(`a*`)}} {
		_, err := redact.New(redact.Options{Patterns: []redact.Pattern{bad}})
		require.Error(t, err)
	}
}

func TestTextFromOutsideIsMadePlain(t *testing.T) {
	r := redactor(t, redact.Options{Strip: true, MaxLen: 40})
	s := random(t, 30)
	_, err := r.Add("k", secret.New([]byte(s)))
	require.NoError(t, err)
	for name, c := range map[string][2]string{
		"colours":          {"\x1b[31mred\x1b[0m \x1b]0;title\x07x", "red x"},
		"carriage return":  {"safe\rEVIL", "safeEVIL"},
		"kept":             {"a\tb\nc", "a\tb\nc"},
		"bidi":             {"a\u202eb\u200bc\ufeff", "abc"},
		"invalid utf-8":    {"a\xffb", "a\uFFFDb"},
		"split by invis":   {s[:10] + "\u200b" + s[10:], "[redacted:k]"},
		"split by mark":    {s[:10] + "\u061c" + s[10:], "[redacted:k]"},
		"split by tag":     {s[:10] + "\U000e0041" + s[10:], "[redacted:k]"},
		"split by filler":  {s[:10] + "\u3164" + s[10:], "[redacted:k]"},
		"split by braille": {s[:10] + "\u2800" + s[10:], "[redacted:k]"},
		"split by private": {s[:10] + "\ue000" + s[10:], "[redacted:k]"},
		"split by colours": {s[:10] + "\x1b[1m" + s[10:], "[redacted:k]"},
	} {
		require.Equal(t, c[1], r.String(c[0]), name)
	}
	long := r.String(strings.Repeat("é", 100))
	require.LessOrEqual(t, len(long), 40)
	require.True(t, strings.HasSuffix(long, redact.Cut) && utf8.ValidString(long))
	require.Equal(t, long, r.String(long))
	require.NotContains(t, r.String(strings.Repeat("x", 20)+s), s[:5], "what is cut was redacted before")
	_, err = redact.New(redact.Options{MaxLen: 3})
	require.Error(t, err)
}

func FuzzRedact(f *testing.F) {
	known := random(f, 40)
	r := redactor(f, redact.Options{Strip: true, MaxLen: 1 << 16})
	_, err := r.Add("known", secret.New([]byte(known)))
	require.NoError(f, err)
	f.Add([]byte("https://a:b@c "), []byte("\x1b[1m"))
	f.Add([]byte("AKIAIOSFODNN7EXAMPLE "), []byte(" Bearer "))
	f.Add([]byte("-----BEGIN PRIVATE KEY-----"), []byte("%2F\\u002f"))
	f.Fuzz(func(t *testing.T, before, after []byte) {
		text := append(append(bytes.Clone(before), known...), after...)
		kept := bytes.Clone(text)
		out := r.Bytes(text)
		if !bytes.Equal(text, kept) {
			t.Fatal("the text was changed in place")
		}
		if bytes.Contains(out, []byte(known)) {
			t.Fatalf("the known value is still there: %q", out)
		}
		if !utf8.Valid(out) || len(out) > 1<<16 {
			t.Fatalf("not plain or too long: %q", out)
		}
		if again := r.Bytes(out); !bytes.Equal(again, out) && bytes.Contains(again, []byte(known)) {
			t.Fatalf("redacting twice brings it back: %q", again)
		}
	})
}

func BenchmarkBytes(b *testing.B) {
	r := redactor(b, redact.Options{Strip: true})
	for range 10 {
		_, err := r.Add("k", secret.New([]byte(random(b, 40))))
		require.NoError(b, err)
	}
	line := []byte(strings.Repeat("time=2026-11-21T03:00:00.000Z level=INFO msg=done item=a41c09be77d2 ", 3))
	b.SetBytes(int64(len(line)))
	for b.Loop() {
		r.Bytes(line)
	}
}
