package slack

import (
	"github.com/slack-go/slack"

	"rekey/activities/notify"
	"rekey/activities/notify/text"
)

// heads say in words what a line is about; colour and pictures would be lost on some.
var heads = map[string]string{
	notify.KindOpened: "Opened", notify.KindPhase: "Phase", notify.KindScope: "Scope", notify.KindPlan: "Plan",
	notify.KindAsk: "Votes wanted", notify.KindVote: "Vote", notify.KindRefused: "Refused", notify.KindDead: "Proven dead",
	notify.KindEnd: "Item ended", notify.KindHuman: "A person must act", notify.KindHold: "Hold", notify.KindNotice: "Notice", notify.KindAdopt: "Replacement",
	notify.KindNote: "Note", notify.KindContain: "Contained", notify.KindClosed: "Closed", notify.KindSealed: "Sealed",
	notify.KindReopened: "Reopened",
}

// line draws one turning point, with its number and the world's time: replies may
// arrive late and together.
func line(l notify.Line, marker string) ([]slack.Block, string) {
	head := heads[l.Kind]
	if head == "" {
		head = text.Line(l.Kind, 30)
	}
	at := "time unknown"
	if !l.At.IsZero() {
		at = l.At.UTC().Format("2006-01-02 15:04:05 UTC")
	}
	body := text.Lines(l.Text, 2000, 20)
	for room := 2000; text.Len(esc(body)) > 2700; room = room * 3 / 4 {
		body = text.Lines(l.Text, room, 20)
	}
	b := slack.NewSectionBlock(mrkdwn("*"+esc(head)+"* · "+at+"\n"+quoted(esc(body))), nil, nil)
	b.BlockID = blockID(marker)
	return []slack.Block{b}, escaped(head+": "+l.Text, 600)
}

// quoted keeps a ">" or a list mark at the start of a line from formatting it.
func quoted(s string) string {
	out := ""
	for i, r := range s {
		if (i == 0 || s[i-1] == '\n') && (r == '&' || r == '•' || r == '-') {
			out += "\u2009"
		}
		out += string(r)
	}
	return out
}
