package slack

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"

	"github.com/slack-go/slack"

	"rekey/activities/notify"
	"rekey/activities/notify/text"
)

// How much of a long card is shown; the rest is counted, and one command away.
const (
	shownTasks  = 12
	shownBreaks = 8
	shownItems  = 25
	// kept for what stands below the questions.
	reserveJSON   = 3500
	reserveBlocks = 6
)

// Blocks draws the card, whatever its size, within Slack's limits: what waits for
// people first, then what is proven, then the rest. marker names the message.
func Blocks(c notify.Card, marker string) []slack.Block {
	s := &sheet{}
	top := slack.NewHeaderBlock(plainText(headline(c), maxHeader))
	top.BlockID = blockID(marker)
	s.add(top)
	s.add(section(maxSection, "*"+esc(text.Status(c))+"*", esc(text.Line(c.Title, 120))+" · "+code(c.Key, 200)))
	s.add(facts(c))
	s.add(section(maxSection, progress(c)...))
	s.asks(c)
	s.list("*Steps that wait for people*", tasks(c))
	s.list("*Who breaks by the plan*", bullets(text.Breaks(c.Breaks, shownBreaks)))
	s.list(fmt.Sprintf("*Items* (%d shown)", min(len(c.Items), shownItems)), items(c))
	s.add(foot(c))
	return s.blocks
}

// headline is what a phone shows of the card.
func headline(c notify.Card) string {
	return fmt.Sprintf("%s · %s · %s · phase %s", strings.ToUpper(text.Line(c.Severity, 20)), text.Line(c.Incident, 40),
		state(c), text.Line(c.Phase, 20))
}

func state(c notify.Card) string {
	switch c.State {
	case "all-clear":
		return "ALL CLEAR"
	case "contained":
		return "CONTAINED"
	case "waiting":
		if c.Contained.IsZero() {
			return "NOT CONTAINED, WAITS FOR PEOPLE"
		}
		return "OPEN AGAIN, WAITS FOR PEOPLE"
	case "open":
		if c.Contained.IsZero() {
			return "NOT CONTAINED"
		}
		return "OPEN AGAIN"
	}
	return text.Line(c.State, 30)
}

// Fallback is the card in one line, for notifications and screen readers.
func Fallback(c notify.Card) string {
	s := fmt.Sprintf("%s. %s Old keys proven dead: %s.", headline(c), text.Status(c), text.Dead(c))
	for i, a := range c.Asks {
		if i == 3 {
			s += " And more."
			break
		}
		s += fmt.Sprintf(" Votes wanted: %s: %s.", text.Subject(a), text.Needs(a))
	}
	return escaped(s, maxFallback)
}

// escaped is esc within n characters, cut before it is escaped.
func escaped(s string, n int) string {
	for room := n; ; room = room * 3 / 4 {
		if out := esc(text.Line(s, room)); text.Len(out) <= n {
			return out
		}
	}
}

// plainOnly is the card without anything Slack could refuse.
func plainOnly(c notify.Card, marker string) []slack.Block {
	return plain(Fallback(c), marker)
}

// plain is one section of text that is escaped already.
func plain(fallback, marker string) []slack.Block {
	b := slack.NewSectionBlock(mrkdwn(fallback), nil, nil)
	b.BlockID = blockID(marker)
	return []slack.Block{b}
}

// A sheet takes blocks as long as there is room.
type sheet struct {
	blocks []slack.Block
	size   int
}

func size(b slack.Block) int {
	j, err := json.Marshal(b)
	if err != nil {
		return maxJSON
	}
	return len(j) + 1
}

// room tells whether bs fit and leave so much.
func (s *sheet) room(json, blocks int, bs ...slack.Block) bool {
	total := s.size
	for _, b := range bs {
		total += size(b)
	}
	return total+json <= maxJSON && len(s.blocks)+len(bs)+blocks <= maxBlocks
}

