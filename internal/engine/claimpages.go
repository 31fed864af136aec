package engine

import (
	"context"

	"rekey/internal/page"
	"rekey/workflows"
)

// claimWindow is how many fingerprints of rows are held and claimed at a time.
const claimWindow = 25_000

// ClaimPages settles with the registers whose each row is, and gives a list without
// those of other incidents: the same one where there are none. It is idempotent, as
// [Engine.ClaimKeys] is.
func (e *Engine) ClaimPages(ctx context.Context, in workflows.ClaimPagesInput) (workflows.ClaimPagesResult, error) {
	pages := e.pages()
	l, err := pages.List(ctx, in.List)
	if err != nil {
		return workflows.ClaimPagesResult{}, err
	}
	hashes := make([]string, 0, len(l.Pages))
	for _, p := range l.Pages {
		hashes = append(hashes, p.Hash)
	}
	owners := map[string]string{}
	var window []string
	claim := func() error {
		conflicts, err := e.claimMany(ctx, in.Incident, window)
		for fp, owner := range conflicts {
			owners[fp] = owner
		}
		window = window[:0]
		return err
	}
	err = pages.Each(ctx, hashes, func(rows []page.Row) error {
		for i := range rows {
			window = append(window, rows[i].FP)
		}
		if len(window) < claimWindow {
			return nil
		}
		return claim()
	})
	if err == nil {
		err = claim()
	}
	out := workflows.ClaimPagesResult{List: in.List, N: l.Items}
	if err != nil || len(owners) == 0 {
		return out, err
	}
	w := pages.Writer()
	err = pages.Each(ctx, hashes, func(rows []page.Row) error {
		for i := range rows {
			r := &rows[i]
			owner, taken := owners[r.FP]
			switch {
			case !taken:
				if err := w.Add(ctx, *r); err != nil {
					return err
				}
			case len(out.Conflicts) < workflows.MostConflicts:
				s := scopedOf(r)
				s.Conflict = owner
				if s.Reading, err = r.Read(); err != nil {
					return err
				}
				out.Conflicts = append(out.Conflicts, s)
			default:
				out.More++
			}
		}
		return nil
	})
	if err != nil {
		return out, err
	}
	without, err := w.Close(ctx)
	out.List, out.N = without.Hash, without.Items
	return out, err
}
