package awsiam

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"rekey/activities"
)

var (
	_ activities.Disabler = (*Client)(nil)
	_ activities.Revoker  = (*Client)(nil)
	_ activities.Lister   = (*Client)(nil)
)

// Disable sets a user's key Inactive: one call where the principal is known.
// UserName is always given; without it IAM would act on our own keys
// (https://docs.aws.amazon.com/IAM/latest/APIReference/API_UpdateAccessKey.html).
func (c *Client) Disable(ctx context.Context, ref activities.Ref) (activities.Result, error) {
	return c.onKey(ctx, ref, "iam:UpdateAccessKey", func(ctx context.Context, user string) error {
		_, err := c.iam.UpdateAccessKey(ctx, &iam.UpdateAccessKeyInput{
			UserName: &user, AccessKeyId: &ref.Key.ID, Status: types.StatusTypeInactive,
		})
		return err
	})
}

// Revoke deletes a user's key.
func (c *Client) Revoke(ctx context.Context, ref activities.Ref) (activities.Result, error) {
	return c.onKey(ctx, ref, "iam:DeleteAccessKey", func(ctx context.Context, user string) error {
		_, err := c.iam.DeleteAccessKey(ctx, &iam.DeleteAccessKeyInput{UserName: &user, AccessKeyId: &ref.Key.ID})
		return err
	})
}

// onKey does one idempotent change of a user's key and reads "no such entity" as
// already gone, after making sure that the key was not merely looked for under
// the wrong user: users can be renamed.
func (c *Client) onKey(ctx context.Context, ref activities.Ref, op string, change func(context.Context, string) error) (activities.Result, error) {
	ctx, l := c.begin(ctx, ref)
	if f := c.userKey(op, ref.Key); f != nil {
		return activities.Result{}, f
	}
	do := func(user string) *activities.Fault {
		_, f := call(ctx, l, op, repeats, func(ctx context.Context) (struct{}, error) { return struct{}{}, change(ctx, user) })
		return f
	}
	user := ref.Key.Principal
	if user != "" {
		f := do(user)
		if f == nil {
			return l.result(activities.Done, ""), nil
		}
		if !gone(f) {
			return activities.Result{}, f
		}
	}
	owner, f := c.ownerOf(ctx, l, ref.Key.ID)
	switch {
	case gone(f) || f == nil && owner == "":
		return l.result(activities.AlreadyGone, "no such key"), nil
	case f != nil && user != "" && f.Class == activities.ClassDenied:
		// IAM denies this look-up also for keys that it does not know.
		return l.result(activities.AlreadyGone, "no such key of "+user), nil
	case f != nil:
		return activities.Result{}, f
	case owner == user:
		// Listed, yet not found by the change: IAM has not settled.
		return activities.Result{}, &activities.Fault{Class: activities.ClassTransient, Op: op, Detail: "IAM says both that the key exists and that it does not"}
	}
	if f := do(owner); gone(f) {
		return l.result(activities.AlreadyGone, "no such key"), nil
	} else if f != nil {
		return activities.Result{}, f
	}
	return l.result(activities.Done, "the key is of user "+owner), nil
}

// userKey refuses what is not a long-term key of this account.
func (c *Client) userKey(op string, k activities.Key) *activities.Fault {
	if f := c.mine(op, k); f != nil {
		return f
	}
	if strings.HasPrefix(k.ID, "ASIA") {
		return invalid(op, "an STS session has no such switch; end it with EndSessions or Deny on its principal")
	}
	if strings.HasPrefix(k.Principal, rolePrefix) {
		return invalid(op, "%s is a role; a user's key has a user as its principal", k.Principal)
	}
	return nil
}

// ownerOf asks IAM whose key it is; "" when IAM knows no owner.
// https://docs.aws.amazon.com/IAM/latest/APIReference/API_GetAccessKeyLastUsed.html
func (c *Client) ownerOf(ctx context.Context, l *log, id string) (string, *activities.Fault) {
	out, f := call(ctx, l, "iam:GetAccessKeyLastUsed", reads, func(ctx context.Context) (*iam.GetAccessKeyLastUsedOutput, error) {
		return c.iam.GetAccessKeyLastUsed(ctx, &iam.GetAccessKeyLastUsedInput{AccessKeyId: &id})
	})
	if f != nil {
		return "", f
	}
	return aws.ToString(out.UserName), nil
}

// userOf is the principal of the key, asked for when the request does not say.
func (c *Client) userOf(ctx context.Context, l *log, k activities.Key) (string, *activities.Fault) {
	if k.Principal != "" {
		return k.Principal, nil
	}
	user, f := c.ownerOf(ctx, l, k.ID)
	if f == nil && user == "" {
		f = &activities.Fault{Class: activities.ClassInvalid, Op: "iam:GetAccessKeyLastUsed", Detail: "NoSuchEntity"}
	}
	return user, f
}

// ListKeys lists all keys of the principal by id.
func (c *Client) ListKeys(ctx context.Context, ref activities.Ref) ([]activities.KeyState, error) {
	ctx, l := c.begin(ctx, ref)
	if f := c.userKey("iam:ListAccessKeys", ref.Key); f != nil {
		return nil, f
	}
	user, f := c.userOf(ctx, l, ref.Key)
	if f != nil {
		return nil, f
	}
	keys, f := c.keysOf(ctx, l, user)
	return keys, asError(f)
}

// maxPages ends a listing whose server never stops saying "there is more".
const maxPages = 1000

func (c *Client) keysOf(ctx context.Context, l *log, user string) ([]activities.KeyState, *activities.Fault) {
	const op = "iam:ListAccessKeys"
	out := []activities.KeyState{}
	var marker *string
	for range maxPages {
		page, f := call(ctx, l, op, reads, func(ctx context.Context) (*iam.ListAccessKeysOutput, error) {
			return c.iam.ListAccessKeys(ctx, &iam.ListAccessKeysInput{UserName: &user, Marker: marker})
		})
		if f != nil {
			return nil, f
		}
		for _, k := range page.AccessKeyMetadata {
			out = append(out, activities.KeyState{
				ID: aws.ToString(k.AccessKeyId), Active: k.Status == types.StatusTypeActive, Created: aws.ToTime(k.CreateDate).UTC(),
			})
		}
		if !page.IsTruncated || aws.ToString(page.Marker) == "" {
			slices.SortFunc(out, func(a, b activities.KeyState) int { return cmp.Compare(a.ID, b.ID) })
			return out, nil
		}
		marker = page.Marker
	}
	return nil, &activities.Fault{Class: activities.ClassUnclear, Op: op, Detail: "the listing does not end"}
}
