package awsiam

import (
	"context"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"rekey/activities"
)

var _ activities.Prober = (*Client)(nil)

// Probe asks once. Mode auth calls GetCallerIdentity, which needs no right and
// cannot be denied (https://docs.aws.amazon.com/STS/latest/APIReference/API_GetCallerIdentity.html),
// from the region given as vantage; mode action calls GetUser on the key's own
// user; mode state reads ListAccessKeys with our own credential. Without a secret
// auth becomes state, and the result says so. After a refusal our own credential
// makes the control call through the same client, from the same place.
//
// Inactive and deleted look the same to the caller. A refused action counts only
// where that action was allowed before; Detail says "explicit deny" where AWS
// names one, which is proof by itself
// (https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_access-denied.html).
func (c *Client) Probe(ctx context.Context, req activities.ProbeRequest) (activities.ProbeResult, error) {
	const op = "sts:GetCallerIdentity"
	ctx, l := c.begin(ctx, req.Ref)
	key, handle := req.Key, req.Secret
	if req.Handle != "" {
		handle = req.Handle
	}
	if req.NewKeyID != "" {
		key.ID = req.NewKeyID
	}
	if f := c.mine(op, key); f != nil {
		return activities.ProbeResult{}, f
	}
	region := req.Vantage
	if region == "" {
		region = c.regions[0]
	}
	if c.sts[region] == nil {
		return activities.ProbeResult{}, invalid(op, "vantage %q is none of this account's regions %s", region, strings.Join(c.allRegions(), ", "))
	}
	mode := req.Mode
	if !slices.Contains([]string{activities.ProbeAuth, activities.ProbeAction, activities.ProbeState}, mode) {
		return activities.ProbeResult{}, invalid(op, "unknown mode %q", mode)
	}
	var creds pair
	if mode != activities.ProbeState {
		sealed := false
		if handle != "" {
			var f *activities.Fault
			if creds, sealed, f = c.unseal(ctx, op, req.Incident, handle, key.ID, "probe"); f != nil {
				return activities.ProbeResult{}, f
			}
		}
		switch {
		case !sealed && mode == activities.ProbeAction:
			return activities.ProbeResult{}, invalid(op, "an action can be tried only with the secret, and none is sealed")
		case !sealed:
			mode = activities.ProbeState
		}
	}
	out := activities.ProbeResult{Mode: mode, Vantage: region}
	var f *activities.Fault
	switch mode {
	case activities.ProbeState:
		f = c.probeState(ctx, l, key, &out)
	case activities.ProbeAction:
		f = c.probeAction(ctx, l, creds, &out)
	default:
		f = c.probeAuth(ctx, l, region, creds, &out)
	}
	if f != nil {
		return activities.ProbeResult{}, f
	}
	if mode != activities.ProbeState && (out.Saw == activities.ProbeRefused || out.Saw == activities.ProbeMismatch) {
		_, f := call(ctx, l, op, reads, func(ctx context.Context) (*sts.GetCallerIdentityOutput, error) {
			return c.sts[region].GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
		})
		out.Control = f == nil
	}
	out.Evidence = l.evidence
	return out, nil
}

func (c *Client) probeAuth(ctx context.Context, l *log, region string, creds pair, out *activities.ProbeResult) *activities.Fault {
	x := &exchange{}
	who, f := callInto(ctx, l, x, "sts:GetCallerIdentity", reads, func(ctx context.Context) (*sts.GetCallerIdentityOutput, error) {
		return c.sts[region].GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{}, func(o *sts.Options) { o.Credentials = creds.credential() })
	})
	if f == nil && aws.ToString(who.Account) != c.id {
		out.Saw, out.Detail = activities.ProbeUnclear, "the answer names another account"
		return nil
	}
	return saw(activities.ProbeAuth, x, f, out)
}

