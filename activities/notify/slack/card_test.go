package slack_test

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	slackgo "github.com/slack-go/slack"
	"github.com/stretchr/testify/require"

	"rekey/activities/notify"
	"rekey/activities/notify/slack"
	"rekey/activities/notify/text"
)

// shown is everything a reader sees, by block.
func shown(t *testing.T, blocks []slackgo.Block) string {
	t.Helper()
	var b strings.Builder
	walk(t, blocks, func(_, s string) { b.WriteString(s + "\n") })
	return b.String()
}

// walk gives every text object's type and text.
func walk(t *testing.T, blocks []slackgo.Block, visit func(kind, s string)) {
	t.Helper()
	j, err := json.Marshal(blocks)
	require.NoError(t, err)
	var v any
	require.NoError(t, json.Unmarshal(j, &v))
	var each func(any)
	each = func(v any) {
		switch v := v.(type) {
		case []any:
			for _, e := range v {
				each(e)
			}
		case map[string]any:
			if s, ok := v["text"].(string); ok {
				visit(v["type"].(string), s)
			}
			for _, e := range v {
				each(e)
			}
		}
	}
	each(v)
}

// accepted holds blocks to Slack's published limits.
func accepted(t *testing.T, blocks []slackgo.Block) {
	t.Helper()
	require.LessOrEqual(t, len(blocks), 50)
	j, err := json.Marshal(blocks)
	require.NoError(t, err)
	require.LessOrEqual(t, len(j), 13000)
	ids := map[string]bool{}
	for _, b := range blocks {
		if id := b.ID(); id != "" {
			require.False(t, ids[id], "block id used twice")
			ids[id] = true
			require.LessOrEqual(t, len(id), 255)
		}
		switch b := b.(type) {
		case *slackgo.HeaderBlock:
			require.LessOrEqual(t, text.Len(b.Text.Text), 150)
			require.Equal(t, slackgo.PlainTextType, b.Text.Type)
		case *slackgo.SectionBlock:
			if b.Text != nil {
				require.LessOrEqual(t, text.Len(b.Text.Text), 3000)
				require.NotEmpty(t, b.Text.Text)
			}
			require.LessOrEqual(t, len(b.Fields), 10)
			for _, f := range b.Fields {
				require.LessOrEqual(t, text.Len(f.Text), 2000)
			}
		case *slackgo.ContextBlock:
			require.LessOrEqual(t, len(b.ContextElements.Elements), 10)
		case *slackgo.ActionBlock:
			require.LessOrEqual(t, len(b.Elements.ElementSet), 25)
			for _, e := range b.Elements.ElementSet {
				button := e.(*slackgo.ButtonBlockElement)
				require.LessOrEqual(t, len(button.Value), 2000)
				require.LessOrEqual(t, text.Len(button.Text.Text), 75)
				require.LessOrEqual(t, text.Len(button.AccessibilityLabel), 75)
				require.LessOrEqual(t, text.Len(button.Confirm.Title.Text), 100)
				require.LessOrEqual(t, text.Len(button.Confirm.Text.Text), 300)
				require.LessOrEqual(t, text.Len(button.Confirm.Confirm.Text), 30)
				require.LessOrEqual(t, text.Len(button.Confirm.Deny.Text), 30)
			}
		}
	}
	walk(t, blocks, func(kind, s string) {
		require.True(t, utf8.ValidString(s))
		if kind != slackgo.PlainTextType {
			require.Equal(t, slackgo.MarkdownType, kind)
		}
	})
}

