package awsiam

import (
	"context"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"rekey/activities"
)

var _ activities.Restorer = (*Client)(nil)

// Restore enables a key until Until. First it puts a Deny on the user that begins
// at that time, and reads it back; only then is the key set Active. So the end
// comes even if rekey is down. The Deny is on the user, because IAM cannot bind
// a policy to one key: after Until the user's other keys are denied too, until
// Deny with Lift removes it, which belongs after a proven Revoke.
func (c *Client) Restore(ctx context.Context, req activities.RestoreRequest) (activities.Result, error) {
	const op = "iam:UpdateAccessKey"
	ctx, l := c.begin(ctx, req.Ref)
	if f := c.userKey(op, req.Key); f != nil {
		return activities.Result{}, f
	}
	until := req.Until.UTC().Truncate(time.Second)
	if !until.After(c.now(ctx)) {
		return activities.Result{}, invalid(op, "the time until which the key is restored is past")
	}
	user, f := c.userOf(ctx, l, req.Key)
	if gone(f) {
		return l.result(activities.NeedsHuman, "no such key: issue a new one"), nil
	}
	if f != nil {
		return activities.Result{}, f
	}
	p, name := principal{name: user}, policyName(req.Incident, policyRestore)
	if f := c.put(ctx, l, p, name, denyAll("RekeyRestoreEnds", map[string]map[string]values{
		"DateGreaterThan": {keyNow: {until.Format(time.RFC3339)}},
	})); f != nil {
		return activities.Result{}, f
	}
	doc, ok, f := c.get(ctx, l, p, name)
	if f != nil {
		return activities.Result{}, f
	}
	if !ok || !endsAt(doc, until) {
		return activities.Result{}, &activities.Fault{Class: activities.ClassTransient, Op: op, Detail: "the end is not yet installed; the key stays disabled"}
	}
	_, f = call(ctx, l, op, repeats, func(ctx context.Context) (*iam.UpdateAccessKeyOutput, error) {
		return c.iam.UpdateAccessKey(ctx, &iam.UpdateAccessKeyInput{UserName: &user, AccessKeyId: &req.Key.ID, Status: types.StatusTypeActive})
	})
	if gone(f) {
		return l.result(activities.NeedsHuman, "no such key: issue a new one"), nil
	}
	if f != nil {
		return activities.Result{}, f
	}
	return l.result(activities.Done, "until "+until.Format(time.RFC3339)), nil
}

// endsAt tells whether the document denies everything from until on.
func endsAt(d document, until time.Time) bool {
	if len(d.Statement) != 1 {
		return false
	}
	s := d.Statement[0]
	at := s.Condition["DateGreaterThan"][keyNow]
	return s.Effect == "Deny" && slices.Equal(s.Action, values{"*"}) && slices.Equal(s.Resource, values{"*"}) &&
		len(s.Condition) == 1 && len(s.Condition["DateGreaterThan"]) == 1 && slices.Equal(at, values{until.Format(time.RFC3339)})
}
