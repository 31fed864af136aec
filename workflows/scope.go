package workflows

import (
	"fmt"
	"slices"
	"sort"
	"strings"

	"go.temporal.io/sdk/workflow"

	"rekey/activities"
	"rekey/internal/canon"
	"rekey/internal/event"
	"rekey/internal/view"
	"rekey/playbooks"
)

// scope makes the next version of the set of items: what was reported and found,
// what the providers say of it, and what the estate says that it reaches, round by
// round until nothing new turns up.
func (r *incident) scope(ctx workflow.Context) error {
	r.st.Scoping = false
	reread := r.st.Reread
	r.st.Reread = false
	if r.st.ScopeVersion == 0 {
		r.enter(ctx, phaseScope)
	}
	if err := r.outOfMass(ctx); err != nil {
		return err
	}
	before := r.fps()
	read := map[string]bool{}
	for _, s := range r.st.Items {
		read[s.Key.FP] = s.Reading != nil && !reread
	}
	for _, rep := range r.st.Reports {
		if r.st.Mass != nil && slices.Contains(r.st.Mass.Asked, rep.Key.FP) {
			continue // its wave gives it back
		}
		r.addItem(Scoped{Key: rep.Key, Alias: rep.Alias, Secret: rep.Secret, Basis: "report", Why: "reported by " + rep.Source, Exposure: rep.Exposure, Copies: rep.Copies})
		for _, e := range rep.Evidence {
			r.keep(e)
		}
		if len(rep.Evidence) > 0 && slices.Contains(r.pb.Scope.Sources, playbooks.SourceBlobs) {
			// A source must not be able to put keys into scope by naming them in a file.
			r.unseen(activities.Unseen{Source: string(playbooks.SourceBlobs), Why: "evidence files are kept and not read for further keys: report those that are out"})
		}
	}
	for depth := 0; ; depth++ {
		if err := r.inspectNew(ctx, read); err != nil {
			return err
		}
		if depth > r.pb.Scope.Depth {
			break
		}
		grew, err := r.expand(ctx, depth)
		if err != nil {
			return err
		}
		if !grew {
			break
		}
	}
	r.dropOurs()
	if err := r.claim(ctx); err != nil {
		return err
	}
	if err := r.preserve(ctx); err != nil {
		return err
	}
	added, removed := diff(r.fps(), before), diff(before, r.fps())
	r.st.ScopeVersion++
	record(ctx, r.clk.Now(ctx), event.Event{Type: event.EventScope, Attrs: map[string]string{
		"version": itoa(r.st.ScopeVersion), "items": itoa(r.size()), "reachable": itoa(max(r.st.Reachable, r.size())),
		"added": strings.Join(shorts(added), ","), "removed": strings.Join(shorts(removed), ","), "unseen": itoa(len(r.st.Unseen)), "dark": itoa(len(r.st.Dark)),
	}})
	r.voidVotes(ctx)
	return r.replan(ctx)
}

// addItem takes an item into scope, or adds what is new about one that is there.
func (r *incident) addItem(s Scoped) bool {
	for i := range r.st.Items {
		it := &r.st.Items[i]
		if it.Key.FP != s.Key.FP {
			continue
		}
		if it.Secret == "" {
			it.Secret = s.Secret
		}
		if it.Exposure == "" {
			it.Exposure = s.Exposure
		}
		it.Copies = r.copies(*it)
		it.Unattributed = it.Unattributed || s.Unattributed
		it.CreatedByCompromised = it.CreatedByCompromised || s.CreatedByCompromised
		return false
	}
	r.st.Items = append(r.st.Items, s)
	sort.Slice(r.st.Items, func(i, j int) bool { return r.st.Items[i].Key.FP < r.st.Items[j].Key.FP })
	return true
}