func (c *Client) probeAction(ctx context.Context, l *log, creds pair, out *activities.ProbeResult) *activities.Fault {
	x := &exchange{}
	_, f := callInto(ctx, l, x, "iam:GetUser", reads, func(ctx context.Context) (*iam.GetUserOutput, error) {
		return c.iam.GetUser(ctx, &iam.GetUserInput{}, func(o *iam.Options) { o.Credentials = creds.credential() })
	})
	if is(f, "ValidationError") {
		// "Must specify userName when calling with non-User credentials": a session of
		// a role was let in and got as far as its input.
		f = nil
	}
	return saw(activities.ProbeAction, x, f, out)
}

// saw reads an answer to a probe. Only codes that say so are a refusal; anything
// odd is unclear and never counts. It fails when nobody waits for the answer any
// more, and when we are asked to wait.
func saw(mode string, x *exchange, f *activities.Fault, out *activities.ProbeResult) *activities.Fault {
	switch {
	case f == nil:
		out.Saw = activities.ProbeAlive
	case credentialCodes[x.code] && x.status/100 == 4:
		out.Saw, out.Detail = activities.ProbeRefused, x.code
	case mismatchCodes[x.code]:
		out.Saw, out.Detail = activities.ProbeMismatch, x.code
	case deniedCodes[x.code] && mode == activities.ProbeAuth:
		out.Saw, out.Detail = activities.ProbeAlive, x.code+": it authenticated"
	case deniedCodes[x.code] && x.explicitDeny:
		out.Saw, out.Detail = activities.ProbeRefused, x.code+": explicit deny"
	case deniedCodes[x.code]:
		out.Saw, out.Detail = activities.ProbeRefused, x.code+": counts if the action was allowed before"
	case f.Class == activities.ClassThrottled || f.Detail == cancelled || f.Detail == cancelledSent:
		return f
	default:
		out.Saw, out.Detail = activities.ProbeUnclear, f.Detail
	}
	return nil
}

// probeState reads what IAM says of the key. Our own call having worked is the
// control.
func (c *Client) probeState(ctx context.Context, l *log, key activities.Key, out *activities.ProbeResult) *activities.Fault {
	if strings.HasPrefix(key.ID, "ASIA") {
		out.Saw, out.Detail = activities.ProbeUnclear, "STS keeps no state that can be asked; a session is proven only with its secret"
		return nil
	}
	state, f := c.stateOf(ctx, l, key)
	switch {
	case f == nil && state == nil:
		out.Saw, out.Control, out.Detail = activities.ProbeRefused, true, "no such key"
	case f == nil && state.Active:
		out.Saw, out.Control, out.Detail = activities.ProbeAlive, true, "Active"
	case f == nil:
		out.Saw, out.Control, out.Detail = activities.ProbeRefused, true, "Inactive"
	case f.Class == activities.ClassUnclear || f.Class == activities.ClassTransient && ctx.Err() == nil:
		out.Saw, out.Detail = activities.ProbeUnclear, f.Detail
	default:
		return f
	}
	return nil
}

// stateOf is the key as IAM lists it; nil when there is none. A key that its
// principal does not have is looked for under its owner of today: users can be
// renamed, by a thief too.
func (c *Client) stateOf(ctx context.Context, l *log, key activities.Key) (*activities.KeyState, *activities.Fault) {
	find := func(user string) (*activities.KeyState, *activities.Fault) {
		keys, f := c.keysOf(ctx, l, user)
		if gone(f) {
			return nil, nil
		}
		if i := slices.IndexFunc(keys, func(k activities.KeyState) bool { return k.ID == key.ID }); i >= 0 {
			return &keys[i], f
		}
		return nil, f
	}
	if key.Principal != "" {
		if k, f := find(key.Principal); k != nil || f != nil {
			return k, f
		}
	}
	owner, f := c.ownerOf(ctx, l, key.ID)
	switch {
	case gone(f), f != nil && f.Class == activities.ClassDenied && key.Principal != "", f == nil && (owner == "" || owner == key.Principal):
		return nil, nil
	case f != nil:
		return nil, f
	}
	return find(owner)
}
