package awsiam

import (
	"context"
	"regexp"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"rekey/activities"
)

// powers are the rights that make their holder an administrator by giving itself
// what it lacks. Source: Rhino Security Labs, "AWS IAM Privilege Escalation
// Methods", https://github.com/RhinoSecurityLabs/AWS-IAM-Privilege-Escalation.
// Each counts only on every resource: on one user it is that user's own matter.
var powers = []string{
	"iam:CreateAccessKey", "iam:CreateLoginProfile", "iam:UpdateLoginProfile",
	"iam:PutUserPolicy", "iam:PutGroupPolicy", "iam:PutRolePolicy",
	"iam:AttachUserPolicy", "iam:AttachGroupPolicy", "iam:AttachRolePolicy",
	"iam:CreatePolicyVersion", "iam:SetDefaultPolicyVersion", "iam:AddUserToGroup", "iam:UpdateAssumeRolePolicy",
}

// admin tells whether the policies make an administrator. A condition on an Allow
// is not evaluated and so counts as met; a Deny counts only without a condition
// and on everything: the error is always toward "yes".
func admin(docs []document, boundary []document) bool {
	// An action that does not exist is granted by "*" and NotAction alone.
	for _, power := range append([]string{"rekey:Anything"}, powers...) {
		if allows(docs, power) && (len(boundary) == 0 || allows(boundary, power)) {
			return true
		}
	}
	return false
}

// allows evaluates one action on every resource.
func allows(docs []document, action string) bool {
	allowed := false
	for _, d := range docs {
		for _, s := range d.Statement {
			if !s.covers(action) {
				continue
			}
			if s.Effect == "Deny" && len(s.Condition) == 0 && slices.Contains(s.Resource, "*") {
				return false
			}
			allowed = allowed || s.Effect == "Allow" && s.everywhere()
		}
	}
	return allowed
}

func (s statement) covers(action string) bool {
	if len(s.NotAction) > 0 {
		for _, p := range s.NotAction {
			if matches(p, action) {
				return false
			}
		}
		return true
	}
	for _, p := range s.Action {
		if matches(p, action) {
			return true
		}
	}
	return false
}

// allOfIAM are resources that mean every user, role, group or policy.
var allOfIAM = regexp.MustCompile(`^(\*|arn:[^:]*:iam::[^:]*:(\*|(user|role|group|policy)/\*))$`)

func (s statement) everywhere() bool {
	return len(s.NotResource) > 0 || slices.ContainsFunc(s.Resource, allOfIAM.MatchString)
}

// access reads the principal's policies and tells whether it is an administrator.
func (i *inspection) access(ctx context.Context) *activities.Fault {
	if i.out.Principal == "" {
		return nil
	}
	p := principalOf(i.out.Principal)
	g := &grants{i: i}
	if p.role {
		g.role(ctx, p.name)
	} else {
		g.user(ctx, p.name)
	}
	switch {
	case g.stop != nil:
		return g.stop
	case g.absent:
	case admin(g.docs, g.boundary):
		i.out.Admin = aws.Bool(true)
	case !g.partial:
		i.out.Admin = aws.Bool(false)
	}
	i.out.Policies = g.names
	return nil
}

// grants collects the policies of one principal.
type grants struct {
	i              *inspection
	names          []string
	docs, boundary []document
	partial        bool // something could not be read
	absent         bool // there is no such principal
	stop           *activities.Fault
}

// failed notes a failed part and tells the caller to leave it.
func (g *grants) failed(ctx context.Context, source string, f *activities.Fault) bool {
	if g.stop != nil {
		return true
	}
	if f == nil {
		g.i.ok = true
		return false
	}
	if gone(f) {
		g.absent = true
		return true
	}
	g.partial = true
	g.stop = g.i.part(ctx, source, f)
	return true
}

