package config

import (
	"errors"
	"fmt"
	"net"
	"net/mail"
	neturl "net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"rekey/internal/nearest"
	"rekey/playbooks"
)

// The checks below give a sentence that follows the key: what is wrong and what
// to write instead. They show the value only where its form makes it certain
// that it is not a secret put into the wrong place.

func all(checks []func(string) error) func(string) error {
	return func(s string) error {
		for _, c := range checks {
			if err := c(s); err != nil {
				return err
			}
		}
		return nil
	}
}

func word(words ...string) func(string) error {
	return func(s string) error {
		if slices.Contains(words, s) {
			return nil
		}
		if n := nearest.Word(s, words); n != "" {
			return fmt.Errorf("%q is not known here (did you mean %q?)", s, n)
		}
		return fmt.Errorf("the value is not known here: write %s", oneOf(words))
	}
}

func oneOf(words []string) string {
	if len(words) == 1 {
		return words[0]
	}
	return "one of " + strings.Join(words, ", ")
}

func address(s string) error {
	host, p, err := net.SplitHostPort(s)
	if err != nil {
		return errors.New("not an address: write host:port, such as 127.0.0.1:8443")
	}
	if n, err := strconv.Atoi(p); err != nil || n < 0 || n > 65535 {
		return errors.New("the port is not a number from 0 to 65535")
	}
	if host == "" {
		return errors.New("no host: write 127.0.0.1 for this machine only, or 0.0.0.0 for every network, before the port")
	}
	return hostName(strings.Trim(host, "[]"))
}

var hostRE = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?$`)

func hostName(s string) error {
	if net.ParseIP(s) == nil && !hostRE.MatchString(s) {
		return errors.New("not a host name or IP address")
	}
	return nil
}

func port(s string) error {
	if n, err := strconv.Atoi(s); err != nil || n < 1 || n > 65535 {
		return errors.New("not a port: write a number from 1 to 65535")
	}
	return nil
}

func duration(s string) error {
	d, err := playbooks.ParseDuration(s)
	if err != nil {
		return errors.New("not a duration: write it like 30s, 15m, 72h or 90d")
	}
	if d == 0 {
		return errors.New("a duration of zero makes no sense here: write it like 72h")
	}
	return nil
}

func rate(s string) error {
	if _, _, err := playbooks.Rate(s).Parse(); err != nil {
		return errors.New("not a rate: write a whole number per s, m or h, like 15/s")
	}
	return nil
}

func url(s string) error {
	u, err := neturl.Parse(s)
	switch {
	case err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https"):
		return errors.New("not a URL: write it like https://host or http://127.0.0.1:5000")
	case u.User != nil:
		return errors.New("a user name or password is in the URL: take it out and give credentials as *_file or *_env; treat the value as exposed")
	case u.RawQuery != "" || u.Fragment != "":
		return errors.New("a base URL has no query and no fragment")
	}
	return nil
}

// endpoint is a provider's base URL: of HTTP, or of a PostgreSQL server, whose one
// parameter is sslmode.
func endpoint(s string) error {
	u, err := neturl.Parse(s)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return url(s)
	}
	q := u.Query()
	q.Del("sslmode")
	switch {
	case u.User != nil:
		return errors.New("a user name or password is in the URL: take it out and give settings.user and credentials.password_file; treat a password as exposed")
	case u.Host == "":
		return errors.New("not a URL: write it like postgres://db.example.com:5432/app?sslmode=verify-full")
	case len(q) > 0 || u.Fragment != "":
		return errors.New("a PostgreSQL URL takes sslmode and no other parameter")
	}
	return nil
}

var nameRE = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)

func name(s string) error {
	if !nameRE.MatchString(s) {
		return errors.New("not a name: letters, digits, dot, dash and underscore, at most 128")
	}
	return nil
}

func plain(s string) error {
	for _, r := range s {
		if r < 0x20 || r == 0x7f {
			return errors.New("a control character is in the value: write it on one line")
		}
	}
	if len(s) > 512 {
		return errors.New("longer than 512 bytes")
	}
	return nil
}

// origin follows C2SP note: a key name has no spaces and no plus
// (https://c2sp.org/signed-note).
func origin(s string) error {
	if s == "" || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == '+' || r == 0x7f }) {
		return errors.New("not an origin: write a name without spaces and plus signs, such as example.com/rekey")
	}
	return nil
}

var (
	slackRE = regexp.MustCompile(`^[TE][A-Z0-9]{2,20}/[UW][A-Z0-9]{2,20}$`)

	repositoryRE = regexp.MustCompile(`^[A-Za-z0-9._-]{1,100}/[A-Za-z0-9._-]{1,100}$`)
	slackTeamRE  = regexp.MustCompile(`^[TE][A-Z0-9]{2,20}$`)
	slackGroupRE = regexp.MustCompile(`^S[A-Z0-9]{2,20}$`)

	// https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
	bucketRE = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)
	prefixRE = regexp.MustCompile(`^([A-Za-z0-9_][A-Za-z0-9._-]*/)*[A-Za-z0-9_][A-Za-z0-9._-]*/?$`)

	digestRE = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)
	envRE    = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,127}$`)
	minRE    = regexp.MustCompile(`^min\(\s*(\d{1,6})\s*,\s*(\d{1,3})\s*%\s*\)$`)
)

