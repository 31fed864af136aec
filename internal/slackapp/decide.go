package slackapp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/slack-go/slack"

	"rekey/activities/notify/text"
	"rekey/internal/server"
	"rekey/internal/statement"
	"rekey/internal/view"
	"rekey/workflows"
)

// maxReason bounds what a person writes beside a decision.
const maxReason = 2000

// askWhy opens the modal for the reason of a denial. Nothing is decided yet, so that
// a person's name is enough; the answer to the modal is checked like every request.
// The answer is nil when the modal is open.
func (a *App) askWhy(ctx context.Context, req *request, c asked) *answer {
	typed := say("Type it instead: `%s deny %s %s` and the reason.", Command, c.incident, c.approval)
	const triggerLife = 3 * time.Second
	if a.Now().Sub(req.At) > triggerLife {
		return refusal("late", "Slack's time to ask you for the reason has passed.").append(typed)
	}
	state, err := json.Marshal(modalState{Value: req.Value, Respond: req.Respond, Channel: req.Channel})
	if err != nil {
		return typed
	}
	api, err := a.client()
	if err != nil {
		a.Log.Error("the Slack token cannot be read", "error", err)
		return typed
	}
	plain := func(s string) *slack.TextBlockObject {
		return slack.NewTextBlockObject(slack.PlainTextType, s, false, false)
	}
	input := slack.NewPlainTextInputBlockElement(plain("no secrets; it is on record"), reasonInput)
	input.Multiline, input.MaxLength = true, maxReason
	ctx, cancel := context.WithTimeout(ctx, triggerLife)
	defer cancel()
	_, err = api.OpenViewContext(ctx, req.Trigger, slack.ModalViewRequest{
		Type: slack.VTModal, CallbackID: reasonModal, PrivateMetadata: string(state),
		Title: plain("Deny a wave"), Submit: plain("Deny"), Close: plain("Cancel"),
		Blocks: slack.Blocks{BlockSet: []slack.Block{
			slack.NewSectionBlock(plain(fmt.Sprintf("%s, question %s. Your vote against it is final.", c.incident, c.approval)), nil, nil),
			slack.NewInputBlock(reasonBlock, plain("Why not?"), nil, input),
		}},
	})
	if err != nil {
		a.Log.Error("views.open failed", "code", vendorCode(err))
		return refusal("late", "Slack did not let rekey ask you for the reason.").append(typed)
	}
	return nil
}

// decide says to an incident what a person decided, signed by this server, which has
// authenticated them. The incident decides whether it counts.
func (a *App) decide(ctx context.Context, req *request, w who, c asked) (*answer, error) {
	if w.person == "" {
		return refusal(view.CodeWrongRole, "You may read and report here; votes and holds are for the people named in rekey.yaml.").
			add("To be one of them, have `people.<name>.slack: %s` added, with a role.", w.id), nil
	}
	v, err := a.Incidents.Show(ctx, c.incident)
	if err != nil {
		return a.problem(ctx, err)
	}
	s := statement.Statement{Action: c.verb, Incident: c.incident, Text: text.Line(a.Redact.String(c.reason), maxReason)}
	switch c.verb {
	case verbApprove, verbDeny:
		if no := a.aim(&s, v, w, c.command); no != nil {
			return no, nil
		}
		if c.verb == verbDeny && s.Text == "" {
			return refusal(view.CodeInvalid, "A denial needs a reason.").add("`%s deny %s %s reason…`", Command, c.incident, s.Approval), nil
		}
	case verbHold:
		if s.Items, err = a.items(ctx, v, c.items); err != nil {
			return a.down(err)
		}
		s.Until = req.At.Add(c.until)
	case verbRelease:
		s.Task = c.hold
	default:
		return refusal("usage", "That cannot be done here.").add("`%s help`", Command), nil
	}
	s.Actor, s.Method, s.Nonce, s.Issued, s.Expires = w.person, statement.MethodSlack, req.nonce(), req.At, req.At.Add(voteLife)
	signed, err := statement.Sign(s, a.Signer)
	if err != nil {
		return a.down(err)
	}
	d, err := a.Incidents.Decide(ctx, signed)
	var refused *server.Refused
	switch {
	case errors.As(err, &refused) && refused.Body.Code == view.CodeReplayed:
		return a.before(ctx, w, s)
	case errors.As(err, &refused):
		return refusedWords(refused.Body, s), nil
	case err != nil:
		return a.problem(ctx, err)
	}
	a.Log.Info("decided in Slack", "incident", s.Incident, "action", s.Action, "actor", s.Actor, "approval", d.Approval, "state", d.State)
	return accepted(s, d, v), nil
}

