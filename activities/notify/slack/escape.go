package slack

import (
	"regexp"
	"strings"

	"github.com/slack-go/slack"

	"rekey/activities/notify/text"
)

// Slack's limits, https://docs.slack.dev/reference/block-kit/blocks and
// .../composition-objects: characters unless said otherwise.
const (
	maxHeader    = 150
	maxSection   = 3000
	maxField     = 2000
	maxBlocks    = 50
	maxConfirm   = 75 // the title; the page says 100
	maxConfirmIn = 300
	maxFallback  = 3000
	// maxJSON bounds all blocks of a message together, in bytes of JSON. Slack gives
	// msg_blocks_too_long from about 13,200 characters on, and does not document it:
	// https://github.com/slackapi/bolt-js/issues/2509 and 2867.
	maxJSON = 12000
)

// escapes are Slack's three (https://docs.slack.dev/messaging/formatting-message-text#escaping)
// and look-alikes for what formats text: a note must not strike itself through, nor
// show a check mark that nobody gave.
var escapes = strings.NewReplacer(
	"&", "&amp;", "<", "&lt;", ">", "&gt;",
	"*", "\u2217", "~", "\u223c", "`", "\u02cb",
)

var (
	emoji   = regexp.MustCompile(`:([a-zA-Z0-9_+'-]+):`)
	italic  = regexp.MustCompile(`(^|[^0-9A-Za-z])_|_($|[^0-9A-Za-z])`)
	address = regexp.MustCompile(`(?i)\b([a-z][a-z0-9+.-]{1,20})://`)
	tag     = regexp.MustCompile(`<(\S)`)
	group   = regexp.MustCompile(`(?i)@(here|channel|everyone|group)\b`)
)

// esc makes mrkdwn of plain text that shows as that text: nothing in it formats,
// links, mentions or becomes a picture. Sections say verbatim besides, so Slack
// itself makes no links of bare addresses, names and channels.
func esc(s string) string { return escapes.Replace(defang(s)) }

// defang takes the meaning out of what Slack, or a client of its own mind, would make
// clickable: [://] is how people write a hostile address.
func defang(s string) string {
	s = inert(s)
	return italic.ReplaceAllStringFunc(s, func(m string) string { return strings.ReplaceAll(m, "_", "\uff3f") })
}

func inert(s string) string {
	s = address.ReplaceAllString(s, "${1}[://]")
	s = group.ReplaceAllString(s, "@ $1")
	s = tag.ReplaceAllString(s, "< $1")
	return emoji.ReplaceAllString(s, ":\u2009$1:") // a thin space: no name of a picture has one
}

// code shows an identifier as it is: nothing formats between the marks.
func code(s string, n int) string {
	s = strings.ReplaceAll(inert(text.Line(s, n)), "`", "'")
	if s == "" {
		return "unknown"
	}
	return "`" + strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(s) + "`"
}

// mrkdwn is a text object that Slack changes nothing in.
func mrkdwn(s string) *slack.TextBlockObject {
	return slack.NewTextBlockObject(slack.MarkdownType, s, false, true)
}

// plainText is a text object that Slack does not parse: nothing is to be escaped, and
// with emoji off no pictures are made of :names:.
func plainText(s string, n int) *slack.TextBlockObject {
	off := false
	return &slack.TextBlockObject{Type: slack.PlainTextType, Text: text.Cut(defang(text.Line(s, n)), n), Emoji: &off}
}

// section joins lines of mrkdwn into one section of at most n characters. Lines that
// do not fit are left out as a whole, so that no markup is cut in two, and that is
// said.
func section(n int, lines ...string) *slack.SectionBlock {
	return slack.NewSectionBlock(mrkdwn(join(n, lines)), nil, nil)
}

func join(n int, lines []string) string {
	const more = "\n" + text.Mark + " more than fits here"
	out := ""
	for i, l := range lines {
		next := out
		if i > 0 {
			next += "\n"
		}
		next += l
		room := n
		if i < len(lines)-1 {
			room -= text.Len(more)
		}
		if text.Len(next) > room {
			return out + more
		}
		out = next
	}
	return out
}
