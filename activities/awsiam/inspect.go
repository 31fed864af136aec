package awsiam

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudtrail/types"
	"github.com/aws/aws-sdk-go-v2/service/iam"

	"rekey/activities"
	"rekey/internal/canon"
)

var _ activities.Inspector = (*Client)(nil)

// lastAttempt is the attempt from which on a part that fails is listed as unseen
// instead of asked for again.
const lastAttempt = 3

// ownerTags are the tags that name an owner, best first.
var ownerTags = []string{"rekey:owner", "owner", "team", "contact"}

// Inspect reads the key, its principal and 90 days of CloudTrail. It costs a
// dozen IAM calls and, per region, one look-up for the key and one for each
// session it derived. A part that cannot be read is in Unseen with the missing
// right; the trail's missing time is in Dark. Only throttling and passing
// failures fail the whole, so that it is read again, and from the third attempt
// on not even those. CloudTrail delivers events after minutes, so the newest may
// be missing.
func (c *Client) Inspect(ctx context.Context, req activities.InspectRequest) (activities.InspectResult, error) {
	ctx, l := c.begin(ctx, req.Ref)
	if f := c.mine("iam:GetAccessKeyLastUsed", req.Key); f != nil {
		return activities.InspectResult{}, f
	}
	now := req.Now.UTC()
	if now.IsZero() {
		now = c.now(ctx)
	}
	i := &inspection{c: c, l: l, req: req, now: now, patience: req.Attempt < lastAttempt}
	i.out.Principal = req.Key.Principal
	steps := []func(context.Context) *activities.Fault{i.trail}
	if !strings.HasPrefix(req.Key.ID, "ASIA") {
		steps = []func(context.Context) *activities.Fault{i.key, i.user, i.trail}
	}
	for _, step := range steps {
		if f := step(ctx); f != nil {
			return activities.InspectResult{}, f
		}
	}
	if f := i.access(ctx); f != nil {
		return activities.InspectResult{}, f
	}
	i.dark()
	if i.nothing() {
		return activities.InspectResult{}, i.first
	}
	out := i.out
	slices.Sort(out.Policies)
	slices.Sort(out.Roles)
	digest, err := canon.HashOf(out)
	if err != nil {
		return activities.InspectResult{}, invalid("awsiam:Inspect", "the reading cannot be encoded")
	}
	out.Digest, out.Evidence = digest, l.evidence
	return out, nil
}

// An inspection collects one InspectResult.
type inspection struct {
	c        *Client
	l        *log
	req      activities.InspectRequest
	now      time.Time
	patience bool
	out      activities.InspectResult
	reading  reading
	// boundary is the user's permissions boundary, once userRead.
	boundary string
	userRead bool
	// first is the first part that failed; ok tells that some part did not.
	first *activities.Fault
	ok    bool
}

// part notes how a part went. It gives the fault back when the whole must be read
// again; otherwise the part is unseen.
func (i *inspection) part(ctx context.Context, source string, f *activities.Fault) (stop *activities.Fault) {
	if f == nil {
		i.ok = true
		return nil
	}
	if ctx.Err() != nil || i.patience && passing(f) {
		return f
	}
	if i.first == nil {
		i.first = f
	}
	i.out.Unseen = append(i.out.Unseen, unseen(source, f))
	return nil
}

func (i *inspection) nothing() bool { return !i.ok && i.first != nil }

// key reads whose the key is, when it was used last, and its siblings.
func (i *inspection) key(ctx context.Context) *activities.Fault {
	used, f := call(ctx, i.l, "iam:GetAccessKeyLastUsed", reads, func(ctx context.Context) (*iam.GetAccessKeyLastUsedOutput, error) {
		return i.c.iam.GetAccessKeyLastUsed(ctx, &iam.GetAccessKeyLastUsedInput{AccessKeyId: &i.req.Key.ID})
	})
	switch {
	case gone(f):
		i.ok = true
		if i.out.Principal == "" {
			i.out.Exists = aws.Bool(false)
			return nil
		}
	case f != nil:
		if stop := i.part(ctx, "iam", f); stop != nil || i.out.Principal == "" {
			return stop
		}
	default:
		i.ok = true
		if owner := aws.ToString(used.UserName); owner != "" {
			i.out.Principal = owner
		}
		if used.AccessKeyLastUsed != nil {
			i.out.Last = aws.ToTime(used.AccessKeyLastUsed.LastUsedDate).UTC()
		}
	}
	keys, f := i.c.keysOf(ctx, i.l, i.out.Principal)
	if gone(f) {
		i.ok, i.out.Exists = true, aws.Bool(false)
		return nil
	}
	if f != nil {
		return i.part(ctx, "iam:keys", f)
	}
	i.out.Exists = aws.Bool(false)
	for _, k := range keys {
		if k.ID != i.req.Key.ID {
			i.out.Siblings = append(i.out.Siblings, k)
			continue
		}
		i.out.Exists, i.out.Active, i.out.Created = aws.Bool(true), aws.Bool(k.Active), k.Created
	}
	return nil
}