// add takes them if there is room; callers that can do with less ask first.
func (s *sheet) add(bs ...slack.Block) {
	if !s.room(0, 0, bs...) {
		return
	}
	for _, b := range bs {
		s.blocks, s.size = append(s.blocks, b), s.size+size(b)
	}
}

// foot keeps this much, so that the links are always there.
const footJSON = 1500

// list adds a titled list, shortened until it fits.
func (s *sheet) list(title string, lines []string) {
	if len(lines) == 0 {
		return
	}
	for n := maxSection; n >= 200; n = n * 2 / 3 {
		if b := section(n, append([]string{title}, lines...)...); s.room(footJSON, 1, b) {
			s.add(b)
			return
		}
	}
}

func facts(c notify.Card) slack.Block {
	field := func(name, value string) *slack.TextBlockObject { return mrkdwn("*" + name + "*\n" + value) }
	reporter := esc(text.Line(c.Reporter, 120))
	if reporter == "" {
		reporter = "unknown"
	}
	contained := "not yet"
	if !c.Contained.IsZero() {
		contained = text.When(c.Contained)
	}
	fields := []*slack.TextBlockObject{
		field("Opened", text.When(c.Opened)), field("Contained", contained),
		field("Reported by", reporter), field("Scope", esc(text.Scope(c.Scope))),
	}
	if !c.Closed.IsZero() {
		fields = append(fields, field("Closed", text.When(c.Closed)))
	}
	return slack.NewSectionBlock(nil, fields, nil)
}

func progress(c notify.Card) []string {
	out := []string{"*Old keys proven dead:* " + esc(text.Line(text.Dead(c), 400))}
	if len(c.Steps) > 0 {
		out = append(out, "*Items by step:* "+esc(text.Line(text.Counts(c.Steps), 400)))
	}
	if len(c.Ends) > 0 {
		out = append(out, "*Items ended:* "+esc(text.Line(text.Counts(c.Ends), 400)))
	}
	if len(c.Notices) > 0 {
		out = append(out, "*Notices:* "+esc(text.Line(text.Counts(c.Notices), 200)))
	}
	return out
}

func tasks(c notify.Card) []string {
	var out []string
	for i, t := range c.Tasks {
		if i == shownTasks {
			break
		}
		out = append(out, "• "+code(t.ID, 40)+" "+esc(text.Task(t, 300)))
	}
	if n := len(c.Tasks) - len(out) + c.MoreTasks; n > 0 && len(c.Tasks) > 0 {
		out = append(out, fmt.Sprintf("and %d more", n))
	}
	return out
}

func items(c notify.Card) []string {
	var out []string
	for i, it := range c.Items {
		if i == shownItems {
			break
		}
		out = append(out, "• "+code(it.Key, 120)+" "+esc(text.Item(it)))
	}
	if n := len(c.Items) - len(out) + c.More; n > 0 {
		out = append(out, fmt.Sprintf("and %d more", n))
	}
	return out
}

func bullets(lines []string) []string {
	var out []string
	for _, l := range lines {
		out = append(out, "• "+esc(l))
	}
	return out
}

func foot(c notify.Card) slack.Block {
	parts := []string{code("rekey incident show "+c.Incident, 80)}
	if c.Bundle != "" {
		parts = append(parts, "bundle "+code(c.Bundle, 80))
	}
	with := func(parts ...string) slack.Block {
		return slack.NewContextBlock("", mrkdwn(strings.Join(parts, " · ")))
	}
	if link := link(c.UI, "Temporal UI"); link != "" {
		if b := with(append(parts, link)...); size(b) <= footJSON {
			return b
		}
	}
	return with(parts...)
}

// link is our own link, to an address of the configuration. What is no plain web
// address is left out.
func link(to, name string) string {
	u, err := url.Parse(to)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || len(to) > 500 {
		return ""
	}
	s := strings.NewReplacer("&", "&amp;", "<", "%3C", ">", "%3E", "|", "%7C").Replace(u.String())
	return "<" + s + "|" + name + ">"
}