func slackTeam(s string) error {
	if s != "" && !slackTeamRE.MatchString(s) {
		return errors.New("not the id of a Slack workspace, such as T0123ABCD: it stands in the address of Slack in a browser")
	}
	return nil
}

func repository(s string) error {
	if s != "" && !repositoryRE.MatchString(s) {
		return errors.New("not a repository: write owner/name, such as acme/security")
	}
	return nil
}

// keyPattern names keys: one by its public id, or all of a provider or account.
func keyPattern(s string) error {
	if s == "" || strings.ContainsAny(s, "*? \t") {
		return errors.New("not a key: write its public id, a provider, or provider/account; there are no wildcards")
	}
	return plain(s)
}

func bucketName(s string) error {
	if s != "" && !bucketRE.MatchString(s) {
		return errors.New("not the name of a bucket: 3 to 63 lower-case letters, digits, dots and dashes")
	}
	return nil
}

func keyPrefix(s string) error {
	if s != "" && (len(s) > 200 || !prefixRE.MatchString(s)) {
		return errors.New("not a prefix: names of letters, digits, dot, dash and underscore, parted by slashes, such as rekey/prod")
	}
	return nil
}

func slackGroup(s string) error {
	if !slackGroupRE.MatchString(s) {
		return errors.New("not the id of a Slack user group, such as S0123ABCD")
	}
	return nil
}

func slackID(s string) error {
	if !slackRE.MatchString(s) {
		return errors.New("not a Slack identity: write team/user ids, such as T0123/U024BE7LH; display names can be changed by anyone")
	}
	return nil
}

func oidcSubject(s string) error {
	issuer, subject, ok := strings.Cut(s, "|")
	u, err := neturl.Parse(issuer)
	if !ok || subject == "" || err != nil || u.Scheme != "https" || u.Host == "" {
		return errors.New("not an OIDC identity: write issuer|subject, such as https://idp.example.com|248289")
	}
	return nil
}

func mailAddress(s string) error {
	if a, err := mail.ParseAddress(s); err != nil || a.Address != s {
		return errors.New("not a mail address: write it like security@example.com")
	}
	return nil
}

func digest(s string) error {
	if !digestRE.MatchString(s) {
		return errors.New("not a digest: write sha256: and 64 hex digits, as `rekey playbook validate` prints them")
	}
	return nil
}

// envName does not show the value: a secret put there by mistake is likely.
func envName(s string) error {
	if !envRE.MatchString(s) {
		return errors.New("not the name of an environment variable; if this is the secret itself, take it out of this file and treat it as exposed")
	}
	return nil
}

func notEmptyPath(s string) error {
	if strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r == 0x7f }) || len(s) > 4096 {
		return errors.New("not a path; if this is the secret itself, take it out of this file and treat it as exposed")
	}
	return nil
}

// pattern is a glob over provider/account/kind-or-principal.
func pattern(s string) error {
	if _, err := path.Match(s, ""); err != nil || s == "" || strings.Count(s, "/") > 2 || plain(s) != nil {
		return errors.New("not a pattern: write provider/account/kind or provider/account/principal, with * where anything may stand, such as awsiam/prod/root")
	}
	return nil
}

func atLeast(least int) func(string) error {
	return func(s string) error {
		if n, err := strconv.Atoi(s); err != nil || n < least || n > 1_000_000 {
			return fmt.Errorf("not a whole number of at least %d", least)
		}
		return nil
	}
}

func perAccount(s string) error {
	if _, err := parsePerAccount(s); err != nil {
		return err
	}
	return nil
}

// parsePerAccount reads "10", "1%" or "min(10, 1%)".
func parsePerAccount(s string) (PerAccount, error) {
	bad := errors.New("not a limit: write a number, a percentage of the live keys, or both, such as min(10, 1%)")
	s = strings.TrimSpace(s)
	number, percent := s, ""
	if m := minRE.FindStringSubmatch(s); m != nil {
		number, percent = m[1], m[2]
	} else if p, ok := strings.CutSuffix(s, "%"); ok {
		number, percent = "", p
	}
	out := PerAccount{Keys: -1, Percent: 100}
	var err error
	if number != "" {
		if out.Keys, err = strconv.Atoi(number); err != nil || out.Keys < 0 {
			return PerAccount{}, bad
		}
	}
	if percent != "" {
		if out.Percent, err = strconv.Atoi(percent); err != nil || out.Percent < 0 || out.Percent > 100 {
			return PerAccount{}, bad
		}
	}
	return out, nil
}
