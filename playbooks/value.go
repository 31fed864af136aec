package playbooks

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Duration is a length of time that files and JSON write as text: a Go duration,
// or whole days ("72h", "90d", "1d12h").
type Duration time.Duration

// Std gives the duration to the standard library.
func (d Duration) Std() time.Duration { return time.Duration(d) }

// IsZero is for `omitzero`.
func (d Duration) IsZero() bool { return d == 0 }

// String writes whole weeks of days and more in days, the rest as Go does without
// its zero parts: one length has one text, so digests are stable.
func (d Duration) String() string {
	const day = 24 * time.Hour
	s := d.Std()
	if s >= 7*day && s%day == 0 {
		return strconv.FormatInt(int64(s/day), 10) + "d"
	}
	t := s.String()
	if strings.HasSuffix(t, "m0s") {
		t = strings.TrimSuffix(t, "0s")
	}
	if strings.HasSuffix(t, "h0m") {
		t = strings.TrimSuffix(t, "0m")
	}
	return t
}

// MarshalText is used by JSON and YAML.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText is used by JSON and YAML.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := ParseDuration(string(b))
	if err != nil {
		return err
	}
	*d = v
	return nil
}

// ParseDuration reads a Go duration that may begin with whole days. Negative
// lengths are refused.
func ParseDuration(s string) (Duration, error) {
	bad := fmt.Errorf("%q is not a duration: write it like 30s, 15m, 72h or 90d", s)
	var total time.Duration
	rest := s
	if days, after, ok := strings.Cut(s, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 32)
		if err != nil || n > math.MaxInt64/uint64(24*time.Hour) {
			return 0, bad
		}
		total, rest = time.Duration(n)*24*time.Hour, after
		if rest == "" {
			return Duration(total), nil
		}
	}
	v, err := time.ParseDuration(rest)
	if err != nil || v < 0 || strings.ContainsAny(rest, "+-") || total > math.MaxInt64-v {
		return 0, bad
	}
	return Duration(total + v), nil
}

// Rate is a number of calls per second, minute or hour: "10/s".
type Rate string

var errRate = errors.New("a rate is a whole number per s, m or h, like 10/s")

// Parse gives the number of calls and the time for which it holds.
func (r Rate) Parse() (calls int64, per time.Duration, err error) {
	n, unit, ok := strings.Cut(string(r), "/")
	if !ok {
		return 0, 0, errRate
	}
	calls, err = strconv.ParseInt(n, 10, 32)
	if err != nil || calls < 1 {
		return 0, 0, errRate
	}
	switch unit {
	case "s":
		per = time.Second
	case "m":
		per = time.Minute
	case "h":
		per = time.Hour
	default:
		return 0, 0, errRate
	}
	return calls, per, nil
}

// Placeholders are the names that may stand in double braces in names of stores.
func Placeholders() []string {
	return []string{"item.owner", "item.provider", "item.account", "item.kind", "item.principal"}
}

var placeholder = regexp.MustCompile(`\{\{\s*([^{}]*?)\s*\}\}`)

// PlaceholdersIn lists the placeholders of s in their order.
func PlaceholdersIn(s string) []string {
	var out []string
	for _, m := range placeholder.FindAllStringSubmatch(s, -1) {
		out = append(out, m[1])
	}
	return out
}

// Bind fills the placeholders of s. A placeholder without a value is an error that
// names it: a secret is never put under a half-filled name.
func Bind(s string, value func(name string) (string, bool)) (string, error) {
	var err error
	out := placeholder.ReplaceAllStringFunc(s, func(m string) string {
		name := placeholder.FindStringSubmatch(m)[1]
		v, ok := value(name)
		if !ok || v == "" {
			if err == nil {
				err = fmt.Errorf("{{%s}} has no value for this item: give it in the estate file, or write a fixed name", name)
			}
			return ""
		}
		return v
	})
	if err != nil {
		return "", err
	}
	return out, nil
}
