package slackapp

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/slack-go/slack"
)

// A who is somebody who may at least read and report.
type who struct {
	// id is TEAM/USER; person the name in rekey.yaml, "" for a reader.
	id, person string
	roles      []string
}

// actor is how a report names them.
func (w who) actor() string {
	if w.person != "" {
		return w.person
	}
	return "slack:" + w.id
}

// remembered is how long what Slack said of a user is believed.
const (
	remembered    = time.Minute
	maxRemembered = 4096
)

// cache keeps Slack's answers for a moment. Only answers: a failure is asked again.
type cache struct {
	mu     sync.Mutex
	users  map[string]known[slack.User]
	groups map[string]known[[]string]
}

type known[T any] struct {
	v     T
	until time.Time
}

func lookup[T any](c *cache, in *map[string]known[T], key string, now time.Time, ask func() (T, error)) (T, error) {
	c.mu.Lock()
	k, ok := (*in)[key]
	c.mu.Unlock()
	if ok && now.Before(k.until) {
		return k.v, nil
	}
	v, err := ask()
	if err != nil {
		return v, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if *in == nil || len(*in) >= maxRemembered {
		*in = map[string]known[T]{}
	}
	(*in)[key] = known[T]{v, now.Add(remembered)}
	return v, nil
}

// identify tells who asks. The answer is their refusal; the error is *later when
// Slack could not be asked. A person of rekey.yaml who has become a guest, or whose
// account is closed, is nobody any more.
func (a *App) identify(ctx context.Context, req *request) (who, *answer, error) {
	w := who{id: req.Team + "/" + req.User}
	w.person = a.people[w.id]
	if w.person != "" {
		w.roles = a.Config.People[w.person].Roles
	}
	readers := a.Config.Channels.Slack.Readers
	nobody := func() (who, *answer, error) {
		return w, refusal("unknown-user", "rekey does not know you, so it can neither tell nor do anything for you here.").
			add("To *vote*, have the person who runs rekey add `people.<name>.slack: %s` to rekey.yaml.", w.id).
			add("To *read and report*, have them add a user group of yours, or your mail domain, under `channels.slack.readers`.").
			add("If a key is out right now, tell your security team by another way."), nil
	}
	if w.person == "" && len(readers.UserGroups) == 0 && len(readers.EmailDomains) == 0 {
		return nobody()
	}
	// In an organisation Slack names it here, and not the workspace
	// (https://docs.slack.dev/reference/interaction-payloads/block_actions-payload, user):
	// then users.info tells.
	if strings.HasPrefix(req.Home, "T") && req.Home != req.Team && strings.HasPrefix(req.Team, "T") {
		return w, stranger(), nil
	}
	api, err := a.client()
	if err != nil {
		a.Log.Error("the Slack token cannot be read", "error", err)
		return w, nil, cannotTell()
	}
	u, err := lookup(&a.cache, &a.cache.users, w.id, a.Now(), func() (slack.User, error) {
		u, err := api.GetUserInfoContext(ctx, req.User)
		if err != nil {
			return slack.User{}, err
		}
		return *u, nil
	})
	var said slack.SlackErrorResponse
	switch {
	case err == nil:
	case errors.As(err, &said) && (said.Err == "user_not_found" || said.Err == "user_not_visible"):
		// Slack has told: there is nobody of that name for us. To ask again for as long
		// as a report lives would use up what may be asked for everybody.
		return w, stranger(), nil
	default:
		a.Log.Error("users.info failed", "code", vendorCode(err))
		return w, nil, cannotTell()
	}
	if no := a.notAllowed(u, req); no != nil {
		return w, no, nil
	}
	if w.person != "" {
		return w, nil, nil
	}
	yes, err := a.reads(ctx, api, u)
	switch {
	case yes:
		return w, nil, nil
	case err != nil:
		a.Log.Error("usergroups.users.list failed", "code", vendorCode(err))
		return w, nil, cannotTell()
	}
	return nobody()
}

func stranger() *answer {
	return refusal("stranger", "You belong to another organisation's Slack, and rekey takes nothing from there.").
		add("Tell the people whose workspace this is, or use their published way to report.")
}

func cannotTell() error {
	return &later{refusal("unknown-user", "rekey could not ask Slack who you are, and does nothing for somebody it cannot name.").
		add("Try again in a moment; the command line works without Slack.")}
}

// notAllowed tells guests, bots, closed accounts and people of other workspaces
// (https://docs.slack.dev/reference/objects/user-object).
func (a *App) notAllowed(u slack.User, req *request) *answer {
	enterprise := strings.HasPrefix(req.Team, "E")
	switch {
	case u.ID != req.User || u.IsStranger, !enterprise && u.TeamID != req.Team, enterprise && u.Enterprise.EnterpriseID != req.Team:
		return stranger()
	case u.Deleted || u.IsInvitedUser:
		return refusal("unknown-user", "This Slack account is closed, or was never opened.").add("Have it opened by whoever runs your Slack.")
	case u.IsBot || u.IsConnectorBot || u.IsWorkflowBot:
		return refusal("bot", "rekey listens to people, not to bots.").add("A machine reports through the HTTP API with a token of its own.")
	case u.IsRestricted || u.IsUltraRestricted:
		return refusal("guest", "Guests of this workspace can do nothing with rekey.").add("Tell a full member what you have found.")
	}
	return nil
}

// reads tells whether u is a reader. A group that cannot be asked says nothing for
// them.
func (a *App) reads(ctx context.Context, api *slack.Client, u slack.User) (bool, error) {
	readers := a.Config.Channels.Slack.Readers
	if at := strings.LastIndexByte(u.Profile.Email, '@'); at > 0 && u.IsEmailConfirmed {
		domain := u.Profile.Email[at+1:]
		if slices.ContainsFunc(readers.EmailDomains, func(d string) bool { return strings.EqualFold(d, domain) }) {
			return true, nil
		}
	}
	var failed error
	for _, g := range readers.UserGroups {
		members, err := lookup(&a.cache, &a.cache.groups, g, a.Now(), func() ([]string, error) {
			return api.GetUserGroupMembersContext(ctx, g)
		})
		if err != nil {
			failed = err
			continue
		}
		if slices.Contains(members, u.ID) {
			return true, nil
		}
	}
	return false, failed
}

// vendorCode gives Slack's error code, never a text.
func vendorCode(err error) string {
	code := err.Error()
	if len(code) > 64 || strings.Trim(code, "abcdefghijklmnopqrstuvwxyz_") != "" {
		return "unreachable"
	}
	return code
}
