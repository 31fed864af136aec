package github

import (
	"regexp"
	"strings"

	"rekey/activities/notify/text"
)

// gap stands between what GitHub would otherwise make a mention, a reference or a
// link of: its filters look at the text after Markdown was rendered, so neither a
// backslash nor an entity of the character itself keeps them off.
const gap = "&#8203;" // zero width space

var (
	// CommonMark: any ASCII punctuation may be escaped by a backslash
	// (https://spec.commonmark.org/0.31.2/#backslash-escapes). & < > become entities.
	punctuation = regexp.MustCompile("[\\\\`*_{}\\[\\]()#+.!|~$:=\"'^%,;/?-]")
	// GFM's extended autolinks (https://github.github.com/gfm/#autolinks-extension-) and
	// GitHub's own references
	// (https://docs.github.com/en/get-started/writing-on-github/working-with-advanced-formatting/autolinked-references-and-urls):
	// addresses, commits by 7 to 40 hex digits, GH-1.
	www    = regexp.MustCompile(`(?i)\bwww\.`)
	commit = regexp.MustCompile(`(?i)[0-9a-f]{7,}`)
	ghNum  = regexp.MustCompile(`(?i)\bGH-`)
	scheme = regexp.MustCompile(`(?i)\b(https?|ftp|mailto|xmpp)(:)`)
)

// esc makes Markdown of plain text in one line that shows as that text: no formatting,
// no HTML, no link, no mention, no reference, nothing that closes another issue.
func esc(s string) string {
	var b strings.Builder
	last := 0
	for _, m := range marks(s) {
		b.WriteString(markdown(s[last:m]))
		b.WriteString(gap)
		last = m
	}
	b.WriteString(markdown(s[last:]))
	return b.String()
}

// marks gives the places, in order, where a gap is wanted.
func marks(s string) []int {
	at := map[int]bool{}
	for i, r := range s {
		if r == '@' || r == '#' {
			at[i+1] = true
		}
	}
	for _, m := range www.FindAllStringIndex(s, -1) {
		at[m[0]+2] = true
	}
	for _, m := range ghNum.FindAllStringIndex(s, -1) {
		at[m[1]] = true
	}
	for _, m := range scheme.FindAllStringIndex(s, -1) {
		at[m[1]-1] = true
	}
	for _, m := range commit.FindAllStringIndex(s, -1) {
		for i := m[0] + 6; i < m[1]; i += 6 {
			at[i] = true
		}
	}
	var out []int
	for i := range s {
		if at[i] {
			out = append(out, i)
		}
	}
	return out
}

func markdown(s string) string {
	s = punctuation.ReplaceAllString(s, `\$0`)
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(s)
}

// line makes Markdown of one line of at most n characters, before it is escaped.
func line(s string, n int) string { return esc(text.Line(s, n)) }

// code shows an identifier as it is: in a code span GitHub neither formats nor links.
// A span cannot hold its own marks, and must not begin or end with them.
func code(s string, n int) string {
	s = strings.NewReplacer("`", "'", "<!--", "<! --").Replace(text.Line(s, n))
	if s == "" {
		return "unknown"
	}
	return "`" + strings.ReplaceAll(s, "|", "\u2223") + "`" // a table would be cut there
}

// marker is the hidden comment by which an issue or a comment is found; it counts only
// where we write it, at the very beginning. Only ids are
// ever in it; anything else would have to be kept from ending the comment.
func marker(m string) string { return "<!-- rekey:" + markerText(m) + " -->" }

func markerText(m string) string {
	return strings.Map(func(r rune) rune {
		if r == '-' || r == '/' || r == '_' || r == '.' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '.'
	}, strings.ReplaceAll(m, "--", "-."))
}
