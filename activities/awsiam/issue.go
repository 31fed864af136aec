package awsiam

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudtrail/types"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"rekey/activities"
)

var (
	_ activities.Issuer     = (*Client)(nil)
	_ activities.Reconciler = (*Client)(nil)
)

const (
	// keysPerUser is IAM's hard quota; inactive keys count,
	// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html.
	keysPerUser = 2
	// DetailSlot is the detail of an Issue that needs a key of the user deleted
	// first. The workflow decides which.
	DetailSlot = "slot-needed"
	// trailLag is how late CloudTrail may deliver an event. "CloudTrail typically
	// delivers events within an average of about 5 minutes", not guaranteed
	// (https://aws.amazon.com/cloudtrail/faqs/); three times that.
	trailLag = 15 * time.Minute
	// cleanupTime bounds the deletion of a key that could not be sealed, which goes
	// on when the call itself was cancelled.
	cleanupTime = 10 * time.Second
)

// Issue makes a second key for the principal and seals it under Handle before it
// returns. It makes one only when that is safe: nothing is sealed yet, and the
// user has no key that Before does not name; otherwise the lost call must be
// settled first. A full user gives NeedsHuman with [DetailSlot]. A key that
// cannot be sealed is deleted at once: it is provably ours.
func (c *Client) Issue(ctx context.Context, req activities.IssueRequest) (activities.IssueResult, error) {
	const op = "iam:CreateAccessKey"
	ctx, l := c.begin(ctx, req.Ref)
	if f := c.issuable(op, req); f != nil {
		return activities.IssueResult{}, f
	}
	user, f := c.userOf(ctx, l, req.Key)
	if gone(f) {
		return activities.IssueResult{Result: l.result(activities.NeedsHuman, "no such user: choose a new principal")}, nil
	}
	if f != nil {
		return activities.IssueResult{}, f
	}
	keys, f := c.keysOf(ctx, l, user)
	if gone(f) {
		return activities.IssueResult{Result: l.result(activities.NeedsHuman, "no such user: choose a new principal")}, nil
	}
	if f != nil {
		return activities.IssueResult{}, f
	}
	fresh := unlisted(keys, req.Before)
	kept, f := c.kept(ctx, op, req, fresh)
	switch {
	case f != nil:
		return activities.IssueResult{}, f
	case kept != nil:
		return activities.IssueResult{Result: l.result(activities.Done, "made by an earlier attempt"), New: *kept, Handle: req.Handle}, nil
	case len(fresh) > 0:
		return activities.IssueResult{}, &activities.Fault{Class: activities.ClassUnclear, Op: op, Detail: "the user has a key that was not there before; reconcile first"}
	case len(keys) >= keysPerUser:
		return activities.IssueResult{Result: l.result(activities.NeedsHuman, DetailSlot)}, nil
	}
	return c.create(ctx, l, op, user, req)
}

func (c *Client) issuable(op string, req activities.IssueRequest) *activities.Fault {
	if req.Token == "" || req.Handle == "" {
		return invalid(op, "a new key needs an idempotency token and a handle")
	}
	return c.userKey(op, req.Key)
}

func (c *Client) create(ctx context.Context, l *log, op, user string, req activities.IssueRequest) (activities.IssueResult, error) {
	made, f := call(ctx, l, op, creates, func(ctx context.Context) (*iam.CreateAccessKeyOutput, error) {
		return c.iam.CreateAccessKey(ctx, &iam.CreateAccessKeyInput{UserName: &user})
	})
	switch {
	case is(f, "LimitExceeded"):
		return activities.IssueResult{Result: l.result(activities.NeedsHuman, DetailSlot)}, nil
	case gone(f):
		return activities.IssueResult{Result: l.result(activities.NeedsHuman, "no such user: choose a new principal")}, nil
	case f != nil:
		return activities.IssueResult{}, f
	case made.AccessKey == nil || aws.ToString(made.AccessKey.SecretAccessKey) == "":
		return activities.IssueResult{}, &activities.Fault{Class: activities.ClassUnclear, Op: op, Detail: "the answer names no key"}
	}
	key := made.AccessKey
	state := activities.KeyState{ID: aws.ToString(key.AccessKeyId), Active: key.Status == iamtypes.StatusTypeActive, Created: aws.ToTime(key.CreateDate).UTC()}
	// From here on the key exists: it is sealed, or destroyed, even when nobody
	// waits for this call any more.
	finish, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
	defer cancel()
	err := c.seal(finish, req.Incident, req.Handle, pair{ID: state.ID, Secret: aws.ToString(key.SecretAccessKey)})
	if err == nil {
		return activities.IssueResult{Result: l.result(activities.Done, ""), New: state, Handle: req.Handle}, nil
	}
	f = &activities.Fault{Class: activities.ClassTransient, Op: op, Detail: "the new key could not be sealed and was deleted; see rekey doctor about the sealed store"}
	if d := c.destroy(finish, l, user, state.ID); d != nil {
		f.Class = activities.ClassUnclear
		f.Detail = "the new key " + state.ID + " could not be sealed, and deleting it failed too; reconcile"
	}
	return activities.IssueResult{}, f
}

// destroy disables, then deletes, a key that is provably ours.
func (c *Client) destroy(ctx context.Context, l *log, user, id string) *activities.Fault {
	_, f := call(ctx, l, "iam:UpdateAccessKey", repeats, func(ctx context.Context) (*iam.UpdateAccessKeyOutput, error) {
		return c.iam.UpdateAccessKey(ctx, &iam.UpdateAccessKeyInput{UserName: &user, AccessKeyId: &id, Status: iamtypes.StatusTypeInactive})
	})
	if gone(f) {
		return nil
	}
	// A failed Disable does not stop the Delete, which says more.
	_, f = call(ctx, l, "iam:DeleteAccessKey", repeats, func(ctx context.Context) (*iam.DeleteAccessKeyOutput, error) {
		return c.iam.DeleteAccessKey(ctx, &iam.DeleteAccessKeyInput{UserName: &user, AccessKeyId: &id})
	})
	if gone(f) {
		return nil
	}
	return f
}

