package redact

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"rekey/internal/secret"
)

// known is one exact value in all its forms.
type known struct {
	name    string
	needles [][]byte // longest first
	// mixed matches the value with any of its bytes escaped, in any of the ways of
	// URLs, JSON, C and HTML; nil for long values.
	mixed *regexp.Regexp
}

const (
	// minEncoded: shorter values are not sought in base64 or hex, whose fragments
	// would be found anywhere.
	minEncoded = 8
	// maxMixed bounds the size of the regular expression.
	maxMixed = 256
	// minLine: lines of a longer value that are sought by themselves.
	minLine = 16
)

func newKnown(name string, v secret.Value) *known {
	raw := v.Reveal()
	k := &known{name: name}
	values := [][]byte{raw}
	for line := range bytes.Lines(raw) { // a PEM block is often taken apart
		if line = bytes.TrimSpace(line); len(line) >= minLine && len(line) < len(raw) && !bytes.HasPrefix(line, []byte("-----")) {
			values = append(values, line)
		}
	}
	if trimmed := bytes.TrimSpace(raw); len(trimmed) >= MinKnown && len(trimmed) < len(raw) {
		values = append(values, trimmed)
	}
	for _, value := range values {
		k.needles = append(k.needles, encodings(value)...)
	}
	slices.SortFunc(k.needles, func(a, b []byte) int {
		if len(a) != len(b) {
			return len(b) - len(a)
		}
		return bytes.Compare(a, b)
	})
	k.needles = slices.CompactFunc(k.needles, bytes.Equal)
	if short := bytes.TrimSpace(raw); len(short) <= maxMixed {
		k.mixed = mixed(short)
	}
	return k
}

func (k *known) find(text []byte, spans []span) []span {
	for _, n := range k.needles {
		for pos := 0; ; {
			i := bytes.Index(text[pos:], n)
			if i < 0 {
				break
			}
			spans = append(spans, span{pos + i, pos + i + len(n), k.name})
			pos += i + 1 // copies may overlap
		}
	}
	if k.mixed != nil && bytes.ContainsAny(text, `%\&`) {
		for _, m := range k.mixed.FindAllIndex(text, -1) {
			spans = append(spans, span{m[0], m[1], k.name})
		}
	}
	return spans
}

// encodings are the forms in which a value is usually copied.
func encodings(v []byte) [][]byte {
	s := string(v)
	out := [][]byte{v, []byte(url.QueryEscape(s)), []byte(url.PathEscape(s))}
	if j, err := json.Marshal(s); err == nil {
		once := j[1 : len(j)-1]
		out = append(out, once)
		if twice, err := json.Marshal(string(once)); err == nil { // JSON in a JSON string
			out = append(out, twice[1:len(twice)-1])
		}
	}
	if len(v) < minEncoded {
		return out
	}
	h := hex.EncodeToString(v)
	out = append(out, []byte(h), []byte(strings.ToUpper(h)))
	for _, enc := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding} {
		whole := enc.EncodeToString(v)
		out = append(out, []byte(whole), []byte(strings.TrimRight(whole, "=")), []byte(url.QueryEscape(whole)))
		for shift := range 3 {
			out = append(out, inside(enc, v, shift))
		}
	}
	return out
}

// inside is the part of the base64 of a longer text that v alone determines, when
// v starts shift bytes after a group of three.
func inside(enc *base64.Encoding, v []byte, shift int) []byte {
	text := enc.WithPadding(base64.NoPadding).EncodeToString(append(make([]byte, shift), v...))
	first := (8*shift + 5) / 6
	last := 8 * (shift + len(v)) / 6
	return []byte(text[first:last])
}

// mixed builds the expression of a value whose bytes may each be escaped:
// %2F, \u002f, \x2f, \/, &#47; or &#x2f;.
func mixed(v []byte) *regexp.Regexp {
	var b strings.Builder
	for _, c := range v {
		fmt.Fprintf(&b, `(?:%%(?:25)?(?i:%02x)|\\+(?:(?i:u00%02x|x%02x)|%s)|&#0*%d;|&#(?i:x0*%x);`, c, c, c, quoted(c), c, c)
		if c < 0x80 {
			b.WriteString("|" + quoted(c))
		} else {
			fmt.Fprintf(&b, `|\x{fffd}`) // already replaced by someone; the neighbours still match
		}
		b.WriteString(")")
	}
	return regexp.MustCompile(b.String())
}

func quoted(c byte) string {
	switch c {
	case '\n':
		return "n"
	case '\t':
		return "t"
	case '\r':
		return "r"
	}
	if c >= 0x80 {
		return `\x{fffd}`
	}
	return regexp.QuoteMeta(string(rune(c)))
}
