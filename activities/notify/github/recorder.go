package github

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/go-github/v60/github"

	"rekey/activities"
	"rekey/activities/notify"
	"rekey/activities/notify/text"
	"rekey/activities/notify/wire"
)

// Open makes the issue. With Recheck an earlier one with the marker is given instead.
func (c *Client) Open(ctx context.Context, r notify.OpenRequest) (notify.Place, error) {
	const op = "POST /repos/issues"
	owner, repo, f := split(op, r.Target)
	if f != nil {
		return notify.Place{}, f
	}
	if r.Incident == "" || r.Marker == "" {
		return notify.Place{}, invalid(op, "the request names no incident or marker")
	}
	g, f := c.api()
	if f != nil {
		return notify.Place{}, f
	}
	if r.Recheck {
		found, f := c.findIssue(ctx, g, owner, repo, r.Marker, r.Card.Opened)
		if f != nil {
			return notify.Place{}, f
		}
		if found != nil {
			return place(r.Target, found), nil
		}
	}
	heading, body := title(r.Card), Body(r.Card, r.Marker)
	labels := c.ensureLabels(ctx, g, owner, repo, r.Labels)
	got, _, f := call(ctx, op, wire.Creates, func(ctx context.Context) (*github.Issue, error) {
		i, _, err := g.Issues.Create(ctx, owner, repo, &github.IssueRequest{Title: &heading, Body: &body, Labels: &labels})
		return i, err
	})
	if f != nil {
		return notify.Place{}, f
	}
	if got.GetNumber() < 1 {
		return notify.Place{}, &activities.Fault{Class: activities.ClassUnclear, Op: op, Detail: "the answer names no issue"}
	}
	return place(r.Target, got), nil
}

// Append writes a comment for the kinds that are worth a mail: opened, plan, ask,
// contained, human, closed, sealed, reopened, refused. For the others it does nothing
// and gives an empty id.
func (c *Client) Append(ctx context.Context, r notify.AppendRequest) (string, error) {
	const op = "POST /repos/issues/comments"
	if r.Marker == "" {
		return "", invalid(op, "the request has no marker")
	}
	owner, repo, number, f := at(op, r.Place)
	if f != nil {
		return "", f
	}
	if heads[r.Line.Kind] == "" {
		return "", nil
	}
	g, f := c.api()
	if f != nil {
		return "", f
	}
	id, f := c.comment(ctx, g, owner, repo, number, r.Marker, comment(r.Line, r.Marker), r.Recheck)
	if f != nil {
		return "", f
	}
	return id, nil
}

// Update writes the body and the title as the card is now.
func (c *Client) Update(ctx context.Context, r notify.UpdateRequest) error {
	return c.edit(ctx, r, "", "")
}

// Close writes the digest of the bundle into a last comment, once, and closes the
// issue as completed; a card that is open or waiting reopens it.
func (c *Client) Close(ctx context.Context, r notify.UpdateRequest) error {
	if r.Card.State == "open" || r.Card.State == "waiting" {
		return c.edit(ctx, r, "open", "reopened")
	}
	const op = "POST /repos/issues/comments"
	owner, repo, number, f := at(op, r.Place)
	if f != nil {
		return f
	}
	if r.Card.Bundle != "" {
		g, f := c.api()
		if f != nil {
			return f
		}
		// One for each bundle: a reopened incident is closed with another one. It is
		// looked for each time, so closing twice says it once.
		mark := r.Incident + "/closed/" + text.Line(r.Card.Bundle, 100)
		body := marker(mark) + "\n**" + esc(text.Status(r.Card)) + "**\n\nThe bundle of this incident is sealed: " + code(r.Card.Bundle, 100) +
			"\n\nVerify it without a network: " + code("rekey audit verify "+r.Incident+".zip", 80) + "\n"
		if _, f = c.comment(ctx, g, owner, repo, number, mark, body, true); f != nil {
			return f
		}
	}
	return c.edit(ctx, r, "closed", "completed")
}

