package awsiam

import (
	"cmp"
	"context"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	trailtypes "github.com/aws/aws-sdk-go-v2/service/cloudtrail/types"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/gowebpki/jcs"

	"rekey/activities"
	"rekey/internal/canon"
)

var _ activities.Sweeper = (*Client)(nil)

// Sweep reads what could give access again: every user, role, group and policy of
// the account, all ways in of the principal and of users that the key made, what
// the key and its sessions made since Since, and the uses of the key since then.
// Digest is of what was looked at, without our own Deny policies and without what
// changes by mere use, so that two equal digests mean a stable set. Parts that
// cannot be read are in Unseen; what they hide is not in the digest. What a
// CloudTrail that does not log refused calls of dead keys leaves out, Hits cannot
// show.
func (c *Client) Sweep(ctx context.Context, req activities.SweepRequest) (activities.SweepResult, error) {
	const op = "iam:GetAccountAuthorizationDetails"
	ctx, l := c.begin(ctx, req.Ref)
	if f := c.mine(op, req.Key); f != nil {
		return activities.SweepResult{}, f
	}
	s := &sweep{c: c, l: l, req: req, now: req.Now.UTC(), patience: req.Attempt < lastAttempt, set: map[string]string{}, found: map[string]bool{}}
	if s.now.IsZero() {
		s.now = c.now(ctx)
	}
	steps := []func(context.Context) *activities.Fault{s.account, s.trace, s.waysIn}
	if req.UsesOnly {
		steps = []func(context.Context) *activities.Fault{s.trace}
	}
	for _, step := range steps {
		if f := step(ctx); f != nil {
			return activities.SweepResult{}, f
		}
	}
	// A watch of the uses alone that sees none of them says so in Unseen: its dead key is
	// no less dead for it.
	if s.read == 0 && s.first != nil {
		return activities.SweepResult{}, s.first
	}
	digest := ""
	if !req.UsesOnly {
		var err error
		if digest, err = canon.HashOf(s.set); err != nil {
			return activities.SweepResult{}, invalid(op, "the reading cannot be encoded")
		}
	}
	slices.SortFunc(s.out.Findings, func(a, b activities.Finding) int {
		return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.What, b.What), cmp.Compare(a.ID, b.ID))
	})
	s.out.Digest, s.out.Evidence = digest, l.evidence
	return s.out, nil
}

// A sweep collects one SweepResult.
type sweep struct {
	c        *Client
	l        *log
	req      activities.SweepRequest
	now      time.Time
	patience bool
	// set is what is digested: an object's name to the hash of its state.
	set map[string]string
	// users are those whose ways in are looked at.
	users []string
	out   activities.SweepResult
	read  int
	first *activities.Fault
	found map[string]bool
}

func (s *sweep) part(ctx context.Context, source string, f *activities.Fault) (stop *activities.Fault) {
	if f == nil {
		s.read++
		return nil
	}
	if ctx.Err() != nil || s.patience && passing(f) {
		return f
	}
	if s.first == nil {
		s.first = f
	}
	s.out.Unseen = append(s.out.Unseen, unseen(source, f))
	return nil
}

func (s *sweep) find(f activities.Finding) {
	if !s.known(f.What, f.ID) {
		s.found[f.What+"\x00"+f.ID] = true
		s.out.Findings = append(s.out.Findings, f)
	}
}

// known tells whether an object is a finding already, or is none: the key itself
// and those of this incident.
func (s *sweep) known(what, id string) bool {
	return s.found[what+"\x00"+id] || slices.Contains(s.req.Ours, id) || id == s.req.Key.ID
}

// note puts an object into the digest.
func (s *sweep) note(name string, state any) {
	h, err := canon.HashOf(state)
	if err != nil {
		h = "unreadable"
	}
	s.set[name] = h
}