// inspectNew reads every item that was not read in this version, all at once: a
// slow one delays no other.
func (r *incident) inspectNew(ctx workflow.Context, read map[string]bool) error {
	now := r.clk.Now(ctx)
	var todo []int
	for i, s := range r.st.Items {
		if read[s.Key.FP] {
			continue
		}
		read[s.Key.FP] = true
		info, ok := r.set.Kinds[s.Key.Provider+"/"+s.Key.Kind].Verbs[activities.Inspect]
		if !ok || info.Support != activities.ByAPI {
			u := activities.Unseen{Source: s.Key.Provider, Why: "the provider has no Inspect for " + s.Key.Kind}
			r.unseen(u)
			// "uses" is the source whose absence makes every fact about use unknown.
			r.st.Items[i].Reading = &activities.InspectResult{Unseen: []activities.Unseen{{Source: "uses", Why: u.Why}}}
			continue
		}
		todo = append(todo, i)
	}
	if len(todo) == 0 {
		return nil
	}
	var compromised []string
	for _, s := range r.st.Items {
		compromised = append(compromised, s.Key.ID)
	}
	limit := now.Add(r.pb.Scope.Timeout.Std())
	late := func() bool { return !r.clk.Now(ctx).Before(limit) }
	got := make([]activities.Attempt, len(todo))
	errs := make([]error, len(todo))
	wg := workflow.NewWaitGroup(ctx)
	for n, i := range todo {
		s := r.st.Items[i]
		wg.Add(1)
		workflow.Go(ctx, func(ctx workflow.Context) {
			defer wg.Done()
			req := activities.Request{Ref: activities.Ref{Key: s.Key}, Since: now.Add(-r.pb.Scope.Lookback.Std()), Now: now, Compromised: compromised}
			got[n], errs[n] = r.call.until(ctx, activities.Inspect, req, nil, late)
		})
	}
	wg.Wait(ctx)
	keys := make([]activities.Key, len(todo))
	for n, i := range todo {
		keys[n] = r.st.Items[i].Key
	}
	for n := range todo {
		if errs[n] != nil {
			return errs[n]
		}
		a := got[n]
		// By name, not by place: a finding puts items in between.
		s := r.item(keys[n].FP)
		switch {
		case a.Inspect != nil:
			s.Reading = a.Inspect
		case s.Reading == nil:
			s.Reading = &activities.InspectResult{Unseen: []activities.Unseen{
				{Source: s.Key.Provider, Why: a.Detail, Permission: a.Permission}, {Source: "uses", Why: a.Detail, Permission: a.Permission},
			}}
		default: // what was read before is better than nothing, and the gap is on record
			r.unseen(activities.Unseen{Source: s.Key.Provider, Why: a.Detail, Permission: a.Permission})
			continue
		}
		if s.Reading.Principal != "" {
			s.Key.Principal = s.Reading.Principal
		}
		for _, u := range s.Reading.Unseen {
			r.unseen(u)
		}
		r.darken(s.Reading.Dark)
		from := s.Key
		for _, f := range s.Reading.Findings {
			r.finding(ctx, from, f)
		}
	}
	return nil
}

// copies are where the estate and the reports say that copies of an item lie.
func (r *incident) copies(s Scoped) []string {
	out := slices.Clone(s.Copies)
	for _, rep := range r.st.Reports {
		for _, c := range rep.Copies {
			if rep.Key.FP == s.Key.FP && !slices.Contains(out, c) {
				out = append(out, c)
			}
		}
	}
	return out
}

// reported are the places that reports name, by the fingerprint of their key.
func (r *incident) reported() map[string][]string {
	out := map[string][]string{}
	for _, rep := range r.st.Reports {
		for _, c := range rep.Copies {
			if !slices.Contains(out[rep.Key.FP], c) {
				out[rep.Key.FP] = append(out[rep.Key.FP], c)
			}
		}
	}
	return out
}

