package slack

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/slack-go/slack"

	"rekey/activities"
	"rekey/activities/notify"
	"rekey/activities/notify/wire"
)

// Open posts the card. With Recheck an earlier card with the marker is given instead.
func (c *Client) Open(ctx context.Context, r notify.OpenRequest) (notify.Place, error) {
	me, f := c.self(ctx)
	if f != nil {
		return notify.Place{}, f
	}
	if r.Incident == "" || r.Marker == "" {
		return notify.Place{}, invalid("chat.postMessage", "the request names no incident or marker")
	}
	channel, f := c.resolve(ctx, r.Target)
	if f != nil {
		return notify.Place{}, f
	}
	place := func(ts string) notify.Place {
		return notify.Place{Channel: Code, Where: channel, ID: ts, URL: permalink(me, channel, ts)}
	}
	if r.Recheck {
		ts, f := c.findCard(ctx, me, channel, r.Marker, r.Card.Opened)
		if f != nil {
			return notify.Place{}, f
		}
		if ts != "" {
			return place(ts), nil
		}
	}
	ts, f := c.post(ctx, channel, r.Marker, Blocks(r.Card, r.Marker), Fallback(r.Card))
	if f != nil {
		c.forget(r.Target, f)
		return notify.Place{}, f
	}
	return place(ts), nil
}

// Append replies in the card's thread. Urgent lines are shown in the channel too.
// Every kind of line is shown.
func (c *Client) Append(ctx context.Context, r notify.AppendRequest) (string, error) {
	me, f := c.self(ctx)
	if f != nil {
		return "", f
	}
	if f := checkPlace("chat.postMessage", r.Place); f != nil {
		return "", f
	}
	if r.Marker == "" {
		return "", invalid("chat.postMessage", "the request has no marker")
	}
	if r.Recheck {
		ts, f := c.findReply(ctx, me, r.Place, r.Marker)
		if f != nil {
			return "", f
		}
		if ts != "" {
			return ts, nil
		}
	}
	blocks, fallback := line(r.Line, r.Marker)
	options := []slack.MsgOption{slack.MsgOptionTS(r.Place.ID)}
	if r.Line.Urgent {
		options = append(options, slack.MsgOptionBroadcast())
	}
	ts, f := c.post(ctx, r.Place.Where, r.Marker, blocks, fallback, options...)
	if f != nil {
		return "", f
	}
	return ts, nil
}

// Update changes the card in place.
func (c *Client) Update(ctx context.Context, r notify.UpdateRequest) error {
	if _, f := c.self(ctx); f != nil {
		return f
	}
	if f := checkPlace("chat.update", r.Place); f != nil {
		return f
	}
	marker := r.Marker
	if marker == "" {
		marker = r.Incident
	}
	f := c.change(ctx, r.Place, marker, Blocks(r.Card, marker), Fallback(r.Card))
	if refused(f, "invalid_blocks", "invalid_blocks_format", "msg_blocks_too_long") {
		f = c.change(ctx, r.Place, marker, plainOnly(r.Card, marker), Fallback(r.Card))
	}
	if f != nil {
		return f
	}
	return nil
}

// Close shows the card in its last state. The thread's last line is the caller's.
func (c *Client) Close(ctx context.Context, r notify.UpdateRequest) error { return c.Update(ctx, r) }

// post makes one message. Blocks that Slack refuses are not posted at all, so the
// plain form can follow them: an incident without a card is worse than an ugly one.
func (c *Client) post(ctx context.Context, channel, marker string, blocks []slack.Block, fallback string, more ...slack.MsgOption) (string, *activities.Fault) {
	send := func(blocks []slack.Block) (string, *activities.Fault) {
		ts, _, f := call(ctx, "chat.postMessage", wire.Creates, func(ctx context.Context) (string, error) {
			_, ts, err := c.api.PostMessageContext(ctx, channel, append(content(marker, blocks, fallback), more...)...)
			return ts, err
		})
		if f == nil && !tsForm.MatchString(ts) {
			return "", &activities.Fault{Class: activities.ClassUnclear, Op: "chat.postMessage", Detail: "the answer names no message"}
		}
		return ts, f
	}
	ts, f := send(blocks)
	if refused(f, "invalid_blocks", "invalid_blocks_format", "msg_blocks_too_long") {
		return send(plain(fallback, marker))
	}
	return ts, f
}

func (c *Client) change(ctx context.Context, p notify.Place, marker string, blocks []slack.Block, fallback string) *activities.Fault {
	_, _, f := call(ctx, "chat.update", wire.Repeats, func(ctx context.Context) (string, error) {
		_, ts, _, err := c.api.UpdateMessageContext(ctx, p.Where, p.ID, content(marker, blocks, fallback)...)
		return ts, err
	})
	return f
}

// content is a message that links, pings and unfurls nothing. The marker is no
// secret: an incident's id and a number.
func content(marker string, blocks []slack.Block, fallback string) []slack.MsgOption {
	return []slack.MsgOption{
		slack.MsgOptionText(fallback, false), // escaped by us
		slack.MsgOptionBlocks(blocks...),
		slack.MsgOptionParse(false),
		slack.MsgOptionLinkNames(false),
		slack.MsgOptionDisableMarkdown(),
		slack.MsgOptionDisableLinkUnfurl(),
		slack.MsgOptionDisableMediaUnfurl(),
		slack.MsgOptionMetadata(slack.SlackMetadata{EventType: eventType, EventPayload: map[string]any{"marker": marker}}),
	}
}

var (
	tsForm = regexp.MustCompile(`^[0-9]{1,12}\.[0-9]{1,9}$`)
	idForm = regexp.MustCompile(`^[CGD][A-Z0-9]{5,20}$`)
)

func checkPlace(op string, p notify.Place) *activities.Fault {
	if p.Channel != Code || !idForm.MatchString(p.Where) || !tsForm.MatchString(p.ID) {
		return invalid(op, "the place is none of Slack's")
	}
	return nil
}

func invalid(op, format string, args ...any) *activities.Fault {
	return &activities.Fault{Class: activities.ClassInvalid, Op: op, Detail: fmt.Sprintf(format, args...)}
}

// permalink is the address of a message, from the workspace's own address; empty
// when that is none.
func permalink(me self, channel, ts string) string {
	if !strings.HasPrefix(me.url, "https://") || strings.ContainsAny(me.url, " <>|\"") {
		return ""
	}
	return strings.TrimRight(me.url, "/") + "/archives/" + channel + "/p" + strings.Replace(ts, ".", "", 1)
}

// since is from when on an earlier message is looked for. The card's time is the
// world's, which may not be Slack's: a day is left, and a time to come counts as now.
func since(opened time.Time) string {
	if now := time.Now(); opened.IsZero() || opened.After(now) {
		opened = now
	}
	return fmt.Sprintf("%d.000000", max(opened.Add(-24*time.Hour).Unix(), 1))
}