// account reads all users, roles, groups and customer policies.
func (s *sweep) account(ctx context.Context) *activities.Fault {
	const op = "iam:GetAccountAuthorizationDetails"
	var marker *string
	for range maxPages {
		page, f := call(ctx, s.l, op, reads, func(ctx context.Context) (*iam.GetAccountAuthorizationDetailsOutput, error) {
			return s.c.iam.GetAccountAuthorizationDetails(ctx, &iam.GetAccountAuthorizationDetailsInput{
				Marker: marker, MaxItems: aws.Int32(500),
				Filter: []types.EntityType{types.EntityTypeUser, types.EntityTypeRole, types.EntityTypeGroup, types.EntityTypeLocalManagedPolicy},
			})
		})
		if f != nil {
			return s.part(ctx, "iam:account", f)
		}
		s.page(page)
		if !page.IsTruncated || aws.ToString(page.Marker) == "" {
			return s.part(ctx, "iam:account", nil)
		}
		marker = page.Marker
	}
	return s.part(ctx, "iam:account", &activities.Fault{Class: activities.ClassUnclear, Op: op, Detail: "the listing does not end"})
}

func (s *sweep) page(page *iam.GetAccountAuthorizationDetailsOutput) {
	for _, u := range page.UserDetailList {
		boundary := ""
		if u.PermissionsBoundary != nil {
			boundary = aws.ToString(u.PermissionsBoundary.PermissionsBoundaryArn)
		}
		s.note("user/"+aws.ToString(u.UserName), []any{aws.ToString(u.UserId), s.inlines(u.UserPolicyList), attachments(u.AttachedManagedPolicies), sorted(u.GroupList), boundary})
	}
	for _, g := range page.GroupDetailList {
		s.note("group/"+aws.ToString(g.GroupName), []any{aws.ToString(g.GroupId), s.inlines(g.GroupPolicyList), attachments(g.AttachedManagedPolicies)})
	}
	for _, r := range page.RoleDetailList {
		boundary := ""
		if r.PermissionsBoundary != nil {
			boundary = aws.ToString(r.PermissionsBoundary.PermissionsBoundaryArn)
		}
		s.note("role/"+aws.ToString(r.RoleName), []any{aws.ToString(r.RoleId), plain(aws.ToString(r.AssumeRolePolicyDocument)), s.inlines(r.RolePolicyList), attachments(r.AttachedManagedPolicies), boundary})
	}
	for _, p := range page.Policies {
		doc := ""
		for _, v := range p.PolicyVersionList {
			if v.IsDefaultVersion {
				doc = plain(aws.ToString(v.Document))
			}
		}
		s.note("policy/"+aws.ToString(p.Arn), []any{aws.ToString(p.PolicyId), aws.ToString(p.DefaultVersionId), doc})
	}
}

// inlines leaves out what this incident itself put there, as long as it only
// denies: a name proves nothing.
func (s *sweep) inlines(list []types.PolicyDetail) []string {
	out := []string{}
	for _, p := range list {
		name := aws.ToString(p.PolicyName)
		if strings.HasPrefix(name, policyPrefix+productText(s.req.Incident)+"-") {
			if d, err := parseDocument(aws.ToString(p.PolicyDocument)); err == nil && d.onlyDenies() {
				continue
			}
		}
		out = append(out, name+"\x00"+plain(aws.ToString(p.PolicyDocument)))
	}
	slices.Sort(out)
	return out
}

// plain brings a document into one form, whatever its spaces and encoding.
func plain(doc string) string {
	if text, err := url.PathUnescape(doc); err == nil && !strings.HasPrefix(strings.TrimSpace(doc), "{") {
		doc = text
	}
	if out, err := jcs.Transform([]byte(doc)); err == nil {
		return string(out)
	}
	return doc
}

func attachments(list []types.AttachedPolicy) []string {
	out := []string{}
	for _, p := range list {
		out = append(out, aws.ToString(p.PolicyArn))
	}
	slices.Sort(out)
	return out
}