// kept finds, among keys that are new, the one whose secret is sealed under the
// request's handle.
func (c *Client) kept(ctx context.Context, op string, req activities.IssueRequest, fresh []activities.KeyState) (*activities.KeyState, *activities.Fault) {
	p, ok, f := c.unseal(ctx, op, req.Incident, req.Handle, "", "reconcile")
	if f != nil || !ok {
		return nil, f
	}
	if i := slices.IndexFunc(fresh, func(k activities.KeyState) bool { return k.ID == p.ID }); i >= 0 {
		return &fresh[i], nil
	}
	return nil, invalid(op, "the handle holds the secret of a key that the user does not have any more; use a new handle")
}

// unlisted are the keys that before does not name.
func unlisted(keys, before []activities.KeyState) []activities.KeyState {
	return slices.DeleteFunc(slices.Clone(keys), func(k activities.KeyState) bool {
		return slices.ContainsFunc(before, func(b activities.KeyState) bool { return b.ID == k.ID })
	})
}

// ReconcileIssue settles a lost Issue. A key that the user did not have before is
// Kept when its secret is sealed under the handle; Killed when CloudTrail says
// that our own principal made it in a call that carried this effect's token;
// Unattributed when somebody else made it, or when no event can be had. While an
// event may still come the result is not settled: ask again. Nothing but proof
// lets it touch a key.
func (c *Client) ReconcileIssue(ctx context.Context, req activities.ReconcileRequest) (activities.ReconcileResult, error) {
	const op = "iam:ListAccessKeys"
	ctx, l := c.begin(ctx, req.Ref)
	out := activities.ReconcileResult{}
	done := func(settled bool, detail string) (activities.ReconcileResult, error) {
		out.Settled, out.Detail, out.Evidence = settled, detail, l.evidence
		return out, nil
	}
	if f := c.issuable(op, req.IssueRequest); f != nil {
		return out, f
	}
	user, f := c.userOf(ctx, l, req.Key)
	var keys []activities.KeyState
	if f == nil {
		keys, f = c.keysOf(ctx, l, user)
	}
	if gone(f) {
		return done(true, "no such user")
	}
	if f != nil {
		return out, f
	}
	fresh := unlisted(keys, req.Before)
	if p, ok, f := c.unseal(ctx, op, req.Incident, req.Handle, "", "reconcile"); f != nil {
		return out, f
	} else if ok {
		if i := slices.IndexFunc(fresh, func(k activities.KeyState) bool { return k.ID == p.ID }); i >= 0 {
			k := fresh[i]
			out.Kept = &k
			fresh = slices.Delete(fresh, i, i+1)
		}
	}
	now := req.Now.UTC()
	if now.IsZero() {
		now = c.now(ctx)
	}
	// A call that is still under way, or a listing that lags behind it, may yet
	// show a key: only the lag settles an empty answer.
	late := now.Sub(req.Started) >= trailLag
	if len(fresh) == 0 {
		return done(out.Kept != nil || late || now.Sub(req.Started) >= 2*propagation, "")
	}
	me, f := call(ctx, l, "sts:GetCallerIdentity", reads, func(ctx context.Context) (*sts.GetCallerIdentityOutput, error) {
		return c.sts[c.regions[0]].GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	})
	if f != nil {
		return out, f
	}
	waiting := 0
	for _, k := range fresh {
		e, known, f := c.creation(ctx, l, user, k.ID, req.Started, now)
		switch {
		case f != nil:
			return out, f
		case e != nil && samePrincipal(e.Who.ARN, aws.ToString(me.Arn)) && strings.Contains(e.Agent+" ", tokenProduct+tokenID(req.Token)+" "):
			if f := c.destroy(ctx, l, user, k.ID); f != nil {
				return out, f
			}
			out.Killed = append(out.Killed, k)
		case e == nil && known && !late:
			waiting++
		default:
			out.Unattributed = append(out.Unattributed, k)
		}
	}
	if waiting > 0 {
		return done(false, "no event yet says who made the new key; CloudTrail may be minutes late")
	}
	return done(true, "")
}

// creation finds the event in which the user's key was made: by the key's id, and
// where the trail does not list what a call returned among its resources, by the
// user's name. known is false when the trail could not be read in full, so that no
// event proves nothing.
func (c *Client) creation(ctx context.Context, l *log, user, id string, started, now time.Time) (e *event, known bool, f *activities.Fault) {
	for _, resource := range []string{id, user} {
		r, f := c.lookup(ctx, l, types.LookupAttributeKeyResourceName, resource, started.Add(-time.Hour), now, true)
		if f != nil {
			return nil, false, f
		}
		for _, e := range r.events {
			if e.Name == "CreateAccessKey" && e.Error == "" && text(e.Response, "accessKey", "accessKeyId") == id {
				return &e, true, nil
			}
		}
		if _, blind := r.blind[c.home]; blind {
			return nil, false, nil
		}
	}
	return nil, true, nil
}

// samePrincipal compares who acted with who we are. The session name of an
// assumed role differs from call to call; the role does not.
func samePrincipal(a, b string) bool {
	cut := func(s string) string {
		if i := strings.LastIndex(s, "/"); i > 0 && strings.Contains(s, ":assumed-role/") {
			return s[:i]
		}
		return s
	}
	return a != "" && cut(a) == cut(b)
}