// expand asks the estate for what the items reach.
func (r *incident) expand(ctx workflow.Context, depth int) (bool, error) {
	in := ExpandInput{
		Incident: r.in.ID, Items: r.st.Items, Depth: r.pb.Scope.Depth - depth + 1, Now: r.clk.Now(ctx), Lookback: r.pb.Scope.Lookback.Std(), Evidence: r.st.Evidence,
		Reported: r.reported(),
	}
	limit := engine
	if r.set.Large > 0 {
		in.Large = r.set.Large
		if r.st.Mass != nil {
			for _, p := range r.st.Mass.Parts {
				in.Known = append(in.Known, p.List)
			}
		}
		limit = sortLimit
	}
	res, err := engineCall[ExpandResult](ctx, r.clk, limit, ActivityExpand, "what the estate knows", in)
	if err != nil {
		return false, err
	}
	if res.Mass != nil {
		if err := r.addMass(ctx, *res.Mass); err != nil {
			return false, err
		}
	}
	grew := false
	for _, s := range res.Items {
		if r.addItem(s) {
			grew = true
			continue
		}
		for i := range r.st.Items {
			it := &r.st.Items[i]
			if it.Key.FP != s.Key.FP {
				continue
			}
			it.Owner, it.OwnerKind, it.Dependents, it.Customers, it.Copies, it.StoreDirty = s.Owner, s.OwnerKind, s.Dependents, s.Customers, r.copies(s), s.StoreDirty
			if it.Exposure == "" {
				it.Exposure = s.Exposure
			}
			if it.Key.Principal == "" {
				it.Key.Principal = s.Key.Principal
			}
		}
	}
	for _, u := range res.Unseen {
		r.unseen(u)
	}
	r.darken(res.Dark)
	r.st.Reachable = max(r.st.Reachable, res.Reachable)
	return grew, nil
}

// claim has the registers settle whose each key is. A key of another incident is
// shown and not touched.
func (r *incident) claim(ctx workflow.Context) error {
	var fps []string
	for _, s := range r.st.Items {
		if s.Conflict == "" {
			fps = append(fps, s.Key.FP)
			if s.Alias != "" {
				fps = append(fps, s.Alias)
			}
		}
	}
	res, err := engineCall[ClaimResult](ctx, r.clk, engine, ActivityClaim, "one incident per key", ClaimInput{Incident: r.in.ID, FPs: fps})
	if err != nil {
		return err
	}
	for i := range r.st.Items {
		s := &r.st.Items[i]
		owner := res.Owners[s.Key.FP]
		if owner == "" || owner == r.in.ID {
			owner = res.Owners[s.Alias]
		}
		if owner == "" || owner == r.in.ID || s.Conflict != "" {
			continue
		}
		s.Conflict = owner
		if r.inWave(s.Key.FP) {
			continue // it moves here already: said, and not stopped half way
		}
		r.conflict(ctx, s.Key, owner)
	}
	return nil
}

// conflict opens the step for a key that is another incident's.
func (r *incident) conflict(ctx workflow.Context, k activities.Key, owner string) {
	h := r.human(ctx, view.Human{FP: k.FP, What: fmt.Sprintf("%s belongs to incident %s: see there, then resolve --as accepted-risk or never-existed-proven here", k.Short(), owner)})
	r.leave(k.FP, h.ID)
}

// preserve keeps the readings and reports as evidence before anything is
// destroyed.
func (r *incident) preserve(ctx workflow.Context) error {
	in := PreserveInput{Incident: r.in.ID, Reports: r.st.Reports, Now: r.clk.Now(ctx)}
	for _, s := range r.st.Items {
		if s.Reading != nil {
			in.Items = append(in.Items, s.Key)
			in.Readings = append(in.Readings, *s.Reading)
		}
	}
	res, err := engineCall[PreserveResult](ctx, r.clk, engine, ActivityPreserve, "evidence before destruction", in)
	if err != nil {
		return err
	}
	var hashes []string
	for _, e := range res.Evidence {
		r.keep(e)
		hashes = append(hashes, e.Hash)
	}
	record(ctx, r.clk.Now(ctx), event.Event{Type: event.EventPreserved, Evidence: hashes, Attrs: map[string]string{"custody": "rekey blob store", "purpose": "before any destructive verb"}})
	return nil
}

