package github

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/google/go-github/v60/github"

	"rekey/activities"
	"rekey/activities/notify/wire"
)

// minute is how long to wait at a secondary limit that names no time: "wait for at
// least one minute before retrying"
// (https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api#exceeding-the-rate-limit).
const minute = time.Minute

// call makes one call and classes its failure.
func call[T any](ctx context.Context, op string, eff wire.Effect, fn func(context.Context) (T, error)) (T, *wire.Exchange, *activities.Fault) {
	ctx, x := wire.With(ctx)
	out, err := fn(ctx)
	if err == nil && x.Status/100 == 2 {
		return out, x, nil
	}
	var zero T
	return zero, x, classify(ctx, op, eff, x, err)
}

// classify: the meanings of status codes are of
// https://docs.github.com/en/rest/using-the-rest-api/troubleshooting-the-rest-api and
// the pages of issues, comments and labels. GitHub answers 404 for what the
// credential may not see.
func classify(ctx context.Context, op string, eff wire.Effect, x *wire.Exchange, err error) *activities.Fault {
	var own *activities.Fault
	if errors.As(err, &own) {
		own.Op = op
		return own
	}
	f := x.Fault(op, "X-GitHub-Request-Id")
	if x.Broken(ctx, f, eff, err) {
		return f
	}
	set := func(c activities.Class, detail string) *activities.Fault {
		f.Class, f.Detail = c, detail
		return f
	}
	if after, ok := throttled(x, err); ok {
		f.After = after
		return set(activities.ClassThrottled, "too many calls")
	}
	switch {
	case x.Status == http.StatusUnauthorized:
		return set(activities.ClassDenied, "the credential is not accepted: it is expired or revoked, or (App) the clock is wrong; see channels.github in docs/github/README.md")
	case x.Status == http.StatusForbidden:
		f.Permission = "Issues: read and write"
		return set(activities.ClassDenied, "the credential may not do this: give it the permission for the repository, and authorise it for the organisation's single sign-on")
	case x.Status == http.StatusNotFound:
		return set(activities.ClassDenied, "not there, or not to be seen by our credential: check record.github.repo, let the token or App have this repository")
	case x.Status == http.StatusGone:
		return set(activities.ClassInvalid, "issues are switched off in the repository, or this one was deleted")
	case x.Status == http.StatusUnprocessableEntity || x.Status == http.StatusBadRequest:
		return set(activities.ClassInvalid, fmt.Sprintf("GitHub refuses the content (status %d)", x.Status))
	case x.Status >= 500:
		return set(wire.Lost(eff), "GitHub failed")
	case x.Status/100 == 2:
		return set(wire.Lost(eff), "GitHub's answer cannot be read")
	}
	return set(activities.ClassUnclear, "an answer we do not know: is a proxy in between?")
}

// throttled tells the primary limit (403 or 429 with nothing remaining, until reset),
// and the secondary ones (Retry-After, or only the words of the answer).
func throttled(x *wire.Exchange, err error) (time.Duration, bool) {
	if x.Status != http.StatusForbidden && x.Status != http.StatusTooManyRequests {
		return 0, false
	}
	if x.Header.Get("Retry-After") != "" {
		return x.After(), true
	}
	if x.Header.Get("X-RateLimit-Remaining") == "0" {
		if at, err := strconv.ParseInt(x.Header.Get("X-RateLimit-Reset"), 10, 64); err == nil {
			return max(wire.Bounded(time.Until(time.Unix(at, 0))), time.Second), true
		}
		return minute, true
	}
	var secondary *github.AbuseRateLimitError
	if errors.As(err, &secondary) || x.Status == http.StatusTooManyRequests || strings.Contains(string(x.Body), "secondary rate limit") {
		return minute, true
	}
	return 0, false
}
