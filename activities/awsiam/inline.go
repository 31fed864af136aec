package awsiam

import (
	"context"
	"encoding/json"
	"net/url"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"

	"rekey/activities"
)

// rolePrefix marks a principal that is a role: "role/deploy". A user's principal
// is its bare name.
const rolePrefix = "role/"

// A principal is a user or a role of the account.
type principal struct {
	name string
	role bool
}

func principalOf(s string) principal {
	name, role := strings.CutPrefix(s, rolePrefix)
	return principal{name: name, role: role}
}

// String is the form in which requests carry it.
func (p principal) String() string {
	if p.role {
		return rolePrefix + p.name
	}
	return p.name
}

// The inline policies that rekey puts on a principal. Each is of one incident and
// one purpose, so that lifting one never touches another's.
const (
	policySessions = "sessions"
	policyDeny     = "deny"
	policyBind     = "bind"
	policyRestore  = "restore"
)

// policyPrefix begins the names of all our policies.
const policyPrefix = "rekey-"

func policyName(incident, purpose string) string {
	return policyPrefix + productText(incident) + "-" + purpose
}

// A document is an IAM policy,
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_grammar.html.
type document struct {
	Version   string     `json:"Version"`
	Statement statements `json:"Statement"`
}

// denyAll denies everything under a condition; nil denies always.
func denyAll(sid string, condition map[string]map[string]values) string {
	b, err := json.Marshal(document{Version: "2012-10-17", Statement: statements{{
		Sid: sid, Effect: "Deny", Action: values{"*"}, Resource: values{"*"}, Condition: condition,
	}}})
	if err != nil {
		panic(err) // strings and maps of strings always marshal
	}
	return string(b)
}

// put writes the policy; the same name again replaces it.
func (c *Client) put(ctx context.Context, l *log, p principal, name, doc string) *activities.Fault {
	if p.role {
		_, f := call(ctx, l, "iam:PutRolePolicy", repeats, func(ctx context.Context) (*iam.PutRolePolicyOutput, error) {
			return c.iam.PutRolePolicy(ctx, &iam.PutRolePolicyInput{RoleName: &p.name, PolicyName: &name, PolicyDocument: &doc})
		})
		return f
	}
	_, f := call(ctx, l, "iam:PutUserPolicy", repeats, func(ctx context.Context) (*iam.PutUserPolicyOutput, error) {
		return c.iam.PutUserPolicy(ctx, &iam.PutUserPolicyInput{UserName: &p.name, PolicyName: &name, PolicyDocument: &doc})
	})
	return f
}

// get reads the policy; ok is false when there is none.
func (c *Client) get(ctx context.Context, l *log, p principal, name string) (doc document, ok bool, f *activities.Fault) {
	op, raw := "iam:GetUserPolicy", ""
	if p.role {
		op = "iam:GetRolePolicy"
		raw, f = call(ctx, l, op, reads, func(ctx context.Context) (string, error) {
			out, err := c.iam.GetRolePolicy(ctx, &iam.GetRolePolicyInput{RoleName: &p.name, PolicyName: &name})
			if err != nil {
				return "", err
			}
			return aws.ToString(out.PolicyDocument), nil
		})
	} else {
		raw, f = call(ctx, l, op, reads, func(ctx context.Context) (string, error) {
			out, err := c.iam.GetUserPolicy(ctx, &iam.GetUserPolicyInput{UserName: &p.name, PolicyName: &name})
			if err != nil {
				return "", err
			}
			return aws.ToString(out.PolicyDocument), nil
		})
	}
	if gone(f) {
		return document{}, false, nil
	}
	if f != nil {
		return document{}, false, f
	}
	doc, err := parseDocument(raw)
	if err != nil {
		return document{}, false, &activities.Fault{Class: activities.ClassUnclear, Op: op, Detail: "the policy " + name + " cannot be read"}
	}
	return doc, true, nil
}

// remove deletes the policy; there is false when there was none.
func (c *Client) remove(ctx context.Context, l *log, p principal, name string) (there bool, f *activities.Fault) {
	if p.role {
		_, f = call(ctx, l, "iam:DeleteRolePolicy", repeats, func(ctx context.Context) (*iam.DeleteRolePolicyOutput, error) {
			return c.iam.DeleteRolePolicy(ctx, &iam.DeleteRolePolicyInput{RoleName: &p.name, PolicyName: &name})
		})
	} else {
		_, f = call(ctx, l, "iam:DeleteUserPolicy", repeats, func(ctx context.Context) (*iam.DeleteUserPolicyOutput, error) {
			return c.iam.DeleteUserPolicy(ctx, &iam.DeleteUserPolicyInput{UserName: &p.name, PolicyName: &name})
		})
	}
	if gone(f) {
		return false, nil
	}
	return f == nil, f
}

// parseDocument reads a policy as IAM returns it: URL-encoded by RFC 3986, or, in
// CloudTrail, plain.
func parseDocument(s string) (document, error) {
	if !strings.HasPrefix(strings.TrimSpace(s), "{") {
		plain, err := url.PathUnescape(s)
		if err != nil {
			return document{}, err
		}
		s = plain
	}
	var d document
	err := json.Unmarshal([]byte(s), &d)
	return d, err
}

// subject finds the principal that a verb on principals works on.
func (c *Client) subject(ctx context.Context, l *log, op string, ref activities.Ref) (principal, *activities.Fault) {
	if f := c.mine(op, ref.Key); f != nil {
		return principal{}, f
	}
	if ref.Key.Principal != "" {
		return principalOf(ref.Key.Principal), nil
	}
	if strings.HasPrefix(ref.Key.ID, "ASIA") {
		return c.issuerOf(ctx, l, ref.Key.ID)
	}
	user, f := c.userOf(ctx, l, ref.Key)
	return principal{name: user}, f
}
