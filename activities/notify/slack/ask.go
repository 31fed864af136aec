package slack

import (
	"fmt"
	"slices"
	"strings"

	"github.com/slack-go/slack"

	"rekey/activities/notify"
	"rekey/activities/notify/text"
)

// asks draws the open questions, those that end first at the top, as long as there
// is room; the rest is counted.
func (s *sheet) asks(c notify.Card) {
	open := slices.Clone(c.Asks)
	slices.SortStableFunc(open, func(a, b notify.Ask) int {
		switch {
		case a.Expires.IsZero() || b.Expires.IsZero():
			return 0
		default:
			return a.Expires.Compare(b.Expires)
		}
	})
	shown := 0
	for _, a := range open {
		bs := ask(c, a, full)
		if !s.room(reserveJSON, reserveBlocks, bs...) {
			bs = ask(c, a, terse)
		}
		if !s.room(reserveJSON, reserveBlocks, bs...) {
			break
		}
		s.add(bs...)
		shown++
	}
	if len(open) > 0 {
		s.add(slack.NewDividerBlock()) // what follows is no part of the last question
	}
	if n := len(open) - shown + c.MoreAsks; n > 0 {
		s.add(section(maxSection, fmt.Sprintf("*%s not shown here:* %s", text.Plural(n, "more open question"), code("rekey incident show "+c.Incident, 80))))
	}
}

// A measure is how much of a question is shown.
type measure struct{ what, breaks, votes, needs int }

var (
	full  = measure{what: 600, breaks: 5, votes: 6, needs: 400}
	terse = measure{what: 120, breaks: 2, votes: 0, needs: 150}
)

// ask is one question with its price, and its buttons where a vote from Slack counts.
func ask(c notify.Card, a notify.Ask, m measure) []slack.Block {
	price := text.Price(a, c.Scope, m.breaks)
	lines := []string{
		"*Votes wanted: " + esc(text.Subject(a)) + "* " + code(a.Approval, 20),
		esc(text.Line(a.What, m.what)),
	}
	if len(price) == 1 {
		lines = append(lines, "*Price:* "+esc(price[0]))
	} else {
		lines = append(lines, "*Price:*")
		lines = append(lines, bullets(price)...)
	}
	lines = append(lines, "*Votes:* "+esc(text.Line(text.Needs(a), m.needs)))
	for i, v := range a.Votes {
		if i == m.votes {
			lines = append(lines, "and "+text.Plural(len(a.Votes)-i, "more vote"))
			break
		}
		lines = append(lines, "• "+esc(text.Vote(v)))
	}
	lines = append(lines, outside(c, a)...)
	if a.WaveHash != "" && c.Chat && text.Outside(a) == 0 { // else it stands in the command
		lines = append(lines, "*Wave hash:* "+code(a.WaveHash, 80))
	}
	out := []slack.Block{slack.NewDividerBlock(), section(maxSection, slices.DeleteFunc(lines, func(l string) bool { return l == "" })...)}
	if b := buttons(c, a, price); b != nil {
		out = append(out, b)
	}
	return out
}

// outside says what Slack cannot do, and where it can be done.
func outside(c notify.Card, a notify.Ask) []string {
	command := "rekey incident approve " + c.Incident
	if a.WaveHash != "" {
		command += " --wave " + a.WaveHash
	}
	switch n := text.Outside(a); {
	case c.Chat && n == 0:
		return nil
	case !c.Chat || n >= a.Needed:
		return []string{"*No vote from Slack counts here.* Approve with:", code(command, 200)}
	default:
		return []string{"*Slack alone cannot approve this.* The vote outside Slack:", code(command, 200)}
	}
}

// buttons are drawn only where Slack's votes count, and where the question can be told
// from every other one: the click must mean the wave that was shown.
func buttons(c notify.Card, a notify.Ask, price []string) slack.Block {
	value := notify.ButtonValue(c.Incident, a.Approval, a.WaveHash)
	if _, _, _, ok := notify.ParseButton(value); !ok || !c.Chat {
		return nil
	}
	subject := text.Subject(a)
	button := func(action, word string, style slack.Style) *slack.ButtonBlockElement {
		b := slack.NewButtonBlockElement(action, value, plainText(word, 75)).WithStyle(style)
		b.AccessibilityLabel = text.Line(word+" "+subject+" of "+c.Incident, 75)
		said := "Price: " + text.Line(strings.Join(price, "; "), 230) + "."
		if action == notify.ActionDeny {
			said = "What is asked is then not done. " + text.Line("Its price was to be: "+strings.Join(price, "; "), 200) + "."
		}
		if a.WaveHash != "" {
			said += " Hash " + shortHash(a.WaveHash)
		}
		confirm := slack.NewConfirmationBlockObject(plainText(word+": "+subject, maxConfirm), plainText(said, maxConfirmIn), plainText(word, 30), plainText("Go back", 30))
		return b.WithConfirm(confirm.WithStyle(style))
	}
	deny := button(notify.ActionDeny, "Deny", slack.StyleDanger)
	if n := text.Outside(a); n > 0 && n >= a.Needed {
		return slack.NewActionBlock("", deny)
	}
	return slack.NewActionBlock("", button(notify.ActionApprove, "Approve", slack.StylePrimary), deny)
}

// shortHash is enough of a wave's hash to compare by eye with the card.
func shortHash(h string) string {
	h = text.Line(h, 80)
	if len(h) > 27 {
		return h[:19] + text.Mark + h[len(h)-6:]
	}
	return h
}
