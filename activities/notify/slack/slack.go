// Package slack follows an incident in a channel of one Slack workspace: a card that
// is changed in place, and a thread below it that tells the story.
//
// Every message carries its marker twice: as metadata, which Slack gives back to the
// app that wrote it (https://docs.slack.dev/messaging/message-metadata/), and hashed
// as the id of its first block, for answers without metadata. So a message whose
// answer was lost is found and not posted again.
package slack

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/slack-go/slack"

	"rekey/activities"
	"rekey/activities/notify"
	"rekey/activities/notify/wire"
)

// Code names the channel in rekey.yaml and playbooks. It is written into histories.
const Code = "slack"

// scopes are what the app needs, least first. groups:… only for private channels
// (https://docs.slack.dev/reference/scopes).
var scopes = []string{"chat:write", "channels:read", "channels:history", "groups:read", "groups:history"}

// Channel describes Slack and opens it.
func Channel() notify.Channel {
	return notify.Channel{
		Descriptor: notify.Descriptor{
			Code: Code, Name: "Slack", Docs: "https://docs.slack.dev/reference/methods", Delivery: notify.Detectable,
			Permissions: scopes,
			// https://docs.slack.dev/apis/web-api/rate-limits; posting is 1 a second and
			// channel whatever the tier.
			Limits: []activities.Limit{
				{API: "chat.postMessage", Rate: "1/s", Per: "channel", Value: 1},
				{API: "chat.update", Rate: "50/min", Per: "workspace and app", Value: 50.0 / 60},
				{API: "conversations.history", Rate: "50/min", Per: "workspace and app", Value: 50.0 / 60},
				{API: "conversations.list", Rate: "20/min", Per: "workspace and app", Value: 20.0 / 60},
			},
		},
		Open: open,
	}
}

// A Client is the app of one workspace. It is safe for concurrent use and holds no
// credential: each request reads the token, so a rotated file counts at once.
type Client struct {
	account activities.Account
	team    string
	api     *slack.Client

	mu       sync.Mutex
	selves   map[[sha256.Size]byte]self // by hash of the token
	channels map[string]string          // "incidents" -> id
}

var (
	_ notify.Recorder = (*Client)(nil)
	_ notify.Checker  = (*Client)(nil)
)

// self is who we are to Slack.
type self struct{ team, user, bot, url string }

func open(a activities.Account, d activities.Deps) (any, error) {
	base, err := baseURL(a.Settings["base_url"], a.AllowPrivate)
	if err != nil {
		return nil, fmt.Errorf("channels.slack: %w", err)
	}
	h, err := d.HTTP(a)
	if err != nil {
		return nil, fmt.Errorf("channels.slack: %w", err)
	}
	c := &Client{account: a, team: a.Settings["team"], selves: map[[sha256.Size]byte]self{}, channels: map[string]string{}}
	agent := d.Agent
	if agent == "" {
		agent = "rekey"
	}
	c.api = slack.New("", slack.OptionAPIURL(base), slack.OptionHTTPClient(wire.Client(h, func(r *http.Request) error {
		r.Header.Set("User-Agent", agent)
		return c.authorize(r)
	})))
	return c, nil
}

// baseURL checks where the token may be sent.
func baseURL(s string, private bool) (string, error) {
	if s == "" {
		return slack.APIURL, nil
	}
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Scheme != "https" && u.Scheme != "http" {
		return "", errors.New("base_url must be a URL without user and query, as in https://slack.com/api/")
	}
	if u.Scheme == "http" && !private {
		return "", errors.New("base_url without TLS is for test servers: use https, or set allow_private")
	}
	return strings.TrimRight(u.String(), "/") + "/", nil
}

// authorize puts the token into the header, where no log of URLs or bodies sees it,
// and takes slack-go's form field "token" out.
func (c *Client) authorize(r *http.Request) error {
	token, f := c.token()
	if f != nil {
		return f
	}
	r.Header.Set("Authorization", "Bearer "+token)
	if r.Body == nil {
		return nil
	}
	body, err := io.ReadAll(r.Body)
	_ = r.Body.Close()
	if err != nil {
		return err
	}
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		form, err := url.ParseQuery(string(body))
		if err != nil {
			return err
		}
		form.Del("token")
		body = []byte(form.Encode())
	}
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	return nil
}

// token reads the bot token. What is wrong with it is said without it.
func (c *Client) token() (string, *activities.Fault) {
	denied := func(detail string) (string, *activities.Fault) {
		return "", &activities.Fault{Class: activities.ClassDenied, Op: "slack", Detail: detail}
	}
	if c.account.Credential == nil {
		return denied("no bot token: set channels.slack.bot_token_file")
	}
	v, err := c.account.Credential("bot_token")
	if err != nil {
		return denied(err.Error()) // the configuration's own words: it names the file, never what is in it
	}
	b := v.Reveal()
	defer clear(b)
	token := strings.TrimSpace(string(b))
	switch {
	case token == "":
		return denied("channels.slack.bot_token_file is empty: write the app's bot token (xoxb-…) into it")
	case strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }):
		return denied("channels.slack.bot_token_file holds more than one token: write the bot token (xoxb-…) alone into it")
	case strings.HasPrefix(token, "xapp-"), strings.HasPrefix(token, "https://"):
		return denied("channels.slack.bot_token_file holds an app token or a webhook address: write the bot token (xoxb-…) into it")
	}
	return token, nil
}

// self asks who we are, once per token, and refuses the token of another workspace:
// an incident must not be told to strangers.
func (c *Client) self(ctx context.Context) (self, *activities.Fault) {
	token, f := c.token()
	if f != nil {
		f.Op = "auth.test"
		return self{}, f
	}
	key := sha256.Sum256([]byte(token))
	c.mu.Lock()
	s, ok := c.selves[key]
	c.mu.Unlock()
	if ok {
		return s, nil
	}
	got, _, f := call(ctx, "auth.test", wire.Reads, c.api.AuthTestContext)
	if f != nil {
		return self{}, f
	}
	s = self{team: got.TeamID, user: got.UserID, bot: got.BotID, url: got.URL}
	if c.team != "" && s.team != c.team {
		return self{}, &activities.Fault{
			Class: activities.ClassDenied, Op: "auth.test",
			Detail: "the bot token is of another workspace than channels.slack.team (" + c.team + "): install the app there, or correct the team",
		}
	}
	c.mu.Lock()
	c.selves[key] = s
	c.mu.Unlock()
	return s, nil
}