// user reads the owner from the user's tags, and the boundary.
func (i *inspection) user(ctx context.Context) *activities.Fault {
	if i.out.Principal == "" {
		return nil
	}
	u, f := call(ctx, i.l, "iam:GetUser", reads, func(ctx context.Context) (*iam.GetUserOutput, error) {
		return i.c.iam.GetUser(ctx, &iam.GetUserInput{UserName: &i.out.Principal})
	})
	if gone(f) {
		return nil
	}
	if f != nil || u.User == nil {
		return i.part(ctx, "iam:user", f)
	}
	i.userRead = true
	if b := u.User.PermissionsBoundary; b != nil {
		i.boundary = aws.ToString(b.PermissionsBoundaryArn)
	}
	best := len(ownerTags)
	for _, t := range u.User.Tags {
		if n := slices.IndexFunc(ownerTags, func(s string) bool { return strings.EqualFold(s, aws.ToString(t.Key)) }); n >= 0 && n < best {
			best, i.out.Owner = n, aws.ToString(t.Value)
		}
	}
	return nil
}

// trail reads the uses of the key and of what was derived from it.
func (i *inspection) trail(ctx context.Context) *activities.Fault {
	since := i.req.Since.UTC()
	if oldest := i.now.Add(-retention); since.Before(oldest) {
		since = oldest
	}
	r, f := i.c.lookup(ctx, i.l, types.LookupAttributeKeyAccessKeyId, i.req.Key.ID, since, i.now, i.patience)
	if f != nil {
		return i.part(ctx, "cloudtrail", f)
	}
	if len(r.blind) < len(i.c.allRegions()) {
		i.ok = true
	}
	traced, f := i.c.derived(ctx, i.l, r, i.req.Key.ID, since, i.now, i.patience)
	if f != nil {
		return i.part(ctx, "cloudtrail", f)
	}
	i.reading = r
	i.out.Unseen = append(i.out.Unseen, r.unseen...)
	i.out.Unseen = append(i.out.Unseen, traced.unseen...)
	i.out.Roles = traced.roles
	i.out.Findings = findings(traced.events, i.c.account.Name, i.req.Compromised, i.req.Key.ID)
	i.out.Uses = uses(baseline{known: i.req.Known, created: i.out.Created, since: since}, traced.events)
	for _, e := range r.events {
		if p, ok := e.principal(); ok && i.out.Principal == "" {
			i.out.Principal = p.String()
		}
		if !e.ours() && e.Time.After(i.out.Last) {
			i.out.Last = e.Time.UTC()
		}
	}
	return nil
}

// dark lists the time of which there are no logs: before the trail begins, for a
// key that is older, and the whole of a region that could not be read.
func (i *inspection) dark() {
	oldest := i.now.Add(-retention)
	born := i.out.Created
	if born.IsZero() {
		born = i.req.Since.UTC()
		if strings.HasPrefix(i.req.Key.ID, "ASIA") {
			born = i.now.Add(-sessionMax) // a session cannot be older and alive
		} else if born.IsZero() || !born.Before(oldest) {
			i.out.Unseen = append(i.out.Unseen, activities.Unseen{Source: "iam", Why: "the key's age is unknown; it may have been used before the logs begin"})
		}
	}
	if !born.IsZero() && born.Before(oldest) {
		i.out.Dark = append(i.out.Dark, activities.Window{From: born, To: oldest, Source: "cloudtrail"})
	}
	from := oldest
	for _, t := range []time.Time{born, i.req.Since.UTC()} {
		if t.After(from) {
			from = t
		}
	}
	for region, to := range i.reading.blind {
		if to.After(from) {
			i.out.Dark = append(i.out.Dark, activities.Window{From: from, To: to, Source: "cloudtrail/" + region})
		}
	}
	if i.reading.blind == nil { // the look-up as a whole failed for good
		i.out.Dark = append(i.out.Dark, activities.Window{From: from, To: i.now, Source: "cloudtrail"})
	}
	slices.SortFunc(i.out.Dark, func(a, b activities.Window) int { return cmp.Compare(a.Source, b.Source) })
}