// aim binds a vote to the question that the person saw, and picks the role that is
// still wanted.
func (a *App) aim(s *statement.Statement, v view.Incident, w who, c command) *answer {
	if c.approval == "" && c.hash == "" {
		return open(v, "Say which question you vote on, so that the vote counts for what you saw:")
	}
	s.Approval, s.WaveHash = c.approval, c.hash
	const whole = len("sha256:") + 64
	var found []view.Approval
	for _, q := range v.Approvals {
		if (c.approval == "" || q.ID == c.approval) && strings.HasPrefix(q.WaveHash, c.hash) && (c.approval != "" || q.State == "open") {
			found = append(found, q)
		}
	}
	switch {
	case len(found) == 1:
		q := found[0]
		s.Approval, s.WaveHash = q.ID, q.WaveHash
		for _, role := range q.Roles {
			if slices.Contains(w.roles, role) && !slices.ContainsFunc(q.Votes, func(x view.Vote) bool { return x.Role == role }) {
				s.Role = role
				break
			}
		}
	case len(found) > 1:
		return open(v, "Several questions are open under this hash; name one:")
	case len(c.hash) != whole && c.hash != "", c.hash == "":
		// A whole hash goes to the incident as it is: that it is stale is for the
		// incident to say, and to record.
		return open(v, "No question of this incident is called that.")
	}
	return nil
}

// open lists the open questions with what to type.
func open(v view.Incident, why string) *answer {
	out := refusal(view.CodeInvalid, "%s", why)
	n := 0
	for _, q := range v.Approvals {
		if q.State != "open" {
			continue
		}
		n++
		out.add("• *%s* %s: %d of %d votes, roles %s", q.ID, q.What, yes(q), q.Needed, strings.Join(q.Roles, ", "))
		out.add("  `%s approve %s %s`  or  `%s deny %s %s reason…`", Command, v.ID, q.ID, Command, v.ID, q.ID)
	}
	if n == 0 {
		out.add("Nothing is open to vote on in `%s` now.", v.ID)
	}
	return out
}

func yes(q view.Approval) int {
	n := 0
	for _, x := range q.Votes {
		if x.Vote == "approve" {
			n++
		}
	}
	return n
}

// items finds what a hold names; "all" is every item in scope. A large incident looks
// its rows up itself, and knows names that stand for many.
func (a *App) items(ctx context.Context, v view.Incident, names []string) ([]string, error) {
	all := v.Items
	if v.Mass != nil {
		out := make([]string, len(names))
		for i, name := range names {
			out[i] = name
			if strings.EqualFold(name, "all") {
				out[i] = "all"
			}
			if k := slices.IndexFunc(all, func(it view.Item) bool { return strings.EqualFold(it.Short, name) }); k >= 0 {
				out[i] = all[k].FP
			}
		}
		return out, nil
	}
	if v.Truncated {
		var err error
		if all, err = a.Incidents.Items(ctx, v.ID); err != nil {
			return nil, err
		}
	}
	if len(names) == 1 && strings.EqualFold(names[0], "all") {
		out := make([]string, len(all))
		for i, it := range all {
			out[i] = it.FP
		}
		return out, nil
	}
	var out []string
	for _, name := range names {
		i := slices.IndexFunc(all, func(it view.Item) bool { return it.FP == name || strings.EqualFold(it.Short, name) || it.KeyID == name })
		if i < 0 {
			return nil, &server.Refused{Body: view.ErrorBody{Code: view.CodeNotFound, Message: "One of the items is not in this incident; nothing was held", Do: "`status` shows the items with their short ids"}}
		}
		out = append(out, all[i].FP)
	}
	return out, nil
}

