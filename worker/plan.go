package worker

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"time"

	"rekey/activities"
	"rekey/internal/canon"
	"rekey/internal/cli"
	"rekey/internal/engine"
	"rekey/internal/playbook"
	"rekey/playbooks"
	"rekey/workflows"
)

// Plan tells what rekey would do about a key: real reads, no incident, no server,
// nothing changed at the provider and nothing kept.
func Plan(ctx context.Context, o cli.PlanOptions, io cli.IOStreams) (cli.PlanResult, error) {
	cfg, err := LoadConfig(o.Common, nil)
	if err != nil {
		return cli.PlanResult{}, err
	}
	// Nothing of a plan is kept: keys and stores are of a directory that goes with
	// it. Only the installation key, where there is one, is the real one, so that
	// people see the fingerprint that an incident would have.
	dir, err := os.MkdirTemp("", "rekey-plan-")
	if err != nil {
		return cli.PlanResult{}, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	scratch := *cfg
	scratch.Data = dir
	if b, err := os.ReadFile(installationKey(cfg.Data)); err == nil {
		if err := os.MkdirAll(filepath.Dir(installationKey(dir)), 0o700); err != nil {
			return cli.PlanResult{}, err
		}
		if err := os.WriteFile(installationKey(dir), b, 0o600); err != nil {
			return cli.PlanResult{}, err
		}
	}
	r, err := Open(&scratch, NewLog(io.Err, "error", ""), true)
	if err != nil {
		return cli.PlanResult{}, err
	}
	return r.planKey(ctx, o)
}

// planKey plans for one key as this process reads it; nothing is kept.
func (r *Runtime) planKey(ctx context.Context, o cli.PlanOptions) (cli.PlanResult, error) {
	p, ok := r.all.Lookup(o.Provider)
	if !ok {
		return cli.PlanResult{}, cli.Usage("`rekey provider list` names those of this build", "no provider %q", o.Provider)
	}
	kind, err := p.Descriptor.CheckID(o.KeyID)
	if err != nil {
		return cli.PlanResult{}, cli.Usage("give the key's public id", "%v", err)
	}
	account := o.Account
	if account == "" {
		names := r.Config.Accounts(o.Provider)
		if len(names) != 1 {
			return cli.PlanResult{}, cli.Usage("name one with --account, or configure one under providers."+o.Provider+" in rekey.yaml", "%d accounts of %s are configured", len(names), o.Provider)
		}
		account = names[0]
	}
	fp, err := r.Finger.Public(o.Provider, account, kind, o.KeyID)
	if err != nil {
		return cli.PlanResult{}, err
	}
	pb, digest, err := choosePlaybook(o, r, kind)
	if err != nil {
		return cli.PlanResult{}, err
	}
	return r.dryRun(ctx, o, pb, digest, activities.Key{FP: fp, Provider: o.Provider, Account: account, Kind: kind, ID: o.KeyID})
}

func choosePlaybook(o cli.PlanOptions, r *Runtime, kind string) (*playbooks.Playbook, string, error) {
	info := playbook.WithProviders(playbook.Descriptors(r.Descriptors()))
	names := playbook.Shipped()
	if o.PlaybookName != "" {
		names = []string{o.PlaybookName}
	}
	if o.PlaybookFile != "" {
		names = []string{o.PlaybookFile}
	}
	for _, name := range names {
		l, err := playbook.Load(name, info)
		if err != nil {
			return nil, "", cli.Usage("`rekey playbook validate` explains", "%v", err)
		}
		if l.Playbook.Match.Provider == o.Provider && slices.Contains(l.Playbook.Match.Kinds, kind) {
			return l.Playbook, l.Digest, nil
		}
	}
	return nil, "", cli.Usage("give one with --playbook", "no playbook takes %s/%s", o.Provider, kind)
}

// dryRun reads, expands and plans once around, as an incident would.
func (r *Runtime) dryRun(ctx context.Context, o cli.PlanOptions, pb *playbooks.Playbook, digest string, key activities.Key) (cli.PlanResult, error) {
	now := r.Now(ctx)
	lookback := pb.Scope.Lookback.Std()
	if o.Lookback > 0 {
		lookback = o.Lookback
	}
	e := engine.New(engine.Options{Config: r.Config, Estate: r.Estate, Providers: r.Descriptors(), Client: r.Client})
	items := []workflows.Scoped{{Key: key, Basis: "report", Exposure: o.Exposure}}
	res := cli.PlanResult{
		Schema: cli.SchemaPlan, Key: key, Playbook: pb.Name, Uses: []cli.PlanUse{}, Findings: []cli.PlanFinding{}, Items: []activities.Key{},
		Approvals: []cli.PlanApproval{}, Unseen: []activities.Unseen{}, Dark: []cli.PlanDark{},
	}
	for depth := 0; depth <= pb.Scope.Depth; depth++ {
		for i := range items {
			if items[i].Reading != nil {
				continue
			}
			reading, err := r.inspect(ctx, items[i].Key, now, lookback)
			if err != nil {
				return res, err
			}
			items[i].Reading = reading
			if reading.Principal != "" {
				items[i].Key.Principal = reading.Principal
			}
		}
		before := len(items)
		exp, err := e.Expand(ctx, workflows.ExpandInput{
			Items: items, Depth: pb.Scope.Depth - depth + 1, Now: now, Lookback: lookback, Reported: map[string][]string{key.FP: o.Copies},
		})
		if err != nil {
			return res, err
		}
		for _, u := range exp.Unseen {
			if !slices.Contains(res.Unseen, u) {
				res.Unseen = append(res.Unseen, u)
			}
		}
		for _, d := range exp.Dark {
			if w := (cli.PlanDark{From: canon.Time(d.From), To: canon.Time(d.To), Source: d.Source}); !slices.Contains(res.Dark, w) {
				res.Dark = append(res.Dark, w)
			}
		}
		if items = exp.Items; len(items) == before {
			break
		}
	}
	holds, err := r.holds()
	if err != nil {
		return res, err
	}
	in := workflows.PlanInput{Version: 1, Playbook: *pb, Digest: digest, Items: items, Report: workflows.Report{Key: key, Source: "cli", SourceKind: "cli", Confidence: "confirmed"}, Now: now, Kinds: r.kinds()}
	for _, s := range items {
		for _, h := range holds {
			if h.KeyID == s.Key.ID && (h.Until.IsZero() || now.Before(h.Until)) {
				in.Held = append(in.Held, s.Key.FP)
				if s.Key.FP == key.FP {
					res.Held = h.Why + " (by " + h.By + ")"
				}
			}
		}
	}
	built, err := engine.BuildPlan(in)
	if err != nil {
		return res, err
	}
	res.Plan, res.Severity = built.Plan, built.Severity
	describe(&res, items, key)
	for _, w := range built.Plan.Waves {
		need := pb.ApprovalFor(w.Strategy)
		a := cli.PlanApproval{Wave: w.N, Policy: need.Policy, Quorum: need.Quorum}
		for _, role := range need.Roles {
			a.Roles = append(a.Roles, string(role))
		}
		if need.Policy && len(w.Items) > 0 {
			if d, ok := built.Plan.Decision(w.Items[0].Key.FP); ok {
				a.Rule = d.Rule
			}
		}
		res.Approvals = append(res.Approvals, a)
	}
	return res, nil
}

func (r *Runtime) inspect(ctx context.Context, key activities.Key, now time.Time, lookback time.Duration) (*activities.InspectResult, error) {
	client, err := r.Client(key.Provider, key.Account)
	if err != nil {
		return nil, err
	}
	i, ok := client.(activities.Inspector)
	if !ok {
		return &activities.InspectResult{Unseen: []activities.Unseen{{Source: key.Provider, Why: "the provider has no Inspect"}}}, nil
	}
	reading, err := i.Inspect(ctx, activities.InspectRequest{Ref: activities.Ref{Incident: "plan", Token: "plan", Key: key}, Since: now.Add(-lookback), Now: now, Compromised: []string{key.ID}})
	if err != nil {
		f := activities.AsFault("Inspect", err)
		do := "try again"
		switch f.Class {
		case activities.ClassDenied:
			do = "check this account's credentials in rekey.yaml"
			if f.Permission != "" {
				do = "grant " + f.Permission + " to the identity of this account (`rekey provider show " + key.Provider + "` has the policy)"
			}
		case activities.ClassInvalid:
			do = "check the key id and the account"
		case activities.ClassTransient, activities.ClassUnclear:
			do = "is the provider reachable from here? check base_url and the network"
		}
		return nil, cli.Failed("provider", do, "%s", f.Error())
	}
	return &reading, nil
}

func describe(res *cli.PlanResult, items []workflows.Scoped, key activities.Key) {
	for _, s := range items {
		res.Items = append(res.Items, s.Key)
		for _, u := range s.Reading.Unseen {
			if !slices.Contains(res.Unseen, u) {
				res.Unseen = append(res.Unseen, u)
			}
		}
		for _, d := range s.Reading.Dark {
			res.Dark = append(res.Dark, cli.PlanDark{From: canon.Time(d.From), To: canon.Time(d.To), Source: d.Source})
		}
		if s.Key.FP != key.FP {
			continue
		}
		res.Key, res.Owner, res.OwnerKind = s.Key, s.Owner, s.OwnerKind
		res.Exists, res.Active, res.Admin = s.Reading.Exists, s.Reading.Active, s.Reading.Admin
		res.Created, res.LastUsed = canon.Time(s.Reading.Created), canon.Time(s.Reading.Last)
		for _, u := range s.Reading.Uses {
			res.Uses = append(res.Uses, cli.PlanUse{First: canon.Time(u.First), Last: canon.Time(u.Last), Count: u.Count, Source: u.Source, Agent: u.Agent, Calls: u.Calls, Refused: u.Refused, Label: u.Label, Why: u.Why, Who: u.Who})
		}
		for _, f := range s.Reading.Findings {
			res.Findings = append(res.Findings, cli.PlanFinding{What: f.What, ID: f.ID, At: canon.Time(f.At), Why: f.Why})
		}
	}
}
