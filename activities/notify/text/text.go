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

// Line gives s in one line of at most n characters: control and format characters
// (bidi overrides and isolates, zero-width characters, tags) and other invisible
// ones are taken out, white space and line breaks become one space each, invalid
// UTF-8 becomes U+FFFD. A character is counted as UTF-16 counts it, which is never
// less than any vendor does. What is cut ends in [Mark].
func Line(s string, n int) string { return Cut(clean(s, n, false), n) }

// Lines is [Line] for text of several lines, of which at most rows are kept. Empty
// lines are left out.
func Lines(s string, n, rows int) string {
	lines := strings.Split(clean(s, n, true), "\n")
	if len(lines) > rows {
		lines = append(lines[:rows-1], lines[rows-1]+" "+Mark)
	}
	return Cut(strings.Join(lines, "\n"), n)
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

// clean gives what is visible of s with white space made one, and stops soon after n
// characters: the rest would be cut off anyway.
func clean(s string, n int, lines bool) string {
	var b strings.Builder
	marks, size := 0, 0
	var gap rune          // what white space there was since the last visible character
	for _, r := range s { // invalid UTF-8 comes as U+FFFD
		if size > n+1 {
			break
		}
		switch {
		case lines && (r == '\n' || r == '\r' || r == '\u2028' || r == '\u2029' || r == '\u0085'): // also line and paragraph separators, next line
			gap = '\n'
			continue
		case unicode.IsSpace(r):
			if gap == 0 {
				gap = ' '
			}
			continue
		case hidden(r):
			continue
		case unicode.Is(unicode.M, r):
			if marks++; marks > maxMarks {
				continue
			}
		default:
			marks = 0
		}
		if gap != 0 && size > 0 {
			b.WriteRune(gap)
			size++
		}
		gap = 0
		b.WriteRune(r)
		size += utf16.RuneLen(r)
	}
	return b.String()
}

// Hidden tells the characters that [Line] takes out; line breaks are among them. Who
// looks for something in a text before it is shown takes them out first.
func Hidden(r rune) bool { return hidden(r) }

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