func (g *grants) user(ctx context.Context, user string) {
	c, l := g.i.c, g.i.l
	names, f := pages(ctx, l, "iam:ListUserPolicies", func(ctx context.Context, m *string) ([]string, bool, *string, error) {
		o, err := c.iam.ListUserPolicies(ctx, &iam.ListUserPoliciesInput{UserName: &user, Marker: m})
		if err != nil {
			return nil, false, nil, err
		}
		return o.PolicyNames, o.IsTruncated, o.Marker, nil
	})
	if !g.failed(ctx, "iam:policies", f) {
		for _, n := range names {
			g.inline(ctx, "inline/"+n, principal{name: user}, n)
		}
	}
	if g.absent {
		return
	}
	attached, f := pages(ctx, l, "iam:ListAttachedUserPolicies", func(ctx context.Context, m *string) ([]types.AttachedPolicy, bool, *string, error) {
		o, err := c.iam.ListAttachedUserPolicies(ctx, &iam.ListAttachedUserPoliciesInput{UserName: &user, Marker: m})
		if err != nil {
			return nil, false, nil, err
		}
		return o.AttachedPolicies, o.IsTruncated, o.Marker, nil
	})
	if !g.failed(ctx, "iam:policies", f) {
		g.managed(ctx, "", attached)
	}
	groups, f := pages(ctx, l, "iam:ListGroupsForUser", func(ctx context.Context, m *string) ([]types.Group, bool, *string, error) {
		o, err := c.iam.ListGroupsForUser(ctx, &iam.ListGroupsForUserInput{UserName: &user, Marker: m})
		if err != nil {
			return nil, false, nil, err
		}
		return o.Groups, o.IsTruncated, o.Marker, nil
	})
	if g.failed(ctx, "iam:groups", f) {
		return
	}
	for _, group := range groups {
		g.group(ctx, aws.ToString(group.GroupName))
	}
	switch {
	case !g.i.userRead:
		g.partial = true // the boundary is unknown
	case g.i.boundary != "":
		g.bounded(ctx, g.i.boundary)
	}
}

func (g *grants) group(ctx context.Context, group string) {
	c, l := g.i.c, g.i.l
	names, f := pages(ctx, l, "iam:ListGroupPolicies", func(ctx context.Context, m *string) ([]string, bool, *string, error) {
		o, err := c.iam.ListGroupPolicies(ctx, &iam.ListGroupPoliciesInput{GroupName: &group, Marker: m})
		if err != nil {
			return nil, false, nil, err
		}
		return o.PolicyNames, o.IsTruncated, o.Marker, nil
	})
	if !g.failed(ctx, "iam:groups", f) {
		for _, n := range names {
			raw, f := call(ctx, l, "iam:GetGroupPolicy", reads, func(ctx context.Context) (string, error) {
				o, err := c.iam.GetGroupPolicy(ctx, &iam.GetGroupPolicyInput{GroupName: &group, PolicyName: &n})
				if err != nil {
					return "", err
				}
				return aws.ToString(o.PolicyDocument), nil
			})
			if !g.failed(ctx, "iam:groups", f) {
				g.add("group/"+group+"/"+n, raw)
			}
		}
	}
	attached, f := pages(ctx, l, "iam:ListAttachedGroupPolicies", func(ctx context.Context, m *string) ([]types.AttachedPolicy, bool, *string, error) {
		o, err := c.iam.ListAttachedGroupPolicies(ctx, &iam.ListAttachedGroupPoliciesInput{GroupName: &group, Marker: m})
		if err != nil {
			return nil, false, nil, err
		}
		return o.AttachedPolicies, o.IsTruncated, o.Marker, nil
	})
	if !g.failed(ctx, "iam:groups", f) {
		g.managed(ctx, "group/"+group+"/", attached)
	}
}

func (g *grants) role(ctx context.Context, role string) {
	c, l := g.i.c, g.i.l
	names, f := pages(ctx, l, "iam:ListRolePolicies", func(ctx context.Context, m *string) ([]string, bool, *string, error) {
		o, err := c.iam.ListRolePolicies(ctx, &iam.ListRolePoliciesInput{RoleName: &role, Marker: m})
		if err != nil {
			return nil, false, nil, err
		}
		return o.PolicyNames, o.IsTruncated, o.Marker, nil
	})
	if !g.failed(ctx, "iam:policies", f) {
		for _, n := range names {
			g.inline(ctx, "inline/"+n, principal{name: role, role: true}, n)
		}
	}
	if g.absent {
		return
	}
	attached, f := pages(ctx, l, "iam:ListAttachedRolePolicies", func(ctx context.Context, m *string) ([]types.AttachedPolicy, bool, *string, error) {
		o, err := c.iam.ListAttachedRolePolicies(ctx, &iam.ListAttachedRolePoliciesInput{RoleName: &role, Marker: m})
		if err != nil {
			return nil, false, nil, err
		}
		return o.AttachedPolicies, o.IsTruncated, o.Marker, nil
	})
	if !g.failed(ctx, "iam:policies", f) {
		g.managed(ctx, "", attached)
	}
	out, f := call(ctx, l, "iam:GetRole", reads, func(ctx context.Context) (*iam.GetRoleOutput, error) {
		return c.iam.GetRole(ctx, &iam.GetRoleInput{RoleName: &role})
	})
	if !g.failed(ctx, "iam:boundary", f) && out.Role != nil && out.Role.PermissionsBoundary != nil {
		g.bounded(ctx, aws.ToString(out.Role.PermissionsBoundary.PermissionsBoundaryArn))
	}
}

