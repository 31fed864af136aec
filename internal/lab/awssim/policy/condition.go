package policy

import (
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// test compares the request's value with one of the policy's.
type test func(got, want string) bool

// op is a condition operator. A negated operator holds when no value matches, and holds for an
// absent key; a plain one holds when any value matches, and never for an absent key.
type op struct {
	test   test
	negate bool
}

func operators() map[string]op {
	equals := func(got, want string) bool { return got == want }
	like := func(got, want string) bool { return Match(want, got, false) }
	return map[string]op{
		"StringEquals":              {test: equals},
		"StringNotEquals":           {test: equals, negate: true},
		"StringEqualsIgnoreCase":    {test: strings.EqualFold},
		"StringNotEqualsIgnoreCase": {test: strings.EqualFold, negate: true},
		"StringLike":                {test: like},
		"StringNotLike":             {test: like, negate: true},
		"ArnEquals":                 {test: like},
		"ArnLike":                   {test: like},
		"ArnNotEquals":              {test: like, negate: true},
		"ArnNotLike":                {test: like, negate: true},
		"Bool":                      {test: strings.EqualFold},
		"IpAddress":                 {test: inRange},
		"NotIpAddress":              {test: inRange, negate: true},
		"DateEquals":                {test: date(func(c int) bool { return c == 0 })},
		"DateNotEquals":             {test: date(func(c int) bool { return c == 0 }), negate: true},
		"DateLessThan":              {test: date(func(c int) bool { return c < 0 })},
		"DateLessThanEquals":        {test: date(func(c int) bool { return c <= 0 })},
		"DateGreaterThan":           {test: date(func(c int) bool { return c > 0 })},
		"DateGreaterThanEquals":     {test: date(func(c int) bool { return c >= 0 })},
	}
}

var table = operators()

func operator(name string) (op, bool) {
	if name == "Null" {
		return op{}, true
	}
	o, ok := table[strings.TrimSuffix(name, "IfExists")]
	return o, ok
}

func (c Condition) holds(ctx Context) bool {
	got, present := ctx[c.Key]
	if c.Operator == "Null" {
		for _, v := range c.Values {
			if strings.EqualFold(v, strconv.FormatBool(!present)) {
				return true
			}
		}
		return false
	}
	o, ok := operator(c.Operator)
	if !ok {
		return false
	}
	if !present {
		return o.negate || strings.HasSuffix(c.Operator, "IfExists")
	}
	for _, want := range c.Values {
		if o.test(got, want) {
			return !o.negate
		}
	}
	return o.negate
}

func inRange(got, want string) bool {
	addr, err := netip.ParseAddr(got)
	if err != nil {
		return false
	}
	if prefix, err := netip.ParsePrefix(want); err == nil {
		return prefix.Contains(addr)
	}
	single, err := netip.ParseAddr(want)
	return err == nil && single == addr
}

func date(holds func(compare int) bool) test {
	return func(got, want string) bool {
		g, err1 := parseDate(got)
		w, err2 := parseDate(want)
		return err1 == nil && err2 == nil && holds(g.Compare(w))
	}
}

// parseDate reads ISO 8601 in the W3C profile or epoch seconds, as AWS does.
func parseDate(s string) (time.Time, error) {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return time.Unix(n, 0), nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04Z07:00", "2006-01-02"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	return time.Parse(time.RFC3339Nano, s)
}
