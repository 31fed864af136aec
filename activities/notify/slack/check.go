package slack

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/slack-go/slack"

	"rekey/activities"
	"rekey/activities/notify"
	"rekey/activities/notify/text"
	"rekey/activities/notify/wire"
)

// maxSkew is how much clocks may differ: Slack's requests are refused after five
// minutes (https://docs.slack.dev/authentication/verifying-requests-from-slack), and
// an hour's reading of the two must not disagree.
const maxSkew = time.Minute

// wide are scopes by their beginnings that the app does not need: who holds the
// token could do more with them than speak.
var wide = []string{"admin", "channels:manage", "groups:write", "files:", "users:write", "usergroups:write", "chat:write.customize", "chat:write.public"}

// Check implements notify.Checker: the token, its workspace and scopes
// (X-OAuth-Scopes, https://docs.slack.dev/authentication/installing-with-oauth), the
// clock, and each channel: found, not archived, the app in it.
func (c *Client) Check(ctx context.Context, targets ...string) []notify.Problem {
	if _, f := c.token(); f != nil {
		return []notify.Problem{credential(f)}
	}
	got, x, f := call(ctx, "auth.test", wire.Reads, c.api.AuthTestContext)
	if f != nil {
		return []notify.Problem{credential(f)}
	}
	var out []notify.Problem
	if x.Dated && x.Skew.Abs() > maxSkew {
		out = append(out, notify.Problem{
			Code: notify.ProblemClock, What: fmt.Sprintf("this machine's clock and Slack's differ by %s", text.Span(x.Skew.Abs())),
			Do: "set the clock (NTP): Slack's requests are refused when they seem older than five minutes",
		})
	}
	if c.team != "" && got.TeamID != c.team {
		return append(out, notify.Problem{
			Code: notify.ProblemTeam, What: "the bot token is of another workspace than channels.slack.team (" + c.team + ")",
			Do: "install the app in that workspace, or correct channels.slack.team",
		})
	}
	if got.BotID == "" {
		out = append(out, notify.Problem{
			Code: notify.ProblemCredential, What: "the token is a person's or none of a bot", Do: "use the Bot User OAuth Token (xoxb-…) of the app",
		})
	}
	out = append(out, checkScopes(x.Header.Get("X-Oauth-Scopes"))...)
	for _, target := range targets {
		if p := c.checkTarget(ctx, target); p != nil {
			out = append(out, *p)
		}
	}
	return out
}

func credential(f *activities.Fault) notify.Problem {
	p := notify.Problem{Code: notify.ProblemUnreachable, What: "Slack was not reached: " + f.Detail, Do: "check the network, channels.slack.base_url and ca_file"}
	if f.Class == activities.ClassDenied {
		p.Code, p.What, p.Do = notify.ProblemCredential, f.Detail, "docs/slack/README.md says where to find the bot token"
	}
	return p
}

// checkScopes compares; a server that names no scopes is not judged by them.
func checkScopes(header string) []notify.Problem {
	if header == "" {
		return nil
	}
	var have []string
	for s := range strings.SplitSeq(header, ",") {
		have = append(have, strings.TrimSpace(s))
	}
	var missing, private, more []string
	for _, s := range scopes {
		if slices.Contains(have, s) {
			continue
		}
		if strings.HasPrefix(s, "groups:") {
			private = append(private, s)
		} else {
			missing = append(missing, s)
		}
	}
	for _, s := range have {
		if slices.ContainsFunc(wide, func(w string) bool { return strings.HasPrefix(s, w) }) {
			more = append(more, text.Line(s, 40))
		}
	}
	var out []notify.Problem
	if len(missing) > 0 {
		out = append(out, notify.Problem{
			Code: notify.ProblemScope, What: "the app lacks " + strings.Join(missing, ", "),
			Do: "add it under OAuth & Permissions and reinstall the app",
		})
	}
	if len(private) > 0 {
		out = append(out, notify.Problem{
			Code: notify.ProblemScope, What: "the app lacks " + strings.Join(private, ", ") + ": private channels cannot be used", Warning: true,
			Do: "add it under OAuth & Permissions and reinstall the app, if incidents are followed in a private channel",
		})
	}
	if len(more) > 0 {
		out = append(out, notify.Problem{
			Code: notify.ProblemTooWide, What: "the app's token can do more than rekey needs: " + strings.Join(more, ", "), Warning: true,
			Do: "take these scopes away, or give rekey an app of its own",
		})
	}
	return out
}

func (c *Client) checkTarget(ctx context.Context, target string) *notify.Problem {
	problem := func(f *activities.Fault) *notify.Problem {
		return &notify.Problem{Code: notify.ProblemTarget, Target: target, What: f.Detail, Do: "see docs/slack/README.md, the channel"}
	}
	id, f := c.resolve(ctx, target)
	if f != nil {
		return problem(f)
	}
	ch, _, f := call(ctx, "conversations.info", wire.Reads, func(ctx context.Context) (*slack.Channel, error) {
		return c.api.GetConversationInfoContext(ctx, &slack.GetConversationInfoInput{ChannelID: id})
	})
	switch {
	case f != nil:
		return problem(f)
	case ch.IsArchived:
		return problem(&activities.Fault{Detail: "the channel is archived"})
	case !ch.IsMember:
		return problem(&activities.Fault{Detail: "the app is not in the channel: " + invite})
	}
	return nil
}
