package engine

import (
	"context"
	"fmt"
	"strings"

	"rekey/activities"
	"rekey/internal/page"
	"rekey/internal/plan"
	"rekey/workflows"
)

// Unfold gives the wave of items for rows that leave their pages: the calls and rungs
// that a plan has for them, under the strategy that was approved.
func (e *Engine) Unfold(_ context.Context, in workflows.UnfoldInput) (plan.Wave, error) {
	w := plan.Wave{
		Strategy: in.Strategy, Gates: append(gates(&in.Playbook, in.Strategy), fmt.Sprintf("from-wave-%d", in.From)), Batch: 1, Playbook: in.Digest,
	}
	for i := range in.Rows {
		r := &in.Rows[i]
		it := planItem(&in.Playbook, scopedOf(r), in.Strategy, in.Kinds)
		it.Roles, it.Adopt = r.Roles, r.Adopt
		it.Stores = nil
		for _, s := range r.Stores {
			it.Stores = append(it.Stores, plan.Store{Target: s.Target, Name: s.Name})
		}
		w.Items = append(w.Items, it)
	}
	return w, w.Seal()
}

// scopedOf is what a row says of its key.
func scopedOf(r *page.Row) workflows.Scoped {
	return workflows.Scoped{
		Key: r.Key(), Basis: r.Basis, Why: r.Why, Depth: r.Depth, Owner: r.Owner, OwnerKind: r.OwnerKind, Exposure: r.Exposure, Dependents: r.PlanDependents(),
		Customers: r.Customers, Copies: r.Copies, Unattributed: r.Unattributed, CreatedByCompromised: r.CreatedByCompromised, StoreDirty: r.StoreDirty,
	}
}

// Find looks rows up by fingerprint, short form or provider id. The first list that has
// a row counts. Fingerprints cost a page each; other names cost reading all pages.
func (e *Engine) Find(ctx context.Context, in workflows.FindInput) (workflows.FindResult, error) {
	out := workflows.FindResult{Rows: map[string]page.Row{}, In: map[string]string{}}
	pages := e.pages()
	for _, list := range in.Lists {
		var left []string
		for _, name := range in.Names {
			if _, ok := out.Rows[name]; !ok {
				left = append(left, name)
			}
		}
		if len(left) == 0 {
			break
		}
		l, err := pages.List(ctx, list)
		if err != nil {
			return out, err
		}
		var hashes []string
		for _, ref := range l.Pages {
			if mayHold(ref, left) {
				hashes = append(hashes, ref.Hash)
			}
		}
		err = pages.Each(ctx, hashes, func(rows []page.Row) error {
			for i := range rows {
				for _, name := range left {
					if _, ok := out.Rows[name]; !ok && called(&rows[i], name) {
						out.Rows[name], out.In[name] = rows[i], list
					}
				}
			}
			return nil
		})
		if err != nil {
			return out, err
		}
	}
	return out, nil
}

// mayHold tells whether a page may have a row of one of the names.
func mayHold(ref page.Ref, names []string) bool {
	for _, name := range names {
		if !strings.HasPrefix(name, "fp1_") && !strings.HasPrefix(name, "spki_") {
			return true
		}
		if name >= ref.First && name <= ref.Last {
			return true
		}
	}
	return false
}

func called(r *page.Row, name string) bool {
	return r.FP == name || (r.ID != "" && r.ID == name) || activities.Key{FP: r.FP}.Short() == name
}
