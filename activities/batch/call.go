package batch

import (
	"context"

	"rekey/activities"
)

// call makes the one call of an item and gives its outcome or fault.
func (s *passing) call(ctx context.Context, place *Place, req activities.Request, before []activities.KeyState) (out activities.Attempt) {
	ctx, seen := s.Observe(ctx, s.p, req.Key)
	defer func() { seen(out) }()
	limit := ctx
	if s.p.Verb.Mutates() || s.p.Verb == activities.Probe {
		var cancel context.CancelFunc
		limit, cancel = context.WithTimeout(ctx, callLimit)
		defer cancel()
	}
	a := activities.Attempt{FP: req.Key.FP, Verb: s.p.Verb, N: req.Attempt}
	res, err := dispatch(limit, s.client, s.p.Verb, req, before, &a)
	if err != nil {
		b := s.fault(ctx, req, place, activities.AsFault(string(s.p.Verb), err))
		b.Inspect, b.Sweep = a.Inspect, a.Sweep
		return b
	}
	a.At = s.fresh(ctx)
	if f := s.fingerprint(&a); f != nil {
		return failed(s.p, req, f, a.At)
	}
	a.Outcome, a.Detail, a.Evidence = res.Outcome, res.Detail, res.Evidence
	if n := len(res.Evidence); n > 0 {
		a.RequestID, a.Status = res.Evidence[n-1].RequestID, res.Evidence[n-1].Status
	}
	return a
}

// fingerprint names the keys that a reading found: providers know ids only, and
// the installation key is not theirs.
func (r *Runner) fingerprint(a *activities.Attempt) *activities.Fault {
	var found [][]activities.Finding
	if a.Inspect != nil {
		found = append(found, a.Inspect.Findings)
	}
	if a.Sweep != nil {
		found = append(found, a.Sweep.Findings)
	}
	for _, fs := range found {
		for i := range fs {
			k := fs[i].Key
			if k == nil || k.FP != "" || r.Fingerprint == nil {
				continue
			}
			fp, err := r.Fingerprint(*k)
			if err != nil {
				return &activities.Fault{Class: activities.ClassInvalid, Op: string(a.Verb), Detail: "the provider found a key that cannot be named"}
			}
			k.FP = fp
		}
	}
	return nil
}

// dispatch calls the capability of a verb. A verb that the client lacks is
// unsupported: the plan leaves such verbs out, so this is a second line.
func dispatch(ctx context.Context, client any, v activities.Verb, req activities.Request, before []activities.KeyState, a *activities.Attempt) (activities.Result, error) {
	done := activities.Result{Outcome: activities.Done}
	switch v {
	case activities.Inspect:
		if c, ok := client.(activities.Inspector); ok {
			res, err := c.Inspect(ctx, activities.InspectRequest{Ref: req.Ref, Since: req.Since, Now: req.Now, Known: req.Known, Compromised: req.Compromised})
			if err != nil {
				return done, err
			}
			a.Inspect, done.Evidence = &res, res.Evidence
			return done, nil
		}
	case activities.Disable:
		if c, ok := client.(activities.Disabler); ok {
			return c.Disable(ctx, req.Ref)
		}
	case activities.Restore:
		if c, ok := client.(activities.Restorer); ok {
			return c.Restore(ctx, activities.RestoreRequest{Ref: req.Ref, Until: req.Until})
		}
	case activities.Revoke:
		if c, ok := client.(activities.Revoker); ok {
			return c.Revoke(ctx, req.Ref)
		}
	case activities.EndSessions:
		if c, ok := client.(activities.SessionEnder); ok {
			return c.EndSessions(ctx, activities.EndSessionsRequest{Ref: req.Ref, Before: req.Before, Roles: req.Roles})
		}
	case activities.Deny:
		if c, ok := client.(activities.Denier); ok {
			return c.Deny(ctx, activities.DenyRequest{Ref: req.Ref, Lift: req.Lift})
		}
	case activities.Bind:
		if c, ok := client.(activities.Binder); ok {
			return c.Bind(ctx, activities.BindRequest{Ref: req.Ref, Allow: req.Allow, Lift: req.Lift})
		}
	case activities.Issue:
		if c, ok := client.(activities.Issuer); ok {
			res, err := c.Issue(ctx, activities.IssueRequest{Ref: req.Ref, Handle: req.Handle, Before: before})
			if err != nil {
				return done, err
			}
			a.Issue = &res
			return res.Result, nil
		}
	case activities.Distribute:
		if c, ok := client.(activities.Distributor); ok {
			res, err := c.Distribute(ctx, activities.DistributeRequest{Ref: req.Ref, Handle: req.Handle, NewKeyID: req.NewKeyID, Target: req.Target, Name: req.Name})
			if err != nil {
				return done, err
			}
			a.Distribute = &res
			return res.Result, nil
		}
	case activities.Probe:
		if c, ok := client.(activities.Prober); ok {
			res, err := c.Probe(ctx, activities.ProbeRequest{Ref: req.Ref, Mode: req.Mode, Vantage: req.Vantage, Handle: req.Handle, NewKeyID: req.NewKeyID})
			if err != nil {
				return done, err
			}
			a.Probe, done.Evidence, done.Detail = &res, res.Evidence, res.Detail
			return done, nil
		}
	case activities.Sweep:
		if c, ok := client.(activities.Sweeper); ok {
			res, err := c.Sweep(ctx, activities.SweepRequest{Ref: req.Ref, Since: req.Since, Now: req.Now, Compromised: req.Compromised, Ours: req.Ours, UsesOnly: req.UsesOnly})
			if err != nil {
				return done, err
			}
			a.Sweep, done.Evidence = &res, res.Evidence
			return done, nil
		}
	}
	return activities.Result{Outcome: activities.Unsupported, Detail: "the provider has no " + string(v)}, nil
}
