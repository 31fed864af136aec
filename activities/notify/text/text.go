// Package text makes text of unknown origin fit to be shown: it takes out what is
// not visible or reorders what is, and cuts to a length with a mark. Escaping for a
// markup is the channel's own. It also says the sentences of a card that every
// channel says alike, as plain text.
package text

import (
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Mark ends what was cut.
const Mark = "…"

// maxMarks is how many combining marks may follow each other: more is no writing
// system's but a way to paint over the lines above and below.
const maxMarks = 3

// maxInput bounds the work on one text; a person's field is never that long.
const maxInput = 1 << 20

// Line gives s in one line of at most n characters: control and format characters
// (bidi overrides and isolates, zero-width characters, tags) and other invisible
// ones are taken out, white space and line breaks become one space each, invalid
// UTF-8 becomes U+FFFD. A character is counted as UTF-16 counts it, which is never
// less than any vendor does. What is cut ends in [Mark].
func Line(s string, n int) string {
	return Cut(strings.Join(strings.Fields(clean(s)), " "), n)
}

// Lines is [Line] for text of several lines, of which at most rows are kept. Empty
// lines are left out.
func Lines(s string, n, rows int) string {
	var out []string
	for line := range strings.Lines(strings.ReplaceAll(clean(s), "\r", "\n")) {
		if line = strings.Join(strings.Fields(line), " "); line == "" {
			continue
		}
		if len(out) == rows {
			out = append(out[:rows-1], out[rows-1]+" "+Mark)
			break
		}
		out = append(out, line)
	}
	return Cut(strings.Join(out, "\n"), n)
}

// Cut gives at most n characters (as UTF-16 counts) of s, the last of them [Mark]
// when something is missing.
func Cut(s string, n int) string {
	if Len(s) <= n {
		return s
	}
	if n < 1 {
		return ""
	}
	left := n - 1
	for i, r := range s {
		if left -= utf16.RuneLen(r); left < 0 {
			return strings.TrimRight(s[:i], " \n") + Mark
		}
	}
	return s
}

// Len counts s as UTF-16 does. s is valid UTF-8.
func Len(s string) int {
	n := 0
	for _, r := range s {
		n += utf16.RuneLen(r)
	}
	return n
}

func clean(s string) string {
	if len(s) > maxInput {
		s = s[:maxInput] + Mark
	}
	s = strings.ToValidUTF8(s, string(utf8.RuneError))
	var b strings.Builder
	b.Grow(len(s))
	marks := 0
	for _, r := range s {
		switch {
		case unicode.Is(unicode.M, r):
			if marks++; marks <= maxMarks {
				b.WriteRune(r)
			}
			continue
		case r == '\n' || r == '\r':
			b.WriteRune(r)
		case r == '\u2028' || r == '\u2029' || r == '\u0085': // line and paragraph separators, next line
			b.WriteRune('\n')
		case unicode.IsSpace(r):
			b.WriteRune(' ')
		case hidden(r):
		default:
			b.WriteRune(r)
		}
		marks = 0
	}
	return b.String()
}

// hidden tells the characters that show nothing, or nothing of their own: category
// C (control, format, surrogate, private use, unassigned) and the fillers that
// Unicode counts as letters (https://www.unicode.org/reports/tr36/, section 2).
func hidden(r rune) bool {
	switch r {
	case '\u115f', '\u1160', '\u3164', '\uffa0', '\u2800':
		return true
	}
	return r != utf8.RuneError && !unicode.IsGraphic(r)
}