func (g *grants) bounded(ctx context.Context, arn string) {
	if raw, ok := g.version(ctx, arn); ok {
		if d, err := parseDocument(raw); err == nil {
			g.boundary = append(g.boundary, d)
			return
		}
		g.partial = true
	}
}

func (g *grants) inline(ctx context.Context, label string, p principal, name string) {
	if g.stop != nil {
		return
	}
	d, ok, f := g.i.c.get(ctx, g.i.l, p, name)
	if g.failed(ctx, "iam:policies", f) || !ok {
		return
	}
	g.names, g.docs = append(g.names, label), append(g.docs, d)
}

func (g *grants) managed(ctx context.Context, prefix string, attached []types.AttachedPolicy) {
	for _, a := range attached {
		arn := aws.ToString(a.PolicyArn)
		if strings.HasSuffix(arn, ":policy/AdministratorAccess") && strings.Contains(arn, ":iam::aws:") {
			// AWS's own; what it says is known, also where it cannot be read.
			g.names = append(g.names, prefix+arn)
			g.docs = append(g.docs, document{Statement: statements{{Effect: "Allow", Action: values{"*"}, Resource: values{"*"}}}})
			continue
		}
		raw, ok := g.version(ctx, arn)
		if !ok {
			g.names = append(g.names, prefix+arn)
			continue
		}
		g.add(prefix+arn, raw)
	}
}

// version reads the default version of a managed policy.
func (g *grants) version(ctx context.Context, arn string) (string, bool) {
	c, l := g.i.c, g.i.l
	if g.stop != nil {
		return "", false
	}
	pol, f := call(ctx, l, "iam:GetPolicy", reads, func(ctx context.Context) (*iam.GetPolicyOutput, error) {
		return c.iam.GetPolicy(ctx, &iam.GetPolicyInput{PolicyArn: &arn})
	})
	if g.lost(ctx, f) || pol.Policy == nil {
		return "", false
	}
	raw, f := call(ctx, l, "iam:GetPolicyVersion", reads, func(ctx context.Context) (string, error) {
		o, err := c.iam.GetPolicyVersion(ctx, &iam.GetPolicyVersionInput{PolicyArn: &arn, VersionId: pol.Policy.DefaultVersionId})
		if err != nil || o.PolicyVersion == nil {
			return "", err
		}
		return aws.ToString(o.PolicyVersion.Document), nil
	})
	return raw, !g.lost(ctx, f)
}

// lost is failed for a policy: that one is gone does not mean its principal is.
func (g *grants) lost(ctx context.Context, f *activities.Fault) bool {
	if gone(f) {
		g.partial = true
		return true
	}
	return g.failed(ctx, "iam:policies", f)
}

func (g *grants) add(label, raw string) {
	g.names = append(g.names, label)
	d, err := parseDocument(raw)
	if err != nil {
		g.partial = true
		return
	}
	g.docs = append(g.docs, d)
}

// pages reads a listing to its end.
func pages[T any](ctx context.Context, l *log, op string, page func(context.Context, *string) ([]T, bool, *string, error)) ([]T, *activities.Fault) {
	type one struct {
		items []T
		more  bool
		next  *string
	}
	var out []T
	var marker *string
	for range maxPages {
		p, f := call(ctx, l, op, reads, func(ctx context.Context) (one, error) {
			items, more, next, err := page(ctx, marker)
			return one{items, more, next}, err
		})
		if f != nil {
			return nil, f
		}
		out = append(out, p.items...)
		if !p.more || aws.ToString(p.next) == "" {
			return out, nil
		}
		marker = p.next
	}
	return nil, &activities.Fault{Class: activities.ClassUnclear, Op: op, Detail: "the listing does not end"}
}
