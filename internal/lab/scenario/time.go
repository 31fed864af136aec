package scenario

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Duration is a span of world time. It is written as Go writes it, and additionally with days:
// `90s`, `1h30m`, `718d`, `1d12h`.
type Duration time.Duration

// D gives the span as a time.Duration.
func (d Duration) D() time.Duration { return time.Duration(d) }

var daysPart = regexp.MustCompile(`^([+-]?)(\d+)d`)

// ParseDuration reads a duration with an optional leading number of days.
func ParseDuration(s string) (time.Duration, error) {
	bad := fmt.Errorf("%q is not a duration: write it like 90s, 1h30m, 718d or 1d12h", s)
	m := daysPart.FindStringSubmatch(s)
	if m == nil {
		d, err := time.ParseDuration(s)
		if err != nil {
			return 0, bad
		}
		return d, nil
	}
	days, err := strconv.ParseInt(m[2], 10, 32)
	if err != nil || days > 100_000 {
		return 0, bad
	}
	total := time.Duration(days) * 24 * time.Hour
	if rest := s[len(m[0]):]; rest != "" {
		if strings.HasPrefix(rest, "-") || strings.HasPrefix(rest, "+") {
			return 0, bad
		}
		d, err := time.ParseDuration(rest)
		if err != nil || d > 100_000*time.Hour {
			return 0, bad
		}
		total += d
	}
	if m[1] == "-" {
		total = -total
	}
	return total, nil
}

func (d *Duration) parse(s string) error {
	v, err := ParseDuration(s)
	*d = Duration(v)
	return err
}

// When is a point of world time: `T0`, `T0-718d`, `T0+6h`, or an absolute RFC 3339 time.
type When struct {
	abs      time.Time
	offset   time.Duration
	relative bool
}

// ParseWhen reads a time expression.
func ParseWhen(s string) (When, error) {
	if s == "T0" {
		return When{relative: true}, nil
	}
	if strings.HasPrefix(s, "T0+") || strings.HasPrefix(s, "T0-") {
		d, err := ParseDuration(s[3:])
		if err != nil || d < 0 {
			return When{}, fmt.Errorf("%q: after T0+ or T0- comes a duration like 6h or 718d", s)
		}
		if s[2] == '-' {
			d = -d
		}
		return When{relative: true, offset: d}, nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return When{}, fmt.Errorf("%q is not a time: write T0, T0-718d, T0+6h or 2019-08-20T00:00:00Z", s)
	}
	return When{abs: t.UTC()}, nil
}

func (w *When) parse(s string) error {
	v, err := ParseWhen(s)
	*w = v
	return err
}

// Resolve gives the point of time for a T0, in UTC.
func (w When) Resolve(t0 time.Time) time.Time {
	if w.relative {
		return t0.Add(w.offset).UTC()
	}
	return w.abs
}

// IsZero tells whether no time was given.
func (w When) IsZero() bool { return !w.relative && w.abs.IsZero() }

// String gives the expression back.
func (w When) String() string {
	switch {
	case w.relative && w.offset == 0:
		return "T0"
	case w.relative && w.offset > 0:
		return "T0+" + w.offset.String()
	case w.relative:
		return "T0" + w.offset.String()
	default:
		return w.abs.Format(time.RFC3339)
	}
}

// Frequency is a number of calls in a span, written `15/s`, `60/m` or `3/h`.
type Frequency struct {
	Count int
	Per   time.Duration
}

func (f *Frequency) parse(s string) error {
	bad := fmt.Errorf("%q is not a rate: write 15/s, 60/m or 3/h", s)
	n, per, ok := strings.Cut(s, "/")
	if !ok {
		return bad
	}
	count, err := strconv.Atoi(n)
	if err != nil || count < 1 {
		return bad
	}
	span, ok := map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour}[per]
	if !ok {
		return bad
	}
	*f = Frequency{Count: count, Per: span}
	return nil
}

// Rate is the limit of an API: a rate alone, or with what a caller above it is told.
type Rate struct {
	Rate Frequency `yaml:"rate"`
	// RetryAfter is how long such a caller is told to wait; until then it is refused.
	RetryAfter Duration `yaml:"retry_after"`
	// Status of the refusal; default 400, as IAM does it, and 429 with a retry_after.
	Status int `yaml:"status"`
}

func (r *Rate) parse(s string) error { return r.Rate.parse(s) }

// Span is a time, or a stretch of time over which many things are spread: `T0+5m`, or
// `{from: T0+5m, to: T0+2h}`.
type Span struct {
	From When `yaml:"from"`
	To   When `yaml:"to"`
}

func (s *Span) parse(text string) error {
	if err := s.From.parse(text); err != nil {
		return err
	}
	s.To = s.From
	return nil
}

// IsZero tells whether no time was given.
func (s Span) IsZero() bool { return s.From.IsZero() && s.To.IsZero() }

// at gives the time of the i-th of n things, the first at the beginning, the last at the end.
func (s Span) at(i, n int, t0 time.Time) When {
	from, to := s.From.Resolve(t0), s.To.Resolve(t0)
	if n > 1 {
		from = from.Add(to.Sub(from) / time.Duration(n-1) * time.Duration(i)).Truncate(time.Millisecond)
	}
	return When{abs: from}
}
