package slackapp

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/slack-go/slack"

	"rekey/activities/notify/text"
)

// An answer is what one person is told, and nobody else sees. It is built of pieces
// that are sent as rich text: Slack reads no markup, mention or link in them
// (https://docs.slack.dev/reference/block-kit/blocks/rich-text-block), so that no
// name or reason can make one.
type answer struct {
	lines [][]piece
	code  string // of a refusal, for counts; "" when it is none
}

type piece struct {
	text       string
	bold, code bool
	url        string
}

// Bounds of an answer: Socket Mode drops acknowledgements from 20 KB on.
const (
	maxLines = 60
	maxPiece = 600
	maxBytes = 15 << 10
)

func say(format string, args ...any) *answer { return new(answer).add(format, args...) }

// add appends a line. `code` and *bold* of the format are shown so; what comes by the
// arguments is shown as it is.
func (a *answer) add(format string, args ...any) *answer {
	var line []piece
	var plain strings.Builder
	n := 0
	flush := func(p piece) {
		if p.text != "" {
			line = append(line, p)
		}
	}
	expand := func(s string) string {
		c := strings.Count(s, "%") - 2*strings.Count(s, "%%")
		c = min(c, len(args)-n)
		out := fmt.Sprintf(s, args[n:n+c]...)
		n += c
		return out
	}
	for len(format) > 0 {
		i := strings.IndexAny(format, "`*")
		if i < 0 {
			plain.WriteString(format)
			break
		}
		j := strings.IndexByte(format[i+1:], format[i])
		if j < 0 {
			plain.WriteString(format)
			break
		}
		plain.WriteString(format[:i])
		flush(piece{text: expand(plain.String())})
		plain.Reset()
		flush(piece{text: expand(format[i+1 : i+1+j]), code: format[i] == '`', bold: format[i] == '*'})
		format = format[i+j+2:]
	}
	flush(piece{text: expand(plain.String())})
	a.lines = append(a.lines, line)
	return a
}

func (a *answer) link(url, label string) *answer {
	a.lines = append(a.lines, []piece{{text: label, url: url}})
	return a
}

func (a *answer) append(b *answer) *answer {
	a.lines = append(a.lines, b.lines...)
	return a
}

// refusal marks an answer as a no.
func refusal(code, format string, args ...any) *answer {
	a := say(format, args...)
	a.code = code
	return a
}

// String is the answer without its shape, for tests and logs of tests.
func (a *answer) String() string {
	var out []string
	for _, l := range a.lines {
		var b strings.Builder
		for _, p := range l {
			b.WriteString(p.text)
			if p.url != "" {
				b.WriteString(" " + p.url)
			}
		}
		out = append(out, b.String())
	}
	return strings.Join(out, "\n")
}

// notification is what a phone shows of an answer: nothing of it.
const notification = "rekey has an answer for you"

// message is the answer as Slack takes it, in an acknowledgement or at a
// response_url: only its receiver sees it, and no card is replaced by it.
func (a *App) message(ans *answer) []byte {
	body, err := json.Marshal(slack.WebhookMessage{
		ResponseType: slack.ResponseTypeEphemeral, Text: notification, Blocks: &slack.Blocks{BlockSet: a.blocks(ans)},
	})
	if err != nil {
		return []byte(`{"response_type":"ephemeral","text":"rekey could not write its answer; look at the command line"}`)
	}
	return body
}

func (a *App) blocks(ans *answer) []slack.Block {
	section := slack.NewRichTextSection()
	put := func(e slack.RichTextSectionElement) { section.Elements = append(section.Elements, e) }
	size := 0
	for i, line := range ans.lines {
		if i == maxLines || size > maxBytes {
			put(slack.NewRichTextSectionTextElement("… (there is more: use the command line)", nil))
			break
		}
		for _, p := range line {
			shown := a.inert(p.text)
			if shown == "" {
				continue
			}
			size += len(shown) + 64
			style := &slack.RichTextSectionTextStyle{Bold: p.bold, Code: p.code}
			if p.url != "" {
				put(slack.NewRichTextSectionLinkElement(p.url, shown, style))
			} else {
				put(slack.NewRichTextSectionTextElement(shown, style))
			}
		}
		put(slack.NewRichTextSectionTextElement("\n", nil))
	}
	return []slack.Block{slack.NewRichTextBlock("", section)}
}

// inert makes a text fit to be shown: without secrets, without what cannot be seen,
// bounded. Leading and trailing spaces join the pieces of a line and stay.
func (a *App) inert(s string) string {
	shown := text.Line(a.Redact.String(s), maxPiece)
	if shown == "" {
		if s != "" && strings.TrimSpace(s) == "" {
			return " "
		}
		return ""
	}
	if strings.HasPrefix(s, " ") {
		shown = " " + shown
	}
	if strings.HasSuffix(s, " ") {
		shown += " "
	}
	return shown
}