func TestCardSaysWhatIsNeededToDecide(t *testing.T) {
	c := waiting()
	c.Notices = []notify.Count{{Name: "queued", N: 1}, {Name: "sent", N: 3}}
	blocks := slack.Blocks(c, incident)
	accepted(t, blocks)
	got := shown(t, blocks)
	for _, want := range []string{
		"CRITICAL · " + incident + " · NOT CONTAINED, WAITS FOR PEOPLE · phase approve",
		"Not contained. Waits for people: 2 open questions, 1 step for people.",
		"`awsiam/prod user-access-key a41c09be77d2 AKIAIOSFODNN7EXAMPLE`", "github secret scanning", "2026-11-22 03:12 UTC",
		"NOT complete: 1 source unseen, 1 dark window",
		"Votes wanted: wave 2, reissue-first, 2 items, 14 calls", "Issue new keys for 2 items",
		"nightly-export (owner unknown): down 45 min, OVER its budget of 30 min",
		"1 of 2 votes given, by commander or security, until 2026-11-22 03:30 UTC", "oncall-1 (commander): approve, slack", "`" + waveHash + "`",
		"0 of 2 votes given, by commander or security, 1 of them outside Slack", "Slack alone cannot approve this",
		"1 of 3 items (1 grade A: the old key was refused)", "Revoke 1, waiting 2", "*Notices:* queued 1, sent 3",
		"Take the key out of the build image", "(owner: platform, due 2026-11-22 07:12 UTC)",
		"old key dead (grade A)", "|Temporal UI>",
	} {
		require.Contains(t, got, want)
	}
	require.Less(t, strings.Index(got, "Votes wanted"), strings.Index(got, "Steps that wait"), "what waits for votes comes first")
	require.Less(t, strings.Index(got, "Steps that wait"), strings.Index(got, "Items* (3 shown)"))
}

func TestButtonsCarryExactlyWhatIsShown(t *testing.T) {
	c := waiting()
	var values []string
	for _, b := range slack.Blocks(c, incident) {
		actions, ok := b.(*slackgo.ActionBlock)
		if !ok {
			continue
		}
		require.Len(t, actions.Elements.ElementSet, 2)
		for i, id := range []string{notify.ActionApprove, notify.ActionDeny} {
			button := actions.Elements.ElementSet[i].(*slackgo.ButtonBlockElement)
			require.Equal(t, id, button.ActionID)
			values = append(values, button.Value)
			inc, _, hash, ok := notify.ParseButton(button.Value)
			require.True(t, ok)
			require.Equal(t, incident, inc)
			require.Contains(t, strings.ToLower(button.Confirm.Text.Text), "price")
			require.Contains(t, button.Confirm.Text.Text, hash[:19])
			require.Contains(t, button.Confirm.Title.Text, "wave")
		}
	}
	require.Equal(t, []string{
		notify.ButtonValue(incident, "a1", waveHash), notify.ButtonValue(incident, "a1", waveHash),
		notify.ButtonValue(incident, "a2", c.Asks[1].WaveHash), notify.ButtonValue(incident, "a2", c.Asks[1].WaveHash),
	}, values)
}

func TestNoApproveButtonWhereSlackCannotApprove(t *testing.T) {
	c := waiting()
	c.Asks = c.Asks[1:]
	c.Asks[0].Needed, c.Asks[0].Outside = 1, 1
	blocks := slack.Blocks(c, incident)
	require.Contains(t, shown(t, blocks), "No vote from Slack counts here.")
	require.Contains(t, shown(t, blocks), "rekey incident approve "+incident+" --wave "+c.Asks[0].WaveHash)
	j, err := json.Marshal(blocks)
	require.NoError(t, err)
	require.NotContains(t, string(j), notify.ActionApprove)
	require.Contains(t, string(j), notify.ActionDeny)

	c.Asks[0].Approval = "nothing that a button can name"
	j, err = json.Marshal(slack.Blocks(c, incident))
	require.NoError(t, err)
	require.NotContains(t, string(j), notify.ActionDeny)
}

