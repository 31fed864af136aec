package awsiam

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"rekey/activities"
)

var (
	_ activities.SessionEnder = (*Client)(nil)
	_ activities.Denier       = (*Client)(nil)
	_ activities.Binder       = (*Client)(nil)
)

// The condition keys of our policies,
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-keys.html.
const (
	keyIssued  = "aws:TokenIssueTime"
	keyNow     = "aws:CurrentTime"
	keySource  = "aws:SourceIp"
	keyService = "aws:ViaAWSService"
)

// EndSessions denies everything to what was issued before ref.Before, to the
// principal and to each role named: AWS's own way to revoke sessions
// (https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_use_revoke-sessions.html).
// Requests signed with a long-term key carry no issue time and are not touched.
// All principals are tried before a failure is reported. A role that is gone has
// no sessions left that may do anything; a service-linked one cannot be changed
// and needs a person.
func (c *Client) EndSessions(ctx context.Context, req activities.EndSessionsRequest) (activities.Result, error) {
	const op = "iam:PutUserPolicy"
	ctx, l := c.begin(ctx, req.Ref)
	if req.Before.IsZero() {
		return activities.Result{}, invalid(op, "say before which time sessions end")
	}
	who, f := c.subject(ctx, l, op, req.Ref)
	if f != nil && !gone(f) {
		return activities.Result{}, f
	}
	var all []principal
	if f == nil {
		all = append(all, who)
	}
	for _, r := range req.Roles {
		if p := (principal{name: strings.TrimPrefix(r, rolePrefix), role: true}); !slices.Contains(all, p) {
			all = append(all, p)
		}
	}
	var first *activities.Fault
	var absent, linked []string
	for _, p := range all {
		switch f := c.endSessions(ctx, l, p, policyName(req.Incident, policySessions), req.Before); {
		case gone(f):
			absent = append(absent, p.String())
		case is(f, "UnmodifiableEntity"):
			linked = append(linked, p.String())
		case f != nil && first == nil:
			first = f
		}
	}
	switch {
	case first != nil:
		return activities.Result{}, first
	case len(linked) > 0:
		return l.result(activities.NeedsHuman, "service-linked, cannot be changed: "+strings.Join(linked, ", ")), nil
	case len(absent) == len(all):
		return l.result(activities.AlreadyGone, "no such principal"), nil
	case len(absent) > 0:
		return l.result(activities.Done, "gone: "+strings.Join(absent, ", ")), nil
	}
	return l.result(activities.Done, ""), nil
}

// endSessions moves the border of one principal forward, never back. What it
// wrote it reads again: two incidents' helpers may race under one name.
func (c *Client) endSessions(ctx context.Context, l *log, p principal, name string, before time.Time) *activities.Fault {
	before = before.UTC().Truncate(time.Second)
	for range 3 {
		doc, ok, f := c.get(ctx, l, p, name)
		if f != nil {
			return f
		}
		if ok && !border(doc).Before(before) {
			return nil
		}
		if f := c.put(ctx, l, p, name, denyAll("RekeySessions", map[string]map[string]values{
			"DateLessThan": {keyIssued: {before.Format(time.RFC3339)}},
		})); f != nil {
			return f
		}
	}
	return &activities.Fault{Class: activities.ClassTransient, Op: "iam:PutUserPolicy", Detail: "the policy " + name + " is not yet what was written"}
}

// border is the time before which sessions are denied; zero when the document is
// not one of ours or was weakened.
func border(d document) time.Time {
	if len(d.Statement) != 1 {
		return time.Time{}
	}
	s := d.Statement[0]
	at := s.Condition["DateLessThan"][keyIssued]
	if s.Effect != "Deny" || !slices.Equal(s.Action, values{"*"}) || !slices.Equal(s.Resource, values{"*"}) ||
		len(s.Condition) != 1 || len(s.Condition["DateLessThan"]) != 1 || len(at) != 1 {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339, at[0])
	if err != nil {
		return time.Time{}
	}
	return t
}

// Deny stops the whole principal, new keys and sessions included. Lift takes away
// what this incident put there: the Deny, and the end that Restore installed. It
// never touches a policy of another name.
func (c *Client) Deny(ctx context.Context, req activities.DenyRequest) (activities.Result, error) {
	if req.Lift {
		return c.lift(ctx, req.Ref, policyDeny, policyRestore)
	}
	return c.restrict(ctx, req.Ref, policyDeny, denyAll("RekeyDeny", nil))
}

// Bind denies the principal from everywhere but the networks in Allow. Calls that
// AWS services make on its behalf are let through, because they come from AWS's
// own addresses: aws:ViaAWSService is false in a direct call
// (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_examples_aws_deny-ip.html).
func (c *Client) Bind(ctx context.Context, req activities.BindRequest) (activities.Result, error) {
	if req.Lift {
		return c.lift(ctx, req.Ref, policyBind)
	}
	if len(req.Allow) == 0 {
		return activities.Result{}, invalid("iam:PutUserPolicy", "no network to allow: that would be a Deny")
	}
	allow := make(values, 0, len(req.Allow))
	for _, s := range req.Allow {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return activities.Result{}, invalid("iam:PutUserPolicy", "network %d of the allow-list is not a CIDR such as 203.0.113.0/24", len(allow)+1)
		}
		allow = append(allow, p.Masked().String())
	}
	slices.Sort(allow)
	return c.restrict(ctx, req.Ref, policyBind, denyAll("RekeyBind", map[string]map[string]values{
		"NotIpAddress": {keySource: slices.Compact(allow)},
		"Bool":         {keyService: {"false"}},
	}))
}

func (c *Client) restrict(ctx context.Context, ref activities.Ref, purpose, doc string) (activities.Result, error) {
	ctx, l := c.begin(ctx, ref)
	p, f := c.subject(ctx, l, "iam:PutUserPolicy", ref)
	if f == nil {
		f = c.put(ctx, l, p, policyName(ref.Incident, purpose), doc)
	}
	switch {
	case gone(f):
		return l.result(activities.AlreadyGone, "no such principal"), nil
	case is(f, "UnmodifiableEntity"):
		return l.result(activities.NeedsHuman, fmt.Sprintf("%s is service-linked and cannot be changed", p)), nil
	case f != nil:
		return activities.Result{}, f
	}
	return l.result(activities.Done, ""), nil
}

func (c *Client) lift(ctx context.Context, ref activities.Ref, purposes ...string) (activities.Result, error) {
	ctx, l := c.begin(ctx, ref)
	p, f := c.subject(ctx, l, "iam:DeleteUserPolicy", ref)
	if gone(f) {
		return l.result(activities.AlreadyGone, "no such principal"), nil
	}
	if f != nil {
		return activities.Result{}, f
	}
	outcome := activities.AlreadyGone
	for _, purpose := range purposes {
		there, f := c.remove(ctx, l, p, policyName(ref.Incident, purpose))
		if f != nil {
			return activities.Result{}, f
		}
		if there {
			outcome = activities.Done
		}
	}
	return l.result(outcome, ""), nil
}