func (c *Client) edit(ctx context.Context, r notify.UpdateRequest, state, reason string) error {
	const op = "PATCH /repos/issues"
	owner, repo, number, f := at(op, r.Place)
	if f != nil {
		return f
	}
	g, f := c.api()
	if f != nil {
		return f
	}
	mark := r.Marker
	if mark == "" {
		mark = r.Incident
	}
	heading, body := title(r.Card), Body(r.Card, mark)
	change := &github.IssueRequest{Title: &heading, Body: &body}
	if state != "" {
		change.State, change.StateReason = &state, &reason
	}
	got, _, f := call(ctx, op, wire.Repeats, func(ctx context.Context) (*github.Issue, error) {
		i, _, err := g.Issues.Edit(ctx, owner, repo, number, change)
		return i, err
	})
	if f != nil {
		return f
	}
	if got.GetNumber() != number {
		return &activities.Fault{Class: activities.ClassTransient, Op: op, Detail: "the answer is about another issue"}
	}
	return nil
}

// comment writes one, unless (with recheck) it is there.
func (c *Client) comment(ctx context.Context, g *github.Client, owner, repo string, number int, mark, body string, recheck bool) (string, *activities.Fault) {
	const op = "POST /repos/issues/comments"
	if recheck {
		id, f := c.findComment(ctx, g, owner, repo, number, mark)
		if f != nil || id != "" {
			return id, f
		}
	}
	got, _, f := call(ctx, op, wire.Creates, func(ctx context.Context) (*github.IssueComment, error) {
		i, _, err := g.Issues.CreateComment(ctx, owner, repo, number, &github.IssueComment{Body: &body})
		return i, err
	})
	if f != nil {
		return "", f
	}
	if got.GetID() == 0 {
		return "", &activities.Fault{Class: activities.ClassUnclear, Op: op, Detail: "the answer names no comment"}
	}
	return strconv.FormatInt(got.GetID(), 10), nil
}

// Pages that are read before we give up: a look-up that is cut off must not say that
// nothing was found.
const (
	pageSize = 100
	maxPages = 100
)

// findIssue looks for the issue from the newest to those older than the incident. It
// does not filter by label: GitHub drops the labels of a creator who may not set
// them, and says nothing.
func (c *Client) findIssue(ctx context.Context, g *github.Client, owner, repo, mark string, opened time.Time) (*github.Issue, *activities.Fault) {
	const op = "GET /repos/issues"
	me, f := c.login(ctx)
	if f != nil {
		return nil, f
	}
	oldest := since(opened)
	o := &github.IssueListByRepoOptions{State: "all", Sort: "created", Direction: "desc", ListOptions: github.ListOptions{Page: 1, PerPage: pageSize}}
	for range maxPages {
		got, _, f := call(ctx, op, wire.Reads, func(ctx context.Context) ([]*github.Issue, error) {
			is, _, err := g.Issues.ListByRepo(ctx, owner, repo, o)
			return is, err
		})
		if f != nil {
			return nil, f
		}
		for _, i := range got {
			if !i.IsPullRequest() && strings.EqualFold(i.GetUser().GetLogin(), me) && strings.HasPrefix(i.GetBody(), marker(mark)) && i.GetNumber() > 0 {
				return i, nil
			}
		}
		if len(got) < pageSize || got[len(got)-1].GetCreatedAt().Before(oldest) {
			return nil, nil
		}
		o.Page++
	}
	return nil, invalid(op, "more than %d issues were read without an end", maxPages*pageSize)
}

