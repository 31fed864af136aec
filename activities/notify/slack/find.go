package slack

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"time"

	"github.com/slack-go/slack"

	"rekey/activities"
	"rekey/activities/notify"
	"rekey/activities/notify/wire"
)

// eventType of our messages' metadata.
const eventType = "rekey"

// Pages that are read before we give up: a look-up that ends by itself says that
// nothing was found, one that is cut off must not.
const (
	pageSize = 200
	maxPages = 100
)

// blockID is the id of a message's first block, by which it is found where Slack
// gives no metadata back. At most 255 characters are allowed
// (https://docs.slack.dev/reference/block-kit/blocks/section-block).
func blockID(marker string) string {
	sum := sha256.Sum256([]byte("rekey\x00" + marker))
	return "rekey-" + hex.EncodeToString(sum[:16])
}

// ours tells whether m is our own message with that marker. Another app could write
// the same metadata: its message is not ours to adopt.
func ours(me self, m slack.Message, marker string) bool {
	if !(m.User != "" && m.User == me.user) && !(m.BotID != "" && m.BotID == me.bot) {
		return false
	}
	if m.Metadata.EventType == eventType {
		if s, ok := m.Metadata.EventPayload["marker"].(string); ok {
			return s == marker
		}
	}
	return slices.ContainsFunc(m.Blocks.BlockSet, func(b slack.Block) bool { return b.ID() == blockID(marker) })
}

// findCard looks for the card in the channel; "" when it is not there.
func (c *Client) findCard(ctx context.Context, me self, channel, marker string, opened time.Time) (string, *activities.Fault) {
	const op = "conversations.history"
	oldest := since(opened)
	return pages(op, func(cursor string) (string, string, *activities.Fault) {
		got, _, f := call(ctx, op, wire.Reads, func(ctx context.Context) (*slack.GetConversationHistoryResponse, error) {
			return c.api.GetConversationHistoryContext(ctx, &slack.GetConversationHistoryParameters{
				ChannelID: channel, Cursor: cursor, Limit: pageSize, Oldest: oldest, IncludeAllMetadata: true,
			})
		})
		if f != nil {
			return "", "", f
		}
		return first(me, got.Messages, marker), got.ResponseMetaData.NextCursor, nil
	})
}

// findReply looks for a line in the card's thread; "" when it is not there.
func (c *Client) findReply(ctx context.Context, me self, p notify.Place, marker string) (string, *activities.Fault) {
	const op = "conversations.replies"
	type page struct {
		messages []slack.Message
		next     string
	}
	return pages(op, func(cursor string) (string, string, *activities.Fault) {
		got, _, f := call(ctx, op, wire.Reads, func(ctx context.Context) (page, error) {
			messages, _, next, err := c.api.GetConversationRepliesContext(ctx, &slack.GetConversationRepliesParameters{
				ChannelID: p.Where, Timestamp: p.ID, Cursor: cursor, Limit: pageSize, IncludeAllMetadata: true,
			})
			return page{messages, next}, err
		})
		if f != nil {
			return "", "", f
		}
		return first(me, got.messages, marker), got.next, nil
	})
}

func first(me self, messages []slack.Message, marker string) string {
	for _, m := range messages {
		if ours(me, m, marker) && tsForm.MatchString(m.Timestamp) {
			return m.Timestamp
		}
	}
	return ""
}

// pages reads page after page until something is found or there are no more.
func pages(op string, read func(cursor string) (found, next string, f *activities.Fault)) (string, *activities.Fault) {
	cursor := ""
	for range maxPages {
		found, next, f := read(cursor)
		if f != nil || found != "" || next == "" {
			return found, f
		}
		if next == cursor {
			return "", &activities.Fault{Class: activities.ClassTransient, Op: op, Detail: "Slack gives the same page again and again"}
		}
		cursor = next
	}
	return "", invalid(op, "more than %d pages were read without an end", maxPages)
}

// resolve gives the id of "#name", or of an id itself. A name is looked up once; one
// that was not found is looked up again.
func (c *Client) resolve(ctx context.Context, target string) (string, *activities.Fault) {
	const op = "conversations.list"
	target = strings.TrimSpace(target)
	if idForm.MatchString(target) {
		return target, nil
	}
	name := strings.ToLower(strings.TrimPrefix(target, "#"))
	if name == "" || len(name) > 80 || strings.ContainsAny(name, " ,/#@<>\n") {
		return "", invalid(op, "record.slack.channel must be a name as #incidents, or a channel's id (C…)")
	}
	c.mu.Lock()
	id := c.channels[name]
	c.mu.Unlock()
	if id != "" {
		return id, nil
	}
	id, f := c.lookUp(ctx, op, name, "public_channel", "private_channel")
	if refused(f, "missing_scope") { // without groups:read the public ones are still to be had
		id, f = c.lookUp(ctx, op, name, "public_channel")
	}
	if f != nil {
		return "", f
	}
	if id == "" {
		return "", &activities.Fault{
			Class: activities.ClassDenied, Op: op,
			Detail: "no channel #" + plainName(name) + " that the app can see: create it and " + invite + ", or give its id (C…) in record.slack.channel",
		}
	}
	c.mu.Lock()
	c.channels[name] = id
	c.mu.Unlock()
	return id, nil
}

func (c *Client) lookUp(ctx context.Context, op, name string, types ...string) (string, *activities.Fault) {
	type page struct {
		channels []slack.Channel
		next     string
	}
	return pages(op, func(cursor string) (string, string, *activities.Fault) {
		got, _, f := call(ctx, op, wire.Reads, func(ctx context.Context) (page, error) {
			// 1,000 is the most; it may give fewer before the end.
			channels, next, err := c.api.GetConversationsContext(ctx, &slack.GetConversationsParameters{
				Cursor: cursor, ExcludeArchived: true, Limit: 999, Types: types,
			})
			return page{channels, next}, err
		})
		if f != nil {
			return "", "", f
		}
		for _, ch := range got.channels {
			if ch.Name == name && idForm.MatchString(ch.ID) {
				return ch.ID, "", nil
			}
		}
		return "", got.next, nil
	})
}

// forget drops a name that does not lead anywhere any more: the channel may have
// been deleted and made again.
func (c *Client) forget(target string, f *activities.Fault) {
	if !refused(f, "channel_not_found", "is_archived") {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.channels, strings.ToLower(strings.TrimPrefix(strings.TrimSpace(target), "#")))
}

// plainName keeps what a channel's name can have.
func plainName(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '-' || r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' {
			return r
		}
		return '?'
	}, s)
}