func TestCardOfAnySizeIsAccepted(t *testing.T) {
	c := waiting()
	long := strings.Repeat(hostile, 1000)
	ask, task, item, br := c.Asks[0], c.Tasks[0], c.Items[0], c.Breaks[0]
	c.Asks, c.Tasks, c.Items, c.Breaks, c.Steps = nil, nil, nil, nil, nil
	for i := range 60 {
		a := ask
		a.Approval, a.What, a.Expires = fmt.Sprintf("a%d", 100-i), long, at.Add(-time.Duration(i)*time.Minute)
		a.Breaks = nil
		for range 40 {
			a.Breaks = append(a.Breaks, notify.Break{Dependent: long, Owner: long, Outage: time.Hour})
			a.Votes = append(a.Votes, notify.Vote{Actor: long, Role: long, Vote: "approve", Auth: long})
			a.Roles = append(a.Roles, long)
		}
		c.Asks = append(c.Asks, a)
	}
	for i := range 200 {
		task.ID, task.What, task.Owner = fmt.Sprintf("h%d", i), long, long
		c.Tasks = append(c.Tasks, task)
		item.Key, item.Waits = long, long
		c.Items = append(c.Items, item)
		br.Dependent = long
		c.Breaks = append(c.Breaks, br)
		c.Steps = append(c.Steps, notify.Count{Name: long, N: i})
	}
	c.Incident, c.Title, c.Phase, c.State, c.Severity, c.Key, c.Reporter, c.Bundle, c.UI = incident, long, long, long, long, long, long, long, "https://x/"+long
	c.Dead = c.Steps
	blocks := slack.Blocks(c, incident)
	accepted(t, blocks)
	got := shown(t, blocks)
	require.Contains(t, got, "`a41`", "the question that ends first is shown")
	require.Contains(t, got, "more open questions not shown here")
	require.Contains(t, got, "rekey incident show "+incident, "the way to the rest is always there")
	require.Contains(t, got, "Old keys proven dead")
	require.LessOrEqual(t, text.Len(slack.Fallback(c)), 3000)

	// Short ones: as many questions as fit, and both of their buttons.
	c = waiting()
	for i := range 60 {
		a := c.Asks[0]
		a.Approval = fmt.Sprintf("a%d", i+3)
		c.Asks = append(c.Asks, a)
	}
	blocks = slack.Blocks(c, incident)
	accepted(t, blocks)
	require.GreaterOrEqual(t, strings.Count(shown(t, blocks), "Votes wanted"), 2)
	accepted(t, slack.Blocks(notify.Card{}, "m"))

	// An address that would fill the foot is left out of it, not the foot.
	c.UI = "https://temporal.example/?" + strings.Repeat("&", 400)
	require.Contains(t, shown(t, slack.Blocks(c, incident)), "rekey incident show "+incident)
}

// spans are shown as they are, whatever is in them.
var spans = regexp.MustCompile("`[^`]*`")

func TestHostileTextStaysText(t *testing.T) {
	c := waiting()
	c.Title, c.Key, c.Reporter, c.Phase, c.Bundle = hostile, hostile, hostile, hostile, hostile
	c.Asks[0].What, c.Asks[0].Roles, c.Asks[0].Breaks[0].Dependent, c.Asks[0].Votes[0].Actor = hostile, []string{hostile}, hostile, hostile
	c.Tasks[0].What, c.Tasks[0].Owner, c.Tasks[0].ID = hostile, hostile, hostile
	c.Items[0].Key, c.Items[0].Waits = hostile, hostile
	c.UI = "javascript:alert(1)"
	check := func(kind, s string) {
		for _, bad := range []string{"<!", "<@", "<#", "<http", "https://evil", "@here", ":white_check_mark:", "\u202e", "\u2066", "\x1b", "\x00", "\u200b"} {
			require.NotContains(t, s, bad)
		}
		if kind == slackgo.MarkdownType {
			require.NotContains(t, s, "<")
			require.NotRegexp(t, `(^|\n)(&gt;|>)`, s)
			require.NotContains(t, spans.ReplaceAllString(s, ""), "*all clear*")
		}
	}
	walk(t, slack.Blocks(c, incident), check)
	check(slackgo.MarkdownType, slack.Fallback(c))
	j, err := json.Marshal(slack.Blocks(c, incident))
	require.NoError(t, err)
	require.NotContains(t, string(j), "javascript:")
	walk(t, slack.Blocks(c, incident), func(kind, s string) {
		if kind == slackgo.MarkdownType {
			require.NotContains(t, spans.ReplaceAllString(s, ""), "~")
		}
	})
}

func TestACardWhereChatDoesNotVoteHasNoButtons(t *testing.T) {
	c := waiting()
	c.Chat = false
	blocks := slack.Blocks(c, incident)
	j, err := json.Marshal(blocks)
	require.NoError(t, err)
	require.NotContains(t, string(j), notify.ActionApprove)
	require.NotContains(t, string(j), notify.ActionDeny)
	require.Contains(t, shown(t, blocks), "No vote from Slack counts here.")
	require.Contains(t, shown(t, blocks), "rekey incident approve "+incident+" --wave "+c.Asks[0].WaveHash)
}