func (c *Client) findComment(ctx context.Context, g *github.Client, owner, repo string, number int, mark string) (string, *activities.Fault) {
	const op = "GET /repos/issues/comments"
	me, f := c.login(ctx)
	if f != nil {
		return "", f
	}
	o := &github.IssueListCommentsOptions{ListOptions: github.ListOptions{Page: 1, PerPage: pageSize}}
	for range maxPages {
		got, _, f := call(ctx, op, wire.Reads, func(ctx context.Context) ([]*github.IssueComment, error) {
			cs, _, err := g.Issues.ListComments(ctx, owner, repo, number, o)
			return cs, err
		})
		if f != nil {
			return "", f
		}
		for _, i := range got {
			if strings.EqualFold(i.GetUser().GetLogin(), me) && strings.HasPrefix(i.GetBody(), marker(mark)) && i.GetID() != 0 {
				return strconv.FormatInt(i.GetID(), 10), nil
			}
		}
		if len(got) < pageSize {
			return "", nil
		}
		o.Page++
	}
	return "", invalid(op, "more than %d comments were read without an end", maxPages*pageSize)
}

// ensureLabels makes labels that are missing and gives those to set. A label is worth
// no delay: what goes wrong here is left alone, the issue says itself what it is.
func (c *Client) ensureLabels(ctx context.Context, g *github.Client, owner, repo string, want []string) []string {
	out := []string{}
	for _, l := range want {
		l = cut(text.Line(l, maxLabel), maxLabel)
		if l == "" || slices.Contains(out, l) || len(out) == 20 {
			continue
		}
		out = append(out, l)
		key := owner + "/" + repo + "/" + strings.ToLower(l)
		c.mu.Lock()
		known := c.labels[key]
		c.mu.Unlock()
		if known {
			continue
		}
		_, x, f := call(ctx, "GET /repos/labels", wire.Reads, func(ctx context.Context) (*github.Label, error) {
			got, _, err := g.Issues.GetLabel(ctx, owner, repo, url.PathEscape(l))
			return got, err
		})
		if f != nil && x.Status == http.StatusNotFound {
			color, about := "b60205", "kept by rekey"
			_, _, f = call(ctx, "POST /repos/labels", wire.Repeats, func(ctx context.Context) (*github.Label, error) {
				got, _, err := g.Issues.CreateLabel(ctx, owner, repo, &github.Label{Name: &l, Color: &color, Description: &about})
				return got, err
			})
		}
		if f == nil {
			c.mu.Lock()
			c.labels[key] = true
			c.mu.Unlock()
		}
	}
	return out
}

// nameForm is what an owner and a repository can be called.
var nameForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9-]{0,38}/[A-Za-z0-9._-]{1,100}$`)

func split(op, target string) (owner, repo string, f *activities.Fault) {
	target = strings.TrimSpace(target)
	owner, repo, _ = strings.Cut(target, "/")
	if !nameForm.MatchString(target) || repo == "." || repo == ".." {
		return "", "", invalid(op, "record.github.repo must be OWNER/NAME, as in acme/security")
	}
	return owner, repo, nil
}

func at(op string, p notify.Place) (owner, repo string, number int, f *activities.Fault) {
	owner, repo, f = split(op, p.Where)
	number, err := strconv.Atoi(p.ID)
	if f != nil || err != nil || number < 1 || p.Channel != Code {
		return "", "", 0, invalid(op, "the place is none of GitHub's")
	}
	return owner, repo, number, nil
}

func place(target string, i *github.Issue) notify.Place {
	p := notify.Place{Channel: Code, Where: strings.TrimSpace(target), ID: strconv.Itoa(i.GetNumber())}
	u, err := url.Parse(i.GetHTMLURL())
	if err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.User == nil && len(i.GetHTMLURL()) <= 300 {
		p.URL = u.String()
	}
	return p
}

func invalid(op, format string, args ...any) *activities.Fault {
	return &activities.Fault{Class: activities.ClassInvalid, Op: op, Detail: fmt.Sprintf(format, args...)}
}

// since is from when on an earlier issue is looked for. The card's time is the
// world's, which may not be GitHub's: a day is left, and a time to come counts as now.
func since(opened time.Time) time.Time {
	if now := time.Now(); opened.IsZero() || opened.After(now) {
		opened = now
	}
	return opened.Add(-24 * time.Hour)
}