// finding takes what a key made, or what the sweep found. A key becomes an item;
// anything else is for a person.
func (r *incident) finding(ctx workflow.Context, from activities.Key, f activities.Finding) {
	for _, old := range r.st.Findings {
		if old.What == f.What && old.ID == f.ID {
			return
		}
	}
	if f.Key != nil && r.ours(f.Key.ID) {
		return
	}
	r.st.Findings = append(r.st.Findings, f)
	if f.Key != nil && f.Key.FP != "" {
		s := Scoped{Key: *f.Key, Basis: "sweep", Why: f.Why, CreatedByCompromised: f.By != "", Unattributed: f.By == ""}
		if r.addItem(s) {
			r.st.Scoping = true
			r.changed = true
		}
		return
	}
	if f.What == "session" {
		return // EndSessions of the item covers it
	}
	r.human(ctx, view.Human{
		FP:   from.FP,
		What: fmt.Sprintf("%s %s appeared around the leaked key (%s): remove it or say why it may stay, then resolve", f.What, f.ID, f.Why),
	})
}

// ours tells whether this incident made a key, as the replacement of an item. One
// wave's sweep sees what another has issued.
func (r *incident) ours(id string) bool {
	return id != "" && slices.ContainsFunc(r.st.Views, func(v view.Item) bool { return v.Adoption.NewKeyID == id })
}

// dropOurs takes replacements out of scope that a sweep found before their wave
// had said that it made them.
func (r *incident) dropOurs() {
	r.st.Items = slices.DeleteFunc(r.st.Items, func(s Scoped) bool {
		return s.Basis == "sweep" && r.ours(s.Key.ID) && !r.inWave(s.Key.FP)
	})
}

func (r *incident) unseen(u activities.Unseen) {
	if !slices.Contains(r.st.Unseen, u) {
		r.st.Unseen = append(r.st.Unseen, u)
	}
}

// darken adds times from which there are no logs, or no record of what a place held.
func (r *incident) darken(windows []activities.Window) {
	for _, d := range windows {
		if !slices.Contains(r.st.Dark, d) {
			r.st.Dark = append(r.st.Dark, d)
		}
	}
}

func (r *incident) keep(e Evidence) {
	for _, old := range r.st.Evidence {
		if old.Hash == e.Hash {
			return
		}
	}
	r.st.Evidence = append(r.st.Evidence, e)
}

func (r *incident) fps() []string {
	out := make([]string, 0, len(r.st.Items))
	for _, s := range r.st.Items {
		out = append(out, s.Key.FP)
	}
	return out
}

func (r *incident) item(fp string) *Scoped {
	for i := range r.st.Items {
		if r.st.Items[i].Key.FP == fp {
			return &r.st.Items[i]
		}
	}
	return nil
}

// resolveItem finds an item by fingerprint, its short form, or the provider's id.
func (r *incident) resolveItem(name string) (string, error) {
	for _, s := range r.st.Items {
		if s.Key.FP == name || s.Key.Short() == name || s.Key.ID == name {
			return s.Key.FP, nil
		}
	}
	return "", errNoItem
}

func diff(now, before []string) []string {
	var out []string
	for _, v := range now {
		if !slices.Contains(before, v) {
			out = append(out, v)
		}
	}
	return out
}

func shorts(fps []string) []string {
	out := make([]string, len(fps))
	for i, fp := range fps {
		out[i] = activities.Key{FP: fp}.Short()
	}
	return out
}

// human opens a step of the incident itself (a wave's steps come as events).
func (r *incident) human(ctx workflow.Context, h view.Human) view.Human {
	h.ID = fmt.Sprintf("h0-%d", len(r.st.Humans)+1)
	h.State = "open"
	if h.Owner == "" {
		h.Owner = "commander"
	}
	due := r.clk.Now(ctx).Add(humanDue)
	h.Due = canon.Time(due)
	r.st.Humans = append(r.st.Humans, h)
	r.changed = true
	record(ctx, r.clk.Now(ctx), event.Event{Type: event.EventHuman, FP: h.FP, Attrs: map[string]string{"task": h.ID, "what": h.What, "owner": h.Owner, "due": h.Due}})
	return h
}