// before answers for a decision that this very request has brought already: its
// answer was lost, or the process died before it was told.
func (a *App) before(ctx context.Context, w who, s statement.Statement) (*answer, error) {
	v, err := a.Incidents.Show(ctx, s.Incident)
	if err != nil {
		return a.problem(ctx, err)
	}
	for _, q := range v.Approvals {
		for _, x := range q.Votes {
			if q.ID == s.Approval && x.Actor == w.person && x.Auth == statement.MethodSlack {
				return say("Your vote (%s) on *%s* is counted: %d of %d.", x.Vote, q.ID, yes(q), q.Needed), nil
			}
		}
	}
	for _, r := range slices.Backward(v.Refusals) {
		if r.Actor == w.person && r.Action == s.Action && r.Code != view.CodeReplayed {
			return refusedWords(view.ErrorBody{Code: r.Code, Message: r.Why}, s), nil
		}
	}
	return say("This was taken already; `%s status %s` shows what came of it.", Command, s.Incident), nil
}

func accepted(s statement.Statement, d workflows.Decision, v view.Incident) *answer {
	switch s.Action {
	case verbHold:
		return say("*On hold* (`%s`): %d item(s), until %s.", d.ID, len(s.Items), text.When(s.Until)).
			add("`%s release %s %s` ends it earlier.", Command, s.Incident, d.ID)
	case verbRelease:
		return say("*Released.* The items go on.")
	case verbDeny:
		return say("*Your vote against %s is counted.* It is %s.", s.Approval, d.State)
	}
	out := say("*Your vote for %s is counted*: %d of %d. It is %s.", s.Approval, d.Votes, d.Needed, d.State)
	i := slices.IndexFunc(v.Approvals, func(q view.Approval) bool { return q.ID == s.Approval })
	if d.State == "open" && i >= 0 && v.Approvals[i].Outside > 0 {
		out.add("At least %d of the votes must come from outside of Slack: `rekey incident approve %s --wave HASH`.", v.Approvals[i].Outside, s.Incident)
	}
	return out
}

// refusedWords says in words why a decision was not accepted, and what to do in
// Slack: what the incident itself advises is for the command line.
func refusedWords(b view.ErrorBody, s statement.Statement) *answer {
	status := fmt.Sprintf("%s status %s", Command, s.Incident)
	words := map[string][2]string{
		view.CodeSelfApproval:   {"You reported this, and nobody approves the response to their own report.", "Somebody else must vote."},
		view.CodeStalePlan:      {"The plan has changed since this was shown; your vote did not count.", "Look at it again and vote for what stands there now: " + status},
		view.CodeWrongRole:      {"Your roles do not cover this.", "The question names the roles that may: " + status},
		view.CodeAlreadyVoted:   {"You have voted on this. One person, one vote, whatever the channel.", "Others must vote now."},
		view.CodeExpired:        {"This came too late to count.", "Do it again. If it happens twice, compare the clock of rekey's machine with the world's."},
		view.CodeNoOpenApproval: {"Nothing is open to vote on there: it was decided, or has lapsed.", "See what is: " + status},
		view.CodeNotFound:       {"The incident knows no such item or hold.", "See which there are: " + status},
		view.CodeClosed:         {"The incident is over.", "If there is new evidence, report the key again; that reopens it."},
		view.CodeHeld:           {"The items are on hold, and do not move.", "Release the hold first, or vote when it has ended: " + status},
		view.CodeForged:         {"The incident does not accept Slack's word for you: it keeps the people it started with.", "Vote by the command line with your own key: rekey incident " + s.Action + " " + s.Incident},
		view.CodeWrongChannel:   {"Slack cannot carry this: it is for the command line, or Slack itself is in scope.", "Use the command line with your own key: rekey incident " + s.Action + " " + s.Incident},
	}[b.Code]
	if words[0] == "" {
		out := refusal(b.Code, "Not accepted: %s.", b.Message)
		if b.Do != "" {
			out.add("%s", b.Do)
		}
		return out
	}
	return refusal(b.Code, "*Not counted.* %s", words[0]).add("%s", words[1])
}
