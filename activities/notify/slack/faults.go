package slack

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"

	"rekey/activities"
	"rekey/activities/notify/wire"
)

// A refusal is what an error code of Slack means. Codes:
// https://docs.slack.dev/reference/methods/chat.postMessage#errors, chat.update,
// conversations.history, .replies, .list, .info and auth.test likewise. A code that
// is not here is unclear.
type refusal struct {
	class activities.Class
	do    string
}

const (
	newToken = "the bot token is not accepted: reinstall the app, put its new bot token into channels.slack.bot_token_file"
	invite   = "invite the app to the channel (/invite @rekey)"
	ownBug   = "Slack refuses the message as malformed"
)

var refusals = map[string]refusal{
	"invalid_auth":           {activities.ClassDenied, newToken},
	"not_authed":             {activities.ClassDenied, newToken},
	"account_inactive":       {activities.ClassDenied, newToken},
	"token_revoked":          {activities.ClassDenied, newToken},
	"token_expired":          {activities.ClassDenied, newToken},
	"not_allowed_token_type": {activities.ClassDenied, "the token is no bot token: use the one that begins with xoxb-"},
	"missing_scope":          {activities.ClassDenied, "the app lacks a scope: add it under OAuth & Permissions and reinstall the app"},
	"no_permission":          {activities.ClassDenied, "the app may not do this: " + invite},
	"not_in_channel":         {activities.ClassDenied, "the app is not in the channel: " + invite},
	"channel_not_found": {activities.ClassDenied,
		"no such channel, or a private one the app is not in: check record.slack.channel, and " + invite},
	"is_archived":                           {activities.ClassInvalid, "the channel is archived: unarchive it or name another one in record.slack.channel"},
	"restricted_action":                     {activities.ClassDenied, "the workspace's settings forbid the app to post there"},
	"restricted_action_read_only_channel":   {activities.ClassDenied, "the channel is read-only for the app: let it post there"},
	"restricted_action_thread_only_channel": {activities.ClassDenied, "only replies are allowed in the channel: name another one"},
	"access_denied":                         {activities.ClassDenied, "the workspace denies the app access"},
	"ekm_access_denied":                     {activities.ClassDenied, "the workspace's key management denies the app access"},
	"team_access_not_granted":               {activities.ClassDenied, "the app is not installed in this workspace of the organisation"},
	"org_login_required":                    {activities.ClassTransient, "the workspace is being migrated to an organisation"},
	"cant_update_message":                   {activities.ClassDenied, "the card was posted by another app or token: Slack lets only its author change it"},
	"edit_window_closed":                    {activities.ClassDenied, "the workspace's settings forbid changing messages this old: allow editing at any time"},
	"message_not_found":                     {activities.ClassInvalid, "the card was deleted in Slack; the thread's lines go on"},
	"thread_not_found":                      {activities.ClassInvalid, "the card was deleted in Slack, and its thread with it"},
	"cannot_reply_to_message":               {activities.ClassInvalid, "Slack does not take replies to the card"},
	"messages_tab_disabled":                 {activities.ClassInvalid, "the target is no channel: name one"},
	"invalid_blocks":                        {activities.ClassInvalid, ownBug},
	"invalid_blocks_format":                 {activities.ClassInvalid, ownBug},
	"msg_blocks_too_long":                   {activities.ClassInvalid, ownBug},
	"msg_too_long":                          {activities.ClassInvalid, ownBug},
	"no_text":                               {activities.ClassInvalid, ownBug},
	"invalid_arguments":                     {activities.ClassInvalid, ownBug},
	"invalid_cursor":                        {activities.ClassTransient, "Slack forgot the page we were at"},
	"invalid_metadata_format":               {activities.ClassInvalid, ownBug},
	"metadata_too_large":                    {activities.ClassInvalid, ownBug},
	"metadata_must_be_sent_from_app":        {activities.ClassDenied, "the token is no app's: use the app's bot token"},
	"request_timeout":                       {activities.ClassTransient, "Slack did not get the whole request"},
	"service_unavailable":                   {activities.ClassTransient, "Slack is not available"},
	"team_added_to_org":                     {activities.ClassTransient, "the workspace is being migrated to an organisation"},
	"accesslimited":                         {activities.ClassDenied, "the workspace limits the app's access"},
}

// throttles: "ratelimited" also comes with status 200 and no Retry-After.
var throttles = []string{"ratelimited", "rate_limited", "message_limit_exceeded"}

// perhaps: "It's possible some aspect of the operation succeeded before the error was
// raised" (the methods' pages).
var perhaps = []string{"internal_error", "fatal_error"}

// call makes one call of the Web API and classes its failure.
func call[T any](ctx context.Context, op string, eff wire.Effect, fn func(context.Context) (T, error)) (T, *wire.Exchange, *activities.Fault) {
	ctx, x := wire.With(ctx)
	out, err := fn(ctx)
	if err == nil && succeeded(x) {
		return out, x, nil
	}
	var zero T
	return zero, x, classify(ctx, op, eff, x, err)
}

// answer is the part of every answer that tells success. slack-go takes an answer
// without "ok" and "error" for success; a proxy's {} is none.
type answer struct {
	OK     bool   `json:"ok"`
	Error  string `json:"error"`
	Needed string `json:"needed"`
}

func read(x *wire.Exchange) answer {
	var a answer
	if json.Unmarshal(x.Body, &a) != nil {
		return answer{}
	}
	return a
}

func succeeded(x *wire.Exchange) bool { return x.Status == http.StatusOK && read(x).OK }

func classify(ctx context.Context, op string, eff wire.Effect, x *wire.Exchange, err error) *activities.Fault {
	var own *activities.Fault
	if errors.As(err, &own) {
		own.Op = op
		return own
	}
	f := x.Fault(op, "X-Slack-Req-Id")
	if x.Broken(ctx, f, eff, err) {
		return f
	}
	set := func(c activities.Class, detail string) *activities.Fault {
		f.Class, f.Detail = c, detail
		return f
	}
	a := read(x)
	if x.Status == http.StatusTooManyRequests || slices.Contains(throttles, a.Error) {
		f.After = x.After()
		return set(activities.ClassThrottled, "too many calls")
	}
	if r, ok := refusals[a.Error]; ok && !a.OK {
		if a.Error == "missing_scope" {
			f.Permission = known(a.Needed)
		}
		return set(r.class, r.do+" ("+a.Error+")")
	}
	switch {
	case slices.Contains(perhaps, a.Error):
		return set(wire.Lost(eff), "Slack failed ("+a.Error+")")
	case x.Status >= 500:
		return set(wire.Lost(eff), "Slack failed")
	case a.OK:
		return set(wire.Lost(eff), "Slack's answer cannot be read")
	}
	return set(activities.ClassUnclear, "an answer we do not know: is a proxy in between?")
}

// known gives those of the scopes that Slack names which are ours to ask for.
func known(needed string) string {
	var out []string
	for _, s := range strings.FieldsFunc(needed, func(r rune) bool { return r == ',' || r == ' ' || r == '|' }) {
		if slices.Contains(scopes, s) {
			out = append(out, s)
		}
	}
	return strings.Join(out, ", ")
}

// refused tells whether f is Slack's refusal with that code.
func refused(f *activities.Fault, codes ...string) bool {
	return f != nil && slices.ContainsFunc(codes, func(code string) bool { return strings.HasSuffix(f.Detail, "("+code+")") })
}