func sorted(list []string) []string {
	out := append([]string{}, list...)
	slices.Sort(out)
	return out
}

// trace follows the key and its sessions since Since.
func (s *sweep) trace(ctx context.Context) *activities.Fault {
	since := s.req.Since.UTC()
	if oldest := s.now.Add(-retention); since.Before(oldest) {
		since = oldest
	}
	r, f := s.c.lookup(ctx, s.l, trailtypes.LookupAttributeKeyAccessKeyId, s.req.Key.ID, since, s.now, s.patience)
	if f != nil {
		return s.part(ctx, "cloudtrail", f)
	}
	t, f := s.c.derived(ctx, s.l, r, s.req.Key.ID, since, s.now, s.patience)
	if f != nil {
		return s.part(ctx, "cloudtrail", f)
	}
	if len(r.blind) < len(s.c.allRegions()) {
		s.read++
	}
	s.out.Unseen = append(s.out.Unseen, append(r.unseen, t.unseen...)...)
	s.out.Hits = hits(r.events, s.req.Key.ID)
	made := findings(t.events, s.c.account.Name, s.req.Compromised, s.req.Key.ID)
	for _, f := range made {
		s.find(f)
		if f.What == "user" {
			s.users = append(s.users, f.ID)
		}
		s.note("made/"+f.What+"/"+f.ID, f.At)
	}
	return nil
}

// waysIn lists every credential of the principal and of users that the key made.
func (s *sweep) waysIn(ctx context.Context) *activities.Fault {
	user := s.req.Key.Principal
	if user == "" && !strings.HasPrefix(s.req.Key.ID, "ASIA") {
		owner, f := s.c.ownerOf(ctx, s.l, s.req.Key.ID)
		if !gone(f) {
			if stop := s.part(ctx, "iam", f); stop != nil {
				return stop
			}
		}
		user = owner
	}
	if user != "" && !strings.HasPrefix(user, rolePrefix) {
		s.users = append([]string{user}, s.users...)
	}
	done := map[string]bool{}
	for _, u := range s.users {
		if done[u] {
			continue
		}
		done[u] = true
		if f := s.credentials(ctx, u, u == user); f != nil {
			return f
		}
	}
	return nil
}

// credentials lists the ways in of one user. On the compromised principal one that
// is new and not ours is a finding even when nobody can be named for it.
func (s *sweep) credentials(ctx context.Context, user string, compromised bool) *activities.Fault {
	where := "on a user that the key made"
	if compromised {
		where = "new on the compromised principal"
	}
	note := func(what, kind, id string, at time.Time, state any, k *activities.Key) {
		s.note("way/"+user+"/"+kind+"/"+id, []any{at.UTC(), state})
		if !compromised || !at.Before(s.req.Since) {
			s.find(activities.Finding{What: what, ID: id, At: at.UTC(), Why: kind + " " + where + "; nobody can be named for it", Key: k})
		}
	}
	keys, f := s.c.keysOf(ctx, s.l, user)
	if gone(f) {
		s.note("way/"+user, "gone")
		return nil
	}
	if stop := s.part(ctx, "iam:keys", f); stop != nil {
		return stop
	}
	for _, k := range keys {
		key := &activities.Key{Provider: Code, Account: s.c.account.Name, Kind: KindUser, ID: k.ID, Principal: user}
		if compromised && !k.Created.Before(s.req.Since) && !s.known("key", k.ID) {
			e, _, f := s.c.creation(ctx, s.l, user, k.ID, k.Created, s.now)
			if f != nil && (ctx.Err() != nil || s.patience) {
				return f
			}
			if e != nil {
				s.find(activities.Finding{What: "key", ID: k.ID, At: k.Created, By: e.Who.Key, Key: key, Why: "key " + where + ", made by " + clean(e.Who.ARN, 256)})
			}
		}
		note("key", "key", k.ID, k.Created, k.Active, key)
	}
	return s.logins(ctx, user, note)
}
