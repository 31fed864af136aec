package github

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/go-github/v60/github"

	"rekey/activities"
	"rekey/activities/notify"
	"rekey/activities/notify/text"
	"rekey/activities/notify/wire"
)

// maxSkew: GitHub refuses an App's JWT issued in the future
// (https://docs.github.com/en/apps/creating-github-apps/authenticating-with-a-github-app/generating-a-json-web-token-jwt-for-a-github-app).
const maxSkew = 30 * time.Second

// wide are classic scopes that reach far beyond issues.
var wide = []string{"admin:", "delete_repo", "write:org", "workflow", "site_admin", "write:packages", "delete:packages", "user"}

// Check implements notify.Checker: the credential, its scopes (X-OAuth-Scopes of
// classic tokens) and its end, the clock, and each repository: seen, not archived,
// issues on. Whether a fine-grained token may write issues is told by no read.
func (c *Client) Check(ctx context.Context, targets ...string) []notify.Problem {
	g, f := c.api()
	if f != nil {
		return []notify.Problem{credential(f)}
	}
	var out []notify.Problem
	if c.app == 0 {
		_, x, f := call(ctx, "GET /user", wire.Reads, func(ctx context.Context) (*github.User, error) {
			u, _, err := g.Users.Get(ctx, "")
			return u, err
		})
		out = append(out, clock(x)...)
		if f != nil {
			return append(out, credential(f))
		}
		out = append(out, checkScopes(x)...)
	} else if _, f := c.login(ctx); f != nil {
		return append(out, credential(f))
	}
	for _, target := range targets {
		ps, x := c.checkRepo(ctx, g, target)
		if c.app != 0 && len(out) == 0 && x != nil {
			out = append(out, clock(x)...)
		}
		out = append(out, ps...)
	}
	return out
}

func clock(x *wire.Exchange) []notify.Problem {
	if !x.Dated || x.Skew.Abs() <= maxSkew {
		return nil
	}
	return []notify.Problem{{
		Code: notify.ProblemClock, What: fmt.Sprintf("this machine's clock and GitHub's differ by %s", text.Span(x.Skew.Abs())),
		Do: "set the clock (NTP): an App's token is refused when it seems issued in the future",
	}}
}

func credential(f *activities.Fault) notify.Problem {
	if f.Class == activities.ClassDenied {
		return notify.Problem{Code: notify.ProblemCredential, What: f.Detail, Do: "docs/github/README.md says how to make the token or App"}
	}
	return notify.Problem{Code: notify.ProblemUnreachable, What: "GitHub was not reached: " + f.Detail, Do: "check the network, channels.github.base_url and ca_file"}
}

func checkScopes(x *wire.Exchange) []notify.Problem {
	var out []notify.Problem
	if values, ok := x.Header["X-Oauth-Scopes"]; ok && len(values) > 0 { // classic tokens only
		var have, more []string
		for s := range strings.SplitSeq(values[0], ",") {
			have = append(have, strings.TrimSpace(s))
		}
		if !slices.Contains(have, "repo") && !slices.Contains(have, "public_repo") {
			out = append(out, notify.Problem{
				Code: notify.ProblemScope, What: "the classic token lacks the scope repo (public_repo for a public repository)",
				Do: "use a fine-grained token with Issues: read and write for the one repository",
			})
		}
		for _, s := range have {
			if slices.ContainsFunc(wide, func(w string) bool { return strings.HasPrefix(s, w) }) {
				more = append(more, text.Line(s, 40))
			}
		}
		if len(more) > 0 {
			out = append(out, notify.Problem{
				Code: notify.ProblemTooWide, What: "the token can do more than rekey needs: " + strings.Join(more, ", "), Warning: true,
				Do: "use a fine-grained token with Issues: read and write for the one repository",
			})
		}
	}
	// https://docs.github.com/en/rest/overview: "2026-12-01 00:00:00 UTC", also "… +0100".
	for _, form := range []string{"2006-01-02 15:04:05 MST", "2006-01-02 15:04:05 -0700"} {
		end, err := time.Parse(form, x.Header.Get("GitHub-Authentication-Token-Expiration"))
		if err == nil && time.Until(end) < 7*24*time.Hour {
			out = append(out, notify.Problem{
				Code: notify.ProblemExpires, What: "the token ends at " + text.When(end), Warning: true, Do: "make a new one and write it into channels.github.token_file",
			})
			break
		}
	}
	return out
}

func (c *Client) checkRepo(ctx context.Context, g *github.Client, target string) ([]notify.Problem, *wire.Exchange) {
	const op = "GET /repos"
	problem := func(what, do string) []notify.Problem {
		return []notify.Problem{{Code: notify.ProblemTarget, Target: target, What: what, Do: do}}
	}
	owner, repo, f := split(op, target)
	if f != nil {
		return problem(f.Detail, "correct record.github.repo in the playbook"), nil
	}
	got, x, f := call(ctx, op, wire.Reads, func(ctx context.Context) (*github.Repository, error) {
		r, _, err := g.Repositories.Get(ctx, owner, repo)
		return r, err
	})
	switch {
	case f != nil && x.Status == http.StatusNotFound:
		return problem("the repository is not there, or the credential may not see it", "let the token or App have this repository"), x
	case f != nil:
		p := credential(f)
		p.Target = target
		return []notify.Problem{p}, x
	case got.GetArchived():
		return problem("the repository is archived: it takes no issues", "name another one in record.github.repo"), x
	case !got.GetHasIssues():
		return problem("issues are switched off in the repository", "switch them on in its settings"), x
	case got.Visibility != nil && got.GetVisibility() == "public":
		ps := problem("the repository is public: everybody reads the incident", "use a private repository")
		ps[0].Warning = true
		return ps, x
	}
	return nil, x
}
